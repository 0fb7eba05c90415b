package target

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/freeport"
)

// FleetConfig says which programs make a fleet, and where they live.
type FleetConfig struct {
	Program string // default bin/voicefleet
	// Edges, Centrals and Buses are how many of each (default 3, 2, 1).
	Edges, Centrals, Buses int
	// Place gives each unit a host of its own; nil: all live on this one, at loopback
	// addresses and free ports.
	Place func(name string) (Place, error)
	Log   io.Writer // nil keeps the last of each log for errors
}

const mostUnits = 16

func (c *FleetConfig) validate() error {
	for _, n := range []struct {
		of *int
		by int
	}{{&c.Edges, 3}, {&c.Centrals, 2}, {&c.Buses, 1}} {
		if *n.of == 0 {
			*n.of = n.by
		}
		if *n.of < 1 || *n.of > mostUnits {
			return fmt.Errorf("%d units of a kind, want 1 to %d", *n.of, mostUnits)
		}
	}
	return lookFor(&c.Program)
}

// Fleet is voicefleet as an operator of several machines runs it: a process for each
// role, and as many as there are machines.
type Fleet struct {
	// Immutable after StartFleet.
	Buses    []*Unit
	Centrals []*Unit
	Texts    []*Unit
	Edges    []*Unit // named as the nodes are
	URL      string  // of page, REST and gateway
	Voice    []string

	config FleetConfig
	data   string // folder of folders
	busURL string
	token  string // for what edges show of themselves
	remote *Remote
	http   *http.Client
}

// PortBus is where a server of the bus that has a host of its own listens.
const PortBus = 4222

// fleetPorts are those of hosts that have nobody else.
const (
	portBus     = PortBus
	portCluster = 6222
	portCentral = 8444
	portText    = 8443
	portSide    = 9443
	portMedia   = 50000
)

