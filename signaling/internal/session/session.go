package session

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

const (
	// maxPending bounds the call events kept while the node opens a session.
	maxPending = 1024
	// updateTries is how often an Update that the node did not answer is made in a
	// row, updateRetry how long after the last try. After that only mutes are told
	// again, every updateLater.
	updateTries = 4
	updateRetry = time.Second
	updateLater = 5 * time.Second
	// maxSilent is the longest silence that is told; more says nothing more.
	maxSilent = time.Minute
)

type phase uint8

const (
	phaseHello       phase = iota // nothing proved yet
	phaseOpening                  // Open is under way
	phaseTaking                   // asked the instance for the session
	phaseResuming                 // Resume is under way
	phaseReady                    // open; no transport chosen
	phaseNegotiating              // the node answers the offer
	phaseLive                     // described, and the state was sent
	phaseOver
)

// Session is one voice session, or a connection on its way to one. Not safe for
// concurrent use.
type Session struct {
	settings Settings

	// The connection.
	attached   bool
	version    signaling.Version
	rate       rate
	identifyBy time.Time // zero: proved
	beatBy     time.Time

	// The session.
	phase    phase
	grant    edgeagent.Grant
	token    string
	resumed  uint64 // last number seen, of a resume under way
	record   edgeagent.Record
	epoch    uint64                  // of the call on its node
	relay    []edgeagent.RelayServer // of the node, for Ready
	offered  bool                    // an offer was taken since the session came to this instance
	leaving  bool                    // the client closed while the node opens the session
	forgetAt time.Time
	replay   replay

	// The call, without the session itself.
	roster  map[sfu.UserID]edgeagent.Member
	seats   map[int]edgeagent.Seat
	views   map[int]edgeagent.View
	pending []edgeagent.CallEvent
	lost    bool // pending overflowed
	resync  bool // a Resume for the roster's sake is under way

	// What the client wants of the node.
	mutedUsers map[sfu.UserID]bool // wanted or not by name
	muteRest   bool
	flags      *int
	sinks      bool // mutes are to be told
	sinking    bool // the update under way tells them
	updating   bool
	tries      int
	retryAt    time.Time
	later      bool // retryAt is so far away that what is wished anew does not wait for it

	reportAfter time.Time // what is reported before is not read
	received    uint64    // as last reported; grewAt is when that grew last
	grewAt      time.Time
	reportedAt  time.Time // when the last report came
	freshFrom   time.Time // what comes before tells of the past
	hears       *bool     // to be told to the node
	hearsToldAt time.Time // when it was told last
	saidDeaf    bool      // the last word was that nothing came
	grewSince   bool      // since then it grew

	// For metrics.
	identifiedAt, selectedAt time.Time
}

// New begins a connection of the given version; Hello goes out.
func New(now time.Time, version signaling.Version, settings Settings, out *Out) *Session {
	s := &Session{
		settings: settings, attached: true, version: version,
		identifyBy: now.Add(signaling.IdentifyTimeout),
		roster:     make(map[sfu.UserID]edgeagent.Member),
		seats:      make(map[int]edgeagent.Seat),
		views:      make(map[int]edgeagent.View),
		mutedUsers: make(map[sfu.UserID]bool),
	}
	s.beat(now)
	s.send(out, signaling.OpHello, signaling.Hello{Version: version, Interval: settings.Heartbeat.Milliseconds()})
	return s
}

// Attached says whether the session has a connection.
func (s *Session) Attached() bool { return s.attached }

// Next is when Tick wants to be called; zero: never.
func (s *Session) Next() time.Time {
	var next time.Time
	for _, t := range []time.Time{s.identifyBy, s.beatBy, s.forgetAt, s.retryAt} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// Tick lets time pass.
func (s *Session) Tick(now time.Time, out *Out) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case s.phase == phaseOver:
	case s.attached && due(s.identifyBy), s.attached && due(s.beatBy):
		s.close(now, out, signaling.CloseTimeout)
	case due(s.forgetAt):
		s.over(out)
	case due(s.retryAt):
		s.retryAt = time.Time{}
		s.update(out)
		s.catchUp(out)
	}
}

