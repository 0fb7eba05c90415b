package edgeagentserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/edgeagent/internal/linkwire"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// Links carry the calls that span nodes: one QUIC connection per pair of nodes,
// with datagrams (RFC 9221), which belong to the agent so that an engine can die
// and be replaced without anybody noticing on the other nodes.
//
//	engine ── loopback ──► fromEngine ──► ring ──► sender ── QUIC ──► another node
//	engine ◄── loopback ── receiver ◄── QUIC ── another node
//
// What comes from the engine goes to links, what comes from a link to the engine,
// and nothing from a link to a link: there are no loops to find.

const (
	// linkProtocol is the ALPN name of a link.
	linkProtocol = "voicefleet-relay/1"
	// DefaultLinkPacket is how long the packets of a link are, UDP payload: they and
	// their headers fit every path of 1,428 bytes or more (1,448 by IPv6). Path MTU
	// discovery is off: its estimate decides which datagrams are refused, and voice
	// needs no longer ones.
	DefaultLinkPacket = 1400
	// MinLinkPacket is the least that QUIC allows (RFC 9000 section 14).
	MinLinkPacket = 1200
	// aliveEvery is how often each side of a link says something at least; a link
	// from which nothing came for deadAfter is given up and made anew, and one from
	// which nothing came for lostAfter is told as lost. Of ten signs of life one must
	// arrive: with 30 % loss a link is lost by chance once in a day.
	aliveEvery = 40 * time.Millisecond
	deadAfter  = 320 * time.Millisecond
	lostAfter  = 440 * time.Millisecond
	// trustEvery is how often a peer must still be believed: it may have been revoked,
	// or its certificate may have ended.
	trustEvery = time.Second
	// firstPatience is how long a link may take that never was.
	firstPatience = 3 * time.Second
	// dialTime bounds one attempt at one address, dialPause is between rounds.
	dialTime  = 1500 * time.Millisecond
	dialPause = 50 * time.Millisecond
	// redialTime bounds the first attempt to make a link anew, each further one takes
	// twice as long: an agent that was started again hears nothing of an attempt from
	// before, which would be repeated ever more rarely.
	redialTime = 100 * time.Millisecond
	// handshakesPerSecond is how many come in before strangers must show that they
	// are where they say (QUIC's Retry).
	handshakesPerSecond = 50
	// innerBuffer is asked for on the socket towards the engine.
	innerBuffer = 2 << 20
)

// links owns all links of a node.
type links struct {
	// Immutable.
	node    edgeagent.NodeID
	trust   PeerTrust
	pinned  *pinned // trust, if that is its kind
	packet  int
	log     *telemetry.Flood
	metrics *linkMetrics
	inner   *linkSocket // towards the engine
	secret  sfu.RelaySecret
	socket  *linkSocket // of outer
	outer   *quic.Transport
	port    uint16
	changed func() // a link is lost or lossy, or no more

	// calls is how each call is to be carried; the maps in it are not changed.
	calls atomic.Pointer[map[sfu.CallID]*carried]

	running context.Context
	stop    context.CancelFunc
	parts   sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	peers map[edgeagent.NodeID]*link
}

// carried is a call as the links see it. Immutable.
type carried struct {
	epoch uint64
	port  uint16 // of the engine, 0: it does not take the call yet
	links []*link
}

