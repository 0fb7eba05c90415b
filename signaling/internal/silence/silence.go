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
	// Pause is the least time between two counts of one node, unless half of its
	// sessions have newly come to hear nothing: that is told at once.
	Pause = 250 * time.Millisecond
	// Beat is how often Due is called.
	Beat = 50 * time.Millisecond
	// sweep is how often what does not count any more is looked for.
	sweep = 500 * time.Millisecond
)

// Tally is what clients reported of late. The zero value is empty. Not safe for
// concurrent use.
type Tally struct {
	nodes map[edgeagent.NodeID]*node
}

type node struct {
	last    map[sfu.SessionID]report
	of      [silent + 1]int // how many of them are so
	swept   time.Time       // when those that do not count any more were left out last
	told    time.Time       // when its count was given out last
	gravest state           // of half of them, as told then
	news    bool            // a report of silence or doubt has come since
}

type report struct {
	at    time.Time
	state state
}

// state of a session, or of half of a node's.
type state int

const (
	hears state = iota
	doubts
	silent
)

func stateOf(quiet time.Duration) state {
	switch {
	case quiet >= From:
		return silent
	case quiet >= Doubt:
		return doubts
	}
	return hears
}

// Report takes what a session says. The result is to be passed on at once, if it
// is not nil.
func (t *Tally) Report(now time.Time, at edgeagent.NodeID, s sfu.SessionID, quiet time.Duration) *edgeagent.Silence {
	if t.nodes == nil {
		t.nodes = make(map[edgeagent.NodeID]*node)
	}
	n := t.nodes[at]
	if n == nil {
		n = &node{last: make(map[sfu.SessionID]report), swept: now}
		t.nodes[at] = n
	}
	if before, known := n.last[s]; known {
		n.of[before.state]--
	}
	r := report{now, stateOf(quiet)}
	n.last[s] = r
	n.of[r.state]++
	if r.state == hears {
		return nil
	}
	n.news = true
	if !n.due(now) {
		return nil // Due has it
	}
	count := n.count(now, at)
	return &count
}

// Due are the counts that had to wait, by node. It is called every Beat, and forgets
// what does not count any more. Its cost is that of the nodes, and every half second
// that of the sessions of each.
func (t *Tally) Due(now time.Time) []edgeagent.Silence {
	var due []edgeagent.Silence
	for id, n := range t.nodes {
		if now.Sub(n.swept) >= sweep {
			n.expire(now)
		}
		if n.news && n.due(now) {
			if c := n.count(now, id); c.Silent+c.Doubt > 0 {
				due = append(due, c)
			}
		}
		if len(n.last) == 0 {
			delete(t.nodes, id)
		}
	}
	slices.SortFunc(due, func(a, b edgeagent.Silence) int { return cmp.Compare(a.Node, b.Node) })
	return due
}

// due says whether news may be told now.
func (n *node) due(now time.Time) bool {
	return now.Sub(n.told) >= Pause || n.half() > n.gravest
}

// half is how at least half of the sessions are.
func (n *node) half() state {
	switch all := len(n.last); {
	case 2*n.of[silent] >= all:
		return silent
	case 2*(n.of[silent]+n.of[doubts]) >= all:
		return doubts
	}
	return hears
}

func (n *node) expire(now time.Time) {
	n.swept = now
	for s, r := range n.last {
		if now.Sub(r.at) > Counted {
			n.of[r.state]--
			delete(n.last, s)
		}
	}
}

func (n *node) count(now time.Time, id edgeagent.NodeID) edgeagent.Silence {
	n.expire(now)
	n.told, n.news, n.gravest = now, false, n.half()
	return edgeagent.Silence{Node: id, Of: len(n.last), Silent: n.of[silent], Doubt: n.of[doubts]}
}
