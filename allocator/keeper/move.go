package keeper

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// move moves calls away from nodes that are lost, drained, ill or too hot, at the
// rate their new nodes can take, or at which their old one may give them away.
func (c *Core) move(now time.Time, out []Out) []Out {
	elapsed := min(now.Sub(c.ticked).Seconds(), 1)
	for n, t := range c.arrivals {
		if t = min(arrivalsAtOnce, t+elapsed*arrivalsPerSecond); t == arrivalsAtOnce {
			delete(c.arrivals, n) // it takes as much as one that nobody comes to
		} else {
			c.arrivals[n] = t
		}
	}
	c.plan(now)
	for _, planned := range [...]bool{false, true} { // the lost first
		for _, node := range slices.Sorted(maps.Keys(c.exits)) {
			if x := c.exits[node]; x.planned == planned {
				out = c.empty(now, node, x, elapsed, out)
			}
		}
	}
	return out
}

// plan finds the nodes whose calls leave.
func (c *Core) plan(now time.Time) {
	for node := range c.exits {
		if len(c.hosted[node]) == 0 {
			delete(c.exits, node)
		}
	}
	for node := range c.hosted {
		cause, planned := c.leaving(node)
		x := c.exits[node]
		switch {
		case cause == "" && x != nil && (c.watch.Up(node) || c.watch.standing(node) == held):
			delete(c.exits, node)
		case cause == "" || x != nil && x.cause == cause && x.planned == planned:
		case x != nil && x.cause == allocator.CauseDrain && !x.planned: // it said good-bye
		default:
			c.exits[node] = &exit{cause: cause, planned: planned, tokens: departuresAtOnce}
		}
	}
}

// leaving is why the calls of a node leave it, if they do.
func (c *Core) leaving(node edgeagent.NodeID) (cause allocator.Cause, planned bool) {
	if l, lost := c.lost[node]; lost {
		return allocator.CauseNodeLost, l.serves
	}
	if hb, there := c.watch.Heartbeat(node); there && hb.Emptying && c.watch.Up(node) {
		return allocator.CauseDrain, true
	}
	// One that loses much is held now and then; that it is bad stays true.
	if why := c.health.Cause(node); c.watch.Up(node) || why == allocator.CauseDegraded && c.watch.standing(node) == held {
		return why, true
	}
	return "", false
}

// empty moves as many calls of a node as may leave now.
func (c *Core) empty(now time.Time, node edgeagent.NodeID, x *exit, elapsed float64, out []Out) []Out {
	if !now.Before(x.again) {
		x.stuck = ""
	}
	ids := slices.Collect(maps.Keys(c.hosted[node]))
	// Each allocator begins elsewhere, so that they do not all write the same call.
	slices.SortFunc(ids, func(a, b sfu.CallID) int {
		return cmp.Or(cmp.Compare(c.lot(a), c.lot(b)), cmp.Compare(a.ID, b.ID))
	})
	hb, known := c.watch.Heartbeat(node)
	if x.planned {
		rate := float64(departuresPerSecond)
		if left := hb.Until.Sub(now).Seconds() / 2; hb.Emptying && !hb.Until.IsZero() {
			rate = max(rate, float64(hb.Load.Sessions)/max(1, left))
		}
		x.tokens = min(max(departuresAtOnce, rate/10), x.tokens+elapsed*rate)
	}
	relief := 1.0 // of its capacity
	spread := x.cause == allocator.CauseOverload || x.cause == allocator.CauseRebalance
	if spread {
		relief = c.health.Hot(node) - c.going(node)
	}
	for _, id := range ids {
		size := c.place.Size(id)
		switch {
		case size == 0 && known:
			continue // nobody is there; who joins is placed elsewhere
		case x.planned && x.tokens <= 0, len(c.writing) >= writesAtOnce, relief <= 0:
			return out
		case c.writing[id], now.Before(c.retry[id]), c.resting(now, id), c.transits[id] != nil && x.planned && !c.transits[id].arrived:
			continue
		}
		size = max(size, 1)
		old, _ := c.place.Call(id)
		var w *Write
		if heir, ok := c.heir(old); ok { // which needs no room
			w = c.inherit(now, old, heir, x)
		} else if size < x.tooMany || !now.Before(x.again) {
			w = c.rehome(now, old, size, x)
		}
		if w == nil {
			continue
		}
		x.tokens -= float64(size)
		if spread && hb.Load.Sessions > 0 {
			relief -= float64(size) / float64(hb.Load.Sessions)
		}
		out = append(out, Out{Write: w})
	}
	return out
}

// going is the share of a node's sessions whose calls live elsewhere already, and
// that its heartbeat still shows.
func (c *Core) going(node edgeagent.NodeID) float64 {
	hb, _ := c.watch.Heartbeat(node)
	if hb.Load.Sessions == 0 {
		return 0
	}
	sessions := 0
	for id := range c.transits {
		if e, ok := c.place.Call(id); ok && e.Node != node {
			sessions += c.place.Shown(id, node)
		}
	}
	return float64(sessions) / float64(hb.Load.Sessions)
}

