package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// touchEvery is how old the last seat of a live call may be before giving
	// another writes the entry again. Well below allocator.CallIdle less the life
	// of a grant, so that no entry is deleted under a fresh grant.
	touchEvery = 5 * time.Second
	// republish is how long nodes have, after the calls bucket was made anew, to
	// say which calls they carry, before others are created.
	republish = 3 * time.Second
	// tellAgain is how long after a move its new node must show somebody, or the
	// move is told again, twice as long each time, tellTries times in all.
	tellAgain = time.Second
	tellTries = 3
	// settleWait is how long after a planned move the members who are still on the
	// old node are left there; when all have a session on the new one it is
	// connectWait: they leave by themselves as soon as they hear everybody there.
	settleWait  = 5 * time.Second
	connectWait = 2 * time.Second
	// transitKept is how long a move is looked after.
	transitKept = 20 * time.Second
	// retryAfter is the pause before a call is tried again that could not be moved.
	retryAfter = 300 * time.Millisecond
	// WriteTime is how long a move waits to be written before it has failed: of three
	// servers of the bus the one that took it may have died.
	WriteTime = 600 * time.Millisecond
	// moveRest is how long a call stays on its new node, whatever is thought of that:
	// two allocators who think differently of two nodes must not throw it back and
	// forth, and a verdict takes less.
	moveRest = 1500 * time.Millisecond
	// writesAtOnce bounds the moves that are being written.
	writesAtOnce = 64
	// sweepEvery is how often it is looked for calls without an entry.
	sweepEvery = time.Second

	// What a node takes in when calls come from a lost one: sessions a second, and
	// at once. A handshake costs about a millisecond of a core.
	arrivalsPerSecond = 1000
	arrivalsAtOnce    = 100
	// What a node gives away in planned moves, unless its deadline asks for more:
	// 200 users leave in 7 s.
	departuresPerSecond = 30
	departuresAtOnce    = 10
)

// Out is one thing for the shell to do. Exactly one field is set.
type Out struct {
	Ask   *edgeagent.Heartbeat    // on its media port; tell Answered
	Write *Write                  // tell Won, Raced or Failed
	Tell  *allocator.Moved        // to everybody
	Moved *allocator.CallEntry    // by a write of this allocator: to be counted and explained
	End   *placement.Stray        // of sessions, with reason edgeagent.Moved
	Note  *allocator.JournalEntry // in the journal
	Relay *Relay                  // to a node
	// Refused is the kind of what a heartbeat says and is not believed, to be counted.
	Refused string
}

// Write is a compare-and-swap of the calls bucket.
type Write struct {
	Entry allocator.CallEntry
	Last  uint64 // revision to replace; 0: none may be there

	held int // sessions held on its node until it is done
}

// Claim is the answer to who wants a seat.
type Claim struct {
	Entry   allocator.CallEntry
	Why     allocator.Explanation
	Created bool   // the call is not where it was, or was not live
	Write   *Write // must be won first
	// Later tells that the seat need not wait for the write: it says only that the
	// call lives, and its node shows that, too.
	Later bool
	// Wait tells that it cannot be said yet: a node is being asked, or calls are not
	// all known; Reread, that the asker knows more than we do, which is revision Known.
	Wait, Reread bool
	Known        uint64
}

// exit is why the calls of a node leave it.
type exit struct {
	cause   allocator.Cause
	planned bool
	tokens  float64 // sessions that may leave now
	stuck   string  // why the last call that stays does
	// No node has room for tooMany sessions together: until again, who is as many is
	// not tried. Where all is full each of them would be weighed against each node.
	tooMany int
	again   time.Time
}

// loss is what is known of a node that was lost, or has said good-bye.
type loss struct {
	at      time.Time
	serves  bool // its media engine still does
	goodbye bool
}

// lossKept is how long it is remembered after its calls have gone, so that the node
// takes up its share by and by when it comes back.
const lossKept = 10 * time.Minute

// transit is a move that is looked after.
type transit struct {
	seen    time.Time
	told    time.Time
	tries   int
	arrived bool      // the new node shows somebody
	whole   time.Time // since when it shows all; zero: it does not
}

