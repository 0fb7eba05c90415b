package cql

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"voicefleet/textchat"
)

// TestHotChannel floods one channel while somebody reads another one: no more than what
// one lane has under way comes before each of its reads, as is seen by who is answered
// first, and beside the same flood past the lanes.
func TestHotChannel(t *testing.T) {
	s := openAt(t, patient(t, runKeyspace()))
	hot, quiet := newID(), newID()
	m := message(quiet, newID(), "quiet")
	_, _, err := s.AddMessage(ctx, m, "")
	must(t, err)
	read := func() {
		t.Helper()
		if got, err := s.Message(ctx, quiet, m.ID); err != nil || got.Content != "quiet" {
			t.Fatalf("%q, %v", got.Content, err)
		}
	}

	t.Run("Held", func(t *testing.T) {
		// All places of the hot channel are taken, and as many wait as may.
		for range laneWidth {
			must(t, s.lanes.enter(ctx, uint64(hot)))
		}
		var done atomic.Int32
		var writers sync.WaitGroup
		for range laneQueue {
			writers.Go(func() {
				if _, _, err := s.AddMessage(ctx, message(hot, newID(), "hot"), ""); err != nil {
					t.Error(err)
				}
				done.Add(1)
			})
		}
		for range 20 {
			read()
		}
		if n := done.Load(); n != 0 {
			t.Errorf("%d writes were done though there was no place", n)
		}
		for range laneWidth {
			s.lanes.leave(uint64(hot))
		}
		writers.Wait()
	})

	// between is how many writes of a flood are answered while one read is under way, in
	// the middle of many.
	between := func(write func(context.Context, textchat.Message) error) int {
		const writers, reads = laneWidth + laneQueue - 8, 30
		flooding, stop := context.WithCancel(ctx)
		var answered atomic.Int64
		var tasks sync.WaitGroup
		up := make(chan struct{}, writers)
		for range writers {
			tasks.Go(func() {
				for first := true; flooding.Err() == nil; first = false {
					err := write(ctx, message(hot, newID(), "hot"))
					if answered.Add(1); first {
						up <- struct{}{}
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range writers {
			<-up
		}
		var passed []int
		for range reads {
			before := answered.Load()
			read()
			passed = append(passed, int(answered.Load()-before))
		}
		stop()
		tasks.Wait()
		slices.Sort(passed)
		return passed[reads/2]
	}
	apart := between(func(ctx context.Context, m textchat.Message) error { _, _, err := s.AddMessage(ctx, m, ""); return err })
	past := between(func(ctx context.Context, m textchat.Message) error { return s.insert(ctx, m, "") })
	t.Logf("%d writes are answered during a read, %d past the lanes", apart, past)
	if apart*2 > past {
		t.Errorf("the hot channel goes before others: %d writes are answered during a read, %d past the lanes", apart, past)
	}
}
