package edgeagentserver

import (
	"net"
	"sync"
	"time"
)

const (
	// outboxLen is how many frames may wait for a client that reads slowly: 1.3 s
	// of one voice. The oldest makes room, as late voice is worth least.
	outboxLen = 64
	// outboxWrite is how much of it one write takes.
	outboxWrite = 16 << 10
	// outboxPatience is how long a client may take nothing at all.
	outboxPatience = 10 * time.Second
)

// outbox is what waits to be written to a stream.
type outbox struct {
	mu sync.Mutex
	// Guarded by mu.
	frames  [outboxLen][]byte // reused
	first   int
	n       int
	dropped uint64
	closed  bool

	ready chan struct{} // holds one
}

func newOutbox() *outbox { return &outbox{ready: make(chan struct{}, 1)} }

// put copies a frame: head, then body. It never waits.
func (o *outbox) put(head, body []byte) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	if o.n == outboxLen {
		o.first = (o.first + 1) % outboxLen
		o.n--
		o.dropped++
	}
	slot := &o.frames[(o.first+o.n)%outboxLen]
	*slot = append(append((*slot)[:0], head...), body...)
	o.n++
	o.mu.Unlock()
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take appends what waits, up to outboxWrite bytes; false: the outbox is closed.
func (o *outbox) take(dst []byte) ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.n > 0 && len(dst)+len(o.frames[o.first]) <= outboxWrite {
		dst = append(dst, o.frames[o.first]...)
		o.first = (o.first + 1) % outboxLen
		o.n--
	}
	return dst, !o.closed
}

// close ends run; it may be called twice.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// lost is how many frames made room for newer ones.
func (o *outbox) lost() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dropped
}

// run writes until the outbox is closed or the client takes nothing any more, and
// then closes the connection.
func (o *outbox) run(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 0, outboxWrite)
	for {
		var open bool
		if buf, open = o.take(buf[:0]); !open {
			return
		}
		if len(buf) == 0 {
			<-o.ready
			continue
		}
		if conn.SetWriteDeadline(time.Now().Add(outboxPatience)) != nil {
			return
		}
		if _, err := conn.Write(buf); err != nil {
			return
		}
	}
}
