package edgeagentserver

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// linkSocket is a UDP socket as links use it, and QUIC for them. It does what
// net.UDPConn does, but never announces to Go's scheduler that a system call begins:
// none of these waits. After an idle moment the announcement wakes the scheduler's
// monitor, a thread that finds nothing to do, and in a process that wakes for every
// few packets its wake-ups cost more than the packets.
type linkSocket struct {
	// Immutable.
	*net.UDPConn
	raw   syscall.RawConn
	inet4 bool
	read  func(fd uintptr) bool // s.recvmmsg, bound once
	write func(fd uintptr) bool // s.sendmmsg, bound once

	// Owned by who reads.
	in       [linkBatch]mmsghdr
	inVec    [linkBatch]unix.Iovec
	inName   [linkBatch]sockaddr
	wanted   int
	received int
	failed   syscall.Errno
	known    [linkBatch]knownAddr
	forget   int // the next of known to be forgotten

	mu sync.Mutex
	// Guarded by mu: first what is held back, if anything, then what is sent.
	out        [2]mmsghdr
	outVec     [2]unix.Iovec
	outName    [2]sockaddr
	held       [holdMost]byte
	heldOOB    [holdOOB]byte
	holding    bool
	next       int // of out, to be sent
	count      int // of out, to be sent now
	refused    syscall.Errno
	sentAtLast time.Time // something longer than holdMost
}

const (
	// holdMost bounds what may be held back, in bytes. An acknowledgement of QUIC
	// alone takes about 40, the least datagram with a voice in it about 90.
	holdMost = 64
	// holdOOB bounds its control messages: an address to send from, and ECN.
	holdOOB = 128
	// holdWhile is how recently something longer must have been sent, so that more is
	// to be expected.
	holdWhile = 8 * time.Millisecond
	// longHeader is set in the first byte of a datagram of QUIC as long as its keys are
	// not agreed on (RFC 9000 section 17.2).
	longHeader = 0x80
)

// linkBatch is how many datagrams are received at once: as many as QUIC asks for.
const linkBatch = 8

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// sockaddr is a socket address of either family, as the kernel has it.
type sockaddr [unix.SizeofSockaddrInet6]byte

// knownAddr is an address in both forms.
type knownAddr struct {
	name sockaddr
	addr *net.UDPAddr
}

func newLinkSocket(conn *net.UDPConn) (*linkSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &linkSocket{UDPConn: conn, raw: raw}
	domain, failed := 0, error(nil)
	err = raw.Control(func(fd uintptr) { domain, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN) })
	if err == nil {
		err = os.NewSyscallError("getsockopt SO_DOMAIN", failed)
	}
	if err != nil {
		return nil, err
	}
	s.inet4 = domain == unix.AF_INET
	for i := range s.in {
		h := &s.in[i].hdr
		h.Name, h.Iov = &s.inName[i][0], &s.inVec[i]
		h.SetIovlen(1)
	}
	for i := range s.out {
		h := &s.out[i].hdr
		h.Name, h.Iov = &s.outName[i][0], &s.outVec[i]
		h.SetIovlen(1)
	}
	s.read, s.write = s.recvmmsg, s.sendmmsg
	return s, nil
}

// ReadBatch waits for datagrams and returns how many came: at most linkBatch, each
// into the first buffer of a message.
func (s *linkSocket) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	s.wanted = min(len(ms), linkBatch)
	for i := range ms[:s.wanted] {
		m, h := &ms[i], &s.in[i].hdr
		s.inVec[i] = unix.Iovec{Base: unsafe.SliceData(m.Buffers[0])}
		s.inVec[i].SetLen(len(m.Buffers[0]))
		h.Namelen = uint32(len(s.inName[i]))
		h.Control = unsafe.SliceData(m.OOB)
		h.SetControllen(len(m.OOB))
	}
	if err := s.raw.Read(s.read); err != nil {
		return 0, err
	}
	if s.failed != 0 {
		return 0, os.NewSyscallError("recvmmsg", s.failed)
	}
	for i := range ms[:s.received] {
		m, h := &ms[i], &s.in[i].hdr
		m.N, m.NN, m.Flags, m.Addr = int(s.in[i].n), int(h.Controllen), int(h.Flags), s.addr(&s.inName[i])
	}
	return s.received, nil
}

func (s *linkSocket) recvmmsg(fd uintptr) bool {
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.in[0])), uintptr(s.wanted), unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			s.received, s.failed = int(n), 0
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR, syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH:
			// An ICMP error about something sent before, reported once.
		default:
			s.received, s.failed = 0, e
			return true
		}
	}
}

