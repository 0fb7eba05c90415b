package sfuserver

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/call"
	"voicefleet/sfu/internal/egress"
)

var testSecret = sfu.RelaySecret{9, 8, 7, 6, 5, 4, 3, 2}

// TestRelayDatagrams: what goes to the agent and what is taken from it, at the
// worker's door; every refusal has its name.
func TestRelayDatagrams(t *testing.T) {
	b := newBench(t)
	p, l := b.connect("p", 1, nil), b.connect("l", 2, nil)
	_ = l
	id := p.session.call.id
	agent := netip.MustParseAddrPort("127.0.0.1:4444")
	relay := sfu.Relay{Call: id, Epoch: 3, Peers: []uint16{1}, To: agent, Secret: testSecret}
	if ev := b.command(sfu.Command{Relay: &relay}); ev.Err != nil || ev.Relayed == nil || ev.Relayed.Port != b.w.sock.port {
		t.Fatalf("%+v", ev)
	}
	sent, drops := b.receive(p.voice(), p.at)
	if len(sent) != 2 || drops != "" {
		t.Fatalf("%d datagrams, %s", len(sent), drops)
	}
	var got sfu.RelayPacket
	for _, d := range sent {
		if d.to != agent {
			continue
		}
		_, list, ok := sfu.ReadRelayLocal(d.bytes, &testSecret)
		packet, rest, err := sfu.NextRelay(list)
		if !ok || err != nil || len(rest) > 0 {
			t.Fatalf("%x: %v", d.bytes, err)
		}
		if got, err = sfu.ReadRelayPacket(packet); err != nil {
			t.Fatalf("%x: %v", d.bytes, err)
		}
	}
	if got.Call != id || got.Epoch != 3 || got.User != p.session.user || got.SSRC != p.session.ssrc || got.Sequence != 1 || string(got.Payload) != "a frame of voice" {
		t.Errorf("to the agent went %+v", got)
	}

	got.User.ID, got.SSRC, got.Payload = 77, 77, bytes.Clone(got.Payload)
	from := func(change func(*sfu.RelayPacket)) []byte {
		r := got
		if change != nil {
			change(&r)
		}
		return r.AppendTo(sfu.AppendRelayLocal(nil, 1, &testSecret))
	}
	if sent, drops := b.receive(from(nil), agent); len(sent) != 2 || drops != "" {
		t.Errorf("a speaker of another node: %d datagrams, %s", len(sent), drops)
	}
	for _, c := range []struct {
		name, drop string
		d          []byte
		from       netip.AddrPort
	}{
		{"not from the agent's port", "relay_source", from(nil), netip.MustParseAddrPort("127.0.0.1:4445")},
		{"not from this machine", "relay_source", from(nil), netip.MustParseAddrPort("192.0.2.9:4444")},
		{"another secret", "relay_source", got.AppendTo(sfu.AppendRelayLocal(nil, 1, &sfu.RelaySecret{})), agent},
		{"no list in it", "malformed", append(sfu.AppendRelayLocal(nil, 1, &testSecret), "junk"...), agent},
		{"no packet in it", "malformed", append(sfu.AppendRelayLocal(nil, 1, &testSecret), "\x00\x04junk"...), agent},
		{"a call that is not here", "relay_call", from(func(r *sfu.RelayPacket) { r.Call.ID = 999 }), agent},
		{"an old epoch", "relay_epoch", from(func(r *sfu.RelayPacket) { r.Epoch = 2 }), agent},
		{"another node", "relay_peer", got.AppendTo(sfu.AppendRelayLocal(nil, 2, &testSecret)), agent},
		{"a member's SSRC", "relay_speaker", from(func(r *sfu.RelayPacket) { r.SSRC = p.session.ssrc }), agent},
		{"the packet without the way", "not_voice", got.Append(nil), agent},
	} {
		if sent, drops := b.receive(c.d, c.from); len(sent) != 0 || drops != c.drop {
			t.Errorf("%s: %d datagrams, dropped as %q", c.name, len(sent), drops)
		}
	}

	relay.Peers = nil
	b.command(sfu.Command{Relay: &relay})
	if _, drops := b.receive(from(nil), agent); drops != "relay_call" {
		t.Errorf("when relaying has ended: %q", drops)
	}
	if sent, _ := b.receive(p.voice(), p.at); len(sent) != 1 {
		t.Errorf("when relaying has ended: %d datagrams", len(sent))
	}
}

