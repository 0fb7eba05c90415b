package edgeagent

import "time"

// UpgradeRequest asks a node to go on with the program that is on its disk now
// (verb upgrade): first its media engine is replaced, on the same sockets and
// keys, then its agent. Sessions notice a pause at most. What does not start is
// refused, and the node stays as it is.
type UpgradeRequest struct {
	By     string `json:"by"` // who asks, for the node's log; required
	Reason string `json:"reason,omitempty"`
}

// UpgradeReply answers when the engine has been replaced. The agent follows within
// a second: its heartbeat then tells the new version.
type UpgradeReply struct {
	From     string        `json:"from"` // versions
	To       string        `json:"to"`
	Sessions int           `json:"sessions"` // that go on
	Engine   time.Duration `json:"engine"`   // from the order until all of them did
}
