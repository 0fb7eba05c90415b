package gatewaysession

import (
	"sort"
	"strconv"
	"strings"
	"sync"

	"voicefleet/internal/snowflake"
)

// Event is one encoded event. It is shared by all sessions that got it and never
// changed.
type Event struct {
	Name string
	Body []byte
	// At, when set, is where the event stands among all that its instance delivers.
	At uint64
	// Late, when set, says that the event may come late or not at all: see Lane.
	Late Key

	deflate, zstd shared
}

// Patient says that it may wait a moment, to go with what comes then.
func (e *Event) Patient() bool { return e.Late.Kind != 0 || strings.HasPrefix(e.Name, "MESSAGE_") }

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

// Replay keeps the last events of one session with their numbers, which grow,
// bounded by count and bytes, and knows which of them the client was sent. The newest
// is kept whatever its size. The zero Replay keeps none; set the bounds first.
type Replay struct {
	// Immutable.
	Count int
	Bytes int

	// Owned by the caller.
	last   uint64     // number of the newest; 0: none yet
	lost   uint64     // of the newest that is not kept any more
	sent   uint64     // of the last that was taken
	ring   []numbered // grows up to Count, then wraps
	first  int        // index of the oldest
	n      int
	given  int  // how many of the n were taken
	missed bool // one was lost before it was taken
	bytes  int
}

type numbered struct {
	seq uint64
	e   *Event
}

// Push keeps an event, at the cost of the oldest. Its number must be above Last.
func (r *Replay) Push(seq uint64, e *Event) {
	for r.n > 0 && (r.n >= r.Count || r.bytes+len(e.Body)+overhead > r.Bytes) {
		r.drop()
	}
	if r.n == len(r.ring) {
		grown := make([]numbered, min(max(4, 2*len(r.ring)), r.Count))
		for i := range r.n {
			grown[i] = *r.at(i)
		}
		r.ring, r.first = grown, 0
	}
	r.n++
	*r.at(r.n - 1) = numbered{seq, e}
	r.last = seq
	r.bytes += len(e.Body) + overhead
}

func (r *Replay) at(i int) *numbered {
	if i += r.first; i >= len(r.ring) {
		i -= len(r.ring)
	}
	return &r.ring[i]
}

// drop forgets the oldest.
func (r *Replay) drop() {
	oldest := r.at(0)
	r.bytes -= len(oldest.e.Body) + overhead
	r.lost = oldest.seq
	*oldest = numbered{}
	if r.first++; r.first == len(r.ring) {
		r.first = 0
	}
	r.n--
	if r.given > 0 {
		r.given--
	} else {
		r.missed = true
	}
}

// Trim forgets what the client says it has, of what it was sent: it resumes from
// there or later. An idle session then keeps nothing.
func (r *Replay) Trim(seq uint64) {
	if seq > r.sent {
		return
	}
	for r.given > 0 && r.at(0).seq <= seq {
		r.drop()
	}
	if r.n == 0 {
		r.ring, r.first = nil, 0
	}
}

// Last is the number of the newest event.
func (r *Replay) Last() uint64 { return r.last }

// Begin has numbers go on after seq, of a session that began elsewhere.
func (r *Replay) Begin(seq uint64) { r.last, r.lost, r.sent = seq, seq, seq }

// Skip has numbers go on after seq.
func (r *Replay) Skip(seq uint64) { r.last = max(r.last, seq) }

// Kept says whether everything after seq is still there, and seq is not from the
// future.
func (r *Replay) Kept(seq uint64) bool { return r.lost <= seq && seq <= r.last }

// Seek has Next go on after seq, if all of that is kept.
func (r *Replay) Seek(seq uint64) bool {
	if !r.Kept(seq) {
		return false
	}
	r.given = sort.Search(r.n, func(i int) bool { return r.at(i).seq > seq })
	r.sent, r.missed = seq, false
	return true
}

// Peek is the next event, with its number; more says whether there is one.
func (r *Replay) Peek() (e *Event, number uint64, more bool) {
	if r.given == r.n {
		return nil, 0, false
	}
	x := r.at(r.given)
	return x.e, x.seq, true
}

// Next takes what Peek shows.
func (r *Replay) Next() (e *Event, number uint64, more bool) {
	if e, number, more = r.Peek(); more {
		r.given++
		r.sent = number
	}
	return e, number, more
}

// Lag is how many events Next has not given; missed, whether others were lost before
// it could.
func (r *Replay) Lag() (events int, missed bool) { return r.n - r.given, r.missed }

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

// Size is how long Append makes it.
func Size(seq uint64, e *Event) int {
	n := len(`{"t":"","s":0,"op":0,"d":}`) + len(e.Name) + len(e.Body)
	for ; seq >= 10; seq /= 10 {
		n++
	}
	return n
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
