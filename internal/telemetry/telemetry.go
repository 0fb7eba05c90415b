package telemetry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check says why a part of the program is not ready, or nil. It is asked by
// /readyz and must answer at once.
type Check struct {
	Name  string
	Ready func() error
}

// Telemetry is what one program shows of itself.
type Telemetry struct {
	// Immutable once serving.
	gatherers prometheus.Gatherers
	checks    []Check
}

// New begins with what every program shows: its version, and how the process and
// the Go runtime fare.
func New(role, version string) *Telemetry {
	t := &Telemetry{}
	r := t.Registry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "voicefleet_info",
		Help:        "Always 1; tells role and version of the program.",
		ConstLabels: prometheus.Labels{"role": role, "version": version},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return t
}

// Registry is a new one for one room, shown together with all the others: rooms
// that share a process share metric names too, as voicefleet_panics_total. Call
// it before serving.
func (t *Telemetry) Registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	t.gatherers = append(t.gatherers, r)
	return r
}

// Ready adds a check to /readyz. Call it before serving.
func (t *Telemetry) Ready(name string, check func() error) {
	t.checks = append(t.checks, Check{name, check})
}

// Mount adds /healthz, /readyz, /metrics and /debug/pprof/ to mux. Metrics are
// for scrapers on this host and for whoever has the token; profiles for the
// latter only. An empty token opens neither to anybody else.
func (t *Telemetry) Mount(mux *http.ServeMux, token string) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", t.serveReady)
	metrics := promhttp.HandlerFor(t.gatherers, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError})
	mux.Handle("GET /metrics", guard(token, true, metrics))
	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("/debug/pprof/", guard(token, false, profiles))
}

func (t *Telemetry) serveReady(w http.ResponseWriter, _ *http.Request) {
	var failed []string
	for _, c := range t.checks {
		if err := c.Ready(); err != nil {
			failed = append(failed, c.Name+": "+err.Error())
		}
	}
	if len(failed) > 0 {
		http.Error(w, strings.Join(failed, "\n"), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Gather reads all metrics, as /metrics does.
func (t *Telemetry) Gather() error {
	_, err := t.gatherers.Gather()
	return err
}

// Authorized says whether the request carries the token as "Bearer TOKEN" or
// "Admin TOKEN".
func Authorized(r *http.Request, token string) bool {
	kind, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" || kind != "Bearer" && kind != "Admin" {
		return false
	}
	// Hashed first, so that the time tells nothing of the length either.
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
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
	// A web page elsewhere may make the browser of this host ask, under a name
	// of its own that leads to loopback: then the name is in Host.
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func guard(token string, openHere bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if openHere && fromThisHost(r) || Authorized(r, token) {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="voicefleet admin token"`)
		http.Error(w, "needs the admin token", http.StatusUnauthorized)
	})
}

// Serve answers on l until ctx ends, then lets requests under way finish for at
// most a second.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if s.Shutdown(grace) != nil {
		s.Close()
	}
	<-done
	return nil
}
