package dtlsterm

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
)

const (
	// flightInterval is the first retransmission time, doubled each time after:
	// seven tries in the ten seconds. Less than RFC 6347's second, as a lost
	// datagram otherwise doubles the time to join.
	flightInterval = 150 * time.Millisecond
	// mtu keeps our flight of about 1 KiB in whole datagrams on any path.
	mtu = 1200
	// attempts bounds how often a handshake starts anew because the first thing
	// that came was no ClientHello we can answer, perhaps not by the client.
	attempts = 4
	// exporterLabel names the keying material (RFC 5764 section 4.2).
	exporterLabel = "EXTRACTOR-dtls_srtp"
)

// Reasons of a Result without keys.
var (
	ErrFingerprint = errors.New("certificate does not match the fingerprint of the offer")
	ErrNoSRTP      = errors.New("client offered no SRTP profile")
	ErrCancelled   = errors.New("handshake cancelled")
)

// Config of a Terminator. The zero value works.
type Config struct {
	// HalfOpen bounds the handshakes under way at once (default
	// sfu.Limits.HalfOpen's). Each costs about 40 KiB and three goroutines.
	HalfOpen int
	// Timeout ends a handshake (default sfu.HandshakeTimeout).
	Timeout time.Duration
}

// Terminator is a node's DTLS server: one certificate, any number of workers.
// Safe for concurrent use.
type Terminator struct {
	// Immutable.
	options     []dtls.ServerOption
	fingerprint Fingerprint
	timeout     time.Duration
	halfOpen    int64
	ctx         context.Context // of every handshake
	cancel      context.CancelFunc

	open atomic.Int64

	mu      sync.Mutex // guards closed, and running against it
	closed  bool
	running sync.WaitGroup
}

// New makes the node's certificate, which lives as long as the process.
func New(cfg Config) (*Terminator, error) {
	if cfg.HalfOpen < 0 || cfg.Timeout < 0 {
		return nil, fmt.Errorf("configure DTLS: negative bound in %+v", cfg)
	}
	if cfg.HalfOpen == 0 {
		cfg.HalfOpen = sfu.Limits{}.WithDefaults().HalfOpen
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = sfu.HandshakeTimeout
	}
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	t := &Terminator{
		fingerprint: sha256.Sum256(cert.Certificate[0]),
		timeout:     cfg.Timeout,
		halfOpen:    int64(cfg.HalfOpen),
		options: []dtls.ServerOption{
			dtls.WithCertificates(cert),
			// RFC 8827 section 6.5 names the first for everyone.
			dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
				dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
			dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
			dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
			dtls.WithClientAuth(dtls.RequireAnyClientCert),
			dtls.WithInsecureSkipVerifyHello(true), // ICE has validated the address
			dtls.WithFlightInterval(flightInterval),
			dtls.WithMTU(mtu),
			dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{
				Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled,
			}),
		},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// Fingerprint is that of the node's certificate.
func (t *Terminator) Fingerprint() Fingerprint { return t.fingerprint }

// HalfOpen is the number of handshakes under way.
func (t *Terminator) HalfOpen() int { return int(t.open.Load()) }

// Close cancels the handshakes under way and waits for their Results to be
// delivered. No Begin succeeds afterwards.
func (t *Terminator) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.running.Wait()
}

// Result is the outcome of a handshake.
type Result struct {
	Err     error // nil: the rest is set
	Profile crypt.Profile
	// Keying is client key, server key, client salt, server salt (RFC 5764
	// section 4.2), as crypt.Split takes it.
	Keying []byte
	Flight LastFlight
}

// Handshake is one under way. Feed and Cancel are safe for concurrent use.
type Handshake struct {
	in     chan []byte
	budget atomic.Int64 // bytes it may still be fed
	cancel context.CancelFunc
}

