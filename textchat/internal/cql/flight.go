package cql

import (
	"context"
	"sync"
)

// flightKey names a read: equal keys have equal answers. generation counts the
// writes to what it reads.
type flightKey struct {
	verb       string
	a, b, c, d uint64
	generation uint64
}

// flights share the answer of equal reads that are under way at once.
type flights struct {
	mu sync.Mutex
	// Guarded by mu.
	under map[flightKey]*flight
	tasks sync.WaitGroup
}

type flight struct {
	done  chan struct{}
	value any // what was read, as rows: everybody decodes its own copy
	err   error
}

// share runs read, or waits for one with the same key. joined says which. A caller
// that goes away does not end the read for the others: ctx is only waited with.
func (f *flights) share(ctx context.Context, key flightKey, read func() (any, error)) (value any, joined bool, err error) {
	f.mu.Lock()
	one, joined := f.under[key]
	if !joined {
		one = &flight{done: make(chan struct{})}
		f.under[key] = one
		f.tasks.Go(func() {
			one.value, one.err = read()
			f.mu.Lock()
			delete(f.under, key)
			f.mu.Unlock()
			close(one.done)
		})
	}
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.value, joined, one.err
	case <-ctx.Done():
		return nil, joined, ctx.Err()
	}
}
