package sfuserver_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/stun/v3"
	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"

	"voicefleet/sfu"
	"voicefleet/sfu/sfutest"
)

// frame is 20 ms of Opus that says who and when; the engine looks at its length
// only.
func frame(who, n byte) []byte { return append([]byte{0x78, who, n}, bytes.Repeat([]byte{who}, 60)...) }

// talk has a client say frames, 20 ms apart, until done is closed.
func talk(t *testing.T, c *sfutest.Client, who byte) (stop func()) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := byte(0); ; n++ {
			if err := c.Say(frame(who, n), 128|30); err != nil {
				t.Errorf("say: %v", err)
				return
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func TestTwoHearEachOther(t *testing.T) {
	e := sfutest.Start(t, 1, sfu.Start{})
	a := sfutest.Dial(t, e, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1)})
	b := sfutest.Dial(t, e, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2)})
	defer talk(t, a, 'a')()
	defer talk(t, b, 'b')()
	for _, c := range []struct {
		listener *sfutest.Client
		speaker  *sfutest.Client
		who      byte
	}{{a, b, 'b'}, {b, a, 'a'}} {
		heard := c.listener.Await(t, "20 packets", func(h []sfutest.Heard) bool { return len(h) >= 20 })
		for i, h := range heard {
			p := h.Packet
			if h.Slot != 0 || p.Payload[1] != c.who || len(p.CSRC) != 1 || sfu.SSRC(p.CSRC[0]) != c.speaker.Opened.SSRC {
				t.Fatalf("packet %d: slot %d, CSRC %v, payload %x", i, h.Slot, p.CSRC, p.Payload)
			}
			if i > 0 {
				before := heard[i-1].Packet
				if p.SequenceNumber != before.SequenceNumber+1 || p.Timestamp != before.Timestamp+960 {
					t.Fatalf("packet %d: sequence %d after %d, timestamp %d after %d",
						i, p.SequenceNumber, before.SequenceNumber, p.Timestamp, before.Timestamp)
				}
			}
		}
	}
	e.Await(t, "a speaking", func(ev sfu.Event) bool {
		return ev.Speaking != nil && ev.Speaking.Session == "a" && ev.Speaking.Speaking
	})
	placed := e.Await(t, "b placed at a", func(ev sfu.Event) bool { return ev.Placed != nil && ev.Placed.Session == "a" }).Placed
	if placed.Slot != 0 || placed.User != sfutest.User(2) || placed.SSRC != b.Opened.SSRC || placed.MID != a.Slots[0].MID {
		t.Errorf("placed %+v", placed)
	}
}

// voices counts, per speaker, what a client heard since a time.
func voices(c *sfutest.Client, since time.Time) map[byte]int {
	n := map[byte]int{}
	for _, h := range c.Heard() {
		if h.At.After(since) && len(h.Packet.Payload) > 3 {
			n[h.Packet.Payload[1]]++
		}
	}
	return n
}

// awaitVoices waits until a client has heard each of who at least n times since.
func awaitVoices(t *testing.T, c *sfutest.Client, since time.Time, n int, who ...byte) {
	t.Helper()
	c.Await(t, "voices", func([]sfutest.Heard) bool {
		got := voices(c, since)
		for _, w := range who {
			if got[w] < n {
				return false
			}
		}
		return true
	})
}

