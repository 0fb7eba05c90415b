package edgeagent

import (
	"net/netip"

	"voicefleet/sfu"
)

// LinkAddr is where other nodes reach a node to relay calls: a UDP port at each of
// its addresses, for QUIC. A node without one cannot share calls.
type LinkAddr struct {
	Port uint16 `json:"port"`
	// Fingerprint is the SHA-256 of the certificate it shows there, in hex.
	Fingerprint string `json:"fingerprint"`
}

// RelayPeer is another node of a call.
type RelayPeer struct {
	Node  NodeID       `json:"node"`
	Addrs []netip.Addr `json:"addrs"`
	Link  LinkAddr     `json:"link"`
}

// RelayRequest tells a node which other nodes a call is on (verb relay); it
// replaces what was told before, unless that was of a later epoch. Without Peers
// the call is on this node alone.
type RelayRequest struct {
	Call  sfu.CallID  `json:"call"`
	Epoch uint64      `json:"epoch"`
	Peers []RelayPeer `json:"peers,omitempty"` // at most sfu.MaxRelayPeers
}

// RosterRequest asks a node who is in a call there (verb roster).
type RosterRequest struct {
	Call sfu.CallID `json:"call"`
}

// RosterReply answers it; a call that is not there has nobody in it.
type RosterReply struct {
	Epoch  uint64   `json:"epoch"`
	Roster []Member `json:"roster"`
}
