package edgeagentserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// commandsLen is how many commands may wait for the engine to read them. An
	// engine that lets more pile up is replaced.
	commandsLen = 4096
	// steady is how long an engine must have lived for its end not to count as a
	// crash at start.
	steady = 10 * time.Second
	// firstWait and maxWait bound the back-off of one that keeps crashing; the
	// first time it is started again at once.
	firstWait = 50 * time.Millisecond
	maxWait   = 5 * time.Second
	// loopEnds engines that end within loopTime are a crash loop: the node takes
	// no new calls until somebody has looked.
	loopEnds = 3
	loopTime = 10 * time.Second
)

// Found may be a stream of Config.Engine: true when the engine was found at work,
// left behind by an agent that died.
type Found interface{ Found() bool }

// Mortal may be one, too: asked after Close, it is true when the engine ended by
// its own fault, and was not ended by anybody.
type Mortal interface{ Crashed() bool }

// engine is a media engine that runs.
type engine struct {
	// Immutable.
	stream   io.ReadWriteCloser
	commands chan sfu.Command
	ctx      context.Context
	cancel   context.CancelCauseFunc
}

// send queues a command; it never blocks.
func (e *engine) send(cmd sfu.Command) {
	select {
	case e.commands <- cmd:
	default:
		e.fail(fmt.Errorf("media engine does not read: %d commands wait", commandsLen))
	}
}

// fail ends the engine because of err.
func (e *engine) fail(err error) { e.cancel(err) }

// supervise keeps an engine running until ctx ends.
func (s *Server) supervise(ctx context.Context) {
	crashes := 0
	var ends []time.Time
	for ctx.Err() == nil {
		began := time.Now()
		err := s.runEngine(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errUpgrade) {
			continue // at once: that is no crash
		}
		s.metrics.engineEnds.Inc()
		s.cfg.Log.Error("media engine is gone", "lived", time.Since(began).Round(time.Millisecond), "err", err)
		if time.Since(began) > steady {
			crashes = 0
		}
		if s.upgrading.Load() { // a program is tried; upgrade looks how that goes
			pause(ctx, firstWait)
			continue
		}
		if ends = append(ends, time.Now()); len(ends) >= loopEnds {
			ends = ends[len(ends)-loopEnds:]
			if ends[loopEnds-1].Sub(ends[0]) <= loopTime {
				s.tell(engineEvent{looping: true})
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(backOff(crashes)):
		}
		crashes++
	}
}

// backOff is the pause before the engine is started again: none at first, then
// doubling, with the upper half at random.
func backOff(crashes int) time.Duration {
	if crashes == 0 {
		return 0
	}
	d := min(maxWait, firstWait<<min(crashes-1, 16))
	return d/2 + rand.N(d/2)
}

// runEngine starts an engine and returns why it ended, when all of it has.
func (s *Server) runEngine(ctx context.Context) error {
	stream, err := s.cfg.Engine(ctx)
	if err != nil {
		return fmt.Errorf("start media engine: %w", err)
	}
	e := &engine{stream: stream, commands: make(chan sfu.Command, commandsLen)}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	parts.Go(func() {
		<-e.ctx.Done()
		_ = stream.Close() // ends reader and writer; what matters is why it was closed
	})
	parts.Go(func() { e.fail(s.writeCommands(e)) })
	s.tell(engineEvent{engine: e, up: true})
	e.fail(s.readEvents(e))
	parts.Wait()
	mortal, ok := stream.(Mortal)
	s.tell(engineEvent{engine: e, gone: true, crashed: ok && mortal.Crashed()})
	return context.Cause(e.ctx)
}

// tell passes an event on to run.
func (s *Server) tell(ev engineEvent) {
	select {
	case s.events <- ev:
	case <-s.done:
	}
}

func (s *Server) writeCommands(e *engine) error {
	enc := sfu.NewEncoder(e.stream)
	for {
		select {
		case <-e.ctx.Done():
			return context.Cause(e.ctx)
		case cmd := <-e.commands:
			if err := enc.Encode(cmd); err != nil {
				return err
			}
		}
	}
}

func (s *Server) readEvents(e *engine) error {
	dec := sfu.NewDecoder(e.stream)
	for {
		var ev sfu.Event
		if err := dec.Decode(&ev); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("media engine closed its stream")
			}
			return err
		}
		s.tell(engineEvent{engine: e, event: ev})
	}
}

// drainItself takes the node out of the choice for new calls: its engine does not
// stay alive. It is run's.
func (s *Server) drainItself() {
	req := edgeagent.DrainRequest{By: "agent", Empty: true, Reason: fmt.Sprintf("media engine ended %d times within %v", loopEnds, loopTime)}
	s.out = s.core.Drain(0, true, req, s.out)
	did := s.out[len(s.out)-1].Reply.Drain
	if did == nil || !did.Changed {
		return
	}
	s.cfg.Log.Error("media engine crashes again and again: node drains itself. Look above for why it ended; when that is mended: voicefleet ctl undrain "+string(s.cfg.Node), "reason", req.Reason, "calls", did.Calls, "sessions", did.Sessions)
	s.beatNow()
}
