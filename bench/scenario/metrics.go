package scenario

import "voicefleet/bench"

// Metric is a figure of a run that a goal may bound.
type Metric struct {
	Name   string
	Unit   string
	Better bench.Better
	Doc    string
	// Judged metrics compare what was heard with what was sent; with more talkers
	// in a room than slots+1 they mean nothing.
	Judged bool
	// Pauses: only spurts that begin within the window count.
	Pauses bool
	// Faithful: only faithful bots measure it.
	Faithful bool
	// Gap: measured between good packets, so that faults need talkers without
	// pauses.
	Gap bool
}

// Metrics are all metrics, in the order of a report. Those of one listener are
// taken over all judged listeners; "worst" is the worst listener.
var Metrics = []Metric{
	// Load: whether the run was what it was meant to be.
	{Name: "users", Unit: "", Better: bench.More, Doc: "members in their rooms with media at the same time, the least of the window"},
	{Name: "packets_per_s", Unit: "1/s", Better: bench.More, Doc: "voice packets the server sent, by its own count, mean over the window"},
	{Name: "packets_in_per_s", Unit: "1/s", Better: bench.More, Doc: "voice packets the talkers sent, mean over the window"},
	{Name: "mbit_per_s", Unit: "Mbit/s", Better: bench.More, Doc: "what the server sent as UDP payload, mean over the window; IPv4 adds 28 bytes to each packet"},

	// The way in: of all members, also those who came before the window.
	{Name: "join_p50_ms", Unit: "ms", Better: bench.Less, Doc: "join, from when it was due to media in both directions, median"},
	{Name: "join_p99_ms", Unit: "ms", Better: bench.Less, Doc: "the same, 99th percentile"},
	{Name: "join_max_ms", Unit: "ms", Better: bench.Less, Doc: "the same, slowest"},
	{Name: "join_failed", Unit: "", Better: bench.Less, Doc: "members who did not get in"},
	{Name: "first_audio_p50_ms", Unit: "ms", Better: bench.Less, Doc: "from when a join was due to the first voice packet, median; of members who came while somebody talked"},
	{Name: "first_audio_p99_ms", Unit: "ms", Better: bench.Less, Doc: "the same, 99th percentile"},

	// What listeners heard.
	{Name: "loss_percent", Unit: "%", Better: bench.Less, Judged: true, Doc: "packets that were sent and not heard, of all that should have been heard"},
	{Name: "loss_worst_percent", Unit: "%", Better: bench.Less, Judged: true, Doc: "loss of the worst listener"},
	{Name: "loss_all_percent", Unit: "%", Better: bench.Less, Judged: true, Doc: "loss of all light clients together, also those not judged packet by packet: by the packets they counted"},
	{Name: "latency_p50_ms", Unit: "ms", Better: bench.Less, Doc: "from when a packet was due to be sent to its arrival, median"},
	{Name: "latency_p95_ms", Unit: "ms", Better: bench.Less, Doc: "the same, 95th percentile"},
	{Name: "latency_p99_ms", Unit: "ms", Better: bench.Less, Doc: "the same, 99th percentile"},
	{Name: "latency_max_ms", Unit: "ms", Better: bench.Less, Doc: "the same, slowest packet"},
	{Name: "jitter_p50_ms", Unit: "ms", Better: bench.Less, Doc: "interarrival jitter (RFC 3550 section 6.4.1), median"},
	{Name: "jitter_p99_ms", Unit: "ms", Better: bench.Less, Doc: "the same, 99th percentile"},
	{Name: "duplicates", Unit: "", Better: bench.Less, Doc: "packets heard again"},
	{Name: "reordered", Unit: "", Better: bench.Less, Doc: "packets heard after a later one of the same talker"},
	{Name: "wrong_voice", Unit: "", Better: bench.Less, Doc: "packets of somebody who is not in the room, or of the listener itself"},
	{Name: "concealment_percent", Unit: "%", Better: bench.Less, Judged: true, Doc: "frames the playout had to invent in speech, of all frames: (concealed - silent concealed) / total"},
	{Name: "clipped_percent", Unit: "%", Better: bench.Less, Judged: true, Pauses: true, Doc: "spurts whose start was lost, of all that began in the window"},
	{Name: "clipped_ms_p50", Unit: "ms", Better: bench.Less, Judged: true, Pauses: true, Doc: "speech lost at the start of a clipped spurt, median"},
	{Name: "clipped_ms_p99", Unit: "ms", Better: bench.Less, Judged: true, Pauses: true, Doc: "the same, 99th percentile"},
	{Name: "gap_p50_ms", Unit: "ms", Better: bench.Less, Judged: true, Gap: true, Doc: "audible gaps: last good packet before to the first of 10 consecutive good ones after, median"},
	{Name: "gap_p99_ms", Unit: "ms", Better: bench.Less, Judged: true, Gap: true, Doc: "the same, 99th percentile"},
	{Name: "gap_worst_ms", Unit: "ms", Better: bench.Less, Judged: true, Gap: true, Doc: "the longest gap of the worst listener; one that lasts to the end of the window counts as that long"},
	{Name: "r_factor", Unit: "", Better: bench.More, Judged: true, Doc: "transmission rating of the E-model (ITU-T G.107) from loss and delay, 0 to 100"},
	{Name: "mos", Unit: "", Better: bench.More, Judged: true, Doc: "the same as mean opinion score, 1 to 4.5"},
	{Name: "voice_score", Unit: "", Better: bench.More, Judged: true, Faithful: true, Doc: "decoded signal against the original, 0 to 1; only in builds with libopus"},

	// What it cost.
	{Name: "cpu_us_per_packet", Unit: "us", Better: bench.Less, Doc: "CPU time of the server per packet it sent, user and system"},
	{Name: "cpu_user_us_per_packet", Unit: "us", Better: bench.Less, Doc: "the user part"},
	{Name: "cpu_system_us_per_packet", Unit: "us", Better: bench.Less, Doc: "the system part"},
	{Name: "busy_cores", Unit: "cores", Better: bench.Less, Doc: "cores busy on the server's machine, softirq included, less the harness's own"},
	{Name: "server_cores", Unit: "cores", Better: bench.Less, Doc: "CPU time of the server's processes per second of the window"},
	{Name: "rss_mib", Unit: "MiB", Better: bench.Less, Doc: "resident memory of the server's processes at the end of the window"},
	{Name: "rss_kib_per_session", Unit: "KiB", Better: bench.Less, Doc: "growth of resident memory since before the first join, per session"},
	{Name: "cpu_s_per_listener_minute", Unit: "s", Better: bench.Less, Doc: "CPU time of the server per minute of one listener in a room"},
	{Name: "drops", Unit: "", Better: bench.Less, Doc: "packets the server dropped, for any reason, by its own count"},
	{Name: "socket_drops", Unit: "", Better: bench.Less, Doc: "datagrams the kernel dropped at the server's full receive buffers"},

	// Whether the figures can be believed.
	{Name: "late_percent", Unit: "%", Better: bench.Less, Doc: "packets the harness sent more than 20 ms after they were due"},
	{Name: "generator_drops", Unit: "", Better: bench.Less, Doc: "datagrams lost at the harness's own full receive buffers"},
}

// MetricOf finds a metric by its name.
func MetricOf(name string) (Metric, bool) {
	for _, m := range Metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// metricNames lists them for people.
func metricNames() []string {
	names := make([]string, len(Metrics))
	for i, m := range Metrics {
		names[i] = m.Name
	}
	return names
}
