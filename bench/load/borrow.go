package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/remote"
	"voicefleet/bench/internal/role"
	"voicefleet/internal/bus"
)

// alignments is how many exchanges the offset of a clock is estimated from.
const alignments = 64

// busTimeout is how long a bus is waited for; generators have been waiting on it.
const busTimeout = 10 * time.Second

// Borrow takes generators that wait on a bus, all of them without names, and sees
// that their clocks can be aligned to ours. free gives them back.
func Borrow(ctx context.Context, url string, names []string, progress bench.Progress) (list []Generator, free func() error, err error) {
	connecting, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	conn, err := bus.Connect(connecting, bus.Config{URL: url, Name: "voicebench"})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: see that a NATS server answers there", err)
	}
	var taken []Generator
	giveBack := func() error {
		var errs []error
		for _, g := range taken {
			errs = append(errs, g.Stop())
		}
		conn.Close()
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, giveBack())
		}
	}()
	if len(names) == 0 {
		found, err := remote.Find(ctx, conn)
		if err != nil {
			return nil, nil, err
		}
		for _, one := range found {
			names = append(names, one.Name)
		}
	}
	if len(names) == 0 {
		return nil, nil, errors.New("no generator waits on this bus: start one on each machine with voicebench generator --bus " + url)
	}
	host, _ := os.Hostname() // for people
	for _, name := range names {
		g, err := remote.Dial(ctx, conn, name, fmt.Sprintf("voicebench on %s", host))
		if err != nil {
			return nil, nil, err
		}
		one := Generator{Name: name, Generator: role.Generator{Caller: g}, Stop: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), cleanup)
			defer cancel()
			return g.Close(ctx)
		}}
		taken = append(taken, one)
		if err := one.align(ctx); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		progress.Say("generator %s on %s: clock %v", name, g.Info().Host, one.clock)
	}
	return taken, giveBack, nil
}
