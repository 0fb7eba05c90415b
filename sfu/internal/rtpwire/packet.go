package rtpwire

import "encoding/binary"

const (
	// FixedHeader is the length of a header without CSRCs and extension.
	FixedHeader = 12
	// NoLevel stands for a packet without an audio level.
	NoLevel = 0xff
	// Voice is the V bit of an audio level: the sender believes to hear a voice
	// (RFC 6464 section 3). The other seven are the level in -dBov.
	Voice = 0x80
	// Digital is the level of digital silence, and the lowest there is.
	Digital = 127

	oneByteProfile = 0xBEDE // RFC 8285 section 4.2
	twoByteProfile = 0x1000 // section 4.3; the low four bits are "appbits"
)

// Header is what forwarding needs of a packet's header.
type Header struct {
	SSRC        uint32
	Timestamp   uint32
	Sequence    uint16
	PayloadType uint8
	Marker      bool
	Padding     bool  // the P bit; the payload's last byte is then the count
	Level       uint8 // RFC 6464: V bit and level, or NoLevel
	Length      int   // of the whole header: where the payload begins
}

// Parse reads the header of a packet, still sealed or not: RTP leaves it in the
// clear. Level is looked for under the extension id levelExt (0: not
// negotiated). It is false when version or lengths are wrong.
func Parse(packet []byte, levelExt uint8) (h Header, ok bool) {
	if len(packet) < FixedHeader || packet[0]>>6 != 2 {
		return h, false
	}
	h.Padding = packet[0]&0x20 != 0
	h.Marker = packet[1]&0x80 != 0
	h.PayloadType = packet[1] & 0x7f
	h.Sequence = binary.BigEndian.Uint16(packet[2:])
	h.Timestamp = binary.BigEndian.Uint32(packet[4:])
	h.SSRC = binary.BigEndian.Uint32(packet[8:])
	h.Level = NoLevel
	h.Length = FixedHeader + 4*int(packet[0]&15)
	if packet[0]&0x10 == 0 {
		return h, h.Length <= len(packet)
	}
	start := h.Length + 4
	if start > len(packet) {
		return h, false
	}
	profile := binary.BigEndian.Uint16(packet[h.Length:])
	h.Length = start + 4*int(binary.BigEndian.Uint16(packet[h.Length+2:]))
	if h.Length > len(packet) {
		return h, false
	}
	if levelExt != 0 {
		h.Level = findLevel(packet[start:h.Length], profile, levelExt)
	}
	return h, true
}

// findLevel walks header extension elements. Elements whose lengths lie end the
// walk: what they hold is the sender's loss alone.
func findLevel(ext []byte, profile uint16, id uint8) uint8 {
	switch {
	case profile == oneByteProfile:
		for len(ext) > 0 {
			if ext[0] == 0 { // padding
				ext = ext[1:]
				continue
			}
			n := int(ext[0]&15) + 1
			if ext[0]>>4 == 15 || 1+n > len(ext) { // 15 ends the walk (RFC 8285 section 4.2)
				return NoLevel
			}
			if ext[0]>>4 == id {
				return level(ext[1])
			}
			ext = ext[1+n:]
		}
	case profile&^15 == twoByteProfile:
		for len(ext) > 1 {
			if ext[0] == 0 {
				ext = ext[1:]
				continue
			}
			n := int(ext[1])
			if 2+n > len(ext) {
				return NoLevel
			}
			if ext[0] == id && n > 0 {
				return level(ext[2])
			}
			ext = ext[2+n:]
		}
	}
	return NoLevel
}

// level spells digital silence without the V bit: with it, it would look like
// NoLevel, and there is no voice in it.
func level(b byte) uint8 {
	if b&^Voice == Digital {
		return Digital
	}
	return b
}

// Payload cuts the padding off an opened payload (RFC 3550 section 5.1). It is
// false for a padding count of zero or beyond the payload.
func (h *Header) Payload(opened []byte) ([]byte, bool) {
	if !h.Padding {
		return opened, true
	}
	if len(opened) == 0 {
		return nil, false
	}
	n := int(opened[len(opened)-1])
	if n == 0 || n > len(opened) {
		return nil, false
	}
	return opened[:len(opened)-n], true
}

// DTX says that an Opus payload is one of discontinuous transmission or lost to
// it: nothing, or a TOC byte with at most two bytes behind it, which is how
// encoders spell silence.
func DTX(payload []byte) bool { return len(payload) <= 3 }

// Silence is an Opus frame of 20 ms silence (CELT fullband, stereo).
var Silence = [3]byte{0xF8, 0xFF, 0xFE}

// SilenceTicks is its length at the 48 kHz clock of Opus (RFC 7587 section 4.1).
const SilenceTicks = 960
