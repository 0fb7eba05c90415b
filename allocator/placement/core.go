package placement

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// seatKept is how long a seat counts that no heartbeat shows.
	seatKept = 10 * time.Second
	// sizeKept is how long a young call counts with its predicted size.
	sizeKept = 30 * time.Second
	// maxExpected bounds the predicted size a request may name.
	maxExpected = 10_000
)

// Core holds what is known of nodes and calls. Not safe for concurrent use. The
// zero value is ready to use.
type Core struct {
	nodes map[edgeagent.NodeID]edgeagent.Heartbeat
	calls map[sfu.CallID]*call
	// reserving are the calls that may have a reservation: those of the last
	// sizeKept, so that a decision does not look at all calls.
	reserving map[sfu.CallID]*call
	// carried are the nodes that show sessions of a call, with its epoch there.
	carried map[sfu.CallID]map[edgeagent.NodeID]uint64
	epoch   uint64 // the highest seen or given
}

type call struct {
	entry    allocator.CallEntry
	expected int         // predicted size
	seats    []time.Time // given, not yet shown; oldest first
	shown    int         // sessions in the node's last heartbeat
}

// Observe takes in a node's heartbeat.
func (c *Core) Observe(hb edgeagent.Heartbeat) {
	if c.nodes == nil {
		c.nodes = map[edgeagent.NodeID]edgeagent.Heartbeat{}
	}
	c.carry(hb)
	c.nodes[hb.Node] = hb
	c.epoch = max(c.epoch, hb.Epoch)
	for _, on := range hb.Calls {
		c.epoch = max(c.epoch, on.Epoch)
		k := c.calls[on.Call]
		if k == nil || k.entry.Node != hb.Node {
			continue
		}
		if grown := on.Sessions - k.shown; grown > 0 {
			k.seats = k.seats[min(grown, len(k.seats)):]
		}
		k.shown = on.Sessions
	}
}

// carry replaces what a node carries.
func (c *Core) carry(hb edgeagent.Heartbeat) {
	for _, on := range c.nodes[hb.Node].Calls {
		delete(c.carried[on.Call], hb.Node)
		if len(c.carried[on.Call]) == 0 {
			delete(c.carried, on.Call)
		}
	}
	if hb.State == edgeagent.Gone {
		return
	}
	for _, on := range hb.Calls {
		if on.Sessions < 1 {
			continue
		}
		if c.carried == nil {
			c.carried = map[sfu.CallID]map[edgeagent.NodeID]uint64{}
		}
		if c.carried[on.Call] == nil {
			c.carried[on.Call] = map[edgeagent.NodeID]uint64{}
		}
		c.carried[on.Call][hb.Node] = on.Epoch
	}
}

// Lose forgets a node whose lease has ended.
func (c *Core) Lose(node edgeagent.NodeID) {
	c.carry(edgeagent.Heartbeat{Node: node})
	delete(c.nodes, node)
}

// Carrier is the node that shows sessions of a call, the one of the highest
// epoch if there are several.
func (c *Core) Carrier(id sfu.CallID) (node edgeagent.NodeID, epoch uint64, ok bool) {
	for n, e := range c.carried[id] {
		if !ok || e > epoch || e == epoch && n < node {
			node, epoch, ok = n, e, true
		}
	}
	return node, epoch, ok
}

// Stray is a call on a node it was moved away from, while that node could not be
// told.
type Stray struct {
	Node edgeagent.NodeID
	Call sfu.CallID
}

// Strays lists them: their sessions hear nobody of the others.
func (c *Core) Strays() []Stray {
	var out []Stray
	for id, nodes := range c.carried {
		k := c.calls[id]
		if k == nil {
			continue
		}
		for n, epoch := range nodes {
			if n != k.entry.Node && epoch < k.entry.Epoch {
				out = append(out, Stray{n, id})
			}
		}
	}
	return out
}

// ObserveCall takes in an entry of the calls bucket.
func (c *Core) ObserveCall(e allocator.CallEntry) {
	if c.calls == nil {
		c.calls = map[sfu.CallID]*call{}
	}
	c.epoch = max(c.epoch, e.Epoch)
	if k := c.calls[e.Call]; k != nil {
		if k.entry.Node != e.Node || k.entry.Epoch != e.Epoch {
			k.seats, k.shown = nil, 0
		}
		k.entry = e
		return
	}
	c.calls[e.Call] = &call{entry: e}
}

