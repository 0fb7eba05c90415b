package session

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

// handleEvent takes a fact about the call. Until the node has answered with the
// roster, facts wait; those older than the roster are applied to it again, which
// changes nothing in the end.
func (s *Session) handleEvent(now time.Time, ev edgeagent.CallEvent, out *Out) {
	if ev.Node == s.record.Node {
		s.epoch = max(s.epoch, ev.Epoch) // the call was placed anew, and is there still
	}
	switch {
	case s.phase < phaseReady || s.resync:
		if len(s.pending) == maxPending {
			s.lost = true
			return
		}
		s.pending = append(s.pending, ev)
	case ev.Node != s.record.Node && (ev.Epoch == 0 || ev.Epoch != s.epoch):
		// Of a call that is being moved: who leaves there may be here by now. A
		// node with our epoch shares the call.
	case ev.Joined != nil:
		s.joined(ev.Node, *ev.Joined, out)
	case ev.Speaking != nil:
		if was, ok := s.roster[ev.Speaking.User]; ok && was.Node == ev.Node {
			s.joined(ev.Node, *ev.Speaking, out)
		}
	case ev.Left != nil:
		s.left(now, ev.Node, *ev.Left, out)
	case ev.Seated != nil:
		if ev.Seated.Session == s.record.Session {
			s.seated(ev.Seated.Seat, out)
		}
	case ev.Viewed != nil:
		if ev.Viewed.Session == s.record.Session {
			s.viewed(ev.Viewed.View, out)
		}
	}
}

// joined adds a member on a node, or notes what changed about one.
func (s *Session) joined(node edgeagent.NodeID, m edgeagent.Member, out *Out) {
	if m.User == s.record.User {
		return
	}
	if m.Node == "" {
		m.Node = node
	}
	was, known := s.roster[m.User]
	s.roster[m.User] = m
	if !known && s.muteRest {
		s.sinks = true
		s.update(out)
	}
	if s.phase != phaseLive {
		return // the state follows the description
	}
	if !known {
		s.send(out, signaling.OpClientsConnect, signaling.ClientsConnect{Users: []sfu.UserID{m.User}})
	}
	if was != m {
		s.speaking(m, out)
	}
}

func (s *Session) left(now time.Time, node edgeagent.NodeID, l edgeagent.Left, out *Out) {
	switch {
	case l.Session == s.record.Session:
		s.end(now, out, codeOfEnd(l.Reason))
	case s.roster[l.User].Node != node:
		// The user is on another node of the call by now.
	case l.Reason == edgeagent.Superseded:
		// The user is still there, with a session whose Joined may have come
		// before this.
	default:
		s.remove(l.User, out)
	}
}

func (s *Session) remove(user sfu.UserID, out *Out) {
	if _, known := s.roster[user]; !known {
		return
	}
	delete(s.roster, user)
	for slot, seat := range s.seats {
		if seat.User == user {
			delete(s.seats, slot)
		}
	}
	for view, v := range s.views {
		if v.User == user {
			delete(s.views, view)
		}
	}
	if s.phase == phaseLive {
		s.send(out, signaling.OpDisconnect, signaling.Disconnect{User: user})
	}
}

func (s *Session) seated(seat edgeagent.Seat, out *Out) {
	if s.seats[seat.Slot] == seat {
		return
	}
	if seat.User.ID == 0 {
		delete(s.seats, seat.Slot)
	} else {
		s.seats[seat.Slot] = seat
	}
	if s.phase == phaseLive {
		s.send(out, signaling.OpSlots, signaling.Slots{Slots: []signaling.Seat{signaling.Seat(seat)}})
	}
}

func (s *Session) viewed(v edgeagent.View, out *Out) {
	if s.views[v.View] == v {
		return
	}
	if v.User.ID == 0 {
		delete(s.views, v.View)
	} else {
		s.views[v.View] = v
	}
	if s.phase == phaseLive {
		s.send(out, signaling.OpViews, signaling.Views{Views: []signaling.View{signaling.View(v)}})
	}
}

// codeOfEnd is the close code of a session that its node ended.
func codeOfEnd(reason string) signaling.CloseCode {
	switch reason {
	case string(sfu.EndPanic), edgeagent.NodeGone:
		return signaling.CloseCrashed
	case string(sfu.EndConsent), string(sfu.EndHandshake):
		return signaling.CloseSessionInvalid
	case string(sfu.EndIdle):
		return signaling.CloseTimeout
	}
	return signaling.CloseDisconnected
}

// adopt makes the roster what the node says it is, telling the client the
// difference.
func (s *Session) adopt(r *edgeagent.SessionReply, out *Out) {
	present := make(map[sfu.UserID]bool, len(r.Roster))
	for _, m := range r.Roster {
		present[m.User] = true
		s.joined(s.record.Node, m, out)
	}
	for _, user := range s.users() {
		if !present[user] {
			s.remove(user, out)
		}
	}
	for _, seat := range r.Slots {
		s.seated(seat, out)
	}
	for _, v := range r.Views {
		s.viewed(v, out)
	}
}

// catchUp asks the node for the roster after events were dropped.
func (s *Session) catchUp(out *Out) {
	if !s.lost || s.resync || !s.retryAt.IsZero() || s.phase < phaseReady || s.phase == phaseOver {
		return
	}
	s.lost, s.resync = false, true
	out.Calls = append(out.Calls, Call{Node: s.record.Node, Resume: &edgeagent.ResumeRequest{Token: s.token}})
}
