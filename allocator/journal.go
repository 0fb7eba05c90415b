package allocator

import (
	"fmt"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Deed is what a JournalEntry is about.
type Deed string

// The deeds.
const (
	DeedSuspect   Deed = "suspect"   // a node was silent: it is asked itself
	DeedHold      Deed = "hold"      // it answered, or the observer is sick: nothing moves but calls that are joined
	DeedLost      Deed = "lost"      // it did not answer: its calls are placed anew
	DeedBack      Deed = "back"      // a lost or suspect node speaks again
	DeedMove      Deed = "move"      // a call has another node
	DeedDrain     Deed = "drain"     // a node was told to empty itself; undrain too
	DeedCordon    Deed = "cordon"    // a node was told to take no new calls
	DeedUndrain   Deed = "undrain"   // a node takes calls again
	DeedDegraded  Deed = "degraded"  // a node's listeners lose packets
	DeedRecovered Deed = "recovered" // they do not any more
	DeedMend      Deed = "mend"      // a user whose session was of no use was seated anew
	DeedEnrol     Deed = "enrol"     // a node was added or revoked
	DeedUpgrade   Deed = "upgrade"   // a node's programs were replaced
	DeedLabel     Deed = "label"     // a guild's calls try a label, or none any more
	DeedRefused   Deed = "refused"   // a heartbeat, grant or message that lies
)

// JournalEntry is a line of the fleet's journal: who did what, when, why. Entries
// are kept on the bus (bus.JournalHistory), the newest JournalKept of them.
type JournalEntry struct {
	At   time.Time        `json:"at"`
	By   string           `json:"by"` // an operator, or the part that acted: "allocator", "agent"
	Deed Deed             `json:"deed"`
	Node edgeagent.NodeID `json:"node,omitempty"`
	Call sfu.CallID       `json:"call,omitzero"`
	To   edgeagent.NodeID `json:"to,omitempty"` // of a move
	Why  string           `json:"why,omitempty"`
}

// ID names what the entry tells of: entries of one id that come close together,
// from allocators who all saw the same, are one. A deed is the same within a
// second or so.
func (e JournalEntry) ID() string {
	switch e.Deed {
	case DeedLabel: // of several guilds at once
		return fmt.Sprintf("%s|%s|%s|%d", e.Deed, e.By, e.Why, e.At.Unix()/2)
	case DeedMend: // of several users at once
		return fmt.Sprintf("%s|%v|%s|%d", e.Deed, e.Call, e.Why, e.At.Unix()/2)
	}
	return fmt.Sprintf("%s|%s|%v|%s|%s|%d", e.Deed, e.Node, e.Call, e.To, e.By, e.At.Unix()/2)
}

// JournalKept is how many entries the journal holds.
const JournalKept = 10_000

// JournalRequest asks for a page of the journal, the newest entries first (verb
// journal): at most Limit (default and bound JournalPage) that are older than
// Before, an entry's Seq, and about Node and Call where these are given. With
// After set instead it is the oldest ones that are newer, oldest first.
type JournalRequest struct {
	Before uint64           `json:"before,omitempty"`
	After  uint64           `json:"after,omitempty"`
	Limit  int              `json:"limit,omitempty"`
	Node   edgeagent.NodeID `json:"node,omitempty"`
	Call   sfu.CallID       `json:"call,omitzero"`
}

// JournalPage bounds the entries of one answer.
const JournalPage = 500

// JournalReply answers it.
type JournalReply struct {
	Entries []NumberedEntry `json:"entries"`
	More    bool            `json:"more,omitempty"`
	// Last is the number of the newest entry there is: to ask for what comes after.
	Last uint64 `json:"last"`
}

// NumberedEntry is an entry with its place in the journal.
type NumberedEntry struct {
	Seq uint64 `json:"seq"`
	JournalEntry
}
