package signalingserver

import (
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
	cancel func()

	mu sync.Mutex
	// Guarded by mu.
	boxes map[*mailbox]bool
}

// join sends the events of the call to box until the function it returns is
// called.
func (f *feeds) join(call sfu.CallID, box *mailbox) (leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.calls[call]
	if one == nil {
		one = &feed{boxes: make(map[*mailbox]bool)}
		if one.cancel, err = f.nodes.SubscribeCall(call, func(ev edgeagent.CallEvent) { f.spread(one, ev) }); err != nil {
			return nil, fmt.Errorf("subscribe to call %v: %w", call, err)
		}
		f.calls[call] = one
	}
	one.mu.Lock()
	one.boxes[box] = true
	one.mu.Unlock()
	return func() { f.leave(call, one, box) }, nil
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
