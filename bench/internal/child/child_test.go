package child_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/procstat"
)

// TestMain is the child too.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_CHILD") == "1" {
		gate := make(chan struct{})
		err := child.Serve(context.Background(), os.Stdin, os.Stdout, map[string]child.Verb{
			"double": child.On(func(_ context.Context, n int) (int, error) { return 2 * n, nil }),
			"fail":   child.On(func(context.Context, struct{}) (int, error) { return 0, errors.New("as asked") }),
			"wait":   child.On(func(context.Context, struct{}) (string, error) { <-gate; return "opened", nil }),
			"open":   child.On(func(context.Context, struct{}) (string, error) { close(gate); return "", nil }),
			"exit":   child.On(func(context.Context, struct{}) (int, error) { os.Exit(3); return 0, nil }),
		})
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T) *child.Process {
	t.Helper()
	t.Setenv("BENCH_CHILD", "1")
	p, err := child.Start("tester", os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCalls(t *testing.T) {
	p := start(t)
	var all sync.WaitGroup
	var opened string
	all.Go(func() {
		if err := p.Call(t.Context(), "wait", nil, &opened); err != nil {
			t.Error(err)
		}
	})
	for i := range 50 {
		all.Go(func() {
			var got int
			if err := p.Call(t.Context(), "double", i, &got); err != nil || got != 2*i {
				t.Errorf("double of %d: %d, %v", i, got, err)
			}
		})
	}
	if err := p.Call(t.Context(), "fail", nil, nil); err == nil || !strings.Contains(err.Error(), "as asked") {
		t.Errorf("got %v", err)
	}
	if err := p.Call(t.Context(), "dance", nil, nil); err == nil || !strings.Contains(err.Error(), "dance") {
		t.Errorf("got %v", err)
	}
	if err := p.Call(t.Context(), "double", "x", nil); err == nil {
		t.Error("a string was doubled")
	}
	if err := p.Call(t.Context(), "open", nil, nil); err != nil {
		t.Error(err)
	}
	all.Wait()
	if opened != "opened" {
		t.Errorf("wait answered %q", opened)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := p.Call(t.Context(), "double", 1, nil); err == nil {
		t.Error("an ended child answered")
	}
}

func TestChildDies(t *testing.T) {
	p := start(t)
	if err := p.Call(t.Context(), "exit", nil, nil); err == nil {
		t.Error("no error")
	}
	if err := p.Stop(); err == nil {
		t.Error("status 3, no error")
	}
}

func TestStepBack(t *testing.T) {
	p := start(t)
	defer func() { _ = p.Stop() }()
	policies := func(want int) {
		t.Helper()
		var got int
		if err := p.Call(t.Context(), "double", 4, &got); err != nil || got != 8 {
			t.Errorf("answers %d, %v", got, err)
		}
		threads, err := procstat.Threads(p.PID())
		if err != nil || len(threads) == 0 {
			t.Fatalf("%d threads, %v", len(threads), err)
		}
		for _, one := range threads {
			if attr, err := unix.SchedGetAttr(one.ID, 0); err != nil || int(attr.Policy) != want {
				t.Errorf("thread %d: policy %d, %v; want %d", one.ID, attr.Policy, err, want)
			}
		}
	}
	switch err := p.StepBack(true); {
	case errors.Is(err, child.ErrPriority):
		policies(unix.SCHED_NORMAL)
	case err != nil:
		t.Fatal(err)
	default:
		policies(unix.SCHED_IDLE)
	}
	if err := p.StepBack(false); err != nil {
		t.Fatal(err)
	}
	policies(unix.SCHED_NORMAL)
}
