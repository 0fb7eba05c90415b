package chatserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/ratelimit"
	"voicefleet/textchat/internal/wsframe"
)

// urgentLen bounds the frames that go before events: hello, acknowledgements,
// invalid session. A client that makes us owe it more does not read.
const urgentLen = 32

const (
	// readBuffer is for the frames of a connection that has a goroutine; they are
	// mostly heartbeats.
	readBuffer = 512
	// lookBuffer is for what one that has none was waited for: the longest frame.
	lookBuffer = textchat.MaxFrame + 64
)

// conn is one gateway connection. Its writer is one of the gate's, or begun when
// there is something to write, and ends when there is not.
type conn struct {
	// Immutable.
	srv     *Server
	wire    wire
	prefix  string     // of its address, which it counts for
	client  netip.Addr // where it comes from
	host    string     // by which the client reached us, without the port
	url     string     // the gateway's own URL, as this client reached it
	version int        // 9 or 10
	opened  time.Time

	// Owned by the reader: one goroutine at a time.
	intake gatewaysession.Intake
	in     wsframe.Reader

	reading atomic.Bool  // somebody reads, of those that poll tells of
	beat    atomic.Int64 // when the last heartbeat came, in nanoseconds; 0 before Identify
	until   atomic.Int64 // before Identify it is not overdue earlier; see patient
	dead    atomic.Bool  // nothing is read any more, and no event written
	ended   atomic.Bool  // the socket is closed, or will be by the writer
	met     atomic.Bool  // it is not counted as a stranger's any more

	mu sync.Mutex
	// Guarded by mu.
	urgent  []urgent
	bye     []byte   // the close frame, once there is one
	session *session // nil until identified
	mode    gatewaysession.Compression
	writing bool          // a writer runs, or is to
	again   bool          // it must look once more
	wrote   time.Duration // when a writer last ended, by the clock of writers
	over    bool          // no writer must begin
	heir    bool          // the writer is to release the connection when it ends

	// Guarded by writers.mu.
	due    time.Duration // when it leaves writers.soon; 0: it is not there
	queued bool          // it is in writers.queue

	// Owned by the writer, and by release when there is none.
	frames gatewaysession.Framer
}

// urgent is a frame that goes before events.
type urgent struct {
	op   wsframe.Opcode
	body []byte
}

