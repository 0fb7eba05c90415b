package load

import (
	"strings"
	"testing"
	"time"

	"voicefleet/sfu"
)

var base = time.Unix(1_000_000, 0)

func at(s float64) time.Time { return base.Add(time.Duration(s * float64(time.Second))) }

func TestRates(t *testing.T) {
	type reading struct {
		at             float64
		packets, bytes uint64
	}
	for _, c := range []struct {
		name     string
		readings []reading
		now      float64
		pps, bps float64
	}{
		{"nothing yet", nil, 0, 0, 0},
		{"one reading has no rate", []reading{{0, 100, 1000}}, 0, 0, 0},
		{"two", []reading{{0, 100, 1000}, {1, 150, 2000}}, 1, 50, 8000},
		{"only the last three seconds count", []reading{{0, 0, 0}, {1, 9000, 9000}, {2, 9000, 9000}, {3, 9030, 9030}, {4, 9060, 9060}, {5, 9090, 9090}}, 5, 30, 240},
		{"readings may come late", []reading{{0, 0, 0}, {10, 1000, 1000}}, 10, 100, 800},
		{"a new engine counts from zero", []reading{{0, 5000, 5000}, {1, 6000, 6000}, {2, 10, 10}, {3, 30, 30}}, 3, 20, 160},
		{"silence", []reading{{0, 0, 0}, {1, 100, 100}}, 7.5, 0, 0},
		{"at one instant", []reading{{0, 0, 0}, {0, 100, 100}}, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Meter
			for _, r := range c.readings {
				m.Media(at(r.at), sfu.LoadReading{PacketsOut: r.packets, BytesOut: r.bytes})
			}
			if pps, bps := m.Rates(at(c.now)); pps != c.pps || bps != c.bps {
				t.Errorf("%v packets/s, %v bits/s; want %v, %v", pps, bps, c.pps, c.bps)
			}
			if len(m.media) > 5 {
				t.Errorf("%d readings are kept", len(m.media))
			}
		})
	}
}

func TestCPU(t *testing.T) {
	var m Meter
	if m.CPU() != 0 {
		t.Error("busy before anything was read")
	}
	for i, busy := range []uint64{0, 100, 100, 100, 150, 200} {
		m.Machine(at(float64(i)), CPUTime{Busy: busy, Total: uint64(i) * 100})
	}
	if got := m.CPU(); got != 1./3 {
		t.Errorf("busy %v, want 1/3", got)
	}
}

func TestReadCPUTime(t *testing.T) {
	for _, c := range []struct {
		in          string
		busy, total uint64
		bad         bool
	}{
		{in: "cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 1 1 1\n", busy: 81, total: 531},
		{in: "cpu 1 2 3 4", busy: 6, total: 10},
		{in: "cpu0 1 2 3 4\n", bad: true},
		{in: "cpu 1 2\n", bad: true},
		{in: "cpu 1 x 3 4\n", bad: true},
		{in: "", bad: true},
	} {
		got, err := ReadCPUTime(strings.NewReader(c.in))
		if (err != nil) != c.bad || !c.bad && (got.Busy != c.busy || got.Total != c.total) {
			t.Errorf("%q: %+v, error %v", c.in, got, err)
		}
	}
}
