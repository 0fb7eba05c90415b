package allocatorserver

import (
	"context"
	"sync"
	"time"

	"voicefleet/allocator"
	"voicefleet/internal/bus"
)

const (
	// unwritten bounds the entries that wait for the bus; the oldest goes, counted.
	unwritten = 1024
	// appendTime bounds one try to write an entry.
	appendTime = 2 * time.Second
)

// journal writes what this allocator did, and knows what all did: the newest
// entries, oldest first.
type journal struct {
	// Immutable.
	metrics *metrics
	wake    chan struct{} // holds one
	allRead chan struct{} // closed when what there was before is known

	mu sync.Mutex
	// Guarded by mu.
	past    []bus.Past[allocator.JournalEntry]
	waiting []allocator.JournalEntry
}

func newJournal(m *metrics) *journal {
	return &journal{metrics: m, wake: make(chan struct{}, 1), allRead: make(chan struct{})}
}

// note has an entry written; it never blocks.
func (j *journal) note(e allocator.JournalEntry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.waiting) == unwritten {
		j.waiting = j.waiting[1:]
		j.metrics.unwritten.Inc()
	}
	j.waiting = append(j.waiting, e)
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// run follows the journal and writes what is noted until ctx ends. Entries wait
// while the bus is away.
func (j *journal) run(ctx context.Context, h *bus.History[allocator.JournalEntry]) {
	var following sync.WaitGroup
	following.Go(func() { h.Follow(ctx, j.see) })
	defer following.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.wake:
		}
		for {
			e, ok := j.first()
			if !ok || ctx.Err() != nil {
				break
			}
			writing, cancel := context.WithTimeout(ctx, appendTime)
			err := h.Append(writing, e.ID(), e)
			cancel()
			if err != nil && ctx.Err() == nil {
				continue // the same one again: Append waits for the bus
			}
			j.done(e)
		}
	}
}

func (j *journal) first() (e allocator.JournalEntry, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.waiting) == 0 {
		return e, false
	}
	return j.waiting[0], true
}

// done takes e off, unless it had to make room meanwhile.
func (j *journal) done(e allocator.JournalEntry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.waiting) > 0 && j.waiting[0] == e {
		j.waiting = j.waiting[1:]
	}
}

// see takes in an entry of the journal. One that comes before those known belongs
// to a stream made anew.
func (j *journal) see(p bus.Past[allocator.JournalEntry]) {
	if p.Synced {
		close(j.allRead)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.past); n > 0 && p.Seq <= j.past[n-1].Seq {
		j.past = nil
	}
	if len(j.past) == allocator.JournalKept { // a tenth at once: rarely
		j.past = append(j.past[:0], j.past[allocator.JournalKept/10:]...)
	}
	j.past = append(j.past, p)
}

// read answers from what is known, when all there was before is.
func (j *journal) read(ctx context.Context, req allocator.JournalRequest) (allocator.JournalReply, error) {
	switch {
	case req.Limit < 0 || req.Limit > allocator.JournalPage:
		return allocator.JournalReply{}, allocator.Refuse(allocator.CodeBadRequest, "limit %d: want 1 to %d", req.Limit, allocator.JournalPage)
	case req.Limit == 0:
		req.Limit = allocator.JournalPage
	}
	select {
	case <-j.allRead:
	case <-ctx.Done():
		return allocator.JournalReply{}, allocator.Refuse(allocator.CodeUnavailable, "the allocator has just begun and reads the journal: try again")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	out := allocator.JournalReply{Entries: []allocator.NumberedEntry{}}
	n := len(j.past)
	if n > 0 {
		out.Last = j.past[n-1].Seq
	}
	for i := range n {
		p := &j.past[n-1-i]
		if req.After != 0 {
			p = &j.past[i]
		}
		switch e := &p.Value; {
		case req.After != 0 && p.Seq <= req.After:
		case req.Before != 0 && p.Seq >= req.Before:
		case req.Node != "" && e.Node != req.Node && e.To != req.Node:
		case req.Call.ID != 0 && e.Call != req.Call:
		case len(out.Entries) == req.Limit:
			out.More = true
			return out, nil
		default:
			out.Entries = append(out.Entries, allocator.NumberedEntry{Seq: p.Seq, JournalEntry: *e})
		}
	}
	return out, nil
}
