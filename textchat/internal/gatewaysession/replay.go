package gatewaysession

import (
	"sort"
	"strconv"
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
// bounded by count and bytes. The newest is kept whatever its size. The zero Replay
// keeps none; set the bounds first.
type Replay struct {
	// Immutable.
	Count int
	Bytes int

	// Owned by the caller.
	last  uint64     // number of the newest; 0: none yet
	lost  uint64     // of the newest that is not kept any more
	ring  []numbered // grows up to Count, then wraps
	first int        // index of the oldest
	n     int
	bytes int
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

func (r *Replay) at(i int) *numbered { return &r.ring[(r.first+i)%len(r.ring)] }

// after is the index of the first event after seq.
func (r *Replay) after(seq uint64) int {
	if r.n == 0 || seq >= r.last {
		return r.n
	}
	return sort.Search(r.n, func(i int) bool { return r.at(i).seq > seq })
}

// drop forgets the oldest.
func (r *Replay) drop() {
	oldest := r.at(0)
	r.bytes -= len(oldest.e.Body) + overhead
	r.lost = oldest.seq
	*oldest = numbered{}
	r.first = (r.first + 1) % len(r.ring)
	r.n--
}

// Trim forgets what the client says it has: it resumes from there or later. An
// idle session then keeps nothing.
func (r *Replay) Trim(seq uint64) {
	if seq > r.last {
		return
	}
	for r.n > 0 && r.at(0).seq <= seq {
		r.drop()
	}
	if r.n == 0 {
		r.ring, r.first = nil, 0
	}
}

// Last is the number of the newest event.
func (r *Replay) Last() uint64 { return r.last }

// Begin has numbers go on after seq, of a session that began elsewhere.
func (r *Replay) Begin(seq uint64) { r.last, r.lost = seq, seq }

// Skip has numbers go on after seq.
func (r *Replay) Skip(seq uint64) { r.last = max(r.last, seq) }

// Next is the event after seq, with its number. kept says whether everything after
// seq is still there (and seq is not from the future); more whether there is such an
// event.
func (r *Replay) Next(seq uint64) (e *Event, number uint64, more, kept bool) {
	if seq > r.last || seq < r.lost {
		return nil, 0, false, false
	}
	i := r.after(seq)
	if i == r.n {
		return nil, 0, false, true
	}
	return r.at(i).e, r.at(i).seq, true, true
}

// Lag is how many events came after seq.
func (r *Replay) Lag(seq uint64) int { return r.n - r.after(seq) }

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