// Core is the mind of one allocator. Not safe for concurrent use.
type Core struct {
	place  placement.Core
	watch  Watch
	health Health
	draw   *rand.Rand
	seed   uint64

	// The calls bucket as it was seen last.
	revisions map[sfu.CallID]uint64
	hosted    map[edgeagent.NodeID]map[sfu.CallID]struct{} // calls by the node of their entry
	synced    bool
	born      time.Time
	barrier   time.Time                     // no call is created before
	awaited   map[edgeagent.NodeID]struct{} // nodes to beat before; nil: unknown which

	// Moves.
	exits    map[edgeagent.NodeID]*exit
	lost     map[edgeagent.NodeID]loss
	arrivals map[edgeagent.NodeID]float64
	writing  map[sfu.CallID]bool
	retry    map[sfu.CallID]time.Time
	unsure   map[sfu.CallID]Write // moves that failed, and may have been written all the same
	transits map[sfu.CallID]*transit
	ordered  map[relayed]time.Time
	// shifted are the nodes that other nodes reach elsewhere than before, and when those
	// were told; zero: not yet.
	shifted map[edgeagent.NodeID]time.Time
	ticked  time.Time
	swept   time.Time
	turn    uint64             // of the calls that are looked at for nearer nodes
	rest    []edgeagent.NodeID // of the nodes whose calls are, in this turn

	refused map[lie]time.Time // when it was told last

	verdicts []Verdict // scratch
	ailments []Ailment
}

// New is a Core with a number of its own, which also seeds its draws.
func New(number uint64) *Core {
	c := &Core{
		draw: rand.New(rand.NewPCG(number, 1)), seed: number,
		revisions: map[sfu.CallID]uint64{},
		hosted:    map[edgeagent.NodeID]map[sfu.CallID]struct{}{},
		exits:     map[edgeagent.NodeID]*exit{},
		lost:      map[edgeagent.NodeID]loss{},
		arrivals:  map[edgeagent.NodeID]float64{},
		writing:   map[sfu.CallID]bool{},
		retry:     map[sfu.CallID]time.Time{},
		unsure:    map[sfu.CallID]Write{},
		transits:  map[sfu.CallID]*transit{},
		refused:   map[lie]time.Time{},
		shifted:   map[edgeagent.NodeID]time.Time{},
	}
	c.place.Number(number)
	return c
}

// Place is what placements rest on.
func (c *Core) Place() *placement.Core { return &c.place }

// Watch is what is thought of the nodes.
func (c *Core) Watch() *Watch { return &c.watch }

// SeeNode takes in a heartbeat: written by the clock of the bus, or overheard while
// it was, with a zero time. Of one that comes both ways the second is left out.
func (c *Core) SeeNode(now time.Time, hb edgeagent.Heartbeat, written time.Time, out []Out) []Out {
	if c.watch.repeats(hb, written) {
		return out
	}
	if hb.State == edgeagent.Gone {
		return c.leave(now, hb, out)
	}
	hb, out, ok := c.believe(now, hb, out)
	if !ok {
		return out
	}
	if l, lost := c.lost[hb.Node]; lost && !c.watch.known(hb.Node) {
		delete(c.lost, hb.Node) // so long ago that it begins anew
		c.place.Unbar(now, hb.Node, true)
		if !l.goodbye {
			out = c.note(now, allocator.DeedBack, hb.Node, "it beats again, after its lease had ended", out)
		}
	}
	before, _ := c.place.Node(hb.Node)
	c.place.Observe(now, hb)
	delete(c.awaited, hb.Node)
	c.verdicts = c.watch.Beat(now, hb, written, c.verdicts[:0])
	out = c.act(now, out)
	c.ailments = c.health.Beat(now, hb, c.ailments[:0])
	out = c.treat(now, out)
	out = c.shift(now, before, hb, out)
	out = c.links(now, hb, out)
	out = c.share(now, hb, out)
	return c.endStrays(now, hb, out)
}

// leave is the good-bye of a node. Who was still there has been told by it.
func (c *Core) leave(now time.Time, hb edgeagent.Heartbeat, out []Out) []Out {
	c.watch.Beat(now, hb, now, nil)
	c.health.Forget(hb.Node)
	switch _, known := c.lost[hb.Node]; {
	case known: // it is barred until it is back
	case len(c.hosted[hb.Node]) > 0:
		c.lost[hb.Node] = loss{at: now, goodbye: true}
		c.exits[hb.Node] = &exit{cause: allocator.CauseDrain}
	default:
		c.place.Unbar(now, hb.Node, false) // what ailed it ends with it
	}
	delete(c.awaited, hb.Node)
	delete(c.shifted, hb.Node)
	c.place.Observe(now, hb)
	return out
}

