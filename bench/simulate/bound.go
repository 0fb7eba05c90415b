package simulate

// best is a lower bound of the sum of round trips, in milliseconds, with which the
// users of this moment could be served by the nodes of this moment. ok is false when
// there is no room.
func (e *engine) best() (sum float64, ok bool) {
	city := make([]int, len(e.w.metros))
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
			city[c.metro] += int(c.joined)
			continue
		}
		e.wide = append(e.wide, wide{kind: shareArea(e.w.metros[c.metro].area), members: int(c.joined), total: e.total(c)})
	}
	room := make([]int, len(e.w.regions))
	for i, n := range e.w.nodes {
		if e.hosts[i].there {
			room[n.region] += int(n.seats)
		}
	}
	least, ok := bound(city, e.w.rtt, e.wide, room)
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

// wide is a call whose members are in many places: total is what all of them cost at
// each sink. Those of a kind are alike.
type wide struct {
	kind, members int
	total         []float64
}

// bound is a lower bound of what it costs to seat single users, by source, and whole
// calls at sinks with so much room.
//
// With a price p ≥ 0 on each seat of a sink, whatever is allowed costs no less than
//
//	Σ users: least of (cost + p)  +  Σ calls: least of (total + members × p)  -  Σ sinks: p × room
//
// for it costs no less without the last two p, of which the first pays for every seat
// taken and the second is for all there are, and each user and each call is
// somewhere. So much holds for any p. The best for single users are the prices of the
// cheapest flow (the dual of the linear program), with which the bound is that flow's
// cost; calls are in it as if their members could part, all of a kind at the mean
// cost of their kind, so that the prices know of the room they take.
func bound(users []int, cost [][]float64, calls []wide, room []int) (least float64, ok bool) {
	supply := append([]int(nil), users...)
	rows := append([][]float64(nil), cost...)
	for _, c := range calls {
		for len(supply) <= len(users)+c.kind {
			supply, rows = append(supply, 0), append(rows, make([]float64, len(room)))
		}
		k := len(users) + c.kind
		supply[k] += c.members
		for r, ms := range c.total {
			rows[k][r] += ms
		}
	}
	for k := len(users); k < len(rows); k++ {
		for r := range rows[k] {
			rows[k][r] /= float64(max(1, supply[k]))
		}
	}
	flow, left := carry(supply, room, rows)
	if left > 0 {
		return 0, false
	}
	price := prices(flow, rows)
	cheapest := func(cost []float64, members float64) float64 {
		best := cost[0] + members*price[0]
		for r, ms := range cost {
			best = min(best, ms+members*price[r])
		}
		return best
	}
	for i, n := range users {
		least += float64(n) * cheapest(cost[i], 1)
	}
	for _, c := range calls {
		least += cheapest(c.total, float64(c.members))
	}
	for r, n := range room {
		least -= price[r] * float64(n)
	}
	return least, true
}
