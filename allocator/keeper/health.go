package keeper

import (
	"fmt"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
)

// Bounds of ailments. Between what makes a node ill and what makes it well again
// lies a gap, and the longer a node was not well of late, the longer it is not
// believed: so it does not flap.
const (
	// A node whose listeners lose more than lossy in lossyBeats heartbeats in a row
	// is degraded; what they show is the mean of 5 s, so that it is found within 8.
	lossy      = 0.02
	lossyBeats = 3
	// It has recovered when they lost less than clean for cleanTime, and not before
	// its quarantine is over: quarantine the first time, twice as long each time it
	// falls ill again within forgiveTime, up to maxQuarantine.
	clean         = 0.01
	cleanTime     = 10 * time.Second
	quarantine    = 30 * time.Second
	maxQuarantine = 16 * time.Minute
	forgiveTime   = placement.ForgiveTime
	// illShare bounds how many nodes may be degraded at once: when more are, it is
	// not they who are ill, and there is nowhere to go.
	illShare = 0.3

	// A node is overloaded that sends more than it can, or drops more than dropped
	// datagrams it received, in hotBeats heartbeats in a row; it is no longer when it
	// is below cool for coolTime.
	hotBeats = 2
	dropped  = 100
	cool     = 0.8
	coolTime = 10 * time.Second
	// Load is spread from a node that is warmer than warm for warmTime while another of
	// its region is below tepid (to spread it farther costs those people more than a full
	// node, which placement fills to 98 % before it goes elsewhere), until it is below eased, and not again within restTime.
	warm     = 0.9
	tepid    = 0.6
	eased    = 0.8
	warmTime = 10 * time.Second
	restTime = 30 * time.Second
)

// Ailment tells that a node fell ill (DeedDegraded) or recovered (DeedRecovered).
type Ailment struct {
	Node  edgeagent.NodeID
	Deed  allocator.Deed
	Cause allocator.Cause // of moving its calls away
	Why   string
}

// patient is a node by its heartbeats.
type patient struct {
	hb       edgeagent.Heartbeat
	fullness float64
	drops    uint64
	dropRate uint64

	cause allocator.Cause // empty: well
	since time.Time       // it has been ill, or well
	bad   int             // lossy heartbeats in a row
	good  time.Time       // since when it is clean or cool; zero: it is not
	wait  time.Duration   // the last quarantine
	hot   int             // overloaded heartbeats in a row
	warm  time.Time       // since when; zero: it is not
	rest  time.Time       // until when nothing is spread from it
}

// Health finds the nodes that live and are bad. Not safe for concurrent use; the
// zero value is ready to use.
type Health struct {
	nodes map[edgeagent.NodeID]*patient
}

// Beat takes in a heartbeat.
func (h *Health) Beat(now time.Time, hb edgeagent.Heartbeat, out []Ailment) []Ailment {
	if h.nodes == nil {
		h.nodes = map[edgeagent.NodeID]*patient{}
	}
	p := h.nodes[hb.Node]
	if p == nil || !p.hb.Started.Equal(hb.Started) {
		fresh := &patient{since: now, drops: hb.Load.SocketDrops}
		if p != nil {
			fresh.cause, fresh.since, fresh.wait = p.cause, p.since, p.wait // a restart heals nothing
		}
		p = fresh
		h.nodes[hb.Node] = p
	}
	hb.Calls = nil
	p.hb, p.fullness = hb, placement.Fullness(hb.Load, hb.Capacity)
	p.dropRate = hb.Load.SocketDrops - min(p.drops, hb.Load.SocketDrops)
	p.drops = hb.Load.SocketDrops
	if hb.State == edgeagent.Joining {
		return out
	}
	count(&p.bad, tellsLoss(hb))
	overload := p.fullness > 1 || p.dropRate > dropped
	count(&p.hot, overload)
	switch {
	case p.cause == "" && p.bad >= lossyBeats && h.mayFall():
		return h.fall(now, p, allocator.CauseDegraded, fmt.Sprintf("its listeners lose %.1f %%", 100*hb.Load.Loss), out)
	case p.cause == "" && p.hot >= hotBeats && h.another(p):
		why := fmt.Sprintf("it is %.0f %% full", 100*p.fullness)
		if p.fullness <= 1 {
			why = fmt.Sprintf("it drops %d datagrams/s it receives", p.dropRate)
		}
		return h.fall(now, p, allocator.CauseOverload, why, out)
	case p.cause == "":
		return h.spread(now, p, out)
	}
	return h.mend(now, p, overload, out)
}

// tellsLoss says whether the listeners of a node lose too much, by its own word.
func tellsLoss(hb edgeagent.Heartbeat) bool { return hb.Load.Loss > lossy && hb.Load.Sessions > 1 }

func count(n *int, more bool) {
	if *n++; !more {
		*n = 0
	}
}

// Deaf tells that the clients of a node hear nothing, though it answers.
func (h *Health) Deaf(now time.Time, node edgeagent.NodeID, out []Ailment) []Ailment {
	return h.degrade(now, node, "its clients hear nothing, though it answers us", out)
}

// Leaky tells that a share of what a node is asked, or of what it answers, is lost. Its
// heartbeats, late then, may not tell of it.
func (h *Health) Leaky(now time.Time, node edgeagent.NodeID, share float64, out []Ailment) []Ailment {
	return h.degrade(now, node, fmt.Sprintf("%.0f %% of what we ask it, or of its answers, is lost", 100*share), out)
}

