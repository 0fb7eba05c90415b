package vp8wire

import "encoding/binary"

// Descriptor is what forwarding needs of a payload descriptor.
type Descriptor struct {
	// Key: the packet begins a key frame, from which a decoder can begin.
	Key bool
	// Picture is the number of the picture (PictureID), of PictureBits 7 or 15; 0 bits:
	// there is none.
	Picture     uint16
	PictureBits uint8
	// Base numbers the pictures of the lowest temporal layer (TL0PICIDX), if HasBase.
	Base    uint8
	HasBase bool

	picture, base int // where they stand
}

// The bits of the first two octets.
const (
	extended  = 0x80 // X
	start     = 0x10 // S: a partition begins
	partition = 0x0f // PID, with the reserved bit
	hasID     = 0x80 // I
	hasBase   = 0x40 // L
	hasLayer  = 0x20 // T
	hasKeyIdx = 0x10 // K
	wide      = 0x80 // M: the number has 15 bits
	interlude = 0x01 // P of the VP8 payload header: not a key frame
)

// Read reads the descriptor of a payload. It is false when the descriptor is cut off or
// nothing follows it.
func Read(payload []byte) (d Descriptor, ok bool) {
	if len(payload) < 2 {
		return d, false
	}
	first, at := payload[0], 1
	if first&extended != 0 {
		flags := payload[1]
		at = 2
		if flags&hasID != 0 {
			if at >= len(payload) {
				return d, false
			}
			d.picture, d.Picture, d.PictureBits = at, uint16(payload[at]&^wide), 7
			if payload[at]&wide != 0 {
				if at+1 >= len(payload) {
					return d, false
				}
				d.Picture, d.PictureBits = binary.BigEndian.Uint16(payload[at:])&^(wide<<8), 15
				at++
			}
			at++
		}
		if flags&hasBase != 0 {
			if at >= len(payload) {
				return d, false
			}
			d.base, d.Base, d.HasBase = at, payload[at], true
			at++
		}
		if flags&(hasLayer|hasKeyIdx) != 0 {
			at++
		}
	}
	if at >= len(payload) {
		return d, false
	}
	d.Key = first&(start|partition) == start && payload[at]&interlude == 0
	return d, true
}

// Put writes other numbers into the payload that d was read from, modulo what their
// fields hold.
func (d *Descriptor) Put(payload []byte, picture uint16, base uint8) {
	switch d.PictureBits {
	case 7:
		payload[d.picture] = byte(picture) &^ wide
	case 15:
		binary.BigEndian.PutUint16(payload[d.picture:], picture|wide<<8)
	}
	if d.HasBase {
		payload[d.base] = base
	}
}
