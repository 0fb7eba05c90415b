package remote

import (
	"errors"
	"fmt"
	"time"
)

// Exchange is one question to another clock and its answer, as RFC 5905 section 8
// has it: Sent and Returned on our clock, Received and Replied on theirs, all in
// nanoseconds since 1970.
type Exchange struct {
	Sent, Received, Replied, Returned int64
}

// offset is theirs minus ours, if both ways took equally long.
func (x Exchange) offset() int64 {
	return (x.Received-x.Sent)/2 + (x.Replied-x.Returned)/2
}

// delay is how long the exchange was under way, the time at the other side
// excepted.
func (x Exchange) delay() int64 {
	return (x.Returned - x.Sent) - (x.Replied - x.Received)
}

// bound is what the offset may be off by, however the delay is divided between
// the two ways: half of it, and 1 ns for each of the two halves rounded.
func (x Exchange) bound() int64 { return (x.delay()+1)/2 + 2 }

// Clock is how another machine's clock stands to ours.
type Clock struct {
	// Offset is their clock minus ours, at Measured.
	Offset time.Duration `json:"offset_ns"`
	// Uncertainty is what Offset may be off by, either way: half the shortest
	// round trip.
	Uncertainty time.Duration `json:"uncertainty_ns"`
	// Drift is by how much Offset grows, in seconds per second; 0 until Over has
	// two alignments to tell it from.
	Drift float64 `json:"drift"`
	// DriftUncertainty is what Drift may be off by: the longer a run, the less.
	DriftUncertainty float64 `json:"drift_uncertainty"`
	// Measured is when, on our clock.
	Measured time.Time `json:"measured"`
	// Samples is how many exchanges there were, RTT the shortest of their delays.
	Samples int           `json:"samples"`
	RTT     time.Duration `json:"rtt_ns"`
}

// maxDrift bounds how fast two clocks part that nobody sets: 500 parts per million
// is also the fastest that the kernel slews one (adjtimex(2)).
const maxDrift = 500e-6

// errStepped tells that an alignment is worth nothing.
var errStepped = errors.New("a clock was set while it was measured: see that both machines keep their time (voicebench doctor), and run again")

// Estimate takes the exchange with the shortest round trip: the less time it was
// under way, the less its two ways can differ. If another one contradicts it, a
// clock was set meanwhile.
func Estimate(exchanges []Exchange) (Clock, error) {
	if len(exchanges) == 0 {
		return Clock{}, errors.New("no exchange to tell a clock from")
	}
	best := exchanges[0]
	for _, x := range exchanges {
		if x.delay() < 0 {
			return Clock{}, errStepped
		}
		if x.delay() < best.delay() {
			best = x
		}
	}
	for _, x := range exchanges {
		apart := x.Sent - best.Sent
		if apart < 0 {
			apart = -apart
		}
		difference := x.offset() - best.offset()
		if difference < 0 {
			difference = -difference
		}
		// Times of exchanges as long as a round trip are on either side of apart.
		if difference > x.bound()+best.bound()+int64(maxDrift*float64(apart+x.delay()+best.delay())) {
			return Clock{}, errStepped
		}
	}
	return Clock{
		Offset:      time.Duration(best.offset()),
		Uncertainty: time.Duration(best.bound()),
		Measured:    time.Unix(0, best.Sent/2+best.Returned/2),
		Samples:     len(exchanges),
		RTT:         time.Duration(best.delay()),
	}, nil
}

// Over joins two alignments, of the start and of the end of a run, to one with the
// drift between them. Its Uncertainty is the larger of both, and holds at any time
// between them if the drift was steady. Without time between them it is start.
func Over(start, end Clock) Clock {
	apart := end.Measured.Sub(start.Measured)
	if apart <= 0 {
		return start
	}
	c := start
	c.Drift = float64(end.Offset-start.Offset) / float64(apart)
	c.DriftUncertainty = float64(start.Uncertainty+end.Uncertainty) / float64(apart)
	c.Uncertainty = max(start.Uncertainty, end.Uncertainty) + 1 // of rounding in Ahead
	c.Samples += end.Samples
	c.RTT = min(start.RTT, end.RTT)
	return c
}

// Ahead is how far their clock is before ours when ours shows at.
func (c Clock) Ahead(at time.Time) time.Duration {
	return c.Offset + time.Duration(c.Drift*float64(at.Sub(c.Measured)))
}

// Theirs is what their clock shows when ours shows t.
func (c Clock) Theirs(t time.Time) time.Time { return t.Add(c.Ahead(t)) }

// Ours is what our clock shows when theirs shows t.
func (c Clock) Ours(t time.Time) time.Time {
	// With drift, Ahead is wanted at our time, which is what we look for: at
	// 500 ppm and an offset of a day the second step is off by 22 µs, the third by
	// 11 ns.
	ours := t
	for range 4 {
		ours = t.Add(-c.Ahead(ours))
	}
	return ours
}

// String is "37.002 ms ahead of ours ± 0.041 ms, drift +3.1 ± 0.2 ppm".
func (c Clock) String() string {
	where, offset := "ahead of", c.Offset
	if offset < 0 {
		where, offset = "behind", -offset
	}
	text := fmt.Sprintf("%.3f ms %s ours ± %.3f ms", ms(offset), where, ms(c.Uncertainty))
	if c.Drift != 0 {
		text += fmt.Sprintf(", drift %+.1f ± %.1f ppm", c.Drift*1e6, c.DriftUncertainty*1e6)
	}
	return text
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// Skew is what to subtract from a latency that was measured from the clock of the
// talker's generator to that of the listener's, at a time on ours; and what the
// corrected latency may be off by. For clients of one generator both are zero, and
// Skew is not asked.
func Skew(talker, listener Clock, at time.Time) (correction, uncertainty time.Duration) {
	return listener.Ahead(at) - talker.Ahead(at), talker.Uncertainty + listener.Uncertainty
}
