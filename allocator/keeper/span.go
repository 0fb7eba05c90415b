package keeper

import (
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Relay is an order to a node that a call is on with others, or alone again.
type Relay struct {
	Node    edgeagent.NodeID
	Request edgeagent.RelayRequest
}

// relayAgain is how long a node has to do as it was told before it is told again.
const relayAgain = 2 * time.Second

// relayed is what a node was told last of a call.
type relayed struct {
	node edgeagent.NodeID
	call sfu.CallID
}

// Relays are the orders by which the nodes of a call share it. A node that cannot
// is left out.
func (c *Core) Relays(e allocator.CallEntry) []Relay {
	nodes := e.Nodes()
	var peers []edgeagent.RelayPeer
	for _, n := range nodes {
		if hb, there := c.place.Node(n); there && hb.Link != nil {
			peers = append(peers, edgeagent.RelayPeer{Node: n, Addrs: hb.Addrs, Link: *hb.Link})
		}
	}
	var out []Relay
	for _, n := range nodes {
		req := edgeagent.RelayRequest{Call: e.Call, Epoch: e.Epoch}
		for _, p := range peers {
			if p.Node != n {
				req.Peers = append(req.Peers, p)
			}
		}
		out = append(out, Relay{n, req})
	}
	return out
}

// share has a node do what it does not yet: share the calls that span to it, and
// those only.
func (c *Core) share(now time.Time, hb edgeagent.Heartbeat, out []Out) []Out {
	told := make(map[sfu.CallID]edgeagent.RelayOnANode, len(hb.Relays))
	for _, r := range hb.Relays {
		told[r.Call] = r
		e, live := c.place.Call(r.Call)
		switch {
		case live && e.Epoch < r.Epoch: // it knows more than we do
		case live && slices.Contains(e.Nodes(), hb.Node) && len(e.Spans) > 0:
		default:
			epoch := r.Epoch
			if live {
				epoch = e.Epoch
			}
			out = c.order(now, Relay{hb.Node, edgeagent.RelayRequest{Call: r.Call, Epoch: epoch}}, out)
		}
	}
	for _, id := range c.shared(hb.Node) {
		e, _ := c.place.Call(id)
		for _, r := range c.Relays(e) {
			was, known := told[id]
			if r.Node != hb.Node || known && (was.Epoch > e.Epoch || was.Epoch == e.Epoch && samePeers(was.Peers, r.Request.Peers)) {
				continue
			}
			out = c.order(now, r, out)
		}
	}
	return out
}

// order gives an order unless it was given a moment ago.
func (c *Core) order(now time.Time, r Relay, out []Out) []Out {
	key := relayed{r.Node, r.Request.Call}
	if at, was := c.ordered[key]; was && now.Sub(at) < relayAgain {
		return out
	}
	if c.ordered == nil {
		c.ordered = map[relayed]time.Time{}
	}
	for k, at := range c.ordered {
		if now.Sub(at) >= relayAgain {
			delete(c.ordered, k)
		}
	}
	c.ordered[key] = now
	return append(out, Out{Relay: &r})
}

// shift tells the other nodes of a node's calls where it is reached, when that is
// elsewhere than it was before: the next agent of a node may have another port.
func (c *Core) shift(now time.Time, before, hb edgeagent.Heartbeat, out []Out) []Out {
	if before.Link != nil && hb.Link != nil && (*before.Link != *hb.Link || !slices.Equal(before.Addrs, hb.Addrs)) {
		for n, told := range c.shifted {
			if !told.IsZero() && now.Sub(told) > 2*absence {
				delete(c.shifted, n)
			}
		}
		c.shifted[hb.Node] = time.Time{}
	}
	// An agent that has not found its engine yet may be about to take an identity over.
	if told, is := c.shifted[hb.Node]; !is || !told.IsZero() || !hb.ProbeKey.Valid() {
		return out
	}
	c.shifted[hb.Node] = now
	for _, id := range c.shared(hb.Node) {
		e, _ := c.place.Call(id)
		for _, r := range c.Relays(e) {
			if r.Node != hb.Node {
				delete(c.ordered, relayed{r.Node, id})
				out = c.order(now, r, out)
			}
		}
	}
	return out
}

// lead tells a node that cannot reach another again where that is, if that has shifted
// not long ago: an order can be lost.
func (c *Core) lead(now time.Time, node, other edgeagent.NodeID, out []Out) []Out {
	if told := c.shifted[other]; told.IsZero() || now.Sub(told) > 2*absence {
		return out
	}
	for _, id := range c.shared(node) {
		e, _ := c.place.Call(id)
		if !slices.Contains(e.Nodes(), other) {
			continue
		}
		for _, r := range c.Relays(e) {
			if r.Node == node {
				out = c.order(now, r, out)
			}
		}
	}
	return out
}

func samePeers(have []edgeagent.NodeID, want []edgeagent.RelayPeer) bool {
	if len(have) != len(want) {
		return false
	}
	for _, p := range want {
		if !slices.Contains(have, p.Node) {
			return false
		}
	}
	return true
}

// shared are the calls with further nodes that a node is one of.
func (c *Core) shared(node edgeagent.NodeID) []sfu.CallID {
	out := c.place.SpanCalls(node)
	for _, n := range c.place.SpanNodes() {
		for _, id := range c.place.SpanCalls(n) {
			if e, _ := c.place.Call(id); e.Node == node && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out
}

// links takes in which nodes a node cannot reach, or only with packets lost: the calls
// that it shares with them are parted. The links of an agent that died alone are waited
// for. A node that loses packets to everybody is found as such, and left as a whole.
func (c *Core) links(now time.Time, hb edgeagent.Heartbeat, out []Out) []Out {
	for _, other := range hb.LostLinks {
		if c.watch.Absent(now, hb.Node) || c.watch.Absent(now, other) {
			out = c.lead(now, hb.Node, other, out)
		} else {
			out = c.part(now, hb.Node, other, allocator.CauseLinkLost, out)
		}
	}
	for _, other := range hb.LossyLinks {
		if !c.health.Unwell(hb.Node) && !c.health.Unwell(other) {
			out = c.part(now, hb.Node, other, allocator.CauseLinkLossy, out)
		}
	}
	return out
}

// part has the calls that two nodes share leave one of them, the home last.
func (c *Core) part(now time.Time, node, other edgeagent.NodeID, cause allocator.Cause, out []Out) []Out {
	c.place.Cut(now, node, other)
	for _, id := range c.shared(node) {
		e, _ := c.place.Call(id)
		nodes := e.Nodes()
		if !slices.Contains(nodes, other) {
			continue
		}
		left := nodes[max(slices.Index(nodes, node), slices.Index(nodes, other))]
		out = c.unspan(now, e, left, cause, true, out)
	}
	return out
}

// leaveSpans has calls leave further nodes that are lost, drained or ill, and those
// where nobody of theirs is any more.
func (c *Core) leaveSpans(now time.Time, out []Out) []Out {
	for _, node := range c.place.SpanNodes() {
		cause, planned := c.leaving(node)
		for _, id := range c.place.SpanCalls(node) {
			e, _ := c.place.Call(id)
			switch {
			case cause != "":
				out = c.unspan(now, e, node, cause, planned, out)
			case c.watch.Up(node) && c.place.Shown(id, node) == 0 && now.Sub(e.Touched) > allocator.CallIdle:
				out = c.unspan(now, e, node, "", false, out)
			}
		}
	}
	return out
}

// unspan has a call leave one of its further nodes. Who is there is told to come to
// the others, which is why the call gets a new epoch; without a cause nobody is.
func (c *Core) unspan(now time.Time, e allocator.CallEntry, node edgeagent.NodeID, cause allocator.Cause, planned bool, out []Out) []Out {
	if c.writing[e.Call] || len(c.writing) >= writesAtOnce || now.Before(c.retry[e.Call]) || node == e.Node {
		return out
	}
	w := &Write{Entry: e, Last: c.revisions[e.Call]}
	w.Entry.Spans = slices.DeleteFunc(slices.Clone(e.Spans), func(n edgeagent.NodeID) bool { return n == node })
	if cause != "" {
		w.Entry.Epoch = c.place.NextEpoch(now)
		w.Entry.Touched = now
		w.Entry.Move = &allocator.CallMove{From: node, Cause: cause, Planned: planned, At: now, Before: moves(e)}
		// When the home shows all of them, the rest on the node is ended.
		w.Entry.Move.Sessions = c.place.Shown(e.Call, e.Node) + c.place.Shown(e.Call, node)
	}
	c.writing[e.Call] = true
	return append(out, Out{Write: w})
}

// heir is the further node that a call stays on when it leaves its home: who is
// there stays where they are.
func (c *Core) heir(e allocator.CallEntry) (edgeagent.NodeID, bool) {
	for _, n := range e.Spans {
		if cause, _ := c.leaving(n); cause == "" && c.watch.Up(n) && c.place.Shown(e.Call, n) > 0 {
			return n, true
		}
	}
	return "", false
}

// inherit makes a further node the home of a call.
func (c *Core) inherit(now time.Time, old allocator.CallEntry, heir edgeagent.NodeID, x *exit) *Write {
	e := old
	e.Node, e.Touched = heir, now
	e.Spans = slices.DeleteFunc(slices.Clone(old.Spans), func(n edgeagent.NodeID) bool { return n == heir })
	e.Epoch = c.place.NextEpoch(now)
	e.Move = &allocator.CallMove{From: old.Node, Cause: x.cause, Planned: x.planned, At: now, Sessions: max(1, c.place.Shown(old.Call, old.Node)), Before: moves(old)}
	e.Why = allocator.Explanation{Call: e.Call, At: now, Chosen: heir, Reason: "call moves, " + string(x.cause) + ": it is on this node, too"}
	c.writing[e.Call] = true
	return &Write{Entry: e, Last: c.revisions[e.Call]}
}
