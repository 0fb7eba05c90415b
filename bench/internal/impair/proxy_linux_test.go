package impair

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// path is a proxy between a client and a server of plain UDP.
type path struct {
	t      *testing.T
	proxy  *Proxy
	door   netip.AddrPort
	server *net.UDPConn
	client *net.UDPConn
	peer   netip.AddrPort // the client as the server sees it
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func address(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// run begins a proxy that ends with the test.
func run(t *testing.T, config Config) *Proxy {
	t.Helper()
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(context.Background()) }()
	t.Cleanup(func() {
		p.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func newPath(t *testing.T, config Config, rules ...Rule) *path {
	t.Helper()
	p := &path{t: t, proxy: run(t, config), server: listen(t), client: listen(t)}
	var err error
	if p.door, err = p.proxy.Through(address(p.server)); err != nil {
		t.Fatal(err)
	}
	p.peer = p.knock(p.client)
	for _, r := range rules {
		p.set(r)
	}
	return p
}

func (p *path) set(r Rule) {
	p.t.Helper()
	if err := p.proxy.Set(r); err != nil {
		p.t.Fatal(err)
	}
}

// knock sends STUN from a client and tells as whom the server sees it.
func (p *path) knock(client *net.UDPConn) netip.AddrPort {
	p.t.Helper()
	p.write(client, p.door, stunLike(0))
	_, from := p.read(p.server)
	return from
}

func (p *path) write(c *net.UDPConn, to netip.AddrPort, b []byte) {
	p.t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		p.t.Fatal(err)
	}
}

func (p *path) read(c *net.UDPConn) ([]byte, netip.AddrPort) {
	p.t.Helper()
	b := make([]byte, 2*maxDatagram)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		p.t.Fatalf("%v; proxy: %+v", err, p.proxy.Counts())
	}
	return b[:n], from
}

// up and down send to the other side.
func (p *path) up(b []byte)   { p.t.Helper(); p.write(p.client, p.door, b) }
func (p *path) down(b []byte) { p.t.Helper(); p.write(p.server, p.peer, b) }

func rtp(ssrc uint32, sequence int) []byte {
	b := make([]byte, 100)
	b[0], b[1] = 0x80, 111
	binary.BigEndian.PutUint16(b[2:], uint16(sequence))
	binary.BigEndian.PutUint32(b[4:], uint32(sequence)*960)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return b
}

// stunLike is a datagram that a proxy passes at once, behind all it had before.
func stunLike(number byte) []byte {
	b := make([]byte, 20)
	b[1], b[19] = 1, number
	return b
}

func sequence(b []byte) int { return int(binary.BigEndian.Uint16(b[2:])) }

// carry sends n packets up and tells which came, in order of arrival. A barrier
// every 50 packets keeps the buffers from running over.
func (p *path) carry(ssrc uint32, from, n int) (came []int) {
	p.t.Helper()
	for i := range n {
		p.up(rtp(ssrc, from+i))
		if i%50 != 49 && i != n-1 {
			continue
		}
		p.up(stunLike(1))
		for {
			b, _ := p.read(p.server)
			if !isRTP(b) {
				break
			}
			came = append(came, sequence(b))
		}
	}
	return came
}

// settle waits until the counts are as wanted.
func (p *path) settle(what string, ok func(Counts) bool) Counts {
	p.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		c := p.proxy.Counts()
		if ok(c) {
			return c
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("waited for %s: %+v", what, c)
		}
	}
}

func balanced(t *testing.T, tally Tally) {
	t.Helper()
	if sum := tally.Passed + tally.Lost + tally.Clipped + tally.Cut + tally.Overflow + tally.Failed + tally.Pending; sum != tally.Received {
		t.Errorf("%d received, %d accounted for: %+v", tally.Received, sum, tally)
	}
}

func TestPassesEverything(t *testing.T) {
	p := newPath(t, Config{})
	came := p.carry(7, 0, 200)
	if len(came) != 200 || !slices.IsSorted(came) {
		t.Fatalf("%d of 200 packets came: %v", len(came), came)
	}
	p.down(rtp(9, 5))
	if b, from := p.read(p.client); sequence(b) != 5 || from != p.door {
		t.Errorf("down came %d from %v, want 5 from the door %v", sequence(b), from, p.door)
	}
	c := p.settle("one down", func(c Counts) bool { return c.Down.Passed == 1 })
	balanced(t, c.Up)
	if c.Up.Passed != 200 || c.Up.Other != 5 || c.Clients != 1 || c.Up.Delayed != 0 || c.SocketDrops != 0 {
		t.Errorf("counts: %+v", c)
	}
}

func TestServerTellsClientsApart(t *testing.T) {
	p := newPath(t, Config{})
	other := listen(t)
	peer := p.knock(other)
	if peer == p.peer {
		t.Fatalf("both clients come from %v", peer)
	}
	if again := p.knock(p.client); again != p.peer {
		t.Errorf("the first client came from %v, then from %v", p.peer, again)
	}
	p.write(p.server, peer, rtp(9, 8))
	if b, _ := p.read(other); sequence(b) != 8 {
		t.Errorf("the other client got %d", sequence(b))
	}
	door, err := p.proxy.Through(address(p.server))
	if err != nil || door != p.door {
		t.Errorf("a second door to the same server: %v, %v", door, err)
	}
}

func TestLosesExactlyOnePercent(t *testing.T) {
	p := newPath(t, Config{Seed: 5}, Rule{Direction: Up, Loss: 0.01, Exact: true})
	first, second := p.carry(7, 0, 2000), p.carry(8, 0, 1000)
	if len(first) != 1980 || len(second) != 990 {
		t.Errorf("came %d of 2000 and %d of 1000", len(first), len(second))
	}
	c := p.proxy.Counts()
	balanced(t, c.Up)
	if c.Up.Lost != 30 || c.Up.Passed != 2970 {
		t.Errorf("counts: %+v", c.Up)
	}
}

func TestRunsRepeat(t *testing.T) {
	rule := Rule{Loss: 0.1, Burst: 2, Duplicate: 0.05, Reorder: 0.05}
	journey := func(seed uint64) []int { return newPath(t, Config{Seed: seed}, rule).carry(7, 0, 1000) }
	first, again, other := journey(1), journey(1), journey(2)
	if !slices.Equal(first, again) {
		t.Error("the same seed gave another run")
	}
	if slices.Equal(first, other) {
		t.Error("another seed gave the same run")
	}
}

// spread sends packets one by one and tells how long each was under way.
func (p *path) spread(n int) []time.Duration {
	p.t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		begun := time.Now()
		p.up(rtp(7, i))
		b, _ := p.read(p.server)
		took[i] = time.Since(begun)
		if sequence(b) != i {
			p.t.Fatalf("packet %d came, want %d", sequence(b), i)
		}
	}
	slices.Sort(took)
	return took
}

