package custody

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// relay is what the node was told of a call that spans nodes.
type relay struct {
	epoch uint64
	peers []edgeagent.RelayPeer
	told  time.Time
	port  uint16 // where the engine takes it; 0: it does not yet
}

// Route is what the links must know of a call: where its packets come from and go
// to. Without peers there is nothing to relay.
type Route struct {
	Call  sfu.CallID
	Epoch uint64
	Peers []edgeagent.RelayPeer
	// Port is where the engine takes what comes from other nodes; 0 while the call
	// has no session here.
	Port uint16
}

// RelayDoor is the agent's side of the way between engine and links. Zero: the node
// has no links.
type RelayDoor struct {
	To     netip.AddrPort
	Secret sfu.RelaySecret
	// Identity is who the links are, if that must outlive the agent: it is left with
	// the engine, and the agent after this one takes it over, so that the other nodes
	// know it again.
	Identity []byte
}

// maxRelayAddrs bounds the addresses of one peer.
const maxRelayAddrs = 16

// Relay takes what the allocator says of a call's nodes. It is answered at once:
// links and engine follow as soon as they can.
func (c *Core) Relay(now time.Time, id uint64, req edgeagent.RelayRequest, out []Out) []Out {
	if err := c.checkRelay(req); err != nil {
		return append(out, replyErr(id, err))
	}
	out = append(out, Out{Reply: &Reply{ID: id}})
	old := c.relays[req.Call]
	if old != nil && req.Epoch < old.epoch {
		return out // it was placed again since
	}
	if k := c.calls[req.Call]; k != nil {
		k.epoch = max(k.epoch, req.Epoch) // it was placed anew, and is here still
	}
	if len(req.Peers) == 0 {
		if old == nil {
			return out
		}
		delete(c.relays, req.Call)
		out = append(out, Out{Route: &Route{Call: req.Call, Epoch: req.Epoch}})
		return c.tellRelay(now, req.Call, sfu.Relay{Call: req.Call, Epoch: req.Epoch}, out)
	}
	r := &relay{epoch: req.Epoch, peers: slices.Clone(req.Peers), told: now}
	if old != nil && old.epoch == req.Epoch {
		r.port = old.port
	}
	c.relays[req.Call] = r
	c.epoch = max(c.epoch, req.Epoch)
	out = append(out, Out{Route: r.route(req.Call)})
	return c.resumeRelay(now, req.Call, out)
}

func (c *Core) checkRelay(req edgeagent.RelayRequest) error {
	switch {
	case req.Call.ID == 0:
		return refuse(edgeagent.CodeBadRequest, "relay of no call")
	case len(req.Peers) > sfu.MaxRelayPeers:
		return refuse(edgeagent.CodeBadRequest, "%d other nodes of a call, at most %d", len(req.Peers), sfu.MaxRelayPeers)
	case len(req.Peers) > 0 && !c.cfg.Relay.To.IsValid():
		return refuse(edgeagent.CodeBadRequest, "node has no links to others")
	}
	for i, p := range req.Peers {
		switch {
		case !p.Node.Valid() || p.Node == c.cfg.Node:
			return refuse(edgeagent.CodeBadRequest, "%.70q is no other node", p.Node)
		case p.Link.Port == 0 || len(p.Addrs) == 0 || len(p.Addrs) > maxRelayAddrs || len(p.Link.Fingerprint) > 128:
			return refuse(edgeagent.CodeBadRequest, "node %s has no link, or %d addresses", p.Node, len(p.Addrs))
		}
		for _, other := range req.Peers[:i] {
			if other.Node == p.Node {
				return refuse(edgeagent.CodeBadRequest, "node %s is named twice", p.Node)
			}
		}
	}
	return nil
}

func (r *relay) route(call sfu.CallID) *Route {
	return &Route{Call: call, Epoch: r.epoch, Peers: r.peers, Port: r.port}
}

// resumeRelay tells the engine what it must know of a call that spans nodes: when
// that changes, and when the engine has the call anew.
func (c *Core) resumeRelay(now time.Time, call sfu.CallID, out []Out) []Out {
	r := c.relays[call]
	if r == nil {
		return out
	}
	cmd := sfu.Relay{Call: call, Epoch: r.epoch, To: c.cfg.Relay.To, Secret: c.cfg.Relay.Secret, Keep: r.keep(c.cfg.Relay.Identity)}
	for _, p := range r.peers {
		cmd.Peers = append(cmd.Peers, c.number(p.Node))
	}
	return c.tellRelay(now, call, cmd, out)
}

// tellRelay tells the engine, if it has the call.
func (c *Core) tellRelay(now time.Time, call sfu.CallID, cmd sfu.Relay, out []Out) []Out {
	k := c.calls[call]
	if k == nil || len(k.members) == 0 || c.engine != engineUp {
		return out
	}
	return c.send(pending{kind: kindRelay, asked: now, relay: call}, sfu.Command{Relay: &cmd}, out)
}

