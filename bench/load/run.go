package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/fault"
	"voicefleet/bench/internal/impair"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
	"voicefleet/bench/internal/target"
	"voicefleet/bench/scenario"
)

const (
	// tail is how long talkers go on behind the window, so that it ends in the
	// middle of talk.
	tail = scenario.Tail
	// lead is how far ahead a start is announced to all processes.
	lead = 300 * time.Millisecond
	// drain is how long the last packets may take to be counted.
	drain = 2 * time.Second
	// settleIn is how long after its arrival a member who comes within the window
	// may take until everything due to it is expected.
	settleIn = 500 * time.Millisecond
	// readEvery is the pace of readings, and of the lines for people.
	readEvery = time.Second
	// lateAtMost is the share of packets a generator may send more than an interval
	// behind schedule, in percent; stallAtMost how late one packet may be, and
	// busyAtMost the share of a core its busiest thread may use. Beyond any of them
	// the generator is the bottleneck, and what was measured is not the server.
	lateAtMost  = 1.0
	stallAtMost = 250 * time.Millisecond
	busyAtMost  = 0.97
	// cleanup bounds what is done after the run.
	cleanup = 30 * time.Second
)

// Config of Run.
type Config struct {
	// Kind is what the report is called (default load).
	Kind string
	// Scenario is what to run; its Check must have passed.
	Scenario *scenario.Scenario
	// Server says which running server the members go to; nil: one of our own is
	// started, of the kind the scenario names.
	Server *Target
	// Program is the voicefleet binary for servers of our own, MediaPort the first UDP
	// port of such a server (default: a free one).
	Program   string
	MediaPort int
	// Ears is how many of the faithful bots, the last to come, decode what they hear
	// and judge each voice by its sound, which costs 1 to 2 % of a core for each
	// talker heard (default: all of them).
	Ears int
	// Self is this program with the arguments that lead to forward.RunRole.
	Self []string
	// Generators is how many processes of light clients are started (default 1).
	Generators int
	// Remote are generators on other machines, used instead of own processes.
	Remote []Generator
	// Command reproduces the run; for the report.
	Command string
	// Prices make the cost lines; zero: CPU and bits only.
	Prices bench.Prices
	// Progress is told how it goes; nil: nobody is.
	Progress bench.Progress
	// Log gets what a server of our own logs; nil keeps the last of it for errors.
	Log io.Writer
}

// Target says which running server, and who the members are there.
type Target = target.RemoteConfig

func (c *Config) validate() error {
	if c.Progress == nil {
		c.Progress = bench.Silent
	}
	if c.Generators == 0 {
		c.Generators = 1
	}
	if c.Kind == "" {
		c.Kind = "load"
	}
	switch {
	case c.Ears < 0:
		return fmt.Errorf("load: %d bots with ears, want 1 or more, or 0 for all", c.Ears)
	case c.Scenario == nil:
		return errors.New("load: no scenario")
	case len(c.Self) == 0 && len(c.Remote) == 0:
		return errors.New("load: this program is not named, so it cannot start generators")
	case c.Generators < 1 || c.Generators > 16:
		return fmt.Errorf("load: %d generators, want 1 to 16", c.Generators)
	}
	return c.Scenario.Check()
}

// run is a run under way.
type run struct {
	// Immutable.
	config Config
	plan   *scenario.Plan
	door   door
	server target.Process  // nil: not on this machine
	proxy  *impair.Proxy   // nil: media goes straight
	light  *crowd          // nil: no light clients
	faults *fault.Executor // nil: no steps
	report *bench.Report
	small  int // bytes of Opus outside the window
	voices int // there are to be told apart by ears

	members []*member
	talkers [][]*member // by room
	idle    reading     // before the first member
	void    string      // why the figures are not the server's
	figures figures     // set by conclude
	deaf    string      // why no voice was judged by its sound

	mu sync.Mutex
	// Guarded by mu.
	tracks map[int]*opus.Track // speech of faithful talkers, by voice

	stops []func() error
}

