package gatewaysession

import (
	"strconv"
	"sync"

	"voicefleet/internal/snowflake"
)

// Event is one encoded event. It is shared by all sessions that got it and never
// changed.
type Event struct {
	Name string
	Body []byte
	// Late, when set, says that the event may come late or not at all: see Lane.
	Late Key

	deflate, zstd shared
}

// shared is a compressed form of an event, made when the first session needs it.
type shared struct {
	once  sync.Once
	bytes []byte
}

// Key names what an event that may be late is about: of two with the same key
// only the newer is of use.
type Key struct {
	Kind  Kind
	Place snowflake.ID // the guild of a presence, the channel of a typing
	User  snowflake.ID
}

// Kind is why an event may be late.
type Kind uint8

// The kinds. The zero Kind is an event that must come, in its turn.
const (
	Presence Kind = iota + 1
	Typing
)

// overhead is what an event costs a replay beside its body. Sessions share
// events and their compressed forms; each counts them as if they were its own.
const overhead = 64

// Replay numbers the events of one session and keeps the last of them, bounded
// by count and bytes. The newest is kept whatever its size. The zero Replay
// keeps none; set the bounds first.
type Replay struct {
	// Immutable.
	Count int
	Bytes int

	// Owned by the caller.
	last  uint64   // sequence of the newest; 0: none yet
	ring  []*Event // grows up to Count, then wraps
	first int      // index of the oldest
	n     int
	bytes int
}

// Push numbers an event and keeps it, at the cost of the oldest.
func (r *Replay) Push(e *Event) uint64 {
	r.last++
	for r.n > 0 && (r.n >= r.Count || r.bytes+len(e.Body)+overhead > r.Bytes) {
		r.drop()
	}
	if r.n == len(r.ring) {
		grown := make([]*Event, min(max(4, 2*len(r.ring)), r.Count))
		for i := range r.n {
			grown[i] = r.ring[(r.first+i)%len(r.ring)]
		}
		r.ring, r.first = grown, 0
	}
	r.ring[(r.first+r.n)%len(r.ring)] = e
	r.n++
	r.bytes += len(e.Body) + overhead
	return r.last
}

// drop forgets the oldest.
func (r *Replay) drop() {
	r.bytes -= len(r.ring[r.first].Body) + overhead
	r.ring[r.first] = nil
	r.first = (r.first + 1) % len(r.ring)
	r.n--
}

// Trim forgets what the client says it has: it resumes from there or later. An
// idle session then keeps nothing.
func (r *Replay) Trim(seq uint64) {
	if seq > r.last {
		return
	}
	for r.n > 0 && r.last-uint64(r.n) < seq {
		r.drop()
	}
	if r.n == 0 {
		r.ring, r.first = nil, 0
	}
}

// Last is the sequence of the newest event.
func (r *Replay) Last() uint64 { return r.last }

// Next is the event after seq. kept says whether everything after seq is still
// there (and seq is not from the future); more whether there is such an event.
func (r *Replay) Next(seq uint64) (e *Event, more, kept bool) {
	oldest := r.last - uint64(r.n) + 1
	switch {
	case seq > r.last || seq+1 < oldest:
		return nil, false, false
	case seq == r.last:
		return nil, false, true
	}
	return r.ring[(r.first+int(seq+1-oldest))%len(r.ring)], true, true
}

// Lag is how many events came after seq.
func (r *Replay) Lag(seq uint64) int { return int(r.last - seq) }

// Weight is how many bytes are kept.
func (r *Replay) Weight() int { return r.bytes }

// Append writes the frame of an event.
func Append(b []byte, seq uint64, e *Event) []byte {
	b = append(b, `{"t":"`...)
	b = append(b, e.Name...)
	b = append(b, `","s":`...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, `,"op":0,"d":`...)
	b = append(b, e.Body...)
	return append(b, '}')
}

// appendHead and appendTail write it with what differs between sessions first, so
// that the rest can be compressed once for all of them.
func appendHead(b []byte, seq uint64) []byte {
	b = append(b, `{"s":`...)
	b = strconv.AppendUint(b, seq, 10)
	return append(b, ',')
}

func appendTail(b []byte, e *Event) []byte {
	b = append(b, `"t":"`...)
	b = append(b, e.Name...)
	b = append(b, `","op":0,"d":`...)
	b = append(b, e.Body...)
	return append(b, '}')
}
