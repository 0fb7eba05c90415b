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
	// loadKept is how long a seat still counts that a heartbeat shows: the packets
	// and bits of a heartbeat are those of the last three seconds.
	loadKept = 3 * time.Second
	// sizeKept is how long a young call counts with its predicted size.
	sizeKept = time.Minute
	// ForgiveTime is how long a call does not go back, but for need, to a node that gave
	// it away, and how long it is remembered of a node that it was ill.
	ForgiveTime = 30 * time.Minute
	// maxExpected bounds the predicted size a request may name.
	maxExpected = 10_000
)

// Core holds what is known of nodes and calls. Not safe for concurrent use. The
// zero value is ready to use.
type Core struct {
	fleet Fleet
	shows map[edgeagent.NodeID][]edgeagent.CallOnANode // the calls of each node's last heartbeat
	calls map[sfu.CallID]*call
	// seats, loads and sizes are when reservations end, in that order, so that a
	// decision does not look at all calls.
	seats, loads, sizes queue
	// carried are the nodes that show sessions of a call.
	carried map[sfu.CallID]map[edgeagent.NodeID]carriage
	epoch   uint64 // the highest seen or given
	leaving leaving
	spans   spans
	beat    time.Time // when the last heartbeat came
	number  uint64    // of the allocator, below epochStride
}

// carriage is a call as a node shows it.
type carriage struct {
	epoch    uint64
	sessions int
}

type call struct {
	entry    allocator.CallEntry
	expected int         // predicted size
	seats    []time.Time // until when each counts, those shown first
	seen     int         // of these, those shown
	shown    int         // sessions in the node's last heartbeat
	held     int         // sessions reserved in the fleet for it
	moved    int         // members it had on the node it came from
}

// Observe takes in a node's heartbeat.
func (c *Core) Observe(now time.Time, hb edgeagent.Heartbeat) {
	hb.Calls = slices.Clone(hb.Calls)
	hb.Clamp()
	before := c.shows[hb.Node]
	c.beat = now
	if before, known := c.fleet.Node(hb.Node); known {
		c.leaving.note(now, hb.Node, before.Load.Sessions-hb.Load.Sessions)
	}
	c.carry(hb.Node, hb.State, hb.Calls)
	c.fleet.Observe(now, hb)
	if hb.State != edgeagent.Gone { // with which everybody leaves who is to come after
		for _, on := range before {
			if k := c.calls[on.Call]; k != nil && k.entry.Node == hb.Node && k.shown > 0 && c.carried[on.Call][hb.Node].sessions == 0 {
				k.shown = 0
				c.hold(now, k)
			}
		}
	}
	c.epoch = max(c.epoch, hb.Epoch)
	for _, on := range hb.Calls {
		c.epoch = max(c.epoch, on.Epoch)
		k := c.calls[on.Call]
		if k == nil || k.entry.Node != hb.Node || k.shown == on.Sessions {
			continue
		}
		if grown := on.Sessions - k.shown; grown > 0 {
			k.show(now, grown)
			c.loads.add(now.Add(loadKept), on.Call)
		}
		k.shown = on.Sessions
		c.hold(now, k)
	}
}

// carry replaces what a node carries.
func (c *Core) carry(node edgeagent.NodeID, state edgeagent.State, calls []edgeagent.CallOnANode) {
	for _, on := range c.shows[node] {
		delete(c.carried[on.Call], node)
		if len(c.carried[on.Call]) == 0 {
			delete(c.carried, on.Call)
		}
	}
	delete(c.shows, node)
	if state == edgeagent.Gone || len(calls) == 0 {
		return
	}
	if c.carried == nil {
		c.carried = map[sfu.CallID]map[edgeagent.NodeID]carriage{}
		c.shows = map[edgeagent.NodeID][]edgeagent.CallOnANode{}
	}
	c.shows[node] = calls
	for _, on := range calls {
		if on.Sessions < 1 {
			continue
		}
		if c.carried[on.Call] == nil {
			c.carried[on.Call] = map[edgeagent.NodeID]carriage{}
		}
		c.carried[on.Call][node] = carriage{on.Epoch, on.Sessions}
	}
}

