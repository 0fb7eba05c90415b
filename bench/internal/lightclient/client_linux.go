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
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"
)

// The clock of ICE: the first checks come quickly, those that keep consent (RFC
// 7675) at a browser's pace.
const (
	checkEvery    = 2500 * time.Millisecond
	checkAtFirst  = 50 * time.Millisecond
	checkPriority = 0x6e7f1eff // peer reflexive, RFC 8445 section 5.1.2
)

// Stages are what joining cost.
type Stages struct {
	Check     time.Duration // first STUN check to its answer
	Handshake time.Duration // the whole DTLS handshake
	Server    time.Duration // of both, the waits for the server's answers
}

// Counts are what a client received. Voice are RTP datagrams at least as long as
// [Config.VoiceSize] says, Other the shorter ones (silence frames, warm-up),
// Unknown those of no announced source; Bytes are UDP payload of all.
type Counts struct {
	Voice, Other, Unknown, RTCP, Bytes uint64
	// Largest is the longest RTP datagram.
	Largest int
	// Lost and Late are holes and stragglers in the RTP sequence numbers of the
	// slots: what the server did send and we did not get, or out of order.
	Lost, Late uint64
	// Of a sampled client: datagrams that were opened, that could not be, and
	// marks read per talker.
	Opened, Refused uint64
	Marks           map[uint16]uint64
}

// Add sums up.
func (c *Counts) Add(o Counts) {
	c.Voice += o.Voice
	c.Other += o.Other
	c.Unknown += o.Unknown
	c.RTCP += o.RTCP
	c.Bytes += o.Bytes
	c.Lost += o.Lost
	c.Late += o.Late
	c.Largest = max(c.Largest, o.Largest)
	c.Opened += o.Opened
	c.Refused += o.Refused
	for talker, n := range o.Marks {
		if c.Marks == nil {
			c.Marks = make(map[uint16]uint64)
		}
		c.Marks[talker] += n
	}
}

// slot is the state of one receive stream.
type slot struct {
	ssrc  uint32
	begun bool
	next  uint16 // expected sequence number
}

// Slots are the SSRCs the server announced, in the order of the sections; zero
// where it announced none. Empty before Connect.
func (c *Client) Slots() []uint32 {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	ssrcs := make([]uint32, len(c.slots))
	for i := range c.slots {
		ssrcs[i] = c.slots[i].ssrc
	}
	return ssrcs
}

// Client is one peer of a server.
type Client struct {
	// Immutable.
	engine     *Engine
	fd         int
	local      netip.AddrPort
	ufrag, pwd string
	ssrc       uint32
	sections   int
	sampled    bool
	offer      string

	// Owned by the engine's talking goroutine.
	out     *srtp.Context
	seq     uint16
	ts      uint32
	payload []byte
	sealed  []byte

	mu sync.Mutex
	// Guarded by mu.
	remote    unix.Sockaddr // nil until Connect
	remotePwd string
	remoteUfr string
	level     bool
	pending   [stun.TransactionIDSize]byte // of the last check
	nextCheck time.Time
	answered  chan struct{} // closed by the first valid check response
	heard     bool
	shake     *pipe // the handshake under way
	in        *srtp.Context
	closed    bool

	// Owned by the engine's reader between batches, read under Engine.mu.
	slots  []slot
	counts Counts
}

// Add opens a socket for one more client and makes its offer. A sampled client
// opens every packet, the others count headers.
func (e *Engine) Add(slots int, sampled bool) (*Client, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	c := &Client{engine: e, fd: fd, sections: slots + 1, sampled: sampled, answered: make(chan struct{})}
	if err := c.bind(); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	var random [32]byte
	_, _ = rand.Read(random[:])
	c.ufrag = letters(random[:6])
	c.pwd = letters(random[6:24])
	c.ssrc = binary.BigEndian.Uint32(random[24:]) | 1
	c.seq = binary.BigEndian.Uint16(random[28:]) &^ 0x8000 // RFC 3711 3.3.1: below 2^15
	c.ts = binary.BigEndian.Uint32(random[28:])
	c.offer = offer(c.ufrag, c.pwd, e.fingerprint, c.ssrc, slots)
	if err := e.register(c); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return c, nil
}

// letters makes ICE characters (RFC 8839 section 5.4) of random bytes: base64
// without padding is just that when the length is a multiple of 3.
func letters(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

func (c *Client) bind() error {
	if err := unix.Bind(c.fd, &unix.SockaddrInet4{Addr: c.engine.config.Host.As4()}); err != nil {
		return fmt.Errorf("bind socket: %w", err)
	}
	name, err := unix.Getsockname(c.fd)
	if err != nil {
		return fmt.Errorf("name socket: %w", err)
	}
	in4, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return errors.New("name socket: not an IPv4 address")
	}
	c.local = netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
	if c.sampled {
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return fmt.Errorf("ask for arrival times: %w", err)
		}
	}
	return nil
}

