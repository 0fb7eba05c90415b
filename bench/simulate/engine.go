package simulate

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
)

// What happens to calls, in ticks of one second unless said otherwise.
const (
	tick       = time.Second
	wheelSize  = 1 << 14
	lifeMean   = 45 * 60
	lifeMin    = 120.0
	lifeMax    = wheelSize - 2
	followMean = 60.0 // for the last of a call; those before come sooner
	sizeMax    = 400
	sizeMean   = 8
	sizeSpread = 0.85 // of its logarithm
	spreadOne  = 50   // one call in so many is of a whole continent
	talkSpread = 0.1
	toCome     = 1.05 // members of live calls, also those still to come, for each who is there
	seatKept   = 10   // as the allocator keeps seats, loads and sizes
	loadKept   = 3
	sizeKept   = 60
	history    = 16 // heartbeats kept, for late ones
	pace       = 2000
)

// How long a listener hears nothing, in seconds: the goals that fleet tests hold
// real processes to.
const (
	gapKilled  = 1.0  // agent and engine killed: the median
	gapFrozen  = 2.5  // a machine or a zone that says nothing any more
	gapMoved   = 1.0  // a call ended here and begun there
	gapFollow  = 0.6  // from the decision on a lost node's call until its members hear again
	gapDrained = 0.04 // opened there before it is closed here
	gapUpgrade = 0.3  // the engine starts again on the same sockets
)

// call is one call. Who its members are is drawn from its seed.
type call struct {
	seed          uint64
	rtt           float64 // of all members, to where it is
	ends          int64   // tick
	born, seated  int64   // ticks of its last placement and its last member
	node          int32   // -1: waits for one
	metro         int32   // of who began it
	size, joined  int32
	shown, held   int32 // sessions in heartbeats; reserved
	expected      int32
	at            int32 // place in its node's list
	talk          float32
	spread, alive bool

	// Its last move: from where, when and why; how many there were, in all and in an
	// hour that began with one of them.
	from      int32
	moved     int64
	cause     allocator.Cause
	moves     int32
	hour      int64
	inTheHour int32
}

// host is a node as it really is.
type host struct {
	calls   []int32
	users   int
	talk    float64 // sessions weighed by how much is said
	state   edgeagent.State
	there   bool
	past    [history]edgeagent.Load
	returns int64 // tick; 0: not due
	away    int64 // ticks, after a drain

	// What the allocator's mind hears besides.
	started time.Time
	until   time.Time // of a drain
	loss    float64   // of its listeners' packets
	drops   uint64    // of its sockets
	surge   uint64    // of these, a second
	mends   int64     // tick at which loss and surge end
	died    time.Time
	why     string
}

// engine is one run of one policy. The seed decides all.
type engine struct {
	w      *world
	p      policy
	m      *minder    // of our own policy
	draw   *rand.Rand // what people do: the same for every policy
	choice *rand.Rand // what policies draw
	fate   *rand.Rand // what goes wrong
	from   time.Time
	first  float64 // hour of the day, UTC

	now      int64
	peak     float64 // users wanted at the busiest moment
	surge    float64 // times that, now
	calls    []call
	free     []int32
	wheel    [][]int32
	pending  []int32 // calls with reservations
	next     []int32 // scratch for the above
	homeless []int32 // calls without a node
	wave     wave
	planned  []int // users of live calls, by metro of who began them
	want     []float64
	hosts    []host
	users    int
	live     int
	rtts     float64
	late     int64 // by how many ticks heartbeats are late
	bus      bool  // away: nothing is placed
	waiting  int   // joins that wait for the bus

	tally tally
	ask   ask
	wide  []wide // scratch of best
}

