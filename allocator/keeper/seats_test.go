package keeper

import (
	"testing"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// TestWhatWasFoundIsBooked: where no node has room for all that a call expects, it
// books what it was given, however often its joiners name the whole wish; its
// neighbours stay and grow. A live call that moves books its members, not its usual size.
func TestWhatWasFoundIsBooked(t *testing.T) {
	k := newClinic(t, "a")
	k.pass(2, func() {})
	neighbour, large := sfu.CallID{ID: 1}, sfu.CallID{ID: 2}
	join := func(call sfu.CallID, user, expected int) allocator.CallEntry {
		t.Helper()
		cl, err := k.c.Claim(k.now, allocator.PlaceRequest{Call: call, User: sfu.UserID{ID: snowflake.ID(user)}, Session: "s", Expected: expected})
		if err != nil {
			t.Fatal(err)
		}
		if cl.Write != nil {
			k.perform([]Out{{Write: cl.Write}})
		}
		k.c.Seat(k.now, call)
		e, _ := k.c.place.Call(call)
		return e
	}
	reserved := func(node edgeagent.NodeID) int { return k.c.place.Reserved(k.now)[node].Sessions }

	join(neighbour, 1, 5)
	k.seat(neighbour, "a", k.calls[neighbour].Epoch, 5)
	k.nodes["a"].Load.Sessions = 700
	k.pass(5, func() {})
	for user := range 3 {
		if e := join(large, 10+user, 800); e.Expected != 200 {
			t.Errorf("a call of 800 with room for 300 is written as one of %d", e.Expected)
		}
		if got := reserved("a"); got != 200 {
			t.Errorf("after %d joins %d are reserved for a call that was placed as one of 200", user+1, got)
		}
	}
	k.nodes["b"] = &edgeagent.Heartbeat{Node: "b", State: edgeagent.Ready, Started: k.nodes["a"].Started, Capacity: k.nodes["a"].Capacity}
	k.pass(1, func() {})
	join(neighbour, 2, 5)
	k.stays(neighbour, "a")

	k.nodes["a"].Load.Sessions = 1000
	k.pass(1, func() {})
	if e := join(neighbour, 3, 40); e.Node != "b" || e.Expected > 8 || reserved("b") > 8 {
		t.Errorf("a call of seven goes to %s as one of %d, and %d are reserved there", e.Node, e.Expected, reserved("b"))
	}
}
