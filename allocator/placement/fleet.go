package placement

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/internal/vivaldi"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Fleet is the nodes as a decision sees them: their last heartbeats, what is
// reserved on them, how long they have been ready, and which failure domains
// have lost some. [Fleet.Choose] is the one function that decides: the allocator
// calls it for every new call, [Fleet.Explain] calls it to tell why, and the
// simulator calls it in virtual time.
//
// Not safe for concurrent use. The zero value is ready to use.
type Fleet struct {
	nodes    []standing // slots; a free one has no id
	gists    []gist     // by slot
	free     []int32
	index    map[edgeagent.NodeID]int32
	pools    []pool // one per region; one that is empty is the next new region's
	byRegion map[string]int32
	zones    map[zoneID]*zone
	atlas    atlas
	// reserved are sessions, also on nodes that are away: they may come back.
	reserved map[edgeagent.NodeID]int
	// bars say why nodes may not be chosen just now, also those that are away.
	bars map[edgeagent.NodeID]string
	// labels are what the calls of guilds try, by guild.
	labels map[string]allocator.GuildLabel

	// Of the last Choose: how full a node may become, and scratch, kept so that it
	// allocates nothing.
	limit    float64
	order    []ranked
	measured []ranked
	base     []ranked
	near     []weight
}

// standing is how a node stands.
type standing struct {
	hb       edgeagent.Heartbeat // without Calls
	pool     int32
	zone     *zone
	hash     uint64
	reserved int // sessions
	place    vivaldi.Coordinate
	bar      string
	// ready is when it began to take calls; zero: longer ago than the ramp.
	ready time.Time
}

// gist is what a choice looks at first of each node that is near, in little memory:
// there are a thousand of them, and a standing is of half a kilobyte.
type gist struct {
	load     edgeagent.Load
	limit    edgeagent.Capacity
	reserved int     // sessions
	penalty  float64 // for the load and what is reserved
	zone     *zone
	whyNot   string // it may not be chosen
	partly   bool   // it takes a share of its calls only
}

// gather makes the gist of a node that has changed.
func (f *Fleet) gather(i int32) {
	n := &f.nodes[i]
	g := &f.gists[i]
	*g = gist{load: n.hb.Load, limit: n.hb.Capacity, reserved: n.reserved, zone: n.zone, whyNot: n.bar, partly: n.hb.Label != "" || !n.ready.IsZero()}
	g.penalty = penalty(Fullness(sum(g.load, Seats(g.reserved)), g.limit))
	if n.hb.State != edgeagent.Ready {
		g.whyNot = string(n.hb.State)
	}
}

type pool struct {
	region string
	slots  []int32
}

type zoneID struct{ region, zone string }

// zone is a failure domain.
type zone struct {
	nodes int       // there now
	lost  int       // of late
	last  time.Time // when
}

// ranked is a pool or a node with its distance in milliseconds.
type ranked struct {
	i    int32
	rtt  float64
	from string
}

// weight is one node as seen by one request for more sessions.
type weight struct {
	slot     int32
	rtt      float64 // milliseconds, as the other times
	fullness float64
	penalty  float64 // for load
	domain   float64 // for losses of its failure domain
	share    float64 // of the calls that the node takes
	aside    float64 // for a call that is not of the node's share, or tries another label
	whyNot   string
}

func (w weight) cost() float64 { return w.rtt + w.penalty + w.domain + w.aside }

// Choice is what Choose decided; Node is empty when no node may be chosen, and
// Reason tells why either way. Cost and RTT are in milliseconds.
type Choice struct {
	Node   edgeagent.NodeID
	Reason string
	RTT    float64
	Cost   float64
}

