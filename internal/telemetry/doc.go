// Package telemetry sets up what every program of the fleet shows of itself:
// structured logs (log/slog) that no stranger can flood, Prometheus metrics at
// /metrics, /healthz that depends on nothing, /readyz, and pprof behind the
// admin token.
package telemetry
