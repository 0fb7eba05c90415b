package allocatorserver

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

// placing is a client whose n-th request for a seat, from 1, is answered by answer.
func placing(t *testing.T, answer func(ctx context.Context, n int64) (allocator.Assignment, error)) *Client {
	t.Helper()
	c, err := bus.Connect(t.Context(), bus.Config{Embedded: startOne(t).server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var asked atomic.Int64
	s, err := bus.Serve(t.Context(), c, bus.Service{
		Name: bus.AllocatorService, Subject: bus.AllocatorSubject, Code: refusal,
		Verbs: []bus.Verb{bus.Handle("place", func(ctx context.Context, _ allocator.PlaceRequest) (allocator.Assignment, error) {
			return answer(ctx, asked.Add(1))
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return NewClient(c)
}

// TestASlowAllocatorIsAskedOnce: each request is a seat that somebody holds, so who
// answers in time is not asked twice.
func TestASlowAllocatorIsAskedOnce(t *testing.T) {
	const took, inTime = 600 * time.Millisecond, 900 * time.Millisecond
	var asked atomic.Int64
	c := placing(t, func(ctx context.Context, n int64) (allocator.Assignment, error) {
		asked.Store(n)
		select {
		case <-time.After(took):
		case <-ctx.Done():
		}
		return allocator.Assignment{Node: "n"}, ctx.Err()
	})
	for range 20 {
		before, began := asked.Load(), time.Now()
		_, err := c.Place(t.Context(), allocator.PlaceRequest{Call: sfu.CallID{ID: 1}})
		if time.Since(began) > inTime {
			continue // the machine was late
		}
		if n := asked.Load() - before; err != nil || n != 1 {
			t.Errorf("%d asked, %v", n, err)
		}
		return
	}
	t.Error("the machine was late each time")
}

// TestADeadAllocatorIsNotWaitedFor: where the one that was asked does not answer another
// is asked.
func TestADeadAllocatorIsNotWaitedFor(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	c := placing(t, func(_ context.Context, n int64) (allocator.Assignment, error) {
		if n == 1 {
			<-over
			return allocator.Assignment{}, context.Canceled
		}
		return allocator.Assignment{Node: "other"}, nil
	})
	a, err := c.Place(t.Context(), allocator.PlaceRequest{Call: sfu.CallID{ID: 1}})
	if err != nil || a.Node != "other" {
		t.Errorf("seat %+v, %v", a, err)
	}
}
