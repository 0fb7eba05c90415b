package simulate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/allocator/placement"
	"voicefleet/bench"
	"voicefleet/edgeagent"
)

// Config is what to simulate. Zero fields take the defaults; time and memory grow
// with Nodes times Hours, and with MonthNodes times Days.
type Config struct {
	Seed       uint64
	Command    string  // reproduces the run
	Nodes      int     // of the day, 50 to 2,000; 1,000 carry 4 million users of 7.2 million
	Hours      float64 // of the day, 0.5 to 24
	MonthNodes int     // of the month, 50 to 2,000
	Days       float64 // of the month, 0.1 to 60
	Alone      bool    // our rule only, and no goal that compares it with others
	Progress   bench.Progress
}

// Defaults of a Config: about half an hour on one core, and 1 GiB.
const (
	DefaultNodes      = 1000
	DefaultHours      = 24
	DefaultMonthNodes = 60
	DefaultDays       = 30
)

func (c *Config) validate() error {
	if c.Nodes == 0 {
		c.Nodes = DefaultNodes
	}
	if c.Hours == 0 {
		c.Hours = DefaultHours
	}
	if c.MonthNodes == 0 {
		c.MonthNodes = DefaultMonthNodes
	}
	if c.Days == 0 {
		c.Days = DefaultDays
	}
	if c.Progress == nil {
		c.Progress = bench.Silent
	}
	switch {
	case c.Nodes < 50 || c.Nodes > 2000:
		return fmt.Errorf("%d nodes: give 50 to 2000", c.Nodes)
	case c.MonthNodes < 50 || c.MonthNodes > 2000:
		return fmt.Errorf("%d nodes for the month: give 50 to 2000", c.MonthNodes)
	case !(c.Hours >= 0.5 && c.Hours <= 24):
		return fmt.Errorf("%v hours: give 0.5 to 24", c.Hours)
	case !(c.Days >= 0.1 && c.Days <= 60):
		return fmt.Errorf("%v days: give 0.1 to 60", c.Days)
	}
	return nil
}

const (
	usual  = 4.0 / 7.2 // of all seats, at the busiest moment
	flash  = 1.5       // times that, in a flash crowd
	warmUp = 4500      // ticks until a run counts
)

