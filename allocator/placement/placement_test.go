package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func channel(n int) sfu.CallID { return sfu.CallID{ID: snowflake.ID(n)} }

// node is a ready node of 100 thousand packets/s with so many sessions of 1,000.
func node(id, region string, sessions int, calls ...edgeagent.CallOnANode) edgeagent.Heartbeat {
	return edgeagent.Heartbeat{
		Node: edgeagent.NodeID(id), Region: region, State: edgeagent.Ready,
		Capacity: edgeagent.Capacity{PPS: 100_000, BPS: 1e9, Sessions: 1000},
		Load:     edgeagent.Load{Sessions: sessions}, Calls: calls,
	}
}

// on is call 7 or another as its node shows it.
func on(call int, epoch uint64, sessions int) edgeagent.CallOnANode {
	return edgeagent.CallOnANode{Call: channel(call), Epoch: epoch, Sessions: sessions}
}

func joiningAs(id string) edgeagent.Heartbeat {
	hb := node(id, "eu", 0)
	hb.State = edgeagent.Joining
	return hb
}

func drainingWith(calls ...edgeagent.CallOnANode) edgeagent.Heartbeat {
	hb := node("a", "eu", 2, calls...)
	hb.State = edgeagent.Draining
	return hb
}

func TestDecide(t *testing.T) {
	draining, joining := node("a", "eu", 0), node("a", "eu", 0)
	draining.State, joining.State = edgeagent.Draining, edgeagent.Joining
	busy := node("a", "eu", 10)
	busy.Load.PPS = 99_999
	for _, c := range []struct {
		name   string
		nodes  []edgeagent.Heartbeat
		live   *allocator.CallEntry
		req    allocator.PlaceRequest
		want   edgeagent.NodeID
		code   allocator.ErrorCode
		reason string
	}{
		{name: "no nodes", code: allocator.CodeNoNodes, reason: "no node is ready"},
		{name: "only a joining node", nodes: []edgeagent.Heartbeat{joining}, code: allocator.CodeNoNodes, reason: "no node is ready"},
		{name: "one node", nodes: []edgeagent.Heartbeat{node("a", "eu", 0)}, want: "a", reason: "lowest cost"},
		{name: "closest by measurement", nodes: []edgeagent.Heartbeat{node("a", "eu", 0), node("b", "us", 0)},
			req: allocator.PlaceRequest{RTT: map[string]float64{"a": 90, "us": 12}, Region: "eu"}, want: "b", reason: "lowest cost"},
		{name: "closest by region", nodes: []edgeagent.Heartbeat{node("a", "eu", 0), node("b", "us", 0)},
			req: allocator.PlaceRequest{Region: "eu"}, want: "a", reason: "lowest cost"},
		{name: "a lie is not believed", nodes: []edgeagent.Heartbeat{node("a", "eu", 0), node("b", "us", 0)},
			req: allocator.PlaceRequest{RTT: map[string]float64{"b": -5}, Region: "eu"}, want: "a", reason: "lowest cost"},
		{name: "closest is nearly full", nodes: []edgeagent.Heartbeat{node("a", "eu", 988), node("b", "us", 0)},
			req: allocator.PlaceRequest{Region: "eu"}, want: "b", reason: "lowest cost"},
		{name: "emptier among equals", nodes: []edgeagent.Heartbeat{node("a", "eu", 300), node("b", "eu", 20)},
			req: allocator.PlaceRequest{Region: "eu"}, want: "b", reason: "emptier of two drawn among the nearly cheapest"},
		{name: "draining takes nothing new", nodes: []edgeagent.Heartbeat{draining, node("b", "us", 0)},
			req: allocator.PlaceRequest{Region: "eu"}, want: "b", reason: "lowest cost"},
		{name: "full by packets", nodes: []edgeagent.Heartbeat{busy}, code: allocator.CodeFull, reason: "every ready node is full"},
		{name: "predicted size does not fit", nodes: []edgeagent.Heartbeat{node("a", "eu", 950), node("b", "us", 0)},
			req: allocator.PlaceRequest{RTT: map[string]float64{"a": 1, "b": 5000}, Expected: 60}, want: "b", reason: "lowest cost"},
		{name: "a live call stays", nodes: []edgeagent.Heartbeat{node("a", "eu", 0), node("b", "us", 0)},
			live: &allocator.CallEntry{Node: "b"}, req: allocator.PlaceRequest{Region: "eu"}, want: "b", reason: "call is live here"},
		{name: "even on a draining node", nodes: []edgeagent.Heartbeat{drainingWith(on(7, 40, 2)), node("b", "eu", 0)},
			live: &allocator.CallEntry{Node: "a"}, want: "a", reason: "call is live here"},
		{name: "but not when everybody has left it there", nodes: []edgeagent.Heartbeat{drainingWith(on(8, 40, 2)), node("b", "eu", 0)},
			live: &allocator.CallEntry{Node: "a"}, want: "b", reason: "lowest cost"},
		{name: "and then nowhere, when there is no other", nodes: []edgeagent.Heartbeat{draining},
			live: &allocator.CallEntry{Node: "a"}, code: allocator.CodeNoNodes, reason: "no node is ready"},
		{name: "but not on a full one", nodes: []edgeagent.Heartbeat{node("a", "eu", 1000, on(7, 40, 500)), node("b", "us", 0)},
			live: &allocator.CallEntry{Node: "a"}, req: allocator.PlaceRequest{Region: "eu"}, want: "b", reason: "call moves, its node is full: lowest cost"},
		{name: "nor where not all of it fits", nodes: []edgeagent.Heartbeat{node("a", "eu", 1000, on(7, 40, 500)), node("b", "us", 501)},
			live: &allocator.CallEntry{Node: "a"}, code: allocator.CodeFull, reason: "call is live on a full node"},
		{name: "nor where there is no other", nodes: []edgeagent.Heartbeat{node("a", "eu", 1000, on(7, 40, 500))},
			live: &allocator.CallEntry{Node: "a"}, code: allocator.CodeFull, reason: "call is live on a full node"},
		{name: "nor on one that is gone", nodes: []edgeagent.Heartbeat{node("b", "eu", 0)},
			live: &allocator.CallEntry{Node: "a"}, want: "b", reason: "lowest cost"},
		{name: "avoided", nodes: []edgeagent.Heartbeat{node("a", "eu", 0), node("b", "us", 0)},
			req: allocator.PlaceRequest{Region: "eu", Avoid: []edgeagent.NodeID{"a"}}, want: "b", reason: "lowest cost"},
		{name: "avoided, but there is no other", nodes: []edgeagent.Heartbeat{node("a", "eu", 0), joiningAs("b")},
			req: allocator.PlaceRequest{Avoid: []edgeagent.NodeID{"a"}}, want: "a", reason: "lowest cost"},
		{name: "avoided and full", nodes: []edgeagent.Heartbeat{node("a", "eu", 1000)},
			req: allocator.PlaceRequest{Avoid: []edgeagent.NodeID{"a"}}, code: allocator.CodeFull, reason: "every ready node is full"},
		{name: "a call that lost its entry stays where it is carried", nodes: []edgeagent.Heartbeat{node("a", "us", 3, on(7, 40, 3)), node("b", "eu", 0)},
			req: allocator.PlaceRequest{Region: "eu"}, want: "a", reason: "call is live here"},
		{name: "on the node of the highest epoch", nodes: []edgeagent.Heartbeat{node("a", "eu", 3, on(7, 40, 3)), node("b", "us", 3, on(7, 41, 1))},
			req: allocator.PlaceRequest{Region: "eu"}, want: "b", reason: "call is live here"},
		{name: "an empty call is not carried", nodes: []edgeagent.Heartbeat{node("a", "us", 0, on(7, 40, 0)), node("b", "eu", 0)},
			req: allocator.PlaceRequest{RTT: map[string]float64{"b": 1}}, want: "b", reason: "lowest cost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var core Core
			for _, hb := range c.nodes {
				core.Observe(start, hb)
			}
			c.req.Call = channel(7)
			if c.live != nil {
				c.live.Call = c.req.Call
				core.ObserveCall(*c.live)
			}
			ex, err := core.Decide(start, c.req, rand.New(rand.NewPCG(1, 1)))
			if err != nil && err.Code != c.code || err == nil && c.code != "" {
				t.Fatalf("error %v, want code %q", err, c.code)
			}
			if ex.Chosen != c.want || ex.Reason != c.reason {
				t.Errorf("chose %q because %q, want %q because %q", ex.Chosen, ex.Reason, c.want, c.reason)
			}
			if len(ex.Candidates) != len(c.nodes) {
				t.Errorf("%d candidates explained, want all %d", len(ex.Candidates), len(c.nodes))
			}
		})
	}
}

