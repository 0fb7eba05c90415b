package voiceclient

import (
	"errors"
	"testing"
	"time"
)

// TestLongOutage: who waits to be in tries about twice a second for as long as a join
// may take, and then as seldom as everybody.
func TestLongOutage(t *testing.T) {
	lost := errors.New("nobody answers")
	var since time.Duration
	tried := 0
	for wait := backoffFirst; since < 2*time.Minute; wait = longer(wait, since, true) {
		since += pause(wait, lost)
		tried++
	}
	if least, most := 50, 120; tried < least || tried > most {
		t.Errorf("%d attempts in two minutes, want %d to %d", tried, least, most)
	}
}
