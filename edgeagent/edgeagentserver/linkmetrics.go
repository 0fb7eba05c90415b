package edgeagentserver

import (
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/telemetry"
)

// linkDrop names why a packet of a call that spans nodes went no further.
type linkDrop int

// The reasons.
const (
	dropStranger  linkDrop = iota // on the socket towards the engine, and not from it
	dropMalformed                 // no relay packet, or no datagram of a link
	dropCall                      // of a call that is not shared
	dropEpoch                     // of another epoch than the call is in
	dropPeer                      // of a node that the call is not on
	dropAbsent                    // of a call that has no session here
	dropDown                      // the link is down
	dropOverrun                   // the oldest of too many that waited for the link
	dropTooLong                   // longer than the path takes now
	dropHalf                      // the other half never came
	dropEngine                    // the engine's socket did not take it
	linkDrops
)

var linkDropNames = [linkDrops]string{"stranger", "malformed", "call", "epoch", "peer", "absent", "down", "overrun", "too_long", "half", "engine"}

// linkMetrics count what links carry.
type linkMetrics struct {
	drops                                                            [linkDrops]prometheus.Counter
	in, out, datagrams, lost, split, losses, lossy, refused, rosters prometheus.Counter
	wanted, up                                                       prometheus.Gauge
}

func newLinkMetrics(reg prometheus.Registerer) *linkMetrics {
	counter := func(name, help string) prometheus.Counter {
		return telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "voicefleet_link_" + name, Help: help}))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "voicefleet_link_" + name, Help: help}))
	}
	m := &linkMetrics{
		in:        counter("packets_in_total", "Relay packets of other nodes brought to the media engine."),
		out:       counter("packets_out_total", "Relay packets sent to other nodes, once for each node."),
		datagrams: counter("datagrams_out_total", "Datagrams that carried them, signs of life included."),
		lost:      counter("datagrams_lost_total", "Datagrams of other nodes that did not come, or late."),
		split:     counter("packets_split_total", "Relay packets too long for one datagram, sent in halves."),
		losses:    counter("losses_total", "Times that a node could not be reached any more."),
		lossy:     counter("lossy_total", "Times that so many packets from a node were lost that calls are to fall back to one node."),
		refused:   counter("refused_total", "Links refused for the certificate of the other node, or because no call is shared, and ended when it was not believed any more."),
		rosters:   counter("rosters_missed_total", "Nodes that did not say in time who is in a call they share."),
		wanted:    gauge("peers", "Nodes that calls are shared with."),
		up:        gauge("peers_up", "Nodes of these that are connected."),
	}
	drops := telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "voicefleet_link_dropped_total",
		Help: "Relay packets that went no further, by reason.",
	}, []string{"reason"}))
	for i, name := range linkDropNames {
		m.drops[i] = drops.WithLabelValues(name)
	}
	return m
}

func (m *linkMetrics) drop(why linkDrop) { m.drops[why].Inc() }
