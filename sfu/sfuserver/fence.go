package sfuserver

import (
	"time"

	"voicefleet/sfu"
)

// A process that is stopped and goes on (SIGSTOP, a frozen cgroup, a hypervisor
// that migrates) does not know how long it was away. Its calls may live on another
// node by now, and what lies in its sockets is a past that nobody waits for. So a
// worker whose loop stood still forwards nothing until the agent has looked where
// its calls are, and has ended those that moved.

const (
	// frozenAfter is how long a loop must have stood still. It turns every 20 ms.
	frozenAfter = time.Second
	// fenceAlone bounds the wait without an agent: there is nobody to ask, and
	// calls are not to end for want of one.
	fenceAlone = 500 * time.Millisecond
	// fenceLimit bounds it with an agent that does not answer: longer than its
	// look at the bus may take, shorter than what would end all sessions.
	fenceLimit = 5 * time.Second
)

// looped notes that the loop turns, and fences the worker if it stood still.
func (w *worker) looped(now time.Duration) {
	stood := now - w.turned
	w.turned = now
	if stood <= frozenAfter {
		return
	}
	w.fence, w.fencedAt = w.srv.fences.Add(1), now
	w.srv.events.fenced(sfu.Fenced{Number: w.fence, Stood: stood})
}

// late says that the loop stands still since it turned last: what it is about to
// send was decided before.
func (w *worker) late() bool { return time.Since(w.start)-w.turned > frozenAfter }

// lift ends a fence that nobody has ended, if it has lasted too long.
func (w *worker) lift(now time.Duration) {
	limit := fenceLimit
	if w.srv.alone.Load() {
		limit = fenceAlone
	}
	if w.fence != 0 && now-w.fencedAt > limit {
		w.fence = 0
	}
}

// handleConfirm ends the fences up to a number.
func (s *Server) handleConfirm(seq uint64, c *sfu.Confirm) *sfu.Error {
	for _, w := range s.workers {
		w.mail.post(func(time.Duration) {
			if w.fence <= c.Number {
				w.fence = 0
			}
		})
	}
	s.events.answer(seq, nil, sfu.Event{})
	return nil
}
