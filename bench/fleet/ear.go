package fleet

import (
	"sync"
	"time"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/meter"
)

// ear is what a member hears, over all the paths it has at the moment, judged as one
// voice that never pauses: in each slot that of the member it listens to.
type ear struct {
	// Immutable.
	clock  clock
	turns  turns
	seat   int    // of the member in its call
	first  uint32 // mark of the call's seat 0; the others follow
	member int

	mu sync.Mutex
	// Guarded by mu.
	listener *meter.Listener // nil: nothing is judged
	from, to uint32          // slots that are
	last     time.Time       // when anything of the call was heard
	count    uint64          // packets of the window, duplicates too
}

// openEnd is behind every slot.
const openEnd = ^uint32(0)

// hear takes a packet.
func (e *ear) hear(m mark.Mark, arrived time.Time) {
	slot := e.clock.slot(m.Due)
	e.mu.Lock()
	defer e.mu.Unlock()
	if arrived.After(e.last) {
		e.last = arrived
	}
	if e.listener == nil || slot < e.from || slot >= e.to || m.Talker != e.first+uint32(e.turns.source(slot, e.seat)) {
		return
	}
	e.count++
	e.listener.Hear(mark.Mark{Talker: 1, Index: slot, Onset: e.from, Voiced: true, Due: m.Due}, arrived)
}

// judge begins a judgement with a slot.
func (e *ear) judge(from uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listener = meter.NewListener(meter.Config{From: e.clock.due(from)})
	e.from, e.to, e.count = from, openEnd, 0
}

// until ends it before a slot that is still to come.
func (e *ear) until(to uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.to = to
}

// heard is the verdict, once the last packets have come.
func (e *ear) heard() Heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := Heard{Member: e.member}
	if e.listener == nil {
		return h
	}
	e.listener.Expect(1, []meter.Span{{First: e.from, Count: e.to - e.from, Onset: e.from, Voiced: true, Due: e.clock.due(e.from)}})
	r := e.listener.Result()
	e.listener = nil
	h.Gap, h.Lost, h.Expected = r.WorstGap, r.Lost, r.Expected
	h.Recovered = r.Open == 0 && r.Received > 0
	if r.Received == 0 {
		h.Gap = time.Duration(e.to-e.from) * slotTime
	}
	return h
}

// Heard is what one listener heard in one window.
type Heard struct {
	Member int
	// Gap is the longest audible one; one that did not end lasts to the end of the
	// window, and is not Recovered.
	Gap            time.Duration
	Recovered      bool
	Lost, Expected uint64
}

// silentFor is how long nothing of the call was heard.
func (e *ear) silentFor() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.last)
}
