package telemetry

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestNewLogger(t *testing.T) {
	for _, c := range []struct {
		format, level, want, refused string
	}{
		{"", "", "level=INFO msg=told", ""},
		{"text", "info", "level=INFO msg=told", ""},
		{"json", "", `"msg":"told"`, ""},
		{"", "warn", "", ""},
		{"xml", "", "", "log format"},
		{"", "loud", "", "log level"},
	} {
		var b strings.Builder
		log, err := NewLogger(&b, c.format, c.level)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%q %q: error %v, want %q", c.format, c.level, err, c.refused)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		log.Info("told")
		if !strings.Contains(b.String(), c.want) || (c.want == "") != (b.Len() == 0) {
			t.Errorf("%q %q wrote %q", c.format, c.level, b.String())
		}
	}
}

func TestFloodHoldsBackPerKeyAndSecond(t *testing.T) {
	var b strings.Builder
	f := NewFlood(slog.New(slog.NewTextHandler(&b, nil)), 2)
	now := time.Unix(1000, 0)
	f.now = func() time.Time { return now }
	for range 5 {
		f.Log(slog.LevelWarn, "bad", "bad packet")
	}
	f.Log(slog.LevelWarn, "other", "other packet")
	if n := strings.Count(b.String(), "bad packet"); n != 2 {
		t.Errorf("%d lines of one key in a second, want 2", n)
	}
	if !strings.Contains(b.String(), "other packet") {
		t.Error("another key was held back too")
	}
	b.Reset()
	now = now.Add(time.Second)
	f.Log(slog.LevelWarn, "bad", "bad packet")
	if !strings.Contains(b.String(), "held_back=3") {
		t.Errorf("the next second wrote %q, want held_back=3", b.String())
	}
	for i := range 2 * maxFloodKeys {
		f.Log(slog.LevelWarn, strings.Repeat("k", i+1), "many keys")
	}
	if len(f.keys) > maxFloodKeys+1 {
		t.Errorf("%d keys are remembered", len(f.keys))
	}
}

func TestHandler(t *testing.T) {
	reg := NewRegistry("v1.2.3")
	var notReady error
	open := Handler(reg, func() error { return notReady }, "secret")
	closed := Handler(reg, nil, "")
	for _, c := range []struct {
		name, path, auth string
		ready            error
		handler          string
		code             int
		body             string
	}{
		{name: "metrics", path: "/metrics", code: 200, body: `version="v1.2.3"`},
		{name: "healthy although not ready", path: "/healthz", ready: errors.New("bus is away"), code: 200, body: "ok"},
		{name: "ready", path: "/readyz", code: 200, body: "ok"},
		{name: "not ready", path: "/readyz", ready: errors.New("bus is away"), code: 503, body: "bus is away"},
		{name: "pprof without token", path: "/debug/pprof/", code: 401, body: "admin token"},
		{name: "pprof with wrong token", path: "/debug/pprof/cmdline", auth: "Bearer secre", code: 401, body: "admin token"},
		{name: "pprof with another scheme", path: "/debug/pprof/cmdline", auth: "Basic secret", code: 401, body: "admin token"},
		{name: "pprof", path: "/debug/pprof/cmdline", auth: "Bearer secret", code: 200},
		{name: "pprof closed", path: "/debug/pprof/cmdline", auth: "Bearer ", handler: "closed", code: 401},
		{name: "elsewhere", path: "/etc/passwd", code: 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			notReady = c.ready
			r := httptest.NewRequest("GET", c.path, nil)
			if c.auth != "" {
				r.Header.Set("Authorization", c.auth)
			}
			w := httptest.NewRecorder()
			if c.handler == "closed" {
				closed.ServeHTTP(w, r)
			} else {
				open.ServeHTTP(w, r)
			}
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("answered %d %.200q", w.Code, w.Body.String())
			}
		})
	}
}

func TestGuardCountsInOneMetric(t *testing.T) {
	reg := prometheus.NewRegistry()
	a, b := NewPanics(reg, nil), NewPanics(reg, nil)
	if a.Guard("call", func() {}) {
		t.Error("no panic was reported as one")
	}
	if !a.Guard("call", func() { panic("a") }) || !b.Guard("call", func() { panic("b") }) {
		t.Error("a panic went unnoticed")
	}
	//lint:ignore SA5000 the panic is wanted
	if !Guard("guild", reg, nil, func() { var m map[int]int; m[1] = 1 }) {
		t.Error("a runtime panic went unnoticed")
	}
	b.Add("call", 2)
	if n := value(t, a.total.WithLabelValues("call")); n != 4 {
		t.Errorf("call counts %v, want 4", n)
	}
	if n := value(t, a.total.WithLabelValues("guild")); n != 1 {
		t.Errorf("guild counts %v, want 1", n)
	}
}

func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue()
}
