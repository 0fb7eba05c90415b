package demux

import "voicefleet/sfu"

// Class is what a datagram claims to be.
type Class uint8

// The classes. Every datagram has exactly one.
const (
	Foreign Class = iota // a protocol we do not speak, or nothing at all
	Short                // ends before the header its first byte announces
	Long                 // over sfu.MaxDatagram
	STUN
	DTLS
	RTP
	RTCP
)

// The smallest datagram of each protocol: its fixed header.
const (
	minSTUN = 20 // RFC 8489 section 5
	minDTLS = 13 // RFC 6347 section 4.1
	minRTP  = 12 // RFC 3550 section 5.1
	minRTCP = 8  // header and sender SSRC, which SRTCP leaves in the clear
)

// Classify sorts a datagram by its first byte (RFC 7983 section 7), and RTP
// from RTCP by the second (RFC 5761 section 4). ZRTP (16 to 19) and TURN
// channels (64 to 79) are foreign here.
func Classify(datagram []byte) Class {
	if len(datagram) == 0 {
		return Foreign
	}
	if len(datagram) > sfu.MaxDatagram {
		return Long
	}
	least, class := 0, Foreign
	switch b := datagram[0]; {
	case b <= 3:
		least, class = minSTUN, STUN
	case 20 <= b && b <= 63:
		least, class = minDTLS, DTLS
	case 128 <= b && b <= 191:
		least, class = minRTCP, RTCP
		if len(datagram) >= 2 && (datagram[1] < 192 || datagram[1] > 223) {
			least, class = minRTP, RTP
		}
	}
	if len(datagram) < least {
		return Short
	}
	return class
}

// Drop is the reason under which a datagram of a class without protocol is
// counted.
func (c Class) Drop() sfu.DropReason {
	switch c {
	case Short:
		return sfu.DropTooShort
	case Long:
		return sfu.DropTooLong
	}
	return sfu.DropNotVoice
}