// newLinks opens what links need; conn is lent until close.
func newLinks(cfg *Config, changed func()) (*links, error) {
	if cfg.LinkPacket == 0 {
		cfg.LinkPacket = DefaultLinkPacket
	}
	if cfg.LinkPacket < MinLinkPacket || cfg.LinkPacket > sfu.MaxDatagram {
		return nil, fmt.Errorf("agent: packets of %d bytes on links: want %d to %d", cfg.LinkPacket, MinLinkPacket, sfu.MaxDatagram)
	}
	l := &links{
		node: cfg.Node, trust: cfg.Trust, packet: cfg.LinkPacket, log: telemetry.NewFlood(cfg.Log, 1), metrics: newLinkMetrics(cfg.Metrics),
		changed: changed, peers: make(map[edgeagent.NodeID]*link), port: uint16(cfg.Link.LocalAddr().(*net.UDPAddr).Port),
	}
	if l.trust == nil {
		var err error
		if l.pinned, err = newPinned(cfg.Node); err != nil {
			return nil, err
		}
		l.trust = l.pinned
	}
	rand.Read(l.secret[:]) // never fails: it ends the program instead
	var err error
	if l.socket, err = newLinkSocket(cfg.Link); err != nil {
		return nil, fmt.Errorf("use the socket of links: %w", err)
	}
	inner, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("open socket towards the media engine: %w", err)
	}
	_ = inner.SetReadBuffer(innerBuffer) // the system's limit is good enough
	if l.inner, err = newLinkSocket(inner); err != nil {
		_ = inner.Close()
		return nil, fmt.Errorf("use socket towards the media engine: %w", err)
	}
	few := &perSecond{limit: handshakesPerSecond}
	l.outer = &quic.Transport{Conn: l.socket, VerifySourceAddress: func(net.Addr) bool { return !few.allow(time.Now()) }}
	none := map[sfu.CallID]*carried{}
	l.calls.Store(&none)
	l.running, l.stop = context.WithCancel(context.Background())
	return l, nil
}

// door is the agent's side of the way to the engine.
func (l *links) door() custody.RelayDoor {
	d := custody.RelayDoor{To: l.inner.LocalAddr().(*net.UDPAddr).AddrPort(), Secret: l.secret}
	if l.pinned != nil {
		d.Identity = l.pinned.identity()
	}
	return d
}

// become takes over the identity of the agent before.
func (l *links) become(identity []byte) {
	if l.pinned == nil {
		return // an authority vouches for the node by now
	}
	if err := l.pinned.become(identity); err != nil {
		l.log.Log(slog.LevelWarn, "identity", "the links of the agent before cannot go on", "err", err)
	}
}

// addr is what the heartbeat tells of the links.
func (l *links) addr() *edgeagent.LinkAddr {
	return &edgeagent.LinkAddr{Port: l.port, Fingerprint: fingerprint(l.trust.Own().Certificate[0])}
}

// run carries packets until close.
func (l *links) run() error {
	in, err := l.outer.Listen(l.serverTLS(), l.quic())
	if err != nil {
		return fmt.Errorf("listen for other nodes: %w", err)
	}
	l.parts.Go(func() { l.accept(in) })
	l.parts.Go(l.fromEngine)
	return nil
}

// close ends all links, in the order of dying, and waits.
func (l *links) close() {
	l.stop()
	_ = l.inner.Close()
	_ = l.outer.Close()
	l.parts.Wait()
}

func (l *links) quic() *quic.Config {
	return &quic.Config{
		EnableDatagrams: true, InitialPacketSize: uint16(l.packet), DisablePathMTUDiscovery: true,
		HandshakeIdleTimeout: dialTime, MaxIdleTimeout: firstPatience, MaxIncomingStreams: -1, MaxIncomingUniStreams: -1,
	}
}

func (l *links) tls() *tls.Config {
	return &tls.Config{
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.trust.Own(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.trust.Own(), nil },
		NextProtos:           []string{linkProtocol}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	}
}

// serverTLS believes the nodes that this one is to share calls with.
func (l *links) serverTLS() *tls.Config {
	c := l.tls()
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		leaf, node, err := named(l.trust, cs)
		if err == nil {
			if peer := l.peer(node); peer == nil {
				err = fmt.Errorf("no call is shared with node %s", node)
			} else {
				err = l.trust.Check(*peer.who.Load(), leaf)
			}
		}
		return l.refuse(err)
	}
	return c
}

// refuse counts and tells of a node that is not believed, if there is an error.
func (l *links) refuse(err error) error {
	if err != nil {
		l.metrics.refused.Inc()
		l.log.Log(slog.LevelWarn, "refused", "refused a link", "err", err)
	}
	return err
}

