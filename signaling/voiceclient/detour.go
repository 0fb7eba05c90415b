package voiceclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	"github.com/pion/transport/v4"
	"github.com/pion/turn/v5"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// When a datagram takes the detour. A network that lets UDP through is not asked
// for it, so that it costs nobody else anything.
const (
	// detourAfter is how long the node's UDP ports are given to answer when a path
	// is looked for.
	detourAfter = 300 * time.Millisecond
	// relayAfter is how long ICE-TCP is given before TURN is tried beside it.
	relayAfter = 400 * time.Millisecond
	// detourAgain is how long all of it is given before it is tried anew. When all of it
	// has failed it is tried after detourFirst, and twice as late each time.
	detourAgain = 5 * time.Second
	detourFirst = 200 * time.Millisecond
	// detourDoubt is the silence after which another way is looked for beside the one in
	// use: an agent that is replaced tells nobody who comes by UDP to its relay.
	detourDoubt = 700 * time.Millisecond
	// detourQueue bounds what waits to be written to a stream that is slow: the
	// oldest makes room.
	detourQueue = 64
	// detourKept is how long a way is still read when UDP works again: the node may
	// send there until it has heard from us by UDP.
	detourKept = 5 * time.Second
	// backAfter is how many answers by UDP, one after the other, it takes to go back.
	backAfter = 3
)

// The ways of a path, as VoiceStats.Way names them.
const (
	wayUDP  = "udp"
	wayTCP  = "ice-tcp"
	wayTURN = "turn"
)

// detour carries the datagrams of one socket to the node when UDP does not: by
// ICE-TCP (RFC 6544, framed as RFC 4571 says) or by a TURN relay (RFC 8656). ICE
// above sees one pair that works; to the node it is a client that roams, and its
// authentic packets move what it is sent.
type detour struct {
	// Immutable.
	by  *probing
	ctx context.Context
	end context.CancelFunc
	now func() time.Time

	active atomic.Pointer[leg] // set: media goes this way

	mu sync.Mutex
	// Guarded by mu.
	tcp     []netip.AddrPort // ICE-TCP candidates of the answer
	relays  []edgeagent.RelayServer
	secure  *tls.Config
	first   time.Time // of the checks that look for a path
	started time.Time // zero: no detour is looked for
	relayed bool      // TURN is tried, too
	known   string    // the kind of way by which the node was reached before; empty: by UDP, or never
	broken  string    // the kind of the way that was in use, until something comes again
	since   time.Time // it ended by itself, or is silent
	silent  *way      // it, if it has not ended
	trying  int       // ways that are being opened
	failed  int       // how often all of them failed, one time after the other
	owner   *probed   // whose datagrams these are, and for whom
	to      net.Addr
	check   []byte // the last one
	ways    []*way // open, until one of them is chosen
	left    []*way // that is only read any more
	back    int    // answers by UDP in a row
	parts   sync.WaitGroup
	closed  bool
}

// leg is a way in use.
type leg struct {
	owner *probed
	to    string
	way   *way
}

// way is an open connection that carries datagrams.
type way struct {
	kind  string
	queue chan []byte
	write func([]byte) error
	conn  io.Closer
}

func (p *probing) newDetour() *detour {
	d := &detour{by: p, now: time.Now}
	d.ctx, d.end = context.WithCancel(context.Background())
	return d
}

// offer names the relays of the session, and the kind of way by which the session before
// it reached the node.
func (d *detour) offer(relays []edgeagent.RelayServer, secure *tls.Config, known string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.relays, d.secure = relays, secure
	if known != wayUDP {
		d.known = known
	}
}

// answer takes the ICE-TCP candidates out of the server's answer.
func (d *detour) answer(sdp string) {
	list := tcpCandidates(sdp)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tcp = list
}

// maxCandidates bounds those of an answer that are tried.
const maxCandidates = 12

// tcpCandidates are the passive ones (RFC 6544 section 4.5).
func tcpCandidates(sdp string) (list []netip.AddrPort) {
	for line := range strings.Lines(sdp) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "a=candidate:")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) < 10 || !strings.EqualFold(f[2], "tcp") || f[8] != "tcptype" || f[9] != "passive" {
			continue
		}
		addr, err := netip.ParseAddr(f[4])
		port, bad := strconv.ParseUint(f[5], 10, 16)
		if err != nil || bad != nil || port == 0 {
			continue
		}
		if at := netip.AddrPortFrom(addr.Unmap(), uint16(port)); !slices.Contains(list, at) && len(list) < maxCandidates {
			list = append(list, at)
		}
	}
	return list
}

