package meter

import (
	"slices"
	"time"
	"unsafe"

	"voicefleet/bench/internal/mark"
)

// MaxTalkers is how many talkers a listener follows.
const MaxTalkers = 64

// Config of a listener. The zero value judges everything and draws nothing over time.
type Config struct {
	// Only packets due in [From, To) are judged; a zero time is no bound.
	From, To time.Time
	// Slice is the width of the time series; 0 is 1 s, or more where From to To holds
	// more than 240 s. Each slice costs 168 bytes.
	Slice time.Duration
	// Origin is where slices begin, at whole multiples; zero is From. Listeners with
	// different windows need the same Origin and Slice for their series to be merged.
	Origin time.Time
	// Playout is the target of the jitter buffer above the least delay; 0 is adaptive.
	Playout time.Duration
}

// mostSlices bounds the time series when its width is not asked for.
const mostSlices = 240

// Span is a row of frames that a talker sent.
type Span struct {
	First uint32 `json:"first"` // Index of the first
	Count uint32 `json:"count"`
	// Onset is the Index at which the spurt began, as marks have it.
	Onset  uint32 `json:"onset"`
	Voiced bool   `json:"voiced"`
	// Due is when the first is due. Zero: taken from what is heard of the talker;
	// of one who is never heard the whole span is then expected, and none of it is in
	// the time series.
	Due time.Time `json:"due,omitzero"`
}

// Listener measures what one listener heard. It has one owner at a time.
type Listener struct {
	// Immutable.
	config     Config
	from, to   int64 // ns since 1970
	width      int64 // of a slice; 0: no series
	firstSlice int64 // number of slices[0], counted from Origin

	talkers []*talker // in order of their first mention
	last    int       // of talkers, whose packet came last

	book  book
	first int64 // arrival of the first packet, 0: none
}

// book is what is counted for all talkers together. Packets are those due in the window.
type book struct {
	duplicates, reordered, old, negative uint64
	ignored, ignoredPlans                uint64
	spurts, clipped                      uint64
	bursts, burstFrames, open            uint64
	played                               uint64
	playedFor                            int64 // ns from Due to playout, of all played
	waited                               int64 // ns of concealment put in between
	worstGap                             int64
	latency, jitter, clip, gap           tally
	slices                               []slice
}

// slice is a part of the time series, by Due.
type slice struct {
	counts  [2]uint32 // of unique packets: unvoiced, voiced
	latency [80]uint16
}

// NewListener opens a listener.
func NewListener(c Config) *Listener {
	l := &Listener{config: c, from: -1 << 62, to: 1<<62 - 1}
	if !c.From.IsZero() {
		l.from = c.From.UnixNano()
	}
	if !c.To.IsZero() {
		l.to = c.To.UnixNano()
	}
	if !c.From.IsZero() && c.To.After(c.From) {
		l.width = int64(c.Slice)
		if l.width <= 0 {
			seconds := (c.To.Sub(c.From) + mostSlices*time.Second - 1) / (mostSlices * time.Second)
			l.width = int64(max(seconds, 1) * time.Second)
		}
		l.firstSlice = l.sliceOf(l.from)
		l.book.slices = make([]slice, l.sliceOf(l.to-1)-l.firstSlice+1)
	}
	return l
}

// sliceOf is the number of the slice of a time, counted from Origin.
func (l *Listener) sliceOf(ns int64) int64 {
	origin := l.from
	if !l.config.Origin.IsZero() {
		origin = l.config.Origin.UnixNano()
	}
	n := ns - origin
	if n < 0 {
		n -= l.width - 1
	}
	return n / l.width
}

// inside tells whether a packet due then is judged.
func (l *Listener) inside(due int64) bool { return l.from <= due && due < l.to }

// talker finds or adds one; nil when there are too many.
func (l *Listener) talker(id uint32) *talker {
	if l.last < len(l.talkers) && l.talkers[l.last].id == id {
		return l.talkers[l.last]
	}
	for i, t := range l.talkers {
		if t.id == id {
			l.last = i
			return t
		}
	}
	if len(l.talkers) == MaxTalkers {
		return nil
	}
	t := &talker{id: id, playout: playout{fixed: int64(l.config.Playout)}}
	l.talkers = append(l.talkers, t)
	l.last = len(l.talkers) - 1
	return t
}

// Hear takes the mark of a packet and when it arrived.
func (l *Listener) Hear(m mark.Mark, arrived time.Time) {
	at := arrived.UnixNano()
	if l.first == 0 {
		l.first = at
		b := &l.book
		b.latency, b.jitter, b.clip, b.gap = newTally(), newTally(), newTally(), newTally()
	}
	l.first = min(l.first, at)
	t := l.talker(m.Talker)
	if t == nil {
		l.book.ignored++
		return
	}
	due := m.Due.UnixNano()
	inside := l.inside(due)
	seen := t.see(m.Index)
	switch {
	case seen == again && inside:
		l.book.duplicates++
	case seen == tooOld && inside:
		l.book.old++
	}
	if seen == again || seen == tooOld {
		return
	}

	d := at - due
	if inside {
		class := classOf(m.Voiced)
		t.received[class]++
		if seen == behind {
			l.book.reordered++
		}
		if d < 0 {
			l.book.negative++
		}
		if m.Voiced {
			l.book.latency.record(d)
		}
		if l.width > 0 {
			s := &l.book.slices[l.sliceOf(due)-l.firstSlice]
			s.counts[class]++
			if c := &s.latency[coarse.index(d)]; m.Voiced && *c < 1<<16-1 {
				*c++
			}
		}
	}
	if j, ok := t.vary(d); ok && inside {
		l.book.jitter.record(j)
	}
	t.hear(l, m, at, due, seen == newest)
}

// Expect adds to the plan of a talker: spans of frames that it sent, in any order and
// without overlap. The slice is kept and not changed; listeners may share it. It may
// come before or after the packets.
func (l *Listener) Expect(talker uint32, plan []Span) {
	if len(plan) == 0 {
		return
	}
	t := l.talker(talker)
	if t == nil {
		l.book.ignoredPlans++
		return
	}
	t.plans = append(t.plans, plan)
}

// Bytes is the memory that the listener holds, without the plans it was lent.
func (l *Listener) Bytes() int {
	n := int(unsafe.Sizeof(*l)) + cap(l.talkers)*int(unsafe.Sizeof(l)) + len(l.talkers)*int(unsafe.Sizeof(talker{}))
	n += len(l.book.slices) * int(unsafe.Sizeof(slice{}))
	for _, t := range []tally{l.book.latency, l.book.jitter, l.book.clip, l.book.gap} {
		n += 4 * len(t.counts)
	}
	return n
}

// clone copies what finishing changes, so that a Result may be taken at any time.
func (b *book) clone() *book {
	c := *b
	c.clip.counts, c.gap.counts = slices.Clone(b.clip.counts), slices.Clone(b.gap.counts)
	return &c
}
