package linkwire

import (
	"sync"

	"voicefleet/sfu"
)

// RingPackets bounds what waits for a link: 256 packets are 0.15 s of a stage of
// 33 speakers, and what has waited for longer is of no use to a listener. They take
// 400 kB.
const RingPackets = 256

// Ring is the queue in front of a link. When it is full, the oldest packet makes
// room: voice is worth less the longer it waits.
type Ring struct {
	wake chan struct{} // holds one token

	mu sync.Mutex
	// Guarded by mu.
	slots   [RingPackets][sfu.MaxRelayPacket]byte
	lengths [RingPackets]int
	head, n int
	dropped uint64
}

// NewRing is empty.
func NewRing() *Ring { return &Ring{wake: make(chan struct{}, 1)} }

// Put copies a packet in; Rouse is to follow. It never waits. What is longer than a
// packet may be is not taken, and video only while half of the ring is free for voices.
func (r *Ring) Put(packet []byte, video bool) {
	if len(packet) > sfu.MaxRelayPacket {
		return
	}
	r.mu.Lock()
	if video && r.n >= RingPackets/2 {
		r.dropped++
		r.mu.Unlock()
		return
	}
	if r.n == RingPackets {
		r.head = (r.head + 1) % RingPackets
		r.n--
		r.dropped++
	}
	at := (r.head + r.n) % RingPackets
	r.lengths[at] = copy(r.slots[at][:], packet)
	r.n++
	r.mu.Unlock()
}

// Rouse wakes who takes.
func (r *Ring) Rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Wake gets a token at Rouse.
func (r *Ring) Wake() <-chan struct{} { return r.wake }

// Take copies the oldest packet into dst[:0]. It is false when nothing waits.
func (r *Ring) Take(dst []byte) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		return dst[:0], false
	}
	dst = append(dst[:0], r.slots[r.head][:r.lengths[r.head]]...)
	r.head = (r.head + 1) % RingPackets
	r.n--
	return dst, true
}

// Clear drops all that waits and returns how much that was.
func (r *Ring) Clear() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.n
	r.n = 0
	return n
}

// Dropped is how many packets made room for others, or found none.
func (r *Ring) Dropped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}
