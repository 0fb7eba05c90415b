package edgeagentserver

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// linkEnd is the links of one node, with the test in the place of its engine.
type linkEnd struct {
	t       *testing.T
	links   *links
	outer   *net.UDPConn
	engine  *net.UDPConn
	changes chan struct{} // gets a token when something is lost or found
	from    uint16        // whose packets are in list
	list    []byte        // of the last datagram, what hear has not returned yet
}

func newLinkEnd(t *testing.T, node edgeagent.NodeID, change func(*Config)) *linkEnd {
	t.Helper()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	e := &linkEnd{t: t, outer: listen(), engine: listen(), changes: make(chan struct{}, 1)}
	cfg := Config{Node: node, Link: e.outer, Log: telemetry.Discard()}
	if change != nil {
		change(&cfg)
	}
	var err error
	e.links, err = newLinks(&cfg, func() {
		select {
		case e.changes <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.links.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.links.close(); e.outer.Close(); e.engine.Close() })
	return e
}

// peer is the node as others are told of it.
func (e *linkEnd) peer() edgeagent.RelayPeer {
	return edgeagent.RelayPeer{Node: e.links.node, Addrs: []netip.Addr{ownHost}, Link: *e.links.addr()}
}

// lost are the nodes it cannot reach.
func (e *linkEnd) lost() []edgeagent.NodeID {
	lost, _ := e.links.lost()
	return lost
}

// share has the node share a call.
func (e *linkEnd) share(call uint64, peers ...edgeagent.RelayPeer) {
	port := uint16(e.engine.LocalAddr().(*net.UDPAddr).Port)
	e.links.set(custody.Route{Call: callID(call), Epoch: 5, Peers: peers, Port: port}, func(n edgeagent.NodeID) uint16 { return uint16(n[len(n)-1]) })
}

// up waits until the node is connected with so many others.
func (e *linkEnd) up(n int) {
	e.t.Helper()
	for deadline := time.Now().Add(edgeagenttest.Timeout); int(gauge(e.t, e.links.metrics.up)) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("%s is connected with %v nodes, want %d", e.links.node, gauge(e.t, e.links.metrics.up), n)
		}
	}
}

func gauge(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetGauge().GetValue() + d.GetCounter().GetValue()
}

// say gives the node packets in one datagram, as its engine would.
func (e *linkEnd) say(packets ...sfu.RelayPacket) {
	e.t.Helper()
	d := sfu.AppendRelayLocal(nil, 0, &e.links.secret)
	for _, p := range packets {
		d = p.AppendTo(d)
	}
	if _, err := e.engine.WriteToUDPAddrPort(d, e.links.door().To); err != nil {
		e.t.Fatal(err)
	}
}

// hear is the next packet the node brings its engine, and from whom.
func (e *linkEnd) hear() (peer uint16, p sfu.RelayPacket) {
	e.t.Helper()
	peer, p, err := e.next(edgeagenttest.Timeout)
	if err != nil {
		e.t.Fatal(err)
	}
	return peer, p
}

// flawless runs rounds until one is as it must be: where the machine stands still for
// longer than a link may, a link is made anew, and what it carried is lost.
func flawless(t *testing.T, round func(t *testing.T) error) {
	t.Helper()
	var err error
	for range 10 {
		if err = round(t); err == nil {
			return
		}
		t.Log(err)
	}
	t.Errorf("in each round something was wrong, in the last: %v", err)
}

// soon is how long a packet may take in a round.
const soon = 2 * time.Second

// next is hear for a while.
func (e *linkEnd) next(wait time.Duration) (peer uint16, p sfu.RelayPacket, err error) {
	e.t.Helper()
	if len(e.list) == 0 {
		d := make([]byte, 2048)
		_ = e.engine.SetReadDeadline(time.Now().Add(wait))
		n, err := e.engine.Read(d)
		if err != nil {
			return 0, p, fmt.Errorf("%s heard nothing: %w", e.links.node, err)
		}
		ok := false
		if e.from, e.list, ok = sfu.ReadRelayLocal(d[:n], &e.links.secret); !ok || n > sfu.MaxDatagram {
			e.t.Fatalf("%x came", d[:n])
		}
	}
	packet, rest, err := sfu.NextRelay(e.list)
	if err == nil {
		p, err = sfu.ReadRelayPacket(packet)
	}
	if err != nil {
		e.t.Fatalf("%x came: %v", e.list, err)
	}
	e.list = rest
	return e.from, p, nil
}

