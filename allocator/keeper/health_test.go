package keeper

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// ward is some nodes that beat once a second in virtual time.
type ward struct {
	h      Health
	now    time.Time
	events []string
}

// beat has nodes beat for so many seconds; load gives each its heartbeat's.
func (w *ward) beat(seconds int, nodes []string, load func(node string, second int) edgeagent.Load) {
	for s := range seconds {
		w.now = w.now.Add(time.Second)
		for _, id := range nodes {
			_, region, _ := strings.Cut(id, "@")
			hb := edgeagent.Heartbeat{Node: edgeagent.NodeID(id), Region: region, State: edgeagent.Ready, Capacity: edgeagent.Capacity{PPS: 1000, BPS: 1e9, Sessions: 1000}, Load: load(id, s)}
			for _, a := range w.h.Beat(w.now, hb, nil) {
				w.events = append(w.events, fmt.Sprintf("%.0f %s %s %s", w.now.Sub(start).Seconds(), a.Deed, a.Node, a.Cause))
			}
		}
	}
}

func TestHealth(t *testing.T) {
	four := []string{"a", "b", "c", "d"}
	loss := func(bad map[string]func(s int) float64) func(string, int) edgeagent.Load {
		return func(node string, s int) edgeagent.Load {
			l := edgeagent.Load{Sessions: 10}
			if f := bad[node]; f != nil {
				l.Loss = f(s)
			}
			return l
		}
	}
	always := func(v float64) func(int) float64 { return func(int) float64 { return v } }
	for _, c := range []struct {
		name    string
		nodes   []string
		seconds int
		load    func(string, int) edgeagent.Load
		want    []string
	}{
		{"all is well", four, 600, loss(nil), nil},
		{"at two percent it is well", four, 600, loss(map[string]func(int) float64{"a": always(0.02)}), nil},
		{"one bad second is nothing", four, 600, loss(map[string]func(int) float64{"a": func(s int) float64 { return []float64{0.5, 0.5, 0}[s%3] }}), nil},
		{"found, and not well before its quarantine is over", four, 60, loss(map[string]func(int) float64{"a": func(s int) float64 {
			if s < 5 {
				return 0.05
			}
			return 0
		}}), []string{"3 degraded a degraded", "33 recovered a degraded"}},
		{"not well while it loses a little", four, 100, loss(map[string]func(int) float64{"a": func(s int) float64 {
			if s < 5 {
				return 0.05
			}
			if s < 60 {
				return 0.015
			}
			return 0.002
		}}), []string{"3 degraded a degraded", "71 recovered a degraded"}},
		{"the last that is well stays", []string{"a", "b"}, 100, loss(map[string]func(int) float64{"a": always(0.3), "b": always(0.3)}), []string{"3 degraded a degraded"}},
		{"when all ail it is not they who do", four, 100, loss(map[string]func(int) float64{"a": always(0.3), "b": always(0.3), "c": always(0.3), "d": always(0.3)}), []string{"3 degraded a degraded"}},
		{"alone there is nowhere to go", []string{"a"}, 100, loss(map[string]func(int) float64{"a": always(0.3)}), nil},
		{"a surge", four, 60, func(node string, s int) edgeagent.Load {
			if node == "a" && s < 20 {
				return edgeagent.Load{PPS: 1300, Sessions: 10}
			}
			return edgeagent.Load{PPS: 300, Sessions: 10}
		}, []string{"2 degraded a overload", "31 recovered a overload"}},
		{"a surge that it does not send", four, 60, func(node string, s int) edgeagent.Load {
			l := edgeagent.Load{PPS: 300, Sessions: 10}
			if node == "a" {
				l.SocketDrops = 5000 * uint64(min(s, 10))
			}
			return l
		}, []string{"3 degraded a overload", "22 recovered a overload"}},
		{"warm among the cool", four, 60, func(node string, s int) edgeagent.Load {
			if node == "a" && s < 15 {
				return edgeagent.Load{PPS: 950}
			}
			return edgeagent.Load{PPS: 500}
		}, []string{"11 degraded a rebalance", "16 recovered a rebalance"}},
		{"warm, and the cool are far", []string{"a@here", "b@here", "c@there", "d@there"}, 600, func(node string, _ int) edgeagent.Load {
			if strings.HasSuffix(node, "@here") {
				return edgeagent.Load{PPS: 950}
			}
			return edgeagent.Load{PPS: 100}
		}, nil},
		{"warm among the warm", four, 600, func(string, int) edgeagent.Load { return edgeagent.Load{PPS: 950} }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &ward{now: start}
			w.beat(c.seconds, c.nodes, c.load)
			if !slices.Equal(w.events, c.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(w.events, ", "), strings.Join(c.want, ", "))
			}
		})
	}
}

