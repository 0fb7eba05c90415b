package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/bench/internal/child"
	"voicefleet/internal/bus"
)

// TestMain is a child process, too.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_CHILD") == "1" {
		err := child.Serve(context.Background(), os.Stdin, os.Stdout, map[string]child.Verb{
			"pid":  child.On(func(context.Context, struct{}) (int, error) { return os.Getpid(), nil }),
			"fail": child.On(func(context.Context, struct{}) (int, error) { return 0, errors.New("as asked") }),
		})
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// embedded starts a bus; each call of the result is a connection of its own, as
// each process has.
func embedded(t testing.TB) func() *bus.Conn {
	t.Helper()
	e := embed(t)
	return func() *bus.Conn { return connected(t, e) }
}

// busToken lets in who dials an embedded bus by itself.
const busToken = "only in process"

func embed(t testing.TB) *bus.Embedded {
	t.Helper()
	e, err := bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: t.TempDir(), Token: busToken})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	return e
}

func connected(t testing.TB, e *bus.Embedded) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), bus.Config{Embedded: e, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// start serves a generator and returns when it is announced; end ends it.
func start(t testing.TB, conn *bus.Conn, config Config) (end func()) {
	t.Helper()
	// The test's own context ends before its cleanups, which close what is open.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, conn, config) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(end)
	within(t, "the generator takes requests", func() bool {
		_, err := bus.Request[free, bus.Done](t.Context(), conn, bus.GeneratorSubject(config.Name, "fetch"), free{})
		return !errors.Is(err, bus.ErrNobody)
	})
	return end
}

// within asks until something is true; each question is an answer of the bus.
func within(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func leaseOf(t testing.TB, conn *bus.Conn, name, coordinator string) *Generator {
	t.Helper()
	g, err := Dial(t.Context(), conn, name, coordinator)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return g
}

func contains(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want %q in it", err, text)
		}
	}
}

// alphabet is a body whose every part is different.
var alphabet = sync.OnceValue(func() string {
	b := make([]byte, 0, maxBody)
	for i := 0; len(b) < maxBody; i++ {
		b = append(strconv.AppendInt(b, int64(i), 36), ',')
	}
	return string(b[:maxBody])
})

func letters(n int) string { return alphabet()[:n] }

