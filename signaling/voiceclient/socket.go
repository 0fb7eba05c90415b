package voiceclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
)

const (
	// socketFrames is how many frames wait for the one who reads the socket;
	// then TCP makes the server wait.
	socketFrames = 64
	socketWrite  = 10 * time.Second
	// socketLinger is how long a server is given to answer a closing frame.
	socketLinger = time.Second
)

// socket is a WebSocket whose frames come by a channel.
type socket struct {
	ws     *gws.Conn
	under  *quiet
	frames chan []byte
	done   chan struct{} // closed when it has ended; code and err are set before
	code   uint16        // of the peer's closing frame, zero: none
	err    error

	stop sync.Once
	quit chan struct{} // closed when nobody reads frames any more
}

// quiet is a connection that says nothing any more once reading it failed: gws
// answers the loss of a connection with a closing frame 1000, and where that
// still arrives it ends the session instead of leaving it to be resumed.
//
// One that parts is not closed by gws, which would do so right after the closing
// frame: what the server says meanwhile would be answered with a reset, which can
// overtake that frame.
type quiet struct {
	net.Conn
	lost, parts atomic.Bool
}

func (q *quiet) Close() error {
	if q.parts.Load() {
		return nil
	}
	return q.Conn.Close()
}

func (q *quiet) Read(p []byte) (int, error) {
	n, err := q.Conn.Read(p)
	if err != nil {
		q.lost.Store(true)
	}
	return n, err
}

func (q *quiet) Write(p []byte) (int, error) {
	if q.lost.Load() {
		return 0, net.ErrClosed
	}
	return q.Conn.Write(p)
}

// maxHint is the longest wait that a server may ask for, in seconds.
const maxHint = 60

// busyError tells that a server has no room now and when to come again.
type busyError struct {
	status string
	after  time.Duration
}

func (e *busyError) Error() string { return e.status }

// longer is the wait after another vain attempt, at most so long.
func longer(wait, most time.Duration) time.Duration { return min(max(2*wait, backoffMin), most) }

// pause is how long to wait after a failed attempt: anything up to wait, so that
// those who lost the same server do not come back together, and not before the
// server asked for. Long waits are at least a half: those who draw again and again
// would mostly come in the first moments after a return.
func pause(wait time.Duration, err error) time.Duration {
	least := time.Duration(0)
	if wait >= backoffMax {
		least = wait / 2
	}
	d := least + rand.N(wait-least+1)
	if busy := (*busyError)(nil); errors.As(err, &busy) {
		d += busy.after
	}
	return d
}

// dialSocket connects and upgrades.
func dialSocket(ctx context.Context, to string, config *tls.Config) (*socket, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"wss": "443"}[u.Scheme]
		if port == "" {
			port = "80"
		}
	}
	var d net.Dialer
	bare, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", u.Host, err)
	}
	// The upgrade takes no context: closing the connection ends it.
	release := context.AfterFunc(ctx, func() { _ = bare.Close() })
	defer release()
	tcp := bare
	if u.Scheme == "wss" {
		if config == nil {
			config = &tls.Config{}
		}
		config = config.Clone()
		config.NextProtos = []string{"http/1.1"}
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		secure := tls.Client(tcp, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = tcp.Close()
			return nil, fmt.Errorf("dial %s: %w", u.Host, err)
		}
		tcp = secure
	}
	under := &quiet{Conn: tcp}
	s := &socket{under: under, frames: make(chan []byte, socketFrames), done: make(chan struct{}), quit: make(chan struct{})}
	ws, resp, err := gws.NewClientFromConn(s, &gws.ClientOption{Addr: to}, under)
	if err != nil {
		_ = tcp.Close()
		if resp != nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
			after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
			return nil, fmt.Errorf("upgrade %s: %w", u.Host, &busyError{resp.Status, time.Duration(min(max(after, 0), maxHint)) * time.Second})
		}
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("upgrade %s: %s", u.Host, resp.Status)
		}
		return nil, fmt.Errorf("upgrade %s: %w", u.Host, err)
	}
	s.ws = ws
	go ws.ReadLoop()
	return s, nil
}

func (s *socket) OnOpen(*gws.Conn)         {}
func (s *socket) OnPong(*gws.Conn, []byte) {}
func (s *socket) OnPing(ws *gws.Conn, p []byte) {
	_ = ws.WritePong(p)
}

func (s *socket) OnMessage(_ *gws.Conn, m *gws.Message) {
	frame := append([]byte{}, m.Bytes()...)
	_ = m.Close()
	select {
	case s.frames <- frame:
	case <-s.quit:
	}
}

func (s *socket) OnClose(_ *gws.Conn, err error) {
	if e := (*gws.CloseError)(nil); errors.As(err, &e) {
		s.code = e.Code
	}
	s.err = err
	close(s.done)
}

func (s *socket) send(frame []byte) error {
	_ = s.ws.NetConn().SetWriteDeadline(time.Now().Add(socketWrite))
	return s.ws.WriteMessage(gws.OpcodeText, frame)
}

// close says why and ends the socket; code zero just ends it, as a lost network would.
func (s *socket) close(code uint16) {
	s.stop.Do(func() { close(s.quit) })
	if code != 0 {
		_ = s.under.SetWriteDeadline(time.Now().Add(time.Second))
		_ = s.ws.WriteClose(code, nil)
	}
	_ = s.under.Close()
	<-s.done
}

// part is close for who leaves and has the time to have that confirmed (RFC 6455 section
// 7.1.1).
func (s *socket) part(code uint16) {
	s.stop.Do(func() { close(s.quit) })
	s.under.parts.Store(true)
	_ = s.under.SetDeadline(time.Now().Add(socketLinger))
	_ = s.ws.WriteClose(code, nil)
	<-s.done
	s.under.parts.Store(false)
	_ = s.under.Close()
}