// drops is how often each reason to drop was counted.
func (e *linkEnd) drops() string {
	e.t.Helper()
	s := ""
	for i, m := range e.links.metrics.drops {
		if n := gauge(e.t, m); n > 0 {
			s += fmt.Sprintf("%s:%v ", linkDropNames[i], n)
		}
	}
	return s
}

func relayPacket(call uint64, seq uint32, payload int) sfu.RelayPacket {
	p := sfu.RelayPacket{Call: callID(call), Epoch: 5, User: userID(9), SSRC: 11, Sequence: seq, Timestamp: 960 * seq, Level: 0x80 | 30}
	p.Payload = bytes.Repeat([]byte{byte(seq)}, payload)
	return p
}

// pairOfLinks is two connected nodes that share call 7.
func pairOfLinks(t *testing.T, change func(*Config)) (a, b *linkEnd) {
	a, b = newLinkEnd(t, "edge-a", change), newLinkEnd(t, "edge-b", change)
	a.share(7, b.peer())
	b.share(7, a.peer())
	a.up(1)
	b.up(1)
	return a, b
}

// TestLinkCarriesEverySize sends payloads of 1 to 1,400 bytes both ways, as many in
// a datagram as fit, with packets of 1,400 bytes and of 1,200: each arrives, in
// order, and nothing was dropped anywhere.
func TestLinkCarriesEverySize(t *testing.T) {
	for _, size := range []int{DefaultLinkPacket, MinLinkPacket} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			flawless(t, func(t *testing.T) error { return everySize(t, size) })
		})
	}
}

func everySize(t *testing.T, size int) error {
	a, b := pairOfLinks(t, func(c *Config) { c.LinkPacket = size })
	const most = 1400
	for _, way := range [][2]*linkEnd{{a, b}, {b, a}} {
		var sending sync.WaitGroup
		tokens := make(chan struct{}, 32) // at most so many are under way: this is no test of queues
		over := make(chan struct{})
		sending.Go(func() {
			var bundle []sfu.RelayPacket
			size := sfu.RelayLocal
			for n := 1; n <= most; n++ {
				p := relayPacket(7, uint32(n), n)
				more := sfu.RelayPrefix + sfu.RelayHeader + n
				if len(bundle) == 16 || size+more > sfu.MaxDatagram {
					way[0].say(bundle...)
					bundle, size = bundle[:0], sfu.RelayLocal
				}
				select {
				case tokens <- struct{}{}:
				case <-over:
					return
				}
				bundle, size = append(bundle, p), size+more
			}
			way[0].say(bundle...)
		})
		var failed error
		for n := 1; n <= most && failed == nil; n++ {
			peer, p, err := way[1].next(soon)
			if err != nil {
				failed = fmt.Errorf("after %d: %w; %v datagrams lost, dropped %s and %s", n-1, err, gauge(t, way[1].links.metrics.lost), way[0].drops(), way[1].drops())
				break
			}
			<-tokens
			if want := relayPacket(7, uint32(n), n); peer != uint16(way[0].links.node[5]) || p.Sequence != want.Sequence || !bytes.Equal(p.Payload, want.Payload) {
				failed = fmt.Errorf("after %d came packet %d of %d bytes from %d", n-1, p.Sequence, len(p.Payload), peer)
			}
		}
		close(over)
		sending.Wait()
		if failed != nil {
			return failed
		}
	}
	for _, e := range []*linkEnd{a, b} {
		m := e.links.metrics
		// What was heard is counted a moment later.
		for deadline := time.Now().Add(edgeagenttest.Timeout); gauge(t, m.in) < most && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
		if in, out, split := gauge(t, m.in), gauge(t, m.out), gauge(t, m.split); in != most || out != most+split || split < 50 || e.drops() != "" || gauge(t, m.lost) != 0 {
			return fmt.Errorf("%s: %v in, %v out, %v of them split, %v datagrams lost, dropped %s", e.links.node, in, out, split, gauge(t, m.lost), e.drops())
		}
	}
	return nil
}

// TestLinkRefuses: packets that the other node may not send are dropped by name,
// and the next good one comes through.
func TestLinkRefuses(t *testing.T) { flawless(t, refuses) }

