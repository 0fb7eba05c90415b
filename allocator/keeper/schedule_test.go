package keeper

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// schedules is how many random fates are tried: in half a minute on two cores. The
// race detector has nothing to find in a core, and takes ten times as long.
const (
	schedules     = 12_000
	schedulesRace = 300
)

// TestNoCallHasTwoOwners: some allocators, nodes and people live through a random
// fate in virtual time: messages are late, allocators and nodes are cut off, stand
// still, die and come back, clocks differ, and the buckets are lost. No two nodes
// ever own a call in one epoch; and when all is quiet again, no call is on two.
func TestNoCallHasTwoOwners(t *testing.T) {
	n := schedules
	switch {
	case testing.Short():
		n = 500
	case raceDetector:
		n = schedulesRace
	}
	var mu sync.Mutex
	var sum tally // guarded by mu
	var next atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for seed := next.Add(1) - 1; seed < int64(n) && !t.Failed(); seed = next.Add(1) - 1 {
				w := newWorld(uint64(seed))
				w.live()
				mu.Lock()
				sum.add(w.tally)
				mu.Unlock()
				if len(w.faults) > 0 {
					t.Errorf("seed %d: %v\nthe end of its log:\n%s", seed, w.faults, strings.Join(w.log[max(0, len(w.log)-60):], "\n"))
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d schedules: %+v", n, sum)
	// A test of fates in which nothing happens cannot fail.
	if sum.moves < n/4 || sum.races < n/100 || sum.losses < n/4 || sum.seats < 10*n || sum.restores < n/50 {
		t.Errorf("too little happened in %d schedules: %+v", n, sum)
	}
}

type tally struct{ seats, moves, races, losses, holds, ends, restores, waits int }

func (t *tally) add(o tally) {
	t.seats += o.seats
	t.moves += o.moves
	t.races += o.races
	t.losses += o.losses
	t.holds += o.holds
	t.ends += o.ends
	t.restores += o.restores
	t.waits += o.waits
}

// world is the model: a heap of what happens, and all who take part.
type world struct {
	draw   *rand.Rand
	now    time.Time
	queue  events
	seq    int
	faults []string
	log    []string
	tally  tally

	bucket     map[sfu.CallID]stored
	beats      map[edgeagent.NodeID]edgeagent.Heartbeat
	revision   uint64
	born       time.Time
	nodes      []*edge
	allocators []*member
	owners     map[owner]edgeagent.NodeID
	members    map[sfu.CallID]map[int]uint64 // person → epoch of their seat
	quiet      bool
}

type owner struct {
	call  sfu.CallID
	epoch uint64
}

type stored struct {
	entry    allocator.CallEntry
	revision uint64
}

// edge is a node.
type edge struct {
	id      edgeagent.NodeID
	started time.Time
	alive   bool
	frozen  bool
	cut     bool // off the bus; its media port answers
	calls   map[sfu.CallID]*room
	backlog []func()
}

type room struct {
	epoch  uint64
	people map[int]bool
}

// member is an allocator.
type member struct {
	core    *Core
	skew    time.Duration
	alive   bool
	paused  bool
	cut     bool
	life    int // a reply to a dead one is not for the next
	backlog []func()
	last    map[string]time.Time // watches are in order
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any     { old := *e; x := old[len(old)-1]; *e = old[:len(old)-1]; return x }

const (
	worldCalls = 5
	fateTime   = 14 * time.Second
	quietTime  = 26 * time.Second
)

func newWorld(seed uint64) *world {
	w := &world{
		draw: rand.New(rand.NewPCG(seed, 77)), now: start, born: start.Add(-time.Hour),
		bucket: map[sfu.CallID]stored{}, beats: map[edgeagent.NodeID]edgeagent.Heartbeat{},
		owners: map[owner]edgeagent.NodeID{}, members: map[sfu.CallID]map[int]uint64{},
	}
	for i := range 2 + w.draw.IntN(4) {
		n := &edge{id: edgeagent.NodeID('a' + rune(i)), alive: true, started: start, calls: map[sfu.CallID]*room{}}
		w.nodes = append(w.nodes, n)
		w.after(w.upTo(time.Second), func() { w.beat(n) })
	}
	for range 2 + w.draw.IntN(2) {
		m := &member{}
		w.allocators = append(w.allocators, m)
		w.begin(m)
	}
	return w
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.draw.Int64N(int64(d))) }

// delay of a message: mostly short, now and then long.
func (w *world) delay() time.Duration {
	if w.draw.IntN(20) == 0 && !w.quiet {
		return w.upTo(1500 * time.Millisecond)
	}
	return w.upTo(8 * time.Millisecond)
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, do})
}