// NodeGone tells that the lease of a node ended: it was given up, or nobody renewed it.
func (c *Core) NodeGone(now time.Time, node edgeagent.NodeID, givenUp bool, out []Out) []Out {
	if hb, there := c.place.Node(node); there && hb.State == edgeagent.Gone {
		c.place.Lose(now, node)
		return out
	}
	c.verdicts = c.watch.Expired(now, node, givenUp, c.verdicts[:0])
	return c.act(now, out)
}

// Closed tells that the bus lost the connection of a node, by its clock at.
func (c *Core) Closed(now time.Time, node edgeagent.NodeID, at time.Time, out []Out) []Out {
	c.verdicts = c.watch.Closed(now, node, at, c.verdicts[:0])
	return c.act(now, out)
}

// Silence takes in a report of clients.
func (c *Core) Silence(now time.Time, s edgeagent.Silence, out []Out) []Out {
	c.verdicts = c.watch.Silence(now, s, c.verdicts[:0])
	return c.act(now, out)
}

// Answered tells what came of a question.
func (c *Core) Answered(now time.Time, node edgeagent.NodeID, a Answer, out []Out) []Out {
	c.verdicts = c.watch.Answered(now, node, a, c.verdicts[:0])
	return c.act(now, out)
}

// Bus tells that the bus went away or is back.
func (c *Core) Bus(now time.Time, away bool) { c.watch.Bus(now, away) }

// Synced tells that all entries of the calls bucket have been seen, and since when
// there is this one and for how long. In one made anew no call is created before
// the nodes had the time to say which they carry.
func (c *Core) Synced(now time.Time, born time.Time, age time.Duration) {
	if !c.synced || !born.Equal(c.born) {
		c.barrier = now.Add(republish - age)
		c.awaited = nil
		if c.synced { // we know who was there
			c.awaited = map[edgeagent.NodeID]struct{}{}
			for _, v := range c.place.View(now, "") {
				if v.State == edgeagent.Ready && c.watch.Up(v.Node) {
					c.awaited[v.Node] = struct{}{}
				}
			}
		}
	}
	c.synced, c.born = true, born
}

// settling says whether calls may be carried that are not known.
func (c *Core) settling(now time.Time) bool {
	return !c.synced || now.Before(c.barrier) && (c.awaited == nil || len(c.awaited) > 0)
}

// SeeCall takes in an entry unless a newer one is known already: a watcher runs
// behind what was written.
func (c *Core) SeeCall(now time.Time, e allocator.CallEntry, revision uint64, out []Out) []Out {
	if revision < c.revisions[e.Call] {
		return out
	}
	old, known := c.place.Call(e.Call)
	if known && old.Node != e.Node {
		c.unhost(old)
	}
	c.revisions[e.Call] = revision
	c.place.ObserveCall(e)
	if c.hosted[e.Node] == nil {
		c.hosted[e.Node] = map[sfu.CallID]struct{}{}
	}
	c.hosted[e.Node][e.Call] = struct{}{}
	if _, gone := c.lost[e.Node]; !gone && !c.watch.known(e.Node) {
		c.watch.Hosts(now, e.Node)
	}
	if e.Move != nil && (!known || old.Epoch != e.Epoch) && now.Sub(e.Move.At) < transitKept {
		c.transits[e.Call] = &transit{seen: now, told: now, tries: 1}
		delete(c.retry, e.Call)
	}
	w, unsure := c.unsure[e.Call]
	delete(c.unsure, e.Call)
	if unsure && w.Entry.Epoch == e.Epoch && e.Move != nil && e.Move.At.Equal(w.Entry.Move.At) {
		return c.moved(now, e, out) // it was written after all: no other allocator gives that epoch
	}
	return out
}

// moved tells a move that this allocator has written.
func (c *Core) moved(now time.Time, e allocator.CallEntry, out []Out) []Out {
	m, told := e.Move, e.Moved()
	return append(out, Out{Tell: &told}, Out{Moved: &e}, Out{Note: &allocator.JournalEntry{
		At: now, By: "allocator", Deed: allocator.DeedMove, Node: m.From, To: e.Node, Call: e.Call,
		Why: fmt.Sprintf("%s, with %d sessions: %s", m.Cause, m.Sessions, e.Why.Reason),
	}})
}

