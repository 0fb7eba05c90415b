package placement

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

var distanceNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// far is a fleet of regions on a line, so many milliseconds from the first, with
// nodes that measure each other for a minute, a millisecond from each other within
// a region.
type far struct {
	core Core
	at   map[string]float64
	now  time.Time
}

func newFar(at map[string]float64, nodes int) *far {
	f := &far{at: at, now: distanceNow}
	var ids []edgeagent.NodeID
	for _, region := range slices.Sorted(maps.Keys(at)) {
		for n := range nodes {
			ids = append(ids, edgeagent.NodeID(fmt.Sprint(region, "-", n)))
		}
	}
	region := func(id edgeagent.NodeID) string { return string(id[:len(id)-2]) }
	for range 60 {
		for _, id := range ids {
			hb := edgeagent.Heartbeat{
				Node: id, State: edgeagent.Ready, Region: region(id), ProbeKey: make(sfu.ProbeKey, sfu.ProbeKeyLen),
				Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 1000}, PeerRTT: map[edgeagent.NodeID]float64{},
			}
			for _, peer := range f.core.Peers(f.now, id) {
				hb.PeerRTT[peer.Node] = 1 + math.Abs(at[region(id)]-at[peer.Region])
			}
			f.core.Observe(f.now, hb)
		}
		f.now = f.now.Add(time.Second)
	}
	return f
}

// explained is where each region is, in whole milliseconds, and how that is known.
func (f *far) explained(req allocator.PlaceRequest) map[string]string {
	ex, _ := f.core.Decide(f.now, req, rand.New(rand.NewPCG(1, 1)))
	out := map[string]string{}
	for _, c := range ex.Candidates {
		out[c.Region] = fmt.Sprintf("%.0f %s", c.RTT, c.RTTFrom)
	}
	return out
}

// TestWhereDistancesComeFrom goes down the order: measured, coordinates from a
// measured one, GeoIP, coordinates from the user's region, region, nothing.
func TestWhereDistancesComeFrom(t *testing.T) {
	within := func(got string, ms, slack float64, from string) bool {
		var is float64
		var source string
		_, err := fmt.Sscan(got, &is, &source)
		return err == nil && source == from && math.Abs(is-ms) <= slack
	}
	known := newFar(map[string]float64{"fra": 0, "nyc": 80, "sjc": 140}, 3)
	blank := &far{now: distanceNow}
	for _, region := range []string{"fra", "nyc", "sjc"} {
		blank.core.Observe(blank.now, edgeagent.Heartbeat{
			Node: edgeagent.NodeID(region), State: edgeagent.Ready, Region: region, Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 1000},
			Location: map[string]*edgeagent.Location{"fra": {Lat: 50.1, Lon: 8.7}, "nyc": {Lat: 40.7, Lon: -74}}[region],
		})
	}
	berlin := &edgeagent.Location{Lat: 52.5, Lon: 13.4}
	type want struct {
		ms, slack float64
		from      string
	}
	for _, c := range []struct {
		name string
		f    *far
		req  allocator.PlaceRequest
		want map[string]want
	}{
		{"nothing is known", blank, allocator.PlaceRequest{}, map[string]want{"fra": {unknownRTT, 0, "none"}, "sjc": {unknownRTT, 0, "none"}}},
		{"the region alone", blank, allocator.PlaceRequest{Region: "fra"}, map[string]want{
			"fra": {sameRegionRTT, 0, "region"}, "nyc": {otherRegionRTT, 0, "region"},
		}},
		{"its place on the earth", blank, allocator.PlaceRequest{Region: "fra", Location: berlin}, map[string]want{
			"fra": {10 + 0.016*424, 1, "geoip"}, "nyc": {10 + 0.016*6385, 1, "geoip"}, "sjc": {otherRegionRTT, 0, "region"},
		}},
		{"measured, and its place", blank, allocator.PlaceRequest{Location: berlin, RTT: map[string]float64{"nyc": 95}}, map[string]want{
			"fra": {17, 1, "geoip"}, "nyc": {95, 0, "client"}, "sjc": {unknownRTT, 0, "none"},
		}},
		{"the region, among coordinates", known, allocator.PlaceRequest{Region: "fra"}, map[string]want{
			"fra": {sameRegionRTT, 0, "region"}, "nyc": {sameRegionRTT + 81, 9, "coordinates"}, "sjc": {sameRegionRTT + 141, 15, "coordinates"},
		}},
		{"one measured, among coordinates", known, allocator.PlaceRequest{RTT: map[string]float64{"nyc": 12}, Region: "fra"}, map[string]want{
			"nyc": {12, 0, "client"}, "fra": {12 + 81, 9, "coordinates"}, "sjc": {12 + 61, 7, "coordinates"},
		}},
		{"a region that is none", known, allocator.PlaceRequest{Region: "moon"}, map[string]want{"fra": {otherRegionRTT, 0, "region"}}},
		{"unbelievable ones", known, allocator.PlaceRequest{RTT: map[string]float64{"nyc": -1, "fra": 1e9}}, map[string]want{"nyc": {unknownRTT, 0, "none"}}},
	} {
		c.req.Call, c.req.User = sfu.CallID{ID: 1}, sfu.UserID{ID: snowflake.ID(1)}
		got := c.f.explained(c.req)
		for region, w := range c.want {
			if !within(got[region], w.ms, w.slack, w.from) {
				t.Errorf("%s: %s is %q, want %.0f ± %.0f %s", c.name, region, got[region], w.ms, w.slack, w.from)
			}
		}
	}
}

