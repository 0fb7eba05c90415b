package lightclient

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
)

// newCertificate makes the certificate all clients of an engine share: who they
// are is told by ICE credentials, and one key saves a key generation each.
func newCertificate() (tls.Certificate, [sha256.Size]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, [sha256.Size]byte{}, fmt.Errorf("make key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, [sha256.Size]byte{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, sha256.Sum256(der), nil
}

// handshakeQueue bounds the datagrams that wait for a handshake; a flight of the
// server is 2 to 6. A full queue drops, and DTLS repeats.
const handshakeQueue = 16

// pipe is the PacketConn of a handshake: in comes what the engine's reader found
// on the client's socket, out goes through that socket.
type pipe struct {
	// Immutable.
	send   func([]byte)
	remote net.Addr
	in     chan []byte // given
	done   chan struct{}

	once sync.Once

	mu sync.Mutex
	// Guarded by mu.
	asked  time.Time     // our last datagram, zero once something came back
	server time.Duration // sum of the waits for the server's flights
	// expired ends the read under way when its deadline has passed: pion/dtls
	// cancels a read by a deadline in the past.
	expired chan struct{}
	timer   *time.Timer // closes expired; nil without a deadline to come
}

// waited is the server's part of the handshake: from the last datagram of each
// flight of ours to the first of its answer.
func (p *pipe) waited() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

func newPipe(send func([]byte), remote net.Addr) *pipe {
	return &pipe{send: send, remote: remote, in: make(chan []byte, handshakeQueue), done: make(chan struct{}), expired: make(chan struct{})}
}

// push hands in a copy of a datagram.
func (p *pipe) push(b []byte) {
	p.mu.Lock()
	if !p.asked.IsZero() {
		p.server += time.Since(p.asked)
		p.asked = time.Time{}
	}
	p.mu.Unlock()
	select {
	case p.in <- append([]byte(nil), b...):
	default:
	}
}

func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	expired := p.expired
	p.mu.Unlock()
	select {
	case <-expired: // before what waits: a cancelled read takes nothing
		return 0, nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case d := <-p.in:
		return copy(b, d), p.remote, nil
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo discards once the pipe is closed, so that dropping a Conn says no
// close_notify to the server.
func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case <-p.done:
	default:
		p.mu.Lock()
		p.asked = time.Now()
		p.mu.Unlock()
		p.send(b)
	}
	return len(b), nil
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// SetReadDeadline replaces the deadline; the zero time means none.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pending := p.timer == nil || p.timer.Stop()
	p.timer = nil
	select {
	case <-p.expired:
		p.expired = make(chan struct{})
	default:
		if !pending { // the timer fires just now, for a deadline that is replaced
			p.expired = make(chan struct{})
		}
	}
	expired := p.expired
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		close(expired)
	default:
		p.timer = time.AfterFunc(wait, func() { close(expired) })
	}
	return nil
}

func (p *pipe) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil } // a write never waits
func (p *pipe) LocalAddr() net.Addr              { return &net.UDPAddr{} }

var _ net.PacketConn = (*pipe)(nil)

// agree runs the handshake as the DTLS client and returns the SRTP keys (RFC
// 5764 section 4.2), with nothing of it left running.
func agree(ctx context.Context, p *pipe, cert tls.Certificate, want [sha256.Size]byte) (srtp.Config, error) {
	var keys srtp.Config
	defer p.Close()
	conn, err := dtls.ClientWithOptions(p, p.remote,
		dtls.WithCertificates(cert),
		dtls.WithInsecureSkipVerify(true), // the fingerprint below is the proof
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithFlightInterval(200*time.Millisecond),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM),
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || sha256.Sum256(raw[0]) != want {
				return errors.New("certificate is not the one of the answer")
			}
			return nil
		}))
	if err != nil {
		return keys, fmt.Errorf("begin handshake: %w", err)
	}
	defer func() {
		_ = p.Close() // first, so that Close has nobody to say good-bye to
		_ = conn.Close()
	}()
	if err := conn.HandshakeContext(ctx); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return keys, fmt.Errorf("shake hands: %w", os.ErrDeadlineExceeded)
		}
		return keys, fmt.Errorf("shake hands: %w", err)
	}
	profile, ok := conn.SelectedSRTPProtectionProfile()
	if !ok || profile != dtls.SRTP_AEAD_AES_128_GCM {
		return keys, errors.New("server chose no SRTP profile of ours")
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return keys, errors.New("no state after the handshake")
	}
	keys.Profile = srtp.ProtectionProfileAeadAes128Gcm
	if err := keys.ExtractSessionKeysFromDTLS(&state, true); err != nil {
		return keys, fmt.Errorf("export keys: %w", err)
	}
	return keys, nil
}
