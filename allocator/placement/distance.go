package placement

import (
	"cmp"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/internal/vivaldi"
	"voicefleet/edgeagent"
)

// How far a region is from a user is known, best first: by what the client
// measured to it (client); by what it measured to others, and the way from there
// (coordinates); by its place on the earth, if that is known (geoip); by the region
// it says it is in, and the way from there (coordinates), or that it is another one
// (region); else not at all (none).
const (
	fromClient      = "client"
	fromGeoIP       = "geoip"
	fromCoordinates = "coordinates"
	fromRegion      = "region"
	fromNone        = "none"
)

const (
	// accessRTT is what a place on the earth does not tell: the user's own line and
	// the node's, in milliseconds.
	accessRTT = 10.0
	// kmPerMs is how far light comes in fibre in a millisecond; cables are detour
	// times as long as the great circle.
	kmPerMs = 200.0
	detour  = 1.6
	// mapEvery is how often the distances between regions are worked out anew from
	// those between nodes.
	mapEvery = time.Second
)

// atlas is what the fleet knows of distances.
type atlas struct {
	draw   *rand.Rand // nil until it is needed; the same in all allocators
	mapped time.Time
	moved  bool // a coordinate, since then
	// ways are the distances between pools in milliseconds, row by row; 0: unknown.
	ways []float64
	size int // pools when it was made
}

// way is the distance between two pools, if it is known.
func (a *atlas) way(from, to int32) (float64, bool) {
	if int(from) >= a.size || int(to) >= a.size {
		return 0, false
	}
	ms := a.ways[int(from)*a.size+int(to)]
	return ms, ms > 0
}

// locate takes in what a node measured of others. Its coordinate moves, theirs do
// not.
func (f *Fleet) locate(i int32, measured map[edgeagent.NodeID]float64) {
	if len(measured) == 0 || len(measured) > edgeagent.MaxPeers {
		return
	}
	if f.atlas.draw == nil {
		f.atlas.draw = rand.New(rand.NewPCG(1, 2))
	}
	ids := make([]edgeagent.NodeID, 0, len(measured))
	for id := range measured {
		ids = append(ids, id)
	}
	slices.Sort(ids) // a map has no order, and the same reports must lead to the same places
	for _, id := range ids {
		if j, ok := f.index[id]; ok && j != i {
			f.nodes[i].place.Update(measured[id], &f.nodes[j].place, f.atlas.draw)
			f.atlas.moved = true
		}
	}
}

// chart works out the distances between regions, when they are due.
func (f *Fleet) chart(now time.Time) {
	a := &f.atlas
	if !a.moved || now.Sub(a.mapped) < mapEvery && now.After(a.mapped) {
		return
	}
	a.mapped, a.moved, a.size = now, false, len(f.pools)
	centres := make([]*vivaldi.Coordinate, a.size)
	for p := range f.pools {
		var known []*vivaldi.Coordinate
		for _, i := range f.pools[p].slots {
			if c := &f.nodes[i].place; c.Settled() {
				known = append(known, c)
			}
		}
		if len(known) > 0 {
			m := vivaldi.Mean(known)
			centres[p] = &m
		}
	}
	a.ways = slices.Grow(a.ways[:0], a.size*a.size)[:a.size*a.size]
	for p, c := range centres {
		for q, d := range centres {
			a.ways[p*a.size+q] = 0
			if c != nil && d != nil {
				a.ways[p*a.size+q] = c.Distance(d)
			}
		}
	}
}

// Distance is the round trip time between two nodes in milliseconds: as one of
// them measured it, or else as their coordinates tell.
func (f *Fleet) Distance(a, b edgeagent.NodeID) (ms float64, ok bool) {
	i, here := f.index[a]
	j, there := f.index[b]
	if !here || !there {
		return 0, false
	}
	x, y := &f.nodes[i], &f.nodes[j]
	for _, ms := range [...]float64{x.hb.PeerRTT[b], y.hb.PeerRTT[a]} {
		if believable(ms) {
			return ms, true
		}
	}
	if !x.place.Settled() || !y.place.Settled() {
		return 0, false
	}
	return x.place.Distance(&y.place), true
}

// Distance is that of the fleet.
func (c *Core) Distance(a, b edgeagent.NodeID) (ms float64, ok bool) { return c.fleet.Distance(a, b) }

// regionRTT is the distance of a region from the user and where it is known from,
// as far as the region alone tells.
func regionRTT(req *allocator.PlaceRequest, region string) (ms float64, from string) {
	if ms, ok := req.RTT[region]; ok && believable(ms) {
		return ms, fromClient
	}
	switch {
	case req.Region == "" || region == "":
		return unknownRTT, fromNone
	case req.Region == region:
		return sameRegionRTT, fromRegion
	}
	return otherRegionRTT, fromRegion
}

