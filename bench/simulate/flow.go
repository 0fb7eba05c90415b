package simulate

import (
	"container/heap"
	"math"
)

// transport is the cheapest way to carry all supply to the sinks, and its cost: a
// minimum-cost flow by successive shortest paths with potentials (Ahuja, Magnanti,
// Orlin, "Network Flows", 9.7). Supplies and capacities are whole, and so is what
// it finds. What does not fit anywhere is left over.
func transport(supply, capacity []int, cost [][]float64) (total float64, left int) {
	flow, left := carry(supply, capacity, cost)
	for i := range flow {
		for j, n := range flow[i] {
			total += float64(n) * cost[i][j]
		}
	}
	return total, left
}

// prices are what one more seat at each sink would save, given the cheapest flow: the
// best of not using it, and of carrying a unit there that goes to another sink, whose
// seat then is the one more. A sink with room left is worth nothing.
func prices(flow [][]int, cost [][]float64) []float64 {
	t := len(cost[0])
	gain := make([][]float64, t) // by carrying a unit to j that goes to k
	for j := range gain {
		gain[j] = make([]float64, t)
		for k := range gain[j] {
			gain[j][k] = math.Inf(-1)
			for i := range flow {
				if flow[i][k] > 0 {
					gain[j][k] = max(gain[j][k], cost[i][k]-cost[i][j])
				}
			}
		}
	}
	price := make([]float64, t)
	for range t { // a chain is no longer than there are sinks
		for j := range t {
			for k := range t {
				price[j] = max(price[j], gain[j][k]+price[k])
			}
		}
	}
	return price
}

// carry is the flow of transport, by source and sink.
func carry(supply, capacity []int, cost [][]float64) (flow [][]int, left int) {
	s, t := len(supply), len(capacity)
	flow = make([][]int, s)
	for i := range flow {
		flow[i] = make([]int, t)
	}
	supply = append([]int(nil), supply...)
	room := append([]int(nil), capacity...)
	// Vertices: sources 0..s-1, sinks s..s+t-1.
	potential := make([]float64, s+t)
	for j := range t {
		potential[s+j] = math.Inf(1)
		for i := range s {
			potential[s+j] = min(potential[s+j], cost[i][j])
		}
	}
	dist, from := make([]float64, s+t), make([]int, s+t)
	for {
		for v := range dist {
			dist[v], from[v] = math.Inf(1), -1
		}
		var q frontier
		for i, n := range supply {
			if n > 0 {
				// The origin of all supply is at distance 0 of each source.
				dist[i] = max(0, -potential[i])
				heap.Push(&q, reach{i, dist[i]})
			}
		}
		end, best := -1, math.Inf(1)
		for q.Len() > 0 {
			at := heap.Pop(&q).(reach)
			if at.d > dist[at.v] {
				continue
			}
			if at.v < s {
				for j := range t {
					if d := at.d + max(0, cost[at.v][j]+potential[at.v]-potential[s+j]); d < dist[s+j]-1e-12 {
						dist[s+j], from[s+j] = d, at.v
						heap.Push(&q, reach{s + j, d})
					}
				}
				continue
			}
			j := at.v - s
			if real := at.d + potential[at.v]; room[j] > 0 && real < best {
				end, best = at.v, real
			}
			for i := range s {
				if flow[i][j] == 0 {
					continue
				}
				if d := at.d + max(0, -cost[i][j]+potential[at.v]-potential[i]); d < dist[i]-1e-12 {
					dist[i], from[i] = d, at.v
					heap.Push(&q, reach{i, d})
				}
			}
		}
		if end < 0 {
			break
		}
		for v := range potential {
			if !math.IsInf(dist[v], 1) {
				potential[v] += dist[v]
			}
		}
		// As much as every edge of the path takes.
		n, v := room[end-s], end
		for from[v] >= 0 {
			if u := from[v]; u >= s {
				n = min(n, flow[v][u-s])
			}
			v = from[v]
		}
		n = min(n, supply[v])
		supply[v] -= n
		room[end-s] -= n
		for v = end; from[v] >= 0; v = from[v] {
			if u := from[v]; u < s {
				flow[u][v-s] += n
			} else {
				flow[v][u-s] -= n
			}
		}
	}
	for _, n := range supply {
		left += n
	}
	return flow, left
}

type reach struct {
	v int
	d float64
}

type frontier []reach

func (q frontier) Len() int           { return len(q) }
func (q frontier) Less(i, j int) bool { return q[i].d < q[j].d }
func (q frontier) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *frontier) Push(x any)        { *q = append(*q, x.(reach)) }
func (q *frontier) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
