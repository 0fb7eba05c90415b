package edgeagentserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/edgeagent/internal/turngate"
)

// turnUDP is the UDP socket of the TURN server, with the gate in front.
type turnUDP struct {
	// Immutable.
	c    *closed
	conn *net.UDPConn

	// Owned by ReadFrom, and by WriteTo of the same goroutine.
	buf      [turngate.MaxMessage + 1]byte
	oob      [64]byte
	last     netip.AddrPort
	lastAddr *net.UDPAddr
	lastHere []byte

	mu sync.Mutex
	// Guarded by mu.
	here map[netip.AddrPort][]byte // which address of ours a client with an allocation sends to
}

func newTurnUDP(c *closed, conn *net.UDPConn) (*turnUDP, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("use TURN socket: %w", err)
	}
	inner := raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) != nil { // a socket of IPv4 only
			err = os.NewSyscallError("setsockopt IP_PKTINFO", unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
		}
	})
	if err = errors.Join(inner, err); err != nil {
		return nil, fmt.Errorf("use TURN socket: %w", err)
	}
	return &turnUDP{c: c, conn: conn, here: make(map[netip.AddrPort][]byte)}, nil
}

// ReadFrom waits for a datagram that the server may see. What the gate answers by
// itself it answers here.
func (u *turnUDP) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, oobn, _, from, err := u.conn.ReadMsgUDPAddrPort(u.buf[:], u.oob[:])
		if errors.Is(err, net.ErrClosed) {
			return 0, nil, err
		}
		if err != nil {
			continue // an ICMP error, told once
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		here := arrivedAt(u.oob[:oobn])
		v := u.c.take(turngate.Client{Addr: from}, u.buf[:n])
		switch {
		case v.Reply != nil:
			u.write(v.Reply, here, from)
		case v.Pass != nil:
			if from != u.last {
				u.last, u.lastAddr = from, net.UDPAddrFromAddrPort(from)
			}
			u.lastHere = append(u.lastHere[:0], here...)
			return copy(p, v.Pass), u.lastAddr, nil
		}
	}
}

// WriteTo answers from the address that the client sends to.
func (u *turnUDP) WriteTo(p []byte, to net.Addr) (int, error) {
	if u.c.isStale(p) {
		return len(p), nil
	}
	client := clientOf(to).Addr
	u.mu.Lock()
	here := u.here[client]
	u.mu.Unlock()
	u.write(p, here, client)
	return len(p), nil
}

func (u *turnUDP) write(p, here []byte, to netip.AddrPort) {
	_, _, _ = u.conn.WriteMsgUDPAddrPort(p, here, to) // a datagram may be lost
}

// keep remembers the address of ours for an allocation that was just made: the
// server makes it while it handles what ReadFrom gave it last.
func (u *turnUDP) keep(client netip.AddrPort) {
	if client != u.last {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.here[client] = append([]byte(nil), u.lastHere...)
}

func (u *turnUDP) forget(client netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.here, client)
}

func (u *turnUDP) Close() error                       { return u.conn.Close() }
func (u *turnUDP) LocalAddr() net.Addr                { return u.conn.LocalAddr() }
func (u *turnUDP) SetDeadline(t time.Time) error      { return u.conn.SetDeadline(t) }
func (u *turnUDP) SetReadDeadline(t time.Time) error  { return u.conn.SetReadDeadline(t) }
func (u *turnUDP) SetWriteDeadline(t time.Time) error { return u.conn.SetWriteDeadline(t) }

// arrivedAt makes of the control message of a datagram the one that has its answer
// leave from the address it was sent to. It is lent from oob.
func arrivedAt(oob []byte) []byte {
	for rest := oob; len(rest) >= unix.CmsgLen(0); {
		h, data, next, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			return nil
		}
		size := len(rest) - len(next)
		switch {
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			if addr := netip.AddrFrom16([16]byte(data[:16])); !addr.IsLinkLocalUnicast() {
				clear(data[16:20]) // the route decides about the interface
			}
			return rest[:size]
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			clear(data[:4])             // ifindex
			copy(data[4:8], data[8:12]) // Spec_dst: where it was sent to
			return rest[:size]
		}
		rest = next
	}
	return nil
}
