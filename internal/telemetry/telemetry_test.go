package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func ask(h http.Handler, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://localhost:8443"+path, nil)
	r.RemoteAddr = "127.0.0.1:4711"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWhoMaySee(t *testing.T) {
	tel := New("up", "v1")
	mux := http.NewServeMux()
	tel.Mount(mux, "secret")
	far := func(r *http.Request) { r.RemoteAddr = "192.0.2.7:4711" }
	with := func(auth string) func(*http.Request) {
		return func(r *http.Request) { far(r); r.Header.Set("Authorization", auth) }
	}
	for name, c := range map[string]struct {
		path   string
		change func(*http.Request)
		want   int
	}{
		"health, anybody":           {"/healthz", far, 200},
		"ready, anybody":            {"/readyz", far, 200},
		"metrics here":              {"/metrics", nil, 200},
		"metrics here by IPv6":      {"/metrics", func(r *http.Request) { r.RemoteAddr = "[::1]:4711"; r.Host = "[::1]:8443" }, 200},
		"metrics from afar":         {"/metrics", far, 401},
		"metrics through a proxy":   {"/metrics", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.7") }, 401},
		"metrics by a rebound name": {"/metrics", func(r *http.Request) { r.Host = "evil.example:8443" }, 401},
		"metrics with the token":    {"/metrics", with("Bearer secret"), 200},
		"metrics, wrong token":      {"/metrics", with("Bearer secre"), 401},
		"metrics, wrong kind":       {"/metrics", with("Bot secret"), 401},
		"profiles here":             {"/debug/pprof/", nil, 401},
		"profiles with the token":   {"/debug/pprof/", with("Admin secret"), 200},
		"a profile with the token":  {"/debug/pprof/goroutine?debug=1", with("Bearer secret"), 200},
	} {
		if got := ask(mux, c.path, c.change).Code; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	closed := http.NewServeMux()
	tel.Mount(closed, "")
	if got := ask(closed, "/debug/pprof/", with("Bearer ")).Code; got != 401 {
		t.Errorf("empty token opens the profiles: %d", got)
	}
}

func TestRoomsShareNames(t *testing.T) {
	tel := New("up", "v1")
	for _, unit := range []string{"call", "guild"} {
		panics := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_panics_total", Help: "Panics."}, []string{"unit"})
		if err := tel.Registry().Register(panics); err != nil {
			t.Fatal(err)
		}
		panics.WithLabelValues(unit).Inc()
	}
	if err := tel.Gather(); err != nil {
		t.Error(err)
	}
	mux := http.NewServeMux()
	tel.Mount(mux, "secret")
	body := ask(mux, "/metrics", nil).Body.String()
	for _, want := range []string{`voicefleet_panics_total{unit="call"} 1`, `voicefleet_panics_total{unit="guild"} 1`, `voicefleet_info{role="up",version="v1"} 1`, "go_goroutines"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestReady(t *testing.T) {
	tel := New("up", "v1")
	var busErr error
	tel.Ready("bus", func() error { return busErr })
	mux := http.NewServeMux()
	tel.Mount(mux, "")
	if w := ask(mux, "/readyz", nil); w.Code != 200 {
		t.Errorf("ready: %d", w.Code)
	}
	busErr = errors.New("no connection")
	if w := ask(mux, "/readyz", nil); w.Code != 503 || !strings.Contains(w.Body.String(), "bus: no connection") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	if w := ask(mux, "/healthz", nil); w.Code != 200 {
		t.Errorf("health depends on the bus: %d", w.Code)
	}
}

func TestLogIsBounded(t *testing.T) {
	var out bytes.Buffer
	h := NewLog(&out, slog.LevelInfo, false).Handler()
	now := time.Unix(1000, 0)
	say := func(h slog.Handler, message string) {
		if err := h.Handle(context.Background(), slog.NewRecord(now, slog.LevelInfo, message, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		say(h, "refused")
		say(h.WithAttrs([]slog.Attr{slog.Int("a", 1)}), "refused")
	}
	say(h, "another")
	if got := strings.Count(out.String(), "refused"); got != linesPerMessage {
		t.Errorf("%d lines, want %d", got, linesPerMessage)
	}
	if !strings.Contains(out.String(), "another") {
		t.Error("one message silenced another")
	}
	out.Reset()
	now = now.Add(window)
	say(h, "refused")
	if !strings.Contains(out.String(), "dropped_before=180") {
		t.Errorf("the next window does not tell what was dropped: %s", out.String())
	}
}

func TestLogTableIsBounded(t *testing.T) {
	s := &seen{lines: make(map[string]*line)}
	for i := range 2 * maxMessages {
		s.admit(strings.Repeat("x", i+1), time.Unix(1, 0))
	}
	if len(s.lines) > maxMessages+1 {
		t.Errorf("%d entries", len(s.lines))
	}
}

func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tel := New("edge", "v1")
	mux := http.NewServeMux()
	tel.Mount(mux, "")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, mux) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok\n" {
		t.Errorf("healthz says %q", body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
