package forward

import (
	"context"
	"errors"
	"fmt"
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

	goalMemory = "resident memory per session"
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
	Progress   bench.Progress // nil: nobody is told how it goes
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
		c.Progress = bench.Silent
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

	var empty, full MemoryReading
	if err = r.remember(ctx, config, e, &empty, &full); err == nil {
		concludeMemory(r.report, empty, full)
		return r.report, nil
	}
	if ctx.Err() == nil && full.Sessions == 0 {
		return nil, err
	}
	r.report.Partial = err.Error()
	if full.Sessions != 0 { // set when idle was read
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("idle: agent %s, engine %s", mib(empty.AgentRSS), mib(empty.EngineRSS)))
	}
	r.report.Goals = []bench.Goal{{Name: goalMemory, Bound: goalSession >> 10, Unit: "KiB", Void: "the run ended before it was measured"}}
	if ctx.Err() != nil {
		return r.report, nil // ended by whoever asked: the report says so
	}
	return r.report, err
}

// remember reads the node idle and full.
func (r *run) remember(ctx context.Context, config MemoryConfig, e *edge, empty, full *MemoryReading) error {
	// Goroutines of the idle engine; the agent starts another one.
	var err error
	if empty.EngineGoroutines, err = e.EngineGoroutines(ctx); err != nil {
		return err
	}
	if err := e.NextEngine(ctx); err != nil {
		return err
	}
	// A few sessions come and go first: code and pools that every session shares
	// are loaded, and are not the price of the first one.
	r.say("warm up: %d sessions", config.CallSize)
	if err := r.visit(ctx, e, config.CallSize); err != nil {
		return err
	}
	if err := e.settle(ctx, config.Settle, empty); err != nil {
		return err
	}
	r.say("idle: agent %s, engine %s", mib(empty.AgentRSS), mib(empty.EngineRSS))
	full.Sessions = config.Sessions
	for room := range config.Sessions / config.CallSize {
		if _, err := r.fill(ctx, e, room, Case{Talkers: config.CallSize}); err != nil {
			return fmt.Errorf("after %d sessions: %w", room*config.CallSize, err)
		}
		config.Progress.Status(fmt.Sprintf("connected %d of %d", (room+1)*config.CallSize, config.Sessions))
	}
	if err := e.settle(ctx, config.Settle, full); err != nil {
		return err
	}
	r.say("settled: agent %s, engine %s", mib(full.AgentRSS), mib(full.EngineRSS))
	if full.EngineGoroutines, err = e.EngineGoroutines(ctx); err != nil {
		return err
	}
	return nil
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

// concludeMemory makes table, goals and figures of two readings.
func concludeMemory(report *bench.Report, empty, full MemoryReading) {
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
	report.Tables = []bench.Table{table}
	metric := func(name, unit string, v float64) {
		report.Metrics = append(report.Metrics, bench.Metric{Name: name, Unit: unit, Better: bench.Less, Samples: []float64{v}})
	}
	metric("memory per session, agent", "KiB", agent/1024)
	metric("memory per session, engine", "KiB", engine/1024)
	metric("memory per session", "KiB", (agent+engine)/1024)
	metric("memory, idle", "MiB", float64(empty.AgentRSS+empty.EngineRSS)/(1<<20))
	metric("memory, connected", "MiB", float64(full.AgentRSS+full.EngineRSS)/(1<<20))
	metric("goroutines, agent", "", full.AgentGoroutines)
	metric("goroutines, engine", "", float64(full.EngineGoroutines))
	report.Goals = []bench.Goal{
		{Name: goalMemory, Value: (agent + engine) / 1024, Bound: goalSession >> 10, Unit: "KiB"},
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