// Handle takes one input.
func (s *Session) Handle(now time.Time, in In, out *Out) {
	if s.phase == phaseOver {
		return
	}
	switch {
	case in.Frame != nil:
		s.handleFrame(now, in.Frame, out)
	case in.Binary:
		if s.allow(now, out) {
			s.close(now, out, signaling.CloseDecode) // binary frames are of DAVE, which is off
		}
	case in.Ping:
		out.Pong = s.allow(now, out)
	case in.Gone != nil:
		s.handleGone(now, in.Gone.Clean, out)
	case in.Attach != nil:
		s.handleAttach(now, *in.Attach, out)
	case in.NotHeld:
		s.handleNotHeld(out)
	case in.Session != nil:
		s.handleSession(now, in.Session, out)
	case in.Negotiated != nil:
		s.handleNegotiated(now, in.Negotiated, out)
	case in.Updated != nil:
		s.handleUpdated(now, in.Updated.Err, out)
	case in.Event != nil:
		s.handleEvent(now, *in.Event, out)
	case in.Lost:
		s.lost = true
		s.catchUp(out)
	case in.Shutdown:
		s.close(now, out, signaling.CloseCrashed)
		s.over(out)
	}
}

func (s *Session) allow(now time.Time, out *Out) bool {
	if !s.attached {
		return false
	}
	if !s.rate.allow(now) {
		s.close(now, out, signaling.CloseRateLimited)
		return false
	}
	return true
}

// handleFrame takes what the client says.
func (s *Session) handleFrame(now time.Time, frame []byte, out *Out) {
	if !s.allow(now, out) {
		return
	}
	m, err := signaling.ReadMessage(frame)
	if err != nil {
		s.close(now, out, signaling.CloseDecode)
		return
	}
	out.Op, out.GotOp = m.Op, true
	switch m.Op {
	case signaling.OpIdentify, signaling.OpResume:
		if s.phase != phaseHello {
			s.close(now, out, signaling.CloseAlreadyIdentified)
			return
		}
	case signaling.OpHeartbeat: // Hello invites it, so it may come first
	default:
		if m.Op.String() == "unknown" {
			s.close(now, out, signaling.CloseUnknownOp)
			return
		}
		if s.phase < phaseReady {
			s.close(now, out, signaling.CloseNotAuthenticated)
			return
		}
	}
	switch m.Op {
	case signaling.OpIdentify:
		err = s.handleIdentify(now, m, out)
	case signaling.OpResume:
		err = s.handleResume(now, m, out)
	case signaling.OpHeartbeat:
		err = s.handleHeartbeat(now, m, out)
	case signaling.OpSelectProtocol:
		err = s.handleSelect(now, m, out)
	case signaling.OpSpeaking:
		err = s.handleSpeaking(m, out)
	case signaling.OpSinkWants:
		err = s.handleSinkWants(m, out)
	case signaling.OpReceiveReport:
		err = s.handleReport(now, m, out)
	case signaling.OpVersion:
		s.send(out, signaling.OpVersion, signaling.Backend{Voice: s.settings.Build, Worker: s.settings.Build})
	case signaling.OpVideo, signaling.OpSessionUpdate, signaling.OpNoRoute:
	default: // an op of the server
		s.close(now, out, signaling.CloseUnknownOp)
	}
	if err != nil {
		s.close(now, out, signaling.CloseDecode)
	}
}

func (s *Session) handleIdentify(now time.Time, m signaling.Message, out *Out) error {
	var id signaling.Identify
	if err := m.Payload(&id); err != nil {
		return err
	}
	g, err := edgeagent.ReadGrant(id.Token, s.settings.Keys)
	if err != nil || g.Fresh(now) != nil || g.Guild != id.Server.String() || g.User != id.User ||
		g.Session != id.Session || id.Channel.ID != 0 && id.Channel != g.Call {
		s.close(now, out, signaling.CloseAuthentication)
		return nil
	}
	s.prove(g, id.Token, phaseOpening, out)
	s.identifiedAt = now
	out.Subscribe = g.Call
	out.Calls = append(out.Calls, Call{Node: g.Node, Open: &edgeagent.OpenRequest{Token: id.Token}})
	return nil
}

