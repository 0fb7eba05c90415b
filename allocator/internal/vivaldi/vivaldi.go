package vivaldi

import (
	"math"
	"math/rand/v2"
)

const (
	// dimensions of the space. Cables go round a globe, which two do not hold
	// well; more than four add nothing.
	dimensions = 4
	// gain is how far a node moves towards where one measurement puts it, and how
	// much one measurement says about its error.
	gain = 0.25
	// minHeight is the least that the access of a node costs, in milliseconds.
	minHeight = 0.1
	// firstError is that of a node which has measured nothing: it knows nothing.
	firstError = 1.5
	// slight is the round trip time in milliseconds below which errors are taken
	// relative to it and not to the shorter one: nobody hears them.
	slight = 20.0
	// stride is how far one measurement moves a settled node, in milliseconds: one
	// that nothing else agrees with is outweighed by those that do.
	stride = 5.0
	// MaxRTT is the longest round trip, in milliseconds, that is taken in: nothing on
	// earth is farther unless it is broken.
	MaxRTT = 1000.0
	// Settled is the error below which a coordinate is worth asking.
	Settled = 0.5
)

// Coordinate is where a node is: a place on the net and a height above it, the
// part of every round trip that its own access costs. The zero value is a node
// that has measured nothing.
type Coordinate struct {
	place  [dimensions]float64 // milliseconds
	height float64             // milliseconds
	// error is how wrong its distances are, relative to their size; kept as what
	// is missing to firstError, so that the zero value is right.
	learnt float64
}

// Error is how wrong its distances are, relative to their size.
func (c *Coordinate) Error() float64 { return firstError - c.learnt }

// Settled says whether its distances are worth asking for.
func (c *Coordinate) Settled() bool { return c.Error() < Settled }

// Distance is the round trip time between two coordinates in milliseconds, as
// far as they tell.
func (c *Coordinate) Distance(o *Coordinate) float64 {
	return c.apart(o) + max(c.height, minHeight) + max(o.height, minHeight)
}

func (c *Coordinate) apart(o *Coordinate) float64 {
	sum := 0.0
	for i, x := range c.place {
		sum += (x - o.place[i]) * (x - o.place[i])
	}
	return math.Sqrt(sum)
}

// Update moves a node by one measurement to another, in milliseconds. The other
// does not move, and one that is settled is not moved by one that is not: who
// reports nonsense loses its own place and nobody else's.
func (c *Coordinate) Update(rtt float64, o *Coordinate, draw *rand.Rand) {
	if !(rtt > 0 && rtt <= MaxRTT) || c.Settled() && !o.Settled() {
		return
	}
	mine, its := c.Error(), o.Error()
	weight := mine / (mine + its)
	distance := c.Distance(o)
	wrong := math.Abs(distance-rtt) / max(rtt, slight)
	c.learnt = firstError - min(firstError, wrong*gain*weight+mine*(1-gain*weight))

	force := gain * weight * (rtt - distance)
	if c.Settled() {
		force = max(-stride, min(stride, force))
	}
	apart := c.apart(o)
	direction := c.direction(o, apart, draw)
	for i := range c.place {
		c.place[i] += force * direction[i]
	}
	if apart > 0 {
		// The height shares in the move as it does in the distance.
		h := max(c.height, minHeight)
		c.height = max(minHeight, h+force*(h+max(o.height, minHeight))/distance)
	}
}

// direction is the unit vector away from another; at one spot with it, any.
func (c *Coordinate) direction(o *Coordinate, apart float64, draw *rand.Rand) [dimensions]float64 {
	var d [dimensions]float64
	if apart > 1e-6 {
		for i, x := range c.place {
			d[i] = (x - o.place[i]) / apart
		}
		return d
	}
	size := 0.0
	for i := range d {
		d[i] = draw.NormFloat64()
		size += d[i] * d[i]
	}
	size = math.Sqrt(size)
	for i := range d {
		d[i] /= size
	}
	return d
}

// Mean is in the middle of coordinates, as a region is of its nodes.
func Mean(list []*Coordinate) Coordinate {
	var m Coordinate
	for _, c := range list {
		for i, x := range c.place {
			m.place[i] += x / float64(len(list))
		}
		m.height += c.height / float64(len(list))
		m.learnt += c.learnt / float64(len(list))
	}
	return m
}
