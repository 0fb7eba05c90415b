package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"voicefleet/bench"
)

// Goals: what a connected session may cost in resident memory, and how many
// goroutines. The second bound is not zero so that a goroutine that has nothing
// to do with sessions may come and go.
const (
	goalSession   = 64 << 10
	goalGoroutine = 0.01
)

// MemoryConfig of Memory.
type MemoryConfig struct {
	Edge    EdgeConfig
	Self    []string
	Command string

	Sessions   int           // default 1,000
	CallSize   int           // sessions per call (default 10)
	Slots      int           // K of each (default 16, the page's)
	Settle     time.Duration // how long memory must not fall to count as settled (default 15 s)
	Generators int           // default 2
	Seed       uint64
	Progress   io.Writer
}

func (c *MemoryConfig) validate() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Sessions, 1000)
	def(&c.CallSize, 10)
	def(&c.Slots, 16)
	def(&c.Generators, 2)
	if c.Settle == 0 {
		c.Settle = 15 * time.Second
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	switch {
	case len(c.Self) == 0:
		return errors.New("memory: this program is not named")
	case c.Sessions < c.CallSize || c.Sessions%c.CallSize != 0 || c.CallSize < 2:
		return fmt.Errorf("memory: %d sessions in calls of %d: want whole calls of at least 2", c.Sessions, c.CallSize)
	case c.Slots < 1 || c.Slots > 32 || c.Generators < 1 || c.Generators > 16:
		return fmt.Errorf("memory: %d slots, %d generators: want 1 to 32 and 1 to 16", c.Slots, c.Generators)
	}
	return nil
}

// MemoryReading is the node at one moment, its processes apart.
type MemoryReading struct {
	Sessions        int     `json:"sessions"`
	AgentRSS        int64   `json:"agent_rss_bytes"`
	EngineRSS       int64   `json:"engine_rss_bytes"`
	AgentGoroutines float64 `json:"agent_goroutines"`
	// EngineGoroutines are counted in the stack dump the engine leaves on SIGQUIT.
	EngineGoroutines int `json:"engine_goroutines"`
}

// Memory measures what connected, silent sessions cost.
func Memory(ctx context.Context, config MemoryConfig) (report *bench.Report, err error) {
	if err := errors.Join(config.validate(), config.Edge.validate()); err != nil {
		return nil, err
	}
	r := &run{
		config: Config{Slots: config.Slots, Progress: config.Progress, Generators: config.Generators},
		random: rand.New(rand.NewPCG(config.Seed, 1)),
		report: &bench.Report{Kind: "memory", Command: config.Command, Seed: config.Seed, Started: time.Now().UTC(), Machine: bench.ThisMachine()},
	}
	defer func() { r.report.Took = bench.Seconds(time.Since(r.report.Started)) }()
	for range config.Generators {
		g, err := program(config.Self).generator(ctx, loopback, voicePayload+rtpHeader)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, g.Stop()) }()
		r.generators = append(r.generators, g)
	}
	e, err := startEdge(ctx, config.Edge)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.stop()) }()

	// Goroutines of the idle engine; the agent starts another one.
	var empty, full MemoryReading
	if empty.EngineGoroutines, err = e.EngineGoroutines(ctx); err != nil {
		return nil, err
	}
	if err := e.NextEngine(ctx); err != nil {
		return nil, err
	}
	// A few sessions come and go first: code and pools that every session shares
	// are loaded, and are not the price of the first one.
	r.say("warm up: %d sessions", config.CallSize)
	if err := r.visit(ctx, e, config.CallSize); err != nil {
		return nil, err
	}
	if err := e.settle(ctx, config.Settle, &empty); err != nil {
		return nil, err
	}
	r.say("idle: agent %s, engine %s", mib(empty.AgentRSS), mib(empty.EngineRSS))
	full.Sessions = config.Sessions
	for room := range config.Sessions / config.CallSize {
		if _, err := r.fill(ctx, e, room, Case{Talkers: config.CallSize}); err != nil {
			return nil, fmt.Errorf("after %d sessions: %w", room*config.CallSize, err)
		}
		if done := (room + 1) * config.CallSize; done%100 == 0 {
			r.say("connected %d of %d", done, config.Sessions)
		}
	}
	if err := e.settle(ctx, config.Settle, &full); err != nil {
		return nil, err
	}
	r.say("settled: agent %s, engine %s", mib(full.AgentRSS), mib(full.EngineRSS))
	if full.EngineGoroutines, err = e.EngineGoroutines(ctx); err != nil {
		return nil, err
	}
	r.report.Tables, r.report.Goals = concludeMemory(empty, full)
	return r.report, nil
}