// LoseCall forgets a call that was deleted from the calls bucket.
func (c *Core) LoseCall(id sfu.CallID) {
	delete(c.calls, id)
	delete(c.reserving, id)
}

// Call is the entry of a live call.
func (c *Core) Call(id sfu.CallID) (allocator.CallEntry, bool) {
	if k := c.calls[id]; k != nil {
		return k.entry, true
	}
	return allocator.CallEntry{}, false
}

// NextEpoch is higher than all that nodes or calls show, and not below the
// clock, so that it grows even where a new bucket has forgotten the old ones.
func (c *Core) NextEpoch(now time.Time) uint64 {
	c.epoch = max(c.epoch, uint64(now.UnixMilli())) + 1
	return c.epoch
}

// Seat reserves one session in a call that was decided on; the first one of a
// call tells its predicted size.
func (c *Core) Seat(now time.Time, id sfu.CallID, expected int) {
	k := c.calls[id]
	if k == nil {
		return
	}
	k.expected = max(k.expected, min(expected, maxExpected))
	k.seats = append(k.settled(now), now)
	if c.reserving == nil {
		c.reserving = map[sfu.CallID]*call{}
	}
	c.reserving[id] = k
}

// settled are the seats that still count.
func (k *call) settled(now time.Time) []time.Time {
	i := 0
	for i < len(k.seats) && now.Sub(k.seats[i]) > seatKept {
		i++
	}
	return k.seats[i:]
}

// reserved is the number of sessions of a call that count beyond those shown.
func (k *call) reserved(now time.Time) int {
	n := len(k.settled(now))
	if now.Sub(k.entry.Created) < sizeKept {
		n = max(n, k.expected-k.shown)
	}
	return n
}

// Reserved is the reserved load of every node.
func (c *Core) Reserved(now time.Time) map[edgeagent.NodeID]edgeagent.Load {
	out := map[edgeagent.NodeID]edgeagent.Load{}
	for id, k := range c.reserving {
		n := k.reserved(now)
		if n > 0 {
			out[k.entry.Node] = sum(out[k.entry.Node], seats(n))
		} else if c.calls[id] != k || len(k.settled(now)) == 0 && now.Sub(k.entry.Created) >= sizeKept {
			delete(c.reserving, id)
		}
	}
	return out
}

