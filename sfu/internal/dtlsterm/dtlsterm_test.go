package dtlsterm

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	"go.uber.org/goleak"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is a pion/dtls client over memory, the server end of which a test
// scripts.
type client struct {
	conn *dtls.Conn
	cert tls.Certificate

	// toServer takes what the client sends.
	toServer func([]byte)
	// fromServer is read by the client.
	fromServer chan []byte

	mu       sync.Mutex
	deadline chan struct{} // closed when reading must end
	closed   bool
}

var quiet = &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}

// preferred are the SRTP profiles in the order opposite to ours.
func preferred() dtls.ClientOption {
	return dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM)
}

// newClient makes a client that is well behaved but for the options.
func newClient(t *testing.T, toServer func([]byte), options ...dtls.ClientOption) *client {
	t.Helper()
	cert, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	c := &client{cert: cert, toServer: toServer, fromServer: make(chan []byte, 64), deadline: make(chan struct{})}
	options = append([]dtls.ClientOption{
		dtls.WithCertificates(cert),
		dtls.WithInsecureSkipVerify(true),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithFlightInterval(20 * time.Millisecond),
		dtls.WithDisableRetransmitBackoff(true),
		dtls.WithLoggerFactory(quiet),
	}, options...)
	if c.conn, err = dtls.ClientWithOptions(c, pipeAddr{}, options...); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) fingerprint() Fingerprint { return sha256.Sum256(c.cert.Certificate[0]) }

func (c *client) receive(d []byte) {
	select {
	case c.fromServer <- slices.Clone(d):
	default:
	}
}

func (c *client) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	select {
	case d := <-c.fromServer:
		return copy(b, d), pipeAddr{}, nil
	case <-deadline:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *client) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.toServer(slices.Clone(b))
	return len(b), nil
}

func (c *client) Close() error { return c.SetReadDeadline(time.Unix(1, 0)) }
func (c *client) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.IsZero() && !c.closed {
		close(c.deadline)
		c.closed = true
	}
	return nil
}
func (c *client) LocalAddr() net.Addr              { return pipeAddr{} }
func (c *client) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *client) SetWriteDeadline(time.Time) error { return nil }

func newTerminator(t *testing.T, cfg Config) *Terminator {
	t.Helper()
	term, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(term.Close)
	return term
}

// outcome begins a handshake and returns it with the channel of its Result.
func outcome(t *testing.T, term *Terminator, peer Fingerprint, send func([]byte)) (*Handshake, chan Result) {
	t.Helper()
	done := make(chan Result, 2) // room for a second one, which would be wrong
	h, ok := term.Begin(peer, send, func(r Result) { done <- r })
	if !ok {
		t.Fatal("half-open bound")
	}
	return h, done
}

func clientKeying(t *testing.T, c *client) (crypt.Profile, []byte) {
	t.Helper()
	state, ok := c.conn.ConnectionState()
	if !ok {
		t.Fatal("client has no state")
	}
	profile, _ := c.conn.SelectedSRTPProtectionProfile()
	keying, err := state.ExportKeyingMaterial(exporterLabel, nil, crypt.Profile(profile).KeyingLen())
	if err != nil {
		t.Fatal(err)
	}
	return crypt.Profile(profile), keying
}

// The client connects although our last flight is dropped three times: it is
// answered from memory, when nothing of the handshake runs any more. No
// close_notify reaches it.
func TestLastFlightDropped(t *testing.T) {
	for _, c := range []struct {
		name    string
		offered []dtls.SRTPProtectionProfile
		want    crypt.Profile
	}{
		{"our preference wins", []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM}, crypt.AEADAES128GCM},
		{"the other is taken", []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80}, crypt.AES128CMHMACSHA1_80},
	} {
		t.Run(c.name, func(t *testing.T) {
			term := newTerminator(t, Config{})
			drops := 3
			var mu sync.Mutex // guards drops and what follows
			var h *Handshake
			var flight *LastFlight
			var cl *client
			deliver := func(d []byte) {
				mu.Lock()
				defer mu.Unlock()
				if holds(d, typeChangeCipherSpec, 0) && drops > 0 {
					drops--
					return
				}
				cl.receive(d)
			}
			cl = newClient(t, func(d []byte) {
				mu.Lock()
				f, hs := flight, h
				mu.Unlock()
				if f == nil {
					hs.Feed(d)
					return
				}
				for _, answer := range f.Answer(time.Now(), d) {
					deliver(answer)
				}
			}, dtls.WithSRTPProtectionProfiles(c.offered...))
			hs, done := outcome(t, term, cl.fingerprint(), deliver)
			mu.Lock()
			h = hs
			mu.Unlock()

			shaken := make(chan error, 1)
			go func() { shaken <- cl.conn.HandshakeContext(t.Context()) }()
			r := <-done
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			if term.HalfOpen() != 0 {
				t.Errorf("%d half open", term.HalfOpen())
			}
			mu.Lock()
			flight = &r.Flight
			mu.Unlock()
			if err := <-shaken; err != nil {
				t.Fatal(err)
			}
			profile, keying := clientKeying(t, cl)
			if profile != c.want || r.Profile != c.want {
				t.Errorf("profile %v, client %v, want %v", r.Profile, profile, c.want)
			}
			if !slices.Equal(r.Keying, keying) || len(keying) == 0 {
				t.Errorf("keying %x, client %x", r.Keying, keying)
			}
			if drops != 0 {
				t.Errorf("%d drops left", drops)
			}
			// An alert would have been read by now or end the client here.
			if _, err := cl.conn.Write([]byte("still open")); err != nil {
				t.Errorf("client closed: %v", err)
			}
			cl.conn.Close()
		})
	}
}

