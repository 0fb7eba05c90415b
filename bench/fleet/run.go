package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/cgroup"
	"voicefleet/bench/internal/netns"
	"voicefleet/bench/internal/steal"
	"voicefleet/bench/internal/target"
)

// Config of Run. The zero value is the whole test.
type Config struct {
	Program string // voicefleet, default bin/voicefleet
	// Calls of Members each (default 40 of 5).
	Calls, Members int
	// Edges, Centrals and Buses are the fleet's machines (default 3, 2 and 1).
	Edges, Centrals, Buses int
	// Loopback has all live on this host, where nobody needs to be root: cables and
	// filters are missing then, and the faults that need them.
	Loopback bool
	// Plan is how often each fault comes, and how long an outage lasts.
	Plan Plan
	// Rounds takes the place of all numbers of rounds (0: those of Plan); Only names
	// the faults that come, all others do not.
	Rounds int
	Only   []string
	// Untimed names the faults of which is judged what was lost, moved, split and ended,
	// and no times: for machines that have other work to do.
	Untimed []string

	Seed     uint64
	Command  string
	Kind     string
	Progress bench.Progress
	Log      io.Writer

	speech bool // bots have voices, for people who listen
}

// Plan is a length of the test.
type Plan struct {
	Kills  int           // rounds of a node or an engine killed
	Others int           // rounds of every other fault
	Outage time.Duration // of the whole control side
	Leave  []string      // faults that do not come, unless asked for
}

// The plans.
var (
	// Test is what the goals were written for. Its outage comes once: what it does
	// depends on how long it lasts, all listeners are in its window, and eight of them
	// would take as long as everything else.
	Test = Plan{Kills: 20, Others: 8, Outage: 2 * time.Minute}
	// Soak is Test at length.
	Soak = Plan{Kills: 60, Others: 24, Outage: 10 * time.Minute}
	// Short is for every change, in four minutes: of each family of faults one. Its
	// outage is the shortest that is one: people give up on less.
	Short = Plan{Kills: 2, Others: 1, Outage: 90 * time.Second, Leave: []string{"agent", "upgrade", "cable", "stall", "loss", "lossbus", "losslink", "central", "herd"}}
)

// Bounds of a run.
const (
	maxCalls   = 400
	maxMembers = 20
	maxRounds  = 1000
)

const (
	// inWithin is how long everybody may take to be in at first, and to be back after
	// a round.
	inWithin = 60 * time.Second
	// runUp is how much of a window lies before its fault.
	runUp = time.Second
	// lateAtMost is how late the harness may send in a window; beyond that a pause of
	// the machine is what would be measured, and the round is done again, moreTries
	// times at most.
	// Where no gap is judged, only what is lost, it may be as late as packets are still
	// sent that were due.
	lateAtMost = 100 * time.Millisecond
	lateUnsent = time.Second
	moreTries  = 2
	// lastPackets is how long the last packets of a window may take.
	lastPackets = 300 * time.Millisecond
)

// Validate fills the zero fields and refuses what cannot be meant.
func (c *Config) Validate() error {
	if c.Progress == nil {
		c.Progress = bench.Silent
	}
	if c.Kind == "" {
		c.Kind = "fleet"
	}
	if c.Plan.Kills == 0 {
		c.Plan = Test
	}
	for _, n := range []struct {
		name            string
		of              *int
		by, least, most int
	}{{"calls", &c.Calls, 40, 1, maxCalls}, {"members", &c.Members, 5, leastMembers, maxMembers}, {"edges", &c.Edges, 3, 2, 16}} {
		if *n.of == 0 {
			*n.of = n.by
		}
		if *n.of < n.least || *n.of > n.most {
			return fmt.Errorf("fleet: %d %s, want %d to %d", *n.of, n.name, n.least, n.most)
		}
	}
	if c.Rounds < 0 || c.Rounds > maxRounds {
		return fmt.Errorf("fleet: %d rounds, want 1 to %d", c.Rounds, maxRounds)
	}
	for _, name := range slices.Concat(c.Only, c.Untimed) {
		if !slices.ContainsFunc(trials, func(t trial) bool { return t.name == name }) {
			return fmt.Errorf("fleet: no fault %q, want some of %s", name, strings.Join(Faults(), ", "))
		}
	}
	return nil
}

