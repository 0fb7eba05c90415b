package rtpwire

import "encoding/binary"

// Forwarded is the header we send: one CSRC, which names the speaker, the audio
// level if the receiver takes it, and now and then a stamp of transport-wide
// congestion control. PutShared writes what all receivers of a packet share; the
// Put methods then write what is each one's own.
type Forwarded [FixedHeader + 4 + 12]byte

// The lengths of a Forwarded without and with a level, and with a stamp.
const (
	PlainHeader = FixedHeader + 4
	LevelHeader = PlainHeader + 8
	StampHeader = PlainHeader + 12
)

// PutShared writes what is the same for every receiver: the speaker's SSRC as
// CSRC, and the frame of the extension.
func (f *Forwarded) PutShared(csrc uint32) {
	binary.BigEndian.PutUint32(f[12:], csrc)
	binary.BigEndian.PutUint16(f[16:], oneByteProfile)
	binary.BigEndian.PutUint16(f[18:], 1)
	binary.BigEndian.PutUint64(f[20:], 0)
}

// Put writes one receiver's own fields and returns the header. Level is written
// when levelExt is not 0 and there is one.
func (f *Forwarded) Put(payloadType uint8, marker bool, seq uint16, ts, ssrc uint32, levelExt, level uint8) []byte {
	if marker {
		payloadType |= 0x80
	}
	f[1] = payloadType
	binary.BigEndian.PutUint16(f[2:], seq)
	binary.BigEndian.PutUint32(f[4:], ts)
	binary.BigEndian.PutUint32(f[8:], ssrc)
	if levelExt == 0 || level == NoLevel {
		f[0] = 2<<6 | 1
		return f[:PlainHeader]
	}
	f[0] = 2<<6 | 0x10 | 1
	f[20] = levelExt << 4 // length 1, coded as 0
	f[21] = level
	return f[:LevelHeader]
}

// PutStamped is Put with the transport-wide sequence number stamp under the
// extension id stampExt: its receiver will say that this packet came
// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
func (f *Forwarded) PutStamped(payloadType uint8, marker bool, seq uint16, ts, ssrc uint32, levelExt, level, stampExt uint8, stamp uint16) []byte {
	f.Put(payloadType, marker, seq, ts, ssrc, levelExt, level)
	f[0] = 2<<6 | 0x10 | 1
	at, end := 20, LevelHeader
	if levelExt != 0 && level != NoLevel {
		at, end = 22, StampHeader
	}
	f[at] = stampExt<<4 | 1
	binary.BigEndian.PutUint16(f[at+1:], stamp)
	f[19] = byte(end-PlainHeader-4) / 4
	return f[:end]
}

// Unstamp makes the header ready for Put again.
func (f *Forwarded) Unstamp() {
	f[19] = 1
	binary.BigEndian.PutUint64(f[20:], 0)
}