// Offer is the client's SDP.
func (c *Client) Offer() string { return c.offer }

// Local is the address of the client's socket.
func (c *Client) Local() netip.AddrPort { return c.local }

// SSRC is what the client offers to send with.
func (c *Client) SSRC() uint32 { return c.ssrc }

// Connect takes the server's answer and returns when media can flow.
func (c *Client) Connect(ctx context.Context, sdp string) (Stages, error) {
	var stages Stages
	a, err := readAnswer(sdp, c.sections)
	if err != nil {
		return stages, err
	}
	c.engine.mu.Lock()
	c.slots = make([]slot, len(a.slots))
	for i, ssrc := range a.slots {
		c.slots[i].ssrc = ssrc
	}
	c.engine.mu.Unlock()
	begun := time.Now()
	c.mu.Lock()
	if c.closed || c.remote != nil {
		c.mu.Unlock()
		return stages, errors.New("connect: closed, or connected before")
	}
	c.remote = &unix.SockaddrInet4{Port: int(a.remote.Port()), Addr: a.remote.Addr().As4()}
	c.remotePwd, c.remoteUfr, c.level = a.pwd, a.ufrag, a.level
	c.checkLocked(begun)
	c.mu.Unlock()
	select {
	case <-c.answered:
	case <-ctx.Done():
		return stages, fmt.Errorf("no answer to STUN checks: %w", ctx.Err())
	}
	stages.Check = time.Since(begun)
	select {
	case c.engine.handshakes <- struct{}{}:
		defer func() { <-c.engine.handshakes }()
	case <-ctx.Done():
		return stages, ctx.Err()
	}
	began := time.Now()
	p := newPipe(func(b []byte) { _ = c.send(b) }, net.UDPAddrFromAddrPort(a.remote))
	c.mu.Lock()
	c.shake = p
	c.mu.Unlock()
	keys, err := agree(ctx, p, c.engine.cert, a.fingerprint)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shake = nil
	if err != nil {
		return stages, err
	}
	if c.closed {
		return stages, net.ErrClosed
	}
	stages.Handshake = time.Since(began)
	stages.Server = stages.Check + p.waited()
	out, err := srtp.CreateContext(keys.Keys.LocalMasterKey, keys.Keys.LocalMasterSalt, keys.Profile)
	if err != nil {
		return stages, fmt.Errorf("make sending keys: %w", err)
	}
	if c.sampled {
		in, err := srtp.CreateContext(keys.Keys.RemoteMasterKey, keys.Keys.RemoteMasterSalt, keys.Profile, srtp.SRTPReplayProtection(512))
		if err != nil {
			return stages, fmt.Errorf("make receiving keys: %w", err)
		}
		c.in = in
	}
	c.out = out
	return stages, nil
}

// Close gives the socket back. It says nothing to the server.
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
	c.engine.forget(c)
	_ = unix.Close(c.fd)
}

// send sends one datagram to the server. The address keeps its kernel form inside,
// so it belongs to one sender at a time.
func (c *Client) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return unix.Sendto(c.fd, b, 0, c.remote)
}

// Counts are what the client received until now.
func (c *Client) Counts() Counts {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	var sum Counts
	sum.Add(c.counts)
	return sum
}

// checkLocked sends a binding request that nominates (RFC 8445 section 7.2.2).
func (c *Client) checkLocked(now time.Time) {
	c.nextCheck = now.Add(checkEvery)
	if !c.heard {
		c.nextCheck = now.Add(checkAtFirst)
	}
	var priority [4]byte
	binary.BigEndian.PutUint32(priority[:], checkPriority)
	var tie [8]byte
	binary.BigEndian.PutUint64(tie[:], uint64(c.ssrc)<<32|uint64(c.ssrc))
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest,
		stun.NewUsername(c.remoteUfr+":"+c.ufrag),
		stun.RawAttribute{Type: stun.AttrUseCandidate},
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: tie[:]},
		stun.RawAttribute{Type: stun.AttrPriority, Value: priority[:]},
		stun.NewShortTermIntegrity(c.remotePwd), stun.Fingerprint)
	if err != nil {
		return // too long a ufrag; the check is never answered and Connect says so
	}
	c.pending = m.TransactionID
	_ = unix.Sendto(c.fd, m.Raw, 0, c.remote)
}

