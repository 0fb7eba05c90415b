package simulate

import (
	"fmt"
	"math"
	"slices"

	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
)

// The areas by which users and capacity are shared out.
const (
	east = iota
	west
	europe
	asia
	other
	areas
)

// capacityShare is what of all capacity lies where; the rest of the world has
// none.
var capacityShare = [areas]float64{east: .40, west: .25, europe: .20, asia: .15}

// userShare is where people are; both halves of North America share theirs by
// the people in them.
var userShare = map[int]float64{east: .45, europe: .30, asia: .20, other: .05}

// city is a place: weight is its share of the people of its area (metropolitan
// areas in millions, roughly), nodes whether it is a region.
type city struct {
	name     string
	area     int
	lat, lon float64
	weight   float64
	nodes    bool
}

var cities = []city{
	{"newyork", east, 40.7, -74.0, 20, true}, {"ashburn", east, 39.0, -77.5, 9, true}, {"atlanta", east, 33.7, -84.4, 6, true},
	{"miami", east, 25.8, -80.2, 6, true}, {"chicago", east, 41.9, -87.6, 9.5, true}, {"toronto", east, 43.7, -79.4, 6.5, true},
	{"dallas", east, 32.8, -96.8, 8, true}, {"montreal", east, 45.5, -73.6, 4.3, true},
	{"losangeles", west, 34.1, -118.2, 18, true}, {"sanjose", west, 37.3, -121.9, 8, true}, {"seattle", west, 47.6, -122.3, 4, true},
	{"denver", west, 39.7, -105.0, 3, true}, {"phoenix", west, 33.4, -112.1, 5, true}, {"vancouver", west, 49.3, -123.1, 2.6, true},
	{"london", europe, 51.5, -0.1, 14, true}, {"frankfurt", europe, 50.1, 8.7, 9, true}, {"paris", europe, 48.9, 2.4, 12, true},
	{"amsterdam", europe, 52.4, 4.9, 7, true}, {"madrid", europe, 40.4, -3.7, 7, true}, {"milan", europe, 45.5, 9.2, 6, true},
	{"stockholm", europe, 59.3, 18.1, 3, true}, {"warsaw", europe, 52.2, 21.0, 5, true},
	{"tokyo", asia, 35.7, 139.7, 20, true}, {"osaka", asia, 34.7, 135.5, 9, true}, {"seoul", asia, 37.6, 127.0, 14, true},
	{"singapore", asia, 1.35, 103.8, 6, true}, {"hongkong", asia, 22.3, 114.2, 7, true}, {"mumbai", asia, 19.1, 72.9, 10, true},
	{"sydney", asia, -33.9, 151.2, 5, true}, {"taipei", asia, 25.0, 121.6, 7, true},

	{"houston", east, 29.8, -95.4, 7, false}, {"minneapolis", east, 45.0, -93.3, 3.7, false}, {"mexico", east, 19.4, -99.1, 8, false},
	{"boston", east, 42.4, -71.1, 5, false}, {"sandiego", west, 32.7, -117.2, 3.3, false}, {"portland", west, 45.5, -122.7, 2.5, false},
	{"rome", europe, 41.9, 12.5, 4, false}, {"berlin", europe, 52.5, 13.4, 5, false}, {"vienna", europe, 48.2, 16.4, 3, false},
	{"dublin", europe, 53.3, -6.3, 2, false}, {"lisbon", europe, 38.7, -9.1, 3, false}, {"bucharest", europe, 44.4, 26.1, 3, false},
	{"manila", asia, 14.6, 121.0, 5, false}, {"jakarta", asia, -6.2, 106.8, 5, false}, {"bangkok", asia, 13.8, 100.5, 4, false},
	{"delhi", asia, 28.6, 77.2, 6, false}, {"melbourne", asia, -37.8, 145.0, 4, false},
	{"saopaulo", other, -23.6, -46.6, 22, false}, {"buenosaires", other, -34.6, -58.4, 10, false}, {"istanbul", other, 41.0, 29.0, 10, false},
	{"dubai", other, 25.2, 55.3, 6, false}, {"johannesburg", other, -26.2, 28.0, 6, false},
}

// World constants.
const (
	kmPerMs   = 200.0 // light in fibre
	detour    = 1.6   // of a cable against the great circle
	accessMin = 5.0   // ms
	accessMax = 40.0
	accesses  = 8 // steps between them
)

// haversine is the great circle between two places in kilometres.
func haversine(a, b city) float64 {
	rad := math.Pi / 180
	sin := func(d float64) float64 { s := math.Sin(d * rad / 2); return s * s }
	h := sin(b.lat-a.lat) + math.Cos(a.lat*rad)*math.Cos(b.lat*rad)*sin(b.lon-a.lon)
	return 2 * 6371 * math.Asin(math.Min(1, math.Sqrt(h)))
}

// rtt between two places in milliseconds, without access.
func rtt(a, b city) float64 { return 2 * haversine(a, b) * detour / kmPerMs }

// access of one step, in milliseconds.
func access(step int) float64 {
	return accessMin + (accessMax-accessMin)*(float64(step)+0.5)/accesses
}

// world is the map: immutable, shared by all policies of a run.
type world struct {
	metros  []city // where people are
	share   []float64
	regions []city
	rtt     [][]float64            // metro → region
	nearest [][]int32              // metro → regions, nearest first
	areaOf  [][]int                // area → its metros
	asked   [][]map[string]float64 // metro → access step → what a client measures
	nodes   []site
	seats   float64 // of all nodes
	most    float64 // share of all people in calls at the busiest moment
	mostAt  float64 // its hour, UTC
}