func refuses(t *testing.T) error {
	a, b := pairOfLinks(t, nil)
	a.share(8, b.peer()) // b knows nothing of it
	old := relayPacket(7, 1, 20)
	old.Epoch = 4
	a.links.set(custody.Route{Call: callID(9), Epoch: 4, Peers: []edgeagent.RelayPeer{b.peer()}, Port: 1}, func(edgeagent.NodeID) uint16 { return 98 })
	b.share(9, a.peer()) // in epoch 5
	c := newLinkEnd(t, "edge-c", nil)
	b.share(10, c.peer()) // not with a
	a.share(10, b.peer())
	b.links.set(custody.Route{Call: callID(11), Epoch: 5, Peers: []edgeagent.RelayPeer{a.peer()}}, func(edgeagent.NodeID) uint16 { return 97 })
	a.share(11, b.peer())

	a.say(relayPacket(8, 1, 20))
	late := relayPacket(9, 1, 20)
	late.Epoch = 4
	a.say(late)
	a.say(relayPacket(10, 1, 20))
	a.say(relayPacket(11, 1, 20))
	a.say(relayPacket(7, 2, 20))
	if _, p, err := b.next(soon); err != nil || p.Sequence != 2 || p.Call != callID(7) {
		return fmt.Errorf("came %+v, %v", p, err)
	}
	if got := b.drops(); got != "call:1 epoch:1 peer:1 absent:1 " {
		return fmt.Errorf("dropped there: %s", got)
	}
	a.say(old)
	a.say(relayPacket(99, 1, 20))
	if _, err := a.engine.WriteToUDPAddrPort(relayPacketBytes(t), a.links.door().To); err != nil {
		t.Fatal(err)
	}
	a.say(relayPacket(7, 3, 20))
	if _, p, err := b.next(soon); err != nil || p.Sequence != 3 {
		return fmt.Errorf("came %+v, %v", p, err)
	}
	if got := a.drops(); got != "stranger:1 call:1 epoch:1 " {
		return fmt.Errorf("dropped here: %s", got)
	}
	return nil
}

// relayPacketBytes is a good packet with the secret of nobody.
func relayPacketBytes(t *testing.T) []byte {
	t.Helper()
	p := relayPacket(7, 1, 20)
	return p.AppendTo(sfu.AppendRelayLocal(nil, 0, &sfu.RelaySecret{}))
}

// TestNoLoops: of three nodes that share a call, each brings what one says to its
// engine once, and sends nothing on.
func TestNoLoops(t *testing.T) { flawless(t, noLoops) }

func noLoops(t *testing.T) error {
	ends := []*linkEnd{newLinkEnd(t, "edge-a", nil), newLinkEnd(t, "edge-b", nil), newLinkEnd(t, "edge-c", nil)}
	for i, e := range ends {
		e.share(7, ends[(i+1)%3].peer(), ends[(i+2)%3].peer())
	}
	for _, e := range ends {
		e.up(2)
	}
	for seq := range uint32(20) {
		ends[0].say(relayPacket(7, seq+1, 50))
	}
	for _, e := range ends[1:] {
		for seq := range uint32(20) {
			if peer, p, err := e.next(soon); err != nil || p.Sequence != seq+1 || peer != 'a' {
				return fmt.Errorf("%s: packet %d from %d, %v", e.links.node, p.Sequence, peer, err)
			}
		}
		if n := gauge(t, e.links.metrics.out); n != 0 {
			return fmt.Errorf("%s sent %v packets on", e.links.node, n)
		}
	}
	if n := gauge(t, ends[0].links.metrics.out); n != 40 {
		return fmt.Errorf("%v packets out, want each once per node", n)
	}
	return nil
}

