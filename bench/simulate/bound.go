package simulate

// best is the least sum of round trips, in milliseconds, with which the users of
// this moment could be served by the nodes of this moment, or less than that: calls
// of one city are carried as a flow of users through regions whole (what a flow
// may do, whole calls on single nodes may not), calls of a continent each go to
// their best region as if it had room for all. ok is false when there is no room.
func (e *engine) best() (sum float64, ok bool) {
	supply := make([]int, len(e.w.metros))
	total := make([]float64, len(e.w.regions))
	for id := range e.calls {
		c := &e.calls[id]
		if !c.alive || c.node < 0 {
			continue
		}
		if !c.spread {
			supply[c.metro] += int(c.joined)
			for i := range c.joined {
				_, step := e.member(c, i)
				sum += access(step)
			}
			continue
		}
		clear(total)
		for i := range c.joined {
			m, step := e.member(c, i)
			sum += access(step)
			for r, ms := range e.w.rtt[m] {
				total[r] += ms
			}
		}
		least := total[0]
		for _, ms := range total {
			least = min(least, ms)
		}
		sum += least
	}
	room := make([]int, len(e.w.regions))
	for i, n := range e.w.nodes {
		if e.hosts[i].there {
			room[n.region] += int(n.seats)
		}
	}
	cost, left := transport(supply, room, e.w.rtt)
	return sum + cost, left == 0
}
