package call

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
)

var relaySecret = sfu.RelaySecret{1, 2, 3, 4, 5, 6, 7, 8}

// span has the call of a rig span to so many other nodes.
func (r *rig) span(epoch uint64, peers ...uint16) {
	r.flush()
	r.call.SetRelay(r.now, &sfu.Relay{Call: sfu.CallID{ID: 7}, Epoch: epoch, Peers: peers}, r.bundle, r.out)
	r.flush()
}

// carry brings what a rig's call gave its agent to that of another, as peer 1.
func (r *rig) carry(t *testing.T, to *rig, keep func(i int) bool) int {
	t.Helper()
	n := 0
	for i, packet := range r.relayed {
		p, err := sfu.ReadRelayPacket(packet)
		if err != nil {
			t.Fatalf("%v: %x", err, packet)
		}
		if keep == nil || keep(i) {
			to.call.Relayed(to.now, 1, &p, to.out)
			to.flush()
		}
		n++
	}
	r.relayed = nil
	return n
}

// pair is a call on two nodes: ann and abe on one, bea and bob on the other.
func pair(t *testing.T) (a, b *rig) {
	a, b = newRig(t, Config{}), newRig(t, Config{})
	for _, r := range []*rig{a, b} {
		r.span(5, 1)
	}
	// Ids differ between the nodes, as in a fleet.
	b.order = []string{"", ""}
	a.join("ann", 2, sfu.Rights{Speak: true}, false, 1)
	a.join("abe", 2, sfu.Rights{Speak: true}, false, 1)
	b.join("bea", 2, sfu.Rights{Speak: true}, false, 1)
	b.join("bob", 2, sfu.Rights{Speak: true}, false, 1)
	a.strangers = map[sfu.SSRC]string{b.members["bea"].SSRC: "bea", b.members["bob"].SSRC: "bob"}
	b.strangers = map[sfu.SSRC]string{a.members["ann"].SSRC: "ann", a.members["abe"].SSRC: "abe"}
	return a, b
}

// both lets time pass on both nodes.
func both(a, b *rig, d time.Duration) {
	a.advance(a.now + d)
	b.advance(b.now + d)
}

func (r *rig) took() string {
	s := strings.Join(r.lines, "\n")
	r.lines = nil
	return s
}

// TestRelayOfATalkSpurt: who listens on another node gets what one beside the
// speaker gets: the onset first, silence at the end, in one slot without gaps; and
// it is told who speaks by its own node only.
func TestRelayOfATalkSpurt(t *testing.T) {
	a, b := pair(t)
	for i, say := range []struct {
		text  string
		level uint8
	}{{"before.", 70}, {"almost.", 65}, {"hello.", rtpwire.Voice | 30}, {"there.", rtpwire.Voice | 30}, {"(gone)", 127}, {"(gone)", 127}, {"(gone)", 127}, {"(gone)", 127}} {
		if i > 0 {
			both(a, b, 20*time.Millisecond)
		}
		a.voice("ann", say.text, say.level, 0)
		a.carry(t, b, nil)
	}
	both(a, b, time.Second)
	a.carry(t, b, nil)
	want := `  bea/0 is ann
  bob/0 is ann
  bea/0 #100 0ms ann mark -70 before
  bob/0 #100 0ms ann mark -70 before
  bea/0 #101 20ms ann -65 almost
  bob/0 #101 20ms ann -65 almost
  bea/0 #102 40ms ann -30V hello
  bob/0 #102 40ms ann -30V hello
  bea/0 #103 60ms ann -30V there
  bob/0 #103 60ms ann -30V there
  bea/0 #104 80ms ann -127 silence
  bob/0 #104 80ms ann -127 silence
  bea/0 #105 100ms ann -127 silence
  bob/0 #105 100ms ann -127 silence
  bea/0 #106 120ms ann -127 silence
  bob/0 #106 120ms ann -127 silence`
	got := b.took()
	// The first packet comes when the second node's clock shows 40 ms.
	got = strings.NewReplacer(" 40ms", " 0ms", " 60ms", " 20ms", " 80ms", " 40ms", " 100ms", " 60ms", " 120ms", " 80ms", " 140ms", " 100ms", " 160ms", " 120ms").Replace(got)
	if got != want {
		t.Errorf("the other node:\n%s\nwant\n%s", got, want)
	}
	if b.count.RelayIn != 7 || b.count.RelayOut != 0 || len(b.relayed) != 0 || a.count.RelayOut != 7 {
		t.Errorf("relayed: %d out, %d in, %d went on", a.count.RelayOut, b.count.RelayIn, b.count.RelayOut)
	}
	if on := b.call.Members(); on != 2 {
		t.Errorf("%d members", on)
	}
}

