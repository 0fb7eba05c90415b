package target

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"voicefleet/bench/internal/procstat"
)

const (
	// dumpQuiet is how long the log must be silent after a stack dump.
	dumpQuiet   = 300 * time.Millisecond
	dumpTimeout = 15 * time.Second
)

// Memory is what a node holds, its processes apart.
type Memory struct {
	AgentRSS        int64 // bytes
	EngineRSS       int64
	AgentGoroutines float64
}

// Total is resident memory of both, in bytes.
func (m Memory) Total() int64 { return m.AgentRSS + m.EngineRSS }

// Memory reads what the node holds after its agent has collected its garbage: only
// what lives is asked for. The engine collects by itself.
func (n *Node) Memory(ctx context.Context) (Memory, error) {
	var m Memory
	pids, err := n.PIDs()
	if err != nil {
		return m, err
	}
	// A heap profile with gc=1 collects.
	if _, err := read(ctx, n.http, "http://"+n.httpAddr()+"/debug/pprof/heap?gc=1", n.token); err != nil {
		return m, n.process.because(fmt.Errorf("collect garbage: %w", err))
	}
	if m.AgentRSS, err = procstat.ReadRSS(pids[0]); err != nil {
		return m, n.process.because(err)
	}
	if m.EngineRSS, err = procstat.ReadRSS(pids[1:]...); err != nil {
		return m, n.process.because(err)
	}
	shown, err := n.Metrics(ctx)
	m.AgentGoroutines = shown.Goroutines
	return m, err
}

// EngineGoroutines makes the engine end with a dump of its stacks and counts them:
// it has no door of its own where one could ask. NextEngine waits for another.
func (n *Node) EngineGoroutines(ctx context.Context) (int, error) {
	pids, err := n.PIDs()
	if err != nil {
		return 0, err
	}
	n.process.log.reset()
	for _, pid := range pids[1:] {
		if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
			return 0, fmt.Errorf("ask engine for its stacks: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dumpTimeout)
	defer cancel()
	look := time.NewTicker(dumpQuiet / 3)
	defer look.Stop()
	for {
		if found, quiet := n.process.log.count(); found > 0 && quiet > dumpQuiet {
			return found, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("engine left no stack dump: %w\n%s", ctx.Err(), n.process.log.tail())
		}
	}
}