// tally is what a run counts.
type tally struct {
	Placed, Joined, Moved, Replaced, Drained uint64
	Relieved, Undrained                      uint64 // calls moved off bad or hot nodes; drains given up
	Nearer                                   uint64 // calls that came nearer when there was room
	Moves                                    uint64 // of all causes
	CallHours                                float64
	MostMoves                                int32  // of one call, within an hour
	Lost, False, Held, Ill                   uint64 // verdicts of the core: on nodes, and those of these that lived
	Rejected                                 uint64 // joins
	Needless                                 uint64 // of these, while some node had room
	Over                                     uint64 // node-seconds above the limit
	Worst                                    float64
	WorstAt                                  int64
	Unheard                                  float64            // user-seconds
	By                                       map[string]float64 // the same by cause
	Heard                                    float64            // user-seconds in calls
	Wave                                     float64            // largest share of one dead node's sessions that one survivor got
}

func newEngine(w *world, p policy, seed uint64, peak float64, hour float64) *engine {
	e := &engine{
		w: w, p: p, draw: rand.New(rand.NewPCG(seed, 1)), choice: rand.New(rand.NewPCG(seed, 2)), fate: rand.New(rand.NewPCG(seed, 3)),
		from: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), first: hour,
		peak: peak, surge: 1, wheel: make([][]int32, wheelSize), planned: make([]int, len(w.metros)),
		want: make([]float64, len(w.metros)), hosts: make([]host, len(w.nodes)), tally: tally{By: map[string]float64{}},
	}
	e.ask.draw = e.choice
	if o, own := p.(*ours); own {
		e.m = newMinder(e, o)
	}
	for i := range e.hosts {
		e.hosts[i].there, e.hosts[i].state = true, edgeagent.Ready
		p.observe(e.time(), int32(i), edgeagent.Ready, edgeagent.Load{})
	}
	return e
}

func (e *engine) time() time.Time { return e.from.Add(time.Duration(e.now) * tick) }
func (e *engine) hour() float64   { return e.first + float64(e.now)/3600 }