// Every third datagram is lost in each direction.
func TestLossy(t *testing.T) {
	term := newTerminator(t, Config{})
	var mu sync.Mutex
	n := 0
	lost := func() bool {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n%3 == 1
	}
	begun := make(chan struct{})
	var h *Handshake
	var flight LastFlight
	finished := make(chan struct{})
	var cl *client
	cl = newClient(t, func(d []byte) {
		<-begun
		if lost() {
			return
		}
		select {
		case <-finished:
			for _, answer := range flight.Answer(time.Now(), d) {
				cl.receive(answer)
			}
		default:
			h.Feed(d)
		}
	}, preferred(), dtls.WithMTU(300)) // many fragments
	var done chan Result
	h, done = outcome(t, term, cl.fingerprint(), func(d []byte) {
		if !lost() {
			cl.receive(d)
		}
	})
	close(begun)
	shaken := make(chan error, 1)
	go func() { shaken <- cl.conn.HandshakeContext(t.Context()) }()
	r := <-done
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	flight = r.Flight
	close(finished)
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	if _, keying := clientKeying(t, cl); !slices.Equal(keying, r.Keying) {
		t.Errorf("keying %x, client %x", r.Keying, keying)
	}
	cl.conn.Close()
}

// Connected sessions hold no goroutine while their Terminator lives on.
func TestNothingRuns(t *testing.T) {
	term := newTerminator(t, Config{})
	before := goleak.IgnoreCurrent()
	const sessions = 8
	kept := make([]Result, sessions)
	for i := range kept {
		begun := make(chan struct{})
		var h *Handshake
		cl := newClient(t, func(d []byte) {
			<-begun
			h.Feed(d)
		}, preferred())
		var done chan Result
		h, done = outcome(t, term, cl.fingerprint(), cl.receive)
		close(begun)
		if err := cl.conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if kept[i] = <-done; kept[i].Err != nil {
			t.Fatal(kept[i].Err)
		}
		cl.conn.Close()
	}
	goleak.VerifyNone(t, before)
	for i := range kept {
		if len(kept[i].Flight.datagrams) == 0 || len(kept[i].Keying) != crypt.AEADAES128GCM.KeyingLen() {
			t.Errorf("session %d: %+v", i, kept[i])
		}
	}
}

