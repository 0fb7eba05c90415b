package sfuserver

import "time"

const (
	// shedAfter is how many seconds in a row a worker must be too busy before it sheds
	// video.
	shedAfter = 2
	// shedFor is how long it does at least; twice as long, up to shedMost, each time it
	// has to again within shedAgain.
	shedFor   = 10 * time.Second
	shedMost  = 160 * time.Second
	shedAgain = time.Minute
	// shedRoom is the part of the limit below which there is room for video again.
	shedRoom = 0.7
)

// shedder decides from each second's load whether a worker forwards video. Voices and
// video share its time, and what it has no time for the kernel drops at random.
type shedder struct {
	limit float64 // share of a second; 1 and more: video is never shed

	on    bool
	busy  float64 // in the last second
	over  int     // seconds in a row beyond the limit
	hold  time.Duration
	since time.Duration // when on changed last
}

// second takes in how busy the worker was, and says whether that changes on.
func (s *shedder) second(now time.Duration, busy float64) bool {
	s.busy = busy
	if busy > s.limit {
		s.over++
	} else {
		s.over = 0
	}
	switch {
	case !s.on && s.over >= shedAfter:
		if s.hold == 0 || now-s.since >= shedAgain {
			s.hold = shedFor
		} else {
			s.hold = min(2*s.hold, shedMost)
		}
		s.on, s.since = true, now
	case s.on && now-s.since >= s.hold && busy <= s.limit*shedRoom:
		s.on, s.since = false, now
	default:
		return false
	}
	return true
}
