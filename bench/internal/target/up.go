package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"voicefleet/bench/internal/procstat"
	"voicefleet/edgeagent"
	"voicefleet/internal/freeport"
)

// UpConfig starts a server of our own for one run: voicefleet up in a temporary
// data folder, reachable on this machine only by its loopback address.
type UpConfig struct {
	Program   string // default bin/voicefleet
	MediaPort int    // first UDP port, default a free one
	Workers   int    // default 1
	// NoSilenceGate has it forward silence too.
	NoSilenceGate bool
	// MaxSessions is the limit of its node (default: its own, 4,000).
	MaxSessions int
	Log         io.Writer // nil keeps the last of it for errors
}

// Validate fills the zero fields and looks for the program.
func (c *UpConfig) Validate() error {
	node := NodeConfig{Program: c.Program, Workers: c.Workers, MaxSessions: c.MaxSessions}
	err := node.Validate()
	c.Program, c.Workers = node.Program, node.Workers
	return err
}

// Up is a server of our own.
type Up struct {
	// Data is its data folder, URL where it is found.
	Data string
	URL  string

	// Immutable after StartUp.
	process *process
	http    *http.Client
	pids    []int
}

// StartUp starts it and returns when it takes calls.
func StartUp(ctx context.Context, c UpConfig) (*Up, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	port, err := freeport.TCP()
	if err == nil && c.MediaPort == 0 {
		c.MediaPort, err = freeport.UDP(c.Workers)
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "voicebench-")
	if err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	args := []string{"up", "--data", dir, "--port", strconv.Itoa(port), "--media-port", strconv.Itoa(c.MediaPort),
		"--workers", strconv.Itoa(c.Workers), "--advertise", loopback.String(), "--log-level", "warn"}
	if c.NoSilenceGate {
		args = append(args, "--no-silence-gate")
	}
	if c.MaxSessions > 0 {
		args = append(args, "--max-sessions", strconv.Itoa(c.MaxSessions))
	}
	u := &Up{Data: dir, URL: "http://" + loopback.String() + ":" + strconv.Itoa(port), http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if u.process, err = begin("server", c.Program, nil, c.Log, args...); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	err = u.await(ctx)
	if err == nil {
		u.pids, err = procstat.Tree(u.process.pid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start server: %w\n%s", err, u.process.log.tail()), u.Stop())
	}
	return u, nil
}

// await asks until it is ready and has its first guild.
func (u *Up) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		if u.ready(ctx) {
			return nil
		}
		select {
		case <-look.C:
		case <-u.process.ended:
			return fmt.Errorf("it ended at once: %w", u.process.how)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v", readyTimeout)
		}
	}
}

// ready says whether the server answers /readyz and the operator sees a guild.
func (u *Up) ready(ctx context.Context) bool {
	token, err1 := word(filepath.Join(u.Data, "admin.token"))
	_, err2 := word(filepath.Join(u.Data, "admin.url"))
	if err1 != nil || err2 != nil {
		return false
	}
	if _, err := read(ctx, u.http, u.URL+"/readyz", token); err != nil {
		return false
	}
	guilds, err := read(ctx, u.http, u.URL+"/api/admin/guilds", token)
	return err == nil && strings.Contains(guilds, `"id"`)
}

// word is the one word of a file.
func word(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(bytes.TrimSpace(b)), err
}

// Remote enters the server. It may have rooms and accounts without end, and they
// go with the server.
func (u *Up) Remote(ctx context.Context, shape Shape) (*Remote, error) {
	r, err := OpenRemote(ctx, RemoteConfig{Data: u.Data, Shape: shape})
	if err != nil {
		return nil, u.process.because(err)
	}
	r.gone = true
	return r, nil
}

// PIDs are all its processes.
func (u *Up) PIDs() ([]int, error) {
	now, err := procstat.Tree(u.process.pid())
	if err != nil {
		return nil, u.process.because(fmt.Errorf("server is gone: %w", err))
	}
	if !slices.Equal(now, u.pids) {
		return nil, fmt.Errorf("server's processes were %v and are %v\n%s", u.pids, now, u.process.log.tail())
	}
	return now, nil
}

// Agent is the whole server.
func (u *Up) Agent() (int, error) {
	if err := u.process.err(); err != nil {
		return 0, err
	}
	return u.process.pid(), nil
}

// Engine has no process of its own here.
func (u *Up) Engine() (int, error) {
	return 0, errors.New("voicefleet up has its engine in its own process: aim at the agent, or measure a node")
}

// CPU is the time of all its processes, also of those that have ended.
func (u *Up) CPU() (procstat.CPU, error) {
	spent, err := procstat.TreeCPU(u.process.pid())
	return spent, u.process.because(err)
}

// RSS is the resident memory of all its processes, in bytes.
func (u *Up) RSS() (int64, error) {
	pids, err := u.PIDs()
	if err != nil {
		return 0, err
	}
	return procstat.ReadRSS(pids...)
}

// Drain has its node take no new calls, and returns when the allocator knows.
func (u *Up) Drain(ctx context.Context) error {
	if err := u.drain(ctx); err != nil {
		return u.process.because(fmt.Errorf("drain server: %w", err))
	}
	return nil
}

func (u *Up) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("its node does not drain within %v", askTimeout))
	defer cancel()
	const path = "/api/admin/fleet/nodes"
	token, err := word(filepath.Join(u.Data, "admin.token"))
	if err != nil {
		return err
	}
	server := &Remote{url: u.URL, http: u.http}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	asked := make(map[edgeagent.NodeID]bool)
	for {
		var nodes []edgeagent.Heartbeat
		if err := server.rest(ctx, http.MethodGet, path, "Bearer "+token, nil, &nodes); err != nil {
			return err
		}
		open := len(nodes) == 0 // it is not seen yet
		for _, n := range nodes {
			open = open || n.State != edgeagent.Draining
			if asked[n.Node] {
				continue
			}
			order := edgeagent.DrainRequest{By: drainedBy, Reason: drainedFor}
			if err := server.rest(ctx, http.MethodPost, path+"/"+string(n.Node)+"/drain", "Bearer "+token, order, nil); err != nil {
				return err
			}
			asked[n.Node] = true
		}
		if !open {
			return nil
		}
		select {
		case <-look.C:
		case <-u.process.ended:
			return errors.New("it has ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Metrics are what it shows of itself.
func (u *Up) Metrics(ctx context.Context) (Metrics, error) {
	token, err := word(filepath.Join(u.Data, "admin.token"))
	if err != nil {
		return Metrics{}, fmt.Errorf("read metrics: %w", err)
	}
	m, err := readMetrics(ctx, u.http, u.URL, token)
	return m, u.process.because(err)
}

// Done is closed when it has ended.
func (u *Up) Done() <-chan struct{} { return u.process.ended }

// Err is why it ended, with the last of its log; nil while it runs, and after
// Stop.
func (u *Up) Err() error { return u.process.err() }

// Stop ends it and removes its data.
func (u *Up) Stop() error { return errors.Join(u.process.stop(), os.RemoveAll(u.Data)) }
