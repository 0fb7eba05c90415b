package icelite

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// The message form of RFC 8489 sections 5 and 14 and RFC 8445 section 7.1.
const (
	headerLen     = 20
	magicCookie   = 0x2112A442
	bindRequest   = 0x0001
	bindSuccess   = 0x0101
	attrHeaderLen = 4
	maxUsername   = 513 // RFC 8489 section 14.3

	attrUsername         = 0x0006
	attrMessageIntegrity = 0x0008
	attrXORMappedAddress = 0x0020
	attrPriority         = 0x0024
	attrUseCandidate     = 0x0025
	attrFingerprint      = 0x8028
	attrICEControlled    = 0x8029
	attrICEControlling   = 0x802A

	integrityLen   = 20 // HMAC-SHA1
	fingerprintLen = 4
	fingerprintXOR = 0x5354554e
)

// IsSuccess says whether a STUN datagram claims to answer a request of ours.
func IsSuccess(d []byte) bool {
	return len(d) >= headerLen && binary.BigEndian.Uint16(d) == bindSuccess
}

// success finds the MESSAGE-INTEGRITY of an answer to the request of that transaction.
// What it says of our address does not matter.
func success(d []byte, transaction [12]byte) (integrity int, ok bool) {
	if !IsSuccess(d) || len(d)%4 != 0 || int(binary.BigEndian.Uint16(d[2:])) != len(d)-headerLen ||
		binary.BigEndian.Uint32(d[4:]) != magicCookie || [12]byte(d[8:headerLen]) != transaction {
		return 0, false
	}
	for at := headerLen; len(d)-at >= attrHeaderLen; {
		length := int(binary.BigEndian.Uint16(d[at+2:]))
		next := at + attrHeaderLen + (length+3)&^3
		if next > len(d) {
			return 0, false
		}
		if binary.BigEndian.Uint16(d[at:]) == attrMessageIntegrity {
			return at, length == integrityLen
		}
		at = next
	}
	return 0, false
}

// message is a binding request taken apart. Its slices are lent.
type message struct {
	server, client []byte // the halves of USERNAME
	integrity      int    // offset of the MESSAGE-INTEGRITY attribute
	useCandidate   bool
	controlling    bool
}

// parse walks the attributes once. It is false for whatever is not a binding
// request with USERNAME and MESSAGE-INTEGRITY whose lengths add up, for an
// unknown attribute that must be understood, and for a wrong FINGERPRINT. What
// stands between MESSAGE-INTEGRITY and FINGERPRINT is not looked at (RFC 8489
// section 14.5).
func parse(d []byte) (m message, ok bool) {
	if len(d) < headerLen || len(d)%4 != 0 ||
		binary.BigEndian.Uint16(d) != bindRequest ||
		int(binary.BigEndian.Uint16(d[2:])) != len(d)-headerLen ||
		binary.BigEndian.Uint32(d[4:]) != magicCookie {
		return message{}, false
	}
	for at := headerLen; at < len(d); {
		if len(d)-at < attrHeaderLen {
			return message{}, false
		}
		kind, length := binary.BigEndian.Uint16(d[at:]), int(binary.BigEndian.Uint16(d[at+2:]))
		next := at + attrHeaderLen + (length+3)&^3
		if next > len(d) {
			return message{}, false
		}
		value := d[at+attrHeaderLen : at+attrHeaderLen+length]
		switch {
		case kind == attrFingerprint:
			if length != fingerprintLen || next != len(d) ||
				binary.BigEndian.Uint32(value) != crc32.ChecksumIEEE(d[:at])^fingerprintXOR {
				return message{}, false
			}
		case m.integrity != 0: // behind what is authenticated
		case kind == attrUsername:
			var colon bool
			if m.server, m.client, colon = bytes.Cut(value, []byte{':'}); !colon || length > maxUsername {
				return message{}, false
			}
		case kind == attrMessageIntegrity:
			if length != integrityLen {
				return message{}, false
			}
			m.integrity = at
		case kind == attrUseCandidate:
			m.useCandidate = true
		case kind == attrICEControlling:
			m.controlling = true
		case kind < 0x8000 && kind != attrPriority: // comprehension required (RFC 8489 section 14)
			return message{}, false
		}
		at = next
	}
	return m, m.integrity != 0 && len(m.server) > 0 && len(m.client) > 0
}