func (s *Session) handleResume(now time.Time, m signaling.Message, out *Out) error {
	var r signaling.Resume
	if err := m.Payload(&r); err != nil {
		return err
	}
	// Expiry does not count: the session lives, or the node will say no.
	g, err := edgeagent.ReadGrant(r.Token, s.settings.Keys)
	unproved := errors.Is(err, edgeagent.ErrGrantKey)
	if err != nil && !unproved || g.Guild != r.Server.String() || g.Session != r.Session || r.Channel.ID != 0 && r.Channel != g.Call {
		s.close(now, out, signaling.CloseAuthentication)
		return nil
	}
	s.prove(g, r.Token, phaseTaking, out)
	s.resumed = r.Seen()
	if unproved {
		// The key went with the allocator that made it. The node knows by the token
		// itself whom it let in; nothing that is held here is given for a claim.
		out.Authenticated = false
		s.handleNotHeld(out)
		return nil
	}
	out.Take = g.ID
	out.Attach = Attach{Version: s.version, Seen: s.resumed}
	return nil
}

func (s *Session) prove(g edgeagent.Grant, token string, next phase, out *Out) {
	s.grant, s.token, s.phase = g, token, next
	s.identifyBy = time.Time{}
	out.Authenticated = true
}

func (s *Session) handleNotHeld(out *Out) {
	if s.phase != phaseTaking {
		return
	}
	s.phase = phaseResuming
	out.Subscribe = s.grant.Call
	out.Calls = append(out.Calls, Call{Node: s.grant.Node, Resume: &edgeagent.ResumeRequest{Token: s.token}})
}

func (s *Session) handleHeartbeat(now time.Time, m signaling.Message, out *Out) error {
	var h signaling.Heartbeat
	if err := m.Payload(&h); err != nil {
		return err
	}
	s.beat(now)
	if h.SeqAck != nil && *h.SeqAck > 0 {
		s.replay.seen(uint64(*h.SeqAck))
	}
	switch {
	case s.version >= signaling.FirstNumbered:
		s.send(out, signaling.OpHeartbeatAck, signaling.HeartbeatAck{T: h.T})
	case s.version <= 2:
		s.send(out, signaling.OpHeartbeat, h.T)
	default:
		s.send(out, signaling.OpHeartbeatAck, h.T)
	}
	return nil
}

// beat puts the deadline of the next heartbeat 1.75 intervals from now.
func (s *Session) beat(now time.Time) { s.beatBy = now.Add(s.settings.Heartbeat * 7 / 4) }

func (s *Session) handleSelect(now time.Time, m signaling.Message, out *Out) error {
	var sel signaling.Select
	if err := m.Payload(&sel); err != nil {
		return err
	}
	switch {
	case sel.Protocol != signaling.ProtocolWebRTC:
		s.close(now, out, signaling.CloseUnknownProtocol)
	case s.offered:
		s.close(now, out, signaling.CloseRateLimited)
	case s.record.Negotiated: // the answer was lost with another instance
		s.end(now, out, signaling.CloseSessionInvalid)
	case sel.Offer == "":
		return errors.New("no offer")
	default:
		s.offered = true
		s.phase = phaseNegotiating
		s.selectedAt = now
		out.Calls = append(out.Calls, Call{Node: s.record.Node, Negotiate: &edgeagent.NegotiateRequest{Session: s.record.Session, Offer: sel.Offer}})
	}
	return nil
}

func (s *Session) handleSpeaking(m signaling.Message, out *Out) error {
	var sp signaling.Speaking
	if err := m.Payload(&sp); err != nil {
		return err
	}
	flags := int(sp.Flags)
	s.flags = &flags
	s.tries = 0
	s.update(out)
	return nil
}

func (s *Session) handleSinkWants(m signaling.Message, out *Out) error {
	var w signaling.SinkWants
	if err := m.Payload(&w); err != nil {
		return err
	}
	s.muteRest = w.Any == 0
	clear(s.mutedUsers)
	for user, member := range s.roster {
		if want, named := w.Sources[member.SSRC]; named {
			s.mutedUsers[user] = want == 0
		}
	}
	s.sinks = true
	s.tries = 0
	s.update(out)
	return nil
}

// handleReport passes on what reaches the client, at most one word every
// ReportPause: clients may be ahead of time, and what they say is soon old.
func (s *Session) handleReport(now time.Time, m signaling.Message, out *Out) error {
	var r signaling.ReceiveReport
	if err := m.Payload(&r); err != nil {
		return err
	}
	if r.Silent < 0 {
		return fmt.Errorf("silent for %d ms", r.Silent)
	}
	if now.Before(s.reportAfter) {
		return nil
	}
	s.reportAfter = now.Add(signaling.ReportPause)
	s.noteHearing(now, r.Received, out)
	out.Report = &Report{Node: s.record.Node, Session: s.record.Session, Received: r.Received,
		Silent: time.Duration(min(r.Silent, int(maxSilent/time.Millisecond))) * time.Millisecond}
	return nil
}

