package custody

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Bounds of the core.
const (
	// answerTimeout is how long the engine may take to answer a command, half
	// of what an asker waits.
	answerTimeout = 2500 * time.Millisecond
	// startTimeout is how long it may take to start.
	startTimeout = 10 * time.Second
	// silenceTimeout is how long it may send nothing; a load reading is due
	// every second.
	silenceTimeout = 10 * time.Second
	// usedPerSession sizes the memory of used grants: each seat of the node may
	// change hands this often within usedKept.
	usedPerSession = 8
	// maxMuted bounds the users one session does not want to hear.
	maxMuted = 1000
	// maxReason bounds the reason of a CloseRequest, in bytes.
	maxReason = 64
)

// Config says what the node is.
type Config struct {
	Node          edgeagent.NodeID
	Limits        sfu.Limits
	NoSilenceGate bool
	Advertise     []netip.Addr
	Relay         RelayDoor
	ProbeKey      sfu.ProbeKey // of all engines but one that is found with its own
	// TCP is the port of ICE-TCP; 0: none.
	TCP uint16
}

// Token is the fingerprint of a grant's token: what opens a session is what
// resumes it.
type Token [32]byte

// Out is one thing to do. Exactly one field is set.
type Out struct {
	Command *sfu.Command
	Reply   *Reply
	Event   *edgeagent.CallEvent
	Check   *Check
	// Quarantined is a call that ends here and may not come back for a while.
	Quarantined *Quarantine
	// Route is how the links are to carry a call from now on.
	Route *Route
	// Identity is who the links are from now on: who they were of the agent before.
	Identity []byte
	// Bad says that the engine must be replaced.
	Bad error
	// Door is news of where a session can be reached.
	Door *Door
}

// Door tells whoever brings clients to the engine by another way than UDP that a
// session is there, at which port, and from Negotiate on by which ufrag its checks
// are known; or that it is gone.
type Door struct {
	Session sfu.SessionID
	Port    uint16
	Ufrag   string
	Gone    bool
}

// Reply answers the request of ID. With no other field set it is plain success.
type Reply struct {
	ID         uint64
	Session    *edgeagent.SessionReply
	Negotiated *edgeagent.NegotiateReply
	Drain      *edgeagent.DrainReply
	Roster     *edgeagent.RosterReply
	Err        error
}

// Core is the state of an agent. Not safe for concurrent use.
type Core struct {
	// Immutable.
	cfg Config

	// The engine.
	engine    engineState
	seq       uint64
	pending   map[uint64]pending
	lastHeard time.Time
	lostAt    time.Time
	crashed   bool            // the last one ended by its own fault
	known     bool            // one has started, or told which sessions it holds
	strays    []sfu.SessionID // that an adopted one has and nobody knows
	fence     uint64          // the highest that it told of
	checking  bool            // its calls are being looked up

	// Sessions. A session is in all of these, or in none.
	sessions map[sfu.SessionID]*session
	users    map[seat]*session
	tokens   map[Token]*session
	calls    map[sfu.CallID]*call
	deaf     map[sfu.SessionID]*session // of sessions: those that hear nothing
	mends    map[seat]*mend             // of the last minutes

	// relays are the calls that span nodes, members here or not; numbers are those
	// of other nodes.
	relays  map[sfu.CallID]*relay
	numbers map[edgeagent.NodeID]uint16

	suspects  suspects
	used      *used
	epoch     uint64 // the highest known
	draining  bool
	emptying  bool // its calls are to move elsewhere, too
	until     time.Time
	pressure  string // why nobody more is taken
	ended     bool   // said good-bye
	advertise []netip.Addr
	ports     []uint16
	probeKey  sfu.ProbeKey
}

type engineState int

const (
	engineDown engineState = iota
	engineStarting
	engineUp
)

// seat is what a user has once: a place in a call.
type seat struct {
	call sfu.CallID
	user sfu.UserID
}

type session struct {
	record   edgeagent.Record
	token    Token
	flags    int // as the client says
	speaking bool
	selfDeaf *bool
	muted    *[]sfu.UserID
	seats    map[int]edgeagent.Seat
	views    map[int]edgeagent.View
	snapshot *sfu.Snapshot
	lost     bool // the engine died and has not restored it yet
	ufrag    string
}