// Observe takes in a node's heartbeat; its calls are not looked at.
func (f *Fleet) Observe(now time.Time, hb edgeagent.Heartbeat) {
	if f.index == nil {
		f.index, f.byRegion = map[edgeagent.NodeID]int32{}, map[string]int32{}
		f.zones, f.reserved = map[zoneID]*zone{}, map[edgeagent.NodeID]int{}
	}
	hb.Calls = nil
	i, known := f.index[hb.Node]
	if !known {
		i = f.take(hb)
		if age := hb.At.Sub(hb.Started); !hb.Started.IsZero() && age >= 0 && age < rampTime {
			f.nodes[i].ready = now.Add(-age)
		}
	} else {
		n := &f.nodes[i]
		switch {
		case n.hb.Region != hb.Region || n.hb.Zone != hb.Zone:
			f.leave(i)
			f.enter(i, hb)
		case n.hb.State != edgeagent.Ready && hb.State == edgeagent.Ready, !n.hb.Started.Equal(hb.Started):
			n.ready = now // recovered, or started anew
		}
	}
	n := &f.nodes[i]
	n.hb = hb
	if now.Sub(n.ready) >= rampTime {
		n.ready = time.Time{}
	}
	f.gather(i)
	f.locate(i, hb.PeerRTT)
}

// take finds a slot for a new node.
func (f *Fleet) take(hb edgeagent.Heartbeat) int32 {
	var i int32
	if n := len(f.free); n > 0 {
		i, f.free = f.free[n-1], f.free[:n-1]
	} else {
		i = int32(len(f.nodes))
		f.nodes, f.gists = append(f.nodes, standing{}), append(f.gists, gist{})
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(hb.Node)) // cannot fail
	f.nodes[i] = standing{hash: h.Sum64(), reserved: f.reserved[hb.Node], bar: f.bars[hb.Node]}
	f.index[hb.Node] = i
	f.enter(i, hb)
	return i
}

// enter puts a slot into its region and failure domain.
func (f *Fleet) enter(i int32, hb edgeagent.Heartbeat) {
	p, ok := f.byRegion[hb.Region]
	if !ok {
		p = f.newPool(hb.Region)
	}
	f.pools[p].slots = append(f.pools[p].slots, i)
	id := zoneID{hb.Region, hb.Zone}
	if f.zones[id] == nil {
		if len(f.zones) > 2*len(f.nodes) { // most are of nodes that are no more
			maps.DeleteFunc(f.zones, func(_ zoneID, z *zone) bool { return z.nodes == 0 })
		}
		f.zones[id] = &zone{}
	}
	f.zones[id].nodes++
	f.nodes[i].pool, f.nodes[i].zone = p, f.zones[id]
}

// newPool is the pool of a region that has none. However often nodes change theirs, there
// are no more than there are nodes.
func (f *Fleet) newPool(region string) int32 {
	p := slices.IndexFunc(f.pools, func(p pool) bool { return len(p.slots) == 0 })
	if p < 0 {
		p = len(f.pools)
		f.pools = append(f.pools, pool{})
	} else {
		delete(f.byRegion, f.pools[p].region)
		f.atlas.moved, f.atlas.mapped = true, time.Time{} // which knows the distances of the old one
	}
	f.pools[p] = pool{region: region}
	f.byRegion[region] = int32(p)
	return int32(p)
}

func (f *Fleet) leave(i int32) {
	p := &f.pools[f.nodes[i].pool]
	p.slots = slices.DeleteFunc(p.slots, func(s int32) bool { return s == i })
	f.nodes[i].zone.nodes--
}

// Lose forgets a node whose lease has ended.
func (f *Fleet) Lose(now time.Time, id edgeagent.NodeID) {
	i, ok := f.index[id]
	if !ok {
		return
	}
	if f.nodes[i].hb.State != edgeagent.Gone { // who said good-bye tells nothing about its neighbours
		z := f.nodes[i].zone
		if now.Sub(z.last) > shakenFor {
			z.lost = 0
		}
		z.lost, z.last = z.lost+1, now
	}
	f.leave(i)
	f.nodes[i] = standing{}
	delete(f.index, id)
	f.free = append(f.free, i)
}