func TestCalls(t *testing.T) {
	connect := embedded(t)
	var gate = make(chan struct{})
	var running, cancelled = make(chan bool, 1), make(chan error, 1)
	verbs := map[string]child.Verb{
		"double":  child.On(func(_ context.Context, n int) (int, error) { return 2 * n, nil }),
		"echo":    child.On(func(_ context.Context, s string) (string, error) { return s, nil }),
		"letters": child.On(func(_ context.Context, n int) (string, error) { return letters(n), nil }),
		"fail": child.On(func(context.Context, struct{}) (int, error) {
			return 0, errors.New("client 7: no answer from 192.0.2.1:50000")
		}),
		"wait": child.On(func(context.Context, struct{}) (string, error) { <-gate; return "opened", nil }),
		"open": child.On(func(context.Context, struct{}) (string, error) { close(gate); return "", nil }),
		"hang": child.On(func(ctx context.Context, _ struct{}) (string, error) {
			running <- true
			<-ctx.Done()
			<-running
			cancelled <- ctx.Err()
			return "", ctx.Err()
		}),
	}
	start(t, connect(), Config{Name: "g1", Host: "192.0.2.7", Open: Plain(verbs)})
	g := leaseOf(t, connect(), "g1", "desk")
	if i := g.Info(); i.Host != "192.0.2.7" || i.Machine.Cores < 1 || i.Machine.Memory < 1 || i.Protocol != Protocol {
		t.Errorf("%+v", i)
	}

	t.Run("at once", func(t *testing.T) {
		var all sync.WaitGroup
		all.Go(func() {
			var opened string
			if err := g.Call(t.Context(), "wait", nil, &opened); err != nil || opened != "opened" {
				t.Errorf("%q, %v", opened, err)
			}
		})
		for i := range 3 * maxCalls {
			all.Go(func() {
				var got int
				if err := g.Call(t.Context(), "double", i, &got); err != nil || got != 2*i {
					t.Errorf("double of %d: %d, %v", i, got, err)
				}
			})
		}
		if err := g.Call(t.Context(), "open", nil, nil); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	t.Run("large both ways", func(t *testing.T) {
		// Two bytes of quotes are of the body, too.
		for _, n := range []int{0, 1, partSize - 2, partSize - 1, 3*partSize + 5, maxBody - 2} {
			var got string
			if err := g.Call(t.Context(), "echo", letters(n), &got); err != nil || got != letters(n) {
				t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
			}
		}
		contains(t, g.Call(t.Context(), "echo", letters(maxBody-1), nil), "at most 16", "fewer clients")
		contains(t, g.Call(t.Context(), "letters", maxBody-1, nil), "longer than 16 MiB", "fewer clients")
	})
	t.Run("errors", func(t *testing.T) {
		contains(t, g.Call(t.Context(), "fail", nil, nil), "g1: fail: client 7: no answer from 192.0.2.1:50000")
		contains(t, g.Call(t.Context(), "dance", nil, nil), `no verb "dance"`)
		contains(t, g.Call(t.Context(), "double", "x", nil), "read request")
		contains(t, g.Call(t.Context(), "double", 1, new(string)), "read answer")
		contains(t, g.Call(t.Context(), "double", func() {}, nil), "ask g1 to double")
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		contains(t, g.Call(ctx, "hang", nil, nil), "deadline exceeded")
		if err := <-cancelled; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the verb ended with %v", err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := make(chan error)
		go func() { asked <- g.Call(ctx, "hang", nil, nil) }()
		within(t, "the verb runs", func() bool {
			return g.Call(t.Context(), "double", 1, nil) == nil && len(running) == 1
		})
		cancel()
		contains(t, <-asked, "canceled")
		// The next word of ours tells the generator.
		within(t, "the verb ends", func() bool {
			_ = g.Call(t.Context(), "double", 1, nil)
			return len(cancelled) == 1
		})
		<-cancelled
	})
}

// TestLongVerb holds a call beyond the time a question is held, several times.
func TestLongVerb(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 2 s")
	}
	t.Parallel()
	connect := embedded(t)
	start(t, connect(), Config{Name: "slow", Open: Plain(map[string]child.Verb{
		"slow": child.On(func(ctx context.Context, _ struct{}) (string, error) {
			select {
			case <-time.After(pollTime + 200*time.Millisecond):
				return letters(partSize + 1), nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}),
	})})
	g := leaseOf(t, connect(), "slow", "desk")
	var got string
	if err := g.Call(t.Context(), "slow", nil, &got); err != nil || got != letters(partSize+1) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// counted opens verbs and counts what is open.
type counted struct{ opened, shut, running atomic.Int64 }

func (c *counted) open(context.Context) (Verbs, func() error, error) {
	c.opened.Add(1)
	verbs := map[string]child.Verb{
		"hang": child.On(func(ctx context.Context, _ struct{}) (int, error) {
			c.running.Add(1)
			defer c.running.Add(-1)
			<-ctx.Done()
			return 0, ctx.Err()
		}),
		"running": child.On(func(context.Context, struct{}) (int64, error) { return c.running.Load(), nil }),
	}
	return func(name string) child.Verb { return verbs[name] }, func() error {
		if n := c.running.Load(); n != 0 {
			return fmt.Errorf("shut while %d verbs run", n)
		}
		c.shut.Add(1)
		return nil
	}, nil
}

func TestOneCoordinatorAtATime(t *testing.T) {
	connect := embedded(t)
	var c counted
	start(t, connect(), Config{Name: "g1", Open: c.open})
	first := leaseOf(t, connect(), "g1", "desk")
	other := connect()
	_, err := Dial(t.Context(), other, "g1", "couch")
	contains(t, err, `coordinator "desk"`, "wait for the end")
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if c.opened.Load() != 1 || c.shut.Load() != 1 {
		t.Errorf("opened %d, shut %d", c.opened.Load(), c.shut.Load())
	}
	contains(t, first.Call(t.Context(), "running", nil, nil), "given back")
	second := leaseOf(t, other, "g1", "couch")
	if err := second.Call(t.Context(), "running", nil, nil); err != nil {
		t.Error(err)
	}
	_, err = Dial(t.Context(), other, "g2", "couch")
	contains(t, err, `no generator "g2"`, "there are: g1", "voicebench generator")
	_, err = dial(t.Context(), other, "g1", "couch", "v9.9.9", leaseTTL)
	contains(t, err, "v9.9.9", "same commit")
	_, err = Dial(t.Context(), other, "g 1", "couch")
	contains(t, err, "letters, digits")
	if err := Serve(t.Context(), other, Config{Name: "a.b", Open: c.open}); err == nil {
		t.Error("a name with a dot was taken")
	}
	if err := Serve(t.Context(), other, Config{Name: "ab"}); err == nil {
		t.Error("a generator without verbs was started")
	}
}

// TestCoordinatorDies lets a coordinator fall silent in the middle of a verb: the
// generator ends it, closes all and is free.
func TestCoordinatorDies(t *testing.T) {
	connect := embedded(t)
	var c counted
	const ttl = 400 * time.Millisecond
	start(t, connect(), Config{Name: "g1", Open: c.open, ttl: ttl})
	dying := connect()
	g, err := dial(t.Context(), dying, "g1", "desk", Version(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() { asked <- g.Call(context.Background(), "hang", nil, nil) }()
	within(t, "the verb runs", func() bool {
		var n int64
		return g.Call(t.Context(), "running", nil, &n) == nil && n == 1
	})
	died := time.Now()
	dying.Close()
	second := connect()
	within(t, "the next is let in", func() bool {
		next, err := dial(t.Context(), second, "g1", "couch", Version(), ttl)
		if err != nil {
			return false
		}
		if took := time.Since(died); took < ttl/2 || c.shut.Load() != 1 || c.running.Load() != 0 {
			t.Errorf("let in after %v, shut %d, running %d", took, c.shut.Load(), c.running.Load())
		}
		if err := next.Close(t.Context()); err != nil {
			t.Error(err)
		}
		return true
	})
	if err := <-asked; err == nil {
		t.Error("a call without a bus was answered")
	}
	<-g.Lost()
	contains(t, g.Err(), "g1")
	if err := g.Close(t.Context()); err == nil {
		t.Error("a lost generator was given back")
	}
}

// TestGeneratorEnds lets the generator leave in the middle of a verb.
func TestGeneratorEnds(t *testing.T) {
	connect := embedded(t)
	var c counted
	end := start(t, connect(), Config{Name: "g1", Open: c.open})
	const silent = 400 * time.Millisecond
	g, err := dial(t.Context(), connect(), "g1", "desk", Version(), silent)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() { asked <- g.Call(t.Context(), "hang", nil, nil) }()
	within(t, "the verb runs", func() bool {
		var n int64
		return g.Call(t.Context(), "running", nil, &n) == nil && n == 1
	})
	end()
	if c.shut.Load() != 1 {
		t.Error("ended without closing")
	}
	if err := <-asked; err == nil {
		t.Error("an ended generator answered")
	}
	<-g.Lost()
	contains(t, g.Err(), "nothing was heard of it", "still runs")
	contains(t, g.Close(t.Context()), "nothing was heard")
}

func TestOpenFails(t *testing.T) {
	connect := embedded(t)
	broken := true
	start(t, connect(), Config{Name: "g1", Open: func(context.Context) (Verbs, func() error, error) {
		if broken {
			broken = false
			return nil, nil, errors.New("bind 192.0.2.1: not our address")
		}
		return func(string) child.Verb { return nil }, func() error { return errors.New("two clients did not end") }, nil
	}})
	conn := connect()
	_, err := Dial(t.Context(), conn, "g1", "desk")
	contains(t, err, "generator g1 refuses", "bind 192.0.2.1")
	g, err := Dial(t.Context(), conn, "g1", "desk")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, g.Close(t.Context()), "two clients did not end")
	if err := g.Close(t.Context()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// TestChildren has a process for each lease, which ends with it.
func TestChildren(t *testing.T) {
	connect := embedded(t)
	t.Setenv("BENCH_CHILD", "1")
	start(t, connect(), Config{Name: "g1", Open: Children(func() (*child.Process, error) { return child.Start("clients", os.Args[0]) })})
	conn := connect()
	var pids []int
	for range 2 {
		g, err := Dial(t.Context(), conn, "g1", "desk")
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		if err := g.Call(t.Context(), "pid", nil, &pid); err != nil {
			t.Error(err)
		}
		contains(t, g.Call(t.Context(), "fail", struct{}{}, nil), "g1: fail: ", "as asked")
		contains(t, g.Call(t.Context(), "dance", nil, nil), `no verb "dance"`)
		if _, err := Align(t.Context(), g, 1); err != nil {
			t.Error(err)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("process %d outlives its lease: %v", pid, err)
		}
		pids = append(pids, pid)
	}
	if pids[0] == pids[1] || pids[0] == os.Getpid() {
		t.Errorf("processes %v of %d", pids, os.Getpid())
	}
}

func TestNameIsTaken(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a dead generator would be forgotten")
	}
	t.Parallel()
	connect := embedded(t)
	start(t, connect(), Config{Name: "g1", Open: Plain(nil)})
	conn := connect()
	list, err := Find(t.Context(), conn)
	if err != nil || len(list) != 1 || list[0].Name != "g1" {
		t.Errorf("%+v, %v", list, err)
	}
	contains(t, Serve(t.Context(), conn, Config{Name: "g1", Open: Plain(nil)}), `"g1"`, "another --name")
}

// TestAlign measures two generators of this machine, one of them with a clock that
// is 37 ms ahead.
func TestAlign(t *testing.T) {
	connect := embedded(t)
	const shift = 37 * time.Millisecond
	start(t, connect(), Config{Name: "right", Open: Plain(nil)})
	start(t, connect(), Config{Name: "ahead", Open: Plain(nil), Now: func() time.Time { return time.Now().Add(shift) }})
	conn := connect()
	var clocks []Clock
	var last *Generator
	for name, truth := range map[string]time.Duration{"right": 0, "ahead": shift} {
		g := leaseOf(t, conn, name, "desk")
		last = g
		first, err := Align(t.Context(), g, 50)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Align(t.Context(), g, 50)
		if err != nil {
			t.Fatal(err)
		}
		clock := Over(first, second)
		for _, c := range []Clock{first, second, clock} {
			// The wall clock of this machine is slewed at most by 500 ppm.
			if off := (c.Offset - truth).Abs(); off > c.Uncertainty || c.Uncertainty <= 0 || c.Uncertainty > 5*time.Millisecond {
				t.Errorf("%s: %v, truly %v", name, c, truth)
			}
		}
		t.Logf("%s: %v", name, clock)
		clocks = append(clocks, first)
	}
	correction, uncertainty := Skew(clocks[0], clocks[1], time.Now())
	if off := (correction.Abs() - shift).Abs(); off > uncertainty {
		t.Errorf("latency is corrected by %v ± %v, truly %v", correction, uncertainty, shift)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Align(ctx, last, 3)
	contains(t, err, "align clocks")
}
