package oneport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// handshakeRecord is the first byte of every TLS connection.
const handshakeRecord = 0x16

// Config turns a Splitter. The zero value works.
type Config struct {
	// SniffTimeout is how long a client may take for its first byte
	// (default 5 s). Browsers open connections ahead of need: these are closed
	// and opened again when they are.
	SniffTimeout time.Duration
	// Pending bounds the connections without a first byte (default 1,024); one
	// costs a goroutine and a file descriptor.
	Pending int
	// PendingPerPrefix bounds them for one source, /32 or /64 (default 128: a
	// whole LAN party behind one address may arrive at once).
	PendingPerPrefix int
	// Metrics takes the counters; nil keeps them private.
	Metrics prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.SniffTimeout == 0 {
		c.SniffTimeout = 5 * time.Second
	}
	if c.Pending == 0 {
		c.Pending = 1024
	}
	if c.PendingPerPrefix == 0 {
		c.PendingPerPrefix = 128
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return c
}

// Splitter deals the connections of one listener out to two.
type Splitter struct {
	// Immutable.
	from    net.Listener
	cfg     Config
	plain   *side
	secure  *side
	refused *prometheus.CounterVec

	mu sync.Mutex
	// Guarded by mu.
	pending map[netip.Prefix]int
	total   int
	open    map[net.Conn]struct{} // the pending ones, closed when Run ends
}

// New splits l. Nothing is accepted before Run.
func New(l net.Listener, cfg Config) (*Splitter, error) {
	s := &Splitter{
		from:    l,
		cfg:     cfg.withDefaults(),
		plain:   newSide(l.Addr()),
		secure:  newSide(l.Addr()),
		pending: make(map[netip.Prefix]int),
		open:    make(map[net.Conn]struct{}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_connections_refused_total",
			Help: "TCP connections closed before their first request, by reason.",
		}, []string{"reason"}),
	}
	if err := s.cfg.Metrics.Register(s.refused); err != nil {
		return nil, fmt.Errorf("register metrics of the shared port: %w", err)
	}
	return s, nil
}

// Plain gives the connections that do not begin as TLS, Secure those that do,
// still encrypted.
func (s *Splitter) Plain() net.Listener  { return s.plain }
func (s *Splitter) Secure() net.Listener { return s.secure }

// Run accepts until ctx ends or the listener fails. It closes the listener and
// both sides; connections already handed out live on.
func (s *Splitter) Run(ctx context.Context) error {
	var sniffers sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { s.from.Close() })
	defer func() {
		stop()
		s.from.Close()
		s.plain.Close()
		s.secure.Close()
		s.mu.Lock()
		for c := range s.open {
			c.Close()
		}
		s.mu.Unlock()
		sniffers.Wait()
	}()
	const longestPause = time.Second
	pause := 5 * time.Millisecond
	for {
		c, err := s.from.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept: %w", err)
			}
			// Out of file descriptors, or a connection that died in the queue:
			// the listener itself is sound.
			s.refused.WithLabelValues("accept").Inc()
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, longestPause)
			continue
		}
		pause = 5 * time.Millisecond
		prefix := prefixOf(c.RemoteAddr())
		if why := s.admit(prefix, c); why != "" {
			s.refused.WithLabelValues(why).Inc()
			c.Close()
			continue
		}
		sniffers.Go(func() { s.sniff(prefix, c) })
	}
}

// sniff reads the first byte of c and gives c to the side it belongs to.
func (s *Splitter) sniff(prefix netip.Prefix, c net.Conn) {
	first := [1]byte{}
	c.SetReadDeadline(time.Now().Add(s.cfg.SniffTimeout))
	_, err := c.Read(first[:])
	c.SetReadDeadline(time.Time{})
	s.release(prefix, c)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			s.refused.WithLabelValues("silent").Inc()
		}
		c.Close()
		return
	}
	to := s.plain
	if first[0] == handshakeRecord {
		to = s.secure
	}
	if !to.give(&sniffed{Conn: c, first: first[:]}) {
		c.Close()
	}
}

func (s *Splitter) admit(prefix netip.Prefix, c net.Conn) (whyNot string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.total >= s.cfg.Pending:
		return "pending"
	case s.pending[prefix] >= s.cfg.PendingPerPrefix:
		return "pending_prefix"
	}
	s.total++
	s.pending[prefix]++
	s.open[c] = struct{}{}
	return ""
}

func (s *Splitter) release(prefix netip.Prefix, c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.pending[prefix]--; s.pending[prefix] == 0 {
		delete(s.pending, prefix)
	}
	delete(s.open, c)
}

// prefixOf is the unit in which sources are counted: an IPv6 client owns a /64.
func prefixOf(a net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{} // not TCP: all such sources are one
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// side is one of the two listeners. Sniffers wait at it with their connection;
// their number is bounded by Config.Pending.
type side struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newSide(addr net.Addr) *side {
	return &side{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *side) give(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.closed:
		return false
	}
}

func (l *side) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *side) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *side) Addr() net.Addr { return l.addr }

// sniffed gives its first byte back before those that follow. It is read by one
// goroutine at a time, as every net.Conn under http is.
type sniffed struct {
	net.Conn
	first []byte
}

func (c *sniffed) Read(b []byte) (int, error) {
	if len(c.first) == 0 || len(b) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	c.first = c.first[n:]
	return n, nil
}