// StartFleet starts all of it, and returns when its nodes take calls.
func StartFleet(ctx context.Context, c FleetConfig) (_ *Fleet, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	f := &Fleet{config: c, token: rand.Text(), http: &http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
	if f.data, err = os.MkdirTemp("", "voicebench-fleet-"); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Stop())
		}
	}()
	if err := f.plan(); err != nil {
		return nil, err
	}
	for _, group := range [][]*Unit{f.Buses, slices.Concat(f.Centrals, f.Edges, f.Texts)} {
		if err := startAll(ctx, group); err != nil {
			return nil, err
		}
	}
	if f.remote, err = OpenRemote(ctx, RemoteConfig{Server: f.URL, Data: f.textData(), Insecure: true}); err != nil {
		return nil, err
	}
	f.remote.gone = true
	for _, e := range f.Edges {
		if err := f.Await(ctx, e.Name, edgeagent.Ready); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func startAll(ctx context.Context, units []*Unit) error {
	errs := make([]error, len(units))
	var starting sync.WaitGroup
	for i, u := range units {
		starting.Go(func() { errs[i] = u.Start(ctx) })
	}
	starting.Wait()
	return errors.Join(errs...)
}

// plan lays down who lives where with which flags.
func (f *Fleet) plan() error {
	if err := f.planBuses(); err != nil {
		return err
	}
	for i := range f.config.Centrals {
		u, port, err := f.unit(fmt.Sprintf("central%d", i+1), "central is up", portCentral)
		if err != nil {
			return err
		}
		at := net.JoinHostPort(u.Place.Addr.String(), strconv.Itoa(port))
		u.args = []string{"central", "--bus", f.busURL, "--port", strconv.Itoa(port), "--data", filepath.Join(f.data, u.Name),
			"--advertise", u.Place.Addr.String(), "--advertise-endpoint", at, "--log-level", "warn"}
		f.Centrals = append(f.Centrals, u)
		f.Voice = append(f.Voice, at)
	}
	u, port, err := f.unit("text1", " is up.", portText)
	if err != nil {
		return err
	}
	u.args = []string{"text", "--bus", f.busURL, "--port", strconv.Itoa(port), "--store", "sqlite:" + f.textData(),
		"--advertise", u.Place.Addr.String(), "--log-level", "warn"}
	f.Texts = []*Unit{u}
	f.URL = "https://" + net.JoinHostPort(u.Place.Addr.String(), strconv.Itoa(port))
	for i := range f.config.Edges {
		if err := f.planEdge(i); err != nil {
			return err
		}
	}
	return nil
}

// planBuses makes one bus, or a cluster whose servers know of each other.
func (f *Fleet) planBuses() error {
	var routes []string
	for i := range f.config.Buses {
		u, port, err := f.unit(fmt.Sprintf("bus%d", i+1), "bus is up", portBus)
		if err != nil {
			return err
		}
		cluster := portCluster
		if u.Place.Enter == nil {
			if cluster, err = freeport.TCP(); err != nil {
				return err
			}
		}
		at := net.JoinHostPort(u.Place.Addr.String(), strconv.Itoa(port))
		routes = append(routes, net.JoinHostPort(u.Place.Addr.String(), strconv.Itoa(cluster)))
		u.args = []string{"bus", "--listen", at}
		f.Buses = append(f.Buses, u)
		f.busURL += ",nats://" + at
	}
	f.busURL = strings.TrimPrefix(f.busURL, ",")
	if len(f.Buses) == 1 {
		return nil
	}
	for i, u := range f.Buses {
		others := slices.Concat(routes[:i], routes[i+1:])
		u.args = append(u.args, "--name", u.Name, "--store", filepath.Join(f.data, u.Name), "--cluster-listen", routes[i], "--routes", strings.Join(others, ","))
	}
	return nil
}

// edgeCapacity is what edges say they carry, in packets/s: what they measure at their
// start, all at once and beside the load, would differ from run to run.
const edgeCapacity = 60_000

func (f *Fleet) planEdge(i int) error {
	u, side, err := f.unit(fmt.Sprintf("edge%d", i+1), " is up", portSide)
	if err != nil {
		return err
	}
	media := portMedia
	if u.Place.Enter == nil {
		if media, err = freeport.UDP(1); err != nil {
			return err
		}
	}
	u.args = []string{"edge", "--bus", f.busURL, "--node", u.Name, "--zone", u.Name, "--workers", "1", "--media-port", strconv.Itoa(media),
		"--advertise", u.Place.Addr.String(), "--http", net.JoinHostPort(u.Place.Addr.String(), strconv.Itoa(side)),
		"--capacity-pps", strconv.Itoa(edgeCapacity), "--log-level", "warn"}
	u.env = []string{"VOICEFLEET_ADMIN_TOKEN=" + f.token}
	f.Edges = append(f.Edges, u)
	return nil
}

// unit makes a unit and finds its place and a TCP port there.
func (f *Fleet) unit(name, upWhen string, port int) (*Unit, int, error) {
	u := &Unit{Name: name, program: f.config.Program, upWhen: upWhen, log: byName(name, f.config.Log)}
	var err error
	if f.config.Place != nil {
		u.Place, err = f.config.Place(name)
		return u, port, err
	}
	u.Place.Addr = loopback
	if strings.HasPrefix(name, "edge") { // known apart in logs and traces
		u.Place.Addr = netip.AddrFrom4([4]byte{127, 0, 0, byte(10 + len(f.Edges) + 1)})
	}
	port, err = freeport.TCP()
	return u, port, err
}

func (f *Fleet) textData() string { return filepath.Join(f.data, "text1") }

// Remote is the front door. It stays the same while the fleet lives.
func (f *Fleet) Remote() *Remote { return f.remote }

// Units are all of them, the bus first.
func (f *Fleet) Units() []*Unit { return slices.Concat(f.Buses, f.Centrals, f.Texts, f.Edges) }

// Edge finds an edge by its node's name.
func (f *Fleet) Edge(node string) *Unit {
	for _, e := range f.Edges {
		if e.Name == node {
			return e
		}
	}
	return nil
}

// Nodes and Calls are what an allocator says.
func (f *Fleet) Nodes(ctx context.Context) ([]allocator.NodeView, error) {
	var nodes []allocator.NodeView
	err := f.remote.rest(ctx, http.MethodGet, "/api/admin/fleet/nodes", "Bearer "+f.remote.admin, nil, &nodes)
	return nodes, err
}

// Calls lists the live calls.
func (f *Fleet) Calls(ctx context.Context) ([]allocator.CallEntry, error) {
	var calls []allocator.CallEntry
	err := f.remote.rest(ctx, http.MethodGet, "/api/admin/fleet/calls", "Bearer "+f.remote.admin, nil, &calls)
	return calls, err
}

// Await asks until a node is in a state.
func (f *Fleet) Await(ctx context.Context, node string, state edgeagent.State) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not %s within %v", state, readyTimeout))
	defer cancel()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		nodes, err := f.Nodes(ctx)
		if err == nil && slices.ContainsFunc(nodes, func(n allocator.NodeView) bool { return string(n.Node) == node && n.State == state }) {
			return nil
		}
		for _, u := range f.Units() {
			if !u.Alive() {
				return fmt.Errorf("await node %s: %s has ended\n%s", node, u.Name, u.Log())
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("await node %s: %w", node, errors.Join(context.Cause(ctx), err))
		}
	}
}

