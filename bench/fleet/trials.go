package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/bench/internal/cgroup"
	"voicefleet/bench/internal/netns"
	"voicefleet/bench/internal/target"
	"voicefleet/edgeagent"
)

// trial is a kind of fault, and what listeners may notice of it.
type trial struct {
	name     string // as --only has it
	title    string
	isolated bool // needs cables and filters
	tight    bool // needs control groups of memory
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
	timed    bool // it is about times or rates, which a busy machine misses
	isolated bool // only where each node has a host of its own
	packets  bool // it counts packets: of those that are due, some few may be spared
	of       func(res *result) float64
}

// judged says whether a goal of a trial is one of this run.
func (r *run) judged(t *trial, g goal) bool {
	return !(g.isolated && r.network == nil || (g.timed || g.gap) && slices.Contains(r.config.Untimed, t.name))
}

// sparedOf is the share of packets that a machine with other work may lose, where no
// times are judged: a socket's buffer overflows when it stands still.
const sparedOf = 1e-4

// bound is that of a goal in this run.
func (r *run) bound(res *result, g goal) float64 {
	if !g.packets || !slices.Contains(r.config.Untimed, res.name) {
		return g.bound
	}
	due := uint64(0)
	for _, one := range res.rounds {
		_, hit := lost(one.Hit)
		_, spared := lost(one.Spared)
		due = max(due, hit+spared)
	}
	return g.bound + math.Floor(sparedOf*float64(due))
}

// lateAtMost is how late the harness may be, and how much the host may take of a core at
// once, for a round to count: no more than half of the shortest gap that is judged, as what
// is sent late is heard late.
func (r *run) lateAtMost(t *trial) time.Duration {
	most := lateUnsent
	for _, g := range t.goals {
		if g.gap && r.judged(t, g) {
			most = min(most, lateAtMost, time.Duration(g.bound*float64(time.Second))/2)
		}
	}
	return most
}

// result is a trial with its rounds.
type result struct {
	trial
	rounds []*round
}

func kills(p Plan) int  { return p.Kills }
func others(p Plan) int { return p.Others }

func once(Plan) int { return 1 }

// half is of faults that come in two forms, or are two in one.
func half(p Plan) int { return max(p.Others/2, 1) }

// few is of faults whose rounds take long, or have to wait for one another.
func few(p Plan) int { return max(p.Others/8, 1) }

