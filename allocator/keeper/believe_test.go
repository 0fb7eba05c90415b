package keeper

import (
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// TestLiesAreNotBelieved: what cannot be is taken from a heartbeat, counted each time
// and noted once; the rest of it counts, and nobody else is disturbed.
func TestLiesAreNotBelieved(t *testing.T) {
	on := func(call int, epoch uint64, n int) edgeagent.CallOnANode {
		return edgeagent.CallOnANode{Call: sfu.CallID{ID: snowflake.ID(call)}, Epoch: epoch, Sessions: n}
	}
	for name, c := range map[string]struct {
		lie  func(*edgeagent.Heartbeat)
		says string // empty: it is no lie
		ok   func(got edgeagent.Heartbeat, calls int) bool
	}{
		"an honest one": {func(hb *edgeagent.Heartbeat) { hb.Calls = []edgeagent.CallOnANode{on(1, 5, 2)} }, "", func(_ edgeagent.Heartbeat, calls int) bool { return calls == 1 }},
		"capacity without end": {func(hb *edgeagent.Heartbeat) { hb.Capacity.PPS = 1e300 }, "capacity of 1e+300",
			func(got edgeagent.Heartbeat, _ int) bool { return got.Capacity.PPS == maxPPS }},
		"room for all": {func(hb *edgeagent.Heartbeat) { hb.Capacity.Sessions = 1 << 40 }, "capacity of 1099511627776 sessions",
			func(got edgeagent.Heartbeat, _ int) bool { return got.Capacity.Sessions == maxSessions }},
		"less than nothing": {func(hb *edgeagent.Heartbeat) { hb.Load.PPS, hb.Load.Sessions = -1e6, -50 }, "load of -1e+06",
			func(got edgeagent.Heartbeat, _ int) bool { return got.Load.PPS == 0 && got.Load.Sessions == 0 }},
		"an epoch of the last day": {func(hb *edgeagent.Heartbeat) { hb.Epoch = 1 << 63 }, "epoch 9223372036854775808",
			func(got edgeagent.Heartbeat, _ int) bool { return got.Epoch == 0 }},
		"a call of such an epoch": {func(hb *edgeagent.Heartbeat) { hb.Calls = []edgeagent.CallOnANode{on(1, 1<<63, 2), on(2, 5, 2)} }, "call 1",
			func(_ edgeagent.Heartbeat, calls int) bool { return calls == 1 }},
		"a region without end": {func(hb *edgeagent.Heartbeat) { hb.Region = strings.Repeat("x", 1<<16) }, "of 65536 bytes",
			func(got edgeagent.Heartbeat, _ int) bool { return got.Region == "" }},
		"a weight of two": {func(hb *edgeagent.Heartbeat) { hb.Weight = 2 }, "weight", func(got edgeagent.Heartbeat, _ int) bool { return got.Weight == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			core := New(1)
			core.Synced(start, start.Add(-time.Hour), time.Hour)
			var notes []allocator.JournalEntry
			counted := 0
			const beats = 150
			for i := range beats {
				hb := edgeagent.Heartbeat{Node: "a", State: edgeagent.Ready, Started: start, Capacity: edgeagent.Capacity{PPS: 1000, BPS: 1e9, Sessions: 10}}
				c.lie(&hb)
				for _, o := range core.SeeNode(start.Add(time.Duration(i)*time.Second), hb, start, nil) {
					if o.Note != nil {
						notes = append(notes, *o.Note)
					}
					if o.Refused != "" {
						counted++
					}
				}
			}
			got, there := core.Place().Node("a")
			if !there || !c.ok(got, len(core.Place().On("a"))) {
				t.Errorf("believed %+v with %d calls", got, len(core.Place().On("a")))
			}
			if c.says == "" && counted != 0 || c.says != "" && (counted < beats || counted%beats != 0) {
				t.Errorf("%d lies are counted in %d heartbeats", counted, beats)
			}
			if want := min(1, len(c.says)); len(notes) != want || want > 0 && (notes[0].Deed != allocator.DeedRefused || !strings.Contains(notes[0].Why, c.says)) {
				t.Errorf("noted %+v", notes)
			}
			if e := core.Place().NextEpoch(start); e > uint64(start.Add(time.Minute).UnixMilli())*1024 {
				t.Errorf("the next epoch is %d", e)
			}
		})
	}
}

// TestANameTakenTwice: of two processes with one name the one that began last is
// believed, for it may have replaced the other; when it is gone, the other is.
func TestANameTakenTwice(t *testing.T) {
	core, now := New(1), start
	core.Synced(now, now.Add(-time.Hour), time.Hour)
	refused := 0
	beat := func(region string, started time.Time) {
		hb := edgeagent.Heartbeat{Node: "a", State: edgeagent.Ready, Region: region, Started: started, Capacity: edgeagent.Capacity{PPS: 1000, BPS: 1e9, Sessions: 10}}
		for _, o := range core.SeeNode(now, hb, now, nil) {
			if o.Note != nil && o.Note.Deed == allocator.DeedRefused {
				refused++
			}
		}
	}
	region := func() string { hb, _ := core.Place().Node("a"); return hb.Region }
	for range 10 {
		beat("old", start)
		now = now.Add(500 * time.Millisecond)
		beat("new", start.Add(time.Minute))
		now = now.Add(500 * time.Millisecond)
	}
	if region() != "new" || refused != 1 {
		t.Errorf("the one in region %s is believed, %d refusals are noted", region(), refused)
	}
	for range 3 {
		now = now.Add(time.Second)
		beat("old", start)
	}
	if region() != "old" {
		t.Errorf("the other one is still believed")
	}
}
