package chatserver

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/ratelimit"
	"voicefleet/textchat/internal/token"
)

// urgentLen bounds the frames that go before events: hello, acknowledgements,
// invalid session. A client that makes us owe it more does not read.
const urgentLen = 32

// readBuffer is for one connection's frames, which are mostly heartbeats.
const readBuffer = 512

// conn is one gateway connection. Its reader is the goroutine of ReadLoop; its
// writer is begun when there is something to write and ends when there is not.
type conn struct {
	// Immutable.
	srv     *Server
	ws      *gws.Conn
	wire    *wire
	host    string // by which the client reached us, without the port
	url     string // the gateway's own URL, as this client reached it
	version int    // 9 or 10
	stream  bool   // the URL chose the compression
	opened  time.Time

	// Owned by the reader.
	intake   gatewaysession.Intake
	lastFull map[textchat.ID]time.Time // by guild: when all members were asked for

	beat atomic.Int64 // when the last heartbeat came, in nanoseconds; 0 before Identify
	dead atomic.Bool

	mu sync.Mutex
	// Guarded by mu.
	urgent  [][]byte
	session *session // nil until identified
	mode    compression
	writing bool // a writer runs
	again   bool // it must look once more

	// Owned by the writer.
	frames framer
}

// gateway takes WebSocket upgrades.
func (s *Server) gateway(w http.ResponseWriter, r *http.Request) {
	prefix := prefixKey(s.clientAddr(r))
	now := time.Now()
	if a := s.rates.Take(now, "gateway|"+prefix, ratelimit.Rule{Limit: s.cfg.Limits.Attempts, Window: time.Minute}); !a.OK {
		writeLimited(w, a, now, "gateway")
		return
	}
	q := r.URL.Query()
	if e := q.Get("encoding"); e != "" && e != "json" {
		writeError(w, textchat.InvalidField("encoding", "BASE_TYPE_CHOICES", "Only json is spoken here."))
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		writeError(w, textchat.Refuse(http.StatusUpgradeRequired, textchat.CodeGeneral, "This is a WebSocket."))
		return
	}
	if !s.hub.reserve(prefix, s.cfg.Limits.Connections) {
		writeLimited(w, ratelimit.Answer{Reset: now.Add(5 * time.Second)}, now, "gateway")
		return
	}
	if !s.serveGateway(w, r, prefix) {
		s.hub.release(prefix)
	}
}

func (s *Server) serveGateway(w http.ResponseWriter, r *http.Request, prefix string) bool {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		writeError(w, textchat.Refuse(http.StatusInternalServerError, textchat.CodeGeneral, "500: Internal Server Error"))
		return false
	}
	socket, buffered, err := hijacker.Hijack()
	if err != nil {
		return false
	}
	_ = socket.SetDeadline(time.Time{})
	c := &conn{srv: s, wire: &wire{Conn: socket}, host: hostOnly(r.Host), url: s.gatewayURL(r), opened: time.Now(), version: 10}
	switch r.URL.Query().Get("compress") {
	case "zlib-stream":
		c.mode, c.stream = zlibStream, true
	case "zstd-stream":
		c.mode, c.stream = zstdStream, true
	}
	if v := r.URL.Query().Get("v"); v != "" {
		c.version, _ = strconv.Atoi(v)
	}
	up := gws.NewUpgrader(&handler{c: c}, &gws.ServerOption{
		ReadMaxPayloadSize: textchat.MaxFrame, ReadBufferSize: readBuffer, HandshakeTimeout: textchat.IdentifyTimeout,
		Logger: quiet{}, Recovery: func(gws.Logger) { s.recovered("gateway_connection") },
	})
	in := buffered.Reader
	if in.Buffered() == 0 {
		in = bufio.NewReaderSize(c.wire, readBuffer) // the HTTP server's has 4 KiB
	}
	if c.ws, err = up.UpgradeFromConn(c.wire, in, r); err != nil {
		_ = socket.Close()
		return false
	}
	if !s.hub.addConn(c) {
		c.shut(textchat.CloseGoingAway)
		c.wire.finish()
		return false
	}
	s.metrics.connections.Inc()
	// The handler's goroutine, with its request and buffers, is let go.
	started := s.task(func() {
		defer s.hub.release(prefix)
		defer s.metrics.connections.Dec()
		defer s.hub.removeConn(c)
		defer c.wire.finish()
		defer s.recovered("gateway_connection")
		c.ws.ReadLoop()
	})
	if !started {
		s.metrics.connections.Dec()
		s.hub.removeConn(c)
		_ = socket.Close()
	}
	return started
}