// What a client can do wrong, each with its error and no alert from us.
func TestRefused(t *testing.T) {
	const short = 300 * time.Millisecond
	another, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		options []dtls.ClientOption
		cert    func(own tls.Certificate) tls.Certificate // presented instead of its own
		alter   func([]byte) []byte                       // what becomes of a datagram of the client
		want    error
		timeout time.Duration
	}{
		{name: "another certificate", options: []dtls.ClientOption{preferred()}, want: ErrFingerprint,
			cert: func(tls.Certificate) tls.Certificate { return another }},
		{name: "stolen certificate", options: []dtls.ClientOption{preferred()},
			cert: func(own tls.Certificate) tls.Certificate { own.PrivateKey = another.PrivateKey; return own }},
		{name: "no certificate", options: []dtls.ClientOption{preferred()}, timeout: short,
			cert: func(tls.Certificate) tls.Certificate { return tls.Certificate{} }},
		{name: "certificate without verify", options: []dtls.ClientOption{preferred()}, timeout: short,
			alter: withoutCertificateVerify, want: context.DeadlineExceeded},
		{name: "no SRTP", want: ErrNoSRTP},
		{name: "no extended master secret",
			options: []dtls.ClientOption{preferred(), dtls.WithExtendedMasterSecret(dtls.DisableExtendedMasterSecret)}},
		{name: "no common cipher",
			options: []dtls.ClientOption{preferred(), dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM)}},
		{name: "silence", timeout: short, alter: func([]byte) []byte { return nil }, want: context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			term := newTerminator(t, Config{Timeout: c.timeout})
			begun := make(chan struct{})
			var h *Handshake
			var cl *client
			options := append(slices.Clone(c.options), dtls.WithGetClientCertificate(
				func(*dtls.CertificateRequestInfo) (*tls.Certificate, error) {
					cert := cl.cert
					if c.cert != nil {
						cert = c.cert(cert)
					}
					return &cert, nil
				}))
			cl = newClient(t, func(d []byte) {
				<-begun
				if c.alter != nil {
					d = c.alter(d)
				}
				h.Feed(d)
			}, options...)
			var done chan Result
			h, done = outcome(t, term, cl.fingerprint(), func(d []byte) {
				if holds(d, typeAlert, 0) || holds(d, typeAlert, 1) {
					t.Error("an alert leaves")
				}
				cl.receive(d)
			})
			close(begun)
			ctx, cancel := context.WithCancel(t.Context())
			shaken := make(chan error, 1)
			go func() { shaken <- cl.conn.HandshakeContext(ctx) }()
			r := <-done
			if r.Err == nil || c.want != nil && !errors.Is(r.Err, c.want) {
				t.Errorf("error %v, want %v", r.Err, c.want)
			}
			if r.Keying != nil || r.Profile != 0 || r.Flight.datagrams != nil {
				t.Errorf("%+v", r)
			}
			cancel()
			<-shaken
			cl.conn.Close()
		})
	}
}

// withoutCertificateVerify takes message 15 (RFC 5246 section 7.4) out of a
// datagram.
func withoutCertificateVerify(d []byte) []byte {
	var kept []byte
	for len(d) > recordHeaderLen {
		n := recordHeaderLen + int(d[11])<<8 + int(d[12])
		if d[0] != typeHandshake || d[4] != 0 || d[recordHeaderLen] != 15 {
			kept = append(kept, d[:n]...)
		}
		d = d[n:]
	}
	return kept
}