// Faults names all that there are, in their order.
func Faults() []string {
	names := make([]string, len(trials))
	for i, t := range trials {
		names[i] = t.name
	}
	return names
}

// run is a run under way.
type run struct {
	// Immutable once opened.
	config  Config
	network *netns.Net // nil on loopback
	hosts   map[string]*netns.Host
	fleet   *target.Fleet
	crowd   *crowd
	host    *steal.Watch
	lots    *rand.Rand
	begun   time.Time

	// Owned by perform.
	report  *bench.Report
	results []result
	void    int                  // rounds that were not counted
	killed  map[string]time.Time // when an edge's engine was killed last
	forgot  time.Time            // when the allocators began anew last, to forget who was ill
	usual   float64              // requests of clients a second in a normal time; 0: not measured yet
	kinds   string               // of those
}

// garbage is how much may lie about in the harness, in percent of what lives.
const garbage = 400

// Run does all faults and reports. A goal that is missed is in the report; an error
// means that there is no result, or a partial one.
func Run(ctx context.Context, config Config) (*bench.Report, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	// The members stand for as many machines: their garbage is not to be collected in the
	// moment in which all of them come again, beside what is measured.
	defer debug.SetGCPercent(debug.SetGCPercent(garbage))
	r, err := open(ctx, config)
	if err != nil {
		return nil, err
	}
	err = r.perform(ctx)
	if err != nil {
		r.report.Partial = err.Error()
	}
	r.conclude()
	r.report.Took = bench.Seconds(time.Since(r.report.Started))
	if closed := r.close(); ctx.Err() == nil {
		err = errors.Join(err, closed)
	}
	if ctx.Err() != nil {
		return r.report, nil // ended by whoever asked: the report says so
	}
	return r.report, err
}