// TestHealthDoesNotFlap: a node that is bad whenever it has anything to do falls
// ill again and again, but ever more rarely; one at the border, with noise, seldom.
func TestHealthDoesNotFlap(t *testing.T) {
	nodes := []string{"a", "b", "c"}
	w := &ward{now: start}
	w.beat(4*3600, nodes, func(node string, _ int) edgeagent.Load {
		l := edgeagent.Load{Sessions: 10}
		if node == "a" && w.h.Cause("a") == "" { // it has calls
			l.Loss = 0.2
		}
		return l
	})
	falls := 0
	for _, e := range w.events {
		if strings.Contains(e, "degraded a degraded") && !strings.Contains(e, "recovered") {
			falls++
		}
	}
	// 0.5, 1, 2, 4, 8 min, and then 16 each: 5 in the first quarter of an hour, 14 after it.
	if falls < 5 || falls > 22 {
		t.Errorf("it fell %d times in 4 hours: %v", falls, w.events)
	}
	draw := rand.New(rand.NewPCG(1, 2))
	w = &ward{now: start}
	w.beat(3600, nodes, func(node string, _ int) edgeagent.Load {
		l := edgeagent.Load{Sessions: 10}
		if node == "a" {
			l.Loss = 0.015 + 0.01*draw.Float64() // half of its heartbeats are over the border
		}
		return l
	})
	if len(w.events) != 1 { // found once, and not well while it is at the border
		t.Errorf("at the border: %v", w.events)
	}
}

// clinic is one allocator whose writes are won at once, over nodes whose members
// follow every move within two seconds.
type clinic struct {
	t     *testing.T
	c     *Core
	now   time.Time
	nodes map[edgeagent.NodeID]*edgeagent.Heartbeat
	calls map[sfu.CallID]allocator.CallEntry
	rev   uint64
	moves []allocator.Moved
	notes []allocator.JournalEntry
	later []func()
}

func newClinic(t *testing.T, ids ...string) *clinic {
	k := &clinic{t: t, c: New(7), now: start, nodes: map[edgeagent.NodeID]*edgeagent.Heartbeat{}, calls: map[sfu.CallID]allocator.CallEntry{}}
	k.c.Synced(k.now, start.Add(-time.Hour), time.Hour)
	for _, id := range ids {
		k.nodes[edgeagent.NodeID(id)] = &edgeagent.Heartbeat{Node: edgeagent.NodeID(id), State: edgeagent.Ready, Started: start.Add(-time.Hour), Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 1000}}
	}
	return k
}

func (k *clinic) perform(out []Out) {
	for _, o := range out {
		switch {
		case o.Ask != nil:
			k.perform(k.c.Answered(k.now, o.Ask.Node, Answer{Came: true}, nil))
		case o.Write != nil:
			k.rev++
			k.calls[o.Write.Entry.Call] = o.Write.Entry
			k.perform(k.c.Won(k.now, *o.Write, k.rev, nil))
		case o.Tell != nil:
			k.moves = append(k.moves, *o.Tell)
			m := *o.Tell
			k.later = append(k.later, func() { k.follow(m) })
		case o.Note != nil:
			k.notes = append(k.notes, *o.Note)
		}
	}
}

// follow has the members of a call go where it is.
func (k *clinic) follow(m allocator.Moved) {
	from := k.nodes[m.From]
	for i, on := range from.Calls {
		if on.Call == m.Call {
			from.Calls = slices.Delete(slices.Clone(from.Calls), i, i+1)
			from.Load.Sessions -= on.Sessions
			k.seat(m.Call, m.To, m.Epoch, on.Sessions)
			return
		}
	}
}

func (k *clinic) seat(call sfu.CallID, node edgeagent.NodeID, epoch uint64, n int) {
	hb := k.nodes[node]
	hb.Calls = append(slices.Clone(hb.Calls), edgeagent.CallOnANode{Call: call, Epoch: epoch, Sessions: n})
	hb.Load.Sessions += n
}

