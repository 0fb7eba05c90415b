package placement

import (
	"fmt"
	"math"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

// leavingTime is how far back it is looked how often somebody leaves: what is
// older by it counts for a third.
const leavingTime = time.Minute

// leaving counts sessions that end, per node and in all. The zero value is ready
// to use.
type leaving struct {
	nodes map[edgeagent.NodeID]*fading
	all   fading
}

// fading is a count that fades.
type fading struct {
	n  float64
	at time.Time
}

func (f *fading) add(now time.Time, n int) {
	f.n, f.at = f.now(now)+float64(n), now
}

func (f *fading) now(now time.Time) float64 {
	return f.n * math.Exp(-float64(max(0, now.Sub(f.at)))/float64(leavingTime))
}

// every is how many seconds pass between two; 0: there was none of late.
func (f *fading) every(now time.Time) float64 {
	n := f.now(now)
	if n < 0.1 {
		return 0
	}
	return leavingTime.Seconds() / n
}

// note counts the sessions that a heartbeat shows no more. Those that came within
// the same second hide as many.
func (l *leaving) note(now time.Time, node edgeagent.NodeID, gone int) {
	if gone <= 0 {
		return
	}
	if l.nodes == nil {
		l.nodes = map[edgeagent.NodeID]*fading{}
	}
	if l.nodes[node] == nil {
		l.nodes[node] = &fading{}
	}
	l.nodes[node].add(now, gone)
	l.all.add(now, gone)
}

// full adds to a refusal what the joiner can hope for. home is the node of the
// call, "" of a new one; the candidates are weighed for one more session.
func (c *Core) full(now time.Time, err *allocator.Error, home edgeagent.NodeID, list []allocator.Candidate) *allocator.Error {
	f := &allocator.Full{SeatEvery: c.leaving.all.every(now)}
	if home != "" {
		f.SeatEvery = 0
		if n := c.leaving.nodes[home]; n != nil {
			f.SeatEvery = n.every(now)
		}
	}
	for _, k := range list { // the cheap ones first
		if k.WhyNot == "" && k.Node != home {
			f.Elsewhere = &allocator.Elsewhere{Node: k.Node, Region: k.Region, RTT: k.RTT, RTTFrom: k.RTTFrom}
			err.Message = fmt.Sprintf("full here, room %.0f ms away on %s: %s", k.RTT, k.Node, err.Message)
			break
		}
	}
	err.Full = f
	return err
}

// RegionHeadroom is how many more sessions the ready nodes of each region have
// room for.
func (c *Core) RegionHeadroom(now time.Time) map[string]int {
	out := map[string]int{}
	for _, r := range c.Regions(now) {
		out[r.ID] = r.Headroom
	}
	return out
}
