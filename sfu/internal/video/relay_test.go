package video

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/egress"
)

// relayLen marks the path to the agent.
const relayLen = 28

// unbundle reads a list of relay packets.
func unbundle(t testing.TB, d []byte) (packets []sfu.RelayPacket) {
	_, list, ok := sfu.ReadRelayLocal(bytes.Clone(d), &sfu.RelaySecret{})
	if !ok {
		t.Fatal("no list of relay packets")
	}
	for len(list) > 0 {
		packet, rest, err := sfu.NextRelay(list)
		if err != nil {
			t.Fatal(err)
		}
		p, err := sfu.ReadRelayPacket(packet)
		if err != nil {
			t.Fatal(err)
		}
		packets, list = append(packets, p), rest
	}
	return packets
}

// spanning is a rig whose call is on another node, too, which it knows as peer 1.
type spanning struct {
	*rig
	bundle *egress.Bundle
	sends  time.Duration
}

func newSpanning(t testing.TB, base int) *spanning {
	s := &spanning{rig: newRig(t, false), bundle: egress.NewBundle()}
	s.base = base
	s.bundle.Lead(egress.Path{Len: relayLen}, sfu.RelaySecret{}, s.out)
	s.span(1)
	return s
}

func (s *spanning) span(peers ...uint16) {
	s.call.SetRelay(s.now, &sfu.Relay{Call: sfu.CallID{ID: 1}, Epoch: 7, Peers: peers}, s.bundle)
}

// send has what waits for the agent go there, as the worker does every 2.5 ms.
func (s *spanning) send() {
	s.sends += time.Hour
	s.bundle.Send(s.sends, s.out)
	s.out.Flush()
}

// carry brings the other node what waits for it, but for what is to be dropped, and says
// how much there was.
func (s *spanning) carry(to *spanning, drop ...int) int {
	s.send()
	list := s.relayed
	s.relayed = nil
	for i := range list {
		if !slices.Contains(drop, i) {
			to.call.Relayed(to.now, 1, &list[i], to.out)
		}
	}
	to.out.Flush()
	return len(list)
}

// TestCameraOfAnotherNode is seen as one of here; a key frame is asked for over there.
func TestCameraOfAnotherNode(t *testing.T) {
	a, b := newSpanning(t, 0), newSpanning(t, 50)
	a.join("ann", 1)
	b.join("bea", 1)
	b.join("bob", 1)
	b.names[a.all["ann"].SSRC] = "ann"
	a.film("ann", true, 2)
	if n := a.carry(b); n != 2 {
		t.Errorf("%d packets cross for two viewers, want 2", n)
	}
	b.want("told", b.tell(), "bea:0 ann, bob:0 ann")
	lost := a.all["ann"].frame(false, 3)
	a.video("ann", lost...)
	a.carry(b, 1)
	_, s := numbers(t, b.take("bob"))
	b.want("packets", fmt.Sprint(s), "[+1 +0 +0 end +1 +3750 +1 +2 +0 +0 end]")
	if n := len(a.take("ann")); n != 0 {
		t.Errorf("%d packets came back", n)
	}

	// Bob misses one: nothing is asked of anybody here, but of Ann's node.
	b.feedback("bob", pli(b.all["bob"]))
	b.want("asked here", fmt.Sprint(b.advance(keyEvery)), "[]")
	if n := b.carry(a); n != 1 {
		t.Errorf("%d wishes cross", n)
	}
	a.want("asked there", fmt.Sprint(a.advance(20*ms)), "[ann key]")

	// What comes twice is seen once: an index seals one packet.
	a.film("ann", true, 1)
	a.send()
	again := slices.Clone(a.relayed)
	again[0].Payload = bytes.Clone(again[0].Payload)
	again[0].Payload[8]++
	a.carry(b)
	b.call.Relayed(b.now, 1, &again[0], b.out)
	b.out.Flush()
	if n := len(b.take("bob")); n != 1 || b.drops[sfu.DropReplay] != 1 {
		t.Errorf("bob got %d packets, %d were dropped", n, b.drops[sfu.DropReplay])
	}

	// The other node is none of the call any more.
	b.tell()
	b.span()
	b.want("told", b.tell(), "bea:0 nobody off, bob:0 nobody off")
	if len(b.call.relay.cameras) != 0 || b.call.Cameras() != 0 {
		t.Errorf("%d cameras of other nodes", len(b.call.relay.cameras))
	}
}

// TestCamerasOfOthersAreBounded: who has a stand, and nobody with an SSRC of here.
func TestCamerasOfOthersAreBounded(t *testing.T) {
	b := newSpanning(t, 0)
	b.join("bob", 1)
	packet := func(ssrc sfu.SSRC) *sfu.RelayPacket {
		return &sfu.RelayPacket{Call: sfu.CallID{ID: 1}, Epoch: 7, User: sfu.UserID{ID: 9}, SSRC: ssrc, Kind: sfu.RelayVideo, Payload: []byte{0x10, 0, 1, 2}}
	}
	b.call.Relayed(b.now, 1, packet(b.all["bob"].SSRC), b.out)
	for i := range sfu.MaxCameras + 10 {
		b.call.Relayed(b.now, 1, packet(sfu.SSRC(5000+i)), b.out)
	}
	b.call.Relayed(b.now, 2, packet(5000), b.out)
	if n := len(b.call.relay.cameras); n != sfu.MaxCameras || b.drops[sfu.DropRelaySpeaker] != 12 {
		t.Errorf("%d cameras, %d packets of others", n, b.drops[sfu.DropRelaySpeaker])
	}
	b.advance(darkAfter + 20*ms)
	b.call.Shed(b.now, true)
	b.call.Relayed(b.now, 1, packet(6000), b.out)
	if n := len(b.call.relay.cameras); n != 0 || b.drops[sfu.DropShed] != 1 {
		t.Errorf("%d cameras while video is shed", n)
	}
}
