package keeper

import (
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
