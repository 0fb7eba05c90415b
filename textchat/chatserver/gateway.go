package chatserver

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/ratelimit"
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
	client  netip.Addr // where it comes from
	host    string     // by which the client reached us, without the port
	url     string     // the gateway's own URL, as this client reached it
	version int        // 9 or 10
	opened  time.Time

	// Owned by the reader.
	intake gatewaysession.Intake

	beat atomic.Int64 // when the last heartbeat came, in nanoseconds; 0 before Identify
	dead atomic.Bool

	mu sync.Mutex
	// Guarded by mu.
	urgent  [][]byte
	session *session // nil until identified
	mode    gatewaysession.Compression
	writing bool // a writer runs
	again   bool // it must look once more
	over    bool // no writer must begin

	// Owned by the writer, and by the reader when it ends and there is none.
	frames gatewaysession.Framer
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
		writeError(w, textchat.InvalidField("encoding", "BASE_TYPE_CHOICES", "Only json is spoken here: ask for encoding=json."))
		return
	}
	mode, ok := compressions[q.Get("compress")]
	if !ok {
		writeError(w, textchat.InvalidField("compress", "BASE_TYPE_CHOICES", "Ask for zlib-stream, zstd-stream or nothing."))
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
	if !s.serveGateway(w, r, prefix, mode) {
		s.hub.release(prefix)
	}
}

var compressions = map[string]gatewaysession.Compression{
	"": gatewaysession.Plain, "zlib-stream": gatewaysession.ZlibStream, "zstd-stream": gatewaysession.ZstdStream,
}

func (s *Server) serveGateway(w http.ResponseWriter, r *http.Request, prefix string, mode gatewaysession.Compression) bool {
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
	c := &conn{srv: s, wire: &wire{Conn: socket}, client: s.clientAddr(r), host: hostOnly(r.Host), url: s.gatewayURL(r), opened: time.Now(), version: 10, mode: mode}
	c.wire.of = c
	if v := r.URL.Query().Get("v"); v != "" {
		c.version, _ = strconv.Atoi(v)
	}
	in := buffered.Reader
	if in.Buffered() == 0 {
		in = bufio.NewReaderSize(c.wire, readBuffer) // the HTTP server's has 4 KiB
	}
	if c.ws, err = s.gate.upgrader.UpgradeFromConn(c.wire, in, r); err != nil {
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
		defer c.end()
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

// handler receives the library's callbacks, those of all connections.
type handler struct{ gws.BuiltinEventHandler }

func connOf(ws *gws.Conn) *conn { return ws.NetConn().(*wire).of }

func (handler) OnOpen(ws *gws.Conn) {
	c := connOf(ws)
	if c.version != 9 && c.version != 10 {
		c.shut(textchat.CloseInvalidVersion)
		return
	}
	c.send(hello)
}

var hello = encodeOp(textchat.OpHello, map[string]any{"heartbeat_interval": textchat.HeartbeatInterval.Milliseconds(), "_trace": []string{}})

func (handler) OnPing(ws *gws.Conn, payload []byte) {
	c := connOf(ws)
	// Pings count like frames, or they would be a free way to keep us busy.
	if code := c.intake.Count(time.Now()); code != 0 {
		c.shut(code)
		return
	}
	_ = ws.WritePong(payload)
}

func (handler) OnMessage(ws *gws.Conn, m *gws.Message) {
	defer m.Close()
	c := connOf(ws)
	if c.dead.Load() {
		return
	}
	c.srv.metrics.frames.Inc()
	if seq, ok := gatewaysession.PlainBeat(m.Bytes()); ok {
		now := time.Now()
		if code := c.intake.Count(now); code != 0 {
			c.shut(code)
			return
		}
		c.heartbeat(now, seq)
		return
	}
	// Reading JSON and beginning a session need a deep stack. It is borrowed: the
	// reader's own, which stays for as long as the connection does, keeps small.
	done := make(chan struct{})
	if c.srv.task(func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				c.srv.panicked("gateway_connection", r)
				c.shut(textchat.CloseUnknown)
			}
		}()
		c.handle(m.Bytes())
	}) {
		<-done
	}
}