func TestDelays(t *testing.T) {
	p := newPath(t, Config{})
	without := p.spread(200)
	p.set(Rule{Delay: 7 * time.Millisecond})
	with := p.spread(200)
	added := with[100] - without[100]
	c := p.proxy.Counts()
	t.Logf("median %v without, %v with; least %v, 95%% %v; %+v", without[100], with[100], with[0], with[190], c.Up)
	if added < 6500*time.Microsecond || added > 7500*time.Microsecond {
		t.Errorf("%v added in the median, want 7ms ± 0.5ms", added)
	}
	if with[0] < 7*time.Millisecond {
		t.Errorf("one was under way only %v", with[0])
	}
	balanced(t, c.Up)
	if mean := c.Up.Waited / 200; c.Up.Delayed != 200 || mean < 7*time.Millisecond {
		t.Errorf("counts: %+v", c.Up)
	}
}

// No packet overtakes another, neither by jitter nor when the delay ends, and none
// that is pending gets lost.
func TestJitterKeepsOrder(t *testing.T) {
	p := newPath(t, Config{Seed: 3}, Rule{Jitter: 30 * time.Millisecond})
	for i := range 60 {
		if i == 40 {
			p.settle("the first forty", func(c Counts) bool { return c.Up.Received == 40 })
			p.set(Rule{})
		}
		p.up(rtp(7, i))
	}
	for i := range 60 {
		if b, _ := p.read(p.server); sequence(b) != i {
			t.Fatalf("packet %d came at place %d", sequence(b), i)
		}
	}
	c := p.settle("all", func(c Counts) bool { return c.Up.Passed == 60 })
	if c.Up.Reordered != 0 || c.Up.Delayed < 35 || c.Up.Pending != 0 {
		t.Errorf("counts: %+v", c.Up)
	}
}

