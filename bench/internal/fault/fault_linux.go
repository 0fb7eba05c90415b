package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"voicefleet/bench/internal/impair"
	"voicefleet/bench/scenario"
)

// Host is the server that faults are done to.
type Host interface {
	// Engine and Agent are processes that this run started.
	Engine() (pid int, err error)
	Agent() (pid int, err error)
	// Drain has the server take no new calls, and returns when it says so or ctx
	// ends. The calls it has stay.
	Drain(ctx context.Context) error
}

// Path is where the media goes through; an [impair.Proxy] is one.
type Path interface {
	Set(impair.Rule) error
	Rules() (up, down impair.Rule)
}

// Entry of the journal: one thing done, or one that could not be.
type Entry struct {
	Step int           `json:"step"` // index among the steps
	Time time.Time     `json:"time"`
	At   time.Duration `json:"at_ns"` // Time since the run began
	What string        `json:"what"`
	// Outcome tells what came of it; with Failed, why nothing did.
	Outcome string `json:"outcome"`
	Failed  bool   `json:"failed,omitempty"`
}

// String is the line for a person.
func (e Entry) String() string {
	verdict := ""
	if e.Failed {
		verdict = "failed: "
	}
	return fmt.Sprintf("%8.3fs  %s: %s%s", e.At.Seconds(), e.What, verdict, e.Outcome)
}

// Executor does the steps of one run.
type Executor struct {
	// Immutable.
	steps []scenario.Step
	host  Host
	path  Path

	// Owned by Run, which is called once.
	ours    ours
	base    [2]impair.Rule // of the path, up and down, before the first step
	active  []int          // steps of the network in force, by their begin
	frozen  map[identity]*frozen
	stops   map[int][]identity // by step: what it froze
	journal []Entry
	begin   time.Time
	note    func(Entry)
}

// frozen is a stopped process; it goes on when no step holds it any more.
type frozen struct {
	process *os.Process
	holds   int
}

// Check tells whether all steps may be done, before anything is. A nil host is a
// server that this run did not start, a nil path has no proxy in it.
func Check(steps []scenario.Step, host Host, path Path) error {
	_, err := New(steps, host, path)
	return err
}

