package chatserver

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"voicefleet/textchat"
)

// bare is a client that costs next to nothing: a socket, no goroutine, no buffer.
type bare struct{ net.Conn }

func (w *world) bare() bare {
	w.t.Helper()
	c, _ := w.bareWith("")
	return c
}

// tcp is a connection that nothing was said on.
func (w *world) tcp() net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.http.URL, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// bareWith has more lines in its request, and returns the head of the answer too.
func (w *world) bareWith(lines string) (bare, string) {
	w.t.Helper()
	c := w.tcp()
	fmt.Fprintf(c, "GET /gateway?v=10&encoding=json HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n", lines)
	var head []byte
	for b := [1]byte{}; !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b[0]) {
		if _, err := c.Read(b[:]); err != nil {
			w.t.Fatal(err)
		}
	}
	return bare{c}, string(head)
}

// say sends a text frame, masked with zeros (RFC 6455 section 5.3).
func (c bare) say(text string) {
	b := []byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}
	_, _ = c.Write(append(b, text...))
}

// frame reads one frame, as a server sends it.
func (c bare) frame(t *testing.T) (opcode byte, body string) {
	t.Helper()
	var h [10]byte
	if _, err := io.ReadFull(c, h[:2]); err != nil {
		t.Fatal(err)
	}
	n := uint64(h[1])
	switch n {
	case 126:
		_, _ = io.ReadFull(c, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, _ = io.ReadFull(c, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return h[0] & 0x0f, string(b)
}

// hear reads frames up to one that holds a text.
func (c bare) hear(t *testing.T, text string) {
	t.Helper()
	for {
		if _, body := c.frame(t); strings.Contains(body, text) {
			return
		}
	}
}

// closing reads up to the close frame.
func (c bare) closing(t *testing.T) (code uint16, reason string) {
	t.Helper()
	for {
		if op, body := c.frame(t); op == 8 {
			return binary.BigEndian.Uint16([]byte(body)), body[2:]
		}
	}
}

// inUse is the heap and the stacks that live.
func inUse() uint64 {
	var m runtime.MemStats
	for range 4 { // each collection halves stacks that are mostly unused
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestIdleMemory: what 1,000 idle sessions hold, the clients' own sockets (some
// 0.3 KiB each) included. It is 2.2 KiB, as nobody of them has a goroutine. Where
// connections have one it is not said.
func TestIdleMemory(t *testing.T) {
	if p, _ := newPoll(); p == nil {
		t.Skip("connections have a goroutine each here")
	} else {
		p.close()
	}
	const n = 1000
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Connections = 2 * n }, nil)
	var people []person
	for range (n + textchat.MaxSessions - 1) / textchat.MaxSessions {
		people = append(people, w.guest("Crowd"))
	}
	w.bare() // what is made once
	before := inUse()
	clients := make([]bare, n)
	for i := range clients {
		clients[i] = w.bare()
		clients[i].say(fmt.Sprintf(`{"op":2,"d":{"token":%q,"intents":513,"properties":{}}}`, people[i/textchat.MaxSessions].token))
		clients[i].hear(t, "GUILD_CREATE")
	}
	fresh := inUse() - before
	for _, c := range clients {
		c.say(`{"op":1,"d":2}`)
		c.hear(t, `"op":11`)
	}
	idle := inUse() - before
	t.Logf("%.1f KiB each when new, %.1f KiB after the first heartbeat", float64(fresh)/n/1024, float64(idle)/n/1024)
	if most := uint64(4 << 10); idle/n > most {
		t.Errorf("%d bytes each, want at most %d", idle/n, most)
	}
	runtime.KeepAlive(clients)
}

// TestStrangersAreFew: of those who connect and say nothing there are only so many, from
// wherever they come; who identifies makes room.
func TestStrangersAreFew(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Strangers = 2 }, nil)
	ann := w.guest("Ann")
	w.enter(ann)
	first := w.bare()
	w.bare()
	if _, head := w.bareWith(""); !strings.HasPrefix(head, "HTTP/1.1 503 ") || !strings.Contains(head, "Retry-After: ") {
		t.Fatalf("one too many: %s", head)
	}
	_ = first.Close()
	for w.srv.hub.strangers.Load() > 1 {
		runtime.Gosched()
	}
	w.enter(w.guest("Bob"))
}

// TestStrangersMemory: what those hold who open a connection, and say nothing, or half
// a request; others come in meanwhile.
func TestStrangersMemory(t *testing.T) {
	const n = 1500 // of each kind
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Connections = 2 * n }, func(s *Server) { s.identifyTimeout = time.Hour })
	ann := w.guest("Ann")
	w.bare()
	before := inUse()
	var all []net.Conn
	for range n {
		all = append(all, w.bare())
		half := w.tcp()
		fmt.Fprint(half, "POST /api/v10/auth/login HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		all = append(all, half)
	}
	w.enter(ann) // after what came before it
	each := (inUse() - before) / uint64(len(all))
	t.Logf("%.1f KiB each", float64(each)/1024)
	if most := uint64(20 << 10); each > most {
		t.Errorf("%d bytes each, want at most %d", each, most)
	}
	runtime.KeepAlive(all)
}
