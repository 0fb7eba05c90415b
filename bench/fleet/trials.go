package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"voicefleet/bench/internal/netns"
	"voicefleet/bench/internal/target"
)

// trial is a kind of fault, and what listeners may notice of it.
type trial struct {
	name     string // as --only has it
	title    string
	isolated bool // needs cables and filters
	rounds   func(Plan) int
	do       func(ctx context.Context, r *run, one *round, i int) error
	goals    []goal
}

// goal is a bound of a figure over all rounds.
type goal struct {
	name     string
	unit     string
	bound    float64
	atLeast  bool
	gap      bool // it is about what was heard when, not only about what was lost
	isolated bool // only where each node has a host of its own
	of       func(res *result) float64
}

// lateAtMost is how late the harness may be for a round to count.
func (t *trial) lateAtMost() time.Duration {
	if slices.ContainsFunc(t.goals, func(g goal) bool { return g.gap }) {
		return lateAtMost
	}
	return lateUnsent
}

// result is a trial with its rounds.
type result struct {
	trial
	rounds []*round
}

func kills(p Plan) int  { return p.Kills }
func others(p Plan) int { return p.Others }

func once(Plan) int { return 1 }

// trials are all there are. Whoever is killed or cut off has calls, and rounds go on
// from where the last one left everybody.
var trials = []trial{
	{name: "engine", title: "engine killed", rounds: kills, do: killEngine, goals: []goal{
		gapGoal(0.99, 0.3), recoveredGoal,
		mostGoal("paths opened or sessions resumed by clients", "times", func(one *round) float64 { return float64(one.Moved + one.Resumed) }, 0),
		farGoal,
	}},
	{name: "agent", title: "agent killed alone", rounds: others, do: killAgent, goals: []goal{lostGoal, movedGoal}},
	{name: "node", title: "node killed", rounds: kills, do: killNode, goals: []goal{
		gapGoal(0.5, 1), gapGoal(0.99, 1.5), gapGoal(1, 2), recoveredGoal, endedGoal, splitGoal,
	}},
	{name: "freeze", title: "node frozen", rounds: others, do: freeze, goals: silentGoals},
	{name: "cable", title: "cable pulled", isolated: true, rounds: others, do: pullCable, goals: silentGoals},
	{name: "cut", title: "cut one way", isolated: true, rounds: others, do: cut, goals: silentGoals},
	{name: "drain", title: "drain", rounds: others, do: drain, goals: []goal{
		mostGoal("time until it is empty", "s", figure("seconds"), 30), gapGoal(0.99, 0.04), recoveredGoal, endedGoal,
	}},
	{name: "stall", title: "bus stalls for 1 s", rounds: others, do: stall, goals: []goal{movedGoal, lostGoal}},
	{name: "loss", title: "30 % loss", isolated: true, rounds: others, do: lose, goals: []goal{
		mostGoal("nodes taken for lost", "nodes", figure("declared lost"), 0), endedGoal,
	}},
	{name: "central", title: "one of two central killed", rounds: others, do: killCentral, goals: []goal{
		lostGoal, mostGoal("slowest join", "s", figure("slowest join"), 2), mostGoal("joins that failed", "joins", figure("joins failed"), 0),
	}},
	{name: "bus", title: "bus restarted", rounds: others, do: restartBus, goals: []goal{movedGoal, lostGoal, splitGoal}},
	{name: "outage", title: "central, bus and store down", rounds: once, do: outage, goals: outageGoals},
	{name: "herd", title: "cold start of all but the edges", rounds: once, do: herd, goals: []goal{
		lostGoal, endedGoal, mostGoal("until all are back, p99", "s", figure("back p99"), 10), clientRateGoal,
	}},
}

// silentGoals are those of a node that nobody hears of any more.
var silentGoals = []goal{
	gapGoal(0.99, 2.5), gapGoal(1, 3), recoveredGoal, endedGoal, splitGoal,
	mostGoal("packets of the returned node to those who left it", "packets", figure("zombie packets"), 0),
}

var outageGoals = []goal{
	lostGoal, mostGoal("slowest join after the return", "s", figure("slowest join"), 2), mostGoal("requests on return, of the normal rate", "times", figure("request rate"), 2), clientRateGoal,
}

