package edgeagent

// Silence tells that clients get nothing from a node any more, neither media nor
// answers to their STUN checks, by their own reports on the voice WebSocket. An
// instance of signaling publishes it on bus.SilenceSubject, at most four times a
// second for each node, and at once when half of them have come to hear nothing.
type Silence struct {
	Node   NodeID `json:"node"`
	Silent int    `json:"silent"` // of the sessions that report to this instance
	Of     int    `json:"of"`     // how many do
	// Doubt is how many more hear nothing, for less long: it proves nothing, but the
	// node may be asked, so that its answer is there when their silence does.
	Doubt int `json:"doubt,omitempty"`
}
