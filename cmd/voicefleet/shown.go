package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"voicefleet/internal/telemetry"
)

// shown is what a program shows of itself: metrics, health, profiles.
type shown struct {
	gatherers prometheus.Gatherers
	checks    []check
}

// gather reads all registries. A name that several rooms count under has the help
// of the first: to be shown as one metric they must agree to the letter.
func (s *shown) gather() ([]*dto.MetricFamily, error) {
	help := make(map[string]*string)
	var agreed prometheus.Gatherers
	for _, g := range s.gatherers {
		agreed = append(agreed, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			all, err := g.Gather()
			for _, f := range all {
				if first, ok := help[f.GetName()]; ok {
					f.Help = first
				}
				help[f.GetName()] = f.Help
			}
			return all, err
		}))
	}
	return agreed.Gather()
}

// check says why a part is not ready, or nil, at once.
type check struct {
	name  string
	ready func() error
}

func newShown() *shown {
	return &shown{gatherers: prometheus.Gatherers{telemetry.NewRegistry(version)}}
}

// registry is a new one for one room, shown together with all the others: rooms
// that share a process share names too, as voicefleet_panics_total.
func (s *shown) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	s.gatherers = append(s.gatherers, r)
	return r
}

// ready adds a check to /readyz.
func (s *shown) ready(name string, c func() error) { s.checks = append(s.checks, check{name, c}) }

func (s *shown) why() error {
	var all error
	for _, c := range s.checks {
		if err := c.ready(); err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return all
}

// mount adds /healthz, /readyz, /metrics and /debug/pprof/. Metrics are for
// scrapers on this host and for whoever has the token, profiles for the latter
// only. Call it when all registries are made.
func (s *shown) mount(mux *http.ServeMux, token string) {
	h := telemetry.Handler(prometheus.GathererFunc(s.gather), s.why, token)
	mux.Handle("GET /healthz", h)
	mux.Handle("GET /readyz", h)
	mux.Handle("/debug/pprof/", h)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !fromThisHost(r) && !authorized(r, token) {
			refuse(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="voicefleet admin token"`)
	http.Error(w, "needs the admin token", http.StatusUnauthorized)
}

// authorized says whether the request carries the token as "Bearer TOKEN". An
// empty token authorizes nobody.
func authorized(r *http.Request, token string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Hashed first, so that the time tells nothing of the length either.
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return ok && token != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// fromThisHost says whether the request came over loopback and not through a
// proxy that runs here.
func fromThisHost(r *http.Request) bool {
	if r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return false
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		return false
	}
	// A page elsewhere may make the browser of this host ask, under a name of
	// its own that leads to loopback: then that name is in Host.
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}
