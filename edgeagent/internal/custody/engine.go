package custody

import (
	"fmt"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Event takes in what the engine says.
func (c *Core) Event(now time.Time, ev sfu.Event, out []Out) []Out {
	c.lastHeard = now
	if ev.Seq != 0 {
		return c.answered(now, ev, out)
	}
	switch {
	case ev.Held != nil:
		c.held(now, ev.Held)
	case ev.Relaying != nil:
		out = c.relaying(now, ev.Relaying, out)
	case ev.Connected != nil:
		if s := c.sessions[ev.Connected.Session]; s != nil {
			s.record.Connected = true
		}
	case ev.Ended != nil:
		if s := c.sessions[ev.Ended.Session]; s != nil {
			out = c.remove(now, s, string(ev.Ended.Reason), out)
			if ev.Ended.Reason == sfu.EndPanic && len(c.calls[s.record.Call].members) == 0 {
				out = c.blame(now, s.record.Call, suspicion{panics: 1}, out) // once for all its members
			}
		}
	case ev.Speaking != nil:
		if s := c.sessions[ev.Speaking.Session]; s != nil {
			out = c.setSpeaking(s, ev.Speaking.Speaking, out)
		}
	case ev.Placed != nil:
		out = c.placed(*ev.Placed, out)
	case ev.Viewing != nil:
		out = c.viewing(*ev.Viewing, out)
	case ev.Deaf != nil:
		out = c.hears(now, ev.Deaf, out)
	case ev.Fenced != nil:
		out = c.fenced(ev.Fenced, out)
	case ev.Snapshot != nil:
		if s := c.sessions[ev.Snapshot.Open.Session]; s != nil {
			s.snapshot = ev.Snapshot
		}
	}
	return out
}

func (c *Core) placed(p sfu.Placed, out []Out) []Out {
	s := c.sessions[p.Session]
	if s == nil || p.Slot < 0 || p.Slot >= sfu.MaxSlots {
		return out
	}
	seated := edgeagent.Seat{Slot: p.Slot, MID: p.MID, User: p.User, SSRC: p.SSRC}
	s.seats[p.Slot] = seated
	return c.event(s.record.Call, edgeagent.CallEvent{Seated: &edgeagent.Seated{Session: p.Session, Seat: seated}}, out)
}

func (c *Core) viewing(f sfu.Viewing, out []Out) []Out {
	s := c.sessions[f.Session]
	if s == nil || f.View < 0 || f.View >= sfu.MaxViews {
		return out
	}
	v := edgeagent.View{View: f.View, MID: f.MID, User: f.User, SSRC: f.SSRC, Why: f.Why}
	if f.User.ID == 0 {
		delete(s.views, f.View)
	} else {
		s.views[f.View] = v
	}
	return c.event(s.record.Call, edgeagent.CallEvent{Viewed: &edgeagent.Viewed{Session: f.Session, View: v}}, out)
}

// answered takes in the answer to a command.
func (c *Core) answered(now time.Time, ev sfu.Event, out []Out) []Out {
	p, ok := c.pending[ev.Seq]
	if !ok {
		return out
	}
	delete(c.pending, ev.Seq)
	switch p.kind {
	case kindStart:
		return c.started(now, ev, out)
	case kindAdopt:
		return c.adopted(now, ev, out)
	case kindOpen:
		return c.opened(now, p, ev, out)
	case kindRestore:
		return c.restored(now, p, ev, out)
	case kindRelay:
		return c.relayed(p, ev, out)
	case kindNegotiate:
		return c.negotiated(p, ev, out)
	case kindClose:
		if ev.Err != nil && ev.Err.Code == sfu.CodeNoSession {
			ev.Err = nil // it ended by itself meanwhile
		}
	}
	if p.id == 0 {
		return out
	}
	r := &Reply{ID: p.id}
	if ev.Err != nil {
		r.Err = ev.Err
	}
	return append(out, Out{Reply: r})
}

func (c *Core) started(now time.Time, ev sfu.Event, out []Out) []Out {
	switch {
	case ev.Err != nil:
		return append(out, Out{Bad: fmt.Errorf("start media engine: %w", ev.Err)})
	case ev.Started == nil:
		return append(out, Out{Bad: fmt.Errorf("start media engine: it does not say that it has")})
	}
	c.engine, c.known, c.ports = engineUp, true, ev.Started.Ports
	if c.crashed {
		for _, call := range ev.Started.Blamed {
			out = c.blame(now, call, suspicion{deaths: 1}, out)
		}
	}
	for _, s := range c.inOrder() { // all are lost
		snap := *s.snapshot
		snap.Open.Rights = s.record.Rights
		out = c.send(pending{kind: kindRestore, asked: now, session: s.record.Session}, sfu.Command{Restore: &snap}, out)
	}
	if c.draining {
		out = c.remember(out)
	}
	return c.resumeRelays(now, out)
}

func (c *Core) opened(now time.Time, p pending, ev sfu.Event, out []Out) []Out {
	if ev.Err != nil || ev.Opened == nil {
		if p.id != 0 {
			var err error = ev.Err
			if ev.Err == nil {
				err = refuse(edgeagent.CodeUnavailable, "media engine opened nothing")
			}
			out = append(out, replyErr(p.id, err))
		}
		return out
	}
	s := p.open
	if p.id == 0 { // the asker has been told that it failed
		return c.send(pending{kind: kindClose, asked: now, session: p.session}, sfu.Command{Close: &sfu.Close{Session: p.session}}, out)
	}
	s.record.SSRC, s.record.Addrs, s.record.Port = ev.Opened.SSRC, ev.Opened.Addrs, ev.Opened.Port
	at := seat{s.record.Call, s.record.User}
	if older := c.users[at]; older != nil {
		out = c.end(now, older, edgeagent.Superseded, 0, out)
	}
	k := c.calls[s.record.Call]
	k.members = append(k.members, s)
	c.sessions[s.record.Session], c.users[at], c.tokens[s.token] = s, s, s
	out = append(out, s.door())
	out = c.event(s.record.Call, edgeagent.CallEvent{Opened: &edgeagent.SessionStart{Session: s.record.Session, User: s.record.User}}, out)
	out = c.event(s.record.Call, edgeagent.CallEvent{Joined: s.member()}, out)
	out = c.resumeRelay(now, s.record.Call, out)
	return append(out, Out{Reply: &Reply{ID: p.id, Session: c.describe(s)}})
}

func (c *Core) negotiated(p pending, ev sfu.Event, out []Out) []Out {
	if s := c.sessions[p.session]; s != nil && ev.Err == nil {
		s.record.Negotiated = true
		if ev.Negotiated != nil && ev.Negotiated.Ufrag != "" {
			s.ufrag = ev.Negotiated.Ufrag
			out = append(out, s.door())
		}
	}
	if p.id == 0 {
		return out
	}
	switch {
	case ev.Err != nil:
		return append(out, replyErr(p.id, ev.Err))
	case ev.Negotiated == nil:
		return append(out, replyErr(p.id, refuse(edgeagent.CodeUnavailable, "media engine answered nothing")))
	}
	return append(out, Out{Reply: &Reply{ID: p.id, Negotiated: &edgeagent.NegotiateReply{Answer: ev.Negotiated.Answer, Slots: ev.Negotiated.Slots, Views: ev.Negotiated.Views}}})
}

// restored goes on with a session in the new engine; its own wishes are not in
// the snapshot.
func (c *Core) restored(now time.Time, p pending, ev sfu.Event, out []Out) []Out {
	s := c.sessions[p.session]
	switch {
	case s == nil && ev.Err == nil: // it was closed meanwhile
		return c.send(pending{kind: kindClose, asked: now, session: p.session}, sfu.Command{Close: &sfu.Close{Session: p.session}}, out)
	case s == nil:
		return out
	case ev.Err != nil:
		return c.remove(now, s, edgeagent.EngineLost, out)
	}
	s.lost = false
	rights := s.record.Rights // may have changed since Restore was sent
	return c.send(pending{kind: kindUpdate, asked: now, session: p.session},
		sfu.Command{Update: &sfu.Update{Session: p.session, Rights: &rights, SelfDeaf: s.selfDeaf, Muted: s.muted}}, out)
}