func (s *session) door() Out {
	return Out{Door: &Door{Session: s.record.Session, Port: s.record.Port, Ufrag: s.ufrag}}
}

// shown are the speaking flags others see.
func (s *session) shown() int {
	if s.speaking {
		return s.flags | 1
	}
	return 0
}

func (s *session) member() *edgeagent.Member {
	return &edgeagent.Member{User: s.record.User, SSRC: s.record.SSRC, Flags: s.shown()}
}

type call struct {
	epoch   uint64
	members []*session // in the order they came
	emptied time.Time  // when the last one left
}

// pending is a command that the engine has not answered.
type pending struct {
	kind    kind
	asked   time.Time
	id      uint64 // of the request; 0: nobody waits, or not any more
	session sfu.SessionID
	open    *session   // kind open: becomes one when the engine agrees
	relay   sfu.CallID // kind relay
}

type kind int

const (
	kindStart kind = iota
	kindAdopt
	kindOpen
	kindNegotiate
	kindUpdate
	kindClose
	kindRestore
	kindConfirm
	kindRelay
	kindRemember
)

// New is an agent without an engine.
func New(cfg Config) *Core {
	cfg.Limits = cfg.Limits.WithDefaults()
	return &Core{
		cfg:       cfg,
		pending:   make(map[uint64]pending),
		sessions:  make(map[sfu.SessionID]*session),
		users:     make(map[seat]*session),
		tokens:    make(map[Token]*session),
		calls:     make(map[sfu.CallID]*call),
		deaf:      make(map[sfu.SessionID]*session),
		mends:     make(map[seat]*mend),
		relays:    make(map[sfu.CallID]*relay),
		numbers:   make(map[edgeagent.NodeID]uint16),
		suspects:  make(suspects),
		used:      newUsed(max(1024, usedPerSession*cfg.Limits.Sessions)),
		advertise: cfg.Advertise,
		probeKey:  cfg.ProbeKey,
	}
}

