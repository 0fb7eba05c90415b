package edgeagentserver

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/edgeagent/internal/turngate"
)

var (
	descAllocations = prometheus.NewDesc("voicefleet_agent_turn_allocations", "TURN allocations that are open.", nil, nil)
	descTURNDrops   = prometheus.NewDesc("voicefleet_agent_turn_dropped_total",
		"What came to the TURN port and went no further, by reason; peer: it was for an address that is no media socket of the fleet, stranger: it came to a relay from one.", []string{"reason"}, nil)
	descTURNRefused = prometheus.NewDesc("voicefleet_agent_turn_refused_total", "TURN requests answered with an error by the gate, by code.", []string{"code"}, nil)
	descRelayed     = prometheus.NewDesc("voicefleet_agent_relayed_bytes_total", "Media bytes of clients in closed networks, by way (turn, icetcp) and direction (in: from the client).", []string{"way", "direction"}, nil)
	descStreams     = prometheus.NewDesc("voicefleet_agent_streams", "TCP connections of clients in closed networks that are open, TURN and ICE-TCP.", nil, nil)
	descBridges     = prometheus.NewDesc("voicefleet_agent_icetcp_connections", "Of these, those of ICE-TCP that carry media.", nil, nil)
	descRefused     = prometheus.NewDesc("voicefleet_agent_streams_refused_total", "TCP connections that were closed at once, by reason.", []string{"reason"}, nil)
	descLate        = prometheus.NewDesc("voicefleet_agent_frames_late_total", "Frames dropped because a client reads its TCP connection too slowly; counted when the connection ends.", nil, nil)
)

// closedCollector shows the ways in for closed networks.
type closedCollector struct{ c *closed }

// Describe and Collect serve prometheus.Collector.
func (k *closedCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAllocations, descTURNDrops, descTURNRefused, descRelayed, descStreams, descBridges, descRefused, descLate} {
		ch <- d
	}
}

func (k *closedCollector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	c, n := k.c, &k.c.count
	c.mu.Lock()
	allocations, streams, drops := c.gate.Count(), len(c.conns.open), c.gate.Drops
	refused := make(map[int]uint64, len(c.gate.Refused))
	for code, v := range c.gate.Refused {
		refused[code] = v
	}
	c.mu.Unlock()
	gauge(descAllocations, allocations)
	gauge(descStreams, streams)
	gauge(descBridges, int(n.bridges.Load()))
	for _, r := range turngate.Reasons() {
		v := drops[r]
		if r == turngate.DropPeer {
			v += n.sendDrops.Load()
		}
		count(descTURNDrops, v, r.String())
	}
	count(descTURNDrops, n.strangers.Load(), "stranger")
	for code, v := range refused {
		count(descTURNRefused, v, strconv.Itoa(code))
	}
	count(descRelayed, n.turnIn.Load(), "turn", "in")
	count(descRelayed, n.turnOut.Load(), "turn", "out")
	count(descRelayed, n.iceIn.Load(), "icetcp", "in")
	count(descRelayed, n.iceOut.Load(), "icetcp", "out")
	for r := range refusals {
		count(descRefused, n.refused[r].Load(), refusalNames[r])
	}
	count(descLate, n.late.Load())
}
