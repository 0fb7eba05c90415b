package dtlsterm

import (
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// queueLen is how many datagrams wait for the handshake at once; a client's
// whole flight with a long certificate takes five. What finds no room is
// dropped, as on the way: the client repeats it.
const queueLen = 16

// pipe is the net.PacketConn under one Conn: what comes in is queued, what goes
// out is handed to send.
type pipe struct {
	in        chan []byte
	closed    chan struct{}
	interrupt chan struct{}
	send      func([]byte)

	closeOnce, interruptOnce sync.Once

	mu     sync.Mutex // guards what follows
	muted  bool       // nothing may leave any more
	sent   bool       // something has left
	flight [][]byte   // since the last ChangeCipherSpec of ours
}

func newPipe(in chan []byte, send func([]byte)) *pipe {
	return &pipe{in: in, send: send, closed: make(chan struct{}), interrupt: make(chan struct{})}
}

// mute ends sending and returns the last flight.
func (p *pipe) mute() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muted = true
	return p.flight
}

// silent tells that nothing was sent so far.
func (p *pipe) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.sent
}

func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-p.closed:
		return 0, nil, net.ErrClosed
	case <-p.interrupt:
		return 0, nil, os.ErrDeadlineExceeded
	case d := <-p.in:
		return copy(b, d), pipeAddr{}, nil
	}
}

// WriteTo passes on what belongs to the handshake; alerts end here. The copy
// goes to send and into the last flight alike: neither changes it.
func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.muted || len(b) == 0 || b[0] == typeAlert {
		return len(b), nil
	}
	d := slices.Clone(b)
	switch {
	case holds(d, typeChangeCipherSpec, 0):
		p.flight = [][]byte{d}
	case p.flight != nil:
		p.flight = append(p.flight, d)
	}
	p.sent = true
	p.send(d)
	return len(b), nil
}

func (p *pipe) Close() error {
	p.closeOnce.Do(func() { close(p.closed) })
	return nil
}

// SetReadDeadline ends reading for good when t has passed: the Conn above sets
// such a deadline only to stop its reader.
func (p *pipe) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		p.interruptOnce.Do(func() { close(p.interrupt) })
	}
	return nil
}

func (p *pipe) SetWriteDeadline(time.Time) error { return nil } // writing never waits
func (p *pipe) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }
func (p *pipe) LocalAddr() net.Addr              { return pipeAddr{} }

// pipeAddr stands for both ends: a Conn has one peer and the worker knows where
// it is.
type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
