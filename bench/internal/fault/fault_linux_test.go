package fault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/impair"
	"voicefleet/bench/scenario"
)

// TestMain is the server too: a sleeper until its input ends, with an engine if it
// is an agent.
func TestMain(m *testing.M) {
	switch os.Getenv("FAULT_SLEEPER") {
	case "agent":
		engine := exec.Command(os.Args[0])
		engine.Env = append(os.Environ(), "FAULT_SLEEPER=engine")
		engine.Stdin = os.Stdin
		if err := engine.Start(); err != nil {
			os.Exit(1)
		}
		fmt.Println(engine.Process.Pid)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "engine":
		fmt.Println(os.Getpid())
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// node is a server of real processes.
type node struct {
	t             *testing.T
	agent, engine int
	drain         func(context.Context) error
}

func (n *node) Agent() (int, error)  { return n.agent, nil }
func (n *node) Engine() (int, error) { return n.engine, nil }
func (n *node) Drain(ctx context.Context) error {
	if n.drain == nil {
		return errors.New("nobody can ask for it")
	}
	return n.drain(ctx)
}

// start starts a sleeper and returns its pid and the pid it prints. It is waited
// for by wait, not by exec, which would not tell of stops.
func start(t *testing.T, what string) (pid, printed int) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "FAULT_SLEEPER="+what)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.Process.Kill()
		_, _ = unix.Wait4(c.Process.Pid, nil, 0, nil) // unless the test has
		_ = out.Close()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &printed); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid, printed
}