// site is a node's place and size.
type site struct {
	id       edgeagent.NodeID
	region   int32
	zone     string
	capacity edgeagent.Capacity
	seats    float64 // sessions of usual talk that fit
}

// class is one kind of machine. Its size is in sessions of usual talk; which of
// the three resources ends first differs, and the others have slack over it.
type class struct {
	name                string
	of                  int // of ten nodes
	seats               float64
	pps, bps, sessionsX float64
}

// The classes: 0.4·3,600 + 0.4·7,200 + 0.2·14,400 = 7,200 a node, so that 1,000
// nodes carry 7.2 million.
var classes = []class{
	{"small, by packets", 4, 3600, 1, 1.8, 2},
	{"medium, by bandwidth", 4, 7200, 1.4, 1, 1.5},
	{"large, by sessions", 2, 14400, 1.3, 1.6, 1},
}

// newWorld lays out so many nodes in the first so many regions of each area.
func newWorld(nodes int) *world {
	w := &world{areaOf: make([][]int, areas)}
	var people [areas]float64
	for _, c := range cities {
		people[shareArea(c.area)] += c.weight
		if c.nodes {
			w.regions = append(w.regions, c)
		}
	}
	for i, c := range cities {
		w.metros = append(w.metros, c)
		w.share = append(w.share, userShare[shareArea(c.area)]*c.weight/people[shareArea(c.area)])
		w.areaOf[shareArea(c.area)] = append(w.areaOf[shareArea(c.area)], i)
	}
	for _, m := range w.metros {
		row := make([]float64, len(w.regions))
		near := make([]int32, len(w.regions))
		for r, c := range w.regions {
			row[r], near[r] = rtt(m, c), int32(r)
		}
		slices.SortFunc(near, func(a, b int32) int {
			if row[a] < row[b] {
				return -1
			}
			return 1
		})
		w.rtt, w.nearest = append(w.rtt, row), append(w.nearest, near)
		steps := make([]map[string]float64, accesses)
		for s := range steps {
			steps[s] = map[string]float64{}
			for r, c := range w.regions {
				steps[s][c.name] = row[r] + access(s)
			}
		}
		w.asked = append(w.asked, steps)
	}
	w.place(nodes)
	w.findBusiest()
	return w
}

// shareArea is the area whose users a place belongs to: North America is one.
func shareArea(area int) int {
	if area == west {
		return east
	}
	return area
}

// place gives every region its nodes, by largest remainder and at least one. Within
// an area they go where people are: to each region by the places it is nearest to.
func (w *world) place(nodes int) {
	near := make([]float64, len(w.regions))
	var weights [areas]float64
	for m, c := range w.metros {
		for _, r := range w.nearest[m] {
			if area := w.regions[r].area; shareArea(area) == shareArea(c.area) {
				near[r] += c.weight
				weights[area] += c.weight
				break
			}
		}
	}
	quota := make([]float64, len(w.regions))
	count := make([]int, len(w.regions))
	given := 0
	for r, c := range w.regions {
		quota[r] = float64(nodes) * capacityShare[c.area] * near[r] / weights[c.area]
		count[r] = max(1, int(quota[r]))
		given += count[r]
	}
	for ; given < nodes; given++ {
		most := 0
		for r := range quota {
			if quota[r]-float64(count[r]) > quota[most]-float64(count[most]) {
				most = r
			}
		}
		count[most]++
	}
	one := placement.Seats(1)
	k := 0
	for r, c := range w.regions {
		// Within a region all classes are there; sizes are scaled so that the
		// region has its share of 7,200 a node exactly.
		first, total := len(w.nodes), 0.0
		for i := range count[r] {
			kind := classes[[]int{0, 1, 0, 1, 2, 0, 1, 0, 1, 2}[(k+i)%10]]
			w.nodes = append(w.nodes, site{
				id: edgeagent.NodeID(fmt.Sprintf("%s-%d", c.name, i+1)), region: int32(r), zone: string(rune('a' + i%3)), seats: kind.seats,
				capacity: edgeagent.Capacity{PPS: kind.pps, BPS: kind.bps, Sessions: int(1000 * kind.sessionsX)},
			})
			total += kind.seats
		}
		k += count[r]
		scale := quota[r] * 7200 / total
		for i := first; i < len(w.nodes); i++ {
			n := &w.nodes[i]
			n.seats *= scale
			n.capacity = edgeagent.Capacity{
				PPS: n.seats * n.capacity.PPS * one.PPS, BPS: n.seats * n.capacity.BPS * one.BPS,
				Sessions: int(n.seats * float64(n.capacity.Sessions) / 1000),
			}
			w.seats += n.seats
		}
	}
}

// evening is how many people are in calls at an hour of local time, 0..1: most at
// nine in the evening, a third of them at nine in the morning.
func evening(hour float64) float64 {
	return 0.33 + 0.67*math.Pow((1+math.Cos(2*math.Pi*(hour-21)/24))/2, 1.5)
}

// demand fills into how many users want to be in calls in each metro, so that all
// together are peak at the busiest moment of the day. hour is UTC.
func (w *world) demand(hour, peak float64, into []float64) {
	for m, c := range w.metros {
		into[m] = w.share[m] * evening(hour+c.lon/15) * peak / w.most
	}
}

// findBusiest finds the busiest moment.
func (w *world) findBusiest() {
	for h := 0.0; h < 24; h += 0.25 {
		sum := 0.0
		for m, c := range w.metros {
			sum += w.share[m] * evening(h+c.lon/15)
		}
		if sum > w.most {
			w.most, w.mostAt = sum, h
		}
	}
}
