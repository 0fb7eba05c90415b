package edgeagentserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"go.uber.org/goleak"

	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/edgeagent/internal/turngate"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// closedRig is a Closed on loopback with a media socket behind it that echoes what
// it gets, from the address it was sent to.
type closedRig struct {
	c     *closed
	media *net.UDPConn
	port  uint16 // of media
	addr  string // of the closed ways
	got   chan []byte
	stop  context.CancelFunc
	ended chan struct{}
}

var loopback = netip.MustParseAddr("127.0.0.1")

func newClosedRig(t *testing.T) *closedRig {
	t.Helper()
	// What is the test's own ends by its clean-ups, which run before this one.
	t.Cleanup(func() { goleak.VerifyNone(t) })
	udp, tcp := onePort(t)
	c, err := newClosed(Closed{UDP: udp, TCP: tcp, TLS: testTLS(t)}, "edge-1", telemetry.NewPanics(nil, telemetry.Discard()))
	if err != nil {
		t.Fatal(err)
	}
	media, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	r := &closedRig{c: c, media: media, port: clientOf(media.LocalAddr()).Addr.Port(), addr: tcp.Addr().String(), got: make(chan []byte, 4096), ended: make(chan struct{})}
	c.targets.own([]netip.Addr{loopback}, []uint16{r.port})
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { defer close(r.ended); c.run(ctx) }()
	echoed := make(chan struct{})
	go func() { defer close(echoed); r.echo() }()
	t.Cleanup(func() {
		stop()
		<-r.ended
		media.Close()
		<-echoed
	})
	return r
}

// onePort is a port of loopback that is free for both.
func onePort(t *testing.T) (*net.UDPConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(clientOf(l.Addr()).Addr)); err == nil {
			return udp, l
		}
		l.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}

// echo answers as the engine does: from where a datagram was sent to.
func (r *closedRig) echo() {
	front, err := newTurnUDP(r.c, r.media)
	if err != nil {
		return
	}
	buf, oob := make([]byte, 2048), make([]byte, 64)
	for {
		n, oobn, _, from, err := r.media.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return
		}
		select {
		case r.got <- append([]byte(nil), buf[:n]...):
		default:
		}
		front.write(buf[:n], arrivedAt(oob[:oobn]), from)
	}
}

func (r *closedRig) live(id sfu.SessionID) (user, password string) {
	r.c.door(custody.Door{Session: id, Port: r.port, Ufrag: "ufrag-of-" + string(id)})
	s := r.c.servers(time.Now(), id, []netip.Addr{loopback})
	return s[0].Username, s[0].Credential
}

func (r *closedRig) peer() *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, r.port))
}

func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{loopback.AsSlice()}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// dial is a TURN client by udp, tcp or tls.
func (r *closedRig) dial(t *testing.T, network, user, password string) *turn.Client {
	t.Helper()
	var conn net.PacketConn
	switch network {
	case "udp":
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn = c
	case "tcp":
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn = turn.NewSTUNConn(c)
	case "tls":
		c, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		conn = turn.NewSTUNConn(c)
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: r.addr, TURNServerAddr: r.addr, Conn: conn, Username: user, Password: password, LoggerFactory: silent{},
		RTO: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); conn.Close() })
	return client
}

func allocate(t *testing.T, c *turn.Client) net.PacketConn {
	t.Helper()
	relay, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	return relay
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	late := time.After(edgeagenttest.Timeout)
	for !is() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("not so: %s", what)
		}
	}
}

// echoes says whether what is sent over a relay comes back.
func echoes(relay net.PacketConn, to net.Addr, say string) error {
	buf := make([]byte, 2048)
	for range 10 { // permission and channel come first
		if _, err := relay.WriteTo([]byte(say), to); err != nil {
			return err
		}
		if err := relay.SetReadDeadline(time.Now().Add(edgeagenttest.Timeout / 10)); err != nil {
			return err
		}
		n, from, err := relay.ReadFrom(buf)
		if err != nil {
			continue
		}
		switch {
		case string(buf[:n]) != say: // what was asked before
		case from.String() != to.String():
			return errors.New("came back from " + from.String())
		default:
			return nil
		}
	}
	return errors.New("nothing came back")
}