func refuse(code edgeagent.ErrorCode, format string, args ...any) error {
	return &edgeagent.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// errUnknown refuses what is asked about sessions as long as an agent that has just
// begun has not heard from the engine which there are: one that it does not know may
// well be at work, and who is told that it has ended does not ask again.
var errUnknown = refuse(edgeagent.CodeUnavailable, "media engine is starting")

func replyErr(id uint64, err error) Out { return Out{Reply: &Reply{ID: id, Err: err}} }

func (c *Core) send(p pending, cmd sfu.Command, out []Out) []Out {
	c.seq++
	cmd.Seq = c.seq
	c.pending[c.seq] = p
	return append(out, Out{Command: &cmd})
}

func (c *Core) event(call sfu.CallID, ev edgeagent.CallEvent, out []Out) []Out {
	ev.Call, ev.Node = call, c.cfg.Node
	if k := c.calls[call]; k != nil {
		ev.Epoch = k.epoch
	}
	return append(out, Out{Event: &ev})
}

// Open opens the session of a grant whose signature is good.
func (c *Core) Open(now time.Time, id uint64, g edgeagent.Grant, token Token, out []Out) []Out {
	if err := c.mayOpen(now, g); err != nil {
		return append(out, replyErr(id, err))
	}
	if !c.used.add(now, g.ID) {
		return append(out, replyErr(id, refuse(edgeagent.CodeFull, "%d sessions were opened within %v", c.used.room, usedKept)))
	}
	c.epoch = max(c.epoch, g.Epoch)
	k := c.calls[g.Call]
	if k == nil {
		k = &call{emptied: now}
		c.calls[g.Call] = k
	}
	k.epoch = max(k.epoch, g.Epoch)
	k.emptied = now // it is remembered until the engine has answered
	s := &session{
		token: token,
		seats: make(map[int]edgeagent.Seat), views: make(map[int]edgeagent.View),
		record: edgeagent.Record{
			Session: g.ID, Node: c.cfg.Node, Guild: g.Guild, Call: g.Call, Epoch: g.Epoch, User: g.User,
			Gateway: g.Session, Rights: g.Rights, Opened: now,
		},
	}
	open := &sfu.Open{Session: g.ID, Call: g.Call, User: g.User, Rights: g.Rights, Echo: g.Echo, Keep: s.keep()}
	if older := c.users[seat{g.Call, g.User}]; older != nil {
		open.Replaces = older.record.Session
	}
	return c.send(pending{kind: kindOpen, asked: now, id: id, session: g.ID, open: s}, sfu.Command{Open: open}, out)
}

func (c *Core) mayOpen(now time.Time, g edgeagent.Grant) error {
	if g.Node != c.cfg.Node {
		return fmt.Errorf("this is node %s, the token is for %s: %w", c.cfg.Node, g.Node, edgeagent.ErrGrantScope)
	}
	if g.Call.ID == 0 || g.User.ID == 0 {
		return edgeagent.ErrGrantForm
	}
	if err := g.Fresh(now); err != nil {
		return err
	}
	if c.used.has(g.ID) {
		return edgeagent.ErrGrantUsed
	}
	known := c.calls[g.Call]
	if known != nil && g.Epoch < known.epoch {
		return fmt.Errorf("call was placed again since (epoch %d, the token has %d): %w", known.epoch, g.Epoch, edgeagent.ErrGrantScope)
	}
	if c.draining && (known == nil || len(known.members) == 0) {
		return refuse(edgeagent.CodeDraining, "node takes no new calls")
	}
	if left := c.suspects.quarantined(now, g.Call); left > 0 {
		return refuse(edgeagent.CodeUnavailable, "call made the media engine of this node fail again and again; it is taken again in %v", left.Round(time.Second))
	}
	if c.engine != engineUp {
		return refuse(edgeagent.CodeUnavailable, "media engine is starting")
	}
	if c.pressure != "" && c.users[seat{g.Call, g.User}] == nil {
		return refuse(edgeagent.CodeFull, "node is overloaded (%s): those it has come first", c.pressure)
	}
	return nil
}

// Press has newcomers refused for a reason; none takes them again.
func (c *Core) Press(reason string) { c.pressure = reason }

// Resume finds the session that a token opened. bad is why the token does not
// verify, if it does not: the key of a long session may be gone.
func (c *Core) Resume(id uint64, token Token, bad error, out []Out) []Out {
	s := c.tokens[token]
	switch {
	case !c.known:
		return append(out, replyErr(id, errUnknown))
	case s != nil:
		return append(out, Out{Reply: &Reply{ID: id, Session: c.describe(s)}})
	case bad != nil:
		return append(out, replyErr(id, bad))
	}
	return append(out, replyErr(id, refuse(edgeagent.CodeNoSession, "session has ended")))
}

// describe is the session, everybody in its call, who sits in its slots and whose
// cameras are in its views.
func (c *Core) describe(s *session) *edgeagent.SessionReply {
	rep := &edgeagent.SessionReply{Record: s.record}
	for _, m := range c.calls[s.record.Call].members {
		rep.Roster = append(rep.Roster, *m.member())
	}
	for _, seated := range s.seats {
		m := c.users[seat{s.record.Call, seated.User}]
		// Whoever completes the roster of a call that spans nodes knows the others.
		elsewhere := m == nil && c.relays[s.record.Call] != nil
		if elsewhere || m != nil && m.record.SSRC == seated.SSRC {
			rep.Slots = append(rep.Slots, seated)
		}
	}
	slices.SortFunc(rep.Slots, func(a, b edgeagent.Seat) int { return a.Slot - b.Slot })
	for _, v := range s.views {
		rep.Views = append(rep.Views, v)
	}
	slices.SortFunc(rep.Views, func(a, b edgeagent.View) int { return a.View - b.View })
	return rep
}

// Negotiate passes an offer to the engine.
func (c *Core) Negotiate(now time.Time, id uint64, req edgeagent.NegotiateRequest, out []Out) []Out {
	s := c.sessions[req.Session]
	var err error
	switch {
	case !c.known:
		err = errUnknown
	case s == nil:
		err = refuse(edgeagent.CodeNoSession, "session has ended")
	case len(req.Offer) > sfu.MaxOfferBytes:
		err = refuse(edgeagent.CodeBadRequest, "offer of %d bytes, at most %d are read", len(req.Offer), sfu.MaxOfferBytes)
	case s.lost || c.engine != engineUp:
		err = refuse(edgeagent.CodeUnavailable, "media engine is starting")
	default:
		return c.send(pending{kind: kindNegotiate, asked: now, id: id, session: req.Session},
			sfu.Command{Negotiate: &sfu.Negotiate{Session: req.Session, Offer: req.Offer}}, out)
	}
	return append(out, replyErr(id, err))
}

// find is the session that a request names, in either way, or in both, which must agree.
func (c *Core) find(id sfu.SessionID, call sfu.CallID, user sfu.UserID) *session {
	if id == "" {
		return c.users[seat{call, user}]
	}
	s := c.sessions[id]
	if s != nil && (call.ID != 0 && call != s.record.Call || user.ID != 0 && user != s.record.User) {
		return nil
	}
	return s
}

// Update changes a session. What it sets holds at once, and for the engine after
// this one too.
func (c *Core) Update(now time.Time, id uint64, req edgeagent.UpdateRequest, out []Out) []Out {
	if !c.known {
		return append(out, replyErr(id, errUnknown))
	}
	s := c.find(req.Session, req.Call, req.User)
	if s == nil {
		return append(out, replyErr(id, refuse(edgeagent.CodeNoSession, "session has ended")))
	}
	if req.Muted != nil && len(*req.Muted) > maxMuted {
		return append(out, replyErr(id, refuse(edgeagent.CodeBadRequest, "%d users muted, at most %d can be", len(*req.Muted), maxMuted)))
	}
	if req.Rights != nil {
		s.record.Rights = *req.Rights
	}
	if req.SelfDeaf != nil {
		s.selfDeaf = req.SelfDeaf
	}
	if req.Muted != nil {
		s.muted = req.Muted
	}
	before := s.shown()
	if req.Flags != nil {
		s.flags = *req.Flags & 7
	}
	if !s.record.Rights.Priority {
		s.flags &^= 4
	}
	if s.shown() != before {
		out = c.event(s.record.Call, edgeagent.CallEvent{Speaking: s.member()}, out)
	}
	if req.Rights == nil && req.SelfDeaf == nil && req.Muted == nil && req.Hears == nil || s.lost || c.engine != engineUp {
		return append(out, Out{Reply: &Reply{ID: id}})
	}
	return c.send(pending{kind: kindUpdate, asked: now, id: id, session: s.record.Session},
		sfu.Command{Update: &sfu.Update{Session: s.record.Session, Rights: req.Rights, SelfDeaf: req.SelfDeaf, Muted: req.Muted, Hears: req.Hears}}, out)
}

// Close ends a session, or all of a call.
func (c *Core) Close(now time.Time, id uint64, req edgeagent.CloseRequest, out []Out) []Out {
	reason := req.Reason
	if reason == "" {
		reason = string(sfu.EndClosed)
	}
	if len(reason) > maxReason {
		return append(out, replyErr(id, refuse(edgeagent.CodeBadRequest, "reason of %d bytes, at most %d are passed on", len(reason), maxReason)))
	}
	if !c.known {
		return append(out, replyErr(id, errUnknown))
	}
	var ending []*session
	if req.Session == "" && req.User.ID == 0 {
		if k := c.calls[req.Call]; k != nil {
			ending = slices.Clone(k.members)
		}
	} else if s := c.find(req.Session, req.Call, req.User); s != nil {
		ending = []*session{s}
	}
	if len(ending) == 0 {
		return append(out, replyErr(id, refuse(edgeagent.CodeNoSession, "session has ended")))
	}
	for i, s := range ending {
		waits := uint64(0)
		if i == len(ending)-1 {
			waits = id // the engine answers in order: the last answer is that of all
		}
		out = c.end(now, s, reason, waits, out)
	}
	return out
}

// end takes a session out and tells the engine; request id is answered when the
// engine has done it.
func (c *Core) end(now time.Time, s *session, reason string, id uint64, out []Out) []Out {
	out = c.remove(now, s, reason, out)
	if s.lost || c.engine != engineUp {
		if id != 0 {
			out = append(out, Out{Reply: &Reply{ID: id}})
		}
		return out
	}
	return c.send(pending{kind: kindClose, asked: now, id: id, session: s.record.Session},
		sfu.Command{Close: &sfu.Close{Session: s.record.Session}}, out)
}

// remove takes a session out of all indices and tells the world.
func (c *Core) remove(now time.Time, s *session, reason string, out []Out) []Out {
	c.drop(now, s)
	out = append(out, Out{Door: &Door{Session: s.record.Session, Gone: true}})
	return c.event(s.record.Call, edgeagent.CallEvent{Left: &edgeagent.Left{Session: s.record.Session, User: s.record.User, Reason: reason}}, out)
}

// drop takes a session out of all indices.
func (c *Core) drop(now time.Time, s *session) {
	delete(c.sessions, s.record.Session)
	delete(c.tokens, s.token)
	delete(c.deaf, s.record.Session)
	at := seat{s.record.Call, s.record.User}
	if c.users[at] == s {
		delete(c.users, at)
	}
	k := c.calls[s.record.Call]
	if i := slices.Index(k.members, s); i >= 0 {
		k.members = slices.Delete(k.members, i, i+1)
	}
	if len(k.members) == 0 {
		k.emptied = now
	}
}

// EngineUp begins with a new engine.
func (c *Core) EngineUp(now time.Time, out []Out) []Out {
	c.engine, c.lastHeard = engineStarting, now
	return c.send(pending{kind: kindStart, asked: now}, sfu.Command{Start: &sfu.Start{
		Advertise: c.advertise, TCP: c.cfg.TCP, Limits: c.cfg.Limits, NoSilenceGate: c.cfg.NoSilenceGate, ProbeKey: c.probeKey,
	}}, out)
}

// EngineLost ends with the engine. Sessions whose keys are in a snapshot wait for
// the next engine, the others end. crashed: it ended by its own fault, nobody
// ended it.
func (c *Core) EngineLost(now time.Time, crashed bool, out []Out) []Out {
	if c.engine == engineDown {
		return out
	}
	c.crashed = crashed
	if c.engine == engineUp {
		c.lostAt = now // a crash while starting does not prolong the wait
	}
	c.engine, c.fence = engineDown, 0
	seqs := make([]uint64, 0, len(c.pending))
	for seq := range c.pending {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		p := c.pending[seq]
		switch {
		case p.id == 0:
		case p.kind == kindClose || p.kind == kindUpdate:
			out = append(out, Out{Reply: &Reply{ID: p.id}}) // it holds: the engine cannot disagree any more
		default:
			out = append(out, replyErr(p.id, refuse(edgeagent.CodeUnavailable, "media engine is gone")))
		}
	}
	clear(c.pending)
	for _, s := range c.inOrder() {
		if s.snapshot == nil {
			out = c.remove(now, s, edgeagent.EngineLost, out)
			continue
		}
		s.lost = true
		delete(c.deaf, s.record.Session) // the next engine finds out for itself
		clear(s.seats)
		clear(s.views)
		out = c.setSpeaking(s, false, out)
	}
	return out
}

// inOrder are all sessions, oldest first.
func (c *Core) inOrder() []*session {
	all := make([]*session, 0, len(c.sessions))
	for _, s := range c.sessions {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *session) int {
		if d := a.record.Opened.Compare(b.record.Opened); d != 0 {
			return d
		}
		if a.record.Session < b.record.Session {
			return -1
		}
		return 1
	})
	return all
}

