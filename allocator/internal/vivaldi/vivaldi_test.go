package vivaldi

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// place is a node of a world that is to be found out.
type place struct{ x, y, access float64 }

func (p place) rtt(q place) float64 { return math.Hypot(p.x-q.x, p.y-q.y) + p.access + q.access }

// world is regions on a plane, in milliseconds, with some nodes in each.
func world(draw *rand.Rand, regions, nodes int) []place {
	var all []place
	for range regions {
		x, y := draw.Float64()*200, draw.Float64()*120
		for range nodes {
			all = append(all, place{x + draw.Float64()*4, y + draw.Float64()*4, 0.2 + draw.Float64()*2})
		}
	}
	return all
}

// errors are the relative errors of all distances, sorted.
func errors(all []place, coords []Coordinate) []float64 {
	var list []float64
	for i := range all {
		for j := range i {
			list = append(list, math.Abs(coords[i].Distance(&coords[j])-all[i].rtt(all[j]))/all[i].rtt(all[j]))
		}
	}
	slices.Sort(list)
	return list
}

// TestConverges: each node measures 16 of 120 others, with a noise of a fifth
// upwards, as queues make it; the distances to those it has never measured come
// out too.
func TestConverges(t *testing.T) {
	for seed := range uint64(5) {
		draw := rand.New(rand.NewPCG(seed, 1))
		all := world(draw, 12, 10)
		coords := make([]Coordinate, len(all))
		peers := make([][]int, len(all))
		for i := range all {
			peers[i] = draw.Perm(len(all))[:16]
		}
		settled := 0
		for round := range 120 { // seconds
			for i := range all {
				for _, j := range peers[i] {
					if i != j {
						coords[i].Update(all[i].rtt(all[j])*(1+0.2*draw.Float64()*draw.Float64()), &coords[j], draw)
					}
				}
			}
			if n := slices.IndexFunc(coords, func(c Coordinate) bool { return !c.Settled() }); n < 0 && settled == 0 {
				settled = round + 1
			}
		}
		list := errors(all, coords)
		median, p90 := list[len(list)/2], list[len(list)*9/10]
		t.Logf("seed %d: settled after %d s, relative error median %.3f, p90 %.3f", seed, settled, median, p90)
		if median > 0.12 || p90 > 0.35 || settled == 0 || settled > 30 {
			t.Errorf("seed %d: settled after %d s, relative error median %.3f, p90 %.3f", seed, settled, median, p90)
		}
	}
}

// TestLiar: a node that reports nonsense from the beginning on loses its own place
// only, also with the largest lies that are taken in.
func TestLiar(t *testing.T) {
	draw := rand.New(rand.NewPCG(7, 1))
	all := world(draw, 8, 5)
	coords := make([]Coordinate, len(all))
	step := func() {
		for i := range all {
			for _, j := range draw.Perm(len(all))[:12] {
				if i == j {
					continue
				}
				rtt := all[i].rtt(all[j])
				if i == 0 {
					rtt = 1 + (MaxRTT-1)*draw.Float64()
				}
				coords[i].Update(rtt, &coords[j], draw)
			}
		}
	}
	for range 120 {
		step()
	}
	honest := errors(all[1:], coords[1:])
	if median := honest[len(honest)/2]; median > 0.15 {
		t.Errorf("the distances of the others are wrong by %.3f", median)
	}
	before := coords[0]
	for _, rtt := range []float64{0, -1, math.NaN(), math.Inf(1), MaxRTT + 1} {
		if coords[0].Update(rtt, &coords[1], draw); coords[0] != before {
			t.Errorf("%v ms were taken in", rtt)
		}
	}
}

func TestFirstMeasurement(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 1))
	var a, b Coordinate
	if a.Settled() || a.Error() != firstError {
		t.Errorf("a node that measured nothing has an error of %v", a.Error())
	}
	for range 60 {
		a.Update(80, &b, draw)
		b.Update(80, &a, draw)
	}
	if d := a.Distance(&b); math.Abs(d-80) > 1 || a.Distance(&b) != b.Distance(&a) {
		t.Errorf("80 ms apart, and %v and %v", d, b.Distance(&a))
	}
	again := rand.New(rand.NewPCG(1, 1))
	var c, d Coordinate
	for range 60 {
		c.Update(80, &d, again)
		d.Update(80, &c, again)
	}
	if c != a || d != b {
		t.Error("the same seed leads elsewhere")
	}
	m := Mean([]*Coordinate{&a, &b})
	if got := m.Distance(&a); math.Abs(got-40) > 5 {
		t.Errorf("the middle is %v away from either end", got)
	}
}

func BenchmarkUpdate(b *testing.B) {
	draw := rand.New(rand.NewPCG(1, 1))
	var x, y Coordinate
	for b.Loop() {
		x.Update(80, &y, draw)
		y.Update(80, &x, draw)
	}
}
