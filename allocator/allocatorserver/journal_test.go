package allocatorserver

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

func TestJournalAnswersFromTheNewest(t *testing.T) {
	j := newJournal(newMetrics(nil))
	for n := range uint64(20) {
		e := allocator.JournalEntry{Deed: allocator.DeedMove, Node: "a", To: "b"}
		if n%2 == 1 {
			e = allocator.JournalEntry{Deed: allocator.DeedHold, Node: "c"}
		}
		j.see(bus.Past[allocator.JournalEntry]{Seq: n + 1, Value: e})
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.read(over, allocator.JournalRequest{}); codeOf(err) != allocator.CodeUnavailable {
		t.Errorf("before all is read: %v", err)
	}
	j.see(bus.Past[allocator.JournalEntry]{Synced: true})
	seqs := func(req allocator.JournalRequest) (list []uint64, more bool) {
		t.Helper()
		rep, err := j.read(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range rep.Entries {
			list = append(list, e.Seq)
		}
		return list, rep.More
	}
	for _, c := range []struct {
		req  allocator.JournalRequest
		want []uint64
		more bool
	}{
		{allocator.JournalRequest{Limit: 3}, []uint64{20, 19, 18}, true},
		{allocator.JournalRequest{Limit: 3, Before: 4}, []uint64{3, 2, 1}, false},
		{allocator.JournalRequest{Limit: 2, Node: "c"}, []uint64{20, 18}, true},
		{allocator.JournalRequest{Limit: 2, Node: "b"}, []uint64{19, 17}, true},
		{allocator.JournalRequest{Limit: 2, After: 17}, []uint64{18, 19}, true},
		{allocator.JournalRequest{After: 18, Node: "c"}, []uint64{20}, false},
		{allocator.JournalRequest{Node: "z"}, nil, false},
		{allocator.JournalRequest{Call: sfu.CallID{ID: 1}}, nil, false},
	} {
		if got, more := seqs(c.req); !slices.Equal(got, c.want) || more != c.more {
			t.Errorf("%+v: %v, more %v", c.req, got, more)
		}
	}
	for _, limit := range []int{-1, allocator.JournalPage + 1} {
		if _, err := j.read(t.Context(), allocator.JournalRequest{Limit: limit}); codeOf(err) != allocator.CodeBadRequest {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	j.see(bus.Past[allocator.JournalEntry]{Seq: 1}) // the stream was made anew
	if got, _ := seqs(allocator.JournalRequest{}); !slices.Equal(got, []uint64{1}) {
		t.Errorf("after the stream was lost: %v", got)
	}
}

func TestJournalIsBounded(t *testing.T) {
	j := newJournal(newMetrics(nil))
	for n := range uint64(3 * allocator.JournalKept) {
		j.see(bus.Past[allocator.JournalEntry]{Seq: n + 1})
		j.note(allocator.JournalEntry{Node: "a"})
	}
	if len(j.past) > allocator.JournalKept || j.past[len(j.past)-1].Seq != 3*allocator.JournalKept {
		t.Errorf("%d entries known, the last %d", len(j.past), j.past[len(j.past)-1].Seq)
	}
	if len(j.waiting) != unwritten {
		t.Errorf("%d entries wait", len(j.waiting))
	}
}

// TestJournalOfAll: what several allocators saw stands once, and all know it.
func TestJournalOfAll(t *testing.T) {
	f := newFleet(t, 2, "a")
	h, err := bus.OpenHistory[allocator.JournalEntry](f.ctx, f.conn, bus.JournalHistory)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0)
	for _, e := range []allocator.JournalEntry{
		{At: at, By: "allocator", Deed: allocator.DeedLost, Node: "a", Why: "silent"},
		{At: at.Add(time.Second), By: "allocator", Deed: allocator.DeedLost, Node: "a", Why: "silent, too"},
		{At: at.Add(5 * time.Second), By: "allocator", Deed: allocator.DeedBack, Node: "a"},
	} {
		if err := h.Append(f.ctx, e.ID(), e); err != nil {
			t.Fatal(err)
		}
	}
	client := NewClient(f.conn)
	for deadline := time.Now().Add(30 * time.Second); ; {
		rep, err := client.Journal(f.ctx, allocator.JournalRequest{Node: edgeagent.NodeID("a")})
		// The allocators themselves have something to say of so able a node, too.
		own := slices.DeleteFunc(rep.Entries, func(e allocator.NumberedEntry) bool { return e.Deed == allocator.DeedRefused })
		if len(own) == 2 && own[0].Deed == allocator.DeedBack && own[1].Why == "silent" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("journal: %+v, %v", rep.Entries, err)
		}
	}
}

// TestNoteNeverBlocks: it is called under locks.
func TestNoteNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal(newMetrics(nil))
		began := time.Now()
		for range 2 * unwritten {
			j.note(allocator.JournalEntry{})
		}
		if time.Since(began) != 0 {
			t.Error("note waited")
		}
	})
}