// Begin starts the server side of a handshake with a client whose certificate
// must have this fingerprint. It is false when HalfOpen handshakes are under way
// (sfu.DropHalfOpen) or the Terminator is closed.
//
// Send is called with each datagram for the client, given but shared: it must
// not be changed. Done is called once, last, when nothing of the handshake runs
// any more but its caller. Both come from other goroutines and must not wait.
func (t *Terminator) Begin(peer Fingerprint, send func(datagram []byte), done func(Result)) (*Handshake, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.open.Load() >= t.halfOpen {
		return nil, false
	}
	t.open.Add(1)
	ctx, cancel := context.WithTimeout(t.ctx, t.timeout)
	h := &Handshake{in: make(chan []byte, queueLen), cancel: cancel}
	h.budget.Store(sfu.MaxReassembly)
	t.running.Add(1)
	go func() {
		defer t.running.Done()
		r := t.run(ctx, peer, h.in, send)
		cancel()
		t.open.Add(-1)
		done(r)
	}()
	return h, true
}

// Feed hands over a copy of a datagram of the client. It is false when that was
// dropped: no part of a handshake, no room in the queue, or beyond the
// sfu.MaxReassembly bytes that one handshake may be fed in all, so that
// fragments never to be completed hold no more than this.
func (h *Handshake) Feed(datagram []byte) bool {
	if !acceptable(datagram) || h.budget.Add(-int64(len(datagram))) < 0 {
		return false
	}
	select {
	case h.in <- slices.Clone(datagram):
		return true
	default:
		return false
	}
}

// Cancel ends the handshake; done is still called, with ErrCancelled, unless it
// has come first.
func (h *Handshake) Cancel() { h.cancel() }

// run tries until there are keys, the time is over or the client itself failed.
func (t *Terminator) run(ctx context.Context, peer Fingerprint, in chan []byte, send func([]byte)) Result {
	var r Result
	for range attempts {
		p := newPipe(in, send)
		if r = t.try(ctx, peer, p); r.Err == nil || ctx.Err() != nil || !p.silent() {
			break
		}
	}
	if r.Err != nil && errors.Is(ctx.Err(), context.Canceled) {
		r.Err = ErrCancelled
	}
	return r
}

// try is one handshake over one pipe. When it returns the Conn is closed.
func (t *Terminator) try(ctx context.Context, peer Fingerprint, p *pipe) Result {
	matches := func(chain [][]byte) bool {
		if len(chain) == 0 {
			return false
		}
		sum := sha256.Sum256(chain[0])
		return subtle.ConstantTimeCompare(sum[:], peer[:]) == 1
	}
	mismatch := false // written by the Conn, read after it is closed
	verify := dtls.WithVerifyPeerCertificate(func(chain [][]byte, _ [][]*x509.Certificate) error {
		if !matches(chain) {
			mismatch = true
			return ErrFingerprint
		}
		return nil
	})
	conn, err := dtls.ServerWithOptions(p, pipeAddr{}, append(slices.Clip(t.options), verify)...)
	if err != nil {
		return Result{Err: fmt.Errorf("start DTLS: %w", err)}
	}
	err = conn.HandshakeContext(ctx)
	flight := p.mute()
	if err != nil {
		conn.Close()
		if mismatch {
			return Result{Err: ErrFingerprint}
		}
		return Result{Err: fmt.Errorf("shake hands: %w", err)}
	}
	state, connected := conn.ConnectionState()
	srtp, chosen := conn.SelectedSRTPProtectionProfile()
	conn.Close()
	switch {
	case !connected || !matches(state.PeerCertificates):
		return Result{Err: ErrFingerprint}
	case !chosen:
		return Result{Err: ErrNoSRTP}
	}
	profile := crypt.Profile(srtp)
	keying, err := state.ExportKeyingMaterial(exporterLabel, nil, profile.KeyingLen())
	if err != nil {
		return Result{Err: fmt.Errorf("export keying: %w", err)}
	}
	return Result{
		Profile: profile,
		Keying:  keying,
		Flight:  LastFlight{datagrams: flight, until: time.Now().Add(sfu.FlightKept)},
	}
}