// trials are all there are. Whoever is killed or cut off has calls, and rounds go on
// from where the last one left everybody.
var trials = []trial{
	{name: "engine", title: "engine killed", rounds: kills, do: killEngine, goals: []goal{
		gapGoal(0.99, 0.3), recoveredGoal,
		mostGoal("paths opened or sessions resumed by clients", "times", func(one *round) float64 { return float64(one.Moved + one.Resumed) }, 0),
		farGoal,
	}},
	{name: "agent", title: "agent killed alone", rounds: others, do: killAgent, goals: []goal{lostGoal, movedGoal, relayGapGoal, otherGapGoal, farBackGoal, farGoal}},
	{name: "upgrade", title: "node upgraded", rounds: half, do: upgrade, goals: []goal{
		gapGoal(0.99, 0.3), recoveredGoal, movedGoal, endedGoal, relayGapGoal, otherGapGoal, farBackGoal, farGoal,
	}},
	{name: "node", title: "node killed", rounds: kills, do: killNode, goals: []goal{
		gapGoal(0.5, 1), gapGoal(0.99, 1.5), gapGoal(1, 2), heardGoal, recoveredGoal, endedGoal, splitGoal,
	}},
	{name: "freeze", title: "node frozen", rounds: others, do: freeze, goals: silentGoals},
	{name: "cable", title: "cable pulled", isolated: true, rounds: others, do: pullCable, goals: silentGoals},
	{name: "cut", title: "cut one way", isolated: true, rounds: others, do: cut, goals: silentGoals},
	{name: "deaf", title: "node cut off from the bus", isolated: true, rounds: half, do: deafen, goals: []goal{
		movedGoal, lostGoal, splitGoal, leastGoal("times it was suspected", figure(suspectFigure), 1),
		timedGoal("until it is no suspect any more", "s", figure("believed s"), 2), mostGoal("joins that failed", "joins", figure("joins failed"), 0),
		timedGoal("slowest join", "s", figure("slowest join"), 6),
	}},
	{name: "drain", title: "drain", rounds: others, do: drain, goals: []goal{
		timedGoal("time until it is empty", "s", figure("seconds"), 30), gapGoal(0.99, 0.04), heardGoal, recoveredGoal, endedGoal,
	}},
	{name: "stall", title: "bus stalls for 1 s", rounds: others, do: stall, goals: []goal{movedGoal, lostGoal}},
	{name: "loss", title: "30 % loss", isolated: true, rounds: half, do: lose, goals: lossGoals},
	{name: "lossbus", title: "30 % loss, of the bus, too", isolated: true, rounds: half, do: loseBus, goals: lossGoals},
	{name: "losslink", title: "5 % loss between two nodes", isolated: true, rounds: few, do: loseLink, goals: []goal{
		timedGoal("until a call on both is on one", "s", figure(foundFigure), 10), farGap("gap of a listener by another node", faraway, 1), farBackGoal,
		mostGoal("packets lost to it afterwards", "packets", figure(afterFigure), 0), mostGoal("nodes taken for bad or lost", "nodes", figure("nodes blamed"), 0),
		lostGoal, movedGoal, endedGoal,
	}},
	{name: "memory", title: "node short of memory", tight: true, rounds: few, do: squeeze, goals: []goal{
		timedGoal("until it says that it is full", "s", figure("full s"), 3), timedGoal("until it takes newcomers again", "s", figure("free s"), 10),
		mostGoal("newcomers on it meanwhile", "sessions", figure("newcomers"), 0), mostGoal("joins that failed", "joins", figure("joins failed"), 0),
		lostGoal, endedGoal,
	}},
	{name: "central", title: "one of two central killed", rounds: others, do: killCentral, goals: []goal{
		lostGoal, timedGoal("slowest join", "s", figure("slowest join"), 2), mostGoal("joins that failed", "joins", figure("joins failed"), 0),
	}},
	{name: "bus", title: "bus restarted", rounds: others, do: restartBus, goals: []goal{movedGoal, lostGoal, splitGoal}},
	{name: "outage", title: "central, bus and store down", rounds: once, do: outage, goals: outageGoals},
	{name: "herd", title: "cold start of all but the edges", rounds: others, do: herd, goals: []goal{
		lostGoal, endedGoal, timedGoal("until all are back, p99", "s", figure("back p99"), 10), clientRateGoal,
	}},
}

// silentGoals are those of a node that nobody hears of any more.
var silentGoals = []goal{
	gapGoal(0.99, 2.5), gapGoal(1, 3), recoveredGoal, endedGoal, splitGoal,
	mostGoal("packets of the returned node to those who left it", "packets", figure("zombie packets"), 0),
}

// lossGoals are those of a bad network: the node lives, is found to be bad, and is left.
var lossGoals = []goal{
	timedGoal("until it is found", "s", figure(foundFigure), 10),
	mostGoal("sessions left on it at the end", "sessions", figure("sessions left"), 0),
	mostGoal("nodes taken for lost", "nodes", figure("declared lost"), 0),
	mostGoal("listeners falsely mended", "mends", figure("mends"), 0),
	recoveredGoal, endedGoal,
}

// foundFigure is how long it takes until the journal says that a node is degraded.
const foundFigure = "found s"

var outageGoals = []goal{
	lostGoal, endedGoal, mostGoal("guests who did not get in after the return", "guests", figure(outFigure), 0),
	timedGoal("slowest join after the return", "s", figure("slowest join"), 2), timedGoal("requests on return, of the normal rate", "times", figure("request rate"), 2), clientRateGoal,
}

// outFigure is how many guests did not get in after an outage, for all they tried.
const outFigure = "guests left out"

var clientRateGoal = timedGoal("requests of clients on return, of the normal rate", "times", figure("client request rate"), 2)

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