// lateReport is a pause between reports after which they have been held up, by TCP that
// repeats what was lost: they come all at once, and what they say is soon old, so that
// for as long none is believed that nothing came.
const lateReport = 1500 * time.Millisecond

// hearsEarly is how much sooner than HearsPause a word may go. Reports come every second,
// some a few milliseconds early: to wait for the next one would cost all of a second.
const hearsEarly = 200 * time.Millisecond

// noteHearing tells the node whether media reaches the client: that it does now
// and then, that it does not at once, and then soon that it does again. The node knows
// whether any should.
func (s *Session) noteHearing(now time.Time, received uint64, out *Out) {
	if now.Sub(s.reportedAt) > lateReport {
		s.freshFrom = now.Add(lateReport)
	}
	s.reportedAt = now
	grew := received != s.received
	if grew || s.grewAt.IsZero() {
		s.received, s.grewAt = received, now
		s.grewSince = s.grewSince || grew
	}
	hears := grew || s.saidDeaf && s.grewSince
	pause := edgeagent.HearsPause - hearsEarly
	if hears && !s.saidDeaf {
		pause = edgeagent.HearsKept
	}
	if !hears && (now.Sub(s.grewAt) < time.Second || now.Before(s.freshFrom)) || now.Sub(s.hearsToldAt) < pause {
		return
	}
	s.hears, s.hearsToldAt = &hears, now
	s.saidDeaf, s.grewSince = !hears, false
	s.update(out)
}

// muted lists the users this session does not want to hear.
func (s *Session) muted() []sfu.UserID {
	list := []sfu.UserID{}
	for user, muted := range s.mutedUsers {
		if muted {
			list = append(list, user)
		}
	}
	if s.muteRest {
		for user := range s.roster {
			if _, named := s.mutedUsers[user]; !named {
				list = append(list, user)
			}
		}
	}
	slices.SortFunc(list, func(a, b sfu.UserID) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(len(list), signaling.MaxWants)]
}

// update tells the node what the client wants, one request at a time: what
// changes meanwhile goes with the next one.
func (s *Session) update(out *Out) {
	if s.updating || !s.retryAt.IsZero() && !s.later || s.phase < phaseReady || s.flags == nil && !s.sinks && s.hears == nil {
		return
	}
	u := &edgeagent.UpdateRequest{Session: s.record.Session, Flags: s.flags, Hears: s.hears}
	if s.sinks {
		list := s.muted()
		u.Muted = &list
	}
	s.flags, s.hears, s.sinks, s.sinking, s.updating, s.retryAt, s.later = nil, nil, false, s.sinks, true, time.Time{}, false
	out.Calls = append(out.Calls, Call{Node: s.record.Node, Update: u})
}

func (s *Session) handleUpdated(now time.Time, err error, out *Out) {
	s.updating = false
	if err == nil {
		s.tries = 0
	} else {
		switch edgeagent.CodeOf(err) {
		case edgeagent.CodeNoSession:
			s.end(now, out, signaling.CloseSessionInvalid)
			return
		case edgeagent.CodeUnavailable:
			// The mutes are told again from what is wanted then; flags
			// are not, the engine hears who speaks by itself.
			s.sinks = s.sinks || s.sinking
			if s.tries++; s.tries < updateTries {
				s.retryAt = now.Add(updateRetry)
				return
			}
			if s.sinks {
				s.retryAt, s.later = now.Add(updateLater), true
				return
			}
		}
	}
	s.update(out)
}

// handleGone takes the end of the connection.
func (s *Session) handleGone(now time.Time, clean bool, out *Out) {
	if !s.attached {
		return
	}
	switch {
	case s.phase < phaseOpening || s.phase == phaseTaking || s.phase == phaseResuming:
		s.over(out)
	case clean && s.phase == phaseOpening:
		s.detach(now)
		s.leaving = true
	case clean:
		s.leave(out)
	default:
		s.detach(now)
	}
}

// leave ends the session at its node, because the client said so.
func (s *Session) leave(out *Out) {
	out.Calls = append(out.Calls, Call{Node: s.grant.Node, Close: &edgeagent.CloseRequest{Session: s.grant.ID, Reason: "left"}})
	s.over(out)
}

