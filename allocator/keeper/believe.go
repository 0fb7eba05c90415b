package keeper

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
)

// Bounds of what is believed of one node: ten times what the largest machine of
// today can carry, so that a lie draws no more than ten nodes' share.
const (
	maxPPS      = edgeagent.MaxPPS
	maxBPS      = edgeagent.MaxBPS
	maxSessions = edgeagent.MaxSessions
	// maxWhere bounds the names of region, zone and label, in bytes.
	maxWhere = 128
	// refusedKept is how long after its last lie of a kind a node is known for it: all
	// of that time is one line in the journal.
	refusedKept = time.Minute
)

// lie is what a node is not believed, of a few kinds.
type lie struct {
	node edgeagent.NodeID
	kind string
}

// believe takes from a heartbeat what cannot be; not ok: all of it, for another
// process goes by that name.
func (c *Core) believe(now time.Time, hb edgeagent.Heartbeat, out []Out) (_ edgeagent.Heartbeat, _ []Out, ok bool) {
	refuse := func(kind, format string, args ...any) {
		out = c.refuse(now, lie{hb.Node, kind}, fmt.Sprintf(format, args...), out)
	}
	if n := c.watch.nodes[hb.Node]; n != nil && !n.unknown && hb.Started.Before(n.hb.Started) && now.Sub(n.heard) < late {
		refuse("name", "two go by this name: one began at %s, one at %s, which is believed",
			hb.Started.UTC().Format(time.TimeOnly), n.hb.Started.UTC().Format(time.TimeOnly))
		return hb, out, false
	}
	within := func(what string, v *float64, most float64) {
		if !(*v >= 0 && *v <= most) {
			refuse(what, "%s of %.3g, of at most %.3g", what, *v, most)
			*v = min(max(*v, 0), most)
		}
	}
	count := func(what string, v *int) {
		if *v < 0 || *v > maxSessions {
			refuse(what, "%s of %d sessions, of at most %d", what, *v, maxSessions)
			*v = min(max(*v, 0), maxSessions)
		}
	}
	for _, name := range []*string{&hb.Region, &hb.Zone, &hb.Label} {
		if len(*name) > maxWhere {
			refuse("place", "a region, zone or label of %d bytes, of at most %d", len(*name), maxWhere)
			*name = ""
		}
	}
	within("capacity", &hb.Capacity.PPS, maxPPS)
	within("capacity", &hb.Capacity.BPS, maxBPS)
	count("capacity", &hb.Capacity.Sessions)
	within("load", &hb.Load.PPS, maxPPS)
	within("load", &hb.Load.BPS, maxBPS)
	count("load", &hb.Load.Sessions)
	within("CPU", &hb.Load.CPU, 1)
	within("loss", &hb.Load.Loss, 1)
	within("weight", &hb.Weight, 1)
	if !placement.Plausible(now, hb.Epoch) {
		refuse("epoch", "epoch %d, of a time to come", hb.Epoch)
		hb.Epoch = 0
	}
	bad := func(on edgeagent.CallOnANode) bool {
		return on.Sessions < 0 || on.Sessions > maxSessions || !placement.Plausible(now, on.Epoch)
	}
	if i := slices.IndexFunc(hb.Calls, bad); i >= 0 {
		refuse("call", "call %v of %d sessions in epoch %d", hb.Calls[i].Call, hb.Calls[i].Sessions, hb.Calls[i].Epoch)
		hb.Calls = slices.DeleteFunc(slices.Clone(hb.Calls), bad)
	}
	return hb, out, true
}

// refuse counts a lie, and notes it if the node is not known for it.
func (c *Core) refuse(now time.Time, l lie, why string, out []Out) []Out {
	maps.DeleteFunc(c.refused, func(_ lie, at time.Time) bool { return now.Sub(at) >= refusedKept })
	if _, known := c.refused[l]; !known {
		out = c.note(now, allocator.DeedRefused, l.node, why, out)
	}
	c.refused[l] = now
	return append(out, Out{Refused: l.kind})
}
