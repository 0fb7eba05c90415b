package lightclient

import (
	"errors"
	"fmt"
	"time"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/meter"
)

// FrameInterval is the length of a packet's speech.
const FrameInterval = mark.Frame

// Filler is the Voice of a [Talk] that says nothing: random bytes that have the
// length of speech.
const Filler = -1

// Spurt is a part of a talk with speech, in intervals since its start.
type Spurt struct{ First, Count uint32 }

// Talk is what a client says. Interval i is due at Start + 20 ms·i, Start rounded
// up to a tick of the pacer.
type Talk struct {
	ID          uint32    // of the talker in the marks
	Start, Stop time.Time // zero Stop: until Hush
	// Speech due in [From, To) has Size bytes of payload, all other packets
	// SmallSize; zero times mean no bound. A size of 0 is that of the frames.
	From, To        time.Time
	SmallSize, Size int
	// Spurts are the intervals with speech, rising and apart; none after the last.
	// nil: speech without pause.
	Spurts []Spurt
	// Silence sends frames of level 127 in the pauses, as a browser does, instead
	// of nothing.
	Silence bool
	// Voice is a prepared voice of package opus, counted round; Filler costs less.
	Voice int
}

// MaxPayload bounds the sizes of a Talk.
const MaxPayload = 1200

// minPayload is a frame of silence and its mark.
const minPayload = 3 + mark.Overhead

func (t *Talk) validate() error {
	for _, size := range []int{t.SmallSize, t.Size} {
		if size != 0 && (size < minPayload || size > MaxPayload) || size == 0 && t.Voice < 0 {
			return fmt.Errorf("talk: packets of %d bytes, want %d to %d", size, minPayload, MaxPayload)
		}
	}
	end := uint64(0)
	for i, s := range t.Spurts {
		if uint64(s.First) < end || s.Count == 0 {
			return fmt.Errorf("talk: spurt %d of %d from interval %d: want rising ones that do not overlap", i, s.Count, s.First)
		}
		end = uint64(s.First) + uint64(s.Count)
	}
	if t.Start.IsZero() {
		return errors.New("talk: no start; say when the first packet is due")
	}
	return nil
}

// frame is what an interval holds.
type frame struct {
	onset  uint32
	voiced bool
	sent   bool
	voice  bool // due in [From, To)
}

// speech is a Talk in the units of a pacer. Pure; the caller owns the cursor.
type speech struct {
	first      int64 // tick of interval 0
	perFrame   int64 // ticks per interval
	stop       int64 // first tick behind the end
	from, to   int64 // ticks of the window
	spurts     []Spurt
	continuous bool
	silence    bool
	spurt      int // the first that has not ended
}

const never = int64(1) << 62

// newSpeech plans a talk for a pacer with that tick.
func newSpeech(t *Talk, tick time.Duration) speech {
	up := func(at time.Time, zero int64) int64 {
		if at.IsZero() {
			return zero
		}
		return (at.UnixNano() + int64(tick) - 1) / int64(tick)
	}
	return speech{
		first: up(t.Start, 0), perFrame: int64(FrameInterval / tick), stop: up(t.Stop, never),
		from: up(t.From, 0), to: up(t.To, never),
		spurts: t.Spurts, continuous: t.Spurts == nil, silence: t.Silence,
	}
}

// due is the tick of an interval.
func (s *speech) due(index uint32) int64 { return s.first + int64(index)*s.perFrame }

// at tells what interval index holds; it is asked by rising index.
func (s *speech) at(index uint32) frame {
	due := s.due(index)
	f := frame{sent: true, voiced: true, voice: due >= s.from && due < s.to}
	if s.continuous {
		return f
	}
	for s.spurt < len(s.spurts) && index-s.spurts[s.spurt].First >= s.spurts[s.spurt].Count && index >= s.spurts[s.spurt].First {
		s.spurt++
	}
	if s.spurt < len(s.spurts) && index >= s.spurts[s.spurt].First {
		f.onset = s.spurts[s.spurt].First
		return f
	}
	f.voiced, f.sent = false, s.silence
	if s.spurt > 0 { // a pause begins where the spurt before it ended
		f.onset = s.spurts[s.spurt-1].First + s.spurts[s.spurt-1].Count
	}
	return f
}

// Spans are the packets of a talk that are due in [From, To) and before Stop, for
// those who judge whether they came. tick is that of the engine ([Config.Tick]);
// until ends a talk that has neither To nor Stop.
func (t Talk) Spans(tick time.Duration, until time.Time) []meter.Span {
	if tick == 0 {
		tick = defaultTick
	}
	s := newSpeech(&t, tick)
	end := min(s.stop, s.to)
	if end == never {
		end = until.UnixNano() / int64(tick)
	}
	var spans []meter.Span
	add := func(first, behind int64, onset uint32, voiced bool) {
		first = max(first, (s.from-s.first+s.perFrame-1)/s.perFrame, 0)
		behind = min(behind, (end-s.first+s.perFrame-1)/s.perFrame)
		if first < behind {
			spans = append(spans, meter.Span{
				First: uint32(first), Count: uint32(behind - first), Onset: onset, Voiced: voiced,
				Due: time.Unix(0, s.due(uint32(first))*int64(tick)),
			})
		}
	}
	if s.continuous {
		add(0, never, 0, true)
		return spans
	}
	at := int64(0)
	pause := func(behind int64) {
		if t.Silence && at < behind {
			add(at, behind, uint32(at), false)
		}
	}
	for _, one := range t.Spurts {
		pause(int64(one.First))
		at = int64(one.First) + int64(one.Count)
		add(int64(one.First), at, one.First, true)
	}
	pause(never)
	return spans
}