// addr is a socket address as net has it. Those of the last few peers are kept.
func (s *linkSocket) addr(name *sockaddr) *net.UDPAddr {
	for i := range s.known {
		if k := &s.known[i]; k.addr != nil && k.name == *name {
			return k.addr
		}
	}
	a := &net.UDPAddr{Port: int(name[2])<<8 | int(name[3])}
	if s.inet4 {
		a.IP = net.IP(append([]byte(nil), name[4:8]...))
	} else {
		a.IP = net.IP(append([]byte(nil), name[8:24]...))
		if index := *(*uint32)(unsafe.Pointer(&name[24])); index != 0 {
			if device, err := net.InterfaceByIndex(int(index)); err == nil {
				a.Zone = device.Name
			}
		}
	}
	s.known[s.forget] = knownAddr{*name, a}
	s.forget = (s.forget + 1) % len(s.known)
	return a
}

// WriteMsgUDP sends one datagram, or several of one length with the control message
// for that. It waits only while the socket's buffer is full.
//
// QUIC acknowledges every other datagram at once, and in a datagram of its own unless
// one with data is about to go. While data goes all the time, such a short one is held
// back until the next, and both arrive together: that saves a system call here, and a
// wake-up there, 4 to 6 % of an agent's time on a busy link. So is a sign of life, which
// looks the same. What belongs to a handshake is not: somebody waits for it, and there
// may be no link yet to flush it. Flush is for when there is no next.
func (s *linkSocket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if addr.Zone != "" {
		return s.UDPConn.WriteMsgUDP(b, oob, addr)
	}
	to := addr.AddrPort()
	if err := s.reaches(to.Addr()); err != nil {
		return 0, 0, err
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(b) > holdMost {
		s.sentAtLast = now
	} else if !s.holding && len(b) > 0 && b[0]&longHeader == 0 && len(oob) <= holdOOB && now.Sub(s.sentAtLast) < holdWhile {
		s.holding = true
		s.put(0, s.held[:copy(s.held[:], b)], s.heldOOB[:copy(s.heldOOB[:], oob)], to)
		return len(b), len(oob), nil
	}
	s.put(1, b, oob, to)
	if err = s.sendLocked(2); droppedHere(err) {
		err = nil
	}
	return len(b), len(oob), err
}

// droppedHere says that a datagram was dropped on its way out of this host, by a filter
// or a full queue: to QUIC, which ends a connection for an error, that is a loss like any
// other.
func droppedHere(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// reaches tells whether the socket can send to an address: where the system has no
// IPv6, it is of IPv4 alone. The error is that of net.UDPConn.
func (s *linkSocket) reaches(to netip.Addr) error {
	if s.inet4 && !to.Unmap().Is4() {
		return &net.AddrError{Err: "non-IPv4 address", Addr: to.String()}
	}
	return nil
}

// flush sends what is held back.
func (s *linkSocket) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.sendLocked(1) // QUIC lives with losses
}

// send sends a datagram.
func (s *linkSocket) send(b []byte, to netip.AddrPort) error {
	if err := s.reaches(to.Addr()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(1, b, nil, to)
	return s.sendLocked(2)
}

// put prepares one of out, for an address that the socket reaches.
func (s *linkSocket) put(i int, b, oob []byte, to netip.AddrPort) {
	name, h := &s.outName[i], &s.out[i].hdr
	*name = sockaddr{2: byte(to.Port() >> 8), 3: byte(to.Port())}
	family := (*uint16)(unsafe.Pointer(name))
	if s.inet4 {
		*family, h.Namelen = unix.AF_INET, unix.SizeofSockaddrInet4
		ip := to.Addr().Unmap().As4()
		copy(name[4:], ip[:])
	} else {
		*family, h.Namelen = unix.AF_INET6, unix.SizeofSockaddrInet6
		ip := to.Addr().As16()
		copy(name[8:], ip[:])
	}
	s.outVec[i] = unix.Iovec{Base: unsafe.SliceData(b)}
	s.outVec[i].SetLen(len(b))
	h.Control = unsafe.SliceData(oob)
	h.SetControllen(len(oob))
}

// sendLocked sends the first of out: that which is held back only if there is one.
// The error is that of the last.
func (s *linkSocket) sendLocked(n int) error {
	s.next, s.refused = 0, 0
	if !s.holding {
		s.next = 1
	}
	s.holding = false
	if s.next >= n {
		return nil
	}
	s.count = n
	err := s.raw.Write(s.write)
	s.outVec[1].Base, s.out[1].hdr.Control = nil, nil
	if err == nil && s.refused != 0 {
		err = os.NewSyscallError("sendmsg", s.refused)
	}
	return err
}

// sendmmsg stops at the first that fails, and tells why only when that is the first.
func (s *linkSocket) sendmmsg(fd uintptr) bool {
	for s.next < s.count {
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.out[s.next])), uintptr(s.count-s.next), unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			s.next, s.refused = s.next+int(n), 0
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			s.next, s.refused = s.next+1, e
		}
	}
	return true
}