// Unwell says whether a node is ill, or its last heartbeats were those of one that loses
// packets.
func (h *Health) Unwell(node edgeagent.NodeID) bool {
	p := h.nodes[node]
	return p != nil && (p.cause != "" || p.bad > 0)
}

// degrade has a node that is well fall ill, if one more may, for what its heartbeats do
// not tell.
func (h *Health) degrade(now time.Time, node edgeagent.NodeID, why string, out []Ailment) []Ailment {
	if p := h.nodes[node]; p != nil && p.cause == "" && h.mayFall() {
		return h.fall(now, p, allocator.CauseDegraded, why, out)
	}
	return out
}

func (h *Health) fall(now time.Time, p *patient, cause allocator.Cause, why string, out []Ailment) []Ailment {
	if cause == allocator.CauseDegraded {
		if p.wait == 0 || now.Sub(p.since) > forgiveTime {
			p.wait = quarantine
		} else {
			p.wait = min(2*p.wait, maxQuarantine)
		}
	}
	p.cause, p.since, p.good, p.warm = cause, now, time.Time{}, time.Time{}
	return append(out, Ailment{p.hb.Node, allocator.DeedDegraded, cause, why})
}

// mend looks whether a node is well again.
func (h *Health) mend(now time.Time, p *patient, overload bool, out []Ailment) []Ailment {
	well, need, why := false, coolTime, ""
	switch p.cause {
	case allocator.CauseDegraded:
		well, need = p.hb.Load.Loss < clean, max(cleanTime, p.wait-now.Sub(p.since))
		why = fmt.Sprintf("its listeners lost less than %.0f %% for %v", 100*clean, cleanTime)
	case allocator.CauseOverload:
		well = !overload && p.fullness < cool
		why = fmt.Sprintf("it was less than %.0f %% full for %v", 100*cool, coolTime)
	case allocator.CauseRebalance:
		well, need = p.fullness < eased, 0
		why = fmt.Sprintf("it is %.0f %% full", 100*p.fullness)
		if !well && now.Sub(p.since) > restTime { // nobody takes more of it
			well, why = true, "what could be spread was"
		}
		p.rest = now.Add(restTime)
	}
	switch {
	case !well:
		p.good = time.Time{}
		return out
	case p.good.IsZero():
		p.good = now
	}
	if p.cause == allocator.CauseDegraded {
		if now.Sub(p.good) < cleanTime || now.Sub(p.since) < p.wait {
			return out
		}
	} else if now.Sub(p.good) < need {
		return out
	}
	was := p.cause
	p.cause, p.since, p.bad, p.hot = "", now, 0, 0
	return append(out, Ailment{p.hb.Node, allocator.DeedRecovered, was, why})
}

// spread looks whether a node should give some of its load to another.
func (h *Health) spread(now time.Time, p *patient, out []Ailment) []Ailment {
	if p.fullness < warm || p.hb.State != edgeagent.Ready {
		p.warm = time.Time{}
		return out
	}
	if p.warm.IsZero() {
		p.warm = now
	}
	if now.Sub(p.warm) < warmTime || now.Before(p.rest) {
		return out
	}
	room := false
	for _, o := range h.nodes {
		room = room || o != p && o.cause == "" && o.hb.State == edgeagent.Ready && o.hb.Region == p.hb.Region && o.fullness < tepid
		if o.cause == allocator.CauseRebalance {
			return out // one at a time
		}
	}
	if !room {
		return out
	}
	return h.fall(now, p, allocator.CauseRebalance, fmt.Sprintf("it is %.0f %% full, and others of its region are not", 100*p.fullness), out)
}

// another says whether there is a well node that takes calls.
func (h *Health) another(p *patient) bool {
	for _, o := range h.nodes {
		if o != p && o.cause == "" && o.hb.State == edgeagent.Ready {
			return true
		}
	}
	return false
}

// mayFall says whether one more node may be degraded: at least one may, but not
// the last that is well.
func (h *Health) mayFall() bool {
	ill, well := 0, 0
	for _, p := range h.nodes {
		switch {
		case p.cause == allocator.CauseDegraded:
			ill++
		case p.hb.State == edgeagent.Ready:
			well++
		}
	}
	return well > 1 && (ill == 0 || float64(ill+1) <= illShare*float64(len(h.nodes)))
}

// Forget forgets a node that is gone.
func (h *Health) Forget(node edgeagent.NodeID) { delete(h.nodes, node) }

// Cause is why the calls of a node should leave it; empty: it is well.
func (h *Health) Cause(node edgeagent.NodeID) allocator.Cause {
	if p := h.nodes[node]; p != nil {
		return p.cause
	}
	return ""
}

// Hot is by how much of its capacity a node that is too warm should be relieved,
// in fullness; 0: by nothing more.
func (h *Health) Hot(node edgeagent.NodeID) float64 {
	p := h.nodes[node]
	switch {
	case p == nil:
		return 0
	case p.cause == allocator.CauseOverload && p.fullness <= 1 && p.dropRate > dropped:
		return 1 // its own load is not the cause: all of it should leave
	}
	return max(0, p.fullness-eased)
}