// heardGoal bounds the gap of most listeners also where no times are judged: to be moved
// with all others, or away from a dead node, is no reason to fall silent for long. Of a gap is taken what the harness was late
// in that round, as that may be its own. The bound is the pause of a machine with other
// work.
var heardGoal = mostGoal("gap p99 beyond what the harness was late", "s", func(one *round) float64 {
	return max(quantile(gaps(one.Hit), 0.99)-one.Late.Seconds(), 0)
}, 2)

var recoveredGoal = goal{name: "listeners recovered", unit: "%", bound: 100, atLeast: true, of: func(res *result) float64 {
	return 100 * float64(recovered(res.hit())) / float64(max(len(res.hit()), 1))
}}

var (
	lostGoal = func() goal {
		g := mostGoal("media packets lost", "packets", func(one *round) float64 {
			hit, _ := lost(one.Hit)
			spared, _ := lost(one.Spared)
			return float64(hit + spared)
		}, 0)
		g.packets = true
		return g
	}()
	movedGoal = mostGoal("paths opened by clients", "paths", func(one *round) float64 { return float64(one.Moved) }, 0)
	endedGoal = mostGoal("calls that ended", "calls", func(one *round) float64 { return float64(one.Ended) }, 0)
	splitGoal = mostGoal("calls split over two nodes", "calls", func(one *round) float64 { return float64(one.Split) }, 0)
)

// farGoal is that there were listeners by a relay and by another node.
var farGoal = goal{name: "rounds with a listener by a relay and one by another node", unit: "%", bound: 90, atLeast: true, timed: true, isolated: true,
	of: func(res *result) float64 {
		with := 0
		for _, one := range res.rounds {
			if one.Figures[farFigure] == float64(farKinds) {
				with++
			}
		}
		return 100 * float64(with) / float64(max(len(res.rounds), 1))
	}}

// When an agent ends, what it held itself ends: who listens by its relay connects again,
// after a silence of 0.7 s that shows it, and for a moment no voice crosses to other nodes.
var (
	relayGapGoal = farGap("gap of a listener by its relay", relayed, 2)
	otherGapGoal = farGap("gap of a listener by another node", faraway, 1)
	farBackGoal  = goal{name: "of those, recovered", unit: "%", bound: 100, atLeast: true, isolated: true, of: func(res *result) float64 {
		back, all := 0, 0
		for _, one := range res.rounds {
			back, all = back+recovered(one.Far), all+len(one.Far)
		}
		if all == 0 {
			return 100 // that there were some is another goal
		}
		return 100 * float64(back) / float64(all)
	}}
)

// farGap bounds the gap of one of those two.
func farGap(name string, kind int, bound float64) goal {
	return goal{name: name, unit: "s", bound: bound, gap: true, isolated: true, of: func(res *result) float64 {
		most := 0.0
		for _, one := range res.rounds {
			if len(one.Far) == farKinds {
				most = max(most, one.Far[kind].Gap.Seconds())
			}
		}
		return most
	}}
}

// farFigure counts those two, whose gaps are figures, too.
const (
	farFigure   = "listeners from afar"
	relayFigure = "gap by relay s"
	otherFigure = "gap by another node s"
)

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

// leastGoal is met when the least of all rounds is as much.
func leastGoal(name string, of func(one *round) float64, bound float64) goal {
	return goal{name: name, unit: "times", bound: bound, atLeast: true, of: func(res *result) float64 {
		least := math.Inf(1)
		for _, one := range res.rounds {
			least = min(least, of(one))
		}
		return least
	}}
}