// setSpeaking notes what the engine hears and tells the call of changes.
func (c *Core) setSpeaking(s *session, speaking bool, out []Out) []Out {
	if s.speaking == speaking {
		return out
	}
	s.speaking = speaking
	return c.event(s.record.Call, edgeagent.CallEvent{Speaking: s.member()}, out)
}

// Advertise replaces the addresses of the node.
func (c *Core) Advertise(now time.Time, addrs []netip.Addr, out []Out) []Out {
	if slices.Equal(addrs, c.advertise) {
		return out
	}
	c.advertise = slices.Clone(addrs)
	if c.engine != engineUp {
		return out // its Start will say it, or has it under way
	}
	return c.send(pending{kind: kindUpdate, asked: now}, sfu.Command{Advertise: &sfu.Advertise{Addrs: c.advertise}}, out)
}

// Drain sets whether the node takes new calls, and whether it tells the fleet to
// move those it has; one that said good-bye stays as it is.
func (c *Core) Drain(id uint64, on bool, req edgeagent.DrainRequest, out []Out) []Out {
	switch {
	case req.By == "":
		return append(out, replyErr(id, refuse(edgeagent.CodeBadRequest, "who asks is missing")))
	case len(req.By) > edgeagent.MaxNote || len(req.Reason) > edgeagent.MaxNote:
		return append(out, replyErr(id, refuse(edgeagent.CodeBadRequest, "who asks takes %d bytes and why %d, at most %d are noted", len(req.By), len(req.Reason), edgeagent.MaxNote)))
	case c.ended:
		return append(out, replyErr(id, refuse(edgeagent.CodeUnavailable, "node is ending")))
	}
	empty := on && req.Empty
	rep := &edgeagent.DrainReply{Draining: on, Emptying: empty, Changed: c.draining != on || c.emptying != empty, Sessions: len(c.sessions)}
	for _, k := range c.calls {
		if len(k.members) > 0 {
			rep.Calls++
		}
	}
	c.draining, c.emptying, c.until = on, empty, time.Time{}
	if empty {
		c.until = req.Until
	}
	if rep.Changed {
		out = c.remember(out)
	}
	return append(out, Out{Reply: &Reply{ID: id, Drain: rep}})
}

