package gateway

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1_800_000_000, 0)

// at is a moment so many ms after the start.
func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// delivery is one event in a test.
type delivery struct{ receiver, post, ms int }

// TestLedger posts three messages, due at 0, 100 and 200 ms, each sent when due
// and answered 10 ms later unless told otherwise, to two sessions.
func TestLedger(t *testing.T) {
	all := []delivery{{0, 0, 20}, {1, 0, 30}, {0, 1, 120}, {1, 1, 130}, {0, 2, 220}, {1, 2, 270}}
	for _, c := range []struct {
		name   string
		heard  []delivery
		fates  map[int]fate
		answer map[int]int
		want   tally
		alien  int64
	}{
		{name: "all", heard: all, want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 6}},
		{name: "one is lost", heard: slices.Concat(all[:3], all[4:]), want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 5, Lost: 1}},
		{name: "one comes twice", heard: append(slices.Clone(all), delivery{1, 0, 300}), want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 6, Twice: 1}},
		{name: "lost and twice do not cancel out", heard: append(slices.Clone(all[:5]), delivery{0, 2, 300}),
			want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 5, Lost: 1, Twice: 1}},
		{name: "two sessions hear another order", heard: []delivery{{0, 0, 20}, {0, 1, 120}, {0, 2, 220}, {1, 1, 120}, {1, 0, 130}, {1, 2, 270}},
			want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 6, Swapped: 1}},
		{name: "both hear the later first", heard: []delivery{{0, 1, 120}, {0, 0, 130}, {1, 1, 120}, {1, 0, 130}, {0, 2, 220}, {1, 2, 270}},
			want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 6, Contradicted: 1}},
		{name: "those under way together may come in any order", answer: map[int]int{0: 110}, heard: []delivery{{0, 1, 120}, {0, 0, 130}, {1, 1, 120}, {1, 0, 130}, {0, 2, 220}, {1, 2, 270}},
			want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 6}},
		{name: "refused is owed to nobody", fates: map[int]fate{1: refused}, heard: slices.Concat(all[:2], all[4:]),
			want: tally{Planned: 3, Taken: 2, Refused: 1, Expected: 4, Delivered: 4}},
		{name: "without answer nothing is known", fates: map[int]fate{1: unknown, 2: failed}, heard: all[:3],
			want: tally{Planned: 3, Taken: 1, Unknown: 1, Failed: 1, Expected: 2, Delivered: 2}},
		{name: "what was never sent", fates: map[int]fate{2: unsent}, heard: all[:4], want: tally{Planned: 3, Taken: 2, Unsent: 1, Expected: 4, Delivered: 4}},
		{name: "strangers", heard: append(slices.Clone(all), delivery{0, 3, 1}, delivery{0, -1, 1}), want: tally{Planned: 3, Taken: 3, Expected: 6, Delivered: 6}, alien: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger([steps]int{stepRate: 3}, 2)
			for i := range l.posts {
				p := &l.posts[i]
				p.slice = sliceOf(time.Duration(i)*100*time.Millisecond, 300*time.Millisecond, rateSlices)
				p.fate = taken
				if f, ok := c.fates[i]; ok {
					p.fate = f
				}
				answer := 100*i + 10
				if ms, ok := c.answer[i]; ok {
					answer = ms
				}
				p.sent, p.answered = at(100*i), at(answer)
				p.due.Store(p.sent.UnixNano())
			}
			for _, d := range c.heard {
				l.receivers[d.receiver].hear(d.post, at(d.ms), at(d.ms+d.receiver*60))
			}
			got := l.tally(stepRate)
			each, last := got.all(), got.last
			owing := l.owing(stepRate)
			got.each, got.last, got.post = nil, nil, nil
			if !equal(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if owing != c.want.Lost {
				t.Errorf("%d owing", owing)
			}
			if n := l.aliens(); n != c.alien {
				t.Errorf("%d of others, want %d", n, c.alien)
			}
			if c.name != "all" {
				return
			}
			for _, q := range []struct {
				name      string
				got, want int64 // ms
			}{{"each, least", each.Min() / 1e6, 20}, {"each, most", each.Max() / 1e6, 70}, {"last, least", last.Min() / 1e6, 30}, {"last, most", last.Max() / 1e6, 70}} {
				if q.got < q.want-1 || q.got > q.want+1 {
					t.Errorf("%s: %d ms, want %d", q.name, q.got, q.want)
				}
			}
			if lag, slow := l.lag(); lag.TotalCount() != 6 || slow != 3 || lag.Max()/1e6 < 59 || lag.Max()/1e6 > 61 {
				t.Errorf("%d read, %d late, at most %d ns", lag.TotalCount(), slow, lag.Max())
			}
			if each.TotalCount() != 6 || last.TotalCount() != 3 {
				t.Errorf("%d and %d times", each.TotalCount(), last.TotalCount())
			}
		})
	}
}

