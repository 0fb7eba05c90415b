package keeper

import (
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
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
