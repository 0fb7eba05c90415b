package chatserver

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"
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

// wire is the connection under a WebSocket. One of bare TCP can be waited for, read
// and written to without a goroutine of its own; what TLS has in hand the kernel
// does not know.
type wire struct {
	net.Conn
	raw syscall.RawConn // nil: it needs a goroutine
	// fd is that of raw, for writers, which nobody closes the socket under: to ask the
	// runtime for it again would take a tenth of what a delivery takes.
	fd int
}

func newWire(c net.Conn, p *poll) wire {
	w := wire{Conn: c}
	if p == nil {
		return w
	}
	if tcp := bareTCP(c); tcp != nil {
		if raw, err := tcp.SyscallConn(); err == nil && raw.Control(func(fd uintptr) { w.fd = int(fd) }) == nil {
			w.Conn, w.raw = tcp, raw
		}
	}
	return w
}

// bareTCP is the TCP connection that c is or wraps without changing its bytes.
func bareTCP(c net.Conn) *net.TCPConn {
	for {
		switch x := c.(type) {
		case *net.TCPConn:
			return x
		case *tls.Conn:
			return nil
		case interface{ NetConn() net.Conn }:
			c = x.NetConn()
		default:
			return nil
		}
	}
}

// put writes all of b, and waits for the client to read if it must.
func (w *wire) put(b []byte) error {
	if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.SetWriteDeadline(time.Time{}) // offer has none
}

// half ends our direction; what the client still sends may be read for a moment.
func (w *wire) half() {
	_ = w.SetReadDeadline(time.Now().Add(lingerTime))
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
