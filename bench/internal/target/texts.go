package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"voicefleet/internal/freeport"
)

// TextsConfig starts the text side of a fleet: a bus, and instances of voicefleet text
// that serve the same guilds from one store.
type TextsConfig struct {
	Program string    // default bin/voicefleet
	Store   string    // address of a store that several may use, cql://HOST/KEYSPACE
	Log     io.Writer // nil keeps the last of each log for errors
}

// Texts are such instances. There is none of them before Add.
type Texts struct {
	// Bus is the NATS server between them, each of Texts a process of its own.
	Bus   *Unit
	Texts []*Unit

	config TextsConfig
	data   string // folder of folders
	busURL string
	hosts  []string // HOST:PORT of each
}

// StartTexts starts the bus.
func StartTexts(ctx context.Context, c TextsConfig) (_ *Texts, err error) {
	if err := lookFor(&c.Program); err != nil {
		return nil, err
	}
	t := &Texts{config: c}
	if t.data, err = os.MkdirTemp("", "voicebench-texts-"); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Stop())
		}
	}()
	port, err := freeport.TCP()
	if err != nil {
		return nil, err
	}
	at := net.JoinHostPort(loopback.String(), strconv.Itoa(port))
	t.busURL = "nats://" + at
	t.Bus = &Unit{Name: "bus", Place: Place{Addr: loopback}, program: c.Program, upWhen: "bus is up", log: byName("bus", c.Log), args: []string{"bus", "--listen", at}}
	return t, t.Bus.Start(ctx)
}

// Add starts n more instances, and returns when all are up. The first of all makes the
// tables and the first guild by itself, before there are others.
func (t *Texts) Add(ctx context.Context, n int) error {
	var units []*Unit
	for range n {
		port, err := freeport.TCP()
		if err != nil {
			return err
		}
		i := len(t.Texts)
		name := fmt.Sprintf("text%d", i+1)
		u := &Unit{Name: name, Place: Place{Addr: loopback}, program: t.config.Program, upWhen: " is up.", log: byName(name, t.config.Log)}
		u.args = []string{"text", "--bus", t.busURL, "--store", t.config.Store, "--data", t.folder(i), "--port", strconv.Itoa(port),
			"--worker", strconv.Itoa(i), "--advertise", loopback.String(), "--log-level", "warn"}
		t.Texts = append(t.Texts, u)
		t.hosts = append(t.hosts, net.JoinHostPort(loopback.String(), strconv.Itoa(port)))
		units = append(units, u)
	}
	if len(units) > 0 && units[0] == t.Texts[0] {
		if err := units[0].Start(ctx); err != nil {
			return err
		}
		units = units[1:]
	}
	return startAll(ctx, units)
}

func (t *Texts) folder(i int) string { return filepath.Join(t.data, fmt.Sprintf("text%d", i+1)) }

// Host is the HOST:PORT of the i-th instance.
func (t *Texts) Host(i int) string { return t.hosts[i] }

// Remote enters the fleet by its i-th instance. It may have rooms and accounts without
// end, and they go with the fleet.
func (t *Texts) Remote(ctx context.Context, i int, shape Shape) (*Remote, error) {
	r, err := OpenRemote(ctx, RemoteConfig{Data: t.folder(i), Shape: shape})
	if err != nil {
		return nil, err
	}
	r.gone = true
	return r, nil
}

// Stop ends everything, clients of the bus first, and removes the data.
func (t *Texts) Stop() error {
	errs := make([]error, len(t.Texts))
	var ending sync.WaitGroup
	for i, u := range t.Texts {
		ending.Go(func() { errs[i] = u.Stop() })
	}
	ending.Wait()
	if t.Bus != nil {
		errs = append(errs, t.Bus.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(t.data))...)
}