func TestMuteAndDeafen(t *testing.T) {
	e := sfutest.Start(t, 1, sfu.Start{})
	peer := func(id sfu.SessionID, n uint64) *sfutest.Client {
		return sfutest.Dial(t, e, sfutest.Peer{Session: id, Call: sfutest.Call(7), User: sfutest.User(n)})
	}
	a, b, c := peer("a", 1), peer("b", 2), peer("c", 3)
	defer talk(t, a, 'a')()
	defer talk(t, b, 'b')()
	awaitVoices(t, c, time.Time{}, 5, 'a', 'b')
	awaitVoices(t, a, time.Time{}, 5, 'b')
	set := func(u sfu.Update) time.Time {
		t.Helper()
		if err := e.Update(u); err != nil {
			t.Fatal(err)
		}
		return time.Now().Add(60 * time.Millisecond) // what was on its way, and the frames of silence
	}
	yes, no := true, false

	// Server mute: c hears b only.
	since := set(sfu.Update{Session: "a", Rights: &sfu.Rights{Speak: true, Mute: true}})
	awaitVoices(t, c, since, 10, 'b')
	if got := voices(c, since); got['a'] > 0 {
		t.Errorf("muted by the server, but heard %d times", got['a'])
	}
	since = set(sfu.Update{Session: "a", Rights: &sfu.Rights{Speak: true}})
	awaitVoices(t, c, since, 5, 'a', 'b')

	// c does not want to hear b; a still does.
	since = set(sfu.Update{Session: "c", Muted: &[]sfu.UserID{sfutest.User(2)}})
	awaitVoices(t, c, since, 10, 'a')
	awaitVoices(t, a, since, 10, 'b')
	if got := voices(c, since); got['b'] > 0 {
		t.Errorf("muted by the listener, but heard %d times", got['b'])
	}
	since = set(sfu.Update{Session: "c", Muted: &[]sfu.UserID{}})
	awaitVoices(t, c, since, 5, 'a', 'b')

	// c is deaf by its own wish, then by the server's.
	for _, u := range []sfu.Update{
		{Session: "c", SelfDeaf: &yes},
		{Session: "c", SelfDeaf: &no, Rights: &sfu.Rights{Speak: true, Deaf: true}},
	} {
		since = set(u)
		awaitVoices(t, a, since, 10, 'b')
		if got := voices(c, since); len(got) > 0 {
			t.Errorf("deaf, but heard %v", got)
		}
	}
	since = set(sfu.Update{Session: "c", Rights: &sfu.Rights{Speak: true}})
	awaitVoices(t, c, since, 5, 'a', 'b')
	gapless(t, a, b, c)
}

// gapless holds that no slot of any client missed a number.
func gapless(t *testing.T, clients ...*sfutest.Client) {
	t.Helper()
	for _, c := range clients {
		last := map[int]uint16{}
		for _, h := range c.Heard() {
			if n, ok := last[h.Slot]; ok && h.Packet.SequenceNumber != n+1 {
				t.Errorf("%s slot %d: %d after %d", c.Peer.Session, h.Slot, h.Packet.SequenceNumber, n)
			}
			last[h.Slot] = h.Packet.SequenceNumber
		}
	}
}

func TestEchoCall(t *testing.T) {
	e := sfutest.Start(t, 1, sfu.Start{})
	peer := func(id sfu.SessionID, n uint64) *sfutest.Client {
		return sfutest.Dial(t, e, sfutest.Peer{Session: id, Call: sfutest.Call(7), User: sfutest.User(n), Echo: true, Slots: 1})
	}
	a, b := peer("a", 1), peer("b", 2)
	defer talk(t, a, 'a')()
	defer talk(t, b, 'b')()
	awaitVoices(t, a, time.Time{}, 10, 'a')
	awaitVoices(t, b, time.Time{}, 10, 'b')
	if voices(a, time.Time{})['b']+voices(b, time.Time{})['a'] > 0 {
		t.Error("heard someone else")
	}
}

// TestWorkers puts calls on two workers: members of one call share a port, and
// the load tells all of it.
func TestWorkers(t *testing.T) {
	e := sfutest.Start(t, 2, sfu.Start{})
	ports := map[uint16]int{}
	var clients []*sfutest.Client
	for n := range uint64(4) {
		c := sfutest.Dial(t, e, sfutest.Peer{
			Session: sfu.SessionID(rune('a' + n)), Call: sfutest.Call(1 + n/2), User: sfutest.User(n + 1), Slots: 1,
		})
		clients = append(clients, c)
		ports[c.Opened.Port]++
		defer talk(t, c, byte('a'+n))()
	}
	if len(ports) != 2 || ports[clients[0].Opened.Port] != 2 || clients[0].Opened.Port != clients[1].Opened.Port {
		t.Errorf("sessions per port: %v", ports)
	}
	for n, c := range clients {
		awaitVoices(t, c, time.Time{}, 5, byte('a'+(n^1)))
		if got := voices(c, time.Time{}); len(got) != 1 {
			t.Errorf("client %d hears %v", n, got)
		}
	}
	load := e.Await(t, "load", func(ev sfu.Event) bool {
		l := ev.Load
		return l != nil && l.Sessions == 4 && l.Connected == 4 && len(l.Calls) == 2 && l.PacketsOut > 40 &&
			l.Calls[0].Speakers == 2 && l.Calls[0].Sessions == 2
	}).Load
	if load.Handshakes != 4 || load.Panics != 0 || load.PacketsIn < load.PacketsOut || load.BytesOut < 80*load.PacketsOut {
		t.Errorf("load %+v", load)
	}
}

