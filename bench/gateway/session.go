package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lxzan/gws"
)

// The ops of gateway v10 that a session speaks.
const (
	opDispatch  = 0
	opHeartbeat = 1
	opIdentify  = 2
	opResume    = 6
	opReconnect = 7
	opInvalid   = 9
	opHello     = 10
	opAck       = 11
)

// intents: GUILDS, GUILD_MESSAGES and MESSAGE_CONTENT, which others than
// voicefleet want for the text of a message.
const intents = 1<<0 | 1<<9 | 1<<15

const (
	// readBuffer is for one connection: a message is some 600 bytes.
	readBuffer = 2 << 10
	// writeTimeout is how long the server may take to read a frame of ours.
	writeTimeout = 5 * time.Second
	closeTimeout = time.Second
)

// session is one gateway session, over one connection after the other.
type session struct {
	// Immutable.
	load   *load
	token  string
	source netip.Addr // of its connections; invalid: the kernel's choice

	receiver atomic.Pointer[receiver] // nil until posts begin

	// Owned by the reader of the connection, by whoever dials when there is none.
	id     string // from READY
	resume string // URL to resume at

	seq atomic.Uint64

	mu sync.Mutex
	// Guarded by mu.
	link *link // nil: no connection that is in
}

// current is the connection that is in, or nil.
func (s *session) current() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

// stages are the moments of a connection on its way in.
type stages struct {
	due, connected, hello, in, guild time.Time
}

// link is one connection of a session. Its reader is one goroutine.
type link struct {
	gws.BuiltinEventHandler
	// Immutable.
	session *session
	resumes bool
	wire    *wire
	ws      *gws.Conn

	// Owned by the reader.
	stages stages
	err    error // why it ended before it was in, or at all

	in    chan struct{} // closed when READY or RESUMED came
	ended chan struct{} // closed when the reader has ended

	dropped atomic.Bool  // we cut it
	beats   atomic.Int64 // sent and not acknowledged
}

// refusedUpgrade is an answer to the upgrade that is not 101.
type refusedUpgrade struct{ status int }

func (r *refusedUpgrade) Error() string { return fmt.Sprintf("upgrade refused with %d", r.status) }

// errEarly is a server that ends a connection before it answers the upgrade.
var errEarly = errors.New("closed before the upgrade was answered")

// errInvalid is op 9: the server does not take the Identify or Resume.
var errInvalid = errors.New("invalid session (op 9)")

// dial connects, upgrades and begins to read. The link's wait group counts its
// reader. What dialling takes ends with ctx.
func (s *session) dial(ctx context.Context, due time.Time, resumes bool, readers *sync.WaitGroup) (*link, error) {
	to := s.load.server.gateway
	if resumes && s.resume != "" {
		to = s.resume
	}
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	var d net.Dialer
	if s.source.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: s.source.AsSlice()}
	}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	l := &link{session: s, resumes: resumes, in: make(chan struct{}), ended: make(chan struct{})}
	l.stages.due = due
	if l.wire, err = newWire(c.(*net.TCPConn)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c = l.wire
	release := context.AfterFunc(ctx, func() { _ = l.wire.Close() })
	defer release()
	if u.Scheme == "wss" {
		config := s.load.server.remote.TLS()
		config.NextProtos = []string{"http/1.1"}
		config.ServerName = u.Hostname()
		secure := tls.Client(c, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c = secure
	}
	ws, res, err := gws.NewClientFromConn(l, &gws.ClientOption{Addr: to, ReadBufferSize: readBuffer, HandshakeTimeout: s.load.config.Patience, Logger: quiet{}}, c)
	if err != nil {
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			err = &refusedUpgrade{res.StatusCode}
		} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			err = errEarly
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	l.ws = ws
	l.stages.connected = time.Now()
	if at := l.wire.arrived; !at.IsZero() {
		l.stages.connected = at
	}
	readers.Go(func() {
		defer close(l.ended)
		l.ws.ReadLoop()
		_ = l.wire.Close()
	})
	return l, nil
}

// quiet keeps the WebSocket library from logging.
type quiet struct{}

func (quiet) Error(...any) {}

// await waits until the session is in.
func (l *link) await(ctx context.Context) error {
	select {
	case <-l.in:
		return nil
	case <-l.ended:
		select {
		case <-l.in:
			return nil
		default:
			return l.err
		}
	case <-ctx.Done():
		l.cut()
		<-l.ended
		return ctx.Err()
	}
}

// send writes a frame; a failure ends the connection, which its reader notices.
func (l *link) send(frame []byte) {
	_ = l.wire.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = l.ws.WriteMessage(gws.OpcodeText, frame)
}

// beat sends a heartbeat.
func (l *link) beat() {
	if l.beats.Add(1) > 1 {
		l.session.load.unanswered.Add(1)
	}
	l.send(fmt.Appendf(nil, `{"op":1,"d":%d}`, l.session.seq.Load()))
}

// cut ends the connection as a lost network would: without a good-bye, and with a
// reset, so that the server sees it at once.
func (l *link) cut() {
	l.dropped.Store(true)
	if tcp, ok := l.wire.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = l.wire.Close()
}

// leave says good-bye, which ends the session too.
func (l *link) leave() {
	l.dropped.Store(true)
	_ = l.wire.SetWriteDeadline(time.Now().Add(closeTimeout))
	_ = l.ws.WriteClose(1000, nil)
	_ = l.wire.SetReadDeadline(time.Now().Add(closeTimeout))
	<-l.ended
}

// OnPing answers.
func (l *link) OnPing(ws *gws.Conn, payload []byte) {
	_ = l.wire.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = ws.WritePong(payload)
}

// OnClose keeps why.
func (l *link) OnClose(_ *gws.Conn, err error) {
	if l.err == nil {
		l.err = err
	}
	s := l.session
	s.mu.Lock()
	mine := s.link == l
	if mine {
		s.link = nil
	}
	s.mu.Unlock()
	if mine && !l.dropped.Load() {
		s.load.lostLink(l.err)
	}
}

// eventHead is how voicefleet's frames of posts begin; others are read as JSON.
var eventHead = []byte(`{"t":"MESSAGE_CREATE","s":`)

// OnMessage reads a frame.
func (l *link) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	arrived := l.wire.arrived
	now := time.Now()
	if arrived.IsZero() {
		arrived = now
	}
	load, frame := l.session.load, m.Bytes()
	if seq, rest, ok := quickHead(frame); ok {
		l.session.seq.Store(seq)
		l.message(rest, arrived, now)
		return
	}
	var f struct {
		Op int             `json:"op"`
		S  *uint64         `json:"s"`
		T  string          `json:"t"`
		D  json.RawMessage `json:"d"`
	}
	if err := json.Unmarshal(frame, &f); err != nil {
		load.garbled.Add(1)
		return
	}
	if f.S != nil {
		l.session.seq.Store(*f.S)
	}
	switch f.Op {
	case opHello:
		l.hello(f.D, arrived)
	case opHeartbeat:
		l.beat()
	case opAck:
		l.beats.Store(0)
	case opInvalid:
		l.err = errInvalid
		l.cut()
	case opReconnect:
		load.reconnects.Add(1)
	case opDispatch:
		l.dispatch(f.T, f.D, arrived, now)
	}
}

