package allocatorserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
)

// drain has a node take no new calls, and its calls moved by all allocators, who
// see it in its heartbeat.
func (s *Server) drain(ctx context.Context, o allocator.Order) (allocator.Progress, error) {
	if o.DryRun {
		return s.standing(o.Node, true)
	}
	if o.Deadline.IsZero() {
		o.Deadline = time.Now().Add(allocator.DrainTime)
	}
	return s.order(ctx, o, "drain", edgeagent.DrainRequest{Empty: true, Until: o.Deadline}, allocator.DeedDrain)
}

// cordon has a node take no new calls and keep those it has.
func (s *Server) cordon(ctx context.Context, o allocator.Order) (allocator.Progress, error) {
	return s.order(ctx, o, "drain", edgeagent.DrainRequest{}, allocator.DeedCordon)
}

// undrain takes back either.
func (s *Server) undrain(ctx context.Context, o allocator.Order) (allocator.Progress, error) {
	return s.order(ctx, o, "undrain", edgeagent.DrainRequest{}, allocator.DeedUndrain)
}

func (s *Server) progress(_ context.Context, req allocator.ProgressRequest) (allocator.Progress, error) {
	return s.standing(req.Node, false)
}

func (s *Server) standing(node edgeagent.NodeID, plan bool) (allocator.Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, there := s.core.Progress(time.Now(), node, plan)
	if !there {
		return p, allocator.Refuse(allocator.CodeBadRequest, "there is no node %.70q", node)
	}
	return p, nil
}

// order passes an order on to its node, which holds it, and notes it.
func (s *Server) order(ctx context.Context, o allocator.Order, verb string, req edgeagent.DrainRequest, deed allocator.Deed) (allocator.Progress, error) {
	switch {
	case o.By == "":
		return allocator.Progress{}, allocator.Refuse(allocator.CodeBadRequest, "who asks is missing")
	case !o.Node.Valid():
		return allocator.Progress{}, allocator.Refuse(allocator.CodeBadRequest, "%.70q is no node id", o.Node)
	}
	req.By, req.Reason = o.By, o.Reason
	rep, err := bus.Request[edgeagent.DrainRequest, edgeagent.DrainReply](ctx, s.cfg.Bus, bus.NodeSubject(string(o.Node), verb), req)
	if refused := (*bus.Error)(nil); errors.As(err, &refused) {
		code := allocator.CodeRefused
		if refused.Code == string(edgeagent.CodeBadRequest) {
			code = allocator.CodeBadRequest
		}
		return allocator.Progress{}, allocator.Refuse(code, "node %s: %s", o.Node, refused.Message)
	}
	if err != nil {
		return allocator.Progress{}, allocator.Refuse(allocator.CodeUnavailable, "node %s: %v", o.Node, err)
	}
	why := o.Reason
	if deed == allocator.DeedDrain {
		why = strings.TrimPrefix(fmt.Sprintf("%s; until %s UTC at the latest", why, o.Deadline.UTC().Format(time.TimeOnly)), "; ")
	}
	s.journal.note(allocator.JournalEntry{At: time.Now(), By: o.By, Deed: deed, Node: o.Node, Why: why})
	// The heartbeat that tells it is on its way.
	p, err := s.standing(o.Node, false)
	if err != nil {
		p = allocator.Progress{Node: o.Node}
	}
	p.State, p.Emptying, p.Until, p.Calls, p.Sessions = edgeagent.Ready, rep.Emptying, req.Until, rep.Calls, rep.Sessions
	if rep.Draining {
		p.State = edgeagent.Draining
	}
	return p, nil
}

// move moves one live call.
func (s *Server) move(ctx context.Context, req allocator.MoveRequest) (allocator.MoveReply, error) {
	switch {
	case req.Call.ID == 0 || req.Cause == "":
		return allocator.MoveReply{}, allocator.Refuse(allocator.CodeBadRequest, "call and cause are required")
	case len(req.Region) > maxName || len(req.Cause) > maxName:
		return allocator.MoveReply{}, allocator.Refuse(allocator.CodeBadRequest, "region or cause is longer than %d bytes", maxName)
	}
	if err := s.Ready(); err != nil {
		return allocator.MoveReply{}, allocator.Refuse(allocator.CodeUnavailable, "%v", err)
	}
	s.mu.Lock()
	w, why := s.core.Move(time.Now(), req)
	s.mu.Unlock()
	changed := false
	if w != nil {
		won, err := s.write(ctx, *w)
		if err != nil {
			return allocator.MoveReply{}, err
		}
		if changed = won; !won {
			why = "somebody else moved it"
		}
	}
	e, err := s.live(req.Call)
	if err != nil {
		return allocator.MoveReply{}, err
	}
	return allocator.MoveReply{Node: e.Node, Epoch: e.Epoch, Changed: changed, Why: why}, nil
}