func (s *Session) detach(now time.Time) {
	s.attached = false
	s.beatBy, s.identifyBy = time.Time{}, time.Time{}
	s.forgetAt = now.Add(signaling.ReplayKept)
}

// close closes the connection. The session, if there is one, stays for a
// resume.
func (s *Session) close(now time.Time, out *Out, code signaling.CloseCode) {
	if s.attached {
		out.Close = code
	}
	if s.phase == phaseOpening || s.phase >= phaseReady {
		s.detach(now)
		return
	}
	s.over(out)
}

// end closes the connection of a session that is no more.
func (s *Session) end(now time.Time, out *Out, code signaling.CloseCode) {
	s.close(now, out, code)
	s.over(out)
}

func (s *Session) over(out *Out) {
	s.attached = false
	s.phase = phaseOver
	s.beatBy, s.identifyBy, s.forgetAt, s.retryAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	out.End = true
}

// handleAttach goes on with the session on a new connection.
func (s *Session) handleAttach(now time.Time, a Attach, out *Out) {
	unnumbered := s.version < signaling.FirstNumbered
	s.attached, s.leaving = true, false
	s.version = a.Version
	s.rate = rate{}
	s.forgetAt = time.Time{}
	s.beat(now)
	s.send(out, signaling.OpResumed, nil)
	if s.phase == phaseLive && a.Seen == 0 || s.version < signaling.FirstNumbered || unnumbered {
		s.state(out)
		return
	}
	missed, all := s.replay.after(a.Seen)
	if !all {
		s.state(out)
		return
	}
	out.Send = append(out.Send, missed...)
}

// handleSession takes the node's answer to Open or Resume.
func (s *Session) handleSession(now time.Time, r *SessionResult, out *Out) {
	switch s.phase {
	case phaseOpening, phaseResuming:
		if r.Err != nil {
			s.refused(now, r.Err, out)
			return
		}
		if s.leaving {
			s.leave(out)
			return
		}
		s.opened(now, &r.Reply, out)
	default:
		if !s.resync {
			return
		}
		s.resync = false
		switch {
		case r.Err == nil:
			s.adopt(&r.Reply, out)
		case edgeagent.CodeOf(r.Err) == edgeagent.CodeNoSession:
			s.end(now, out, signaling.CloseSessionInvalid)
			return
		default:
			s.lost, s.retryAt = true, now.Add(updateRetry)
		}
	}
	pending := s.pending
	s.pending = nil
	for _, ev := range pending {
		if s.phase != phaseOver {
			s.handleEvent(now, ev, out)
		}
	}
	s.catchUp(out)
}

// refused maps the node's refusal to a close code.
func (s *Session) refused(now time.Time, err error, out *Out) {
	opening := s.phase == phaseOpening
	code := signaling.CloseNotFound
	switch c := edgeagent.CodeOf(err); {
	case c == edgeagent.CodeGrant:
		code = signaling.CloseAuthentication
	case !opening && c == edgeagent.CodeNoSession:
		code = signaling.CloseSessionInvalid
	case !opening && c == edgeagent.CodeUnavailable:
		code = signaling.CloseCrashed
	}
	s.end(now, out, code)
}

// opened makes the session usable: Ready for a new one, Resumed and the state
// for one that comes from another instance.
func (s *Session) opened(now time.Time, r *edgeagent.SessionReply, out *Out) {
	resuming := s.phase == phaseResuming
	s.record, s.relay = r.Record, r.Relay
	s.epoch = max(s.epoch, r.Record.Epoch)
	s.phase = phaseReady
	out.Hold = r.Record.Session
	if !resuming {
		s.adopt(r, out)
		s.ready(out)
		out.Took = append(out.Took, Took{StageReady, now.Sub(s.identifiedAt)})
	} else {
		out.Authenticated = true // by the node, if not by us before
		// The node was told by whoever had the session. After an outage all come at once.
		s.hearsToldAt = now.Add(-spread(r.Record.Session, edgeagent.HearsKept))
		s.send(out, signaling.OpResumed, nil)
		s.replay.last = s.resumed
		s.adopt(r, out)
		if r.Record.Negotiated {
			s.phase = phaseLive
			s.state(out)
		} else if s.resumed == 0 {
			s.ready(out)
		}
	}
}