// Run simulates a day with every policy, a month with ours, and the case whose
// optimum is known exactly.
func Run(ctx context.Context, cfg Config) (*bench.Report, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	started := time.Now()
	r := &report{cfg: cfg, Report: bench.Report{Kind: "simulate", Command: cfg.Command, Seed: cfg.Seed, Started: started, Machine: bench.ThisMachine()}}
	// The month goes on beside the days.
	type gone struct {
		m   *month
		err error
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	through := make(chan gone, 1)
	go func() {
		m, err := runMonth(ctx, cfg)
		through <- gone{m, err}
	}()
	w := newWorld(cfg.Nodes)
	rules := []policy{newOurs(w)}
	if !cfg.Alone {
		rules = append(rules, yardsticks(w)...)
	}
	for i, p := range rules {
		d, err := runDay(ctx, cfg, w, p, i == 0)
		if err != nil {
			stop()
			<-through
			return r.partial(started, err)
		}
		r.days = append(r.days, d)
	}
	r.exact, r.optimum = exactCase(cfg.Seed)
	end := <-through
	if end.err != nil {
		return r.partial(started, end.err)
	}
	r.month = end.m
	r.conclude(w)
	r.Took = bench.Seconds(time.Since(started))
	return &r.Report, nil
}

// partial is what was found out before the end.
func (r *report) partial(started time.Time, err error) (*bench.Report, error) {
	if !errors.Is(err, context.Canceled) {
		return nil, err
	}
	r.Partial = "ended early; policies and times not reached are missing, and no goal was judged"
	r.policies()
	r.Took = bench.Seconds(time.Since(started))
	return &r.Report, nil
}

// day is what one policy made of it.
type day struct {
	name  string
	tally tally
	users float64 // user-samples
	rtt   float64 // mean, ms
	calls int     // at the busiest moment before the crowd
	most  int     // users at that moment

	// Ours alone: the sums of round trips beside the best possible, in usual time,
	// in the crowd, and while calls live that were placed in it or after a fault;
	// and placements a second.
	usual, crowd, after against
	speed               float64

	rtts, worst, load, excess bench.Series
}

// whole is the whole day.
func (d *day) whole() against {
	return against{d.usual.got + d.crowd.got + d.after.got, d.usual.best + d.crowd.best + d.after.best}
}

// against is a figure and its lower bound, summed over samples.
type against struct{ got, best float64 }

func (a against) excess() float64 {
	if a.best == 0 {
		return 0
	}
	return 100 * (a.got/a.best - 1)
}

// step of a timeline: what happens at a share of the measured time.
type step struct {
	at   float64
	text string
	do   func(e *engine)
}

// timeline is the day: what goes wrong when.
func timeline(nodes int, ticks int64) []step {
	minutes := func(n float64) int64 { return min(int64(n*60), ticks/15) }
	few := max(1, nodes/300)
	return []step{
		{.08, fmt.Sprintf("%d nodes killed", few), func(e *engine) { e.kill(e.some(few), nodeKilled, minutes(10)) }},
		{.12, "a node loses 5 % of its packets", func(e *engine) { e.sicken(e.some(1)[0], .05, minutes(5)) }},
		{.15, "a node is flooded", func(e *engine) { e.flood(e.some(1)[0], 2000, minutes(3)) }},
		{.18, "zone a of London falls", func(e *engine) { e.kill(e.of("london", "a"), zoneLost, minutes(15)) }},
		{.28, "heartbeats 8 s late", func(e *engine) { e.late = 8 }},
		{.32, "heartbeats in time", func(e *engine) { e.late = 0 }},
		{.40, "Frankfurt falls", func(e *engine) { e.kill(e.of("frankfurt", ""), regionLost, minutes(20)) }},
		{crowdFrom, "a crowd comes", nil},
		{.63, fmt.Sprintf("%d nodes killed in the crowd", few), func(e *engine) { e.kill(e.some(few), nodeKilled, minutes(10)) }},
		{.64, "heartbeats 4 s late", func(e *engine) { e.late = 4 }},
		{.66, "heartbeats in time", func(e *engine) { e.late = 0 }},
		{crowdTo, "the crowd leaves", nil},
	}
}

// The crowd grows and shrinks within crowdRamp of the measured time.
const (
	crowdFrom = .60
	crowdTo   = .68
	crowdRamp = .015
)

// crowdAt is the factor of the crowd at a share of the measured time.
func crowdAt(at float64) float64 {
	up := min(1, max(0, (at-crowdFrom)/crowdRamp))
	down := min(1, max(0, (at-crowdTo)/crowdRamp))
	return 1 + (flash-1)*(up-down)
}

// runDay lets one policy place the day. The busiest moment is that of the crowd.
func runDay(ctx context.Context, cfg Config, w *world, p policy, ourOwn bool) (*day, error) {
	ticks := int64(cfg.Hours * 3600)
	e := newEngine(w, p, cfg.Seed, w.seats*usual, w.mostAt-cfg.Hours*(crowdFrom+crowdTo)/2-warmUp/3600.)
	d := &day{name: p.name()}
	e.surge = 0
	cfg.Progress.Status(fmt.Sprintf("day of %d nodes, %s: warming up", cfg.Nodes, p.name()))
	if err := e.run(ctx, warmUp, func() { e.surge = min(1, float64(e.now)/3000) }); err != nil {
		return nil, err
	}
	e.tally = tally{By: map[string]float64{}}
	d.rtts = bench.Series{Plot: "Mean round trip", Name: p.name(), Unit: "ms"}
	d.worst = bench.Series{Plot: "Fullest node", Name: p.name(), Unit: "%"}
	d.load = bench.Series{Plot: "Users in calls", Name: "users", Unit: "users"}
	d.excess = bench.Series{Plot: "Round trip over the best possible", Name: p.name(), Unit: "%"}
	steps := timeline(cfg.Nodes, ticks)
	every := max(30, ticks/720)
	var sum float64
	var troubled int64 // until when calls live that were placed in need
	err := e.run(ctx, ticks, func() {
		now := e.now - warmUp
		at := float64(now) / float64(ticks)
		e.surge = crowdAt(at)
		for len(steps) > 0 && at >= steps[0].at {
			if ourOwn && steps[0].text == "a crowd comes" {
				d.calls, d.most = e.live, e.users
				d.speed = speed(p.(*ours), cfg.Seed)
			}
			if steps[0].do != nil {
				steps[0].do(e)
			}
			troubled = now + 2*lifeMean
			steps = steps[1:]
		}
		if now%every == 0 {
			sum += e.rtts
			d.users += float64(e.users)
			t := float64(now)
			d.rtts.Points = append(d.rtts.Points, bench.Point{At: t, V: e.rtts / float64(max(1, e.users))})
			d.worst.Points = append(d.worst.Points, bench.Point{At: t, V: 100 * e.fullest()})
			d.load.Points = append(d.load.Points, bench.Point{At: t, V: float64(e.users)})
			cfg.Progress.Status(fmt.Sprintf("day of %d nodes, %s: hour %.1f of %.1f, %d users in %d calls", cfg.Nodes, p.name(), t/3600, cfg.Hours, e.users, e.live))
		}
		if ourOwn && now%(5*every) == 0 {
			if best, ok := e.best(); ok {
				part := &d.usual
				switch {
				case at > crowdFrom && at <= crowdTo+crowdRamp:
					part = &d.crowd
				case now < troubled:
					part = &d.after
				}
				part.got, part.best = part.got+e.rtts, part.best+best
				d.excess.Points = append(d.excess.Points, bench.Point{At: float64(now), V: 100 * (e.rtts/best - 1)})
			}
		}
	})
	d.tally = e.tally
	d.rtt = sum / max(1, d.users)
	return d, err
}

// fullest is how full the fullest node really is.
func (e *engine) fullest() float64 {
	most := 0.0
	for i := range e.hosts {
		if e.hosts[i].there {
			most = max(most, placement.Fullness(e.load(int32(i)), e.w.nodes[i].capacity))
		}
	}
	return most
}

// speed is how many new calls a second one core places and reserves for, among
// the nodes as they are: in the best of some parts, as what else the machine does only
// ever slows it.
func speed(o *ours, seed uint64) float64 {
	const parts, rounds = 5, 20_000
	draw := rand.New(rand.NewPCG(seed, 9))
	a := ask{avoid: -1, now: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), draw: draw}
	var best float64
	for range parts {
		best = max(best, placeMany(o, &a, rounds))
	}
	return best
}

