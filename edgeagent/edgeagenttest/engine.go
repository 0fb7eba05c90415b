package edgeagenttest

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"voicefleet/sfu"
)

// Timeout is how long anything here waits before the test fails.
const Timeout = 15 * time.Second

// Engine is a media engine without media: it agrees to everything. Its Start is
// made for edgeagentserver.Config.Engine and may be called again after the stream
// has ended, as the agent does.
type Engine struct {
	// Answer, when set before Start, may replace the answer to a command; nil
	// keeps the usual one, an Event without Seq is none at all.
	Answer func(sfu.Command) *sfu.Event

	writing sync.Mutex // one frame at a time
	running sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	stream   net.Conn // of the engine that runs
	ssrc     sfu.SSRC
	commands []sfu.Command
	changed  chan struct{} // closed and replaced when a command comes or an engine starts
	starts   int
}

// NewEngine is an engine that is not started yet. It has ended when the test has.
func NewEngine(t testing.TB) *Engine {
	e := &Engine{ssrc: 1000, changed: make(chan struct{})}
	t.Cleanup(func() {
		e.Crash()
		e.running.Wait()
	})
	return e
}

// Start begins an engine and returns the agent's end of its stream.
func (e *Engine) Start(context.Context) (io.ReadWriteCloser, error) {
	ours, theirs := net.Pipe()
	e.mu.Lock()
	e.stream = theirs
	e.starts++
	e.mu.Unlock()
	e.running.Go(func() { e.run(theirs) })
	return ours, nil
}

func (e *Engine) run(stream net.Conn) {
	defer stream.Close()
	dec := sfu.NewDecoder(stream)
	for {
		var cmd sfu.Command
		if dec.Decode(&cmd) != nil {
			return
		}
		ev := e.answer(cmd)
		e.mu.Lock()
		e.commands = append(e.commands, cmd)
		close(e.changed)
		e.changed = make(chan struct{})
		e.mu.Unlock()
		if ev.Seq != 0 && e.write(stream, ev) != nil {
			return
		}
	}
}

func (e *Engine) answer(cmd sfu.Command) sfu.Event {
	if e.Answer != nil {
		if ev := e.Answer(cmd); ev != nil {
			if *ev != (sfu.Event{}) {
				ev.Seq = cmd.Seq
			}
			return *ev
		}
	}
	ev := sfu.Event{Seq: cmd.Seq}
	switch {
	case cmd.Start != nil:
		ev.Started = &sfu.Started{Ports: []uint16{50000}, Fingerprint: "AA:BB"}
	case cmd.Open != nil:
		e.mu.Lock()
		e.ssrc++
		ev.Opened = &sfu.Opened{SSRC: e.ssrc, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: 50000}
		e.mu.Unlock()
	case cmd.Negotiate != nil:
		ev.Negotiated = &sfu.Negotiated{Answer: "v=0 answer to " + string(cmd.Negotiate.Session), Slots: []sfu.Slot{{MID: "1", SSRC: 9001}}}
	}
	return ev
}

func (e *Engine) write(stream net.Conn, ev sfu.Event) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	return sfu.NewEncoder(stream).Encode(ev)
}

// Say tells a fact to the agent; it returns when the agent has read it.
func (e *Engine) Say(t testing.TB, ev sfu.Event) {
	t.Helper()
	e.mu.Lock()
	stream := e.stream
	e.mu.Unlock()
	if err := e.write(stream, ev); err != nil {
		t.Fatalf("engine says something: %v", err)
	}
}

// Crash ends the stream of the engine that runs.
func (e *Engine) Crash() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stream != nil {
		e.stream.Close()
	}
}

// Starts is how often the engine was started.
func (e *Engine) Starts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.starts
}

// Await waits for a command, past or to come, that match accepts, beginning with
// the one after the first n, and returns it and how many there were up to it.
func (e *Engine) Await(t testing.TB, n int, what string, match func(sfu.Command) bool) (sfu.Command, int) {
	t.Helper()
	deadline := time.After(Timeout)
	for {
		e.mu.Lock()
		commands, changed := e.commands, e.changed
		e.mu.Unlock()
		for ; n < len(commands); n++ {
			if match(commands[n]) {
				return commands[n], n + 1
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
