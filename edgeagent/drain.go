package edgeagent

import "time"

// MaxNote bounds By and Reason of a [DrainRequest], in bytes.
const MaxNote = 256

// DrainRequest asks a node to take no new calls (verb drain), or to take them
// again (verb undrain). The calls it has stay, and whoever joins one of them is
// let in; an open for any other is refused as [CodeDraining]. It holds until the
// opposite is asked or the node has ended: one that starts anew takes calls.
type DrainRequest struct {
	By     string `json:"by"`               // who asks, for the node's log; required
	Reason string `json:"reason,omitempty"` // why, for the same
	// Empty asks to have the calls moved elsewhere, too, by Until if it is given;
	// allocators see it in the heartbeat. Without it they stay.
	Empty bool      `json:"empty,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// DrainReply answers both verbs: how the node stands now.
type DrainReply struct {
	Draining bool `json:"draining"`
	Emptying bool `json:"emptying,omitempty"` // its calls are to move elsewhere
	Changed  bool `json:"changed"`            // false: it stood so already
	Calls    int  `json:"calls"`              // that it has
	Sessions int  `json:"sessions"`
}