func (w *world) say(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%7.3f ", w.now.Sub(start).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
	w.say("FAULT "+format, args...)
}

// live runs the fate, then some quiet time, and looks at the end.
func (w *world) live() {
	for d := time.Second; d < fateTime; d += w.upTo(1500 * time.Millisecond) {
		w.after(d, w.strike)
	}
	for d := 300 * time.Millisecond; d < fateTime; d += w.upTo(400 * time.Millisecond) {
		w.after(d, w.join)
	}
	w.after(fateTime, w.heal)
	for end := start.Add(fateTime + quietTime); w.queue.Len() > 0 && len(w.faults) == 0; {
		e := heap.Pop(&w.queue).(event)
		if e.at.After(end) {
			break
		}
		w.now = e.at
		e.do()
	}
	if len(w.faults) > 0 {
		return
	}
	for c := range worldCalls {
		id := sfu.CallID{ID: snowflake.ID(c + 1)}
		var on []string
		for _, n := range w.nodes {
			if r := n.calls[id]; n.alive && r != nil && len(r.people) > 0 {
				on = append(on, fmt.Sprintf("%s@%d", n.id, r.epoch))
			}
		}
		if len(on) > 1 {
			w.fault("call %v is on %v, entry %s@%d", id, on, w.bucket[id].entry.Node, w.bucket[id].entry.Epoch)
		}
	}
}

// deliver has an allocator do something when its message arrives: in the order of
// its channel, not while it is cut off, later while it stands still.
func (w *world) deliver(m *member, channel string, do func(now time.Time, out []Out) []Out) {
	at := w.now.Add(w.delay())
	if channel != "" {
		if last := m.last[channel]; at.Before(last) {
			at = last
		}
		m.last[channel] = at
	}
	life := m.life
	w.after(at.Sub(w.now), func() { w.take(m, life, do) })
}

func (w *world) take(m *member, life int, do func(now time.Time, out []Out) []Out) {
	switch {
	case !m.alive || m.life != life:
	case m.paused:
		m.backlog = append(m.backlog, func() { w.take(m, life, do) })
	default:
		w.perform(m, do(w.now.Add(m.skew), nil))
	}
}

// begin starts an allocator: it reads both buckets and ticks.
func (w *world) begin(m *member) {
	m.life++
	m.alive, m.paused, m.backlog, m.last = true, false, nil, map[string]time.Time{}
	m.skew = w.upTo(4*time.Second) - 2*time.Second
	m.core = New(w.draw.Uint64())
	w.read(m)
	life := m.life
	var tick func()
	tick = func() {
		if m.alive && m.life == life {
			if !m.paused {
				w.perform(m, m.core.Tick(w.now.Add(m.skew), nil))
			}
			w.after(step, tick)
		}
	}
	w.after(w.upTo(step), tick)
}

// read delivers what the buckets hold, and what they do not any more.
func (w *world) read(m *member) {
	for _, id := range slices.Sorted(maps.Keys(w.beats)) {
		hb := w.beats[id]
		w.deliver(m, "nodes", func(now time.Time, out []Out) []Out { return m.core.SeeNode(now, hb, hb.At, out) })
	}
	born, seen := w.born, maps.Clone(w.bucket)
	age := w.now.Sub(born)
	w.deliver(m, "calls", func(now time.Time, out []Out) []Out {
		for _, id := range slices.SortedFunc(maps.Keys(seen), byID) {
			out = m.core.SeeCall(now, seen[id].entry, seen[id].revision, out)
		}
		for _, id := range slices.SortedFunc(maps.Keys(m.core.revisions), byID) {
			if _, there := seen[id]; !there {
				m.core.CallGone(id, 0)
			}
		}
		m.core.Synced(now, born, age)
		return out
	})
}

