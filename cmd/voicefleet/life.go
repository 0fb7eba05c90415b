package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// dyingTime is how long everything together may take to end in order.
const dyingTime = 10 * time.Second

// again is how soon after a first signal a second one counts as "now": make and
// a terminal may both pass on the same Ctrl-C.
const again = 500 * time.Millisecond

// part is one long-running thing of a program. run blocks until all it began has
// ended; it ends when ctx does.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// live runs the parts until ctx ends or one of them fails, and then ends them one
// after the other, the last first: what depends on a neighbour dies before it.
func live(ctx context.Context, log *slog.Logger, parts ...part) error {
	type ending struct {
		part int
		err  error
	}
	ended := make(chan ending, len(parts))
	stop := make([]context.CancelFunc, len(parts))
	over := make([]bool, len(parts))
	for i, p := range parts {
		// Not a child of ctx: the order of dying is ours.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stop[i] = cancel
		go func() { ended <- ending{i, p.run(own)} }()
	}
	var failure error
	note := func(e ending) {
		over[e.part] = true
		if e.err != nil {
			failure = errors.Join(failure, fmt.Errorf("%s: %w", parts[e.part].name, e.err))
		}
	}
	select {
	case <-ctx.Done():
	case e := <-ended:
		note(e)
		if e.err == nil {
			failure = fmt.Errorf("%s ended by itself", parts[e.part].name)
		}
	}
	deadline := time.After(dyingTime)
	for i := len(parts) - 1; i >= 0; i-- {
		stop[i]()
		for !over[i] {
			select {
			case e := <-ended:
				note(e)
			case <-deadline:
				return errors.Join(failure, fmt.Errorf("%s did not end within %v", parts[i].name, dyingTime))
			}
		}
		log.Debug("part ended", "part", parts[i].name)
	}
	return failure
}

// untilSignal is a context that ends with the first Ctrl-C, SIGTERM or end of the
// terminal. A second one kills the process at once.
func untilSignal(parent context.Context, first func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		select {
		case <-ctx.Done():
			signal.Stop(signals)
			return
		case <-signals:
		}
		begun := time.Now()
		first()
		cancel()
		// The process is dying: this ends with it.
		for range signals {
			if time.Since(begun) >= again {
				os.Exit(exitKilled)
			}
		}
	}()
	return ctx, cancel
}

// exitKilled is the exit code after a second signal, as a shell tells it of
// SIGINT.
const exitKilled = 130
