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

// generation bounds the keys of one map; turnAfter how long it grows. No window
// is longer than turnAfter, so what is forgotten has ended, unless the map was
// full.
const (
	generation = 1 << 16
	turnAfter  = 10 * time.Minute
)

// Take counts one request of key under rule.
func (t *Table) Take(now time.Time, key string, rule Rule) Answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.young == nil || len(t.young) >= generation || now.Sub(t.turned) >= turnAfter {
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
	if e.used < rule.Limit {
		e.used++
		a.OK = true
	}
	a.Remaining = rule.Limit - e.used
	return a
}
