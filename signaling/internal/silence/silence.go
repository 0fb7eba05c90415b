// Package silence counts, by node, which sessions hear nothing from it: no media
// and no answer to a STUN check. It has no clock and no goroutine.
package silence

import (
	"cmp"
	"slices"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// Counted is how long a report counts. Clients report once a second, so that
	// one report may be lost.
	Counted = 2 * time.Second
	// From is the silence from which on a session is silent: three missed STUN
	// checks of 300 ms are no proof, the checks of 700 ms after them are.
	From = 1000 * time.Millisecond
	// Doubt is the silence from which on it may become so: the checks of the first
	// 300 ms were not answered.
	Doubt = 600 * time.Millisecond
	// Pause is the least time between two counts of one node. All who were on it fall
	// silent within one beat of their watches, 100 ms: the count that says that it is
	// half of them must not wait long for having come after the first.
	Pause = 50 * time.Millisecond
)

// Tally is what clients reported of late. The zero value is empty. Not safe for
// concurrent use.
type Tally struct {
	nodes map[edgeagent.NodeID]*node
}

type node struct {
	last map[sfu.SessionID]report
	told time.Time // when its count was given out last
	news bool      // a report of silence or doubt has come since
}

type report struct {
	at     time.Time
	silent time.Duration
}

// Report takes what a session says. The result is to be passed on at once, if it
// is not nil.
func (t *Tally) Report(now time.Time, at edgeagent.NodeID, s sfu.SessionID, silent time.Duration) *edgeagent.Silence {
	if t.nodes == nil {
		t.nodes = make(map[edgeagent.NodeID]*node)
	}
	n := t.nodes[at]
	if n == nil {
		n = &node{last: make(map[sfu.SessionID]report)}
		t.nodes[at] = n
	}
	n.last[s] = report{now, silent}
	if silent < Doubt {
		return nil
	}
	n.news = true
	if now.Sub(n.told) < Pause {
		return nil // Due has it
	}
	count := n.count(now, at)
	return &count
}

// Due are the counts that had to wait, by node. It is called every Pause, and
// forgets what does not count any more.
func (t *Tally) Due(now time.Time) []edgeagent.Silence {
	var due []edgeagent.Silence
	for id, n := range t.nodes {
		switch {
		case n.news && now.Sub(n.told) >= Pause:
			if c := n.count(now, id); c.Silent+c.Doubt > 0 {
				due = append(due, c)
			}
		default:
			n.expire(now)
		}
		if len(n.last) == 0 {
			delete(t.nodes, id)
		}
	}
	slices.SortFunc(due, func(a, b edgeagent.Silence) int { return cmp.Compare(a.Node, b.Node) })
	return due
}

func (n *node) expire(now time.Time) {
	for s, r := range n.last {
		if now.Sub(r.at) > Counted {
			delete(n.last, s)
		}
	}
}

func (n *node) count(now time.Time, id edgeagent.NodeID) edgeagent.Silence {
	n.expire(now)
	n.told, n.news = now, false
	c := edgeagent.Silence{Node: id, Of: len(n.last)}
	for _, r := range n.last {
		switch {
		case r.silent >= From:
			c.Silent++
		case r.silent >= Doubt:
			c.Doubt++
		}
	}
	return c
}
