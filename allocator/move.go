package allocator

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Cause says why a call has another node now.
type Cause string

// The causes.
const (
	CauseNodeLost  Cause = "node_lost"  // killed, frozen or cut off
	CauseDrain     Cause = "drain"      // by an operator, or of a node that shuts down
	CauseDegraded  Cause = "degraded"   // the node's listeners lose packets
	CauseOverload  Cause = "overload"   // the node is too hot: its load is spread
	CauseRegion    Cause = "region"     // the channel's region was changed
	CauseLinkLost  Cause = "link_lost"  // the relay between the nodes of a call broke
	CauseLinkLossy Cause = "link_lossy" // it loses packets
	CauseRebalance Cause = "rebalance"  // a much closer or emptier node is there
	CauseMend      Cause = "mend"       // one user heard nothing, or its session broke: seated anew
)

// Moved tells that a call has another node now: its members are to ask for new
// seats. It is published on bus.MovedSubject by the allocator whose
// compare-and-swap won, and again while nobody comes to To: once or more per epoch.
type Moved struct {
	Call  sfu.CallID       `json:"call"`
	From  edgeagent.NodeID `json:"from"`
	To    edgeagent.NodeID `json:"to"`
	Epoch uint64           `json:"epoch"` // of the call on To
	Cause Cause            `json:"cause"`
	// Planned: From still serves. Clients open the new path, speak on both, and
	// let go of the old one when they hear everybody on the new, or when From
	// ends it.
	Planned bool      `json:"planned,omitempty"`
	At      time.Time `json:"at"`
}