// TestRelay: media flows by UDP, TCP and TLS, all on one port, and seems to come
// from the address that the client asked; it ends with the session.
func TestRelay(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			r := newClosedRig(t)
			user, password := r.live("s")
			relay := allocate(t, r.dial(t, network, user, password))
			for _, say := range []string{"first", "second", string(bytes.Repeat([]byte("x"), 1200))} {
				if err := echoes(relay, r.peer(), say); err != nil {
					t.Fatal(err)
				}
			}
			r.c.door(custody.Door{Session: "s", Gone: true})
			eventually(t, "allocation closed", func() bool {
				r.c.mu.Lock()
				defer r.c.mu.Unlock()
				return r.c.gate.Count() == 0 && len(r.c.users) == 0
			})
			if _, err := r.dial(t, network, user, password).Allocate(); err == nil {
				t.Error("credentials of a session that is over still work")
			}
		})
	}
}

// TestRelayBehindNAT: the node's advertised address is not its own, and two of them
// are told apart.
func TestRelayBehindNAT(t *testing.T) {
	r := newClosedRig(t)
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	r.c.targets.own([]netip.Addr{first, second}, []uint16{r.port})
	user, password := r.live("s")
	relay := allocate(t, r.dial(t, "udp", user, password))
	for _, a := range []netip.Addr{first, second, first} {
		if err := echoes(relay, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, r.port)), "to "+a.String()); err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
}

// TestRelayLeadsNowhereElse: a listener of this machine that is no media socket sees
// nothing, whatever a client with good credentials asks, by UDP and TCP.
func TestRelayLeadsNowhereElse(t *testing.T) {
	canary, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer canary.Close()
	tcpCanary, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcpCanary.Close()
	port := clientOf(canary.LocalAddr()).Addr.Port()
	r := newClosedRig(t)
	user, password := r.live("s")
	for _, network := range []string{"udp", "tcp"} {
		client := r.dial(t, network, user, password)
		via := allocate(t, client)
		if err := echoes(via, r.peer(), "good"); err != nil { // permits the address, so that only the port is wrong
			t.Fatal(err)
		}
		for _, s := range []string{"127.0.0.1", "127.0.0.2", "127.86.70.1", "0.0.0.0", "255.255.255.255", "10.0.0.1", "169.254.169.254"} {
			to := &net.UDPAddr{IP: net.ParseIP(s), Port: int(port)}
			if err := client.CreatePermission(to); err == nil {
				t.Errorf("%s: permission for %v", network, to)
			}
			for range 3 {
				_, _ = via.WriteTo([]byte("bad"), to)
			}
		}
		// Past the gate, a Send to the right address and the wrong port.
		r.c.mu.Lock()
		var open *relay
		for each := range r.c.users["s"] {
			open = each.(*relay)
		}
		r.c.mu.Unlock()
		if _, err := open.WriteTo([]byte("bad"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}); err != nil {
			t.Error(err)
		}
		if err := echoes(via, r.peer(), "still good"); err != nil {
			t.Error(err)
		}
	}
	if err := canary.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	if n, from, err := canary.ReadFrom(buf); err == nil {
		t.Errorf("canary got %q from %v", buf[:n], from)
	}
	_ = tcpCanary.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Millisecond))
	if conn, err := tcpCanary.Accept(); err == nil {
		conn.Close()
		t.Error("canary was connected to")
	}
	if r.c.count.sendDrops.Load() == 0 {
		t.Error("nothing was counted")
	}
}

// TestStrangersAtTheRelay: what comes to a relay from anybody but a media socket is
// not passed on.
func TestStrangersAtTheRelay(t *testing.T) {
	r := newClosedRig(t)
	user, password := r.live("s")
	relay := allocate(t, r.dial(t, "udp", user, password))
	if err := echoes(relay, r.peer(), "good"); err != nil {
		t.Fatal(err)
	}
	stranger, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: relay.LocalAddr().(*net.UDPAddr).Port})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for range 5 {
		if _, err := stranger.Write([]byte("stranger")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "strangers counted", func() bool { return r.c.count.strangers.Load() == 5 })
	if err := echoes(relay, r.peer(), "still good"); err != nil {
		t.Error(err)
	}
}

