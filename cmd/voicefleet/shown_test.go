package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
	mux := http.NewServeMux()
	newShown().mount(mux, "secret")
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
		"profiles with the token":   {"/debug/pprof/", with("Bearer secret"), 200},
		"a profile with the token":  {"/debug/pprof/goroutine?debug=1", with("Bearer secret"), 200},
	} {
		if got := ask(mux, c.path, c.change).Code; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	closed := http.NewServeMux()
	newShown().mount(closed, "")
	if got := ask(closed, "/debug/pprof/", with("Bearer ")).Code; got != 401 {
		t.Errorf("an empty token opens the profiles: %d", got)
	}
}

func TestRoomsShareNames(t *testing.T) {
	s := newShown()
	for _, unit := range []string{"call", "guild"} {
		panics := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_panics_total", Help: "Panics of a " + unit + "."}, []string{"unit"})
		s.registry().MustRegister(panics)
		panics.WithLabelValues(unit).Inc()
	}
	mux := http.NewServeMux()
	s.mount(mux, "secret")
	body := ask(mux, "/metrics", nil).Body.String()
	for _, want := range []string{`voicefleet_panics_total{unit="call"} 1`, `voicefleet_panics_total{unit="guild"} 1`, "voicefleet_build_info{", "go_goroutines"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestReadiness(t *testing.T) {
	s := newShown()
	var busErr error
	s.ready("bus", func() error { return busErr })
	mux := http.NewServeMux()
	s.mount(mux, "")
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
