package impair

import "time"

// Tally is the truth about the RTP packets of one direction, and about the other
// datagrams. At any time
//
//	Received = Passed + Lost + Clipped + Cut + Overflow + Failed + Pending
type Tally struct {
	Received uint64 `json:"received"`
	Passed   uint64 `json:"passed"` // sent on, copies apart
	Lost     uint64 `json:"lost"`
	Clipped  uint64 `json:"clipped"`
	Cut      uint64 `json:"cut"`
	// Overflow were too many to wait, Failed could not be sent. Both are faults of
	// the proxy, not of the rule.
	Overflow uint64 `json:"overflow"`
	Failed   uint64 `json:"failed"`
	Pending  uint64 `json:"pending"` // still waiting
	// Of those passed: Delayed by the rule or behind one that was, Reordered left
	// behind at least one later packet of their flow. Duplicated are copies, not in
	// Passed.
	Delayed    uint64 `json:"delayed"`
	Reordered  uint64 `json:"reordered"`
	Duplicated uint64 `json:"duplicated"`
	// Waited is the sum over the passed packets of the time from arrival to sending.
	Waited time.Duration `json:"waited_ns"`
	// Late are packets that left more than 0.2 ms after they were due, Worst is the
	// largest such delay: the proxy had no processor.
	Late  uint64        `json:"late"`
	Worst time.Duration `json:"worst_ns"`

	// Other datagrams: passed, cut, and such that could not be sent.
	Other       uint64 `json:"other"`
	OtherCut    uint64 `json:"other_cut"`
	OtherFailed uint64 `json:"other_failed"`
}

// Add sums up.
func (t *Tally) Add(o Tally) {
	t.Received += o.Received
	t.Passed += o.Passed
	t.Lost += o.Lost
	t.Clipped += o.Clipped
	t.Cut += o.Cut
	t.Overflow += o.Overflow
	t.Failed += o.Failed
	t.Pending += o.Pending
	t.Delayed += o.Delayed
	t.Reordered += o.Reordered
	t.Duplicated += o.Duplicated
	t.Waited += o.Waited
	t.Late += o.Late
	t.Worst = max(t.Worst, o.Worst)
	t.Other += o.Other
	t.OtherCut += o.OtherCut
	t.OtherFailed += o.OtherFailed
}

// Counts are what the proxy did since it was made.
type Counts struct {
	Up   Tally `json:"up"`
	Down Tally `json:"down"`
	// Clients there are now, all there were, and datagrams of sources that became
	// none, with why (the last reason).
	Clients int    `json:"clients"`
	Seen    uint64 `json:"seen"`
	Refused uint64 `json:"refused"`
	Why     string `json:"why,omitempty"`
	// Datagrams dropped by the kernel because our receive buffers were full, as far
	// as later ones told; and such longer than 2,048 bytes.
	SocketDrops uint64 `json:"socket_drops"`
	TooLong     uint64 `json:"too_long"`
	// Forgotten are flows that made room for a new one of their client.
	Forgotten uint64 `json:"forgotten"`
}

// Total is both directions.
func (c Counts) Total() Tally {
	t := c.Up
	t.Add(c.Down)
	return t
}
