package ledger

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	// Slots and Reporters bound what a record holds: sfu.MaxSlots, and as many
	// sources of a client's RTCP as there can be slots, and four.
	Slots     = 32
	Reporters = 36
	// Workers bounds the workers of an engine.
	Workers = 128

	// magic begins a ledger: "vfledger", and the layout of what follows.
	magic  = 0x76666c6564676572
	layout = 1

	headSize   = 64 + 64*Workers
	recordSize = 640
)

// head is the beginning. Each worker's word has a cache line of its own.
type head struct {
	magic, layout, record uint64
	_                     [5]uint64
	busy                  [Workers]struct {
		call uint64 // whose packet, order or tick a worker is at work on; 0: none
		_    [7]uint64
	}
}

// Record is the live state of one session. What is written per packet stands in
// its first cache line, for a call of up to four speakers.
type Record struct {
	tag   uint64
	in    uint64        // highest index of the microphone, and one; 0: none yet
	mic   uint64        // its SSRC, once known
	srtcp uint64        // index of the next SRTCP packet to the client
	slots [Slots]uint64 // index of the next SRTP packet in each slot, then in each view
	// reporters are the sources of the client's RTCP: SSRC in the upper half,
	// a mark that the word is used, and the highest index in the lower 31 bits.
	reporters [Reporters]uint64
	camera    uint64 // highest index of the camera, and one; 0: none yet
	_         [7]uint64
}

// The sizes are those of the layout.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(head{})-headSize]
	_ = [1]struct{}{}[unsafe.Sizeof(Record{})-recordSize]
)

// Size is the bytes that so many records take.
func Size(records int) int { return headSize + records*recordSize }

// Ledger is a table of records. Take, Claim and Release are safe for concurrent
// use; a Record belongs to the worker of its session.
type Ledger struct {
	// Immutable.
	head    *head
	records []Record

	mu sync.Mutex
	// Guarded by mu.
	taken []bool
	next  int // where the search for a free one goes on
}

// New makes a ledger of so many records that nobody else sees.
func New(records int) *Ledger {
	return &Ledger{head: newHead(), records: make([]Record, records), taken: make([]bool, records)}
}

func newHead() *head { return &head{magic: magic, layout: layout, record: recordSize} }

// Open reads a ledger that an engine before this one may have written. Memory of
// zeros is a new one; it must be aligned to 8 bytes and outlive the ledger.
func Open(memory []byte) (*Ledger, error) {
	if len(memory) < headSize {
		return nil, fmt.Errorf("open ledger: %d bytes, want at least %d", len(memory), headSize)
	}
	base := unsafe.Pointer(unsafe.SliceData(memory))
	if uintptr(base)%8 != 0 {
		return nil, errors.New("open ledger: memory is not aligned")
	}
	h := (*head)(base)
	switch {
	case h.magic == 0: // new, or its first engine was killed right here
		h.layout, h.record = layout, recordSize
		atomic.StoreUint64(&h.magic, magic)
	case h.magic != magic:
		return nil, errors.New("open ledger: it is something else")
	case h.layout != layout || h.record != recordSize:
		return nil, fmt.Errorf("open ledger: layout %d with records of %d bytes, this engine knows %d with %d", h.layout, h.record, layout, recordSize)
	}
	n := (len(memory) - headSize) / recordSize
	l := &Ledger{head: h, taken: make([]bool, n)}
	if n > 0 {
		l.records = unsafe.Slice((*Record)(unsafe.Add(base, headSize)), n)
	}
	return l, nil
}

// Take finds a record for a new session. It is false when all are taken.
func (l *Ledger) Take() (number uint32, tag uint64, r *Record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range l.records {
		at := l.next
		l.next = (l.next + 1) % len(l.records)
		if l.taken[at] {
			continue
		}
		l.taken[at] = true
		r = &l.records[at]
		r.clear()
		var b [8]byte
		rand.Read(b[:]) // never fails: it ends the program instead
		tag = binary.BigEndian.Uint64(b[:]) | 1
		atomic.StoreUint64(&r.tag, tag)
		return uint32(at + 1), tag, r, true
	}
	return 0, 0, nil, false
}

// Claim finds the record of a session that another engine had. It is false when
// that record is taken, or not the session's.
func (l *Ledger) Claim(number uint32, tag uint64) (*Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := int64(number) - 1
	if at < 0 || at >= int64(len(l.records)) || l.taken[at] || tag == 0 || l.records[at].tag != tag {
		return nil, false
	}
	l.taken[at] = true
	return &l.records[at], true
}

// Release gives a record back.
func (l *Ledger) Release(number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := int(number) - 1
	l.records[at].clear()
	l.taken[at] = false
}

// clear takes the tag off first: a record half cleared is nobody's.
func (r *Record) clear() {
	atomic.StoreUint64(&r.tag, 0)
	*r = Record{}
}

// Busy notes the call that a worker is at work on, 0 for none.
func (l *Ledger) Busy(worker int, call uint64) {
	atomic.StoreUint64(&l.head.busy[worker].call, call)
}

// Blamed takes the calls that the workers of the engine before this one were at
// work on when it ended, each once.
func (l *Ledger) Blamed() (calls []uint64) {
	for i := range l.head.busy {
		if c := atomic.SwapUint64(&l.head.busy[i].call, 0); c != 0 && !slices.Contains(calls, c) {
			calls = append(calls, c)
		}
	}
	return calls
}

// Heard notes the highest index of the microphone.
func (r *Record) Heard(index uint64) { atomic.StoreUint64(&r.in, index+1) }

// Highest is the highest index heard; false when there is none.
func (r *Record) Highest() (uint64, bool) { return r.in - 1, r.in != 0 }

// Seen notes the highest index of the camera.
func (r *Record) Seen(index uint64) { atomic.StoreUint64(&r.camera, index+1) }

// HighestSeen is the highest index of the camera; false when there is none.
func (r *Record) HighestSeen() (uint64, bool) { return r.camera - 1, r.camera != 0 }

// SetMic notes the microphone's SSRC.
func (r *Record) SetMic(ssrc uint32) { atomic.StoreUint64(&r.mic, uint64(ssrc)) }

// Mic is the microphone's SSRC, 0 when it is not known.
func (r *Record) Mic() uint32 { return uint32(r.mic) }

// Reported notes the index of the next SRTCP packet to the client.
func (r *Record) Reported(next uint32) { atomic.StoreUint64(&r.srtcp, uint64(next)) }

// Reports is the index of the next SRTCP packet.
func (r *Record) Reports() uint32 { return uint32(r.srtcp) }

// Indices lends the words of the first n slots and views: the index of the next packet in
// each. They are written with atomic stores, before the packet is sent.
func (r *Record) Indices(n int) []uint64 { return r.slots[:n:n] }

const (
	reporterUsed  = 1 << 31
	reporterIndex = reporterUsed - 1
)

// Feedback notes the highest index of the i-th source of the client's RTCP.
func (r *Record) Feedback(i int, ssrc, index uint32) {
	atomic.StoreUint64(&r.reporters[i], uint64(ssrc)<<32|reporterUsed|uint64(index&reporterIndex))
}

// Reporter is the i-th source and its highest index; false when there is none.
func (r *Record) Reporter(i int) (ssrc, index uint32, ok bool) {
	word := r.reporters[i]
	return uint32(word >> 32), uint32(word & reporterIndex), word&reporterUsed != 0
}