// handleSTUN takes the answer to our check, or answers one of a full ICE agent.
func (c *Client) handleSTUN(b []byte, from unix.SockaddrInet4) {
	m := &stun.Message{Raw: b}
	if m.Decode() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Type {
	case stun.BindingSuccess:
		if c.remote == nil || c.heard || m.TransactionID != c.pending || stun.NewShortTermIntegrity(c.remotePwd).Check(m) != nil {
			return
		}
		c.heard = true
		c.nextCheck = time.Now().Add(checkEvery)
		close(c.answered)
	case stun.BindingRequest:
		if stun.NewShortTermIntegrity(c.pwd).Check(m) != nil {
			return
		}
		reply, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
			&stun.XORMappedAddress{IP: from.Addr[:], Port: from.Port},
			stun.NewShortTermIntegrity(c.pwd), stun.Fingerprint)
		if err == nil {
			_ = unix.Sendto(c.fd, reply.Raw, 0, &from)
		}
	}
}

// tick sends the check that is due.
func (c *Client) tick(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remote != nil && !c.closed && !now.Before(c.nextCheck) {
		c.checkLocked(now)
	}
}

// handleRTPLocked counts a datagram. Engine.mu is held.
func (c *Client) handleRTPLocked(b []byte, arrived time.Time) {
	c.counts.Bytes += uint64(len(b))
	if b[1] >= 192 && b[1] <= 223 {
		c.counts.RTCP++
		return
	}
	s := c.slotOf(binary.BigEndian.Uint32(b[8:]))
	switch {
	case s == nil:
		c.counts.Unknown++
		return
	case len(b) >= c.engine.config.VoiceSize:
		c.counts.Voice++
	default:
		c.counts.Other++
	}
	c.counts.Largest = max(c.counts.Largest, len(b))
	seq := binary.BigEndian.Uint16(b[2:])
	switch ahead := int16(seq - s.next); {
	case !s.begun:
		s.begun, s.next = true, seq+1
	case ahead >= 0:
		c.counts.Lost += uint64(ahead)
		s.next = seq + 1
	default:
		c.counts.Late++
	}
	if c.sampled {
		c.openLocked(b, arrived)
	}
}

func (c *Client) slotOf(ssrc uint32) *slot {
	for i := range c.slots {
		if c.slots[i].ssrc == ssrc {
			return &c.slots[i]
		}
	}
	return nil
}

// openLocked authenticates a packet and reads its mark.
func (c *Client) openLocked(b []byte, arrived time.Time) {
	c.mu.Lock()
	in := c.in
	c.mu.Unlock()
	if in == nil {
		return
	}
	var header rtp.Header
	plain, err := in.DecryptRTP(c.engine.plain[:0], b, &header)
	if err != nil {
		c.counts.Refused++
		return
	}
	c.counts.Opened++
	n, err := header.Unmarshal(plain)
	if err != nil {
		return
	}
	mark, ok := readMark(plain[n:])
	if !ok {
		return
	}
	if c.counts.Marks == nil {
		c.counts.Marks = make(map[uint16]uint64)
	}
	if len(b) >= c.engine.config.VoiceSize {
		c.counts.Marks[mark.Talker]++
		_ = c.engine.latency.RecordValue(arrived.Sub(mark.Due).Nanoseconds())
	}
}

// speak seals and sends one marked packet of size bytes of payload.
func (c *Client) speak(mark Mark, size int) error {
	if c.out == nil {
		return errors.New("speak: not connected")
	}
	if cap(c.payload) < size {
		c.payload = make([]byte, size)
		_, _ = rand.Read(c.payload)
	}
	payload := c.payload[:size]
	mark.put(payload)
	header := rtp.Header{
		Version: 2, PayloadType: opusPT, SSRC: c.ssrc, SequenceNumber: c.seq, Timestamp: c.ts,
		Marker: mark.Index == 0,
	}
	if c.level {
		// V=1, -20 dBov: speech well above the silence gate.
		if err := header.SetExtension(levelExt, []byte{0x80 | 20}); err != nil {
			return fmt.Errorf("speak: %w", err)
		}
	}
	c.seq++
	c.ts += 960 // 20 ms at 48 kHz
	sealed, err := c.out.EncryptRTP(c.sealed[:0], append(mustMarshal(&header), payload...), nil)
	if err != nil {
		return fmt.Errorf("speak: %w", err)
	}
	c.sealed = sealed
	return c.send(sealed)
}

func mustMarshal(h *rtp.Header) []byte {
	b := make([]byte, h.MarshalSize(), h.MarshalSize()+1500)
	n, _ := h.MarshalTo(b) // the size is its own
	return b[:n]
}
