package gateway

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// step is the part of a run that a post belongs to.
type step int

const (
	stepFanOut step = iota
	stepRate
	stepResume
	steps
)

// rateSlices is how many slices the rate step has: samples to compare runs by.
const rateSlices = 5

// fate is what came of a post.
type fate int32

const (
	unsent  fate = iota // the run ended before it was due
	taken               // answered with 2xx: everybody must get it, once
	refused             // answered with 429
	failed              // answered otherwise, or not sent at all
	unknown             // no answer: somebody may have got it, nobody must
)

// post is one message.
type post struct {
	step  step
	slice int

	due atomic.Int64 // Unix ns, set before it is sent

	// Owned by its sender, until all have ended.
	fate           fate
	sent, answered time.Time

	seen atomic.Int32 // receivers who got it
	last atomic.Int64 // Unix ns of the latest first delivery
	rank atomic.Uint32
}

// shards divide the histograms, so that receivers seldom wait for each other.
const shards = 8

type shard struct {
	mu sync.Mutex
	// Guarded by mu. Deliveries less due, by step, those of the rate step by slice.
	each [steps][]*hdrhistogram.Histogram
	// lag is how long events lay in the kernel before they were read, slow those
	// that lay for lateRead or more.
	lag  *hdrhistogram.Histogram
	slow int64
}

// lateRead is from when on an event was read late: the generator was busy.
const lateRead = 50 * time.Millisecond

// ledger knows every post of a run and every delivery. It has no clock.
type ledger struct {
	// Immutable.
	posts     []post
	first     [steps + 1]int // of each step in posts
	receivers []receiver
	shards    [shards]shard

	// delivered counts first deliveries.
	delivered atomic.Int64
	// twice and swapped are counted per step.
	twice, swapped [steps]atomic.Int64

	mu sync.Mutex
	// Guarded by mu.
	ranks uint32
}

// receiver is one session's part of the ledger; one goroutine at a time hears.
type receiver struct {
	ledger *ledger
	shard  *shard
	seen   []uint64 // a bit for each post
	rank   uint32   // of the newest post heard
	alien  int64    // events that are no post of ours
}

// newHistogram holds 10 µs to 2 min in ns, exact to 1 %.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(10*time.Microsecond), int64(2*time.Minute), 2)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, 0), 2*time.Minute))) // within its bounds
}

// newLedger makes room for posts of each step and for receivers.
func newLedger(counts [steps]int, receivers int) *ledger {
	l := &ledger{receivers: make([]receiver, receivers)}
	total := 0
	for _, n := range counts {
		total += n
	}
	l.posts = make([]post, total)
	for s, n := range counts {
		l.first[s+1] = l.first[s] + n
		for i := range n {
			l.posts[l.first[s]+i].step = step(s)
		}
	}
	for i := range l.shards {
		l.shards[i].lag = newHistogram()
		for s := range l.shards[i].each {
			n := 1
			if step(s) == stepRate {
				n = rateSlices
			}
			for range n {
				l.shards[i].each[s] = append(l.shards[i].each[s], newHistogram())
			}
		}
	}
	for i := range l.receivers {
		l.receivers[i] = receiver{ledger: l, shard: &l.shards[i%shards], seen: make([]uint64, (total+63)/64)}
	}
	return l
}

// hear takes a delivery: post i was with this receiver's kernel at that time and
// was read later.
func (r *receiver) hear(i int, at, read time.Time) {
	l := r.ledger
	if i < 0 || i >= len(l.posts) || l.posts[i].due.Load() == 0 {
		r.alien++
		return
	}
	p := &l.posts[i]
	if bit := uint64(1) << (i % 64); r.seen[i/64]&bit != 0 {
		l.twice[p.step].Add(1)
		return
	} else {
		r.seen[i/64] |= bit
	}
	// The first to hear a post gives it its rank. As long as all hear the same order
	// ranks rise for everybody: who hears the second post has heard the first.
	rank := l.rankOf(p)
	if rank < r.rank {
		l.swapped[p.step].Add(1)
	}
	r.rank = max(r.rank, rank)
	ns := at.UnixNano()
	for {
		last := p.last.Load()
		if ns <= last || p.last.CompareAndSwap(last, ns) {
			break
		}
	}
	took := time.Duration(ns - p.due.Load())
	r.shard.mu.Lock()
	record(r.shard.each[p.step][p.slice], took)
	lag := read.Sub(at)
	record(r.shard.lag, lag)
	if lag >= lateRead {
		r.shard.slow++
	}
	r.shard.mu.Unlock()
	p.seen.Add(1)
	l.delivered.Add(1)
}

