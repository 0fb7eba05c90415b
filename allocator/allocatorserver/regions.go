package allocatorserver

import (
	"context"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// peers tells a node which others to measure, and with what: the keys of those are
// none of its business.
func (s *Server) peers(_ context.Context, req edgeagent.PeersRequest) (edgeagent.PeersReply, error) {
	if !req.Node.Valid() {
		return edgeagent.PeersReply{}, allocator.Refuse(allocator.CodeBadRequest, "%.70q is no node", req.Node)
	}
	now := time.Now()
	s.mu.Lock()
	list := s.core.Place().Peers(now, req.Node)
	s.mu.Unlock()
	var out edgeagent.PeersReply
	for _, hb := range list {
		p := edgeagent.Peer{Node: hb.Node, Addrs: hb.MediaAddrs()}
		p.Ufrag, p.Pwd = sfu.FleetProbe(now).Credentials(hb.ProbeKey)
		out.Peers = append(out.Peers, p)
	}
	return out, nil
}

func (s *Server) regions(context.Context, allocator.RegionsRequest) (allocator.RegionsReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return allocator.RegionsReply{Regions: s.core.Place().Regions(time.Now())}, nil
}
