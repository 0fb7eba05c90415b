package cql

import (
	"context"
	"sync"
	"time"
)

// flightKey names a read: equal keys have equal answers. generation counts the
// writes to what it reads.
type flightKey struct {
	verb       string
	a, b, c, d uint64
	generation uint64
}

// flightWait is how long a read waits for an equal one that is under way, so that others
// may join it meanwhile.
const flightWait = 50 * time.Millisecond

// flights share the answer of equal reads. One that is under way may be read already, and
// lack what another instance wrote since: who comes then shares the next one.
type flights struct {
	mu sync.Mutex
	// Guarded by mu: those that may be joined, and the last ones that may not.
	waiting, under map[flightKey]*flight
	tasks          sync.WaitGroup
}

type flight struct {
	done  chan struct{}
	value any // what was read, as rows: everybody decodes its own copy
	err   error
}

func (f *flights) init() {
	f.waiting, f.under = make(map[flightKey]*flight), make(map[flightKey]*flight)
}

// share runs read, or waits for one with the same key that has not called depart yet,
// which read does before it asks the cluster. joined says which. A caller that goes away
// does not end the read for the others: ctx is only waited with.
func (f *flights) share(ctx context.Context, key flightKey, read func(depart func()) (any, error)) (value any, joined bool, err error) {
	f.mu.Lock()
	one, joined := f.waiting[key]
	if !joined {
		one = &flight{done: make(chan struct{})}
		before := f.under[key]
		f.waiting[key] = one
		f.tasks.Go(func() { f.run(key, one, before, read) })
	}
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.value, joined, one.err
	case <-ctx.Done():
		return nil, joined, ctx.Err()
	}
}

func (f *flights) run(key flightKey, one, before *flight, read func(depart func()) (any, error)) {
	if before != nil {
		wait := time.NewTimer(flightWait)
		defer wait.Stop()
		select {
		case <-before.done:
		case <-wait.C:
		}
	}
	one.value, one.err = read(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.waiting[key] == one {
			delete(f.waiting, key)
			f.under[key] = one
		}
	})
	f.mu.Lock()
	if f.waiting[key] == one { // it was refused before
		delete(f.waiting, key)
	}
	if f.under[key] == one {
		delete(f.under, key)
	}
	f.mu.Unlock()
	close(one.done)
}
