package target

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/procstat"
)

const (
	// readyTimeout is how long a server may take to be ready.
	readyTimeout = 30 * time.Second
	// endTimeout is how long it may take to end after SIGTERM.
	endTimeout = 15 * time.Second
	// drainedBy and drainedFor are what its log says of Drain.
	drainedBy  = "voicebench"
	drainedFor = "a step of a scenario"
	// askTimeout bounds one request to it.
	askTimeout = 10 * time.Second
	// maxAnswer bounds what is read of one answer.
	maxAnswer = 16 << 20
)

// loopback is where the servers we start live.
var loopback = netip.MustParseAddr("127.0.0.1")

// Process is a server whose processes live on this machine.
type Process interface {
	// PIDs are its processes. It fails when they are not those of before: what was
	// measured is of another server then.
	PIDs() ([]int, error)
	// CPU is the time of all its processes, also of those that have ended.
	CPU() (procstat.CPU, error)
	// Agent and Engine are the processes a fault is done to.
	Agent() (int, error)
	Engine() (int, error)
	// Metrics are what it shows of itself.
	Metrics(ctx context.Context) (Metrics, error)
	// Drain has it take no new calls and returns when it says so; those it has
	// stay.
	Drain(ctx context.Context) error
	// Done is closed when it has ended; Err says why, unless it was asked to.
	Done() <-chan struct{}
	Err() error
}

var (
	_ Process = (*Node)(nil)
	_ Process = (*Up)(nil)
)

// Shape is how hard a run prepares and cleans up. What it measures has its own
// pace.
type Shape struct {
	// AtOnce bounds the requests under way (default 16, at most 256). More make
	// the preparation of thousands of sessions quicker, and the server busier.
	AtOnce int
}

const (
	defaultAtOnce = 16
	maxAtOnce     = 256
)

func (s *Shape) validate() error {
	if s.AtOnce == 0 {
		s.AtOnce = defaultAtOnce
	}
	if s.AtOnce < 1 || s.AtOnce > maxAtOnce {
		return fmt.Errorf("%d requests at once, want 1 to %d", s.AtOnce, maxAtOnce)
	}
	return nil
}

// Each calls f for 0 to n-1, AtOnce of them at a time, until one fails.
func (s Shape) Each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	if err := s.validate(); err != nil {
		return err
	}
	group, each := errgroup.WithContext(ctx)
	group.SetLimit(s.AtOnce)
	for i := range n {
		if each.Err() != nil {
			break
		}
		group.Go(func() error { return f(each, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err() // not all were called
}
