package voiceclient

import (
	"errors"
	"testing"
	"time"
)

// TestLongOutage: who waits to be in is in within 2 s of the end of an outage, and does not
// ask more than twice a second all the while; others ask more seldom.
func TestLongOutage(t *testing.T) {
	lost := errors.New("nobody answers")
	for _, c := range []struct {
		awaited     bool // whether somebody waits to be in
		longest     time.Duration
		least, most int
	}{
		{true, 2 * time.Second, 120, 240},
		{false, backoffMax, 30, 90},
	} {
		g := &gateway{awaited: func() bool { return c.awaited }}
		var since, longest time.Duration
		tried := 0
		for wait := backoffFirst; since < 2*time.Minute; wait = longer(wait, g.most()) {
			took := pause(wait, lost)
			since, longest = since+took, max(longest, took)
			tried++
		}
		if tried < c.least || tried > c.most || longest > c.longest {
			t.Errorf("awaited %v: %d attempts in two minutes, want %d to %d; the longest wait is %v, at most %v", c.awaited, tried, c.least, c.most, longest, c.longest)
		}
	}
}
