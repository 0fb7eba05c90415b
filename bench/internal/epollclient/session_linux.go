package epollclient

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stage is how far a session is.
type stage uint8

const (
	away       stage = iota // no connection
	connecting              // TCP is under way
	upgrading               // the answer to the upgrade is to come
	greeting                // HELLO, READY or RESUMED is to come
	in
)

// session is one session, over one connection after the other.
type session struct {
	// Immutable.
	token  string
	source [4]byte
	raw    bool

	stage   stage
	cut     bool // by us, to be resumed
	given   bool // up: it is in nobody's way any more
	resumes bool
	server  uint16 // of Loop.servers: the one that it goes to
	fd      int
	tries   int   // that failed since it was in
	dials   int   // connections that were begun
	due     int64 // Unix ns: when it was to come, or to resume
	id      string
	seq     uint64
	partial []byte   // of a frame, or of the answer to the upgrade
	seen    []uint64 // a bit for each post
}

// The ops of gateway v10 that a session hears of.
const (
	opHeartbeat = 1
	opInvalid   = 9
	opHello     = 10
)

// intents: GUILDS, GUILD_MESSAGES and MESSAGE_CONTENT.
const intents = 1<<0 | 1<<9 | 1<<15

// upgrade is the request. The key is that of RFC 6455 section 1.3: nobody here
// checks what comes back.
const upgrade = "GET /gateway?v=10&encoding=json HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// connect begins a connection.
func (l *Loop) connect(s *session) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.fail(s, fmt.Errorf("open socket: %w", err))
		return
	}
	s.fd, s.partial = fd, nil
	s.dials++
	err = l.dial(s)
	if err != nil {
		l.fail(s, err)
		return
	}
	s.stage = connecting
	for len(l.byFD) <= fd {
		l.byFD = append(l.byFD, nil)
	}
	l.byFD[fd] = s
}

func (l *Loop) dial(s *session) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for time stamps: %w", err)
	}
	// Heartbeats and what they answer are to go at once, and the port is chosen when
	// the destination is known: so each source has all of its ports for each server.
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(s.fd, &unix.SockaddrInet4{Addr: s.source}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	to := &l.servers[s.server].at
	if s.raw {
		to = &l.yardstick
	}
	if err := unix.Connect(s.fd, to); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(s.fd)})
}

// connected sends the upgrade.
func (l *Loop) connected(s *session) {
	if code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		l.fail(s, fmt.Errorf("connect: %w", unix.Errno(code)))
		return
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(s.fd)}); err != nil {
		l.fail(s, err)
		return
	}
	s.stage = upgrading
	l.write(s, fmt.Appendf(nil, upgrade, l.servers[s.server].host))
}

// write sends what is small enough for any socket buffer.
func (l *Loop) write(s *session, b []byte) {
	if n, err := unix.Write(s.fd, b); err != nil || n < len(b) {
		l.fail(s, errUnread)
	}
}

// say sends a text frame, masked with zeros (RFC 6455 section 5.3).
func (l *Loop) say(s *session, text []byte) {
	b := l.out[:0]
	if len(text) < 126 {
		b = append(b, 0x81, 0x80|byte(len(text)))
	} else {
		b = append(b, 0x81, 0x80|126, byte(len(text)>>8), byte(len(text)))
	}
	b = append(append(b, 0, 0, 0, 0), text...)
	l.out = b
	l.write(s, b)
}

func (l *Loop) beat(s *session) {
	l.say(s, fmt.Appendf(nil, `{"op":1,"d":%d}`, s.seq))
}

// readable takes what has come; now is about the time. epoll tells of a socket once
// (EPOLLET): a read that leaves room has taken all, but for the end.
func (l *Loop) readable(s *session, now int64, end bool) {
	for {
		l.message.SetControllen(len(l.control))
		r, _, err := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&l.message)), unix.MSG_DONTWAIT)
		n := int(r)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != 0:
			l.fail(s, fmt.Errorf("read: %w", err))
			return
		case n == 0:
			l.fail(s, errClosed)
			return
		}
		l.tally.Bytes += int64(n)
		at := stampOf(l.control[:l.message.Controllen])
		if at == 0 {
			at = now
		}
		if now-at >= int64(lateRead) {
			l.tally.LateReads++
		}
		l.tally.Reads++
		l.take(s, l.buf[:n], at)
		if s.stage == away || n < len(l.buf) && !end {
			return
		}
	}
}

// stampOf finds the time in the control messages of a read (socket(7)), 0 when the
// kernel does not say.
func stampOf(control []byte) int64 {
	for len(control) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) >= 16 {
			return int64(binary.NativeEndian.Uint64(data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(data[8:]))
		}
		control = rest
	}
	return 0
}