// Shutdown ends all sessions. The engine is not told: its stream ends with the
// agent.
func (c *Core) Shutdown(now time.Time, out []Out) []Out {
	for _, s := range c.inOrder() {
		out = c.remove(now, s, edgeagent.NodeGone, out)
	}
	c.draining, c.ended = true, true
	return out
}

// Tick does what is due.
func (c *Core) Tick(now time.Time, out []Out) []Out {
	for seq, p := range c.pending {
		waited := now.Sub(p.asked)
		switch {
		case (p.kind == kindStart || p.kind == kindAdopt) && waited > startTimeout:
			delete(c.pending, seq)
			out = append(out, Out{Bad: fmt.Errorf("media engine has not started after %v", waited.Round(time.Millisecond))})
		case p.id != 0 && waited > answerTimeout:
			out = append(out, replyErr(p.id, refuse(edgeagent.CodeUnavailable, "media engine does not answer")))
			p.id = 0 // the answer may still come
			c.pending[seq] = p
		}
	}
	if c.engine == engineUp && now.Sub(c.lastHeard) > silenceTimeout {
		c.lastHeard = now
		out = append(out, Out{Bad: fmt.Errorf("media engine has been silent for %v", silenceTimeout)})
	}
	// Clients have given up a node that was away for so long (RFC 7675).
	if c.engine != engineUp && now.Sub(c.lostAt) > sfu.ConsentTimeout {
		for _, s := range c.inOrder() {
			out = c.remove(now, s, edgeagent.EngineLost, out)
		}
	}
	out = c.expireRelays(now, out)
	c.used.expire(now)
	c.suspects.expire(now)
	out = c.mendAll(now, out)
	for id, k := range c.calls {
		if len(k.members) == 0 && now.Sub(k.emptied) > usedKept {
			delete(c.calls, id)
		}
	}
	return out
}

