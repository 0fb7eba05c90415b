package chatserver

import (
	"context"
	"fmt"
	"sync"
)

// joints are work that several may want done from now on, by key: who asks while it is
// under way does not get what comes of it, which may be older than the question, but
// shares the next time with all who asked meanwhile. So of a key at most one is under
// way and one waits, however many ask.
type joints[K comparable, T any] struct {
	mu sync.Mutex
	// Guarded by mu: what waits, of those that are under way; nil: nothing.
	under map[K]*joint[T]
}

// joint is the work, done once.
type joint[T any] struct {
	work  func() (T, error)
	done  chan struct{} // closed when value and err are there
	value T
	err   error
}

// do has the work done, begun after this call. Who goes away does not end it.
func (js *joints[K, T]) do(ctx context.Context, s *Server, key K, work func() (T, error)) (T, error) {
	js.mu.Lock()
	if js.under == nil {
		js.under = make(map[K]*joint[T])
	}
	j, busy := js.under[key]
	if j == nil {
		j = &joint[T]{work: work, done: make(chan struct{})}
		js.under[key] = j
	}
	js.mu.Unlock()
	if !busy && !s.task(func() { js.run(s, key) }) {
		js.mu.Lock()
		delete(js.under, key)
		js.mu.Unlock()
		j.err = errGoingAway
		close(j.done)
	}
	select {
	case <-j.done:
		return j.value, j.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (js *joints[K, T]) run(s *Server, key K) {
	for {
		js.mu.Lock()
		j := js.under[key]
		if js.under[key] = nil; j == nil {
			delete(js.under, key)
		}
		js.mu.Unlock()
		if j == nil {
			return
		}
		j.run(s)
	}
}

func (j *joint[T]) run(s *Server) {
	defer close(j.done)
	defer func() {
		if r := recover(); r != nil {
			s.panicked("joint", r)
			j.err = fmt.Errorf("panic: %v", r)
		}
	}()
	j.value, j.err = j.work()
}