// Reserve adds so many sessions to what is reserved on a node, or takes them off.
func (f *Fleet) Reserve(id edgeagent.NodeID, sessions int) {
	if sessions == 0 {
		return
	}
	if f.reserved == nil {
		f.reserved = map[edgeagent.NodeID]int{}
	}
	n := f.reserved[id] + sessions
	if n == 0 {
		delete(f.reserved, id)
	} else {
		f.reserved[id] = n
	}
	if i, ok := f.index[id]; ok {
		f.nodes[i].reserved = n
		f.gather(i)
	}
}

// Bar keeps a node from being chosen, for a reason that explanations give, until
// Unbar.
func (f *Fleet) Bar(id edgeagent.NodeID, why string) {
	if f.bars == nil {
		f.bars = map[edgeagent.NodeID]string{}
	}
	f.bars[id] = why
	if i, ok := f.index[id]; ok {
		f.nodes[i].bar = why
		f.gather(i)
	}
}

// Unbar lets a node be chosen again; with ramp it takes its calls as one that has
// just become ready.
func (f *Fleet) Unbar(now time.Time, id edgeagent.NodeID, ramp bool) {
	delete(f.bars, id)
	if i, ok := f.index[id]; ok {
		f.nodes[i].bar = ""
		if ramp {
			f.nodes[i].ready = now
		}
		f.gather(i)
	}
}

// Try has the calls of a guild try nodes of a label, or of none: they are not set aside
// there by the weight of the nodes, and all others are.
func (f *Fleet) Try(l allocator.GuildLabel) {
	if f.labels == nil {
		f.labels = map[string]allocator.GuildLabel{}
	}
	f.labels[l.Guild] = l
	if l.Label == "" {
		delete(f.labels, l.Guild)
	}
}

// Labels are the guilds whose calls try a label, by guild.
func (f *Fleet) Labels() []allocator.GuildLabel {
	out := make([]allocator.GuildLabel, 0, len(f.labels))
	for _, l := range f.labels {
		l.Nodes = f.Labelled(l.Label)
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b allocator.GuildLabel) int { return cmp.Compare(a.Guild, b.Guild) })
	return out
}

// Labelled is how many ready nodes have a label.
func (f *Fleet) Labelled(label string) (nodes int) {
	for _, i := range f.index {
		if n := &f.nodes[i]; n.hb.State == edgeagent.Ready && n.hb.Label == label {
			nodes++
		}
	}
	return nodes
}

// Node is the last heartbeat of a node, without its calls.
func (f *Fleet) Node(id edgeagent.NodeID) (edgeagent.Heartbeat, bool) {
	if i, ok := f.index[id]; ok {
		return f.nodes[i].hb, true
	}
	return edgeagent.Heartbeat{}, false
}

// fits says whether a node has room for so many more sessions beside what is reserved
// on it, and whether with ease: without, a live call better moves.
func (f *Fleet) fits(id edgeagent.NodeID, more int) (fits, easily bool) {
	i, ok := f.index[id]
	if !ok {
		return false, false
	}
	n := &f.nodes[i]
	load, limit := sum(n.hb.Load, Seats(n.reserved+more)), n.hb.Capacity
	full := Fullness(load, limit)
	return full <= 1 && max(share(load.PPS, limit.PPS), share(load.BPS, limit.BPS)) <= brim, full <= brim
}

// Leaves decides whether a live call goes to another node when somebody joins: it has
// more sessions then than its node counts already, and sessions in all. A call is never
// split: one that no longer fits goes as a whole to a node that has room for all of it.
// While it fits it goes only where it does not crowd, and not back to the node that gave
// it away of late, which it rests from, if any; when it must, there, too, only if it does
// not crowd. So where all is full it does not go to and fro.
func (f *Fleet) Leaves(now time.Time, req *allocator.PlaceRequest, home edgeagent.NodeID, more, sessions int, rests edgeagent.NodeID, draw *rand.Rand) (choice Choice, leaves, fits bool) {
	fits, easily := f.fits(home, more)
	if easily {
		return Choice{}, false, true
	}
	wish := *req
	wish.Avoid = append(slices.Clone(req.Avoid), home)
	if fits && rests != "" {
		wish.Avoid = append(wish.Avoid, rests)
	}
	choice = f.Choose(now, &wish, sessions, draw)
	if choice.Node == "" || slices.Contains(wish.Avoid, choice.Node) {
		return choice, false, fits
	}
	calm := f.fullness(choice.Node, sessions) <= crowded
	return choice, calm || !fits && choice.Node != rests, fits
}

