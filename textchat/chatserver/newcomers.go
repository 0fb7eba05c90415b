package chatserver

import (
	"slices"
	"sync"
	"time"
)

const (
	// letInAtOnce bounds the newcomers that a guild greets in one go: it has others to
	// serve meanwhile.
	letInAtOnce = 16
	// reloadPause is how long after it could not be loaded a guild is that newcomers wait
	// for is tried again.
	reloadPause = time.Second
)

// newcomers are sessions that began and are to listen to a guild as soon as it is there:
// one that is large, or whose store is busy, takes longer than anybody waits for an
// answer. They are no more than the sessions that this instance has.
type newcomers struct {
	door chan struct{} // holds a token when somebody may be at it; immutable

	mu   sync.Mutex
	list []newcomer // guarded by mu; first come, first served
}

type newcomer struct {
	s  *session
	in chan struct{} // closed when it listens, or is not to
}

func newNewcomers() newcomers { return newcomers{door: make(chan struct{}, 1)} }

func (n *newcomers) knock() {
	select {
	case n.door <- struct{}{}:
	default:
	}
}

// next takes the first one.
func (n *newcomers) next() (first newcomer, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) == 0 {
		n.list = nil // it may have been long
		return newcomer{}, false
	}
	first = n.list[0]
	n.list[0] = newcomer{}
	n.list = n.list[1:]
	return first, true
}

func (n *newcomers) waiting() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.list) > 0
}

// sweep forgets those whose sessions have ended.
func (n *newcomers) sweep() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = slices.DeleteFunc(n.list, func(one newcomer) bool {
		over := one.s.over()
		if over {
			close(one.in)
		}
		return over
	})
}

// admit has a session listen, if its user is a member, as soon as the guild is there.
func (o *owner) admit(s *session) (in <-chan struct{}) {
	one := newcomer{s, make(chan struct{})}
	o.newcomers.mu.Lock()
	o.newcomers.list = append(o.newcomers.list, one)
	o.newcomers.mu.Unlock()
	o.newcomers.knock()
	return one.in
}

// letIn loads the guild if need be, and has some of the newcomers listen. The others
// come next, or when it can be loaded.
func (o *owner) letIn() error {
	err := o.guarded(func() error {
		for range letInAtOnce {
			one, ok := o.newcomers.next()
			if !ok {
				break
			}
			o.welcome(one)
		}
		return nil
	})
	if o.core == nil {
		if o.newcomers.sweep(); o.newcomers.waiting() {
			o.wake = earliest(o.wake, time.Now().Add(reloadPause))
		}
	}
	return err
}

func (o *owner) welcome(one newcomer) {
	defer close(one.in)
	if o.core.Member(one.s.user) != nil {
		o.add(one.s)
	}
}