// pass lets seconds pass; change is called before each round of heartbeats.
func (k *clinic) pass(seconds int, change func()) {
	for range seconds {
		change()
		for _, id := range slices.Sorted(maps.Keys(k.nodes)) {
			hb := *k.nodes[id]
			hb.At = k.now
			k.perform(k.c.SeeNode(k.now, hb, k.now, nil))
		}
		for range int(time.Second / step) {
			k.now = k.now.Add(step)
			k.perform(k.c.Tick(k.now, nil))
		}
		todo := k.later
		k.later = nil
		for _, do := range todo {
			do()
		}
	}
}

// settle begins calls of 5 on the only node that is ready.
func (k *clinic) settle(calls int) {
	for i := range calls {
		id := sfu.CallID{ID: snowflake.ID(i + 1)}
		cl, err := k.c.Claim(k.now, allocator.PlaceRequest{Call: id, Session: "s"})
		if err != nil || cl.Write == nil {
			k.t.Fatalf("%+v, %v", cl, err)
		}
		k.perform([]Out{{Write: cl.Write}})
		k.seat(id, cl.Entry.Node, cl.Entry.Epoch, 5)
	}
}

// TestABadNodeIsLeft: listeners of a node with 40 calls begin to lose packets. It is
// found and empty within 10 s, its calls are moved once and make before break, and
// when it is well it takes a tenth of its share first and all of it a minute later.
func TestABadNodeIsLeft(t *testing.T) {
	k := newClinic(t, "a")
	k.pass(2, func() {})
	k.settle(40)
	for _, id := range []string{"b", "c"} {
		k.nodes[edgeagent.NodeID(id)] = &edgeagent.Heartbeat{Node: edgeagent.NodeID(id), State: edgeagent.Ready, Started: start.Add(-time.Hour), Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 1000}}
	}
	k.pass(5, func() {})
	a := k.nodes["a"]
	bad := func() {
		a.Load.Loss = 0
		if a.Load.Sessions > 0 {
			a.Load.Loss = 0.05
		}
	}
	began := k.now
	found := func() int {
		return slices.IndexFunc(k.notes, func(e allocator.JournalEntry) bool { return e.Deed == allocator.DeedDegraded && e.Node == "a" })
	}
	k.pass(10, bad)
	i := found()
	if i < 0 {
		t.Fatalf("not found within 10 s: %v", k.notes)
	}
	t.Logf("found after %v", k.notes[i].At.Sub(began))
	k.pass(8, bad)
	if a.Load.Sessions > 0 || len(k.moves) != 40 {
		t.Fatalf("%d people are still there, %d moves", a.Load.Sessions, len(k.moves))
	}
	last := k.moves[len(k.moves)-1].At.Sub(began)
	t.Logf("the last of 200 was told after %v", last)
	if last > 12*time.Second {
		t.Errorf("the last move was told after %v", last)
	}
	for _, m := range k.moves {
		if !m.Planned || m.Cause != allocator.CauseDegraded || m.From != "a" || m.To == "a" {
			t.Errorf("told %+v", m)
		}
	}
	// It is well, and takes its share by and by.
	k.pass(40, bad)
	share := func() float64 {
		ex, _ := k.c.Place().Decide(k.now, allocator.PlaceRequest{Call: sfu.CallID{ID: 999}}, rand.New(rand.NewPCG(1, 1)))
		for _, n := range ex.Candidates {
			if n.Node == "a" {
				if n.WhyNot != "" {
					return 0
				}
				if n.Share == 0 {
					return 1
				}
				return n.Share
			}
		}
		return -1
	}
	first := share()
	k.pass(30, bad)
	half := share()
	k.pass(60, bad)
	if all := share(); first < 0.1 || first > 0.5 || half <= first || all != 1 {
		t.Errorf("its share was %.2f, %.2f half a minute later, %.2f at last", first, half, all)
	}
	if len(k.moves) != 40 {
		t.Errorf("%d moves in all", len(k.moves))
	}
}

