package allocator

import (
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// ListPage bounds the entries of one answer to nodes and calls.
const ListPage = 1000

// ExplainRequest asks why a call is where it is.
type ExplainRequest struct {
	Call sfu.CallID `json:"call"`
}

// ExplainReply answers it.
type ExplainReply struct {
	// Entry is where the call lives, if it does; its Why is the decision that
	// put it there.
	Entry *CallEntry `json:"entry,omitempty"`
	// Decisions are the last ones the answering allocator made about it, newest
	// first, refusals too, with at most MaxWhy candidates.
	Decisions []Explanation `json:"decisions,omitempty"`
	// Now is what it would decide if the call began now: a live one with its members,
	// where they are; of another nothing is known.
	Now Explanation `json:"now"`
}

// PageRequest asks for a list in the order of its ids: at most ListPage entries
// with an id after After.
type PageRequest struct {
	After string `json:"after,omitempty"`
}

// NodePage is one page of the nodes.
type NodePage struct {
	Nodes []NodeView `json:"nodes"`
	More  bool       `json:"more,omitempty"`
}

// NodeView is a node as an allocator sees it.
type NodeView struct {
	edgeagent.Heartbeat // without Calls and ProbeKey
	// Suspect: it is silent, and held as long as its media engine answers. Degraded
	// is the cause for which its calls are moved away, of a node that lives and is bad
	// or too hot.
	Suspect   bool           `json:"suspect,omitempty"`
	Cordoned  bool           `json:"cordoned,omitempty"` // it takes no new calls and keeps its own
	Degraded  Cause          `json:"degraded,omitempty"`
	CallCount int            `json:"call_count"`
	Reserved  edgeagent.Load `json:"reserved"` // placed, not yet in a heartbeat
	Fullness  float64        `json:"fullness"` // the fullest of pps, bps, sessions, 0..1
}

// How full a node is that is called nearly full, and full: placement fills none beyond.
const (
	nearlyFull = 0.85
	full       = 0.97
)

// Standing is how the node stands, in a word or two for people: what is worst about
// it. The console says the same (testdata/standings.json holds both to it).
func (n *NodeView) Standing() string {
	switch {
	case n.Suspect:
		return "silent"
	case n.Degraded == CauseDegraded:
		return "losing packets"
	case n.Degraded != "":
		return "too hot"
	case n.Cordoned: // its state is Draining, as it takes no new calls
		return "cordoned"
	case n.State == edgeagent.Ready && n.Fullness >= full:
		return "full"
	case n.State == edgeagent.Ready && n.Fullness >= nearlyFull:
		return "nearly full"
	case n.State == edgeagent.Draining && n.CallCount == 0:
		return "drained"
	}
	return string(n.State)
}

// CallPage is one page of the calls.
type CallPage struct {
	Calls []CallEntry `json:"calls"` // without Why
	More  bool        `json:"more,omitempty"`
}
