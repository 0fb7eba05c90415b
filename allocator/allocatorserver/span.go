package allocatorserver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
)

// relayTimeout bounds how long a node may take to hear that a call spans to it.
const relayTimeout = time.Second

// guest seats a user on a further node of a call. The nodes are told first: whoever
// joins there asks the others who is in the call.
func (s *Server) guest(ctx context.Context, req allocator.PlaceRequest, claim keeper.Claim) (allocator.Assignment, error) {
	s.mu.Lock()
	s.core.Place().Guest(time.Now(), claim.Why.Chosen)
	var orders []keeper.Relay
	if claim.Write != nil {
		orders = s.core.Relays(claim.Entry)
	}
	s.mu.Unlock()
	var telling sync.WaitGroup
	for _, r := range orders {
		telling.Go(func() { s.relay(ctx, r) })
	}
	telling.Wait()
	entry := claim.Entry
	entry.Node = claim.Why.Chosen
	return s.assign(req, entry, false)
}

// relay tells a node which other nodes a call is on. What it does not hear is told
// again when its heartbeat shows so.
func (s *Server) relay(ctx context.Context, r keeper.Relay) {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	_, err := bus.Request[edgeagent.RelayRequest, bus.Done](ctx, s.cfg.Bus, bus.NodeSubject(string(r.Node), "relay"), r.Request)
	if err != nil {
		s.cfg.Log.Log(ctx, slog.LevelWarn, "a node was not told which others a call is on", "node", r.Node, "call", r.Request.Call, "err", err)
	}
}
