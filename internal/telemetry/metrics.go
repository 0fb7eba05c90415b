package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry is a registry with what every program shows: the Go runtime, the
// process and voicefleet_build_info.
func NewRegistry(version string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "voicefleet_build_info",
		Help:        "Always 1; the labels tell which build runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision(), "go": runtime.Version()},
	})
	info.Set(1)
	reg.MustRegister(info)
	return reg
}

func revision() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// Register adds c to reg and returns it, or the equal one that is there already:
// two servers of one kind in one process share their metrics. A nil reg means a
// private registry: the metric counts and nobody sees it.
func Register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if err == nil {
		return c
	}
	if same := (prometheus.AlreadyRegisteredError{}); errors.As(err, &same) {
		if there, ok := same.ExistingCollector.(C); ok {
			return there
		}
	}
	panic(fmt.Sprintf("register metric: %v", err)) // two metrics of one name: a mistake in the code
}

// Panics recovers panics of one unit (a call, a connection, a guild), so that
// only this unit ends, and counts them in voicefleet_panics_total.
type Panics struct {
	total *prometheus.CounterVec
	log   *slog.Logger
}

// NewPanics counts in reg and logs each panic with its stack to log; both may be
// nil.
func NewPanics(reg prometheus.Registerer, log *slog.Logger) *Panics {
	if log == nil {
		log = Discard()
	}
	return &Panics{
		total: Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_panics_total",
			Help: "Panics recovered, by the unit that ended with it. Every one is a bug.",
		}, []string{"unit"})),
		log: log,
	}
}

// Guard runs fn and says whether it panicked.
func (p *Panics) Guard(unit string, fn func()) (panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			panicked = true
			p.total.WithLabelValues(unit).Inc()
			p.log.Error("panic recovered", "unit", unit, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	fn()
	return false
}

// Add counts n panics that were recovered elsewhere, in a child process.
func (p *Panics) Add(unit string, n uint64) { p.total.WithLabelValues(unit).Add(float64(n)) }

// Guard is Panics.Guard for a caller that has no Panics at hand.
func Guard(unit string, reg prometheus.Registerer, log *slog.Logger, fn func()) (panicked bool) {
	return NewPanics(reg, log).Guard(unit, fn)
}