// TestASurgeIsSpread: a node that sends more than it can gives calls away until it
// is cool, not all of them, and none comes back.
func TestASurgeIsSpread(t *testing.T) {
	k := newClinic(t, "a")
	k.pass(2, func() {})
	k.settle(40)
	for _, id := range []string{"b", "c"} {
		k.nodes[edgeagent.NodeID(id)] = &edgeagent.Heartbeat{Node: edgeagent.NodeID(id), State: edgeagent.Ready, Started: start.Add(-time.Hour), Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 1000}}
	}
	k.pass(5, func() {})
	load := func() { // each of a's people costs 6 thousand packets a second
		for _, hb := range k.nodes {
			hb.Load.PPS = 6000 * float64(hb.Load.Sessions)
		}
	}
	k.pass(120, load)
	a := k.nodes["a"]
	if full := a.Load.PPS / a.Capacity.PPS; full > 0.82 || full < 0.4 {
		t.Errorf("it is %.0f %% full with %d people, after %d moves", 100*full, a.Load.Sessions, len(k.moves))
	}
	seen := map[sfu.CallID]int{}
	for _, m := range k.moves {
		if seen[m.Call]++; m.From != "a" || seen[m.Call] > 1 || m.Cause != allocator.CauseOverload && m.Cause != allocator.CauseRebalance {
			t.Errorf("told %+v", m)
		}
	}
	deeds := map[allocator.Deed]int{}
	for _, e := range k.notes {
		deeds[e.Deed]++
	}
	if deeds[allocator.DeedDegraded] != 1 || deeds[allocator.DeedRecovered] != 1 {
		t.Errorf("noted %v", deeds)
	}
}

// TestRegionChange: one call goes where its channel's region is, if it can.
func TestRegionChange(t *testing.T) {
	k := newClinic(t, "a", "b")
	k.nodes["a"].Region, k.nodes["b"].Region = "eu", "us"
	k.nodes["b"].State = edgeagent.Joining
	k.pass(2, func() {})
	k.settle(1)
	k.nodes["b"].State = edgeagent.Ready
	k.pass(3, func() {})
	call := sfu.CallID{ID: 1}
	if w, why := k.c.Move(k.now, allocator.MoveRequest{Call: call, Cause: allocator.CauseRegion, Region: "asia"}); w != nil {
		t.Errorf("moved to %s: %s", w.Entry.Node, why)
	}
	if w, why := k.c.Move(k.now, allocator.MoveRequest{Call: call, Cause: allocator.CauseRegion, Region: "eu"}); w != nil {
		t.Errorf("moved to %s: %s", w.Entry.Node, why)
	}
	w, why := k.c.Move(k.now, allocator.MoveRequest{Call: call, Cause: allocator.CauseRegion, Region: "us"})
	if w == nil {
		t.Fatal(why)
	}
	k.perform([]Out{{Write: w}})
	if len(k.moves) != 1 || k.moves[0].To != "b" || !k.moves[0].Planned || k.moves[0].Cause != allocator.CauseRegion {
		t.Errorf("told %+v", k.moves)
	}
}

// TestFailoverIsPaced: the calls of a lost node go to the others at the rate they
// take, and where none has room they wait.
func TestFailoverIsPaced(t *testing.T) {
	k := newClinic(t, "a")
	k.pass(2, func() {})
	k.settle(160) // 800 people
	for _, id := range []string{"b", "c"} {
		k.nodes[edgeagent.NodeID(id)] = &edgeagent.Heartbeat{Node: edgeagent.NodeID(id), State: edgeagent.Ready, Started: start.Add(-time.Hour), Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 350}}
	}
	k.pass(5, func() {})
	out := k.c.Closed(k.now, "a", k.now, nil)
	out = slices.DeleteFunc(out, func(o Out) bool { return o.Ask != nil })
	k.perform(out)
	k.perform(k.c.Answered(k.now, "a", Answer{}, nil))
	delete(k.nodes, "a")
	lost := k.now
	k.later = nil
	for range 20 {
		k.now = k.now.Add(step)
		k.perform(k.c.Tick(k.now, nil))
		load := map[edgeagent.NodeID]int{}
		for _, e := range k.calls {
			load[e.Node] += 5
		}
		budget := arrivalsAtOnce + 5 + int(k.now.Sub(lost).Seconds()*arrivalsPerSecond)
		for _, id := range []edgeagent.NodeID{"b", "c"} {
			if load[id] > budget {
				t.Fatalf("%v after the loss %d people go to %s, at most %d may", k.now.Sub(lost), load[id], id, budget)
			}
		}
	}
	load := map[edgeagent.NodeID]int{}
	for _, e := range k.calls {
		load[e.Node] += 5
	}
	if load["b"] < 330 || load["c"] < 330 || load["b"] > 350 || load["c"] > 350 || load["a"] != 800-load["b"]-load["c"] {
		t.Errorf("people: %v", load)
	}
}

