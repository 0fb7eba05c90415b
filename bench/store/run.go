package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench"
	"voicefleet/bench/internal/others"
	"voicefleet/bench/internal/steal"
	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

const (
	// parts are the windows of the step writes, one sample each, windows those of the step
	// steady.
	parts, windows = 5, 10
	// takenAtMost is how much of a core the host may take within 100 ms in a window of the
	// step steady: with more, the host is what is measured, and another window takes its
	// place, moreWindows times at most.
	takenAtMost = 10 * time.Millisecond
	moreWindows = 2 * windows
	// underWay bounds what is begun and not done in the step steady; beyond it what is
	// due waits, and its wait counts.
	underWay = 2048
	// longestNap is how soon a step that is ended ends.
	longestNap = 50 * time.Millisecond
	// channels and users are those of the steps writes and steady.
	channels = 200
	users    = 200
	// garbage is how much may lie about, in percent of what lives.
	garbage = 400
	// equalReaders read one page at once, equalRounds times.
	equalReaders = 64
	equalRounds  = 50
)

// Config of Run.
type Config struct {
	Command string
	Seed    uint64

	// Only names the engines (default: both).
	Only []string
	// Dir is where their data lie while it runs: it must be on the disk that is to be
	// measured (default: the folder for temporary files).
	Dir string
	// Address is a CQL store of yours, cql://HOST/KEYSPACE: what is written stays there
	// (default: a node of its own).
	Address string

	Writers int           // default 64
	Length  time.Duration // of the steps writes and steady (default 20 s)
	Warm    time.Duration // load before the step steady on CQL, for the node's compiler (default 60 s)
	Rate    int           // messages a second in the step steady, a tenth as many pages and users (default 2,000)
	History int           // messages loaded (default 10,000,000); below 10,000: none
	Pages   int           // pages of it that are read at each size (default 10,000); half as many before them do not count

	// Goals; negative: none.
	MinWrites float64       // durable messages a second of SQLite (default 15,000)
	MaxInsert time.Duration // p99 on CQL at the rate (default 5 ms)
	MaxPage   time.Duration // p99 on CQL at the rate, and of history at any depth (default 15 ms)
	MaxLookUp time.Duration // p99 of finding a user at the rate (default 5 ms)
	// MaxDeep is how many times as long the oldest pages may take as the newest, and those
	// of the whole history as those of a hundredth of it, p50 (default 2).
	MaxDeep float64
	// MaxRefused is the share of operations that a store may refuse at the rate, in percent.
	MaxRefused float64

	// Progress is told how it goes; nil: nobody is.
	Progress bench.Progress
}