var clientRateGoal = mostGoal("requests of clients on return, of the normal rate", "times", figure("client request rate"), 2)

// gapGoal bounds a quantile of the gaps of all listeners who were on the victim, over
// all rounds.
func gapGoal(q, bound float64) goal {
	name := fmt.Sprintf("gap p%g", 100*q)
	switch q {
	case 0.5:
		name = "gap median"
	case 1:
		name = "gap of the worst listener"
	}
	return goal{name: name, unit: "s", bound: bound, gap: true, of: func(res *result) float64 { return quantile(gaps(res.hit()), q) }}
}

var recoveredGoal = goal{name: "listeners recovered", unit: "%", bound: 100, atLeast: true, of: func(res *result) float64 {
	return 100 * float64(recovered(res.hit())) / float64(max(len(res.hit()), 1))
}}

var (
	lostGoal = mostGoal("media packets lost", "packets", func(one *round) float64 {
		hit, _ := lost(one.Hit)
		spared, _ := lost(one.Spared)
		return float64(hit + spared)
	}, 0)
	movedGoal = mostGoal("paths opened by clients", "paths", func(one *round) float64 { return float64(one.Moved) }, 0)
	endedGoal = mostGoal("calls that ended", "calls", func(one *round) float64 { return float64(one.Ended) }, 0)
	splitGoal = mostGoal("calls split over two nodes", "calls", func(one *round) float64 { return float64(one.Split) }, 0)
)

// farGoal is that there were listeners by a relay and by another node.
var farGoal = goal{name: "rounds with a listener by a relay and one by another node", unit: "%", bound: 50, atLeast: true, isolated: true,
	of: func(res *result) float64 {
		with := 0
		for _, one := range res.rounds {
			if one.Figures[farFigure] == float64(farKinds) {
				with++
			}
		}
		return 100 * float64(with) / float64(max(len(res.rounds), 1))
	}}

// farFigure counts those two, whose gaps are figures, too.
const farFigure = "listeners from afar"

// mostGoal bounds the greatest of all rounds.
func mostGoal(name, unit string, of func(one *round) float64, bound float64) goal {
	return goal{name: name, unit: unit, bound: bound, of: func(res *result) float64 {
		most := 0.0
		for _, one := range res.rounds {
			most = max(most, of(one))
		}
		return most
	}}
}

func figure(name string) func(one *round) float64 {
	return func(one *round) float64 { return one.Figures[name] }
}

// hit is all listeners of all rounds who were on the victim.
func (res *result) hit() []Heard {
	var all []Heard
	for _, one := range res.rounds {
		all = append(all, one.Hit...)
	}
	return all
}

// carrying are the edges that each carry at least a tenth of all.
func (r *run) carrying() []*target.Unit {
	s := r.crowd.stand()
	var fit []*target.Unit
	for _, e := range r.fleet.Edges {
		if 10*s.nodes[e.Name] >= len(r.crowd.members) {
			fit = append(fit, e)
		}
	}
	return fit
}

// pick draws one of those.
func (r *run) pick() *target.Unit {
	fit := r.carrying()
	return fit[r.lots.IntN(len(fit))]
}