// take reads the answer to the upgrade, and frames. What is not whole is kept.
func (l *Loop) take(s *session, b []byte, at int64) {
	if len(s.partial) > 0 {
		b = append(s.partial, b...)
		s.partial = nil
	}
	if s.stage == upgrading {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			s.partial = bytes.Clone(b)
			return
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101")) {
			l.fail(s, fmt.Errorf("%w: %.12s", errStatus, b[min(9, len(b)):]))
			return
		}
		b = b[end+4:]
		s.stage = greeting
		if s.raw {
			l.enter(s, at)
		}
	}
	for len(b) > 0 && s.stage != away {
		op, payload, rest, ok := nextFrame(b)
		if !ok {
			s.partial = bytes.Clone(b)
			return
		}
		l.tally.Frames++
		switch op {
		case 1, 2:
			l.text(s, payload, at)
		case 8:
			code := 0
			if len(payload) >= 2 {
				code = int(binary.BigEndian.Uint16(payload))
			}
			l.fail(s, fmt.Errorf("closed by the server with %d %s", code, payload[min(2, len(payload)):]))
			return
		}
		b = rest
	}
}

// nextFrame cuts a frame of a server, which is not masked, off b.
func nextFrame(b []byte) (op byte, payload, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, nil, false
	}
	n, head := int(b[1]&0x7f), 2
	switch {
	case n == 126 && len(b) >= 4:
		n, head = int(binary.BigEndian.Uint16(b[2:])), 4
	case n == 127 && len(b) >= 10:
		n, head = int(binary.BigEndian.Uint64(b[2:])), 10
	case n >= 126:
		return 0, nil, nil, false
	}
	if len(b) < head+n {
		return 0, nil, nil, false
	}
	return b[0] & 0x0f, b[head : head+n], b[head+n:], true
}

// dispatchHead is how the server's frames of events begin.
var (
	dispatchHead = []byte(`{"t":"`)
	sequenceHead = []byte(`","s":`)
)

// text reads a frame of the gateway.
func (l *Loop) text(s *session, f []byte, at int64) {
	rest, ok := bytes.CutPrefix(f, dispatchHead)
	if !ok {
		l.order(s, f)
		return
	}
	name, rest, ok := bytes.Cut(rest, sequenceHead)
	if !ok {
		l.tally.Garbled++
		return
	}
	seq, rest := number(rest)
	if !s.raw {
		if seq <= s.seq {
			l.tally.Repeated++
		}
		s.seq = max(s.seq, seq)
	}
	switch string(name) {
	case "MESSAGE_CREATE":
		l.hear(s, rest, at)
	case "READY":
		var r struct {
			D struct {
				Session string `json:"session_id"`
				Resume  string `json:"resume_gateway_url"`
			} `json:"d"`
		}
		if json.Unmarshal(f, &r) != nil || r.D.Session == "" {
			l.tally.Garbled++
			return
		}
		s.id, s.server = r.D.Session, l.place(r.D.Resume, s.server)
		l.enter(s, at)
	case "RESUMED":
		l.enter(s, at)
	}
}

// place is the server of a URL that a session is to resume at; one that is no address
// is that where it is.
func (l *Loop) place(resume string, here uint16) uint16 {
	u, err := url.Parse(resume)
	if err != nil || u.Host == l.servers[here].host {
		return here
	}
	if i := slices.IndexFunc(l.servers, func(p place) bool { return p.host == u.Host }); i >= 0 {
		return uint16(i)
	}
	at, err := netip.ParseAddrPort(u.Host)
	if err != nil || !at.Addr().Is4() || len(l.servers) == maxServers {
		return here
	}
	l.servers = append(l.servers, place{unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}, u.Host})
	return uint16(len(l.servers) - 1)
}

// maxServers bounds those that sessions are sent to.
const maxServers = 1024

// number reads a decimal number off b.
func number(b []byte) (uint64, []byte) {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	v, _ := strconv.ParseUint(string(b[:n]), 10, 64) // too large is 0, which is no post and no sequence
	return v, b[n:]
}

// order reads a frame that is no event.
func (l *Loop) order(s *session, f []byte) {
	var c struct {
		Op    int     `json:"op"`
		Retry float64 `json:"retry_after"`
	}
	if json.Unmarshal(f, &c) != nil {
		l.tally.Garbled++
		return
	}
	switch c.Op {
	case opHello:
		if s.resumes {
			l.say(s, fmt.Appendf(nil, `{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, s.token, s.id, s.seq))
			return
		}
		l.identify(s)
	case opHeartbeat:
		l.beat(s)
	case opInvalid:
		if s.resumes || c.Retry <= 0 {
			s.given = true
			l.fail(s, errInvalid)
			return
		}
		// Told to come later, on the same connection.
		dials := s.dials
		l.later(time.Now().Add(time.Duration(c.Retry*float64(time.Second))), func() {
			if s.stage == greeting && s.dials == dials {
				l.identify(s)
			}
		})
	}
}

func (l *Loop) identify(s *session) {
	l.say(s, fmt.Appendf(nil, `{"op":2,"d":{"token":%q,"intents":%d,"properties":{"os":"linux","browser":"voicebench","device":"voicebench"}}}`, s.token, intents))
}
