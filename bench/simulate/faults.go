package simulate

import (
	"voicefleet/edgeagent"
)

// kill takes nodes away for so many ticks. Their calls look for another place,
// at most pace a second.
func (e *engine) kill(nodes []int32, gap float64, ticks int64, why string) {
	now := e.time()
	for _, n := range nodes {
		h := &e.hosts[n]
		if !h.there {
			continue
		}
		h.there, h.returns = false, e.now+ticks
		e.p.lose(now, n)
		e.unheard(why, gap*float64(h.users))
	}
	for _, n := range nodes {
		h := &e.hosts[n]
		for len(h.calls) > 0 {
			id := h.calls[len(h.calls)-1]
			e.leave(id)
			e.homeless = append(e.homeless, id)
		}
		h.talk = 0 // but for rounding it is
	}
}

// rehome places calls again that lost their node, in turn.
func (e *engine) rehome() {
	if len(e.homeless) == 0 || e.bus {
		return
	}
	n := min(pace, len(e.homeless))
	wait := e.homeless[n:]
	var again []int32
	got, all := map[int32]int{}, 0
	for _, id := range e.homeless[:n] {
		c := &e.calls[id]
		if !c.alive || c.node >= 0 {
			continue
		}
		if !e.settleOn(id, int(max(c.joined, 1)), -1) {
			again = append(again, id)
			continue
		}
		e.tally.Replaced++
		got[c.node] += int(c.joined)
		all += int(c.joined)
	}
	for _, users := range got {
		if all > 1000 {
			e.tally.Wave = max(e.tally.Wave, float64(users)/float64(all))
		}
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
		if h.returns == 0 || h.returns > e.now {
			continue
		}
		h.returns = 0
		h.past = [history]edgeagent.Load{}
		h.there, h.draining, h.state = true, false, edgeagent.Ready
		// It says first that it is there, then that it is ready: it ramps.
		e.p.observe(e.time(), int32(i), edgeagent.Joining, edgeagent.Load{})
		e.p.observe(e.time(), int32(i), edgeagent.Ready, edgeagent.Load{})
	}
}

// drain moves the calls of a node elsewhere, each opened there before it is closed
// here, and takes it away for so many ticks. What does not fit elsewhere stays as
// long as it lives, which the caller sees in the count.
func (e *engine) drain(n int32, ticks int64) {
	h := &e.hosts[n]
	if !h.there {
		return
	}
	h.state = edgeagent.Draining
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

// upgrade starts a node's engine again on the same sockets.
func (e *engine) upgrade(n int32) {
	if h := &e.hosts[n]; h.there {
		e.unheard("upgraded", gapUpgrade*float64(h.users))
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
