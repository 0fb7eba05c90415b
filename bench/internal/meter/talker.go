package meter

import (
	"time"

	"voicefleet/bench/internal/mark"
)

// Frames are of two classes.
const (
	unvoiced = iota
	voiced
)

func classOf(v bool) int {
	if v {
		return voiced
	}
	return unvoiced
}

const (
	remembered = 1024 // frames of a talker whose coming is known
	ring       = 32   // frames whose arrival is known; playout needs mostDelay/frame of them
	// goodRow is how many good frames in a row end a gap.
	goodRow = 10
)

// talker is what is known of one talker: 0.7 KiB.
type talker struct {
	id    uint32
	plans [][]Span

	// Which frames came: bit Index%remembered, for the last ones up to top.
	came  [remembered / 64]uint64
	top   uint32
	heard bool

	received [2]uint64 // in the window, by class
	played   [2]uint64 // of those

	anchor int64 // when frame 0 was due

	// RFC 3550 section 6.4.1.
	lastDelay int64
	jitter    float64

	playout playout
	spurt   spurt
}

// The ways a packet can be seen.
const (
	newest = iota // later than all before
	behind        // new, but a later one came before
	again         // came already
	tooOld        // so old that nobody knows
)

// see notes the coming of a frame.
func (t *talker) see(i uint32) int {
	word, bit := &t.came[i/64%(remembered/64)], uint64(1)<<(i%64)
	switch {
	case !t.heard:
		t.heard = true
		t.top = i
		*word |= bit
		return newest
	case i > t.top:
		if i-t.top >= remembered {
			clear(t.came[:])
		} else {
			for k := t.top + 1; k != i+1; k++ {
				t.came[k/64%(remembered/64)] &^= 1 << (k % 64)
			}
		}
		t.top = i
		*word |= bit
		return newest
	case t.top-i >= remembered:
		return tooOld
	case *word&bit != 0:
		return again
	}
	*word |= bit
	return behind
}

// vary takes the delay of a packet into the interarrival jitter. As Due is the media
// time, D(i-1,i) is the difference of two delays. The first packet gives none.
func (t *talker) vary(d int64) (int64, bool) {
	first := !t.playout.began()
	diff := d - t.lastDelay
	t.lastDelay = d
	if first {
		return 0, false
	}
	if diff < 0 {
		diff = -diff
	}
	t.jitter += (float64(diff) - t.jitter) / 16
	return int64(t.jitter), true
}

// spurt is the row of frames that a talker is in, judged in their order when their
// playout moments have passed.
type spurt struct {
	on     bool
	onset  uint32
	judged bool   // its onset was due in the window
	first  uint32 // least index heard
	last   uint32 // greatest index heard
	next   uint32 // first frame that is not judged yet

	// Frames next to next+ring-1, bit and place Index%ring.
	there  uint32 // played
	stall  uint32 // played after a wait that can be heard
	arrive [ring]int64

	good     bool   // there was a good frame
	goodLast uint32 // the last good one before the gap, or of all
	goodAt   int64  // its arrival
	lost     bool   // the frame before next was not played

	gap    bool
	inside bool   // a frame of it is due in the window
	row    int    // good ones after the gap
	rowAt  int64  // arrival of the first of them
	rowEnd uint32 // index of the last of them
}

// hear plays a new packet, or not, and judges the frames before it.
func (t *talker) hear(l *Listener, m mark.Mark, at, due int64, newest bool) {
	s, b := &t.spurt, &l.book
	t.anchor = due - int64(m.Index)*frame
	fresh := m.Voiced && (!s.on || m.Onset > s.onset)
	if fresh {
		t.close(l, b)
		t.open(l, m)
		t.playout.rest()
	}
	t.playout.observe(at - due)
	current := m.Voiced && m.Onset == s.onset
	if current {
		t.judgeUntil(l, b, m.Index, at)
	}
	ok, waited := false, int64(0)
	if !current || m.Index >= s.next {
		ok, waited = t.playout.admit(at-due, newest)
	}
	if ok && l.inside(due) {
		t.played[classOf(m.Voiced)]++
		b.played++
		b.playedFor += t.playout.delay
		if current && !fresh {
			b.waited += waited
		}
	}
	if !current {
		return
	}
	s.first, s.last = min(s.first, m.Index), max(s.last, m.Index)
	if ok {
		bit := uint32(1) << (m.Index % ring)
		s.there |= bit
		s.arrive[m.Index%ring] = at
		if waited >= frame && !fresh {
			s.stall |= bit
		}
	}
}

// open begins the spurt of a packet.
func (t *talker) open(l *Listener, m mark.Mark) {
	t.spurt = spurt{on: true, onset: m.Onset, first: m.Index, last: m.Index, next: m.Onset,
		judged: l.inside(t.anchor + int64(m.Onset)*frame)}
}

