package edgeagentserver

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
)

// TestLinkSocket: datagrams of every length come whole, from where they were sent,
// over sockets of one family and of both, and cost no allocation.
func TestLinkSocket(t *testing.T) {
	for network, host := range map[string]string{"udp4": "127.0.0.1", "udp": "::", "udp6": "::1"} {
		open := func() *linkSocket {
			c, err := net.ListenUDP(network, &net.UDPAddr{IP: net.ParseIP(host)})
			if err != nil {
				t.Skip(network, err)
			}
			t.Cleanup(func() { c.Close() })
			s, err := newLinkSocket(c)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.SetReadDeadline(time.Now().Add(edgeagenttest.Timeout))
			return s
		}
		a, b := open(), open()
		port := func(s *linkSocket) int { return s.LocalAddr().(*net.UDPAddr).Port }
		to := &net.UDPAddr{IP: net.ParseIP("127.0.0.1"), Port: port(b)}
		if network == "udp6" {
			to.IP = net.ParseIP("::1")
		}
		from := &net.UDPAddr{IP: to.IP, Port: port(a)}
		ms := make([]ipv4.Message, linkBatch)
		for i := range ms {
			ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 2048)}, OOB: make([]byte, 128)}
		}
		datagram := make([]byte, 1500)
		next := 0
		trade := func() {
			for i := range 3 {
				datagram[0] = byte(next + i)
				if n, _, err := a.WriteMsgUDP(datagram[:next+i], nil, to); err != nil || n != next+i {
					t.Fatal(network, n, err)
				}
			}
			for got := 0; got < 3; {
				n, err := b.ReadBatch(ms, 0)
				if err != nil {
					t.Fatal(network, err)
				}
				for _, m := range ms[:n] {
					if m.N != next+got || m.N > 0 && m.Buffers[0][0] != byte(m.N) {
						t.Fatal(network, "came", m.N, "of", next+got)
					}
					if addr := m.Addr.(*net.UDPAddr); !addr.IP.Equal(from.IP) || addr.Port != from.Port || addr.Zone != "" {
						t.Fatal(network, "came from", addr, "not", from)
					}
					got++
				}
			}
			next += 3
		}
		for next < 1400 {
			trade()
		}
		if n := testing.AllocsPerRun(10, trade); n != 0 {
			t.Errorf("%s: %v allocations", network, n)
		}
		if _, _, err := a.WriteMsgUDP(make([]byte, 1<<16), nil, to); err == nil {
			t.Error(network, "took a datagram that is too long")
		}
		_ = b.SetReadDeadline(time.Unix(1, 0))
		if _, err := b.ReadBatch(ms, 0); err == nil || !err.(net.Error).Timeout() {
			t.Error(network, fmt.Sprint(err), "at the deadline")
		}
	}
}

// TestLinkSocketOfOneFamily: a socket without IPv6 refuses its addresses, as
// net.UDPConn does, and a link goes on with the peer's other ones.
func TestLinkSocketOfOneFamily(t *testing.T) {
	far := netip.MustParseAddr("2001:db8::1")
	a, b := newLinkEnd(t, "node-1", nil), newLinkEnd(t, "node-2", nil)
	to := netip.AddrPortFrom(far, 1)
	refused := new(net.AddrError)
	if _, _, err := a.links.socket.WriteMsgUDP(make([]byte, 100), nil, net.UDPAddrFromAddrPort(to)); !errors.As(err, &refused) {
		t.Error("a datagram of QUIC to an address of IPv6:", err)
	}
	if err := a.links.socket.send(make([]byte, 100), to); !errors.As(err, &refused) {
		t.Error("a datagram to an address of IPv6:", err)
	}
	who := b.peer()
	who.Addrs = []netip.Addr{far}
	a.share(1, who)
	b.share(1, a.peer())
	if conn, err := a.links.peer("node-2").connect(time.Second); conn != nil || !errors.As(err, &refused) {
		t.Error("a link to an address of IPv6 alone:", conn, err)
	}
	who.Addrs = []netip.Addr{far, ownHost}
	a.share(1, who)
	a.up(1)
}

