package edgeagentserver

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

// serveRetry is the pause before the verbs are offered again to a bus that was
// away.
const serveRetry = 200 * time.Millisecond

// serve answers the verbs of the node; it tries until it does or ctx ends.
func (s *Server) serve(ctx context.Context) (*bus.Serving, error) {
	svc := bus.Service{
		Name:     "edgeagent",
		Subject:  bus.NodeSubject(string(s.cfg.Node), ""),
		Metadata: map[string]string{"node": string(s.cfg.Node), "region": s.cfg.Region, "version": s.cfg.Version},
		Code:     refusal,
		Metrics:  s.cfg.Metrics,
		Log:      s.cfg.Log,
		Verbs: []bus.Verb{
			bus.Handle("open", s.open),
			bus.Handle("resume", s.resume),
			bus.Handle("negotiate", s.negotiate),
			bus.Handle("update", s.update),
			bus.Handle("close", s.close),
			bus.Handle("drain", s.drain),
			bus.Handle("undrain", s.undrain),
			bus.Handle("upgrade", s.upgrade),
			bus.Handle("relay", s.relay),
			bus.Handle("roster", s.roster),
		},
	}
	for {
		serving, err := bus.Serve(ctx, s.cfg.Bus, svc)
		if err == nil {
			return serving, nil
		}
		s.cfg.Log.Warn("verbs are not served yet", "err", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("serve node: %w", err)
		case <-time.After(serveRetry):
		}
	}
}

// refusal is an error as it crosses the bus.
func refusal(err error) (code, message string) {
	message = err.Error()
	if own := (*edgeagent.Error)(nil); errors.As(err, &own) {
		message = own.Message
	} else if engine := (*sfu.Error)(nil); errors.As(err, &engine) {
		message = engine.Message
	}
	return string(edgeagent.CodeOf(err)), message
}

func (s *Server) open(ctx context.Context, req edgeagent.OpenRequest) (edgeagent.SessionReply, error) {
	grant, err := edgeagent.ReadGrant(req.Token, func(kid string) ed25519.PublicKey { return s.keys.Find(ctx, kid) })
	if err != nil {
		return edgeagent.SessionReply{}, err
	}
	token := custody.Token(sha256.Sum256([]byte(req.Token)))
	return s.session(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		return s.core.Open(now, id, grant, token, out)
	})
}

func (s *Server) resume(ctx context.Context, req edgeagent.ResumeRequest) (edgeagent.SessionReply, error) {
	_, bad := edgeagent.ReadGrant(req.Token, s.keys.Key)
	token := custody.Token(sha256.Sum256([]byte(req.Token)))
	return s.session(ctx, func(_ time.Time, id uint64, out []custody.Out) []custody.Out {
		return s.core.Resume(id, token, bad, out)
	})
}

func (s *Server) session(ctx context.Context, do func(time.Time, uint64, []custody.Out) []custody.Out) (edgeagent.SessionReply, error) {
	r, err := s.ask(ctx, do)
	if err != nil {
		return edgeagent.SessionReply{}, err
	}
	rep := s.complete(ctx, *r.Session)
	if s.closed != nil {
		rep.Relay = s.closed.servers(time.Now(), rep.Record.Session, rep.Record.Addrs)
	}
	return rep, nil
}

func (s *Server) negotiate(ctx context.Context, req edgeagent.NegotiateRequest) (edgeagent.NegotiateReply, error) {
	r, err := s.ask(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		return s.core.Negotiate(now, id, req, out)
	})
	if err != nil {
		return edgeagent.NegotiateReply{}, err
	}
	return *r.Negotiated, nil
}

func (s *Server) update(ctx context.Context, req edgeagent.UpdateRequest) (bus.Done, error) {
	_, err := s.ask(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		return s.core.Update(now, id, req, out)
	})
	return bus.Done{}, err
}

func (s *Server) close(ctx context.Context, req edgeagent.CloseRequest) (bus.Done, error) {
	_, err := s.ask(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		return s.core.Close(now, id, req, out)
	})
	return bus.Done{}, err
}

func (s *Server) drain(ctx context.Context, req edgeagent.DrainRequest) (edgeagent.DrainReply, error) {
	return s.setDraining(ctx, true, req)
}

func (s *Server) undrain(ctx context.Context, req edgeagent.DrainRequest) (edgeagent.DrainReply, error) {
	return s.setDraining(ctx, false, req)
}

func (s *Server) setDraining(ctx context.Context, on bool, req edgeagent.DrainRequest) (edgeagent.DrainReply, error) {
	r, err := s.ask(ctx, func(_ time.Time, id uint64, out []custody.Out) []custody.Out {
		out = s.core.Drain(id, on, req, out)
		// Noted here: it holds even if the asker has given up by now.
		if did := out[len(out)-1].Reply.Drain; did != nil {
			s.noteDrain(req, *did)
		}
		return out
	})
	if err != nil {
		return edgeagent.DrainReply{}, err
	}
	return *r.Drain, nil
}

const (
	// emptyPatience is how long Empty waits without anybody leaving: where there is
	// no other node, nobody does. Those who do not follow are ended after 5 s.
	emptyPatience = 8 * time.Second
	// emptyLook is how often it looks.
	emptyLook = 100 * time.Millisecond
)

// Empty has the fleet move the calls of the node, and returns when it has no
// session, when none has left for some seconds, or when ctx ends, which needs a
// deadline: the node is gone then.
func (s *Server) Empty(ctx context.Context, by, reason string) {
	until, _ := ctx.Deadline()
	rep, err := s.setDraining(ctx, true, edgeagent.DrainRequest{By: by, Reason: reason, Empty: true, Until: until})
	left, since := rep.Sessions, time.Now()
	look := time.NewTicker(emptyLook)
	defer look.Stop()
	for err == nil && left > 0 && time.Since(since) < emptyPatience {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := 0
		_, err = s.ask(ctx, func(_ time.Time, id uint64, out []custody.Out) []custody.Out {
			now = s.core.Report().Sessions
			return append(out, custody.Out{Reply: &custody.Reply{ID: id}})
		})
		if now < left {
			left, since = now, time.Now()
		}
	}
}

// noteDrain tells the log who asked and why, also if nothing changed, and the
// fleet how the node stands.
func (s *Server) noteDrain(req edgeagent.DrainRequest, did edgeagent.DrainReply) {
	said := "node takes calls again"
	if did.Draining {
		said = "node takes no new calls"
	}
	if did.Emptying {
		said = "node is emptied: its calls move elsewhere"
	}
	s.cfg.Log.Info(said, "by", req.By, "reason", req.Reason, "changed", did.Changed, "calls", did.Calls, "sessions", did.Sessions)
	s.beatNow()
}
