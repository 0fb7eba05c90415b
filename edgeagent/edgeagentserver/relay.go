package edgeagentserver

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/internal/bus"
)

// rosterTime bounds how long a session waits to hear who is on the other nodes of
// its call. Without their answer it begins with those of its own, and hears of the
// others when they join, leave or speak.
const rosterTime = 500 * time.Millisecond

func (s *Server) relay(ctx context.Context, req edgeagent.RelayRequest) (bus.Done, error) {
	_, err := s.ask(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		return s.core.Relay(now, id, req, out)
	})
	if err == nil {
		s.beatNow()
	}
	return bus.Done{}, err
}

func (s *Server) roster(ctx context.Context, req edgeagent.RosterRequest) (edgeagent.RosterReply, error) {
	r, err := s.ask(ctx, func(_ time.Time, id uint64, out []custody.Out) []custody.Out {
		return s.core.Roster(id, req, out)
	})
	if err != nil {
		return edgeagent.RosterReply{}, err
	}
	return *r.Roster, nil
}

// complete adds the members on other nodes to the roster of a session. They are
// asked after the session's signaling has subscribed to the call's events, so
// whoever joins meanwhile is in their answer, or in an event that comes later.
func (s *Server) complete(ctx context.Context, rep edgeagent.SessionReply) edgeagent.SessionReply {
	call := rep.Record.Call
	var peers []edgeagent.RelayPeer
	var epoch uint64
	_, err := s.ask(ctx, func(_ time.Time, id uint64, out []custody.Out) []custody.Out {
		peers, epoch = s.core.Others(call)
		return append(out, custody.Out{Reply: &custody.Reply{ID: id}})
	})
	if err != nil || len(peers) == 0 {
		return rep
	}
	// Who is on a node that cannot be reached is not heard either, and about to come.
	lost, _ := s.links.lost()
	peers = slices.DeleteFunc(slices.Clone(peers), func(p edgeagent.RelayPeer) bool { return slices.Contains(lost, p.Node) })
	ctx, cancel := context.WithTimeout(ctx, rosterTime)
	defer cancel()
	answers := make([]edgeagent.RosterReply, len(peers))
	var asking sync.WaitGroup
	for i, p := range peers {
		asking.Go(func() {
			var err error
			answers[i], err = bus.Request[edgeagent.RosterRequest, edgeagent.RosterReply](ctx, s.cfg.Bus,
				bus.NodeSubject(string(p.Node), "roster"), edgeagent.RosterRequest{Call: call})
			if err != nil {
				s.links.metrics.rosters.Inc()
				s.log.Log(slog.LevelWarn, "roster", "a node does not say who is in a call", "peer", p.Node, "call", call, "err", err)
			}
		})
	}
	asking.Wait()
	here := map[string]bool{}
	for _, m := range rep.Roster {
		here[m.User.String()] = true
	}
	for i, a := range answers {
		for _, m := range a.Roster {
			// Of a user with sessions on two nodes, the one here counts: the other
			// is about to end.
			if a.Epoch == epoch && !here[m.User.String()] {
				here[m.User.String()] = true
				m.Node = peers[i].Node
				rep.Roster = append(rep.Roster, m)
			}
		}
	}
	rep.Slots = slices.DeleteFunc(rep.Slots, func(seat edgeagent.Seat) bool {
		return !slices.ContainsFunc(rep.Roster, func(m edgeagent.Member) bool { return m.User == seat.User && m.SSRC == seat.SSRC })
	})
	rep.Views = slices.DeleteFunc(rep.Views, func(v edgeagent.View) bool {
		return !slices.ContainsFunc(rep.Roster, func(m edgeagent.Member) bool { return m.User == v.User && m.SSRC == v.SSRC })
	})
	return rep
}
