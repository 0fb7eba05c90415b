package call

import (
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/cache"
	"voicefleet/sfu/internal/stage"
)

// enter finds a position for an audible speaker without one.
func (c *Call) enter(now time.Duration, m *Member) {
	if now < m.ask {
		return
	}
	m.ask = now + stage.AskStage
	seats := c.seats[:len(c.positions)]
	for p := range c.positions {
		seats[p] = seatOf(c.positions[p].m, c.positions[p].since)
	}
	p := stage.Choose(now, m.loud, seats)
	if p < 0 {
		return
	}
	if old := c.positions[p].m; old != nil {
		c.vacate(old)
	}
	c.positions[p].m, c.positions[p].since = m, now
	m.position = uint8(p)
}

func seatOf(m *Member, since time.Duration) stage.Seat {
	if m == nil {
		return stage.Seat{}
	}
	return stage.Seat{Taken: true, Audible: m.gate.Open(), Silent: m.silent, Since: since, Loud: m.loud}
}

// vacate takes a speaker off the stage and out of all slots.
func (c *Call) vacate(m *Member) {
	for i := range c.listeners {
		c.listeners[i].free(m.position)
	}
	c.positions[m.position].m = nil
	m.position = none
}

// free ends what a listener hears of a position.
func (l *listener) free(position uint8) {
	if k := l.place[position]; k != none {
		l.slots[k].holder = none
		l.place[position] = none
	}
}

// seatAll finds a slot for a speaker on stage at every listener that has none
// for it yet.
func (c *Call) seatAll(now time.Duration, m *Member) {
	for i := range c.listeners {
		if l := &c.listeners[i]; l.place[m.position] == none {
			c.seat(now, l, m)
		}
	}
}

// hears says whether a listener may hear a speaker at all.
func (c *Call) hears(l *listener, m *Member) bool {
	if c.cfg.Echo {
		return l.member == m
	}
	if l.member == m || l.member.User == m.User {
		return false // a user on a second device would hear itself, too
	}
	_, muted := l.muted[m.User]
	return !muted
}

// seat finds a slot of one listener for a speaker on stage.
func (c *Call) seat(now time.Duration, l *listener, m *Member) {
	if l.place[m.position] != none || !c.hears(l, m) {
		return
	}
	k := -1
	seats := c.seats[:len(l.slots)]
	for i := range l.slots {
		s := &l.slots[i]
		if s.holder == none {
			seats[i] = stage.Seat{}
			if s.speaker == m.SSRC {
				k = i // it was here last
				break
			}
			continue
		}
		seats[i] = seatOf(c.positions[s.holder].m, s.since)
	}
	if k < 0 {
		k = stage.Choose(now, m.loud, seats)
	}
	if k < 0 {
		c.crowded, c.misses = true, true
		return
	}
	s := &l.slots[k]
	if s.holder != none {
		l.place[s.holder] = none
		if c.positions[s.holder].m.gate.Open() { // it will ask for another
			c.crowded, c.misses = true, true
		}
	}
	s.holder, s.since, s.fresh = m.position, now, true
	l.place[m.position] = uint8(k)
	if l.nack && s.sent == nil {
		s.sent = new(cache.Sent)
	}
	if s.speaker != m.SSRC {
		s.speaker = m.SSRC
		c.cfg.Facts.Placed(sfu.Placed{
			Call: c.cfg.ID, Session: l.member.Session, Slot: k, MID: l.member.Media.Slots[k].MID,
			User: m.User, SSRC: m.SSRC,
		})
	}
}

// reviewSlots lets audible speakers ask again for the slots they did not get, at
// a share of the listeners per tick, so that all are asked every stage.AskSlot.
func (c *Call) reviewSlots(now time.Duration) {
	if !c.crowded || c.review == 0 && now < c.reviewed+stage.AskSlot {
		return
	}
	if c.review == 0 {
		c.reviewed = now
	}
	share := (len(c.listeners)*int(TickEvery) + int(stage.AskSlot) - 1) / int(stage.AskSlot)
	for ; share > 0 && c.review < len(c.listeners); share-- {
		l := &c.listeners[c.review]
		for p := range c.positions {
			if m := c.positions[p].m; m != nil && m.gate.Open() {
				c.seat(now, l, m)
			}
		}
		c.review++
	}
	if c.review >= len(c.listeners) {
		c.crowded, c.review, c.misses = c.misses, 0, false
	}
}