func byID(a, b sfu.CallID) int { return cmp.Compare(a.ID, b.ID) }

func (w *world) perform(m *member, out []Out) {
	for _, o := range out {
		switch {
		case o.Ask != nil:
			w.ask(m, o.Ask.Node)
		case o.Write != nil:
			if o.Write.Entry.Move == nil {
				w.tally.restores++
			}
			w.write(m, *o.Write, func(bool) {})
		case o.Tell != nil:
			w.tell(*o.Tell)
		case o.End != nil:
			w.end(m, o.End.Node, o.End.Call)
		case o.Note != nil && o.Note.Deed == allocator.DeedLost:
			w.tally.losses++
			w.say("allocator %p: lost %s: %s", m.core, o.Note.Node, o.Note.Why)
		case o.Note != nil && o.Note.Deed == allocator.DeedHold:
			w.tally.holds++
		}
	}
}

func (w *world) ask(m *member, node edgeagent.NodeID) {
	n := w.node(node)
	life := m.life
	w.after(w.upTo(AskTime), func() {
		ok := n.alive && !n.frozen && (w.quiet || w.draw.IntN(10) > 0)
		w.take(m, life, func(now time.Time, out []Out) []Out { return m.core.Answered(now, node, Answer{Came: ok}, out) })
	})
}

func (w *world) node(id edgeagent.NodeID) *edge { return w.nodes[id[0]-'a'] }

// write is a compare-and-swap: it may be done and its answer lost.
func (w *world) write(m *member, x Write, then func(won bool)) {
	life, failed := m.life, false
	reply := func(do func(now time.Time, out []Out) []Out) {
		w.after(w.delay(), func() {
			if m.cut || failed { // nobody waits any more
				return
			}
			w.take(m, life, do)
		})
	}
	answered := false
	w.after(w.delay(), func() {
		if m.cut || m.life != life {
			return
		}
		old, there := w.bucket[x.Entry.Call]
		if there && old.revision != x.Last || !there && x.Last != 0 {
			reply(func(now time.Time, out []Out) []Out {
				answered = true
				w.tally.races++
				m.core.Failed(now, x)
				cur, found := w.bucket[x.Entry.Call]
				out = m.core.Reread(now, x.Entry.Call, cur.entry, cur.revision, found, out)
				w.perform(m, out)
				then(false)
				return nil
			})
			return
		}
		if there && x.Entry.Epoch < old.entry.Epoch {
			w.fault("epoch of call %v goes back from %d to %d", x.Entry.Call, old.entry.Epoch, x.Entry.Epoch)
		}
		w.own(x.Entry.Call, x.Entry.Epoch, x.Entry.Node)
		w.revision++
		rev := w.revision
		w.bucket[x.Entry.Call] = stored{x.Entry, rev}
		w.say("call %v on %s@%d by %p, revision %d", x.Entry.Call, x.Entry.Node, x.Entry.Epoch, m.core, rev)
		if x.moves() {
			w.tally.moves++
		}
		for _, o := range w.allocators {
			if !o.cut {
				w.deliver(o, "calls", func(now time.Time, out []Out) []Out { return o.core.SeeCall(now, x.Entry, rev, out) })
			}
		}
		reply(func(now time.Time, out []Out) []Out {
			answered = true
			w.perform(m, m.core.Won(now, x, rev, out))
			then(true)
			return nil
		})
	})
	w.after(WriteTime, func() {
		if !answered {
			failed = true
			w.take(m, life, func(now time.Time, out []Out) []Out { m.core.Failed(now, x); return out })
		}
	})
}

