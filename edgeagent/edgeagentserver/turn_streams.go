package edgeagentserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"voicefleet/edgeagent/internal/turngate"
	"voicefleet/sfu"
)

// What a stream is tells its beginning: 0x16 is a TLS handshake (RFC 8446 section
// 5.1), the magic cookie of STUN at byte 4 the framing of TURN (RFC 8656 section
// 3.1), the cookie at byte 6, behind a length, that of ICE-TCP (RFC 4571).

// Bounds of streams.
const (
	// maxStreams bounds the open ones, maxPerPrefix those of one source prefix: a
	// company behind one address.
	maxStreams   = 8192
	maxPerPrefix = 1024
	// proveTime is how long one may take to show what it is, TLS included.
	proveTime = 5 * time.Second
	// allocateTime is how long a TURN client may take to make its allocation.
	allocateTime = 10 * time.Second
	// turnIdle is how long one with an allocation may be silent: it refreshes that
	// every ten minutes at least.
	turnIdle = 12 * time.Minute
	// iceIdle is how long an ICE-TCP client may be silent: it must show its consent
	// more often than that (RFC 7675).
	iceIdle = sfu.ConsentTimeout
	// maxBridges bounds the ICE-TCP streams of one session.
	maxBridges = 4
	// streamBuffer is asked of the kernel for what is sent: more would be voice
	// that comes too late.
	streamBuffer = 32 << 10
	// readBuffer holds at least one frame of each kind.
	readBuffer = 4 << 10
)

// refusal of a stream, as its reason in metrics.
type refusalReason uint8

const (
	refusedFull refusalReason = iota
	refusedPrefix
	refusedSilent
	refusedTLS
	refusedForeign
	refusedUfrag
	refusedBridges
	refusals
)

var refusalNames = [refusals]string{"full", "prefix", "silent", "tls", "foreign", "ufrag", "bridges"}

// conns are the open streams; guarded by the lock of closed.
type conns struct {
	open     map[net.Conn]struct{}
	prefixes map[uint64]int
}

// enter takes a stream in, if there is room.
func (c *closed) enter(conn net.Conn) bool {
	prefix := turngate.Prefix(clientOf(conn.RemoteAddr()).Addr.Addr())
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended, len(c.conns.open) >= maxStreams:
		c.count.refused[refusedFull].Add(1)
		return false
	case c.conns.prefixes[prefix] >= maxPerPrefix:
		c.count.refused[refusedPrefix].Add(1)
		return false
	}
	c.conns.open[conn] = struct{}{}
	c.conns.prefixes[prefix]++
	return true
}

func (c *closed) leave(conn net.Conn) {
	conn.Close()
	prefix := turngate.Prefix(clientOf(conn.RemoteAddr()).Addr.Addr())
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns.open, conn)
	if c.conns.prefixes[prefix]--; c.conns.prefixes[prefix] == 0 {
		delete(c.conns.prefixes, prefix)
	}
}

// acceptPause is how long to wait when the process has no file left.
const acceptPause = 50 * time.Millisecond

// accept takes streams in until the listener is closed.
func (c *closed) accept(ctx context.Context, parts *sync.WaitGroup) {
	for {
		conn, err := c.cfg.TCP.Accept()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		default:
			select {
			case <-ctx.Done():
				return
			case <-time.After(acceptPause):
				continue
			}
		}
		if !c.enter(conn) {
			conn.Close()
			continue
		}
		parts.Go(func() {
			defer c.leave(conn)
			c.panics.Guard("stream", func() { c.serveStream(conn, parts) })
		})
	}
}

// serveStream finds out what a stream is, and serves it until its end.
func (c *closed) serveStream(conn net.Conn, parts *sync.WaitGroup) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(streamBuffer) // best effort
	}
	refuse := func(why refusalReason) { c.count.refused[why].Add(1) }
	if conn.SetDeadline(time.Now().Add(proveTime)) != nil {
		return
	}
	in := bufio.NewReaderSize(conn, readBuffer)
	const cookies = 10
	if first, err := in.Peek(1); err != nil {
		refuse(refusedSilent)
		return
	} else if first[0] == 0x16 && c.cfg.TLS != nil {
		secure := tls.Server(peeked{conn, in}, c.cfg.TLS)
		if secure.Handshake() != nil {
			refuse(refusedTLS)
			return
		}
		conn, in = secure, bufio.NewReaderSize(secure, readBuffer)
	}
	head, err := in.Peek(cookies)
	switch {
	case err != nil:
		refuse(refusedSilent)
	case binary.BigEndian.Uint32(head[4:]) == cookie:
		c.serveTURN(conn, in, parts)
	case binary.BigEndian.Uint32(head[6:]) == cookie:
		c.serveICE(conn, in, refuse)
	default:
		refuse(refusedForeign)
	}
}

// cookie is STUN's (RFC 8489 section 5).
const cookie = 0x2112a442

// peeked is a connection of which something was read already.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.in.Read(b) }

// turnStreams hands streams to the TURN server.
type turnStreams struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *turnStreams) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *turnStreams) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *turnStreams) Addr() net.Addr { return l.addr }