// CallGone tells that the entry of a call was deleted, at a revision, or was not
// found when the bucket was read again (0).
func (c *Core) CallGone(id sfu.CallID, revision uint64) {
	if revision != 0 && revision < c.revisions[id] {
		return
	}
	if old, known := c.place.Call(id); known {
		c.unhost(old)
	}
	delete(c.revisions, id)
	delete(c.transits, id)
	delete(c.unsure, id)
	c.place.LoseCall(id)
}

func (c *Core) unhost(e allocator.CallEntry) {
	delete(c.hosted[e.Node], e.Call)
	if len(c.hosted[e.Node]) == 0 {
		delete(c.hosted, e.Node)
	}
}

// Reread takes in what the bucket holds, whatever was thought: found, or nothing.
func (c *Core) Reread(now time.Time, id sfu.CallID, e allocator.CallEntry, revision uint64, found bool, out []Out) []Out {
	if !found {
		c.CallGone(id, 0)
		return out
	}
	delete(c.revisions, id) // what was read counts, even from a bucket made anew
	return c.SeeCall(now, e, revision, out)
}

// Heard tells that a move was told, by whomever.
func (c *Core) Heard(now time.Time, m allocator.Moved) {
	if e, ok := c.place.Call(m.Call); ok && e.Epoch == m.Epoch && c.transits[m.Call] != nil {
		c.transits[m.Call].told = now
	}
}

// act draws the consequences of verdicts.
func (c *Core) act(now time.Time, out []Out) []Out {
	for _, v := range c.verdicts {
		switch v.Deed {
		case allocator.DeedSuspect:
			c.place.Bar(v.Node, "suspect")
		case allocator.DeedLost:
			c.lost[v.Node] = loss{at: now, serves: v.Serves}
			c.place.Bar(v.Node, "lost")
			c.place.Lose(now, v.Node)
			c.health.Forget(v.Node)
			delete(c.awaited, v.Node)
		case allocator.DeedBack:
			_, wasLost := c.lost[v.Node]
			delete(c.lost, v.Node)
			if why := c.health.Cause(v.Node); why == "" || why == allocator.CauseRebalance {
				c.place.Unbar(now, v.Node, wasLost)
			} else {
				c.place.Bar(v.Node, string(why))
			}
		}
		if v.Deed != "" {
			out = c.note(now, v.Deed, v.Node, v.Why, out)
		}
		if v.Ask {
			if hb, ok := c.watch.Heartbeat(v.Node); ok {
				out = append(out, Out{Ask: &hb})
			}
		}
	}
	return out
}

// treat draws the consequences of ailments.
func (c *Core) treat(now time.Time, out []Out) []Out {
	for _, a := range c.ailments {
		switch {
		case a.Deed == allocator.DeedRecovered && c.watch.Up(a.Node):
			c.place.Unbar(now, a.Node, a.Cause != allocator.CauseRebalance) // who was only warm was never out
		case a.Deed == allocator.DeedDegraded:
			c.place.Bar(a.Node, string(a.Cause))
		}
		out = c.note(now, a.Deed, a.Node, a.Why, out)
	}
	return out
}

func (c *Core) note(now time.Time, deed allocator.Deed, node edgeagent.NodeID, why string, out []Out) []Out {
	return append(out, Out{Note: &allocator.JournalEntry{At: now, By: "allocator", Deed: deed, Node: node, Why: why}})
}

// Doubts says whether a node is suspect or held, and for which cause it is to be
// left, if it is bad or too hot.
func (c *Core) Doubts(node edgeagent.NodeID) (suspect bool, bad allocator.Cause) {
	return c.watch.known(node) && !c.watch.Up(node), c.health.Cause(node)
}

// undecided says whether it will be known soon whether a node lives.
func (c *Core) undecided(node edgeagent.NodeID) bool {
	return c.watch.Suspect(node) || c.watch.unseen(node)
}

