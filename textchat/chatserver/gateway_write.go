package chatserver

import (
	"bytes"
	"sync"
	"time"

	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/wsframe"
)

const (
	// holdMost is from how many bytes on what is collected is written.
	holdMost = 16 << 10
	// keepBuffer is up to what size a buffer is worth keeping.
	keepBuffer = 64 << 10
	// turnWrites is how often a writer writes to one connection before it looks at
	// those that wait.
	turnWrites = 4
	// handMost bounds the connections a writer takes at once.
	handMost = 16
	// aheadMost is how many of those that are not patient may go before the patient ones
	// that wait: a fifth of the writes is for these, whatever there is to do.
	aheadMost = 4 * handMost
	// gather is how long a connection that was just written to waits for more, when
	// what it has is patient, a frame of a screen: of 160 messages a second three go by
	// one write then, which is a third of the kernel's work for them, on both sides.
	gather = 16 * time.Millisecond
)

// writers write to bare TCP connections, a few goroutines to all of them, in the
// order in which these had something to be written, but that patient events come after
// what is not, by aheadMost connections and no more. The more they have to do, the more
// events go by one write. They wait for nobody: what a socket has no room for gets a
// goroutine.
type writers struct {
	// Immutable after init.
	begun time.Time
	timer *time.Timer // for soon

	mu   sync.Mutex
	more sync.Cond
	// Guarded by mu: each connection is in one of them at most, less what it has left.
	first []*conn     // what they have is not patient
	queue []*conn     // they come after those; who is not queued has left it
	soon  []gathering // in the order of due
	ahead int         // taken from first while some were in queue
	ended bool
}

// gathering is a connection in soon; it has left when its own due is another.
type gathering struct {
	c   *conn
	due time.Duration
}

func (w *writers) init() {
	w.more.L = &w.mu
	w.begun = time.Now()
	w.timer = time.AfterFunc(gather, w.ripen)
}

// clock is the time that writers count.
func (w *writers) clock() time.Duration { return time.Since(w.begun) }

// add has c written to, before the patient ones or with them. c.writing keeps it from
// being here twice.
func (w *writers) add(c *conn, now bool) {
	w.mu.Lock()
	if now {
		w.first = append(w.first, c)
	} else {
		w.turn(c)
	}
	w.mu.Unlock()
	w.more.Signal()
}

// turn puts c where the patient ones wait. Guarded by mu.
func (w *writers) turn(c *conn) {
	c.queued = true
	w.queue = append(w.queue, c)
}

// later is add, when c has gathered.
func (w *writers) later(c *conn, now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.due = now + gather
	w.soon = append(w.soon, gathering{c, c.due})
	if len(w.soon) == 1 {
		w.timer.Reset(gather)
	}
}

// hurry puts c before the patient ones, if it gathers or waits with them.
func (w *writers) hurry(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.due != 0 || c.queued {
		c.due, c.queued = 0, false
		w.first = append(w.first, c)
		w.more.Signal()
	}
}

// ripen adds those that have gathered, and those that almost have.
func (w *writers) ripen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock() + gather/8
	n := 0
	for ; n < len(w.soon) && w.soon[n].due <= now; n++ {
		if c := w.soon[n].c; c.due == w.soon[n].due {
			c.due = 0
			w.turn(c)
		}
	}
	clear(w.soon[:n])
	if w.soon = w.soon[n:]; len(w.soon) == 0 {
		w.soon = nil
	} else {
		w.timer.Reset(w.soon[0].due - now + gather/8)
	}
	w.more.Broadcast()
}

func (w *writers) end() {
	w.timer.Stop()
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.more.Broadcast()
}

// run is one writer, of some.
func (w *writers) run(some int) {
	var hand [handMost]*conn
	buf := make([]byte, 0, holdMost)
	for {
		w.mu.Lock()
		for len(w.first)+len(w.queue) == 0 && !w.ended {
			w.more.Wait()
		}
		if len(w.first)+len(w.queue) == 0 {
			w.mu.Unlock()
			return
		}
		n := w.take(hand[:], some)
		w.mu.Unlock()
		now := w.clock()
		for i, c := range hand[:n] {
			hand[i] = nil
			buf = c.offer(buf, now)
		}
	}
}

// take takes the next connections, a share of those that wait when there are some
// writers; none, when all it looked at had left. Guarded by mu.
func (w *writers) take(hand []*conn, some int) (n int) {
	patient := len(w.first) == 0 || len(w.queue) > 0 && w.ahead >= aheadMost
	from := &w.first
	if patient {
		from = &w.queue
	}
	list := *from
	most := min(len(list)/some+1, len(hand))
	at := 0
	for ; at < len(list) && n < most; at++ {
		c := list[at]
		list[at] = nil
		if patient && !c.queued {
			continue
		}
		c.queued = false
		hand[n] = c
		n++
	}
	if *from = list[at:]; at == len(list) {
		*from = nil
	}
	switch {
	case !patient && len(w.queue) > 0:
		w.ahead += n
	case n > 0 || len(w.queue) == 0:
		w.ahead = 0
	}
	return n
}