// TestRelayOncePerSpeaker: however many listen, here and there, a packet is given
// to the agent once; and nothing comes back.
func TestRelayOncePerSpeaker(t *testing.T) {
	a, b := pair(t)
	a.order = append(a.order, "", "") // bea and bob have these ids
	for i := range 20 {
		a.join(fmt.Sprint("more", i), 3, sfu.Rights{Speak: true}, false, 1)
	}
	for range 50 {
		a.voice("ann", "aaaaa", rtpwire.Voice|30, 0)
		a.voice("abe", "bbbbb", rtpwire.Voice|40, 0)
		b.voice("bob", "ccccc", rtpwire.Voice|30, 0)
		if n := a.carry(t, b, nil); n != 2 {
			t.Fatalf("two speakers: %d relay packets", n)
		}
		if n := b.carry(t, a, nil); n != 1 {
			t.Fatalf("one speaker: %d relay packets", n)
		}
		both(a, b, 20*time.Millisecond)
	}
	if a.call.Speakers() != 3 || b.call.Speakers() != 3 {
		t.Errorf("on stage: %d and %d", a.call.Speakers(), b.call.Speakers())
	}
}

// TestRelayChoosesAtTheSource: of more speakers than a stage holds, the other node
// is given the loudest.
func TestRelayChoosesAtTheSource(t *testing.T) {
	a, _ := pair(t)
	for i := range 50 {
		a.join(fmt.Sprint("s", i), 0, sfu.Rights{Speak: true}, false, 1)
	}
	for range 100 {
		for i := range 50 {
			a.voice(fmt.Sprint("s", i), "xxxxx", rtpwire.Voice|uint8(20+i), 0)
		}
		a.advance(a.now + 20*time.Millisecond)
	}
	a.relayed = nil
	for i := range 50 {
		a.voice(fmt.Sprint("s", i), "xxxxx", rtpwire.Voice|uint8(20+i), 0)
	}
	if len(a.relayed) != 33 {
		t.Errorf("%d speakers cross", len(a.relayed))
	}
}