// Claim decides where a user who joins a call is seated.
func (c *Core) Claim(now time.Time, req allocator.PlaceRequest) (Claim, *allocator.Error) {
	old, live := c.place.Call(req.Call)
	switch {
	case live && old.Epoch < req.Epoch || !live && req.Epoch > 0 && c.revisions[req.Call] == 0:
		return Claim{Reread: true, Known: c.revisions[req.Call]}, nil
	case live && (c.undecided(old.Node) || c.watch.answering(old.Node) && !c.watch.Cut(now, old.Node) || c.watch.Lost(old.Node) && c.resting(now, req.Call)):
		return Claim{Wait: true}, nil
	case !live && c.settling(now):
		if _, _, carried := c.place.Carrier(req.Call); !carried {
			return Claim{Wait: true}, nil
		}
	}
	ex, refused := c.decide(now, req, old.Node)
	cl := Claim{Why: ex}
	if refused != nil {
		return cl, refused
	}
	if live {
		members := c.place.Members(req.Call)
		old.Near, old.First = near(old.Near, req, members), first(old.First, req, members)
		c.place.Learn(req.Call, old.Near, old.First)
	}
	switch node, epoch, carried := c.place.Carrier(req.Call); {
	case live && ex.Span:
		cl.Entry = old
		if slices.Contains(old.Spans, ex.Chosen) {
			if now.Sub(old.Touched) <= touchEvery {
				return cl, nil
			}
			break
		}
		cl.Entry.Spans = append(slices.Clone(old.Spans), ex.Chosen)
		cl.Entry.Why = c.entry(now, ex, req, old).Why
	case live && ex.Chosen == old.Node:
		cl.Entry = old
		if now.Sub(old.Touched) <= touchEvery {
			return cl, nil
		}
		if cl.Later = c.place.Shown(req.Call, old.Node) > 0; cl.Later && c.writing[req.Call] {
			return cl, nil
		}
	case carried && node == ex.Chosen && epoch > old.Epoch:
		// It lost its entry, not its life.
		cl.Entry = c.entry(now, ex, req, old)
		cl.Entry.Epoch, cl.Entry.Move = epoch, nil
		cl.Entry.Spans = c.place.Sharers(req.Call, node, epoch)
	default:
		cl.Created = true
		cl.Entry = c.entry(now, ex, req, old)
		cl.Entry.Epoch = c.place.NextEpoch(now)
		if size := c.place.Size(req.Call); live && size > 0 {
			cause, planned := c.reason(now, old.Node)
			cl.Entry.Move = &allocator.CallMove{From: old.Node, Cause: cause, Planned: planned, At: now, Sessions: size, Before: moves(old)}
		}
	}
	cl.Entry.Touched, cl.Entry.Guild = now, cmp.Or(req.Guild, old.Guild)
	if !live {
		cl.Entry.Near = near(cl.Entry.Near, req, 0)
	}
	if first := &cl.Entry.First; len(first.RTT) == 0 && first.Region == "" && first.Location == nil {
		*first = cl.Entry.Near
		first.Of = first.Of[:min(len(first.Of), allocator.MaxFirst)]
	}
	cl.Write = &Write{Entry: cl.Entry}
	if live {
		cl.Write.Last = c.revisions[req.Call]
	}
	if cl.Later {
		c.writing[req.Call] = true
	}
	return cl, nil
}

// decide is where a user who joins a call is to be seated, whose node is home, if it is
// live. One that is cut off from the bus would let nobody in for as long as it is held.
func (c *Core) decide(now time.Time, req allocator.PlaceRequest, home edgeagent.NodeID) (allocator.Explanation, *allocator.Error) {
	if home != "" && c.watch.Cut(now, home) {
		if ex, refused := c.place.Elsewhere(now, req, c.place.Size(req.Call)+1, "call moves, its node is cut off from the bus: ", c.draw); refused == nil {
			return ex, nil
		}
	}
	return c.place.Decide(now, req, c.draw)
}

// resting says whether a call was moved so lately that it stays.
func (c *Core) resting(now time.Time, id sfu.CallID) bool {
	t := c.transits[id]
	return t != nil && now.Sub(t.seen) < moveRest
}

func (c *Core) entry(now time.Time, ex allocator.Explanation, req allocator.PlaceRequest, old allocator.CallEntry) allocator.CallEntry {
	ex.Candidates = slices.Clone(ex.Candidates[:min(len(ex.Candidates), allocator.MaxWhy)])
	return allocator.CallEntry{Call: req.Call, Guild: req.Guild, Node: ex.Chosen, Created: now, Touched: now, Near: old.Near, First: old.First, Expected: max(1, ex.Sessions), Why: ex}
}

