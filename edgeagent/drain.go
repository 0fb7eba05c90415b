package edgeagent

// MaxNote bounds By and Reason of a [DrainRequest], in bytes.
const MaxNote = 256

// DrainRequest asks a node to take no new calls (verb drain), or to take them
// again (verb undrain). The calls it has stay, and whoever joins one of them is
// let in; an open for any other is refused as [CodeDraining]. It holds until the
// opposite is asked or the node has ended: one that starts anew takes calls.
type DrainRequest struct {
	By     string `json:"by"`               // who asks, for the node's log; required
	Reason string `json:"reason,omitempty"` // why, for the same
}

// DrainReply answers both verbs: how the node stands now.
type DrainReply struct {
	Draining bool `json:"draining"`
	Changed  bool `json:"changed"` // false: it stood so already
	Calls    int  `json:"calls"`   // that it has
	Sessions int  `json:"sessions"`
}
