package turngate

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
)

// STUN's own numbers (RFC 8489 section 5) and those of TURN (RFC 8656 sections 17
// and 18, RFC 6062 section 6).
const (
	headerLen   = 20
	magicCookie = 0x2112a442

	typeBinding          = 0x0001
	typeAllocate         = 0x0003
	typeRefresh          = 0x0004
	typeSend             = 0x0016 // an indication
	typeCreatePermission = 0x0008
	typeChannelBind      = 0x0009
	typeConnect          = 0x000a
	typeConnectionBind   = 0x000b

	classSuccess = 0x0100
	classError   = 0x0110
	classMask    = 0x0110

	attrUsername           = 0x0006
	attrMessageIntegrity   = 0x0008
	attrErrorCode          = 0x0009
	attrChannelNumber      = 0x000c
	attrLifetime           = 0x000d
	attrXORPeerAddress     = 0x0012
	attrData               = 0x0013
	attrRealm              = 0x0014
	attrNonce              = 0x0015
	attrRequestedFamily    = 0x0017
	attrEvenPort           = 0x0018
	attrRequestedTransport = 0x0019
	attrDontFragment       = 0x001a
	attrXORMappedAddress   = 0x0020
	attrReservationToken   = 0x0022
	attrConnectionID       = 0x002a
	attrFingerprint        = 0x8028

	transportUDP = 17
)

const (
	// maxAttributes bounds what is read of a message: no request of TURN has half
	// as many.
	maxAttributes = 32
	// maxPeers bounds the peers of one CreatePermission.
	maxPeers = 8
	// integrityLen is an HMAC-SHA1.
	integrityLen = sha1.Size
)

// message is a STUN message whose form is right. Slices are lent from the
// datagram.
type message struct {
	kind                   uint16
	id                     [12]byte
	username, realm, nonce []byte
	nonceAt, nonceEnd      int // of the attribute with header and padding
	integrity              int // where MESSAGE-INTEGRITY begins; 0: none
	transport              byte
	hasTransport           bool
	reserves               bool // EVEN-PORT or RESERVATION-TOKEN
	hasData                bool
	foreign                bool // has comprehension-required attributes unknown here
	peers                  [maxPeers]netip.AddrPort
	peerCount              int // may be more than peers holds
}

// isChannel tells ChannelData (RFC 8656 section 12.4) from STUN.
func isChannel(d []byte) bool { return len(d) >= 4 && d[0] >= 0x40 && d[0] <= 0x4f }

// parse reads a message that ends where its datagram does.
func parse(d []byte) (m message, ok bool) {
	if len(d) < headerLen || d[0]&0xc0 != 0 || binary.BigEndian.Uint32(d[4:]) != magicCookie {
		return m, false
	}
	if n := int(binary.BigEndian.Uint16(d[2:])); n%4 != 0 || headerLen+n != len(d) {
		return m, false
	}
	m.kind = binary.BigEndian.Uint16(d)
	copy(m.id[:], d[8:headerLen])
	count := 0
	for at := headerLen; at < len(d); count++ {
		if count == maxAttributes || len(d)-at < 4 {
			return m, false
		}
		kind, n := binary.BigEndian.Uint16(d[at:]), int(binary.BigEndian.Uint16(d[at+2:]))
		end := at + 4 + (n+3)&^3
		if end > len(d) {
			return m, false
		}
		if m.integrity != 0 { // only FINGERPRINT counts behind it (RFC 8489 section 14.5)
			at = end
			continue
		}
		if !m.attribute(kind, d[at+4:at+4+n], at, end) {
			return m, false
		}
		at = end
	}
	return m, true
}

