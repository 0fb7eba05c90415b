package edgeagentserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/edgeagent/internal/turngate"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// Closed are the ways in for clients whose network lets no UDP through: TURN (RFC
// 8656) by UDP, TCP and TLS, and ICE-TCP (RFC 6544), all on one port. The agent has
// them and not the engine, so that they live on when an engine is replaced: what
// comes out of them reaches the engine as datagrams of this machine.
type Closed struct {
	// UDP and TCP are open on the same port; the Server closes them.
	UDP *net.UDPConn
	TCP net.Listener
	// TLS has the certificate for turns: URLs; nil: none are named. Host is the
	// name in them; empty: the first advertised address.
	TLS  *tls.Config
	Host string
	// Allocations bounds those of TURN (default 2,000). One costs a goroutine, a
	// port and some 10 KiB.
	Allocations int
}

// tcp is the port of ICE-TCP, 0 without.
func (c *Closed) tcp() uint16 {
	if c == nil || c.TCP == nil {
		return 0
	}
	return clientOf(c.TCP.Addr()).Addr.Port()
}

const (
	defaultAllocations = 2000
	// nonceEvery is how often the server behind the gate is asked for a nonce; its
	// nonces live for an hour.
	nonceEvery = 20 * time.Minute
	// nonceTime is how long it may take.
	nonceTime = time.Second
	// inboundMTU is room for a datagram with the server's longer nonce.
	inboundMTU = 2048
)

// closed is a Closed at work.
type closed struct {
	// Immutable.
	cfg     Closed
	port    uint16
	targets *targets
	server  *turn.Server
	udp     *turnUDP
	streams *turnStreams
	probe   *probe
	panics  *telemetry.Panics
	stale   chan struct{} // holds one: the server wants to be asked for a nonce

	count closedCount

	mu sync.Mutex
	// Guarded by mu.
	gate  *turngate.Gate
	users map[sfu.SessionID]map[io.Closer]struct{} // what ends with a session
	ways  map[string]way                           // ICE-TCP: by ufrag
	ufrag map[sfu.SessionID]string
	conns conns
	ended bool
}

// way is where the session of a ufrag is.
type way struct {
	session sfu.SessionID
	port    uint16
}

// closedCount is what is counted without the lock.
type closedCount struct {
	turnIn, turnOut, iceIn, iceOut atomic.Uint64 // bytes: from clients, to clients
	sendDrops                      atomic.Uint64 // of relays, for want of a peer
	strangers                      atomic.Uint64 // datagrams at relays that are of no peer
	late                           atomic.Uint64 // frames dropped for slow readers
	bridges                        atomic.Int64
	refused                        [refusals]atomic.Uint64
}

func newClosed(cfg Closed, node edgeagent.NodeID, panics *telemetry.Panics) (*closed, error) {
	if cfg.UDP == nil || cfg.TCP == nil {
		return nil, errors.New("agent: Closed wants a UDP and a TCP socket")
	}
	if cfg.Allocations == 0 {
		cfg.Allocations = defaultAllocations
	}
	port := cfg.UDP.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	c := &closed{
		cfg: cfg, port: port, targets: newTargets(node, port), panics: panics,
		stale: make(chan struct{}, 1),
		users: make(map[sfu.SessionID]map[io.Closer]struct{}), ways: make(map[string]way), ufrag: make(map[sfu.SessionID]string),
		conns: conns{prefixes: make(map[uint64]int), open: make(map[net.Conn]struct{})},
	}
	c.gate = turngate.New(time.Now(), turngate.Config{Permits: c.targets.permits, Allocations: cfg.Allocations})
	var err error
	if c.udp, err = newTurnUDP(c, cfg.UDP); err != nil {
		return nil, err
	}
	c.streams = &turnStreams{addr: cfg.TCP.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	c.probe = newProbe()
	c.server, err = turn.NewServer(turn.ServerConfig{
		Realm: turngate.Realm,
		PacketConnConfigs: []turn.PacketConnConfig{
			{PacketConn: c.udp, RelayAddressGenerator: relays{c}, PermissionHandler: c.permits},
			{PacketConn: c.probe, PermissionHandler: c.permits},
		},
		ListenerConfigs: []turn.ListenerConfig{{Listener: c.streams, RelayAddressGenerator: relays{c}, PermissionHandler: c.permits}},
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return string(c.gate.Session(a.Username)), c.gate.Key(a.Username), true // the gate has checked it
		},
		QuotaHandler: func(user, _ string, _ net.Addr) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.gate.MayAllocate(sfu.SessionID(user))
		},
		EventHandler: turn.EventHandler{
			OnAllocationCreated: func(src, _ net.Addr, _, user, _ string, _ net.Addr, _ int) { c.allocated(src, sfu.SessionID(user)) },
			OnAllocationDeleted: func(src, _ net.Addr, _, _, _ string) { c.released(src) },
		},
		LoggerFactory: silent{},
		InboundMTU:    inboundMTU,
	})
	if err != nil {
		return nil, fmt.Errorf("start TURN server: %w", err)
	}
	return c, nil
}

