package guild

import (
	"math"
	"time"

	"voicefleet/textchat"
)

const (
	// callPause is how long a voice channel is empty until its call is over: who comes
	// back sooner goes on with it.
	callPause = 10 * time.Minute
	// sizeWeight is what the last call counts of the mean; what was before the last
	// eight counts a tenth: 0.75^8 = 0.10.
	sizeWeight = 0.25
)

// size is how large the calls of a channel get. It is replaced, never changed in place.
type size struct {
	Peak int       // the most at once in the call there is, or was last
	Mean float64   // of the peaks of the calls before that; 0: there was none
	Left time.Time // since when nobody is in it; zero: somebody is
}

// past is the mean with the last call in it.
func (s *size) past() float64 {
	switch {
	case s == nil:
		return 0
	case s.Mean == 0:
		return float64(s.Peak)
	}
	return s.Mean + sizeWeight*(float64(s.Peak)-s.Mean)
}

// inCall is how many are in the call of a channel.
func (g *Guild) inCall(channel textchat.ID) (n int) {
	for _, v := range g.voice {
		if v.Channel == channel {
			n++
		}
	}
	return n
}

// expected is how many are likely to be in the call of a channel that one more enters.
func (g *Guild) expected(channel textchat.ID) int {
	n, usual := g.inCall(channel), 0.0
	switch s := g.sizes[channel]; {
	case n == 0:
		usual = s.past()
	case s != nil:
		usual = s.Mean
	}
	if limit := g.channels[channel].UserLimit; limit > 0 {
		usual = min(usual, float64(limit))
	}
	return max(n+1, int(math.Round(usual)))
}

// came notes that one more is in the call of a channel, went that one is no more.
func (g *Guild) came(now time.Time, channel textchat.ID) {
	old := g.sizes[channel]
	s := size{}
	if old != nil {
		s = *old
	}
	if !s.Left.IsZero() && now.Sub(s.Left) >= callPause {
		s.Mean, s.Peak = s.past(), 0
	}
	s.Left, s.Peak = time.Time{}, max(s.Peak, g.inCall(channel))
	if old == nil || s != *old {
		put(g, g.sizes, channel, &s)
	}
}

func (g *Guild) went(now time.Time, channel textchat.ID) {
	for _, v := range g.voice {
		if v.Channel == channel {
			return
		}
	}
	if g.sizes[channel] != nil {
		edit(g, g.sizes, channel).Left = now
	}
}

// Habits are how large the calls of the guild get: what is worth keeping of it while it
// is not loaded.
func (g *Guild) Habits() *Delta { return &Delta{Sizes: g.sizes} }