// gateway takes WebSocket upgrades.
func (s *Server) gateway(w http.ResponseWriter, r *http.Request) {
	prefix := prefixKey(s.clientAddr(r))
	now := time.Now()
	if a := s.rates.Take(now, "gateway|"+prefix, ratelimit.Rule{Limit: s.cfg.Limits.Attempts, Window: time.Minute}); !a.OK {
		s.writeLimited(w, now, a, bucketName("WebSocket /gateway"))
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
	if !wsframe.Wanted(r) {
		writeError(w, textchat.Refuse(http.StatusBadRequest, textchat.CodeGeneral, "This is no request for a WebSocket of version 13."))
		return
	}
	if s.hub.strangers.Load() >= int64(s.cfg.Limits.Strangers) {
		s.metrics.limited.Inc()
		writeError(w, textchat.Unavailable("Too many connect right now, try again.", 5*time.Second))
		return
	}
	if !s.hub.reserve(prefix, s.cfg.Limits.Connections) {
		s.writeLimited(w, now, ratelimit.Answer{Limit: s.cfg.Limits.Connections, Reset: now.Add(5 * time.Second)}, bucketName("WebSocket /gateway"))
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
	c := &conn{srv: s, wire: newWire(socket, s.gate.poll), prefix: prefix, client: s.clientAddr(r), host: hostOnly(r.Host), url: s.gatewayURL(r),
		opened: time.Now(), version: 10, mode: mode, frames: gatewaysession.Framer{Mode: mode}, in: wsframe.Reader{Most: textchat.MaxFrame}}
	if v := r.URL.Query().Get("v"); v != "" {
		c.version, _ = strconv.Atoi(v)
	}
	// The greeting goes with the answer: when all come at once it is a third of the
	// writes.
	answer := wsframe.Accept(r)
	from := len(answer)
	known := c.version == 9 || c.version == 10
	if known {
		var binary bool
		answer, binary = c.frames.Control(wsframe.Begin(answer), hello)
		answer = wsframe.End(answer, from, opcode(binary))
	}
	if c.wire.put(answer) != nil {
		_ = socket.Close()
		return false
	}
	if !s.hub.addConn(c) {
		_ = c.wire.put(wsframe.AppendClose(nil, uint16(textchat.CloseGoingAway), textchat.CloseGoingAway.String()))
		c.wire.half()
		_ = socket.Close()
		return false
	}
	s.metrics.connections.Inc()
	// What the client said at once has been read with the request. The handler's
	// goroutine, with its request and buffers, is let go.
	early := make([]byte, buffered.Reader.Buffered())
	_, _ = io.ReadFull(buffered.Reader, early)
	if !known {
		c.shut(textchat.CloseInvalidVersion)
	}
	if !s.task(func() { c.open(early) }) {
		c.gone()
	}
	return true
}

// open begins to read. On a busy machine this is long after the greeting went.
func (c *conn) open(early []byte) {
	c.patient(time.Now())
	c.feed(early)
	if c.wire.raw == nil {
		c.readLoop()
		return
	}
	if c.srv.gate.watch(c) != nil {
		c.gone()
	}
}

// readLoop reads until the connection ends, and for a while after our close frame.
func (c *conn) readLoop() {
	defer c.gone()
	buf := make([]byte, readBuffer)
	for left := lingerBytes; left > 0; {
		n, err := c.wire.Read(buf)
		if c.dead.Load() {
			left -= n
		} else {
			c.feed(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

var lookBuffers = sync.Pool{New: func() any { b := make([]byte, lookBuffer); return &b }}

// look reads what has come, and has poll tell of more.
func (c *conn) look() {
	buf := lookBuffers.Get().(*[]byte)
	defer lookBuffers.Put(buf)
	for !c.dead.Load() {
		n, err := c.wire.look(*buf)
		if err != nil {
			c.gone()
			return
		}
		c.feed((*buf)[:n])
		if n < len(*buf) {
			break
		}
	}
	// After our close frame linger reads.
	if !c.dead.Load() && c.srv.gate.poll.again(c) != nil {
		c.gone()
	}
}

// linger follows our close frame: what the client still sends is read away, so that
// it sees why.
func (c *conn) linger() {
	if c.idle() {
		return
	}
	c.wire.half()
	if c.wire.raw == nil {
		return // readLoop does
	}
	if !c.srv.task(func() {
		_, _ = io.CopyN(io.Discard, c.wire, lingerBytes)
		c.gone()
	}) {
		c.gone()
	}
}

// gone ends the connection; its session, if any, waits to be resumed.
func (c *conn) gone() {
	if c.ended.Swap(true) {
		return
	}
	c.dead.Store(true)
	c.part()
	c.mu.Lock()
	c.over = true
	c.heir = c.writing
	left := c.heir
	c.mu.Unlock()
	if left {
		c.srv.gate.writers.hurry(c)
		_ = c.wire.SetDeadline(time.Unix(1, 0)) // it waits no longer
		return
	}
	c.release()
}

// release closes the socket, when nobody uses it any more.
func (c *conn) release() {
	if c.frames.Close() {
		c.srv.gate.metrics.streams.Dec()
	}
	if c.wire.raw != nil {
		c.srv.gate.poll.forget(c)
	}
	_ = c.wire.Close()
	c.srv.metrics.connections.Dec()
	c.srv.hub.release(c.prefix)
	c.srv.hub.removeConn(c)
}

var hello = encodeOp(textchat.OpHello, map[string]any{"heartbeat_interval": textchat.HeartbeatInterval.Milliseconds(), "_trace": []string{}})

// feed takes bytes as they came.
func (c *conn) feed(b []byte) {
	defer func() {
		if r := recover(); r != nil {
			c.srv.panicked("gateway_connection", r)
			c.shut(textchat.CloseUnknown)
		}
	}()
	switch err := c.in.Feed(b, c.message); {
	case errors.Is(err, wsframe.ErrTooLarge):
		c.shut(textchat.CloseDecode)
	case errors.Is(err, wsframe.ErrText):
		c.close(closeText, err.Error())
	case err != nil:
		c.close(closeProtocol, err.Error())
	}
}

// A client that speaks no WebSocket, and one whose text is none (RFC 6455 section 7.4.1).
const (
	closeProtocol = 1002
	closeText     = 1007
)

// message is one message, or control frame, of the client; false: no more of them.
func (c *conn) message(m wsframe.Message) bool {
	if c.dead.Load() {
		return false
	}
	switch m.Opcode {
	case wsframe.Close:
		c.farewell(m.Payload)
	case wsframe.Ping:
		// Pings and pongs count like frames, or they would be a free way to keep us busy.
		now := time.Now()
		if code := c.intake.Ping(now); code != 0 {
			c.excess(now, code)
		} else {
			c.sendFrame(urgent{wsframe.Pong, bytes.Clone(m.Payload)})
		}
	case wsframe.Pong:
		now := time.Now()
		if code := c.intake.Count(now); code != 0 {
			c.excess(now, code)
		}
	case wsframe.Text, wsframe.Binary:
		c.frame(m.Payload)
	}
	return !c.dead.Load()
}

// frame is one frame of the gateway.
func (c *conn) frame(b []byte) {
	c.srv.metrics.frames.Inc()
	if seq, ok := gatewaysession.PlainBeat(b); ok {
		now := time.Now()
		if code := c.intake.Count(now); code != 0 {
			c.excess(now, code)
			return
		}
		c.heartbeat(now, seq)
		return
	}
	if c.wire.raw != nil {
		c.handle(b)
		return
	}
	// Reading JSON and beginning a session need a deep stack. It is borrowed: that of
	// readLoop, which stays for as long as the connection does, keeps small.
	done := make(chan struct{})
	if c.srv.task(func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				c.srv.panicked("gateway_connection", r)
				c.shut(textchat.CloseUnknown)
			}
		}()
		c.handle(b)
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

// farewell is a close frame of the client: it is answered. Who says good-bye ends
// its session; a connection that breaks leaves it to be resumed.
func (c *conn) farewell(payload []byte) {
	code, ok := wsframe.CloseCode(payload)
	if !ok {
		code = closeProtocol
	}
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	leaves := s != nil && (code == 1000 || code == 1001) && s.at(c) // asked first: once it is answered the client may be gone
	if c.close(code, "") && leaves {
		s.finish(textchat.CloseNormal)
	}
}

// part leaves the session to be resumed.
func (c *conn) part() {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.detach(c)
	}
}

// patient has the time to Identify begin at a moment: until then it is we who are waited
// for, or the client was told to wait.
func (c *conn) patient(until time.Time) { c.until.Store(until.UnixNano()) }

// overdue says whether the client took too long.
func (c *conn) overdue(now time.Time) bool {
	beat := c.beat.Load()
	if beat == 0 {
		return now.UnixNano()-max(c.until.Load(), c.opened.UnixNano()) >= int64(c.srv.identifyTimeout)
	}
	return now.Sub(time.Unix(0, beat)) >= c.srv.heartbeatLimit
}

// shut ends the connection with a code. The session, if any, is not touched.
func (c *conn) shut(code textchat.CloseCode) { c.shutFor(code, code.String()) }

func (c *conn) shutFor(code textchat.CloseCode, reason string) {
	if c.close(uint16(code), reason) {
		c.srv.metrics.closes.WithLabelValues(strconv.Itoa(int(code))).Inc()
	}
}

// excess ends the connection of a client that sends too much, and says when to come
// back.
func (c *conn) excess(now time.Time, code textchat.CloseCode) {
	c.shutFor(code, comeBackIn(code, c.intake.Rest(now)))
}

func comeBackIn(code textchat.CloseCode, wait time.Duration) string {
	return code.String() + ": come back in " + strconv.Itoa(int(math.Ceil(wait.Seconds()))) + " s"
}

// sendAway tells the client to resume at once, elsewhere or later here, and ends the
// connection.
func (c *conn) sendAway(code textchat.CloseCode) {
	c.mu.Lock()
	if !c.dead.Load() && len(c.urgent) < urgentLen {
		c.urgent = append(c.urgent, urgent{wsframe.Text, reconnect})
	}
	c.mu.Unlock()
	c.shut(code)
}

var reconnect = encodeOp(textchat.OpReconnect, nil)

// close has the close frame written; false: the connection ends already.
func (c *conn) close(code uint16, reason string) bool {
	if c.dead.Swap(true) {
		return false
	}
	c.mu.Lock()
	c.bye = wsframe.AppendClose(nil, code, reason)
	c.mu.Unlock()
	c.wake(true)
	return true
}

// send queues a frame that goes before events.
func (c *conn) send(frame []byte) { c.sendFrame(urgent{wsframe.Text, frame}) }

func (c *conn) sendFrame(u urgent) {
	c.mu.Lock()
	if len(c.urgent) >= urgentLen {
		c.mu.Unlock()
		c.shutFor(textchat.CloseRateLimited, comeBackIn(textchat.CloseRateLimited, textchat.FrameWindow))
		return
	}
	c.urgent = append(c.urgent, u)
	c.mu.Unlock()
	c.wake(true)
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
	case a.Close == textchat.CloseRateLimited:
		c.excess(now, a.Close)
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
	case a.Looks != nil:
		c.looks(a.Looks)
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
