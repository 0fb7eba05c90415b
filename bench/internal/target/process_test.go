package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a program for the shell.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// An end nobody asked for is told with the last of the log; one that was asked for
// is none.
func TestUnwelcomeEnd(t *testing.T) {
	p, err := begin("server", script(t, "echo the disk is full >&2; exit 3"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-p.ended
	for _, want := range []string{"server ended: exit status 3", "the last of its log:\nthe disk is full"} {
		if err := p.err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	cause := errors.New("ask it")
	if err := p.because(cause); !errors.Is(err, cause) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("%v", err)
	}
	if err := p.because(nil); err != nil {
		t.Errorf("nothing went wrong: %v", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop what has ended: %v", err)
	}

	var log strings.Builder
	p, err = begin("server", script(t, `trap 'echo bye; exit 0' TERM; echo $WORD; while :; do sleep 0.01; done`), []string{"WORD=up"}, &log)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.log.tail(), "up"); {
		if time.Now().After(deadline) {
			t.Fatal("not up")
		}
		select {
		case <-p.ended:
			t.Fatal("ended")
		case <-time.After(time.Millisecond):
		}
	}
	if err := p.err(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := p.stop(); err != nil || p.err() != nil {
		t.Errorf("%v, %v", err, p.err())
	}
	if log.String() != "up\nbye\n" {
		t.Errorf("log %q", log.String())
	}
}

// What does not start says what it logged, and leaves nothing behind.
func TestStartFails(t *testing.T) {
	broken := script(t, "echo the port is taken >&2; exit 1")
	before, err := filepath.Glob(filepath.Join(os.TempDir(), "voicebench-*"))
	if err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(program string) error{
		"node": func(p string) error {
			n, err := StartNode(t.Context(), NodeConfig{Program: p})
			if err == nil {
				_ = n.Stop()
			}
			return err
		},
		"up": func(p string) error {
			u, err := StartUp(t.Context(), UpConfig{Program: p})
			if err == nil {
				_ = u.Stop()
			}
			return err
		},
	} {
		if err := start(broken); err == nil || !strings.Contains(err.Error(), "ended at once: exit status 1") || !strings.Contains(err.Error(), "the port is taken") {
			t.Errorf("%s: %v", name, err)
		}
		if err := start("no-such-program"); err == nil || !strings.Contains(err.Error(), "make build makes it") {
			t.Errorf("%s: %v", name, err)
		}
	}
	after, err := filepath.Glob(filepath.Join(os.TempDir(), "voicebench-*"))
	if err != nil || len(after) > len(before) {
		t.Errorf("data folders %v, before %v (%v)", after, before, err)
	}
	for _, bad := range []NodeConfig{{Workers: -1}, {Workers: 129}, {MaxSessions: -1}, {Shape: Shape{AtOnce: maxAtOnce + 1}}} {
		bad.Program = broken
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

// Goroutines are counted however their dump is cut into writes, and the end of the
// log is kept.
func TestKept(t *testing.T) {
	var k kept
	dump := "SIGQUIT: quit\n\ngoroutine 1 gp=0xc000 m=0 mp=0x1 [chan receive]:\nmain.main()\n\ngoroutine 23 [select, 2 minutes]:\ngoroutine is a word\n created by goroutine 7 [x]:\n" + strings.Repeat("x", 2*lineKept) + "\n"
	for _, b := range []byte(dump) {
		if n, err := k.Write([]byte{b}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, quiet := k.count(); n != 2 || quiet > time.Minute {
		t.Errorf("%d goroutines, quiet for %v", n, quiet)
	}
	_, _ = k.Write([]byte(strings.Repeat("y", logKept) + " the end\n"))
	if text := k.tail(); !strings.HasSuffix(text, " the end") || strings.Contains(text, "goroutine") || len(text) > logKept+100 {
		t.Errorf("kept %d bytes: %.100q", len(text), text)
	}
	k.reset()
	if n, _ := k.count(); n != 0 || k.tail() != "it logged nothing" {
		t.Errorf("%d, %q", n, k.tail())
	}
}

// No more are under way than may be, all are called, and the first failure ends
// it.
func TestEach(t *testing.T) {
	var now, most, called atomic.Int64
	full := make(chan struct{})
	err := Shape{AtOnce: 3}.Each(t.Context(), 30, func(context.Context, int) error {
		defer now.Add(-1)
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		if called.Add(1) == 3 {
			close(full) // three are under way together
		}
		<-full
		return nil
	})
	if err != nil || most.Load() != 3 || called.Load() != 30 {
		t.Errorf("%d called, %d at once, %v", called.Load(), most.Load(), err)
	}
	called.Store(0)
	broken := errors.New("broken")
	err = Shape{AtOnce: 1}.Each(t.Context(), 30, func(_ context.Context, i int) error {
		called.Add(1)
		if i == 4 {
			return fmt.Errorf("%d: %w", i, broken)
		}
		return nil
	})
	if !errors.Is(err, broken) || called.Load() > 6 {
		t.Errorf("%d called, %v", called.Load(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Shape{}).Each(ctx, 1, func(context.Context, int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := (Shape{AtOnce: -1}).Each(t.Context(), 1, nil); err == nil {
		t.Error("-1 at once")
	}
}

// Lines of two programs in one log are whole, and say whose they are.
func TestNamed(t *testing.T) {
	var log strings.Builder
	a, b := byName("a", &log), byName("b", &log)
	for _, w := range []struct {
		to   io.Writer
		text string
	}{{a, "one\ntw"}, {b, "three\n"}, {a, "o\n"}, {b, "\nrest"}} {
		if n, err := io.WriteString(w.to, w.text); n != len(w.text) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "a: one\nb: three\na: two\nb: \n"; log.String() != want {
		t.Errorf("%q, want %q", log.String(), want)
	}
	if byName("a", nil) != nil {
		t.Error("a log of nobody")
	}
}