func equal(a, b tally) bool {
	return a.Planned == b.Planned && a.Taken == b.Taken && a.Refused == b.Refused && a.Failed == b.Failed && a.Unknown == b.Unknown && a.Unsent == b.Unsent &&
		a.Expected == b.Expected && a.Delivered == b.Delivered && a.Lost == b.Lost && a.Twice == b.Twice && a.Swapped == b.Swapped && a.Contradicted == b.Contradicted
}

// TestLedgerSteps holds that each step has its own posts and figures.
func TestLedgerSteps(t *testing.T) {
	l := newLedger([steps]int{2, 3, 1}, 1)
	for i := range l.posts {
		l.posts[i].due.Store(start.UnixNano())
		l.posts[i].fate = taken
		l.posts[i].answered = start
		l.receivers[0].hear(i, at(i+1), at(i+1))
	}
	for s, want := range []int{2, 3, 1} {
		if got := l.tally(step(s)); got.Planned != want || got.Delivered != int64(want) || got.all().TotalCount() != int64(want) {
			t.Errorf("step %d: %+v", s, got)
		}
	}
}

func TestPlan(t *testing.T) {
	const rate, n = 50, 20_000
	plan := func() []time.Duration { return arrivals(rand.New(rand.NewPCG(1, 2)), rate, n) }
	a := plan()
	if !slices.IsSorted(a) || !slices.Equal(a, plan()) {
		t.Error("not in order, or not the same from the same seed")
	}
	// Gaps of a Poisson process have a mean of 1/rate and the same deviation; over n
	// of them each is off by some 1/sqrt(n), 0.7 %.
	var sum, squares float64
	for i := range a[1:] {
		gap := (a[i+1] - a[i]).Seconds()
		sum += gap
		squares += gap * gap
	}
	mean := sum / (n - 1)
	deviation := math.Sqrt(squares/(n-1) - mean*mean)
	if math.Abs(mean*rate-1) > 0.04 || math.Abs(deviation*rate-1) > 0.04 {
		t.Errorf("gaps of %v s ± %v", mean, deviation)
	}
	s := stream(rand.New(rand.NewPCG(3, 4)), rate, 100*time.Second)
	if len(s) < 4700 || len(s) > 5300 || s[len(s)-1] >= 100*time.Second || !slices.IsSorted(s) {
		t.Errorf("%d moments in 100 s, the last at %v", len(s), s[len(s)-1])
	}
	if e := evenly(3, time.Second); !slices.Equal(e, []time.Duration{0, time.Second, 2 * time.Second}) {
		t.Errorf("%v", e)
	}
	for _, c := range []struct{ at, want int }{{0, 0}, {199, 0}, {200, 1}, {999, 4}, {1000, 4}} {
		if got := sliceOf(time.Duration(c.at), 1000, 5); got != c.want {
			t.Errorf("slice of %d: %d, want %d", c.at, got, c.want)
		}
	}
	if got := sliceOf(5, 0, 5); got != 0 {
		t.Errorf("slice of nothing: %d", got)
	}
}
