package signalingserver

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/lxzan/gws"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/signaling"
	"voicefleet/signaling/internal/session"
	"voicefleet/signaling/internal/silence"
)

// Nodes is how a server reaches the agents of nodes.
type Nodes interface {
	Open(ctx context.Context, node edgeagent.NodeID, req edgeagent.OpenRequest) (edgeagent.SessionReply, error)
	Resume(ctx context.Context, node edgeagent.NodeID, req edgeagent.ResumeRequest) (edgeagent.SessionReply, error)
	Negotiate(ctx context.Context, node edgeagent.NodeID, req edgeagent.NegotiateRequest) (edgeagent.NegotiateReply, error)
	Update(ctx context.Context, node edgeagent.NodeID, req edgeagent.UpdateRequest) error
	Close(ctx context.Context, node edgeagent.NodeID, req edgeagent.CloseRequest) error
	// SubscribeCall calls on with each event of the call, in order, one at a
	// time, until cancel is called.
	SubscribeCall(call sfu.CallID, on func(edgeagent.CallEvent)) (cancel func(), err error)
}

// Config of a Server. Nodes and Keys are required.
type Config struct {
	Nodes Nodes
	// Keys gives the public key of a grant key id, or nil.
	Keys func(kid string) ed25519.PublicKey
	// Announce, if set, makes the instance known while it runs: it blocks until
	// its context ends.
	Announce func(ctx context.Context) error
	// Silent, if set, is told how many clients get nothing from a node any more,
	// at most four times a second for each node, and at once when half of them have
	// come to hear nothing. It must not block.
	Silent func(edgeagent.Silence)

	// Heartbeat is the interval asked of clients (default 10 s). Shorter finds
	// dead connections sooner and costs frames: 120 a minute are allowed.
	Heartbeat time.Duration
	// Connections bounds the WebSockets served (default 20,000; one costs
	// about 30 KiB).
	Connections int
	// Strangers bounds those of them that are not authenticated yet (default
	// 1,024; one costs at most 16 KiB beyond that), and StrangersPerAddress
	// those from one IPv4 address or IPv6 /64 (default 64: as many follow their calls
	// at once who are behind one address; loopback is free).
	Strangers, StrangersPerAddress int

	Build   string // version told to clients that ask (default "voicefleet")
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

func (c *Config) validate() error {
	if c.Nodes == nil || c.Keys == nil {
		return errors.New("signaling: Nodes and Keys are required")
	}
	if c.Heartbeat < 0 || c.Connections < 0 || c.Strangers < 0 || c.StrangersPerAddress < 0 {
		return errors.New("signaling: limits cannot be negative")
	}
	fill := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	fill(&c.Connections, 20_000)
	fill(&c.Strangers, 1024)
	fill(&c.StrangersPerAddress, 64)
	if c.Heartbeat == 0 {
		c.Heartbeat = signaling.DefaultHeartbeatInterval
	}
	if c.Build == "" {
		c.Build = "voicefleet"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Server serves voice WebSockets. It is an http.Handler.
type Server struct {
	// Immutable.
	nodes    Nodes
	announce func(context.Context) error
	settings session.Settings
	feeds    *feeds
	door     *door
	upgrader *gws.Upgrader
	metrics  *metrics
	log      *slog.Logger
	ctx      context.Context // of requests to nodes
	cancel   context.CancelFunc
	stopping chan struct{}
	silent   func(edgeagent.Silence) // nil: nobody wants to know

	wg sync.WaitGroup // readers, writers, owners, requests

	mu sync.Mutex
	// Guarded by mu.
	stopped bool
	held    map[sfu.SessionID]*owner

	silence struct {
		sync.Mutex
		silence.Tally // guarded by it
	}
}

// New makes a Server. It serves from then on and until Run ends.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("signaling: register metrics: %w", err)
	}
	s := &Server{
		nodes:    cfg.Nodes,
		announce: cfg.Announce,
		settings: session.Settings{Heartbeat: cfg.Heartbeat, Keys: cfg.Keys, Build: cfg.Build},
		feeds:    &feeds{nodes: cfg.Nodes, lost: m.lost.Inc, calls: make(map[sfu.CallID]*feed)},
		door: &door{
			connections: cfg.Connections, strangers: cfg.Strangers, perPrefix: cfg.StrangersPerAddress,
			prefixes: make(map[netip.Addr]int),
		},
		metrics:  m,
		log:      cfg.Log,
		stopping: make(chan struct{}),
		silent:   cfg.Silent,
		held:     make(map[sfu.SessionID]*owner),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	// No compression: a voice message is small, and state per connection is
	// not for strangers.
	s.upgrader = gws.NewUpgrader(events{}, &gws.ServerOption{ReadMaxPayloadSize: signaling.MaxMessage})
	return s, nil
}

// Run serves until ctx ends, then closes all connections with CloseCrashed, on
// which clients resume elsewhere, and waits for them to end. Sessions go on at
// their nodes.
func (s *Server) Run(ctx context.Context) error {
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		s.countSilence(ctx)
	}()
	announced := make(chan error, 1)
	if s.announce != nil {
		go func() { announced <- s.announce(ctx) }()
	} else {
		announced <- nil
	}
	var err error
	select {
	case <-ctx.Done():
		err = <-announced
	case err = <-announced:
		if err == nil {
			<-ctx.Done()
		}
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	close(s.stopping)
	s.wg.Wait()
	s.cancel()
	<-counted
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("signaling: announce: %w", err)
	}
	return nil
}

// report takes what a client says of its media.
func (s *Server) report(r *session.Report) {
	if s.silent == nil {
		return
	}
	s.silence.Lock()
	count := s.silence.Report(time.Now(), r.Node, r.Session, r.Silent)
	s.silence.Unlock()
	if count != nil {
		s.silent(*count)
	}
}

// countSilence passes on what had to wait, until ctx ends.
func (s *Server) countSilence(ctx context.Context) {
	if s.silent == nil {
		return
	}
	tick := time.NewTicker(silence.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.silence.Lock()
			due := s.silence.Due(now)
			s.silence.Unlock()
			for _, count := range due {
				s.silent(count)
			}
		}
	}
}

