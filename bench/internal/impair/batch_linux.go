package impair

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readBatch is how many datagrams one recvmmsg takes from a socket.
const readBatch = 32

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is the memory of one recvmmsg. Controls carry the time of arrival and the
// socket's count of drops, 16+16 and 16+8 bytes on 64 bits.
type batch struct {
	heads    [readBatch]mmsghdr
	vectors  [readBatch]unix.Iovec
	names    [readBatch]unix.RawSockaddrInet6 // the larger of the two
	controls [readBatch][64]byte
	data     [readBatch][maxDatagram]byte
}

func (b *batch) init() {
	for i := range b.heads {
		b.vectors[i].Base = &b.data[i][0]
		b.vectors[i].SetLen(maxDatagram)
		h := &b.heads[i].hdr
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = &b.controls[i][0]
	}
}

// read takes what is there; none also when the socket tells an error, which takes
// it off the socket (an ICMP answer to what we sent).
func (b *batch) read(fd int) int {
	for i := range b.heads {
		h := &b.heads[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(b.controls[i]))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.heads[0])), readBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (b *batch) tooLong(i int) bool { return b.heads[i].hdr.Flags&unix.MSG_TRUNC != 0 }

func (b *batch) datagram(i int) []byte { return b.data[i][:b.heads[i].len] }

func (b *batch) from(i int) netip.AddrPort {
	n := &b.names[i]
	port := (*[2]byte)(unsafe.Pointer(&n.Port)) // at the same place in both
	number := uint16(port[0])<<8 | uint16(port[1])
	if n.Family == unix.AF_INET {
		n4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(n4.Addr), number)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(n.Addr), number)
}

// control reads the kernel's time of arrival, in nanoseconds since 1970, and its
// count of datagrams dropped at this socket; zero what it does not tell.
func (b *batch) control(i int) (stamp int64, drops uint32) {
	rest := b.controls[i][:min(int(b.heads[i].hdr.Controllen), len(b.controls[i]))]
	for len(rest) >= unix.SizeofCmsghdr {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&rest[0]))
		size := int(c.Len)
		if size < unix.SizeofCmsghdr || size > len(rest) {
			return stamp, drops
		}
		body := rest[unix.SizeofCmsghdr:size]
		switch {
		case c.Level != unix.SOL_SOCKET:
		case c.Type == unix.SCM_TIMESTAMPNS && len(body) >= int(unsafe.Sizeof(unix.Timespec{})):
			stamp = (*unix.Timespec)(unsafe.Pointer(&body[0])).Nano()
		case c.Type == unix.SO_RXQ_OVFL && len(body) >= 4:
			drops = *(*uint32)(unsafe.Pointer(&body[0]))
		}
		rest = rest[min(len(rest), unix.CmsgSpace(size-unix.SizeofCmsghdr)):]
	}
	return stamp, drops
}
