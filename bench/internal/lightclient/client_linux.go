package lightclient

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/meter"
)

const checkPriority = 0x6e7f1eff // peer reflexive, RFC 8445 section 5.1.2

// MaxSlots bounds the receive streams of a client.
const MaxSlots = 64

// Seat is what a client is to be.
type Seat struct {
	Slots int // receive streams it offers, 1 to MaxSlots
	// Sampled clients open every packet and can judge what they hear, which costs
	// about 1 µs each; others count headers.
	Sampled bool
}

// Stages are what joining cost.
type Stages struct {
	Check     time.Duration // first STUN check to its answer
	Handshake time.Duration // the whole DTLS handshake, without the wait for its turn
	Server    time.Duration // of both, the waits for the server's answers
}

// Client is one peer of a server.
type Client struct {
	// Immutable.
	engine     *Engine
	socket     *socket
	local      netip.AddrPort
	source     [4]byte // of local
	ufrag, pwd string
	ssrc       uint32
	seat       Seat

	mu sync.Mutex // taken inside Engine.mu, never around it
	// Guarded by mu.
	remote  unix.Sockaddr                // nil until Connect
	setters []stun.Setter                // of a check
	peer    stun.MessageIntegrity        // the server's password
	pending [stun.TransactionIDSize]byte // of the last check
	// answered is closed by the first valid check response.
	answered chan struct{}
	shake    *pipe      // the handshake under way
	aimed    bool       // Connect was called
	control  *transform // seals reports; nil until connected
	reports  uint32     // so far
	reportAt time.Time
	closed   bool

	heard     atomic.Bool // answered is closed
	checkSlot int         // guarded by checker.mu; -1: none

	received atomic.Uint64 // RTP of announced sources, never set back
	last     atomic.Int64  // arrival of RTP, or of the answer to a check, in ns since 1970

	// Guarded by Engine.mu: the reader holds it for a batch.
	ssrcs  []uint32
	slots  []slot
	counts Counts
	first  int64 // arrival of the first packet of a slot, 0: none

	ear // of a sampled client

	mouth
}

// ear opens packets and judges them.
type ear struct {
	earMu sync.Mutex
	// Guarded by earMu.
	in       *transform
	listener *meter.Listener
	told     func(mark.Mark, time.Time) // instead of listener
}

// mouth is the sender's state.
type mouth struct {
	// Guarded by pacer.mu.
	out    *transform // nil until connected
	to     unix.RawSockaddrInet4
	seq    uint16
	roc    uint32
	ts     uint32 // offset of the timestamps
	level  bool   // ssrc-audio-level was accepted
	talker *talker
	gone   bool // closed
}

// Add makes one more client.
func (e *Engine) Add(seat Seat) (*Client, error) {
	if seat.Slots < 1 || seat.Slots > MaxSlots {
		return nil, fmt.Errorf("client with %d slots, want 1 to %d", seat.Slots, MaxSlots)
	}
	c := &Client{engine: e, seat: seat, answered: make(chan struct{}), checkSlot: -1}
	var random [40]byte
	_, _ = rand.Read(random[:])
	c.ufrag = letters(random[:6])
	c.pwd = letters(random[6:24])
	c.ssrc = binary.BigEndian.Uint32(random[24:]) | 1
	c.seq = binary.BigEndian.Uint16(random[28:]) &^ 0x8000 // RFC 3711 3.3.1: below 2^15
	c.ts = binary.BigEndian.Uint32(random[32:])
	if err := e.register(c); err != nil {
		return nil, err
	}
	return c, nil
}