// placeMany is speed in one part.
func placeMany(o *ours, a *ask, rounds int) float64 {
	placed := make([]int32, 0, rounds)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	for i := range rounds {
		a.call, a.metro, a.access, a.more = i, int32(a.draw.IntN(len(o.w.metros))), i%accesses, 1+i%4
		if n := o.choose(a); n >= 0 {
			o.reserve(n, a.more)
			placed = append(placed, n)
		}
		// Calls of the last seconds alone are reserved for.
		if k := len(placed); k > 1000 {
			o.reserve(placed[k-1001], -(1 + (i-1000)%4))
		}
	}
	took := threadTime() - began
	for k := max(0, len(placed)-1000); k < len(placed); k++ {
		o.reserve(placed[k], -(1 + k%4))
	}
	return float64(len(placed)) / took.Seconds()
}

// threadTime is the CPU time of this thread.
func threadTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return time.Duration(time.Now().UnixNano()) // never so on Linux
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// month is what the fleet went through in one, and what it cost listeners.
type month struct {
	tally                                            tally
	killed, frozen, drains, upgrades, zones, regions int
	outages, crowds, lossy, floods                   int
}

// runMonth lets nodes die, drain and be upgraded for a month: every node is killed
// once a month, one in three freezes, one in three loses packets and one in three is
// flooded for a minute or two, each is drained and upgraded twice; four
// zones and a region fall, the bus is away twice for two minutes, two crowds come.
func runMonth(ctx context.Context, cfg Config) (*month, error) {
	w := newWorld(cfg.MonthNodes)
	e := newEngine(w, newOurs(w), cfg.Seed, w.seats*usual, w.mostAt)
	m := &month{}
	e.surge = 0
	if err := e.run(ctx, warmUp, func() { e.surge = min(1, float64(e.now)/3000) }); err != nil {
		return nil, err
	}
	e.tally = tally{By: map[string]float64{}}
	ticks := int64(cfg.Days * 86400)
	away := func() int64 { return 120 + e.fate.Int64N(600) }
	perMonth := func(times float64) bool { return e.fate.Float64() < times/(30*86400) }
	fleet := float64(cfg.MonthNodes)
	var busBack, crowdEnds int64
	err := e.run(ctx, ticks, func() {
		if (e.now-warmUp)%86400 == 0 {
			cfg.Progress.Say("month of %d nodes: day %.0f of %.0f", cfg.MonthNodes, float64(e.now-warmUp)/86400, cfg.Days)
		}
		if e.bus && e.now >= busBack {
			e.bus = false
		}
		if e.surge > 1 && e.now >= crowdEnds {
			e.surge = 1
		}
		if perMonth(fleet) {
			m.killed++
			e.kill(e.some(1), nodeKilled, away())
		}
		if perMonth(fleet / 3) {
			m.frozen++
			e.kill(e.some(1), nodeFrozen, away())
		}
		if perMonth(2*fleet) && !e.bus {
			m.drains++
			for _, n := range e.some(1) {
				e.drain(n, away())
			}
		}
		if perMonth(2 * fleet) {
			m.upgrades++
			for _, n := range e.some(1) {
				e.upgrade(n)
			}
		}
		if perMonth(fleet / 3) {
			m.lossy++
			for _, n := range e.some(1) {
				e.sicken(n, .05, away()/4)
			}
		}
		if perMonth(fleet / 3) {
			m.floods++
			for _, n := range e.some(1) {
				e.flood(n, 2000, away()/4)
			}
		}
		if perMonth(4) {
			m.zones++
			n := w.nodes[e.fate.IntN(len(w.nodes))]
			e.kill(e.of(w.regions[n.region].name, n.zone), zoneLost, 900)
		}
		if perMonth(1) {
			m.regions++
			e.kill(e.of(w.regions[e.fate.IntN(len(w.regions))].name, ""), regionLost, 3600)
		}
		if perMonth(2) && !e.bus {
			m.outages++
			e.bus, busBack = true, e.now+120
		}
		if perMonth(2) {
			m.crowds++
			e.surge, crowdEnds = flash, e.now+2400
		}
	})
	m.tally = e.tally
	return m, err
}

