package dtlsterm

import "encoding/binary"

// The record layer of RFC 6347 section 4.1.
const (
	recordHeaderLen = 13
	versionMajor    = 0xfe // DTLS 1.0 is fe ff, 1.2 is fe fd

	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
)

// records calls visit with type and epoch of each record of a datagram. It is
// false when the records do not fill the datagram exactly or visit is false for
// one of them.
func records(datagram []byte, visit func(kind byte, epoch uint16) bool) bool {
	if len(datagram) == 0 {
		return false
	}
	for len(datagram) > 0 {
		if len(datagram) <= recordHeaderLen || datagram[1] != versionMajor {
			return false
		}
		end := recordHeaderLen + int(binary.BigEndian.Uint16(datagram[11:]))
		if end > len(datagram) || !visit(datagram[0], binary.BigEndian.Uint16(datagram[3:])) {
			return false
		}
		datagram = datagram[end:]
	}
	return true
}

// acceptable tells a datagram that may be part of a client's handshake.
// Plaintext alerts, which anyone can forge, application data, renegotiation and
// connection ids are none of it.
func acceptable(datagram []byte) bool {
	return records(datagram, func(kind byte, epoch uint16) bool {
		switch kind {
		case typeHandshake:
			return epoch <= 1
		case typeChangeCipherSpec:
			return epoch == 0
		case typeAlert:
			return epoch == 1
		}
		return false
	})
}

// holds tells whether one of the records is of this type and epoch.
func holds(datagram []byte, kind byte, epoch uint16) bool {
	found := false
	records(datagram, func(k byte, e uint16) bool {
		found = found || k == kind && e == epoch
		return true
	})
	return found
}
