package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"voicefleet/bench/internal/target"
)

const (
	// visitStay is how long a guest stays, visitPause how long it stays away. Six of
	// them join some twice a second.
	visitStay  = 2 * time.Second
	visitPause = 500 * time.Millisecond
	visitRetry = 250 * time.Millisecond
	// normalFor is how long the normal rate of requests is measured.
	normalFor = 10 * time.Second
)

// visits are guests who come and go.
type visits struct {
	stop   context.CancelFunc
	coming sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	back    time.Time // joins are counted, and count, from then on
	ended   time.Time // waits count until then; zero: it goes on
	slowest time.Duration
	failed  int
	joins   int
	in      map[*member]bool // who was let in since back
}

// visits begins to have guests come and go.
func (r *run) visits(ctx context.Context) *visits {
	ctx, stop := context.WithCancel(ctx)
	v := &visits{stop: stop, back: time.Now(), in: make(map[*member]bool)}
	for i, g := range r.crowd.guests {
		v.coming.Go(func() {
			defer g.bury()
			if sleep(ctx, time.Duration(i)*visitStay/guests) != nil {
				return
			}
			for v.visit(ctx, g) {
			}
		})
	}
	return v
}

// visit is a guest's wish to be in, until it is.
func (v *visits) visit(ctx context.Context, g *member) bool {
	begun := time.Now()
	for {
		tried := time.Now()
		call, err := g.join(ctx)
		if ctx.Err() != nil {
			if err == nil {
				_ = call.Close()
			}
			v.waited(g, begun, time.Now(), false)
			return false
		}
		if err != nil {
			v.mu.Lock()
			if tried.After(v.back) {
				v.failed++
			}
			v.mu.Unlock()
			if sleep(ctx, visitRetry) != nil {
				v.waited(g, begun, time.Now(), false)
				return false
			}
			continue
		}
		v.waited(g, begun, time.Now(), true)
		_ = sleep(ctx, visitStay)
		_ = call.Close()
		return sleep(ctx, visitPause) == nil
	}
}

// waited counts a guest's wait until it was in, or until the end: who waits for ever
// must not pass for nobody.
func (v *visits) waited(g *member, begun, now time.Time, in bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.ended.IsZero() && now.After(v.ended) {
		now = v.ended
	}
	if !now.After(v.back) {
		return
	}
	if in {
		v.joins++
		v.in[g] = true
	}
	if begun.Before(v.back) {
		begun = v.back
	}
	v.slowest = max(v.slowest, now.Sub(begun))
}

// since forgets all joins until now; who waits has waited since then.
func (v *visits) since(back time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.back, v.slowest, v.failed, v.joins = back, 0, 0, 0
	clear(v.in)
}

// out is how many guests have not been let in since then.
func (v *visits) out() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return guests - len(v.in)
}

// allIn waits so long at most until each guest has been let in, and tells how many have
// not been.
func (v *visits) allIn(ctx context.Context, within time.Duration) int {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		out := v.out()
		if out == 0 || sleep(ctx, 100*time.Millisecond) != nil {
			return out
		}
	}
}

// end ends them and tells how they fared.
func (v *visits) end() (slowest time.Duration, failed, joins int) {
	v.mu.Lock()
	v.ended = time.Now()
	v.mu.Unlock()
	v.stop()
	v.coming.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.slowest, v.failed, v.joins
}

// What is counted as a request: what rooms ask of each other over the bus, and what
// clients send to text and to central, over whatever connection.
var (
	askedByRooms   = []string{"voicefleet_bus_request_seconds"}
	askedByClients = []string{"voicefleet_rest_requests_total", "voicefleet_gateway_frames_total", "voicefleet_signaling_ops_total", "voicefleet_signaling_refused_total"}
)

// requests counts them.
type requests struct {
	counters []string
	stop     context.CancelFunc
	reading  sync.WaitGroup
	before   string // the kinds of a normal time, set by normal

	mu sync.Mutex
	// Guarded by mu.
	last  map[*target.Unit]map[string]float64
	steps []step
}

// step is how many requests there were in the time up to at, and how many of each kind.
type step struct {
	at time.Time
	n  float64
	of map[string]float64
}

// requestEvery is the pace of the readings, peakOver what a rate is taken over.
const (
	requestEvery = 500 * time.Millisecond
	peakOver     = 5 * time.Second
)

// requests begins to count what some counters of all programs count.
func (r *run) requests(ctx context.Context, counters []string) *requests {
	ctx, stop := context.WithCancel(ctx)
	q := &requests{counters: counters, stop: stop, last: make(map[*target.Unit]map[string]float64)}
	q.reading.Go(func() {
		for {
			q.read(ctx, r.fleet)
			if sleep(ctx, requestEvery) != nil {
				return
			}
		}
	})
	return q
}

// read adds what was asked since the last reading. Of a program that was started anew
// all counts; one that is down asks nothing.
func (q *requests) read(ctx context.Context, f *target.Fleet) {
	sum, of := 0.0, make(map[string]float64)
	for _, u := range f.Units() {
		m, err := f.Shown(ctx, u)
		if err != nil {
			continue
		}
		now := make(map[string]float64)
		for _, name := range q.counters {
			for kind, n := range m.Each(name, kindLabels...) {
				now[kind] += n
			}
		}
		q.mu.Lock()
		before, known := q.last[u]
		q.last[u] = now
		q.mu.Unlock()
		if !known {
			continue
		}
		for kind, n := range now {
			if n >= before[kind] {
				n -= before[kind]
			}
			sum += n
			of[kind] += n
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.steps = append(q.steps, step{time.Now(), sum, of})
}

// kindLabels tell the kinds of requests apart.
var kindLabels = []string{"service", "verb", "op", "route", "code", "reason"}

// told is how many kinds are named.
const told = 6

// kinds names what was asked most in the peakOver before a time, in requests a second.
func (q *requests) kinds(end time.Time) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := make(map[string]float64)
	for _, s := range q.steps {
		if s.at.After(end.Add(-peakOver)) && !s.at.After(end) {
			for kind, n := range s.of {
				of[kind] += n / peakOver.Seconds()
			}
		}
	}
	names := slices.SortedFunc(maps.Keys(of), func(a, b string) int {
		return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b))
	})
	var list []string
	for _, name := range names[:min(len(names), told)] {
		list = append(list, fmt.Sprintf("%s %.1f/s", name, of[name]))
	}
	return strings.Join(list, ", ")
}

// normal is how many there were a second before anything happened, for normalFor.
func (q *requests) normal() float64 {
	now := time.Now()
	q.before = q.kinds(now)
	q.mu.Lock()
	defer q.mu.Unlock()
	return rateOf(q.steps, now, normalFor)
}

func rateOf(steps []step, end time.Time, over time.Duration) float64 {
	sum := 0.0
	for _, s := range steps {
		if s.at.After(end.Add(-over)) && !s.at.After(end) {
			sum += s.n
		}
	}
	return sum / over.Seconds()
}

// peak is the greatest rate after a time, and when.
func (q *requests) peak(since time.Time) (most float64, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.steps {
		if !s.at.After(since) {
			continue
		}
		if rate := rateOf(q.steps, s.at, peakOver); rate >= most {
			most, at = rate, s.at
		}
	}
	return most, at
}

func (q *requests) end() {
	q.stop()
	q.reading.Wait()
}
