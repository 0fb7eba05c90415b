package simulate

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
)

// cheapest tries every way to carry the supply, unit by unit.
func cheapest(supply, room []int, cost [][]float64) float64 {
	for i, n := range supply {
		if n == 0 {
			continue
		}
		best := math.Inf(1)
		supply[i]--
		for j := range room {
			if room[j] > 0 {
				room[j]--
				best = min(best, cost[i][j]+cheapest(supply, room, cost))
				room[j]++
			}
		}
		supply[i]++
		return best
	}
	return 0
}

func TestTransportIsTheCheapest(t *testing.T) {
	for seed := range uint64(200) {
		draw := rand.New(rand.NewPCG(seed, 1))
		supply, room := make([]int, 1+draw.IntN(3)), make([]int, 1+draw.IntN(3))
		cost := make([][]float64, len(supply))
		wanted, there := 0, 0
		for i := range supply {
			supply[i] = draw.IntN(3)
			wanted += supply[i]
			cost[i] = make([]float64, len(room))
			for j := range room {
				cost[i][j] = float64(draw.IntN(50))
			}
		}
		for j := range room {
			room[j] = draw.IntN(4)
			there += room[j]
		}
		got, left := transport(supply, room, cost)
		if left != max(0, wanted-there) {
			t.Fatalf("seed %d: %d left of %d for %d", seed, left, wanted, there)
		}
		if left > 0 {
			continue
		}
		if want := cheapest(supply, room, cost); math.Abs(got-want) > 1e-9 {
			t.Fatalf("seed %d: cost %v, the least is %v", seed, got, want)
		}
	}
}

// cheapestWhole tries every place for each call. Each takes its seats of the room.
func cheapestWhole(room []float64, calls []wide) float64 {
	if len(calls) == 0 {
		return 0
	}
	best, c := math.Inf(1), calls[0]
	for j := range room {
		if room[j] >= c.seats {
			room[j] -= c.seats
			best = min(best, c.total[j]+cheapestWhole(room, calls[1:]))
			room[j] += c.seats
		}
	}
	return best
}

// TestBoundIsOne: nothing that is possible costs less than the bound, with single users
// alone who take a whole seat it is the cheapest, and calls that take room raise it.
func TestBoundIsOne(t *testing.T) {
	raised, near, exact := 0, 0, 0
	for seed := range uint64(1000) {
		draw := rand.New(rand.NewPCG(seed, 2))
		whole := seed%2 == 0 // all take whole seats, of which there is a whole number
		seat := func() float64 {
			if whole {
				return 1
			}
			return float64(7+draw.IntN(2)) / 8
		}
		room := make([]float64, 2+draw.IntN(2))
		for j := range room {
			room[j] = float64(draw.IntN(10))
			if !whole {
				room[j] += float64(draw.IntN(8)) / 8
			}
		}
		row := func(times int) []float64 {
			out := make([]float64, len(room))
			for j := range out {
				out[j] = float64(times * draw.IntN(50))
			}
			return out
		}
		cost := make([][]float64, 1+draw.IntN(3))
		supply := make([]int, len(cost))
		var users []alike
		var calls, all []wide
		for i := range cost {
			cost[i] = row(1)
			for range draw.IntN(3) {
				u := alike{source: i, n: 1 + draw.IntN(2), seat: seat()}
				users = append(users, u)
				supply[i] += u.n
				for range u.n {
					all = append(all, wide{seats: u.seat, total: cost[i]})
				}
			}
		}
		for range draw.IntN(4) {
			n := 1 + draw.IntN(4)
			calls = append(calls, wide{kind: draw.IntN(2), seats: float64(n) * seat(), total: row(n)})
		}
		want := cheapestWhole(slices.Clone(room), append(all, calls...))
		got, ok := bound(users, cost, calls, room)
		if !ok {
			if !math.IsInf(want, 1) {
				t.Fatalf("seed %d: no bound, and %v is possible", seed, want)
			}
			continue
		}
		if got > want+1e-9 {
			t.Fatalf("seed %d: bound %v, the least is %v", seed, got, want)
		}
		if whole && len(calls) == 0 {
			if exact++; got < want-1e-9 {
				t.Fatalf("seed %d: bound %v of single users, the least is %v", seed, got, want)
			}
		}
		alone := 0.0 // the calls as if there were room for all of them
		for _, c := range calls {
			alone += slices.Min(c.total)
		}
		seats := make([]int, len(room))
		for j := range room {
			seats[j] = int(room[j])
		}
		if of, left := transport(supply, seats, cost); left == 0 && whole && got > of+alone+1e-9 {
			raised++
		}
		if got > 0.9*want {
			near++
		}
	}
	if raised < 50 || near < 300 || exact < 50 {
		t.Errorf("%d bounds know of the room that calls take, %d are near the least, %d are of single users alone", raised, near, exact)
	}
}

