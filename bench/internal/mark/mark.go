// Package mark writes into a packet of Opus whose it is, which in the row, and
// when it was to be sent, in a way that every decoder accepts: as the padding of a
// packet of code 3 (RFC 6716 section 3.2.5). So faithful bots and light clients,
// in whatever process, measure one another's packets, and real speech stays real.
package mark

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Frame is the length of speech in a packet.
const Frame = 20 * time.Millisecond

// Mark is what a packet says of itself.
type Mark struct {
	Talker uint32 // who, unique within a run
	// Index counts intervals of Frame since the talker began, pauses included, so
	// that Index·Frame is media time.
	Index uint32
	// Onset is the Index of the first packet of the spurt this one is in.
	Onset uint32
	// Voiced packets are speech: a server must forward them.
	Voiced bool
	Due    time.Time // when it was to be sent, whatever became of that
}

// The mark stands at the end of the packet; all numbers are big endian.
//
//	0    "vfbm"
//	4    talker
//	8    index
//	12   onset
//	16   flags: 1 voiced
//	17   due, nanoseconds since 1970
const (
	magic = "vfbm"
	// Size is the length of a mark in bytes.
	Size = 25
	// Overhead is the least by which a marked packet is longer than the frame
	// in it (its TOC byte counts as part of the frame): frame count, one byte of
	// padding length, the mark.
	Overhead = 2 + Size
	// MaxPacket bounds a marked packet.
	MaxPacket = 1275
)

// ErrTooLong tells a frame that does not fit with its mark.
var ErrTooLong = errors.New("frame and mark are longer than the packet")

// Append appends to dst one packet of exactly size bytes with the frame and the
// mark; size 0 means as short as it can be. The frame is a packet of code 0: a TOC
// byte and one frame (RFC 6716 section 3.2.2).
func Append(dst, frame []byte, m Mark, size int) ([]byte, error) {
	if len(frame) < 1 || frame[0]&3 != 0 {
		return dst, errors.New("not an Opus packet of code 0")
	}
	// Behind TOC and count come the padding length, in bytes of 255 (254 each)
	// and one below, the frame and the padding.
	if size == 0 {
		size = len(frame) + Overhead
	}
	rest := size - 2 - (len(frame) - 1) // padding and its length
	long := 0
	for pad := rest - 1; pad > 254; pad -= 255 {
		long++
	}
	pad := rest - 1 - long
	if pad < Size || size > MaxPacket {
		return dst, fmt.Errorf("%d bytes in %d: %w", len(frame), size, ErrTooLong)
	}
	dst = append(dst, frame[0]|3, 0x41) // one frame, padded, constant bitrate
	for range long {
		dst = append(dst, 255)
	}
	dst = append(dst, byte(pad-254*long))
	dst = append(dst, frame[1:]...)
	for range pad - Size {
		dst = append(dst, 0)
	}
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint32(dst, m.Talker)
	dst = binary.BigEndian.AppendUint32(dst, m.Index)
	dst = binary.BigEndian.AppendUint32(dst, m.Onset)
	flags := byte(0)
	if m.Voiced {
		flags |= 1
	}
	dst = append(dst, flags)
	return binary.BigEndian.AppendUint64(dst, uint64(m.Due.UnixNano())), nil
}

// Read finds the mark of a packet.
func Read(packet []byte) (Mark, bool) {
	if len(packet) < 3+Size || packet[0]&3 != 3 || packet[1] != 0x41 {
		return Mark{}, false
	}
	b := packet[len(packet)-Size:]
	if string(b[:4]) != magic {
		return Mark{}, false
	}
	return Mark{
		Talker: binary.BigEndian.Uint32(b[4:]),
		Index:  binary.BigEndian.Uint32(b[8:]),
		Onset:  binary.BigEndian.Uint32(b[12:]),
		Voiced: b[16]&1 != 0,
		Due:    time.Unix(0, int64(binary.BigEndian.Uint64(b[17:]))),
	}, true
}
