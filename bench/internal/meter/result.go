package meter

import (
	"slices"
	"time"
)

// Result is what one or several listeners heard. All packets are those due in the
// window. The zero value is empty and can be merged into.
type Result struct {
	Listeners int `json:"listeners"`

	// Packets of the plan, and those of them that came at least once. What came twice or
	// after a later one is counted beside it.
	Expected   uint64 `json:"expected"`
	Received   uint64 `json:"received"`
	Lost       uint64 `json:"lost"`
	Duplicates uint64 `json:"duplicates"`
	Reordered  uint64 `json:"reordered"`
	// Packets outside the plan: voiced ones that should not have come, frames of pauses
	// that a server may forward, those behind by 20 s and more, those of too many talkers.
	Stray    uint64 `json:"stray"`
	Unvoiced uint64 `json:"unvoiced"`
	Old      uint64 `json:"old"`
	Ignored  uint64 `json:"ignored"`
	// IgnoredPlans counts plans of too many talkers, of which nothing was expected.
	IgnoredPlans uint64 `json:"ignored_plans"`
	// Negative counts packets that came before they were due, by clocks that differ.
	// They are in Latency as zero.
	Negative uint64 `json:"negative"`

	// Frames of 20 ms that were played; of them concealed, of them in pauses.
	Frames          uint64 `json:"frames"`
	Concealed       uint64 `json:"concealed"`
	SilentConcealed uint64 `json:"silent_concealed"`
	// Played packets, and the sum of the times from Due to their playout.
	Played    uint64        `json:"played"`
	PlayedFor time.Duration `json:"played_for_ns"`
	// Bursts are rows of voiced frames that were not played, BurstFrames their lengths.
	Bursts      uint64 `json:"bursts"`
	BurstFrames uint64 `json:"burst_frames"`

	// Spurts heard that began in the window, those of them whose first frame did not
	// come, and those that were planned and not heard at all.
	Spurts  uint64 `json:"spurts"`
	Clipped uint64 `json:"clipped"`
	Missed  uint64 `json:"missed"`
	// Open counts gaps after which nothing more was heard of the spurt.
	Open uint64 `json:"open"`

	Latency *Histogram `json:"latency"` // arrival less Due, of voiced packets
	Jitter  *Histogram `json:"jitter"`  // RFC 3550 section 6.4.1, after each packet
	Clip    *Histogram `json:"clip"`    // speech before the first frame heard, of each clipped spurt
	Gap     *Histogram `json:"gap"`     // audible gaps

	// Of the listener that fared worst.
	WorstGap         time.Duration `json:"worst_gap_ns"`
	WorstLoss        float64       `json:"worst_loss"`        // share, 0 to 1
	WorstConcealment float64       `json:"worst_concealment"` // share, 0 to 1

	Slices []Slice `json:"slices,omitempty"`
	// First is when the first packet of all came, also outside the window; zero: none.
	First time.Time `json:"first,omitzero"`
}

// Slice is a part of the time series: packets due in [At, At+For).
type Slice struct {
	At       time.Time     `json:"at"`
	For      time.Duration `json:"for_ns"`
	Expected uint64        `json:"expected"`
	Received uint64        `json:"received"`
	Latency  Coarse        `json:"latency"`
}

// Loss is the share of expected packets that did not come, 0 to 1.
func (s Slice) Loss() float64 { return shareLost(s.Expected, s.Received) }

func shareLost(expected, received uint64) float64 {
	if expected == 0 || received >= expected {
		return 0
	}
	return float64(expected-received) / float64(expected)
}

// Loss is the share of expected packets that did not come, 0 to 1.
func (r *Result) Loss() float64 { return shareLost(r.Expected, r.Received) }

// Concealment is (concealed - silent concealed) / frames, 0 to 1.
func (r *Result) Concealment() float64 {
	if r.Frames == 0 {
		return 0
	}
	return float64(r.Concealed-r.SilentConcealed) / float64(r.Frames)
}

// MouthToEar is the mean time from Due to playout. What capture, codec and sound card
// add is not in it.
func (r *Result) MouthToEar() time.Duration {
	if r.Played == 0 {
		return 0
	}
	return r.PlayedFor / time.Duration(r.Played)
}

// BurstRatio is BurstR of ITU-T G.107: the mean length of rows of frames that were not
// played, over that of random loss of the same share, 1/(1-share). It is 1 at least.
func (r *Result) BurstRatio() float64 {
	if r.Bursts == 0 {
		return 1
	}
	return max(1, float64(r.BurstFrames)/float64(r.Bursts)*(1-r.Concealment()))
}