// moves is how often a call was moved.
func moves(e allocator.CallEntry) int {
	if e.Move == nil {
		return 0
	}
	return e.Move.Before + 1
}

// near takes in where one more is than so many: the mean, in which each counts as
// much, and once. Where nobody is there the past does not count.
func near(old allocator.Near, req allocator.PlaceRequest, members int) allocator.Near {
	out := allocator.Near{Region: cmp.Or(old.Region, req.Region), Location: cmp.Or(old.Location, req.Location), RTT: old.RTT, Of: old.Of}
	if members == 0 {
		out.Of = nil
	}
	if len(req.RTT) == 0 || members > 0 && slices.Contains(old.Of, req.User) {
		return out
	}
	of := out.Of[max(0, len(out.Of)-min(members, allocator.MaxOf-1)):]
	out.Of = append(slices.Clone(of), req.User)
	if out.RTT = maps.Clone(old.RTT); members == 0 {
		out.RTT = nil
	}
	for _, key := range slices.Sorted(maps.Keys(req.RTT)) {
		ms, known := out.RTT[key]
		switch {
		case known:
			out.RTT[key] = ms + (req.RTT[key]-ms)/float64(members+1)
		case len(out.RTT) < allocator.MaxNear:
			if out.RTT == nil {
				out.RTT = map[string]float64{}
			}
			out.RTT[key] = req.RTT[key]
		}
	}
	return out
}

// first takes in who comes while a call begins: each counts as much, and once, as long
// as no more have come than are there. So who only says that he comes counts for
// nobody, and who comes later for nothing. What was ordered stays.
func first(old allocator.Near, req allocator.PlaceRequest, members int) allocator.Near {
	n := len(old.Of)
	if n == 0 || n > members || n >= allocator.MaxFirst || len(req.RTT) == 0 || slices.Contains(old.Of, req.User) {
		return old
	}
	return near(old, req, n)
}

// reason is why a call leaves a node, and whether the node still serves.
func (c *Core) reason(now time.Time, node edgeagent.NodeID) (cause allocator.Cause, planned bool) {
	if x := c.exits[node]; x != nil {
		return x.cause, x.planned
	}
	switch cause, planned = c.leaving(node); {
	case cause != "":
		return cause, planned
	case c.watch.Lost(node):
		return allocator.CauseNodeLost, false
	case c.watch.Cut(now, node):
		return allocator.CauseNodeLost, true
	}
	return allocator.CauseOverload, true // it is full
}

// Won tells that a write was done, at a revision; whoever won tells the move.
func (c *Core) Won(now time.Time, w Write, revision uint64, out []Out) []Out {
	c.done(w)
	before, _ := c.place.Call(w.Entry.Call)
	out = c.SeeCall(now, w.Entry, revision, out)
	if len(before.Spans)+len(w.Entry.Spans) > 0 {
		for _, r := range c.Relays(w.Entry) {
			out = append(out, Out{Relay: &r})
		}
	}
	if !w.moves() {
		return out
	}
	return c.moved(now, w.Entry, out)
}

// moves says whether a call has another node by this write.
func (w Write) moves() bool {
	return w.Entry.Move != nil && w.Entry.Move.At.Equal(w.Entry.Touched)
}

// Failed tells that a write was not done, because somebody else was first (Reread
// follows) or the bus did not take it; or that nobody answered in WriteTime: then it may
// have been done, which is told when it is seen.
func (c *Core) Failed(now time.Time, w Write) {
	c.done(w)
	c.retry[w.Entry.Call] = now.Add(retryAfter)
	if w.moves() {
		c.unsure[w.Entry.Call] = w
	}
}

func (c *Core) done(w Write) {
	delete(c.writing, w.Entry.Call)
	c.place.Hold(w.Entry.Node, -w.held)
}

// Seat reserves a seat in a call that was claimed, and room for as many as its entry
// says: what a joiner expects beyond that was looked for by nobody.
func (c *Core) Seat(now time.Time, id sfu.CallID) {
	e, _ := c.place.Call(id)
	c.place.Seat(now, id, e.Expected)
}

