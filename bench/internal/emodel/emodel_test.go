package emodel

import (
	"math"
	"testing"
	"time"
)

func TestDefault(t *testing.T) {
	// G.107 section 7.7: with all default values R is 93.2, and by annex B MOS 4.41.
	r := R(Input{Codec: Codec{Bpl: 4.3}})
	if math.Abs(r-93.2) > 0.05 || math.Abs(MOS(r)-4.41) > 0.005 {
		t.Errorf("R %.3f, MOS %.3f", r, MOS(r))
	}
	no := noise()
	if math.Abs(no+61.18) > 0.01 { // Ro 94.77
		t.Errorf("No %.3f dBm0p", no)
	}
}

// TestMOS holds table B.1 of G.107.
func TestMOS(t *testing.T) {
	for r, want := range map[float64]float64{90: 4.34, 80: 4.03, 70: 3.60, 60: 3.10, 50: 2.58, 0: 1, -5: 1, 100: 4.5, 120: 4.5} {
		if got := MOS(r); math.Abs(got-want) > 0.007 {
			t.Errorf("MOS of R %v is %.3f, want %.2f", r, got, want)
		}
	}
	last := 0.0
	for r := -1.0; r <= 101; r += 0.1 {
		m := MOS(r)
		if m < last || m < 1 || m > 4.5 {
			t.Fatalf("MOS of R %.1f is %.4f after %.4f", r, m, last)
		}
		last = m
	}
}

// TestLoss holds the values that ITU-T G.113 (02/2001) table I.2 gives for G.729A with
// silence suppression, which the formula replaced, within one point.
func TestLoss(t *testing.T) {
	for percent, want := range map[float64]float64{0: 11, 0.5: 13, 1: 15, 1.5: 17, 2: 19, 3: 23, 4: 26} {
		if got := equipment(Input{Loss: percent / 100, Codec: G729}); math.Abs(got-want) > 1 {
			t.Errorf("Ie-eff at %v %% is %.2f, want %v", percent, got, want)
		}
	}
}

// TestDelay holds Idd at 200, 400 and 800 ms, where X is 1, 2 and 3, as computed by
// hand: 25 (2^(1/6) - 3 (1+3^-6)^(1/6) + 2) and so on.
func TestDelay(t *testing.T) {
	for ms, want := range map[time.Duration]float64{0: 0, 100: 0, 150: 0.16, 200: 3.04, 400: 24.07, 800: 40.83} {
		if got := delayed(ms * time.Millisecond); math.Abs(got-want) > 0.01 {
			t.Errorf("Idd at %d ms is %.3f, want %.2f", ms, got, want)
		}
	}
}

func TestWorse(t *testing.T) {
	good := Input{Loss: 0.01, BurstR: 1, Delay: 120 * time.Millisecond, Codec: Opus}
	r := R(good)
	for name, worse := range map[string]func(*Input){
		"loss":   func(in *Input) { in.Loss = 0.02 },
		"bursts": func(in *Input) { in.BurstR = 2 },
		"delay":  func(in *Input) { in.Delay = 200 * time.Millisecond },
		"codec":  func(in *Input) { in.Codec.Ie++ },
		"robust": func(in *Input) { in.Codec.Bpl-- },
	} {
		in := good
		worse(&in)
		if got := R(in); got >= r {
			t.Errorf("more %s: R %.2f, before %.2f", name, got, r)
		}
	}
	if got := R(Input{Loss: 0.01, Codec: Opus}); got != R(Input{Loss: 0.01, BurstR: 1, Codec: Opus}) {
		t.Errorf("without a burst ratio R is %v", got)
	}
	if got := R(Input{Loss: 1, BurstR: 100, Delay: time.Minute, Codec: Opus}); got != 0 {
		t.Errorf("R %v where nothing is heard", got)
	}
	best := R(Input{Codec: Opus})
	if math.Abs(best-82.5) > 0.05 || math.Abs(MOS(best)-4.12) > 0.01 {
		t.Errorf("the best of Opus is R %.2f, MOS %.2f", best, MOS(best))
	}
}