// run goes on for so many ticks; each is called after every one.
func (e *engine) run(ctx context.Context, ticks int64, each func()) error {
	for range ticks {
		e.step()
		if each != nil {
			each()
		}
		if e.now%64 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// step is one second.
func (e *engine) step() {
	e.now++
	e.returnNodes()
	e.rehome()
	e.happen()
	e.begin()
	if e.m != nil {
		e.m.second()
	} else {
		e.beat()
	}
	e.wave.close(&e.tally)
	e.suffer()
	e.settle()
	e.measure()
}

// member is one of a call: where, and its access step.
func (e *engine) member(c *call, i int32) (metro int32, step int) {
	x := mix(c.seed + uint64(i)*0x9e3779b97f4a7c15)
	step = int(x % accesses)
	if !c.spread || i == 0 {
		return c.metro, step
	}
	area := e.w.areaOf[shareArea(e.w.metros[c.metro].area)]
	return int32(area[(x>>8)%uint64(len(area))]), step
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (e *engine) distance(c *call, i, node int32) float64 {
	m, step := e.member(c, i)
	return e.w.rtt[m][e.w.nodes[node].region] + access(step)
}

func (e *engine) schedule(at int64, id int32) {
	b := at % wheelSize
	e.wheel[b] = append(e.wheel[b], id)
}

// begin starts as many calls as people want to.
func (e *engine) begin() {
	if e.now%60 == 1 {
		e.w.demand(e.hour(), e.peak*e.surge, e.want)
	}
	if e.bus {
		for m := range e.want {
			e.unheard("the bus is away", max(0, e.want[m]-float64(e.planned[m])))
		}
		return
	}
	for m := range e.want {
		// What is missing is made up within a minute, as people do not come at
		// one moment.
		calls := (e.want[m]*toCome - float64(e.planned[m])) / 60 / sizeMean
		for at := e.draw.ExpFloat64(); at < calls; at += e.draw.ExpFloat64() {
			e.start(int32(m), e.size())
		}
	}
}

// size is how many will be in a call: sizeMean on average, a few of hundreds.
func (e *engine) size() int32 {
	// Of one who begins and those who follow, whose number is log-normal.
	middle := math.Log(sizeMean-1) - sizeSpread*sizeSpread/2
	return 1 + int32(min(sizeMax-1, math.Round(math.Exp(middle+sizeSpread*e.draw.NormFloat64()))))
}

func (e *engine) start(metro, size int32) {
	var id int32
	if n := len(e.free); n > 0 {
		id, e.free = e.free[n-1], e.free[:n-1]
	} else {
		id = int32(len(e.calls))
		e.calls = append(e.calls, call{})
	}
	c := &e.calls[id]
	life := min(lifeMax, max(lifeMin, e.draw.ExpFloat64()*lifeMean))
	*c = call{
		seed: e.draw.Uint64(), ends: e.now + int64(life), node: -1, metro: metro, size: size, alive: true,
		spread: e.draw.IntN(spreadOne) == 0, talk: float32(1 - talkSpread + 2*talkSpread*e.draw.Float64()),
	}
	// A community's earlier calls tell about how many will come.
	c.expected = max(1, int32(float64(size)*math.Exp(0.3*e.draw.NormFloat64())))
	e.planned[metro] += int(size)
	switch e.settleOn(id, int(c.expected), -1) {
	case unplaced:
		e.planned[metro] -= int(size)
		e.reject(c, size)
		c.alive = false
		e.free = append(e.free, id)
		return
	case notYet: // they come again
		e.planned[metro] -= int(size)
		e.unheard("found nobody on a node that had just died", 1)
		c.alive = false
		e.free = append(e.free, id)
		return
	}
	e.live++
	e.tally.Placed++
	e.join(c, id)
	e.follow(c, id)
}

// follow schedules the next member, or the end.
func (e *engine) follow(c *call, id int32) {
	at := c.ends
	if c.joined < c.size {
		at = min(at, e.now+1+int64(e.draw.ExpFloat64()*followMean/float64(c.size-c.joined)))
	}
	e.schedule(at, id)
}

// settled is what came of a wish for a node.
type settled int

const (
	placed settled = iota
	unplaced
	notYet // the node has died, and so has the one that was named instead
)

// settleOn finds a node for a call and puts it there.
func (e *engine) settleOn(id int32, more int, avoid int32) settled {
	a := e.wish(&e.calls[id], more, avoid)
	node := e.p.choose(a)
	if node < 0 || node == avoid && e.p.moves() {
		return unplaced
	}
	if !e.hosts[node].there {
		// Its death is not known yet: the client finds nobody and asks again,
		// naming it.
		a.avoid = node
		if node = e.p.choose(a); node < 0 {
			return unplaced
		}
		if !e.hosts[node].there {
			return notYet
		}
	}
	e.attach(id, node)
	e.hold(id, max(more, int(e.calls[id].joined)))
	return placed
}

// wish is what is known when so many sessions of a call need a node. It is valid until the next.
func (e *engine) wish(c *call, more int, avoid int32) *ask {
	a := &e.ask
	a.call, a.more, a.avoid, a.now = int(c.seed>>1), more, avoid, e.time()
	a.metro, a.access = e.member(c, 0)
	return a
}

// attach puts a call on a node.
func (e *engine) attach(id, node int32) {
	c, h := &e.calls[id], &e.hosts[node]
	if c.joined > 0 {
		e.count(c)
	}
	c.node, c.at, c.born, c.seated, c.shown = node, int32(len(h.calls)), e.now, e.now, 0
	h.calls = append(h.calls, id)
	h.users += int(c.joined)
	h.talk += float64(c.joined) * float64(c.talk)
	c.rtt = 0
	for i := range c.joined {
		c.rtt += e.distance(c, i, node)
	}
	e.rtts += c.rtt
}

// count takes note of a move.
func (e *engine) count(c *call) {
	c.moves, c.moved, c.cause = c.moves+1, e.now, allocator.CauseOverload
	if c.inTheHour == 0 || e.now-c.hour >= 3600 {
		c.hour, c.inTheHour = e.now, 0
	}
	c.inTheHour++
	e.tally.Moves++
	e.tally.MostMoves = max(e.tally.MostMoves, c.inTheHour)
}

// hold reserves sessions for a call on its node.
func (e *engine) hold(id int32, sessions int) {
	c := &e.calls[id]
	e.p.reserve(c.node, sessions-int(c.held))
	c.held = int32(sessions)
	e.pending = append(e.pending, id)
}

// leave takes a call off its node.
func (e *engine) leave(id int32) {
	c := &e.calls[id]
	h := &e.hosts[c.node]
	last := h.calls[len(h.calls)-1]
	h.calls[c.at] = last
	e.calls[last].at = c.at
	h.calls = h.calls[:len(h.calls)-1]
	h.users -= int(c.joined)
	h.talk -= float64(c.joined) * float64(c.talk)
	e.rtts -= c.rtt
	e.p.reserve(c.node, -int(c.held))
	c.from, c.node, c.held = c.node, -1, 0
}

// join brings in the next member of a call that has a node.
func (e *engine) join(c *call, id int32) {
	i := c.joined
	c.joined, c.seated = c.joined+1, e.now
	e.users++
	e.tally.Joined++
	h := &e.hosts[c.node]
	h.users++
	h.talk += float64(c.talk)
	d := e.distance(c, i, c.node)
	c.rtt += d
	e.rtts += d
	if c.joined > c.held+c.shown {
		if c.held == 0 {
			e.pending = append(e.pending, id)
		}
		c.held++
		e.p.reserve(c.node, 1)
	}
}

// happen lets members follow and calls end whose time has come.
func (e *engine) happen() {
	b := e.now % wheelSize
	due := e.wheel[b]
	e.wheel[b] = nil
	for _, id := range due {
		c := &e.calls[id]
		switch {
		case e.now >= c.ends:
			e.end(c, id)
		case e.bus:
			e.waiting++
			e.unheard("the bus is away", 1)
			e.schedule(e.now+1, id)
		case c.node < 0 || e.m != nil && e.m.waits(c.node):
			e.unheard("waiting to be placed again", 1)
			e.schedule(e.now+1, id) // joins when the call has a node again
		default:
			e.grow(c, id)
		}
	}
}

// grow brings the next member into a call, on its node, on another, or not at all.
func (e *engine) grow(c *call, id int32) {
	fits := true
	if e.hosts[c.node].state == edgeagent.Draining && e.move(id, c.node) {
		e.tally.Drained++
		e.unheard("drained", gapDrained*float64(c.joined))
	} else {
		fits = e.stay(c, id)
	}
	if fits {
		e.join(c, id)
	} else {
		e.reject(c, 1)
		c.size--
		e.planned[c.metro]--
	}
	e.follow(c, id)
}

// stay lets a call that somebody joins stay or leave, as the rule says, and says whether
// there is room for them then.
func (e *engine) stay(c *call, id int32) bool {
	held := max(0, c.held-max(0, c.joined-c.shown))                // for its members, and taken by nobody
	size, rests := int(max(c.joined+1, c.shown+c.held)), int32(-1) // as the allocator counts, with what is held
	if c.moves > 0 && (&allocator.CallMove{Cause: c.cause}).Shed() && time.Duration(e.now-c.moved)*tick < placement.ForgiveTime {
		rests = c.from
	}
	a := e.wish(c, size, -1)
	to, fits := e.p.leaves(a, c.node, int(1-held), rests)
	if to < 0 || !e.hosts[to].there { // its death is not known yet: nobody opens a path there
		return fits
	}
	e.leave(id)
	e.attach(id, to)
	e.hold(id, size)
	if e.m != nil {
		e.m.forgetIfKnown(id)
	}
	e.tally.Moved++
	e.unheard("moved off a full node", gapMoved*float64(c.joined))
	return true
}

// move takes a live call to another node as a whole, if one has room for it.
func (e *engine) move(id, avoid int32) bool {
	c := &e.calls[id]
	was, held := c.node, c.held
	e.leave(id)
	if e.settleOn(id, int(max(c.joined+1, c.shown+held)), avoid) == placed {
		if e.m != nil {
			e.m.forgetIfKnown(id)
		}
		return true
	}
	// It stays.
	h := &e.hosts[was]
	c.node, c.at = was, int32(len(h.calls))
	h.calls = append(h.calls, id)
	h.users += int(c.joined)
	h.talk += float64(c.joined) * float64(c.talk)
	e.rtts += c.rtt
	c.held = held
	e.p.reserve(was, int(held))
	return false
}

func (e *engine) end(c *call, id int32) {
	if c.node >= 0 {
		if h := &e.hosts[c.node]; !h.there {
			e.unheard(h.why, float64(c.joined)*e.time().Sub(h.died).Seconds())
		}
		e.leave(id)
	}
	if e.m != nil {
		e.m.forgetIfKnown(id)
	}
	e.users -= int(c.joined)
	e.live--
	e.planned[c.metro] -= int(c.size)
	c.alive = false
	e.free = append(e.free, id)
}

func (e *engine) unheard(why string, userSeconds float64) {
	e.tally.Unheard += userSeconds
	e.tally.By[why] += userSeconds
}

// reject counts joiners that were turned away, and whether anybody had room.
func (e *engine) reject(c *call, users int32) {
	e.tally.Rejected += uint64(users)
	e.unheard("turned away", float64(users)*float64(c.ends-e.now))
	for i := range e.hosts {
		h := &e.hosts[i]
		if h.there && h.state == edgeagent.Ready && e.fullness(int32(i), int(c.joined+1)) <= 1 {
			e.tally.Needless += uint64(users)
			return
		}
	}
}

func (e *engine) load(i int32) edgeagent.Load {
	h := &e.hosts[i]
	one := placement.Seats(1)
	return edgeagent.Load{PPS: one.PPS * h.talk, BPS: one.BPS * h.talk, Sessions: h.users}
}

func (e *engine) fullness(i int32, more int) float64 {
	load, s := e.load(i), placement.Seats(more)
	load.PPS, load.BPS, load.Sessions = load.PPS+s.PPS, load.BPS+s.BPS, load.Sessions+s.Sessions
	return placement.Fullness(load, e.w.nodes[i].capacity)
}

// beat lets every node tell its load: packets as the mean of the last three
// seconds, sessions as they are.
func (e *engine) beat() {
	if e.bus {
		return
	}
	now := e.time()
	for i := range e.hosts {
		if h := &e.hosts[i]; h.there {
			e.p.observe(now, int32(i), h.state, e.told(int32(i)))
		}
	}
}

// told is what a node says of its load.
func (e *engine) told(i int32) edgeagent.Load {
	h := &e.hosts[i]
	slot, told := e.now%history, (e.now+history-e.late)%history
	h.past[slot] = e.load(i)
	load := h.past[told]
	for back := int64(1); back < 3; back++ {
		p := &h.past[(told+history-back)%history]
		load.PPS += p.PPS
		load.BPS += p.BPS
	}
	load.PPS, load.BPS = load.PPS/3, load.BPS/3
	return load
}

// settle ends reservations that heartbeats show, or that are too old.
func (e *engine) settle() {
	keep := e.next[:0]
	for _, id := range e.pending {
		c := &e.calls[id]
		if !c.alive || c.node < 0 || c.held == 0 {
			continue
		}
		age := e.now - c.born
		want := int32(0)
		if e.now-c.seated < min(e.late+loadKept, seatKept) {
			want = c.joined - c.shown
		} else {
			c.shown = c.joined
		}
		if age < sizeKept {
			want = max(want, c.expected-c.shown)
		}
		e.p.reserve(c.node, int(want-c.held))
		if c.held = want; want > 0 {
			keep = append(keep, id)
		}
	}
	e.pending, e.next = keep, e.pending
}

// measure looks at how full nodes really are.
func (e *engine) measure() {
	e.tally.Heard += float64(e.users)
	e.tally.CallHours += float64(e.live) / 3600
	for i := range e.hosts {
		if !e.hosts[i].there {
			continue
		}
		f := placement.Fullness(e.load(int32(i)), e.w.nodes[i].capacity)
		if f > e.tally.Worst {
			e.tally.Worst, e.tally.WorstAt = f, e.now
		}
		if f > 1 {
			e.tally.Over++
		}
	}
}