// TestWeigh: what weighs a node down by what its calls weigh is never more than its seats
// while it is within its limits, whatever is said in them, and that is little less than it
// holds.
func TestWeigh(t *testing.T) {
	one := placement.Seats(1)
	for _, n := range newWorld(60).nodes {
		for _, talk := range []float32{1 - talkSpread, 0.95, 1, 1.05, 1 + talkSpread} {
			users := int(min(n.capacity.PPS/one.PPS, n.capacity.BPS/one.BPS) / float64(talk))
			users = min(users, n.capacity.Sessions)
			if over := placement.Fullness(edgeagent.Load{PPS: one.PPS * float64(users) * float64(talk), BPS: one.BPS * float64(users) * float64(talk), Sessions: users}, n.capacity); over > 1+1e-9 {
				t.Fatalf("%s is over its limit: %v", n.id, over)
			}
			if seats := float64(users*weigh(talk)) / grains; seats > n.seats+1e-9*n.seats {
				t.Errorf("%s: %d users who say %v take %.2f of %.2f seats", n.id, users, talk, seats, n.seats)
			}
		}
	}
	if got := float64(weigh(1-talkSpread)) / grains; got > 1-talkSpread || got < 0.99*(1-talkSpread) {
		t.Errorf("the quietest take %v of a seat", got)
	}
	if weigh(1) != grains || weigh(1+talkSpread) != grains {
		t.Error("who says as much as usual takes another part than all of a seat")
	}
}

// TestWorld holds the world to what it promises.
func TestWorld(t *testing.T) {
	w := newWorld(1000)
	if len(w.nodes) != 1000 || len(w.regions) != 30 || math.Abs(w.seats-7.2e6) > 1 {
		t.Errorf("%d nodes in %d regions for %.0f users", len(w.nodes), len(w.regions), w.seats)
	}
	var capacity [areas]float64
	for _, n := range w.nodes {
		capacity[w.regions[n.region].area] += n.seats / w.seats
	}
	for area, want := range capacityShare {
		if math.Abs(capacity[area]-want) > 1e-9 {
			t.Errorf("area %d has %.3f of the capacity, want %.2f", area, capacity[area], want)
		}
	}
	var users [areas]float64
	for m, c := range w.metros {
		users[shareArea(c.area)] += w.share[m]
	}
	for area, want := range userShare {
		if math.Abs(users[area]-want) > 1e-9 {
			t.Errorf("area %d has %.3f of the users, want %.2f", area, users[area], want)
		}
	}
	most, want := 0.0, make([]float64, len(w.metros))
	for h := 0.0; h < 24; h += 0.25 {
		w.demand(h, 4e6, want)
		sum := 0.0
		for _, v := range want {
			sum += v
		}
		most = max(most, sum)
	}
	if math.Abs(most-4e6) > 1 {
		t.Errorf("at most %.0f users, want 4 million", most)
	}
	// New York to London: 5,570 km.
	if got := rtt(w.metros[0], w.metros[14]); math.Abs(got-2*5570*1.6/200) > 1 {
		t.Errorf("New York to London takes %.1f ms", got)
	}
}

// TestSimulatorAsksTheAllocator: what the simulator's policy chooses is what the
// allocator's explanation of the same request says for the same lot.
func TestSimulatorAsksTheAllocator(t *testing.T) {
	w := newWorld(100)
	o := newOurs(w).(*ours)
	fate := rand.New(rand.NewPCG(3, 3))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range w.nodes {
		o.observe(now, int32(i), edgeagent.Ready, edgeagent.Load{Sessions: fate.IntN(w.nodes[i].capacity.Sessions + 1)})
	}
	for i := range 500 {
		lot := func() *rand.Rand { return rand.New(rand.NewPCG(uint64(i), 5)) }
		a := ask{call: i, metro: int32(i % len(w.metros)), access: i % accesses, more: 1 + i%40, avoid: int32(i%7 - 1), now: now, draw: lot()}
		n := o.choose(&a)
		ex := o.fleet.Explain(now, o.request(&a), a.more, lot())
		if n < 0 && ex.Chosen != "" || n >= 0 && ex.Chosen != w.nodes[n].id {
			t.Fatalf("request %d: the simulator chose node %d, the explanation says %q because %s", i, n, ex.Chosen, ex.Reason)
		}
		if !contains(ex.Candidates, ex.Chosen) || len(ex.Candidates) != len(w.nodes) {
			t.Fatalf("request %d: %d candidates explained", i, len(ex.Candidates))
		}
	}
}

func contains(list []allocator.Candidate, id edgeagent.NodeID) bool {
	for _, k := range list {
		if k.Node == id {
			return true
		}
	}
	return id == ""
}

