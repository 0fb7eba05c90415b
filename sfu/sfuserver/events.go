package sfuserver

import (
	"context"
	"sync"

	"voicefleet/sfu"
)

// maxPending bounds the commands whose answers are not written yet; beyond it no
// command is read.
const maxPending = 1024

// events is the queue to the agent. Posting never waits, so that a slow agent
// holds up no worker, and nothing is lost: answers are bounded by maxPending,
// Connected and Ended by the number of sessions, which only commands create; of
// every other fact the newest about the same thing replaces the one that still
// waits.
type events struct {
	ready chan struct{} // holds a token when something waits
	slots chan struct{} // holds a token per pending answer

	mu sync.Mutex
	// Guarded by mu.
	queue []sfu.Event
	where map[topic]int // index in queue of the waiting fact about a topic
}

// topic is what a fact is about, when only the newest counts.
type topic struct {
	kind    byte // 's'peaking, 'p'laced, 'v'iewing, s'n'apshot, 'd'eaf, 'f'enced, 'l'oad
	session sfu.SessionID
	slot    int
}

func newEvents() *events {
	return &events{
		ready: make(chan struct{}, 1), slots: make(chan struct{}, maxPending),
		where: make(map[topic]int),
	}
}

// expect waits until one more answer may be pending. Each command does it once
// before its answer.
func (e *events) expect(ctx context.Context) error {
	select {
	case e.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer posts the answer to a command.
func (e *events) answer(seq uint64, err *sfu.Error, ev sfu.Event) {
	ev.Seq, ev.Err = seq, err
	e.post(ev)
}

// post queues an event.
func (e *events) post(ev sfu.Event) {
	e.mu.Lock()
	e.queue = append(e.queue, ev)
	e.mu.Unlock()
	e.signal()
}

// replace queues a fact, in the place of the one about the same topic if that
// still waits.
func (e *events) replace(t topic, ev sfu.Event) {
	e.mu.Lock()
	if i, ok := e.where[t]; ok {
		e.queue[i] = ev
	} else {
		e.where[t] = len(e.queue)
		e.queue = append(e.queue, ev)
	}
	e.mu.Unlock()
	e.signal()
}

func (e *events) signal() {
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

// write writes events until the context ends or the stream fails.
func (e *events) write(ctx context.Context, enc *sfu.Encoder) error {
	var batch []sfu.Event
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.ready:
		}
		e.mu.Lock()
		batch, e.queue = e.queue, batch[:0]
		clear(e.where)
		e.mu.Unlock()
		for i := range batch {
			if err := enc.Encode(&batch[i]); err != nil {
				return err
			}
			if batch[i].Seq != 0 {
				<-e.slots
			}
		}
		clear(batch)
	}
}

// drop forgets all that waits, and all answers that are pending: their asker is
// gone. Nothing may be written meanwhile.
func (e *events) drop() {
	e.mu.Lock()
	clear(e.queue)
	e.queue = e.queue[:0]
	clear(e.where)
	e.mu.Unlock()
	for len(e.slots) > 0 {
		<-e.slots
	}
}

// Speaking and Placed make events the call.Facts of every call, Viewing its video.Facts.

func (e *events) Speaking(s sfu.Speaking) {
	e.replace(topic{kind: 's', session: s.Session}, sfu.Event{Speaking: &s})
}

func (e *events) Placed(p sfu.Placed) {
	e.replace(topic{kind: 'p', session: p.Session, slot: p.Slot}, sfu.Event{Placed: &p})
}

func (e *events) Viewing(v sfu.Viewing) {
	e.replace(topic{kind: 'v', session: v.Session, slot: v.View}, sfu.Event{Viewing: &v})
}

func (e *events) fenced(f sfu.Fenced) {
	e.replace(topic{kind: 'f'}, sfu.Event{Fenced: &f}) // the highest number counts
}

func (e *events) deaf(d sfu.Deaf) {
	e.replace(topic{kind: 'd', session: d.Session}, sfu.Event{Deaf: &d})
}

func (e *events) snapshot(s *sfu.Snapshot) {
	e.replace(topic{kind: 'n', session: s.Open.Session}, sfu.Event{Snapshot: s})
}

// renew queues the snapshot behind what waits, not in the place of an older one.
func (e *events) renew(s *sfu.Snapshot) {
	e.mu.Lock()
	delete(e.where, topic{kind: 'n', session: s.Open.Session})
	e.mu.Unlock()
	e.snapshot(s)
}

func (e *events) load(l *sfu.LoadReading) {
	e.replace(topic{kind: 'l'}, sfu.Event{Load: l})
}