// spread is a part of d that belongs to a session.
func spread(id sfu.SessionID, d time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return time.Duration(h.Sum64() % uint64(d))
}

func (s *Session) ready(out *Out) {
	ip := ""
	for _, a := range s.record.Addrs {
		if a.Unmap().Is4() {
			ip = a.Unmap().String()
			break
		}
		if ip == "" {
			ip = a.String()
		}
	}
	s.send(out, signaling.OpReady, signaling.Ready{
		SSRC: s.record.SSRC, IP: ip, Port: s.record.Port, Interval: s.settings.Heartbeat.Milliseconds(),
		Modes: []string{}, Experiments: []string{}, Streams: []json.RawMessage{}, Node: string(s.record.Node),
		ICEServers: s.relay,
	})
}

// handleNegotiated passes the answer on, and the state of the call after it.
func (s *Session) handleNegotiated(now time.Time, r *NegotiateResult, out *Out) {
	if s.phase != phaseNegotiating {
		return
	}
	if r.Err != nil {
		code := signaling.CloseCrashed
		switch edgeagent.CodeOf(r.Err) {
		case edgeagent.CodeBadRequest:
			code = signaling.CloseBadRequest
		case edgeagent.CodeNoSession:
			code = signaling.CloseSessionInvalid
		}
		// The client cannot offer again, so the session is of no use.
		if code != signaling.CloseSessionInvalid {
			out.Calls = append(out.Calls, Call{Node: s.record.Node, Close: &edgeagent.CloseRequest{Session: s.record.Session, Reason: "not negotiated"}})
		}
		s.end(now, out, code)
		return
	}
	s.phase = phaseLive
	s.record.Negotiated = true
	slots := r.Reply.Slots
	if slots == nil {
		slots = []sfu.Slot{}
	}
	video := ""
	if len(r.Reply.Views) > 0 {
		video = "VP8"
	}
	s.send(out, signaling.OpDescription, signaling.Description{
		Type: "answer", SDP: r.Reply.Answer, AudioCodec: "opus", VideoCodec: video, MediaSession: string(s.record.Session),
		Slots: slots, Views: r.Reply.Views,
	})
	out.Took = append(out.Took, Took{StageDescription, now.Sub(s.selectedAt)})
	s.state(out)
}

// state sends everything a client must know of its call.
func (s *Session) state(out *Out) {
	if s.phase != phaseLive {
		return
	}
	users := s.users()
	s.send(out, signaling.OpClientsConnect, signaling.ClientsConnect{Users: users, All: true})
	for _, user := range users {
		s.speaking(s.roster[user], out)
	}
	if len(s.seats) > 0 {
		all := signaling.Slots{All: true}
		for _, seat := range s.seats {
			all.Slots = append(all.Slots, signaling.Seat(seat))
		}
		slices.SortFunc(all.Slots, func(a, b signaling.Seat) int { return a.Slot - b.Slot })
		s.send(out, signaling.OpSlots, all)
	}
	if len(s.views) > 0 {
		all := signaling.Views{All: true}
		for _, v := range s.views {
			all.Views = append(all.Views, signaling.View(v))
		}
		slices.SortFunc(all.Views, func(a, b signaling.View) int { return a.View - b.View })
		s.send(out, signaling.OpViews, all)
	}
}

func (s *Session) users() []sfu.UserID {
	users := make([]sfu.UserID, 0, len(s.roster))
	for user := range s.roster {
		users = append(users, user)
	}
	slices.SortFunc(users, func(a, b sfu.UserID) int { return cmp.Compare(a.ID, b.ID) })
	return users
}

func (s *Session) speaking(m edgeagent.Member, out *Out) {
	s.send(out, signaling.OpSpeaking, signaling.Speaking{User: m.User, SSRC: m.SSRC, Flags: signaling.Flags(m.Flags)})
}

// send numbers, keeps and sends one message. Numbered ones wait for a
// connection when there is none.
func (s *Session) send(out *Out, op signaling.Op, payload any) {
	var seq uint64
	numbered := op.Numbered() && s.version >= signaling.FirstNumbered
	if numbered {
		seq = s.replay.next()
	}
	frame, err := signaling.AppendMessage(nil, op, seq, payload)
	if err != nil {
		panic("session: " + err.Error()) // only a payload type that is no JSON can cause it
	}
	if numbered {
		s.replay.keep(frame)
	}
	if s.attached {
		out.Send = append(out.Send, frame)
	}
}