// judgeUntil judges the frames before i whose playout moment is before the time at, and
// as many more as the ring needs to hold i.
func (t *talker) judgeUntil(l *Listener, b *book, i uint32, at int64) {
	s := &t.spurt
	if i <= s.next {
		return
	}
	// Frame k has passed when anchor + k*frame + delay < at.
	passed := (at - t.playout.delay - t.anchor + frame - 1) / frame
	end := min(max(passed, int64(i)-ring+1), int64(i))
	for int64(s.next) < end {
		if s.there == 0 {
			// Nothing is there any more: the rest of them is lost in one piece.
			t.bad(l, b, uint32(end)-s.next)
			s.next = uint32(end)
			return
		}
		t.judge(l, b)
	}
}

// judge judges frame next.
func (t *talker) judge(l *Listener, b *book) {
	s := &t.spurt
	k, bit := s.next, uint32(1)<<(s.next%ring)
	if s.there&bit == 0 {
		t.bad(l, b, 1)
		s.next++
		return
	}
	at, stalled := s.arrive[k%ring], s.stall&bit != 0
	s.there &^= bit
	s.stall &^= bit
	s.next++
	s.lost = false
	if stalled && s.good {
		if !s.gap {
			s.gap, s.inside = true, false
		}
		s.inside = s.inside || l.inside(t.anchor+int64(k)*frame)
		s.row = 0
	}
	if !s.gap {
		s.good, s.goodLast, s.goodAt = true, k, at
		return
	}
	if s.row == 0 {
		s.rowAt = at
	}
	s.row++
	s.rowEnd = k
	if s.row == goodRow {
		t.endGap(b)
		s.goodLast, s.goodAt = k, at
	}
}

// bad judges n frames from next that were not played.
func (t *talker) bad(l *Listener, b *book, n uint32) {
	s := &t.spurt
	if !s.good {
		return // clipped, or before the listener came
	}
	within := t.cut(l, Span{First: s.next, Count: n}).Count
	if within > 0 && !s.lost {
		b.bursts++
	}
	b.burstFrames += uint64(within)
	s.lost = true
	if !s.gap {
		s.gap, s.inside = true, false
	}
	s.inside = s.inside || within > 0
	s.row = 0
}

// endGap counts the gap up to the first of the row after it.
func (t *talker) endGap(b *book) {
	s := &t.spurt
	if s.inside {
		b.audible(max(s.rowAt-s.goodAt, 0))
	}
	s.gap, s.row = false, 0
}

func (b *book) audible(ns int64) {
	b.gap.record(ns)
	b.worstGap = max(b.worstGap, ns)
}

// close judges what is left of the spurt.
func (t *talker) close(l *Listener, b *book) {
	s := &t.spurt
	if !s.on {
		return
	}
	for s.next <= s.last {
		t.judge(l, b)
	}
	if s.gap && s.row > 0 {
		t.endGap(b)
		s.goodLast = s.rowEnd
	}
	if s.judged {
		b.spurts++
		if s.first > s.onset {
			b.clipped++
			b.clip.record(int64(s.first-s.onset) * frame)
		}
	}
}

// finish ends the talk by its plan, of a copy of the talker.
func (t *talker) finish(l *Listener, b *book) {
	t.close(l, b)
	s := &t.spurt
	if !s.on || !s.good {
		return
	}
	end := uint32(0) // behind the last frame of the spurt that was planned
	for _, p := range t.plans {
		for _, span := range p {
			if c := t.cut(l, span); span.Voiced && span.Onset == s.onset && c.Count > 0 {
				end = max(end, c.First+c.Count)
			}
		}
	}
	if end < s.last+1+goodRow {
		return
	}
	b.open++
	b.bursts++
	b.burstFrames += uint64(end - s.last - 1)
	b.audible(int64(end-s.goodLast) * frame)
}

// cut is the part of a span that is due in the window, with its Due. Where that is not
// known, all of it is.
func (t *talker) cut(l *Listener, s Span) Span {
	due := int64(0)
	switch {
	case !s.Due.IsZero():
		due = s.Due.UnixNano()
	case t.heard:
		due = t.anchor + int64(s.First)*frame
	default:
		return s
	}
	if before := l.from - due; before > 0 {
		n := uint32(min((before+frame-1)/frame, int64(s.Count)))
		s.First += n
		s.Count -= n
		due += int64(n) * frame
	}
	if s.Count > 0 {
		s.Count = uint32(min(max((l.to-due+frame-1)/frame, 0), int64(s.Count)))
	}
	s.Due = time.Unix(0, due)
	return s
}
