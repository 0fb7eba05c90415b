package signalingserver

import (
	"errors"
	"fmt"
	"sync"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// mailEvents bounds the call events that wait for one session. What does not
// fit is dropped and the session told so: it asks the node for the roster.
const mailEvents = 1024

// mailbox holds the events of a call for one session.
type mailbox struct {
	wake chan struct{} // holds one token when there is something to take

	mu sync.Mutex
	// Guarded by mu.
	events []edgeagent.CallEvent
	lost   bool
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put says whether the event found room.
func (m *mailbox) put(ev edgeagent.CallEvent) bool {
	m.mu.Lock()
	room := len(m.events) < mailEvents
	if room {
		m.events = append(m.events, ev)
	} else {
		m.lost = true
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return room
}

func (m *mailbox) take() (events []edgeagent.CallEvent, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	events, lost = m.events, m.lost
	m.events, m.lost = nil, false
	return events, lost
}

// feeds subscribes once to each call, however many of its members are served
// here.
type feeds struct {
	// Immutable.
	nodes Nodes
	lost  func()

	mu sync.Mutex
	// Guarded by mu.
	calls map[sfu.CallID]*feed
}

type feed struct {
	ready chan struct{} // closed when it is subscribed to, or that failed
	// Written before that.
	cancel func()
	err    error

	mu sync.Mutex
	// Guarded by mu.
	boxes map[*mailbox]bool
}

// join sends the events of the call to box until the function it returns is
// called. The bus is asked without a lock: others join other calls meanwhile.
func (f *feeds) join(call sfu.CallID, box *mailbox) (leave func(), err error) {
	f.mu.Lock()
	one := f.calls[call]
	first := one == nil
	if first {
		one = &feed{ready: make(chan struct{}), boxes: make(map[*mailbox]bool)}
		f.calls[call] = one
	}
	one.mu.Lock()
	one.boxes[box] = true
	one.mu.Unlock()
	f.mu.Unlock()
	if first {
		f.subscribe(call, one)
	}
	if <-one.ready; one.err != nil {
		return nil, fmt.Errorf("subscribe to call %v: %w", call, one.err)
	}
	return func() { f.leave(call, one, box) }, nil
}

// subscribe asks the bus. When that fails, or panics, who joins from then on asks anew.
func (f *feeds) subscribe(call sfu.CallID, one *feed) {
	one.err = errors.New("the bus was not asked to the end")
	defer func() {
		if one.err != nil {
			f.mu.Lock()
			delete(f.calls, call)
			f.mu.Unlock()
		}
		close(one.ready)
	}()
	one.cancel, one.err = f.nodes.SubscribeCall(call, func(ev edgeagent.CallEvent) { f.spread(one, ev) })
}

func (f *feeds) spread(one *feed, ev edgeagent.CallEvent) {
	one.mu.Lock()
	defer one.mu.Unlock()
	for box := range one.boxes {
		// What concerns one listener goes to each mailbox too: the core knows
		// whose session it is.
		if !box.put(ev) {
			f.lost()
		}
	}
}

func (f *feeds) leave(call sfu.CallID, one *feed, box *mailbox) {
	f.mu.Lock()
	one.mu.Lock()
	delete(one.boxes, box)
	last := len(one.boxes) == 0
	one.mu.Unlock()
	if last {
		delete(f.calls, call)
	}
	f.mu.Unlock()
	if last { // outside of the lock: it may wait for an event under way
		one.cancel()
	}
}