// Lose forgets a node whose lease has ended.
func (c *Core) Lose(now time.Time, node edgeagent.NodeID) {
	c.carry(node, edgeagent.Gone, nil)
	c.fleet.Lose(now, node)
	delete(c.leaving.nodes, node)
}

// Carrier is the node that shows sessions of a call, the one of the highest
// epoch if there are several.
func (c *Core) Carrier(id sfu.CallID) (node edgeagent.NodeID, epoch uint64, ok bool) {
	for n, k := range c.carried[id] {
		if !ok || k.epoch > epoch || k.epoch == epoch && n < node {
			node, epoch, ok = n, k.epoch, true
		}
	}
	return node, epoch, ok
}

// Shown is how many sessions of a call a node shows.
func (c *Core) Shown(id sfu.CallID, node edgeagent.NodeID) int { return c.carried[id][node].sessions }

// On are the calls of a node's last heartbeat: lent until its next one.
func (c *Core) On(node edgeagent.NodeID) []edgeagent.CallOnANode { return c.shows[node] }

// Node is the last heartbeat of a node, without its calls.
func (c *Core) Node(node edgeagent.NodeID) (edgeagent.Heartbeat, bool) { return c.fleet.Node(node) }

// Unwritten lists the calls that nodes carry without an entry, or at a higher epoch
// than their entry has, by id: what is carried is the truth, entries may be lost.
func (c *Core) Unwritten() []sfu.CallID {
	var out []sfu.CallID
	for id := range c.carried {
		k := c.calls[id]
		if _, epoch, _ := c.Carrier(id); k == nil || epoch > k.entry.Epoch {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b sfu.CallID) int { return cmp.Compare(a.ID, b.ID) })
	return out
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
	for id := range c.carried {
		out = append(out, c.StraysOf(id)...)
	}
	return out
}

