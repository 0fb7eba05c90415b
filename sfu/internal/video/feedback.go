package video

import (
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtcpwire"
	"voicefleet/sfu/internal/vp8wire"
)

const (
	// resendsPerSecond bounds the packets one viewer is sent again: a tenth of nine
	// views of 1 Mbit/s each.
	resendsPerSecond = 100

	// strained is a share of 256: who reports so much lost in strainedReports reports one
	// after the other gets no video for pause, which doubles up to maxPause, unless it
	// goes well for wellAfter.
	strained        = 26
	strainedReports = 3
	pause           = 10 * time.Second
	maxPause        = 160 * time.Second
	wellAfter       = time.Minute
)

// strain is how well video gets to a member.
type strain struct {
	bad   int           // reports of loss, one after the other
	until time.Duration // the pause; 0: none
	pause time.Duration // the next one, if not the first
	ended time.Duration // the last one
}

// reported takes in the share lost in 256ths, and says whether a pause begins.
func (s *strain) reported(now time.Duration, lost uint8) bool {
	if s.until != 0 {
		return false
	}
	if lost < strained {
		s.bad = 0
		return false
	}
	if s.bad++; s.bad < strainedReports {
		return false
	}
	if s.pause == 0 || now-s.ended >= wellAfter {
		s.pause = pause
	}
	s.bad, s.until = 0, now+s.pause
	s.pause = min(2*s.pause, maxPause)
	return true
}

func (s *strain) paused(now time.Duration) bool { return now < s.until }

// ends says whether a pause is over just now.
func (s *strain) ends(now time.Duration) bool {
	if s.until == 0 || now < s.until {
		return false
	}
	s.until, s.ended = 0, now
	return true
}

// Feedback reads an authentic RTCP compound of m: reports of its views, and requests for
// packets and for key frames. What is malformed the core of the voices counts.
func (c *Call) Feedback(now time.Duration, m *Member, compound []byte, out *egress.Batch) {
	for len(compound) > 0 {
		p, rest, ok := rtcpwire.Next(compound)
		if !ok {
			return
		}
		compound = rest
		if ssrc, sent, ok := p.Sent(); ok && ssrc == uint32(m.Media.CameraSSRC) {
			m.camera.reception.Report(now, sent)
		}
		for i := 0; ; i++ {
			b, ok := p.Block(i)
			if !ok {
				break
			}
			if v := m.view(b.SSRC); v != nil && v.packets > 0 && m.strain.reported(now, b.Fraction) {
				c.paused++
				c.empty(m, sfu.UnseenLoss)
			}
		}
		for i := 0; ; i++ {
			ssrc, ok := p.KeyFrame(i)
			if !ok {
				break
			}
			if v := m.view(ssrc); v != nil && v.holder != none {
				c.stands[v.holder].camera.key = true
			}
		}
		for i := 0; ; i++ {
			ssrc, seq, mask, ok := p.Missing(i)
			if !ok {
				break
			}
			v := m.view(ssrc)
			if v == nil {
				continue
			}
			c.resend(now, m, v, seq, out)
			for ; mask != 0; mask >>= 1 {
				seq++
				if mask&1 != 0 {
					c.resend(now, m, v, seq, out)
				}
			}
		}
	}
}

// view is the one with an SSRC, or nil.
func (m *Member) view(ssrc uint32) *view {
	for i := range m.views {
		if m.views[i].ssrc == ssrc {
			return &m.views[i]
		}
	}
	return nil
}

// resend sends a packet again, byte for byte, if it is still there.
func (c *Call) resend(now time.Duration, m *Member, v *view, seq uint16, out *egress.Batch) {
	if now-m.resent >= time.Second {
		m.resends, m.resent = 0, now
	}
	if v.holder == none || v.waits || m.limited || m.path.Len == 0 || m.resends >= resendsPerSecond {
		return
	}
	of := c.stands[v.holder]
	to := v.index - 1 - uint64(uint16(v.index-1)-seq)
	index := to - v.offset
	if of.camera.kept == nil || index < v.from {
		return
	}
	p := &of.camera.kept[index%keptPackets]
	if p.index != index+1 {
		return
	}
	payload := p.bytes[:p.length]
	var d vp8wire.Descriptor
	if p.length > 0 {
		d, _ = vp8wire.Read(payload) // as it was when it came
	}
	m.resends++
	c.header.PutShared(uint32(of.SSRC))
	c.cfg.Count.PacketsOut++
	c.cfg.Count.ResentOut++
	c.cfg.Count.BytesOut += c.send(m, v, &d, p.ts, p.marker, to, payload, out)
	if p.length > 0 {
		d.Put(payload, d.Picture, d.Base) // as it came, for the next who asks
	}
}

// AppendReport appends what is due to m every second: a sender report for each view that
// was used since the last, and what came of its camera. It is empty when there is
// nothing to say.
func (c *Call) AppendReport(now time.Duration, m *Member, dst []byte) []byte {
	ntp := rtcpwire.NTP(c.cfg.Epoch.Add(now))
	said := false
	for i := range m.views {
		v := &m.views[i]
		if v.packets == v.reported {
			continue
		}
		v.reported = v.packets
		dst = rtcpwire.AppendSenderReport(dst, v.ssrc, ntp, v.ts+uint32(ticks(now-v.at)), v.packets, v.octets, nil)
		said = true
	}
	from := c.source(m)
	if m.stand != none {
		if b, ok := m.camera.reception.Block(now, uint32(m.Media.CameraSSRC)); ok {
			dst = rtcpwire.AppendReceiverReport(dst, from, &b)
			said = true
		}
	}
	if said {
		dst = rtcpwire.AppendDescription(dst, from, rtcpwire.CNAME)
	}
	return dst
}
