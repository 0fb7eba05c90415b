package edgeagentserver

import (
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

func TestHomeMoved(t *testing.T) {
	planned := &struct {
		Planned bool `json:"planned"`
	}{true}
	here := edgeagent.CallOnANode{Epoch: 5}
	for _, c := range []struct {
		name string
		home home
		want bool
	}{
		{"here", home{Node: "a", Epoch: 5}, false},
		{"here again, of a later epoch", home{Node: "a", Epoch: 9}, false},
		{"elsewhere", home{Node: "b", Epoch: 6}, true},
		{"elsewhere, and here as well", home{Node: "b", Epoch: 6, Spans: []edgeagent.NodeID{"c", "a"}}, false},
		{"elsewhere and on others", home{Node: "b", Epoch: 6, Spans: []edgeagent.NodeID{"c"}}, true},
		{"what is older than ours", home{Node: "b", Epoch: 4}, false},
		{"being moved with care", home{Node: "b", Epoch: 6, Move: planned}, false},
	} {
		if got := c.home.moved("a", here); got != c.want {
			t.Errorf("%s: moved %v", c.name, got)
		}
	}
}

// TestFencedEngine: of an engine that stood still the calls are looked up; those
// that moved are ended, and then it is told to go on.
func TestFencedEngine(t *testing.T) {
	r := newRig(t)
	engine := edgeagenttest.NewEngine(t)
	r.run(t, Config{Engine: engine.Start})
	homes, err := bus.OpenBucket[home](t.Context(), r.conn, bus.CallsBucket)
	if err != nil {
		t.Fatal(err)
	}
	put := func(call uint64, h home) {
		t.Helper()
		if _, err := homes.Put(t.Context(), callID(call).String(), h); err != nil {
			t.Fatal(err)
		}
	}
	stays, _ := r.open(t, r.grant(1, 1)) // of epoch 5
	moves, _ := r.open(t, r.grant(2, 2))
	also, _ := r.open(t, r.grant(2, 3))
	r.open(t, r.grant(3, 4)) // of which the bus knows nothing
	put(1, home{Node: "edge-1", Epoch: 5})
	put(2, home{Node: "edge-2", Epoch: 6})
	left := r.events(t, 2)
	engine.Say(t, sfu.Event{Fenced: &sfu.Fenced{Number: 7, Stood: 3 * time.Second}})
	for range 2 {
		ev := next(t, left)
		for ev.Left == nil {
			ev = next(t, left)
		}
		if ev.Left.Reason != edgeagent.Moved || ev.Left.Session != moves.Record.Session && ev.Left.Session != also.Record.Session {
			t.Fatalf("left %+v", ev.Left)
		}
	}
	closed := 0
	engine.Await(t, 0, "confirmation", func(c sfu.Command) bool {
		if c.Close != nil {
			closed++
		}
		return c.Confirm != nil && c.Confirm.Number == 7
	})
	if closed != 2 {
		t.Errorf("confirmed after %d sessions were closed", closed)
	}
	if err := r.client.Update(t.Context(), "edge-1", edgeagent.UpdateRequest{Session: stays.Record.Session, Flags: new(int)}); err != nil {
		t.Errorf("who stays: %v", err)
	}
}