// Report is what the heartbeat tells of the core.
type Report struct {
	Up        bool // an engine takes sessions
	Draining  bool
	Emptying  bool      `json:",omitempty"`
	Until     time.Time `json:",omitzero"`
	Sessions  int
	Lost      int `json:",omitempty"` // of the sessions: those that no engine has at the moment
	Epoch     uint64
	Calls     []edgeagent.CallOnANode
	Relays    []edgeagent.RelayOnANode `json:",omitempty"`
	Advertise []netip.Addr
	Ports     []uint16
	ProbeKey  sfu.ProbeKey `json:",omitempty"` // nil before the first engine
}

// Report tells how things stand.
func (c *Core) Report() Report {
	r := Report{
		Up: c.engine == engineUp, Draining: c.draining, Emptying: c.emptying, Until: c.until, Sessions: len(c.sessions), Epoch: c.epoch,
		Advertise: c.advertise, Ports: c.ports,
		Relays: c.relayReport(),
	}
	for _, one := range c.sessions {
		if one.lost {
			r.Lost++
		}
	}
	for id, k := range c.calls {
		if len(k.members) > 0 {
			r.Calls = append(r.Calls, edgeagent.CallOnANode{Call: id, Epoch: k.epoch, Sessions: len(k.members)})
		}
	}
	if c.ports != nil {
		r.ProbeKey = c.probeKey
	}
	slices.SortFunc(r.Calls, func(a, b edgeagent.CallOnANode) int {
		if a.Call.ID < b.Call.ID {
			return -1
		}
		return 1
	})
	return r
}
