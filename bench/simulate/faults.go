package simulate

import (
	"slices"

	"voicefleet/edgeagent"
)

// fault is a way in which nodes end.
type fault struct {
	why    string
	closed bool    // the kernel tells their peers
	gap    float64 // seconds without sound, where no mind of ours finds out
}

var (
	nodeKilled = fault{"node killed", true, gapKilled}
	nodeFrozen = fault{"node frozen", false, gapFrozen}
	zoneLost   = fault{"zone lost", false, gapFrozen}
	regionLost = fault{"region lost", false, gapFrozen}
)

// kill takes nodes away for so many ticks. Our own mind has to find out; rules that we
// are held against know at once, and their calls look for another place at most pace a
// second.
func (e *engine) kill(nodes []int32, f fault, ticks int64) {
	now := e.time()
	nodes = slices.DeleteFunc(nodes, func(n int32) bool { return !e.hosts[n].there })
	for _, n := range nodes {
		h := &e.hosts[n]
		h.returns = e.now + ticks
		if e.m != nil {
			e.m.die(n, f.closed, f.why)
			continue
		}
		h.there, h.died, h.why = false, now, f.why
		e.p.lose(now, n)
		e.unheard(f.why, f.gap*float64(h.users))
		for len(h.calls) > 0 {
			id := h.calls[len(h.calls)-1]
			e.leave(id)
			e.homeless = append(e.homeless, id)
		}
		h.talk = 0 // but for rounding it is
	}
}

// wave is who took in the calls of lost nodes in one second.
type wave struct {
	got map[int32]int
	all int
}

func (w *wave) add(node int32, users int) {
	if w.got == nil {
		w.got = map[int32]int{}
	}
	w.got[node] += users
	w.all += users
}

func (w *wave) close(t *tally) {
	for _, users := range w.got {
		if w.all > 1000 {
			t.Wave = max(t.Wave, float64(users)/float64(w.all))
		}
	}
	clear(w.got)
	w.all = 0
}

// rehome places calls again that lost their node, in turn.
func (e *engine) rehome() {
	if len(e.homeless) == 0 || e.bus {
		return
	}
	n := min(pace, len(e.homeless))
	wait := e.homeless[n:]
	var again []int32
	for _, id := range e.homeless[:n] {
		c := &e.calls[id]
		if !c.alive || c.node >= 0 {
			continue
		}
		if e.settleOn(id, int(max(c.joined, 1)), -1) != placed {
			again = append(again, id)
			continue
		}
		e.tally.Replaced++
		e.wave.add(c.node, int(c.joined))
	}
	e.homeless = append(append([]int32(nil), wait...), again...)
	for _, id := range e.homeless {
		e.unheard("waiting to be placed again", float64(e.calls[id].joined))
	}
}

// returnNodes brings back nodes whose time has come.
func (e *engine) returnNodes() {
	for i := range e.hosts {
		h := &e.hosts[i]
		if h.returns == 0 || h.returns > e.now || len(h.calls) > 0 {
			continue
		}
		h.returns, h.talk = 0, 0
		h.past = [history]edgeagent.Load{}
		h.there, h.state, h.started, h.drops = true, edgeagent.Ready, e.time(), 0
		if e.m == nil {
			// It says first that it is there, then that it is ready: it ramps.
			e.p.observe(e.time(), int32(i), edgeagent.Joining, edgeagent.Load{})
			e.p.observe(e.time(), int32(i), edgeagent.Ready, edgeagent.Load{})
		}
	}
}

// drainTime is how long a drain may take before it is given up.
const drainTime = 600

// drain moves the calls of a node elsewhere, each opened there before it is closed
// here, and takes it away for so many ticks. What does not fit elsewhere stays as
// long as it lives, which the caller sees in the count. Our own mind decides when
// each goes; other rules move all at once.
func (e *engine) drain(n int32, ticks int64) {
	h := &e.hosts[n]
	if !h.there || h.state != edgeagent.Ready {
		return
	}
	h.state = edgeagent.Draining
	if e.m != nil {
		h.until, h.away = e.time().Add(drainTime*tick), ticks
		e.m.tell(e.time(), n)
		return
	}
	e.p.observe(e.time(), n, edgeagent.Draining, e.load(n))
	for i := len(h.calls) - 1; i >= 0; i-- {
		id := h.calls[i]
		users := float64(e.calls[id].joined)
		if e.move(id, n) {
			e.tally.Drained++
			e.unheard("drained", gapDrained*users)
		}
	}
	if len(h.calls) > 0 { // not empty: it takes calls again
		h.state = edgeagent.Ready
		return
	}
	h.there, h.returns = false, e.now+ticks
	e.p.observe(e.time(), n, edgeagent.Gone, edgeagent.Load{})
	e.p.lose(e.time(), n)
}

// upgrade starts a node's engine again on the same sockets; its agent leaves the bus
// for a moment.
func (e *engine) upgrade(n int32) {
	h := &e.hosts[n]
	if !h.there {
		return
	}
	e.unheard("upgraded", gapUpgrade*float64(h.users))
	if e.m != nil && !e.bus {
		e.m.tell(e.time(), n)
		e.m.out = e.m.core.Closed(e.time(), e.w.nodes[n].id, e.time(), e.m.out)
	}
}

// sicken has the listeners of a node lose a share of their packets for so many ticks;
// flood has its sockets drop so many datagrams a second. Only our own mind looks.
func (e *engine) sicken(n int32, loss float64, ticks int64) {
	if h := &e.hosts[n]; h.there {
		h.loss, h.mends = loss, e.now+ticks
	}
}

func (e *engine) flood(n int32, drops uint64, ticks int64) {
	if h := &e.hosts[n]; h.there {
		h.surge, h.mends = drops, e.now+ticks
	}
}

// suffer counts what listeners miss on nodes that lose packets.
func (e *engine) suffer() {
	for i := range e.hosts {
		if h := &e.hosts[i]; h.there && h.loss > 0 {
			e.unheard("node loses packets", h.loss*float64(h.users))
		}
	}
}

// some draws nodes that are there.
func (e *engine) some(n int) []int32 {
	var out []int32
	for range 20 * n {
		if len(out) == n {
			break
		}
		i := int32(e.fate.IntN(len(e.hosts)))
		if e.hosts[i].there {
			out = append(out, i)
		}
	}
	return out
}

// of lists the nodes of a region, or of one zone of it.
func (e *engine) of(region, zone string) []int32 {
	var out []int32
	for i, n := range e.w.nodes {
		if e.w.regions[n.region].name == region && (zone == "" || n.zone == zone) {
			out = append(out, int32(i))
		}
	}
	return out
}
