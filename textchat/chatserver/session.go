package chatserver

import (
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// session is what an Identify began. Guild owners deliver into it; a connection
// may be attached to write what it holds. The replay is the queue of that
// connection too, so an event is kept once.
type session struct {
	// Immutable.
	srv      *Server
	id       string
	user     textchat.ID
	token    textchat.TokenHash
	intents  textchat.Intents
	large    int
	shard    [2]uint64
	compress bool
	passive  bool // of large guilds that it has not opened it gets but what it must
	version  int
	base     int64 // where its numbers begin in the order of this instance; see mirror.go

	mu sync.Mutex
	// Guarded by mu.
	replay   gatewaysession.Replay
	opened   time.Time            // when the last conn was
	claim    adoption             // what the others were told, if it began elsewhere
	lane     *gatewaysession.Lane // nil: nothing is held back
	conn     *conn
	host     string // by which the client reached us
	url      string // of the gateway, by which it did
	guilds   []*owner
	late     []*owner  // guilds that were joined before READY was out
	detached time.Time // zero while attached
	presence gatewaysession.PresenceUpdate
	pace     presencePace
	asked    map[textchat.ID]time.Time // by guild: when all members were asked for
	calm     chan struct{}             // closed when conn has everything, or the session ends; nil: nobody waits
	ready    bool                      // READY, the first event, is out
	ended    bool
}

// shardHas says whether a guild is on the shard of this session.
func (s *session) shardHas(g textchat.ID) bool { return uint64(g>>22)%s.shard[1] == s.shard[0] }

// deliver has an event written, if a client is there. One that must come is
// numbered now; one that may be late is numbered when it is sent.
func (s *session) deliver(e *gatewaysession.Event) {
	s.mu.Lock()
	if s.ended || !s.ready && e.Name != textchat.EventReady {
		s.mu.Unlock()
		return
	}
	s.ready = true
	c := s.conn
	slow, over := false, false
	if e.Late.Kind != 0 {
		s.holdLocked(e)
	} else {
		seq, ok := s.numberLocked(e)
		if !ok { // only of an event for this session alone: nobody else waits for it
			s.mu.Unlock()
			s.advance()
			s.deliver(e)
			return
		}
		over = seq > lastNumber
		s.replay.Push(seq, e)
		if c != nil {
			lag, missed := s.replay.Lag()
			if slow = missed || lag > textchat.ReplayEvents/2; slow {
				s.detachLocked(c)
			}
		}
	}
	s.mu.Unlock()
	s.srv.metrics.events.Inc()
	switch {
	case over && s.srv.ensemble != nil:
		s.finish(textchat.CloseSessionTimeout)
	case slow:
		s.srv.gate.metrics.slow.Inc()
		c.shut(textchat.CloseUnknown)
	case c != nil && e.At != 0:
		s.srv.ensemble.order.wake = append(s.srv.ensemble.order.wake, sleeper{c, !e.Patient()}) // the caller holds its mu
	case c != nil:
		c.wake(!e.Patient())
	}
}

// numberLocked is the number of the next event, if there is one left before the next
// position: see advance.
func (s *session) numberLocked(e *gatewaysession.Event) (seq uint64, ok bool) {
	seq = s.replay.Last() + 1
	switch {
	case s.srv.ensemble == nil:
		return seq, true
	case e.At != 0:
		return max(seq, uint64(int64(e.At)-s.base)*numbers), true
	}
	return seq, seq%numbers != 0
}

// advance takes a position for the session alone.
func (s *session) advance() {
	o := &s.srv.ensemble.order
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.take()
	o.batch = append(o.batch, delivered{P: p})
	o.signal()
	s.mu.Lock()
	s.replay.Skip(uint64(int64(p)-s.base) * numbers)
	s.mu.Unlock()
}

// holdLocked keeps an event until nothing more important is to be sent. Typing is
// for whoever is there.
func (s *session) holdLocked(e *gatewaysession.Event) {
	shed := 1
	if s.conn != nil || e.Late.Kind != gatewaysession.Typing {
		if s.lane == nil {
			s.lane = &gatewaysession.Lane{Most: textchat.LateEvents}
		}
		shed = s.lane.Put(e)
	}
	if shed > 0 {
		s.srv.gate.metrics.shed.WithLabelValues(shedKind(e.Late.Kind)).Add(float64(shed))
	}
}

// drawMost bounds the events that are drawn at once.
const drawMost = 8

// drawn is an event to be written, with its number.
type drawn struct {
	e   *gatewaysession.Event
	seq uint64
}

// draw takes the next events to write to c; fewer than there is room for are all there
// are now. Nothing comes when c is not the session's connection any more.
func (s *session) draw(c *conn, room *[drawMost]drawn) []drawn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return nil
	}
	for i := range room {
		e, seq, more := s.nextLocked(c)
		if !more {
			return room[:i]
		}
		room[i] = drawn{e, seq}
	}
	return room[:]
}

