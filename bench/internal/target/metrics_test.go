package target

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

const shownText = `# HELP go_goroutines Number of goroutines.
# TYPE go_goroutines gauge
go_goroutines 41
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 3.2e+07
# TYPE voicefleet_agent_engine_restarts_total counter
voicefleet_agent_engine_restarts_total 2
# TYPE voicefleet_sfu_bytes_total counter
voicefleet_sfu_bytes_total{direction="in"} 1000
voicefleet_sfu_bytes_total{direction="out"} 9000
# TYPE voicefleet_sfu_drops_total counter
voicefleet_sfu_drops_total{reason="replayed"} 3
voicefleet_sfu_drops_total{reason="queue_full"} 4
# TYPE voicefleet_sfu_handshakes_total counter
voicefleet_sfu_handshakes_total 8
# TYPE voicefleet_sfu_packets_resent_total counter
voicefleet_sfu_packets_resent_total 5
# TYPE voicefleet_sfu_packets_total counter
voicefleet_sfu_packets_total{direction="in"} 10
voicefleet_sfu_packets_total{direction="out"} 90
# TYPE voicefleet_sfu_sessions gauge
voicefleet_sfu_sessions{state="connected"} 7
voicefleet_sfu_sessions{state="open"} 9
# TYPE voicefleet_sfu_socket_drops_total counter
voicefleet_sfu_socket_drops_total 6
# TYPE voicefleet_sfu_speakers gauge
voicefleet_sfu_speakers 2
# TYPE voicefleet_sfu_stun_checks_total counter
voicefleet_sfu_stun_checks_total 11
# TYPE voicefleet_bus_request_seconds histogram
voicefleet_bus_request_seconds_bucket{service="edgeagent",le="+Inf"} 12
voicefleet_bus_request_seconds_sum{service="edgeagent"} 3
voicefleet_bus_request_seconds_count{service="edgeagent"} 12
`

func TestMetrics(t *testing.T) {
	m, err := parseMetrics(strings.NewReader(shownText))
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := m.Sum("voicefleet_bus_request_seconds", "service", "edgeagent"); n != 12 || !ok {
		t.Errorf("requests %v, %t", n, ok)
	}
	if n, ok := m.Sum("voicefleet_sfu_sessions"); n != 16 || !ok {
		t.Errorf("sum %v, %t", n, ok)
	}
	if n, ok := m.Sum("voicefleet_sfu_sessions", "state", "lost"); n != 0 || ok {
		t.Errorf("what is not there: %v, %t", n, ok)
	}
	m.families = nil
	want := Metrics{
		Media: true, PacketsIn: 10, PacketsOut: 90, BytesIn: 1000, BytesOut: 9000, Resent: 5, Checks: 11, Handshakes: 8, SocketDrops: 6,
		Drops: map[string]float64{"replayed": 3, "queue_full": 4}, Sessions: 9, Connected: 7, Speakers: 2,
		EngineRestarts: 2, Goroutines: 41, CPU: 1.5, RSS: 3.2e7,
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("%+v\nwant %+v", m, want)
	}
	if m.Dropped() != 7 {
		t.Errorf("dropped %v", m.Dropped())
	}

	// Since a reading: counters count, gauges stand; a new engine counts from zero.
	since := m.Since(Metrics{PacketsIn: 4, PacketsOut: 100, Drops: map[string]float64{"replayed": 1, "queue_full": 9}, Sessions: 5, CPU: 1})
	if since.PacketsIn != 6 || since.PacketsOut != 90 || since.Sessions != 9 || since.CPU != 0.5 || since.Drops["replayed"] != 2 || since.Drops["queue_full"] != 4 || m.Drops["replayed"] != 3 {
		t.Errorf("%+v", since)
	}

	if m, err := parseMetrics(strings.NewReader("go_goroutines 3\n")); err != nil || m.Media || m.Goroutines != 3 {
		t.Errorf("without media: %+v, %v", m, err)
	}
	for _, bad := range []string{"go_goroutines", "go_goroutines three\n", `a{b="c} 1` + "\n", "<html>"} {
		if m, err := parseMetrics(strings.NewReader(bad)); err == nil {
			t.Errorf("%q read as %+v", bad, m)
		}
	}
}

// Metrics need the token from afar, and a server may answer anything.
func TestReadMetrics(t *testing.T) {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/metrics":
			http.NotFound(w, r)
		case r.Header.Get("Authorization") != "Bearer good":
			http.Error(w, "needs the admin token", http.StatusUnauthorized)
		default:
			_, _ = w.Write([]byte(shownText))
		}
	}))
	defer h.Close()
	if m, err := readMetrics(t.Context(), h.Client(), h.URL, "good"); err != nil || m.PacketsOut != 90 {
		t.Errorf("%+v, %v", m, err)
	}
	for base, want := range map[string]string{h.URL: "--data", h.URL + "/elsewhere": "404"} {
		if _, err := readMetrics(t.Context(), h.Client(), base, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", base, err, want)
		}
	}
}