// Ctl runs `voicefleet ctl` as the operator does, and gives what it says.
func (f *Fleet) Ctl(ctx context.Context, args ...string) (string, error) {
	return f.Texts[0].run(ctx, append([]string{"ctl", "--data", f.textData()}, args...)...)
}

// Shown are the metrics a unit shows of itself; a bus has none.
func (f *Fleet) Shown(ctx context.Context, u *Unit) (Metrics, error) {
	value := func(flag string) string {
		if i := slices.Index(u.args, flag); i >= 0 {
			return u.args[i+1]
		}
		return ""
	}
	if at := value("--http"); at != "" {
		return readMetrics(ctx, f.http, "http://"+at, f.token)
	}
	port := value("--port")
	if port == "" {
		return Metrics{}, fmt.Errorf("%s shows no metrics", u.Name)
	}
	token, err := word(filepath.Join(f.data, u.Name, "admin.token"))
	if err != nil {
		return Metrics{}, err
	}
	return readMetrics(ctx, f.http, "http://"+net.JoinHostPort(u.Place.Addr.String(), port), token)
}

// AwaitReady asks /readyz of units until all say that they are.
func (f *Fleet) AwaitReady(ctx context.Context, units ...*Unit) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready within %v", readyTimeout))
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for _, u := range units {
		at := "http://" + net.JoinHostPort(u.Place.Addr.String(), u.args[slices.Index(u.args, "--port")+1]) + "/readyz"
		for {
			if _, err := read(ctx, f.http, at, ""); err == nil {
				break
			}
			select {
			case <-look.C:
			case <-ctx.Done():
				return fmt.Errorf("await %s: %w", u.Name, context.Cause(ctx))
			}
		}
	}
	return nil
}

// Stop ends everything, clients of the bus first, and removes the data.
func (f *Fleet) Stop() error {
	errs := make([]error, 0, 4)
	for _, group := range [][]*Unit{f.Texts, f.Edges, f.Centrals, f.Buses} {
		each := make([]error, len(group))
		var ending sync.WaitGroup
		for i, u := range group {
			ending.Go(func() { each[i] = u.Stop() })
		}
		ending.Wait()
		errs = append(errs, each...)
	}
	f.http.CloseIdleConnections()
	if f.remote != nil {
		f.remote.http.CloseIdleConnections()
	}
	return errors.Join(append(errs, os.RemoveAll(f.data))...)
}