// open starts network, fleet and crowd.
func open(ctx context.Context, config Config) (_ *run, err error) {
	r := &run{config: config, hosts: make(map[string]*netns.Host), killed: make(map[string]time.Time), lots: rand.New(rand.NewPCG(config.Seed, 1)), begun: time.Now(),
		report: &bench.Report{Kind: config.Kind, Command: config.Command, Seed: config.Seed, Started: time.Now().UTC(), Machine: bench.ThisMachine()}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	at := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	fleet := target.FleetConfig{Program: config.Program, Edges: config.Edges, Centrals: config.Centrals, Buses: config.Buses, Log: config.Log}
	if !config.Loopback {
		if r.network, err = netns.New(); err != nil {
			return nil, err
		}
		if _, err := r.network.Here("clients"); err != nil {
			return nil, err
		}
		at = netip.IPv4Unspecified()
		fleet.Place = r.place
	}
	if r.fleet, err = target.StartFleet(ctx, fleet); err != nil {
		return nil, err
	}
	r.say("%d edges, %d central, %d bus, text: up after %.1f s", len(r.fleet.Edges), len(r.fleet.Centrals), len(r.fleet.Buses), time.Since(r.begun).Seconds())
	if r.crowd, err = openCrowd(ctx, r.fleet.Remote(), at, config); err != nil {
		return nil, err
	}
	r.host = steal.Begin()
	if err := r.crowd.settled(ctx, inWithin); err != nil {
		return nil, fmt.Errorf("bring everybody in: %w", err)
	}
	r.say("%d sessions in %d calls talk after %.1f s: %s", len(r.crowd.members), config.Calls, time.Since(r.begun).Seconds(), r.spread())
	return r, nil
}

// place gives a unit of the fleet a host of its own.
func (r *run) place(name string) (target.Place, error) {
	h, err := r.network.Host(name)
	if err != nil {
		return target.Place{}, err
	}
	r.hosts[name] = h
	return target.Place{Addr: h.Addr, Enter: h.Enter}, nil
}

// spread tells where the members are.
func (r *run) spread() string {
	s := r.crowd.stand()
	var parts []string
	for _, e := range r.fleet.Edges {
		parts = append(parts, fmt.Sprintf("%s %d", e.Name, s.nodes[e.Name]))
	}
	return strings.Join(parts, ", ")
}

// say tells of progress, in the log, too: what happened there is found by it.
func (r *run) say(format string, args ...any) {
	r.config.Progress.Say(format, args...)
	if r.config.Log != nil {
		fmt.Fprintf(r.config.Log, "%s %s\n", time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
}

// close ends everything in the reverse order of its start.
func (r *run) close() error {
	var errs []error
	if r.host != nil {
		r.host.End()
	}
	if r.crowd != nil {
		errs = append(errs, r.crowd.close())
	}
	if r.fleet != nil {
		errs = append(errs, r.fleet.Stop())
	}
	if r.network != nil {
		errs = append(errs, r.network.Close())
	}
	return errors.Join(errs...)
}

// perform does the rounds of all trials.
func (r *run) perform(ctx context.Context) error {
	for _, t := range trials {
		rounds := t.rounds(r.config.Plan)
		if r.config.Rounds > 0 && rounds > 0 {
			rounds = r.config.Rounds
		}
		switch {
		case len(r.config.Only) > 0 && !slices.Contains(r.config.Only, t.name), len(r.config.Only) == 0 && slices.Contains(r.config.Plan.Leave, t.name):
			continue
		case t.isolated && r.network == nil:
			r.report.Notes = append(r.report.Notes, t.title+": left out, it needs namespaces")
			continue
		case t.tight:
			if err := cgroup.Missing(); err != nil {
				r.report.Notes = append(r.report.Notes, fmt.Sprintf("%s: left out: %v", t.title, err))
				r.say("%s", r.report.Notes[len(r.report.Notes)-1])
				continue
			}
		}
		res := result{trial: t}
		for i := range rounds {
			r.config.Progress.Status(fmt.Sprintf("%s, round %d of %d", t.title, i+1, rounds))
			one, err := r.round(ctx, t, i)
			for again := 0; err == nil && max(one.Late, one.Taken) > r.lateAtMost(&t) && again < moreTries; again++ {
				r.void++
				r.say("%s\n        not counted: the harness itself was %v late, and the host took %v of a core at once; once more", one.line(t, i, rounds), one.Late.Round(time.Millisecond), one.Taken)
				one, err = r.round(ctx, t, i)
			}
			if err != nil {
				r.results = append(r.results, res)
				return fmt.Errorf("%s, round %d: %w", t.title, i+1, err)
			}
			res.rounds = append(res.rounds, one)
			r.say("%s", one.line(t, i, rounds))
			if r.misses(t, one) {
				r.journal(ctx)
			}
		}
		r.results = append(r.results, res)
	}
	return nil
}

// round does one, and waits until the fleet is whole again.
func (r *run) round(ctx context.Context, t trial, i int) (*round, error) {
	one := &round{At: time.Since(r.begun), Figures: make(map[string]float64)}
	before := r.crowd.stand()
	if err := t.do(ctx, r, one, i); err != nil {
		return nil, err
	}
	if err := r.heal(ctx); err != nil {
		return nil, fmt.Errorf("heal the fleet: %w", err)
	}
	err := r.crowd.settled(ctx, inWithin)
	one.Ended = int(r.crowd.stand().ended - before.ended)
	if err != nil {
		// It is a finding, and the next round would be about it, too.
		r.say("%s", one.line(t, i, i+1))
		r.journal(ctx)
		return nil, fmt.Errorf("not everybody is back: %w", err)
	}
	return one, nil
}

// misses says whether a round for itself misses a goal.
func (r *run) misses(t trial, one *round) bool {
	alone := &result{trial: t, rounds: []*round{one}}
	return slices.ContainsFunc(r.goals(alone), func(g bench.Goal) bool { return !g.Met() })
}

// journalTold is how many lines of the fleet's journal are told with a bad round.
const journalTold = 40

// journal tells what the fleet itself says of the last round, when that went wrong.
func (r *run) journal(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := r.fleet.Ctl(ctx, "journal")
	if err != nil {
		return // without an allocator there is none to be had
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	r.say("        the fleet's journal:\n          %s", strings.Join(lines[max(len(lines)-journalTold, 0):], "\n          "))
}

// heal starts what was ended.
func (r *run) heal(ctx context.Context) error {
	for _, h := range r.hosts {
		if err := errors.Join(h.Mend(), h.Link(true)); err != nil {
			return err
		}
	}
	for _, u := range r.fleet.Units() {
		if err := u.Thaw(); err != nil {
			return err
		}
		if !u.Alive() {
			if err := u.Start(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Isolate starts this program again, with the same arguments, in a network namespace of
// its own, and returns in the one that was started. Runs but those on loopback need it.
func Isolate() error { return netns.Isolate() }
