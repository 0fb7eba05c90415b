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

// TestFullSaysWhatToHopeFor: a call on a full node that fits nowhere else as a
// whole; who is in it keeps its seat, who is not hears of the nearest room and how
// often somebody leaves.
func TestFullSaysWhatToHopeFor(t *testing.T) {
	var c Core
	now := distanceNow
	draw := rand.New(rand.NewPCG(1, 1))
	beat := func(id, region string, sessions, limit int, calls ...edgeagent.CallOnANode) {
		c.Observe(now, edgeagent.Heartbeat{
			Node: edgeagent.NodeID(id), Region: region, State: edgeagent.Ready, Calls: calls,
			Capacity: edgeagent.Capacity{PPS: 1e9, BPS: 1e12, Sessions: limit}, Load: edgeagent.Load{Sessions: sessions},
		})
	}
	call := sfu.CallID{ID: 7}
	on := func(n int) edgeagent.CallOnANode { return edgeagent.CallOnANode{Call: call, Epoch: 1, Sessions: n} }
	c.ObserveCall(allocator.CallEntry{Call: call, Node: "home", Epoch: 1, Created: now.Add(-time.Hour)})
	req := allocator.PlaceRequest{Call: call, User: sfu.UserID{ID: snowflake.ID(1)}, RTT: map[string]float64{"here": 20, "far": 180, "farther": 250}}

	beat("home", "here", 10, 10, on(10))
	beat("room", "far", 4, 10)
	beat("more", "farther", 4, 10)
	_, err := c.Decide(now, req, draw)
	if err == nil || err.Code != allocator.CodeFull || err.Full == nil || err.Full.Elsewhere == nil {
		t.Fatalf("refused with %+v", err)
	}
	if e := *err.Full.Elsewhere; e.Node != "room" || e.Region != "far" || e.RTT != 180 || e.RTTFrom != "client" || err.Full.SeatEvery != 0 {
		t.Errorf("room is %+v, a seat gets free every %v s", e, err.Full.SeatEvery)
	}
	if want := "full here, room 180 ms away on room: node home, where the call is, is full, and no other has room for all 11"; err.Message != want {
		t.Errorf("it says %q", err.Message)
	}
	inside := req
	inside.Inside = true
	if ex, err := c.Decide(now, inside, draw); err != nil || ex.Chosen != "home" {
		t.Errorf("who is inside is sent to %q, %v", ex.Chosen, err)
	}

	// One leaves and another comes, every four seconds.
	for range 30 {
		now = now.Add(2 * time.Second)
		beat("home", "here", 9, 10, on(9))
		now = now.Add(2 * time.Second)
		beat("home", "here", 10, 10, on(10))
	}
	if _, err = c.Decide(now, req, draw); err == nil || err.Full.SeatEvery < 4 || err.Full.SeatEvery > 8 {
		t.Errorf("a seat every four seconds is told as %+v", err.Full)
	}
	if _, err = c.Decide(now.Add(time.Hour), req, draw); err == nil || err.Full.SeatEvery != 0 {
		t.Errorf("an hour later it is told as %+v", err.Full)
	}

	// A new call finds nothing at all.
	beat("room", "far", 10, 10)
	beat("more", "farther", 10, 10)
	fresh := allocator.PlaceRequest{Call: sfu.CallID{ID: 8}, User: sfu.UserID{ID: snowflake.ID(1)}}
	if _, err = c.Decide(now, fresh, draw); err == nil || err.Code != allocator.CodeFull || err.Full == nil || err.Full.Elsewhere != nil {
		t.Errorf("a new call without room is refused with %+v", err)
	}
	// What a young call is expected to be is room for its own members, and for others none.
	young := sfu.CallID{ID: 9}
	beat("home", "here", 9, 10)
	c.ObserveCall(allocator.CallEntry{Call: young, Node: "home", Epoch: 2, Created: now})
	c.Seat(now, young, 3) // more than there is room for
	beat("home", "here", 9, 10, edgeagent.CallOnANode{Call: young, Epoch: 2, Sessions: 1})
	now = now.Add(11 * time.Second)
	member := allocator.PlaceRequest{Call: young, User: sfu.UserID{ID: snowflake.ID(2)}}
	if ex, err := c.Decide(now, member, draw); err != nil || ex.Chosen != "home" {
		t.Errorf("a member that was expected is sent to %q, %v", ex.Chosen, err)
	}
	if _, err = c.Decide(now, fresh, draw); err == nil || err.Code != allocator.CodeFull {
		t.Errorf("the expected seat is given away: %v", err)
	}
	c.LoseCall(young)
	beat("home", "here", 10, 10)
	// And one that expects more than any node holds begins where there is room for some.
	beat("more", "farther", 9, 10)
	fresh.Expected = 5
	if ex, err := c.Decide(now, fresh, draw); err != nil || ex.Chosen != "more" || !strings.HasPrefix(ex.Reason, "no room for all that are expected: ") {
		t.Errorf("a new call of five begins on %q, %q, %v", ex.Chosen, ex.Reason, err)
	}
	beat("roomy", "farthest", 6, 10)
	if ex, err := c.Decide(now, fresh, draw); err != nil || ex.Chosen != "roomy" {
		t.Errorf("a new call of five begins on %q, %v, and one node has room for four", ex.Chosen, err)
	}
	c.Lose(now, "home")
	if n := len(c.leaving.nodes); n != 1 {
		t.Errorf("%d nodes are counted after one was lost", n)
	}
}

