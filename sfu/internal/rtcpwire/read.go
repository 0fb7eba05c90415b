package rtcpwire

import "encoding/binary"

// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
const (
	SenderReport   = 200
	ReceiverReport = 201
	Description    = 202
	Goodbye        = 203
	Feedback       = 205 // transport layer feedback; Count is its format
	PayloadFeed    = 206 // payload-specific feedback; Count is its format

	formatNACK        = 1
	formatTransportCC = 15
	formatPLI         = 1
	formatFIR         = 4

	header    = 4
	blockLen  = 24
	srLen     = header + 4 + 20
	cnameItem = 1
)

// Packet is one packet of a compound.
type Packet struct {
	Type  uint8
	Count uint8  // of reports or chunks, or the format of feedback
	body  []byte // behind the header; lent
}

// Next takes the first packet off a compound. It is false when its version or
// length is wrong, and the rest of the compound is then worth nothing.
func Next(compound []byte) (p Packet, rest []byte, ok bool) {
	if len(compound) < header || compound[0]>>6 != 2 {
		return p, nil, false
	}
	end := header + 4*int(binary.BigEndian.Uint16(compound[2:]))
	if end > len(compound) {
		return p, nil, false
	}
	p = Packet{Type: compound[1], Count: compound[0] & 31, body: compound[header:end]}
	return p, compound[end:], true
}

// Sent reads a sender report: who sent it, and the middle 32 bits of its NTP
// time, which our reports return as LSR.
func (p Packet) Sent() (ssrc, ntp uint32, ok bool) {
	if p.Type != SenderReport || len(p.body) < srLen-header {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(p.body), binary.BigEndian.Uint32(p.body[6:]), true
}

// Block is a reception report.
type Block struct {
	SSRC     uint32
	Fraction uint8 // lost since the last report, in 256ths
	Lost     int32 // in all, 24 bits
	Highest  uint32
	Jitter   uint32
	LSR      uint32 // of the last sender report, 0 for none
	DLSR     uint32 // since then, in 65,536ths of a second
}

// Block reads the i-th reception report of a sender or receiver report. It is
// false when there are no more.
func (p Packet) Block(i int) (b Block, ok bool) {
	at := 4
	switch p.Type {
	case SenderReport:
		at = srLen - header
	case ReceiverReport:
	default:
		return b, false
	}
	at += i * blockLen
	if i >= int(p.Count) || at+blockLen > len(p.body) {
		return b, false
	}
	d := p.body[at:]
	return Block{
		SSRC:     binary.BigEndian.Uint32(d),
		Fraction: d[4],
		Lost:     int32(binary.BigEndian.Uint32(d[4:])<<8) >> 8,
		Highest:  binary.BigEndian.Uint32(d[8:]),
		Jitter:   binary.BigEndian.Uint32(d[12:]),
		LSR:      binary.BigEndian.Uint32(d[16:]),
		DLSR:     binary.BigEndian.Uint32(d[20:]),
	}, true
}

// Missing reads the i-th entry of a generic NACK: a lost sequence number and a
// mask of the 16 after it. It is false when there are no more, or the packet is
// no NACK.
func (p Packet) Missing(i int) (ssrc uint32, seq, mask uint16, ok bool) {
	at := 8 + 4*i
	if p.Type != Feedback || p.Count != formatNACK || at+4 > len(p.body) {
		return 0, 0, 0, false
	}
	return binary.BigEndian.Uint32(p.body[4:]), binary.BigEndian.Uint16(p.body[at:]),
		binary.BigEndian.Uint16(p.body[at+2:]), true
}

// KeyFrame reads the i-th source that is asked for a key frame, by picture loss
// indication or full intra request. It is false when there are no more, or the packet
// is neither.
func (p Packet) KeyFrame(i int) (ssrc uint32, ok bool) {
	at := 4 // of the one source of a picture loss indication
	switch {
	case p.Type != PayloadFeed || p.Count == formatPLI && i > 0:
		return 0, false
	case p.Count == formatPLI:
	case p.Count == formatFIR:
		at = 8 + 8*i
	default:
		return 0, false
	}
	if at+4 > len(p.body) {
		return 0, false
	}
	return binary.BigEndian.Uint32(p.body[at:]), true
}

// RoundTrip is the time a report took there and back, without the time it lay at
// the receiver (RFC 3550 section 6.4.1), in 65,536ths of a second; now is the
// middle of our NTP time. It is false without LSR or for nonsense.
func (b *Block) RoundTrip(now uint32) (uint32, bool) {
	rtt := now - b.LSR - b.DLSR
	return rtt, b.LSR != 0 && rtt < 60<<16
}

// Arrived reads transport-wide feedback
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): whether any of
// the packets it is about came, and the stamps of the first and behind the last
// that did. ok is false when the packet is something else or cannot be read.
func (p Packet) Arrived() (first, behind uint16, any, ok bool) {
	const chunks = 16 // behind two SSRCs, base, count, time and number
	if p.Type != Feedback || p.Count != formatTransportCC || len(p.body) < chunks+2 {
		return 0, 0, false, false
	}
	base, left := binary.BigEndian.Uint16(p.body[8:]), int(binary.BigEndian.Uint16(p.body[10:]))
	at := 0 // status under way
	note := func(n int, came bool) {
		n = min(n, left-at)
		if came && n > 0 {
			if !any {
				first, any = base+uint16(at), true
			}
			behind = base + uint16(at+n)
		}
		at += n
	}
	for d := p.body[chunks:]; at < left; d = d[2:] {
		if len(d) < 2 {
			return 0, 0, false, false
		}
		chunk := binary.BigEndian.Uint16(d)
		switch {
		case chunk>>15 == 0: // run length: 1 to 8,191 of one symbol
			symbol := chunk >> 13
			n := int(chunk & 0x1fff)
			if n == 0 {
				return 0, 0, false, false
			}
			note(n, symbol == 1 || symbol == 2)
		case chunk>>14 == 2: // 14 symbols of one bit
			for i := 13; i >= 0; i-- {
				note(1, chunk>>i&1 != 0)
			}
		default: // 7 of two bits
			for i := 12; i >= 0; i -= 2 {
				symbol := chunk >> i & 3
				note(1, symbol == 1 || symbol == 2)
			}
		}
	}
	return first, behind, any, true
}
