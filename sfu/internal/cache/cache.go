package cache

const (
	// ArenaBytes bounds the payloads kept of one speaker: 2 s at 64 kbit/s.
	ArenaBytes = 16 << 10
	// arenaPackets bounds their number: 1.3 s of 20 ms.
	arenaPackets = 64
	// SentPackets bounds what is remembered of one slot: 640 ms of 20 ms. What
	// is older comes too late for anyone's jitter buffer.
	SentPackets = 32
	// Resends bounds how often one packet is sent again.
	Resends = 3
)

// Arena keeps the last payloads of one speaker. The zero value is ready and
// takes no room until the first payload.
type Arena struct {
	bytes   []byte
	head    int // where the next payload goes
	next    uint32
	entries [arenaPackets]struct{ number, at, length uint32 }
}

// Put keeps a copy of a payload and returns its number. The first is 1.
func (a *Arena) Put(payload []byte) uint32 {
	if a.bytes == nil {
		a.bytes = make([]byte, ArenaBytes)
	}
	if a.head+len(payload) > len(a.bytes) {
		a.head = 0
	}
	end := a.head + copy(a.bytes[a.head:], payload)
	// Forget what lay here. It is the oldest there is, or was forgotten already.
	for i := range a.entries {
		e := &a.entries[i]
		if int(e.at) < end && int(e.at+e.length) > a.head {
			e.number = 0
		}
	}
	a.next++
	e := &a.entries[a.next%arenaPackets]
	e.number, e.at, e.length = a.next, uint32(a.head), uint32(len(payload))
	a.head = end
	return a.next
}

// At lends the payload of a number, until the next Put. It is false when that is
// gone.
func (a *Arena) At(number uint32) ([]byte, bool) {
	e := &a.entries[number%arenaPackets]
	if number == 0 || e.number != number {
		return nil, false
	}
	return a.bytes[e.at : e.at+e.length], true
}

// Packet is what a header was made of, and where its payload is.
type Packet struct {
	Number    uint32 // of the payload, in the arena of Position
	Timestamp uint32
	CSRC      uint32
	At        uint32 // when it was sent last, in ms of any clock
	Sequence  uint16
	Position  uint8 // on stage
	Level     uint8
	Marker    bool
	Resent    uint8 // how often
	// Stamped: with a transport-wide sequence number, Stamp.
	Stamped bool
	Stamp   uint16
}

// Sent remembers the last packets of one slot, in 896 bytes.
type Sent [SentPackets]Packet

// Put lends the place of a new packet.
func (s *Sent) Put(seq uint16) *Packet { return &s[seq%SentPackets] }

// Find lends the packet that was sent with a sequence number, nil when it is
// forgotten or was never sent.
func (s *Sent) Find(seq uint16) *Packet {
	p := &s[seq%SentPackets]
	if p.Sequence != seq || p.Number == 0 {
		return nil
	}
	return p
}

// Due says that a packet may be sent again now, at least gap after the last
// time. A packet that is not there is not due.
func (p *Packet) Due(now, gap uint32) bool {
	return p != nil && p.Resent < Resends && now-p.At >= gap
}
