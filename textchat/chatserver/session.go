package chatserver

import (
	"net"
	"slices"
	"strings"
	"sync"
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
	version  int

	mu sync.Mutex
	// Guarded by mu.
	replay   gatewaysession.Replay
	conn     *conn
	sent     uint64 // sequence of the last event given to conn
	host     string // by which the client reached us
	guilds   []*owner
	late     []*owner  // guilds that were joined before READY was out
	detached time.Time // zero while attached
	ready    bool      // READY, the first event, is out
	ended    bool
}

// shardHas says whether a guild is on the shard of this session.
func (s *session) shardHas(g textchat.ID) bool { return uint64(g>>22)%s.shard[1] == s.shard[0] }

// deliver numbers an event and has it written, if a client is there.
func (s *session) deliver(e gatewaysession.Event) {
	s.mu.Lock()
	if s.ended || !s.ready && e.Name != textchat.EventReady {
		s.mu.Unlock()
		return
	}
	s.ready = true
	s.replay.Push(e)
	c := s.conn
	slow := false
	if c != nil {
		_, _, kept := s.replay.Next(s.sent)
		slow = !kept || s.replay.Lag(s.sent) > textchat.ReplayEvents/2
		if slow {
			s.detachLocked(c)
		}
	}
	s.mu.Unlock()
	s.srv.metrics.events.Inc()
	switch {
	case slow:
		c.shut(textchat.CloseUnknown)
	case c != nil:
		c.wake()
	}
}

// next is the next event to write to c; more is false when there is none or c is
// not the session's connection any more.
func (s *session) next(c *conn) (e gatewaysession.Event, seq uint64, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return e, 0, false
	}
	if e, more, _ = s.replay.Next(s.sent); more {
		s.sent++
	}
	return e, s.sent, more
}

// attach gives the session a connection that has seen everything up to seq. The
// one it had is returned, to be closed. ok is false when events are missing.
func (s *session) attach(c *conn, seq uint64) (old *conn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, _, kept := s.replay.Next(seq); s.ended || !kept {
		return nil, false
	}
	old = s.conn
	s.conn, s.sent, s.host, s.detached = c, seq, c.host, time.Time{}
	return old, true
}

func (s *session) detachLocked(c *conn) {
	if s.conn == c {
		s.conn, s.detached = nil, time.Now()
	}
}

// detach takes the connection away, if it is still the session's.
func (s *session) detach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detachLocked(c)
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

// finish ends the session for good: its voice state goes with it.
func (s *session) finish(code textchat.CloseCode) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	c, guilds := s.conn, s.guilds
	s.conn, s.guilds = nil, nil
	s.replay = gatewaysession.Replay{}
	s.mu.Unlock()
	s.srv.hub.removeSession(s)
	s.srv.metrics.sessions.Dec()
	if c != nil {
		c.shut(code)
	}
	for _, o := range guilds {
		// Not by the caller: it may be an owner itself, or one of many.
		s.srv.task(func() {
			r := request{do: func() error {
				delete(o.subs, s)
				return o.handle(guild.SessionGone{User: s.user, Session: s.id}, nil)
			}}
			select {
			case o.inbox <- r:
			case <-o.srv.life.Done():
			}
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

// hub knows all sessions and connections.
type hub struct {
	mu sync.Mutex
	// Guarded by mu.
	sessions map[string]*session
	byUser   map[textchat.ID][]*session // oldest first
	conns    map[*conn]struct{}
	byPrefix map[string]int
	closed   bool
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
	delete(h.sessions, s.id)
	list := slices.DeleteFunc(slices.Clone(h.byUser[s.user]), func(x *session) bool { return x == s })
	if len(list) == 0 {
		delete(h.byUser, s.user)
	} else {
		h.byUser[s.user] = list
	}
}

// reserve counts a connection to come of a prefix, unless it has too many.
func (h *hub) reserve(prefix string, most int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.byPrefix[prefix] >= most {
		return false
	}
	h.byPrefix[prefix]++
	return true
}

func (h *hub) release(prefix string) {
	h.mu.Lock()
	defer h.mu.Unlock()
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
	return true
}

func (h *hub) removeConn(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

// closeAll ends all connections and lets no new one in.
func (h *hub) closeAll(code textchat.CloseCode) {
	h.mu.Lock()
	h.closed = true
	conns := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	for _, c := range conns {
		c.shut(code)
	}
}

// sweep ends what is overdue: connections that did not identify or went silent,
// sessions that nobody resumed.
func (s *Server) sweep(now time.Time) {
	s.hub.mu.Lock()
	var late []*conn
	for c := range s.hub.conns {
		if c.overdue(now) {
			late = append(late, c)
		}
	}
	var gone []*session
	for _, x := range s.hub.sessions {
		x.mu.Lock()
		if !x.detached.IsZero() && now.Sub(x.detached) >= s.resumeWindow {
			gone = append(gone, x)
		}
		x.mu.Unlock()
	}
	s.hub.mu.Unlock()
	for _, c := range late {
		c.shut(textchat.CloseSessionTimeout)
	}
	for _, x := range gone {
		x.finish(textchat.CloseSessionTimeout)
	}
}
