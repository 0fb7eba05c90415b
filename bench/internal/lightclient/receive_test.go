package lightclient

import (
	"context"
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/meter"
)

// blast sends voice datagrams of n bytes to all clients in turn, as a node does.
func blast(t testing.TB, clients []*Client, rounds, n int) {
	t.Helper()
	from, err := openSocket(netip.MustParseAddr("127.0.0.1"), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer from.close()
	out := newOutbox()
	out.socket = from
	refused := 0
	told := func(_, sent bool) {
		if !sent {
			refused++
		}
	}
	for seq := range rounds {
		for i, c := range clients {
			b := out.next()
			b[0], b[1] = 0x80, opusPT
			binary.BigEndian.PutUint16(b[2:], uint16(seq))
			binary.BigEndian.PutUint32(b[8:], c.ssrcs[(i+seq)%len(c.ssrcs)])
			to := rawAddress(c.local)
			out.put(n, [4]byte{}, &to, true)
			if out.used == 128 || i == len(clients)-1 {
				out.flush(told)
			}
		}
		pause := unix.NsecToTimespec(int64(5 * time.Millisecond))
		_ = unix.Nanosleep(&pause, nil)
	}
	if refused > 0 {
		t.Fatalf("kernel refused %d", refused)
	}
}

// seated makes clients that know slots, as after Connect.
func seated(t testing.TB, e *Engine, count, slots int) []*Client {
	t.Helper()
	clients := make([]*Client, count)
	for i := range clients {
		c, err := e.Add(Seat{Slots: slots})
		if err != nil {
			t.Fatal(err)
		}
		c.ssrcs, c.slots = make([]uint32, slots), make([]slot, slots)
		for k := range c.ssrcs {
			c.ssrcs[k] = uint32(k + 1)
		}
		clients[i] = c
	}
	return clients
}

// BenchmarkReceive tells the CPU time of the reader per datagram, 700 clients in
// bursts.
func BenchmarkReceive(b *testing.B) {
	e, err := New(Config{Host: netip.MustParseAddr("127.0.0.1"), Coalesce: time.Millisecond, VoiceSize: 100})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	clients := seated(b, e, 700, 16)
	b.ResetTimer()
	e.Reset()
	began := time.Now()
	blast(b, clients, b.N, 148)
	for e.Total().Voice < uint64(b.N*len(clients)) && time.Since(began) < time.Minute {
		time.Sleep(time.Millisecond)
	}
	p := e.Pace()
	cpu := p.ReaderBusy * float64(time.Since(began))
	b.ReportMetric(cpu/float64(b.N*len(clients)), "ns/datagram")
	if p.SocketDrops > 0 {
		b.Errorf("dropped %d", p.SocketDrops)
	}
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

// TestReceiveAllocates holds that reading, counting, opening and judging allocate
// nothing, and that a datagram finds its client.
func TestReceiveAllocates(t *testing.T) {
	e := stopped(t, Config{VoiceSize: 100})
	clients := seated(t, e, 20, 3)
	for _, c := range clients[:10] {
		c.seat.Sampled, c.in = true, transformOf(t)
		c.Judge(meter.Config{})
	}
	from, err := openSocket(netip.MustParseAddr("127.0.0.1"), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(from.close)
	out, x, seq := newOutbox(), transformOf(t), 0
	out.socket = from
	told := func(_, sent bool) {
		if !sent {
			t.Error("kernel refused a datagram")
		}
	}
	frame := make([]byte, 80)
	frame[0] = 0x78
	round := func() {
		for _, c := range clients {
			b := out.next()
			b[0], b[1] = 0x80, opusPT
			binary.BigEndian.PutUint16(b[2:], uint16(seq))
			binary.BigEndian.PutUint32(b[8:], c.ssrcs[1])
			packet, err := mark.Append(b[:12], frame, mark.Mark{Talker: 1, Index: uint32(seq), Voiced: true, Due: time.Now()}, 0)
			if err != nil {
				t.Fatal(err)
			}
			to := rawAddress(c.local)
			out.put(len(x.seal(packet, 12, 0)), [4]byte{}, &to, true)
		}
		seq++
		out.flush(told)
		// Loopback delivers before sendmmsg returns.
		e.receive(e.sockets[0])
	}
	for range 5 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations per round", n)
	}
	for i, c := range clients {
		c.Expect(1, []meter.Span{{Count: uint32(seq), Voiced: true}})
		n, want := c.Counts(), uint64(seq)
		if n.Voice != want || n.Lost != 0 || n.Unknown != 0 || n.Refused != 0 || (n.Opened == want) != (i < 10) {
			t.Errorf("client %d of %d packets: %+v", i, want, n)
		}
		if got := c.Heard(); i < 10 && got.Received != want || i >= 10 && got.Received != 0 {
			t.Errorf("client %d heard %d of %d", i, got.Received, want)
		}
	}
}

// TestMemory holds that a client costs less than 32 KiB.
func TestMemory(t *testing.T) {
	const count = 1000
	e := stopped(t, Config{})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	clients := seated(t, e, count, 32)
	for _, c := range clients {
		if len(c.Offer()) < 1000 {
			t.Fatalf("offer %q", c.Offer())
		}
		e.pacer.connect(c, transformOf(t), answer{remote: c.local})
	}
	each := (int64(heap()) - int64(before)) / count
	runtime.KeepAlive(clients)
	t.Logf("%d bytes a client", each)
	if each > 32<<10 {
		t.Errorf("%d bytes a client", each)
	}
}

// TestAddresses holds that addresses are given in order, and again only after a
// rest.
func TestAddresses(t *testing.T) {
	e := stopped(t, Config{Base: netip.MustParseAddr("127.9.0.250"), Sockets: 2})
	add := func() *Client {
		c, err := e.Add(Seat{Slots: 1})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range 10 {
		c := add()
		want := netip.AddrFrom4([4]byte{127, 9, byte((250 + i) / 256), byte(250 + i)})
		if c.Local().Addr() != want || c.Local().Port() != e.sockets[i%2].port {
			t.Errorf("client %d at %v, want %v", i, c.Local(), want)
		}
		c.Close()
	}
	seen := map[netip.Addr]bool{}
	for range rested {
		c := add()
		if seen[c.Local().Addr()] {
			t.Fatalf("%v again too early", c.Local())
		}
		seen[c.Local().Addr()] = true
		c.Close()
	}
	if c := add(); c.Local().Addr() != netip.MustParseAddr("127.9.0.250") {
		t.Logf("%d free, next is %v", len(e.free), c.Local())
		if len(e.byAddress) > rested+12 {
			t.Error("addresses are never given again")
		}
	}
}