// own notes who owns a call in an epoch; there is one for ever.
func (w *world) own(call sfu.CallID, epoch uint64, node edgeagent.NodeID) {
	o := owner{call, epoch}
	if before, known := w.owners[o]; known && before != node {
		w.fault("call %v has the owners %s and %s in epoch %d", call, before, node, epoch)
	}
	w.owners[o] = node
}

// join seats somebody, by any allocator.
func (w *world) join() {
	call := sfu.CallID{ID: snowflake.ID(w.draw.IntN(worldCalls) + 1)}
	w.seat(call, w.draw.IntN(1000), 0, 40)
}

func (w *world) seat(call sfu.CallID, person int, epoch uint64, tries int) {
	m := w.allocators[w.draw.IntN(len(w.allocators))]
	again := func() {
		if tries > 0 {
			w.after(100*time.Millisecond, func() { w.seat(call, person, epoch, tries-1) })
		}
	}
	if !m.alive || m.paused || m.cut {
		again()
		return
	}
	cl, refused := m.core.Claim(w.now.Add(m.skew), allocator.PlaceRequest{Call: call, Epoch: epoch, Session: "s"})
	switch {
	case refused != nil, cl.Wait:
		w.tally.waits++
		again()
	case cl.Reread:
		life := m.life
		w.after(w.delay(), func() {
			if !m.cut {
				cur, found := w.bucket[call]
				w.take(m, life, func(now time.Time, out []Out) []Out {
					return m.core.Reread(now, call, cur.entry, cur.revision, found, out)
				})
			}
			w.after(10*time.Millisecond, func() { w.seat(call, person, 0, tries-1) })
		})
	case cl.Write == nil:
		w.grant(m, call, person, cl.Entry)
	default:
		w.write(m, *cl.Write, func(won bool) {
			if won {
				w.grant(m, call, person, cl.Entry)
			} else {
				again()
			}
		})
	}
}

// grant is a grant on its way to the node: it may take long.
func (w *world) grant(m *member, call sfu.CallID, person int, e allocator.CallEntry) {
	w.tally.seats++
	m.core.Seat(w.now.Add(m.skew), call)
	w.own(call, e.Epoch, e.Node)
	n := w.node(e.Node)
	d := w.delay()
	if w.draw.IntN(10) == 0 && !w.quiet {
		d = w.upTo(5 * time.Second)
	}
	var open func()
	open = func() {
		switch r := n.calls[call]; {
		case !n.alive:
		case n.frozen:
			n.backlog = append(n.backlog, open)
		case r != nil && e.Epoch < r.epoch:
		default:
			if r == nil {
				r = &room{people: map[int]bool{}}
				n.calls[call] = r
			}
			r.epoch = e.Epoch
			r.people[person] = true
			if w.members[call] == nil {
				w.members[call] = map[int]uint64{}
			}
			w.members[call][person] = e.Epoch
		}
	}
	w.after(d, open)
}

// tell has the members of a call follow it.
func (w *world) tell(moved allocator.Moved) {
	for _, person := range slices.Sorted(maps.Keys(w.members[moved.Call])) {
		if w.members[moved.Call][person] < moved.Epoch && w.draw.IntN(10) > 0 {
			w.after(w.delay(), func() { w.seat(moved.Call, person, moved.Epoch, 40) })
		}
	}
}

func (w *world) end(m *member, node edgeagent.NodeID, call sfu.CallID) {
	if m.cut {
		return
	}
	n := w.node(node)
	w.after(w.delay(), func() {
		if n.alive && !n.frozen && !n.cut && n.calls[call] != nil {
			w.tally.ends++
			w.say("call %v ends on %s", call, node)
			clear(n.calls[call].people)
		}
	})
}

