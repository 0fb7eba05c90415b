package forward

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/role"
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

	// Sessions are how many are connected at each reading, rising (default 1,000).
	// With several the slope from the first to the last is told as well.
	Sessions []int
	// Talk has one member of each call talk all the time, so that sessions are
	// active and not only connected.
	Talk       bool
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
	if len(c.Sessions) == 0 {
		c.Sessions = []int{1000}
	}
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
	case c.CallSize < 2:
		return fmt.Errorf("memory: calls of %d: want at least 2", c.CallSize)
	case c.Slots < 1 || c.Slots > 32 || c.Generators < 1 || c.Generators > 16:
		return fmt.Errorf("memory: %d slots, %d generators: want 1 to 32 and 1 to 16", c.Slots, c.Generators)
	}
	before := 0
	for _, n := range c.Sessions {
		if n <= before || n%c.CallSize != 0 || n > maxSessions {
			return fmt.Errorf("memory: %v sessions in calls of %d: want rising numbers of whole calls, at most %d", c.Sessions, c.CallSize, maxSessions)
		}
		before = n
	}
	return nil
}

// maxSessions bounds what a node is asked for.
const maxSessions = 100_000

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
	last := config.Sessions[len(config.Sessions)-1]
	if config.Edge.MaxSessions == 0 && last+config.CallSize > 4000 {
		config.Edge.MaxSessions = last + config.CallSize
	}
	e, err := startEdge(ctx, config.Edge)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.stop()) }()

	var empty MemoryReading
	var full []MemoryReading
	if err = r.remember(ctx, config, e, &empty, &full); err == nil {
		concludeMemory(r.report, config, empty, full)
		return r.report, nil
	}
	if ctx.Err() == nil && len(full) == 0 {
		return nil, err
	}
	r.report.Partial = err.Error()
	for _, m := range full {
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("%d sessions: agent %s, engine %s", m.Sessions, mib(m.AgentRSS), mib(m.EngineRSS)))
	}
	r.report.Notes = append(r.report.Notes, fmt.Sprintf("idle: agent %s, engine %s", mib(empty.AgentRSS), mib(empty.EngineRSS)))
	r.report.Goals = []bench.Goal{{Name: goalMemory, Bound: goalSession >> 10, Unit: "KiB", Void: "the run ended before it was measured"}}
	if ctx.Err() != nil {
		return r.report, nil // ended by whoever asked: the report says so
	}
	return r.report, err
}

// remember reads the node idle and full.
func (r *run) remember(ctx context.Context, config MemoryConfig, e *edge, empty *MemoryReading, full *[]MemoryReading) error {
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
	room, last := 0, config.Sessions[len(config.Sessions)-1]
	for _, sessions := range config.Sessions {
		for ; (room+1)*config.CallSize <= sessions; room++ {
			members, err := r.fill(ctx, e, room, Case{Talkers: config.CallSize})
			if err != nil {
				return fmt.Errorf("after %d sessions: %w", room*config.CallSize, err)
			}
			if config.Talk {
				if err := r.talkOn(ctx, members[0], uint32(room+1)); err != nil {
					return err
				}
			}
			config.Progress.Status(fmt.Sprintf("connected %d of %d", (room+1)*config.CallSize, last))
		}
		now := MemoryReading{Sessions: sessions}
		if err := e.settle(ctx, config.Settle, &now); err != nil {
			return err
		}
		r.say("%d sessions: agent %s, engine %s", sessions, mib(now.AgentRSS), mib(now.EngineRSS))
		*full = append(*full, now)
	}
	now := &(*full)[len(*full)-1]
	now.EngineGoroutines, err = e.EngineGoroutines(ctx)
	return err
}

// talkOn has a member talk until it leaves.
func (r *run) talkOn(ctx context.Context, m member, id uint32) error {
	return r.generators[m.generator].Talk(ctx, []role.Talking{{Client: m.client, Talk: lightclient.Talk{
		ID: id, Start: time.Now().Add(phase(int(id%20), 20)), SmallSize: voicePayload, Size: voicePayload, Voice: lightclient.Filler,
	}}}, nil)
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

// concludeMemory makes table, goals and figures of the readings.
func concludeMemory(report *bench.Report, config MemoryConfig, empty MemoryReading, all []MemoryReading) {
	full := all[len(all)-1]
	n := float64(full.Sessions)
	agent, engine := float64(full.AgentRSS-empty.AgentRSS)/n, float64(full.EngineRSS-empty.EngineRSS)/n
	kind := "connected"
	if config.Talk {
		kind = "active"
	}
	table := bench.Table{
		Title:  fmt.Sprintf("Memory of a node with %s sessions in calls of %d", kind, config.CallSize),
		Head:   []string{"sessions", "agent", "engine", "both", "per session since idle", "goroutines of the agent"},
		Values: append([]MemoryReading{empty}, all...),
	}
	for _, m := range append([]MemoryReading{empty}, all...) {
		per := "-"
		if m.Sessions > 0 {
			per = fmt.Sprintf("%.1f KiB", float64(m.AgentRSS+m.EngineRSS-empty.AgentRSS-empty.EngineRSS)/float64(m.Sessions)/1024)
		}
		table.Rows = append(table.Rows, []string{fmt.Sprint(m.Sessions), mib(m.AgentRSS), mib(m.EngineRSS), mib(m.AgentRSS + m.EngineRSS), per, fmt.Sprint(m.AgentGoroutines)})
	}
	report.Tables = []bench.Table{table}
	report.Notes = append(report.Notes, fmt.Sprintf("goroutines of the engine: %d idle, %d with %d sessions", empty.EngineGoroutines, full.EngineGoroutines, full.Sessions))
	metric := func(name, unit string, v float64) {
		report.Metrics = append(report.Metrics, bench.Metric{Name: name, Unit: unit, Better: bench.Less, Samples: []float64{v}})
	}
	metric("memory per session, agent", "KiB", agent/1024)
	metric("memory per session, engine", "KiB", engine/1024)
	metric("memory per session", "KiB", (agent+engine)/1024)
	metric("memory, idle", "MiB", float64(empty.AgentRSS+empty.EngineRSS)/(1<<20))
	metric("memory, "+kind, "MiB", float64(full.AgentRSS+full.EngineRSS)/(1<<20))
	metric("goroutines, agent", "", full.AgentGoroutines)
	metric("goroutines, engine", "", float64(full.EngineGoroutines))
	report.Goals = []bench.Goal{
		{Name: goalMemory, Value: (agent + engine) / 1024, Bound: goalSession >> 10, Unit: "KiB"},
		{Name: "goroutines per session, agent", Value: (full.AgentGoroutines - empty.AgentGoroutines) / n, Bound: goalGoroutine, Unit: "goroutines"},
		{Name: "goroutines per session, engine", Value: float64(full.EngineGoroutines-empty.EngineGoroutines) / n, Bound: goalGoroutine, Unit: "goroutines"},
	}
	if first := all[0]; len(all) > 1 {
		slope := float64(full.AgentRSS+full.EngineRSS-first.AgentRSS-first.EngineRSS) / float64(full.Sessions-first.Sessions) / 1024
		metric("memory slope", "KiB", slope)
		report.Goals = append(report.Goals, bench.Goal{Name: fmt.Sprintf("memory slope per %s session from %d to %d", kind, first.Sessions, full.Sessions), Value: slope, Bound: goalSession >> 10, Unit: "KiB"})
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