// run serves until ctx ends.
func (c *closed) run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { c.learn(ctx) })
	parts.Go(func() { c.accept(ctx, &parts) })
	<-ctx.Done()
	c.cfg.TCP.Close()
	_ = c.server.Close() // closes its sockets and with them all that it relays
	c.mu.Lock()
	c.ended = true
	for conn := range c.conns.open {
		conn.Close()
	}
	var all []io.Closer
	for _, list := range c.users {
		for each := range list {
			all = append(all, each)
		}
	}
	c.mu.Unlock()
	for _, each := range all {
		each.Close()
	}
	parts.Wait()
}

// learn keeps a nonce of the server at the gate.
func (c *closed) learn(ctx context.Context) {
	again := time.NewTicker(nonceEvery)
	defer again.Stop()
	for {
		if answer, ok := c.probe.ask(turngate.Probe()); ok {
			c.mu.Lock()
			c.gate.Learn(answer)
			c.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-c.stale:
		}
	}
}

// isStale notes an answer of the server that must not reach a client: it would
// tell a nonce of the server.
func (c *closed) isStale(d []byte) bool {
	if len(d) < 2 || d[0]&0xc1 != 1 || !turngate.Stale(d) {
		return false
	}
	select {
	case c.stale <- struct{}{}:
	default:
	}
	return true
}

// door takes in what the core says of a session.
func (c *closed) door(d custody.Door) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.ufrag[d.Session]; d.Gone || old != d.Ufrag {
		delete(c.ways, old)
		delete(c.ufrag, d.Session)
	}
	if !d.Gone {
		c.gate.Live(d.Session)
		if d.Ufrag != "" {
			c.ways[d.Ufrag], c.ufrag[d.Session] = way{d.Session, d.Port}, d.Ufrag
		}
		return
	}
	c.gate.Ended(d.Session)
	for each := range c.users[d.Session] {
		each.Close() // none of them waits for anything, or calls back
	}
	delete(c.users, d.Session)
}

// holdLocked notes what ends with a session; false: it has ended.
func (c *closed) holdLocked(id sfu.SessionID, what io.Closer) bool {
	if c.ended || !c.gate.Lives(id) {
		return false
	}
	if c.users[id] == nil {
		c.users[id] = make(map[io.Closer]struct{})
	}
	c.users[id][what] = struct{}{}
	return true
}

func (c *closed) release(id sfu.SessionID, what io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.users[id], what)
	if len(c.users[id]) == 0 {
		delete(c.users, id)
	}
}

// servers are the ways that a session's client is told of.
func (c *closed) servers(now time.Time, id sfu.SessionID, addrs []netip.Addr) []edgeagent.RelayServer {
	var urls []string
	port := strconv.Itoa(int(c.port))
	for _, family := range []bool{false, true} { // one of each: more lead to the same machine
		i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is6() == family })
		if i < 0 {
			continue
		}
		host := net.JoinHostPort(addrs[i].Unmap().String(), port)
		urls = append(urls, "turn:"+host+"?transport=udp", "turn:"+host+"?transport=tcp")
	}
	if len(urls) == 0 {
		return nil
	}
	if c.cfg.TLS != nil {
		host := c.cfg.Host
		if host == "" {
			host = addrs[0].Unmap().String()
		}
		urls = append(urls, "turns:"+net.JoinHostPort(host, port)+"?transport=tcp")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	user, password := c.gate.Credentials(now, id)
	return []edgeagent.RelayServer{{URLs: urls, Username: user, Credential: password}}
}

func (c *closed) permits(_ net.Addr, ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && c.targets.permits(netip.AddrPortFrom(a.Unmap(), 0))
}

func (c *closed) take(client turngate.Client, d []byte) turngate.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gate.Take(time.Now(), client, d)
}

func (c *closed) allocated(src net.Addr, id sfu.SessionID) {
	client := clientOf(src)
	c.mu.Lock()
	c.gate.Allocated(client, id)
	c.mu.Unlock()
	if !client.Stream {
		c.udp.keep(client.Addr)
	}
}

func (c *closed) released(src net.Addr) {
	client := clientOf(src)
	c.mu.Lock()
	c.gate.Released(client)
	c.mu.Unlock()
	if !client.Stream {
		c.udp.forget(client.Addr)
	}
}

// clientOf is the client at an address that the server was given by us.
func clientOf(a net.Addr) turngate.Client {
	switch a := a.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return turngate.Client{Stream: true, Addr: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
	case *net.UDPAddr:
		ap := a.AddrPort()
		return turngate.Client{Addr: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
	}
	return turngate.Client{}
}

// relays makes the relayed addresses of allocations.
type relays struct{ c *closed }

// Validate has nothing to find fault with.
func (relays) Validate() error { return nil }

var (
	errNoTCPRelay = errors.New("relaying by TCP is not served")
	errNoRoom     = errors.New("session has ended or has its allocations")
	errFamily     = errors.New("node has no address of the family")
)

// AllocateListener and AllocateConn are for RFC 6062, which the gate refuses.
func (relays) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNoTCPRelay
}
func (relays) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errNoTCPRelay }

