package sfuserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/egress"
)

const (
	// receiveBatch is how many datagrams one recvmmsg takes. A worker that needs
	// more at once is behind, and then the socket's buffer holds them.
	receiveBatch = 64
	// socketBuffer is asked for in both directions: 4 MiB hold 0.2 s of 20,000
	// voice packets a second, as the kernel counts them (about 1 KiB each).
	socketBuffer = 4 << 20
	// controlLen is room for one packet info of either family.
	controlLen = 64
	// sendPatience is how long a full send buffer may hold up a worker per
	// batch: three waits of 1 ms, then what is left of the batch is dropped.
	sendPatience = 3
)

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// socket receives and sends batches on one UDP port. It belongs to its worker;
// wake may be called by anyone. The kernel fills and reads the arrays below in
// place; they are wired up once, in open.
type socket struct {
	// Immutable.
	conn  *net.UDPConn
	raw   syscall.RawConn
	inet4 bool
	port  uint16

	// Owned by receive.
	in        [receiveBatch]mmsghdr
	inVec     [receiveBatch]unix.Iovec
	inName    [receiveBatch][demux.SockaddrLen]byte
	inControl [receiveBatch][controlLen]byte
	inBytes   [receiveBatch][sfu.MaxDatagram + 4]byte // one byte more tells what was too long
	received  int
	failed    syscall.Errno
	read      func(fd uintptr) bool // s.recvmmsg, bound once

	// Owned by send.
	out        [egress.Datagrams]mmsghdr
	outVec     [egress.Datagrams]unix.Iovec
	outControl [egress.Datagrams][controlLen]byte
	sending    *egress.Batch
	refused    uint64
	write      func(fd uintptr) // s.sendmmsg, bound once
}

// openSocket prepares a socket that stays the caller's.
func openSocket(conn *net.UDPConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("use socket: %w", err)
	}
	s := &socket{conn: conn, raw: raw}
	var setup error
	if err := raw.Control(func(fd uintptr) { setup = s.setUp(int(fd)) }); err != nil {
		return nil, fmt.Errorf("use socket: %w", err)
	}
	if setup != nil {
		return nil, fmt.Errorf("set up socket: %w", setup)
	}
	for i := range s.in {
		s.inVec[i] = unix.Iovec{Base: &s.inBytes[i][0]}
		s.inVec[i].SetLen(sfu.MaxDatagram + 1)
		h := &s.in[i].hdr
		h.Name, h.Iov, h.Control = &s.inName[i][0], &s.inVec[i], &s.inControl[i][0]
		h.SetIovlen(1)
	}
	for i := range s.out {
		s.out[i].hdr.Iov = &s.outVec[i]
		s.out[i].hdr.SetIovlen(1)
	}
	s.read, s.write = s.recvmmsg, s.sendmmsg
	return s, nil
}

func (s *socket) setUp(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_DOMAIN", err)
	}
	s.inet4 = domain == unix.AF_INET
	name, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		s.port = uint16(a.Port)
	case *unix.SockaddrInet6:
		s.port = uint16(a.Port)
	}
	// The forced form goes beyond the system's limit, but takes CAP_NET_ADMIN.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	// Datagrams that are not to be fragmented need no identification (RFC 6864), and
	// drawing one from the kernel's shared counters is 3 to 6 % of the cost of
	// sending. Voice is far below every path's MTU, and IPv6 fragments nothing on
	// the way either. What ICMP claims of the path is not believed.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	if s.inet4 {
		return os.NewSyscallError("setsockopt IP_PKTINFO", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	}
	return os.NewSyscallError("setsockopt IPV6_RECVPKTINFO", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
}

// aLongTimeAgo as a read deadline ends a wait at once.
var aLongTimeAgo = time.Unix(1, 0)

// wake ends the wait of receive, now or the next.
func (s *socket) wake() { _ = s.conn.SetReadDeadline(aLongTimeAgo) }

// receive waits for datagrams until the read deadline and returns how many came:
// 0 at the deadline.
func (s *socket) receive() (int, error) {
	s.received, s.failed = 0, 0
	if err := s.raw.Read(s.read); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, nil
		}
		return 0, fmt.Errorf("receive: %w", err)
	}
	if s.failed != 0 {
		return 0, fmt.Errorf("receive: %w", os.NewSyscallError("recvmmsg", s.failed))
	}
	return s.received, nil
}

func (s *socket) recvmmsg(fd uintptr) bool {
	for i := range s.in {
		h := &s.in[i].hdr
		h.Namelen = demux.SockaddrLen
		h.SetControllen(controlLen)
	}
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.in[0])), receiveBatch,
			unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			s.received = int(n)
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH:
			// An ICMP error about something sent before, reported once.
		default:
			s.failed = e
			return true
		}
	}
}

// datagram lends the i-th datagram received.
func (s *socket) datagram(i int) []byte {
	return s.inBytes[i][:min(int(s.in[i].n), sfu.MaxDatagram+1)]
}

