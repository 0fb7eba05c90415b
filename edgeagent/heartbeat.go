package edgeagent

import (
	"net/netip"
	"time"

	"voicefleet/sfu"
)

// NodeID names a node: 1 to 64 characters of [a-z0-9-], a DNS label.
type NodeID string

// Valid says whether the id has the promised form.
func (id NodeID) Valid() bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// State is where a node is in its life.
type State string

// The states, in their order.
const (
	Joining  State = "joining"  // up, not yet measured: no calls
	Ready    State = "ready"    // takes calls
	Draining State = "draining" // keeps its calls, takes no new ones
	Gone     State = "gone"     // said good-bye
)

// HeartbeatInterval is how often a node speaks; Lease is how long its last word
// stands in the nodes bucket.
const (
	HeartbeatInterval = time.Second
	Lease             = 5 * time.Second
)

// MaxLabel bounds the label of a node, in bytes.
const MaxLabel = 64

// Heartbeat is the value of a node in the nodes bucket.
type Heartbeat struct {
	Node    NodeID `json:"node"`
	State   State  `json:"state"`
	Region  string `json:"region"`
	Zone    string `json:"zone,omitempty"` // failure domain within the region
	Version string `json:"version"`
	// Location is where it stands, if it was told.
	Location *Location `json:"location,omitempty"`
	// Label names a group of nodes, as those that try a new version out; of calls
	// whose guild does not try it they take the share Weight (0..1; 0: all).
	Label   string       `json:"label,omitempty"`
	Weight  float64      `json:"weight,omitempty"`
	Started time.Time    `json:"started"` // a restart shows as a new time
	At      time.Time    `json:"at"`      // the node's clock; never used for liveness
	Addrs   []netip.Addr `json:"addrs"`
	Ports   []uint16     `json:"ports"` // one per worker
	// ProbeKey makes the credentials with which the fleet asks the media ports
	// (sfu.FleetProbe, sfu.ClientProbe). It is missing until there is an engine.
	ProbeKey sfu.ProbeKey `json:"probe_key,omitempty"`

	Capacity Capacity `json:"capacity"`
	Load     Load     `json:"load"`
	// PeerRTT are the distances it measured, in milliseconds, of at most MaxPeers.
	PeerRTT map[NodeID]float64 `json:"peer_rtt,omitempty"`

	// Emptying, with State Draining: the calls are to move elsewhere, and the node
	// waits for it until Until. Otherwise they stay.
	Emptying bool      `json:"emptying,omitempty"`
	Until    time.Time `json:"until,omitzero"`

	// Link is where other nodes reach it to relay calls; LostLinks are the nodes it
	// is to share calls with and cannot reach, LossyLinks those of which more than three
	// in a hundred packets do not come.
	Link       *LinkAddr `json:"link,omitempty"`
	LostLinks  []NodeID  `json:"lost_links,omitempty"`
	LossyLinks []NodeID  `json:"lossy_links,omitempty"`
	// Relays are the calls it was told to share.
	Relays []RelayOnANode `json:"relays,omitempty"`

	// Epoch is the highest epoch the node knows of; Calls are those it carries.
	Epoch uint64        `json:"epoch"`
	Calls []CallOnANode `json:"calls,omitempty"`
}

// Belongs says whether the heartbeat is that of the node whose key it was found
// at: it makes a bus.Keyed.
func (h *Heartbeat) Belongs(key string) bool { return h.Node.Valid() && string(h.Node) == key }

// Capacity is what a node can carry: packets/s and bits/s sent, and sessions.
type Capacity struct {
	PPS      float64 `json:"pps"`
	BPS      float64 `json:"bps"`
	Sessions int     `json:"sessions"`
}

// Load is what a node carries now, in the units of Capacity, averaged over the
// last three seconds.
type Load struct {
	PPS         float64 `json:"pps"`
	BPS         float64 `json:"bps"`
	Sessions    int     `json:"sessions"`
	CPU         float64 `json:"cpu"`          // 0..1 of the whole machine
	SocketDrops uint64  `json:"socket_drops"` // since start
	// Loss is the share of packets (0..1) that more than half of the sessions lose,
	// or more, in the worse of their two directions over the last seconds: the
	// middle one of them, so that a few clients with bad reception do not speak
	// for the node, and one that lies does not either. It is 0 unless at least
	// LossVoters sessions were heard of; LossOf is how many were.
	Loss   float64 `json:"loss,omitempty"`
	LossOf int     `json:"loss_of,omitempty"`
}

// LossVoters is how many sessions it takes to judge a node: of four, three must
// lose packets for the middle one to.
const LossVoters = 4

// CallOnANode is a call as its node reports it.
type CallOnANode struct {
	Call     sfu.CallID `json:"call"`
	Epoch    uint64     `json:"epoch"`
	Sessions int        `json:"sessions"`
}

// RelayOnANode is a call that spans nodes, as one of them was told last.
type RelayOnANode struct {
	Call  sfu.CallID `json:"call"`
	Epoch uint64     `json:"epoch"`
	Peers []NodeID   `json:"peers"` // the others, by name
}

// What one node can have at most: 10 Mpps, 400 Gbit/s, 100,000 sessions. No machine
// comes near it, so whoever says more lies, or is broken.
const (
	MaxPPS      = 10e6
	MaxBPS      = 400e9
	MaxSessions = 100_000
)

// Clamp brings the figures of a heartbeat into the range there is: a node that
// lies must not draw all users to itself, nor send them all to others. It says
// whether any was beyond it.
func (hb *Heartbeat) Clamp() (lied bool) {
	float := func(v *float64, most float64) {
		if !(*v >= 0) { // NaN too
			*v, lied = 0, true
		}
		if *v > most {
			*v, lied = most, true
		}
	}
	whole := func(v *int) {
		if *v < 0 || *v > MaxSessions {
			*v, lied = min(max(*v, 0), MaxSessions), true
		}
	}
	float(&hb.Weight, 1)
	float(&hb.Capacity.PPS, MaxPPS)
	float(&hb.Capacity.BPS, MaxBPS)
	whole(&hb.Capacity.Sessions)
	float(&hb.Load.PPS, MaxPPS)
	float(&hb.Load.BPS, MaxBPS)
	whole(&hb.Load.Sessions)
	float(&hb.Load.CPU, 1)
	float(&hb.Load.Loss, 1)
	for i := range hb.Calls {
		whole(&hb.Calls[i].Sessions)
	}
	return lied
}
