package allocator

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// DrainTime is how long a drain may take that names no deadline.
const DrainTime = 10 * time.Minute

// Order is what an operator tells the allocators of a node (verbs drain, cordon
// and undrain). All three are answered by Progress, and hold until the opposite is
// asked or the node has ended.
//
// drain: new calls go elsewhere at once, live ones are moved make-before-break.
// cordon: new calls go elsewhere, live ones stay. undrain: takes back either.
type Order struct {
	Node   edgeagent.NodeID `json:"node"`
	By     string           `json:"by"` // required
	Reason string           `json:"reason,omitempty"`
	// Deadline is when a drain must be over; zero: after DrainTime. The node of a
	// drain by its own end goes then, whoever is left.
	Deadline time.Time `json:"deadline,omitzero"`
	// DryRun changes nothing and tells where each call would go.
	DryRun bool `json:"dry_run,omitempty"`
}

// ProgressRequest asks how a drain goes (verb progress).
type ProgressRequest struct {
	Node edgeagent.NodeID `json:"node"`
}

// Progress is how a node stands.
type Progress struct {
	Node     edgeagent.NodeID `json:"node"`
	State    edgeagent.State  `json:"state"`
	Emptying bool             `json:"emptying,omitempty"`
	Until    time.Time        `json:"until,omitzero"`
	Calls    int              `json:"calls"`    // it has
	Sessions int              `json:"sessions"` // it has
	// Moving are calls that live elsewhere already and still have members here.
	Moving int `json:"moving,omitempty"`
	// Stuck says why calls stay, when they cannot be moved.
	Stuck string `json:"stuck,omitempty"`
	// Plan is the answer to a dry run, at most ListPage calls.
	Plan []PlannedMove `json:"plan,omitempty"`
}

// PlannedMove is where a call would go.
type PlannedMove struct {
	Call     sfu.CallID       `json:"call"`
	Sessions int              `json:"sessions"`
	To       edgeagent.NodeID `json:"to,omitempty"` // empty: nowhere
	Why      string           `json:"why"`
}

// MoveRequest asks to move one live call (verb move), make before break. Cause is
// CauseRegion for a channel whose region was changed: then Region is the new one.
type MoveRequest struct {
	Call   sfu.CallID `json:"call"`
	By     string     `json:"by"`
	Cause  Cause      `json:"cause"`
	Region string     `json:"region,omitempty"`
}

// MoveReply answers it: where the call is now. Changed is false if it is there
// already that is best.
type MoveReply struct {
	Node    edgeagent.NodeID `json:"node"`
	Epoch   uint64           `json:"epoch"`
	Changed bool             `json:"changed"`
	Why     string           `json:"why"`
}
