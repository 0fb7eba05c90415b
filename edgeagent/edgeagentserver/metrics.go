package edgeagentserver

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// metrics are what an agent shows. Requests are timed by the bus:
// voicefleet_bus_request_seconds{service="edgeagent"}.
type metrics struct {
	engine      *engineCollector
	ended       *prometheus.CounterVec
	engineEnds  prometheus.Counter
	missedBeats prometheus.Counter
	mends       prometheus.Counter
	fences      prometheus.Counter
	overloaded  prometheus.Gauge
	states      *prometheus.GaugeVec
	sessions    prometheus.Gauge
	calls       prometheus.Gauge
	offered     *prometheus.GaugeVec
	probes      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		engine: telemetry.Register(reg, newEngineCollector()),
		ended: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_agent_sessions_ended_total",
			Help: "Sessions that ended, by reason; \"request\" is any reason a close request gave.",
		}, []string{"reason"})),
		engineEnds: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_agent_engine_restarts_total",
			Help: "Times the media engine ended or did not start, and was started again.",
		})),
		missedBeats: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_agent_heartbeats_missed_total",
			Help: "Heartbeats that could not be written to the bus.",
		})),
		overloaded: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "voicefleet_agent_overloaded",
			Help: "1 while newcomers are refused because workers or memory are at their end, else 0.",
		})),
		fences: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_agent_fences_total",
			Help: "Times the media engine stood still for more than a second and was held back until its calls were looked up.",
		})),
		mends: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_agent_mends_total",
			Help: "Times a new seat was asked for a listener that hears nothing of what is sent to it.",
		})),
		states: telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "voicefleet_agent_state",
			Help: "1 for the state the node is in (joining, ready, draining), 0 for the others.",
		}, []string{"state"})),
		sessions: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "voicefleet_agent_sessions",
			Help: "Sessions the agent holds, whether the engine runs or is being replaced.",
		})),
		calls: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "voicefleet_agent_calls",
			Help: "Calls with at least one session on the node.",
		})),
		offered: telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "voicefleet_agent_capacity",
			Help: "What the node offers to carry: pps (packets/s sent), bps (bits/s sent), sessions.",
		}, []string{"resource"})),
		probes: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_agent_peer_probes_total",
			Help: "Probes of other nodes to measure their distance, by result: answered, unanswered.",
		}, []string{"result"})),
	}
}

func (m *metrics) pressed(on bool) {
	v := 0.0
	if on {
		v = 1
	}
	m.overloaded.Set(v)
}

func (m *metrics) load(r sfu.LoadReading) { m.engine.set(r) }

func (m *metrics) capacity(c edgeagent.Capacity) {
	m.offered.WithLabelValues("pps").Set(c.PPS)
	m.offered.WithLabelValues("bps").Set(c.BPS)
	m.offered.WithLabelValues("sessions").Set(float64(c.Sessions))
}

func (m *metrics) state(now edgeagent.State, r custody.Report) {
	for _, s := range []edgeagent.State{edgeagent.Joining, edgeagent.Ready, edgeagent.Draining} {
		v := 0.0
		if s == now {
			v = 1
		}
		m.states.WithLabelValues(string(s)).Set(v)
	}
	m.sessions.Set(float64(r.Sessions))
	m.calls.Set(float64(len(r.Calls)))
}

// engineCollector shows the last load reading of the engine. The counters start
// again at zero with each engine process.
type engineCollector struct {
	packets, bytes, resent, checks, probes, handshakes, socketDrops, drops *prometheus.Desc
	video, cameras, shedding                                               *prometheus.Desc
	sessions, speakers                                                     *prometheus.Desc
	reported, loss, hearing                                                *prometheus.Desc

	mu sync.Mutex
	// Guarded by mu.
	last sfu.LoadReading
}

func newEngineCollector() *engineCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("voicefleet_sfu_"+name, help, labels, nil)
	}
	return &engineCollector{
		packets:     desc("packets_total", "Datagrams that came to the media ports (in), dropped ones too, and that the engine sent (out).", "direction"),
		bytes:       desc("bytes_total", "Bytes of these datagrams, without UDP and IP headers.", "direction"),
		resent:      desc("packets_resent_total", "Packets sent again because a listener missed them; a part of those sent."),
		video:       desc("video_packets_total", "Packets of video; a part of those sent."),
		cameras:     desc("cameras", "Cameras that are on, in all calls."),
		shedding:    desc("video_shed", "1 while a worker has too much to do and forwards voices only."),
		checks:      desc("stun_checks_total", "Valid STUN connectivity checks answered."),
		probes:      desc("probes_total", "Probes of the fleet and of clients that were answered."),
		handshakes:  desc("handshakes_total", "DTLS handshakes completed."),
		socketDrops: desc("socket_drops_total", "Datagrams the kernel dropped because a media socket's receive buffer was full."),
		drops:       desc("drops_total", "Datagrams and packets that went no further, by reason.", "reason"),
		sessions:    desc("sessions", "Sessions in the engine: open, and those of them whose keys are agreed.", "state"),
		speakers:    desc("speakers", "Speakers on stage, in all calls."),
		reported:    desc("listener_packets_total", "Packets that listeners' receiver reports tell of: due, and of these lost.", "what"),
		loss:        desc("loss_ratio", "Loss (0..1) that half of the sessions have or exceed, in the worse of their directions; 0 for fewer than 4 sessions."),
		hearing:     desc("hearing", "Connected sessions by the latest evidence that they hear: feedback, word, report, request, none.", "by"),
	}
}

func (c *engineCollector) set(r sfu.LoadReading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = r
}

// Describe is of prometheus.Collector.
func (c *engineCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.packets, c.bytes, c.resent, c.video, c.cameras, c.shedding, c.checks, c.probes, c.handshakes, c.socketDrops, c.drops, c.sessions, c.speakers, c.reported, c.loss, c.hearing} {
		out <- d
	}
}

// Collect is of prometheus.Collector.
func (c *engineCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	r := c.last
	c.mu.Unlock()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter(c.packets, r.PacketsIn, "in")
	counter(c.packets, r.PacketsOut, "out")
	counter(c.bytes, r.BytesIn, "in")
	counter(c.bytes, r.BytesOut, "out")
	counter(c.resent, r.ResentOut)
	counter(c.video, r.VideoOut)
	gauge(c.cameras, r.Cameras)
	shedding := 0
	if r.Shedding {
		shedding = 1
	}
	gauge(c.shedding, shedding)
	counter(c.checks, r.Checks)
	counter(c.probes, r.Probes)
	counter(c.handshakes, r.Handshakes)
	counter(c.socketDrops, r.SocketDrops)
	for reason := sfu.DropReason(0); reason < sfu.DropReasons; reason++ { // a closed list of labels
		counter(c.drops, r.Drops[reason.String()], reason.String())
	}
	gauge(c.sessions, r.Sessions, "open")
	gauge(c.sessions, r.Connected, "connected")
	speakers := 0
	for _, call := range r.Calls {
		speakers += call.Speakers
	}
	gauge(c.speakers, speakers)
	counter(c.reported, r.ListenerExpected, "due")
	counter(c.reported, r.ListenerLost, "lost")
	loss := 0.0
	if r.Loss.Of >= edgeagent.LossVoters {
		loss = r.Loss.Middle
	}
	out <- prometheus.MustNewConstMetric(c.loss, prometheus.GaugeValue, loss)
	for _, by := range sfu.Hearings { // a closed list of labels
		gauge(c.hearing, r.Hearing[by], by)
	}
}
