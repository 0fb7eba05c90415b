package sfuserver

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"voicefleet/sfu"
)

const (
	// emptyLook is how often an engine without an agent looks whether it has any
	// session left.
	emptyLook = time.Second
	// lastWords is how long before an agent's end an event may have been written
	// and yet be lost with it.
	lastWords = time.Second
)

// errDeserted ends an engine that has neither agent nor session.
var errDeserted = errors.New("no agent and no session")

// awaitAgent lets the calls go on without an agent until one adopts the engine.
// It fails when the last session has ended: then there is nothing to keep.
func (s *Server) awaitAgent(ctx context.Context, why error) (io.ReadWriteCloser, error) {
	s.orphaned = time.Now()
	s.alone.Store(true)
	defer s.alone.Store(false)
	s.log.Warn("agent is gone; calls go on, and the next agent on this machine takes them over", "sessions", s.routes.count(), "err", why)
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		look := time.NewTicker(emptyLook)
		defer look.Stop()
		for s.routes.count() > 0 || len(s.remembered) > 0 && time.Since(s.orphaned) < sfu.RememberedFor {
			select {
			case <-waiting.Done():
				return
			case <-look.C:
			}
		}
		cancel(errDeserted)
	}()
	stream, err := s.cfg.NextAgent(waiting)
	deserted := errors.Is(context.Cause(waiting), errDeserted)
	cancel(nil)
	<-looked
	switch {
	case err == nil:
		if err = s.settle(ctx); err != nil {
			_ = stream.Close()
			return nil, err
		}
		s.log.Info("adopted by a new agent", "sessions", s.routes.count(), "alone", time.Since(s.orphaned).Round(time.Millisecond))
		return stream, nil
	case deserted:
		s.log.Info("last session ended without an agent")
		return nil, io.EOF
	}
	return nil, err
}

// settle waits until the orders of the agent before are done, and forgets what it
// was to be told: a late answer must not be taken for one to the new agent.
func (s *Server) settle(ctx context.Context) error {
	for _, w := range s.workers {
		done := make(chan struct{})
		w.mail.post(func(time.Duration) { close(done) })
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.events.drop()
	return nil
}

// handleAdopt tells a new agent all there is.
func (s *Server) handleAdopt(seq uint64, c *sfu.Adopt) *sfu.Error {
	if s.orphaned.IsZero() {
		return sfu.Refuse(sfu.CodeBadCommand, "its agent is here")
	}
	if err := checkAddresses(c.Advertise); err != nil {
		return err
	}
	s.advertise, s.tcp = c.Advertise, c.TCP
	if s.probeKey == nil {
		s.setProbeKey(c.ProbeKey)
	}
	key := s.probeKey
	since, remembered := s.orphaned.Add(-lastWords), s.remembered
	var left atomic.Int32
	left.Store(int32(len(s.workers)))
	for _, w := range s.workers {
		w.mail.post(func(now time.Duration) {
			defer func() {
				if left.Add(-1) == 0 {
					s.events.answer(seq, nil, sfu.Event{Adopted: &sfu.Adopted{Started: *s.started(), ProbeKey: key, Ended: s.routes.pastEnds(since), Remembered: remembered}})
				}
			}()
			for _, r := range w.calls {
				if r.relay != nil {
					s.events.post(sfu.Event{Relaying: r.relay})
				}
			}
			if w.fence != 0 { // the agent before may not have heard of it
				s.events.fenced(sfu.Fenced{Number: w.fence, Stood: frozenAfter})
			}
			for _, t := range w.sessions {
				w.workOn(t.call)
				s.events.post(sfu.Event{Held: t.held(w)})
				if t.opener != nil {
					s.events.renew(t.snapshot(now, w)) // behind its Held
				}
			}
		})
	}
	return nil
}

// held is what an agent must know of the session.
func (s *session) held(w *worker) *sfu.Held {
	h := &sfu.Held{
		Open: s.asOpened(), SSRC: s.ssrc, Port: w.sock.port, Ufrag: s.local.Ufrag,
		Negotiated: s.negotiated != 0, Connected: s.opener != nil, SelfDeaf: s.selfDeaf, Muted: s.muted,
	}
	if s.opener != nil {
		h.Speaking, h.Seats = s.call.core.Shown(&s.member)
		h.Views = s.call.video.Views(&s.viewer)
	}
	return h
}