// fullness is that of a node with so many more sessions than it has and is reserved for.
func (f *Fleet) fullness(node edgeagent.NodeID, more int) float64 {
	n := &f.nodes[f.index[node]]
	return Fullness(sum(n.hb.Load, Seats(n.reserved+more)), n.hb.Capacity)
}

// Choose decides which node so many more sessions go to that begin a call. The
// result is that of weighing every node: regions are visited from the nearest
// on, until their distance alone is dearer than the best node found.
//
// While any node has room for them below crowded, none is filled beyond.
func (f *Fleet) Choose(now time.Time, req *allocator.PlaceRequest, more int, draw *rand.Rand) Choice {
	f.distances(now, req)
	return f.pick(now, req, more, draw)
}

// Nearer finds a node for all sessions of a live call that is far from its own, and is
// none to be avoided: ok is false unless home is NearerSaves farther, and dearer, than the
// chosen node, each with the penalty for the load it has without the call, and both
// distances are more than guesses. So a call only ever comes nearer, and where all is
// full, room is not left to calls that have a longer way to it.
func (f *Fleet) Nearer(now time.Time, req *allocator.PlaceRequest, home edgeagent.NodeID, sessions int, draw *rand.Rand) (choice Choice, ok bool) {
	f.distances(now, req)
	at, known := f.way(home)
	reach := at - NearerSaves
	f.order = slices.DeleteFunc(f.order, func(o ranked) bool { return o.rtt > reach || !sure(o.from) })
	within := len(f.order)
	for i := range f.measured {
		if f.measured[i].rtt <= reach {
			within++
		} else {
			f.measured[i].rtt = math.Inf(1) // it is not as near as its region, either
		}
	}
	if !known || within == 0 {
		return Choice{}, false
	}
	f.limit = crowded
	choice = f.choose(now, req, sessions, draw)
	return choice, choice.Node != "" && choice.Node != home && choice.Cost <= reach+f.burden(home, sessions)
}

// burden is the penalty of a node for its load without so many of its sessions.
func (f *Fleet) burden(node edgeagent.NodeID, without int) float64 {
	if _, there := f.index[node]; !there {
		return 0
	}
	return penalty(f.fullness(node, -without))
}

// Saves is how much nearer a node is than another, in milliseconds; 0 if one of the
// distances is a guess.
func (f *Fleet) Saves(now time.Time, req *allocator.PlaceRequest, home, node edgeagent.NodeID) float64 {
	f.distances(now, req)
	at, known := f.way(home)
	to, also := f.way(node)
	if !known || !also {
		return 0
	}
	return at - to
}

// sure says whether a distance is more than a guess.
func sure(from string) bool { return from == fromClient || from == fromCoordinates }

// way is the distance to a node, if it is more than a guess.
func (f *Fleet) way(node edgeagent.NodeID) (ms float64, known bool) {
	i, there := f.index[node]
	if !there {
		return 0, false
	}
	for _, m := range f.measured {
		if m.i == i {
			return m.rtt, true
		}
	}
	for _, o := range f.order {
		if o.i == f.nodes[i].pool {
			return o.rtt, sure(o.from)
		}
	}
	return 0, false
}

// pick is Choose once the distances are known.
func (f *Fleet) pick(now time.Time, req *allocator.PlaceRequest, more int, draw *rand.Rand) Choice {
	wish := *req
	for {
		for _, f.limit = range [...]float64{crowded, 1} {
			if c := f.choose(now, &wish, more, draw); c.Node != "" || f.limit == 1 && len(wish.Avoid) == 0 {
				return c
			}
		}
		wish.Avoid = nil // a wish: better a node that just failed than none
	}
}