// TestStrangersGetNoAnswer sends what belongs to no session, while a call runs.
func TestStrangersGetNoAnswer(t *testing.T) {
	sockets := sfutest.Listen(t, 1)
	e := sfutest.Attach(t, sockets, sfu.Start{})
	a := sfutest.Dial(t, e, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1)})
	b := sfutest.Dial(t, e, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2)})
	defer talk(t, a, 'a')()
	stranger, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(a.Opened.Port)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	nobody := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("nobody:knows"),
		stun.NewShortTermIntegrity("password"), stun.Fingerprint)
	random := rand.New(rand.NewPCG(1, 2))
	junk := make([]byte, 1600)
	for i := range 2000 {
		for j := range junk {
			junk[j] = byte(random.Uint32())
		}
		d := junk[:random.IntN(len(junk))]
		switch i % 4 {
		case 0:
			d = binding.Raw
		case 1:
			d = nobody.Raw
		case 2:
			d = append(d[:0:0], d...)
			if len(d) > 0 {
				d[0] = 0x80 | d[0]&0x3f
			}
		}
		if _, err := stranger.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	awaitVoices(t, b, time.Time{}, 20, 'a')
	e.Await(t, "the drops", func(ev sfu.Event) bool {
		return ev.Load != nil && ev.Load.Drops["stun"] >= 500 && ev.Load.Drops["ufrag"] >= 500 && ev.Load.Drops["unknown_source"] > 0
	})
	// All of it was worked on by now: whatever was to be answered, was.
	_ = stranger.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := stranger.Read(junk); err == nil {
		t.Errorf("an answer of %d bytes: %x", n, junk[:n])
	}
	gapless(t, b)
}

// TestRestore ends an engine in the middle of a call and has another on the same
// sockets go on: the clients do nothing.
func TestRestore(t *testing.T) {
	sockets := sfutest.Listen(t, 1)
	first := sfutest.Attach(t, sockets, sfu.Start{})
	a := sfutest.Dial(t, first, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1), NACK: true})
	b := sfutest.Dial(t, first, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2)})
	defer talk(t, a, 'a')()
	defer talk(t, b, 'b')()
	awaitVoices(t, a, time.Time{}, 20, 'b')
	awaitVoices(t, b, time.Time{}, 20, 'a')
	latest := map[sfu.SessionID]*sfu.Snapshot{}
	for _, ev := range first.Facts() {
		if s := ev.Snapshot; s != nil {
			latest[s.Open.Session] = s
		}
	}
	if len(latest) != 2 {
		t.Fatalf("%d snapshots", len(latest))
	}
	first.Stop()

	second := sfutest.Attach(t, sockets, sfu.Start{})
	since := time.Now()
	for _, s := range latest {
		if err := second.Restore(s); err != nil {
			t.Fatal(err)
		}
	}
	awaitVoices(t, a, since, 20, 'b')
	awaitVoices(t, b, since, 20, 'a')
	for _, c := range []*sfutest.Client{a, b} {
		heard := c.Heard()
		for i := 1; i < len(heard); i++ {
			p, q := heard[i-1].Packet, heard[i].Packet
			elapsed := heard[i].At.Sub(heard[i-1].At)
			ticks := time.Duration(int32(q.Timestamp-p.Timestamp)) * time.Second / 48000
			if d := ticks - elapsed; d.Abs() > 5*time.Second { // a busy machine, but not another clock
				t.Errorf("%s: time went on by %v in %v", c.Peer.Session, ticks, elapsed)
			}
		}
	}
	load := second.Await(t, "load", func(ev sfu.Event) bool { return ev.Load != nil && ev.Load.Connected == 2 }).Load
	if load.Drops["auth"] != 0 || load.Handshakes != 0 {
		t.Errorf("load %+v", load)
	}
}

// TestLeavesNothingRunning holds that Run waits for all it began.
func TestLeavesNothingRunning(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	e := sfutest.Start(t, 2, sfu.Start{})
	if _, err := e.Open("a", sfutest.Call(1), sfutest.User(1)); err != nil {
		t.Fatal(err)
	}
	e.Stop()
	goleak.VerifyNone(t, ignore)
}