// exactCase places calls of eight on 50 nodes until 5 of 7.2 seats are taken. As
// all calls are alike, a whole flow is a placement of whole calls, so the cheapest
// flow is the best possible one. It returns both means in milliseconds.
func exactCase(seed uint64) (got, best float64) {
	const members = 8
	w := newWorld(50)
	o := newOurs(w).(*ours)
	draw := rand.New(rand.NewPCG(seed, 4))
	load := make([]int, len(w.nodes))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	beat := func() {
		now = now.Add(tick)
		for i := range w.nodes {
			s := placement.Seats(load[i])
			o.observe(now, int32(i), edgeagent.Ready, edgeagent.Load{PPS: s.PPS, BPS: s.BPS, Sessions: s.Sessions})
		}
	}
	beat()
	want := make([]float64, len(w.metros))
	w.demand(w.mostAt, w.seats*5/7.2, want)
	supply := make([]int, len(want))
	var order []int32
	for m, users := range want {
		supply[m] = int(users / members)
		for range supply[m] {
			order = append(order, int32(m))
		}
	}
	draw.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	reserved := map[int32]int{}
	mean := (accessMin + accessMax) / 2
	for i, m := range order {
		if i%100 == 0 {
			for n, k := range reserved {
				o.reserve(n, -k)
				load[n] += k
			}
			clear(reserved)
			beat()
		}
		n := o.choose(&ask{call: i, metro: m, access: i % accesses, more: members, avoid: -1, now: now, draw: draw})
		if n < 0 {
			return 0, 0 // there is room for all: found wanting by the goal
		}
		o.reserve(n, members)
		reserved[n] += members
		got += w.rtt[m][w.nodes[n].region] + mean
	}
	room := make([]int, len(w.nodes))
	cost := make([][]float64, len(want))
	for i, n := range w.nodes {
		room[i] = int(n.seats) / members
	}
	for m := range cost {
		cost[m] = make([]float64, len(w.nodes))
		for i, n := range w.nodes {
			cost[m][i] = w.rtt[m][n.region]
		}
	}
	best, _ = transport(supply, room, cost)
	n := float64(len(order))
	return got / n, best/n + mean
}