// visit connects the members of one call and ends it.
func (r *run) visit(ctx context.Context, e *edge, size int) error {
	const room = -1
	members, err := r.fill(ctx, e, room, Case{Talkers: size})
	if err != nil {
		return err
	}
	return r.empty(ctx, e, room, members)
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// concludeMemory makes table and goals of two readings.
func concludeMemory(empty, full MemoryReading) ([]bench.Table, []bench.Goal) {
	n := float64(full.Sessions)
	agent, engine := float64(full.AgentRSS-empty.AgentRSS)/n, float64(full.EngineRSS-empty.EngineRSS)/n
	agentRoutines := full.AgentGoroutines - empty.AgentGoroutines
	engineRoutines := float64(full.EngineGoroutines - empty.EngineGoroutines)
	table := bench.Table{
		Title:  fmt.Sprintf("Memory of a node with %d connected sessions", full.Sessions),
		Head:   []string{"process", "idle", "connected", "per session", "goroutines idle", "connected"},
		Values: []MemoryReading{empty, full},
	}
	row := func(name string, before, after int64, per float64, routines ...string) {
		table.Rows = append(table.Rows, append([]string{name, mib(before), mib(after), fmt.Sprintf("%.1f KiB", per/1024)}, routines...))
	}
	row("agent", empty.AgentRSS, full.AgentRSS, agent, fmt.Sprint(empty.AgentGoroutines), fmt.Sprint(full.AgentGoroutines))
	row("engine", empty.EngineRSS, full.EngineRSS, engine, fmt.Sprint(empty.EngineGoroutines), fmt.Sprint(full.EngineGoroutines))
	row("both", empty.AgentRSS+empty.EngineRSS, full.AgentRSS+full.EngineRSS, agent+engine, "", "")
	return []bench.Table{table}, []bench.Goal{
		{Name: "resident memory per session", Value: (agent + engine) / 1024, Bound: goalSession >> 10, Unit: "KiB"},
		{Name: "goroutines per session, agent", Value: agentRoutines / n, Bound: goalGoroutine, Unit: "goroutines"},
		{Name: "goroutines per session, engine", Value: engineRoutines / n, Bound: goalGoroutine, Unit: "goroutines"},
	}
}

// Bounds of waiting for the node.
const (
	// settleAtMost ends the wait for memory to stop falling: the runtime collects
	// every 2 minutes whatever happens, and then gives back.
	settleAtMost = 3 * time.Minute
	settleEvery  = time.Second
	// settleStep is what counts as falling.
	settleStep = 256 << 10
)

// settle waits until memory has not fallen for a while, and reads it with the
// agent's goroutines.
func (e *edge) settle(ctx context.Context, quiet time.Duration, into *MemoryReading) error {
	lowest, since := int64(1<<62), time.Now()
	look := time.NewTicker(settleEvery)
	defer look.Stop()
	for deadline := time.Now().Add(settleAtMost); ; {
		m, err := e.Memory(ctx)
		if err != nil {
			return err
		}
		into.AgentRSS, into.EngineRSS, into.AgentGoroutines = m.AgentRSS, m.EngineRSS, m.AgentGoroutines
		now := time.Now()
		if m.Total() < lowest-settleStep {
			lowest, since = m.Total(), now
		}
		if now.Sub(since) >= quiet || now.After(deadline) {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