// Run runs a scenario and reports. Goals that are missed are in the report; an
// error means that there is no result, or a partial one (Report.Partial).
func Run(ctx context.Context, config Config) (*bench.Report, error) {
	r, err := perform(ctx, config)
	if r == nil {
		return nil, err
	}
	return r.report, err
}

// perform is Run with everything that was measured; nil when there is no result.
func perform(ctx context.Context, config Config) (_ *run, err error) {
	r, err := open(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, r.close())
		r.report.Took = bench.Seconds(time.Since(r.report.Started))
	}()
	w, err := r.perform(ctx)
	if err != nil {
		r.report.Partial = err.Error()
	}
	r.conclude(w)
	if ctx.Err() != nil {
		return r, nil // ended by whoever asked: the report says so
	}
	return r, err
}

// open starts or finds everything a run needs.
func open(ctx context.Context, config Config) (_ *run, err error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := config.Scenario
	r := &run{config: config, plan: s.Plan(), report: &bench.Report{
		Kind: config.Kind, Command: config.Command, Seed: s.Seed, Scenario: string(s.YAML()), Window: bench.Seconds(s.Duration),
		Started: time.Now().UTC(), Machine: bench.ThisMachine(),
	}, tracks: make(map[int]*opus.Track)}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := r.cast(); err != nil {
		return nil, err
	}
	if err := r.startServer(ctx); err != nil {
		return nil, err
	}
	if err := r.startProxy(); err != nil {
		return nil, err
	}
	if err := r.startGenerators(ctx); err != nil {
		return nil, err
	}
	r.stops = append(r.stops, r.leaveAll)
	if err := r.checkFaults(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *run) say(format string, args ...any) { r.config.Progress.Say(format, args...) }

// close ends everything in the reverse order of its start.
func (r *run) close() error {
	var errs []error
	for _, stop := range slices.Backward(r.stops) {
		errs = append(errs, stop())
	}
	r.stops = nil
	return errors.Join(errs...)
}

// cast gives every member of the plan its part.
func (r *run) cast() error {
	smallest := r.plan.Scenario.Rooms[0].Talk.Bytes
	for _, g := range r.plan.Scenario.Rooms {
		smallest = min(smallest, g.Talk.Bytes)
	}
	r.small = smallest - smallerBy
	r.talkers = make([][]*member, len(r.plan.Rooms))
	faithful := 0
	for _, m := range r.plan.Members {
		if m.Faithful {
			faithful++
		}
	}
	for i, m := range r.plan.Members {
		one := &member{Member: m, id: uint32(i + 1), room: r.plan.Rooms[m.Room]}
		if m.Talks {
			if one.voice = m.Seat % opus.Encoded; m.Faithful {
				one.voice = m.Seat % speech.Voices
			}
			r.talkers[m.Room] = append(r.talkers[m.Room], one)
			r.voices = max(r.voices, m.Seat+1)
		}
		if m.Faithful {
			one.ears = r.config.Ears == 0 || faithful <= r.config.Ears
			faithful--
		}
		r.members = append(r.members, one)
	}
	return nil
}

// smallerBy is by how many bytes packets outside the window are shorter: more
// than all that a server may add to one and not to another.
const smallerBy = 40

// outcome is what a window gave.
type outcome struct {
	begin, end time.Time
	before     reading // at its start
	after      reading // at its end
	last       reading // when all was counted
	readings   []reading
	journal    []bench.Event
}

// perform goes through the phases.
func (r *run) perform(ctx context.Context) (*outcome, error) {
	idle, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	r.idle = idle
	t := r.plan.Totals
	r.say("%s: %d users in %d rooms, %d of them talk; %.0f packets/s to the server, %.0f from it, %.1f Mbit/s",
		r.plan.Scenario.Name, t.Users, t.Rooms, t.Talkers, t.PacketsIn, t.PacketsOut, t.MbitOut)
	if err := r.arrive(ctx); err != nil {
		return nil, err
	}
	return r.window(ctx)
}