func (l *ledger) rankOf(p *post) uint32 {
	if rank := p.rank.Load(); rank != 0 {
		return rank
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if rank := p.rank.Load(); rank != 0 {
		return rank
	}
	l.ranks++
	p.rank.Store(l.ranks)
	return l.ranks
}

// of are the posts of a step.
func (l *ledger) of(s step) []post { return l.posts[l.first[s]:l.first[s+1]] }

// tally is what a step came to.
type tally struct {
	Planned int `json:"planned"`
	Taken   int `json:"taken"`
	Refused int `json:"refused_429"`
	Failed  int `json:"failed"`
	Unknown int `json:"unanswered"`
	Unsent  int `json:"unsent"`
	// Expected are deliveries due: of each post that was taken, one to each
	// receiver. Delivered are those that came, each counted once.
	Expected  int64 `json:"expected"`
	Delivered int64 `json:"delivered"`
	Lost      int64 `json:"lost"`
	Twice     int64 `json:"twice"`
	// Swapped are deliveries that came after a post that others had later.
	// Contradicted are posts heard after one that was sent only when they had been
	// answered.
	Swapped      int64 `json:"swapped"`
	Contradicted int64 `json:"contradicted"`

	each []*hdrhistogram.Histogram // delivery less due, by slice
	last *hdrhistogram.Histogram   // the last receiver's, of posts that reached all
	post *hdrhistogram.Histogram   // the writer's answer less due
}

// all is each in one.
func (t *tally) all() *hdrhistogram.Histogram {
	h := newHistogram()
	for _, e := range t.each {
		h.Merge(e)
	}
	return h
}

// tally sums up a step, once its senders have ended.
func (l *ledger) tally(s step) tally {
	posts := l.of(s)
	t := tally{Planned: len(posts), Twice: l.twice[s].Load(), Swapped: l.swapped[s].Load(), last: newHistogram(), post: newHistogram()}
	for i := range l.shards {
		l.shards[i].mu.Lock()
		for n, h := range l.shards[i].each[s] {
			if i == 0 {
				t.each = append(t.each, newHistogram())
			}
			t.each[n].Merge(h)
		}
		l.shards[i].mu.Unlock()
	}
	var heard []*post
	for i := range posts {
		p := &posts[i]
		switch p.fate {
		case unsent:
			t.Unsent++
		case refused:
			t.Refused++
		case failed:
			t.Failed++
		case unknown:
			t.Unknown++
		case taken:
			t.Taken++
			due := time.Unix(0, p.due.Load())
			record(t.post, p.answered.Sub(due))
			seen := int64(p.seen.Load())
			t.Expected += int64(len(l.receivers))
			t.Delivered += seen
			if seen > 0 && seen == int64(len(l.receivers)) {
				record(t.last, time.Unix(0, p.last.Load()).Sub(due))
			}
			if seen > 0 {
				heard = append(heard, p)
			}
		}
	}
	t.Lost = t.Expected - t.Delivered
	t.Contradicted = contradicted(heard)
	return t
}

// contradicted counts the posts that were answered before a post was sent which
// was heard earlier.
func contradicted(heard []*post) (n int64) {
	slices.SortFunc(heard, func(a, b *post) int { return cmp.Compare(a.rank.Load(), b.rank.Load()) })
	var latest time.Time // sent, of those heard so far
	for _, p := range heard {
		if p.answered.Before(latest) {
			n++
		}
		if p.sent.After(latest) {
			latest = p.sent
		}
	}
	return n
}

// owing is how many deliveries of a step are still to come, when its senders have
// ended.
func (l *ledger) owing(s step) int64 {
	var n int64
	posts := l.of(s)
	for i := range posts {
		if p := &posts[i]; p.fate == taken {
			n += int64(len(l.receivers)) - int64(p.seen.Load())
		}
	}
	return n
}

// lag is how late events were read, and how many of them later than lateRead.
func (l *ledger) lag() (h *hdrhistogram.Histogram, slow int64) {
	h = newHistogram()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		h.Merge(s.lag)
		slow += s.slow
		s.mu.Unlock()
	}
	return h, slow
}

// aliens are the messages heard that were no posts of this run; its readers have
// ended.
func (l *ledger) aliens() (n int64) {
	for i := range l.receivers {
		n += l.receivers[i].alien
	}
	return n
}
