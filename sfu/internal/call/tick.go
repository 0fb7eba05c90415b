package call

import (
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
)

const (
	// TickEvery is how often Tick wants to be called.
	TickEvery = 20 * time.Millisecond
	// tellEvery bounds how often a member's Speaking changes: what is shorter
	// is not told.
	tellEvery = 200 * time.Millisecond
)

// wake has Tick look at a member until it is silent and all is told.
func (c *Call) wake(m *Member) {
	if !m.awake {
		m.awake = true
		c.awake = append(c.awake, m)
	}
}

// Tick does what the passing of time alone brings about.
func (c *Call) Tick(now time.Duration, out *egress.Batch) {
	still := c.awake[:0]
	for _, m := range c.awake {
		was := m.gate.Open()
		m.gate.Lapse(now)
		if was && !m.gate.Open() {
			m.silent = now
		}
		if m.gate.Overdue(now) && m.position != none {
			c.fade(now, m, m.last+rtpwire.SilenceTicks, out)
		}
		c.announce(now, m, false)
		if m.gate.Open() || m.gate.Fading() || m.announced {
			still = append(still, m)
		} else {
			m.awake = false
		}
	}
	clear(c.awake[len(still):])
	c.awake = still
	c.reviewSlots(now)
}

// announce tells whether a member speaks, if that changed and was not told a
// moment ago, or at the end.
func (c *Call) announce(now time.Duration, m *Member, end bool) {
	open := m.gate.Open()
	if m.away { // its own node tells
		return
	}
	if open == m.announced || !end && now-m.told < tellEvery {
		return
	}
	m.announced, m.told = open, now
	c.cfg.Facts.Speaking(sfu.Speaking{
		Call: c.cfg.ID, Session: m.Session, User: m.User, SSRC: m.SSRC, Speaking: open,
	})
}