// TestLinkLossIsNoticed: when nothing comes from a node any more, both sides know
// soon, and both know when it is back.
func TestLinkLossIsNoticed(t *testing.T) {
	relay := newCut(t)
	a, b := newLinkEnd(t, "edge-a", nil), newLinkEnd(t, "edge-b", nil)
	relay.lead(b.outer.LocalAddr().(*net.UDPAddr).AddrPort())
	there := b.peer()
	there.Link.Port = relay.port()
	a.share(7, there) // the lesser name dials
	b.share(7, a.peer())
	a.up(1)
	b.up(1)
	a.say(relayPacket(7, 1, 20))
	b.hear()
	b.say(relayPacket(7, 1, 20))
	a.hear()
	relay.cut(true)
	began := time.Now()
	for _, e := range []*linkEnd{a, b} {
		for len(e.lost()) == 0 {
			select {
			case <-e.changes:
			case <-time.After(edgeagenttest.Timeout):
				t.Fatalf("%s does not notice", e.links.node)
			}
		}
	}
	// Half a second, on a machine of one's own; QUIC itself gives up after 3 s.
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("loss was noticed after %v", took)
	}
	relay.cut(false)
	for _, e := range []*linkEnd{a, b} {
		for len(e.lost()) != 0 {
			select {
			case <-e.changes:
			case <-time.After(edgeagenttest.Timeout):
				t.Fatalf("%s does not notice that the link is back", e.links.node)
			}
		}
	}
	a.up(1)
	b.up(1)
	b.say(relayPacket(7, 1, 20))
	a.hear()
	if n := gauge(t, a.links.metrics.losses); n < 1 { // more, where the machine stood still
		t.Errorf("%v losses", n)
	}
}

// TestLossyLinkIsFound: where one in twelve datagrams is lost for seconds, both sides
// tell so, and when it is over; the link is not taken for lost.
func TestLossyLinkIsFound(t *testing.T) {
	t.Parallel()
	relay := newCut(t)
	a, b := newLinkEnd(t, "edge-a", nil), newLinkEnd(t, "edge-b", nil)
	relay.lead(b.outer.LocalAddr().(*net.UDPAddr).AddrPort())
	there := b.peer()
	there.Link.Port = relay.port()
	a.share(7, there)
	b.share(7, a.peer())
	a.up(1)
	b.up(1)
	for _, holes := range []int{12, 0} {
		relay.lose(holes)
		for _, e := range []*linkEnd{a, b} {
			for found := holes == 0; found == (holes == 0); {
				select {
				case <-e.changes:
				case <-time.After(2 * edgeagenttest.Timeout):
					t.Fatalf("%s does not find that one in %d is lost", e.links.node, holes)
				}
				_, lossy := e.links.lost()
				found = len(lossy) > 0
			}
		}
	}
	if n := gauge(t, a.links.metrics.lossy); n != 1 {
		t.Errorf("%v times lossy", n)
	}
}

// TestLinkEndsWithItsCalls: a link lives as long as a call is shared.
func TestLinkEndsWithItsCalls(t *testing.T) {
	a, b := pairOfLinks(t, nil)
	a.share(8, b.peer())
	b.share(8, a.peer())
	a.share(7)
	b.share(7)
	a.say(relayPacket(8, 1, 20))
	b.hear()
	a.share(8)
	b.share(8)
	a.up(0)
	b.up(0)
	if len(a.lost())+len(b.lost()) != 0 || gauge(t, a.links.metrics.losses) != 0 {
		t.Error("the end of a link counts as a loss")
	}
}

// TestLinkBelievesOnlyWhomItIsTold: a node whose certificate is not the one that
// was named gets no link, whichever side it is on, nor does one without.
func TestLinkBelievesOnlyWhomItIsTold(t *testing.T) {
	a, b, other := newLinkEnd(t, "edge-a", nil), newLinkEnd(t, "edge-b", nil), newLinkEnd(t, "edge-a", nil)
	liar := a.peer()
	b.share(7, liar)
	other.share(7, b.peer()) // says that it is edge-a
	refused := func(e *linkEnd) {
		t.Helper()
		for deadline := time.Now().Add(edgeagenttest.Timeout); gauge(t, e.links.metrics.refused) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody is refused")
			}
		}
	}
	refused(b)
	if gauge(t, b.links.metrics.up) != 0 || other.links.peer("edge-b").known.Load() {
		t.Error("a link with a stranger")
	}
	// The right one is let in beside it.
	a.share(7, b.peer())
	a.up(1)
	b.up(1)
	a.say(relayPacket(7, 1, 20))
	if _, p := b.hear(); p.Sequence != 1 {
		t.Error("the right node is not heard")
	}
	if _, _, err := named(b.links.trust, tls.ConnectionState{}); err == nil {
		t.Error("a connection without certificate is named")
	}
	// A dialler believes whom it was told, too.
	d := newLinkEnd(t, "edge-0", nil)
	wrong := b.peer()
	wrong.Link.Fingerprint = a.links.addr().Fingerprint
	d.share(7, wrong)
	who := *d.links.peer("edge-b").who.Load()
	conn, err := d.links.outer.Dial(t.Context(), b.outer.LocalAddr(), d.links.clientTLS(who), d.links.quic())
	if err == nil {
		conn.CloseWithError(0, "")
		t.Error("a dialler believes another certificate")
	}
}

