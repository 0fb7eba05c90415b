package sfuserver

import (
	"encoding/binary"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/rtcpwire"
)

// report is what a listener says of its first slot.
func (p *peer) report(highest uint32, lost int32) []byte {
	return p.control(rtcpwire.AppendReceiverReport(nil, 9, &rtcpwire.Block{SSRC: uint32(p.snap.Media.Slots[0].SSRC), Highest: highest, Lost: lost}))
}

// TestDeafIsTold: one speaks, of four who listen one gets nothing; three lose 4 %
// and say so. The agent is told which is deaf, and how much the node loses; the
// deaf one is told of again when it hears.
func TestDeafIsTold(t *testing.T) {
	b := newBench(t)
	p := b.connect("p", 1, nil)
	var listeners []*peer
	for i, id := range []string{"q", "r", "s", "deaf"} {
		listeners = append(listeners, b.connect(id, 2+i, nil))
	}
	deaf := listeners[3]
	stuck := uint32(restoreJump + 99)
	second := func(n int, hears bool) {
		for range 50 {
			b.receive(p.voice(), p.at)
			b.pass(20 * time.Millisecond)
		}
		if n%5 != 0 {
			return
		}
		for _, each := range append(listeners, p) {
			b.receive(each.check(false), each.at)
		}
		got := uint32(restoreJump + 50*n - 1)
		for _, l := range listeners {
			switch {
			case l != deaf:
				b.receive(l.report(got, int32(50*n/25)), l.at)
			case hears:
				b.receive(l.report(got, 0), l.at)
				stuck = got
			default: // its RTCP gets through
				b.receive(l.report(stuck, 0), l.at)
			}
		}
	}
	told := func() (list []sfu.Deaf) {
		for _, ev := range b.facts() {
			if ev.Deaf != nil {
				list = append(list, *ev.Deaf)
			}
		}
		return list
	}
	for n := 1; n <= 40; n++ {
		second(n, true)
	}
	if list := told(); len(list) != 0 {
		t.Fatalf("all hear, and told %v", list)
	}
	for n := 41; n <= 65; n++ {
		second(n, false)
	}
	if list := told(); len(list) != 1 || list[0].Session != "deaf" || list[0].User != deaf.snap.Open.User || list[0].Hears {
		t.Fatalf("told %v", list)
	}
	b.w.publish(b.now)
	l := b.srv.load()
	if l.Loss.Of < 3 || l.Loss.Middle < 0.03 || l.Loss.Middle > 0.05 || l.ListenerExpected < 9000 || l.ListenerLost < 300 {
		t.Errorf("the load tells of %+v, %d of %d", l.Loss, l.ListenerLost, l.ListenerExpected)
	}
	if l.Hearing["report"] != 4 || l.Hearing["none"] != 1 { // p hears nobody
		t.Errorf("hearing %v", l.Hearing)
	}
	for n := 66; n <= 75; n++ {
		second(n, true)
	}
	if list := told(); len(list) != 1 || !list[0].Hears {
		t.Fatalf("hears again, and told %v", list)
	}
	// Deaf by wish: nothing is sent, so nothing is to be heard.
	yes := true
	b.command(sfu.Command{Update: &sfu.Update{Session: "deaf", SelfDeaf: &yes}})
	for n := 76; n <= 130; n++ {
		second(n, false)
	}
	if list := told(); len(list) != 0 {
		t.Fatalf("deaf by wish, and told %v", list)
	}
}

// TestDeafByItsOwnWord: a client that says so twice over its WebSocket is believed
// within seconds, and not the first time.
func TestDeafByItsOwnWord(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	say := func(hears bool) {
		if ev := b.command(sfu.Command{Update: &sfu.Update{Session: "q", Hears: &hears}}); ev.Err != nil {
			t.Fatal(ev.Err)
		}
	}
	say(true)
	for n := range 6 {
		for range 50 {
			b.receive(p.voice(), p.at)
			b.pass(20 * time.Millisecond)
		}
		b.receive(q.check(false), q.at)
		told := false
		for _, ev := range b.facts() {
			told = told || ev.Deaf != nil && ev.Deaf.Session == "q"
		}
		switch {
		case told && n < 4:
			t.Fatalf("told in second %d", n)
		case told:
			return
		case n == 1, n == 3:
			say(false)
		}
	}
	t.Error("not told")
}

// FuzzFeedback: whatever an authentic client says in RTCP, nothing panics and
// nothing comes back but what it may ask for.
func FuzzFeedback(f *testing.F) {
	f.Add([]byte{0x81, 201, 0, 7, 0, 0, 0, 9, 0, 0, 0x1f, 0x54, 0, 0, 0, 0, 0, 0, 0x40, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 9, 0, 0, 0, 0, 0x20, 9, 0, 0})
	f.Add([]byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0x1f, 0x54, 0x40, 0, 0xff, 0xff})
	b := newBench(f)
	p := b.connect("p", 1, nil)
	q := b.connect("q", 2, func(s *sfu.Snapshot) { s.Media.TransportCC = 5 })
	f.Fuzz(func(t *testing.T, compound []byte) {
		b.t, q.b.t = t, t
		if len(compound) < 8 || len(compound) > 1400 {
			return
		}
		compound[0] = compound[0]&31 | 0x80
		binary.BigEndian.PutUint32(compound[4:], 9)
		b.now += 20 * time.Millisecond
		b.receive(p.voice(), p.at)
		sent, drops := b.receive(q.control(compound), q.at)
		if b.w.count.panics != 0 {
			t.Fatalf("panic; %d sent, dropped %q", len(sent), drops)
		}
	})
}