func (w *world) beat(n *edge) {
	if n.alive {
		w.after(time.Second, func() { w.beat(n) })
	}
	if !n.alive || n.frozen || n.cut {
		return
	}
	hb := edgeagent.Heartbeat{
		Node: n.id, State: edgeagent.Ready, Started: n.started, At: w.now,
		Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 1000},
	}
	for _, id := range slices.SortedFunc(maps.Keys(n.calls), byID) {
		hb.Epoch = max(hb.Epoch, n.calls[id].epoch)
		if people := len(n.calls[id].people); people > 0 {
			hb.Load.Sessions += people
			hb.Calls = append(hb.Calls, edgeagent.CallOnANode{Call: id, Epoch: n.calls[id].epoch, Sessions: people})
		}
	}
	w.beats[n.id] = hb
	for _, m := range w.allocators {
		if !m.cut {
			w.deliver(m, "nodes", func(now time.Time, out []Out) []Out { return m.core.SeeNode(now, hb, hb.At, out) })
		}
	}
}

func (w *world) closed(n *edge) {
	at := w.now
	for _, m := range w.allocators {
		if !m.cut {
			w.deliver(m, "", func(now time.Time, out []Out) []Out { return m.core.Closed(now, n.id, at, out) })
		}
	}
}

// strike is one blow of fate.
func (w *world) strike() {
	n := w.nodes[w.draw.IntN(len(w.nodes))]
	m := w.allocators[w.draw.IntN(len(w.allocators))]
	back := 200*time.Millisecond + w.upTo(6*time.Second)
	switch w.draw.IntN(10) {
	case 0, 1:
		w.kill(n, back)
	case 2, 3:
		w.freeze(n, back)
	case 4:
		w.say("%s is cut off", n.id)
		n.cut = true
		w.closed(n)
		w.after(back, func() { n.cut = false })
	case 5:
		w.say("allocator %p dies", m.core)
		m.alive = false
		m.life++
		w.after(back, func() { w.begin(m) })
	case 6, 7:
		w.say("allocator %p stands still", m.core)
		m.paused = true
		w.after(back, func() { w.resume(m) })
	case 8:
		w.say("allocator %p is cut off", m.core)
		m.cut = true
		w.bus(m, true)
		w.after(back, func() { w.reconnect(m) })
	case 9:
		w.lose()
	}
}

func (w *world) kill(n *edge, back time.Duration) {
	if !n.alive {
		return
	}
	w.say("%s dies", n.id)
	n.alive, n.backlog = false, nil
	w.closed(n)
	for id := range n.calls {
		delete(n.calls, id)
	}
	w.after(back+time.Second, func() {
		n.alive, n.frozen, n.started = true, false, w.now
		w.beat(n)
	})
}

func (w *world) freeze(n *edge, back time.Duration) {
	w.say("%s freezes", n.id)
	n.frozen = true
	w.after(back, func() {
		if n.frozen {
			w.say("%s thaws", n.id)
			n.frozen = false
			for _, do := range n.backlog {
				do()
			}
			n.backlog = nil
		}
	})
}

func (w *world) resume(m *member) {
	m.paused = false
	todo := m.backlog
	m.backlog = nil
	for _, do := range todo {
		do()
	}
}

func (w *world) bus(m *member, away bool) {
	if m.alive {
		m.core.Bus(w.now.Add(m.skew), away)
	}
}

func (w *world) reconnect(m *member) {
	if m.cut {
		m.cut = false
		w.bus(m, false)
		w.read(m)
	}
}

// lose loses both buckets, as when the last server of the bus restarts.
func (w *world) lose() {
	w.say("the buckets are lost")
	w.bucket, w.beats = map[sfu.CallID]stored{}, map[edgeagent.NodeID]edgeagent.Heartbeat{}
	w.revision, w.born = w.revision+1000, w.now // internal/bus sees to it
	for _, m := range w.allocators {
		w.after(w.upTo(3*time.Second), func() {
			if m.alive && !m.cut {
				w.bus(m, true)
				w.bus(m, false)
				w.read(m)
			}
		})
	}
}

// heal ends all faults.
func (w *world) heal() {
	w.say("all is well")
	w.quiet = true
	for _, n := range w.nodes {
		n.cut = false
		if n.frozen {
			n.frozen = false
			for _, do := range n.backlog {
				do()
			}
			n.backlog = nil
		}
	}
	for _, m := range w.allocators {
		if m.paused {
			w.resume(m)
		}
		w.reconnect(m)
	}
}