// fickle is a PeerTrust that tells when it believes somebody.
type fickle struct {
	PeerTrust
	believed func()
}

// Check serves PeerTrust.
func (f *fickle) Check(peer edgeagent.RelayPeer, leaf *x509.Certificate) error {
	err := f.PeerTrust.Check(peer, leaf)
	f.believed()
	return err
}

// TestLinkRefusedIsTold: a node whose last link has ended, so that none flushes, still
// tells at once who makes one just then.
func TestLinkRefusedIsTold(t *testing.T) {
	own, err := newPinned("edge-b")
	if err != nil {
		t.Fatal(err)
	}
	trust := &fickle{PeerTrust: own}
	a, b := newLinkEnd(t, "edge-a", nil), newLinkEnd(t, "edge-b", func(c *Config) { c.Trust = trust })
	trust.believed = func() {
		b.share(7)
		s := b.links.socket
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sentAtLast = time.Now().Add(time.Hour) // however slow the test is
	}
	b.share(7, a.peer())
	conn, err := a.links.outer.Dial(t.Context(), b.outer.LocalAddr(), a.links.clientTLS(b.peer()), a.links.quic())
	if err != nil {
		t.Fatal(err)
	}
	<-conn.Context().Done()
	var told *quic.ApplicationError
	if err := context.Cause(conn.Context()); !errors.As(err, &told) || !told.Remote {
		t.Error("the link ended with", err)
	}
}

// TestLinkSocketHoldsBack: what is short goes with the next datagram, before it,
// while there are long ones; and at flush, with the next short one, or at once when
// nothing long was sent lately.
func TestLinkSocketHoldsBack(t *testing.T) {
	open := func() *linkSocket {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s, err := newLinkSocket(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := open(), open()
	to := b.LocalAddr().(*net.UDPAddr)
	ms := make([]ipv4.Message, linkBatch)
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 2048)}}
	}
	datagram := make([]byte, 100)
	say := func(n int) {
		t.Helper()
		if _, _, err := a.WriteMsgUDP(datagram[:n], nil, to); err != nil {
			t.Fatal(err)
		}
	}
	// On loopback what was sent is there when the call returns.
	comes := func(what string, want ...int) {
		t.Helper()
		_ = b.SetReadDeadline(time.Now().Add(edgeagenttest.Timeout))
		var came []int
		for len(came) < len(want) {
			n, err := b.ReadBatch(ms, 0)
			if err != nil {
				t.Fatalf("%s: %v came, then %v", what, came, err)
			}
			for _, m := range ms[:n] {
				came = append(came, m.N)
			}
		}
		if !slices.Equal(came, want) {
			t.Fatalf("%s: %v came, want %v", what, came, want)
		}
		if a.holding {
			t.Fatalf("%s: something is held back", what)
		}
	}
	lately := func() { a.sentAtLast = time.Now().Add(time.Hour) } // however slow the test is
	say(40)
	comes("nothing long was sent", 40)
	say(holdMost + 1)
	comes("something long", holdMost+1)
	lately()
	say(40)
	if !a.holding {
		t.Fatal("nothing is held back")
	}
	say(100)
	comes("with something long", 40, 100)
	lately()
	say(41)
	say(42)
	comes("with something short", 41, 42)
	say(43)
	a.flush()
	comes("at flush", 43)
	a.flush()
	say(44)
	say(holdMost)
	comes("again", 44, holdMost)
	lately()
	datagram[0] = longHeader
	say(46)
	comes("of a handshake", 46)
	datagram[0] = 0
	both := func() {
		lately()
		say(40)
		say(100)
		if n, err := b.ReadBatch(ms, 0); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n := testing.AllocsPerRun(10, both); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