// letters makes ICE characters (RFC 8839 section 5.4) of random bytes: base64
// without padding is just that when the length is a multiple of 3.
func letters(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

// Offer is the client's SDP, made anew each time: with 32 slots it is longer than
// all the rest of the client.
func (c *Client) Offer() string {
	return offer(c.ufrag, c.pwd, c.engine.fingerprint, c.ssrc, c.seat.Slots)
}

// Local is the address the client sends from and is sent to.
func (c *Client) Local() netip.AddrPort { return c.local }

// SSRC is what the client offers to send with.
func (c *Client) SSRC() uint32 { return c.ssrc }

// Slots are the SSRCs the server announced, in the order of the sections; zero
// where it announced none. Empty before Connect.
func (c *Client) Slots() []uint32 {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	return append([]uint32(nil), c.ssrcs...)
}

// Connect takes the server's answer and returns when media can flow. Handshakes
// wait for their turn ([Config.Handshakes]).
func (c *Client) Connect(ctx context.Context, sdp string) (Stages, error) {
	var stages Stages
	a, err := readAnswer(sdp, c.seat.Slots+1)
	if err != nil {
		return stages, err
	}
	begun := time.Now()
	if err := c.aim(a); err != nil {
		return stages, err
	}
	select {
	case <-c.answered:
	case <-ctx.Done():
		return stages, fmt.Errorf("no answer to STUN checks of %v: %w", a.remote, ctx.Err())
	}
	stages.Check = time.Since(begun)
	select {
	case c.engine.handshakes <- struct{}{}:
		defer func() { <-c.engine.handshakes }()
	case <-ctx.Done():
		return stages, fmt.Errorf("wait for a turn to shake hands: %w", ctx.Err())
	}
	began := time.Now()
	p := newPipe(func(b []byte) { _ = c.send(b) }, net.UDPAddrFromAddrPort(a.remote))
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return stages, net.ErrClosed
	}
	c.shake = p
	c.mu.Unlock()
	keys, err := agree(ctx, p, c.engine.cert, a.fingerprint)
	c.mu.Lock()
	c.shake = nil
	c.mu.Unlock()
	if err != nil {
		return stages, err
	}
	stages.Handshake = time.Since(began)
	stages.Server = stages.Check + p.waited()
	if c.seat.Sampled {
		in, err := newTransform(keys.Keys.RemoteMasterKey, keys.Keys.RemoteMasterSalt)
		if err != nil {
			return stages, fmt.Errorf("make receiving keys: %w", err)
		}
		c.earMu.Lock()
		c.in = in
		c.earMu.Unlock()
	}
	out, err := newTransform(keys.Keys.LocalMasterKey, keys.Keys.LocalMasterSalt)
	if err != nil {
		return stages, fmt.Errorf("make sending keys: %w", err)
	}
	control, err := newControl(keys.Keys.LocalMasterKey, keys.Keys.LocalMasterSalt)
	if err != nil {
		return stages, fmt.Errorf("make reporting keys: %w", err)
	}
	c.mu.Lock()
	c.control = control
	c.mu.Unlock()
	c.engine.pacer.connect(c, out, a)
	return stages, nil
}

// aim sets where the client's packets go and sends the first check.
func (c *Client) aim(a answer) error {
	c.mu.Lock()
	again := c.closed || c.aimed
	c.aimed = true
	c.mu.Unlock()
	if again {
		return errors.New("connect: closed, or connected before; add another client")
	}
	c.engine.mu.Lock()
	c.ssrcs, c.slots = a.slots, make([]slot, len(a.slots))
	c.engine.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.remote = &unix.SockaddrInet4{Port: int(a.remote.Port()), Addr: a.remote.Addr().As4()}
	c.peer = stun.NewShortTermIntegrity(a.pwd)
	value := make([]byte, 12)
	binary.BigEndian.PutUint32(value, checkPriority)
	binary.BigEndian.PutUint64(value[4:], uint64(c.ssrc)<<32|uint64(c.ssrc))
	c.setters = []stun.Setter{stun.TransactionID, stun.BindingRequest,
		stun.NewUsername(a.ufrag + ":" + c.ufrag),
		stun.RawAttribute{Type: stun.AttrUseCandidate},
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: value[4:]},
		stun.RawAttribute{Type: stun.AttrPriority, Value: value[:4]},
		c.peer, stun.Fingerprint}
	c.engine.checker.begin(c)
	c.checkLocked(new(stun.Message))
	return nil
}