// choose is Choose for one limit.
func (f *Fleet) choose(now time.Time, req *allocator.PlaceRequest, more int, draw *rand.Rand) Choice {
	f.near = f.near[:0]
	best, full := -1.0, false
	label := f.labels[req.Guild].Label
	consider := func(i int32, rtt float64) {
		w := f.weigh(now, req, label, i, rtt, more)
		if w.whyNot != "" {
			full = full || w.whyNot == whyFull || w.whyNot == whyCrowded
			return
		}
		cost := w.cost()
		if best < 0 || cost < best {
			best = cost
		}
		if cost <= nearly(best) {
			f.near = append(f.near, w)
		}
	}
	for _, m := range f.measured {
		consider(m.i, m.rtt)
	}
	for k := range f.order {
		o := f.nearest(k)
		if best >= 0 && o.rtt > nearly(best) {
			break
		}
		for _, i := range f.pools[o.i].slots {
			if !f.isMeasured(i) {
				consider(i, o.rtt)
			}
		}
	}
	if best < 0 {
		if full {
			return Choice{Reason: everyFull}
		}
		return Choice{Reason: "no node is ready"}
	}
	limit := nearly(best)
	near := f.near[:0]
	for _, w := range f.near {
		if w.cost() <= limit {
			near = append(near, w)
		}
	}
	a, reason := near[0], "lowest cost"
	if n := len(near); n > 1 {
		i := draw.IntN(n)
		a = near[i]
		b := near[(i+1+draw.IntN(n-1))%n]
		if b.fullness < a.fullness || b.fullness == a.fullness && b.cost() < a.cost() {
			a = b
		}
		reason = "emptier of two drawn among the nearly cheapest"
	}
	if label != "" {
		reason += "; its guild tries " + label
	}
	return Choice{Node: f.nodes[a.slot].hb.Node, Reason: reason, RTT: a.rtt, Cost: a.cost()}
}

// distances fills order with the regions, and measured with the nodes the client
// measured by name.
func (f *Fleet) distances(now time.Time, req *allocator.PlaceRequest) {
	f.chart(now)
	f.order, f.measured = f.order[:0], f.measured[:0]
	named := len(req.RTT) // keys that are no region
	for p := range f.pools {
		ms, from := regionRTT(req, f.pools[p].region)
		f.order = append(f.order, ranked{int32(p), ms, from})
		if from == fromClient {
			named--
		}
	}
	if named > 0 {
		for key, ms := range req.RTT {
			if i, ok := f.index[edgeagent.NodeID(key)]; ok && believable(ms) {
				f.measured = append(f.measured, ranked{i, ms, fromClient})
			}
		}
		// A map has no order, and the draw must not depend on it.
		slices.SortFunc(f.measured, func(a, b ranked) int { return cmp.Compare(a.i, b.i) })
	}
	f.refine(req)
}

// nearest puts the k-th nearest region into its place, where those before it are in
// theirs. Few are visited, and the others need no order.
func (f *Fleet) nearest(k int) ranked {
	least := k
	for i := k + 1; i < len(f.order); i++ {
		if o, m := &f.order[i], &f.order[least]; o.rtt < m.rtt || o.rtt == m.rtt && o.i < m.i {
			least = i
		}
	}
	f.order[k], f.order[least] = f.order[least], f.order[k]
	return f.order[k]
}

func (f *Fleet) isMeasured(i int32) bool {
	if len(f.measured) == 0 {
		return false
	}
	_, found := slices.BinarySearchFunc(f.measured, i, func(m ranked, i int32) int { return cmp.Compare(m.i, i) })
	return found
}