func TestDuplicates(t *testing.T) {
	p := newPath(t, Config{}, Rule{Duplicate: 0.05, Exact: true})
	came := p.carry(7, 0, 1000)
	if distinct := slices.Compact(slices.Clone(came)); len(came) != 1050 || len(distinct) != 1000 || !slices.IsSorted(came) {
		t.Errorf("%d came, %d of them distinct", len(came), len(distinct))
	}
	if c := p.proxy.Counts().Up; c.Passed != 1000 || c.Duplicated != 50 {
		t.Errorf("counts: %+v", c)
	}
}

func TestReorders(t *testing.T) {
	p := newPath(t, Config{}, Rule{Reorder: 0.05, Behind: 3, Exact: true})
	came := p.carry(7, 0, 1000)
	late, newest := 0, -1
	for i, n := range came {
		if n < newest {
			late++
			if newest != n+3 || came[i-1] != n+3 {
				t.Errorf("packet %d came behind %d, want three packets late", n, newest)
			}
		}
		newest = max(newest, n)
	}
	c := p.settle("all", func(c Counts) bool { return c.Up.Pending == 0 }).Up
	balanced(t, c)
	// The last one may still be held back when the packets end.
	if uint64(late) != c.Reordered && uint64(late) != c.Reordered-1 || c.Reordered < 49 || c.Reordered > 50 || c.Passed != 1000 {
		t.Errorf("%d came late; counts: %+v", late, c)
	}
}

// What is held back goes even if nothing comes behind it.
func TestHoldEnds(t *testing.T) {
	p := newPath(t, Config{}, Rule{Reorder: 0.5, Exact: true})
	// The first packet of a flow is held back in every other one.
	for i := range uint32(8) {
		p.up(rtp(i, 0))
	}
	for range 8 {
		p.read(p.server)
	}
	c := p.settle("all", func(c Counts) bool { return c.Up.Passed == 8 }).Up
	if c.Delayed == 0 || c.Delayed == 8 || c.Reordered != 0 || c.Pending != 0 || c.Waited < time.Duration(c.Delayed)*holdLimit {
		t.Errorf("counts: %+v", c)
	}
}

func TestClipsOnset(t *testing.T) {
	p := newPath(t, Config{}, Rule{ClipOnset: 100 * time.Millisecond})
	came := p.carry(7, 0, 20)
	came = append(came, p.carry(7, 50, 20)...)
	var want []int
	for _, spurt := range []int{0, 50} {
		for i := 5; i < 20; i++ {
			want = append(want, spurt+i)
		}
	}
	if !slices.Equal(came, want) {
		t.Errorf("came %v, want %v", came, want)
	}
	if c := p.proxy.Counts().Up; c.Clipped != 10 || c.Passed != 30 {
		t.Errorf("counts: %+v", c)
	}
}