// ServeHTTP upgrades requests for "/" with an optional ?v=.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" && r.URL.Path != "" {
		http.NotFound(w, r)
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a voice WebSocket", http.StatusUpgradeRequired)
		return
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		remote = netip.AddrPort{} // a test server or Unix socket: not counted
	}
	c := &conn{
		srv: s, addr: prefix(remote.Addr()),
		in:      make(chan frame, inboxFrames),
		closing: make(chan struct{}),
		gone:    make(chan struct{}),
		written: make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
	if !s.door.enter(c.addr) {
		s.metrics.refused.WithLabelValues("full").Inc()
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many connections", http.StatusTooManyRequests)
		return
	}
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		s.door.exit(c)
		s.metrics.refused.WithLabelValues("stopping").Inc()
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	s.wg.Add(3)
	s.mu.Unlock()
	if err := s.upgrade(c, w, r); err != nil {
		s.wg.Add(-3)
		s.door.exit(c)
		s.metrics.refused.WithLabelValues("handshake").Inc()
		return
	}
	s.metrics.connections.Inc()
	go func() {
		defer s.wg.Done()
		c.read()
		s.door.exit(c)
		s.metrics.connections.Dec()
	}()
	go func() {
		defer s.wg.Done()
		c.write()
	}()
	version, ok := signaling.ParseVersion(r.URL.Query().Get("v"))
	if !ok {
		c.close(signaling.CloseUnknownProtocol)
		s.wg.Done()
		return
	}
	o := &owner{
		srv: s, conn: c,
		attach:  make(chan attachment),
		replies: make(chan session.In, maxReplies),
		done:    make(chan struct{}),
		box:     newMailbox(),
		timer:   time.NewTimer(time.Hour),
	}
	o.ctx, o.stop = context.WithCancel(s.ctx)
	go func() {
		defer s.wg.Done()
		o.run(c, version)
	}()
}

// upgrade answers the handshake. After it the goroutine of the request is free:
// its buffers would be kept for as long as the connection.
func (s *Server) upgrade(c *conn, w http.ResponseWriter, r *http.Request) error {
	tcp, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no WebSocket over this connection", http.StatusHTTPVersionNotSupported)
		return fmt.Errorf("take over connection: %w", err)
	}
	if buffered.Reader.Buffered() > 0 { // RFC 6455 section 4.1: the client waits for the answer
		_ = tcp.Close()
		return errors.New("data before the handshake was answered")
	}
	c.tcp = &guard{Conn: tcp, refused: c.refused}
	ws, err := s.upgrader.UpgradeFromConn(c.tcp, bufio.NewReaderSize(c.tcp, 4<<10), r)
	if err != nil {
		_ = tcp.Close()
		return fmt.Errorf("upgrade: %w", err)
	}
	c.ws = ws
	ws.Session().Store("conn", c)
	return nil
}

// holder is the owner of a session held here, or nil.
func (s *Server) holder(id sfu.SessionID) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[id]
}

func (s *Server) hold(o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[o.held] = o
	s.metrics.sessions.Set(float64(len(s.held)))
}

func (s *Server) release(o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.held != "" && s.held[o.held] == o {
		delete(s.held, o.held)
		s.metrics.sessions.Set(float64(len(s.held)))
	}
}