// quiet keeps the WebSocket library from logging what strangers send.
type quiet struct{}

func (quiet) Error(...any) {}

// handler receives the library's callbacks.
type handler struct {
	gws.BuiltinEventHandler
	c *conn
}

func (h *handler) OnOpen(*gws.Conn) {
	c := h.c
	if c.version != 9 && c.version != 10 {
		c.shut(textchat.CloseInvalidVersion)
		return
	}
	c.send(encodeOp(textchat.OpHello, map[string]any{"heartbeat_interval": textchat.HeartbeatInterval.Milliseconds(), "_trace": []string{}}))
}

func (h *handler) OnPing(_ *gws.Conn, payload []byte) {
	// Pings count like frames, or they would be a free way to keep us busy.
	if a := h.c.intake.Handle(time.Now(), pingAsFrame); a.Close != 0 {
		h.c.shut(a.Close)
		return
	}
	_ = h.c.ws.WritePong(payload)
}

var pingAsFrame = []byte(`{"op":1}`)

func (h *handler) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	if h.c.dead.Load() {
		return
	}
	h.c.srv.metrics.frames.Inc()
	h.c.handle(m.Bytes())
}

func (h *handler) OnClose(_ *gws.Conn, err error) {
	c := h.c
	c.dead.Store(true)
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s == nil {
		return
	}
	// A client that says good-bye ends its session; a connection that breaks
	// leaves it to be resumed.
	if e := (*gws.CloseError)(nil); errors.As(err, &e) && (e.Code == 1000 || e.Code == 1001) {
		s.mu.Lock()
		mine := s.conn == c
		s.mu.Unlock()
		if mine {
			s.finish(textchat.CloseNormal)
			return
		}
	}
	s.detach(c)
}

// overdue says whether the client took too long.
func (c *conn) overdue(now time.Time) bool {
	beat := c.beat.Load()
	if beat == 0 {
		return now.Sub(c.opened) >= c.srv.identifyTimeout
	}
	return now.Sub(time.Unix(0, beat)) >= c.srv.heartbeatLimit
}

// shut ends the connection with a code. The session, if any, is not touched.
func (c *conn) shut(code textchat.CloseCode) {
	if c.dead.Swap(true) {
		return
	}
	c.srv.metrics.closes.WithLabelValues(strconv.Itoa(int(code))).Inc()
	// A client that does not read could hold its caller up for writeTimeout.
	if !c.srv.task(func() { _ = c.ws.WriteClose(uint16(code), []byte(code.String())) }) {
		_ = c.wire.Conn.Close()
	}
}

// send queues a frame that goes before events.
func (c *conn) send(frame []byte) {
	c.mu.Lock()
	if len(c.urgent) >= urgentLen {
		c.mu.Unlock()
		c.shut(textchat.CloseRateLimited)
		return
	}
	c.urgent = append(c.urgent, frame)
	c.mu.Unlock()
	c.wake()
}

// wake has what is there written.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing {
		c.again = true
		return
	}
	c.writing = c.srv.task(c.flush)
}