func orDefault[T int | float64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// validate fills the zero fields and refuses what cannot be measured.
func (c *Config) validate() error {
	if len(c.Only) == 0 {
		c.Only = []string{SQLite, CQL}
	}
	for _, name := range c.Only {
		if name != SQLite && name != CQL {
			return fmt.Errorf("store: there is no engine %q; there are %s and %s", name, SQLite, CQL)
		}
	}
	if c.Address != "" && !strings.HasPrefix(c.Address, "cql://") {
		return errors.New("store: a store of yours is cql://HOST/KEYSPACE; the embedded one is measured on data of its own")
	}
	orDefault(&c.Writers, 64)
	orDefault(&c.Length, 20*time.Second)
	orDefault(&c.Warm, 60*time.Second)
	orDefault(&c.Rate, 2000)
	orDefault(&c.History, 10_000_000)
	orDefault(&c.Pages, 10_000)
	orDefault(&c.MinWrites, 15_000)
	orDefault(&c.MaxInsert, 5*time.Millisecond)
	orDefault(&c.MaxPage, 15*time.Millisecond)
	orDefault(&c.MaxLookUp, 5*time.Millisecond)
	orDefault(&c.MaxDeep, 2)
	if c.Progress == nil {
		c.Progress = bench.Silent
	}
	if c.Writers < 1 || c.Writers > 512 || c.Rate < 10 || c.Rate > 100_000 || c.Length < 100*time.Millisecond || c.Warm < 0 || c.History < 0 || c.History > 1e9 || c.Pages < 100 {
		return errors.New("store: want 1 to 512 writers, 10 to 100,000 messages a second, steps of 0.1 s or more, at most 1,000,000,000 messages, 100 pages or more")
	}
	return nil
}

// run is a measurement under way.
type run struct {
	config Config
	report *bench.Report
	mint   snowflake.Mint // safe for concurrent use
}

// Run measures one engine after the other. Goals that are missed are in the report; an
// error means that there is no result, or a partial one (Report.Partial).
func Run(ctx context.Context, config Config) (*bench.Report, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	// A server's heap is of hundreds of megabytes. Ours is so small that it would be
	// collected many times a second, beside what is measured.
	defer debug.SetGCPercent(debug.SetGCPercent(garbage))
	r := &run{config: config, report: &bench.Report{Kind: "store", Command: config.Command, Seed: config.Seed, Started: time.Now().UTC(), Machine: bench.ThisMachine()}}
	defer func() { r.report.Took = bench.Seconds(time.Since(r.report.Started)) }()
	if config.Address == "" { // the disks of a store of yours are elsewhere
		if err := r.disk(ctx); err != nil && ctx.Err() == nil {
			return nil, err
		}
	}
	for _, name := range config.Only {
		if err := r.engine(ctx, name); err != nil {
			if len(r.report.Tables) == 0 {
				return nil, err
			}
			r.report.Partial = fmt.Sprintf("%s: %v", name, err)
			if ctx.Err() != nil {
				err = nil // ended by whoever asked: the report says so
			}
			return r.report, err
		}
	}
	return r.report, nil
}

func (r *run) engine(ctx context.Context, name string) (err error) {
	e, err := r.config.open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if name == CQL {
		r.config.Progress.Say("%s: warming up for %v", e.title(), r.config.Warm)
		c, err := r.crowd(ctx, e)
		if err == nil {
			err = r.load(ctx, e, c, r.config.Warm, newLoaded())
		}
		if err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	if err := r.writes(ctx, e); err != nil {
		return fmt.Errorf("writes: %w", err)
	}
	if err := r.steady(ctx, e); err != nil {
		return fmt.Errorf("steady: %w", err)
	}
	if name == CQL {
		if err := r.equalReads(ctx, e); err != nil {
			return fmt.Errorf("equal reads: %w", err)
		}
	}
	if err := r.history(ctx, e); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// newHistogram takes times from 1 µs to a minute.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1000, 60_000_000_000, 3) }

// times is a histogram that many fill.
type times struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // guarded by mu
}

func newTimes() *times { return &times{h: newHistogram()} }

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.h.RecordValue(d.Nanoseconds()) // longer ones than a minute end the run
}

// ms is a quantile in milliseconds.
func ms(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e6 }

// quantiles are the cells of a row of times.
func quantiles(h *hdrhistogram.Histogram) []string {
	if h.TotalCount() == 0 {
		return []string{"-", "-", "-"}
	}
	return []string{fmt.Sprintf("%.2f", ms(h, 50)), fmt.Sprintf("%.2f", ms(h, 99)), fmt.Sprintf("%.2f", ms(h, 100))}
}

func (r *run) newID() textchat.ID { return r.mint.Next(time.Now()) }

func (r *run) newIDs(n int) []textchat.ID {
	ids := make([]textchat.ID, n)
	for i := range ids {
		ids[i] = r.newID()
	}
	return ids
}

// message is one of an author as the server makes it.
func message(channel, id textchat.ID, text string) textchat.Message {
	author := textchat.User{ID: 1 + id%1000, Username: "bench", Discriminator: "0"}
	return textchat.Message{ID: id, Channel: channel, Author: author, Content: text, Timestamp: textchat.Time{Time: id.Time()}}
}

// text is of so many letters.
func text(n int) string { return strings.Repeat("abcdefgh ", n/9+1)[:n] }

// goal adds a goal, unless its bound says that there is none.
func (r *run) goal(g bench.Goal) {
	if g.Bound >= 0 {
		r.report.Goals = append(r.report.Goals, g)
	}
}

// note adds a note to the report.
func (r *run) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }

// writes is the first step.
func (r *run) writes(ctx context.Context, e *engine) error {
	c := &r.config
	ids := r.newIDs(channels)
	words := text(500)
	var done [parts]atomic.Int64
	spent := newTimes()
	begun := time.Now()
	end := begun.Add(c.Length)
	within, cancel := context.WithDeadline(ctx, end.Add(time.Minute))
	defer cancel()
	r.config.Progress.Say("%s: %d writers for %v", e.title(), c.Writers, c.Length)
	defer others.Watch(fmt.Sprintf("%s: %d writers", e.title(), c.Writers), r.note)()
	err := each(within, c.Writers, func(ctx context.Context, w int) error {
		lots := rand.New(rand.NewPCG(c.Seed, uint64(w)))
		for {
			from := time.Now()
			if !from.Before(end) {
				return nil
			}
			if err := add(ctx, e, message(ids[lots.IntN(channels)], r.newID(), words)); err != nil {
				return err
			}
			now := time.Now()
			spent.add(now.Sub(from))
			if now.Before(end) {
				done[now.Sub(begun)*parts/c.Length].Add(1)
			}
		}
	})
	if err != nil {
		return err
	}
	var samples []float64
	for i := range done {
		samples = append(samples, float64(done[i].Load())*parts/c.Length.Seconds())
	}
	rate := bench.SpreadOf(samples)
	row := append([]string{fmt.Sprintf("%.0f", rate.Median), fmt.Sprintf("%.0f..%.0f", rate.Min, rate.Max)}, quantiles(spent.h)...)
	r.report.Tables = append(r.report.Tables, bench.Table{
		Title: fmt.Sprintf("%s: %d writers of durable messages of 500 letters, %d windows of %v; ms", e.title(), c.Writers, parts, c.Length/parts),
		Head:  []string{"messages/s", "from..to", "p50", "p99", "max"}, Rows: [][]string{row}, Values: rate,
	})
	r.report.Metrics = append(r.report.Metrics, bench.Metric{Name: e.name + ": durable messages", Unit: "/s", Better: bench.More, Samples: samples})
	if e.name == SQLite {
		r.goal(bench.Goal{Name: fmt.Sprintf("SQLite: durable messages of %d writers", c.Writers), Value: rate.Median, Bound: c.MinWrites, AtLeast: true, Unit: "/s"})
	}
	return nil
}

