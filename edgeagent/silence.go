package edgeagent

// Silence tells that clients get nothing from a node any more, neither media nor
// answers to their STUN checks, by their own reports on the voice WebSocket. An
// instance of signaling publishes it on bus.SilenceSubject, at most four times a
// second for each node.
type Silence struct {
	Node   NodeID `json:"node"`
	Silent int    `json:"silent"` // of the sessions that report to this instance
	Of     int    `json:"of"`     // how many do
}