// TestAllocationQuota: of many tries with one session's credentials two succeed;
// others are not hindered.
func TestAllocationQuota(t *testing.T) {
	r := newClosedRig(t)
	user, password := r.live("s")
	made := 0
	for i := range 50 {
		if relay, err := r.dial(t, "tcp", user, password).Allocate(); err == nil {
			t.Cleanup(func() { relay.Close() })
			made++
		} else if i < 2 {
			t.Errorf("try %d: %v", i, err)
		}
	}
	if made != 2 {
		t.Errorf("%d allocations", made)
	}
	user, password = r.live("t")
	if err := echoes(allocate(t, r.dial(t, "tcp", user, password)), r.peer(), "another"); err != nil {
		t.Error(err)
	}
}

// TestStrangersCostNothing: a flood of forged requests leaves no state, and a client
// gets in beside it.
func TestStrangersCostNothing(t *testing.T) {
	r := newClosedRig(t)
	conn, err := net.Dial("udp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	forged, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
		stun.NewUsername("1767269100:s"), stun.NewRealm("vf"), stun.NewNonce("AAAAAAAAAAAAAAAA"), stun.NewShortTermIntegrity("x"))
	if err != nil {
		t.Fatal(err)
	}
	before := r.c.server.AllocationCount()
	var flood sync.WaitGroup
	stop := make(chan struct{})
	flood.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = conn.Write(forged.Raw)
				time.Sleep(100 * time.Microsecond)
			}
		}
	})
	user, password := r.live("s")
	err = echoes(allocate(t, r.dial(t, "tcp", user, password)), r.peer(), "beside")
	close(stop)
	flood.Wait()
	if err != nil {
		t.Error(err)
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if n := r.c.server.AllocationCount(); n != before+1 || len(r.c.users) != 1 {
		t.Errorf("%d allocations, %d users", n, len(r.c.users))
	}
}

// TestServerNonceStaysInside: a client whose request the server finds stale is told
// nothing of the server's nonce, and its next try succeeds.
func TestServerNonceStaysInside(t *testing.T) {
	r := newClosedRig(t)
	user, password := r.live("s")
	eventually(t, "nonce learned", func() bool {
		client := r.dial(t, "udp", user, password)
		relay, err := client.Allocate()
		if err != nil {
			return false
		}
		return relay.Close() == nil
	})
	r.c.mu.Lock()
	spoilt, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse), stun.NewNonce("spoilt"))
	if err != nil || !r.c.gate.Learn(spoilt.Raw) {
		t.Errorf("the gate takes no nonce: %v", err)
	}
	r.c.mu.Unlock()
	if err := echoes(allocate(t, r.dial(t, "udp", user, password)), r.peer(), "after"); err != nil {
		t.Error(err)
	}
}

// check is a connectivity check for a session.
func check(t *testing.T, ufrag string) []byte {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":client"), stun.NewShortTermIntegrity("pw"))
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func frame(d []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(d))), d...) }

func readFramed(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(edgeagenttest.Timeout)); err != nil {
		t.Fatal(err)
	}
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		t.Fatal(err)
	}
	d := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(conn, d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (r *closedRig) tcp(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// gone waits until the other side has closed.
func gone(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(edgeagenttest.Timeout)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, conn)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Error("connection stays open")
	}
	if n != 0 {
		t.Errorf("%d bytes were sent on it", n)
	}
}

