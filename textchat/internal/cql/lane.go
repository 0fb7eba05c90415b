package cql

import (
	"context"
	"sync"

	"voicefleet/textchat"
)

const (
	// laneWidth is how many operations on one key (a channel) are under way at once:
	// at 2 ms each a channel gets 16,000/s, and no more of the cluster than that.
	laneWidth = 32
	// laneQueue is how many more may wait; beyond it they are refused with ErrBusy.
	laneQueue = 256
	// lanesMost bounds all that are under way or waiting.
	lanesMost = 8192
)

// lanes keep one channel from taking all room: each has a bounded number of
// operations under way, in the order in which they came.
type lanes struct {
	mu sync.Mutex
	// Guarded by mu.
	busy  map[uint64]*lane
	total int
}

type lane struct {
	running int
	waiting []chan struct{}
}

// enter waits for room; leave must be called when it returned nil.
func (l *lanes) enter(ctx context.Context, key uint64) error {
	l.mu.Lock()
	n := l.busy[key]
	if n == nil {
		n = &lane{}
		l.busy[key] = n
	}
	if l.total >= lanesMost || len(n.waiting) >= laneQueue {
		l.tidyLocked(key, n)
		l.mu.Unlock()
		return textchat.ErrBusy
	}
	l.total++
	if n.running < laneWidth {
		n.running++
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	n.waiting = append(n.waiting, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	for i, c := range n.waiting {
		if c == turn {
			n.waiting = append(n.waiting[:i], n.waiting[i+1:]...)
			l.total--
			l.mu.Unlock()
			return ctx.Err()
		}
	}
	l.mu.Unlock()
	l.leave(key) // its turn came at the same moment
	return ctx.Err()
}

func (l *lanes) leave(key uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.busy[key]
	l.total--
	if len(n.waiting) > 0 {
		close(n.waiting[0])
		n.waiting = n.waiting[1:]
		return
	}
	n.running--
	l.tidyLocked(key, n)
}

func (l *lanes) tidyLocked(key uint64, n *lane) {
	if n.running == 0 && len(n.waiting) == 0 {
		delete(l.busy, key)
	}
}
