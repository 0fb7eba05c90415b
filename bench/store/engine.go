package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
	"voicefleet/textchat/chatserver"
	"voicefleet/textchat/textchattest"
)

// The engines there are.
const (
	SQLite = "sqlite"
	CQL    = "cql"
)

// openTries bounds how often a node of its own is connected to.
const openTries = 5

// engine is an open store.
type engine struct {
	textchat.Store
	name    string
	metrics *prometheus.Registry
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
		address, end = "cql://"+at+"/voicebench", node.Stop
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
