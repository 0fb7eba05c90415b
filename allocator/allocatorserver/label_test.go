package allocatorserver

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// knows waits until an allocator knows which guilds try what.
func (f *fleet) knows(s *Server, want string) {
	f.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-look.C {
		rep, err := s.labels(f.ctx, allocator.LabelsRequest{})
		got := ""
		for _, l := range rep.Labels {
			got += fmt.Sprintf("%s tries %s of %d by %s;", l.Guild, l.Label, l.Nodes, l.By)
		}
		if err == nil && got == want && s.Ready() == nil {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("it knows %q, want %q; %v, %v", got, want, err, s.Ready())
		}
	}
}

// TestLabel: what guild tries which label is told to one allocator and used by all of
// them, outlasts them and the bus, and goes along with a call that moves.
func TestLabel(t *testing.T) {
	f := newFleet(t, 2)
	f.beat(edgeagent.Heartbeat{Node: "next-1", Region: "eu", Label: "next", Weight: 0.001})
	f.beat(edgeagent.Heartbeat{Node: "next-2", Region: "eu", Label: "next", Weight: 0.001})
	f.beat(edgeagent.Heartbeat{Node: "plain", Region: "eu"})
	f.await("three nodes", ready(3))
	calls := 0
	// place begins a call of a guild at an allocator, as soon as that is ready.
	place := func(s *Server, guild string) (sfu.CallID, edgeagent.NodeID) {
		t.Helper()
		calls++
		req := allocator.PlaceRequest{Guild: guild, Call: sfu.CallID{ID: snowflake.ID(1000 + calls)}, User: sfu.UserID{ID: 6}, Session: "gw", Region: "eu"}
		for deadline := time.Now().Add(30 * time.Second); ; {
			a, err := s.place(f.ctx, req)
			if err == nil {
				return req.Call, a.Node
			}
			if refused := (*allocator.Error)(nil); !errors.As(err, &refused) || time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	first, second := f.serving[0], f.serving[1]
	if _, at := place(second, "1"); at != "plain" {
		t.Errorf("before, the call is on %s", at)
	}

	l, err := first.label(f.ctx, allocator.LabelOrder{Guild: "1", Label: "next", By: "ada"})
	if err != nil || l.Nodes != 2 || l.At.IsZero() {
		t.Fatalf("%+v, %v", l, err)
	}
	f.knows(first, "1 tries next of 2 by ada;")
	f.knows(second, "1 tries next of 2 by ada;")
	call, at := place(second, "1")
	if !strings.HasPrefix(string(at), "next-") {
		t.Errorf("the call is on %s", at)
	}
	if _, at := place(second, "2"); at != "plain" {
		t.Errorf("another guild's call is on %s", at)
	}
	why, k := f.why(call, "plain")
	if !strings.HasSuffix(why.Reason, "; its guild tries next") || k.Aside == 0 {
		t.Errorf("explained by %q, %+v", why.Reason, k)
	}
	moved, err := NewClient(f.conn).Move(f.ctx, allocator.MoveRequest{Call: call, By: "ada", Cause: allocator.CauseOverload})
	if err != nil || moved.Node == at || !strings.HasPrefix(string(moved.Node), "next-") {
		t.Errorf("from %s it moves to %+v, %v", at, moved, err)
	}

	// The bus is restarted; the next allocator has never heard of it.
	f.servers.restart(true)
	third := f.begin(Config{Seed: 3})
	f.await("three nodes again", ready(3))
	f.knows(third, "1 tries next of 2 by ada;")
	if _, at := place(third, "1"); !strings.HasPrefix(string(at), "next-") {
		t.Errorf("after the restart the call is on %s", at)
	}

	if l, err := third.label(f.ctx, allocator.LabelOrder{Guild: "1", Clear: true, By: "bob"}); err != nil || l.Label != "" || l.Nodes != 0 {
		t.Errorf("%+v, %v", l, err)
	}
	f.knows(first, "")
	if _, at := place(first, "1"); at != "plain" {
		t.Errorf("when it tries none the call is on %s", at)
	}
	want := map[string]bool{"ada: guild 1 tries label next": true, "bob: guild 1 tries no label any more": true}
	for deadline := time.Now().Add(30 * time.Second); len(want) > 0; {
		rep, err := NewClient(f.conn).Journal(f.ctx, allocator.JournalRequest{})
		for _, e := range rep.Entries {
			if e.Deed == allocator.DeedLabel {
				delete(want, e.By+": "+e.Why)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the journal lacks %v, %v", want, err)
		}
	}
}

// TestLabelsRefused: orders that cannot be, and more than there may be.
func TestLabelsRefused(t *testing.T) {
	f := newFleet(t, 1)
	s := f.serving[0]
	f.knows(s, "")
	for want, o := range map[string]allocator.LabelOrder{
		"who asks is missing":           {Guild: "1", Label: "next"},
		"who asks takes 257 bytes":      {Guild: "1", Label: "next", By: strings.Repeat("x", 257)},
		`"home" is no guild id`:         {Guild: "home", Label: "next", By: "ada"},
		`"0" is no guild id`:            {Guild: "0", Clear: true, By: "ada"},
		`"007" is no guild id`:          {Guild: "007", Label: "next", By: "ada"},
		"want a label, or to clear it":  {Guild: "1", By: "ada"},
		"label of 65 bytes, at most 64": {Guild: "1", Label: strings.Repeat("x", 65), By: "ada"},
	} {
		if _, err := NewClient(f.conn).Label(f.ctx, o); codeOf(err) != allocator.CodeBadRequest || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
	f.knows(s, "")
	order := func(guild int) error {
		_, err := s.label(f.ctx, allocator.LabelOrder{Guild: fmt.Sprint(guild), Label: "next", By: "ada"})
		return err
	}
	for guild := 1; guild <= allocator.MaxLabels; guild++ {
		if err := order(guild); err != nil {
			t.Fatal(err)
		}
	}
	if err := order(999); codeOf(err) != allocator.CodeBadRequest || !strings.Contains(err.Error(), "clear one first") {
		t.Errorf("one more: %v", err)
	}
	if err := order(1); err != nil {
		t.Errorf("one of them anew: %v", err)
	}
}