// each runs f for 0 to n-1 at once and returns the first error.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// due calls f at so many moments a second for a while, whether or not those before it
// are done, and takes the time from each moment until it is called and until it is done;
// what is refused is counted. It is called once at least.
func due(ctx context.Context, rate int, length time.Duration, late, spent *times, refused *atomic.Int64, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	slots := make(chan struct{}, underWay)
	begun := time.Now()
	for i := range max(int(length.Seconds()*float64(rate)), 1) { // a window of nothing would meet every goal
		at := begun.Add(time.Duration(i) * time.Second / time.Duration(rate))
		for wait := time.Until(at); wait > 0 && ctx.Err() == nil; wait = time.Until(at) {
			nap(min(wait, longestNap))
		}
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			late.add(time.Since(at))
			switch err := f(ctx); {
			case errors.Is(err, textchat.ErrBusy):
				refused.Add(1)
			case err != nil:
				cancel(err)
			default:
				spent.add(time.Since(at))
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// tries bounds how often a message that was refused is written again, tryAfter apart:
// until the breaker of the store asks again, and some.
const (
	tries    = 20
	tryAfter = 500 * time.Millisecond
)

// add stores a message; while the store has too much to do, or does not answer, again:
// it is the same row.
func add(ctx context.Context, e *engine, m textchat.Message) error {
	return again(ctx, func() error {
		_, _, err := e.AddMessage(ctx, m, "")
		return err
	})
}

// again does what may be done twice until the store has the time for it.
func again(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if n == tries || !errors.Is(err, textchat.ErrBusy) {
			return err
		}
		select {
		case <-time.After(tryAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loaded is what came of a load.
type loaded struct {
	inserts, pages, lookUps *times
	late                    *times // from when inserts were due until they began
	refused                 atomic.Int64
}

func newLoaded() *loaded {
	return &loaded{inserts: newTimes(), pages: newTimes(), lookUps: newTimes(), late: newTimes()}
}

// add takes in what came of another.
func (l *loaded) add(other *loaded) {
	l.inserts.h.Merge(other.inserts.h)
	l.pages.h.Merge(other.pages.h)
	l.lookUps.h.Merge(other.lookUps.h)
	l.late.h.Merge(other.late.h)
	l.refused.Add(other.refused.Load())
}

// crowd are the channels that the step steady writes and reads, and the users it looks up.
type crowd struct{ channels, users []textchat.ID }

func (r *run) crowd(ctx context.Context, e *engine) (crowd, error) {
	c := crowd{r.newIDs(channels), r.newIDs(users)}
	for _, id := range c.users {
		u := textchat.User{ID: id, Username: "bench" + id.String(), Discriminator: "0"}
		if err := again(ctx, func() error { return e.CreateUser(ctx, textchat.Credential{User: u}, nil, id.Time()) }); err != nil {
			return c, err
		}
	}
	return c, nil
}

// load is the step steady for a while; what comes of it is added to l.
func (r *run) load(ctx context.Context, e *engine, c crowd, length time.Duration, l *loaded) error {
	words := text(200)
	return each(ctx, 3, func(ctx context.Context, i int) error {
		switch i {
		case 0:
			return due(ctx, r.config.Rate, length, l.late, l.inserts, &l.refused, func(ctx context.Context) error {
				_, _, err := e.AddMessage(ctx, message(c.channels[rand.IntN(channels)], r.newID(), words), "")
				return err
			})
		case 1:
			return due(ctx, r.config.Rate/10, length, newTimes(), l.lookUps, &l.refused, func(ctx context.Context) error {
				_, err := e.User(ctx, c.users[rand.IntN(users)])
				return err
			})
		}
		return due(ctx, r.config.Rate/10, length, newTimes(), l.pages, &l.refused, func(ctx context.Context) error {
			_, err := e.Page(ctx, c.channels[rand.IntN(channels)], textchat.PageQuery{Limit: 50})
			return err
		})
	})
}

// loadCalmly is a load in windows, those left out in which the host took too much. The
// p99 of the inserts of each come with it, in milliseconds.
func (r *run) loadCalmly(ctx context.Context, e *engine) (l *loaded, p99s []float64, err error) {
	c, err := r.crowd(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	host := steal.Begin()
	defer host.End()
	l = newLoaded()
	void := 0
	for len(p99s) < windows {
		host.Reset()
		one := newLoaded()
		if err := r.load(ctx, e, c, r.config.Length/windows, one); err != nil {
			return nil, nil, err
		}
		p99 := ms(one.inserts.h, 99)
		if taken := host.Most(); taken > takenAtMost && void < moreWindows {
			void++
			r.config.Progress.Say("%s: a window is not counted (an insert's p99 was %.2f ms): the host took %v of a core at once; once more", e.title(), p99, taken)
			continue
		}
		l.add(one)
		p99s = append(p99s, p99)
	}
	if void > 0 {
		r.note("%s: %d windows at the rate were done again, because the host took more than %v of a core within 100ms: another machine had it", e.title(), void, takenAtMost)
	}
	return l, p99s, nil
}

// steady is the second step.
func (r *run) steady(ctx context.Context, e *engine) error {
	c := &r.config
	c.Progress.Say("%s: %d messages and %d pages a second for %v", e.title(), c.Rate, c.Rate/10, c.Length)
	before, err := e.statements()
	if err != nil {
		return err
	}
	usage, err := e.usage()
	if err != nil {
		return err
	}
	begun := time.Now()
	note := others.Watch(fmt.Sprintf("%s: %d messages a second", e.title(), c.Rate), r.note)
	l, p99s, err := r.loadCalmly(ctx, e)
	note()
	if err != nil {
		return err
	}
	used, err := e.usage()
	if err != nil {
		return err
	}
	took := time.Since(begun)
	table := bench.Table{
		Title: fmt.Sprintf("%s: %d messages, %d pages of 50 and as many users a second for %v; ms from when each was due", e.title(), c.Rate, c.Rate/10, c.Length),
		Head:  []string{"", "done", "p50", "p99", "max"},
	}
	for _, row := range []struct {
		name  string
		h     *hdrhistogram.Histogram
		bound time.Duration
	}{{"insert", l.inserts.h, c.MaxInsert}, {"page of 50", l.pages.h, c.MaxPage}, {"user", l.lookUps.h, c.MaxLookUp}} {
		table.Rows = append(table.Rows, append([]string{row.name, fmt.Sprint(row.h.TotalCount())}, quantiles(row.h)...))
		name := e.name + ": " + row.name
		r.report.Distributions = append(r.report.Distributions, bench.DistributionOf(name, "ms", row.h, 1e6))
		r.report.Metrics = append(r.report.Metrics, bench.Metric{Name: name + " p99", Unit: "ms", Better: bench.Less, Samples: []float64{ms(row.h, 99)}})
		if e.name == CQL || row.name == "user" {
			r.goal(bench.Goal{Name: fmt.Sprintf("%s: %s at %d messages/s, p99", e.title(), row.name, c.Rate), Value: ms(row.h, 99), Bound: millis(row.bound), Unit: "ms"})
		}
	}
	if e.name == CQL {
		// Where an insert's time goes.
		after, err := e.statements()
		if err != nil {
			return err
		}
		table.Rows = append(table.Rows, append([]string{"of an insert: until we began", fmt.Sprint(l.late.h.TotalCount())}, quantiles(l.late.h)...), after.since(before).row("of an insert: driver and node"))
		if row, err := e.node(ctx); err != nil {
			c.Progress.Say("%s: the node does not say what it took: %v", e.title(), err)
		} else if row != nil {
			table.Rows = append(table.Rows, append([]string{"of an insert: the node, as it says"}, row...))
		}
	}
	r.report.Tables = append(r.report.Tables, table)
	spread := bench.SpreadOf(p99s)
	r.note("%s: an insert's p99 in each of %d windows at the rate: %.2f to %.2f ms, median %.2f", e.title(), windows, spread.Min, spread.Max, spread.Median)
	for i, what := range []string{"store and load", "node"} {
		if used[i] > 0 {
			cores := (used[i] - usage[i]).Seconds() / took.Seconds()
			r.note("%s: at the rate, %s used %.2f cores", e.title(), what, cores)
			r.report.Metrics = append(r.report.Metrics, bench.Metric{Name: e.name + ": cores of " + what, Better: bench.Less, Samples: []float64{cores}})
		}
	}
	refused := float64(l.refused.Load())
	done := float64(l.inserts.h.TotalCount() + l.pages.h.TotalCount() + l.lookUps.h.TotalCount())
	r.goal(bench.Goal{Name: fmt.Sprintf("%s: refused at %d messages/s", e.title(), c.Rate), Value: 100 * refused / max(done+refused, 1), Bound: c.MaxRefused, Unit: "%"})
	return nil
}

// equalResult are the values of the table of equal reads.
type equalResult struct {
	Who     string  `json:"who"`
	Reads   int     `json:"reads"`
	Queries float64 `json:"queries"`
	Joined  float64 `json:"joined"`
}

// equalReads is the third step.
func (r *run) equalReads(ctx context.Context, e *engine) error {
	ids := r.newIDs(equalReaders)
	for _, channel := range ids {
		for range 50 {
			if err := add(ctx, e, message(channel, r.newID(), text(200))); err != nil {
				return err
			}
		}
	}
	read := func(who string, channel func(i int) textchat.ID) (equalResult, error) {
		v := equalResult{Who: who}
		before, err := e.count("voicefleet_store_queries_total")
		if err != nil {
			return v, err
		}
		joined, err := e.count("voicefleet_store_coalesced_total")
		if err != nil {
			return v, err
		}
		for range equalRounds {
			if err := each(ctx, equalReaders, func(ctx context.Context, i int) error {
				return again(ctx, func() error {
					list, err := e.Page(ctx, channel(i), textchat.PageQuery{Limit: 50})
					if err == nil && len(list) != 50 {
						err = fmt.Errorf("a page of %d messages", len(list))
					}
					return err
				})
			}); err != nil {
				return v, err
			}
			v.Reads += equalReaders
		}
		after, err := e.count("voicefleet_store_queries_total")
		if err != nil {
			return v, err
		}
		v.Queries = after - before
		after, err = e.count("voicefleet_store_coalesced_total")
		v.Joined = after - joined
		return v, err
	}
	one, err := read("one page", func(int) textchat.ID { return ids[0] })
	if err != nil {
		return err
	}
	own, err := read("a page each", func(i int) textchat.ID { return ids[i] })
	if err != nil {
		return err
	}
	table := bench.Table{Title: fmt.Sprintf("%s: %d readers at once, %d times", e.title(), equalReaders, equalRounds), Head: []string{"they read", "reads", "queries", "joined another's"}, Values: []equalResult{one, own}}
	for _, v := range []equalResult{one, own} {
		table.Rows = append(table.Rows, []string{v.Who, fmt.Sprint(v.Reads), fmt.Sprintf("%.0f", v.Queries), fmt.Sprintf("%.0f", v.Joined)})
	}
	r.report.Tables = append(r.report.Tables, table)
	// Each page is two queries: which buckets the channel has, and the messages.
	r.goal(bench.Goal{Name: "CQL: queries for equal reads, of those for different ones", Value: 100 * one.Queries / own.Queries, Bound: 25, Unit: "%"})
	return nil
}

const (
	// historyChannels share the history, which is as long as historySpan when it has
	// all its messages: then each ten days of a channel have some 2,700.
	historyChannels = 100
	historySpan     = 365 * 24 * time.Hour
	// historyReaders read pages at once.
	historyReaders = 4
	// leastHistory is the smallest that is looked at.
	leastHistory = 10_000
	// shortPart of the messages make a history of its own, which pages of the whole one
	// are held against. It is as much shorter, so that a page spans as much time of either
	// and as many partitions.
	shortPart = 100
)

// depths are how far back pages are read, in percent: from the newest to the first tenth,
// before which every channel has a page. Each is read as often as any other.
var depths = []int{0, 25, 50, 75, 100}

// past is a history of messages, up to now.
type past struct {
	seed  uint64
	ids   []textchat.ID // channels
	begun time.Time
	step  time.Duration // from one message to the next
	count int           // those that are there
}

// newPast is to have so many messages, as far from one another as those of the whole history.
func (r *run) newPast(size int) *past {
	step := historySpan / time.Duration(r.config.History)
	return &past{seed: r.config.Seed, ids: r.newIDs(historyChannels), begun: time.Now().Add(-step * time.Duration(size)), step: step}
}

// at is the time of message n.
func (p *past) at(n int) time.Time { return p.begun.Add(time.Duration(n) * p.step) }

// id is that of message n: its time, and what tells those of a millisecond apart.
func (p *past) id(n int) textchat.ID {
	return textchat.ID(p.at(n).UnixMilli()-snowflake.Epoch)<<22 | textchat.ID(n&(1<<22-1))
}

// channel draws one: the busiest tenth has a third of all.
func (p *past) channel(lots *rand.Rand) textchat.ID {
	v := lots.Float64()
	return p.ids[int(v*v*float64(len(p.ids)))]
}

// historyResult is a row of the table of history.
type historyResult struct {
	Messages int           `json:"messages"`
	Loaded   float64       `json:"loaded_per_s"`
	Page     float64       `json:"messages_per_page"`
	P50      float64       `json:"p50_ms"`
	P99      float64       `json:"p99_ms"`
	Depths   []depthResult `json:"depths"`
	// Of pages of the short history, read by turns with those of this one.
	Short    int     `json:"short_messages,omitempty"`
	ShortP50 float64 `json:"short_p50_ms,omitempty"`
	ShortP99 float64 `json:"short_p99_ms,omitempty"`
}

// depthResult is of the pages that lie so far back.
type depthResult struct {
	Percent int     `json:"percent"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
}

// history is the fourth step.
func (r *run) history(ctx context.Context, e *engine) error {
	c := &r.config
	if c.History < leastHistory {
		return nil
	}
	p := r.newPast(c.History)
	pasts := []*past{p}
	if short := c.History / shortPart; short >= leastHistory {
		pasts = append(pasts, r.newPast(short))
		if err := r.fill(ctx, e, pasts[1], short); err != nil {
			return err
		}
	}
	// A hundredth, a tenth, all: 10^5, 10^6 and 10^7.
	var sizes []int
	for size := c.History; size >= leastHistory && len(sizes) < 3; size /= 10 {
		sizes = append(sizes, size)
	}
	slices.Reverse(sizes)
	table := bench.Table{
		Title: fmt.Sprintf("%s: history of %d channels; %d pages of 50 from any time, %d readers at once; ms", e.title(), historyChannels, c.Pages, historyReaders),
		Head:  []string{"messages", "loaded/s", "messages/page", "p50", "p99", "max"},
	}
	byDepth := bench.Table{
		Title: fmt.Sprintf("%s: the same pages by how far back they lie, 0 %% being the newest; ms, p50 / p99", e.title()),
		Head:  []string{"messages"},
	}
	for _, d := range depths {
		byDepth.Head = append(byDepth.Head, fmt.Sprintf("%d %%", d))
	}
	var results []historyResult
	for i, size := range sizes {
		before, begun := p.count, time.Now()
		if err := r.fill(ctx, e, p, size); err != nil {
			return err
		}
		v := historyResult{Messages: size, Loaded: float64(size-before) / time.Since(begun).Seconds()}
		read := pasts[:1]
		if i == len(sizes)-1 {
			read = pasts
		}
		pages, err := r.scroll(ctx, e, read)
		if err != nil {
			return err
		}
		all := newHistogram()
		row := []string{fmt.Sprint(size)}
		for i, t := range pages[0].spent {
			all.Merge(t.h)
			v.Depths = append(v.Depths, depthResult{depths[i], ms(t.h, 50), ms(t.h, 99)})
			row = append(row, fmt.Sprintf("%.2f / %.2f", ms(t.h, 50), ms(t.h, 99)))
		}
		byDepth.Rows = append(byDepth.Rows, row)
		v.Page, v.P50, v.P99 = pages[0].full(), ms(all, 50), ms(all, 99)
		if len(read) > 1 {
			short := newHistogram()
			for _, t := range pages[1].spent {
				short.Merge(t.h)
			}
			v.Short, v.ShortP50, v.ShortP99 = read[1].count, ms(short, 50), ms(short, 99)
		}
		results = append(results, v)
		table.Rows = append(table.Rows, append([]string{fmt.Sprint(size), fmt.Sprintf("%.0f", v.Loaded), fmt.Sprintf("%.1f", v.Page)}, quantiles(all)...))
		name := fmt.Sprintf("%s: page of %d messages", e.name, size)
		r.report.Metrics = append(r.report.Metrics, bench.Metric{Name: name + ", p99", Unit: "ms", Better: bench.Less, Samples: []float64{v.P99}})
		r.report.Distributions = append(r.report.Distributions, bench.DistributionOf(name, "ms", all, 1e6))
	}
	last := results[len(results)-1]
	if last.Short > 0 {
		byDepth.Rows = append(byDepth.Rows, []string{fmt.Sprintf("%d beside them", last.Short), fmt.Sprintf("all: %.2f / %.2f", last.ShortP50, last.ShortP99)})
	}
	table.Values = results
	r.report.Tables = append(r.report.Tables, table, byDepth)
	deepest := 0.
	for _, d := range last.Depths {
		deepest = max(deepest, d.P99)
	}
	r.goal(bench.Goal{Name: fmt.Sprintf("%s: page of a history of %d at any depth, p99", e.title(), last.Messages), Value: deepest, Bound: millis(c.MaxPage), Unit: "ms"})
	if last.Short > 0 {
		r.goal(bench.Goal{Name: fmt.Sprintf("%s: p50 of a page in %d messages, against that in %d, read by turns", e.title(), last.Messages, last.Short), Value: last.P50 / last.ShortP50, Bound: c.MaxDeep, Unit: "times"})
	}
	// Short pages take less time: what is compared is full ones.
	if last.Page > 49 {
		newest, oldest := last.Depths[0], last.Depths[len(last.Depths)-1]
		r.goal(bench.Goal{Name: fmt.Sprintf("%s: p50 of the oldest pages of %d messages, against the newest", e.title(), last.Messages), Value: oldest.P50 / newest.P50, Bound: c.MaxDeep, Unit: "times"})
	}
	return nil
}

const (
	// loaders write a history, each a window of so many messages at a time: those of a
	// channel at once.
	loaders = 8
	window  = 10_000
)

// fill writes the messages of a past up to the to-th, windows in the order of their time.
func (r *run) fill(ctx context.Context, e *engine, p *past, to int) error {
	from := p.count
	words := text(120)
	var next, done atomic.Int64
	next.Store(int64(from))
	told := time.Now()
	err := each(ctx, loaders, func(ctx context.Context, w int) error {
		lists := make(map[textchat.ID][]textchat.Message)
		for {
			begin := int(next.Add(window)) - window
			if begin >= to {
				return nil
			}
			lots := rand.New(rand.NewPCG(p.seed, uint64(begin)))
			clear(lists)
			for n := begin; n < min(begin+window, to); n++ {
				channel := p.channel(lots)
				lists[channel] = append(lists[channel], message(channel, p.id(n), words))
			}
			for channel, list := range lists {
				if err := again(ctx, func() error { return e.AddMessages(ctx, channel, list) }); err != nil {
					return err
				}
				done.Add(int64(len(list)))
				if w == 0 && time.Since(told) > time.Second { // one of them tells
					told = time.Now()
					r.config.Progress.Status(fmt.Sprintf("%s: %d of %d messages loaded", e.title(), from+int(done.Load()), to))
				}
			}
		}
	})
	p.count = to
	return err
}

// scrolled is what came of reading pages of a past.
type scrolled struct {
	spent           []*times // by depth
	pages, messages atomic.Int64
}

// full is how many messages a page had.
func (s *scrolled) full() float64 { return float64(s.messages.Load()) / float64(s.pages.Load()) }

// scroll reads pages of all pasts by turns, and takes their times.
func (r *run) scroll(ctx context.Context, e *engine, pasts []*past) ([]*scrolled, error) {
	list := make([]*scrolled, len(pasts))
	for i := range list {
		list[i] = &scrolled{}
		for range depths {
			list[i].spent = append(list[i].spent, newTimes())
		}
	}
	pages := r.config.Pages * len(pasts)
	var next atomic.Int64
	err := each(ctx, historyReaders, func(ctx context.Context, w int) error {
		lots := rand.New(rand.NewPCG(r.config.Seed+uint64(pasts[0].count), uint64(w)))
		for {
			n := int(next.Add(1))
			if n > pages*3/2 {
				return nil
			}
			p, s := pasts[n%len(pasts)], list[n%len(pasts)]
			depth := n / len(pasts) % len(depths)
			newest := p.count - p.count*9/10*depths[depth]/100
			before := p.id(newest - lots.IntN(p.count/100))
			from := time.Now()
			channel := p.channel(lots)
			var page []textchat.Message
			err := again(ctx, func() (err error) {
				page, err = e.Page(ctx, channel, textchat.PageQuery{Limit: 50, Before: before})
				return err
			})
			if err != nil {
				return err
			}
			if n > pages/2 {
				s.spent[depth].add(time.Since(from))
				s.pages.Add(1)
				s.messages.Add(int64(len(page)))
			}
			runtime.Gosched() // the next page is another person's: whoever waits goes first
		}
	})
	return list, err
}