// weigh is one node as seen by one request for more sessions, whose guild tries a label,
// if any.
func (f *Fleet) weigh(now time.Time, req *allocator.PlaceRequest, label string, i int32, rtt float64, more int) weight {
	g := &f.gists[i]
	w := weight{slot: i, rtt: rtt, penalty: g.penalty, share: 1, whyNot: g.whyNot}
	w.fullness = Fullness(sum(g.load, Seats(g.reserved+more)), g.limit)
	w.domain = g.zone.penalty(now)
	if g.partly || label != "" {
		n := &f.nodes[i]
		w.share = n.share(now, label)
		if w.share < 1 && lot(req.Call, n.hash) >= w.share {
			w.aside = asideMillis
		}
		if label != "" && n.hb.Label != label {
			w.aside += asideMillis
		}
	}
	switch {
	case w.whyNot != "":
	case len(req.Avoid) > 0 && slices.Contains(req.Avoid, f.nodes[i].hb.Node):
		w.whyNot = whyAvoid
	case w.fullness > 1:
		w.whyNot = whyFull
	case w.fullness > f.limit:
		w.whyNot = whyCrowded
	}
	return w
}

// share of the calls a node takes that it would get by its cost, of those that try a
// label.
func (n *standing) share(now time.Time, label string) float64 {
	share := 1.0
	if n.hb.Label != "" && n.hb.Label != label && n.hb.Weight > 0 {
		share = min(1, n.hb.Weight)
	}
	if !n.ready.IsZero() {
		share *= ramp(now.Sub(n.ready))
	}
	return share
}

// lot is where in 0..1 a call falls on a node: the same whenever it is asked, so
// that a canary's calls are its calls and an explanation tells what was decided.
func lot(call sfu.CallID, hash uint64) float64 {
	x := uint64(call.ID)*0x9e3779b97f4a7c15 ^ hash
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9 // the finalizer of splitmix64
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

func (z *zone) penalty(now time.Time) float64 {
	if z.lost == 0 || now.Sub(z.last) > shakenFor {
		return 0
	}
	return shakenMillis * float64(z.lost) / float64(z.lost+z.nodes)
}

// Explain is the decision of Choose with every node beside it, the eligible and
// cheap ones first. It changes nothing.
func (f *Fleet) Explain(now time.Time, req *allocator.PlaceRequest, more int, draw *rand.Rand) allocator.Explanation {
	choice := f.Choose(now, req, more, draw)
	ex := allocator.Explanation{Call: req.Call, At: now, Chosen: choice.Node, Reason: choice.Reason}
	ex.Candidates = f.candidates(now, req, more)
	return ex
}

// candidates weighs every node.
func (f *Fleet) candidates(now time.Time, req *allocator.PlaceRequest, more int) []allocator.Candidate {
	f.distances(now, req)
	out := make([]allocator.Candidate, 0, len(f.index))
	label := f.labels[req.Guild].Label
	add := func(i int32, d ranked) {
		n, w := &f.nodes[i], f.weigh(now, req, label, i, d.rtt, more)
		k := allocator.Candidate{
			Node: n.hb.Node, Region: n.hb.Region, Zone: n.hb.Zone, State: n.hb.State, RTT: w.rtt, RTTFrom: d.from, Fullness: w.fullness,
			Reserved: Seats(n.reserved), Penalty: w.penalty, Domain: w.domain, Aside: w.aside, Cost: w.cost(), WhyNot: w.whyNot,
		}
		if w.share < 1 {
			k.Share = w.share
		}
		out = append(out, k)
	}
	for _, m := range f.measured {
		add(m.i, m)
	}
	for _, o := range f.order {
		for _, i := range f.pools[o.i].slots {
			if !f.isMeasured(i) {
				add(i, o)
			}
		}
	}
	slices.SortFunc(out, rank)
	return out
}

// rank puts the eligible first, then the cheap.
func rank(a, b allocator.Candidate) int {
	if eligible := a.WhyNot == ""; eligible != (b.WhyNot == "") {
		if eligible {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Cost, b.Cost), cmp.Compare(a.Node, b.Node))
}

const (
	whyFull    = "full"
	whyCrowded = "nearly full"
	everyFull  = "every ready node is full"
	whyAvoid   = "just failed this user"
)
