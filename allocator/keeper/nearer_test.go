package keeper

import (
	"fmt"
	"testing"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// newRegions is a clinic with a node in each region, named as it is.
func newRegions(t *testing.T, ids ...string) *clinic {
	k := newClinic(t, ids...)
	for id, hb := range k.nodes {
		hb.Region = string(id)
	}
	k.pass(2, func() {})
	return k
}

// claim has a user ask for a seat, and begin the call if nobody has.
func (k *clinic) claim(call sfu.CallID, user int, rtt map[string]float64) allocator.CallEntry {
	k.t.Helper()
	cl, err := k.c.Claim(k.now, allocator.PlaceRequest{Call: call, User: sfu.UserID{ID: snowflake.ID(user)}, Session: "s", RTT: rtt})
	if err != nil {
		k.t.Fatal(err)
	}
	if cl.Write != nil {
		k.perform([]Out{{Write: cl.Write}})
	}
	e, _ := k.c.place.Call(call)
	return e
}

// gather begins a call of so many.
func (k *clinic) gather(call sfu.CallID, n int, rtt map[string]float64) allocator.CallEntry {
	k.t.Helper()
	e := k.claim(call, 1, rtt)
	k.seat(call, e.Node, e.Epoch, n)
	k.pass(1, func() {})
	for user := 2; user <= n; user++ {
		e = k.claim(call, user, rtt)
	}
	return e
}

func (k *clinic) stays(call sfu.CallID, node edgeagent.NodeID) {
	k.t.Helper()
	if e, _ := k.c.place.Call(call); e.Node != node {
		k.t.Errorf("call is on %s, not on %s: %s", e.Node, node, e.Why.Reason)
	}
}

// settled is long enough for all calls to come nearer that may.
const settled = 3 * int((NearerRest+NearerEvery)/1e9)

// TestGuestsMoveNoCall: who comes for a moment, or only says so, moves nobody's call,
// however often, and neither do many of them.
func TestGuestsMoveNoCall(t *testing.T) {
	eu, us := map[string]float64{"eu": 10, "us": 100}, map[string]float64{"eu": 100, "us": 10}
	for _, size := range []int{2, 5, 50} {
		for _, guests := range []int{1, 2 * size} {
			t.Run(fmt.Sprintf("%d guests of %d", guests, size), func(t *testing.T) {
				k := newRegions(t, "eu", "us")
				id := sfu.CallID{ID: 1}
				k.gather(id, size, eu)
				for i := range 40 {
					k.pass(6, func() {})
					k.claim(id, 1000+i%guests, us)
				}
				k.pass(settled, func() {})
				k.stays(id, "eu")
				if e, _ := k.c.place.Call(id); guests == 1 && size > 2 && e.Near.RTT["eu"] > 50 {
					t.Errorf("a guest counts for more than one: %+v", e.Near)
				}
			})
		}
	}
}

// TestFounderMovesNoCall: who began a call far away, and is one of many, does not take
// it along, and nothing is moved for those of whom nothing is known.
func TestFounderMovesNoCall(t *testing.T) {
	eu, us := map[string]float64{"eu": 10, "us": 100}, map[string]float64{"eu": 100, "us": 10}
	for _, known := range []bool{true, false} {
		k := newRegions(t, "eu", "us")
		k.nodes["us"].Load.Sessions = 1000
		k.pass(2, func() {})
		id := sfu.CallID{ID: 1}
		e := k.claim(id, 1, us)
		k.seat(id, e.Node, e.Epoch, 20)
		k.pass(1, func() {})
		for user := range 19 {
			if known {
				k.claim(id, user+2, eu)
			}
		}
		k.nodes["us"].Load.Sessions = 0
		k.pass(settled, func() {})
		k.stays(id, "eu")
	}
}

// TestPredictedMembersAreNowhere: a call that is usually one of forty counts where those
// are who have come, each as much, and nobody counts who only says that he comes.
func TestPredictedMembersAreNowhere(t *testing.T) {
	k := newRegions(t, "eu", "us")
	id := sfu.CallID{ID: 1}
	come := func(user int, eu float64, seated bool) allocator.CallEntry {
		t.Helper()
		cl, err := k.c.Claim(k.now, allocator.PlaceRequest{Call: id, User: sfu.UserID{ID: snowflake.ID(user)}, Session: "s", Expected: 40, RTT: map[string]float64{"eu": eu}})
		if err != nil {
			t.Fatal(err)
		}
		if cl.Write != nil {
			k.perform([]Out{{Write: cl.Write}})
		}
		if seated {
			k.c.Seat(k.now, id)
		}
		e, _ := k.c.place.Call(id)
		return e
	}
	come(1, 10, true)
	e := come(2, 110, true)
	if e.Near.RTT["eu"] != 60 || e.First.RTT["eu"] != 60 {
		t.Errorf("one is 10 ms away and one 110, the mean is %v, of the first %v", e.Near.RTT["eu"], e.First.RTT["eu"])
	}
	k.seat(id, e.Node, e.Epoch, 2)
	k.pass(11, func() {}) // both are shown, and their seats no longer count
	if e = come(3, 120, true); e.Near.RTT["eu"] != 80 || e.First.RTT["eu"] != 80 {
		t.Errorf("of 10, 110 and 120 ms the mean is %v, of the first %v", e.Near.RTT["eu"], e.First.RTT["eu"])
	}
	for user := range 5 {
		e = come(4+user, 120, false)
	}
	if n := len(e.First.Of); n != 4 {
		t.Errorf("%d count among the first where three have come, and one who may be about to", n)
	}
	// And where it moves, those count who come along before any has arrived.
	k.pass(11, func() {})
	w, why := k.c.Move(k.now, allocator.MoveRequest{Call: id, Region: "us", Cause: allocator.CauseRegion})
	if w == nil {
		t.Fatal(why)
	}
	k.perform([]Out{{Write: w}})
	left := *k.nodes["eu"]
	left.At, left.Calls = k.now, nil
	k.perform(k.c.SeeNode(k.now, left, k.now, nil))
	if n := k.c.place.Members(id); n != 2 {
		t.Errorf("a call of two has %d members while it moves", n)
	}
}

// TestWhoCameFirstDecideTogether: one person far away begins a call, and nine come to it
// who live elsewhere: it comes to them, once.
func TestWhoCameFirstDecideTogether(t *testing.T) {
	eu, us := map[string]float64{"eu": 10, "us": 100}, map[string]float64{"eu": 100, "us": 10}
	k := newRegions(t, "eu", "us")
	id := sfu.CallID{ID: 1}
	e := k.claim(id, 1, us)
	k.seat(id, e.Node, e.Epoch, 1)
	for user := 2; user <= 10; user++ {
		k.pass(5, func() {})
		k.claim(id, user, eu)
		hb := k.nodes[e.Node]
		hb.Calls, hb.Load.Sessions = []edgeagent.CallOnANode{{Call: id, Epoch: e.Epoch, Sessions: user}}, user
	}
	k.stays(id, "us")
	k.pass(settled, func() {})
	k.stays(id, "eu")
	if len(k.moves) != 1 {
		t.Errorf("%d moves", len(k.moves))
	}
}

// TestWhatWasShedDoesNotFlap: a node gives calls away that are too much for it, or hear
// badly there; it does not get them back again and again.
func TestWhatWasShedDoesNotFlap(t *testing.T) {
	for _, c := range []struct {
		name string
		ails func(*edgeagent.Load)
	}{
		{"it drops what it receives when it has more than 100 sessions", func(l *edgeagent.Load) {
			if l.Sessions > 100 {
				l.SocketDrops += 5000
			}
		}},
		{"its listeners lose packets when there are any", func(l *edgeagent.Load) {
			if l.Loss = 0; l.Sessions > 1 {
				l.Loss = 0.05
			}
		}},
	} {
		k := newRegions(t, "near", "far", "far2")
		for i := range 40 {
			k.gather(sfu.CallID{ID: snowflake.ID(i + 1)}, 5, map[string]float64{"near": 10, "far": 80, "far2": 90})
		}
		k.pass(2*3600, func() { c.ails(&k.nodes["near"].Load) })
		of := map[sfu.CallID]int{}
		most := 0
		for _, m := range k.moves {
			of[m.Call]++
			most = max(most, of[m.Call])
		}
		if len(k.moves) > 100 || most > 4 {
			t.Errorf("%s: %d moves of 40 calls in two hours, %d of one", c.name, len(k.moves), most)
		}
	}
}

// TestOrderedRegionStays: a call that was moved to another region by order stays there,
// whoever joins.
func TestOrderedRegionStays(t *testing.T) {
	k := newRegions(t, "eu", "us")
	id, eu := sfu.CallID{ID: 1}, map[string]float64{"eu": 10, "us": 100}
	k.gather(id, 5, eu)
	w, why := k.c.Move(k.now, allocator.MoveRequest{Call: id, Region: "us", Cause: allocator.CauseRegion})
	if w == nil {
		t.Fatal(why)
	}
	k.perform([]Out{{Write: w}})
	for user := range 20 {
		k.pass(6, func() {})
		k.claim(id, user+1, eu)
	}
	k.pass(settled, func() {})
	k.stays(id, "us")
}

// TestLargeCallsStay: so many people do not leave at once.
func TestLargeCallsStay(t *testing.T) {
	for size, want := range map[int]edgeagent.NodeID{2 * allocator.MaxOf: "near", 2*allocator.MaxOf + 1: "far"} {
		k := newRegions(t, "near", "far")
		k.nodes["near"].Load.Sessions = 1000
		k.pass(2, func() {})
		id := sfu.CallID{ID: 1}
		k.gather(id, size, map[string]float64{"near": 10, "far": 80})
		k.nodes["near"].Load.Sessions = 0
		k.pass(settled, func() {})
		k.stays(id, want)
	}
}

// TestEmptyCallsOfALostNodeHoldNobody: nobody waits in them.
func TestEmptyCallsOfALostNodeHoldNobody(t *testing.T) {
	k := newRegions(t, "near", "far", "lost")
	k.nodes["near"].Load.Sessions = 1000
	k.pass(2, func() {})
	id := sfu.CallID{ID: 1}
	k.gather(id, 5, map[string]float64{"near": 10, "far": 80, "lost": 200})
	k.nodes["near"].Load.Sessions = 0
	k.c.exits["lost"] = &exit{cause: allocator.CauseNodeLost}
	k.c.hosted["lost"] = map[sfu.CallID]struct{}{{ID: 999}: {}}
	k.c.lost["lost"] = loss{at: k.now}
	k.pass(settled, func() {})
	k.stays(id, "near")
}
