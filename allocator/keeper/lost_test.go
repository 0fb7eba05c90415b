package keeper

import (
	"fmt"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// TestForgottenNodeComesBack loses a node for so long that its lease ends and nothing
// is remembered of it: when it speaks again, it is chosen again.
func TestForgottenNodeComesBack(t *testing.T) {
	c := New(1)
	now := time.Unix(1_800_000_000, 0)
	c.Synced(now, now, time.Hour)
	speak := func() {
		c.SeeNode(now, edgeagent.Heartbeat{Node: "n1", State: edgeagent.Ready, Region: "r", At: now, Started: now.Add(-time.Hour),
			Capacity: edgeagent.Capacity{PPS: 1e5, BPS: 1e9, Sessions: 1000}}, now, nil)
	}
	chosen := func() bool {
		_, refused := c.place.Elsewhere(now, allocator.PlaceRequest{Call: sfu.CallID{ID: 1}}, 1, "", c.draw)
		return refused == nil
	}
	speak()
	if !chosen() {
		t.Fatal("a node that is ready is not chosen")
	}
	lost := false
	for range 10 * 10 { // ten seconds of silence
		now = now.Add(100 * time.Millisecond)
		out := c.Tick(now, nil)
		for i := 0; i < len(out); i++ {
			if out[i].Ask != nil {
				out = c.Answered(now, out[i].Ask.Node, Answer{}, out)
			}
			lost = lost || out[i].Note != nil && out[i].Note.Deed == allocator.DeedLost
		}
	}
	if !lost || chosen() {
		t.Fatalf("after ten seconds of silence: lost %v, chosen %v", lost, chosen())
	}
	c.NodeGone(now, "n1", false, nil)
	for range 20 {
		now = now.Add(100 * time.Millisecond)
		c.Tick(now, nil)
	}
	speak()
	if !chosen() {
		t.Error("it speaks again and is not chosen")
	}
}

// TestGoodbyeEndsWhatAiled has a node say good-bye, without calls, while it is suspect or
// bad: begun anew it is chosen.
func TestGoodbyeEndsWhatAiled(t *testing.T) {
	for name, ails := range map[string]func(c *Core, now time.Time){
		"suspect":  func(c *Core, now time.Time) { c.Closed(now, "n1", now, nil) },
		"degraded": func(c *Core, now time.Time) { c.ailments = c.health.Deaf(now, "n1", nil); c.treat(now, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c := New(1)
			now := time.Unix(1_800_000_000, 0)
			c.Synced(now, now, time.Hour)
			hb := edgeagent.Heartbeat{Node: "n1", State: edgeagent.Ready, Region: "r", At: now, Started: now.Add(-time.Hour),
				Capacity: edgeagent.Capacity{PPS: 1e5, BPS: 1e9, Sessions: 1000}}
			chosen := func() bool {
				_, refused := c.place.Elsewhere(now, allocator.PlaceRequest{Call: sfu.CallID{ID: 1}}, 1, "", c.draw)
				return refused == nil
			}
			for i := range 6 { // others that are full: one of so many may fall ill
				other := hb
				other.Node, other.Load.Sessions = edgeagent.NodeID(fmt.Sprint("full", i)), hb.Capacity.Sessions
				c.SeeNode(now, other, now, nil)
			}
			c.SeeNode(now, hb, now, nil)
			if !chosen() {
				t.Fatal("a node that is ready is not chosen")
			}
			ails(c, now)
			if chosen() {
				t.Fatal("it is chosen all the same")
			}
			now = now.Add(time.Second)
			gone := hb
			gone.State, gone.At = edgeagent.Gone, now
			c.SeeNode(now, gone, now, nil)
			c.NodeGone(now, "n1", true, nil)
			now = now.Add(10 * time.Second)
			hb.At, hb.Started = now, now
			c.SeeNode(now, hb, now, nil)
			if !chosen() {
				t.Error("begun anew it is not chosen")
			}
		})
	}
}

// TestFewMakeNoNodeBad: it takes as many clients in silence as there are to ask, or four,
// to have a node that beats and answers emptied.
func TestFewMakeNoNodeBad(t *testing.T) {
	for _, v := range []struct {
		sessions, silent int
		bad              bool
	}{{200, 1, false}, {200, 3, false}, {200, 4, true}, {3, 1, false}, {3, 2, true}, {1, 1, true}} {
		var w Watch
		now := start
		hb := edgeagent.Heartbeat{Node: "n", State: edgeagent.Ready, At: now, Load: edgeagent.Load{Sessions: v.sessions}}
		w.Beat(now, hb, now, nil)
		bad := false
		for range 80 { // four seconds
			now = now.Add(step)
			hb.At = now
			w.Beat(now, hb, now, nil)
			var out []Verdict
			if now.Sub(start)%time.Second == 0 {
				out = w.Silence(now, edgeagent.Silence{Node: "n", Silent: v.silent, Of: v.silent}, out)
			}
			out = w.Tick(now, out)
			for i := range out {
				if out[i].Ask {
					w.Answered(now, "n", Answer{Came: true}, nil)
				}
			}
			bad = bad || len(w.Deaf(now)) > 0
		}
		if bad != v.bad {
			t.Errorf("%d of %d in silence: bad %v", v.silent, v.sessions, bad)
		}
	}
}

// TestCutNodeLetsNobodyIn joins a call on a node that is cut off from the bus and answers:
// at first it is waited for, then the call goes to another node, from one that serves on.
func TestCutNodeLetsNobodyIn(t *testing.T) {
	f := newFleet(t)
	f.serving = "a"
	if n := f.join(1, atA); n != "a" {
		t.Fatalf("the first is on %s", n)
	}
	f.pass(2*time.Second, "a", "b", "c")
	f.pass(late+heldJoin-500*time.Millisecond, "b", "c")
	if f.c.watch.standing("a") != held {
		t.Fatal("it is not held")
	}
	second := allocator.PlaceRequest{Call: theCall, User: sfu.UserID{ID: 2}, Session: "s", RTT: atA}
	if cl, refused := f.c.Claim(f.now, second); refused != nil || !cl.Wait {
		t.Fatalf("seated on %s, %v: it may still come back", cl.Entry.Node, refused)
	}
	f.pass(time.Second, "b", "c")
	n := f.join(3, atA)
	if n == "a" || len(f.told) != 1 || f.told[0].From != "a" || f.told[0].To != n || f.told[0].Cause != allocator.CauseNodeLost || !f.told[0].Planned {
		t.Fatalf("seated on %s, told %+v", n, f.told)
	}
	f.pass(time.Second, "a", "b", "c")
	if now := f.entry().Node; now != n {
		t.Errorf("the node beats again, and the call is on %s, not on %s", now, n)
	}
}

// TestUnansweredMove writes a move whose answer is lost. It is told as soon as it is seen
// in the bucket; if another allocator was first, that one tells.
func TestUnansweredMove(t *testing.T) {
	for _, c := range []struct {
		name string
		seen func(w *Write) allocator.CallEntry
		told int
	}{
		{"written", func(w *Write) allocator.CallEntry { return w.Entry }, 1},
		{"another's", func(w *Write) allocator.CallEntry { e := w.Entry; e.Epoch++; return e }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t)
			if n := f.join(1, atA); n != "a" {
				t.Fatalf("the first is on %s", n)
			}
			out, why := f.c.Move(f.now, allocator.MoveRequest{Call: theCall, Region: "b", Cause: allocator.CauseRegion})
			if out == nil {
				t.Fatal(why)
			}
			f.now = f.now.Add(WriteTime)
			f.c.Failed(f.now, *out)
			see := func() { f.revision++; f.do(f.c.SeeCall(f.now, c.seen(out), f.revision, nil)) }
			if see(); len(f.told) != c.told || f.moved != c.told || c.told > 0 && f.told[0].To != "b" {
				t.Errorf("seen: told %v, counted %d", f.told, f.moved)
			}
			if see(); len(f.told) != c.told || f.moved != c.told {
				t.Errorf("seen again: told %v, counted %d", f.told, f.moved)
			}
		})
	}
}
