package icelite

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"net/netip"
	"time"

	"voicefleet/sfu"
)

// Prober answers probes: binding requests of no session, whose password follows
// from their user name fragment and the node's probe key. Belongs to one
// goroutine.
type Prober struct {
	// Immutable.
	epoch time.Time

	password hash.Hash // HMAC-SHA-256 under the probe key; nil: no key, no answers
	key      Key       // of the probe under way
	rekeyed  *rekeyed  // its mac
	clients  *Limiter
	fleet    tokens
	work     tokens

	// Scratch of the call under way.
	sum [sha256.Size]byte
	pwd [sfu.ProbePwdLen]byte
}

// NewProber answers none until it has a key.
func NewProber(now time.Time) *Prober {
	mac := &rekeyed{hash: sha1.New()}
	return &Prober{
		epoch: now, key: Key{mac: mac}, rekeyed: mac,
		clients: NewLimiter(sfu.ProbesPerPrefix, now),
		fleet:   tokens{rate: sfu.FleetProbesPerSecond, left: sfu.FleetProbesPerSecond},
		work:    tokens{rate: sfu.ProbesVerified, left: sfu.ProbesVerified},
	}
}

// SetKey sets the probe key; probes made under the one before are refused from
// now on.
func (p *Prober) SetKey(key sfu.ProbeKey) { p.password = hmac.New(sha256.New, key) }

// AppendAnswer appends the answer to a binding request whose user name fragment,
// as Peek returned it, reads as a probe. Without an answer it says why.
func (p *Prober) AppendAnswer(dst []byte, now time.Time, probe sfu.Probe, ufrag, datagram []byte, from netip.AddrPort) ([]byte, sfu.DropReason, bool) {
	t := now.Sub(p.epoch)
	// Cheapest first. A client's tokens are taken for what its key has made only,
	// so that nobody else can spend them by its address.
	if p.password == nil || !probe.May(now, from.Addr()) || !p.work.take(t) {
		return dst, sfu.DropProbe, false
	}
	p.password.Reset()
	p.password.Write(ufrag)
	p.rekeyed.setKey(sfu.AppendProbePwd(p.pwd[:0], p.password.Sum(p.sum[:0])))
	req, ok := p.key.Check(datagram)
	if !ok {
		return dst, sfu.DropIntegrity, false
	}
	if probe.Client() && !p.clients.Allow(now, from.Addr()) || !probe.Client() && !p.fleet.take(t) {
		return dst, sfu.DropProbe, false
	}
	start := len(dst)
	dst = p.key.AppendSuccess(dst, req.Transaction, from)
	if len(dst)-start > len(datagram) { // of a client fragment shorter than RFC 8839 allows, by IPv6
		return dst[:start], sfu.DropSTUN, false
	}
	return dst, 0, true
}

// tokens is a token bucket that holds a second's worth.
type tokens struct {
	rate, left float64
	asked      time.Duration
}

func (b *tokens) take(t time.Duration) bool {
	if gone := t - b.asked; gone > 0 {
		b.left = min(b.rate, b.left+b.rate*gone.Seconds())
		b.asked = t
	}
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// rekeyed is HMAC-SHA1 (RFC 2104) that takes another key without allocating,
// which crypto/hmac does not.
type rekeyed struct {
	hash hash.Hash
	key  [sha1.BlockSize]byte // padded with zeros

	// Scratch of the call under way.
	pad [sha1.BlockSize]byte
	sum [sha1.Size]byte
}

// setKey takes a key of at most a block.
func (m *rekeyed) setKey(key []byte) { clear(m.key[copy(m.key[:], key):]) }

// start begins a hash with the key, each byte masked.
func (m *rekeyed) start(mask byte) {
	for i, b := range m.key {
		m.pad[i] = b ^ mask
	}
	m.hash.Reset()
	m.hash.Write(m.pad[:])
}

func (m *rekeyed) Reset()                      { m.start(0x36) }
func (m *rekeyed) Write(b []byte) (int, error) { return m.hash.Write(b) }

func (m *rekeyed) Sum(dst []byte) []byte {
	inner := m.hash.Sum(m.sum[:0])
	m.start(0x5c)
	m.hash.Write(inner)
	return m.hash.Sum(dst)
}