// pickRested draws one whose engine was not killed within engineRest, and waits when
// there is none.
func (r *run) pickRested(ctx context.Context) (*target.Unit, error) {
	for {
		fit := slices.DeleteFunc(r.carrying(), func(e *target.Unit) bool { return time.Since(r.killed[e.Name]) < engineRest })
		if len(fit) > 0 {
			e := fit[r.lots.IntN(len(fit))]
			r.killed[e.Name] = time.Now()
			return e, nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

const (
	// seenFor is how long a window goes on after a fault whose end is expected within
	// 3 s: whoever hears nothing by then has not recovered. engineSeen is that of one
	// that is over in 300 ms.
	seenFor    = 4500 * time.Millisecond
	engineSeen = 2 * time.Second
	// engineRest is how long an engine has run before it is killed (again). One that ends
	// sooner is taken for a crash at start and kept waiting, and the third in 10 s has
	// its node drained: other faults than this one.
	engineRest = 12 * time.Second
	// backFor is how long it goes on after the bus is back, for what comes of that late.
	backFor = 8 * time.Second
	// zombieFor is how long a returned node is watched: it may forward nothing, and what
	// it forwards comes in the first moments, before it has been told.
	zombieFor = 3 * time.Second
)

// hurt does something to a node in a window.
func (r *run) hurt(ctx context.Context, one *round, victim *target.Unit, seen time.Duration, do func() error, far ...*farListener) error {
	w, err := r.watch(ctx, far...)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := sleep(ctx, seen); err != nil {
		return err
	}
	return w.conclude(ctx, one, victim.Name)
}

func killEngine(ctx context.Context, r *run, one *round, _ int) error {
	victim, err := r.pickRested(ctx)
	if err != nil {
		return err
	}
	if r.network == nil { // all nodes share one address, and the port of relays
		return r.hurt(ctx, one, victim, engineSeen, victim.KillEngine)
	}
	far, err := r.seatFar(ctx, victim.Name)
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil:
		r.say("        without listeners from afar: %v", err)
		one.Figures[farFigure] = 0
		return r.hurt(ctx, one, victim, engineSeen, victim.KillEngine)
	}
	defer far.close()
	if err := r.hurt(ctx, one, victim, engineSeen, victim.KillEngine, far[:]...); err != nil {
		return err
	}
	heard := one.Hit[len(one.Hit)-len(far):]
	one.Figures[farFigure] = float64(len(heard))
	one.Figures["gap by relay s"], one.Figures["gap by another node s"] = heard[relayed].Gap.Seconds(), heard[faraway].Gap.Seconds()
	return nil
}

func killAgent(ctx context.Context, r *run, one *round, _ int) error {
	victim := r.pick()
	return r.hurt(ctx, one, victim, seenFor, func() error {
		return errors.Join(victim.KillProgram(), victim.Start(ctx))
	})
}

func killNode(ctx context.Context, r *run, one *round, _ int) error {
	victim := r.pick()
	return r.hurt(ctx, one, victim, seenFor, victim.Kill)
}

// silence makes a node silent, and then lets it come back to calls that have left it.
func (r *run) silence(ctx context.Context, one *round, victim *target.Unit, do, undo func() error) error {
	if err := r.hurt(ctx, one, victim, seenFor, do); err != nil {
		return err
	}
	before := r.crowd.haunted()
	if err := undo(); err != nil {
		return err
	}
	if err := sleep(ctx, zombieFor); err != nil {
		return err
	}
	zombies := uint64(0)
	for p, n := range r.crowd.haunted() {
		if was, there := before[p]; there {
			zombies += n - was
		}
	}
	one.Figures["zombie packets"] = float64(zombies)
	return nil
}

func freeze(ctx context.Context, r *run, one *round, _ int) error {
	victim := r.pick()
	return r.silence(ctx, one, victim, victim.Freeze, victim.Thaw)
}

func pullCable(ctx context.Context, r *run, one *round, _ int) error {
	victim := r.pick()
	host := r.hosts[victim.Name]
	return r.silence(ctx, one, victim, func() error { return host.Link(false) }, func() error { return host.Link(true) })
}

// cut takes turns: all or only the media, out of the node or into it.
func cut(ctx context.Context, r *run, one *round, i int) error {
	victim := r.pick()
	host := r.hosts[victim.Name]
	way := []netns.Way{netns.Out, netns.In}[i%2]
	match := []string{"", "meta l4proto udp"}[i/2%2]
	return r.silence(ctx, one, victim, func() error { return host.Filter(match, way) }, host.Mend)
}

// drainWithin is how long a drain may take before the round is given up.
const drainWithin = 60 * time.Second

// drain empties the node that has everybody. Rounds leave all but one node draining, so
// that the next victim has everybody, too; the second drain of a round is that.
func drain(ctx context.Context, r *run, one *round, _ int) error {
	victim, err := r.gather(ctx)
	if err != nil {
		return err
	}
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if _, err := r.fleet.Ctl(ctx, "drain", victim.Name, "--reason", "fleet test"); err != nil {
		return err
	}
	if err := r.empty(ctx, victim); err != nil {
		return err
	}
	one.Figures["seconds"] = time.Since(begun).Seconds()
	if err := sleep(ctx, runUp); err != nil {
		return err
	}
	if err := w.conclude(ctx, one, victim.Name); err != nil {
		return err
	}
	_, err = r.fleet.Ctl(ctx, "undrain", victim.Name)
	return err
}

// gather brings everybody to one node by draining the others.
func (r *run) gather(ctx context.Context) (*target.Unit, error) {
	i := r.lots.IntN(len(r.fleet.Edges))
	victim := r.fleet.Edges[i]
	rest := slices.Concat(r.fleet.Edges[:i], r.fleet.Edges[i+1:])
	for _, e := range rest {
		if _, err := r.fleet.Ctl(ctx, "drain", e.Name, "--reason", "fleet test"); err != nil {
			return nil, err
		}
	}
	for _, e := range rest {
		if err := r.empty(ctx, e); err != nil {
			return nil, err
		}
	}
	for _, e := range rest {
		if _, err := r.fleet.Ctl(ctx, "undrain", e.Name); err != nil {
			return nil, err
		}
	}
	return victim, r.crowd.settled(ctx, inWithin)
}

// empty waits until nobody is on a node.
func (r *run) empty(ctx context.Context, e *target.Unit) error {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for {
		left := r.crowd.stand().nodes[e.Name]
		if left == 0 {
			return nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("drain %s: %d of %d sessions are left after %v", e.Name, left, len(r.crowd.members), drainWithin)
		}
	}
}

// stallFor is a pause of a bus that nobody may take for the death of nodes.
const stallFor = time.Second

func stall(ctx context.Context, r *run, one *round, _ int) error {
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	for _, b := range r.fleet.Buses {
		err = errors.Join(err, b.Freeze())
	}
	err = errors.Join(err, sleep(ctx, stallFor))
	for _, b := range r.fleet.Buses {
		err = errors.Join(err, b.Thaw())
	}
	if err = errors.Join(err, sleep(ctx, seenFor)); err != nil {
		return err
	}
	return w.conclude(ctx, one, "")
}

// lossFor and lossPercent are a bad network. A node whose listeners all lose packets may
// be relieved of its calls, without a gap, which takes 5 to 10 s; nobody may take it for
// dead.
const (
	lossFor     = 12 * time.Second
	lossPercent = 30
)

func lose(ctx context.Context, r *run, one *round, _ int) error {
	victim := r.pick()
	begun := time.Now()
	err := r.hurt(ctx, one, victim, lossFor, func() error { return r.hosts[victim.Name].Lose(lossPercent) })
	if err != nil {
		return err
	}
	out, err := r.fleet.Ctl(ctx, "journal")
	one.Figures["declared lost"] = float64(lostSince(out, begun))
	return err
}

// lostSince is how often a journal says that a node was lost since a time, to the
// second: its lines begin with the time, as in "2006-01-02 15:04:05  lost edge1: why".
func lostSince(journal string, since time.Time) int {
	n := 0
	for line := range strings.Lines(journal) {
		stamp, deed, _ := strings.Cut(line, "  ")
		at, err := time.ParseInLocation(time.DateTime, stamp, time.Local)
		if err == nil && !at.Before(since.Truncate(time.Second)) && strings.HasPrefix(deed, "lost ") {
			n++
		}
	}
	return n
}

func killCentral(ctx context.Context, r *run, one *round, i int) error {
	victim := r.fleet.Centrals[i%len(r.fleet.Centrals)]
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	v := r.visits(ctx)
	err = sleep(ctx, 2*time.Second)
	if err == nil {
		err = victim.Kill()
	}
	err = errors.Join(err, sleep(ctx, seenFor))
	slowest, failed, n := v.end()
	if err != nil {
		return err
	}
	one.Figures["slowest join"], one.Figures["joins failed"], one.Figures["joins"] = slowest.Seconds(), float64(failed), float64(n)
	return w.conclude(ctx, one, "")
}

func restartBus(ctx context.Context, r *run, one *round, _ int) error {
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	for _, b := range r.fleet.Buses {
		err = errors.Join(err, b.Kill())
	}
	if err = errors.Join(err, sleep(ctx, 2*time.Second), launchAll(ctx, r.fleet.Buses), sleep(ctx, backFor)); err != nil {
		return err
	}
	return w.conclude(ctx, one, "")
}

// launchAll starts units at the same time and returns when all say that they are up.
func launchAll(ctx context.Context, units []*target.Unit) error {
	errs := make([]error, len(units))
	done := make(chan struct{}, len(units))
	for i, u := range units {
		go func() { errs[i] = u.Start(ctx); done <- struct{}{} }()
	}
	for range units {
		<-done
	}
	return errors.Join(errs...)
}

// outage ends all of central, the bus, and text with the store that it has in it, for as
// long as the plan says; meanwhile people try to join.
func outage(ctx context.Context, r *run, one *round, _ int) error {
	down := slices.Concat(r.fleet.Texts, r.fleet.Centrals, r.fleet.Buses)
	meter, clients := r.requests(ctx, askedByRooms), r.requests(ctx, askedByClients)
	v := r.visits(ctx)
	defer func() { v.end(); meter.end(); clients.end() }()
	if err := sleep(ctx, visitStay+normalFor); err != nil { // guests come one after the other at first
		return err
	}
	normal, usual := meter.normal(), clients.normal()
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	for _, u := range down {
		err = errors.Join(err, u.Kill())
	}
	if err = errors.Join(err, sleep(ctx, r.config.Plan.Outage)); err != nil {
		return err
	}
	started := time.Now()
	// A cluster chooses its leaders first; from when central and text say that they are
	// ready on, nobody may have to wait.
	if err = errors.Join(launchAll(ctx, down), r.fleet.AwaitReady(ctx, slices.Concat(r.fleet.Texts, r.fleet.Centrals)...)); err != nil {
		return err
	}
	back := time.Now()
	one.Figures["start until ready s"] = back.Sub(started).Seconds()
	v.since(back)
	if err := sleep(ctx, backFor); err != nil {
		return err
	}
	slowest, failed, n := v.end()
	one.Figures["slowest join"], one.Figures["joins failed after the return"], one.Figures["joins"] = slowest.Seconds(), float64(failed), float64(n)
	one.Figures["normal requests/s"] = normal
	one.Figures["request rate"] = r.burst("requests", meter, started) / max(normal, 1)
	one.Figures["normal requests of clients/s"] = usual
	one.Figures["client request rate"] = r.burst("requests of clients", clients, started) / max(usual, 1)
	return w.conclude(ctx, one, "")
}

// burst is the greatest rate of requests after a time. It tells what they were.
func (r *run) burst(title string, q *requests, since time.Time) float64 {
	most, at := q.peak(since)
	r.say("        %s: at most %.1f/s: %s\n          before: %s", title, most, q.kinds(at), q.before)
	return most
}

// herd ends all that clients are connected to but the media, so that all come back at
// once.
func herd(ctx context.Context, r *run, one *round, _ int) error {
	down := slices.Concat(r.fleet.Texts, r.fleet.Centrals, r.fleet.Buses)
	clients := r.requests(ctx, askedByClients)
	defer clients.end()
	if err := sleep(ctx, normalFor); err != nil {
		return err
	}
	usual := clients.normal()
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	for _, u := range down {
		err = errors.Join(err, u.Kill())
	}
	if err = errors.Join(err, sleep(ctx, 10*time.Second)); err != nil {
		return err
	}
	started := time.Now()
	if err = errors.Join(launchAll(ctx, slices.Concat(r.fleet.Buses, r.fleet.Centrals)), launchAll(ctx, r.fleet.Texts)); err != nil {
		return err
	}
	begun := time.Now()
	back, err := r.crowd.connected(ctx, begun, inWithin)
	if err != nil {
		return err
	}
	one.Figures["back p99"] = quantile(back, 0.99)
	if err := sleep(ctx, seenFor); err != nil {
		return err
	}
	one.Figures["normal requests of clients/s"] = usual
	one.Figures["client request rate"] = r.burst("requests of clients", clients, started) / max(usual, 1)
	return w.conclude(ctx, one, "")
}
