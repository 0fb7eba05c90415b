package chatserver

import (
	"bytes"
	"sync"

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
)

// writers write to bare TCP connections, a few goroutines to all of them, in the
// order in which these had something to be written. The more they have to do, the
// more events go by one write. They wait for nobody: what a socket has no room for
// gets a goroutine.
type writers struct {
	mu   sync.Mutex
	more sync.Cond
	// Guarded by mu.
	queue []*conn
	ended bool
}

func (w *writers) init() { w.more.L = &w.mu }

// add has c written to. c.writing keeps it from being here twice.
func (w *writers) add(c *conn) {
	w.mu.Lock()
	w.queue = append(w.queue, c)
	w.mu.Unlock()
	w.more.Signal()
}

func (w *writers) end() {
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
		for len(w.queue) == 0 && !w.ended {
			w.more.Wait()
		}
		if len(w.queue) == 0 {
			w.mu.Unlock()
			return
		}
		n := copy(hand[:], w.queue[:min(len(w.queue)/some+1, len(w.queue))])
		clear(w.queue[:n])
		if w.queue = w.queue[n:]; len(w.queue) == 0 {
			w.queue = nil
		}
		w.mu.Unlock()
		for i, c := range hand[:n] {
			hand[i] = nil
			buf = c.offer(buf)
		}
	}
}

// buffers are for goroutines that write.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, holdMost); return &b }}

// wake has what is there written.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.writing:
		c.again = true
	case c.over:
	case c.wire.raw != nil:
		c.writing = true
		c.srv.gate.writers.add(c)
	default:
		c.writing = c.srv.task(c.flush)
	}
}

// guard is deferred around what a writer does.
func (c *conn) guard() {
	if r := recover(); r != nil {
		c.srv.panicked("gateway_connection", r)
		c.lose()
	}
}

// offer writes what a socket has room for.
func (c *conn) offer(buf []byte) []byte {
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
		}
	}
	c.srv.gate.writers.add(c)
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

// collect appends what is to be written next: frames that are no events go first,
// and the close frame, after which nothing comes, before events. When there is
// nothing, ok is false and the writer has ended.
func (c *conn) collect(b []byte) (_ []byte, last, ok bool) {
	for len(b) < holdMost {
		c.mu.Lock()
		c.frames.Mode = c.mode
		c.again = false
		switch {
		case c.over:
			c.mu.Unlock()
			c.idle()
			return b, false, false
		case len(c.urgent) > 0:
			u := c.urgent[0]
			c.urgent[0] = urgent{}
			if c.urgent = c.urgent[1:]; len(c.urgent) == 0 {
				c.urgent = nil
			}
			c.mu.Unlock()
			if u.op == wsframe.Pong {
				b = wsframe.Append(b, u.op, u.body)
				continue
			}
			from := len(b)
			var binary bool
			b, binary = c.frames.Control(wsframe.Begin(b), u.body)
			b = wsframe.End(b, from, opcode(binary))
			continue
		case c.bye != nil:
			b = append(b, c.bye...)
			c.over = true
			c.mu.Unlock()
			return b, true, true
		}
		s := c.session
		c.mu.Unlock()
		if s != nil {
			if c.frames.Own(&c.srv.gate.streams) {
				c.srv.gate.metrics.streams.Inc()
			}
			if e, seq, more := s.next(c); more {
				from := len(b)
				var binary bool
				b, binary = c.frames.Event(wsframe.Begin(b), seq, e)
				b = wsframe.End(b, from, opcode(binary))
				continue
			}
		}
		if len(b) > 0 {
			return b, false, true
		}
		c.mu.Lock()
		if !c.again && !c.over {
			c.writing = false
			c.mu.Unlock()
			return b, false, false
		}
		c.mu.Unlock()
	}
	return b, false, true
}

func opcode(binary bool) wsframe.Opcode {
	if binary {
		return wsframe.Binary
	}
	return wsframe.Text
}
