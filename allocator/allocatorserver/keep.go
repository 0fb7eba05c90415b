package allocatorserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/stunprobe"
	"voicefleet/sfu"
)

const (
	// endTimeout bounds how long a node is waited for that is to end the sessions
	// of a call; endsAtOnce how many calls it is told of at once. Its next heartbeat
	// brings the others.
	endTimeout = time.Second
	endsAtOnce = 256
	// touchTimeout bounds the write that a call lives.
	touchTimeout = 3 * time.Second
	// behind is how long a server of a bucket may take to hear of a write that another
	// has taken; readAgain is the pause before it is read again.
	behind    = 300 * time.Millisecond
	readAgain = 5 * time.Millisecond
)

// think lets the core take something in, and does what it says.
func (s *Server) think(ctx context.Context, fn func(now time.Time, out []keeper.Out) []keeper.Out) {
	var out []keeper.Out
	s.panics.Guard("keeper", func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		out = fn(time.Now(), nil)
	})
	s.perform(ctx, out)
}

// perform does what the core says; it does not wait for it.
func (s *Server) perform(ctx context.Context, out []keeper.Out) {
	ends := map[edgeagent.NodeID][]placement.Stray{}
	for _, o := range out {
		switch {
		case o.Ask != nil:
			s.startTask(func() { s.ask(ctx, *o.Ask) })
		case o.Write != nil:
			s.startTask(func() {
				writing, cancel := context.WithTimeout(ctx, keeper.WriteTime)
				defer cancel()
				if _, err := s.write(writing, *o.Write); err != nil && ctx.Err() == nil {
					s.cfg.Log.Warn("call is not moved yet", "call", o.Write.Entry.Call, "err", err)
				}
			})
		case o.Tell != nil:
			if err := bus.Publish(s.cfg.Bus, bus.MovedSubject(o.Tell.Call.String()), *o.Tell); err != nil {
				s.cfg.Log.Warn("move is not told yet", "call", o.Tell.Call, "err", err)
			}
			s.metrics.told(*o.Tell)
		case o.End != nil:
			ends[o.End.Node] = append(ends[o.End.Node], *o.End)
		case o.Moved != nil:
			s.mu.Lock()
			s.decisions.add(o.Moved.Why)
			s.mu.Unlock()
			s.metrics.moves.WithLabelValues(string(o.Moved.Move.Cause)).Inc()
		case o.Note != nil:
			s.noted(*o.Note)
		case o.Refused != "":
			s.metrics.refused.WithLabelValues(o.Refused).Inc()
		case o.Relay != nil:
			s.startTask(func() { s.relay(context.WithoutCancel(ctx), *o.Relay) }) // whoever asks for a seat does not wait
		}
	}
	for node, strays := range ends {
		s.end(ctx, node, strays[:min(len(strays), endsAtOnce)])
	}
}

// noted writes a deed into the journal, and those of nodes into the log.
func (s *Server) noted(e allocator.JournalEntry) {
	s.journal.note(e)
	if e.Deed != allocator.DeedMove {
		s.metrics.verdicts.WithLabelValues(string(e.Deed)).Inc()
		s.cfg.Log.Info("node: "+string(e.Deed), "node", e.Node, "why", e.Why)
	}
}

// startTask runs fn, which ends with its context, unless the server is stopping.
func (s *Server) startTask(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		s.panics.Guard("keeper_task", fn)
	}()
}

// wait returns when all tasks have ended; no other begins.
func (s *Server) wait() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.tasks.Wait()
}

// tick lets time pass.
func (s *Server) tick(ctx context.Context) {
	away := s.cfg.Bus.Ready() != nil
	s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out {
		s.core.Bus(now, away)
		if len(s.unread) > 0 {
			return out
		}
		return s.core.Tick(now, out)
	})
}

// pardon tells that the bus was away, however short.
func (s *Server) pardon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.Bus(time.Now(), true)
	s.core.Bus(time.Now(), s.cfg.Bus.Ready() != nil)
}

// hearNode takes in a heartbeat as it is put, and a lease that is given up.
func (s *Server) hearNode(ctx context.Context, ch bus.Change[edgeagent.Heartbeat]) {
	s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out {
		switch {
		case ch.Gone:
			return s.core.NodeGone(now, edgeagent.NodeID(ch.Key), true, out)
		case string(ch.Value.Node) == ch.Key && ch.Value.Node.Valid():
			return s.core.SeeNode(now, ch.Value, time.Time{}, out)
		}
		return out
	})
}

func (s *Server) seeNode(ctx context.Context, ch bus.Change[edgeagent.Heartbeat]) {
	s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out {
		switch {
		case ch.Synced:
			s.readLocked(bus.NodesBucket)
			s.core.Bus(now, true) // it was read again: nobody could beat meanwhile
			s.core.Bus(now, false)
		case ch.Gone && ch.Revision == 0: // not in a bucket made anew: its heartbeats tell
		case ch.Gone:
			return s.core.NodeGone(now, edgeagent.NodeID(ch.Key), false, out)
		case string(ch.Value.Node) == ch.Key && ch.Value.Node.Valid():
			return s.core.SeeNode(now, ch.Value, ch.Written, out)
		}
		return out
	})
}

func (s *Server) seeCall(ctx context.Context, ch bus.Change[allocator.CallEntry]) {
	s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out {
		if ch.Synced {
			s.readLocked(bus.CallsBucket)
			s.core.Synced(now, ch.Born, ch.Age)
			return out
		}
		var id sfu.CallID
		switch err := id.UnmarshalText([]byte(ch.Key)); {
		case err != nil: // not written by an allocator
		case ch.Gone:
			s.core.CallGone(id, ch.Revision)
		case ch.Value.Call == id:
			return s.core.SeeCall(now, ch.Value, ch.Revision, out)
		}
		return out
	})
}