// TestALostNodeTakesCallsAgain: a node that comes back, soon or long after its lease
// has ended, with nothing of its own, is chosen again, by and by.
func TestALostNodeTakesCallsAgain(t *testing.T) {
	for _, away := range []int{3, 8, 90, 1200} {
		k := newClinic(t, "a", "b")
		k.pass(5, func() {})
		a := k.nodes["a"]
		k.perform(slices.DeleteFunc(k.c.Closed(k.now, "a", k.now, nil), func(o Out) bool { return o.Ask != nil }))
		k.perform(k.c.Answered(k.now, "a", Answer{}, nil))
		delete(k.nodes, "a")
		for s := range away {
			k.pass(1, func() {})
			if s == 5 {
				k.perform(k.c.NodeGone(k.now, "a", false, nil))
			}
		}
		k.nodes["a"] = a
		why := func() string {
			ex, _ := k.c.Place().Decide(k.now, allocator.PlaceRequest{Call: sfu.CallID{ID: 9}}, rand.New(rand.NewPCG(1, 1)))
			for _, n := range ex.Candidates {
				if n.Node == "a" {
					return n.WhyNot
				}
			}
			return "it is not there"
		}
		k.pass(3, func() {})
		if got := why(); got != "" {
			t.Errorf("back after %d s it is not chosen: %s", away, got)
		}
		back := slices.ContainsFunc(k.notes, func(e allocator.JournalEntry) bool { return e.Deed == allocator.DeedBack && e.Node == "a" })
		if !back && away < 600 {
			t.Errorf("back after %d s, and nobody notes it: %v", away, k.notes)
		}
	}
}

// TestCallsComeNearer: calls that began far away, as what is near was full, come when
// there is room, make before break, by and by, and once; not while calls of a lost node
// wait for that room.
func TestCallsComeNearer(t *testing.T) {
	k := newClinic(t, "far", "lost", "near")
	for id, hb := range k.nodes {
		hb.Region = string(id)
	}
	near := k.nodes["near"]
	full := func() { near.Load.Sessions = 1000 }
	k.pass(2, full)
	for i := range 60 {
		id := sfu.CallID{ID: snowflake.ID(i + 1)}
		req := allocator.PlaceRequest{Call: id, Session: "s", RTT: map[string]float64{"near": 10, "far": 80, "lost": 200}}
		if i >= 40 { // as far as they are concerned they are near
			req.RTT["far"] = 19
		}
		cl, err := k.c.Claim(k.now, req)
		if err != nil || cl.Entry.Node != "far" {
			t.Fatalf("%+v, %v", cl, err)
		}
		k.perform([]Out{{Write: cl.Write}})
		k.seat(id, "far", cl.Entry.Epoch, 5)
	}
	k.pass(1, full)
	for id, e := range k.calls {
		for user := range 2 {
			if _, err := k.c.Claim(k.now, allocator.PlaceRequest{Call: id, User: sfu.UserID{ID: snowflake.ID(user + 1)}, RTT: e.Near.RTT}); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.pass(int((NearerRest+NearerEvery)/time.Second), full)
	if len(k.moves) != 0 {
		t.Fatalf("%d calls moved to a full node", len(k.moves))
	}
	near.Load.Sessions = 0
	k.c.exits["lost"] = &exit{cause: allocator.CauseNodeLost}
	waits := sfu.CallID{ID: 999}
	k.perform(k.c.SeeCall(k.now, allocator.CallEntry{Call: waits, Node: "lost", Epoch: 1, Created: k.now, Touched: k.now}, 1, nil))
	k.c.retry[waits] = k.now.Add(time.Hour)
	k.seat(waits, "lost", 1, 5)
	k.c.lost["lost"] = loss{at: k.now}
	k.pass(int(NearerEvery/time.Second), func() {})
	if len(k.moves) != 0 {
		t.Fatalf("%d calls took the room of a lost node's", len(k.moves))
	}
	delete(k.c.exits, "lost")
	delete(k.c.lost, "lost")
	k.nodes["lost"].Calls = nil
	k.c.CallGone(waits, 0)
	for range int(NearerEvery / time.Second) {
		was := len(k.moves)
		k.pass(1, func() {})
		if gone := 5 * (len(k.moves) - was); gone > NearerPace {
			t.Fatalf("%d people left in one second", gone)
		}
	}
	if len(k.moves) != 40 || near.Load.Sessions != 200 {
		t.Fatalf("%d calls came, %d people", len(k.moves), near.Load.Sessions)
	}
	for _, m := range k.moves {
		if !m.Planned || m.Cause != allocator.CauseRebalance || m.From != "far" || m.To != "near" {
			t.Errorf("told %+v", m)
		}
	}
	k.pass(int(NearerRest/time.Second)+120, func() {})
	if len(k.moves) != 40 {
		t.Errorf("%d moves in all", len(k.moves))
	}
}