// wait waits until a child stops, goes on or ends.
func wait(t *testing.T, pid int) unix.WaitStatus {
	t.Helper()
	var s unix.WaitStatus
	if _, err := unix.Wait4(pid, &s, unix.WUNTRACED|unix.WCONTINUED, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func engineOnly(t *testing.T) *node {
	t.Helper()
	pid, _ := start(t, "engine")
	return &node{t: t, engine: pid, agent: pid}
}

// run does steps and returns the journal.
func run(t *testing.T, host Host, path Path, steps ...scenario.Step) []Entry {
	t.Helper()
	e, err := New(steps, host, path)
	if err != nil {
		t.Fatal(err)
	}
	var noted []Entry
	journal := e.Run(t.Context(), time.Now(), func(e Entry) { noted = append(noted, e) })
	if !slices.Equal(noted, journal) {
		t.Errorf("noted %v, journal %v", noted, journal)
	}
	return journal
}

func outcomes(journal []Entry) string {
	var w strings.Builder
	for _, e := range journal {
		fmt.Fprintln(&w, e)
	}
	return w.String()
}

func TestKill(t *testing.T) {
	n := engineOnly(t)
	journal := run(t, n, nil, scenario.Step{At: 20 * time.Millisecond, Do: scenario.DoKill, On: scenario.OnEngine})
	if s := wait(t, n.engine); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", s)
	}
	if len(journal) != 1 || journal[0].Failed || journal[0].At < 20*time.Millisecond || journal[0].Outcome != fmt.Sprintf("killed engine, pid %d", n.engine) {
		t.Errorf("journal:\n%s", outcomes(journal))
	}
}

func TestFreeze(t *testing.T) {
	n := engineOnly(t)
	e, err := New([]scenario.Step{{At: 10 * time.Millisecond, For: 400 * time.Millisecond, Do: scenario.DoFreeze, On: scenario.OnEngine}}, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []Entry, 1)
	go func() { done <- e.Run(t.Context(), time.Now(), nil) }()
	if s := wait(t, n.engine); !s.Stopped() || s.StopSignal() != syscall.SIGSTOP {
		t.Fatalf("it did not stop: %v", s)
	}
	if s := wait(t, n.engine); !s.Continued() {
		t.Fatalf("it did not go on: %v", s)
	}
	journal := <-done
	if len(journal) != 2 || journal[0].Failed || journal[1].Failed || journal[1].At-journal[0].At < 390*time.Millisecond {
		t.Errorf("journal:\n%s", outcomes(journal))
	}
}

// What is frozen when the run is called off is thawed before Run returns.
func TestEndThaws(t *testing.T) {
	n := engineOnly(t)
	e, err := New([]scenario.Step{
		{For: time.Hour, Do: scenario.DoFreeze, On: scenario.OnEngine},
		{At: time.Minute, Do: scenario.DoKill, On: scenario.OnEngine},
	}, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan []Entry, 1)
	go func() { done <- e.Run(ctx, time.Now(), nil) }()
	if s := wait(t, n.engine); !s.Stopped() {
		t.Fatalf("it did not stop: %v", s)
	}
	cancel()
	journal := <-done
	if s := wait(t, n.engine); !s.Continued() {
		t.Fatalf("it did not go on: %v", s)
	}
	if len(journal) != 3 || !strings.Contains(journal[1].Outcome, "goes on") || !journal[2].Failed || !strings.Contains(journal[2].Outcome, "before its time") {
		t.Errorf("journal:\n%s", outcomes(journal))
	}
}

// Two steps hold one process: it goes on when both are over.
func TestFreezesOverlap(t *testing.T) {
	n := engineOnly(t)
	journal := run(t, n, nil,
		scenario.Step{For: 40 * time.Millisecond, Do: scenario.DoFreeze, On: scenario.OnEngine},
		scenario.Step{At: 20 * time.Millisecond, For: 60 * time.Millisecond, Do: scenario.DoFreeze, On: scenario.OnNode})
	if len(journal) != 4 || !strings.Contains(journal[2].Outcome, "stays stopped") || !strings.Contains(journal[3].Outcome, "goes on") {
		t.Errorf("journal:\n%s", outcomes(journal))
	}
	if journal[3].At < 80*time.Millisecond {
		t.Errorf("it went on after %v, want 80ms", journal[3].At)
	}
}

// An engine is of this run even when its agent, whose child it is, was killed.
func TestEngineOutlivesAgent(t *testing.T) {
	agent, engine := start(t, "agent")
	n := &node{t: t, agent: agent, engine: engine}
	journal := run(t, n, nil,
		scenario.Step{Do: scenario.DoKill, On: scenario.OnAgent},
		scenario.Step{At: 100 * time.Millisecond, For: 20 * time.Millisecond, Do: scenario.DoFreeze, On: scenario.OnEngine},
		scenario.Step{At: 200 * time.Millisecond, Do: scenario.DoKill, On: scenario.OnEngine},
		scenario.Step{At: 300 * time.Millisecond, Do: scenario.DoKill, On: scenario.OnAgent})
	if s := wait(t, agent); !s.Signaled() {
		t.Errorf("the agent ended with %v", s)
	}
	if len(journal) != 5 {
		t.Fatalf("journal:\n%s", outcomes(journal))
	}
	for _, e := range journal[:4] {
		if e.Failed {
			t.Errorf("journal:\n%s", outcomes(journal))
		}
	}
	if last := journal[4]; !last.Failed || !strings.Contains(last.Outcome, "has ended already") {
		t.Errorf("a second kill of the agent: %v", last)
	}
}

func TestNodeIsBoth(t *testing.T) {
	agent, engine := start(t, "agent")
	n := &node{t: t, agent: agent, engine: engine}
	journal := run(t, n, nil, scenario.Step{Do: scenario.DoKill, On: scenario.OnNode})
	if s := wait(t, agent); !s.Signaled() {
		t.Errorf("the agent ended with %v", s)
	}
	if want := fmt.Sprintf("killed agent, pid %d; killed engine, pid %d", agent, engine); len(journal) != 1 || journal[0].Outcome != want {
		t.Errorf("journal:\n%s", outcomes(journal))
	}
}

// whole is a server whose engine is no process of its own.
type whole struct{ node }

func (*whole) Engine() (int, error) { return 0, errors.New("it has no engine of its own") }

func TestNodeWithoutEngine(t *testing.T) {
	w := &whole{node: *engineOnly(t)}
	if err := Check([]scenario.Step{{Do: scenario.DoKill, On: scenario.OnEngine}}, w, nil); err == nil || !strings.Contains(err.Error(), "no engine of its own") {
		t.Errorf("kill engine: %v", err)
	}
	run(t, w, nil, scenario.Step{Do: scenario.DoKill, On: scenario.OnNode})
	if s := wait(t, w.agent); !s.Signaled() {
		t.Errorf("it ended with %v", s)
	}
}

// fakePath remembers the rules set, in order.
type fakePath struct {
	up, down impair.Rule
	set      []string
	begun    time.Time
	refuse   bool
}

func (p *fakePath) Rules() (up, down impair.Rule) { return p.up, p.down }
func (p *fakePath) Set(r impair.Rule) error {
	if p.refuse && r.Cut {
		return errors.New("not this one")
	}
	if r.Direction == impair.Up {
		p.up = r
	} else {
		p.down = r
		p.set = append(p.set, fmt.Sprintf("%v up loss=%v delay=%v cut=%v, down loss=%v delay=%v cut=%v", time.Since(p.begun),
			p.up.Loss, p.up.Delay, p.up.Cut, p.down.Loss, p.down.Delay, p.down.Cut))
	}
	return nil
}

// Steps of the network lie over what was there before, and each takes away only
// what it brought.
func TestNetworkSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePath{up: impair.Rule{Delay: time.Millisecond}, down: impair.Rule{Delay: time.Millisecond}, begun: time.Now()}
		journal := run(t, nil, p,
			scenario.Step{At: 5 * time.Second, For: 10 * time.Second, Do: scenario.DoCut, On: scenario.OnMedia, Direction: scenario.DirectionUp},
			scenario.Step{At: 1 * time.Second, For: 9 * time.Second, Do: scenario.DoLoss, On: scenario.OnMedia, LossPercent: 1, Exact: true, Direction: scenario.DirectionDown},
			scenario.Step{At: 15 * time.Second, For: time.Second, Do: scenario.DoDelay, On: scenario.OnMedia, Delay: 7 * time.Millisecond})
		want := []string{
			"1s up loss=0 delay=1ms cut=false, down loss=0.01 delay=1ms cut=false",
			"5s up loss=0 delay=1ms cut=true, down loss=0.01 delay=1ms cut=false",
			"10s up loss=0 delay=1ms cut=true, down loss=0 delay=1ms cut=false",
			"15s up loss=0 delay=1ms cut=false, down loss=0 delay=1ms cut=false",
			"15s up loss=0 delay=7ms cut=false, down loss=0 delay=7ms cut=false",
			"16s up loss=0 delay=1ms cut=false, down loss=0 delay=1ms cut=false",
		}
		if !slices.Equal(p.set, want) {
			t.Errorf("rules:\n%s\nwant:\n%s", strings.Join(p.set, "\n"), strings.Join(want, "\n"))
		}
		if got := outcomes(journal); len(journal) != 6 || !strings.Contains(got, "   1.000s  loss media (1 %, exactly, down): in force\n") ||
			!strings.Contains(got, "  15.000s  cut media (up): over\n") || !strings.Contains(got, "  15.000s  delay media (delay 7ms): in force\n") {
			t.Errorf("journal:\n%s", got)
		}
	})
}

