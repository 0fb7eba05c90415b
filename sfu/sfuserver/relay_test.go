package sfuserver_test

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/sfutest"
)

var testSecret = sfu.RelaySecret{9, 8, 7, 6, 5, 4, 3, 2}

// wire is what two agents and the link between them do, without a link: it
// carries packets between two engines and counts them.
type wire struct {
	mu     sync.Mutex
	passed map[sfu.UserID]int
}

// join has a call span two engines.
func (w *wire) join(t *testing.T, call sfu.CallID, ends ...*sfutest.Engine) {
	t.Helper()
	w.passed = make(map[sfu.UserID]int)
	var socks [2]*net.UDPConn
	var ports [2]netip.AddrPort
	for i, e := range ends {
		s, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		socks[i] = s
		ev, err := e.Do(sfu.Command{Relay: &sfu.Relay{
			Call: call, Epoch: 5, Peers: []uint16{1}, To: s.LocalAddr().(*net.UDPAddr).AddrPort(), Secret: testSecret, Keep: []byte("kept"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ev.Relayed.Port)
	}
	var carrying sync.WaitGroup
	t.Cleanup(func() { socks[0].Close(); socks[1].Close(); carrying.Wait() })
	for i := range socks {
		carrying.Go(func() {
			d := make([]byte, sfu.MaxDatagram)
			for {
				n, err := socks[i].Read(d)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				_, list, ok := sfu.ReadRelayLocal(d[:n], &testSecret)
				_, _ = socks[1-i].WriteToUDPAddrPort(append(sfu.AppendRelayLocal(nil, 1, &testSecret), list...), ports[1-i])
				for ok && len(list) > 0 {
					packet, rest, err := sfu.NextRelay(list)
					p, bad := sfu.ReadRelayPacket(packet)
					ok, list = err == nil && bad == nil, rest
					w.mu.Lock()
					w.passed[p.User]++
					w.mu.Unlock()
				}
				if !ok {
					t.Errorf("%x went to the agent", d[:n])
				}
			}
		})
	}
}

// TestCallOnTwoEngines: members on two nodes hear each other, and each voice
// crosses once; the next agent of one finds the relay again.
func TestCallOnTwoEngines(t *testing.T) {
	left, right := sfutest.Start(t, 1, sfu.Start{}), sfutest.Start(t, 2, sfu.Start{})
	a := sfutest.Dial(t, left, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1)})
	b := sfutest.Dial(t, right, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2)})
	c := sfutest.Dial(t, right, sfutest.Peer{Session: "c", Call: sfutest.Call(7), User: sfutest.User(3)})
	other := sfutest.Dial(t, right, sfutest.Peer{Session: "o", Call: sfutest.Call(8), User: sfutest.User(4)})
	var link wire
	link.join(t, sfutest.Call(7), left, right)
	stopA, stopB := talk(t, a, 'a'), talk(t, b, 'b')
	awaitVoices(t, b, time.Time{}, 20, 'a')
	awaitVoices(t, c, time.Time{}, 20, 'a', 'b')
	awaitVoices(t, a, time.Time{}, 20, 'b')
	stopA()
	stopB()
	gapless(t, a, b, c)
	if n := len(other.Heard()); n != 0 {
		t.Errorf("another call heard %d packets", n)
	}
	right.Await(t, "the seat of a remote speaker", func(ev sfu.Event) bool {
		return ev.Placed != nil && ev.Placed.Session == "c" && ev.Placed.User == sfutest.User(1) && ev.Placed.SSRC == a.Opened.SSRC
	})
	for _, ev := range right.Facts() {
		if ev.Speaking != nil && ev.Speaking.User == sfutest.User(1) {
			t.Errorf("a node tells of a speaker of another: %+v", ev.Speaking)
		}
	}
	ev := left.Await(t, "a load reading with what was relayed", func(ev sfu.Event) bool { return ev.Load != nil && ev.Load.RelayOut > 0 && ev.Load.RelayIn > 0 })
	if ev.Load.Drops["relay_source"]+ev.Load.Drops["relay_speaker"] > 0 {
		t.Errorf("dropped: %v", ev.Load.Drops)
	}
	link.mu.Lock()
	defer link.mu.Unlock()
	if len(link.passed) != 2 || link.passed[sfutest.User(3)] != 0 {
		t.Errorf("crossed: %v", link.passed)
	}
}

// TestAdoptedTellsRelays: the next agent learns which calls span nodes.
func TestAdoptedTellsRelays(t *testing.T) {
	first, agents, ended := orphanage(t, sfu.Start{})
	if _, err := first.Open("s", sfutest.Call(7), sfutest.User(1)); err != nil {
		t.Fatal(err)
	}
	want := sfu.Relay{Call: sfutest.Call(7), Epoch: 5, Peers: []uint16{3}, To: netip.MustParseAddrPort("127.0.0.1:4444"), Secret: testSecret, Keep: []byte("kept")}
	if _, err := first.Do(sfu.Command{Relay: &want}); err != nil {
		t.Fatal(err)
	}
	first.Die()
	second := adopt(t, agents, ended)
	ev := second.Await(t, "the relay", func(ev sfu.Event) bool { return ev.Relaying != nil })
	if got := ev.Relaying; got.Call != want.Call || got.Epoch != 5 || string(got.Keep) != "kept" || len(got.Peers) != 1 {
		t.Errorf("%+v", got)
	}
	if err := second.Close("s"); err != nil {
		t.Error(err)
	}
	second.Die()
	<-ended
}
