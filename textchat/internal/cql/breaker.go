package cql

import (
	"sync"
	"time"
)

const (
	// breakerFailures in a row open the breaker: at 800 ms each, a few callers
	// learn it the slow way.
	breakerFailures = 5
	// breakerRest is how long nothing is asked then; after it one caller tries.
	breakerRest = 500 * time.Millisecond
)

// breaker refuses at once what would only time out. Time is an argument.
type breaker struct {
	mu sync.Mutex
	// Guarded by mu.
	failures int
	answered time.Time // the last answer
	until    time.Time // while open; zero when closed
	probing  bool
}

// allow says whether to ask. Whoever is allowed must call note or pass.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return true
	case b.probing || now.Before(b.until):
		return false
	}
	b.probing = true
	return true
}

// note takes in how it went with what was begun then. A failure of what was begun before
// the last answer is no news: many wait for one node that stands still, and fail at once
// while the others answer.
func (b *breaker) note(begun, now time.Time, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if !failed {
		b.failures, b.answered, b.until = 0, now, time.Time{}
		return
	}
	if begun.Before(b.answered) {
		return
	}
	if b.failures++; b.failures >= breakerFailures {
		b.until = now.Add(breakerRest)
	}
}

// pass is for a caller that went away before it knew.
func (b *breaker) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero()
}
