package rtcpwire

import (
	"encoding/binary"
	"time"
)

// CNAME is the canonical name of all our sources (RFC 3550 section 6.5.1): they share
// one clock.
const CNAME = "voicefleet"

// ntpEpoch is 1970 in seconds since 1900 (RFC 868).
const ntpEpoch = 2208988800

// NTP is the 64-bit form of a time (RFC 3550 section 4).
func NTP(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// Middle is the 32 bits of it that reports return.
func Middle(ntp uint64) uint32 { return uint32(ntp >> 16) }

// AppendSenderReport appends a sender report with at most one block.
func AppendSenderReport(dst []byte, ssrc uint32, ntp uint64, ts, packets, octets uint32, about *Block) []byte {
	dst = appendHeader(dst, SenderReport, srLen, about)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = binary.BigEndian.AppendUint64(dst, ntp)
	dst = binary.BigEndian.AppendUint32(dst, ts)
	dst = binary.BigEndian.AppendUint32(dst, packets)
	dst = binary.BigEndian.AppendUint32(dst, octets)
	return appendBlock(dst, about)
}

// AppendReceiverReport appends a receiver report with at most one block.
func AppendReceiverReport(dst []byte, ssrc uint32, about *Block) []byte {
	dst = appendHeader(dst, ReceiverReport, header+4, about)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	return appendBlock(dst, about)
}

func appendHeader(dst []byte, kind uint8, length int, about *Block) []byte {
	count := byte(0)
	if about != nil {
		count, length = 1, length+blockLen
	}
	return append(dst, 2<<6|count, kind, 0, byte(length/4-1))
}

func appendBlock(dst []byte, b *Block) []byte {
	if b == nil {
		return dst
	}
	dst = binary.BigEndian.AppendUint32(dst, b.SSRC)
	dst = binary.BigEndian.AppendUint32(dst, uint32(b.Fraction)<<24|uint32(b.Lost)&0xffffff)
	dst = binary.BigEndian.AppendUint32(dst, b.Highest)
	dst = binary.BigEndian.AppendUint32(dst, b.Jitter)
	dst = binary.BigEndian.AppendUint32(dst, b.LSR)
	return binary.BigEndian.AppendUint32(dst, b.DLSR)
}

// AppendDescription appends a source description of one source with a CNAME of
// at most 255 bytes.
func AppendDescription(dst []byte, ssrc uint32, cname string) []byte {
	start := len(dst)
	dst = append(dst, 2<<6|1, Description, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = append(dst, cnameItem, byte(len(cname)))
	dst = append(dst, cname...)
	dst = append(dst, 0) // the list's end, padded to a word
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16((len(dst)-start)/4-1))
	return dst
}

// AppendMissing appends a generic NACK of sequence numbers of a source, given in rising
// order.
func AppendMissing(dst []byte, from, ssrc uint32, missing []uint16) []byte {
	begun := len(dst)
	dst = append(dst, 2<<6|formatNACK, Feedback, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, from)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	for len(missing) > 0 {
		first, mask := missing[0], uint16(0)
		n := 1
		for ; n < len(missing) && missing[n]-first-1 < 16; n++ {
			mask |= 1 << (missing[n] - first - 1)
		}
		dst = binary.BigEndian.AppendUint16(dst, first)
		dst = binary.BigEndian.AppendUint16(dst, mask)
		missing = missing[n:]
	}
	binary.BigEndian.PutUint16(dst[begun+2:], uint16((len(dst)-begun)/4-1))
	return dst
}

// AppendPictureLoss appends a picture loss indication: a request for a key frame.
func AppendPictureLoss(dst []byte, from, ssrc uint32) []byte {
	dst = append(dst, 2<<6|formatPLI, PayloadFeed, 0, 2)
	dst = binary.BigEndian.AppendUint32(dst, from)
	return binary.BigEndian.AppendUint32(dst, ssrc)
}
