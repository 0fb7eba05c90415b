package video

import (
	"slices"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
)

// relay is what a call that spans nodes knows of the others.
type relay struct {
	on    bool
	epoch uint64
	to    *egress.Bundle // for the agent
	// cameras are those of other nodes that are on: at most as many as have a stand.
	cameras []*remote
}

// remote is a member of another node whose camera is on.
type remote struct {
	Member
	peer   uint16
	window crypt.Window
}

// SetRelay begins, changes or, without peers, ends the relaying of a call. The cameras
// of nodes that are no peers any more are off.
func (c *Call) SetRelay(now time.Duration, r *sfu.Relay, to *egress.Bundle) {
	c.relay.on, c.relay.epoch, c.relay.to = len(r.Peers) > 0, r.Epoch, to
	for _, cam := range slices.Clone(c.relay.cameras) {
		if !slices.Contains(r.Peers, cam.peer) {
			c.dark(now, &cam.Member)
		}
	}
}

// forget lets go of a camera of another node.
func (c *Call) forget(m *Member) {
	if m.away {
		c.relay.cameras = slices.DeleteFunc(c.relay.cameras, func(r *remote) bool { return &r.Member == m })
	}
}

// sendRelay gives a packet to the agent, for the other nodes.
func (c *Call) sendRelay(m *Member, h *rtpwire.Header, index uint64, payload []byte, out *egress.Batch) {
	if len(payload) > sfu.MaxRelayPacket-sfu.RelayHeader {
		c.drop(sfu.DropTooLong)
		return
	}
	p := sfu.RelayPacket{
		Call: c.cfg.ID, Epoch: c.relay.epoch, User: m.User, SSRC: m.SSRC, Sequence: uint32(index), Timestamp: h.Timestamp,
		Level: rtpwire.NoLevel, Kind: sfu.RelayVideo, Marker: h.Marker, Payload: payload,
	}
	c.relay.to.Add(&p, out)
	c.cfg.Count.RelayOut++
}

// askAway asks the node of a camera for a key frame.
func (c *Call) askAway(m *Member, out *egress.Batch) {
	p := sfu.RelayPacket{
		Call: c.cfg.ID, Epoch: c.relay.epoch, User: m.User, SSRC: m.SSRC, Level: rtpwire.NoLevel,
		Kind: sfu.RelayKeyFrame, Payload: padding,
	}
	c.relay.to.Add(&p, out)
	c.cfg.Count.RelayOut++
}

// Relayed takes a packet of video from another node of the call, or the wish for a key
// frame of a camera here. Its payload is lent until return, and changed.
func (c *Call) Relayed(now time.Duration, peer uint16, p *sfu.RelayPacket, out *egress.Batch) {
	c.cfg.Count.RelayIn++
	if p.Kind == sfu.RelayKeyFrame {
		for _, m := range c.stands {
			if m != nil && !m.away && m.SSRC == p.SSRC {
				m.camera.key = true
			}
		}
		return
	}
	if c.shed {
		c.drop(sfu.DropShed)
		return
	}
	r := c.remote(peer, p)
	if r == nil {
		c.drop(sfu.DropRelaySpeaker)
		return
	}
	index := uint64(p.Sequence)
	if !r.window.Fresh(index) { // numbers of views go by it: none may come twice
		c.drop(sfu.DropReplay)
		return
	}
	r.window.Accept(index)
	h := rtpwire.Header{Timestamp: p.Timestamp, Marker: p.Marker}
	c.Video(now, &r.Member, &h, index, p.Payload, out)
	if r.stand == none {
		c.forget(&r.Member) // its packet was not taken
	}
}

// remote is the member that a packet is of, made if need be. It is nil when there is no
// room for it, or when clients would take it for a member of this node.
func (c *Call) remote(peer uint16, p *sfu.RelayPacket) *remote {
	for _, r := range c.relay.cameras {
		if r.peer == peer && r.SSRC == p.SSRC {
			return r
		}
	}
	if c.lit == sfu.MaxCameras || slices.ContainsFunc(c.members, func(m *Member) bool { return m.SSRC == p.SSRC }) ||
		slices.ContainsFunc(c.relay.cameras, func(r *remote) bool { return r.SSRC == p.SSRC }) {
		return nil
	}
	r := &remote{peer: peer, Member: Member{User: p.User, SSRC: p.SSRC, away: true, allowed: true, stand: none}}
	c.relay.cameras = append(c.relay.cameras, r)
	return r
}
