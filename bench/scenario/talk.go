package scenario

import (
	"math/rand/v2"
	"time"
)

// Interval is the length of a packet's speech, in which plans count.
const Interval = 20 * time.Millisecond

// Spurt is a stretch of talk: Count intervals from the First, which counts from
// when the talker's talk began.
type Spurt struct {
	First uint32 `json:"first"`
	Count uint32 `json:"count"`
}

// Artificial conversational speech (ITU-T P.59). One way, talk and pause are
// exponential with the means of its table 1, which make an activity of 38.75 %.
const (
	meanSpurt = 1004 * time.Millisecond
	meanPause = 1587 * time.Millisecond
)

// Two ways, two people are in one of four states: one of them talks, both do, or
// nobody does. Who talks alone goes on to double talk with a probability of 0.4,
// else to mutual silence; from both, either of the two goes on alone, with equal
// probability. The times are exponential. So of a cycle of
// 0.854 + 0.4·0.226 + 0.6·0.456 = 1.218 s, 7.4 % is double talk and 22.5 % is
// mutual silence, and each of the two talks 42.5 % of the time.
const (
	meanSingle = 854 * time.Millisecond
	meanDouble = 226 * time.Millisecond
	meanMutual = 456 * time.Millisecond
	toDouble   = 0.4
)

// line is the talk of one talker as it is drawn: times in intervals, rounded only
// at the ends of spurts, so that rounding does not add up.
type line struct {
	spurts []Spurt
	begun  float64
	on     bool
}

// turn notes that from at on the talker talks, or does not.
func (l *line) turn(at float64, on bool) {
	if on == l.on {
		return
	}
	l.on = on
	if on {
		l.begun = at
		return
	}
	first, end := uint32(l.begun+0.5), uint32(at+0.5)
	if last := len(l.spurts) - 1; last >= 0 && l.spurts[last].First+l.spurts[last].Count >= first {
		l.spurts[last].Count = max(end, first) - l.spurts[last].First // no pause left between
		return
	}
	if end > first {
		l.spurts = append(l.spurts, Spurt{First: first, Count: end - first})
	}
}

// draw is an exponential time in intervals.
func draw(random *rand.Rand, mean time.Duration) float64 {
	return random.ExpFloat64() * float64(mean) / float64(Interval)
}

// oneWay draws the spurts of a talker for so many intervals, from a random moment
// of its talk on.
func oneWay(random *rand.Rand, intervals uint32) []Spurt {
	l := &line{}
	end := float64(intervals)
	on := random.Float64() < float64(meanSpurt)/float64(meanSpurt+meanPause)
	for at := 0.0; at < end; on = !on {
		l.turn(at, on)
		if on {
			at += draw(random, meanSpurt)
		} else {
			at += draw(random, meanPause)
		}
	}
	l.turn(end, false)
	return l.spurts
}

// twoWay draws the spurts of two who talk to one another.
func twoWay(random *rand.Rand, intervals uint32) [2][]Spurt {
	const single, double, mutual = 0, 1, 2
	lines := [2]line{}
	end := float64(intervals)
	state, who := mutual, 0
	for at := 0.0; at < end; {
		for i := range lines {
			lines[i].turn(at, state == double || state == single && i == who)
		}
		switch {
		case state == single:
			at += draw(random, meanSingle)
			if state = mutual; random.Float64() < toDouble {
				state = double
			}
			continue
		case state == double:
			at += draw(random, meanDouble)
		default:
			at += draw(random, meanMutual)
		}
		state, who = single, random.IntN(2)
	}
	for i := range lines {
		lines[i].turn(end, false)
	}
	return [2][]Spurt{lines[0].spurts, lines[1].spurts}
}
