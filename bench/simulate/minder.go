package simulate

import (
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// minder stands between the engine and the allocator's mind, as the allocator's server
// does: it brings heartbeats, closed connections and answers, lets time pass, and does
// what the core says.
//
// All that lives is told of by heartbeats. Of calls the core is told those of nodes in
// trouble, before the trouble begins: it decides when each leaves and where to. The
// others it would look at in every heartbeat and leave where they are.
type minder struct {
	e    *engine
	core *keeper.Core

	known  map[sfu.CallID]int32 // calls the core was told of
	told   map[int32]bool       // nodes whose calls those are
	moved  []sfu.CallID         // they live elsewhere, and the old node's next heartbeat does not show them
	asked  []answer             // in the order of their times
	writes []keeper.Write
	out    []keeper.Out
}

// answer is what will come of a question.
type answer struct {
	at   time.Time
	node edgeagent.NodeID
	ok   bool
}

// How finely time goes when something is undecided, calls wait for a node, or calls
// leave one by and by.
const (
	stepVerdict = 50 * time.Millisecond // the pace of the allocator's server
	stepPlanned = 250 * time.Millisecond
	// answerTime is how long a node that lives takes to answer.
	answerTime = 20 * time.Millisecond
)

func newMinder(e *engine, o *ours) *minder {
	m := &minder{e: e, core: o.core, known: map[sfu.CallID]int32{}, told: map[int32]bool{}}
	m.core.Synced(e.time(), e.time().Add(-time.Hour), time.Hour) // an old bucket: all calls are in it
	return m
}

// beat brings the heartbeat of a node.
func (m *minder) beat(now time.Time, i int32, load edgeagent.Load) {
	h := &m.e.hosts[i]
	hb := m.e.p.(*ours).heartbeat(now, i, h.state, load)
	if h.mends != 0 && m.e.now >= h.mends {
		h.loss, h.surge, h.mends = 0, 0, 0
	}
	h.drops += h.surge
	hb.Started, hb.Load.Loss, hb.Load.LossOf, hb.Load.SocketDrops = h.started, h.loss, h.users, h.drops
	if h.state == edgeagent.Draining {
		hb.Emptying, hb.Until = true, h.until
	}
	if m.told[i] {
		for _, id := range h.calls {
			c := &m.e.calls[id]
			hb.Calls = append(hb.Calls, edgeagent.CallOnANode{Call: c.id(), Epoch: 1, Sessions: int(c.joined)})
		}
	}
	m.out = m.core.SeeNode(now, hb, now, m.out)
}

// id is what the core knows a call by.
func (c *call) id() sfu.CallID { return sfu.CallID{ID: snowflake.ID(c.seed>>1) + 1} }

// tell tells the core of a node's calls, and has the node show them.
func (m *minder) tell(now time.Time, i int32) {
	if m.told[i] {
		return
	}
	m.told[i] = true
	h := &m.e.hosts[i]
	for _, id := range h.calls {
		m.enter(now, id)
	}
	if h.there {
		m.beat(now, i, m.e.load(i))
	}
}

func (m *minder) enter(now time.Time, id int32) {
	entry := m.entry(&m.e.calls[id])
	entry.Epoch, entry.Created, entry.Touched = 1, m.e.from.Add(-time.Hour), now
	m.known[entry.Call] = id
	m.out = m.core.SeeCall(now, entry, 1, m.out)
}

// entry is what the calls bucket holds of a call.
func (m *minder) entry(c *call) allocator.CallEntry {
	e := m.e
	entry := allocator.CallEntry{Call: c.id(), Node: e.w.nodes[c.node].id, Created: e.from.Add(time.Duration(c.born) * tick)}
	metro, step := e.member(c, 0)
	entry.Near = allocator.Near{RTT: e.w.asked[metro][step], Of: users[:min(int(c.joined), allocator.MaxOf)]}
	entry.First = entry.Near
	if c.spread {
		entry.Near.RTT, entry.First.RTT = e.mean(c, c.joined), e.mean(c, min(c.joined, allocator.MaxFirst))
	}
	if c.moves > 0 {
		entry.Move = &allocator.CallMove{From: e.w.nodes[c.from].id, Cause: c.cause, At: e.from.Add(time.Duration(c.moved) * tick), Before: int(c.moves) - 1}
	}
	return entry
}

// users are as many as an entry may name; who they are does not matter.
var users = func() (out [allocator.MaxOf]sfu.UserID) {
	for i := range out {
		out[i].ID = snowflake.ID(i + 1)
	}
	return out
}()

// mean is how far the first so many members of a call are from the regions: what the
// allocator makes of what each of them measured.
func (e *engine) mean(c *call, members int32) map[string]float64 {
	out := make(map[string]float64, len(e.w.regions))
	for i := range members {
		m, step := e.member(c, i)
		for r, city := range e.w.regions {
			out[city.name] += (e.w.rtt[m][r] + access(step)) / float64(members)
		}
	}
	return out
}

// approach brings calls nearer, as the core does with all that it is told of: it is asked
// about each, as often and at the same pace.
func (m *minder) approach() {
	e := m.e
	turns := int(keeper.NearerEvery / tick)
	left := map[int32]int{}
	for id := int(e.now) % turns; id < len(e.calls); id += turns {
		c := &e.calls[id]
		if !c.alive || c.node < 0 || m.told[c.node] || e.now-c.born < int64(keeper.NearerRest/tick) || left[c.node] >= keeper.NearerPace || !e.far(c) {
			continue
		}
		size := int(max(c.joined, c.shown+c.held))
		_, choice, ok := m.core.Nearer(e.time(), m.entry(c), size)
		if !ok {
			continue
		}
		to := e.p.(*ours).index[choice.Node]
		if !e.hosts[to].there {
			continue
		}
		left[c.node] += int(c.joined)
		e.leave(int32(id))
		e.attach(int32(id), to)
		c.cause = allocator.CauseRebalance
		e.hold(int32(id), size)
		e.tally.Nearer++
		e.unheard("moved nearer", gapDrained*float64(c.joined))
	}
}

// far says whether any region is much nearer to a call than its own, be it full: where
// none is the core says no, at the price of asking.
func (e *engine) far(c *call) bool {
	home := e.w.nodes[c.node].region
	if !c.spread {
		return e.w.rtt[c.metro][home]-e.w.rtt[c.metro][e.w.nearest[c.metro][0]] >= placement.NearerSaves
	}
	total := e.total(c)
	return total[home]-slices.Min(total) >= placement.NearerSaves*float64(c.joined)
}

// forget takes a call from the core.
func (m *minder) forget(id sfu.CallID) {
	delete(m.known, id)
	m.core.CallGone(id, 0)
}

// forgetIfKnown is forget for a call that ended.
func (m *minder) forgetIfKnown(id int32) {
	if key := m.e.calls[id].id(); len(m.known) > 0 {
		if _, known := m.known[key]; known {
			m.forget(key)
		}
	}
}

// second lets one second pass: beats, questions, verdicts and moves.
func (m *minder) second() {
	e := m.e
	from := e.time().Add(-tick)
	m.core.Bus(from, e.bus)
	m.handOver(from)
	next, beats := from, 0
	for end := from.Add(tick); next.Before(end); {
		for ; beats < len(e.hosts) && !e.bus; beats++ {
			// Nodes do not beat at one moment.
			at := from.Add(tick * time.Duration(beats) / time.Duration(len(e.hosts)))
			if at.After(next) {
				break
			}
			if e.hosts[beats].there {
				m.beat(at, int32(beats), e.told(int32(beats)))
			}
		}
		m.perform(next)
		for len(m.asked) > 0 && !m.asked[0].at.After(next) {
			a := m.asked[0]
			m.asked = m.asked[1:]
			m.out = m.core.Answered(next, a.node, keeper.Answer{Came: a.ok}, m.out)
		}
		m.out = m.core.Tick(next, m.out)
		m.perform(next)
		next = next.Add(m.pace(next, end))
	}
	for ; beats < len(e.hosts) && !e.bus; beats++ {
		if e.hosts[beats].there {
			m.beat(from.Add(tick*time.Duration(beats)/time.Duration(len(e.hosts))), int32(beats), e.told(int32(beats)))
		}
	}
	m.perform(from.Add(tick))
	m.empty()
	if !e.bus {
		m.approach()
	}
}

// pace is how long nothing happens.
func (m *minder) pace(now, end time.Time) time.Duration {
	suspects, _, _ := m.core.Watch().Count()
	step := end.Sub(now)
	for i := range m.told {
		h := &m.e.hosts[i]
		switch {
		case len(h.calls) == 0:
		case !h.there:
			step = min(step, stepVerdict)
		default:
			step = min(step, stepPlanned)
		}
	}
	if suspects > 0 || len(m.asked) > 0 {
		step = min(step, stepVerdict)
	}
	return step
}

// perform does what the core says, and what follows from that at once.
func (m *minder) perform(now time.Time) {
	for len(m.out) > 0 || len(m.writes) > 0 {
		out := m.out
		m.out = nil
		for _, o := range out {
			switch {
			case o.Ask != nil:
				m.ask(now, o.Ask.Node)
			case o.Write != nil:
				m.writes = append(m.writes, *o.Write)
			case o.Note != nil:
				m.note(now, o.Note)
			}
		}
		writes := m.writes
		m.writes = nil
		for _, w := range writes {
			m.write(now, w)
		}
	}
}

func (m *minder) ask(now time.Time, node edgeagent.NodeID) {
	ok := m.e.hosts[m.e.p.(*ours).index[node]].there
	after := keeper.AskTime
	if ok {
		after = answerTime
	}
	m.asked = append(m.asked, answer{now.Add(after), node, ok})
	slices.SortStableFunc(m.asked, func(a, b answer) int { return a.at.Compare(b.at) })
}

// note counts verdicts, and tells of the calls of a node that is to give some away.
func (m *minder) note(now time.Time, n *allocator.JournalEntry) {
	i := m.e.p.(*ours).index[n.Node]
	switch n.Deed {
	case allocator.DeedDegraded:
		m.e.tally.Ill++
		m.tell(now, i)
	case allocator.DeedLost:
		m.e.tally.Lost++
		if m.e.hosts[i].there {
			m.e.tally.False++
			m.tell(now, i)
		}
	case allocator.DeedHold:
		m.e.tally.Held++
	}
}

// write is a compare-and-swap. The call goes with it, unless it has ended or left.
func (m *minder) write(now time.Time, w keeper.Write) {
	e := m.e
	id, known := m.known[w.Entry.Call]
	to, there := e.p.(*ours).index[w.Entry.Node]
	if !known || !there || w.Entry.Move == nil {
		m.core.Failed(now, w)
		return
	}
	c := &e.calls[id]
	from := c.node
	if !e.hosts[to].there || e.w.nodes[from].id != w.Entry.Move.From { // its client finds nobody there, and asks again
		m.core.Failed(now, w)
		return
	}
	h := &e.hosts[from]
	users := float64(c.joined)
	e.leave(id)
	e.attach(id, to)
	c.cause = w.Entry.Move.Cause
	m.out = m.core.Won(now, w, 2, m.out)
	m.moved = append(m.moved, w.Entry.Call)
	switch {
	case !w.Entry.Move.Planned:
		e.tally.Replaced++
		e.unheard(h.why, (now.Sub(h.died).Seconds()+gapFollow)*users)
		e.wave.add(to, int(c.joined))
	case w.Entry.Move.Cause == allocator.CauseDrain:
		e.tally.Drained++
		e.unheard("drained", gapDrained*users)
	default:
		e.tally.Relieved++
		e.unheard("moved off a bad or hot node", gapDrained*users)
	}
}

// handOver takes from the core what it moved in the last second: from now on the
// engine reserves for it, as for all others.
func (m *minder) handOver(now time.Time) {
	e := m.e
	moved := m.moved
	m.moved = nil
	for _, key := range moved {
		id, known := m.known[key]
		if !known {
			continue // it has ended, or was moved on
		}
		m.forget(key)
		c := &e.calls[id]
		e.hold(id, int(c.joined))
		if m.told[c.node] { // it came to a node that is in trouble by now
			m.enter(now, id)
		}
	}
	for _, i := range sortedNodes(m.told) {
		h := &e.hosts[i]
		if suspect, bad := m.core.Doubts(e.w.nodes[i].id); len(h.calls) == 0 || h.there && h.state == edgeagent.Ready && !suspect && bad == "" && h.loss == 0 {
			for _, id := range h.calls {
				m.forget(e.calls[id].id())
			}
			delete(m.told, i)
		}
	}
}

func sortedNodes(set map[int32]bool) []int32 {
	var out []int32
	for i := range set {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// waits says whether who joins a call on a node waits for a verdict on it.
func (m *minder) waits(node int32) bool {
	suspect, _ := m.core.Doubts(m.e.w.nodes[node].id)
	return suspect || !m.e.hosts[node].there
}

// die is the end of a node; closed: the kernel tells its peers.
func (m *minder) die(i int32, closed bool, why string) {
	now := m.e.time()
	m.tell(now, i)
	h := &m.e.hosts[i]
	h.there, h.died, h.why, h.loss = false, now, why, 0
	if closed && !m.e.bus {
		m.out = m.core.Closed(now, m.e.w.nodes[i].id, now, m.out)
	}
}

// empty ends drained nodes that are empty, and drains that take too long.
func (m *minder) empty() {
	now := m.e.time()
	for i := range m.e.hosts {
		h := &m.e.hosts[i]
		switch {
		case !h.there || h.state != edgeagent.Draining:
		case len(h.calls) == 0:
			h.there, h.returns = false, m.e.now+h.away
			gone := m.e.p.(*ours).heartbeat(now, int32(i), edgeagent.Gone, edgeagent.Load{})
			m.out = m.core.SeeNode(now, gone, now, m.out)
			m.out = m.core.NodeGone(now, m.e.w.nodes[i].id, true, m.out)
		case now.After(h.until): // nobody takes the rest: it takes calls again
			h.state = edgeagent.Ready
			m.e.tally.Undrained++
		}
	}
}
