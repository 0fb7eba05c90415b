package call

import (
	"time"

	"voicefleet/sfu/internal/ear"
	"voicefleet/sfu/internal/rtcpwire"
)

const (
	// stampEvery is how often a packet to a listener asks for transport-wide
	// feedback: two or three answers a second say that it hears.
	stampEvery = 400 * time.Millisecond
	// stuckPackets and stuckWithin are how many packets beyond the highest that a
	// report names must have been sent, the last of them when, for a report
	// without progress to mean something: 1 s of 20 ms.
	stuckPackets = 50
	stuckWithin  = 2 * time.Second
	// freshRequest bounds how far back a packet asked for again may lie to count
	// as evidence.
	freshRequest = 1 << 10
)

// reported takes in a listener's report about one of its slots.
func (c *Call) reported(now time.Duration, m *Member, b *rtcpwire.Block) {
	s := c.slotOf(m, b.SSRC)
	if s == nil || s.packets == 0 {
		return
	}
	progress, expected, lost := s.heard.Read(b.Highest, b.Lost, s.index, s.packets)
	if progress == ear.Nonsense || progress == ear.Nothing {
		return
	}
	if s.told != 0 {
		m.ear.Reported(now - s.told)
	}
	s.told = now
	if progress == ear.Grew {
		m.ear.Heard(ear.Report)
		m.ear.Down.Add(now, expected, lost)
		c.cfg.Count.ReportedExpected += uint64(expected)
		c.cfg.Count.ReportedLost += uint64(lost)
		return
	}
	if now-s.sentAt <= stuckWithin && uint16(s.index)-1-uint16(b.Highest) >= stuckPackets {
		m.ear.Stuck()
	}
}

// arrived takes in transport-wide feedback.
func (c *Call) arrived(m *Member, p *rtcpwire.Packet) {
	if m.listener < 0 {
		return
	}
	l := &c.listeners[m.listener]
	_, behind, any, ok := p.Arrived()
	// About packets that were sent, and later ones than the feedback before.
	if ok && any && l.stampExt != 0 && l.stamp-behind < 1<<15 && behind-l.arrived-1 < 1<<15 {
		l.arrived = behind
		m.ear.Heard(ear.Feedback)
	}
}

// requested takes in that a listener misses packets up to seq. It repeats that
// for as long as it misses them; that it misses a later one says that one later
// still came.
func (c *Call) requested(m *Member, ssrc uint32, seq uint16) {
	s := c.slotOf(m, ssrc)
	if s != nil && uint16(s.index)-1-seq < freshRequest && seq-s.missing-1 < 1<<15 {
		s.missing = seq
		m.ear.Heard(ear.Request)
	}
}

func (c *Call) slotOf(m *Member, ssrc uint32) *slot {
	if m.listener < 0 {
		return nil
	}
	slots := c.listeners[m.listener].slots
	for i := range slots {
		if slots[i].ssrc == ssrc {
			return &slots[i]
		}
	}
	return nil
}

// Say takes in the client's own word on whether it hears.
func (c *Call) Say(m *Member, hears bool) { m.ear.Say(hears) }

// Listen looks, every second, whether m hears what is sent to it; own is when
// anything authentic came from its client last.
func (c *Call) Listen(now time.Duration, m *Member, own time.Duration) ear.Verdict {
	if m.listener < 0 {
		return ear.Same
	}
	l := &c.listeners[m.listener]
	verdict := m.ear.Tick(now, l.recent, own)
	l.recent = 0
	l.stampEvery = stampEvery
	if m.ear.Late() {
		l.stampEvery, l.stampAt = 0, 0
	}
	return verdict
}

// Ear is what is known of m's hearing.
func (m *Member) Ear() *ear.Ear { return &m.ear }