func TestCutsOneWay(t *testing.T) {
	p := newPath(t, Config{}, Rule{Direction: Up, Cut: true})
	p.up(rtp(7, 1))
	p.up(stunLike(1))
	p.settle("the cut", func(c Counts) bool { return c.Up.Cut == 1 && c.Up.OtherCut == 1 })
	p.down(rtp(9, 1))
	p.down(stunLike(2))
	for _, want := range []bool{true, false} {
		if b, _ := p.read(p.client); isRTP(b) != want {
			t.Errorf("down came % x", b[:4])
		}
	}
	p.set(Rule{})
	p.up(rtp(7, 2))
	if b, _ := p.read(p.server); !isRTP(b) || sequence(b) != 2 {
		t.Errorf("after the cut came % x, want packet 2", b[:4])
	}
	up, down := p.proxy.Rules()
	if up.Cut || down.Cut || up.Direction != Up || down.Direction != Down {
		t.Errorf("rules: %+v, %+v", up, down)
	}
}

// Only RTP is impaired: a path that loses all of it still carries the rest.
func TestSparesTheRest(t *testing.T) {
	p := newPath(t, Config{}, Rule{Loss: 1, Delay: time.Second})
	rtcp := rtp(7, 0)
	rtcp[1] = 200
	dtls := make([]byte, 30)
	dtls[0] = 22
	p.up(rtp(7, 0))
	for _, b := range [][]byte{rtcp, dtls, stunLike(1)} {
		p.up(b)
		if got, _ := p.read(p.server); !slices.Equal(got, b) {
			t.Errorf("sent % x, came % x", b[:4], got[:4])
		}
	}
}