// nextLocked is the next event to write to c, if there is one.
func (s *session) nextLocked(c *conn) (e *gatewaysession.Event, seq uint64, more bool) {
	if e, _, more = s.replay.Peek(); more {
		if e.At != 0 && e.At > s.srv.ensemble.order.told.Load() {
			return nil, 0, false // whoever tells the others wakes us
		}
		return s.replay.Next()
	}
	if s.lane != nil {
		late, ok := s.numberLocked(noEvent)
		if !ok && !s.lane.Idle() {
			s.srv.task(func() {
				s.advance()
				c.wake(false)
			})
			return nil, 0, false
		}
		if e := s.lane.Pop(); e != nil {
			s.replay.Push(late, e)
			return s.replay.Next()
		}
		if stale := s.lane.TakeStale(); len(stale) > 0 {
			s.relistLocked(stale)
		}
		s.lane = nil
	}
	s.calmLocked()
	return nil, 0, false
}

func (s *session) calmLocked() {
	if s.calm != nil {
		close(s.calm)
		s.calm = nil
	}
}

// settled is closed when the client was sent everything, or the session ends; ok
// is false when it has ended.
func (s *session) settled() (calm <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, false
	}
	if s.calm == nil {
		s.calm = make(chan struct{})
		if lag, _ := s.replay.Lag(); s.conn != nil && lag == 0 {
			s.calmLocked()
			return closed, true
		}
	}
	return s.calm, true
}

// noEvent stands for one that is for a session alone.
var noEvent = new(gatewaysession.Event)

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// attach gives the session a connection that has seen everything up to seq; last,
// when not nil, comes after what it has not. The connection it had is returned,
// to be closed. ok is false when events are missing.
func (s *session) attach(c *conn, seq uint64, last *gatewaysession.Event) (old *conn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !s.replay.Kept(seq) {
		return nil, false
	}
	if last != nil {
		number, ok := s.numberLocked(last)
		if !ok {
			s.mu.Unlock()
			s.advance()
			s.mu.Lock()
			number, _ = s.numberLocked(last)
		}
		s.replay.Push(number, last)
		s.srv.metrics.events.Inc()
	}
	if !s.replay.Seek(seq) {
		return nil, false
	}
	old = s.conn
	s.conn, s.host, s.url, s.detached, s.opened = c, c.host, c.url, time.Time{}, c.opened
	return old, true
}

func (s *session) detachLocked(c *conn) {
	if s.conn == c {
		s.conn, s.detached = nil, time.Now()
		if s.lane != nil {
			s.lane.Forget()
		}
	}
}

// detach takes the connection away, if it is still the session's.
func (s *session) detach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detachLocked(c)
}

// at says whether c is the session's connection.
func (s *session) at(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn == c
}

// over says whether the session has ended.
func (s *session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// trim forgets what c says it has.
func (s *session) trim(c *conn, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		s.replay.Trim(seq)
	}
}

// listenTo notes that a guild delivers here; false when the session has ended,
// or is not ready: then it asks for the guild itself.
func (s *session) listenTo(o *owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if !s.ready {
		s.late = append(s.late, o)
		return false
	}
	if !slices.Contains(s.guilds, o) {
		s.guilds = append(s.guilds, o)
	}
	return true
}

// leaves notes that a guild delivers here no more.
func (s *session) leaves(o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guilds = slices.DeleteFunc(s.guilds, func(x *owner) bool { return x == o })
}

// finish ends the session for good: its voice state goes with it, and a temporary member
// with its last one.
func (s *session) finish(code textchat.CloseCode) { s.end(code, false) }

// end ends it here; one that goes on elsewhere keeps its voice state.
func (s *session) end(code textchat.CloseCode, elsewhere bool) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	c, guilds := s.conn, s.guilds
	s.conn, s.guilds = nil, nil
	s.replay, s.lane = gatewaysession.Replay{}, nil
	s.calmLocked()
	s.mu.Unlock()
	if e := s.srv.ensemble; e != nil && !elsewhere {
		switch a, ok := e.mirrors.adoption(s.id); {
		case ok && a.Life != e.life:
			elsewhere = true
		case ok:
			a.Ended = time.Now()
			e.adopt(s.id, a)
		}
	}
	s.srv.hub.removeSession(s)
	s.srv.metrics.sessions.Dec()
	if c != nil {
		c.shut(code)
	}
	for _, o := range guilds {
		// Not by the caller: it may be an owner itself, or one of many.
		s.srv.task(func() {
			o.later(func() {
				visits := o.visiting(s.user)
				o.part(s)
				if elsewhere || len(visits) == 0 && !o.core.Holds(s.user, s.id) {
					return
				}
				s.srv.task(func() {
					for _, known := range visits {
						<-known
					}
					o.tell(guild.SessionGone{User: s.user, Session: s.id})
				})
			})
		})
	}
}