// View lists the nodes after a name, by name.
func (c *Core) View(now time.Time, after edgeagent.NodeID) []allocator.NodeView {
	reserved := c.Reserved(now)
	var out []allocator.NodeView
	for id, hb := range c.nodes {
		if id <= after {
			continue
		}
		v := allocator.NodeView{Heartbeat: hb, CallCount: len(hb.Calls), Reserved: reserved[id]}
		v.Fullness = fullness(sum(hb.Load, v.Reserved), hb.Capacity)
		v.Calls = nil
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b allocator.NodeView) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// Calls lists the live calls after an id, by id, without their Why.
func (c *Core) Calls(after sfu.CallID) []allocator.CallEntry {
	var out []allocator.CallEntry
	for id, k := range c.calls {
		if id.ID > after.ID {
			e := k.entry
			e.Why = allocator.Explanation{}
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b allocator.CallEntry) int { return cmp.Compare(a.Call.ID, b.Call.ID) })
	return out
}

// Ended lists the calls whose entry may be deleted: their node is gone, or shows
// no session of theirs and no seat was given for so long that every grant has
// expired.
func (c *Core) Ended(now time.Time) []sfu.CallID {
	var out []sfu.CallID
	for id, k := range c.calls {
		if now.Sub(k.entry.Touched) < allocator.CallIdle {
			continue
		}
		if _, carried := c.carried[id][k.entry.Node]; !carried {
			out = append(out, id)
		}
	}
	return out
}

// Decide chooses a node for a user who joins a call. It changes nothing: when
// the choice stands, the caller writes the call and tells ObserveCall and Seat.
// With an error, Chosen is empty.
func (c *Core) Decide(now time.Time, req allocator.PlaceRequest, draw *rand.Rand) (ex allocator.Explanation, err *allocator.Error) {
	ex = allocator.Explanation{Call: req.Call, At: now}
	more := max(1, min(req.Expected, maxExpected))
	live := c.calls[req.Call]
	if live != nil || len(c.carried[req.Call]) > 0 {
		more = 1
	}
	reserved := c.Reserved(now)
	for _, hb := range c.nodes {
		ex.Candidates = append(ex.Candidates, weigh(req, hb, reserved[hb.Node], more))
	}
	slices.SortFunc(ex.Candidates, rank)
	home, _, carried := c.Carrier(req.Call)
	if live != nil {
		home = live.entry.Node
	}
	if live != nil || carried {
		if done, err := c.stay(home, &ex); done {
			return ex, err
		}
	}
	eligible := 0
	for eligible < len(ex.Candidates) && ex.Candidates[eligible].WhyNot == "" {
		eligible++
	}
	if eligible == 0 {
		if len(req.Avoid) > 0 { // a wish: better a node that just failed than none
			req.Avoid = nil
			return c.Decide(now, req, draw)
		}
		return ex, refuse(&ex)
	}
	best := ex.Candidates[0].Cost
	near := 1
	for near < eligible && ex.Candidates[near].Cost <= best+max(nearMillis, best*nearShare) {
		near++
	}
	if near == 1 {
		ex.Chosen, ex.Reason = ex.Candidates[0].Node, "lowest cost"
		return ex, nil
	}
	i := draw.IntN(near)
	j := (i + 1 + draw.IntN(near-1)) % near
	a, b := ex.Candidates[i], ex.Candidates[j]
	if b.Fullness < a.Fullness || b.Fullness == a.Fullness && b.Cost < a.Cost {
		a = b
	}
	ex.Chosen, ex.Reason = a.Node, "emptier of two drawn among the nearly cheapest"
	return ex, nil
}

// stay keeps a live call together on its node while that is there. A call is never
// split, so a full node refuses the joiner, and a draining one keeps what it
// carries. A call that has lost its entry but is carried is as live as one.
func (c *Core) stay(home edgeagent.NodeID, ex *allocator.Explanation) (done bool, err *allocator.Error) {
	hb, there := c.nodes[home]
	if !there || hb.State == edgeagent.Gone {
		return false, nil // its node is gone: place it anew
	}
	if _, carried := c.carried[ex.Call][home]; hb.State == edgeagent.Draining && !carried {
		return false, nil // everybody has left: to the node it would be a new call
	}
	for _, k := range ex.Candidates {
		if k.Node == home && k.Fullness > 1 {
			ex.Reason = "call is live on a full node"
			return true, allocator.Refuse(allocator.CodeFull, "node %s, where the call is, is full", k.Node)
		}
	}
	ex.Chosen, ex.Reason = home, "call is live here"
	return true, nil
}

// rank puts the eligible first, then the cheap.
func rank(a, b allocator.Candidate) int {
	if eligible := a.WhyNot == ""; eligible != (b.WhyNot == "") {
		if eligible {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Cost, b.Cost), cmp.Compare(a.Node, b.Node))
}

// refuse says why nobody was chosen.
func refuse(ex *allocator.Explanation) *allocator.Error {
	for _, k := range ex.Candidates {
		if k.WhyNot == whyFull {
			ex.Reason = "every ready node is full"
			return allocator.Refuse(allocator.CodeFull, "every node is full: try again later, or add a node")
		}
	}
	ex.Reason = "no node is ready"
	return allocator.Refuse(allocator.CodeNoNodes, "no node is ready to take calls")
}

const (
	whyFull  = "full"
	whyAvoid = "just failed this user"
)

// weigh is one node as seen by one request for more sessions.
func weigh(req allocator.PlaceRequest, hb edgeagent.Heartbeat, reserved edgeagent.Load, more int) allocator.Candidate {
	k := allocator.Candidate{Node: hb.Node, Region: hb.Region, State: hb.State, Reserved: reserved}
	k.RTT, k.RTTFrom = rtt(req, hb)
	k.Fullness = fullness(sum(sum(hb.Load, reserved), seats(more)), hb.Capacity)
	k.Penalty = penalty(k.Fullness)
	k.Cost = k.RTT + k.Penalty
	switch {
	case hb.State != edgeagent.Ready:
		k.WhyNot = string(hb.State)
	case slices.Contains(req.Avoid, hb.Node):
		k.WhyNot = whyAvoid
	case k.Fullness > 1:
		k.WhyNot = whyFull
	}
	return k
}