func TestPenaltyGrows(t *testing.T) {
	last := -1.0
	for f := 0.0; f <= 1.2; f += 0.01 {
		p := penalty(f)
		if p < last || f < 0.5 && p != 0 {
			t.Fatalf("penalty(%.2f) = %.1f after %.1f", f, p, last)
		}
		last = p
	}
}

// TestReservations: a seat counts until the heartbeat shows it, or 10 s.
func TestReservations(t *testing.T) {
	var core Core
	core.Observe(start, node("a", "eu", 0))
	core.ObserveCall(allocator.CallEntry{Call: channel(1), Node: "a", Created: start.Add(-time.Hour)})
	for range 5 {
		core.Seat(start, channel(1), 1)
	}
	check := func(at time.Duration, want int) {
		t.Helper()
		if got := core.Reserved(start.Add(at))["a"].Sessions; got != want {
			t.Errorf("after %v %d sessions are reserved, want %d", at, got, want)
		}
	}
	check(0, 5)
	core.Observe(start, node("a", "eu", 3, edgeagent.CallOnANode{Call: channel(1), Sessions: 3}))
	check(loadKept-1, 5) // what they send is not in the mean yet
	check(loadKept, 2)
	core.Observe(start, node("a", "eu", 3, edgeagent.CallOnANode{Call: channel(1), Sessions: 3}))
	check(seatKept-1, 2)
	check(seatKept, 0)

	// A young call counts with its predicted size.
	core.ObserveCall(allocator.CallEntry{Call: channel(2), Node: "a", Created: start})
	core.Seat(start, channel(2), 40)
	core.Observe(start, node("a", "eu", 4, edgeagent.CallOnANode{Call: channel(1), Sessions: 3}, edgeagent.CallOnANode{Call: channel(2), Sessions: 1}))
	check(sizeKept-1, 39)
	check(sizeKept+time.Second, 0)
}