// spills is how many nodes that take no more just now are passed over for one call.
const spills = 3

// rehome decides where a call goes that leaves its node and is on no other; nil if it
// has to wait.
func (c *Core) rehome(now time.Time, old allocator.CallEntry, size int, x *exit) *Write {
	req := old.Wish()
	for range 1 + spills {
		choice, ok := c.place.Spot(now, req, size, c.draw)
		if !ok {
			if len(req.Avoid) == 0 { // else it only has to wait
				if _, refused := c.place.Elsewhere(now, req, size, "", c.draw); refused != nil {
					x.stuck = refused.Message
				}
				x.tooMany, x.again = size, now.Add(retryAfter)
			}
			return nil
		}
		if !x.planned && c.room(choice.Node) <= 0 {
			req.Avoid = append(req.Avoid, choice.Node)
			continue
		}
		ex := c.place.Told(now, req, size, choice, "call moves, "+string(x.cause)+": ")
		return c.send(now, old, req, ex, allocator.CallMove{From: old.Node, Cause: x.cause, Planned: x.planned, At: now, Sessions: size})
	}
	return nil
}

// room is how many sessions a node takes in just now.
func (c *Core) room(node edgeagent.NodeID) float64 {
	if left, known := c.arrivals[node]; known {
		return left
	}
	return arrivalsAtOnce
}

// send moves a call where it was decided.
func (c *Core) send(now time.Time, old allocator.CallEntry, req allocator.PlaceRequest, ex allocator.Explanation, move allocator.CallMove) *Write {
	e := c.entry(now, ex, req, old)
	move.Before = moves(old)
	e.Epoch, e.Move = c.place.NextEpoch(now), &move
	c.arrivals[ex.Chosen] = c.room(ex.Chosen) - float64(move.Sessions)
	c.place.Hold(ex.Chosen, move.Sessions)
	c.writing[old.Call] = true
	return &Write{Entry: e, Last: c.revisions[old.Call], held: move.Sessions}
}

const (
	// NearerEvery is how often it is looked whether a call that lives far from its
	// members can come nearer by now.
	NearerEvery = 2 * time.Minute
	// NearerRest is how long a call stays where it is before it comes nearer, twice as
	// long after each move it has made, up to NearerRest<<nearerDoubles.
	NearerRest    = 5 * time.Minute
	nearerDoubles = 5
	// NearerPace is how many sessions leave a node for that in a second by one
	// allocator, and what is more than these of the last call: with three of them still
	// no more than in other planned moves.
	NearerPace = departuresPerSecond / 3
)

// round begins another look at calls that might come nearer: each second at some, in
// two minutes at all of them.
func (c *Core) round() {
	if len(c.rest) == 0 {
		c.turn++
		c.rest = slices.Sorted(maps.Keys(c.hosted))
	}
}