// followDisconnects hears of closed connections until ctx ends.
func (s *Server) followDisconnects(ctx context.Context) {
	for ctx.Err() == nil {
		err := bus.Disconnects(ctx, s.cfg.Bus, func(name string, at time.Time) {
			if node, ok := bus.NodeOf(name); ok {
				s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out {
					return s.core.Closed(now, edgeagent.NodeID(node), at, out)
				})
			}
		})
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("closed connections are not followed", "err", err)
			select {
			case <-ctx.Done():
			case <-s.cfg.Bus.Reconnected():
			case <-time.After(time.Second):
			}
		}
	}
}

// ask asks a node on its media port.
func (s *Server) ask(ctx context.Context, hb edgeagent.Heartbeat) {
	asking, cancel := context.WithTimeout(ctx, keeper.AskTime)
	a := s.cfg.Probe(asking, hb)
	cancel()
	if ctx.Err() == nil {
		s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out { return s.core.Answered(now, hb.Node, a, out) })
	}
}

// probe sends STUN checks to the first media port at all addresses.
func probe(ctx context.Context, hb edgeagent.Heartbeat) keeper.Answer {
	if !hb.ProbeKey.Valid() || len(hb.Ports) == 0 {
		return keeper.Answer{}
	}
	at := make([]netip.AddrPort, len(hb.Addrs))
	for i, a := range hb.Addrs {
		at[i] = netip.AddrPortFrom(a, hb.Ports[0])
	}
	ufrag, pwd := sfu.FleetProbe(time.Now()).Credentials(hb.ProbeKey)
	a, err := stunprobe.Probe(ctx, stunprobe.Insistent, at, ufrag, pwd)
	return keeper.Answer{Came: err == nil, Lost: a.Lost}
}

// touch writes that a call lives.
func (s *Server) touch(ctx context.Context, w keeper.Write) {
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	if _, err := s.write(ctx, w); err != nil {
		s.cfg.Log.Debug("call is not written again yet", "call", w.Entry.Call, "err", err)
	}
}

// write does a compare-and-swap and tells the core what came of it.
func (s *Server) write(ctx context.Context, w keeper.Write) (won bool, err error) {
	key := w.Entry.Call.String()
	var revision uint64
	if w.Last != 0 {
		revision, err = s.calls.Update(ctx, key, w.Entry, w.Last)
	} else {
		revision, err = s.calls.Create(ctx, key, w.Entry)
	}
	if err == nil {
		s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out {
			return s.core.Won(now, w, revision, out)
		})
		return true, nil
	}
	s.mu.Lock()
	s.core.Failed(time.Now(), w)
	s.mu.Unlock()
	if errors.Is(err, bus.ErrConflict) {
		return false, s.reread(ctx, w.Entry.Call, w.Last)
	}
	return false, err
}

// reread takes in what somebody else wrote in the place of revision last (0: nothing).
// It is read from any server of the bucket, which may be some milliseconds behind the
// one that told of it: so until it is another, or for as long as none is behind.
func (s *Server) reread(ctx context.Context, id sfu.CallID, last uint64) error {
	for until := time.Now().Add(behind); ; {
		e, err := s.calls.Find(ctx, id.String())
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return fmt.Errorf("read call %v: %w", id, err)
		}
		if e.Revision != last || time.Now().After(until) {
			s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out {
				return s.core.Reread(now, id, e.Value, e.Revision, err == nil, out)
			})
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("read call %v: %w", id, ctx.Err())
		case <-time.After(readAgain):
		}
	}
}

// end has a node end the sessions of calls that live elsewhere. One node is told
// by one task at a time.
func (s *Server) end(ctx context.Context, node edgeagent.NodeID, strays []placement.Stray) {
	s.mu.Lock()
	_, busy := s.ending[node]
	s.ending[node] = struct{}{}
	s.mu.Unlock()
	if busy {
		return
	}
	s.startTask(func() {
		defer func() {
			s.mu.Lock()
			delete(s.ending, node)
			s.mu.Unlock()
		}()
		for _, x := range strays {
			if err := s.closeCall(ctx, x); err != nil {
				s.cfg.Log.Log(ctx, slog.LevelWarn, "a call is on two nodes", "call", x.Call, "stray", x.Node, "err", err)
				return
			}
			s.metrics.fenced.Inc()
		}
	})
}

func (s *Server) closeCall(ctx context.Context, x placement.Stray) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	_, err := bus.Request[edgeagent.CloseRequest, bus.Done](ctx, s.cfg.Bus, bus.NodeSubject(string(x.Node), "close"),
		edgeagent.CloseRequest{Call: x.Call, Reason: edgeagent.Moved})
	if refused := (*bus.Error)(nil); errors.As(err, &refused) && refused.Code == string(edgeagent.CodeNoSession) {
		return nil
	}
	return err
}

// sweep deletes the entries of ended calls, each only if nobody wrote it since.
func (s *Server) sweep(ctx context.Context) {
	if s.Ready() != nil {
		return
	}
	s.mu.Lock()
	ended := s.core.Ended(time.Now())
	s.metrics.stand(time.Now(), s.core)
	s.mu.Unlock()
	for _, w := range ended {
		err := s.calls.Delete(ctx, w.Entry.Call.String(), w.Last)
		if err != nil && !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrNotFound) {
			return // the bus is away: nothing ends meanwhile
		}
	}
}
