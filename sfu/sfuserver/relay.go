package sfuserver

import (
	"net/netip"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/demux"
)

// Relay packets go between engine and agent over loopback, through the media
// ports: they are sent and received in the same batches as all others, and when
// this engine dies, the next one on these ports goes on with them.

// agent is where relay packets go to and come from.
type agent struct {
	remote demux.Remote // zero: nothing is relayed yet
	secret sfu.RelaySecret
}

// handleRelay has a call span nodes, or be alone again.
func (s *Server) handleRelay(seq uint64, c *sfu.Relay) *sfu.Error {
	switch {
	case c.Call.ID == 0:
		return sfu.Refuse(sfu.CodeBadCommand, "relay of no call")
	case len(c.Peers) > sfu.MaxRelayPeers:
		return sfu.Refuse(sfu.CodeBadCommand, "%d other nodes of a call, at most %d", len(c.Peers), sfu.MaxRelayPeers)
	case len(c.Keep) > sfu.MaxKeep:
		return sfu.Refuse(sfu.CodeBadCommand, "%d bytes to keep, at most %d", len(c.Keep), sfu.MaxKeep)
	case len(c.Peers) > 0 && (!c.To.Addr().Unmap().IsLoopback() || c.To.Port() == 0):
		return sfu.Refuse(sfu.CodeBadCommand, "%v is no socket of this machine's agent", c.To)
	}
	w := s.routes.worker(c.Call)
	if w == nil {
		return sfu.Refuse(sfu.CodeNoSession, "no session in call %v", c.Call)
	}
	w.mail.post(func(now time.Duration) {
		answered := false
		defer func() {
			if !answered {
				s.refuse(seq, sfu.Refuse(sfu.CodeInternal, "recovered from a panic"))
			}
		}()
		ok := w.setRelay(now, c)
		answered = true
		if !ok {
			s.refuse(seq, sfu.Refuse(sfu.CodeNoSession, "the last session of call %v has ended", c.Call))
			return
		}
		s.events.answer(seq, nil, sfu.Event{Relayed: &sfu.Relayed{Port: w.sock.port}})
	})
	return nil
}

// setRelay is false when the call has no session any more.
func (w *worker) setRelay(now time.Duration, c *sfu.Relay) bool {
	r := w.calls[c.Call]
	if r == nil {
		return false
	}
	w.workOn(r)
	if len(c.Peers) == 0 || r.echo {
		r.relay = nil
		alone := &sfu.Relay{Call: c.Call, Epoch: c.Epoch}
		r.core.SetRelay(now, alone, w.relay, w.out)
		r.video.SetRelay(now, alone, w.relay)
		return true
	}
	if now := (agent{remote: demux.RemoteFrom(c.To), secret: c.Secret}); now != w.agent {
		w.agent = now
		w.relay.Lead(w.sock.leave(now.remote, netip.Addr{}, 0), now.secret, w.out)
	}
	r.relay = c
	r.core.SetRelay(now, c, w.relay, w.out)
	r.video.SetRelay(now, c, w.relay)
	return true
}

// relayed is the way of packets that another node forwards, as the agent brings
// them: source, then of each its call, then as any voice.
func (w *worker) relayed(now time.Duration, d []byte, from demux.Remote) {
	if from != w.agent.remote {
		w.drop(sfu.DropRelaySource)
		return
	}
	peer, list, ok := sfu.ReadRelayLocal(d, &w.agent.secret)
	if !ok {
		w.drop(sfu.DropRelaySource)
		return
	}
	for len(list) > 0 {
		packet, rest, err := sfu.NextRelay(list)
		if err != nil {
			w.drop(sfu.DropMalformed)
			return
		}
		list = rest
		p, err := sfu.ReadRelayPacket(packet)
		if err != nil {
			w.drop(sfu.DropMalformed)
			continue
		}
		r := w.calls[p.Call]
		if r == nil {
			w.drop(sfu.DropRelayCall)
			continue
		}
		w.workOn(r)
		if p.Kind == sfu.RelayVoice {
			r.core.Relayed(now, peer, &p, w.out)
		} else if r.core.Admits(peer, &p) {
			r.video.Relayed(now, peer, &p, w.out)
		}
	}
}