// TestICETCP: frames become datagrams and the other way round, however the stream is
// cut; each connection is a client of its own; it ends with its session.
func TestICETCP(t *testing.T) {
	r := newClosedRig(t)
	r.live("s")
	conn := r.tcp(t)
	first := check(t, "ufrag-of-s")
	sent := [][]byte{first, []byte("a"), bytes.Repeat([]byte("b"), 1200), {0x80, 111}}
	var stream []byte
	for _, d := range sent {
		stream = append(stream, frame(d)...)
	}
	stream = append(stream, 0, 0) // an empty frame says nothing
	for _, b := range stream {
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sent {
		if got := readFramed(t, conn); !bytes.Equal(got, want) {
			t.Errorf("got %d bytes %.20x, want %d bytes %.20x", len(got), got, len(want), want)
		}
	}
	if n := r.c.count.bridges.Load(); n != 1 {
		t.Errorf("%d bridges", n)
	}
	r.c.door(custody.Door{Session: "s", Gone: true})
	gone(t, conn)
	eventually(t, "bridge ended", func() bool { return r.c.count.bridges.Load() == 0 })
}

// TestICETCPRefuses: what is no connectivity check for a session here reaches the
// engine with no byte, and is closed.
func TestICETCPRefuses(t *testing.T) {
	r := newClosedRig(t)
	r.live("s")
	plain, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		first []byte
		why   refusalReason
	}{
		"unknown ufrag":  {frame(check(t, "nobody")), refusedUfrag},
		"no credentials": {frame(plain.Raw), refusedUfrag},
		"HTTP":           {[]byte("GET / HTTP/1.1\r\n\r\n"), refusedForeign},
		"zeros":          {make([]byte, 64), refusedForeign},
		"too long":       {append([]byte{0xff, 0xff}, check(t, "ufrag-of-s")...), refusedSilent},
		"TLS nonsense":   {append([]byte{0x16, 3, 1, 0, 20}, make([]byte, 20)...), refusedTLS},
	} {
		before := r.c.count.refused[c.why].Load()
		conn := r.tcp(t)
		if _, err := conn.Write(c.first); err != nil {
			t.Fatal(err)
		}
		if c.why != refusedTLS { // that one is told so by an alert
			gone(t, conn)
		}
		eventually(t, name+" is counted", func() bool { return r.c.count.refused[c.why].Load() == before+1 })
	}
	for range maxBridges {
		conn := r.tcp(t)
		if _, err := conn.Write(frame(check(t, "ufrag-of-s"))); err != nil {
			t.Fatal(err)
		}
		readFramed(t, conn)
	}
	more := r.tcp(t)
	if _, err := more.Write(frame(check(t, "ufrag-of-s"))); err != nil {
		t.Fatal(err)
	}
	gone(t, more)
	if len(r.got) != maxBridges {
		t.Errorf("the engine got %d datagrams", len(r.got))
	}
}

// TestSlowReader: a client that does not read costs a bounded number of frames, and
// gets the newest when it reads again.
func TestSlowReader(t *testing.T) {
	o := newOutbox()
	for i := range byte(200) {
		o.put([]byte{0, 1}, []byte{i})
	}
	if o.lost() != 200-outboxLen {
		t.Errorf("%d frames lost", o.lost())
	}
	got, open := o.take(nil)
	if !open || len(got) != 3*outboxLen || got[2] != 200-outboxLen || got[len(got)-1] != 199 {
		t.Errorf("%d bytes, first %d, last %d", len(got), got[2], got[len(got)-1])
	}
	for range outboxLen {
		o.put(nil, make([]byte, 1500))
	}
	if got, _ := o.take(nil); len(got) > outboxWrite {
		t.Errorf("%d bytes at once", len(got))
	}
	if n := testing.AllocsPerRun(100, func() { o.put([]byte{0, 1}, got[:100]) }); n != 0 {
		t.Errorf("%v allocations for a frame", n)
	}
	o.close()
	o.put(nil, []byte("late"))
	if _, open := o.take(nil); open {
		t.Error("open after close")
	}
}

// TestStreamsPerPrefix: connections of one prefix are bounded, and their places are
// free again afterwards.
func TestStreamsPerPrefix(t *testing.T) {
	r := newClosedRig(t)
	r.c.mu.Lock()
	r.c.conns.prefixes[turngate.Prefix(loopback)] = maxPerPrefix - 1
	r.c.mu.Unlock()
	first := r.tcp(t)
	eventually(t, "first is in", func() bool { r.c.mu.Lock(); defer r.c.mu.Unlock(); return len(r.c.conns.open) == 1 })
	gone(t, r.tcp(t))
	first.Close()
	eventually(t, "first is out", func() bool { r.c.mu.Lock(); defer r.c.mu.Unlock(); return len(r.c.conns.open) == 0 })
	r.tcp(t)
	eventually(t, "its place is taken", func() bool { r.c.mu.Lock(); defer r.c.mu.Unlock(); return len(r.c.conns.open) == 1 })
}