// timedGoal is one about a time or a rate.
func timedGoal(name, unit string, of func(one *round) float64, bound float64) goal {
	g := mostGoal(name, unit, of, bound)
	g.timed = true
	return g
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
	// relaySeen is that of one that relays end with: who listens by one comes anew.
	relaySeen = 7 * time.Second
	// engineRest is how long an engine has run before it is killed (again). One that ends
	// sooner is taken for a crash at start and kept waiting, and the third in 10 s has
	// its node drained: other faults than this one.
	engineRest = 12 * time.Second
	// backFor is how long it goes on after the bus is back, for what comes of that late.
	backFor = 8 * time.Second
	// inAfter is how much longer guests are waited for who are not in by then: they are
	// slow, which is another goal than that they get in.
	inAfter = time.Minute
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

// hurtFar is hurt with listeners from afar on the victim, where they can be had.
func (r *run) hurtFar(ctx context.Context, one *round, victim *target.Unit, seen time.Duration, do func() error) error {
	if r.network == nil { // all nodes share one address, and the port of relays
		return r.hurt(ctx, one, victim, seen, do)
	}
	var far farListeners
	err := errors.New("no try")
	for try := 0; err != nil && try < farTries && ctx.Err() == nil; try++ {
		far, err = r.seatFar(ctx, victim.Name)
	}
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil:
		r.say("        without listeners from afar: %v", err)
		one.Figures[farFigure] = 0
		return r.hurt(ctx, one, victim, seen, do)
	}
	defer far.close()
	if err := r.hurt(ctx, one, victim, seen, do, far[:]...); err != nil {
		return err
	}
	one.Figures[farFigure] = float64(len(one.Far))
	one.Figures[relayFigure], one.Figures[otherFigure] = one.Far[relayed].Gap.Seconds(), one.Far[faraway].Gap.Seconds()
	return nil
}

// killEngine is noticed by nobody, wherever they listen: those from afar are listeners
// of the victim as all others are.
func killEngine(ctx context.Context, r *run, one *round, _ int) error {
	victim, err := r.pickRested(ctx)
	if err != nil {
		return err
	}
	if err := r.hurtFar(ctx, one, victim, engineSeen, victim.KillEngine); err != nil {
		return err
	}
	one.Hit = append(one.Hit, one.Far...)
	one.Moved += one.FarMoved
	one.Resumed += one.FarResumed
	return nil
}

// killAgent ends what the agent holds itself: relays and the links to other nodes. Those
// from afar are judged apart.
func killAgent(ctx context.Context, r *run, one *round, _ int) error {
	victim := r.pick()
	return r.hurtFar(ctx, one, victim, relaySeen, func() error {
		return errors.Join(victim.KillProgram(), victim.Start(ctx))
	})
}