// refine betters the distances of the regions that the client did not measure, by
// what else is known.
func (f *Fleet) refine(req *allocator.PlaceRequest) {
	if f.atlas.size == 0 && req.Location == nil {
		return
	}
	measured := f.base[:0]
	for _, o := range f.order {
		if o.from == fromClient {
			measured = append(measured, o)
		}
	}
	f.base = measured
	home, hasHome := f.byRegion[req.Region]
	for k := range f.order {
		o := &f.order[k]
		if o.from == fromClient {
			continue
		}
		if ms, ok := f.beyond(measured, o.i); ok {
			o.rtt, o.from = ms, fromCoordinates
			continue
		}
		if ms, ok := f.overland(req.Location, o.i); ok {
			o.rtt, o.from = ms, fromGeoIP
			continue
		}
		if !hasHome || req.Region == "" || o.i == home {
			continue
		}
		if ms, ok := f.atlas.way(home, o.i); ok {
			o.rtt, o.from = sameRegionRTT+ms, fromCoordinates
		}
	}
}

// beyond is the distance of a pool by way of the measured ones: no farther than
// the shortest of these ways.
func (f *Fleet) beyond(measured []ranked, to int32) (best float64, ok bool) {
	for _, m := range measured {
		if ms, known := f.atlas.way(m.i, to); known && (!ok || m.rtt+ms < best) {
			best, ok = m.rtt+ms, true
		}
	}
	return best, ok
}

// overland is the distance of a pool from a place on the earth.
func (f *Fleet) overland(from *edgeagent.Location, to int32) (float64, bool) {
	if from == nil {
		return 0, false
	}
	for _, i := range f.pools[to].slots {
		if at := f.nodes[i].hb.Location; at != nil && at.Valid() {
			return accessRTT + 2*detour*from.Distance(*at)/kmPerMs, true
		}
	}
	return 0, false
}

// Peers are the nodes that a node is to measure for now: half of them, where there
// are so many, each in a region of its own, and others every PeersFor.
func (c *Core) Peers(now time.Time, id edgeagent.NodeID) []edgeagent.Heartbeat {
	f := &c.fleet
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // cannot fail
	draw := rand.New(rand.NewPCG(h.Sum64(), uint64(now.Unix()/int64(edgeagent.PeersFor/time.Second))))
	var all []edgeagent.NodeID
	for n, i := range f.index {
		if hb := &f.nodes[i].hb; n != id && hb.ProbeKey.Valid() && hb.State != edgeagent.Gone {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	draw.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var out []edgeagent.Heartbeat
	take := func(want int, may func(region string) bool) {
		rest := all[:0]
		for _, n := range all {
			hb := f.nodes[f.index[n]].hb
			if len(out) < want && may(hb.Region) {
				out = append(out, hb)
			} else {
				rest = append(rest, n)
			}
		}
		all = rest
	}
	seen := map[string]bool{}
	take(edgeagent.MaxPeers/2, func(region string) bool {
		first := !seen[region]
		seen[region] = true
		return first
	})
	take(edgeagent.MaxPeers, func(string) bool { return true })
	return out
}

// Regions are the regions that have nodes, by name.
func (c *Core) Regions(now time.Time) []allocator.Region {
	c.expire(now)
	var out []allocator.Region
	for _, p := range c.fleet.pools {
		if r, ok := c.region(p); ok {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b allocator.Region) int { return cmp.Compare(a.ID, b.ID) })
	return out[:min(len(out), allocator.MaxRegions)]
}

func (c *Core) region(p pool) (r allocator.Region, ok bool) {
	r.ID = p.region
	emptiest := math.Inf(1)
	for _, i := range p.slots {
		n := &c.fleet.nodes[i]
		if n.hb.Location != nil && r.Location == nil {
			r.Location = n.hb.Location
		}
		ok = ok || n.hb.State != edgeagent.Gone
		if n.hb.State != edgeagent.Ready {
			continue
		}
		load := sum(n.hb.Load, Seats(n.reserved))
		r.Nodes++
		r.Headroom += room(load, n.hb.Capacity)
		if full := Fullness(load, n.hb.Capacity); full < emptiest && n.hb.ProbeKey.Valid() {
			emptiest = full
			r.Target, r.Addrs, r.ProbeKey = n.hb.Node, n.hb.MediaAddrs(), n.hb.ProbeKey
		}
	}
	return r, ok
}
