package speech

import (
	"math/rand/v2"
	"testing"
)

// TestPauses holds the shares of P.59 over 10 hours: 38.7 % of the time is talked
// in, in spurts of 1.004 s on average.
func TestPauses(t *testing.T) {
	on := activity(rand.New(rand.NewPCG(1, 2)), Config{Pauses: true, Frames: 50 * 36_000})
	talked, spurts := 0, 0
	for i := range on {
		if on[i] {
			talked++
			if i == 0 || !on[i-1] {
				spurts++
			}
		}
	}
	// The shortest spurt and pause, and whole frames, shift both a little.
	if share := float64(talked) / float64(len(on)); share < 0.37 || share > 0.41 {
		t.Errorf("talked in %.1f %% of the time", 100*share)
	}
	if mean := float64(talked) / 50 / float64(spurts); mean < 0.95 || mean > 1.06 {
		t.Errorf("spurts of %.3f s", mean)
	}
	for _, frame := range activity(rand.New(rand.NewPCG(1, 2)), Config{Frames: 500}) {
		if !frame {
			t.Fatal("a pause without pauses")
		}
	}
}
