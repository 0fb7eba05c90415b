package lightclient

import (
	"encoding/binary"
	"time"
)

// A marked payload looks like one 20 ms Opus frame (RFC 6716 section 3.1: TOC
// 0x78 is configuration 15, mono, one frame) and says whose it is, which in the
// row, and when it was to be sent. All numbers are big endian.
//
//	0    TOC 0x78
//	1    "vfbm"
//	5    talker, uint16
//	7    index, uint32
//	11   intended send time, nanoseconds since 1970, int64
//	19   filler
const (
	markTOC   = 0x78
	markMagic = "vfbm"
	// MarkSize is the smallest payload that holds a mark.
	MarkSize = 19
)

// Mark is what a marked payload says.
type Mark struct {
	Talker uint16
	Index  uint32
	Due    time.Time // when it was to be sent, whatever became of that
}

// put writes the mark over the start of payload, which is filled before.
func (m Mark) put(payload []byte) {
	payload[0] = markTOC
	copy(payload[1:], markMagic)
	binary.BigEndian.PutUint16(payload[5:], m.Talker)
	binary.BigEndian.PutUint32(payload[7:], m.Index)
	binary.BigEndian.PutUint64(payload[11:], uint64(m.Due.UnixNano()))
}

// readMark reads it back.
func readMark(payload []byte) (Mark, bool) {
	if len(payload) < MarkSize || payload[0] != markTOC || string(payload[1:5]) != markMagic {
		return Mark{}, false
	}
	return Mark{
		Talker: binary.BigEndian.Uint16(payload[5:]),
		Index:  binary.BigEndian.Uint32(payload[7:]),
		Due:    time.Unix(0, int64(binary.BigEndian.Uint64(payload[11:]))),
	}, true
}