// upgrade has a node go on with the program on its disk, which is the same one.
func upgrade(ctx context.Context, r *run, one *round, _ int) error {
	victim, err := r.pickRested(ctx)
	if err != nil {
		return err
	}
	return r.hurtFar(ctx, one, victim, relaySeen, func() error {
		_, err := r.fleet.Ctl(ctx, "upgrade", victim.Name, "--reason", "fleet test")
		return err
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

const (
	// deafFor is for how long a node and the bus do not hear each other: long enough to be
	// suspected, and less than an answer on its media port is believed.
	deafFor = 12 * time.Second
	// believedWithin is how long it may then take until it is believed for the round to
	// tell so.
	believedWithin = 20 * time.Second
)

// suspectFigure is how often the journal has it that a node is suspect.
const suspectFigure = "suspected"

// deafen takes turns: the node and the bus do not hear each other, or only one of them
// does not. The calls stay, as the media engine serves on and answers; guests come and go
// meanwhile.
func deafen(ctx context.Context, r *run, one *round, i int) error {
	victim := r.pick()
	host := r.hosts[victim.Name]
	ways := [][]netns.Way{{netns.In, netns.Out}, {netns.Out}, {netns.In}}[i%3]
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	v := r.visits(ctx)
	defer v.end()
	begun := time.Now()
	if err := errors.Join(host.Cut(target.PortBus, ways...), sleep(ctx, deafFor), host.Mend()); err != nil {
		return err
	}
	mended := time.Now()
	if err := r.believed(ctx, victim); err != nil {
		return err
	}
	one.Figures["believed s"] = time.Since(mended).Seconds()
	if err := sleep(ctx, runUp); err != nil {
		return err
	}
	slowest, failed, n := v.end()
	one.Figures["slowest join"], one.Figures["joins failed"], one.Figures["joins"] = slowest.Seconds(), float64(failed), float64(n)
	entries, err := r.entries(ctx)
	if err != nil {
		return err
	}
	one.Figures[suspectFigure] = float64(len(since(entries, begun, allocator.DeedSuspect, edgeagent.NodeID(victim.Name))))
	return w.conclude(ctx, one, victim.Name)
}

// believed waits until a node is no suspect any more, or for believedWithin.
func (r *run) believed(ctx context.Context, u *target.Unit) error {
	for end := time.Now().Add(believedWithin); time.Now().Before(end); {
		nodes, err := r.fleet.Nodes(ctx)
		if err == nil && slices.ContainsFunc(nodes, func(n allocator.NodeView) bool {
			return n.Node == edgeagent.NodeID(u.Name) && !n.Suspect && n.State == edgeagent.Ready
		}) {
			return nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
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
	if left := r.emptyWithin(ctx, e, drainWithin); left > 0 {
		return fmt.Errorf("drain %s: %d of %d sessions are left after %v", e.Name, left, len(r.crowd.members), drainWithin)
	}
	return ctx.Err()
}

// emptyWithin waits so long, and tells how many are left.
func (r *run) emptyWithin(ctx context.Context, e *target.Unit, within time.Duration) int {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		left := r.crowd.stand().nodes[e.Name]
		if left == 0 || sleep(ctx, 50*time.Millisecond) != nil {
			return left
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

// lossFor and lossPercent are a bad network. A node whose listeners all lose packets is
// relieved of its calls, without a gap: it is found in 5 to 10 s, and empty soon after,
// which ends the round. Nobody may take it for dead.
const (
	lossFor     = 25 * time.Second
	lossPercent = 30
)

// lose loses datagrams: media and the questions to the media port.
func lose(ctx context.Context, r *run, one *round, _ int) error { return r.lose(ctx, one) }

// loseBus has the node's connections to the bus, by which it beats, lose as much.
func loseBus(ctx context.Context, r *run, one *round, _ int) error {
	return r.lose(ctx, one, target.PortBus)
}

func (r *run) lose(ctx context.Context, one *round, ports ...int) error {
	if err := r.forget(ctx); err != nil {
		return err
	}
	victim := r.pick()
	mends, err := r.mends(ctx)
	if err != nil {
		return err
	}
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := r.hosts[victim.Name].Lose(lossPercent, ports...); err != nil {
		return err
	}
	if left := r.emptyWithin(ctx, victim, lossFor); left == 0 {
		one.Figures["empty s"] = time.Since(begun).Seconds()
	}
	one.Figures["sessions left"] = float64(r.crowd.stand().nodes[victim.Name])
	if err := errors.Join(sleep(ctx, runUp), r.hosts[victim.Name].Mend()); err != nil {
		return err
	}
	if err := w.conclude(ctx, one, victim.Name); err != nil {
		return err
	}
	after, err := r.mends(ctx)
	if err != nil {
		return err
	}
	one.Figures["mends"] = after - mends
	entries, err := r.entries(ctx)
	if err != nil {
		return err
	}
	one.Figures["declared lost"] = float64(len(since(entries, begun, allocator.DeedLost, "")))
	one.Figures[foundFigure] = lossFor.Seconds() // it was not
	if found := since(entries, begun, allocator.DeedDegraded, edgeagent.NodeID(victim.Name)); len(found) > 0 {
		one.Figures[foundFigure] = found[0].At.Sub(begun).Seconds()
	}
	return nil
}

const (
	// linkPercent is what the way between two nodes loses.
	linkPercent = 5
	// linkRest is how long two nodes share no call after that, and until then there may
	// be none to lose packets of.
	linkRest = 75 * time.Second
)

// afterFigure is what the far listener has lost once its call is on one node.
const afterFigure = "lost afterwards"

// loseLink loses datagrams between the two nodes of a call, and nobody else's: it goes
// to one of them, and what is heard then is whole though the way is as bad as before.
func loseLink(ctx context.Context, r *run, one *round, _ int) error {
	var victim *target.Unit
	var far farListeners
	err := errors.New("no try")
	for end := time.Now().Add(linkRest); err != nil && time.Now().Before(end) && ctx.Err() == nil; {
		victim = r.pick()
		far, err = r.seatFar(ctx, victim.Name)
	}
	if err != nil {
		return err
	}
	defer far.close()
	on := func() string { return far[faraway].call.Stats().Voice.Node }
	w, err := r.watch(ctx, far[:]...)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := r.hosts[victim.Name].LoseWith(r.hosts[on()], linkPercent); err != nil {
		return err
	}
	for on() != victim.Name && time.Since(begun) < lossFor {
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	one.Figures[foundFigure] = time.Since(begun).Seconds()
	if err := sleep(ctx, runUp); err != nil { // the old path is let go of
		return err
	}
	if err := w.conclude(ctx, one, victim.Name); err != nil {
		return err
	}
	one.Figures[farFigure] = float64(len(one.Far))
	after := &round{Figures: make(map[string]float64)}
	if w, err = r.watch(ctx, far[:]...); err != nil {
		return err
	}
	if err := errors.Join(sleep(ctx, runUp), w.conclude(ctx, after, victim.Name)); err != nil {
		return err
	}
	one.Figures[afterFigure] = float64(after.Far[faraway].Lost)
	entries, err := r.entries(ctx)
	if err != nil {
		return err
	}
	one.Figures["nodes blamed"] = float64(len(since(entries, begun, allocator.DeedDegraded, "")) + len(since(entries, begun, allocator.DeedLost, "")))
	return nil
}

const (
	// tightLimit is how much a node may allocate from when it is squeezed on, and
	// tightShare how much of it is used by another: a node says that it is full at 80 %.
	tightLimit = 128 << 20
	tightShare = 0.85
	// tightFor is for how long after it says so.
	tightFor = 5 * time.Second
)

// squeeze has something else use the memory that a node may have: it takes nobody more,
// and serves on; some of its calls go to others, as those of every full node.
func squeeze(ctx context.Context, r *run, one *round, _ int) (err error) {
	victim := r.pick()
	pids, err := victim.PIDs()
	if err != nil {
		return err
	}
	g, err := cgroup.New(fmt.Sprintf("voicebench-%d-%s", os.Getpid(), victim.Name), tightLimit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if err := g.Add(pids...); err != nil {
		return err
	}
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	release, err := g.Fill(tightShare)
	if err != nil {
		return err
	}
	begun := time.Now()
	full, err := r.awaitFull(ctx, victim, true)
	if err != nil {
		return errors.Join(err, release())
	}
	one.Figures["full s"] = time.Since(begun).Seconds()
	v := r.visits(ctx)
	defer v.end()
	err = sleep(ctx, tightFor)
	later, err2 := r.fleet.Nodes(ctx)
	released := time.Now()
	if err = errors.Join(err, err2, release()); err != nil {
		return err
	}
	slowest, failed, n := v.end()
	one.Figures["slowest join"], one.Figures["joins failed"], one.Figures["joins"] = slowest.Seconds(), float64(failed), float64(n)
	for _, n := range later {
		if n.Node == full.Node {
			one.Figures["newcomers"] = float64(n.Load.Sessions - full.Load.Sessions)
		}
	}
	if _, err := r.awaitFull(ctx, victim, false); err != nil {
		return err
	}
	one.Figures["free s"] = time.Since(released).Seconds()
	return w.conclude(ctx, one, victim.Name)
}

// awaitFull waits until a node says that it is full, or is not, and gives what it says.
func (r *run) awaitFull(ctx context.Context, u *target.Unit, full bool) (allocator.NodeView, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, believedWithin, fmt.Errorf("%s: full is not %v within %v", u.Name, full, believedWithin))
	defer cancel()
	for {
		nodes, err := r.fleet.Nodes(ctx)
		for _, n := range nodes {
			if err == nil && n.Node == edgeagent.NodeID(u.Name) && (n.Capacity.Sessions <= max(n.Load.Sessions, 1)) == full {
				return n, nil
			}
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return allocator.NodeView{}, errors.Join(context.Cause(ctx), err)
		}
	}
}

// forget has the allocators begin anew, so that none remembers an illness: a node that
// was ill is left alone for a while, which doubles each time, and while one is no other
// of three may be. It returns when none of them thinks that anybody is ill: the one that
// is asked may not have found what the other has, which the journal tells.
func (r *run) forget(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, inWithin, errors.New("nodes are ill though nothing is done to them"))
	defer cancel()
	for {
		entries, err := r.entries(ctx)
		nodes, err2 := r.fleet.Nodes(ctx)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		ill := slices.ContainsFunc(nodes, func(n allocator.NodeView) bool { return n.Degraded != "" || hurts(n) })
		if !ill && len(since(entries, r.forgot, allocator.DeedDegraded, "")) == 0 {
			return nil
		}
		// What heartbeats still tell of the last seconds would be found anew.
		for slices.ContainsFunc(nodes, hurts) {
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return context.Cause(ctx)
			}
			if nodes, err = r.fleet.Nodes(ctx); err != nil {
				return err
			}
		}
		for _, u := range r.fleet.Centrals {
			if err := u.Kill(); err != nil {
				return err
			}
		}
		r.forgot = time.Now()
		if err := launchAll(ctx, r.fleet.Centrals); err != nil {
			return err
		}
		if err := errors.Join(r.fleet.AwaitReady(ctx, r.fleet.Centrals...), r.crowd.settled(ctx, inWithin)); err != nil {
			return err
		}
	}
}

// hurts says whether a node's last heartbeats are those of one that is hurt.
func hurts(n allocator.NodeView) bool { return n.Suspect || n.Load.Loss > 0.01 }

// mends is how often the agents have had a listener seated anew that heard nothing.
func (r *run) mends(ctx context.Context) (sum float64, err error) {
	for _, e := range r.fleet.Edges {
		m, err := r.fleet.Shown(ctx, e)
		if err != nil {
			return 0, fmt.Errorf("look at %s: %w", e.Name, err)
		}
		n, told := m.Sum("voicefleet_agent_mends_total")
		if !told {
			return 0, fmt.Errorf("%s does not tell its mends", e.Name)
		}
		sum += n
	}
	return sum, nil
}

// entries are the newest of the fleet's journal, the oldest first.
func (r *run) entries(ctx context.Context) ([]allocator.NumberedEntry, error) {
	out, err := r.fleet.Ctl(ctx, "journal", "--json", "--limit", fmt.Sprint(allocator.JournalPage))
	if err != nil {
		return nil, err
	}
	var list []allocator.NumberedEntry
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	slices.Reverse(list)
	return list, nil
}

// since are the entries of a deed since a time, about one node or, without a name, all.
func since(entries []allocator.NumberedEntry, at time.Time, deed allocator.Deed, node edgeagent.NodeID) []allocator.NumberedEntry {
	return slices.DeleteFunc(slices.Clone(entries), func(e allocator.NumberedEntry) bool {
		return e.At.Before(at) || e.Deed != deed || node != "" && e.Node != node
	})
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
	one.Figures[outFigure] = float64(v.allIn(ctx, inAfter))
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

// herdDown is how long all is down before a cold start: longer than it takes until
// everybody has found it out, and so short that nobody waits long between attempts.
const herdDown = 5 * time.Second

// herd ends all that clients are connected to but the media, so that all come back at
// once. What is normal is measured before the first round.
func herd(ctx context.Context, r *run, one *round, _ int) error {
	down := slices.Concat(r.fleet.Texts, r.fleet.Centrals, r.fleet.Buses)
	clients := r.requests(ctx, askedByClients)
	defer clients.end()
	if r.usual == 0 {
		if err := sleep(ctx, normalFor); err != nil {
			return err
		}
		r.usual = max(clients.normal(), 1)
		r.kinds = clients.before
	}
	clients.before = r.kinds
	w, err := r.watch(ctx)
	if err != nil {
		return err
	}
	for _, u := range down {
		err = errors.Join(err, u.Kill())
	}
	if err = errors.Join(err, sleep(ctx, herdDown)); err != nil {
		return err
	}
	started := time.Now()
	if err = errors.Join(launchAll(ctx, slices.Concat(r.fleet.Buses, r.fleet.Centrals)), launchAll(ctx, r.fleet.Texts)); err != nil {
		return err
	}
	back, err := r.crowd.connected(ctx, started, time.Now(), inWithin)
	if err != nil {
		return err
	}
	one.Figures["back p99"] = quantile(back, 0.99)
	if err := sleep(ctx, seenFor); err != nil {
		return err
	}
	one.Figures["normal requests of clients/s"] = r.usual
	one.Figures["client request rate"] = r.burst("requests of clients", clients, started) / r.usual
	return w.conclude(ctx, one, "")
}
