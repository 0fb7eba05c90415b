package custody

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// mendWait is how long a user who was to be seated anew is left alone if that
	// did not help; it doubles up to mendWaitMax, after which it is forgotten: who
	// cannot be helped must not be disturbed all the time.
	mendWait    = 15 * time.Second
	mendWaitMax = 10 * time.Minute
)

// mend is what was done for a user who did not hear.
type mend struct {
	times int
	last  time.Time
}

// due is when it may be done again.
func (m *mend) due() time.Time { return m.last.Add(min(mendWait<<min(m.times-1, 16), mendWaitMax)) }

// hears notes what the engine finds out about a session's hearing.
func (c *Core) hears(now time.Time, d *sfu.Deaf, out []Out) []Out {
	s := c.sessions[d.Session]
	switch {
	case s == nil:
		return out
	case d.Hears:
		delete(c.deaf, d.Session)
		return out
	}
	c.deaf[d.Session] = s
	return c.mendIfDue(now, s, out)
}

// mendIfDue asks the guild for a new seat for a session that hears nothing.
func (c *Core) mendIfDue(now time.Time, s *session, out []Out) []Out {
	at := seat{s.record.Call, s.record.User}
	m := c.mends[at]
	switch {
	case m == nil:
		m = &mend{}
		c.mends[at] = m
	case now.Before(m.due()):
		return out
	}
	m.times, m.last = m.times+1, now
	return c.event(s.record.Call, edgeagent.CallEvent{Deaf: &edgeagent.Deaf{Session: s.record.Session, User: s.record.User}}, out)
}

// mendAll does it for those whose turn has come again.
func (c *Core) mendAll(now time.Time, out []Out) []Out {
	if len(c.deaf) > 0 {
		for _, s := range c.inOrder() {
			if c.deaf[s.record.Session] != nil {
				out = c.mendIfDue(now, s, out)
			}
		}
	}
	for at, m := range c.mends {
		if now.Sub(m.last) > mendWaitMax {
			delete(c.mends, at)
		}
	}
	return out
}
