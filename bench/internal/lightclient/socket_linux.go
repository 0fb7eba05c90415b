package lightclient

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Buffers of a shared socket in bytes, as the kernel counts them: a voice packet
// takes about 1 KiB, so 64 MiB hold a third of a second of 175,000 packets/s.
const (
	receiveBuffer = 64 << 20
	sendBuffer    = 4 << 20
)

// socket is a UDP socket with what its owner must know of it.
type socket struct {
	fd     int
	port   uint16
	shared bool
}

// openSocket binds a socket to any port of host. A shared one serves clients of
// many addresses and has a receive buffer of its own size.
func openSocket(host netip.Addr, shared bool, buffer int) (_ *socket, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w (with EMFILE: raise the limit of open files, ulimit -n)", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, fmt.Errorf("ask for arrival times: %w", err)
	}
	if shared {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
			return nil, fmt.Errorf("ask for destination addresses: %w", err)
		}
		// The forced form goes beyond net.core.rmem_max, but takes CAP_NET_ADMIN.
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
		host = netip.IPv4Unspecified()
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: host.As4()}); err != nil {
		return nil, fmt.Errorf("bind socket to %v: %w", host, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("name socket: %w", err)
	}
	in4, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return nil, errors.New("name socket: not an IPv4 address")
	}
	return &socket{fd: fd, port: uint16(in4.Port), shared: shared}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// drops is how many datagrams the kernel dropped for want of receive buffer.
func (s *socket) drops() uint64 {
	const skMeminfoDrops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	var info [skMeminfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return 0
	}
	return uint64(info[skMeminfoDrops])
}

// send sends one datagram, from a client's own address if the socket is shared.
func (s *socket) send(b []byte, from [4]byte, to unix.Sockaddr) error {
	if !s.shared {
		return unix.Sendto(s.fd, b, unix.MSG_DONTWAIT, to)
	}
	var control packetInfo
	control.set(from)
	_, err := unix.SendmsgN(s.fd, b, control[:], to, unix.MSG_DONTWAIT)
	return err
}

// packetInfo is the control message that says where a datagram leaves from.
type packetInfo [unix.SizeofCmsghdr + (unix.SizeofInet4Pktinfo+7)&^7]byte

func (p *packetInfo) set(from [4]byte) {
	head := (*unix.Cmsghdr)(unsafe.Pointer(p))
	head.Level, head.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	head.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	(*unix.Inet4Pktinfo)(unsafe.Pointer(&p[unix.SizeofCmsghdr])).Spec_dst = from
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// readBatch is how many datagrams one recvmmsg takes: 3 ms of 175,000 packets/s.
// datagram bounds one (longer ones are cut; the flights of a handshake are the
// longest), control is room for an arrival time (32 bytes) and a destination.
const (
	readBatch = 512
	datagram  = 1600
	control   = 64
)

// inbox is the memory of one recvmmsg.
type inbox struct {
	heads    [readBatch]mmsghdr
	vectors  [readBatch]unix.Iovec
	controls [readBatch][control]byte
	data     [readBatch][datagram]byte
}

func newInbox() *inbox {
	b := &inbox{}
	for i := range b.heads {
		b.vectors[i].Base = &b.data[i][0]
		b.vectors[i].SetLen(datagram)
		h := &b.heads[i].hdr
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Control = &b.controls[i][0]
		h.SetControllen(control)
	}
	return b
}

// read takes at most readBatch of the datagrams that are there.
func (b *inbox) read(fd int) int {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.heads[0])), readBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// again makes the first n messages ready for the next read: the kernel wrote how
// much control there was.
func (b *inbox) again(n int) {
	for i := range n {
		b.heads[i].hdr.SetControllen(control)
	}
}

func (b *inbox) datagram(i int) []byte { return b.data[i][:min(int(b.heads[i].len), datagram)] }

// to is the address datagram i was sent to, and arrived the kernel's time of its
// arrival in nanoseconds since 1970; zero when it does not say.
func (b *inbox) meta(i int) (to uint32, arrived int64) {
	left := b.controls[i][:min(int(b.heads[i].hdr.Controllen), control)]
	for len(left) >= unix.SizeofCmsghdr {
		head := (*unix.Cmsghdr)(unsafe.Pointer(&left[0]))
		size := int(head.Len)
		if size < unix.SizeofCmsghdr || size > len(left) {
			break
		}
		body := left[unix.SizeofCmsghdr:size]
		switch {
		case head.Level == unix.SOL_SOCKET && head.Type == unix.SCM_TIMESTAMPNS && len(body) >= int(unsafe.Sizeof(unix.Timespec{})):
			arrived = (*unix.Timespec)(unsafe.Pointer(&body[0])).Nano()
		case head.Level == unix.IPPROTO_IP && head.Type == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
			a := (*unix.Inet4Pktinfo)(unsafe.Pointer(&body[0])).Addr
			to = uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
		}
		left = left[min(len(left), (size+7)&^7):]
	}
	return to, arrived
}

// writeBatch is how many datagrams one sendmmsg sends: 10 ms of 25,000 packets/s.
const writeBatch = 256

// outbox is the memory of one sendmmsg, for one socket at a time.
type outbox struct {
	heads    [writeBatch]mmsghdr
	vectors  [writeBatch]unix.Iovec
	names    [writeBatch]unix.RawSockaddrInet4
	controls [writeBatch]packetInfo
	data     [writeBatch][datagram]byte
	voice    [writeBatch]bool
	socket   *socket
	used     int
}

func newOutbox() *outbox {
	b := &outbox{}
	for i := range b.heads {
		h := &b.heads[i].hdr
		b.vectors[i].Base = &b.data[i][0]
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = unix.SizeofSockaddrInet4
	}
	return b
}

// put queues the datagram that was written into next().
func (b *outbox) put(n int, from [4]byte, to *unix.RawSockaddrInet4, voice bool) {
	i := b.used
	b.used++
	b.vectors[i].SetLen(n)
	b.names[i], b.voice[i] = *to, voice
	h := &b.heads[i].hdr
	h.Control = nil
	h.SetControllen(0)
	if b.socket.shared {
		b.controls[i].set(from)
		h.Control = &b.controls[i][0]
		h.SetControllen(len(b.controls[i]))
	}
}

func (b *outbox) next() []byte { return b.data[b.used][:] }

// sendPatience is how often a full send buffer may hold up a batch, 1 ms each,
// before the rest of it fails.
const sendPatience = 20

// flush sends what is queued and tells of each datagram whether the kernel took it.
func (b *outbox) flush(told func(voice, sent bool)) {
	patience := sendPatience
	for at := 0; at < b.used; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(b.socket.fd), uintptr(unsafe.Pointer(&b.heads[at])), uintptr(b.used-at), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			for range int(n) {
				told(b.voice[at], true)
				at++
			}
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && patience > 0:
			patience--
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(b.socket.fd), Events: unix.POLLOUT}}, 1)
		default: // of the first message; those behind it have their own chance
			told(b.voice[at], false)
			at++
		}
	}
	b.used = 0
}

// threadClock is the CPU time of a thread of this process: its clock's id holds
// the inverted thread id above the bits for "thread" and "scheduler time"
// (MAKE_THREAD_CPUCLOCK of the kernel's posix-timers_types.h).
func threadClock(tid int32) time.Duration {
	if tid == 0 {
		return 0
	}
	var ts unix.Timespec
	if unix.ClockGettime(^tid<<3|6, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