// TestBurst: with reservations, no node is ever carried over its limit, and a
// burst between two heartbeats spreads.
func TestBurst(t *testing.T) {
	for seed := range uint64(20) {
		draw := rand.New(rand.NewPCG(seed, 9))
		var core Core
		given := map[edgeagent.NodeID]int{}
		for i := range 5 {
			hb := node(fmt.Sprintf("n%d", i), "eu", 0)
			hb.Capacity.Sessions = 100
			core.Observe(start, hb)
		}
		refused := 0
		for i := range 600 {
			req := allocator.PlaceRequest{Call: channel(i + 1), Region: "eu", Expected: 1}
			ex, err := core.Decide(start, req, draw)
			if err != nil {
				refused++
				continue
			}
			given[ex.Chosen]++
			core.ObserveCall(allocator.CallEntry{Call: req.Call, Node: ex.Chosen, Created: start})
			core.Seat(start, req.Call, 1)
		}
		if refused != 100 {
			t.Errorf("seed %d: %d of 600 refused, want the 100 that do not fit", seed, refused)
		}
		for n, k := range given {
			if k > 100 {
				t.Errorf("seed %d: node %s was given %d sessions of 100", seed, n, k)
			}
		}
	}
}

func TestEpochsGrow(t *testing.T) {
	var core Core
	hb := node("a", "eu", 0)
	hb.Epoch = uint64(start.UnixMilli()) + 5000 // a node that saw a later clock
	core.Observe(start, hb)
	last := hb.Epoch
	for i := range 10 {
		e := core.NextEpoch(start.Add(-time.Duration(i) * time.Hour))
		if e <= last {
			t.Fatalf("epoch %d after %d", e, last)
		}
		last = e
	}
}