// Tick does what is due.
func (c *Core) Tick(now time.Time, out []Out) []Out {
	c.verdicts = c.watch.Tick(now, c.verdicts[:0])
	out = c.act(now, out)
	c.ailments = c.ailments[:0]
	for _, id := range c.watch.Deaf(now) {
		c.ailments = c.health.Deaf(now, id, c.ailments)
	}
	if id, share := c.watch.Leaky(now); share > 0 {
		c.ailments = c.health.Leaky(now, id, share, c.ailments)
	}
	out = c.treat(now, out)
	if !c.synced || c.watch.away {
		c.ticked = now
		return out
	}
	out = c.move(now, out)
	out = c.nearer(now, now.Sub(c.ticked), out)
	out = c.leaveSpans(now, out)
	out = c.tell(now, out)
	if now.Sub(c.swept) >= sweepEvery {
		c.swept = now
		out = c.restore(now, out)
		c.round()
		maps.DeleteFunc(c.retry, func(_ sfu.CallID, at time.Time) bool { return now.After(at) })
		for n, l := range c.lost {
			if !c.watch.known(n) && len(c.hosted[n]) == 0 && now.Sub(l.at) > lossKept {
				delete(c.lost, n)
				c.place.Unbar(now, n, false) // there is nobody to choose; who comes begins anew
			}
		}
	}
	c.ticked = now
	return out
}

// restore writes the calls that are carried and have no entry, or an older one.
func (c *Core) restore(now time.Time, out []Out) []Out {
	if c.settling(now) {
		return out
	}
	for _, id := range c.place.Unwritten() {
		node, epoch, _ := c.place.Carrier(id)
		if c.writing[id] || len(c.writing) >= writesAtOnce || !c.watch.Up(node) {
			continue
		}
		c.writing[id] = true
		old, _ := c.place.Call(id)
		out = append(out, Out{Write: &Write{Last: c.revisions[id], Entry: allocator.CallEntry{
			Call: id, Guild: old.Guild, Node: node, Spans: c.place.Sharers(id, node, epoch), Epoch: epoch, Created: now, Touched: now, Near: old.Near, First: old.First,
			Why: allocator.Explanation{Call: id, At: now, Chosen: node, Reason: "its node carries it, and its entry was lost"},
		}}})
	}
	return out
}

// tell tells moves again that nobody followed.
func (c *Core) tell(now time.Time, out []Out) []Out {
	for _, id := range slices.SortedFunc(maps.Keys(c.transits), func(a, b sfu.CallID) int { return cmp.Compare(a.ID, b.ID) }) {
		t := c.transits[id]
		e, live := c.place.Call(id)
		if !live || e.Move == nil || now.Sub(t.seen) > transitKept {
			delete(c.transits, id)
			continue
		}
		t.arrived = t.arrived || c.place.Shown(id, e.Node) > 0
		if !t.arrived && t.tries <= tellTries && now.Sub(t.told) >= tellAgain<<(t.tries-1) {
			t.told = now
			t.tries++
			moved := e.Moved()
			out = append(out, Out{Tell: &moved})
		}
	}
	return out
}

// endStrays ends the sessions on a node of calls that live elsewhere, once those
// of a planned move have arrived there or had the time to.
func (c *Core) endStrays(now time.Time, hb edgeagent.Heartbeat, out []Out) []Out {
	for _, on := range hb.Calls {
		e, live := c.place.Call(on.Call)
		if t := c.transits[on.Call]; live && t != nil && e.Node == hb.Node && e.Move != nil && t.whole.IsZero() && on.Sessions >= e.Move.Sessions {
			t.whole = now
		}
		if !live || slices.Contains(e.Nodes(), hb.Node) || on.Epoch >= e.Epoch || on.Sessions < 1 {
			continue
		}
		t := c.transits[on.Call]
		// Where a call is on several nodes, its home never shows all of them.
		waits := len(e.Spans) > 0 || t != nil && (t.whole.IsZero() || now.Sub(t.whole) < connectWait)
		if t != nil && e.Move != nil && e.Move.Planned && now.Sub(t.seen) < settleWait && waits {
			continue
		}
		out = append(out, Out{End: &placement.Stray{Node: hb.Node, Call: on.Call}})
	}
	return out
}

// Ended are the entries that may be deleted, with their revisions.
func (c *Core) Ended(now time.Time) []Write {
	var out []Write
	for _, id := range c.place.Ended(now) {
		out = append(out, Write{Entry: allocator.CallEntry{Call: id}, Last: c.revisions[id]})
	}
	return out
}
