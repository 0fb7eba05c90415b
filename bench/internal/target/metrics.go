package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are what a server shows of itself at /metrics. The numbers of the media
// engine are as fresh as its last load reading (about 1 s), and begin at zero with
// each engine process.
type Metrics struct {
	// Media reports whether the server shows a media engine; a server of a fleet
	// without one has none of the next numbers.
	Media bool `json:"media"`

	// Media and control packets and their bytes without UDP and IP headers; of
	// those out, Resent again because a listener missed them.
	PacketsIn  float64 `json:"packets_in"`
	PacketsOut float64 `json:"packets_out"`
	BytesIn    float64 `json:"bytes_in"`
	BytesOut   float64 `json:"bytes_out"`
	Resent     float64 `json:"resent"`
	// Checks are STUN connectivity checks answered, Handshakes DTLS handshakes
	// completed.
	Checks     float64 `json:"stun_checks"`
	Handshakes float64 `json:"handshakes"`
	// SocketDrops are datagrams for which a receive buffer had no room.
	SocketDrops float64 `json:"socket_drops"`
	// Drops are datagrams and packets that went no further, by the reason.
	Drops map[string]float64 `json:"drops"`
	// Sessions are open, Connected those of them with keys; Speakers are on stage.
	Sessions  float64 `json:"sessions"`
	Connected float64 `json:"connected"`
	Speakers  float64 `json:"speakers"`

	// EngineRestarts are engines that ended and were started again.
	EngineRestarts float64 `json:"engine_restarts"`
	// Goroutines, CPU (in seconds) and RSS (in bytes) are of the process that
	// shows the metrics, with voicefleet edge the agent.
	Goroutines float64 `json:"goroutines"`
	CPU        float64 `json:"cpu_seconds"`
	RSS        float64 `json:"rss_bytes"`

	families map[string]*dto.MetricFamily
}

// parseMetrics reads the Prometheus text format.
func parseMetrics(text io.Reader) (Metrics, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return Metrics{}, fmt.Errorf("read metrics: %w", err)
	}
	m := Metrics{families: families, Drops: make(map[string]float64)}
	m.PacketsOut, m.Media = m.Sum("voicefleet_sfu_packets_total", "direction", "out")
	for into, from := range map[*float64][]string{
		&m.PacketsIn:      {"voicefleet_sfu_packets_total", "direction", "in"},
		&m.BytesIn:        {"voicefleet_sfu_bytes_total", "direction", "in"},
		&m.BytesOut:       {"voicefleet_sfu_bytes_total", "direction", "out"},
		&m.Resent:         {"voicefleet_sfu_packets_resent_total"},
		&m.Checks:         {"voicefleet_sfu_stun_checks_total"},
		&m.Handshakes:     {"voicefleet_sfu_handshakes_total"},
		&m.SocketDrops:    {"voicefleet_sfu_socket_drops_total"},
		&m.Sessions:       {"voicefleet_sfu_sessions", "state", "open"},
		&m.Connected:      {"voicefleet_sfu_sessions", "state", "connected"},
		&m.Speakers:       {"voicefleet_sfu_speakers"},
		&m.EngineRestarts: {"voicefleet_agent_engine_restarts_total"},
		&m.Goroutines:     {"go_goroutines"},
		&m.CPU:            {"process_cpu_seconds_total"},
		&m.RSS:            {"process_resident_memory_bytes"},
	} {
		*into, _ = m.Sum(from[0], from[1:]...)
	}
	if f := families["voicefleet_sfu_drops_total"]; f != nil {
		for _, one := range f.GetMetric() {
			for _, l := range one.GetLabel() {
				if l.GetName() == "reason" {
					m.Drops[l.GetValue()] += number(one)
				}
			}
		}
	}
	return m, nil
}

// Sum adds up the counters and gauges of a name that have all the labels, given as
// name and value in turn; of histograms and summaries it adds up what was counted.
// It is false when there is none.
func (m Metrics) Sum(name string, labels ...string) (sum float64, found bool) {
	f := m.families[name]
	if f == nil {
		return 0, false
	}
	for _, one := range f.GetMetric() {
		if matches(one, labels) {
			sum, found = sum+number(one), true
		}
	}
	return sum, found
}

// Each is Sum for each kind there is: the values of the labels, as far as there are,
// beside the name.
func (m Metrics) Each(name string, labels ...string) map[string]float64 {
	all := make(map[string]float64)
	for _, one := range m.families[name].GetMetric() {
		kind := strings.TrimSuffix(strings.TrimPrefix(name, "voicefleet_"), "_total")
		for _, label := range labels {
			for _, l := range one.GetLabel() {
				if l.GetName() == label {
					kind += " " + l.GetValue()
				}
			}
		}
		all[kind] += number(one)
	}
	return all
}

func matches(m *dto.Metric, labels []string) bool {
next:
	for i := 0; i+1 < len(labels); i += 2 {
		for _, l := range m.GetLabel() {
			if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
				continue next
			}
		}
		return false
	}
	return true
}

func number(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Histogram != nil:
		return float64(m.Histogram.GetSampleCount())
	case m.Summary != nil:
		return float64(m.Summary.GetSampleCount())
	}
	return m.Untyped.GetValue()
}

// Since is what was counted after an earlier reading; what is no counter stays as
// it is now. Counters that fell are of a new engine, and count from zero.
func (m Metrics) Since(earlier Metrics) Metrics {
	sub := func(now *float64, before float64) {
		if *now >= before {
			*now -= before
		}
	}
	sub(&m.PacketsIn, earlier.PacketsIn)
	sub(&m.PacketsOut, earlier.PacketsOut)
	sub(&m.BytesIn, earlier.BytesIn)
	sub(&m.BytesOut, earlier.BytesOut)
	sub(&m.Resent, earlier.Resent)
	sub(&m.Checks, earlier.Checks)
	sub(&m.Handshakes, earlier.Handshakes)
	sub(&m.SocketDrops, earlier.SocketDrops)
	sub(&m.EngineRestarts, earlier.EngineRestarts)
	sub(&m.CPU, earlier.CPU)
	drops := make(map[string]float64, len(m.Drops))
	for reason, n := range m.Drops {
		sub(&n, earlier.Drops[reason])
		drops[reason] = n
	}
	m.Drops = drops
	return m
}

// Dropped is the sum of all drops by reason, without those of sockets.
func (m Metrics) Dropped() float64 {
	sum := 0.0
	for _, n := range m.Drops {
		sum += n
	}
	return sum
}

// errMetricsRefused tells that only whoever has the admin token may look.
var errMetricsRefused = errors.New("the server shows its metrics to holders of the admin token: run on its machine with its data folder (--data)")

// readMetrics asks a server for its metrics.
func readMetrics(ctx context.Context, client *http.Client, base, token string) (Metrics, error) {
	text, err := read(ctx, client, base+"/metrics", token)
	if err != nil {
		return Metrics{}, fmt.Errorf("read metrics: %w", err)
	}
	return parseMetrics(strings.NewReader(text))
}

// read asks for a page of the operator's.
func read(ctx context.Context, client *http.Client, address, token string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return "", explain(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case err != nil:
		return "", err
	case res.StatusCode == http.StatusUnauthorized:
		return "", errMetricsRefused
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("status %s: %.200s", res.Status, body)
	}
	return string(body), nil
}
