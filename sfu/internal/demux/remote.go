package demux

import (
	"encoding/binary"
	"net/netip"
)

// Remote is the address and port a datagram came from, as a map key: comparable
// and without pointers, so that neither a lookup nor a table of thousands costs
// the garbage collector anything. IPv4 is kept in its IPv6-mapped form, which is
// also how a dual-stack socket spells it. The zero value is no address.
type Remote struct {
	ip    [16]byte
	scope uint32 // interface of a link-local IPv6 address, else 0
	port  uint16
}

// RemoteFrom is the key of an address. A zone is not kept: it has a number only
// in a sockaddr.
func RemoteFrom(a netip.AddrPort) Remote {
	return Remote{ip: a.Addr().As16(), port: a.Port()}
}

// IsValid is false for the zero value.
func (r Remote) IsValid() bool { return r != Remote{} }

// AddrPort is the address without zone; IPv4 in its own form.
func (r Remote) AddrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(r.ip).Unmap(), r.port)
}

// String is "address:port".
func (r Remote) String() string { return r.AddrPort().String() }

// is4 tells an IPv4-mapped address (RFC 4291 section 2.5.5.2).
func (r *Remote) is4() bool {
	return binary.BigEndian.Uint64(r.ip[:8]) == 0 && binary.BigEndian.Uint32(r.ip[8:12]) == 0xffff
}
