package simulate

import (
	"math/rand/v2"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// ask is what is known when a call begins or must go elsewhere.
type ask struct {
	call   int
	metro  int32 // of who asks
	access int   // step
	more   int   // sessions expected
	avoid  int32 // a node, or -1
	now    time.Time
	draw   *rand.Rand
}

// policy is a rule that places calls by what nodes told.
type policy interface {
	name() string
	// observe takes in what a node told; an earlier word of another node may be
	// younger.
	observe(now time.Time, node int32, state edgeagent.State, load edgeagent.Load)
	lose(now time.Time, node int32)
	// choose names a node, or -1.
	choose(a *ask) int32
	// leaves names the node a live call of a.more sessions, with more than its node counts
	// among them, goes to from home because somebody joins, or -1, and whether it fits where it is.
	// The call rests from a node that gave it away of late, or from -1. A rule that never
	// asks says that it fits.
	leaves(a *ask, home int32, more int, rests int32) (to int32, fits bool)
	// reserve tells of sessions placed that no heartbeat shows, or takes them off.
	reserve(node int32, sessions int)
	// moves says whether a call that fits its node no longer may go elsewhere.
	moves() bool
}

// ours is the allocator's own function.
type ours struct {
	w     *world
	core  *keeper.Core     // who lives, and which calls leave their node
	fleet *placement.Fleet // of the core
	index map[edgeagent.NodeID]int32
	req   allocator.PlaceRequest
	avoid [1]edgeagent.NodeID
}

func newOurs(w *world) policy {
	core := keeper.New(1)
	o := &ours{w: w, core: core, fleet: core.Place().Fleet(), index: map[edgeagent.NodeID]int32{}}
	for i, n := range w.nodes {
		o.index[n.id] = int32(i)
	}
	return o
}

func (o *ours) name() string { return "voicefleet" }
func (o *ours) moves() bool  { return true }

func (o *ours) observe(now time.Time, node int32, state edgeagent.State, load edgeagent.Load) {
	o.core.SeeNode(now, o.heartbeat(now, node, state, load), now, nil)
}

func (o *ours) heartbeat(now time.Time, node int32, state edgeagent.State, load edgeagent.Load) edgeagent.Heartbeat {
	n := &o.w.nodes[node]
	return edgeagent.Heartbeat{Node: n.id, State: state, At: now, Region: o.w.regions[n.region].name, Zone: n.zone, Capacity: n.capacity, Load: load}
}

func (o *ours) lose(now time.Time, node int32) { o.fleet.Lose(now, o.w.nodes[node].id) }

func (o *ours) request(a *ask) *allocator.PlaceRequest {
	o.req.Call = sfu.CallID{ID: snowflake.ID(a.call + 1)}
	o.req.RTT = o.w.asked[a.metro][a.access]
	o.req.Avoid = nil
	if a.avoid >= 0 {
		o.avoid[0] = o.w.nodes[a.avoid].id
		o.req.Avoid = o.avoid[:]
	}
	return &o.req
}

func (o *ours) choose(a *ask) int32 {
	if c := o.fleet.Choose(a.now, o.request(a), a.more, a.draw); c.Node != "" {
		return o.index[c.Node]
	}
	return -1
}

func (o *ours) leaves(a *ask, home int32, more int, rests int32) (int32, bool) {
	var rest edgeagent.NodeID
	if rests >= 0 {
		rest = o.w.nodes[rests].id
	}
	c, leaves, fits := o.fleet.Leaves(a.now, o.request(a), o.w.nodes[home].id, more, a.more, rest, a.draw)
	if !leaves {
		return -1, fits
	}
	return o.index[c.Node], fits
}

func (o *ours) reserve(node int32, sess int) { o.fleet.Reserve(o.w.nodes[node].id, sess) }

// told is what a yardstick knows: heartbeats alone, without reservations.
type told struct {
	w        *world
	ready    []bool
	fullness []float64
	byRegion [][]int32
	next     int // of round robin
}

func newTold(w *world) told {
	t := told{w: w, ready: make([]bool, len(w.nodes)), fullness: make([]float64, len(w.nodes)), byRegion: make([][]int32, len(w.regions))}
	for i, n := range w.nodes {
		t.byRegion[n.region] = append(t.byRegion[n.region], int32(i))
	}
	return t
}

func (t *told) observe(_ time.Time, node int32, state edgeagent.State, load edgeagent.Load) {
	t.ready[node] = state == edgeagent.Ready
	t.fullness[node] = placement.Fullness(load, t.w.nodes[node].capacity)
}
func (t *told) lose(_ time.Time, node int32)                         { t.ready[node] = false }
func (t *told) leaves(*ask, int32, int, int32) (to int32, fits bool) { return -1, true }
func (t *told) reserve(int32, int)                                   {}
func (t *told) moves() bool                                          { return false }

func (t *told) free(n int32, a *ask) bool { return t.ready[n] && t.fullness[n] < 1 && n != a.avoid }

// emptiest of some nodes, those below a bound only; -1 without any.
func (t *told) emptiest(nodes []int32, below float64, a *ask) int32 {
	best := int32(-1)
	for _, n := range nodes {
		if t.free(n, a) && t.fullness[n] < below && (best < 0 || t.fullness[n] < t.fullness[best]) {
			best = n
		}
	}
	return best
}

func (t *told) all() []int32 {
	out := make([]int32, len(t.w.nodes))
	for i := range out {
		out[i] = int32(i)
	}
	return out
}

// yardstick is a rule that others use, as a function of what was told.
type yardstick struct {
	told
	called string
	rule   func(t *told, a *ask) int32
}

func (y *yardstick) name() string        { return y.called }
func (y *yardstick) choose(a *ask) int32 { return y.rule(&y.told, a) }

// Yardsticks that goals name.
const (
	leastLoaded  = "least loaded"
	haversineTwo = "haversine and two choices"
)

// tries bounds how often a rule that draws blindly draws.
const tries = 50

// yardsticks are the rules we are held against. Each leaves out nodes that say
// they are full, and falls back on any other before it gives up.
func yardsticks(w *world) []policy {
	every := func() []int32 { t := newTold(w); return t.all() }()
	rule := func(name string, decide func(t *told, a *ask) int32) policy {
		return &yardstick{told: newTold(w), called: name, rule: decide}
	}
	byDistance := func(t *told, a *ask, in func(region []int32) int32) int32 {
		for _, r := range t.w.nearest[a.metro] {
			if n := in(t.byRegion[r]); n >= 0 {
				return n
			}
		}
		return -1
	}
	return []policy{
		rule("random", func(t *told, a *ask) int32 {
			for range tries {
				if n := int32(a.draw.IntN(len(every))); t.free(n, a) {
					return n
				}
			}
			return t.emptiest(every, 1, a)
		}),
		rule("round robin", func(t *told, a *ask) int32 {
			for range every {
				t.next = (t.next + 1) % len(every)
				if n := int32(t.next); t.free(n, a) {
					return n
				}
			}
			return -1
		}),
		rule(leastLoaded, func(t *told, a *ask) int32 { return t.emptiest(every, 1, a) }),
		// Discord's engineering blog, 2018: the least utilised server of the region.
		rule("least used in region", func(t *told, a *ask) int32 {
			return byDistance(t, a, func(region []int32) int32 { return t.emptiest(region, 1, a) })
		}),
		// Jicofo's RegionBasedBridgeSelectionStrategy: a bridge of the region whose
		// stress is below 0.8, else the least stressed of all.
		rule("region and stress", func(t *told, a *ask) int32 {
			if n := t.emptiest(t.byRegion[t.w.nearest[a.metro][0]], 0.8, a); n >= 0 {
				return n
			}
			return t.emptiest(every, 1, a)
		}),
		// LiveKit's region-aware selector with two choices: the nearest region by
		// great circle that has nodes below their load limit of 0.9; of two drawn
		// there the emptier.
		rule(haversineTwo, func(t *told, a *ask) int32 {
			n := byDistance(t, a, func(region []int32) int32 {
				var open []int32
				for _, n := range region {
					if t.free(n, a) && t.fullness[n] < 0.9 {
						open = append(open, n)
					}
				}
				if len(open) == 0 {
					return -1
				}
				x, y := open[a.draw.IntN(len(open))], open[a.draw.IntN(len(open))]
				if t.fullness[y] < t.fullness[x] {
					return y
				}
				return x
			})
			if n >= 0 {
				return n
			}
			return t.emptiest(every, 1, a)
		}),
	}
}
