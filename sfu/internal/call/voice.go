package call

import (
	"sync/atomic"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/cache"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/gate"
	"voicefleet/sfu/internal/rtpwire"
	"voicefleet/sfu/internal/stage"
)

// The way of a voice packet through the core:
//
//  1. clock:  its timestamp, moved onto the engine's
//  2. gate:   voice, silence, or the end of a talk spurt
//  3. stage:  a position, if it is to be heard
//  4. slots:  at every listener, when a talk spurt begins
//  5. onset:  what the gate held back goes first
//  6. forward: per listener a header, sealed into the batch; to the other nodes
//     of the call, as it is

const (
	// maxLate is how late a packet may come behind another and still be worth
	// forwarding: 120 ms, as much as jitter buffers wait.
	maxLate = 120 * 48
	// maxOnset is how old a held back packet may be: three of 60 ms.
	maxOnset = 180 * 48
	// drift and jump are how far a speaker's clock may be off at the beginning
	// of a talk spurt, and ever.
	drift = 100 * 48
	jump  = 2000 * 48
	// maxPayload leaves room for our header and seal in a datagram.
	maxPayload = sfu.MaxDatagram - rtpwire.StampHeader - crypt.MaxOverhead
)

// Voice forwards one authentic packet of m. Payload is without padding; it is
// lent until return. Index is its SRTP index.
func (c *Call) Voice(now time.Duration, m *Member, h *rtpwire.Header, index uint64, payload []byte, out *egress.Batch) {
	if len(payload) > maxPayload {
		c.drop(sfu.DropTooLong)
		return
	}

	// 1. clock
	arrival := c.clock(now)
	m.reception.Packet(index, h.Timestamp, arrival)
	ts := h.Timestamp + m.shift
	if off := int32(ts - arrival); !m.heard || off > jump || off < -jump {
		ts = c.anchor(m, h.Timestamp, arrival)
	}
	late := int32(m.last - ts)
	if !m.heard {
		m.heard, late = true, -1
	}

	// 2. gate
	was, muted := m.gate.Open(), m.rights.Mute || !m.rights.Speak
	if late >= 0 && (muted || !was || late > maxLate) {
		c.dropSilent(muted)
		return
	}
	verdict := gate.Forward
	switch {
	case late >= 0: // the gate has judged what came after it
	case muted:
		verdict = m.gate.Muted(now)
	case c.cfg.NoGate:
		verdict = m.gate.Ungated(now)
	default:
		verdict = m.gate.Packet(now, payload, h.Level)
	}
	began := !was && m.gate.Open()
	if was && !m.gate.Open() {
		m.silent = now
	}
	if late < 0 {
		m.last = ts
	}
	switch verdict {
	case gate.Keep:
		m.keep(h, payload)
		c.dropSilent(muted)
		return
	case gate.Hold:
		c.dropSilent(muted)
		return
	case gate.Fade:
		c.wake(m)
		if m.position == none {
			c.drop(sfu.DropSilence)
			return
		}
		c.fade(now, m, ts, out)
		return
	}
	strength := stage.Strength(h.Level, m.rights.Priority)
	if began {
		m.loud = strength
		c.wake(m)
		if off := int32(ts - arrival); off > drift || off < -drift {
			ts = c.anchor(m, h.Timestamp, arrival)
			m.last = ts
		}
		c.announce(now, m, false)
	} else {
		m.loud = m.loud.Smooth(strength)
	}

	// 3. stage
	if m.position == none {
		c.enter(now, m)
		if m.position == none {
			c.drop(sfu.DropNotOnStage)
			m.kept = 0
			return
		}
		began = true
	}

	// 4. slots, 5. onset
	if began {
		c.seatAll(now, m)
		began = !c.forwardOnset(now, m, h.Timestamp, out)
	}

	// 6. forward
	c.forward(now, m, ts, h.Level, began, late >= 0, payload, out)
}

// forwardOnset sends what the gate held back before a packet with this
// timestamp, and says whether there was anything.
func (c *Call) forwardOnset(now time.Duration, m *Member, ts uint32, out *egress.Batch) (sent bool) {
	for i := range m.onset[:m.kept] {
		o := &m.onset[i]
		if age := int32(ts - o.ts); age > 0 && age <= maxOnset {
			c.forward(now, m, o.ts+m.shift, o.level, !sent, false, o.payload, out)
			sent = true
		}
	}
	m.kept = 0
	return sent
}

// dropSilent counts a packet that is not forwarded for what it holds.
func (c *Call) dropSilent(muted bool) {
	if muted {
		c.drop(sfu.DropMuted)
	} else {
		c.drop(sfu.DropSilence)
	}
}

