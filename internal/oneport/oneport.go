package oneport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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
	// Pending bounds the connections whose first byte is read for (default 1,024);
	// one costs a goroutine and a file descriptor. PendingPerPrefix bounds them for
	// one source, /32 or /64 (default 128).
	Pending          int
	PendingPerPrefix int
	// Waiting bounds the connections that wait for a place among the pending ones
	// (default 4,096), WaitingPerPrefix those of one source (default 2,048:
	// everybody behind one router comes back at once). One costs a file descriptor.
	// What comes beyond is closed and counted.
	Waiting          int
	WaitingPerPrefix int
	// PressedTimeout is how long a pending connection may stay silent while others
	// wait for its place (default 1 s, never more than SniffTimeout).
	PressedTimeout time.Duration
	// Metrics takes the counters; nil keeps them private.
	Metrics prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.SniffTimeout == 0 {
		c.SniffTimeout = 5 * time.Second
	}
	if c.PressedTimeout == 0 {
		c.PressedTimeout = time.Second
	}
	c.PressedTimeout = min(c.PressedTimeout, c.SniffTimeout)
	for _, f := range []struct {
		v *int
		d int
	}{{&c.Pending, 1024}, {&c.PendingPerPrefix, 128}, {&c.Waiting, 4096}, {&c.WaitingPerPrefix, 2048}} {
		if *f.v == 0 {
			*f.v = f.d
		}
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
	waiting prometheus.Gauge
	waited  prometheus.Counter

	sniffers sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	sources map[netip.Prefix]*source
	pending int // of all sources
	queued  int
	ended   bool
}

// source are the connections of one prefix that have not said their first byte.
type source struct {
	pending []*candidate // each with a sniffer, oldest first
	pressed int          // so many of them were told to hurry
	waiting []*candidate // oldest first
}

type candidate struct {
	net.Conn
	prefix netip.Prefix
	since  time.Time // when its sniffer began
}

// New splits l. Nothing is accepted before Run.
func New(l net.Listener, cfg Config) (*Splitter, error) {
	s := &Splitter{
		from:    l,
		cfg:     cfg.withDefaults(),
		plain:   newSide(l.Addr()),
		secure:  newSide(l.Addr()),
		sources: make(map[netip.Prefix]*source),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_connections_refused_total",
			Help: "TCP connections closed before their first request, by reason.",
		}, []string{"reason"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "voicefleet_connections_waiting",
			Help: "TCP connections that wait for their first byte to be read.",
		}),
		waited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_connections_waited_total",
			Help: "TCP connections that had to wait for their first byte to be read.",
		}),
	}
	for _, c := range []prometheus.Collector{s.refused, s.waiting, s.waited} {
		if err := s.cfg.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the shared port: %w", err)
		}
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
	stop := context.AfterFunc(ctx, func() { s.from.Close() })
	defer func() {
		stop()
		s.from.Close()
		s.plain.Close()
		s.secure.Close()
		s.end()
		s.sniffers.Wait()
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
		if why := s.admit(&candidate{Conn: c, prefix: prefixOf(c.RemoteAddr())}); why != "" {
			s.refused.WithLabelValues(why).Inc()
			c.Close()
		}
	}
}

// sniff reads the first byte of c and gives c to the side it belongs to. Its read
// deadline was set with its place.
func (s *Splitter) sniff(c *candidate) {
	first := [1]byte{}
	_, err := c.Read(first[:])
	s.release(c) // from here on nobody else moves the deadline
	c.SetReadDeadline(time.Time{})
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
	if !to.give(&sniffed{Conn: c.Conn, first: first[:]}) {
		c.Close()
	}
}

// admit gives c a place or lets it wait for one.
func (s *Splitter) admit(c *candidate) (whyNot string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.sources[c.prefix]
	if from == nil {
		from = &source{}
		s.sources[c.prefix] = from
	}
	switch {
	case s.pending < s.cfg.Pending && len(from.pending) < s.cfg.PendingPerPrefix && len(from.waiting) == 0:
		s.seatLocked(from, c)
		return ""
	case s.queued >= s.cfg.Waiting:
		whyNot = "pending"
	case len(from.waiting) >= s.cfg.WaitingPerPrefix:
		whyNot = "pending_prefix"
	}
	if whyNot != "" {
		s.tidyLocked(c.prefix, from)
		return whyNot
	}
	from.waiting = append(from.waiting, c)
	s.queued++
	s.waiting.Inc()
	s.waited.Inc()
	s.pressLocked(from)
	return ""
}

// seatLocked begins to read for c's first byte.
func (s *Splitter) seatLocked(from *source, c *candidate) {
	c.since = time.Now()
	c.SetReadDeadline(c.since.Add(s.cfg.SniffTimeout))
	from.pending = append(from.pending, c)
	s.pending++
	s.sniffers.Go(func() { s.sniff(c) })
}

// pressLocked makes the oldest silent connection that has not been told so hurry:
// of the same source when that one is full, else of the source that holds the most.
func (s *Splitter) pressLocked(from *source) {
	if len(from.pending) < s.cfg.PendingPerPrefix {
		for _, other := range s.sources {
			if len(other.pending) > len(from.pending) {
				from = other
			}
		}
	}
	if from.pressed < len(from.pending) {
		c := from.pending[from.pressed]
		c.SetReadDeadline(c.since.Add(s.cfg.PressedTimeout))
		from.pressed++
	}
}

// release takes c's place back and gives it to one that waits.
func (s *Splitter) release(c *candidate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.sources[c.prefix]
	i := slices.Index(from.pending, c)
	from.pending = slices.Delete(from.pending, i, i+1)
	if i < from.pressed {
		from.pressed--
	}
	s.pending--
	s.tidyLocked(c.prefix, from)
	if s.ended || s.queued == 0 {
		return
	}
	// The order of the map is random, so no source is first every time.
	for _, next := range s.sources {
		if len(next.waiting) > 0 && len(next.pending) < s.cfg.PendingPerPrefix {
			first := next.waiting[0]
			next.waiting = slices.Delete(next.waiting, 0, 1)
			s.queued--
			s.waiting.Dec()
			s.seatLocked(next, first)
			if len(next.waiting) > 0 {
				s.pressLocked(next)
			}
			return
		}
	}
}

func (s *Splitter) tidyLocked(prefix netip.Prefix, from *source) {
	if len(from.pending) == 0 && len(from.waiting) == 0 {
		delete(s.sources, prefix)
	}
}

// end closes what has not said its first byte.
func (s *Splitter) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, from := range s.sources {
		for _, c := range from.pending {
			c.Close()
		}
		for _, c := range from.waiting {
			c.Close()
		}
		s.waiting.Sub(float64(len(from.waiting)))
		s.queued -= len(from.waiting)
		from.waiting = nil
	}
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

// NetConn is the connection itself, of which the first byte was read.
func (c *sniffed) NetConn() net.Conn { return c.Conn }

func (c *sniffed) Read(b []byte) (int, error) {
	if len(c.first) == 0 || len(b) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	c.first = c.first[n:]
	return n, nil
}