// StraysOf are the other nodes that show sessions of a call, by name.
func (c *Core) StraysOf(id sfu.CallID) []Stray {
	var out []Stray
	k := c.calls[id]
	if k == nil {
		return nil
	}
	for n, on := range c.carried[id] {
		if n != k.entry.Node && on.epoch < k.entry.Epoch {
			out = append(out, Stray{n, id})
		}
	}
	slices.SortFunc(out, func(a, b Stray) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// Fleet is the nodes as this core knows them: lent, for who holds calls of its own and
// has them placed by the same function, as the simulator does.
func (c *Core) Fleet() *Fleet { return &c.fleet }

// Headroom is how many more sessions the ready nodes have room for together.
func (c *Core) Headroom(now time.Time) int {
	c.expire(now)
	total := 0
	for _, i := range c.fleet.index {
		n := &c.fleet.nodes[i]
		if n.hb.State == edgeagent.Ready {
			total += room(sum(n.hb.Load, Seats(n.reserved)), n.hb.Capacity)
		}
	}
	return total
}

// ObserveCall takes in an entry of the calls bucket.
func (c *Core) ObserveCall(e allocator.CallEntry) {
	if c.calls == nil {
		c.calls = map[sfu.CallID]*call{}
	}
	c.epoch = max(c.epoch, e.Epoch)
	if k := c.calls[e.Call]; k != nil {
		c.spans.index(k.entry, e)
		if k.entry.Node != e.Node || k.entry.Epoch != e.Epoch {
			// Where it goes, everybody is expected who was here.
			k.moved = c.Members(e.Call)
			k.expected = k.shown + k.held
			c.release(k)
			k.seats, k.seen, k.shown = nil, 0, 0
			k.entry = e
			if k.expected > 0 {
				c.sizes.add(e.Created.Add(sizeKept), e.Call)
			}
			c.hold(e.Created, k)
			return
		}
		k.entry = e
		return
	}
	c.spans.index(allocator.CallEntry{}, e)
	k := &call{entry: e}
	c.calls[e.Call] = k
	// Another allocator may have placed it just now.
	if e.Expected > 0 && !c.beat.IsZero() && c.beat.Sub(e.Created) < sizeKept {
		k.expected = min(e.Expected, maxExpected)
		c.sizes.add(e.Created.Add(sizeKept), e.Call)
		c.hold(e.Created, k)
	}
}

// Live is how many calls have an entry.
func (c *Core) Live() int { return len(c.calls) }

// LoseCall forgets a call that was deleted from the calls bucket.
func (c *Core) LoseCall(id sfu.CallID) {
	if k := c.calls[id]; k != nil {
		c.spans.index(k.entry, allocator.CallEntry{})
		c.release(k)
		delete(c.calls, id)
	}
}

// Call is the entry of a live call.
func (c *Core) Call(id sfu.CallID) (allocator.CallEntry, bool) {
	if k := c.calls[id]; k != nil {
		return k.entry, true
	}
	return allocator.CallEntry{}, false
}

// Learn notes where the members of a live call are, and where the first of them were,
// until its entry says it.
func (c *Core) Learn(id sfu.CallID, near, first allocator.Near) {
	if k := c.calls[id]; k != nil {
		k.entry.Near, k.entry.First = near, first
	}
}

// epochStride is how many epochs a millisecond has: one for each number of an
// allocator. Epochs stay below 2^53, which every reader of JSON keeps exactly.
const epochStride = 1024

// maxAhead is how far the clock of an allocator may be ahead of others'.
const maxAhead = 24 * time.Hour

// Plausible says whether an allocator can have given an epoch by now.
func Plausible(now time.Time, epoch uint64) bool {
	return epoch <= uint64(now.Add(maxAhead).UnixMilli())*epochStride
}

// Number gives the allocator a number, taken modulo epochStride: allocators with
// different numbers never give the same epoch, whatever they know of each other.
func (c *Core) Number(n uint64) { c.number = n % epochStride }

// NextEpoch is higher than all that nodes or calls show, and not below the
// clock, so that it grows even where a new bucket has forgotten the old ones.
func (c *Core) NextEpoch(now time.Time) uint64 {
	over := max(c.epoch, uint64(now.UnixMilli())*epochStride)
	c.epoch = over - over%epochStride + c.number
	if c.epoch <= over {
		c.epoch += epochStride
	}
	return c.epoch
}

// Hold reserves sessions on a node for a call that is about to be written there,
// or gives them up.
func (c *Core) Hold(node edgeagent.NodeID, sessions int) { c.fleet.Reserve(node, sessions) }

// Bar and Unbar are those of the fleet.
func (c *Core) Bar(node edgeagent.NodeID, why string) { c.fleet.Bar(node, why) }

// Unbar lets a node be chosen again, with or without a ramp.
func (c *Core) Unbar(now time.Time, node edgeagent.NodeID, ramp bool) { c.fleet.Unbar(now, node, ramp) }

// Seat reserves one session in a call that was decided on, and the rest of its
// predicted size: what it was decided with, since nobody looks here whether there is room.
func (c *Core) Seat(now time.Time, id sfu.CallID, expected int) {
	k := c.calls[id]
	if k == nil {
		return
	}
	k.expected = max(k.expected, min(expected, maxExpected))
	k.settle(now)
	k.seats = append(k.seats, now.Add(seatKept))
	c.seats.add(now.Add(seatKept), id)
	if young := k.entry.Created.Add(sizeKept); k.expected > k.shown && young.After(now) {
		c.sizes.add(young, id)
	}
	c.hold(now, k)
}

// hold makes what the fleet reserves for a call that what it should be.
func (c *Core) hold(now time.Time, k *call) {
	n := k.reserved(now)
	c.fleet.Reserve(k.entry.Node, n-k.held)
	k.held = n
}

// release gives up what is reserved for a call.
func (c *Core) release(k *call) {
	c.fleet.Reserve(k.entry.Node, -k.held)
	k.held = 0
}

// expire ends the reservations whose time has come.
func (c *Core) expire(now time.Time) {
	c.spans.expire(now, &c.fleet)
	for _, q := range []*queue{&c.seats, &c.loads, &c.sizes} {
		for id, ok := q.due(now); ok; id, ok = q.due(now) {
			if k := c.calls[id]; k != nil {
				c.hold(now, k)
			}
		}
	}
}

// queue holds calls by the time at which to look at them again. Times are added
// in order but for the clocks of other allocators; who comes late for that waits
// for the one before.
type queue struct {
	list []expiry
	head int
}

type expiry struct {
	at   time.Time
	call sfu.CallID
}

func (q *queue) add(at time.Time, id sfu.CallID) { q.list = append(q.list, expiry{at, id}) }

// due takes the next call whose time has passed.
func (q *queue) due(now time.Time) (sfu.CallID, bool) {
	if q.head == len(q.list) || q.list[q.head].at.After(now) {
		return sfu.CallID{}, false
	}
	id := q.list[q.head].call
	q.head++
	if 2*q.head > len(q.list) { // at most as many are moved as were taken since
		q.list = q.list[:copy(q.list, q.list[q.head:])]
		q.head = 0
	}
	return id, true
}

// show notes that a heartbeat shows so many seats more.
func (k *call) show(now time.Time, seats int) {
	for range min(seats, len(k.seats)-k.seen) {
		if until := now.Add(loadKept); until.Before(k.seats[k.seen]) {
			k.seats[k.seen] = until
		}
		k.seen++
	}
}

// settle forgets the seats that no longer count.
func (k *call) settle(now time.Time) {
	i := 0
	for i < len(k.seats) && !k.seats[i].After(now) {
		i++
	}
	k.seats, k.seen = k.seats[i:], max(0, k.seen-i)
}

// reserved is the number of sessions of a call that count beyond those shown.
func (k *call) reserved(now time.Time) int {
	k.settle(now)
	n := len(k.seats)
	if now.Sub(k.entry.Created) < sizeKept {
		n = max(n, k.expected-k.shown)
	}
	return n
}

// Reserved is the reserved load of every node.
func (c *Core) Reserved(now time.Time) map[edgeagent.NodeID]edgeagent.Load {
	c.expire(now)
	out := map[edgeagent.NodeID]edgeagent.Load{}
	for id, n := range c.fleet.reserved {
		out[id] = Seats(n)
	}
	return out
}

// View lists the nodes after a name, by name.
func (c *Core) View(now time.Time, after edgeagent.NodeID) []allocator.NodeView {
	c.expire(now)
	var out []allocator.NodeView
	for id, i := range c.fleet.index {
		if id <= after {
			continue
		}
		n := c.fleet.nodes[i]
		v := allocator.NodeView{Heartbeat: n.hb, CallCount: len(c.shows[id]), Reserved: Seats(n.reserved)}
		v.ProbeKey = nil // no operator needs it
		v.Fullness = Fullness(sum(n.hb.Load, v.Reserved), n.hb.Capacity)
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
		if !slices.ContainsFunc(k.entry.Nodes(), func(n edgeagent.NodeID) bool { return c.Shown(id, n) > 0 }) {
			out = append(out, id)
		}
	}
	return out
}

// Decide chooses a node for a user who joins a call. It changes nothing: when
// the choice stands, the caller writes the call and tells ObserveCall and Seat; with
// the Sessions that were found room for, which may be fewer than the request expects.
// With an error, Chosen is empty.
func (c *Core) Decide(now time.Time, req allocator.PlaceRequest, draw *rand.Rand) (allocator.Explanation, *allocator.Error) {
	c.expire(now)
	home, carried := c.home(req.Call)
	switch {
	case home != "" && c.stays(home, carried):
		if hb, _ := c.fleet.Node(home); hb.Emptying {
			if ex, err := c.Elsewhere(now, req, c.Size(req.Call)+1, "call moves, its node is drained: ", draw); err == nil {
				return ex, nil
			}
		}
		return c.join(now, req, home, draw)
	case home != "":
		return c.settle(now, req, c.Size(req.Call)+1, "", draw)
	}
	return c.begin(now, req, draw)
}

// begin finds a node for a call that begins.
func (c *Core) begin(now time.Time, req allocator.PlaceRequest, draw *rand.Rand) (allocator.Explanation, *allocator.Error) {
	n := max(1, min(req.Expected, maxExpected))
	ex, err := c.settle(now, req, n, "", draw)
	for err != nil && err.Code == allocator.CodeFull && n > 1 {
		// Where nobody has room for all that are expected, it begins where there is some.
		if n /= 2; n == 1 || c.fleet.Choose(now, &req, n, draw).Node != "" {
			ex, err = c.settle(now, req, n, "no room for all that are expected: ", draw)
		}
	}
	return ex, err
}

// Anew explains where a call would begin now: a live one with its members, where they
// are, and as large as it was placed or has become since, without what it is on its node
// already. It changes nothing; a refusal is told by its Reason.
func (c *Core) Anew(now time.Time, id sfu.CallID, draw *rand.Rand) allocator.Explanation {
	c.expire(now)
	k := c.calls[id]
	if k == nil {
		ex, _ := c.begin(now, allocator.PlaceRequest{Call: id}, draw)
		return ex
	}
	home, own, req := k.entry.Node, k.shown+k.held, k.entry.Wish()
	req.Expected = max(k.entry.Expected, c.Members(id))
	c.fleet.Reserve(home, -own)
	ex, _ := c.begin(now, req, draw)
	c.fleet.Reserve(home, own)
	for i := range ex.Candidates {
		if ex.Candidates[i].Node == home {
			ex.Candidates[i].Reserved = Seats(c.fleet.reserved[home])
		}
	}
	return ex
}

// home is the node of a live call, if any, and whether it shows sessions of it. A
// call that has lost its entry but is carried is as live as one with an entry.
func (c *Core) home(id sfu.CallID) (home edgeagent.NodeID, carried bool) {
	home, _, carried = c.Carrier(id)
	if live := c.calls[id]; live != nil {
		home = live.entry.Node
		_, carried = c.carried[id][home]
	}
	return home, carried
}

// stays says whether a call may stay on its node: not where it is gone, nor where
// it is draining and everybody has left, since to that node it would be a new
// call.
func (c *Core) stays(home edgeagent.NodeID, carried bool) bool {
	hb, there := c.fleet.Node(home)
	return there && hb.State != edgeagent.Gone && (hb.State != edgeagent.Draining || carried)
}

// Size is how many sessions a call has or is about to have, those included that are
// only predicted.
func (c *Core) Size(id sfu.CallID) int {
	if k := c.calls[id]; k != nil {
		return c.with(id, k.shown+k.held)
	}
	return c.with(id, 0)
}

// Members is how many sessions a call has or seats were given for: what is predicted
// beyond is nobody yet, and where only that is known, as of what another allocator has
// just placed, it is one.
func (c *Core) Members(id sfu.CallID) int {
	n := 0
	if k := c.calls[id]; k != nil {
		n = max(k.shown+len(k.seats)-k.seen, min(k.moved, k.shown+k.held))
	}
	return max(c.with(id, n), min(1, c.Size(id)))
}

// with adds to so many sessions on the home of a call those of its further nodes. Its
// node shows no fewer, whatever its entry says.
func (c *Core) with(id sfu.CallID, n int) int {
	if k := c.calls[id]; k != nil {
		for _, further := range k.entry.Spans {
			n += c.Shown(id, further)
		}
	}
	if node, _, ok := c.Carrier(id); ok {
		for _, on := range c.shows[node] {
			if on.Call == id {
				n = max(n, on.Sessions)
			}
		}
	}
	return n
}

// join keeps a live call together on its node or takes it as a whole to another; who is
// much nearer to a further node gets a seat there, and the call spans both. Who fits
// nowhere is refused.
func (c *Core) join(now time.Time, req allocator.PlaceRequest, home edgeagent.NodeID, draw *rand.Rand) (allocator.Explanation, *allocator.Error) {
	more := 1
	if k := c.calls[req.Call]; k != nil && k.held > len(k.seats) {
		more -= k.held - len(k.seats) // reserved for its members, as its size was predicted, and taken by nobody
	}
	size, rests := c.Size(req.Call)+max(0, more), edgeagent.NodeID("")
	if k := c.calls[req.Call]; k != nil && k.entry.Move != nil && k.entry.Move.Shed() && now.Sub(k.entry.Move.At) < ForgiveTime {
		rests = k.entry.Move.From
	}
	choice, leaves, fits := c.fleet.Leaves(now, &req, home, more, size, rests, draw)
	if leaves {
		return c.Told(now, req, size, choice, "call moves, its node is full: "), nil
	}
	ex := allocator.Explanation{Call: req.Call, At: now, Chosen: home, Reason: "call is live here"}
	c.fleet.limit = 1 // who is in a call fills its node to the end
	ex.Candidates = c.fleet.candidates(now, &req, 1)
	if node, why := c.span(now, &req, home, ex.Candidates); node != "" {
		ex.Chosen, ex.Reason, ex.Span = node, why, true
		return ex, nil
	}
	if !fits && !req.Inside {
		ex.Chosen, ex.Reason = "", "call is live on a full node"
		err := allocator.Refuse(allocator.CodeFull, "node %s, where the call is, is full, and no other has room for all %d", home, size)
		return ex, c.full(now, err, home, ex.Candidates)
	}
	return ex, nil
}

// Elsewhere finds another node than its own for all sessions of a call.
func (c *Core) Elsewhere(now time.Time, req allocator.PlaceRequest, sessions int, why string, draw *rand.Rand) (allocator.Explanation, *allocator.Error) {
	c.expire(now)
	home, _ := c.home(req.Call)
	req.Avoid = append(slices.Clone(req.Avoid), home)
	ex, err := c.settle(now, req, sessions, why, draw)
	if err == nil && slices.Contains(req.Avoid, ex.Chosen) {
		ex.Chosen, ex.Sessions, ex.Reason = "", 0, "no other node has room"
		err = allocator.Refuse(allocator.CodeFull, "no other node has room for all %d", sessions)
	}
	return ex, err
}

// Spot is Elsewhere without an explanation, at a hundredth of what that takes: ok is
// false where there is no other node.
func (c *Core) Spot(now time.Time, req allocator.PlaceRequest, sessions int, draw *rand.Rand) (choice Choice, ok bool) {
	c.expire(now)
	home, _ := c.home(req.Call)
	req.Avoid = append(slices.Clone(req.Avoid), home)
	choice = c.fleet.Choose(now, &req, sessions, draw)
	return choice, choice.Node != "" && !slices.Contains(req.Avoid, choice.Node)
}

// Nearer is that of the fleet.
func (c *Core) Nearer(now time.Time, req allocator.PlaceRequest, home edgeagent.NodeID, sessions int, draw *rand.Rand) (choice Choice, ok bool) {
	c.expire(now)
	return c.fleet.Nearer(now, &req, home, sessions, draw)
}

// Saves is that of the fleet.
func (c *Core) Saves(now time.Time, req allocator.PlaceRequest, home, node edgeagent.NodeID) float64 {
	return c.fleet.Saves(now, &req, home, node)
}

// Told explains a choice of Spot or Nearer.
func (c *Core) Told(now time.Time, req allocator.PlaceRequest, sessions int, choice Choice, why string) allocator.Explanation {
	home, _ := c.home(req.Call)
	req.Avoid = append(slices.Clone(req.Avoid), home)
	ex := allocator.Explanation{Call: req.Call, At: now, Chosen: choice.Node, Sessions: sessions, Reason: why + choice.Reason}
	ex.Candidates = c.fleet.candidates(now, &req, sessions)
	for i := range ex.Candidates {
		switch k := &ex.Candidates[i]; {
		case k.Node == home:
			k.WhyNot = "call leaves it"
		case k.WhyNot == whyAvoid:
			k.WhyNot = "not for this call just now"
		}
	}
	return ex
}

// settle finds a node for all sessions of a call.
func (c *Core) settle(now time.Time, req allocator.PlaceRequest, sessions int, why string, draw *rand.Rand) (allocator.Explanation, *allocator.Error) {
	ex := c.fleet.Explain(now, &req, sessions, draw)
	switch {
	case ex.Chosen != "":
		ex.Reason, ex.Sessions = why+ex.Reason, sessions
		return ex, nil
	case ex.Reason == everyFull:
		c.fleet.limit = 1
		return ex, c.full(now, allocator.Refuse(allocator.CodeFull, "every node is full: try again later, or add a node"), "", c.fleet.candidates(now, &req, 1))
	}
	return ex, allocator.Refuse(allocator.CodeNoNodes, "no node is ready to take calls")
}