// clientTLS believes one node.
func (l *links) clientTLS(who edgeagent.RelayPeer) *tls.Config {
	c := l.tls()
	c.InsecureSkipVerify = true // VerifyConnection does it, by who it is and not by its address
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		leaf, node, err := named(l.trust, cs)
		if err == nil && node != who.Node {
			err = fmt.Errorf("node %s is there", node)
		}
		if err == nil {
			err = l.trust.Check(who, leaf)
		}
		return l.refuse(err)
	}
	return c
}

// end ends a connection, and the other side is told at once.
func (l *links) end(conn *quic.Conn, why string) {
	_ = conn.CloseWithError(0, why)
	l.socket.flush()
}

func (l *links) peer(node edgeagent.NodeID) *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peers[node]
}

// accept takes the links that other nodes make: of two nodes the one with the
// lesser name does.
func (l *links) accept(in *quic.Listener) {
	for {
		conn, err := in.Accept(l.running)
		if err != nil {
			return // it is closed
		}
		_, node, err := named(l.trust, conn.ConnectionState().TLS)
		peer := l.peer(node)
		if err != nil || peer == nil || node > l.node {
			l.end(conn, "no call is shared")
			continue
		}
		select {
		case old := <-peer.came: // of an attempt that the peer gave up
			l.end(old, "replaced")
		default:
		}
		peer.came <- conn
		if now := peer.conn.Load(); now != nil { // the peer has begun anew
			l.end(now, "replaced")
		}
	}
}

// set carries a call otherwise from now on. It is called by one goroutine at a
// time; number is what the engine knows a node by.
func (l *links) set(r custody.Route, number func(edgeagent.NodeID) uint16) {
	calls := make(map[sfu.CallID]*carried, len(*l.calls.Load())+1)
	for id, c := range *l.calls.Load() {
		if id != r.Call {
			calls[id] = c
		}
	}
	l.mu.Lock()
	if len(r.Peers) > 0 {
		c := &carried{epoch: r.Epoch, port: r.Port}
		for _, who := range r.Peers {
			c.links = append(c.links, l.linkLocked(who, number(who.Node)))
		}
		calls[r.Call] = c
	}
	used := make(map[*link]bool)
	for _, c := range calls {
		for _, k := range c.links {
			used[k] = true
		}
	}
	for node, k := range l.peers {
		if !used[k] {
			delete(l.peers, node)
			k.stop()
		}
	}
	l.metrics.wanted.Set(float64(len(l.peers)))
	l.mu.Unlock()
	l.calls.Store(&calls)
}

// linkLocked is the link to a node, made if need be.
func (l *links) linkLocked(who edgeagent.RelayPeer, number uint16) *link {
	if k := l.peers[who.Node]; k != nil {
		if was := k.who.Load(); was.Link != who.Link || !slices.Equal(was.Addrs, who.Addrs) {
			k.meet(who)
		}
		return k
	}
	k := newLink(l, who, number)
	l.peers[who.Node] = k
	l.parts.Go(k.run)
	return k
}

// lost lists the nodes that cannot be reached, by name, and lossy those that are with
// many packets lost.
func (l *links) lost() (lost, lossy []edgeagent.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for node, k := range l.peers {
		switch {
		case k.lost.Load():
			lost = append(lost, node)
		case k.lossy.Load():
			lossy = append(lossy, node)
		}
	}
	slices.Sort(lost)
	slices.Sort(lossy)
	return lost, lossy
}