// takeLate are the guilds that came while the session was not ready.
func (s *session) takeLate() []*owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := s.late
	s.late = nil
	return late
}

// endpoint fills the host in by which this client reached us.
func (s *session) endpoint(list []string) string {
	if len(list) == 0 {
		return ""
	}
	if !strings.HasPrefix(list[0], ":") {
		return list[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return net.JoinHostPort(s.host, list[0][1:])
}

// reached is the address by which this client reached us: scheme and host.
func (s *session) reached() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return baseOf(s.url)
}

// hub knows all sessions and connections.
type hub struct {
	mu sync.Mutex
	// Guarded by mu.
	sessions map[string]*session
	byUser   map[textchat.ID][]*session // oldest first
	conns    map[*conn]struct{}
	closed   bool

	prefixMu sync.Mutex
	byPrefix map[string]int // guarded by prefixMu; connections, and those to come

	strangers atomic.Int64 // connections that did not identify yet

	open sync.WaitGroup // counts conns; nothing is added when closed
}

func (h *hub) init() {
	h.sessions = make(map[string]*session)
	h.byUser = make(map[textchat.ID][]*session)
	h.conns = make(map[*conn]struct{})
	h.byPrefix = make(map[string]int)
}

// of lists the sessions of a user.
func (h *hub) of(user textchat.ID) []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.byUser[user])
}

func (h *hub) session(id string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[id]
}

// addSession makes a session known. When the user has too many the oldest is
// returned, to be ended.
func (h *hub) addSession(s *session) (surplus *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions[s.id] = s
	list := append(h.byUser[s.user], s)
	h.byUser[s.user] = list
	if len(list) > textchat.MaxSessions {
		return list[0]
	}
	return nil
}

func (h *hub) removeSession(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.id] == s {
		delete(h.sessions, s.id)
	}
	list := slices.DeleteFunc(slices.Clone(h.byUser[s.user]), func(x *session) bool { return x == s })
	if len(list) == 0 {
		delete(h.byUser, s.user)
	} else {
		h.byUser[s.user] = list
	}
}

// reserve counts a connection to come of a prefix, unless it has too many.
func (h *hub) reserve(prefix string, most int) bool {
	h.prefixMu.Lock()
	defer h.prefixMu.Unlock()
	if h.byPrefix[prefix] >= most {
		return false
	}
	h.byPrefix[prefix]++
	return true
}

func (h *hub) release(prefix string) {
	h.prefixMu.Lock()
	defer h.prefixMu.Unlock()
	if h.byPrefix[prefix]--; h.byPrefix[prefix] <= 0 {
		delete(h.byPrefix, prefix)
	}
}

func (h *hub) addConn(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.conns[c] = struct{}{}
	h.open.Add(1)
	h.strangers.Add(1)
	return true
}

// met is told, once or more, that a connection is no stranger's, or not there any more.
func (h *hub) met(c *conn) {
	if !c.met.Swap(true) {
		h.strangers.Add(-1)
	}
}

func (h *hub) removeConn(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	h.met(c)
	h.open.Done()
}

// closeAll sends all connections away and lets no new one in.
func (h *hub) closeAll(code textchat.CloseCode) {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	conns, _ := h.all()
	for _, c := range conns {
		c.sendAway(code)
	}
}

// all are those that are there. What takes long with them is done without holding the hub:
// whoever comes or goes would wait.
func (h *hub) all() (conns []*conn, sessions []*session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conns, sessions = make([]*conn, 0, len(h.conns)), make([]*session, 0, len(h.sessions))
	for c := range h.conns {
		conns = append(conns, c)
	}
	for _, x := range h.sessions {
		sessions = append(sessions, x)
	}
	return conns, sessions
}

// sweep ends what is overdue: connections that did not identify or went silent,
// sessions that nobody resumed.
func (s *Server) sweep(now time.Time) {
	conns, sessions := s.hub.all()
	for _, c := range conns {
		if c.overdue(now) {
			c.shut(textchat.CloseSessionTimeout)
		}
	}
	var gone, due []*session
	for _, x := range sessions {
		x.mu.Lock()
		if x.pace.due(now) {
			due = append(due, x)
		}
		if !x.detached.IsZero() && now.Sub(x.detached) >= s.resumeWindow {
			gone = append(gone, x)
		}
		x.mu.Unlock()
	}
	for _, x := range gone {
		x.finish(textchat.CloseSessionTimeout)
	}
	for _, x := range due {
		s.task(x.showPresence)
	}
}