// heartbeat acknowledges, and forgets what the client says it has.
func (c *conn) heartbeat(now time.Time, seq uint64) {
	if c.beat.Load() != 0 {
		c.beat.Store(now.UnixNano())
	}
	c.send(ack)
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()
	if session != nil {
		session.trim(c, seq)
	}
}

func (handler) OnClose(ws *gws.Conn, err error) {
	c := connOf(ws)
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
	c.writing = !c.over && c.srv.task(c.flush)
}

// end follows the last frame from the client.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if !c.writing {
		c.closeFramesLocked()
	}
}

func (c *conn) closeFramesLocked() {
	if c.frames.Close() {
		c.srv.gate.metrics.streams.Dec()
	}
}

// buffers are for the frames of one flush.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// keepBuffer is up to what size a buffer is worth keeping.
const keepBuffer = 64 << 10

func (c *conn) flush() {
	defer func() {
		if r := recover(); r != nil {
			c.srv.panicked("gateway_connection", r)
			c.shut(textchat.CloseUnknown)
			c.stopWriting()
		}
	}()
	buf := buffers.Get().(*[]byte)
	c.wire.cork()
	for {
		b, binary, ok := c.nextFrame((*buf)[:0])
		if !ok {
			break
		}
		op := gws.OpcodeText
		if binary {
			op = gws.OpcodeBinary
		}
		err := c.ws.WriteMessage(op, b)
		if *buf = b; cap(b) > keepBuffer {
			*buf = make([]byte, 0, 4<<10)
		}
		if err != nil {
			c.stopWriting() // the reader notices; until then nobody writes here
			break
		}
	}
	buffers.Put(buf)
}

// stopWriting ends the writer, and lets no other begin.
func (c *conn) stopWriting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing, c.over = false, true
	c.closeFramesLocked()
}

// nextFrame is what to write next: frames that are no events go first. When
// there is nothing it sends what was collected and ends the writer.
func (c *conn) nextFrame(b []byte) (_ []byte, binary, ok bool) {
	for {
		c.mu.Lock()
		c.frames.Mode = c.mode
		c.again = false
		if len(c.urgent) > 0 {
			f := c.urgent[0]
			c.urgent[0] = nil
			if c.urgent = c.urgent[1:]; len(c.urgent) == 0 {
				c.urgent = nil
			}
			c.mu.Unlock()
			b, binary = c.frames.Control(b, f)
			return b, binary, true
		}
		s := c.session
		c.mu.Unlock()
		if s != nil {
			if c.frames.Own(&c.srv.gate.streams) {
				c.srv.gate.metrics.streams.Inc()
			}
			if e, seq, more := s.next(c); more {
				b, binary = c.frames.Event(b, seq, e)
				return b, binary, true
			}
		}
		if c.wire.uncork() != nil {
			c.stopWriting()
			return nil, false, false
		}
		c.mu.Lock()
		if !c.again {
			c.writing = false
			if c.over {
				c.closeFramesLocked()
			}
			c.mu.Unlock()
			return nil, false, false
		}
		c.mu.Unlock()
		c.wire.cork()
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
	case a.Beat != nil:
		c.heartbeat(now, a.Beat.Seq)
	case a.Identify != nil:
		c.identify(now, *a.Identify)
	case a.Resume != nil:
		c.resume(*a.Resume)
	case a.Voice != nil:
		c.voiceUpdate(*a.Voice)
	case a.Members != nil:
		c.members(now, *a.Members)
	case a.Presence != nil:
		c.presence(now, *a.Presence)
	case a.Empty != nil:
		c.empty(*a.Empty)
	}
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
