package sfuserver

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"voicefleet/sfu"
)

// TestEventsOfASlowAgent holds that a queue nobody reads stays small, and that
// nothing of worth is lost in it.
func TestEventsOfASlowAgent(t *testing.T) {
	e := newEvents()
	for n := range 1000 {
		for s := range 3 {
			id := sfu.SessionID(fmt.Sprint(s))
			e.Speaking(sfu.Speaking{Session: id, Speaking: n%2 == 0})
			e.Placed(sfu.Placed{Session: id, Slot: n % 4, SSRC: sfu.SSRC(n)})
			e.snapshot(&sfu.Snapshot{Open: sfu.Open{Session: id}, InIndex: uint64(n)})
		}
		e.load(&sfu.LoadReading{PacketsIn: uint64(n)})
	}
	e.post(sfu.Event{Ended: &sfu.Ended{Session: "0"}})
	e.post(sfu.Event{Ended: &sfu.Ended{Session: "1"}})
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.write(ctx, sfu.NewEncoder(w)) }()
	dec := sfu.NewDecoder(r)
	counts := map[string]int{}
	for range 3*(1+4+1) + 1 + 2 {
		var ev sfu.Event
		if err := dec.Decode(&ev); err != nil {
			t.Fatal(err)
		}
		switch {
		case ev.Speaking != nil && !ev.Speaking.Speaking:
			counts["silent"]++
		case ev.Placed != nil && ev.Placed.SSRC >= 996:
			counts["placed"]++
		case ev.Snapshot != nil && ev.Snapshot.InIndex == 999:
			counts["snapshot"]++
		case ev.Load != nil && ev.Load.PacketsIn == 999:
			counts["load"]++
		case ev.Ended != nil:
			counts["ended"]++
		default:
			t.Errorf("outdated: %+v", ev)
		}
	}
	if got := fmt.Sprint(counts); got != "map[ended:2 load:1 placed:12 silent:3 snapshot:3]" {
		t.Error(got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPendingAnswersAreBounded holds that control stops reading commands when
// the agent does not read answers.
func TestPendingAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEvents()
		for range maxPending {
			if err := e.expect(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.expect(ctx); err == nil {
			t.Error("one more command is read")
		}
	})
}