// lossy loses the first so many datagrams that begin with a ChangeCipherSpec:
// the end of the server's handshake.
type lossy struct {
	net.PacketConn
	left atomic.Int32
}

func (l *lossy) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.PacketConn.ReadFrom(b)
		if err != nil || n == 0 || b[0] != 20 || l.left.Add(-1) < 0 {
			return n, from, err
		}
	}
}

// TestLastFlightLost connects a client that misses the end of the handshake
// three times.
func TestLastFlightLost(t *testing.T) {
	e := sfutest.Start(t, 1, sfu.Start{})
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lossy{PacketConn: conn}
	l.left.Store(3)
	var setting webrtc.SettingEngine
	mux := webrtc.NewICEUDPMux(nil, l)
	defer mux.Close()
	setting.SetICEUDPMux(mux)
	setting.SetDTLSRetransmissionInterval(50 * time.Millisecond)
	a := sfutest.Dial(t, e, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1), Setting: &setting})
	b := sfutest.Dial(t, e, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2)})
	if n := l.left.Load(); n > 0 {
		t.Fatalf("%d were not lost", n)
	}
	defer talk(t, a, 'a')()
	defer talk(t, b, 'b')()
	awaitVoices(t, a, time.Time{}, 10, 'b')
	awaitVoices(t, b, time.Time{}, 10, 'a')
}

// TestOtherTransports connects clients over IPv6 and with the older protection
// profile.
func TestOtherTransports(t *testing.T) {
	if probe, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		probe.Close()
	}
	six := webrtc.SettingEngine{}
	six.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP6})
	cm := webrtc.SettingEngine{}
	cm.SetSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	e := sfutest.Start(t, 1, sfu.Start{Advertise: []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}})
	a := sfutest.Dial(t, e, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1), Setting: &six})
	b := sfutest.Dial(t, e, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2), Setting: &cm})
	defer talk(t, a, 'a')()
	defer talk(t, b, 'b')()
	awaitVoices(t, a, time.Time{}, 10, 'b')
	awaitVoices(t, b, time.Time{}, 10, 'a')
	for _, ev := range e.Facts() {
		if s := ev.Snapshot; s != nil && s.Open.Session == "b" && s.Profile != uint16(dtls.SRTP_AES128_CM_HMAC_SHA1_80) {
			t.Errorf("profile %d", s.Profile)
		}
		if c := ev.Connected; c != nil && c.Session == "a" && !c.Remote.Addr().Is6() {
			t.Errorf("a is at %v", c.Remote)
		}
	}
}

// BenchmarkNegotiate is select protocol to session description, without the
// bus: an offer of a microphone and 16 slots.
func BenchmarkNegotiate(b *testing.B) {
	e := sfutest.Start(b, 1, sfu.Start{Limits: sfu.Limits{Sessions: 1 << 20}})
	offer := sfutest.Offer(b, 16)
	n := 0
	for b.Loop() {
		n++
		id := sfu.SessionID(fmt.Sprint("s", n))
		if _, err := e.Open(id, sfutest.Call(7), sfutest.User(uint64(n))); err != nil {
			b.Fatal(err)
		}
		if _, err := e.Negotiate(id, offer); err != nil {
			b.Fatal(err)
		}
		if err := e.Close(id); err != nil {
			b.Fatal(err)
		}
	}
}

// TestClientsGiveFeedback: a real client answers the packets that ask for it.
func TestClientsGiveFeedback(t *testing.T) {
	e := sfutest.Start(t, 1, sfu.Start{})
	a := sfutest.Dial(t, e, sfutest.Peer{Session: "a", Call: sfutest.Call(1), User: sfutest.User(1)})
	b := sfutest.Dial(t, e, sfutest.Peer{Session: "b", Call: sfutest.Call(1), User: sfutest.User(2), TransportCC: true})
	stop := talk(t, a, 1)
	e.Await(t, "feedback", func(ev sfu.Event) bool { return ev.Load != nil && ev.Load.Hearing["feedback"] == 1 })
	stop()
	stamped := 0
	heard := b.Heard()
	for _, h := range heard {
		if len(h.Packet.GetExtensionIDs()) == 2 {
			stamped++
		}
	}
	if stamped == 0 || stamped > len(heard)/5 {
		t.Errorf("%d of %d packets ask for feedback", stamped, len(heard))
	}
}
