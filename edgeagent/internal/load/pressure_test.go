package load

import (
	"math"
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
		"a/memory.max":       {Data: []byte("4000\n")},
		"a/memory.current":   {Data: []byte("1000\n")},
		"free/memory.max":    {Data: []byte("max\n")},

		"memory/memory.limit_in_bytes":       {Data: []byte("9223372036854771712\n")},
		"memory/memory.usage_in_bytes":       {Data: []byte("5000\n")},
		"memory/pod/memory.limit_in_bytes":   {Data: []byte("2000\n")},
		"memory/pod/memory.usage_in_bytes":   {Data: []byte("1500\n")},
		"memory/pod/memory.stat":             {Data: []byte("inactive_file 1\ntotal_inactive_file 500\n")},
		"memory/pod/x/memory.usage_in_bytes": {Data: []byte("10\n")},
	}
	for own, want := range map[string]float64{
		"0::/a/b\n": 0.8, "1:cpu:/\n0::/a/b\n": 0.8, "0::/a\n": 0.25, "0::/free\n": 0, "0::/gone\n": 0, "": 0, "nonsense\n": 0,
		"5:memory:/pod\n": 0.5, "5:memory:/pod/x\n": 0.5, "7:cpu,memory:/pod\n0::/a/b\n": 0.5, "5:memory:/\n": 0, "5:memory:/../../a/b\n": 0,
	} {
		if got := Memory(own, sys); math.Abs(got-want) > 1e-9 {
			t.Errorf("%q: %v, want %v", own, got, want)
		}
	}
	contained := fstest.MapFS{ // as a container sees it
		"memory/memory.limit_in_bytes": {Data: []byte("1000\n")},
		"memory/memory.usage_in_bytes": {Data: []byte("700\n")},
	}
	if got := Memory("4:memory:/docker/0123\n", contained); got != 0.7 {
		t.Errorf("in a container: %v", got)
	}
}
