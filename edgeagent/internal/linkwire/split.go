package linkwire

import "voicefleet/sfu"

// Split makes two packets of one that is too long, each with all of its header.
// It appends them to a and b.
func Split(p *sfu.RelayPacket, a, b []byte) (first, second []byte) {
	half := *p
	at := (len(p.Payload) + 1) / 2
	half.Half, half.Payload = sfu.RelayFirst, p.Payload[:at]
	first = half.Append(a)
	half.Half, half.Payload = sfu.RelaySecond, p.Payload[at:]
	return first, half.Append(b)
}

// pendingHalves bounds the packets whose other half is awaited: as many as can be
// under way when datagrams overtake one another.
const pendingHalves = 8

// Joiner joins the halves of packets.
type Joiner struct {
	waiting [pendingHalves]struct {
		packet  sfu.RelayPacket
		payload []byte // its own, kept from packet to packet
		used    bool
	}
	next   int
	joined []byte
	// Orphans counts halves whose other one never came.
	Orphans uint64
}

// Join takes a half, and returns the whole packet if that was the second to come.
// Its payload is good until the next Join.
func (j *Joiner) Join(p sfu.RelayPacket) (whole sfu.RelayPacket, ok bool) {
	for i := range j.waiting {
		w := &j.waiting[i]
		if !w.used || w.packet.Kind != p.Kind || w.packet.SSRC != p.SSRC || w.packet.Sequence != p.Sequence || w.packet.Call != p.Call || w.packet.Epoch != p.Epoch {
			continue
		}
		if w.packet.Half == p.Half {
			return whole, false // it came twice
		}
		w.used = false
		first, second := w.payload, p.Payload
		if p.Half == sfu.RelayFirst {
			first, second = second, first
		}
		j.joined = append(append(j.joined[:0], first...), second...)
		p.Half, p.Payload = sfu.RelayWhole, j.joined
		return p, true
	}
	w := &j.waiting[j.next]
	j.next = (j.next + 1) % pendingHalves
	if w.used {
		j.Orphans++
	}
	w.used, w.packet, w.payload = true, p, append(w.payload[:0], p.Payload...)
	w.packet.Payload = nil
	return whole, false
}