// TestStrays: a node that was out of reach while its call was placed again shows
// it at a lower epoch.
func TestStrays(t *testing.T) {
	var core Core
	core.Observe(start, node("a", "eu", 3, on(1, 10, 3), on(2, 11, 2), on(3, 12, 1)))
	core.Observe(start, node("b", "eu", 1, on(1, 20, 1)))
	core.ObserveCall(allocator.CallEntry{Call: channel(1), Node: "b", Epoch: 20})
	core.ObserveCall(allocator.CallEntry{Call: channel(2), Node: "a", Epoch: 11})
	core.ObserveCall(allocator.CallEntry{Call: channel(3), Node: "b", Epoch: 5}) // an entry that is older than what is carried
	if got := fmt.Sprint(core.Strays()); got != "[{a 1}]" {
		t.Errorf("strays %s", got)
	}
	if n, epoch, ok := core.Carrier(channel(1)); n != "b" || epoch != 20 || !ok {
		t.Errorf("carrier %s of epoch %d", n, epoch)
	}
	// It has ended its sessions.
	core.Observe(start, node("a", "eu", 3, on(2, 11, 2)))
	if got := core.Strays(); len(got) != 0 {
		t.Errorf("strays %v after they were closed", got)
	}
	core.Lose(start, "a")
	core.Lose(start, "b")
	if len(core.carried) != 0 {
		t.Errorf("%v is carried by no node", core.carried)
	}
}

// TestEnded: an entry outlives its last grant, and its sessions.
func TestEnded(t *testing.T) {
	var core Core
	core.Observe(start, node("a", "eu", 1, on(1, 10, 1)))
	for i := range 3 {
		core.ObserveCall(allocator.CallEntry{Call: channel(i + 1), Node: "a", Epoch: 10, Touched: start})
	}
	core.ObserveCall(allocator.CallEntry{Call: channel(3), Node: "gone", Epoch: 10, Touched: start.Add(time.Minute)})
	for _, c := range []struct {
		after time.Duration
		want  int
	}{
		{0, 0},
		{edgeagent.GrantLife + edgeagent.ClockLeeway, 0},
		{allocator.CallIdle, 1},
		{allocator.CallIdle + time.Minute, 2},
	} {
		if got := core.Ended(start.Add(c.after)); len(got) != c.want {
			t.Errorf("after %v calls %v have ended, want %d", c.after, got, c.want)
		}
	}
	core.Observe(start, node("a", "eu", 0))
	if got := core.Ended(start.Add(allocator.CallIdle)); len(got) != 2 {
		t.Errorf("%v have ended after the last session left, want 2", got)
	}
}