// takes says whether a datagram went by the detour alone. A check is sent by both,
// so that UDP is found when it works again.
func (d *detour) takes(c *probed, b []byte, to net.Addr, check bool) bool {
	if leg := d.active.Load(); leg != nil {
		if leg.owner != c || leg.to != to.String() {
			return false
		}
		leg.way.put(b)
		if check {
			d.doubt(leg)
		}
		return !check
	}
	if check {
		d.consider(c, b, to)
	}
	return false
}

// doubt has another way looked for when the one in use is silent: which of them is heard
// first is used.
func (d *detour) doubt(l *leg) {
	now := d.now()
	if now.Sub(time.Unix(0, d.by.last.Load())) < detourDoubt {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed && d.active.CompareAndSwap(l, nil) {
		d.silent = l.way
		d.breakLocked(l.way, now)
	}
}

// stuck says whether the way in use broke, and none can be opened in its place: as when
// the agent that held it began anew, and takes the credentials of its predecessor no more.
func (d *detour) stuck() bool {
	if d.active.Load() != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.brokenLocked() != "" && !d.started.IsZero() && d.allFailedLocked()
}

// allFailedLocked says whether everything was tried that there is.
func (d *detour) allFailedLocked() bool {
	return d.trying == 0 && len(d.ways) == 0 && (d.relayed || len(d.relays) == 0)
}

// breakLocked notes that the way in use is of no use any more.
func (d *detour) breakLocked(w *way, now time.Time) {
	d.started, d.broken, d.since = time.Time{}, w.kind, now
}

// brokenLocked is the kind of the way in use that broke, until something comes again.
func (d *detour) brokenLocked() string {
	if d.by.last.Load() > d.since.UnixNano() {
		d.broken = ""
	}
	return d.broken
}

// consider looks whether it is time for a detour.
func (d *detour) consider(c *probed, b []byte, to net.Addr) {
	now, last := d.now(), d.by.last.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first.IsZero() {
		d.first = now
	}
	silent, patience := now.Sub(time.Unix(0, last)), lostAfter
	if last == 0 || !d.by.held.Load() {
		silent, patience = now.Sub(d.first), detourAfter
		if d.known != "" {
			patience = 0
		}
		if last != 0 {
			silent = now.Sub(time.Unix(0, last))
		}
	}
	broken := d.brokenLocked()
	if d.closed || silent < patience && broken == "" || len(d.tcp) == 0 && len(d.relays) == 0 {
		return
	}
	again, failed := detourAgain, d.allFailedLocked()
	if failed {
		again = min(detourFirst<<d.failed, detourAgain)
	}
	if d.started.IsZero() || now.Sub(d.started) > again {
		if !d.started.IsZero() {
			d.shutLocked(nil)
			if failed {
				d.failed = min(d.failed+1, 8)
			}
		}
		d.started, d.relayed, d.owner, d.to = now, false, c, to
		for _, at := range d.tcp {
			d.tryLocked(func(tried func()) { d.dialTCP(at, tried) })
		}
	}
	if d.owner != c || d.to.String() != to.String() {
		return
	}
	if !d.relayed && (len(d.tcp) == 0 || d.trying == 0 || cmp.Or(broken, d.known) == wayTURN || now.Sub(d.started) >= relayAfter) {
		d.relayed = true
		for _, s := range d.relays {
			for _, url := range s.URLs {
				d.tryLocked(func(tried func()) { d.dialTURN(url, s, tried) })
			}
		}
	}
	d.check = append(d.check[:0], b...)
	for _, w := range d.ways {
		w.put(b)
	}
	if d.silent != nil {
		d.silent.put(b)
	}
}

// tryLocked has dial open a way and read it until it ends. It calls tried once, when the
// way is open or cannot be opened.
func (d *detour) tryLocked(dial func(tried func())) {
	d.trying++
	tried := sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.trying--
	})
	d.parts.Go(func() {
		defer tried()
		dial(tried)
	})
}

