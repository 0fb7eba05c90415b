package demux

import (
	"encoding/binary"
	"syscall"
)

// SockaddrLen is the room a sockaddr needs: that of sockaddr_in6.
const SockaddrLen = syscall.SizeofSockaddrInet6

// RemoteFromSockaddr reads the sockaddr_in or sockaddr_in6 that recvmsg left.
// It is false for any other family and for one cut short.
func RemoteFromSockaddr(raw []byte) (Remote, bool) {
	var r Remote
	if len(raw) < syscall.SizeofSockaddrInet4 {
		return r, false
	}
	r.port = binary.BigEndian.Uint16(raw[2:])
	switch binary.NativeEndian.Uint16(raw) {
	case syscall.AF_INET:
		r.ip[10], r.ip[11] = 0xff, 0xff
		copy(r.ip[12:], raw[4:8])
		return r, true
	case syscall.AF_INET6:
		if len(raw) < syscall.SizeofSockaddrInet6 {
			return Remote{}, false
		}
		copy(r.ip[:], raw[8:24])
		r.scope = binary.NativeEndian.Uint32(raw[24:])
		return r, true
	}
	return Remote{}, false
}

// PutSockaddr writes the address for sendmsg and returns how much of raw it
// takes. A socket of family AF_INET6 (dual stack) is given IPv4 in mapped form,
// one of AF_INET (inet4) in its own; an IPv6 address cannot be sent to from
// there and takes 0 bytes.
func (r Remote) PutSockaddr(raw *[SockaddrLen]byte, inet4 bool) int {
	*raw = [SockaddrLen]byte{}
	binary.BigEndian.PutUint16(raw[2:], r.port)
	if inet4 {
		if !r.is4() {
			return 0
		}
		binary.NativeEndian.PutUint16(raw[:], syscall.AF_INET)
		copy(raw[4:8], r.ip[12:])
		return syscall.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(raw[:], syscall.AF_INET6)
	copy(raw[8:24], r.ip[:])
	binary.NativeEndian.PutUint32(raw[24:], r.scope)
	return syscall.SizeofSockaddrInet6
}
