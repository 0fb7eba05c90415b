package allocatorserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// beat leases a node's heartbeat until the test ends.
func (f *fleet) beat(hb edgeagent.Heartbeat) {
	f.t.Helper()
	hb.State = edgeagent.Ready
	if hb.Capacity == (edgeagent.Capacity{}) {
		hb.Capacity = edgeagent.Capacity{PPS: 1e9, BPS: 1e12, Sessions: 1000}
	}
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		bus.Lease(ctx, f.nodes, string(hb.Node), hb, 500*time.Millisecond)
	}()
	f.t.Cleanup(func() { cancel(); <-done })
}

// sees waits until the allocators know so many nodes.
func (f *fleet) sees(n int) {
	f.t.Helper()
	c := NewClient(f.conn)
	for deadline := time.Now().Add(10 * time.Second); ; {
		nodes, err := c.Nodes(f.ctx)
		if err == nil && len(nodes) == n {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d nodes: %v", len(nodes), err)
		}
	}
}

// ask places one user in a call of its own, as soon as allocators and gateways are
// there.
func (f *fleet) ask(req allocator.PlaceRequest) (allocator.Assignment, error) {
	req.Guild, req.User, req.Session = cmp.Or(req.Guild, "1"), sfu.UserID{ID: snowflake.ID(6)}, "gw"
	deadline := time.Now().Add(10 * time.Second)
	for {
		a, err := NewClient(f.conn).Place(f.ctx, req)
		var refused *allocator.Error
		if !errors.As(err, &refused) || refused.Code != allocator.CodeUnavailable || time.Now().After(deadline) {
			return a, err
		}
	}
}

// allKnow waits until every allocator knows a call.
func (f *fleet) allKnow(call sfu.CallID) {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	for _, s := range f.serving {
		for known := false; !known; {
			s.mu.Lock()
			_, known = s.core.Place().Call(call)
			s.mu.Unlock()
			select {
			case <-time.After(time.Millisecond):
			case <-deadline:
				f.t.Fatalf("call %v is not known to every allocator", call)
			}
		}
	}
}

// why is the decision that put a call where it is, and its candidate of a node.
func (f *fleet) why(call sfu.CallID, node edgeagent.NodeID) (allocator.Explanation, allocator.Candidate) {
	f.t.Helper()
	rep, err := NewClient(f.conn).Explain(f.ctx, call)
	// Whoever of several is asked may not have read yet what another has placed.
	for deadline := time.Now().Add(30 * time.Second); err == nil && rep.Entry == nil && time.Now().Before(deadline); {
		rep, err = NewClient(f.conn).Explain(f.ctx, call)
	}
	if err != nil || rep.Entry == nil {
		f.t.Fatalf("explain %v: %+v, %v", call, rep, err)
	}
	for _, c := range rep.Entry.Why.Candidates {
		if c.Node == node {
			return rep.Entry.Why, c
		}
	}
	f.t.Fatalf("%s is no candidate of %+v", node, rep.Entry.Why)
	panic("unreachable")
}

// TestClosestAndEmptiest goes over a real bus: measured distances, the place on the
// earth, the region, load, and who tries something out.
func TestClosestAndEmptiest(t *testing.T) {
	f := newFleet(t, 1)
	full := edgeagent.Capacity{PPS: 1e9, BPS: 1e12, Sessions: 100}
	f.beat(edgeagent.Heartbeat{Node: "fra-1", Region: "fra", Location: &edgeagent.Location{Lat: 50.1, Lon: 8.7}})
	f.beat(edgeagent.Heartbeat{Node: "nyc-1", Region: "nyc", Location: &edgeagent.Location{Lat: 40.7, Lon: -74}})
	f.beat(edgeagent.Heartbeat{Node: "gru-1", Region: "gru", Capacity: full, Load: edgeagent.Load{Sessions: 99}})
	f.beat(edgeagent.Heartbeat{Node: "gru-2", Region: "gru", Label: "canary", Weight: 0.001})
	f.sees(4)
	f.knows(f.serving[0], "")
	if _, err := NewClient(f.conn).Label(f.ctx, allocator.LabelOrder{Guild: "2", Label: "canary", By: "ada"}); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		name   string
		req    allocator.PlaceRequest
		want   edgeagent.NodeID
		from   string
		rtt    float64
		within float64
	}{
		{"what the client measured", allocator.PlaceRequest{RTT: map[string]float64{"fra": 90, "nyc": 12, "gru": 200}, Region: "fra"}, "nyc-1", "client", 12, 0},
		{"where it is on the earth", allocator.PlaceRequest{Location: &edgeagent.Location{Lat: 52.5, Lon: 13.4}, Region: "nyc"}, "fra-1", "geoip", 17, 1},
		{"where it says it is", allocator.PlaceRequest{Region: "nyc"}, "nyc-1", "region", 20, 0},
		// The near node is nearly full, its neighbour takes a thousandth: an ocean is nearer.
		{"load against distance", allocator.PlaceRequest{RTT: map[string]float64{"gru": 10, "nyc": 110, "fra": 190}}, "nyc-1", "client", 110, 0},
		{"the label", allocator.PlaceRequest{RTT: map[string]float64{"gru": 10, "nyc": 110, "fra": 190}, Guild: "2"}, "gru-2", "client", 10, 0},
	} {
		c.req.Call = sfu.CallID{ID: snowflake.ID(100 + i)}
		a, err := f.ask(c.req)
		if err != nil || a.Node != c.want {
			t.Errorf("%s: on %q, %v, want %s", c.name, a.Node, err, c.want)
			continue
		}
		ex, k := f.why(c.req.Call, c.want)
		if k.RTTFrom != c.from || k.RTT < c.rtt-c.within || k.RTT > c.rtt+c.within || ex.Chosen != c.want || ex.Reason == "" || len(ex.Candidates) != 4 {
			t.Errorf("%s: explained by %+v of %d, %q", c.name, k, len(ex.Candidates), ex.Reason)
		}
	}
	// Whoever it is, the full node is told with its penalty.
	if _, k := f.why(sfu.CallID{ID: 103}, "gru-1"); k.Fullness < 0.99 || k.Penalty < 100 {
		t.Errorf("the nearly full one is %+v", k)
	}
	if _, k := f.why(sfu.CallID{ID: 103}, "gru-2"); k.Share != 0.001 || k.Aside == 0 {
		t.Errorf("the canary is %+v", k)
	}
}