// relayed takes the engine's answer. It refuses a call whose last session has
// ended; the next session asks again.
func (c *Core) relayed(p pending, ev sfu.Event, out []Out) []Out {
	r := c.relays[p.relay]
	if r == nil || ev.Relayed == nil || r.port == ev.Relayed.Port {
		return out
	}
	r.port = ev.Relayed.Port
	return append(out, Out{Route: r.route(p.relay)})
}

// number is the one under which the engine knows a node, and the links too.
func (c *Core) number(node edgeagent.NodeID) uint16 {
	n, ok := c.numbers[node]
	if !ok {
		for _, other := range c.numbers { // of the agent before there may be any
			n = max(n, other)
		}
		if n == math.MaxUint16 {
			clear(c.numbers) // in a fleet that has renamed 65,535 nodes
			n = 0
		}
		n++
		c.numbers[node] = n
	}
	return n
}

// Number is the one of a node that was named in a Route.
func (c *Core) Number(node edgeagent.NodeID) uint16 { return c.number(node) }

// relayKept is what the agent leaves with a call in the engine, for the agent
// after it.
type relayKept struct {
	Peers    []edgeagent.RelayPeer `json:"peers"`
	Identity []byte                `json:"identity,omitempty"`
}

func (r *relay) keep(identity []byte) []byte {
	b, err := json.Marshal(relayKept{Peers: r.peers, Identity: identity})
	if err != nil || len(b) > sfu.MaxKeep {
		return nil // then the allocator tells the next agent
	}
	return b
}

// relaying takes over a call that spans nodes, of the agent before this one.
func (c *Core) relaying(now time.Time, e *sfu.Relay, out []Out) []Out {
	var kept relayKept
	if c.engine != engineStarting || json.Unmarshal(e.Keep, &kept) != nil || len(kept.Peers) == 0 {
		return out
	}
	if len(kept.Identity) > 0 && !bytes.Equal(kept.Identity, c.cfg.Relay.Identity) {
		c.cfg.Relay.Identity = kept.Identity
		out = append(out, Out{Identity: kept.Identity})
	}
	if c.relays[e.Call] != nil || c.checkRelay(edgeagent.RelayRequest{Call: e.Call, Epoch: e.Epoch, Peers: kept.Peers}) != nil {
		return out // the allocator was faster
	}
	for i, n := range e.Peers { // the speakers it knows go on
		if i < len(kept.Peers) {
			c.numbers[kept.Peers[i].Node] = n
		}
	}
	r := &relay{epoch: e.Epoch, peers: kept.Peers, told: now}
	c.relays[e.Call] = r
	return append(out, Out{Route: r.route(e.Call)})
}

// resumeRelays tells a new engine, or one that was adopted, of all of them.
func (c *Core) resumeRelays(now time.Time, out []Out) []Out {
	for _, call := range c.relayedCalls() {
		c.relays[call].port = 0
		out = c.resumeRelay(now, call, out)
	}
	return out
}

// expireRelays forgets calls that nobody came to and the allocator does not speak
// of any more.
func (c *Core) expireRelays(now time.Time, out []Out) []Out {
	for _, call := range c.relayedCalls() {
		k, r := c.calls[call], c.relays[call]
		if (k == nil || len(k.members) == 0 && now.Sub(k.emptied) > usedKept) && now.Sub(r.told) > usedKept {
			delete(c.relays, call)
			out = append(out, Out{Route: &Route{Call: call, Epoch: r.epoch}})
		}
	}
	return out
}

func (c *Core) relayedCalls() []sfu.CallID {
	list := make([]sfu.CallID, 0, len(c.relays))
	for call := range c.relays {
		list = append(list, call)
	}
	slices.SortFunc(list, func(a, b sfu.CallID) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return list
}

// relayReport is what the heartbeat tells of them.
func (c *Core) relayReport() []edgeagent.RelayOnANode {
	var list []edgeagent.RelayOnANode
	for _, call := range c.relayedCalls() {
		r := c.relays[call]
		one := edgeagent.RelayOnANode{Call: call, Epoch: r.epoch}
		for _, p := range r.peers {
			one.Peers = append(one.Peers, p.Node)
		}
		slices.SortFunc(one.Peers, func(a, b edgeagent.NodeID) int { return strings.Compare(string(a), string(b)) })
		list = append(list, one)
	}
	return list
}

// Roster is who is in a call on this node.
func (c *Core) Roster(id uint64, req edgeagent.RosterRequest, out []Out) []Out {
	if !c.known {
		return append(out, replyErr(id, errUnknown))
	}
	rep := &edgeagent.RosterReply{}
	if k := c.calls[req.Call]; k != nil {
		rep.Epoch = k.epoch
		for _, m := range k.members {
			rep.Roster = append(rep.Roster, *m.member())
		}
	}
	return append(out, Out{Reply: &Reply{ID: id, Roster: rep}})
}

// Others are the other nodes of a call, and the epoch in which they are.
func (c *Core) Others(call sfu.CallID) (peers []edgeagent.RelayPeer, epoch uint64) {
	if r := c.relays[call]; r != nil {
		return r.peers, r.epoch
	}
	return nil, 0
}