// Retire ends what a client sends, checks as well, and lets it count what still comes
// until Close: a server that was left should send nothing more.
func (c *Client) Retire() {
	c.engine.pacer.hush(c)
	c.engine.checker.forget(c)
}

// Close gives the client's address back. It says nothing to the server.
func (c *Client) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	shake := c.shake
	c.mu.Unlock()
	if shake != nil {
		_ = shake.Close()
	}
	c.engine.pacer.leave(c)
	c.engine.checker.forget(c)
	c.engine.forget(c)
}

// send sends one datagram to the server. The address keeps its kernel form inside,
// so it belongs to one sender at a time.
func (c *Client) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendLocked(b)
}

func (c *Client) sendLocked(b []byte) error {
	if c.closed {
		return net.ErrClosed
	}
	return c.socket.send(b, c.source, c.remote)
}

// Counts are what the client received until now.
func (c *Client) Counts() Counts {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	return c.counts
}

// First is when the first packet of an announced source came, whatever Reset and
// Judge did since; zero: none.
func (c *Client) First() time.Time {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if c.first == 0 {
		return time.Time{}
	}
	return time.Unix(0, c.first)
}

// Received is how many media packets have come since the beginning, and when anything
// came last, be it the answer to a check: what a client looks at that watches its path.
func (c *Client) Received() (received uint64, last time.Time) {
	if at := c.last.Load(); at != 0 {
		last = time.Unix(0, at)
	}
	return c.received.Load(), last
}

// Watch has the client ask its server every 100 ms while it has heard nothing for 300 ms,
// as clients do that watch their path. It is called once the client is connected.
func (c *Client) Watch() { c.engine.checker.watch(c) }

// Sampled tells whether the client opens what it gets.
func (c *Client) Sampled() bool { return c.seat.Sampled }

// Judge starts a new judgement of what a sampled client hears from now on.
func (c *Client) Judge(config meter.Config) {
	c.earMu.Lock()
	defer c.earMu.Unlock()
	c.listener = meter.NewListener(config)
}

// Tell gives the mark of each packet that a sampled client opens to f, in place of a
// judgement: whoever has several clients at once, as one who moves from a node to
// another, judges them together. f is called by the reader, which holds the engine: it
// calls nothing of it and returns at once.
func (c *Client) Tell(f func(m mark.Mark, arrived time.Time)) {
	c.earMu.Lock()
	defer c.earMu.Unlock()
	c.told = f
}

// Expect tells what a talker sends, before or after it was heard.
func (c *Client) Expect(talker uint32, plan []meter.Span) {
	c.earMu.Lock()
	defer c.earMu.Unlock()
	if c.listener != nil {
		c.listener.Expect(talker, plan)
	}
}

// Heard is the judgement since Judge; without one it is empty.
func (c *Client) Heard() meter.Result {
	c.earMu.Lock()
	defer c.earMu.Unlock()
	if c.listener == nil {
		return meter.Result{}
	}
	return c.listener.Result()
}

// Talk begins to talk; a talk under way is replaced.
func (c *Client) Talk(t Talk) error { return c.engine.pacer.talk(c, t) }

// Hush ends a talk at once.
func (c *Client) Hush() { c.engine.pacer.hush(c) }

// check sends the check that is due; m is lent until return.
func (c *Client) check(m *stun.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.checkLocked(m)
	}
}

// report says what came, as a browser does every few seconds: a server may judge
// by it whether its node loses packets. room is lent until return.
func (c *Client) report(now time.Time, room []byte) {
	c.mu.Lock()
	due := c.control != nil && !now.Before(c.reportAt)
	c.mu.Unlock()
	if !due {
		return
	}
	c.engine.mu.Lock()
	b := c.appendReportLocked(room[:0])
	c.engine.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reportAt = now.Add(reportEvery); len(b) > 0 && !c.closed {
		c.reports++
		_ = c.sendLocked(c.control.sealControl(b, c.reports)) // a lost report: the next follows
	}
}