// TestBooksBalance: after any faults the sums that are kept while calls come and
// go are those of the calls there are.
func TestBooksBalance(t *testing.T) {
	w := newWorld(60)
	for _, p := range append([]policy{newOurs(w)}, yardsticks(w)...) {
		e := newEngine(w, p, 7, w.seats*0.8, w.mostAt)
		err := e.run(t.Context(), 900, func() {
			e.surge = min(1, float64(e.now)/300)
			switch {
			case e.now%97 == 0:
				e.kill(e.some(2), nodeKilled, 60)
			case e.now%61 == 0:
				e.drain(e.some(1)[0], 30)
			case e.now%83 == 0:
				e.sicken(e.some(1)[0], .05, 20)
			case e.now%71 == 0:
				e.flood(e.some(1)[0], 500, 20)
			case e.now == 500:
				e.bus = true
			case e.now == 560:
				e.bus = false
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if e.m != nil {
			e.m.handOver(e.time())
		}
		users, rtts, talk := 0, 0.0, make([]float64, len(w.nodes))
		held := make([]int, len(w.nodes))
		on := make([]int, len(w.nodes))
		for id := range e.calls {
			c := &e.calls[id]
			if !c.alive {
				continue
			}
			users += int(c.joined)
			if c.node < 0 {
				continue
			}
			if e.hosts[c.node].calls[c.at] != int32(id) {
				t.Fatalf("%s: call %d is not where it says", p.name(), id)
			}
			for i := range c.joined {
				rtts += e.distance(c, i, c.node)
			}
			on[c.node] += int(c.joined)
			held[c.node] += int(c.held)
			talk[c.node] += float64(c.joined) * float64(c.talk)
		}
		if users != e.users || users < 1000 || math.Abs(rtts-e.rtts) > 1e-6*rtts {
			t.Errorf("%s: %d users of %d, round trips %.1f of %.1f", p.name(), e.users, users, e.rtts, rtts)
		}
		for i := range w.nodes {
			if h := &e.hosts[i]; h.users != on[i] || math.Abs(h.talk-talk[i]) > 1e-6*(1+talk[i]) {
				t.Errorf("%s: node %d has %d users, %.1f talk; its calls %d, %.1f", p.name(), i, h.users, h.talk, on[i], talk[i])
			}
		}
		o, ok := p.(*ours)
		if !ok {
			continue
		}
		for _, k := range o.fleet.Explain(e.time(), &allocator.PlaceRequest{}, 1, e.choice).Candidates {
			if i := o.index[k.Node]; k.Reserved.Sessions != held[i] {
				t.Errorf("%d sessions are reserved on %s, its calls hold %d", k.Reserved.Sessions, k.Node, held[i])
			}
		}
	}
}

// TestShortForm is the simulation in small: every goal but the bound on round trips,
// for which two hours are a full evening in Europe all along, and 60 nodes too few.
func TestShortForm(t *testing.T) {
	r, err := Run(t.Context(), Config{Seed: 1, Command: "test", Nodes: 50, Hours: 1, MonthNodes: 50, Days: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Goals) != 10 {
		t.Errorf("%d goals were judged", len(r.Goals))
	}
	for _, g := range r.Missed() {
		switch {
		case strings.HasPrefix(g.Name, "round trip over the best possible") && g.Value < 12:
		case strings.HasPrefix(g.Name, "placements") && g.Value > 10_000: // the race detector is slow
		default:
			t.Errorf("missed: %v", g)
		}
	}
	again, err := Run(t.Context(), Config{Seed: 1, Command: "test", Nodes: 50, Hours: 0.5, MonthNodes: 50, Days: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	same, err := Run(t.Context(), Config{Seed: 1, Command: "test", Nodes: 50, Hours: 0.5, MonthNodes: 50, Days: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range again.Goals {
		if a, b := again.Goals[i], same.Goals[i]; a != b && !strings.HasPrefix(a.Name, "placements") {
			t.Errorf("one seed gave %v and %v", a, b)
		}
	}
	var page strings.Builder
	if err := r.WriteHTML(&page); err != nil || !strings.Contains(page.String(), "Fullest node") {
		t.Errorf("page of %d bytes: %v", page.Len(), err)
	}
}

func TestRefusesNonsense(t *testing.T) {
	for _, c := range []Config{{Nodes: 3}, {Hours: 25}, {Days: -1}, {MonthNodes: 1e6}, {Hours: math.NaN()}} {
		if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "give") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestEndedEarly: what was found out is reported.
func TestEndedEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := Run(ctx, Config{Seed: 1, Nodes: 50, Hours: 1})
	if err != nil || r.Partial == "" || len(r.Goals) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