func TestBounds(t *testing.T) {
	p := newPath(t, Config{Clients: 2, Pending: 3, Idle: time.Minute})
	p.knock(listen(t))
	p.write(listen(t), p.door, stunLike(0))
	c := p.settle("the refusal", func(c Counts) bool { return c.Refused == 1 })
	if c.Clients != 2 || !strings.Contains(c.Why, "2 clients") {
		t.Errorf("counts: %+v", c)
	}
	p.set(Rule{Delay: 50 * time.Millisecond})
	for i := range 5 {
		p.up(rtp(7, i))
	}
	up := p.settle("overflow and delay", func(c Counts) bool { return c.Up.Overflow == 2 && c.Up.Passed == 3 }).Up
	balanced(t, up)
	p.set(Rule{})
	p.up(make([]byte, maxDatagram+1))
	p.settle("too long", func(c Counts) bool { return c.TooLong == 1 })
	// A client with more flows than there is room for keeps the newest.
	p.carry(7, 0, 1)
	for i := range maxFlows + 1 {
		p.carry(uint32(100+i), 0, 1)
	}
	if c := p.proxy.Counts(); c.Forgotten != 2 {
		t.Errorf("%d flows forgotten, want 2", c.Forgotten)
	}
	for i := len(p.proxy.doors); i < maxDoors; i++ {
		if _, err := p.proxy.Through(netip.AddrPortFrom(p.door.Addr(), uint16(i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.proxy.Through(netip.AddrPortFrom(p.door.Addr(), 9999)); err == nil || !strings.Contains(err.Error(), "second proxy") {
		t.Errorf("a door too many: %v", err)
	}
}

func TestIdleClientsAreForgotten(t *testing.T) {
	p := newPath(t, Config{Idle: 20 * time.Millisecond}, Rule{Delay: 300 * time.Millisecond})
	p.up(rtp(7, 0))
	c := p.settle("expiry", func(c Counts) bool { return c.Clients == 0 && c.Up.Failed == 1 })
	balanced(t, c.Up)
	if again := p.knock(p.client); again == p.peer {
		t.Errorf("after the expiry the server sees the old port %v", again)
	}
}

// The server may not be there yet: an ICMP answer keeps nothing back.
func TestServerComesLater(t *testing.T) {
	p := newPath(t, Config{})
	gone := listen(t)
	server := address(gone)
	door, err := p.proxy.Through(server)
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for range 3 {
		p.write(p.client, door, stunLike(1))
	}
	p.settle("sent into nothing", func(c Counts) bool { return c.Up.Other+c.Up.OtherFailed == 4 })
	back, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Skipf("the port was taken by somebody else: %v", err)
	}
	defer func() { _ = back.Close() }()
	_ = back.SetDeadline(time.Now().Add(10 * time.Second))
	p.write(p.client, door, stunLike(9))
	if b, _ := p.read(back); b[19] != 9 {
		t.Errorf("came % x", b)
	}
}

func TestIPv6(t *testing.T) {
	server, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	t.Cleanup(func() { _ = server.Close() })
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	// Client and door of one family, the server of the other, both ways round.
	p := &path{t: t, proxy: run(t, Config{}), server: server, client: listen(t)}
	if p.door, err = p.proxy.Through(address(server)); err != nil {
		t.Fatal(err)
	}
	p.peer = p.knock(p.client)
	if !p.door.Addr().Is4() || !p.peer.Addr().Is6() {
		t.Errorf("door %v, client seen as %v", p.door, p.peer)
	}
	back := &path{t: t, proxy: run(t, Config{Listen: netip.IPv6Loopback()}), server: listen(t), client: server}
	if back.door, err = back.proxy.Through(address(back.server)); err != nil {
		t.Fatal(err)
	}
	back.peer = back.knock(back.client)
	back.down(rtp(9, 3))
	if b, from := back.read(back.client); sequence(b) != 3 || from != back.door {
		t.Errorf("down came %d from %v, door %v", sequence(b), from, back.door)
	}
}

func TestLifeAndDeath(t *testing.T) {
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if _, err := p.Through(netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	p.Close() // once more
	if _, err := p.Through(netip.MustParseAddrPort("127.0.0.1:9")); err == nil {
		t.Error("a door after the end")
	}
	if err := p.Run(t.Context()); err == nil {
		t.Error("ran twice")
	}
	idle, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Through(netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
		t.Fatal(err)
	}
	idle.Close()
	idle.Close()
	for _, c := range []Config{{Clients: -1}, {Pending: -1}, {Idle: -1}, {Listen: netip.MustParseAddr("fe80::1%lo")}} {
		if _, err := New(c); err == nil {
			t.Errorf("made of %+v", c)
		}
	}
	if err := idle.Set(Rule{Loss: 2}); err == nil {
		t.Error("set a loss of 2")
	}
}

// The whole way of a packet, through the queue and past it, allocates nothing.
func TestNoAllocation(t *testing.T) {
	for _, r := range []Rule{{}, {Delay: time.Microsecond, Jitter: time.Microsecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1}} {
		t.Run(fmt.Sprintf("delay %v", r.Delay), func(t *testing.T) {
			p, err := New(Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			server, client := listen(t), listen(t)
			door, err := p.Through(address(server))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Set(r); err != nil {
				t.Fatal(err)
			}
			b, i := rtp(7, 0), uint32(0)
			one := func() {
				i++
				binary.BigEndian.PutUint32(b[4:], i*960)
				if _, err := client.WriteToUDPAddrPort(b, door); err != nil {
					t.Fatal(err)
				}
				if _, err := p.round(time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			for range 200 {
				one()
			}
			if n := testing.AllocsPerRun(1000, one); n != 0 {
				t.Errorf("%v allocations per packet", n)
			}
			if c := p.Counts().Up; c.Received < 1000 || c.Passed < 800 {
				t.Errorf("counts: %+v", c)
			}
		})
	}
}

// BenchmarkPacket is one packet with a delay through the proxy, in CPU time of
// both the proxy and the test's own sending.
func BenchmarkPacket(b *testing.B) {
	p, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	door, err := p.Through(address(server))
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Set(Rule{Delay: 5 * time.Microsecond}); err != nil {
		b.Fatal(err)
	}
	packet := rtp(7, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.WriteToUDPAddrPort(packet, door); err != nil {
			b.Fatal(err)
		}
		if _, err := p.round(time.Millisecond); err != nil {
			b.Fatal(err)
		}
	}
}
