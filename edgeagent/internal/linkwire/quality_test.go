package linkwire

import (
	"math/rand/v2"
	"testing"
)

// TestQuality: what loses packets all the time is lossy after 8 s, one burst is not, nor
// is what comes late; and it is over when nothing more is lost.
func TestQuality(t *testing.T) {
	steady := func(lost int) func(int) int { return func(int) int { return lost } }
	for name, c := range map[string]struct {
		lost func(second int) int // of 100
		want bool
	}{
		"nothing":           {steady(0), false},
		"one in a hundred":  {steady(1), false},
		"four in a hundred": {steady(4), true},
		"a burst": {func(s int) int {
			if s == 10 {
				return 60
			}
			return 0
		}, false},
		"reordered":           {func(s int) int { return []int{5, -5}[s%2] }, false},
		"half of the seconds": {func(s int) int { return []int{8, 0}[s%2] }, true},
	} {
		var q Quality
		was := false
		for s := range 20 {
			_, is := q.Second(100-c.lost(s), c.lost(s))
			if is && s < qualitySeconds-1 {
				t.Errorf("%s: lossy after %d s", name, s+1)
			}
			was = was || is
		}
		if was != c.want {
			t.Errorf("%s: lossy %v", name, was)
		}
		is := was
		for range qualitySeconds {
			_, is = q.Second(100, 0)
		}
		if is {
			t.Errorf("%s: still lossy", name)
		}
	}
	// By chance: of 5 in a hundred it is found in 10 s nearly always, of one in two hundred
	// nearly never in an hour.
	draw := rand.New(rand.NewPCG(1, 2))
	run := func(share float64, seconds int) bool {
		var q Quality
		for range seconds {
			lost := 0
			for range 60 {
				if draw.Float64() < share {
					lost++
				}
			}
			if _, is := q.Second(60-lost, lost); is {
				return true
			}
		}
		return false
	}
	found, falsely := 0, 0
	for range 200 {
		if run(0.05, 10) {
			found++
		}
		if run(0.005, 3600) {
			falsely++
		}
	}
	if found < 190 || falsely > 10 {
		t.Errorf("found %d of 200, and falsely %d", found, falsely)
	}
}