// TestDistanceOfNodes: measured where it was, by coordinates where it was not, and
// not guessed for a node that measured nothing.
func TestDistanceOfNodes(t *testing.T) {
	f := newFar(map[string]float64{"a": 0, "b": 50, "c": 120, "d": 200}, 8)
	guessed := 0
	ids := slices.Sorted(maps.Keys(f.core.fleet.index))
	for _, a := range ids {
		for _, b := range ids {
			if a == b {
				continue
			}
			want := 1 + math.Abs(f.at[string(a[:1])]-f.at[string(b[:1])])
			got, ok := f.core.Distance(a, b)
			if !ok || math.Abs(got-want) > 3+want*0.2 {
				t.Errorf("%s to %s: %.1f, %v, want %.1f", a, b, got, ok, want)
			}
			if got != want {
				guessed++
			}
		}
	}
	if guessed == 0 {
		t.Error("every node has measured every other: coordinates are not tested")
	}
	f.core.Observe(f.now, edgeagent.Heartbeat{Node: "new", Region: "e"})
	if ms, ok := f.core.Distance("new", "a-0"); ok {
		t.Errorf("a node that measured nothing is %v ms away", ms)
	}
	if _, ok := f.core.Distance("a-0", "nobody"); ok {
		t.Error("nobody is somewhere")
	}
	// A heartbeat that lies about more than it may measure is not listened to.
	before := f.core.fleet.nodes[f.core.fleet.index["a-0"]].place
	lies := map[edgeagent.NodeID]float64{}
	for i, id := range ids {
		lies[id] = float64(i)
	}
	f.core.Observe(f.now, edgeagent.Heartbeat{Node: "a-0", Region: "a", PeerRTT: lies})
	if f.core.fleet.nodes[f.core.fleet.index["a-0"]].place != before {
		t.Error("more distances than a node may measure were taken in")
	}
}

func TestPeers(t *testing.T) {
	var c Core
	node := func(id, region string, key bool, state edgeagent.State) {
		hb := edgeagent.Heartbeat{Node: edgeagent.NodeID(id), Region: region, State: state}
		if key {
			hb.ProbeKey = make(sfu.ProbeKey, sfu.ProbeKeyLen)
		}
		c.Observe(distanceNow, hb)
	}
	node("me", "r0", true, edgeagent.Ready)
	node("gone", "r1", true, edgeagent.Gone)
	node("blank", "r1", false, edgeagent.Ready)
	if got := c.Peers(distanceNow, "me"); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
	for i := range 90 {
		node(fmt.Sprint("n", i), fmt.Sprint("r", i/3), true, edgeagent.Ready) // 30 regions
	}
	names := func(now time.Time, id edgeagent.NodeID) []edgeagent.NodeID {
		var out []edgeagent.NodeID
		regions := map[string]bool{}
		for _, hb := range c.Peers(now, id) {
			out = append(out, hb.Node)
			regions[hb.Region] = true
		}
		if len(out) != edgeagent.MaxPeers || len(regions) < edgeagent.MaxPeers/2 {
			t.Errorf("%d peers in %d regions", len(out), len(regions))
		}
		return out
	}
	first := names(distanceNow, "me")
	if again := names(distanceNow.Add(edgeagent.PeersFor/2), "me"); !slices.Equal(first, again) {
		t.Error("they change within their time")
	}
	if slices.Equal(first, names(distanceNow, "n1")) {
		t.Error("two nodes measure the same ones")
	}
	all := map[edgeagent.NodeID]bool{}
	for i := range 60 {
		for _, n := range names(distanceNow.Add(time.Duration(i)*edgeagent.PeersFor), "me") {
			all[n] = true
		}
	}
	if len(all) != 90 || all["me"] {
		t.Errorf("%d of 90 were measured within an hour", len(all))
	}
}

func TestRegions(t *testing.T) {
	var c Core
	node := func(id, region string, state edgeagent.State, sessions int, at *edgeagent.Location) {
		c.Observe(distanceNow, edgeagent.Heartbeat{
			Node: edgeagent.NodeID(id), Region: region, State: state, ProbeKey: make(sfu.ProbeKey, sfu.ProbeKeyLen), Location: at,
			Capacity: edgeagent.Capacity{PPS: 1e9, BPS: 1e12, Sessions: 100}, Load: edgeagent.Load{Sessions: sessions},
		})
	}
	node("b1", "b", edgeagent.Ready, 90, nil)
	node("b2", "b", edgeagent.Ready, 30, &edgeagent.Location{Lat: 1, Lon: 2})
	node("b3", "b", edgeagent.Draining, 0, nil)
	node("a1", "a", edgeagent.Draining, 0, nil)
	node("c1", "c", edgeagent.Gone, 0, nil)
	var got []string
	for _, r := range c.Regions(distanceNow) {
		got = append(got, fmt.Sprint(r.ID, " ", r.Nodes, " ", r.Headroom, " ", r.Target, " ", r.Location != nil))
	}
	if want := []string{"a 0 0  false", "b 2 80 b2 true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