// nearer brings calls home that began, or were moved, while what is near them was full
// or away, when there is room. Its work is spread over the ticks. While calls of lost
// nodes wait, the room is theirs.
func (c *Core) nearer(now time.Time, elapsed time.Duration, out []Out) []Out {
	if len(c.rest) == 0 || c.homeless() {
		return out
	}
	nodes := 1 + int(float64(len(c.hosted))*min(1, elapsed.Seconds()/sweepEvery.Seconds()))
	nodes = min(nodes, len(c.rest))
	turns := uint64(NearerEvery / sweepEvery)
	for _, node := range c.rest[:nodes] {
		if c.exits[node] != nil || !c.watch.Up(node) {
			continue
		}
		var ids []sfu.CallID
		for id := range c.hosted[node] {
			if c.lot(id)%turns == c.turn%turns {
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, func(a, b sfu.CallID) int { return cmp.Compare(a.ID, b.ID) })
		for left := NearerPace; len(ids) > 0 && left > 0; ids = ids[1:] {
			if w := c.approach(now, ids[0]); w != nil {
				left -= w.held
				out = append(out, Out{Write: w})
			}
		}
	}
	c.rest = c.rest[nodes:]
	return out
}

// homeless says whether people wait who lost their node.
func (c *Core) homeless() bool {
	for node, x := range c.exits {
		if x.planned {
			continue
		}
		for id := range c.hosted[node] {
			if c.place.Size(id) > 0 {
				return true
			}
		}
	}
	return false
}

// approach decides whether a call comes nearer; nil if it stays.
func (c *Core) approach(now time.Time, id sfu.CallID) *Write {
	if c.writing[id] || len(c.writing) >= writesAtOnce || now.Before(c.retry[id]) || c.transits[id] != nil {
		return nil
	}
	e, _ := c.place.Call(id)
	size := c.place.Size(id)
	req, choice, ok := c.Nearer(now, e, size)
	if !ok || c.room(choice.Node) <= 0 {
		return nil
	}
	ex := c.place.Told(now, req, size, choice, "call moves, there is room much nearer: ")
	return c.send(now, e, req, ex, allocator.CallMove{From: e.Node, Cause: allocator.CauseRebalance, Planned: true, At: now, Sessions: size})
}

// Nearer finds a much nearer node for a call of so many sessions, by its entry alone: the
// core need not have been told of it. That must be nearer to those who are in it, of
// whom at least half must be known, as well as to those who came first: so guests do not
// move it, and it does not go to and fro with who comes and goes. Of calls of more than
// twice allocator.MaxOf too few are known: so many stay.
func (c *Core) Nearer(now time.Time, e allocator.CallEntry, size int) (req allocator.PlaceRequest, choice placement.Choice, ok bool) {
	if size == 0 || 2*len(e.Near.Of) < size || len(e.Spans) > 0 || now.Sub(e.Created) < NearerRest<<min(moves(e), nearerDoubles) {
		return req, choice, false
	}
	req = e.Wish()
	if m := e.Move; m != nil && now.Sub(m.At) < forgiveTime<<min(m.Before, nearerDoubles) && m.Shed() {
		req.Avoid = []edgeagent.NodeID{m.From}
	}
	if choice, ok = c.place.Nearer(now, req, e.Node, size, c.draw); !ok {
		return req, choice, false
	}
	first := allocator.PlaceRequest{Call: e.Call, RTT: e.First.RTT, Region: e.First.Region, Location: e.First.Location}
	return req, choice, c.place.Saves(now, first, e.Node, choice.Node) >= placement.NearerSaves
}

// lot is where a call falls in this allocator's order.
func (c *Core) lot(id sfu.CallID) uint64 {
	x := (uint64(id.ID) ^ c.seed) * 0x9e3779b97f4a7c15
	return x ^ x>>29
}

// Move decides on one call that is to leave its node for a reason of its own, as a
// channel whose region was changed. Without a Write, why says why it stays.
func (c *Core) Move(now time.Time, req allocator.MoveRequest) (w *Write, why string) {
	old, live := c.place.Call(req.Call)
	switch {
	case !live:
		return nil, "call is not live"
	case c.writing[req.Call]:
		return nil, "call moves already"
	}
	wish := old.Wish()
	if req.Region != "" {
		wish.RTT, wish.Region, wish.Location = nil, req.Region, nil
	}
	if hb, there := c.watch.Heartbeat(old.Node); there && req.Region != "" && hb.Region == req.Region {
		return nil, "call is in that region"
	}
	size := max(1, c.place.Size(req.Call))
	ex, refused := c.place.Elsewhere(now, wish, size, "call moves, "+string(req.Cause)+": ", c.draw)
	if refused != nil {
		return nil, refused.Message
	}
	if hb, there := c.watch.Heartbeat(ex.Chosen); req.Region != "" && (!there || hb.Region != req.Region) {
		return nil, "no node of that region has room"
	}
	e := c.entry(now, ex, wish, old)
	if req.Region != "" { // what was ordered stands
		e.First = allocator.Near{Region: req.Region}
		e.Near = e.First
	}
	e.Epoch = c.place.NextEpoch(now)
	e.Move = &allocator.CallMove{From: old.Node, Cause: req.Cause, Planned: c.watch.Up(old.Node), At: now, Sessions: size, Before: moves(old)}
	c.place.Hold(ex.Chosen, size)
	c.writing[req.Call] = true
	return &Write{Entry: e, Last: c.revisions[req.Call], held: size}, ex.Reason
}

// Progress is how a node stands; with plan, also where each of its calls would go.
func (c *Core) Progress(now time.Time, node edgeagent.NodeID, plan bool) (allocator.Progress, bool) {
	hb, there := c.place.Node(node)
	if !there {
		return allocator.Progress{}, false
	}
	p := allocator.Progress{Node: node, State: hb.State, Emptying: hb.Emptying, Until: hb.Until, Sessions: hb.Load.Sessions, Calls: len(c.place.On(node))}
	for _, on := range c.place.On(node) {
		if e, live := c.place.Call(on.Call); live && e.Node != node {
			p.Moving++
		}
	}
	if x := c.exits[node]; x != nil {
		p.Stuck = x.stuck
	}
	if !plan {
		return p, true
	}
	held := map[edgeagent.NodeID]int{}
	for _, on := range c.place.On(node)[:min(p.Calls, allocator.ListPage)] {
		old, _ := c.place.Call(on.Call)
		wish := old.Wish()
		wish.Call = on.Call // also of one without an entry
		ex, refused := c.place.Elsewhere(now, wish, max(1, on.Sessions), "", c.draw)
		to := allocator.PlannedMove{Call: on.Call, Sessions: on.Sessions, To: ex.Chosen, Why: ex.Reason}
		if refused != nil {
			to.To, to.Why = "", refused.Message
		} else {
			held[ex.Chosen] += on.Sessions
			c.place.Hold(ex.Chosen, on.Sessions)
		}
		p.Plan = append(p.Plan, to)
	}
	for n, s := range held {
		c.place.Hold(n, -s)
	}
	return p, true
}

// Leaving is how many sessions are to leave their nodes, by cause.
func (c *Core) Leaving() map[allocator.Cause]int {
	out := map[allocator.Cause]int{}
	for node, x := range c.exits {
		for id := range c.hosted[node] {
			out[x.cause] += c.place.Size(id)
		}
	}
	return out
}