// checkLocked sends a binding request that nominates (RFC 8445 section 7.2.2).
func (c *Client) checkLocked(m *stun.Message) {
	if m.Build(c.setters...) != nil {
		return // too long a ufrag; the check is never answered and Connect says so
	}
	c.pending = m.TransactionID
	_ = c.sendLocked(m.Raw) // a lost check: the next follows
}

// handleSTUN takes the answer to our check, or answers one of a full ICE agent. An
// answer goes where our checks go: a server that we measure has one address.
func (c *Client) handleSTUN(b []byte) {
	if len(b) < 20 {
		return
	}
	if c.heard.Load() && b[0] == 1 && b[1] == 1 {
		c.last.Store(time.Now().UnixNano())
		return // consent that is kept needs no more
	}
	m := &stun.Message{Raw: b}
	if m.Decode() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	to, ok := c.remote.(*unix.SockaddrInet4)
	if !ok {
		return
	}
	switch m.Type {
	case stun.BindingSuccess:
		if c.heard.Load() || m.TransactionID != c.pending || c.peer.Check(m) != nil {
			return
		}
		c.heard.Store(true)
		c.last.Store(time.Now().UnixNano())
		close(c.answered)
		c.engine.checker.heard(c)
	case stun.BindingRequest:
		if stun.NewShortTermIntegrity(c.pwd).Check(m) != nil {
			return
		}
		reply, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
			&stun.XORMappedAddress{IP: to.Addr[:], Port: to.Port},
			stun.NewShortTermIntegrity(c.pwd), stun.Fingerprint)
		if err == nil {
			_ = c.sendLocked(reply.Raw)
		}
	}
}

// handleDTLS hands a datagram to the handshake under way.
func (c *Client) handleDTLS(b []byte) {
	c.mu.Lock()
	shake := c.shake
	c.mu.Unlock()
	if shake != nil {
		shake.push(b)
	}
}

// handleRTPLocked counts a datagram. Engine.mu is held.
func (c *Client) handleRTPLocked(b []byte, arrived int64) {
	n := &c.counts
	n.Bytes += uint64(len(b))
	if b[1] >= 192 && b[1] <= 223 { // RFC 5761 section 4
		n.RTCP++
		return
	}
	s := c.slotOf(binary.BigEndian.Uint32(b[8:]))
	switch {
	case s == nil:
		n.Unknown++
		return
	case len(b) >= c.engine.voiceSize:
		n.Voice++
	default:
		n.Other++
	}
	c.received.Add(1)
	c.last.Store(arrived)
	arrived -= c.engine.shift.Load()
	if c.first == 0 {
		c.first = arrived
	}
	n.Largest = max(n.Largest, len(b))
	s.track(binary.BigEndian.Uint16(b[2:]), n)
	if c.seat.Sampled {
		c.hearLocked(s, b, arrived)
	}
}

func (c *Client) slotOf(ssrc uint32) *slot {
	for i, one := range c.ssrcs {
		if one == ssrc {
			return &c.slots[i]
		}
	}
	return nil
}

// hearLocked authenticates a packet and lets the meter hear its mark. Engine.mu is
// held.
func (c *Client) hearLocked(s *slot, b []byte, arrived int64) {
	c.earMu.Lock()
	defer c.earMu.Unlock()
	if c.in == nil {
		return
	}
	head, ok := headerSize(b)
	if !ok {
		c.counts.Refused++
		return
	}
	seq := binary.BigEndian.Uint16(b[2:])
	roc := s.open.guess(seq)
	plain, ok := c.in.open(c.engine.plain[:], b, head, roc)
	if !ok {
		c.counts.Refused++
		return
	}
	s.open.took(seq, roc)
	c.counts.Opened++
	if c.listener == nil && c.told == nil {
		return
	}
	m, ok := mark.Read(plain)
	switch {
	case !ok:
	case c.told != nil:
		c.told(m, time.Unix(0, arrived))
	default:
		c.listener.Hear(m, time.Unix(0, arrived))
	}
}

// rawAddress is the kernel's form of an address.
func rawAddress(a netip.AddrPort) unix.RawSockaddrInet4 {
	raw := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&raw.Port))[:], a.Port())
	return raw
}