func (c *conn) flush() {
	defer func() {
		if r := recover(); r != nil {
			c.srv.panicked("gateway_connection", r)
			c.shut(textchat.CloseUnknown)
		}
	}()
	var scratch []byte
	for {
		frame, mode, ok := c.nextFrame(&scratch)
		if !ok {
			return
		}
		b, binary := c.frames.frame(mode, frame)
		op := gws.OpcodeText
		if binary {
			op = gws.OpcodeBinary
		}
		if c.ws.WriteMessage(op, b) != nil {
			// The reader notices; until then nobody writes here.
			return
		}
	}
}

// nextFrame is what to write next. When there is nothing it ends the writer.
func (c *conn) nextFrame(scratch *[]byte) ([]byte, compression, bool) {
	for {
		c.mu.Lock()
		mode := c.mode
		c.again = false
		if len(c.urgent) > 0 {
			f := c.urgent[0]
			c.urgent = c.urgent[1:]
			c.mu.Unlock()
			return f, mode, true
		}
		s := c.session
		c.mu.Unlock()
		if s != nil {
			if e, seq, more := s.next(c); more {
				*scratch = gatewaysession.Append((*scratch)[:0], seq, e)
				return *scratch, mode, true
			}
		}
		c.mu.Lock()
		if !c.again {
			c.writing = false
			c.mu.Unlock()
			return nil, 0, false
		}
		c.mu.Unlock()
	}
}

func encodeOp(op textchat.Op, d any) []byte {
	return encode(struct {
		Op textchat.Op `json:"op"`
		D  any         `json:"d"`
		S  *int        `json:"s"`
		T  *string     `json:"t"`
	}{Op: op, D: d})
}

var ack = encodeOp(textchat.OpHeartbeatAck, nil)

// handle is one frame of the client.
func (c *conn) handle(frame []byte) {
	now := time.Now()
	a := c.intake.Handle(now, frame)
	switch {
	case a.Close != 0:
		c.shut(a.Close)
		// After a violation there is nothing to come back to but the session.
	case a.Beat:
		if c.beat.Load() != 0 {
			c.beat.Store(now.UnixNano())
		}
		c.send(ack)
	case a.Identify != nil:
		c.identify(*a.Identify)
	case a.Resume != nil:
		c.resume(*a.Resume)
	case a.Voice != nil:
		c.voiceUpdate(*a.Voice)
	case a.Members != nil:
		c.members(now, *a.Members)
	}
}

// authenticate finds the user of a token.
func (s *Server) authenticate(ctx context.Context, t string) (textchat.User, textchat.TokenHash, error) {
	claimed, hash, ok := token.Read(t)
	if !ok {
		return textchat.User{}, hash, textchat.ErrUnauthorized
	}
	u, err := s.store.TokenUser(ctx, hash)
	if errors.Is(err, textchat.ErrNoRecord) || err == nil && u.ID != claimed {
		err = textchat.ErrUnauthorized
	}
	return u, hash, err
}

func (c *conn) authenticate(t string) (textchat.User, textchat.TokenHash, bool) {
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	u, hash, err := c.srv.authenticate(ctx, t)
	switch {
	case errors.Is(err, textchat.ErrUnauthorized):
		c.shut(textchat.CloseAuthFailed)
	case err != nil:
		c.shut(textchat.CloseUnknown)
	}
	return u, hash, err == nil
}

