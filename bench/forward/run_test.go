package forward

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/bench"
)

// TestMain is the roles too.
func TestMain(m *testing.M) {
	if role := os.Getenv("BENCH_ROLE"); role == "engine" {
		if err := serveEngine(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	} else if role != "" {
		if err := RunRole(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// TestMeasure runs whole windows with a second pion forwarder in the place of the
// node: what the harness counts is known, whatever stands there.
func TestMeasure(t *testing.T) {
	r := newRun(t, Config{Rounds: 1, Window: time.Second}, func() server { return startPion(t, program{os.Args[0]}) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := Case{Talkers: 2, Listeners: 4}
	result, err := r.measure(ctx, 0, c)
	if err != nil {
		t.Fatal(err)
	}
	const expected = 50 * 2 * 5 // 50 intervals, 2 talkers, 5 who hear each
	for name, arm := range result.Arms {
		if len(arm.Windows) != 1 {
			t.Fatalf("%s: %d windows", name, len(arm.Windows))
		}
		w := arm.Windows[0]
		if w.Expected != expected || w.Received != expected || w.Unknown != 0 || (w.Refused == 0) != forwards(name) {
			t.Errorf("%s: received %d of %d, unknown %d, refused %d", name, w.Received, w.Expected, w.Unknown, w.Refused)
		}
		// What was counted while CPU was; on a busy machine a reading comes late.
		if w.Packets == 0 || w.Packets > w.Received+w.Other {
			t.Errorf("%s: %d packets during the CPU reading", name, w.Packets)
		}
		if forwards(name) && w.Opened == 0 {
			t.Errorf("%s: nothing was opened", name)
		}
		if want := rtpHeader + voicePayload + 16; w.Datagram != want && forwards(name) || w.Datagram < want {
			t.Errorf("%s: datagrams of %d bytes", name, w.Datagram)
		}
	}
	for _, arm := range result.Arms {
		arm.Windows[0].LateShare = 0 // of the machine that tests, not of what is tested
	}
	r.conclude([]CaseResult{result})
	for _, g := range r.report.Missed() {
		t.Errorf("missed: %+v", g)
	}
}

// TestConclude holds that loss, a late generator and a lossy yardstick are told.
func TestConclude(t *testing.T) {
	big := Case{Talkers: 3, Listeners: 300}
	good := func(total time.Duration) Window {
		w := Window{Packets: 1000, Expected: 1000, Received: 1000, Opened: 1}
		w.CPU.User = total / 4
		w.CPU.System = total - total/4
		return w
	}
	result := func() CaseResult {
		return CaseResult{Case: big, Arms: map[string]*Arm{
			armEdge:   {Windows: []Window{good(2 * time.Millisecond), good(2400 * time.Microsecond)}},
			armRaw:    {Windows: []Window{good(2 * time.Millisecond), good(2 * time.Millisecond)}},
			armSealed: {Windows: []Window{good(2 * time.Millisecond), good(2 * time.Millisecond)}},
			armPion:   {Windows: []Window{good(8 * time.Millisecond), good(8 * time.Millisecond)}},
		}}
	}
	missed := func(c CaseResult) string {
		r := &run{report: &bench.Report{}}
		r.conclude([]CaseResult{c})
		var names []string
		for _, g := range r.report.Missed() {
			names = append(names, g.Name)
		}
		return strings.Join(names, "; ")
	}
	if got := missed(result()); got != "" {
		t.Errorf("missed %q", got)
	}
	if got := result().ratio(armRaw); got.Median != 1.1 || got.Min != 1 || got.Max != 1.2 {
		t.Errorf("ratio %+v", got)
	}
	for name, c := range map[string]struct {
		spoil func(CaseResult)
		want  string
	}{
		"loss":       {func(c CaseResult) { c.Arms[armEdge].Windows[1].Received-- }, "3x300: packets lost or surplus"},
		"surplus":    {func(c CaseResult) { c.Arms[armEdge].Windows[1].Received++ }, "3x300: packets lost or surplus"},
		"pion loses": {func(c CaseResult) { c.Arms[armPion].Windows[0].Received-- }, "3x300: CPU against stock pion"},
		"raw slow": {func(c CaseResult) {
			c.Arms[armRaw].Windows[0] = good(time.Millisecond)
			c.Arms[armRaw].Windows[1] = good(time.Millisecond)
		}, "3x300: CPU against the raw loop"},
		"user":     {func(c CaseResult) { c.Arms[armEdge].Windows[0].CPU.User = 9 * time.Millisecond }, "3x300: CPU against the raw loop; 3x300: CPU against stock pion; 3x300: user-space CPU"},
		"late raw": {func(c CaseResult) { c.Arms[armRaw].Windows[0].LateShare = 0.5 }, "3x300: CPU against the raw loop"},
		"forged":   {func(c CaseResult) { c.Arms[armEdge].Windows[0].Refused = 1 }, "3x300: packets not authentic or of unknown source"},
	} {
		r := result()
		c.spoil(r)
		if got := missed(r); got != c.want {
			t.Errorf("%s: missed %q, want %q", name, got, c.want)
		}
	}
}

// TestAgainst: a case is worse when its ratio is above that of an earlier report by more
// than what is allowed.
func TestAgainst(t *testing.T) {
	c := CaseResult{Case: Case{Talkers: 3, Listeners: 300}, Arms: map[string]*Arm{armEdge: {}, armSealed: {}}}
	for arm, cpu := range map[string]time.Duration{armEdge: 1500, armSealed: 1000} {
		w := Window{Packets: 1000}
		w.CPU.User = cpu * time.Microsecond
		c.Arms[arm].Windows = []Window{w}
	}
	earlier := &bench.Report{Metrics: []bench.Metric{{Name: sealedRatio(c.Case), Samples: []float64{1, 1.25, 9}}}}
	for _, one := range []struct {
		against *bench.Report
		percent float64
		want    bool
	}{{earlier, 19, true}, {earlier, 21, false}, {nil, 0, false}, {&bench.Report{}, 0, false}} {
		r := &run{config: Config{Against: one.against, Worse: one.percent}}
		if got := r.worse(c); got != one.want {
			t.Errorf("against %+v and %v %%: worse %v", one.against, one.percent, got)
		}
	}
}

// testProgress writes progress into the test's log.
type testProgress struct{ t testing.TB }

func (p testProgress) Say(format string, args ...any) { p.t.Logf(format, args...) }
func (p testProgress) Status(line string)             { p.t.Log(line) }
