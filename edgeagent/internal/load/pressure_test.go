package load

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"voicefleet/sfu"
)

func TestPressure(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	var p Pressure
	read := func(busy float64, drops uint64, memory float64) string {
		at = at.Add(time.Second)
		return p.Read(at, sfu.LoadReading{Busy: busy, SocketDrops: drops}, memory)
	}
	for i, c := range []struct {
		busy   float64
		drops  uint64
		memory float64
		want   string
	}{
		{0.5, 1_000_000, 0, ""}, // dropped before anybody looked
		{0.95, 1_000_000, 0, ""}, {0.95, 1_000_000, 0, ""}, {0.95, 1_000_000, 0, "95 % busy"},
		{0.5, 1_000_000, 0, "95 % busy"}, {0.5, 1_000_000, 0, "95 % busy"}, {0.95, 1_000_000, 0, "95 % busy"},
		{0.5, 1_000_000, 0, "95 % busy"}, {0.5, 1_000_000, 0, ""}, // 5 s after
		{0.5, 1_000_200, 0, ""}, {0.5, 1_000_400, 0, ""}, {0.5, 1_000_600, 0, "200 datagrams"},
		{0.5, 1_000_600, 0.85, "85 %"}, {0.1, 5, 0.5, "85 %"}, // a new engine counts anew
	} {
		if got := read(c.busy, c.drops, c.memory); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Fatalf("reading %d: %q, want %q", i, got, c.want)
		}
	}
}

func TestMemory(t *testing.T) {
	sys := fstest.MapFS{
		"a/b/memory.max":     {Data: []byte("1000\n")},
		"a/b/memory.current": {Data: []byte("900\n")},
		"a/b/memory.stat":    {Data: []byte("anon 500\ninactive_file 100\n")},
		"free/memory.max":    {Data: []byte("max\n")},
	}
	for own, want := range map[string]float64{
		"0::/a/b\n": 0.8, "1:cpu:/\n0::/a/b\n": 0.8, "0::/free\n": 0, "0::/gone\n": 0, "5:memory:/a/b\n": 0, "": 0,
	} {
		if got := Memory(own, sys); got != want {
			t.Errorf("%q: %v, want %v", own, got, want)
		}
	}
}
