package custody

import (
	"testing"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// TestEventsCarryTheEpoch: nodes that share a call are told by it from one the call
// was moved away from.
func TestEventsCarryTheEpoch(t *testing.T) {
	c := New(Config{Node: "edge-1"})
	c.EngineUp(base, nil)
	c.Event(base, sfu.Event{Seq: 1, Started: &sfu.Started{}}, nil)
	g := edgeagent.Grant{ID: "a", Node: "edge-1", Call: sfu.CallID{ID: 5}, User: sfu.UserID{ID: 7}, Epoch: 3, Expires: base.Add(edgeagent.GrantLife)}
	c.Open(base, 1, g, tokenOf("a"), nil)
	out := c.Event(base, sfu.Event{Seq: 2, Opened: &sfu.Opened{SSRC: 1}}, nil)
	out = c.Shutdown(base, out)
	events := 0
	for _, o := range out {
		if o.Event != nil {
			events++
			if o.Event.Epoch != 3 {
				t.Errorf("epoch %d: %+v", o.Event.Epoch, o.Event)
			}
		}
	}
	if events != 3 {
		t.Errorf("%d events", events)
	}
}
