package keeper

import (
	"fmt"
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
	// refusedEvery is how often it is noted that a node is not believed.
	refusedEvery = time.Minute
)

// believe takes from a heartbeat what cannot be, and says what that was; not ok: all
// of it, for another process goes by that name.
func (c *Core) believe(now time.Time, hb edgeagent.Heartbeat) (_ edgeagent.Heartbeat, lie string, ok bool) {
	if n := c.watch.nodes[hb.Node]; n != nil && !n.unknown && hb.Started.Before(n.hb.Started) && now.Sub(n.heard) < late {
		return hb, fmt.Sprintf("two go by this name: one began at %s, one at %s, which is believed",
			hb.Started.UTC().Format(time.TimeOnly), n.hb.Started.UTC().Format(time.TimeOnly)), false
	}
	within := func(what string, v *float64, most float64) {
		if !(*v >= 0 && *v <= most) {
			lie = fmt.Sprintf("%s of %.3g, of at most %.3g", what, *v, most)
			*v = min(max(*v, 0), most)
		}
	}
	count := func(what string, v *int) {
		if *v < 0 || *v > maxSessions {
			lie = fmt.Sprintf("%s of %d sessions, of at most %d", what, *v, maxSessions)
			*v = min(max(*v, 0), maxSessions)
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
		lie, hb.Epoch = fmt.Sprintf("epoch %d, of a time to come", hb.Epoch), 0
	}
	bad := func(on edgeagent.CallOnANode) bool {
		return on.Sessions < 0 || on.Sessions > maxSessions || !placement.Plausible(now, on.Epoch)
	}
	if i := slices.IndexFunc(hb.Calls, bad); i >= 0 {
		lie = fmt.Sprintf("call %v of %d sessions in epoch %d", hb.Calls[i].Call, hb.Calls[i].Sessions, hb.Calls[i].Epoch)
		hb.Calls = slices.DeleteFunc(slices.Clone(hb.Calls), bad)
	}
	return hb, lie, true
}

// refuse notes now and then that a node is not believed.
func (c *Core) refuse(now time.Time, node edgeagent.NodeID, lie string, out []Out) []Out {
	if at, was := c.refused[node]; was && now.Sub(at) < refusedEvery {
		return out
	}
	if c.refused == nil {
		c.refused = map[edgeagent.NodeID]time.Time{}
	}
	for n, at := range c.refused {
		if now.Sub(at) >= refusedEvery {
			delete(c.refused, n)
		}
	}
	c.refused[node] = now
	return c.note(now, allocator.DeedRefused, node, lie, out)
}