// serveTURN gives a stream to the server and waits for its end.
func (c *closed) serveTURN(conn net.Conn, in *bufio.Reader, parts *sync.WaitGroup) {
	t := &turnStream{
		Conn: conn, c: c, in: in, out: newOutbox(), client: clientOf(conn.RemoteAddr()), ended: make(chan struct{}),
		until: time.Now().Add(allocateTime),
	}
	if conn.SetDeadline(time.Time{}) != nil {
		return
	}
	parts.Go(func() { t.out.run(conn) })
	defer func() { c.count.late.Add(t.out.lost()) }()
	select {
	case c.streams.conns <- t:
		<-t.ended
	case <-c.streams.done:
		t.Close()
	}
}

// turnStream is a stream as the server reads and writes it: each Read is one frame
// that the gate let pass.
type turnStream struct {
	net.Conn
	// Immutable.
	c      *closed
	out    *outbox
	client turngate.Client
	until  time.Time // to allocate
	ended  chan struct{}
	once   sync.Once

	// Owned by Read.
	in  *bufio.Reader
	buf [turngate.MaxMessage]byte
}

var errFrame = errors.New("frame is too long")

// Read waits for a frame that the server may see.
func (t *turnStream) Read(p []byte) (int, error) {
	for {
		n, err := t.frame()
		if err != nil {
			return 0, err
		}
		switch v := t.c.take(t.client, t.buf[:n]); {
		case v.Reply != nil:
			t.out.put(nil, v.Reply)
		case v.Drop == turngate.DropMalformed:
			return 0, errFrame // a stream out of step does not find back
		case v.Pass != nil:
			return copy(p, v.Pass), nil
		}
	}
}

// frame reads one: a STUN message, or ChannelData padded to four bytes.
func (t *turnStream) frame() (int, error) {
	until := time.Now().Add(turnIdle)
	if !t.c.allocates(t.client) {
		until = t.until
	}
	if err := t.Conn.SetReadDeadline(until); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(t.in, t.buf[:4]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(t.buf[2:]))
	if t.buf[0] < 0x40 {
		n += 20
	} else {
		n = 4 + (n+3)&^3
	}
	if n > len(t.buf) || n < 4 {
		return 0, errFrame
	}
	_, err := io.ReadFull(t.in, t.buf[4:n])
	return n, err
}

func (c *closed) allocates(client turngate.Client) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gate.Allocates(client)
}

// Write never waits.
func (t *turnStream) Write(p []byte) (int, error) {
	if !t.c.isStale(p) {
		t.out.put(nil, p)
	}
	return len(p), nil
}

// Close ends both directions.
func (t *turnStream) Close() error {
	t.once.Do(func() { close(t.ended) })
	t.out.close()
	return t.Conn.Close()
}

// serveICE carries an ICE-TCP stream to the engine: each frame is a datagram of a
// UDP socket of its own, so that to the engine the client is one like others.
func (c *closed) serveICE(conn net.Conn, in *bufio.Reader, refuse func(refusalReason)) {
	var buf [sfu.MaxDatagram]byte
	n, err := readFrame(in, buf[:])
	if err != nil {
		refuse(refusedSilent)
		return
	}
	ufrag, ok := turngate.Ufrag(buf[:n])
	c.mu.Lock()
	to, known := c.ways[ufrag]
	held := known && c.bridgesLocked(to.session) < maxBridges
	b := &bridge{conn: conn}
	if held {
		held = c.holdLocked(to.session, b)
	}
	c.mu.Unlock()
	switch {
	case !ok || !known:
		refuse(refusedUfrag)
		return
	case !held:
		refuse(refusedBridges)
		return
	}
	defer c.release(to.session, b)
	here, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.port)))
	if err != nil {
		refuse(refusedFull) // no file or port is left
		return
	}
	c.count.bridges.Add(1)
	defer c.count.bridges.Add(-1)
	out := newOutbox()
	var back sync.WaitGroup
	back.Go(func() { out.run(conn) })
	back.Go(func() { c.fromEngine(here, out) })
	defer back.Wait()
	defer here.Close()
	defer out.close()
	defer func() { c.count.late.Add(out.lost()) }()
	for {
		c.count.iceIn.Add(uint64(n))
		_, _ = here.Write(buf[:n]) // a datagram may be lost
		if conn.SetReadDeadline(time.Now().Add(iceIdle)) != nil {
			return
		}
		if n, err = readFrame(in, buf[:]); err != nil {
			return
		}
	}
}

// fromEngine carries the engine's datagrams to the client.
func (c *closed) fromEngine(here *net.UDPConn, out *outbox) {
	var buf [sfu.MaxDatagram]byte
	var head [2]byte
	for {
		n, err := here.Read(buf[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error: the next engine is on its way
		}
		binary.BigEndian.PutUint16(head[:], uint16(n))
		out.put(head[:], buf[:n])
		c.count.iceOut.Add(uint64(n))
	}
}

// readFrame reads a frame of RFC 4571. An empty one is skipped.
func readFrame(in *bufio.Reader, buf []byte) (int, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return 0, err
		}
		n := int(binary.BigEndian.Uint16(head[:]))
		if n == 0 {
			continue
		}
		if n > len(buf) {
			return 0, errFrame
		}
		_, err := io.ReadFull(in, buf[:n])
		return n, err
	}
}

// bridge is what ends an ICE-TCP stream with its session.
type bridge struct{ conn net.Conn }

func (b *bridge) Close() error { return b.conn.Close() }

func (c *closed) bridgesLocked(id sfu.SessionID) int {
	n := 0
	for each := range c.users[id] {
		if _, is := each.(*bridge); is {
			n++
		}
	}
	return n
}
