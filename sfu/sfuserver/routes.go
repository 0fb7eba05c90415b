package sfuserver

import (
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/icelite"
)

// route is what control knows of a session. All but negotiated is immutable.
type route struct {
	worker     *worker
	session    *session // the worker's, given away with add
	call       sfu.CallID
	ssrc       sfu.SSRC
	local      icelite.Credentials
	negotiated bool // owned by control
}

// routes tells which worker a session and a call are on. Control adds, workers
// remove.
type routes struct {
	mu sync.Mutex
	// Guarded by mu.
	sessions map[sfu.SessionID]*route
	calls    map[sfu.CallID]*home
	ssrcs    map[sfu.SSRC]struct{}
	perPort  map[*worker]int // sessions
	ends     []sfu.PastEnd   // oldest first
}

// home is the worker of a call, and how many sessions keep it there.
type home struct {
	worker   *worker
	sessions int
}

func newRoutes() *routes {
	return &routes{
		sessions: make(map[sfu.SessionID]*route), calls: make(map[sfu.CallID]*home),
		ssrcs: make(map[sfu.SSRC]struct{}), perPort: make(map[*worker]int),
	}
}

// add finds a worker for a session, unless it is named, and an SSRC, unless it
// has one.
func (r *routes) add(id sfu.SessionID, call sfu.CallID, on *worker, ssrc sfu.SSRC, workers []*worker, limit int) (*route, *sfu.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[id] != nil {
		return nil, sfu.Refuse(sfu.CodeExists, "session %s exists", id)
	}
	if len(r.sessions) >= limit {
		return nil, sfu.Refuse(sfu.CodeFull, "%d sessions are the limit of this node", len(r.sessions))
	}
	h := r.calls[call]
	switch {
	case h != nil && on != nil && h.worker != on:
		return nil, sfu.Refuse(sfu.CodeBadCommand, "call %v is on another port", call)
	case h != nil:
		on = h.worker
	case on == nil:
		on = workers[0]
		for _, w := range workers {
			if r.perPort[w] < r.perPort[on] {
				on = w
			}
		}
	}
	if _, taken := r.ssrcs[ssrc]; taken {
		return nil, sfu.Refuse(sfu.CodeExists, "SSRC %d is in use", ssrc)
	}
	for ssrc == 0 {
		ssrc = randomSSRC()
		if _, taken := r.ssrcs[ssrc]; taken {
			ssrc = 0
		}
	}
	if h == nil {
		h = &home{worker: on}
		r.calls[call] = h
	}
	h.sessions++
	r.perPort[on]++
	r.ssrcs[ssrc] = struct{}{}
	route := &route{worker: on, call: call, ssrc: ssrc}
	r.sessions[id] = route
	return route, nil
}

// find is the route of a session, or nil.
func (r *routes) find(id sfu.SessionID) *route {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[id]
}

// ended forgets a session that was one, and remembers its end.
func (r *routes) ended(e sfu.Ended, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(e.Session)
	old := 0
	for old < len(r.ends) && (len(r.ends)-old >= sfu.EndsKept || at.Sub(r.ends[old].At) > sfu.MemoryOfEnds) {
		old++
	}
	r.ends = append(slices.Delete(r.ends, 0, old), sfu.PastEnd{Ended: e, At: at})
}

// pastEnds are the sessions that ended; those since a time were not heard of.
func (r *routes) pastEnds(since time.Time) []sfu.PastEnd {
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := slices.Clone(r.ends)
	for i := range ends {
		ends[i].Unheard = !ends[i].At.Before(since)
	}
	return ends
}

// count is how many sessions there are.
func (r *routes) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// remove forgets a session.
func (r *routes) remove(id sfu.SessionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(id)
}

func (r *routes) removeLocked(id sfu.SessionID) {
	route := r.sessions[id]
	if route == nil {
		return
	}
	delete(r.sessions, id)
	delete(r.ssrcs, route.ssrc)
	r.perPort[route.worker]--
	if h := r.calls[route.call]; h.sessions > 1 {
		h.sessions--
	} else {
		delete(r.calls, route.call)
	}
}

// randomSSRC is never zero (RFC 3550 section 8.1 wants it random).
func randomSSRC() sfu.SSRC {
	var b [4]byte
	for {
		rand.Read(b[:]) // never fails: it ends the program instead
		if ssrc := sfu.SSRC(binary.BigEndian.Uint32(b[:])); ssrc != 0 {
			return ssrc
		}
	}
}

// worker is the worker of a call with sessions, or nil.
func (r *routes) worker(call sfu.CallID) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.calls[call]; h != nil {
		return h.worker
	}
	return nil
}
