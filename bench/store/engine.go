package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/bench/internal/procstat"
	"voicefleet/textchat"
	"voicefleet/textchat/chatserver"
	"voicefleet/textchat/textchattest"
)

// The engines there are.
const (
	SQLite = "sqlite"
	CQL    = "cql"
)

// keyspace is that of a node of its own.
const keyspace = "voicebench"

// openTries bounds how often a node of its own is connected to.
const openTries = 5

// engine is an open store.
type engine struct {
	textchat.Store
	name    string
	metrics *prometheus.Registry
	own     string // HOST:PORT of a CQL node of its own
	pid     int    // its process
	close   func() error
}

// open begins an engine on fresh data.
func (c *Config) open(ctx context.Context, name string) (*engine, error) {
	e := &engine{name: name, metrics: prometheus.NewRegistry()}
	var address string
	var end func() error
	switch {
	case name == SQLite:
		dir, err := os.MkdirTemp(c.Dir, "voicebench-store-")
		if err != nil {
			return nil, fmt.Errorf("make a folder for the store: %w", err)
		}
		address, end = "sqlite:"+dir, func() error { return os.RemoveAll(dir) }
	case c.Address != "":
		address, end = c.Address, func() error { return nil }
	default:
		c.Progress.Say("starting a CQL node")
		node := &textchattest.CQLServer{Profile: "durable", Dir: c.Dir}
		at, err := node.Start()
		if err != nil {
			return nil, err
		}
		e.own, e.pid = at, node.Pid()
		address, end = "cql://"+at+"/"+keyspace, node.Stop
	}
	at, err := chatserver.ParseStore(address)
	if err == nil {
		e.Store, err = at.Open(ctx, e.metrics, slog.New(slog.DiscardHandler))
	}
	// A node that has just begun, on a busy machine, may take longer than a store waits.
	for n := 1; err != nil && name == CQL && c.Address == "" && n < openTries && ctx.Err() == nil; n++ {
		e.metrics = prometheus.NewRegistry()
		e.Store, err = at.Open(ctx, e.metrics, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return nil, errors.Join(err, end())
	}
	e.close = func() error { return errors.Join(e.Store.Close(), end()) }
	return e, nil
}

// usage is the CPU time of this process, and of a node of its own.
func (e *engine) usage() (used [2]time.Duration, err error) {
	for i, pid := range []int{os.Getpid(), e.pid} {
		if pid == 0 {
			continue
		}
		cpu, err := procstat.ReadCPU(pid)
		if err != nil {
			return used, fmt.Errorf("read CPU time: %w", err)
		}
		used[i] = cpu.Total()
	}
	return used, nil
}

// count adds up a counter of the store over its labels.
func (e *engine) count(name string) (n float64, err error) {
	families, err := e.metrics.Gather()
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n, nil
}

// title is how people write its name.
func (e *engine) title() string {
	return strings.NewReplacer(SQLite, "SQLite", CQL, "CQL").Replace(e.name)
}

// statements are the inserts that a store sent to its cluster so far, by the time to
// their answer: bounds in seconds, and how many took no longer.
type statements struct {
	bounds []float64
	counts []uint64
	total  uint64
}

// statements reads them; of a store that sends none, nothing.
func (e *engine) statements() (s statements, err error) {
	families, err := e.metrics.Gather()
	if err != nil {
		return s, fmt.Errorf("read metrics: %w", err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != "voicefleet_store_query_seconds" || len(m.GetLabel()) != 1 || m.GetLabel()[0].GetValue() != "insert" {
				continue
			}
			s.total = m.GetHistogram().GetSampleCount()
			for _, b := range m.GetHistogram().GetBucket() {
				s.bounds, s.counts = append(s.bounds, b.GetUpperBound()), append(s.counts, b.GetCumulativeCount())
			}
		}
	}
	return s, nil
}

// since are those that came after earlier ones.
func (s statements) since(earlier statements) statements {
	s.total -= earlier.total
	s.counts = slices.Clone(s.counts)
	for i, n := range earlier.counts {
		s.counts[i] -= n
	}
	return s
}

// row has their quantiles, as the bounds they lie under.
func (s statements) row(title string) []string {
	row := []string{title, fmt.Sprint(s.total)}
	for _, q := range []float64{0.5, 0.99, 1} {
		cell := "more"
		for i, n := range s.counts {
			if float64(n) >= q*float64(s.total) {
				cell = fmt.Sprintf("< %g", s.bounds[i]*1000)
				break
			}
		}
		row = append(row, cell)
	}
	return row
}

// node asks a node of its own how long inserts of messages took it since it is up, the
// last minutes counting most: count, and p50, p99 and the longest in milliseconds, in
// steps of a fifth. Of a cluster of yours it says nothing.
func (e *engine) node(ctx context.Context) ([]string, error) {
	if e.own == "" {
		return nil, nil
	}
	session, err := gocql.NewCluster(e.own).CreateSession()
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	defer session.Close()
	var count int64
	var p50, p99, most float64
	err = session.Query("SELECT count, p50th_ms, p99th_ms, max_ms FROM system_views.coordinator_write_latency WHERE keyspace_name = ? AND table_name = 'messages'", keyspace).
		WithContext(ctx).Scan(&count, &p50, &p99, &most)
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	// Cassandra 5.0 takes its microseconds for nanoseconds there and rounds to three digits:
	// what it calls 0.001 is 1 ms.
	row := []string{fmt.Sprint(count)}
	for _, v := range []float64{p50, p99, most} {
		row = append(row, fmt.Sprintf("%.0f", v*1000))
	}
	return row, nil
}
