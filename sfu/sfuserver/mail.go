package sfuserver

import (
	"sync"
	"time"
)

// order is work for a worker, done on its goroutine between two batches.
type order func(now time.Duration)

// mail is a worker's queue of orders. It is bounded by those who write to it:
// control by maxPending commands, each handshake by the few datagrams of its
// flights, and sfu.Limits.HalfOpen bounds those.
type mail struct {
	wake func() // ends the worker's wait for packets

	mu sync.Mutex
	// Guarded by mu.
	queue []order
	spare []order
}

// post hands an order over. It never waits.
func (m *mail) post(o order) {
	m.mu.Lock()
	m.queue = append(m.queue, o)
	first := len(m.queue) == 1
	m.mu.Unlock()
	if first {
		m.wake()
	}
}

// take lends what was posted, until the next take.
func (m *mail) take() []order {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		return nil
	}
	clear(m.spare)
	taken := m.queue
	m.queue, m.spare = m.spare[:0], taken
	return taken
}

// empty says whether nothing waits.
func (m *mail) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue) == 0
}