// New checks the steps and remembers whose the processes are.
func New(steps []scenario.Step, host Host, path Path) (*Executor, error) {
	e := &Executor{steps: slices.Clone(steps), host: host, path: path, ours: make(ours),
		frozen: make(map[identity]*frozen), stops: make(map[int][]identity)}
	var problems []error
	for _, s := range e.steps {
		if err := e.check(s); err != nil {
			problems = append(problems, fmt.Errorf("fault %s at %v: %w", words(s), s.At, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Executor) check(s scenario.Step) error {
	if s.At < 0 || s.For < 0 {
		return fmt.Errorf("at %v for %v: want times from the beginning on", s.At, s.For)
	}
	switch {
	case s.Do.Network():
		if s.On != scenario.OnMedia {
			return fmt.Errorf("cannot be done to %q; want on: media", s.On)
		}
		if e.path == nil {
			return errors.New("this run has no proxy in the path of its media; remove the step, or run it as a scenario with bots of its own")
		}
		_, err := RuleOf(s)
		return err
	case s.Do != scenario.DoKill && s.Do != scenario.DoFreeze && s.Do != scenario.DoDrain:
		return fmt.Errorf("no such fault; want kill, freeze, drain or one of the network")
	case e.host == nil:
		return errors.New("the server was not started by this run; run on its machine without --server")
	case s.Do == scenario.DoDrain:
		if s.On != scenario.OnNode {
			return fmt.Errorf("cannot be done to %q; want on: node", s.On)
		}
		return nil
	}
	targets, err := e.open(s.On)
	if err != nil {
		return err
	}
	for _, t := range targets {
		_ = t.process.Release()
	}
	return nil
}

// target is a process to signal.
type target struct {
	name    string
	process *os.Process
	identity
}

// open gives handles to the processes a step is about. A node is its agent and,
// where that is a process of its own, its engine.
func (e *Executor) open(on scenario.On) ([]target, error) {
	var targets []target
	add := func(name string, find func() (int, error)) error {
		pid, err := find()
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		p, id, err := e.ours.open(pid)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if slices.ContainsFunc(targets, func(t target) bool { return t.identity == id }) {
			return p.Release()
		}
		e.ours[id] = true // even if its parent ends
		targets = append(targets, target{name, p, id})
		return nil
	}
	var err error
	switch on {
	case scenario.OnEngine:
		err = add("engine", e.host.Engine)
	case scenario.OnAgent:
		err = add("agent", e.host.Agent)
	case scenario.OnNode:
		if err = add("agent", e.host.Agent); err == nil {
			if _, alone := e.host.Engine(); alone == nil {
				err = add("engine", e.host.Engine)
			}
		}
	default:
		err = fmt.Errorf("cannot be done to %q; want on: engine, agent or node", on)
	}
	if err != nil {
		for _, t := range targets {
			_ = t.process.Release()
		}
		return nil, err
	}
	return targets, nil
}

// moment is a point of the time line: a step begins, or ends.
type moment struct {
	at   time.Duration
	step int
	ends bool
}

// timeline sorts what is to be done. At the same time ends come before begins, so
// that one step may take over from another.
func timeline(steps []scenario.Step) (line []moment, open bool) {
	for i, s := range steps {
		line = append(line, moment{at: s.At, step: i})
		switch {
		case s.Do == scenario.DoKill || s.Do == scenario.DoDrain:
		case s.For > 0:
			line = append(line, moment{at: s.At + s.For, step: i, ends: true})
		default:
			open = true // lasts until the run ends
		}
	}
	slices.SortStableFunc(line, func(a, b moment) int {
		switch {
		case a.at != b.at:
			return int(min(1, max(-1, a.at-b.at)))
		case a.ends == b.ends:
			return 0
		case a.ends:
			return -1
		}
		return 1
	})
	return line, open
}

// drained is the outcome of a drain.
type drained struct {
	step  int
	begun time.Time
	err   error
}

// Run does the steps at their times since begin and returns the journal when the
// last one is over, or ctx ends; steps that last without end wait for that. note,
// if there is one, gets each entry as it is made, from the goroutine of Run.
func (e *Executor) Run(ctx context.Context, begin time.Time, note func(Entry)) []Entry {
	e.begin, e.note = begin, note
	if e.path != nil {
		e.base[0], e.base[1] = e.path.Rules()
	}
	line, open := timeline(e.steps)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drains := make(chan drained, len(e.steps)) // each sends once
	draining := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil && (len(line) > 0 || draining > 0 || open) {
		var due <-chan time.Time
		if len(line) > 0 {
			timer.Reset(time.Until(begin.Add(line[0].at)))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case d := <-drains:
			draining--
			e.drained(d)
		case <-due:
			m := line[0]
			line = line[1:]
			switch {
			case m.ends:
				e.end(m.step)
			case e.steps[m.step].Do == scenario.DoDrain:
				draining++
				e.write(m.step, "begun", nil)
				go e.drain(ctx, m.step, drains) // awaited below
			default:
				e.start(m.step)
			}
		}
	}
	// Undo first what somebody waits for; only then wait ourselves.
	for i := range e.steps {
		if len(e.stops[i]) > 0 {
			e.end(i)
		}
	}
	for len(e.active) > 0 {
		e.end(e.active[0])
	}
	cancel()
	for ; draining > 0; draining-- {
		e.drained(<-drains)
	}
	for _, m := range line {
		if !m.ends {
			e.write(m.step, "", errors.New("the run ended before its time; give it a longer window"))
		}
	}
	return e.journal
}

func (e *Executor) drain(ctx context.Context, step int, done chan<- drained) {
	begun := time.Now()
	done <- drained{step, begun, e.host.Drain(ctx)}
}

func (e *Executor) drained(d drained) {
	if errors.Is(d.err, context.Canceled) {
		d.err = errors.New("the run ended before the node said that it drains; give it a longer window")
	}
	e.result(d.step, fmt.Sprintf("takes no new calls, said so after %v", time.Since(d.begun).Round(time.Millisecond)), d.err)
}

// result writes the outcome, or why there was none.
func (e *Executor) result(step int, outcome string, err error) {
	if err != nil {
		outcome = ""
	}
	e.write(step, outcome, err)
}

// write adds to the journal what was done, and what of it was not.
func (e *Executor) write(step int, did string, err error) {
	now := time.Now()
	entry := Entry{Step: step, Time: now, At: now.Sub(e.begin), What: words(e.steps[step]), Outcome: did}
	if err != nil {
		entry.Failed = true
		entry.Outcome = strings.TrimPrefix(did+"; "+err.Error(), "; ")
	}
	e.journal = append(e.journal, entry)
	if e.note != nil {
		e.note(entry)
	}
}

// start begins a step that is no drain.
func (e *Executor) start(step int) {
	s := e.steps[step]
	if s.Do.Network() {
		e.active = append(e.active, step)
		err := e.apply()
		if err != nil {
			e.active = e.active[:len(e.active)-1]
			err = errors.Join(err, e.apply())
		}
		e.result(step, "in force", err)
		return
	}
	targets, err := e.open(s.On)
	if err != nil {
		e.write(step, "", err)
		return
	}
	if s.Do == scenario.DoKill {
		outcome, err := e.kill(targets)
		e.write(step, outcome, err)
		return
	}
	outcome, err := e.freeze(step, targets)
	e.write(step, outcome, err)
}

// kill ends the agent before the engine, so that it does not start another.
func (e *Executor) kill(targets []target) (string, error) {
	var did []string
	var failed []error
	for _, t := range targets {
		if err := t.process.Signal(syscall.SIGKILL); err != nil {
			failed = append(failed, fmt.Errorf("%s: pid %d: %w", t.name, t.pid, explain(err)))
		} else {
			did = append(did, fmt.Sprintf("killed %s, pid %d", t.name, t.pid))
		}
		_ = t.process.Release()
	}
	return strings.Join(did, "; "), errors.Join(failed...)
}

func (e *Executor) freeze(step int, targets []target) (string, error) {
	var did []string
	var failed []error
	for _, t := range targets {
		f := e.frozen[t.identity]
		if f != nil {
			_ = t.process.Release() // we hold a handle already
		} else {
			if err := t.process.Signal(syscall.SIGSTOP); err != nil {
				failed = append(failed, fmt.Errorf("%s: pid %d: %w", t.name, t.pid, explain(err)))
				_ = t.process.Release()
				continue
			}
			f = &frozen{process: t.process}
			e.frozen[t.identity] = f
		}
		f.holds++
		e.stops[step] = append(e.stops[step], t.identity)
		did = append(did, fmt.Sprintf("stopped %s, pid %d", t.name, t.pid))
	}
	return strings.Join(did, "; "), errors.Join(failed...)
}

// end undoes a step that lasts; nothing if it did not come about.
func (e *Executor) end(step int) {
	if i := slices.Index(e.active, step); i >= 0 {
		e.active = slices.Delete(e.active, i, i+1)
		e.result(step, "over", e.apply())
		return
	}
	stopped := e.stops[step]
	delete(e.stops, step)
	if len(stopped) == 0 {
		return
	}
	var did []string
	var failed []error
	for _, id := range stopped {
		f := e.frozen[id]
		if f.holds--; f.holds > 0 {
			did = append(did, fmt.Sprintf("pid %d stays stopped by another step", id.pid))
			continue
		}
		delete(e.frozen, id)
		if err := f.process.Signal(syscall.SIGCONT); err != nil {
			failed = append(failed, fmt.Errorf("pid %d: %w", id.pid, explain(err)))
		} else {
			did = append(did, fmt.Sprintf("pid %d goes on", id.pid))
		}
		_ = f.process.Release()
	}
	e.write(step, strings.Join(did, "; "), errors.Join(failed...))
}

// apply sets the path's rules: what they were before, and over it the steps in
// force.
func (e *Executor) apply() error {
	for i, d := range []impair.Direction{impair.Up, impair.Down} {
		rule := e.base[i]
		for _, step := range e.active {
			r, err := RuleOf(e.steps[step])
			if err != nil {
				return err
			}
			if r.Direction == impair.Both || r.Direction == d {
				rule = over(rule, r)
			}
		}
		rule.Direction = d
		if err := e.path.Set(rule); err != nil {
			return err
		}
	}
	return nil
}