// buffers are for goroutines that write.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, holdMost); return &b }}

// wake has what is there written: at once, or when more may have come.
func (c *conn) wake(now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.writing:
		c.again = true
		if now {
			c.srv.gate.writers.hurry(c)
		}
	case c.over:
	case c.wire.raw == nil:
		c.writing = c.srv.task(c.flush)
	default:
		c.writing = true
		w := &c.srv.gate.writers
		if !now {
			if at := w.clock(); c.wrote != 0 && at-c.wrote < gather {
				w.later(c, at)
				return
			}
		}
		w.add(c, now)
	}
}

// guard is deferred around what a writer does.
func (c *conn) guard() {
	if r := recover(); r != nil {
		c.srv.panicked("gateway_connection", r)
		c.lose()
	}
}

// offer writes what a socket has room for; now is about the time.
func (c *conn) offer(buf []byte, now time.Duration) []byte {
	defer c.guard()
	for range turnWrites {
		b, last, ok := c.collect(buf[:0])
		if !ok {
			return buf
		}
		if buf = b; cap(buf) > keepBuffer {
			buf = make([]byte, 0, holdMost)
		}
		n, err := c.wire.offer(b)
		switch {
		case err != nil:
			c.lose()
			return buf
		case n < len(b):
			rest := bytes.Clone(b[n:])
			if !c.srv.task(func() { c.flushFrom(rest, last) }) {
				c.lose()
			}
			return buf
		case last:
			c.linger()
			return buf
		case c.done(now):
			return buf
		}
	}
	c.srv.gate.writers.add(c, false)
	return buf
}

// flush writes everything, and waits for the client to read.
func (c *conn) flush() { c.flushFrom(nil, false) }

// flushFrom begins with the rest of what was collected.
func (c *conn) flushFrom(rest []byte, last bool) {
	defer c.guard()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		if len(rest) > 0 {
			if c.wire.put(rest) != nil {
				c.lose()
				return
			}
			if last {
				c.linger()
				return
			}
			if c.done(c.srv.gate.writers.clock()) {
				return
			}
		}
		var ok bool
		if rest, last, ok = c.collect((*buf)[:0]); !ok {
			return
		}
		if cap(rest) <= keepBuffer {
			*buf = rest
		}
	}
}

// lose ends a connection that cannot be written to.
func (c *conn) lose() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.idle()
	c.gone()
}

// idle says that the writer has ended; true: so has the connection.
func (c *conn) idle() (released bool) {
	c.mu.Lock()
	c.writing = false
	heir := c.heir
	c.mu.Unlock()
	if heir {
		c.release()
	}
	return heir
}

// done says that there is nothing more, and the writer has ended; now is when it
// wrote, if it did.
func (c *conn) done(now time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.again || c.over {
		return false
	}
	c.writing = false
	if now != 0 {
		c.wrote = now
	}
	return true
}

// collect appends what is to be written next: frames that are no events go first,
// and the close frame, after which nothing comes, before events. When there is
// nothing, ok is false and the writer has ended.
func (c *conn) collect(b []byte) (_ []byte, last, ok bool) {
	var room [drawMost]drawn
	for {
		c.mu.Lock()
		c.frames.Mode = c.mode
		c.again = false
		if c.over {
			c.mu.Unlock()
			c.idle()
			return b, false, false
		}
		urgent, bye, s := c.urgent, c.bye, c.session
		c.urgent = nil
		c.over = bye != nil
		c.mu.Unlock()
		for _, u := range urgent {
			b = c.appendUrgent(b, u)
		}
		if bye != nil {
			return append(b, bye...), true, true
		}
		if s != nil {
			if c.frames.Own(&c.srv.gate.streams) {
				c.srv.gate.metrics.streams.Inc()
			}
			list := s.draw(c, &room)
			for _, d := range list {
				b = c.appendEvent(b, d)
			}
			if len(list) == len(room) {
				if len(b) < holdMost {
					continue
				}
				c.mu.Lock()
				c.again = true
				c.mu.Unlock()
			}
		}
		if len(b) > 0 {
			return b, false, true
		}
		if c.done(0) {
			return b, false, false
		}
	}
}

func (c *conn) appendUrgent(b []byte, u urgent) []byte {
	if u.op == wsframe.Pong {
		return wsframe.Append(b, u.op, u.body)
	}
	from := len(b)
	b, binary := c.frames.Control(wsframe.Begin(b), u.body)
	return wsframe.End(b, from, opcode(binary))
}

func (c *conn) appendEvent(b []byte, d drawn) []byte {
	if c.frames.Bare() {
		b = wsframe.AppendHead(b, gatewaysession.Size(d.seq, d.e), wsframe.Text)
		return gatewaysession.Append(b, d.seq, d.e)
	}
	from := len(b)
	b, binary := c.frames.Event(wsframe.Begin(b), d.seq, d.e)
	return wsframe.End(b, from, opcode(binary))
}

func opcode(binary bool) wsframe.Opcode {
	if binary {
		return wsframe.Binary
	}
	return wsframe.Text
}