// Merge adds what other listeners heard. It keeps nothing of o.
func (r *Result) Merge(o Result) {
	r.Listeners += o.Listeners
	for _, c := range []struct{ to, from *uint64 }{
		{&r.Expected, &o.Expected}, {&r.Received, &o.Received}, {&r.Lost, &o.Lost},
		{&r.Duplicates, &o.Duplicates}, {&r.Reordered, &o.Reordered},
		{&r.Stray, &o.Stray}, {&r.Unvoiced, &o.Unvoiced}, {&r.Old, &o.Old},
		{&r.Ignored, &o.Ignored}, {&r.IgnoredPlans, &o.IgnoredPlans}, {&r.Negative, &o.Negative},
		{&r.Frames, &o.Frames}, {&r.Concealed, &o.Concealed}, {&r.SilentConcealed, &o.SilentConcealed},
		{&r.Played, &o.Played}, {&r.Bursts, &o.Bursts}, {&r.BurstFrames, &o.BurstFrames},
		{&r.Spurts, &o.Spurts}, {&r.Clipped, &o.Clipped}, {&r.Missed, &o.Missed}, {&r.Open, &o.Open},
	} {
		*c.to += *c.from
	}
	r.PlayedFor += o.PlayedFor
	for _, h := range []struct {
		to   **Histogram
		from *Histogram
	}{{&r.Latency, o.Latency}, {&r.Jitter, o.Jitter}, {&r.Clip, o.Clip}, {&r.Gap, o.Gap}} {
		if *h.to == nil {
			*h.to = &Histogram{}
		}
		(*h.to).Merge(h.from)
	}
	r.WorstGap = max(r.WorstGap, o.WorstGap)
	r.WorstLoss = max(r.WorstLoss, o.WorstLoss)
	r.WorstConcealment = max(r.WorstConcealment, o.WorstConcealment)
	if r.First.IsZero() || !o.First.IsZero() && o.First.Before(r.First) {
		r.First = o.First
	}
	for _, s := range o.Slices {
		i, found := slices.BinarySearchFunc(r.Slices, s, Slice.compare)
		if !found {
			s.Latency = s.Latency.plus(nil)
			r.Slices = slices.Insert(r.Slices, i, s)
			continue
		}
		to := &r.Slices[i]
		to.Expected += s.Expected
		to.Received += s.Received
		to.Latency = to.Latency.plus(s.Latency)
	}
}

// compare orders slices by their beginning and length.
func (s Slice) compare(o Slice) int {
	if c := s.At.Compare(o.At); c != 0 {
		return c
	}
	return int(s.For - o.For)
}

// Result tells what was heard up to now. It may be taken again later; packets that are
// still on their way count as lost, so the last is taken some time after To.
func (l *Listener) Result() Result {
	b := l.book.clone()
	r := Result{Listeners: 1}
	if l.first != 0 {
		r.First = time.Unix(0, l.first)
	}
	expected := make([]uint64, len(b.slices))
	planned, unvoicedToo := uint64(0), false // spurts; whether frames of pauses are expected
	for _, t := range l.talkers {
		done := *t
		done.finish(l, b)
		plan := done.planned(l, expected)
		planned += plan.spurts
		unvoicedToo = unvoicedToo || plan.frames[unvoiced] > 0
		for class, extra := range []*uint64{unvoiced: &r.Unvoiced, voiced: &r.Stray} {
			came := min(plan.frames[class], t.received[class])
			r.Expected += plan.frames[class]
			r.Received += came
			r.Lost += plan.frames[class] - came
			*extra += t.received[class] - came
		}
		pause := plan.length - plan.frames[voiced]
		silent := pause - min(t.played[unvoiced], pause)
		r.Frames += plan.length
		r.SilentConcealed += silent
		r.Concealed += silent + plan.frames[voiced] - min(t.played[voiced], plan.frames[voiced])
	}
	waited := uint64((b.waited + frame/2) / frame)
	r.Frames += waited
	r.Concealed += waited
	r.Duplicates, r.Reordered, r.Old, r.Negative = b.duplicates, b.reordered, b.old, b.negative
	r.Ignored, r.IgnoredPlans = b.ignored, b.ignoredPlans
	r.Played, r.PlayedFor = b.played, time.Duration(b.playedFor)
	r.Bursts, r.BurstFrames, r.Open = b.bursts, b.burstFrames, b.open
	r.Spurts, r.Clipped = b.spurts, b.clipped
	r.Missed = planned - min(b.spurts, planned)
	r.Latency, r.Jitter, r.Clip, r.Gap = b.latency.histogram(), b.jitter.histogram(), b.clip.histogram(), b.gap.histogram()
	r.WorstGap, r.WorstLoss, r.WorstConcealment = time.Duration(b.worstGap), r.Loss(), r.Concealment()
	for i := range b.slices {
		s := &b.slices[i]
		out := Slice{At: l.sliceAt(i), For: time.Duration(l.width), Expected: expected[i], Received: uint64(s.counts[voiced])}
		if unvoicedToo {
			out.Received += uint64(s.counts[unvoiced])
		}
		for k, n := range s.latency {
			if n > 0 {
				out.Latency = append(out.Latency, make(Coarse, k+1-len(out.Latency))...)
				out.Latency[k] = uint32(n)
			}
		}
		r.Slices = append(r.Slices, out)
	}
	return r
}

// sliceAt is when slice i begins.
func (l *Listener) sliceAt(i int) time.Time {
	origin := l.config.Origin
	if origin.IsZero() {
		origin = l.config.From
	}
	return origin.Add(time.Duration((l.firstSlice + int64(i)) * l.width))
}

// sums is the plan of a talker within the window.
type sums struct {
	frames [2]uint64 // by class
	length uint64    // frames from the first to the last, pauses included
	spurts uint64    // that begin in it
}

// planned adds up the plan and puts its frames into the slices they are due in.
func (t *talker) planned(l *Listener, slices []uint64) sums {
	p, first, end := sums{}, ^uint32(0), uint32(0)
	for _, plan := range t.plans {
		for _, span := range plan {
			c := t.cut(l, span)
			if c.Count == 0 {
				continue
			}
			p.frames[classOf(c.Voiced)] += uint64(c.Count)
			first, end = min(first, c.First), max(end, c.First+c.Count)
			if c.Voiced && c.First == c.Onset {
				p.spurts++
			}
			if len(slices) == 0 || c.Due.IsZero() {
				continue
			}
			due := c.Due.UnixNano()
			for range c.Count {
				slices[l.sliceOf(due)-l.firstSlice]++
				due += frame
			}
		}
	}
	if end > first {
		p.length = uint64(end - first)
	}
	return p
}
