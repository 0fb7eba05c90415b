package sfuserver

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/egress"
)

func listen(t *testing.T, network, address string) *net.UDPConn {
	t.Helper()
	a, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP(network, a)
	if err != nil {
		t.Skipf("no %s here: %v", address, err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// TestOneBadDestination puts one that cannot be sent to in the middle of a full
// batch: all others get theirs.
func TestOneBadDestination(t *testing.T) {
	for _, c := range []struct{ network, address string }{{"udp", ":0"}, {"udp4", "127.0.0.1:0"}} {
		s, err := openSocket(listen(t, c.network, c.address))
		if err != nil {
			t.Fatal(err)
		}
		receiver := listen(t, "udp4", "127.0.0.1:0")
		good := s.leave(demux.RemoteFrom(receiver.LocalAddr().(*net.UDPAddr).AddrPort()), netip.Addr{}, 0)
		bad := s.leave(demux.RemoteFrom(netip.MustParseAddrPort("127.0.0.1:0")), netip.Addr{}, 0)
		refused := uint64(0)
		b := egress.NewBatch(func(b *egress.Batch) { refused += s.send(b) })
		for i := range egress.Datagrams {
			to := &good
			if i == 3 || i == 70 || i == egress.Datagrams-1 {
				to = &bad
			}
			b.Put(fmt.Append(b.Next(), i), to)
		}
		b.Flush()
		if refused != 3 {
			t.Errorf("%s: %d refused", c.network, refused)
		}
		buf := make([]byte, 100)
		for i := range egress.Datagrams {
			if i == 3 || i == 70 || i == egress.Datagrams-1 {
				continue
			}
			n, err := receiver.Read(buf)
			if err != nil || string(buf[:n]) != fmt.Sprint(i) {
				t.Fatalf("%s: datagram %d: %q, %v", c.network, i, buf[:n], err)
			}
		}
	}
}

// TestAnswersFromTheAddressAsked asks at an address that the kernel would not
// answer from by itself.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	for _, c := range []struct{ network, address, client string }{
		{"udp", ":0", "127.0.0.1:0"}, {"udp4", "0.0.0.0:0", "127.0.0.1:0"}, {"udp", ":0", "[::1]:0"},
	} {
		conn := listen(t, c.network, c.address)
		s, err := openSocket(conn)
		if err != nil {
			t.Fatal(err)
		}
		client := listen(t, "udp", c.client)
		for _, asked := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
			to := netip.AddrPortFrom(netip.MustParseAddr(asked), s.port)
			from := client.LocalAddr().(*net.UDPAddr).AddrPort()
			if to.Addr().Is4() != from.Addr().Is4() {
				continue
			}
			if _, err := client.WriteToUDPAddrPort([]byte("question"), to); err != nil {
				t.Fatal(err)
			}
			if n, err := s.receive(); n != 1 || err != nil || string(s.datagram(0)) != "question" {
				t.Fatalf("%s: %d datagrams, %v", asked, n, err)
			}
			remote, ok := s.from(0)
			if !ok || remote.AddrPort() != from {
				t.Fatalf("%s: from %v", asked, remote)
			}
			path := s.arrival(0, remote)
			if path.Pinned != (asked == "127.0.0.2") {
				t.Errorf("%s: pinned %v", asked, path.Pinned)
			}
			b := egress.NewBatch(func(b *egress.Batch) {
				if n := s.send(b); n != 0 {
					t.Errorf("%s: %d refused", asked, n)
				}
			})
			b.Put(append(b.Next(), "answer"...), &path)
			b.Flush()
			buf := make([]byte, 100)
			n, answered, err := client.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != "answer" || netip.AddrPortFrom(answered.Addr().Unmap(), answered.Port()) != to {
				t.Errorf("asked %v, answered from %v: %q, %v", to, answered, buf[:n], err)
			}
		}
	}
}

func TestWakeEndsTheWait(t *testing.T) {
	s, err := openSocket(listen(t, "udp", ":0"))
	if err != nil {
		t.Fatal(err)
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Hour))
	s.wake()
	if n, err := s.receive(); n != 0 || err != nil {
		t.Errorf("%d datagrams, %v", n, err)
	}
	s.conn.Close()
	if _, err := s.receive(); err == nil {
		t.Error("a closed socket waits")
	}
}

// TestSocketDrops overruns a small receive buffer.
func TestSocketDrops(t *testing.T) {
	conn := listen(t, "udp", ":0")
	s, err := openSocket(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	client := listen(t, "udp4", "127.0.0.1:0")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port)
	for range 100 {
		if _, err := client.WriteToUDPAddrPort(make([]byte, 1000), to); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.drops(); n < 80 || n > 99 {
		t.Errorf("%d of 100 dropped", n)
	}
}

// TestLeavesFromTheAddressItWasReachedAt: a client takes packets only from the
// address it sends to, and a restored session knows that address.
func TestLeavesFromTheAddressItWasReachedAt(t *testing.T) {
	for _, c := range []struct{ network, address string }{{"udp", ":0"}, {"udp4", ":0"}} {
		s, err := openSocket(listen(t, c.network, c.address))
		if err != nil {
			t.Fatal(err)
		}
		receiver := listen(t, "udp4", "127.0.0.1:0")
		b := egress.NewBatch(func(b *egress.Batch) { s.send(b) })
		for _, local := range []string{"127.0.0.9", "127.0.0.1"} {
			to := s.leave(demux.RemoteFrom(receiver.LocalAddr().(*net.UDPAddr).AddrPort()), netip.MustParseAddr(local), 0)
			b.Put(append(b.Next(), 1), &to)
			b.Flush()
			_, from, err := receiver.ReadFromUDPAddrPort(make([]byte, 10))
			if err != nil || from.Addr().Unmap().String() != local {
				t.Errorf("%s: from %v, want %s, %v", c.network, from, local, err)
			}
		}
	}
}
