package textchattest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Cutter passes TCP connections on to a server until they are cut.
type Cutter struct {
	// Immutable.
	listener net.Listener
	server   string
	tasks    sync.WaitGroup

	mu   sync.Mutex
	live map[net.Conn]struct{} // guarded by mu; both ends of each
}

// NewCutter listens on a port of its own for the length of the test.
func NewCutter(t testing.TB, server string) *Cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cutter{listener: l, server: server, live: make(map[net.Conn]struct{})}
	c.tasks.Go(c.run)
	t.Cleanup(func() {
		l.Close()
		c.Cut()
		c.tasks.Wait()
	})
	return c
}

// Addr is where it listens.
func (c *Cutter) Addr() string { return c.listener.Addr().String() }

// Cut ends all connections there are.
func (c *Cutter) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.live {
		conn.Close()
	}
}

func (c *Cutter) run() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.server)
		if err != nil {
			near.Close()
			continue
		}
		c.pass(near, far)
		c.pass(far, near)
	}
}

// pass copies what comes from one end to the other, until either is closed.
func (c *Cutter) pass(from, to net.Conn) {
	c.mu.Lock()
	c.live[from] = struct{}{}
	c.mu.Unlock()
	c.tasks.Go(func() {
		_, _ = io.Copy(to, from)
		from.Close()
		to.Close()
		c.mu.Lock()
		delete(c.live, from)
		c.mu.Unlock()
	})
}
