package edgeagentserver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/stunprobe"
)

const (
	// peersEvery is how often some peers are measured, and peersAtOnce how many: all
	// of them within 4 s, and then again.
	peersEvery  = time.Second
	peersAtOnce = 4
	// peersWait is how long an answer is waited for, and how long the bus may take to
	// say whom to ask.
	peersWait = time.Second
	// peersSoon is when to ask again for peers after there were none: others may be
	// joining now.
	peersSoon = 5 * time.Second
)

// measurePeers keeps the distances of other nodes until ctx ends.
func (s *Server) measurePeers(ctx context.Context) {
	var asked time.Time
	again := time.Duration(0) // how long after asked to ask
	tick := time.NewTicker(peersEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := time.Now(); now.Sub(asked) >= again {
			asked, again = now, s.findPeers(ctx)
		}
		s.mu.Lock()
		some := s.peers.Next(peersAtOnce)
		s.mu.Unlock()
		var asking sync.WaitGroup
		for _, p := range some {
			asking.Go(func() { s.measurePeer(ctx, p) })
		}
		asking.Wait()
	}
}

// findPeers asks whom to measure, and says when to ask again.
func (s *Server) findPeers(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, peersWait)
	defer cancel()
	list, err := s.cfg.Peers(ctx, edgeagent.PeersRequest{Node: s.cfg.Node})
	if err != nil {
		s.log.Log(slog.LevelDebug, "peers", "nobody says which nodes to measure", "err", err)
		return peersSoon // with those known by now
	}
	s.mu.Lock()
	s.peers.Set(list)
	s.mu.Unlock()
	if len(list) < edgeagent.MaxPeers {
		return peersSoon // there may be more soon, and it costs little
	}
	return edgeagent.PeersFor
}

func (s *Server) measurePeer(ctx context.Context, p edgeagent.Peer) {
	ctx, cancel := context.WithTimeout(ctx, peersWait)
	defer cancel()
	a, err := stunprobe.Probe(ctx, stunprobe.Sparing, p.Addrs, p.Ufrag, p.Pwd)
	if err != nil { // whether it lives is for others to find out
		s.metrics.probes.WithLabelValues("unanswered").Inc()
		return
	}
	s.metrics.probes.WithLabelValues("answered").Inc()
	s.mu.Lock()
	s.peers.Measured(time.Now(), p.Node, a.RTT)
	s.mu.Unlock()
}
