package edgeagent

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a node measures of others.
const (
	// MaxPeers bounds those a node measures at a time, and so its PeerRTT: with 16
	// others every distance of a fleet is known to a tenth.
	MaxPeers = 16
	// PeersFor is how long it measures the same ones.
	PeersFor = time.Minute
	// MaxMediaAddrs bounds MediaAddrs: as many as one probe asks.
	MaxMediaAddrs = 8
)

// PeersRequest asks an allocator which others a node is to measure.
type PeersRequest struct {
	Node NodeID `json:"node"`
}

// PeersReply answers it: at most MaxPeers, others every PeersFor.
type PeersReply struct {
	Peers []Peer `json:"peers"`
}

// Peer is a node with all that a probe of it needs.
type Peer struct {
	Node  NodeID           `json:"node"`
	Addrs []netip.AddrPort `json:"addrs"` // of its media ports
	Ufrag string           `json:"ufrag"`
	Pwd   string           `json:"pwd"`
}

// MediaAddrs are media ports of the node, at most MaxMediaAddrs: every address
// with its first port before any with its second.
func (hb *Heartbeat) MediaAddrs() []netip.AddrPort {
	var list []netip.AddrPort
	for _, port := range hb.Ports {
		for _, a := range hb.Addrs {
			if len(list) == MaxMediaAddrs {
				return list
			}
			list = append(list, netip.AddrPortFrom(a, port))
		}
	}
	return list
}

// Location is a place on the earth in degrees, north and east positive.
type Location struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

// Valid says whether there is such a place.
func (l Location) Valid() bool { return math.Abs(l.Lat) <= 90 && math.Abs(l.Lon) <= 180 }

// Distance is the way over the earth to another place in kilometres (haversine).
func (l Location) Distance(o Location) float64 {
	const halfTurn, radius = math.Pi / 180, 6371
	p, q := l.Lat*halfTurn, o.Lat*halfTurn
	x, y := math.Sin((q-p)/2), math.Sin((o.Lon-l.Lon)*halfTurn/2)
	h := x*x + math.Cos(p)*math.Cos(q)*y*y
	return 2 * radius * math.Asin(math.Sqrt(min(1, h)))
}

// ParseLocation reads "LAT,LON" in degrees, as 50.11,8.68.
func ParseLocation(s string) (Location, error) {
	lat, lon, _ := strings.Cut(s, ",")
	var l Location
	var err1, err2 error
	l.Lat, err1 = strconv.ParseFloat(strings.TrimSpace(lat), 64)
	l.Lon, err2 = strconv.ParseFloat(strings.TrimSpace(lon), 64)
	if err1 != nil || err2 != nil || !l.Valid() {
		return Location{}, fmt.Errorf("location %.40q: want LAT,LON in degrees, as 50.11,8.68", s)
	}
	return l, nil
}
