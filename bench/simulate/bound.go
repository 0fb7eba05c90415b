package simulate

import "math"

// weigh is how much of a seat each member of a call takes at the least, whichever node it
// is on. Sessions of a call take as much talk as the call is lively; a seat of most nodes
// is one of usual talk, and they have more sessions than seats, so that calls in which
// little is said fit in greater number; a seat of a large one is a session. The lesser of
// the two holds on both: no node within its limits has more such weight than seats. It
// is rounded down to a grain.
func weigh(talk float32) (grain int) { return int(min(float64(talk), 1) * grains) }

// grains is how many grains a seat has.
const grains = 256

// best is a lower bound of the sum of round trips, in milliseconds, with which the
// users of this moment could be served by the nodes of this moment within their limits.
// ok is false when there is no room.
func (e *engine) best() (sum float64, ok bool) {
	city := make([][grains + 1]int, len(e.w.metros))
	e.wide = e.wide[:0]
	for id := range e.calls {
		c := &e.calls[id]
		if !c.alive || c.node < 0 || c.joined == 0 {
			continue
		}
		for i := range c.joined {
			_, step := e.member(c, i)
			sum += access(step)
		}
		if !c.spread {
			city[c.metro][weigh(c.talk)] += int(c.joined)
			continue
		}
		e.wide = append(e.wide, wide{kind: shareArea(e.w.metros[c.metro].area), seats: float64(c.joined) * float64(weigh(c.talk)) / grains, total: e.total(c)})
	}
	var users []alike
	for m := range city {
		for grain, n := range city[m] {
			if n > 0 {
				users = append(users, alike{source: m, n: n, seat: float64(grain) / grains})
			}
		}
	}
	room := make([]float64, len(e.w.regions))
	for i, n := range e.w.nodes {
		if e.hosts[i].there {
			room[n.region] += n.seats
		}
	}
	least, ok := bound(users, e.w.rtt, e.wide, room)
	return sum + least, ok
}

// total is the way of all members of a call to each region, in milliseconds.
func (e *engine) total(c *call) []float64 {
	total := make([]float64, len(e.w.regions))
	for i := range c.joined {
		m, _ := e.member(c, i)
		for r, ms := range e.w.rtt[m] {
			total[r] += ms
		}
	}
	return total
}

// alike are single users of one source, each of whom takes so much of a seat.
type alike struct {
	source, n int
	seat      float64
}

// wide is a call whose members are in many places: total is what all of them cost at
// each sink, seats what all of them take. Those of a kind are alike.
type wide struct {
	kind  int
	seats float64
	total []float64
}

// bound is a lower bound of what it costs to seat single users, by source, and whole
// calls at sinks with so much room.
//
// With a price p ≥ 0 on each seat of a sink, whatever is allowed costs no less than
//
//	Σ users: least of (cost + p × seat)  +  Σ calls: least of (total + p × seats)  -  Σ sinks: p × room
//
// for it costs no less without the p, of which the first two pay for all that is taken and
// the last is for all there is, and each user and each call is somewhere. So much
// holds for any p. The best for single users are the prices of the cheapest flow of seats
// (the dual of the linear program), with which the bound is that flow's cost where all
// take a whole seat; calls are in it as if their members could part, and all of a source
// or of a kind at the mean cost of that, so that the prices know of the room they take.
func bound(users []alike, cost [][]float64, calls []wide, room []float64) (least float64, ok bool) {
	taken := make([]float64, len(cost)) // by source, and then by kind
	rows := make([][]float64, len(cost))
	for i := range rows {
		rows[i] = make([]float64, len(room))
	}
	for _, u := range users {
		taken[u.source] += float64(u.n) * u.seat
		for r, ms := range cost[u.source] {
			rows[u.source][r] += float64(u.n) * ms
		}
	}
	for _, c := range calls {
		for len(rows) <= len(cost)+c.kind {
			taken, rows = append(taken, 0), append(rows, make([]float64, len(room)))
		}
		k := len(cost) + c.kind
		taken[k] += c.seats
		for r, ms := range c.total {
			rows[k][r] += ms
		}
	}
	// The flow is of whole seats: what is a fraction of one is left out where it would
	// take room and let in where it gives some, so that what is left over never had any.
	supply, capacity := make([]int, len(rows)), make([]int, len(room))
	for k, row := range rows {
		supply[k] = int(taken[k])
		for r := range row {
			if taken[k] > 0 {
				row[r] /= taken[k]
			}
		}
	}
	for r, seats := range room {
		capacity[r] = int(math.Ceil(seats))
	}
	flow, left := carry(supply, capacity, rows)
	if left > 0 {
		return 0, false
	}
	price := prices(flow, rows)
	cheapest := func(cost []float64, seats float64) float64 {
		best := cost[0] + seats*price[0]
		for r, ms := range cost {
			best = min(best, ms+seats*price[r])
		}
		return best
	}
	for _, u := range users {
		least += float64(u.n) * cheapest(cost[u.source], u.seat)
	}
	for _, c := range calls {
		least += cheapest(c.total, c.seats)
	}
	for r, seats := range room {
		least -= price[r] * seats
	}
	return least, true
}
