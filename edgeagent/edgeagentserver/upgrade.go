package edgeagentserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
)

// Program is the one on disk, which the node is to go on with.
type Program interface {
	Version() string
	// Use has the engines to come be of it, Revert of this process' own again.
	Use()
	Revert()
	// Exec puts it in the place of this process. It returns only if that failed.
	Exec() error
}

const (
	// upgradeTime bounds the replacement of the engine, within what an asker waits.
	upgradeTime = 4 * time.Second
	// upgradeLook is how often the agent looks whether all sessions go on.
	upgradeLook = 10 * time.Millisecond
	// upgradeStarts is how many engines may be started before the program counts
	// as one that has none.
	upgradeStarts = 2
	// lastReply is what the answer to the asker gets to leave before the agent is
	// replaced.
	lastReply = 100 * time.Millisecond
)

var errUpgrade = errors.New("it is replaced by an upgrade")

// upgrade replaces the engine, and after its reply the agent.
func (s *Server) upgrade(ctx context.Context, req edgeagent.UpgradeRequest) (edgeagent.UpgradeReply, error) {
	refused := func(code edgeagent.ErrorCode, format string, args ...any) (edgeagent.UpgradeReply, error) {
		return edgeagent.UpgradeReply{}, &edgeagent.Error{Code: code, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case req.By == "":
		return refused(edgeagent.CodeBadRequest, "who asks is missing")
	case len(req.By) > edgeagent.MaxNote || len(req.Reason) > edgeagent.MaxNote:
		return refused(edgeagent.CodeBadRequest, "who asks takes %d bytes and why %d, at most %d are noted", len(req.By), len(req.Reason), edgeagent.MaxNote)
	case s.cfg.Program == nil:
		return refused(edgeagent.CodeBadRequest, "this node is a part of another program: replace and restart that")
	case !s.upgrading.CompareAndSwap(false, true):
		return refused(edgeagent.CodeUnavailable, "an upgrade is under way")
	}
	replaced := false
	defer func() { s.upgrading.Store(replaced) }()
	began := time.Now()
	next, err := s.cfg.Program(ctx)
	if err != nil {
		return refused(edgeagent.CodeBadRequest, "the program on disk is of no use: %v", err)
	}
	log := s.cfg.Log.With("by", req.By, "reason", req.Reason, "from", s.cfg.Version, "to", next.Version())
	log.Info("upgrade begins: the media engine is replaced")
	rep := edgeagent.UpgradeReply{From: s.cfg.Version, To: next.Version()}
	next.Use()
	if rep.Sessions, err = s.replaceEngine(ctx); err != nil {
		next.Revert()
		if _, back := s.replaceEngine(context.WithoutCancel(ctx)); back != nil {
			log.Error("upgrade failed, and so does the media engine there was", "err", back)
		}
		return refused(edgeagent.CodeUnavailable, "the program on disk (%s) runs no media engine, and the one there was goes on: %v", next.Version(), err)
	}
	rep.Engine = time.Since(began)
	log.Info("the media engine was replaced; the agent follows", "sessions", rep.Sessions, "took", rep.Engine.Round(time.Millisecond))
	replaced = true
	s.successor <- next
	return rep, nil
}

// replaceEngine ends the engine and returns when the next one goes on with all
// sessions, and how many these are.
func (s *Server) replaceEngine(ctx context.Context) (sessions int, err error) {
	ctx, cancel := context.WithTimeout(ctx, upgradeTime)
	defer cancel()
	before := 0
	_, err = s.ask(ctx, func(_ time.Time, id uint64, out []custody.Out) []custody.Out {
		before = s.starts
		if s.current != nil {
			s.current.fail(errUpgrade)
		}
		return append(out, custody.Out{Reply: &custody.Reply{ID: id}})
	})
	for err == nil {
		starts := 0
		var now custody.Report
		_, err = s.ask(ctx, func(_ time.Time, id uint64, out []custody.Out) []custody.Out {
			starts, now = s.starts, s.core.Report()
			return append(out, custody.Out{Reply: &custody.Reply{ID: id}})
		})
		switch {
		case err != nil:
		case starts > before && now.Up && now.Lost == 0:
			return now.Sessions, nil
		case starts > before+upgradeStarts:
			return 0, errors.New("it ends again and again")
		case !pause(ctx, upgradeLook):
			return 0, fmt.Errorf("it has not taken the sessions over within %v", upgradeTime)
		}
	}
	return 0, err
}

// succeed puts the next program in the place of this process when an upgrade has
// come so far, and waits until ctx ends.
func (s *Server) succeed(ctx context.Context) {
	for {
		var next Program
		select {
		case <-ctx.Done():
			return
		case next = <-s.successor:
		}
		pause(ctx, lastReply)
		_ = s.cfg.Bus.Flush(ctx)
		err := next.Exec()
		s.upgrading.Store(false)
		s.log.Log(slog.LevelError, "upgrade", "the agent could not be replaced and stays; its media engine was", "err", err)
	}
}