// put queues a datagram; it never waits.
func (w *way) put(b []byte) {
	b = slices.Clone(b)
	for {
		select {
		case w.queue <- b:
			return
		default:
		}
		select {
		case <-w.queue:
		default:
		}
	}
}

// open takes a way in, sends the last check on it at once, and reads it until it ends.
func (d *detour) open(kind string, tried func(), conn io.Closer, write func([]byte) error, read func() ([]byte, error)) {
	w := &way{kind: kind, queue: make(chan []byte, detourQueue), write: write, conn: conn}
	d.mu.Lock()
	udp := d.brokenLocked() == "" && d.now().Sub(time.Unix(0, d.by.last.Load())) < probeAfter // it works after all
	if d.closed || udp || d.active.Load() != nil || d.started.IsZero() {
		d.mu.Unlock()
		conn.Close()
		return
	}
	d.ways = append(d.ways, w)
	if d.check != nil {
		w.put(d.check)
	}
	d.mu.Unlock()
	tried()
	ended := make(chan struct{})
	d.parts.Go(func() {
		for {
			select {
			case b := <-w.queue:
				if w.write(b) != nil {
					conn.Close()
					return
				}
			case <-ended:
				return
			}
		}
	})
	for {
		b, err := read()
		if err != nil {
			break
		}
		d.deliver(w, b)
	}
	close(ended)
	conn.Close()
	d.gone(w)
}

// deliver gives a datagram of the node to the socket. The first that comes chooses
// its way.
func (d *detour) deliver(w *way, b []byte) {
	d.mu.Lock()
	owner, to := d.owner, d.to
	if d.active.Load() == nil && (w == d.silent || slices.Contains(d.ways, w)) {
		d.shutLocked(w)
		d.active.Store(&leg{owner, to.String(), w})
		d.back, d.broken, d.failed = 0, "", 0
	}
	d.mu.Unlock()
	if owner == nil {
		return
	}
	d.by.last.Store(d.now().UnixNano())
	owner.deliver(b, to)
}

// shutLocked closes all ways but one.
func (d *detour) shutLocked(but *way) {
	if d.silent != nil {
		d.ways = append(d.ways, d.silent)
	}
	for _, w := range d.ways {
		if w != but {
			w.conn.Close()
		}
	}
	d.ways, d.silent = nil, nil
	for _, w := range d.left {
		w.conn.Close()
	}
	d.left = nil
}

// gone notes that a way has ended. One that was in use, as when the agent of its node
// was upgraded, is replaced at once.
func (d *detour) gone(w *way) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ways = slices.DeleteFunc(d.ways, func(each *way) bool { return each == w })
	if d.silent == w {
		d.silent = nil
	}
	if leg := d.active.Load(); leg != nil && leg.way == w {
		d.active.Store(nil)
		d.breakLocked(w, d.now())
	}
}