// TestBurstFillsNoNode: a burst of calls of three, faster than any heartbeat, is
// spread over two equal nodes by what is reserved, fills each to its limit and no
// further, and who finds no room hears of it. Two allocators know of one another's: the
// next call comes when both know the last, however busy the machine is.
func TestBurstFillsNoNode(t *testing.T) {
	f := newFleet(t, 2)
	limit := edgeagent.Capacity{PPS: 1e9, BPS: 1e12, Sessions: 30}
	f.beat(edgeagent.Heartbeat{Node: "a", Region: "eu", Zone: "1", Capacity: limit})
	f.beat(edgeagent.Heartbeat{Node: "b", Region: "eu", Zone: "2", Capacity: limit})
	f.sees(2)
	seats := map[edgeagent.NodeID]int{}
	var refused *allocator.Error
	for i := range 30 {
		call := sfu.CallID{ID: snowflake.ID(200 + i)}
		a, err := f.ask(allocator.PlaceRequest{Call: call, Expected: 3})
		if errors.As(err, &refused) {
			if refused.Code != allocator.CodeFull || refused.Full == nil {
				t.Fatalf("call %d is refused: %+v", i, refused)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		seats[a.Node] += 3
		f.allKnow(call)
		if i == 7 && (seats["a"] < 6 || seats["b"] < 6) {
			t.Errorf("eight calls herd: %v", seats)
		}
	}
	// 30 sessions are ten calls of three, to the brim.
	if seats["a"] > 30 || seats["b"] > 30 || seats["a"]+seats["b"] < 54 || refused == nil {
		t.Errorf("seats %v, refused: %v", seats, refused)
	}
	rep, err := NewClient(f.conn).Explain(f.ctx, sfu.CallID{ID: 200})
	if err != nil || rep.Now.Chosen != "" && rep.Now.Candidates[0].Fullness < 0.9 {
		t.Errorf("now: %+v, %v", rep.Now, err)
	}
}

// TestPeersAndRegions: nodes are told whom to measure by credentials, never by
// keys; text is told of each region a target with its key.
func TestPeersAndRegions(t *testing.T) {
	f := newFleet(t, 1)
	keys := map[edgeagent.NodeID]sfu.ProbeKey{}
	for _, id := range []edgeagent.NodeID{"a", "b", "c"} {
		keys[id] = sfu.NewProbeKey()
		f.beat(edgeagent.Heartbeat{
			Node: id, Region: "r-" + string(id), ProbeKey: keys[id],
			Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: []uint16{50000, 50001},
		})
	}
	f.sees(3)
	c := NewClient(f.conn)
	peers, err := c.Peers(f.ctx, edgeagent.PeersRequest{Node: "a"})
	if err != nil || len(peers) != 2 {
		t.Fatalf("peers %+v, %v", peers, err)
	}
	for _, p := range peers {
		probe, ok := sfu.ReadProbe([]byte(p.Ufrag))
		_, pwd := probe.Credentials(keys[p.Node])
		if !ok || probe.Client() || pwd != p.Pwd || p.Node == "a" || fmt.Sprint(p.Addrs) != "[192.0.2.1:50000 192.0.2.1:50001]" {
			t.Errorf("peer %+v", p)
		}
	}
	if _, err := c.Peers(f.ctx, edgeagent.PeersRequest{Node: "a.>"}); err == nil || !strings.Contains(err.Error(), "is no node") {
		t.Errorf("a name that is none: %v", err)
	}
	regions, err := c.Regions(f.ctx)
	if err != nil || len(regions) != 3 || regions[0].ID != "r-a" || regions[0].Target != "a" || !regions[0].ProbeKey.Valid() || regions[0].Headroom == 0 {
		t.Errorf("regions %+v, %v", regions, err)
	}
	nodes, err := c.Nodes(f.ctx)
	for _, n := range nodes {
		if err != nil || n.ProbeKey != nil {
			t.Errorf("an operator is shown the key of %s, %v", n.Node, err)
		}
	}
}
