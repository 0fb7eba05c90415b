package allocatorserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
)

// upgrade has a node go on with the program on its disk, and notes it.
func (s *Server) upgrade(ctx context.Context, o allocator.Order) (edgeagent.UpgradeReply, error) {
	var rep edgeagent.UpgradeReply
	switch {
	case o.By == "":
		return rep, allocator.Refuse(allocator.CodeBadRequest, "who asks is missing")
	case !o.Node.Valid():
		return rep, allocator.Refuse(allocator.CodeBadRequest, "%.70q is no node id", o.Node)
	}
	rep, err := bus.Request[edgeagent.UpgradeRequest, edgeagent.UpgradeReply](ctx, s.cfg.Bus, bus.NodeSubject(string(o.Node), "upgrade"),
		edgeagent.UpgradeRequest{By: o.By, Reason: o.Reason})
	if refused := (*bus.Error)(nil); errors.As(err, &refused) {
		code := allocator.CodeRefused
		if refused.Code == string(edgeagent.CodeBadRequest) {
			code = allocator.CodeBadRequest
		}
		return rep, allocator.Refuse(code, "node %s: %s", o.Node, refused.Message)
	}
	if err != nil {
		return rep, allocator.Refuse(allocator.CodeUnavailable, "node %s: %v", o.Node, err)
	}
	s.journal.note(allocator.JournalEntry{At: time.Now(), By: o.By, Deed: allocator.DeedUpgrade, Node: o.Node,
		Why: fmt.Sprintf("%s; from %s to %s", o.Reason, rep.From, rep.To)})
	return rep, nil
}
