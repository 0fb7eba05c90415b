package video

import (
	"sync/atomic"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
	"voicefleet/sfu/internal/vp8wire"
)

// The way of a video packet through the core:
//
//  1. camera:     what is missing before it
//  2. descriptor: key frame or not, number of the picture
//  3. stand:      one for each camera that is on
//  4. kept:       for viewers that miss it
//  5. relay:      to the other nodes of the call, as it is
//  6. views:      at a key frame, those that wait begin
//  7. forward:    per viewer a header and numbers, sealed into the batch

// maxPayload leaves room for our header and seal in a datagram.
const maxPayload = sfu.MaxDatagram - rtpwire.PlainHeader - crypt.MaxOverhead

// padding is what stands for a packet without payload, which only takes a sequence
// number (RFC 3550 section 5.1).
var padding = []byte{1}

// view is one receive stream of a member.
type view struct {
	index  uint64  // SRTP index behind the highest that was sent
	live   *uint64 // the same in Member.Indices
	ssrc   uint32
	holder uint8    // stand, or none
	last   sfu.SSRC // whose camera it held last
	waits  bool     // for a key frame
	// Of the camera in it: its first packet here, and what its numbers are moved by.
	from, offset uint64
	shift        uint32 // timestamps
	picture      uint16
	layer        uint8
	// Of the last packet in order.
	used       bool
	base       uint32 // the view's own constant in timestamps
	ts         uint32
	at         time.Duration
	topPicture uint16
	topLayer   uint8
	// Reports.
	packets, octets, reported uint32
}

// Video forwards one authentic packet of m. Payload is without padding; it is lent until
// return, and changed. Index is its SRTP index, of which none comes twice.
func (c *Call) Video(now time.Duration, m *Member, h *rtpwire.Header, index uint64, payload []byte, out *egress.Batch) {
	switch {
	case len(payload) > maxPayload:
		c.drop(sfu.DropTooLong)
		return
	case !m.allowed:
		c.drop(sfu.DropMuted)
		return
	case c.shed:
		c.drop(sfu.DropShed)
		return
	}

	// 1. camera
	cam := &m.camera
	cam.reception.Packet(index, h.Timestamp, c.clock(now))
	cam.arrived(now, index, m.away)

	// 2. descriptor
	var d vp8wire.Descriptor
	if len(payload) > 0 {
		var ok bool
		if d, ok = vp8wire.Read(payload); !ok {
			c.drop(sfu.DropMalformed)
			return
		}
	}
	if d.Key {
		cam.key = false
	}

	// 3. stand
	if m.stand == none {
		if c.light(now, m); m.stand == none {
			c.drop(sfu.DropNotOnStage)
			return
		}
		cam.key = !d.Key
	}

	// 4. kept
	if c.nackers > 0 {
		if cam.kept == nil {
			cam.kept = new(kept)
		}
		cam.kept.put(index, h.Timestamp, h.Marker, payload)
	}

	// 5. relay
	if c.relay.on && !m.away && len(payload) > 0 {
		c.sendRelay(m, h, index, payload, out)
	}

	// 6. views, 7. forward
	c.header.PutShared(uint32(m.SSRC))
	for _, viewer := range c.members {
		k := viewer.shown[m.stand]
		if k == none || viewer.limited || viewer.path.Len == 0 {
			continue
		}
		v := &viewer.views[k]
		if v.waits {
			if !d.Key {
				cam.key = true
				continue
			}
			v.begin(c.clock(now), now, h.Timestamp, index, &d)
		}
		if index < v.from {
			continue
		}
		to := index + v.offset
		newest := to >= v.index
		if newest {
			v.index = to + 1
			atomic.StoreUint64(v.live, v.index) // before it leaves
		}
		c.cfg.Count.PacketsOut++
		c.cfg.Count.BytesOut += c.send(viewer, v, &d, h.Timestamp, h.Marker, to, payload, out)
		v.packets++
		v.octets += uint32(len(payload))
		if newest {
			v.ts, v.at, v.used = h.Timestamp+v.shift, now, true
			if d.PictureBits > 0 {
				v.topPicture = d.Picture + v.picture
			}
			if d.HasBase {
				v.topLayer = d.Base + v.layer
			}
		}
	}
}

// begin has a view go on with the first packet of a key frame of another camera, or of
// the same one after a pause. Its time is the engine's clock's, which an engine after this
// one goes on with.
func (v *view) begin(clock uint32, now time.Duration, ts uint32, index uint64, d *vp8wire.Descriptor) {
	v.waits = false
	v.from, v.offset = index, v.index-index
	at := v.base + clock
	if v.used {
		if ahead := int32(v.ts + 1 - at); ahead > 0 {
			at += uint32(ahead)
		}
		v.picture, v.layer = v.topPicture+1-d.Picture, v.topLayer+1-d.Base
	}
	v.shift = at - ts
}

// send seals a packet for one view, and says how many bytes that took.
func (c *Call) send(m *Member, v *view, d *vp8wire.Descriptor, ts uint32, marker bool, to uint64, payload []byte, out *egress.Batch) uint64 {
	header := c.header.Put(m.Media.VP8PT, marker, uint16(to), ts+v.shift, v.ssrc, 0, rtpwire.NoLevel)
	if len(payload) == 0 {
		header[0] |= 0x20 // P
		payload = padding
	} else {
		d.Put(payload, d.Picture+v.picture, d.Base+v.layer)
	}
	datagram := m.Sealer.SealRTP(out.Next(), header, payload, to)
	out.Put(datagram, &m.path)
	return uint64(len(datagram))
}