// TestRelayLoss: what was lost on the link is a gap in time, not in numbers.
func TestRelayLoss(t *testing.T) {
	a, b := pair(t)
	for i := range 6 {
		a.voice("ann", fmt.Sprint("word ", i), rtpwire.Voice|30, 0)
		a.carry(t, b, func(int) bool { return i != 2 && i != 3 })
		both(a, b, 20*time.Millisecond)
	}
	got := b.took()
	for _, want := range []string{"bea/0 #101 20ms ann -30V word 1", "bea/0 #102 80ms ann -30V word 4"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestRelayRights: a mute holds where the speaker is, that of one listener where
// the listener is; priority goes along.
func TestRelayRights(t *testing.T) {
	a, b := pair(t)
	b.call.SetMuted(b.now, b.members["bea"], []sfu.UserID{a.members["ann"].User})
	a.call.SetRights(a.members["abe"], sfu.Rights{Speak: true, Mute: true})
	a.call.SetRights(a.members["ann"], sfu.Rights{Speak: true, Priority: true})
	b.tally = map[string]int{}
	for range 10 {
		a.voice("ann", "aaaaa", rtpwire.Voice|30, 0)
		a.voice("abe", "bbbbb", rtpwire.Voice|30, 0)
		a.carry(t, b, nil)
		both(a, b, 20*time.Millisecond)
	}
	if got := fmt.Sprint(b.tally); got != "map[bob/0 ann:10]" {
		t.Error(got)
	}
	if !b.call.relay.speakers[0].rights.Priority {
		t.Error("priority stayed behind")
	}
	b.call.SetRights(b.members["bob"], sfu.Rights{Speak: true, Deaf: true})
	a.voice("ann", "aaaaa", rtpwire.Voice|30, 0)
	a.carry(t, b, nil)
	if got := b.tally["bob/0 ann"]; got != 10 {
		t.Errorf("a deafened one got %d", got-10)
	}
}

// TestRelayEnds: when a node leaves the call, its speakers fall silent in order.
func TestRelayEnds(t *testing.T) {
	a, b := pair(t)
	a.voice("ann", "aaaaa", rtpwire.Voice|30, 0)
	a.carry(t, b, nil)
	b.took()
	b.span(5, 2)
	if got := b.took(); strings.Count(got, "bea/0") != 3 || strings.Count(got, "silence") != 6 {
		t.Errorf("the end:\n%s", got)
	}
	b.advance(b.now + time.Second)
	if len(b.call.relay.speakers) != 0 || len(b.call.relay.byName) != 0 || len(b.call.awake) != 0 || b.call.Speakers() != 0 {
		t.Error("something is left of a node that has left")
	}
	b.span(5)
	b.voice("bob", "xxxxx", rtpwire.Voice|30, 0)
	if len(b.relayed) != 0 {
		t.Error("a call that is alone again is relayed")
	}
}

func TestRelayDrops(t *testing.T) {
	_, b := pair(t)
	good := sfu.RelayPacket{Call: sfu.CallID{ID: 7}, Epoch: 5, User: sfu.UserID{ID: 99}, SSRC: 99, Sequence: 1, Level: rtpwire.Voice | 30, Payload: []byte("hello")}
	taken := b.members["bea"].SSRC
	for _, c := range []struct {
		name   string
		peer   uint16
		change func(*sfu.RelayPacket)
		why    sfu.DropReason
	}{
		{"an old epoch", 1, func(p *sfu.RelayPacket) { p.Epoch = 4 }, sfu.DropRelayEpoch},
		{"a later epoch", 1, func(p *sfu.RelayPacket) { p.Epoch = 6 }, sfu.DropRelayEpoch},
		{"a node that is not of the call", 2, nil, sfu.DropRelayPeer},
		{"half a packet", 1, func(p *sfu.RelayPacket) { p.Half = sfu.RelayFirst }, sfu.DropMalformed},
		{"the SSRC of a member", 1, func(p *sfu.RelayPacket) { p.SSRC = taken }, sfu.DropRelaySpeaker},
	} {
		p, before := good, b.count.Drops[c.why]
		if c.change != nil {
			c.change(&p)
		}
		b.call.Relayed(b.now, c.peer, &p, b.out)
		b.out.Flush()
		if got := b.count.Drops[c.why] - before; got != 1 || b.count.RelayIn != 0 || len(b.lines) != 0 {
			t.Errorf("%s: %d drops as %v, %d taken, %v", c.name, got, c.why, b.count.RelayIn, b.lines)
		}
	}
	// One more speaker than there is room for, while all speak, has no room; when
	// one has fallen silent, it takes that one's.
	for i := range sfu.MaxRemoteSpeakers + 1 {
		p := good
		p.SSRC, p.User.ID = sfu.SSRC(100+i), p.User.ID+1
		b.call.Relayed(b.now, 1, &p, b.out)
	}
	if got := b.count.Drops[sfu.DropRelaySpeaker]; got != 2 || len(b.call.relay.speakers) != sfu.MaxRemoteSpeakers {
		t.Errorf("%d dropped, %d known", got, len(b.call.relay.speakers))
	}
	b.advance(b.now + time.Second)
	b.call.Relayed(b.now, 1, &good, b.out)
	if got := b.count.Drops[sfu.DropRelaySpeaker]; got != 2 || len(b.call.relay.speakers) != sfu.MaxRemoteSpeakers || len(b.call.relay.byName) != sfu.MaxRemoteSpeakers {
		t.Errorf("%d dropped, %d known", got, len(b.call.relay.speakers))
	}
	b.span(5)
	before := b.count.Drops[sfu.DropRelayCall]
	b.call.Relayed(b.now, 1, &good, b.out)
	if b.count.Drops[sfu.DropRelayCall] != before+1 {
		t.Error("a call that is on one node takes relay packets")
	}
}

// TestRelayDoesNotAllocate: neither giving nor taking, talk spurts included.
func TestRelayDoesNotAllocate(t *testing.T) {
	c, members, out, count := forwarding(t, 10, 16, 7, true)
	bundle := egress.NewBundle()
	bundle.Lead(egress.Path{Len: 16}, relaySecret, out)
	c.SetRelay(0, &sfu.Relay{Epoch: 1, Peers: []uint16{1}}, bundle, out)
	payload := make([]byte, 120)
	n := 0
	cycle := func() {
		for i := range 15 {
			n++
			now := time.Duration(n) * 20 * time.Millisecond
			level := uint8(rtpwire.Voice | 30)
			if i >= 5 {
				level = 127
			}
			speak(c, members, 10, n, level, payload, out)
			for s := range 5 {
				p := sfu.RelayPacket{Epoch: 1, User: sfu.UserID{ID: 1000}, SSRC: sfu.SSRC(90000 + s), Sequence: uint32(n), Timestamp: uint32(960 * n), Level: level, Payload: payload}
				c.Relayed(now, 1, &p, out)
			}
			c.Tick(now, out)
			bundle.Send(now, out)
		}
	}
	cycle()
	if got := testing.AllocsPerRun(20, cycle); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if count.RelayIn == 0 || count.RelayOut == 0 {
		t.Errorf("%d in, %d out", count.RelayIn, count.RelayOut)
	}
}

// TestShownNamesRemoteSpeakers: an agent that adopts the engine learns of the
// speakers of other nodes in slots.
func TestShownNamesRemoteSpeakers(t *testing.T) {
	a, b := pair(t)
	a.voice("ann", "aaaaa", rtpwire.Voice|30, 0)
	a.carry(t, b, nil)
	_, seats := b.call.Shown(b.members["bea"])
	if len(seats) != 1 || seats[0].User != a.members["ann"].User || !slices.ContainsFunc(b.lines, func(s string) bool { return s == "  bea/0 is ann" }) {
		t.Errorf("%+v", seats)
	}
}