func (c *conn) identify(in gatewaysession.Identify) {
	u, hash, ok := c.authenticate(in.Token)
	if !ok {
		return
	}
	var id [16]byte
	rand.Read(id[:])
	s := &session{srv: c.srv, id: hex.EncodeToString(id[:]), user: u.ID, token: hash, intents: in.Intents, large: in.Large,
		shard: in.Shard, compress: in.Compress, version: c.version,
		replay: gatewaysession.Replay{Count: textchat.ReplayEvents, Bytes: textchat.ReplayBytes}}
	// Known to the hub before the guilds are listed: who joins one meanwhile is
	// added by its owner, and both ways at once add it once.
	surplus := c.srv.hub.addSession(s)
	c.srv.metrics.sessions.Inc()
	if surplus != nil {
		surplus.finish(textchat.CloseSessionTimeout)
	}
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	ids, err := c.srv.store.GuildIDs(ctx, u.ID)
	if err != nil {
		c.shut(textchat.CloseUnknown)
		s.finish(textchat.CloseUnknown)
		return
	}
	type unavailable struct {
		ID          textchat.ID `json:"id"`
		Unavailable bool        `json:"unavailable"`
	}
	guilds := []unavailable{}
	for _, g := range ids {
		if s.shardHas(g) {
			guilds = append(guilds, unavailable{g, true})
		}
	}
	ready := map[string]any{
		"v": c.version, "user": selfUser(u), "guilds": guilds, "session_id": s.id, "resume_gateway_url": c.url,
		"shard": in.Shard, "application": map[string]any{"id": u.ID, "flags": 0}, "private_channels": []string{},
		"relationships": []string{}, "_trace": []string{}, "session_type": "normal",
	}
	s.deliver(gatewaysession.Event{Name: textchat.EventReady, Body: encode(ready)})
	if !c.take(s, 0) {
		c.shut(textchat.CloseUnknown)
		s.finish(textchat.CloseUnknown)
		return
	}
	owners := s.takeLate()
	for _, g := range guilds {
		o, err := c.srv.owner(g.ID)
		if err != nil {
			return
		}
		owners = append(owners, o)
	}
	for _, o := range owners {
		_ = o.ask(c.srv.life, func() error {
			if o.core.Member(s.user) != nil {
				o.add(s)
			}
			return nil
		})
	}
}

// take makes s this connection's session, from the event after seq on.
func (c *conn) take(s *session, seq uint64) bool {
	if s.compress && !c.stream {
		c.mu.Lock()
		c.mode = payloadZlib
		c.mu.Unlock()
	}
	old, ok := s.attach(c, seq)
	if !ok {
		return false
	}
	if old != nil && old != c {
		old.shut(textchat.CloseUnknown)
	}
	c.intake.Identified()
	c.beat.Store(time.Now().UnixNano())
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	if c.dead.Load() {
		s.detach(c) // the connection ended meanwhile and OnClose saw no session
	}
	c.wake()
	return true
}

func (c *conn) resume(in gatewaysession.Resume) {
	u, hash, ok := c.authenticate(in.Token)
	if !ok {
		return
	}
	s := c.srv.hub.session(in.Session)
	if s == nil || s.user != u.ID || s.token != hash {
		c.srv.metrics.resumes.WithLabelValues("unknown").Inc()
		c.send(encodeOp(textchat.OpInvalidSession, false))
		return
	}
	s.mu.Lock()
	future := in.Seq > s.replay.Last()
	s.mu.Unlock()
	if future {
		c.srv.metrics.resumes.WithLabelValues("future").Inc()
		c.shut(textchat.CloseInvalidSeq)
		return
	}
	if !c.take(s, in.Seq) {
		// What it missed is gone: it must begin anew, and this session is no use.
		c.srv.metrics.resumes.WithLabelValues("too_late").Inc()
		s.finish(textchat.CloseSessionTimeout)
		c.send(encodeOp(textchat.OpInvalidSession, false))
		return
	}
	c.srv.metrics.resumes.WithLabelValues("resumed").Inc()
	s.deliver(gatewaysession.Event{Name: textchat.EventResumed, Body: []byte(`{"_trace":[]}`)})
}

func (c *conn) voiceUpdate(in gatewaysession.VoiceUpdate) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	if in.Guild == 0 && in.Channel != 0 {
		o, err := c.srv.ownerOf(ctx, in.Channel)
		if err != nil {
			return
		}
		in.Guild = o.id
	}
	// Only guilds that the session listens to: a stranger must not load others.
	o := s.guild(in.Guild)
	if o == nil {
		return
	}
	_, _ = o.do(ctx, guild.VoiceUpdate{User: s.user, Session: s.id, Channel: in.Channel, SelfMute: in.SelfMute, SelfDeaf: in.SelfDeaf,
		RTT: in.RTT, Region: in.Region})
}

