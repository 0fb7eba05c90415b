package sfuserver_test

import (
	"errors"
	"fmt"
	"math"
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

// TestCamerasOnTwoEngines: members on both nodes see each other's cameras, which are
// asked for key frames across.
func TestCamerasOnTwoEngines(t *testing.T) {
	left, right := sfutest.Start(t, 1, sfu.Start{}), sfutest.Start(t, 1, sfu.Start{})
	a := sfutest.Dial(t, left, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1), Views: 2})
	b := sfutest.Dial(t, right, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2), Views: 2})
	c := sfutest.Dial(t, right, sfutest.Peer{Session: "c", Call: sfutest.Call(7), User: sfutest.User(3), Views: 2})
	var link wire
	link.join(t, sfutest.Call(7), left, right)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	// film goes on until everybody has seen enough of whom it is to see.
	film := func(enough func() bool) {
		t.Helper()
		for deadline := time.Now().Add(sfutest.Timeout); !enough(); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("a saw %d packets, b %d, c %d", len(a.Seen()), len(b.Seen()), len(c.Seen()))
			}
			for who, from := range map[byte]*sfutest.Client{'a': a, 'b': b} {
				if err := from.Film([]byte{who}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	of := func(k *sfutest.Client, who byte) (n int) {
		before := make(map[int]uint16)
		for i, h := range k.Seen() {
			p := h.Packet
			last, began := before[h.Slot]
			if !began && p.Payload[1]&1 != 0 {
				t.Fatalf("%s: view %d does not begin with a key frame", k.Peer.Session, h.Slot)
			}
			if began && p.SequenceNumber != last+1 {
				t.Fatalf("%s: packet %d of view %d is number %d after %d", k.Peer.Session, i, h.Slot, p.SequenceNumber, last)
			}
			before[h.Slot] = p.SequenceNumber
			if p.Payload[2] == who {
				n++
			}
		}
		return n
	}
	film(func() bool {
		return of(a, 'b') >= 20 && of(b, 'a') >= 20 && of(c, 'a') >= 20 && of(c, 'b') >= 20
	})
	right.Await(t, "the view of a camera of the other node", func(ev sfu.Event) bool {
		return ev.Viewing != nil && ev.Viewing.Session == "c" && ev.Viewing.User == sfutest.User(1) && ev.Viewing.SSRC == a.Opened.SSRC
	})
	if of(a, 'a')+of(b, 'b') > 0 {
		t.Error("somebody sees itself")
	}
	ev := left.Await(t, "a load reading with cameras", func(ev sfu.Event) bool { return ev.Load != nil && ev.Load.Cameras == 2 && ev.Load.VideoOut > 0 })
	if ev.Load.Shedding {
		t.Error("video is shed")
	}
}

// TestShedAndBack: cameras that keep a worker busier than it may be are not forwarded any
// more, those who talk do not miss a packet, and when there is room the cameras are back.
func TestShedAndBack(t *testing.T) {
	start := func(limit float64) (e *sfutest.Engine, all []*sfutest.Client) {
		e = sfutest.Start(t, 1, sfu.Start{Limits: sfu.Limits{ShedVideo: limit}})
		for n := range 6 {
			all = append(all, sfutest.Dial(t, e, sfutest.Peer{Session: sfu.SessionID(fmt.Sprint(n)), Call: sfutest.Call(7), User: sfutest.User(1 + uint64(n)), Views: 4}))
		}
		return e, all
	}
	loads := func(e *sfutest.Engine) (all []sfu.LoadReading) {
		for _, ev := range e.Facts() {
			if ev.Load != nil {
				all = append(all, *ev.Load)
			}
		}
		return all
	}
	// film sends so many packets of each camera every 10 ms until what is waited for is so.
	film := func(cameras []*sfutest.Client, packets int, what string, is func() bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n, deadline := 0, time.Now().Add(3*sfutest.Timeout); n%10 != 0 || !is(); n++ {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s", what)
			}
			for range packets {
				for _, c := range cameras {
					if err := c.Film([]byte("picture")); err != nil {
						t.Fatal(err)
					}
				}
			}
			<-tick.C
		}
	}
	// How busy a worker is with so many packets depends on the machine, and on what else
	// it does: the limit lies between how busy it is with much video and with none.
	e, all := start(1)
	stop := talk(t, all[0], 'a')
	busy := func(packets int) (mean float64) {
		const seconds = 3
		from := len(loads(e)) + 1 // the next reading is of both before and after
		film(all, packets, "readings of the load", func() bool { return len(loads(e)) >= from+seconds })
		for _, l := range loads(e)[from : from+seconds] {
			mean += l.Busy / seconds
		}
		return mean
	}
	idle, much := busy(0), busy(5)
	stop()
	limit := math.Sqrt(idle * much)
	t.Logf("busy with video: %.4f of the time, without: %.4f; so much is the limit: %.4f", much, idle, limit)

	e, all = start(limit)
	last := func() (l sfu.LoadReading) {
		if all := loads(e); len(all) > 0 {
			l = all[len(all)-1]
		}
		return l
	}
	b := all[1]
	defer talk(t, all[0], 'a')()
	awaitVoices(t, b, time.Time{}, 20, 'a')
	film(all, 5, "video to be shed", func() bool { return last().Shedding })
	e.Await(t, "the word that it is", func(ev sfu.Event) bool { return ev.Viewing != nil && ev.Viewing.Why == sfu.UnseenBusy })
	shed, began := len(b.Seen()), time.Now()
	film(all, 0, "room for video", func() bool { return !last().Shedding })
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("video was back after %v", took)
	}
	film(all[:2], 1, "video to be back", func() bool { return len(b.Seen()) > shed+20 && last().Cameras == 2 })
	gapless(t, b)
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