// AllocatePacketConn opens the socket of an allocation. Clients are told an address
// of the node with its port; nothing but the fleet's media sockets is heard there.
func (r relays) AllocatePacketConn(cfg turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	id := sfu.SessionID(cfg.UserID)
	told, ok := r.c.targets.address(cfg.Network == "udp6")
	if !ok {
		return nil, nil, errFamily
	}
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, nil, fmt.Errorf("open relay: %w", err)
	}
	relay := &relay{c: r.c, session: id, conn: conn}
	r.c.mu.Lock()
	ok = r.c.gate.MayAllocate(id) && r.c.holdLocked(id, relay)
	r.c.mu.Unlock()
	if !ok {
		conn.Close()
		return nil, nil, errNoRoom
	}
	port := conn.LocalAddr().(*net.UDPAddr).Port
	return relay, net.UDPAddrFromAddrPort(netip.AddrPortFrom(told, uint16(port))), nil
}

// relay is the socket of one allocation, which leads to media sockets only.
type relay struct {
	// Immutable.
	c       *closed
	session sfu.SessionID
	conn    *net.UDPConn

	// Owned by ReadFrom.
	last     netip.AddrPort
	lastAddr *net.UDPAddr
}

// ReadFrom waits for a datagram of a media socket.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(p)
		if errors.Is(err, net.ErrClosed) {
			r.c.release(r.session, r)
			return 0, nil, err
		}
		if err != nil {
			continue // an ICMP error, told once
		}
		name, ok := r.c.targets.name(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		if !ok {
			r.c.count.strangers.Add(1)
			continue
		}
		if name != r.last {
			r.last, r.lastAddr = name, net.UDPAddrFromAddrPort(name)
		}
		r.c.count.turnOut.Add(uint64(n))
		return n, r.lastAddr, nil
	}
}

// WriteTo sends to a media socket; what is for anybody else is dropped.
func (r *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	at, ok := r.c.targets.reach(clientOf(to).Addr)
	if !ok {
		r.c.count.sendDrops.Add(1)
		return len(p), nil
	}
	r.c.count.turnIn.Add(uint64(len(p)))
	_, _ = r.conn.WriteToUDPAddrPort(p, at) // a datagram may be lost
	return len(p), nil
}

// Close ends the allocation: the server notices by ReadFrom.
func (r *relay) Close() error { return r.conn.Close() }

func (r *relay) LocalAddr() net.Addr                { return r.conn.LocalAddr() }
func (r *relay) SetDeadline(t time.Time) error      { return r.conn.SetDeadline(t) }
func (r *relay) SetReadDeadline(t time.Time) error  { return r.conn.SetReadDeadline(t) }
func (r *relay) SetWriteDeadline(t time.Time) error { return r.conn.SetWriteDeadline(t) }

// probe is a wire to the server on which it is asked for its nonce.
type probe struct {
	in, out chan []byte
	done    chan struct{}
	once    sync.Once
}

func newProbe() *probe {
	return &probe{in: make(chan []byte), out: make(chan []byte, 1), done: make(chan struct{})}
}

var probeAddr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

// ask is one question and its answer.
func (p *probe) ask(d []byte) ([]byte, bool) {
	patience := time.NewTimer(nonceTime)
	defer patience.Stop()
	select {
	case p.in <- d:
	case <-p.done:
		return nil, false
	}
	select {
	case answer := <-p.out:
		return answer, true
	case <-patience.C:
	case <-p.done:
	}
	return nil, false
}

func (p *probe) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-p.in:
		return copy(b, d), probeAddr, nil
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

func (p *probe) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case p.out <- append([]byte(nil), b...):
	default:
	}
	return len(b), nil
}

func (p *probe) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *probe) LocalAddr() net.Addr              { return probeAddr }
func (p *probe) SetDeadline(time.Time) error      { return nil }
func (p *probe) SetReadDeadline(time.Time) error  { return nil }
func (p *probe) SetWriteDeadline(time.Time) error { return nil }

// silent is a logger that says nothing: the server would log for each packet that
// it does not like. What is refused is counted.
type silent struct{}

// NewLogger is silent, too.
func (silent) NewLogger(string) logging.LeveledLogger { return silent{} }

func (silent) Trace(string)          {}
func (silent) Tracef(string, ...any) {}
func (silent) Debug(string)          {}
func (silent) Debugf(string, ...any) {}
func (silent) Info(string)           {}
func (silent) Infof(string, ...any)  {}
func (silent) Warn(string)           {}
func (silent) Warnf(string, ...any)  {}
func (silent) Error(string)          {}
func (silent) Errorf(string, ...any) {}
