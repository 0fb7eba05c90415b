package session

import (
	"time"

	"voicefleet/signaling"
)

// rate is a sliding window over the times of the last MaxFrames frames.
type rate struct {
	at   [signaling.MaxFrames]int64 // Unix nanoseconds, a ring
	next int
}

// allow counts one frame and says whether it was within the limit.
func (r *rate) allow(now time.Time) bool {
	t := now.UnixNano()
	oldest := r.at[r.next]
	if oldest != 0 && t-oldest < int64(signaling.FrameWindow) {
		return false
	}
	r.at[r.next] = t
	r.next = (r.next + 1) % len(r.at)
	return true
}
