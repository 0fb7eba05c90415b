package call

import (
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/gate"
	"voicefleet/sfu/internal/rtpwire"
)

// relay is what a call that spans nodes knows of the others.
type relay struct {
	on    bool
	epoch uint64
	peers []uint16
	to    *egress.Bundle // for the agent
	// speakers are those of other nodes, and byName where each is.
	speakers []*remote
	byName   map[remoteName]*remote
}

// remoteName names a speaker: SSRCs are unique within their node.
type remoteName struct {
	peer uint16
	ssrc sfu.SSRC
}

// remote is a speaker of another node.
type remote struct {
	Member
	peer uint16
}

// SetRelay begins, changes or, without peers, ends the relaying of a call. The
// speakers of nodes that are no peers any more leave it.
func (c *Call) SetRelay(now time.Duration, r *sfu.Relay, to *egress.Bundle, out *egress.Batch) {
	c.relay.on = len(r.Peers) > 0
	c.relay.epoch, c.relay.to = r.Epoch, to
	c.relay.peers = append(c.relay.peers[:0], r.Peers...)
	if c.relay.byName == nil {
		c.relay.byName = make(map[remoteName]*remote)
	}
	still := c.relay.speakers[:0]
	for _, s := range c.relay.speakers {
		if c.relay.from(s.peer) {
			still = append(still, s)
			continue
		}
		c.retire(now, s, out)
	}
	clear(c.relay.speakers[len(still):])
	c.relay.speakers = still
}

// from says whether a peer is a node of the call.
func (r *relay) from(peer uint16) bool {
	for _, p := range r.peers {
		if p == peer {
			return true
		}
	}
	return false
}

// retire ends what a speaker of another node says, as Leave does.
func (c *Call) retire(now time.Duration, s *remote, out *egress.Batch) {
	if s.position != none {
		if s.gate.Open() || s.gate.Fading() {
			for range sfu.SilenceFrames {
				c.fade(now, &s.Member, s.last+rtpwire.SilenceTicks, out)
			}
		}
		c.vacate(&s.Member)
	}
	s.gate = gate.Gate{} // Tick lets go of it
	delete(c.relay.byName, remoteName{s.peer, s.SSRC})
}

// sendRelay gives a packet that is forwarded to the agent, for the other nodes.
func (c *Call) sendRelay(m *Member, ts uint32, level uint8, payload []byte, out *egress.Batch) {
	if len(payload) > sfu.MaxRelayPacket-sfu.RelayHeader {
		c.drop(sfu.DropTooLong)
		return
	}
	m.relayed++
	p := sfu.RelayPacket{
		Call: c.cfg.ID, Epoch: c.relay.epoch, User: m.User, SSRC: m.SSRC, Sequence: m.relayed, Timestamp: ts,
		Level: level, Priority: m.rights.Priority, Payload: payload,
	}
	c.relay.to.Add(&p, out)
	c.cfg.Count.RelayOut++
}

// Admits says whether a packet may come into the call from a node now, and counts one
// that may not.
func (c *Call) Admits(peer uint16, p *sfu.RelayPacket) bool {
	switch {
	case !c.relay.on:
		c.drop(sfu.DropRelayCall)
	case p.Epoch != c.relay.epoch:
		c.drop(sfu.DropRelayEpoch)
	case !c.relay.from(peer):
		c.drop(sfu.DropRelayPeer)
	case p.Half != sfu.RelayWhole:
		c.drop(sfu.DropMalformed)
	default:
		return true
	}
	return false
}

// Relayed takes a packet of voice that another node forwards. Its payload is lent until
// return. It allocates nothing but the state of a speaker not heard before.
func (c *Call) Relayed(now time.Duration, peer uint16, p *sfu.RelayPacket, out *egress.Batch) {
	if !c.Admits(peer, p) {
		return
	}
	s := c.relay.byName[remoteName{peer, p.SSRC}]
	if s == nil {
		if s = c.meet(peer, p); s == nil {
			c.drop(sfu.DropRelaySpeaker)
			return
		}
	}
	c.cfg.Count.RelayIn++
	s.User = p.User
	s.rights.Priority = p.Priority
	h := rtpwire.Header{Timestamp: p.Timestamp, Sequence: uint16(p.Sequence), Level: p.Level}
	c.Voice(now, &s.Member, &h, uint64(p.Sequence), p.Payload, out)
}

// meet makes room for a speaker of another node. It is nil when there is none, or
// when clients would take it for a member of this one.
func (c *Call) meet(peer uint16, p *sfu.RelayPacket) *remote {
	if _, taken := c.speaker(p.SSRC); taken {
		return nil
	}
	if len(c.relay.speakers) == sfu.MaxRemoteSpeakers && !c.forgetRemote() {
		return nil
	}
	s := &remote{peer: peer, Member: Member{
		User: p.User, SSRC: p.SSRC, away: true, rights: sfu.Rights{Speak: true}, listener: -1, position: none,
	}}
	c.relay.speakers = append(c.relay.speakers, s)
	c.relay.byName[remoteName{peer, p.SSRC}] = s
	return s
}

// forgetRemote forgets the speaker of another node that has been silent for
// longest, unless all speak.
func (c *Call) forgetRemote() bool {
	oldest := -1
	for i, s := range c.relay.speakers {
		if s.gate.Open() || s.gate.Fading() || s.awake {
			continue
		}
		if oldest < 0 || s.silent < c.relay.speakers[oldest].silent {
			oldest = i
		}
	}
	if oldest < 0 {
		return false
	}
	s := c.relay.speakers[oldest]
	if s.position != none {
		c.vacate(&s.Member)
	}
	delete(c.relay.byName, remoteName{s.peer, s.SSRC})
	last := len(c.relay.speakers) - 1
	c.relay.speakers[oldest] = c.relay.speakers[last]
	c.relay.speakers[last] = nil
	c.relay.speakers = c.relay.speakers[:last]
	return true
}