// TestNoCallGoesToAndFro: where all nodes are full, or nearly, a call of 20 moves when
// it must, and not with each who joins it.
func TestNoCallGoesToAndFro(t *testing.T) {
	for _, c := range []struct {
		name              string
		home, other, left int // sessions beside those of the call, also on its first home when it has moved
		moves, joined     int
	}{
		{"it fits still, and would crowd the other", 976, 976, 976, 0, 4},
		{"it fits for a while", 976, 970, 976, 1, 10},
		{"it fits no longer, and crowds the other", 980, 974, 980, 1, 6},
		{"it fits no longer, and could go back while it fits", 980, 974, 965, 1, 6},
		{"it has an easy place elsewhere", 976, 960, 976, 1, 10},
		{"there is much room when it must go again", 980, 974, 900, 2, 10},
	} {
		var core Core
		now, draw := start, rand.New(rand.NewPCG(1, 1))
		beside := map[edgeagent.NodeID]int{"a": c.home, "b": c.other}
		e := allocator.CallEntry{Call: channel(7), Node: "a", Epoch: 1, Created: now.Add(-time.Hour)}
		core.ObserveCall(e)
		moves, members := 0, 20
		for range 10 {
			for _, id := range []edgeagent.NodeID{"a", "b"} {
				hb := node(string(id), "eu", beside[id])
				if id == e.Node {
					hb.Load.Sessions += members
					hb.Calls = []edgeagent.CallOnANode{on(7, e.Epoch, members)}
				}
				core.Observe(now, hb)
			}
			ex, err := core.Decide(now, allocator.PlaceRequest{Call: e.Call}, draw)
			if err == nil {
				if ex.Chosen != e.Node {
					moves++
					beside["a"] = c.left
					e.Move = &allocator.CallMove{From: e.Node, Cause: allocator.CauseOverload, At: now}
					e.Node, e.Epoch, e.Created = ex.Chosen, e.Epoch+1, now
					core.ObserveCall(e)
				}
				members++
			}
			now = now.Add(20 * time.Second)
		}
		if moves != c.moves || members != 20+c.joined {
			t.Errorf("%s: %d moves, and %d of ten have joined; want %d and %d", c.name, moves, members-20, c.moves, c.joined)
		}
	}
}

func TestRegionHeadroom(t *testing.T) {
	var c Core
	for i := range 3 {
		c.Observe(distanceNow, edgeagent.Heartbeat{
			Node: edgeagent.NodeID(fmt.Sprint("n", i)), Region: []string{"a", "a", "b"}[i], State: edgeagent.Ready,
			Capacity: edgeagent.Capacity{PPS: 1e9, BPS: 1e12, Sessions: 10}, Load: edgeagent.Load{Sessions: i},
		})
	}
	got := c.RegionHeadroom(distanceNow)
	if len(got) != 2 || got["a"] != 19 || got["b"] != 8 {
		t.Errorf("headroom %v", got)
	}
}

// TestCallsOfOtherAllocators: what another allocator placed counts with its
// predicted size until heartbeats show it, and no longer than a minute.
func TestCallsOfOtherAllocators(t *testing.T) {
	var c Core
	beat := func(now time.Time, sessions int) {
		c.Observe(now, edgeagent.Heartbeat{
			Node: "a", State: edgeagent.Ready, Capacity: edgeagent.Capacity{PPS: 1e9, BPS: 1e12, Sessions: 100},
			Load: edgeagent.Load{Sessions: sessions}, Calls: []edgeagent.CallOnANode{{Call: sfu.CallID{ID: 7}, Epoch: 1, Sessions: sessions}},
		})
	}
	beat(distanceNow, 0)
	c.ObserveCall(allocator.CallEntry{Call: sfu.CallID{ID: 7}, Node: "a", Epoch: 1, Created: distanceNow, Expected: 12})
	c.ObserveCall(allocator.CallEntry{Call: sfu.CallID{ID: 8}, Node: "a", Epoch: 1, Created: distanceNow.Add(-time.Hour), Expected: 12})
	for _, s := range []struct {
		after time.Duration
		shown int
		want  int
	}{{0, 0, 12}, {time.Second, 5, 7}, {2 * time.Second, 12, 0}, {3 * time.Second, 5, 7}, {2 * sizeKept, 5, 0}} {
		now := distanceNow.Add(s.after)
		beat(now, s.shown)
		if got := c.Reserved(now)["a"].Sessions; got != s.want {
			t.Errorf("after %v with %d shown: %d reserved, want %d", s.after, s.shown, got, s.want)
		}
	}
}
