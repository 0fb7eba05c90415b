package peers

import (
	"maps"
	"slices"
	"time"

	"voicefleet/edgeagent"
)

const (
	// samples is how many measurements of a peer count; the least is its distance,
	// since all else is waiting.
	samples = 4
	// kept is how long a distance stands that is not measured again: longer than
	// peers take turns, so that a node shows a few more than it measures.
	kept = 5 * time.Minute
)

// Table holds the peers of a node and their distances. Not safe for concurrent
// use. The zero value is ready to use.
type Table struct {
	peers []edgeagent.Peer
	next  int
	rtt   map[edgeagent.NodeID]*series
}

// series are the last measurements of one peer, in milliseconds.
type series struct {
	ms   [samples]float64
	n    int
	last time.Time
}

func (s *series) least() float64 { return slices.Min(s.ms[:min(s.n, samples)]) }

// Set replaces the peers to measure, at most edgeagent.MaxPeers of them.
func (t *Table) Set(list []edgeagent.Peer) {
	t.peers = slices.Clone(list[:min(len(list), edgeagent.MaxPeers)])
	t.next = 0
}

// Next are the next n peers to ask, each once.
func (t *Table) Next(n int) []edgeagent.Peer {
	n = min(n, len(t.peers))
	out := make([]edgeagent.Peer, 0, n)
	for range n {
		out = append(out, t.peers[t.next])
		t.next = (t.next + 1) % len(t.peers)
	}
	return out
}

// Measured notes the distance of a peer.
func (t *Table) Measured(now time.Time, peer edgeagent.NodeID, rtt time.Duration) {
	if t.rtt == nil {
		t.rtt = map[edgeagent.NodeID]*series{}
	}
	s := t.rtt[peer]
	if s == nil {
		s = &series{}
		t.rtt[peer] = s
	}
	s.ms[s.n%samples] = float64(rtt) / float64(time.Millisecond)
	s.n++
	s.last = now
	for len(t.rtt) > edgeagent.MaxPeers {
		delete(t.rtt, t.oldest())
	}
}

// oldest is the peer whose distance was not measured for longest.
func (t *Table) oldest() (id edgeagent.NodeID) {
	for n, s := range t.rtt {
		if o := t.rtt[id]; o == nil || s.last.Before(o.last) || s.last.Equal(o.last) && n < id {
			id = n
		}
	}
	return id
}

// RTT is the distance of each peer in milliseconds, to a tenth.
func (t *Table) RTT(now time.Time) map[edgeagent.NodeID]float64 {
	maps.DeleteFunc(t.rtt, func(_ edgeagent.NodeID, s *series) bool { return now.Sub(s.last) > kept })
	if len(t.rtt) == 0 {
		return nil
	}
	out := make(map[edgeagent.NodeID]float64, len(t.rtt))
	for n, s := range t.rtt {
		out[n] = max(0.1, float64(int(s.least()*10+0.5))/10)
	}
	return out
}