// fromEngine hands what the engine forwards to the links of its calls.
func (l *links) fromEngine() {
	came := make([]ipv4.Message, linkBatch)
	for i := range came {
		came[i].Buffers = [][]byte{make([]byte, sfu.MaxDatagram+1)}
	}
	var used []*link
	for {
		n, err := l.inner.ReadBatch(came, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		used = used[:0]
		for _, m := range came[:n] {
			used = l.forward(m.Buffers[0][:m.N], used)
		}
		for _, k := range used {
			k.ring.Rouse()
		}
	}
}

// forward hands the packets of a datagram from the engine to the links of their
// calls, and adds these to used.
func (l *links) forward(d []byte, used []*link) []*link {
	_, list, ok := sfu.ReadRelayLocal(d, &l.secret)
	if !ok {
		l.metrics.drop(dropStranger)
		return used
	}
	for len(list) > 0 {
		packet, rest, err := sfu.NextRelay(list)
		if err != nil {
			l.metrics.drop(dropMalformed)
			break
		}
		list = rest
		used = l.queue(packet, used)
	}
	return used
}

// queue hands a packet to the links of its call, and adds them to used.
func (l *links) queue(packet []byte, used []*link) []*link {
	p, err := sfu.ReadRelayPacket(packet)
	if err != nil {
		l.metrics.drop(dropMalformed)
		return used
	}
	c := (*l.calls.Load())[p.Call]
	switch {
	case c == nil:
		l.metrics.drop(dropCall)
		return used
	case c.epoch != p.Epoch:
		l.metrics.drop(dropEpoch)
		return used
	}
	for _, k := range c.links {
		if !k.open.Load() {
			l.metrics.drop(dropDown)
			continue
		}
		k.ring.Put(packet, p.Kind == sfu.RelayVideo)
		if !slices.Contains(used, k) {
			used = append(used, k)
		}
	}
	return used
}

// parcels are the packets of a datagram from a peer, by the port of the engine
// they are for. Each port keeps its buffer.
type parcels []parcel

type parcel struct {
	port     uint16
	datagram []byte // empty: nothing is in it
	packets  int
}

// of is the parcel for a port.
func (all *parcels) of(port uint16) *parcel {
	for i := range *all {
		if (*all)[i].port == port {
			return &(*all)[i]
		}
	}
	*all = append(*all, parcel{port: port, datagram: make([]byte, 0, sfu.MaxDatagram)})
	return &(*all)[len(*all)-1]
}

// sort puts a packet from a peer into the parcel for its call's port.
func (l *links) sort(from *link, p *sfu.RelayPacket, all *parcels) {
	c := (*l.calls.Load())[p.Call]
	switch {
	case c == nil:
		l.metrics.drop(dropCall)
	case c.epoch != p.Epoch:
		l.metrics.drop(dropEpoch)
	case !slices.Contains(c.links, from):
		l.metrics.drop(dropPeer)
	case c.port == 0:
		l.metrics.drop(dropAbsent)
	default:
		to := all.of(c.port)
		if len(to.datagram)+sfu.RelayPrefix+sfu.RelayHeader+len(p.Payload) > sfu.MaxDatagram {
			l.post(to)
		}
		if to.packets == 0 {
			to.datagram = sfu.AppendRelayLocal(to.datagram, from.number, &l.secret)
		}
		to.datagram = p.AppendTo(to.datagram)
		to.packets++
	}
}

// toEngine brings parcels to the engine.
func (l *links) toEngine(all *parcels) {
	for i := range *all {
		if to := &(*all)[i]; to.packets > 0 {
			l.post(to)
		}
	}
}

func (l *links) post(to *parcel) {
	if err := l.inner.send(to.datagram, netip.AddrPortFrom(ownHost, to.port)); err != nil {
		l.metrics.drops[dropEngine].Add(float64(to.packets))
	} else {
		l.metrics.in.Add(float64(to.packets))
	}
	to.datagram, to.packets = to.datagram[:0], 0
}

// perSecond allows so many in each second.
type perSecond struct {
	limit int

	mu sync.Mutex
	// Guarded by mu.
	second int64
	n      int
}

func (p *perSecond) allow(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := now.Unix(); s != p.second {
		p.second, p.n = s, 0
	}
	p.n++
	return p.n <= p.limit
}

var ownHost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// room is how much of a datagram of QUIC is ours, asked of the connection itself:
// what is too long is refused before anything is sent.
func room(conn *quic.Conn) (int, error) {
	err := conn.SendDatagram(make([]byte, 1<<16))
	if long := (*quic.DatagramTooLargeError)(nil); errors.As(err, &long) {
		if long.MaxDatagramPayloadSize < linkwire.MinRoom {
			return 0, fmt.Errorf("datagrams of %d bytes, at least %d are needed", long.MaxDatagramPayloadSize, linkwire.MinRoom)
		}
		return int(long.MaxDatagramPayloadSize), nil
	}
	return 0, fmt.Errorf("no datagrams: %w", err)
}
