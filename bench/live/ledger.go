package live

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
	"voicefleet/sfu"
)

// silenceFrame is the longest payload that carries no speech: TOC and at most two
// bytes (DTX, and the frames a server ends a talk spurt with).
const silenceFrame = 3

// newLatency makes a histogram of nanoseconds from 1 µs to 60 s.
func newLatency() *hdrhistogram.Histogram { return hdrhistogram.New(1000, 60_000_000_000, 3) }

// talker is what one bot has said. Frames are counted from 0 through all rounds of
// its track.
type talker struct {
	// Immutable.
	user  sfu.UserID
	track *opus.Track

	mu sync.Mutex
	// Guarded by mu.
	due    []time.Time // of frame n
	voiced []bool
	latest []int // frame n that said track frame i last, -1 never
}

func newTalker(user sfu.UserID, track *opus.Track) *talker {
	t := &talker{user: user, track: track, latest: make([]int, len(track.Frames))}
	for i := range t.latest {
		t.latest[i] = -1
	}
	return t
}

// say notes the next frame before it is sent, and gives it.
func (t *talker) say(due time.Time) opus.Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.due)
	i := n % len(t.track.Frames)
	f := t.track.Frames[i]
	t.due = append(t.due, due)
	t.voiced = append(t.voiced, f.Voiced)
	t.latest[i] = n
	return f
}

// find is the frame that a payload is, as said last.
func (t *talker) find(payload []byte) (n int, due time.Time, ok bool) {
	i, ok := t.track.Index(payload)
	if !ok {
		return 0, time.Time{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n = t.latest[i]; n < 0 {
		return 0, time.Time{}, false
	}
	return n, t.due[n], true
}

// expected counts the voiced frames due in a window.
func (t *talker) expected(from, to time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := 0
	for n, due := range t.due {
		if t.voiced[n] && !due.Before(from) && due.Before(to) {
			sum++
		}
	}
	return sum
}

// Heard is what one listener got of everybody.
type Heard struct {
	Expected, Received, Twice uint64
	// Misattributed packets came under another user's name than their speaker's.
	Misattributed uint64
	// Foreign packets are longer than silence and nobody's speech.
	Foreign uint64
	// Right and Wrong are pieces of 100 ms whose tones were, or were not, their
	// speaker's; only with ears.
	Right, Wrong uint64
}

// listener is what one bot hears.
type listener struct {
	// Immutable.
	talkers []*talker // but itself
	voices  int       // how many voices there are to be told apart
	ears    bool      // decodes

	mu sync.Mutex
	// Guarded by mu.
	from, to time.Time // the window; zero: none yet
	heard    Heard
	latency  *hdrhistogram.Histogram
	streams  map[*talker]*stream
}

// stream is one talker at one listener.
type stream struct {
	seen map[int]bool // frames of the window that came
	ear  *opus.Decoder
	last int // frame decoded last
	row  int // frames decoded in a row
	pcm  []int16
}

func newListener(talkers []*talker, voices int, ears bool) *listener {
	return &listener{talkers: talkers, voices: voices, ears: ears && opus.CanDecode, latency: newLatency(), streams: make(map[*talker]*stream)}
}

// open begins the window.
func (l *listener) open(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.to = from, to
}

// hear takes a packet that came under a user's name.
func (l *listener) hear(user sfu.UserID, payload []byte, at time.Time) {
	if len(payload) <= silenceFrame {
		return
	}
	t, n, due, ok := l.whose(user, payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok {
		if t == nil {
			l.heard.Foreign++
		}
		return
	}
	if user != t.user {
		l.heard.Misattributed++
	}
	s := l.streams[t]
	if s == nil {
		s = &stream{seen: make(map[int]bool), last: -1}
		l.streams[t] = s
	}
	if !l.from.IsZero() && !due.Before(l.from) && due.Before(l.to) {
		if s.seen[n] {
			l.heard.Twice++
		} else {
			s.seen[n] = true
			l.heard.Received++
			_ = l.latency.RecordValue(max(at.Sub(due).Nanoseconds(), 1000))
		}
	}
	if l.ears {
		l.listenLocked(s, t, n, payload)
	}
}

// whose finds the talker of a payload, first the one under whose name it came. A
// talker without ok knows the payload as silence of its own.
func (l *listener) whose(user sfu.UserID, payload []byte) (t *talker, n int, due time.Time, ok bool) {
	for _, t := range l.talkers {
		if t.user == user {
			if n, due, ok := t.find(payload); ok {
				return t, n, due, true
			}
		}
	}
	for _, t := range l.talkers {
		if n, due, ok := t.find(payload); ok {
			return t, n, due, true
		}
	}
	for _, t := range l.talkers {
		if t.track.Quiet(payload) {
			return t, 0, time.Time{}, false
		}
	}
	return nil, 0, time.Time{}, false
}

// pieceFrames are decoded in a row before the tones are looked for: 100 ms. The
// first frame of a row is left out, because the decoder is still in another state.
const pieceFrames = 5

// listenLocked decodes a frame and judges whole pieces.
func (l *listener) listenLocked(s *stream, t *talker, n int, payload []byte) {
	if s.ear == nil || n != s.last+1 {
		ear, err := opus.NewDecoder()
		if err != nil {
			return
		}
		s.ear, s.row, s.pcm = ear, 0, s.pcm[:0]
	}
	s.last = n
	before := len(s.pcm)
	pcm, err := s.ear.Decode(s.pcm, payload)
	if err != nil {
		l.heard.Wrong++
		s.ear = nil
		return
	}
	if s.pcm = pcm; s.row == 0 {
		s.pcm = s.pcm[:before]
	}
	if s.row++; len(s.pcm) >= pieceFrames*speech.FrameSamples {
		if speech.Recognize(s.pcm, l.voices).Voice == t.track.Voice%speech.Voices {
			l.heard.Right++
		} else {
			l.heard.Wrong++
		}
		s.pcm = s.pcm[:0]
	}
}

// result is what the listener heard of the window.
func (l *listener) result() (Heard, *hdrhistogram.Histogram) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.heard
	h.Expected = 0
	for _, t := range l.talkers {
		h.Expected += uint64(t.expected(l.from, l.to))
	}
	return h, hdrhistogram.Import(l.latency.Export())
}
