package edgeagentserver

import (
	"encoding/json"
	"testing"

	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
)

// TestAnEventUnderAnothersNameIsIgnored: where nodes have no credentials the bus
// lets everything through; an event is still believed only of the node and the call
// that its subject names.
func TestAnEventUnderAnothersNameIsIgnored(t *testing.T) {
	r := newRig(t)
	events := r.events(t, 1)
	good := edgeagent.CallEvent{Call: callID(1), Node: "edge-1", Speaking: &edgeagent.Member{SSRC: 1}}
	forged := good
	forged.Speaking = &edgeagent.Member{SSRC: 666}
	other := forged
	other.Call = callID(2)
	two := forged
	two.Left = &edgeagent.Left{}
	for _, c := range []struct {
		subject string
		ev      edgeagent.CallEvent
	}{
		{bus.CallSubject("1", "edge-2"), forged},
		{bus.CallSubject("1", "edge-1"), other},
		{bus.CallSubject("1", "edge-1"), two},
		{bus.CallSubject("1", "edge-1"), edgeagent.CallEvent{Call: callID(1), Node: "edge-1"}},
		{bus.CallSubject("1", "edge-1"), good},
	} {
		if err := bus.Publish(r.conn, c.subject, c.ev); err != nil {
			t.Fatal(err)
		}
	}
	if ev := next(t, events); ev.Speaking == nil || ev.Speaking.SSRC != 1 {
		t.Errorf("believed %+v", ev)
	}
}

// FuzzBusMsgCallEvent: whatever comes on the subjects of events, what is believed
// has the node and the call of its subject, and exactly one fact.
func FuzzBusMsgCallEvent(f *testing.F) {
	f.Add(bus.CallSubject("1", "edge-1"), []byte(`{"call":"1","node":"edge-1","joined":{"user":"2","ssrc":3}}`))
	f.Add(bus.PresenceSubject("1", "edge-1"), []byte(`{"call":"1","node":"edge-1","left":{"session":"x","user":"2","reason":"moved"}}`))
	f.Add(bus.CallSubject("1", "edge-2"), []byte(`{"call":"1","node":"edge-1","deaf":{}}`))
	f.Add("", []byte(`null`))
	f.Fuzz(func(t *testing.T, subject string, body []byte) {
		var ev edgeagent.CallEvent
		if json.Unmarshal(body, &ev) != nil || credible(subject, ev) != nil {
			return
		}
		if bus.Publisher(subject) != string(ev.Node) {
			t.Errorf("%q is believed of %q", subject, ev.Node)
		}
		var again edgeagent.CallEvent
		out, err := json.Marshal(ev)
		if err != nil || json.Unmarshal(out, &again) != nil || credible(subject, again) != nil {
			t.Errorf("%s does not come through a second time, error %v", out, err)
		}
	})
}