// TestNeverOverTheLimit: whatever the nodes carry, no decision carries one over
// its limit, to one that is not ready, or a live call elsewhere.
func TestNeverOverTheLimit(t *testing.T) {
	states := []edgeagent.State{edgeagent.Ready, edgeagent.Ready, edgeagent.Ready, edgeagent.Joining, edgeagent.Draining, edgeagent.Gone}
	for seed := range uint64(300) {
		draw := rand.New(rand.NewPCG(seed, 3))
		var core Core
		known := map[edgeagent.NodeID]edgeagent.Heartbeat{}
		for i := range 1 + draw.IntN(6) {
			hb := node(fmt.Sprintf("n%d", i), []string{"eu", "us"}[draw.IntN(2)], draw.IntN(1001))
			hb.Load.PPS, hb.Load.BPS = draw.Float64()*100_000, draw.Float64()*1e9
			hb.State = states[draw.IntN(len(states))]
			core.Observe(start, hb)
			known[hb.Node] = hb
		}
		home := map[sfu.CallID]edgeagent.NodeID{}
		given := map[edgeagent.NodeID]int{}
		for range 50 {
			req := allocator.PlaceRequest{Call: channel(1 + draw.IntN(20)), Region: "eu", Expected: draw.IntN(30)}
			ex, err := core.Decide(start, req, draw)
			if err != nil {
				if ex.Chosen != "" {
					t.Fatalf("seed %d: refused and chosen: %+v", seed, ex)
				}
				continue
			}
			hb := known[ex.Chosen]
			if at, live := home[req.Call]; live && at != ex.Chosen && !strings.HasPrefix(ex.Reason, "call moves, its node is full") {
				t.Fatalf("seed %d: call %v is on %s and goes to %s", seed, req.Call, at, ex.Chosen)
			} else if !live && hb.State != edgeagent.Ready {
				t.Fatalf("seed %d: a new call goes to a node that is %s", seed, hb.State)
			}
			home[req.Call] = ex.Chosen
			given[ex.Chosen]++
			core.ObserveCall(allocator.CallEntry{Call: req.Call, Node: ex.Chosen, Created: start})
			core.Seat(start, req.Call, ex.Sessions)
			if n := core.Reserved(start)[ex.Chosen].Sessions; hb.Load.Sessions+n > hb.Capacity.Sessions {
				t.Fatalf("seed %d: %d sessions are reserved on %s, which has %d of %d", seed, n, ex.Chosen, hb.Load.Sessions, hb.Capacity.Sessions)
			}
			if n := given[ex.Chosen]; hb.Load.Sessions+n > hb.Capacity.Sessions || hb.Load.PPS+float64(n)*seatPPS > hb.Capacity.PPS || hb.Load.BPS+float64(n)*seatBPS > hb.Capacity.BPS {
				t.Fatalf("seed %d: %d sessions more carry %s over its limit: %+v", seed, n, ex.Chosen, hb.Load)
			}
			if len(ex.Candidates) != len(known) || ex.Reason == "" {
				t.Fatalf("seed %d: unexplained: %+v", seed, ex)
			}
		}
	}
}

// TestReservedForgetsWhatIsOver: a decision does not look at calls without
// reservations.
func TestReservedForgetsWhatIsOver(t *testing.T) {
	var core Core
	core.Observe(start, node("a", "eu", 0))
	for i := range 100 {
		core.ObserveCall(allocator.CallEntry{Call: channel(i + 1), Node: "a", Created: start})
		core.Seat(start, channel(i+1), 2)
	}
	if got := core.Reserved(start)["a"].Sessions; got != 200 {
		t.Errorf("%d sessions are reserved, want 200", got)
	}
	if got := core.Reserved(start.Add(sizeKept)); len(got) != 0 {
		t.Errorf("reserved is still %v", got)
	}
	if n := len(core.seats.list) + len(core.loads.list) + len(core.sizes.list); n != 0 {
		t.Errorf("%d calls are looked at for nothing", n)
	}
}

// TestReservationsFollowTheCall: what is reserved for a call moves and ends with
// it, also over an absence of its node.
func TestReservationsFollowTheCall(t *testing.T) {
	var core Core
	core.Observe(start, node("a", "eu", 0))
	core.Observe(start, node("b", "eu", 0))
	core.ObserveCall(allocator.CallEntry{Call: channel(1), Node: "a", Epoch: 1, Created: start})
	core.Seat(start, channel(1), 8)
	check := func(a, b int) {
		t.Helper()
		got := core.Reserved(start)
		if got["a"].Sessions != a || got["b"].Sessions != b {
			t.Fatalf("reserved %v, want %d on a and %d on b", got, a, b)
		}
	}
	check(8, 0)
	core.Lose(start, "a")
	core.Observe(start, node("a", "eu", 0))
	check(8, 0)
	core.ObserveCall(allocator.CallEntry{Call: channel(1), Node: "b", Epoch: 2, Created: start})
	check(0, 8) // whoever moved it
	core.Seat(start, channel(1), 8)
	check(0, 8)
	core.LoseCall(channel(1))
	check(0, 0)
}
