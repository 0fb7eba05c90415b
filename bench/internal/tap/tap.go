// Package tap times what a server answers to a client's datagrams, by looking at
// the client's own sockets: for each STUN check the time to its answer, for each
// DTLS flight the time from its last datagram to the first that comes back.
package tap

import (
	"net"
	"sync"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

// Times are what was seen until now.
type Times struct {
	STUN    time.Duration // the longest wait for the answer to a check
	Flights time.Duration // the sum of the waits for the server's DTLS flights
	// Answers counts the datagrams that were waited for.
	Answers int
}

// maxPending bounds the checks whose answer is awaited. Most never come: they
// were sent to addresses where nobody listens.
const maxPending = 256

// Net is the system's network with eyes.
type Net struct {
	*stdnet.Net

	mu sync.Mutex
	// Guarded by mu.
	pending map[[12]byte]time.Time // STUN by transaction
	asked   time.Time              // of the last DTLS datagram, zero once answered
	times   Times
}

// New looks at all sockets made of it.
func New() (*Net, error) {
	n, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return &Net{Net: n, pending: make(map[[12]byte]time.Time)}, nil
}

// Times until now.
func (n *Net) Times() Times {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.times
}

// ListenUDP makes a socket that is looked at.
func (n *Net) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	return &conn{UDPConn: c, net: n}, nil
}

// ListenPacket makes one too.
func (n *Net) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := n.Net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	return &packetConn{PacketConn: c, net: n}, nil
}

// sent looks at a datagram of the client, before it leaves.
func (n *Net) sent(b []byte, now time.Time) {
	switch {
	case isCheck(b, 0x0001):
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.pending) < maxPending {
			n.pending[[12]byte(b[8:20])] = now
		}
	case isDTLS(b):
		n.mu.Lock()
		defer n.mu.Unlock()
		n.asked = now
	}
}

// received looks at a datagram of the server.
func (n *Net) received(b []byte, now time.Time) {
	switch {
	case isCheck(b, 0x0101):
		n.mu.Lock()
		defer n.mu.Unlock()
		id := [12]byte(b[8:20])
		if at, ok := n.pending[id]; ok {
			delete(n.pending, id)
			n.times.STUN = max(n.times.STUN, now.Sub(at))
			n.times.Answers++
		}
	case isDTLS(b):
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.asked.IsZero() {
			n.times.Flights += now.Sub(n.asked)
			n.times.Answers++
			n.asked = time.Time{}
		}
	}
}

// isCheck tells a STUN message of a type (RFC 8489 section 5).
func isCheck(b []byte, kind uint16) bool {
	return len(b) >= 20 && b[0] == byte(kind>>8) && b[1] == byte(kind) && b[4] == 0x21 && b[5] == 0x12 && b[6] == 0xa4 && b[7] == 0x42
}

// isDTLS tells a DTLS handshake datagram: change cipher spec or handshake (RFC
// 7983 section 7, RFC 6347 section 4.1).
func isDTLS(b []byte) bool { return len(b) >= 13 && (b[0] == 20 || b[0] == 22) }

type conn struct {
	transport.UDPConn
	net *Net
}

func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(b)
	if err == nil {
		c.net.received(b[:n], time.Now())
	}
	return n, from, err
}

func (c *conn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.net.sent(b, time.Now())
	return c.UDPConn.WriteTo(b, to)
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	if err == nil {
		c.net.received(b[:n], time.Now())
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.net.sent(b, time.Now())
	return c.UDPConn.Write(b)
}

func (c *conn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	n, from, err := c.UDPConn.ReadFromUDP(b)
	if err == nil {
		c.net.received(b[:n], time.Now())
	}
	return n, from, err
}

func (c *conn) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	c.net.sent(b, time.Now())
	return c.UDPConn.WriteToUDP(b, to)
}

type packetConn struct {
	net.PacketConn
	net *Net
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(b)
	if err == nil {
		c.net.received(b[:n], time.Now())
	}
	return n, from, err
}

func (c *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.net.sent(b, time.Now())
	return c.PacketConn.WriteTo(b, to)
}
