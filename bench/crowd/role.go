package crowd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/epollclient"
	"voicefleet/bench/internal/rawfan"
)

// The roles of RunRole.
const (
	roleSessions = "sessions"
	roleFan      = "fan"
)

// IsRole says whether a child process is one of ours.
func IsRole(name string) bool { return name == roleSessions || name == roleFan }

// RunRole is a child process of the harness.
func RunRole(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if args[0] == roleFan {
		return serveFan(ctx, in, out)
	}
	if len(args) != 4 {
		return errors.New("sessions: want server, mark and seed")
	}
	server, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	seed, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	return serveSessions(ctx, in, out, server, args[2], seed)
}

type arriveRequest struct {
	Tokens   []string
	Sources  []netip.Addr
	Sessions int
	Rate     float64
	Raw      netip.AddrPort // valid: raw sessions, there
	Patience time.Duration
}

type resumeRequest struct {
	At       time.Time
	Patience time.Duration
}

type counted struct {
	Delivered int64
	In        int
}

func serveSessions(ctx context.Context, in io.Reader, out io.Writer, server netip.AddrPort, mark string, seed uint64) error {
	l, err := epollclient.New(server, mark, seed)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	err = child.Serve(ctx, in, out, map[string]child.Verb{
		"arrive": child.On(func(ctx context.Context, r arriveRequest) (epollclient.Entered, error) {
			if r.Raw.IsValid() {
				return l.ArriveRaw(ctx, r.Raw, r.Sources, r.Sessions, r.Patience)
			}
			return l.Arrive(ctx, r.Tokens, r.Sources, r.Sessions, r.Rate, r.Patience)
		}),
		"cut": child.On(func(ctx context.Context, share float64) (int, error) { return l.Cut(ctx, share) }),
		"resume": child.On(func(ctx context.Context, r resumeRequest) (epollclient.Entered, error) {
			return l.Resume(ctx, r.At, r.Patience)
		}),
		"count": child.On(func(ctx context.Context, _ struct{}) (c counted, err error) {
			c.Delivered, c.In, err = l.Count(ctx)
			return c, err
		}),
		"tally": child.On(func(ctx context.Context, from int) (epollclient.Tally, error) { return l.Tally(ctx, from) }),
	})
	stop()
	return errors.Join(err, <-ended)
}

func serveFan(ctx context.Context, in io.Reader, out io.Writer) error {
	f, err := rawfan.Listen()
	if err != nil {
		return err
	}
	err = child.Serve(ctx, in, out, map[string]child.Verb{
		"addr":   child.On(func(context.Context, struct{}) (netip.AddrPort, error) { return f.Addr(), nil }),
		"accept": child.On(func(_ context.Context, n int) (struct{}, error) { return struct{}{}, f.Accept(n) }),
		"run":    child.On(func(ctx context.Context, p rawfan.Plan) (struct{}, error) { return struct{}{}, f.Run(ctx, p) }),
	})
	return errors.Join(err, f.Close())
}

// start starts this program again in a role.
func start(self []string, role string, args ...string) (*child.Process, error) {
	full := append(append(append([]string{}, self[1:]...), role), args...)
	return child.Start(role, self[0], full...)
}