// guild is the owner of a guild that the session listens to, or nil.
func (s *session) guild(id textchat.ID) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.guilds {
		if o.id == id {
			return o
		}
	}
	return nil
}

const (
	chunkSize  = 1000
	queryMost  = 100
	fullPeriod = 30 * time.Second // how often all members of one guild may be asked for
)

// members answers op 8 by GUILD_MEMBERS_CHUNK events.
func (c *conn) members(now time.Time, in gatewaysession.MembersRequest) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	o := s.guild(in.Guild)
	if o == nil {
		return
	}
	all := len(in.Users) == 0 && in.Limit == 0 && (in.Query == nil || *in.Query == "")
	if all {
		if last, ok := c.lastFull[in.Guild]; ok && now.Sub(last) < fullPeriod {
			meta := map[string]any{"guild_id": in.Guild}
			if in.Nonce != "" {
				meta["nonce"] = in.Nonce
			}
			s.deliver(gatewaysession.Event{Name: textchat.EventRateLimited, Body: encode(map[string]any{
				"opcode": textchat.OpRequestGuildMembers, "retry_after": (fullPeriod - now.Sub(last)).Seconds(), "meta": meta})})
			return
		}
		if c.lastFull == nil {
			c.lastFull = make(map[textchat.ID]time.Time)
		}
		c.lastFull[in.Guild] = now
	}
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	_ = o.ask(ctx, func() error {
		var list []textchat.Member
		missing := []textchat.ID{}
		switch {
		case len(in.Users) > 0:
			for _, id := range in.Users {
				if m := o.core.Member(id); m != nil {
					list = append(list, *m)
				} else {
					missing = append(missing, id)
				}
			}
		case all && s.intents&textchat.IntentGuildMembers != 0:
			list = o.core.Members(0, textchat.MaxMembers)
		case !all:
			limit := queryMost
			if in.Limit > 0 {
				limit = min(limit, in.Limit)
			}
			query := ""
			if in.Query != nil {
				query = *in.Query
			}
			list = searchMembers(o.core, query, limit)
		}
		count := max(1, (len(list)+chunkSize-1)/chunkSize)
		for i := range count {
			part := list[i*chunkSize : min(len(list), (i+1)*chunkSize)]
			chunk := map[string]any{"guild_id": in.Guild, "members": append([]textchat.Member{}, part...), "chunk_index": i, "chunk_count": count}
			if i == 0 && len(missing) > 0 {
				chunk["not_found"] = missing
			}
			if in.Nonce != "" {
				chunk["nonce"] = in.Nonce
			}
			s.deliver(gatewaysession.Event{Name: textchat.EventMembersChunk, Body: encode(chunk)})
		}
		return nil
	})
}

// searchMembers finds members by the beginning of a name.
func searchMembers(g *guild.Guild, query string, limit int) []textchat.Member {
	query = strings.ToLower(query)
	var found []textchat.Member
	for _, m := range g.Members(0, textchat.MaxMembers) {
		names := []string{m.User.Username}
		for _, n := range []*string{m.Nick, m.User.GlobalName} {
			if n != nil {
				names = append(names, *n)
			}
		}
		for _, n := range names {
			if strings.HasPrefix(strings.ToLower(n), query) {
				found = append(found, m)
				break
			}
		}
		if len(found) == limit {
			break
		}
	}
	return found
}

// selfUser is a user as it sees itself.
func selfUser(u textchat.User) map[string]any {
	var m map[string]any
	_ = json.Unmarshal(encode(u), &m)
	m["verified"], m["mfa_enabled"], m["email"], m["flags"], m["locale"] = true, false, nil, 0, "en-US"
	return m
}

// hostOnly is a Host header without its port.
func hostOnly(h string) string {
	if host, _, err := net.SplitHostPort(h); err == nil {
		return host
	}
	return strings.Trim(h, "[]")
}
