package allocator

import (
	"net/netip"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// RegionsRequest asks which regions there are, and what to measure them by.
type RegionsRequest struct{}

// RegionsReply answers it, by name.
type RegionsReply struct {
	Regions []Region `json:"regions"`
}

// MaxRegions bounds the regions of one answer.
const MaxRegions = 256

// Region is a region that has nodes. Those that clients are given to measure it by
// are credentials under ProbeKey (sfu.ClientProbe), never the key.
type Region struct {
	ID    string `json:"id"`
	Nodes int    `json:"nodes"` // ready ones
	// Headroom is how many more sessions they have room for.
	Headroom int `json:"headroom"`
	// Location is where it is, if it is known.
	Location *edgeagent.Location `json:"location,omitempty"`
	// Target is the emptiest of them, Addrs its media ports; missing where none is
	// ready.
	Target   edgeagent.NodeID `json:"target,omitempty"`
	Addrs    []netip.AddrPort `json:"addrs,omitempty"`
	ProbeKey sfu.ProbeKey     `json:"probe_key,omitempty"`
}
