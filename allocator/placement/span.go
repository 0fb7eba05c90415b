package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// SpanSaves and SpanShare are what a joiner must save by a node that is nearer
	// than all of the call's, in milliseconds and as a part of the way to the nearest
	// of those, for the call to take it in: what comes from the others takes the way
	// between the nodes instead, and costs both.
	SpanSaves = 40.0
	SpanShare = 0.4
	// keepSaves and keepShare hold for a node that the call is on already.
	keepSaves = SpanSaves / 2
	keepShare = SpanShare / 2
	// MaxSpans bounds the further nodes of a call: each speaker crosses to every one.
	MaxSpans = 3
	// spanRest is how long a call stays on one node, and two nodes share no call,
	// after a link was lost, or lost packets.
	spanRest = time.Minute
)

// pair is two nodes, the lesser name first.
type pair [2]edgeagent.NodeID

func pairOf(a, b edgeagent.NodeID) pair { return pair{min(a, b), max(a, b)} }

// spans is what is known of calls that span nodes.
type spans struct {
	calls map[edgeagent.NodeID]map[sfu.CallID]struct{} // by further node
	cut   map[pair]time.Time                           // pairs whose link was lost or lossy, and when
	// guests are the seats on further nodes, by the time until which they count.
	guests []guest
}

type guest struct {
	until time.Time
	node  edgeagent.NodeID
}

// index takes note of an entry in the place of an older one.
func (s *spans) index(old, now allocator.CallEntry) {
	for _, n := range old.Spans {
		delete(s.calls[n], old.Call)
		if len(s.calls[n]) == 0 {
			delete(s.calls, n)
		}
	}
	for _, n := range now.Spans {
		if s.calls == nil {
			s.calls = map[edgeagent.NodeID]map[sfu.CallID]struct{}{}
		}
		if s.calls[n] == nil {
			s.calls[n] = map[sfu.CallID]struct{}{}
		}
		s.calls[n][now.Call] = struct{}{}
	}
}

// expire ends the reservations of guests whose time has come.
func (s *spans) expire(now time.Time, f *Fleet) {
	n := 0
	for n < len(s.guests) && !s.guests[n].until.After(now) {
		f.Reserve(s.guests[n].node, -1)
		n++
	}
	s.guests = slices.Delete(s.guests, 0, n)
}

// Guest reserves a seat in a call on one of its further nodes.
func (c *Core) Guest(now time.Time, node edgeagent.NodeID) {
	c.fleet.Reserve(node, 1)
	c.spans.guests = append(c.spans.guests, guest{now.Add(seatKept), node})
}

// Cut tells that two nodes cannot reach each other, or lose packets between them.
func (c *Core) Cut(now time.Time, a, b edgeagent.NodeID) {
	if c.spans.cut == nil {
		c.spans.cut = map[pair]time.Time{}
	}
	for p, at := range c.spans.cut {
		if now.Sub(at) > spanRest {
			delete(c.spans.cut, p)
		}
	}
	c.spans.cut[pairOf(a, b)] = now
}

// SpanNodes are the nodes that are further ones of calls, by name.
func (c *Core) SpanNodes() []edgeagent.NodeID {
	out := make([]edgeagent.NodeID, 0, len(c.spans.calls))
	for n := range c.spans.calls {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// SpanCalls are the calls of which a node is a further one, by id.
func (c *Core) SpanCalls(node edgeagent.NodeID) []sfu.CallID {
	out := make([]sfu.CallID, 0, len(c.spans.calls[node]))
	for id := range c.spans.calls[node] {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b sfu.CallID) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Sharers are the other nodes that show a call in an epoch, by name.
func (c *Core) Sharers(id sfu.CallID, node edgeagent.NodeID, epoch uint64) []edgeagent.NodeID {
	var out []edgeagent.NodeID
	for n, on := range c.carried[id] {
		if n != node && on.epoch == epoch {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// span finds a node for a joiner who is far from the home of a live call: one that
// the call is on already, or one that it is to take in. It is empty when the home
// will do.
func (c *Core) span(now time.Time, req *allocator.PlaceRequest, home edgeagent.NodeID, all []allocator.Candidate) (node edgeagent.NodeID, why string) {
	k := c.calls[req.Call]
	if k == nil || req.Echo || k.entry.Node != home {
		return "", ""
	}
	e := &k.entry
	nearest, best := -1, -1
	for i := range all {
		on := all[i].Node == home || slices.Contains(e.Spans, all[i].Node)
		switch {
		case all[i].RTTFrom != "client": // what is only guessed splits no call
		case on && (all[i].WhyNot == "" || all[i].Node == home):
			if nearest < 0 || all[i].RTT < all[nearest].RTT {
				nearest = i
			}
		case !on && all[i].WhyNot == "":
			if best < 0 || all[i].RTT < all[best].RTT {
				best = i
			}
		}
	}
	at := slices.IndexFunc(all, func(k allocator.Candidate) bool { return k.Node == home && k.RTTFrom == "client" })
	if nearest < 0 || at < 0 {
		return "", ""
	}
	here := all[nearest].RTT
	if best >= 0 && saves(here, all[best].RTT, SpanSaves, SpanShare) && c.maySpan(now, e, all[best].Node) {
		return all[best].Node, fmt.Sprintf("call spans nodes: this one is %.0f ms nearer than %s", here-all[best].RTT, all[nearest].Node)
	}
	if nearest != at && saves(all[at].RTT, here, keepSaves, keepShare) {
		return all[nearest].Node, fmt.Sprintf("call is live here, too, %.0f ms nearer than on %s", all[at].RTT-here, home)
	}
	return "", ""
}

func saves(far, near, ms, share float64) bool { return far-near >= ms && far-near >= share*far }

// maySpan says whether a call may take a node in.
func (c *Core) maySpan(now time.Time, e *allocator.CallEntry, node edgeagent.NodeID) bool {
	if len(e.Spans) >= MaxSpans || e.Move != nil && e.Move.Parted() && now.Sub(e.Move.At) < spanRest {
		return false
	}
	for _, n := range append([]edgeagent.NodeID{node}, e.Nodes()...) {
		hb, there := c.fleet.Node(n)
		if !there || hb.Link == nil {
			return false
		}
		if at, cut := c.spans.cut[pairOf(node, n)]; cut && n != node && now.Sub(at) < spanRest {
			return false
		}
	}
	return true
}
