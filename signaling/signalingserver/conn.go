package signalingserver

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"voicefleet/signaling"
	"voicefleet/signaling/internal/session"
)

const (
	// inboxFrames is how many frames of a client wait for the owner; then the
	// reader waits, and TCP makes the client wait.
	inboxFrames = 16
	// writeTimeout ends a connection that takes nothing for so long.
	writeTimeout = 10 * time.Second
)

// frame is one frame from or to a client.
type frame struct {
	op   gws.Opcode
	data []byte
}

// conn is one WebSocket.
type conn struct {
	srv  *Server
	addr netip.Addr // as the door counts it
	ws   *gws.Conn
	tcp  *guard
	in   chan frame

	closing chan struct{} // closed when nothing of the client is wanted any more
	gone    chan struct{} // closed when the reader has ended; clean is set before
	clean   bool
	written chan struct{} // closed when the writer has ended
	proved  atomic.Bool   // the door no longer counts it as a stranger

	mu sync.Mutex
	// Guarded by mu.
	queue []frame
	bytes int
	code  signaling.CloseCode // to close with after the queue; zero: not closing
	ended bool

	wake chan struct{} // holds one token when the queue or code changed
}

// push queues frames. A batch is taken whole while the outbox is within its
// bounds: the state of a call may be longer than they are. It says no when the
// client reads too slowly.
func (c *conn) push(op gws.Opcode, data ...[]byte) bool {
	if len(data) == 0 {
		return true
	}
	c.mu.Lock()
	full := len(c.queue) >= signaling.OutboxMessages || c.bytes >= signaling.OutboxBytes
	if !full && c.code == 0 && !c.ended {
		for _, d := range data {
			c.queue = append(c.queue, frame{op, d})
			c.bytes += len(d)
		}
	}
	c.mu.Unlock()
	c.nudge()
	return !full
}

func (c *conn) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// close has the connection closed with code after what is queued; at once when
// the client does not read.
func (c *conn) close(code signaling.CloseCode) {
	c.mu.Lock()
	if c.code == 0 {
		c.code = code
		close(c.closing)
		if code == signaling.CloseSlow {
			c.queue, c.bytes = nil, 0
		}
		c.srv.metrics.closed(code)
	}
	c.mu.Unlock()
	c.nudge()
	if code == signaling.CloseSlow { // the writer may be stuck in the frame before
		_ = c.tcp.SetWriteDeadline(time.Now().Add(linger))
	}
}

// refused is called by the guard: the reader's next step would be to close with
// a code of gws's choice.
func (c *conn) refused() {
	c.close(signaling.CloseTooBig)
	_ = c.ws.WriteClose(uint16(signaling.CloseTooBig), []byte(signaling.CloseTooBig.Text()))
}

// write sends what is queued until the connection ends.
func (c *conn) write() {
	defer close(c.written)
	for {
		c.mu.Lock()
		batch, code, ended := c.queue, c.code, c.ended
		c.queue, c.bytes = nil, 0
		c.mu.Unlock()
		if ended && code == 0 {
			return
		}
		if c.send(batch) != nil && code == 0 {
			code = signaling.CloseSlow
		}
		if code != 0 {
			_ = c.tcp.SetWriteDeadline(time.Now().Add(linger))
			_ = c.ws.WriteClose(uint16(code), []byte(code.Text()))
			return
		}
		if len(batch) == 0 {
			<-c.wake
		}
	}
}

// send writes a batch, together when it is more than one frame.
func (c *conn) send(batch []frame) error {
	if len(batch) == 0 {
		return nil
	}
	_ = c.tcp.SetWriteDeadline(time.Now().Add(writeTimeout))
	if len(batch) > 1 {
		c.tcp.cork()
	}
	for _, f := range batch {
		if err := c.ws.WriteMessage(f.op, f.data); err != nil {
			_ = c.tcp.uncork()
			return err
		}
	}
	return c.tcp.uncork()
}

// read takes frames until the connection ends.
func (c *conn) read() {
	c.ws.ReadLoop()
	close(c.gone)
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.nudge()
	<-c.written // a closing frame may be on its way
	c.tcp.finish()
}

// events is what gws calls, always from the reader.
type events struct{ gws.BuiltinEventHandler }

func (events) of(ws *gws.Conn) *conn {
	v, _ := ws.Session().Load("conn")
	return v.(*conn)
}

func (e events) OnMessage(ws *gws.Conn, m *gws.Message) {
	defer m.Close()
	e.of(ws).deliver(frame{m.Opcode, append([]byte{}, m.Bytes()...)})
}

func (e events) OnPing(ws *gws.Conn, payload []byte) {
	e.of(ws).deliver(frame{gws.OpcodePing, payload})
}

func (e events) OnClose(ws *gws.Conn, err error) {
	c := e.of(ws)
	var peer *gws.CloseError
	var own interface{ Uint16() uint16 } // of gws itself: 1002, 1009
	if errors.As(err, &peer) {
		c.clean = peer.Code == uint16(signaling.CloseNormal) || peer.Code == uint16(signaling.CloseGoingAway)
	} else if errors.As(err, &own) {
		c.mu.Lock()
		if c.code == 0 {
			c.srv.metrics.closed(signaling.CloseCode(own.Uint16()))
		}
		c.mu.Unlock()
	}
}

func (c *conn) deliver(f frame) {
	select {
	case c.in <- f:
	case <-c.closing:
	}
}

// input is the frame as the core takes it.
func (f frame) input() session.In {
	switch f.op {
	case gws.OpcodeText:
		return session.In{Frame: f.data}
	case gws.OpcodePing:
		return session.In{Ping: true}
	}
	return session.In{Binary: true}
}
