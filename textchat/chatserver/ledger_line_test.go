package chatserver

import (
	"bytes"
	"net"
	"sync"
	"time"
)

// pause is a thing that can stand still. The zero value does not.
type pause struct {
	mu    sync.Mutex
	until time.Time
}

func (p *pause) set(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := time.Now().Add(d); t.After(p.until) {
		p.until = t
	}
}

// on says whether it stands still.
func (p *pause) on() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.until) > 0
}

// wait returns when it goes on.
func (p *pause) wait() {
	for {
		p.mu.Lock()
		d := time.Until(p.until)
		p.mu.Unlock()
		if d <= 0 {
			return
		}
		time.Sleep(d)
	}
}

// line is a connection of which the ends are apart: what is sent arrives later, in
// order. It can stand still, be full, and break; what is on the way is lost then.
type line struct {
	near, far net.Conn // our halves of the pipes, of which others have the other halves
	made      time.Time
	ways      [2]way
}

// way is one direction.
type way struct {
	room   int // bytes that may be on the way
	delay  func() time.Duration
	pauses []*pause

	mu   sync.Mutex
	turn sync.Cond
	// Guarded by mu.
	queue  []parcel
	bytes  int
	closed bool // nothing more comes
	broken bool
}

// parcel is what is on the way.
type parcel struct {
	body []byte
	at   time.Time
}

// blinded is a connection to a bus on which nobody says which entry of a log it takes
// for the last one.
type blinded struct{ net.Conn }

func (b blinded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	copy(p, bytes.ReplaceAll(p[:n], []byte("Nats-Expected-Last-Subject-Sequence:"), []byte("Nats-Unheeded-Last-Subject-Sequence:")))
	return n, err
}

const (
	socketRoom = 64 << 10 // what the kernel takes of a connection
	endless    = 1 << 30
)

// newLine joins two pipes. there and back stop one direction each.
func newLine(near, far net.Conn, room int, delay func() time.Duration, there, back []*pause) *line {
	l := &line{near: near, far: far, made: time.Now()}
	for i := range l.ways {
		l.ways[i] = way{room: room, delay: delay, pauses: [][]*pause{there, back}[i]}
		l.ways[i].turn.L = &l.ways[i].mu
	}
	go l.take(&l.ways[0], near)
	go l.give(&l.ways[0], far, near)
	go l.take(&l.ways[1], far)
	go l.give(&l.ways[1], near, far)
	return l
}

func (l *line) take(w *way, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		for w.bytes >= w.room && !w.broken {
			w.turn.Wait()
		}
		if n > 0 && !w.broken {
			w.queue = append(w.queue, parcel{append([]byte(nil), buf[:n]...), time.Now().Add(w.delay())})
			w.bytes += n
		}
		w.closed = w.closed || err != nil
		w.mu.Unlock()
		w.turn.Broadcast()
		if err != nil {
			return
		}
	}
}

func (l *line) give(w *way, to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
		w.mu.Lock()
		w.broken = true
		w.mu.Unlock()
		w.turn.Broadcast()
	}()
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && !w.closed && !w.broken {
			w.turn.Wait()
		}
		if len(w.queue) == 0 || w.broken {
			w.mu.Unlock()
			return
		}
		p := w.queue[0]
		w.queue = w.queue[1:]
		w.mu.Unlock()
		time.Sleep(time.Until(p.at))
		if time.Since(l.made) > 0 { // who shakes hands holds a lock, so that no time would pass
			for _, p := range w.pauses {
				p.wait()
			}
		}
		w.mu.Lock()
		broken := w.broken
		w.mu.Unlock()
		if broken {
			return
		}
		if _, err := to.Write(p.body); err != nil {
			return
		}
		w.mu.Lock()
		w.bytes -= len(p.body)
		w.mu.Unlock()
		w.turn.Broadcast()
	}
}

// cut breaks the line: what is on the way is lost.
func (l *line) cut() {
	for i := range l.ways {
		w := &l.ways[i]
		w.mu.Lock()
		w.broken = true
		w.mu.Unlock()
		w.turn.Broadcast()
	}
	_ = l.near.Close()
	_ = l.far.Close()
}
