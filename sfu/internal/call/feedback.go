package call

import (
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtcpwire"
)

const (
	// ReportEvery is how often a session gets reports (RFC 3550 section 6.2).
	ReportEvery = 5 * time.Second
	// resendsPerSecond bounds the packets one listener is sent again: those of
	// four slots.
	resendsPerSecond = 200
	// resendGap is the least time between two of the same packet; a round trip,
	// if that is longer.
	resendGap = 20 * time.Millisecond
	// reportedSlots bounds the slots in one compound: 52 bytes each.
	reportedSlots = 24
)

// Feedback reads an authentic RTCP compound of m: reports, transport-wide
// feedback, and requests to send packets again. Nothing of it reaches anyone else.
func (c *Call) Feedback(now time.Duration, m *Member, compound []byte, out *egress.Batch) {
	ntp := rtcpwire.Middle(rtcpwire.NTP(c.cfg.Epoch.Add(now)))
	for len(compound) > 0 {
		p, rest, ok := rtcpwire.Next(compound)
		if !ok {
			c.drop(sfu.DropMalformed)
			return
		}
		compound = rest
		if ssrc, sent, ok := p.Sent(); ok && ssrc == uint32(m.Media.MicSSRC) {
			m.reception.Report(now, sent)
		}
		for i := 0; ; i++ {
			b, ok := p.Block(i)
			if !ok {
				break
			}
			if rtt, ok := b.RoundTrip(ntp); ok {
				m.rtt = time.Duration(rtt) * time.Second / 65536
			}
			c.reported(now, m, &b)
		}
		c.arrived(m, &p)
		for i := 0; ; i++ {
			ssrc, seq, mask, ok := p.Missing(i)
			if !ok {
				break
			}
			c.resend(now, m, ssrc, seq, out)
			for ; mask != 0; mask >>= 1 {
				seq++
				if mask&1 != 0 {
					c.resend(now, m, ssrc, seq, out)
				}
			}
			c.requested(m, ssrc, seq)
		}
	}
}

// resend sends a packet again, byte for byte, if it is still there and was not
// sent a moment ago.
func (c *Call) resend(now time.Duration, m *Member, ssrc uint32, seq uint16, out *egress.Batch) {
	if now-m.resent >= time.Second {
		m.resends, m.resent = 0, now
	}
	if m.listener < 0 || m.resends >= resendsPerSecond {
		return
	}
	l := &c.listeners[m.listener]
	if l.off != 0 || l.limited {
		return
	}
	for i := range l.slots {
		s := &l.slots[i]
		if s.ssrc != ssrc || s.sent == nil {
			continue
		}
		p, ms := s.sent.Find(seq), uint32(now/time.Millisecond)
		if !p.Due(ms, uint32(max(resendGap, m.rtt)/time.Millisecond)) {
			return
		}
		payload, ok := c.positions[p.Position].arena.At(p.Number)
		if !ok {
			return
		}
		p.Resent++
		p.At = ms
		m.resends++
		c.header.PutShared(p.CSRC)
		var header []byte
		if p.Stamped {
			header = c.header.PutStamped(l.payload, p.Marker, seq, p.Timestamp, ssrc, l.levelExt, p.Level, l.stampExt, p.Stamp)
		} else {
			header = c.header.Put(l.payload, p.Marker, seq, p.Timestamp, ssrc, l.levelExt, p.Level)
		}
		index := s.index - uint64(uint16(s.index)-seq)
		datagram := l.sealer.SealRTP(out.Next(), header, payload, index)
		out.Put(datagram, &l.path)
		c.cfg.Count.PacketsOut++
		c.cfg.Count.ResentOut++
		c.cfg.Count.BytesOut += uint64(len(datagram))
		return
	}
}

// AppendReport appends the compound that is due to m: a sender report for each
// slot that sent something since the last, with what we received from m in the
// first, and the descriptions. It is empty when there is nothing to say.
func (c *Call) AppendReport(now time.Duration, m *Member, dst []byte) []byte {
	var about *rtcpwire.Block
	if b, ok := m.reception.Block(now, uint32(m.Media.MicSSRC)); ok {
		about = &b
		expected, lost := m.reception.Interval()
		m.ear.Up.Add(now, expected, lost)
	}
	var slots []slot
	if m.listener >= 0 {
		slots = c.listeners[m.listener].slots
	}
	ntp := rtcpwire.NTP(c.cfg.Epoch.Add(now))
	var reported [reportedSlots]uint32
	n := 0
	for i := range slots {
		s := &slots[i]
		if s.packets == s.reported || n == reportedSlots {
			continue
		}
		s.reported = s.packets
		ts := s.last + uint32(ticks(now-s.sentAt))
		dst = rtcpwire.AppendSenderReport(dst, s.ssrc, ntp, ts, s.packets, s.octets, about)
		about = nil
		reported[n] = s.ssrc
		n++
	}
	if n == 0 {
		if about == nil {
			return dst
		}
		// Who only listens to nobody reports under its first slot, or under the
		// SSRC we gave the session.
		reported[0], n = uint32(m.SSRC), 1
		if len(slots) > 0 {
			reported[0] = slots[0].ssrc
		}
		dst = rtcpwire.AppendReceiverReport(dst, reported[0], about)
	}
	for _, ssrc := range reported[:n] {
		dst = rtcpwire.AppendDescription(dst, ssrc, rtcpwire.CNAME)
	}
	return dst
}
