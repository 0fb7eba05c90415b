package edgeagentserver

import (
	"testing"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/sfu"
)

// TestOverloadRefusesNewcomers: while the workers are at their end nobody more is
// let in, those who are there stay, and the heartbeat offers no more than what the
// node carries.
func TestOverloadRefusesNewcomers(t *testing.T) {
	r := newRig(t)
	engine := edgeagenttest.NewEngine(t)
	r.run(t, Config{Engine: engine.Start})
	rep, _ := r.open(t, r.grant(1, 1))
	for range 3 {
		engine.Say(t, sfu.Event{Load: &sfu.LoadReading{Busy: 0.97, Sessions: 1}})
	}
	r.await(t, "edge-1", "full", func(hb edgeagent.Heartbeat) bool { return hb.Capacity.Sessions == 1 && hb.Capacity.PPS == 1 })
	_, err := r.client.Open(t.Context(), "edge-1", edgeagent.OpenRequest{Token: r.token(t, r.grant(1, 2))})
	if edgeagent.CodeOf(err) != edgeagent.CodeFull {
		t.Errorf("a newcomer: %v", err)
	}
	if err := r.client.Update(t.Context(), "edge-1", edgeagent.UpdateRequest{Session: rep.Record.Session, Flags: new(int)}); err != nil {
		t.Errorf("who is there: %v", err)
	}
}