// A step without an end lasts as long as the run, and no longer.
func TestEndResetsRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePath{begun: time.Now()}
		e, err := New([]scenario.Step{{At: time.Second, Do: scenario.DoCut, On: scenario.OnMedia}}, nil, p)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		journal := e.Run(ctx, time.Now(), nil)
		if time.Since(p.begun) != time.Minute || p.up.Cut || p.down.Cut || len(p.set) != 2 || !strings.Contains(p.set[0], "cut=true") || len(journal) != 2 {
			t.Errorf("after %v: %v, journal:\n%s", time.Since(p.begun), p.set, outcomes(journal))
		}
	})
}

// A rule that the path does not take leaves the ones in force.
func TestPathRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePath{begun: time.Now(), refuse: true}
		journal := run(t, nil, p,
			scenario.Step{For: 3 * time.Second, Do: scenario.DoLoss, On: scenario.OnMedia, LossPercent: 5},
			scenario.Step{At: time.Second, For: time.Second, Do: scenario.DoCut, On: scenario.OnMedia})
		if len(journal) != 3 || !journal[1].Failed || journal[1].Outcome != "not this one" || p.up.Loss != 0 || journal[2].Failed {
			t.Errorf("rules %+v, journal:\n%s", p.up, outcomes(journal))
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{t: t, drain: func(ctx context.Context) error {
			select {
			case <-time.After(3 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		p := &fakePath{begun: time.Now()}
		steps := []scenario.Step{
			{At: time.Second, Do: scenario.DoDrain, On: scenario.OnNode},
			{At: 2 * time.Second, For: time.Second, Do: scenario.DoCut, On: scenario.OnMedia},
		}
		// The drain keeps nothing waiting.
		got := outcomes(run(t, n, p, steps...))
		want := "   1.000s  drain node: begun\n   2.000s  cut media: in force\n   3.000s  cut media: over\n   4.000s  drain node: takes no new calls, said so after 3s\n"
		if got != want {
			t.Errorf("journal:\n%s\nwant:\n%s", got, want)
		}
		e, err := New(steps[:1], n, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if journal := e.Run(ctx, time.Now(), nil); len(journal) != 2 || !journal[1].Failed {
			t.Errorf("a drain called off:\n%s", outcomes(journal))
		}
		if journal := run(t, &node{}, nil, steps[0]); !journal[1].Failed || journal[1].Outcome != "nobody can ask for it" {
			t.Errorf("a drain refused:\n%s", outcomes(journal))
		}
	})
}

func TestRefusals(t *testing.T) {
	foreign := &node{agent: os.Getppid(), engine: os.Getppid()}
	if os.Getppid() <= 1 {
		foreign.engine = 1
	}
	dead := engineOnly(t)
	if err := syscall.Kill(dead.engine, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p := &fakePath{}
	for _, c := range []struct {
		name string
		step scenario.Step
		host Host
		path Path
		want string
	}{
		{"remote server", scenario.Step{At: 20 * time.Second, Do: scenario.DoKill, On: scenario.OnEngine}, nil, p,
			"fault kill engine at 20s: the server was not started by this run; run on its machine without --server"},
		{"drain of a remote server", scenario.Step{Do: scenario.DoDrain, On: scenario.OnNode}, nil, p, "not started by this run"},
		{"foreign process", scenario.Step{Do: scenario.DoFreeze, On: scenario.OnEngine, For: 1}, foreign, p, "not started by this run; only processes of this run are signalled"},
		{"init", scenario.Step{Do: scenario.DoKill, On: scenario.OnAgent}, &node{agent: 1}, p, "pid 1"},
		{"process group", scenario.Step{Do: scenario.DoKill, On: scenario.OnAgent}, &node{agent: -5}, p, "pid -5"},
		{"ourselves", scenario.Step{Do: scenario.DoKill, On: scenario.OnAgent}, &node{agent: os.Getpid()}, p, "a process of its own"},
		{"dead", scenario.Step{Do: scenario.DoKill, On: scenario.OnEngine}, dead, p, "has ended already"},
		{"no such process", scenario.Step{Do: scenario.DoKill, On: scenario.OnEngine}, &node{engine: math.MaxInt32 - 7}, p, "has ended already"},
		{"no proxy", scenario.Step{Do: scenario.DoCut, On: scenario.OnMedia}, dead, nil, "no proxy in the path"},
		{"cut of an engine", scenario.Step{Do: scenario.DoCut, On: scenario.OnEngine}, dead, p, "want on: media"},
		{"kill of media", scenario.Step{Do: scenario.DoKill, On: scenario.OnMedia}, dead, p, "want on: engine, agent or node"},
		{"drain of an engine", scenario.Step{Do: scenario.DoDrain, On: scenario.OnEngine}, dead, p, "want on: node"},
		{"nonsense", scenario.Step{Do: "melt", On: scenario.OnNode}, dead, p, "no such fault"},
		{"before the start", scenario.Step{At: -1, Do: scenario.DoKill, On: scenario.OnEngine}, dead, p, "from the beginning on"},
		{"impossible loss", scenario.Step{Do: scenario.DoLoss, On: scenario.OnMedia, LossPercent: 90, Burst: 2}, nil, p, "longer bursts"},
		{"direction", scenario.Step{Do: scenario.DoCut, On: scenario.OnMedia, Direction: "left"}, nil, p, "up, down or both"},
	} {
		if c.name == "dead" { // it takes a moment until it is
			var info unix.Siginfo
			if err := unix.Waitid(unix.P_PID, dead.engine, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := Check([]scenario.Step{c.step}, c.host, c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// All problems are told at once.
	err := Check([]scenario.Step{{At: 1, Do: scenario.DoKill, On: scenario.OnEngine}, {At: 2, Do: scenario.DoCut, On: scenario.OnMedia}}, nil, nil)
	if err == nil || strings.Count(err.Error(), "fault ") != 2 {
		t.Errorf("two problems: %v", err)
	}
	if got := explain(os.ErrPermission).Error(); !strings.Contains(got, "as the user the server runs as") {
		t.Errorf("no right: %s", got)
	}
}

// The real proxy is a path.
func TestProxyIsAPath(t *testing.T) {
	p, err := impair.New(impair.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	journal := run(t, nil, p, scenario.Step{For: time.Millisecond, Do: scenario.DoReorder, On: scenario.OnMedia, ReorderPercent: 5})
	up, down := p.Rules()
	if len(journal) != 2 || journal[0].Failed || journal[1].Failed || up.Reorder != 0 || down.Reorder != 0 {
		t.Errorf("rules %+v, journal:\n%s", up, outcomes(journal))
	}
}
