package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// waiter is a part that notes when it ends.
func waiter(name string, log *[]string) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		*log = append(*log, name)
		return nil
	}}
}

func TestPartsEndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := live(ctx, slog.New(slog.DiscardHandler), waiter("bus", &log), waiter("rooms", &log), waiter("http", &log)); err != nil {
			t.Error(err)
		}
		if !slices.Equal(log, []string{"http", "rooms", "bus"}) {
			t.Errorf("ended in the order %v", log)
		}
	})
}

func TestOneFailureEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		broken := errors.New("disk full")
		fail := part{"store", func(context.Context) error { time.Sleep(time.Minute); return broken }}
		err := live(context.Background(), slog.New(slog.DiscardHandler), waiter("bus", &log), fail, waiter("http", &log))
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "store: ") {
			t.Errorf("got %v", err)
		}
		if !slices.Equal(log, []string{"http", "bus"}) {
			t.Errorf("ended in the order %v", log)
		}
	})
}

func TestHangingPartIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		release := make(chan struct{})
		hang := part{"deaf", func(context.Context) error { <-release; return nil }}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		err := live(ctx, slog.New(slog.DiscardHandler), hang, waiter("http", &log))
		close(release)
		if err == nil || !strings.Contains(err.Error(), "deaf did not end") {
			t.Errorf("got %v", err)
		}
	})
}

func TestPartThatEndsByItselfIsAFailure(t *testing.T) {
	err := live(context.Background(), slog.New(slog.DiscardHandler), part{"short", func(context.Context) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "short ended by itself") {
		t.Errorf("got %v", err)
	}
}