// record makes one record of a type and epoch.
func record(kind, epoch byte, body ...byte) []byte {
	return append([]byte{kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

// fragment makes a handshake fragment of a message of so many bytes; length is
// what it claims, whatever the data.
func fragment(kind byte, of, seq, from, length int, data ...byte) []byte {
	return append([]byte{kind, byte(of >> 16), byte(of >> 8), byte(of), byte(seq >> 8), byte(seq),
		byte(from >> 16), byte(from >> 8), byte(from), byte(length >> 16), byte(length >> 8), byte(length)}, data...)
}

// whole makes a message in one fragment.
func whole(kind byte, seq int, data ...byte) []byte {
	return fragment(kind, len(data), seq, 0, len(data), data...)
}

func TestAcceptable(t *testing.T) {
	for _, c := range []struct {
		name string
		d    []byte
		want bool
	}{
		{"ClientHello", record(22, 0, whole(1, 0, 1, 2, 3)...), true},
		{"several messages", record(22, 0, append(whole(11, 1, 1), whole(16, 2, 1)...)...), true},
		{"fragment", record(22, 0, fragment(1, 200, 0, 100, 2, 1, 2)...), true},
		{"last fragment", record(22, 0, fragment(1, 102, 0, 100, 2, 1, 2)...), true},
		{"change cipher spec", record(20, 0, 1), true},
		{"finished", record(22, 1, 1), true},
		{"several records", append(record(20, 0, 1), record(22, 1, 1)...), true},
		{"plaintext alert", record(21, 0, 2, 40), false},
		{"encrypted alert", record(21, 1, 1), false},
		{"plaintext application data", record(23, 0, 'h', 'i'), false},
		{"application data", record(23, 1, 'h', 'i'), false},
		{"hidden behind a handshake", append(record(22, 0, whole(1, 0, 1)...), record(23, 0, 1)...), false},
		{"next epoch", record(22, 2, 1), false},
		{"connection id", record(25, 1, 1), false},
		{"heartbeat", record(24, 0, 1), false},
		{"change cipher spec of two bytes", record(20, 0, 1, 1), false},
		{"TLS", []byte{22, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, false},
		{"empty record", record(22, 0), false},
		{"cut", record(22, 0, whole(1, 0, 1, 2, 3)...)[:27], false},
		{"rest of a record", append(record(22, 0, whole(1, 0, 1)...), 22, 0xfe, 0xfd), false},
		{"server's message", record(22, 0, whole(2, 0, 1)...), false},
		{"plaintext finished", record(22, 0, whole(20, 0, 1)...), false},
		{"empty message", record(22, 0, fragment(1, 0, 0, 0, 0)...), false},
		{"empty message with an offset", record(22, 0, fragment(1, 0, 0, 34, 0)...), false},
		{"empty fragment", record(22, 0, append(fragment(1, 9, 0, 3, 0), 1)...), false},
		{"fragment past its message", record(22, 0, fragment(1, 101, 0, 100, 2, 1, 2)...), false},
		{"fragment past its record", record(22, 0, fragment(1, 100, 0, 0, 9, 1, 2)...), false},
		{"message of 16 MB", record(22, 0, fragment(1, 1<<24-1, 0, 0, 2, 1, 2)...), false},
		{"hundredth message", record(22, 0, whole(1, 99, 1)...), false},
		{"half a fragment header", record(22, 0, append(whole(1, 0, 1), 1, 0, 0)...), false},
		{"nothing", nil, false},
	} {
		if got := acceptable(c.d); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A stranger who writes first, with a client's address and something that no
// handshake can come of, stops nobody: not with junk, not with a ClientHello
// that offers no cipher but NULL.
func TestClientHelloRace(t *testing.T) {
	term := newTerminator(t, Config{})
	begun := make(chan struct{})
	var h *Handshake
	var flight LastFlight
	finished := make(chan struct{})
	cl := newClient(t, func(d []byte) {
		<-begun
		select {
		case <-finished:
		default:
			h.Feed(d)
		}
	}, preferred())
	h, done := outcome(t, term, cl.fingerprint(), cl.receive)
	null := append([]byte{1, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 42, 0xfe, 0xfd}, make([]byte, 32)...) // random
	null = append(null, 0, 0, 0, 2, 0, 0, 1, 0)                                                   // TLS_NULL_WITH_NULL_NULL
	for _, d := range [][]byte{record(22, 0, null...), record(21, 0, 2, 40), record(23, 0, 1), {22}} {
		h.Feed(d)
	}
	close(begun)
	shaken := make(chan error, 1)
	go func() { shaken <- cl.conn.HandshakeContext(t.Context()) }()
	r := <-done
	close(finished)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	flight = r.Flight
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	if flight.datagrams == nil {
		t.Error("no last flight")
	}
	cl.conn.Close()
}

// Fragments of messages that never end hold no more than MaxReassembly.
func TestReassemblyBound(t *testing.T) {
	term := newTerminator(t, Config{Timeout: time.Minute})
	h, done := outcome(t, term, Fingerprint{}, func([]byte) {})
	fed := 0
	for i := range 10 * sfu.MaxReassembly / 1000 {
		// Every other thousand bytes of messages that never get whole.
		d := record(22, 0, fragment(1, sfu.MaxReassembly, i/32%8, i%32*2000, 1000, make([]byte, 1000)...)...)
		if h.Feed(d) {
			fed += len(d)
		}
	}
	if fed > sfu.MaxReassembly {
		t.Errorf("%d bytes were taken, at most %d may be", fed, sfu.MaxReassembly)
	}
	h.Cancel()
	if r := <-done; !errors.Is(r.Err, ErrCancelled) {
		t.Errorf("error %v", r.Err)
	}
	if fed == 0 || h.Feed(record(22, 1, 1)) {
		t.Errorf("fed beyond the budget, after %d bytes", fed)
	}
}

func TestHalfOpen(t *testing.T) {
	term := newTerminator(t, Config{HalfOpen: 3, Timeout: time.Minute})
	var open []*Handshake
	var ends []chan Result
	for range 3 {
		h, done := outcome(t, term, Fingerprint{}, func([]byte) {})
		open, ends = append(open, h), append(ends, done)
	}
	begin := func() bool {
		_, ok := term.Begin(Fingerprint{}, func([]byte) {}, func(Result) {})
		return ok
	}
	if begin() || term.HalfOpen() != 3 {
		t.Fatalf("a fourth of three, %d open", term.HalfOpen())
	}
	open[0].Cancel()
	open[0].Cancel()
	if r := <-ends[0]; !errors.Is(r.Err, ErrCancelled) {
		t.Errorf("error %v", r.Err)
	}
	if !begin() {
		t.Error("no room after one has ended")
	}
	term.Close()
	for _, done := range ends[1:] {
		if r := <-done; !errors.Is(r.Err, ErrCancelled) {
			t.Errorf("error %v", r.Err)
		}
		select {
		case r := <-done:
			t.Errorf("a second result: %+v", r)
		default:
		}
	}
	if begin() || term.HalfOpen() != 0 {
		t.Errorf("%d open after Close", term.HalfOpen())
	}
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{{HalfOpen: -1}, {Timeout: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v accepted", cfg)
		}
	}
}

func TestLastFlight(t *testing.T) {
	now := time.Unix(1e9, 0)
	fresh := func() LastFlight {
		return LastFlight{datagrams: [][]byte{{1}, {2}}, until: now.Add(sfu.FlightKept)}
	}
	repeated := append(record(20, 0, 1), record(22, 1, 1, 2, 3)...)
	f := fresh()
	for _, d := range [][]byte{nil, record(22, 0, whole(11, 1, 1)...), record(20, 0, 1), record(21, 1, 1), record(23, 1, 1), {22, 0xfe}} {
		if f.Answer(now, d) != nil {
			t.Errorf("answers %x", d)
		}
	}
	for i := range sfu.FlightResends {
		if got := f.Answer(now, repeated); len(got) != 2 {
			t.Fatalf("answer %d: %x", i, got)
		}
	}
	if f.Answer(now, repeated) != nil || f.datagrams != nil {
		t.Error("answers once too often, or keeps what it will not send")
	}
	f = fresh()
	if f.Answer(now.Add(sfu.FlightKept), repeated) == nil {
		t.Error("forgets too soon")
	}
	if f.Answer(now.Add(sfu.FlightKept+1), repeated) != nil || f.datagrams != nil {
		t.Error("answers after its time")
	}
	if (&LastFlight{}).Answer(now, repeated) != nil {
		t.Error("the zero value answers")
	}
}

func TestFingerprint(t *testing.T) {
	f := Fingerprint{0: 0xab, 31: 0x0f}
	want := "AB:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:0F"
	if f.String() != want {
		t.Errorf("%v, want %s", f, want)
	}
}

// FuzzFeed: whatever a client sends, nothing panics, no alert leaves and there
// is one Result.
func FuzzFeed(f *testing.F) {
	// A ClientHello that can be answered: one cipher, P-256, SRTP, extended
	// master secret.
	hello := append([]byte{0xfe, 0xfd}, make([]byte, 32)...)
	hello = append(hello, 0, 0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 27,
		0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 14, 0, 5, 0, 2, 0, 7, 0, 0, 23, 0, 0)
	f.Add(record(22, 0, whole(1, 0, hello...)...))
	f.Add(record(22, 0, append(fragment(1, len(hello), 0, 0, 20, hello[:20]...), fragment(1, len(hello), 0, 20, len(hello)-20, hello[20:]...)...)...))
	// Messages that parsers once panicked at: ServerKeyExchange whose PSK hint
	// takes all, ServerHello and HelloVerifyRequest cut short, and an empty
	// message with an offset.
	f.Add(record(22, 0, whole(12, 0, 0, 2, 1, 2)...))
	f.Add(record(22, 0, whole(2, 0, 0xfe)...))
	f.Add(record(22, 0, whole(3, 0, 0xfe, 0xfd)...))
	f.Add(record(22, 0, fragment(1, 0, 0, 34, 0)...))
	f.Add(record(22, 0, whole(11, 0, 0, 0, 0)...))
	f.Add(record(22, 0, whole(16, 1, 65, 4)...))
	f.Add(append(record(20, 0, 1), record(22, 1, make([]byte, 40)...)...))
	f.Add([]byte{22})
	term, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(term.Close)
	f.Fuzz(func(t *testing.T, d []byte) {
		done := make(chan Result, 2)
		h, ok := term.Begin(Fingerprint{}, func(d []byte) {
			if holds(d, typeAlert, 0) || holds(d, typeAlert, 1) {
				t.Error("an alert leaves")
			}
		}, func(r Result) { done <- r })
		if !ok {
			t.Fatal("half-open bound")
		}
		h.Feed(d)
		h.Feed(d)
		// A Conn reads on when it is through with a datagram, so that as many
		// empty ones as the queue holds and two more push both through.
		for range queueLen + 2 {
			select {
			case h.in <- nil:
			case r := <-done:
				done <- r
			}
		}
		h.Cancel()
		if r := <-done; r.Err == nil {
			t.Fatal("keys from one datagram")
		}
	})
}
