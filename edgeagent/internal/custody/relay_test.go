package custody

import (
	"net/netip"
	"slices"
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

// TestNextAgentRelaysOn: an agent that finds an engine whose calls span nodes shows
// the other nodes the identity that the agent before had, before it meets any, and
// numbers them as the engine knows them.
func TestNextAgentRelaysOn(t *testing.T) {
	door := func(identity string) RelayDoor {
		return RelayDoor{To: netip.MustParseAddrPort("127.0.0.1:4444"), Identity: []byte(identity)}
	}
	peer := func(node edgeagent.NodeID) edgeagent.RelayPeer {
		return edgeagent.RelayPeer{Node: node, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Link: edgeagent.LinkAddr{Port: 1, Fingerprint: "f"}}
	}
	call := sfu.CallID{ID: 5}
	first := New(Config{Node: "edge-1", Relay: door("first")})
	first.EngineUp(base, nil)
	first.Event(base, sfu.Event{Seq: 1, Started: &sfu.Started{}}, nil)
	first.Number("edge-2") // of a call before
	g := edgeagent.Grant{ID: "a", Node: "edge-1", Call: call, User: sfu.UserID{ID: 7}, Epoch: 3, Expires: base.Add(edgeagent.GrantLife)}
	first.Open(base, 1, g, tokenOf("a"), nil)
	first.Event(base, sfu.Event{Seq: 2, Opened: &sfu.Opened{SSRC: 1}}, nil)
	told := relayIn(first.Relay(base, 2, edgeagent.RelayRequest{Call: call, Epoch: 3, Peers: []edgeagent.RelayPeer{peer("edge-4"), peer("edge-3")}}, nil))
	if told == nil || !slices.Equal(told.Peers, []uint16{2, 3}) {
		t.Fatalf("the engine is told %+v", told)
	}

	second := New(Config{Node: "edge-1", Relay: door("second")})
	second.EngineFound(base, nil)
	out := second.Event(base, sfu.Event{Relaying: told}, nil)
	if len(out) != 2 || string(out[0].Identity) != "first" || out[1].Route == nil || len(out[1].Route.Peers) != 2 {
		t.Fatalf("the next agent does %+v", out)
	}
	if a, b, c := second.Number("edge-4"), second.Number("edge-3"), second.Number("edge-2"); a != 2 || b != 3 || c != 4 {
		t.Errorf("numbers %d, %d and %d", a, b, c)
	}
	keep := (&session{record: edgeagent.Record{Guild: "1", Epoch: 3, Opened: base}}).keep()
	second.Event(base, sfu.Event{Held: &sfu.Held{Open: sfu.Open{Session: "a", Call: call, User: g.User, Keep: keep}}}, nil)
	again := relayIn(second.Event(base, sfu.Event{Seq: 1, Adopted: &sfu.Adopted{}}, nil))
	if again == nil || !slices.Equal(again.Peers, told.Peers) || string(again.Keep) != string(told.Keep) || again.To != told.To {
		t.Errorf("the engine is told %+v, was told %+v", again, told)
	}

	third := New(Config{Node: "edge-1", Relay: door("third")}) // the allocator is faster than its engine
	third.EngineFound(base, nil)
	third.Relay(base, 1, edgeagent.RelayRequest{Call: call, Epoch: 3, Peers: []edgeagent.RelayPeer{peer("edge-3")}}, nil)
	if out := third.Event(base, sfu.Event{Relaying: told}, nil); len(out) != 1 || string(out[0].Identity) != "first" {
		t.Errorf("an agent that was told before does %+v", out)
	}
}

// relayIn is the order to the engine among what is to be done.
func relayIn(out []Out) *sfu.Relay {
	for _, o := range out {
		if o.Command != nil && o.Command.Relay != nil {
			return o.Command.Relay
		}
	}
	return nil
}
