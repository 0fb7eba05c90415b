package dtlsterm

import (
	"encoding/binary"

	"voicefleet/sfu"
)

// The record layer of RFC 6347 section 4.1.
const (
	recordHeaderLen = 13
	versionMajor    = 0xfe // DTLS 1.0 is fe ff, 1.2 is fe fd

	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
)

// Handshake messages of RFC 5246 section 7.4 that a client sends in the clear,
// in fragments of RFC 6347 section 4.2.2.
const (
	fragmentHeaderLen = 12

	helloMessage             = 1
	certificateMessage       = 11
	certificateVerifyMessage = 15
	keyExchangeMessage       = 16

	// maxMessageSeq is the number of the last message that may come: two
	// ClientHellos (one after a HelloVerifyRequest of somebody else), the three
	// of flight 5 and Finished are six.
	maxMessageSeq = 7
)

// records calls visit with type, epoch and body of each record of a datagram. It
// is false when the records do not fill the datagram exactly or visit is false
// for one of them.
func records(datagram []byte, visit func(kind byte, epoch uint16, body []byte) bool) bool {
	if len(datagram) == 0 {
		return false
	}
	for len(datagram) > 0 {
		if len(datagram) <= recordHeaderLen || datagram[1] != versionMajor {
			return false
		}
		end := recordHeaderLen + int(binary.BigEndian.Uint16(datagram[11:]))
		if end > len(datagram) ||
			!visit(datagram[0], binary.BigEndian.Uint16(datagram[3:]), datagram[recordHeaderLen:end]) {
			return false
		}
		datagram = datagram[end:]
	}
	return true
}

// acceptable tells a datagram that may be part of a client's handshake. Alerts,
// which anyone can forge in the clear, application data, renegotiation and
// connection ids are none of it.
func acceptable(datagram []byte) bool {
	return records(datagram, func(kind byte, epoch uint16, body []byte) bool {
		switch {
		case kind == typeHandshake && epoch == 0:
			return fragments(body)
		case kind == typeHandshake && epoch == 1: // Finished
			return true
		case kind == typeChangeCipherSpec && epoch == 0:
			return len(body) == 1 && body[0] == 1
		}
		return false
	})
}

// fragments tells whether a record body is made of fragments that lie within
// their messages. No message of a client is empty, so no fragment is: one of an
// empty message that does not start at zero stopped pion/dtls 3.1.8 by a nil
// pointer.
func fragments(body []byte) bool {
	for len(body) > 0 {
		if len(body) <= fragmentHeaderLen {
			return false
		}
		switch body[0] {
		case helloMessage, certificateMessage, certificateVerifyMessage, keyExchangeMessage:
		default:
			return false
		}
		whole, from, length := uint24(body[1:]), uint24(body[6:]), uint24(body[9:])
		end := fragmentHeaderLen + length
		if binary.BigEndian.Uint16(body[4:]) > maxMessageSeq ||
			length == 0 || from+length > whole || whole > sfu.MaxReassembly || end > len(body) {
			return false
		}
		body = body[end:]
	}
	return true
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// holds tells whether one of the records is of this type and epoch.
func holds(datagram []byte, kind byte, epoch uint16) bool {
	found := false
	records(datagram, func(k byte, e uint16, _ []byte) bool {
		found = found || k == kind && e == epoch
		return true
	})
	return found
}