// from is where it came from.
func (s *socket) from(i int) (demux.Remote, bool) {
	return demux.RemoteFromSockaddr(s.inName[i][:s.in[i].hdr.Namelen])
}

// arrival fills in how to answer the i-th datagram: to where it came from, from
// the address it was sent to. It asks the kernel a few questions, so it is for
// new paths only.
func (s *socket) arrival(i int, from demux.Remote) (p egress.Path) {
	p.Len = uint8(from.PutSockaddr(&p.Sockaddr, s.inet4))
	p.Source, p.Interface = s.local(i)
	choose(&p, from)
	return p
}

// arrivedAt says whether the i-th datagram was sent to that address of ours, or to
// one that is not known.
func (s *socket) arrivedAt(i int, source [16]byte) bool {
	at, _ := s.local(i)
	return at == source || at == [16]byte{}
}

// local is the address that the i-th datagram was sent to, IPv4 in its mapped form,
// and the interface it came by.
func (s *socket) local(i int) (addr [16]byte, device uint32) {
	control := s.inControl[i][:s.in[i].hdr.Controllen]
	for len(control) >= unix.CmsgLen(0) {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			addr, device = info.Addr, info.Ifindex
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			addr = netip.AddrFrom4(info.Addr).As16() // where it was sent to
		}
		control = rest
	}
	return addr, device
}

// routeSource is the address the kernel would send from by itself.
func routeSource(to netip.AddrPort) netip.Addr {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}
	}
	defer unix.Close(fd)
	var name unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if family == unix.AF_INET {
		name = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	if unix.Connect(fd, name) != nil {
		return netip.Addr{}
	}
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr)
	}
	return netip.Addr{}
}

// send sends a batch and returns how many datagrams of it the kernel refused.
func (s *socket) send(b *egress.Batch) uint64 {
	for i := range b.Len() {
		d, to := b.At(i)
		s.outVec[i].Base = &d[0]
		s.outVec[i].SetLen(len(d))
		h := &s.out[i].hdr
		h.Name, h.Namelen = &to.Sockaddr[0], uint32(to.Len)
		h.Control = nil
		h.SetControllen(0)
		if to.Pinned {
			s.pin(i, to)
		}
	}
	s.sending, s.refused = b, 0
	if s.raw.Control(s.write) != nil {
		s.refused = uint64(b.Len()) // the socket is closed
	}
	return s.refused
}

// pin has the i-th datagram leave from the address of its path.
func (s *socket) pin(i int, to *egress.Path) {
	control := &s.outControl[i]
	*control = [controlLen]byte{}
	head := (*unix.Cmsghdr)(unsafe.Pointer(control))
	data := unsafe.Pointer(&control[unix.CmsgLen(0)])
	h := &s.out[i].hdr
	h.Control = &control[0]
	if s.inet4 {
		head.Level, head.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		head.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		(*unix.Inet4Pktinfo)(data).Spec_dst = netip.AddrFrom16(to.Source).Unmap().As4()
		h.SetControllen(unix.CmsgSpace(unix.SizeofInet4Pktinfo))
		return
	}
	head.Level, head.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	head.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	info := (*unix.Inet6Pktinfo)(data)
	info.Addr, info.Ifindex = to.Source, to.Interface
	h.SetControllen(unix.CmsgSpace(unix.SizeofInet6Pktinfo))
}

// sendmmsg sends all of the batch. The call stops at the first datagram that
// fails, and reports why only when that is its first: that one is counted, and
// the next call begins behind it.
func (s *socket) sendmmsg(fd uintptr) {
	n, patience := s.sending.Len(), sendPatience
	for at := 0; at < n; {
		sent, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.out[at])), uintptr(n-at),
			unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			at += int(sent)
		case syscall.EINTR:
		case syscall.EAGAIN:
			if patience == 0 {
				s.refused += uint64(n - at)
				return
			}
			patience--
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1)
		default:
			s.refused++
			at++
		}
	}
}

// drops is how many datagrams the kernel has dropped for want of buffer.
func (s *socket) drops() uint64 {
	const skMeminfoDrops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	var info [skMeminfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	var e syscall.Errno
	if s.raw.Control(func(fd uintptr) {
		_, _, e = syscall.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	}) != nil || e != 0 {
		return 0
	}
	return uint64(info[skMeminfoDrops])
}

// leave is the path to an address to which datagrams go from a local one, if that
// is known.
func (s *socket) leave(to demux.Remote, local netip.Addr, device uint32) (p egress.Path) {
	p.Len = uint8(to.PutSockaddr(&p.Sockaddr, s.inet4))
	if local.IsValid() {
		p.Source, p.Interface = local.As16(), device
		choose(&p, to)
	}
	return p
}

// choose decides whether the kernel must be told where a datagram leaves from.
func choose(p *egress.Path, to demux.Remote) {
	source := netip.AddrFrom16(p.Source)
	if !source.IsLinkLocalUnicast() {
		p.Interface = 0
	}
	p.Pinned = p.Source != [16]byte{} && source.Unmap() != routeSource(to.AddrPort())
}
