package chatserver

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/textchat"
)

const (
	// writeTimeout is how long one write to a client may take.
	writeTimeout = 10 * time.Second
	// lingerTime and lingerBytes bound what is read and thrown away after our
	// close frame: to close a socket with unread data resets it, and the client
	// would never see the code.
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// wire is the connection under a WebSocket. It bounds every write in time,
// keeps the socket open for a moment after our close frame, and gives the close
// frames that the WebSocket library makes by itself the codes of the gateway: a
// frame beyond MaxFrame is CloseDecode, not 1009.
//
// While it is corked it collects frames, to write many by one system call.
type wire struct {
	net.Conn
	of      *conn
	closing atomic.Bool

	mu sync.Mutex
	// Guarded by mu.
	corked bool
	held   *[]byte // of a pool; nil: nothing is held
}

// holdMost is from how many bytes on what is collected is written.
const holdMost = 16 << 10

var helds = sync.Pool{New: func() any { b := make([]byte, 0, holdMost); return &b }}

// cork begins to collect.
func (w *wire) cork() {
	w.mu.Lock()
	w.corked = true
	w.mu.Unlock()
}

// uncork writes what was collected.
func (w *wire) uncork() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = false
	return w.releaseLocked()
}

func (w *wire) releaseLocked() error {
	if w.held == nil {
		return nil
	}
	b := *w.held
	_, err := w.write(b)
	if *w.held = b[:0]; cap(b) <= 4*holdMost {
		helds.Put(w.held)
	}
	w.held = nil
	return err
}

const closeFrame = 0x88 // FIN and opcode 8 (RFC 6455 section 5.2)

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(p) > 0 && p[0] != closeFrame && w.corked && len(p) < holdMost {
		if w.held != nil && len(*w.held)+len(p) > holdMost {
			if err := w.releaseLocked(); err != nil {
				return 0, err
			}
		}
		if w.held == nil {
			w.held = helds.Get().(*[]byte)
		}
		*w.held = append(*w.held, p...)
		return len(p), nil
	}
	if err := w.releaseLocked(); err != nil {
		return 0, err
	}
	if len(p) >= 4 && p[0] == closeFrame && p[1] >= 2 && p[1] <= 125 && binary.BigEndian.Uint16(p[2:]) == 1009 {
		reason := textchat.CloseDecode.String()
		p = append([]byte{closeFrame, byte(2 + len(reason)), 0, 0}, reason...)
		binary.BigEndian.PutUint16(p[2:], uint16(textchat.CloseDecode))
		if _, err := w.write(p); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return w.write(p)
}

func (w *wire) write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// SetDeadline leaves writes alone: they have their own.
func (w *wire) SetDeadline(t time.Time) error { return w.Conn.SetReadDeadline(t) }

// Close ends our direction only. finish ends the rest.
func (w *wire) Close() error {
	if w.closing.Swap(true) {
		return nil
	}
	_ = w.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return w.Conn.Close()
}

// finish reads away what the client still sends and closes the socket.
func (w *wire) finish() {
	if w.closing.Load() {
		_, _ = io.CopyN(io.Discard, w.Conn, lingerBytes)
	}
	_ = w.Conn.Close()
}