// heardUDP notes that something came by UDP while a detour is in use, and goes back
// when that is no chance.
func (d *detour) heardUDP(c *probed) {
	leg := d.active.Load()
	if leg == nil || leg.owner != c {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.back++; d.back < backAfter || d.active.Load() != leg {
		return
	}
	d.active.Store(nil)
	d.started = time.Time{}
	d.left = append(d.left, leg.way)
	time.AfterFunc(detourKept, func() { leg.way.conn.Close() })
}

// kind of the way that media takes, or took until it broke.
func (d *detour) kind() string {
	if leg := d.active.Load(); leg != nil {
		return leg.way.kind
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.brokenLocked(), wayUDP)
}

// close ends it and waits for all its parts.
func (d *detour) close() {
	d.mu.Lock()
	d.closed = true
	d.shutLocked(nil)
	leg := d.active.Swap(nil)
	d.mu.Unlock()
	if leg != nil {
		leg.way.conn.Close()
	}
	d.end()
	d.parts.Wait()
}

// dialTime bounds what it takes to open a way.
const dialTime = 4 * time.Second

func (d *detour) dial(address string) (net.Conn, error) {
	//lint:ignore SA1019 the dialer of a transport.Net takes no context
	c, err := d.by.CreateDialer(&net.Dialer{Timeout: dialTime, Cancel: d.ctx.Done()}).Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return c, nil
}

// dialTCP opens a way by ICE-TCP.
func (d *detour) dialTCP(at netip.AddrPort, tried func()) {
	conn, err := d.dial(at.String())
	if err != nil {
		return // another way, or none: the path stays silent
	}
	head := make([]byte, 2, 2+packetSize)
	in := make([]byte, sfu.MaxDatagram)
	d.open(wayTCP, tried, conn, func(b []byte) error {
		binary.BigEndian.PutUint16(head, uint16(len(b)))
		_, err := conn.Write(append(head, b...))
		return err
	}, func() ([]byte, error) {
		if _, err := io.ReadFull(conn, in[:2]); err != nil {
			return nil, err
		}
		n := int(binary.BigEndian.Uint16(in))
		if n > len(in) {
			return nil, errors.New("frame is too long")
		}
		_, err := io.ReadFull(conn, in[:n])
		return in[:n], err
	})
}

// dialTURN opens one by a relay, which sends to the address that the check is for.
func (d *detour) dialTURN(url string, s edgeagent.RelayServer, tried func()) {
	uri, err := stun.ParseURI(url)
	if err != nil || uri.Scheme != stun.SchemeTypeTURN && uri.Scheme != stun.SchemeTypeTURNS {
		return
	}
	at := net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))
	d.mu.Lock()
	to, secure := d.to, d.secure
	d.mu.Unlock()
	conn, err := d.toRelay(uri, at, secure)
	if err != nil {
		return
	}
	stop := context.AfterFunc(d.ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	// What relays is to reach the node, whatever the family of the way to the relay.
	family := turn.RequestedAddressFamilyIPv4
	if node, err := netip.ParseAddrPort(to.String()); err == nil && !node.Addr().Unmap().Is4() {
		family = turn.RequestedAddressFamilyIPv6
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: at, TURNServerAddr: at, Conn: conn, Username: s.Username, Password: s.Credential, LoggerFactory: quietLog{},
		RequestedAddressFamily: family,
	})
	if err != nil {
		return
	}
	defer client.Close()
	if client.Listen() != nil || d.active.Load() != nil {
		return
	}
	relay, err := client.Allocate()
	if err != nil {
		return
	}
	in := make([]byte, sfu.MaxDatagram)
	d.open(wayTURN, tried, closers{relay, conn}, func(b []byte) error {
		_, err := relay.WriteTo(b, to)
		return err
	}, func() ([]byte, error) {
		for {
			n, from, err := relay.ReadFrom(in)
			if err != nil || from.String() == to.String() {
				return in[:n], err
			}
		}
	})
}

// toRelay is the connection to a TURN server.
func (d *detour) toRelay(uri *stun.URI, at string, secure *tls.Config) (net.PacketConn, error) {
	if uri.Proto == stun.ProtoTypeUDP && uri.Scheme == stun.SchemeTypeTURN {
		return d.by.ListenPacket("udp", ":0")
	}
	conn, err := d.dial(at)
	if err != nil {
		return nil, err
	}
	if uri.Scheme == stun.SchemeTypeTURNS {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if secure != nil {
			cfg = secure.Clone()
			cfg.NextProtos = nil
		}
		cfg.ServerName = uri.Host
		wrapped := tls.Client(conn, cfg)
		if err := wrapped.HandshakeContext(d.ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS with %s: %w", at, err)
		}
		conn = wrapped
	}
	return turn.NewSTUNConn(conn), nil
}

type closers []io.Closer

func (list closers) Close() error {
	var errs []error
	for _, c := range list {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// quietLog says nothing: a way that does not open is no news.
type quietLog struct{}

func (quietLog) NewLogger(string) logging.LeveledLogger { return quietLog{} }

func (quietLog) Trace(string)          {}
func (quietLog) Tracef(string, ...any) {}
func (quietLog) Debug(string)          {}
func (quietLog) Debugf(string, ...any) {}
func (quietLog) Info(string)           {}
func (quietLog) Infof(string, ...any)  {}
func (quietLog) Warn(string)           {}
func (quietLog) Warnf(string, ...any)  {}
func (quietLog) Error(string)          {}
func (quietLog) Errorf(string, ...any) {}

var _ transport.Net = (*probing)(nil)