// attribute takes in one; it is false for a second one of a kind that may stand
// once, and for one of the wrong length.
func (m *message) attribute(kind uint16, v []byte, at, end int) bool {
	once := func(into *[]byte) bool {
		if *into != nil || len(v) == 0 {
			return false
		}
		*into = v
		return true
	}
	switch kind {
	case attrUsername:
		return once(&m.username)
	case attrRealm:
		return once(&m.realm)
	case attrNonce:
		m.nonceAt, m.nonceEnd = at, end
		return once(&m.nonce)
	case attrMessageIntegrity:
		m.integrity = at
		return len(v) == integrityLen
	case attrRequestedTransport:
		if len(v) != 4 || m.hasTransport {
			return false
		}
		m.transport, m.hasTransport = v[0], true
	case attrEvenPort, attrReservationToken:
		m.reserves = true
	case attrData:
		m.hasData = true
	case attrXORPeerAddress:
		peer, ok := m.address(v)
		if !ok {
			return false
		}
		if m.peerCount < maxPeers {
			m.peers[m.peerCount] = peer
		}
		m.peerCount++
	case attrChannelNumber, attrLifetime, attrRequestedFamily, attrDontFragment, attrConnectionID:
	default:
		m.foreign = m.foreign || kind < 0x8000
	}
	return true
}

// address decodes an XOR address (RFC 8489 section 14.2).
func (m *message) address(v []byte) (netip.AddrPort, bool) {
	if len(v) < 4 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:]) ^ magicCookie>>16
	switch {
	case v[1] == 1 && len(v) == 8:
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], binary.BigEndian.Uint32(v[4:])^magicCookie)
		return netip.AddrPortFrom(netip.AddrFrom4(ip), port), true
	case v[1] == 2 && len(v) == 20:
		var ip [16]byte
		mask := binary.BigEndian.AppendUint32(nil, magicCookie)
		mask = append(mask, m.id[:]...)
		subtle.XORBytes(ip[:], v[4:], mask)
		return netip.AddrPortFrom(netip.AddrFrom16(ip), port), true
	}
	return netip.AddrPort{}, false
}

// authentic checks MESSAGE-INTEGRITY.
func (m *message) authentic(d, key []byte) bool {
	sum := integrity(d[:m.integrity], key)
	return subtle.ConstantTimeCompare(sum, d[m.integrity+4:][:integrityLen]) == 1
}

// integrity is that of a message up to the attribute; the length in the header
// counts to its end.
func integrity(d, key []byte) []byte {
	mac := hmac.New(sha1.New, key)
	var head [headerLen]byte
	copy(head[:], d)
	binary.BigEndian.PutUint16(head[2:], uint16(len(d)-headerLen+4+integrityLen))
	mac.Write(head[:])
	mac.Write(d[headerLen:])
	return mac.Sum(nil)
}

// reply begins a message that answers m.
func reply(dst []byte, m *message, class uint16) []byte {
	dst = binary.BigEndian.AppendUint16(dst, m.kind&^classMask|class)
	dst = binary.BigEndian.AppendUint16(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, magicCookie)
	return append(dst, m.id[:]...)
}

// with appends an attribute, padded with zeros.
func with(dst []byte, kind uint16, v []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
	dst = append(dst, v...)
	for len(dst)%4 != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// withCode appends ERROR-CODE without a reason phrase: the number says it.
func withCode(dst []byte, code int) []byte {
	return with(dst, attrErrorCode, []byte{0, 0, byte(code / 100), byte(code % 100)})
}

// sealed fills in the length; with a key it appends MESSAGE-INTEGRITY first. dst
// must begin with the message and have a length divisible by four.
func sealed(dst, key []byte) []byte {
	if key != nil {
		dst = with(dst, attrMessageIntegrity, integrity(dst, key))
	}
	binary.BigEndian.PutUint16(dst[2:], uint16(len(dst)-headerLen))
	return dst
}

// mapped answers a binding request.
func mapped(dst []byte, m *message, from netip.AddrPort) []byte {
	dst = reply(dst, m, classSuccess)
	ip := from.Addr().Unmap()
	v := []byte{0, 1}
	if ip.Is6() {
		v[1] = 2
	}
	v = binary.BigEndian.AppendUint16(v, from.Port()^magicCookie>>16)
	raw := ip.AsSlice()
	subtle.XORBytes(raw, raw, dst[4:headerLen])
	return sealed(with(dst, attrXORMappedAddress, append(v, raw...)), nil)
}
