package keeper

import (
	"bytes"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// TestOverheard: a heartbeat that is overheard counts though nothing can be written,
// once; a lease that nobody could renew is no reason to doubt, one that is given up is.
func TestOverheard(t *testing.T) {
	core, now := New(1), start
	core.Synced(now, now.Add(-time.Hour), time.Hour)
	var deeds []allocator.Deed
	take := func(out []Out) {
		for _, o := range out {
			if o.Note != nil {
				deeds = append(deeds, o.Note.Deed)
			}
		}
	}
	beat := func(region string, at, written time.Time) {
		take(core.SeeNode(now, edgeagent.Heartbeat{Node: "a", State: edgeagent.Ready, Region: region, Started: start, At: at,
			Capacity: edgeagent.Capacity{PPS: 1000, BPS: 1e9, Sessions: 10}}, written, nil))
	}
	for range 10 {
		beat("heard", now, time.Time{})
		beat("read", now, now)                   // the same one
		beat("read", now.Add(-time.Second), now) // the one before, later still
		now = now.Add(time.Second)
		take(core.Tick(now, nil))
	}
	if hb, _ := core.Place().Node("a"); hb.Region != "heard" {
		t.Errorf("believed what was %s", hb.Region)
	}
	take(core.NodeGone(now, "a", false, nil))
	if len(deeds) > 0 || !core.watch.Up("a") {
		t.Errorf("an expired lease while it beats: %v", deeds)
	}
	// Its connection closed: what was on the way by then does not count.
	take(core.Closed(now, "a", now, nil))
	beat("late", now, time.Time{})
	if core.watch.Up("a") {
		t.Error("it is believed though its connection closed")
	}
	beat("read", now, now.Add(time.Millisecond))
	if !core.watch.Up("a") {
		t.Error("it beats again, says the bucket")
	}
	deeds = nil
	beat("heard", now.Add(time.Second), time.Time{})
	take(core.NodeGone(now, "a", true, nil))
	if len(deeds) != 1 || deeds[0] != allocator.DeedSuspect {
		t.Errorf("a lease given up: %v", deeds)
	}
}

// TestNextAgentIsAskedByTheKeyOfItsEngine: an agent that was started again is overheard
// before it has found the engine that runs on, and so without a key, and before the
// bucket tells of it. What is asked then is that engine.
func TestNextAgentIsAskedByTheKeyOfItsEngine(t *testing.T) {
	core, now := New(1), start
	core.Synced(now, now.Add(-time.Hour), time.Hour)
	key := sfu.NewProbeKey()
	asked := 0
	var take func(out []Out)
	take = func(out []Out) {
		for _, o := range out {
			switch {
			case o.Ask != nil:
				asked++
				now = now.Add(10 * time.Millisecond)
				take(core.Answered(now, o.Ask.Node, Answer{Came: bytes.Equal(o.Ask.ProbeKey, key)}, nil))
			case o.Note != nil && o.Note.Deed == allocator.DeedLost:
				t.Errorf("%v: %s", o.Note.Deed, o.Note.Why)
			}
		}
	}
	hb := edgeagent.Heartbeat{Node: "a", State: edgeagent.Ready, Started: start, At: now, ProbeKey: key,
		Capacity: edgeagent.Capacity{PPS: 1000, BPS: 1e9, Sessions: 10}}
	take(core.SeeNode(now, hb, now, nil))
	now = now.Add(500 * time.Millisecond)
	take(core.Closed(now, "a", now, nil))
	now = now.Add(50 * time.Millisecond)
	hb.State, hb.Started, hb.At, hb.ProbeKey = edgeagent.Joining, now, now, nil
	take(core.SeeNode(now, hb, time.Time{}, nil))
	for range 10 {
		now = now.Add(50 * time.Millisecond)
		take(core.Tick(now, nil))
	}
	if asked < 3 {
		t.Errorf("asked %d times", asked)
	}
	take(core.SeeNode(now, hb, now, nil))
	if !core.watch.Up("a") {
		t.Error("it beats again, says the bucket")
	}
}
