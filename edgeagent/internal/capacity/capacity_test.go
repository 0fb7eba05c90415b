package capacity

import (
	"math"
	"testing"
	"testing/fstest"
	"time"
)

func TestMeasure(t *testing.T) {
	one, err := Measure(1)
	if err != nil {
		t.Fatal(err)
	}
	// Any machine that runs Go sends a thousand packets a second, and none a
	// hundred million.
	if one < 1e3 || one > 1e8 {
		t.Errorf("%v packets/s", one)
	}
	if total := 2 * slice; total > 200*time.Millisecond {
		t.Errorf("the measurements take %v", total)
	}
}

func TestOffer(t *testing.T) {
	for _, c := range []struct {
		seal, send float64
		workers    int
		want       float64
	}{
		{1e6, 1e6, 1, 250_000},
		{1e6, 1e6, 4, 1_000_000},
		{4e6, 5e5, 2, 444_444},
		{0, 1e6, 1, 0},
		{1e6, 0, 1, 0},
	} {
		if got := Offer(c.seal, c.send, c.workers); math.Abs(got-c.want) > 1 {
			t.Errorf("Offer(%v, %v, %v) = %v, want %v", c.seal, c.send, c.workers, got, c.want)
		}
	}
}

func TestBits(t *testing.T) {
	if got := Bits(1000, 0); got != 1000*156*8 {
		t.Errorf("%v bits/s without a card", got)
	}
	if got := Bits(1e6, 1e9); got != 9e8 {
		t.Errorf("%v bits/s on a gigabit card", got)
	}
}

func TestCardSpeed(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	sys := fstest.MapFS{
		"class/net/lo/operstate":      file("unknown\n"),
		"class/net/lo/speed":          file("100000\n"),
		"class/net/eth0/device/x":     file(""),
		"class/net/eth0/operstate":    file("up\n"),
		"class/net/eth0/speed":        file("1000\n"),
		"class/net/eth1/device/x":     file(""),
		"class/net/eth1/operstate":    file("down\n"),
		"class/net/eth1/speed":        file("25000\n"),
		"class/net/wlan0/device/x":    file(""),
		"class/net/wlan0/operstate":   file("up\n"),
		"class/net/wlan0/speed":       file("-1\n"),
		"class/net/virtual/operstate": file("up\n"),
		"class/net/virtual/speed":     file("40000\n"),
	}
	if got := CardSpeed(sys); got != 1e9 {
		t.Errorf("%v bits/s, want those of eth0", got)
	}
	if got := CardSpeed(fstest.MapFS{}); got != 0 {
		t.Errorf("%v bits/s without cards", got)
	}
}

// TestCorrect: a node that works harder for its packets than it measured comes
// down, one that has it easier goes up, within bounds; an idle one learns nothing.
func TestCorrect(t *testing.T) {
	settle := func(pps, busy float64) float64 {
		offered := 100_000.0
		for range 100 {
			offered = Correct(100_000, offered, pps, busy)
		}
		return math.Round(offered)
	}
	for _, c := range []struct{ pps, busy, want float64 }{
		{1000, 0.01, 100_000}, {0, 0.9, 100_000}, {50_000, 0.4, 100_000},
		{30_000, 0.6, 40_000}, {90_000, 0.5, 144_000}, {1000, 1, 25_000}, {190_000, 0.3, 200_000},
	} {
		if got := settle(c.pps, c.busy); math.Abs(got-c.want) > 100 {
			t.Errorf("%v packets/s at %v busy: offers %v, want %v", c.pps, c.busy, got, c.want)
		}
	}
	if once := Correct(100_000, 100_000, 1000, 1); once < 90_000 {
		t.Errorf("one reading takes it to %v", once)
	}
}