// anchor moves a speaker's timestamps so that this one is the clock's.
func (c *Call) anchor(m *Member, ts, arrival uint32) uint32 {
	m.shift = arrival - ts
	m.last = arrival - 1
	if m.position != none {
		for i := range c.listeners {
			if l := &c.listeners[i]; l.place[m.position] != none {
				l.slots[l.place[m.position]].fresh = true
			}
		}
	}
	return arrival
}

// keep remembers a packet that may turn out to be the onset of speech.
func (m *Member) keep(h *rtpwire.Header, payload []byte) {
	if m.kept == len(m.onset) {
		oldest := m.onset[0]
		copy(m.onset[:], m.onset[1:])
		m.onset[len(m.onset)-1] = oldest // for its room
		m.kept--
	}
	o := &m.onset[m.kept]
	o.payload = append(o.payload[:0], payload...)
	o.ts, o.level = h.Timestamp, h.Level
	m.kept++
}

// fade forwards a frame of silence.
func (c *Call) fade(now time.Duration, m *Member, ts uint32, out *egress.Batch) {
	m.last = ts
	c.forward(now, m, ts, rtpwire.Digital, false, false, rtpwire.Silence[:], out)
}

// forward seals a packet of the speaker for every listener that has it in a
// slot. It runs once per packet sent: what can be decided elsewhere is.
func (c *Call) forward(now time.Duration, m *Member, ts uint32, level uint8, marker, late bool, payload []byte, out *egress.Batch) {
	if c.hushed {
		return
	}
	position := m.position
	number := uint32(0)
	if c.nackers > 0 {
		a := &c.positions[position].arena
		if *a == nil {
			*a = new(cache.Arena)
		}
		number = (*a).Put(payload)
	}
	c.header.PutShared(uint32(m.SSRC))
	sent, bytes := uint64(0), uint64(0)
	for i := range c.listeners {
		l := &c.listeners[i]
		k := l.place[position]
		if k == none || l.off != 0 || l.limited && !l.spend(len(payload)) {
			continue
		}
		s := &l.slots[k]
		mark := marker
		if s.fresh {
			s.turn(ts)
			mark = true
		}
		at := ts + s.shift
		stamped := l.stampExt != 0 && now >= l.stampAt
		var header []byte
		if stamped {
			header = c.header.PutStamped(l.payload, mark, uint16(s.index), at, s.ssrc, l.levelExt, level, l.stampExt, l.stamp)
		} else {
			header = c.header.Put(l.payload, mark, uint16(s.index), at, s.ssrc, l.levelExt, level)
		}
		datagram := l.sealer.SealRTP(out.Next(), header, payload, s.index)
		atomic.StoreUint64(s.live, s.index+1) // now: a batch that is full leaves at once
		out.Put(datagram, &l.path)
		if number != 0 && s.sent != nil {
			p := s.sent.Put(uint16(s.index))
			p.Number, p.Timestamp, p.CSRC, p.Sequence = number, at, uint32(m.SSRC), uint16(s.index)
			p.Position, p.Level, p.Marker, p.Resent, p.At = position, level, mark, 0, uint32(now/time.Millisecond)
			p.Stamped, p.Stamp = stamped, l.stamp
		}
		if stamped {
			c.header.Unstamp()
			l.stamp++
			l.stampAt = now + l.stampEvery
		}
		l.recent++
		s.index++
		s.packets++
		s.octets += uint32(len(payload))
		s.sentAt = now
		s.used = true
		if !late {
			s.last = at
		}
		sent++
		bytes += uint64(len(datagram))
	}
	c.cfg.Count.PacketsOut += sent
	c.cfg.Count.BytesOut += bytes
	if c.relay.on && !m.away { // what came from another node goes to none
		c.sendRelay(m, ts, level, payload, out)
	}
}

// spend takes the room of a packet off a listener's credit.
func (l *listener) spend(payload int) bool {
	size := rtpwire.StampHeader + payload + crypt.MaxOverhead
	if l.credit < size {
		return false
	}
	l.credit -= size
	return true
}

// turn prepares a slot for the first packet of a speaker: its timestamps follow
// the clock, but never fall behind those of the speaker before.
func (s *slot) turn(ts uint32) {
	s.fresh = false
	s.shift = s.base
	if ahead := s.last + rtpwire.SilenceTicks - (ts + s.base); s.used && int32(ahead) > 0 {
		s.shift += ahead
	}
}

func (c *Call) drop(why sfu.DropReason) { c.cfg.Count.Drops[why]++ }