// TestLinkOutlivesItsAgent: the next agent of a node, with the identity of the one
// before, is linked again with nodes that were told nothing, whichever side dials.
func TestLinkOutlivesItsAgent(t *testing.T) {
	for _, names := range [][2]edgeagent.NodeID{{"edge-a", "edge-b"}, {"edge-b", "edge-a"}} {
		t.Run(string(names[0])+" stays", func(t *testing.T) {
			stays, dies := newLinkEnd(t, names[0], nil), newLinkEnd(t, names[1], nil)
			stays.share(7, dies.peer())
			dies.share(7, stays.peer())
			stays.up(1)
			dies.up(1)
			at := dies.outer.LocalAddr().(*net.UDPAddr)
			dies.links.stop() // and nobody says good-bye:
			dies.outer.Close()
			dies.links.close()
			stays.up(0)

			next := newLinkEnd(t, names[1], func(c *Config) {
				c.Link.Close()
				var err error
				if c.Link, err = net.ListenUDP("udp4", at); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Link.Close() })
			})
			next.links.become(dies.links.door().Identity)
			next.share(7, stays.peer())
			next.up(1)
			stays.up(1)
			stays.say(relayPacket(7, 1, 20))
			next.hear()
			next.say(relayPacket(7, 2, 20))
			stays.hear()
		})
	}
}

// TestLinkFollowsItsPeer: a node that is told that another is at another port from now
// on is linked to it there, whatever it is just trying.
func TestLinkFollowsItsPeer(t *testing.T) {
	stays, dies := newLinkEnd(t, "edge-a", nil), newLinkEnd(t, "edge-b", nil)
	stays.share(7, dies.peer())
	dies.share(7, stays.peer())
	stays.up(1)
	dies.links.stop()
	dies.outer.Close()
	dies.links.close()
	stays.up(0)

	next := newLinkEnd(t, "edge-b", nil)
	next.links.become(dies.links.door().Identity)
	next.share(7, stays.peer())
	stays.share(7, next.peer())
	stays.up(1)
	next.up(1)
	stays.say(relayPacket(7, 1, 20))
	next.hear()
}

// cut is a way between two UDP ports that can be cut. It stands in the middle: the
// second end sees the first at a port of its own.
type cutWay struct {
	front, back *net.UDPConn

	mu sync.Mutex
	// Guarded by mu.
	from, to netip.AddrPort
	isCut    bool
	holes    int // one in so many is lost; 0: none
	carried  int
}

func newCut(t *testing.T) *cutWay {
	t.Helper()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	w := &cutWay{front: listen(), back: listen()}
	var carrying sync.WaitGroup
	t.Cleanup(func() { w.front.Close(); w.back.Close(); carrying.Wait() })
	carry := func(in, out *net.UDPConn, back bool) {
		d := make([]byte, 2048)
		for {
			n, from, err := in.ReadFromUDPAddrPort(d)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.carried++
			to, isCut := w.to, w.isCut || w.holes > 0 && w.carried%w.holes == 0
			if back {
				to = w.from
			} else {
				w.from = from
			}
			w.mu.Unlock()
			if !isCut && to.IsValid() {
				_, _ = out.WriteToUDPAddrPort(d[:n], to)
			}
		}
	}
	carrying.Go(func() { carry(w.front, w.back, false) })
	carrying.Go(func() { carry(w.back, w.front, true) })
	return w
}

func (w *cutWay) port() uint16 { return uint16(w.front.LocalAddr().(*net.UDPAddr).Port) }

// lead says where the way ends.
func (w *cutWay) lead(to netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = to
}

func (w *cutWay) cut(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = on
}

// lose has one in so many datagrams get lost.
func (w *cutWay) lose(holes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holes = holes
}
