// Package ratelimit counts requests per key in fixed windows, for a bounded
// number of keys.
package ratelimit

import (
	"sync"
	"time"
)

// Rule is how many requests a window allows.
type Rule struct {
	Limit  int
	Window time.Duration
}

// Answer is what a request is told.
type Answer struct {
	OK        bool
	Limit     int
	Remaining int
	Reset     time.Time // when the window ends
}

// Table counts. The zero Table is ready.
type Table struct {
	// Turn is how long what was counted is kept at least; no window may be longer.
	// Zero: ten minutes. Immutable.
	Turn time.Duration

	mu sync.Mutex
	// Guarded by mu. The keys of two generations: when one is full, or has lived
	// for a window's length, it becomes the old one, and the one before that is
	// forgotten. So a stranger with many addresses costs at most two full maps.
	young, old map[string]*entry
	turned     time.Time
}

type entry struct {
	used  int
	reset time.Time
}

// generation bounds the keys of one map; turnAfter how long it grows, unless
// Turn says so. No window is longer than that, so what is forgotten has ended,
// unless the map was full.
const (
	generation = 1 << 16
	turnAfter  = 10 * time.Minute
)

// Take counts one request of key under rule.
func (t *Table) Take(now time.Time, key string, rule Rule) Answer { return t.TakeN(now, key, rule, 1) }

// TakeN counts something that weighs n requests.
func (t *Table) TakeN(now time.Time, key string, rule Rule, n int) Answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := t.Turn
	if turn == 0 {
		turn = turnAfter
	}
	if t.young == nil || len(t.young) >= generation || now.Sub(t.turned) >= turn {
		t.old, t.young, t.turned = t.young, make(map[string]*entry), now
	}
	e := t.young[key]
	if e == nil {
		if e = t.old[key]; e == nil {
			e = &entry{}
		}
		t.young[key] = e
	}
	if !now.Before(e.reset) {
		e.used, e.reset = 0, now.Add(rule.Window)
	}
	a := Answer{Limit: rule.Limit, Reset: e.reset}
	if e.used+n <= rule.Limit {
		e.used += n
		a.OK = true
	}
	a.Remaining = max(0, rule.Limit-e.used)
	return a
}

// GiveBack takes one request of key back: what it was for did not come to be.
func (t *Table) GiveBack(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.young[key]
	if e == nil {
		e = t.old[key]
	}
	if e != nil && e.used > 0 {
		e.used--
	}
}

// Forget lets all windows end.
func (t *Table) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.young, t.old = nil, nil
}
