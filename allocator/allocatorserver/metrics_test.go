package allocatorserver

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// gauges are the values of a gauge by its only label, or by nothing.
func gauges(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				label += l.GetValue()
			}
			all[label] = m.GetGauge().GetValue()
		}
	}
	return all
}

// TestHeadroomIsShown: the gauges have what ready nodes have room for, of all and of
// each region, less what they carry and what is reserved; a drained one has none, and a
// region whose nodes have gone is not there.
func TestHeadroomIsShown(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	now := time.Unix(1_800_000_000, 0)
	core := keeper.New(1)
	core.Synced(now, now.Add(-time.Hour), time.Hour)
	beat := func(node, region string, state edgeagent.State, sessions, of int) {
		hb := edgeagent.Heartbeat{
			Node: edgeagent.NodeID(node), Region: region, State: state, Started: now.Add(-time.Hour), At: now,
			Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: of}, Load: edgeagent.Load{Sessions: sessions},
		}
		core.SeeNode(now, hb, now, nil)
	}
	want := func(when string, all float64, regions map[string]float64) {
		t.Helper()
		m.stand(now, core)
		if got := gauges(t, reg, "voicefleet_allocator_headroom_sessions"); len(got) != 1 || got[""] != all {
			t.Errorf("%s: room for %v, want %v", when, got, all)
		}
		if got := gauges(t, reg, "voicefleet_allocator_region_headroom_sessions"); !maps.Equal(got, regions) {
			t.Errorf("%s: room by region %v, want %v", when, got, regions)
		}
	}
	want("without a node", 0, map[string]float64{})
	beat("a", "eu", edgeagent.Ready, 30, 100)
	beat("b", "eu", edgeagent.Ready, 200, 150) // more than it can
	beat("c", "us", edgeagent.Ready, 10, 50)
	want("as they beat", 110, map[string]float64{"eu": 70, "us": 40})
	claim, err := core.Claim(now, allocator.PlaceRequest{Call: sfu.CallID{ID: 7}, Session: "s", Region: "us"})
	if err != nil || claim.Write == nil || claim.Entry.Node != "c" {
		t.Fatalf("%+v, %v", claim, err)
	}
	core.Won(now, *claim.Write, 1, nil)
	core.Seat(now, claim.Entry.Call)
	reserved := float64(0)
	for _, load := range core.Place().Reserved(now) {
		reserved += float64(load.Sessions)
	}
	if reserved == 0 {
		t.Fatal("a seat reserves nothing")
	}
	want(fmt.Sprintf("with %v reserved", reserved), 110-reserved, map[string]float64{"eu": 70, "us": 40 - reserved})
	beat("a", "eu", edgeagent.Draining, 30, 100)
	want("one is drained", 40-reserved, map[string]float64{"eu": 0, "us": 40 - reserved})
}