func TestRelayPathDoesNotAllocate(t *testing.T) {
	b := newBench(t)
	p := b.connect("p", 1, nil)
	agent := netip.MustParseAddrPort("127.0.0.1:4444")
	b.command(sfu.Command{Relay: &sfu.Relay{Call: p.session.call.id, Epoch: 3, Peers: []uint16{1}, To: agent, Secret: testSecret}})
	b.w.out = egress.NewBatch(func(*egress.Batch) {})
	r := sfu.RelayPacket{Call: p.session.call.id, Epoch: 3, User: sfu.UserID{ID: 77}, SSRC: 77, Level: 0x80 | 30, Payload: []byte("a frame of voice")}
	good := r.AppendTo(r.AppendTo(sfu.AppendRelayLocal(nil, 1, &testSecret)))
	again := func(d []byte) [][]byte { return [][]byte{d} }
	var said [][]byte
	for range 103 {
		said = append(said, p.voice())
	}
	for name, c := range map[string]struct {
		d    [][]byte // in turn
		from netip.AddrPort
	}{
		"given": {said, p.at}, "taken": {again(good), agent},
		"strange": {again(good), netip.MustParseAddrPort("192.0.2.9:1")}, "junk": {again([]byte{sfu.RelayLocalVersion}), agent},
	} {
		i := 0
		work := func() {
			b.inject(0, c.d[i%len(c.d)], c.from)
			i++
			b.now += 20 * time.Millisecond
			b.w.packets(b.now, 0, 1)
			b.w.flush(b.now)
		}
		work() // a speaker not heard before has its state made
		work()
		if n := testing.AllocsPerRun(100, work); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if c := b.w.count; c.RelayOut != uint64(len(said)) || c.RelayIn == 0 {
		t.Errorf("%d given and %d taken", c.RelayOut, c.RelayIn)
	}
}

func TestRelayCommandIsRefused(t *testing.T) {
	b := newBench(t)
	p := b.connect("p", 1, nil)
	good := sfu.Relay{Call: p.session.call.id, Peers: []uint16{1}, To: netip.MustParseAddrPort("127.0.0.1:4444")}
	for name, c := range map[string]struct {
		change func(*sfu.Relay)
		code   sfu.ErrorCode
	}{
		"of no call":                 {func(r *sfu.Relay) { r.Call.ID = 0 }, sfu.CodeBadCommand},
		"of a call without sessions": {func(r *sfu.Relay) { r.Call.ID = 999 }, sfu.CodeNoSession},
		"too many nodes":             {func(r *sfu.Relay) { r.Peers = make([]uint16, sfu.MaxRelayPeers+1) }, sfu.CodeBadCommand},
		"too much to keep":           {func(r *sfu.Relay) { r.Keep = make([]byte, sfu.MaxKeep+1) }, sfu.CodeBadCommand},
		"to another machine":         {func(r *sfu.Relay) { r.To = netip.MustParseAddrPort("192.0.2.1:4444") }, sfu.CodeBadCommand},
		"to nowhere":                 {func(r *sfu.Relay) { r.To = netip.AddrPort{} }, sfu.CodeBadCommand},
	} {
		r := good
		c.change(&r)
		if ev := b.command(sfu.Command{Relay: &r}); ev.Err == nil || ev.Err.Code != c.code {
			t.Errorf("%s: %+v", name, ev.Err)
		}
	}
}

// TestBrisk: a worker to which packets come without a wide gap arms no timer for what
// waits for the agent, and does again after the first wide one.
func TestBrisk(t *testing.T) {
	b := newBench(t)
	b.now = time.Second
	for _, c := range []struct {
		every time.Duration
		brisk bool
	}{{time.Second, false}, {briskGap, true}, {briskGap + 1, false}, {time.Millisecond, true}, {call.TickEvery, false}} {
		for range 2 { // the gap before the first is that of the case before
			for end := b.now + call.TickEvery; b.now < end; b.now += c.every {
				b.w.pace(b.now)
			}
			b.w.pace(b.now)
			b.w.tick(b.now)
		}
		if b.w.brisk() != c.brisk {
			t.Errorf("every %v: brisk %v", c.every, !c.brisk)
		}
	}
	b.now += 2 * briskGap
	b.w.tick(b.now)
	if b.w.brisk() {
		t.Error("brisk, and nothing comes")
	}
}