// quickHead reads the sequence of a post's frame; rest is its event.
func quickHead(frame []byte) (seq uint64, rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(frame, eventHead)
	if !ok {
		return 0, nil, false
	}
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	seq, err := strconv.ParseUint(string(rest[:n]), 10, 64)
	return seq, rest[n:], err == nil
}

func (l *link) hello(d json.RawMessage, arrived time.Time) {
	var h struct {
		Interval int64 `json:"heartbeat_interval"` // ms
	}
	if json.Unmarshal(d, &h) != nil || h.Interval <= 0 {
		l.session.load.garbled.Add(1)
		return
	}
	s := l.session
	s.load.interval.Store(h.Interval)
	l.stages.hello = arrived
	token := strings.TrimPrefix(s.token, "Bot ")
	if l.resumes {
		l.send(fmt.Appendf(nil, `{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, token, s.id, s.seq.Load()))
		return
	}
	l.send(fmt.Appendf(nil, `{"op":2,"d":{"token":%q,"intents":%d,"compress":false,"properties":{"os":"linux","browser":"voicebench","device":"voicebench"}}}`, token, intents))
}

func (l *link) dispatch(event string, d json.RawMessage, arrived, now time.Time) {
	s := l.session
	switch event {
	case "READY":
		var r struct {
			Session string `json:"session_id"`
			Resume  string `json:"resume_gateway_url"`
		}
		if json.Unmarshal(d, &r) != nil || r.Session == "" {
			s.load.garbled.Add(1)
			return
		}
		s.id = r.Session
		if u, err := url.Parse(r.Resume); err == nil && u.Host != "" {
			u.RawQuery = "v=10&encoding=json"
			s.resume = u.String()
		}
		l.enter(arrived)
	case "RESUMED":
		l.enter(arrived)
	case "GUILD_CREATE":
		if l.stages.guild.IsZero() {
			l.stages.guild = arrived
			s.load.guilds.Add(1)
		}
	case "MESSAGE_CREATE":
		l.message(d, arrived, now)
	}
}

func (l *link) enter(arrived time.Time) {
	if !l.stages.in.IsZero() {
		l.session.load.garbled.Add(1)
		return
	}
	l.stages.in = arrived
	l.session.mu.Lock()
	l.session.link = l
	l.session.mu.Unlock()
	close(l.in)
}

// message finds out which post an event is.
func (l *link) message(event []byte, arrived, now time.Time) {
	if r := l.session.receiver.Load(); r != nil {
		r.hear(postNumber(event, l.session.load.mark), arrived, now)
	}
}

// postNumber is the number behind the mark of this run in an event, or -1.
func postNumber(event, mark []byte) int {
	i := bytes.Index(event, mark)
	if i < 0 {
		return -1
	}
	rest := event[i+len(mark):]
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(rest[:n]), 10, 31)
	if err != nil {
		return -1
	}
	return int(v)
}

// reason names why a connection did not get in, or ended.
func reason(err error) string {
	var upgrade *refusedUpgrade
	var code *gws.CloseError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &upgrade) && upgrade.status == http.StatusTooManyRequests:
		return "429 at the upgrade: too many connections, or attempts a minute, from one address"
	case errors.As(err, &upgrade):
		return fmt.Sprintf("status %d at the upgrade", upgrade.status)
	case errors.As(err, &code):
		return fmt.Sprintf("closed by the server with %d %s", code.Code, code.Reason)
	case errors.Is(err, errEarly):
		return "closed by the server before it answered the upgrade: too many at once, of one address or in all"
	case errors.Is(err, errInvalid):
		return "op 9, invalid session: Identify or Resume throttled or refused"
	case errors.As(err, &certificate):
		return "certificate is not trusted (give --ca with the server's /ca.pem, or --insecure)"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "not in within --patience"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no local port left: give more --sources"
	case errors.Is(err, context.Canceled):
		return "the run was ended"
	case err == nil:
		return "connection ended"
	}
	return "connection ended: " + shortest(err)
}

// shortest is the innermost error: what is around it names addresses, of which
// each would be a reason of its own.
func shortest(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
