package sfuserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/pion/rtcp"
	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
)

// bench is a worker that does not run: the test is its goroutine and its clock,
// puts datagrams where the kernel would, and takes what would be sent.
type bench struct {
	t   testing.TB
	srv *Server
	w   *worker
	now time.Duration
	out []sentDatagram
}

type sentDatagram struct {
	to    netip.AddrPort
	bytes []byte
	by    netip.Addr // the address of ours that its path has
}

func newBench(t testing.TB) *bench {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	srv, err := New(Config{Stream: theirs, Sockets: []*net.UDPConn{conn}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, srv: srv, now: time.Second}
	b.command(sfu.Command{Start: &sfu.Start{Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}})
	t.Cleanup(srv.term.Close)
	b.w = srv.workers[0]
	b.keep()
	return b
}

// keep collects what the worker sends.
func (b *bench) keep() {
	b.w.out = egress.NewBatch(func(batch *egress.Batch) {
		for i := range batch.Len() {
			d, to := batch.At(i)
			r, _ := demux.RemoteFromSockaddr(to.Sockaddr[:to.Len])
			b.out = append(b.out, sentDatagram{r.AddrPort(), bytes.Clone(d), netip.AddrFrom16(to.Source).Unmap()})
		}
	})
}

// command executes a command and returns its answer.
func (b *bench) command(c sfu.Command) sfu.Event {
	b.t.Helper()
	c.Seq = 1
	if err := b.srv.events.expect(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	b.srv.command(c, func(func(context.Context) error) {})
	if b.w != nil {
		b.w.orders(b.now)
		b.w.flush(b.now)
	}
	for _, ev := range b.srv.events.queue {
		if ev.Seq == 1 {
			<-b.srv.events.slots
			b.srv.events.queue = slices.DeleteFunc(b.srv.events.queue, func(ev sfu.Event) bool { return ev.Seq == 1 })
			clear(b.srv.events.where)
			return ev
		}
	}
	b.t.Fatal("no answer")
	return sfu.Event{}
}

// facts takes what was told so far.
func (b *bench) facts() []sfu.Event {
	list := b.srv.events.queue
	b.srv.events.queue = nil
	clear(b.srv.events.where)
	return list
}

// ended is the reasons of the sessions that ended since facts were taken last.
func (b *bench) ended() map[sfu.SessionID]sfu.EndReason {
	ended := map[sfu.SessionID]sfu.EndReason{}
	for _, ev := range b.facts() {
		if ev.Ended != nil {
			ended[ev.Ended.Session] = ev.Ended.Reason
		}
	}
	return ended
}

// inject puts a datagram where the kernel would.
func (b *bench) inject(i int, d []byte, from netip.AddrPort) {
	s := b.w.sock
	copy(s.inBytes[i][:], d)
	s.in[i].n = uint32(min(len(d), sfu.MaxDatagram+1))
	s.in[i].hdr.Namelen = uint32(demux.RemoteFrom(from).PutSockaddr(&s.inName[i], false))
	s.in[i].hdr.SetControllen(0)
}

// receive works on one datagram and returns what it brought about: datagrams
// sent, and drops by name.
func (b *bench) receive(d []byte, from netip.AddrPort) (sent []sentDatagram, drops string) {
	b.t.Helper()
	b.out = nil
	before := b.w.count.Drops
	b.inject(0, d, from)
	b.w.packets(b.now, 0, 1)
	b.w.flush(b.now)
	for i, n := range b.w.count.Drops {
		if n != before[i] {
			drops += sfu.DropReason(i).String()
		}
	}
	return b.out, drops
}

// pass lets time pass with ticks.
func (b *bench) pass(d time.Duration) {
	for end := b.now + d; b.now < end; {
		b.now = min(end, b.now+20*time.Millisecond)
		b.w.tick(b.now)
		b.w.flush(b.now)
	}
}

// peer is the client's side of a session.
type peer struct {
	b       *bench
	at      netip.AddrPort
	session *session
	snap    sfu.Snapshot
	sealer  crypt.Sealer
	opener  crypt.Opener
	seq     uint64
	rtcp    uint32
}

// connect makes a connected session without a handshake: by Restore.
func (b *bench) connect(id string, n int, change func(*sfu.Snapshot)) *peer {
	b.t.Helper()
	keying := make([]byte, crypt.AEADAES128GCM.KeyingLen())
	copy(keying, id)
	p := &peer{b: b, at: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), uint16(4000+n))}
	p.snap = sfu.Snapshot{
		Open: sfu.Open{
			Session: sfu.SessionID(id), Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: snowflake.ID(n)},
			Rights: sfu.Rights{Speak: true},
		},
		SSRC: sfu.SSRC(100 + n), Port: b.w.sock.port, Remote: p.at.String(),
		LocalUfrag: "ufrag" + id, LocalPwd: "password-of-24-characters", RemoteUfrag: "client" + id, RemotePwd: "client-password-of-24-chars",
		Profile: uint16(crypt.AEADAES128GCM), Keying: keying,
		Media: sfu.Media{
			MicMID: "0", MicSSRC: sfu.SSRC(7000 + n), OpusPT: 111, LevelExt: 1, NACK: true,
			Slots: []sfu.Slot{{MID: "1", SSRC: sfu.SSRC(8000 + 10*n)}, {MID: "2", SSRC: sfu.SSRC(8001 + 10*n)}},
		},
		SlotIndex: []uint64{0, 0},
	}
	if change != nil {
		change(&p.snap)
	}
	if ev := b.command(sfu.Command{Restore: &p.snap}); ev.Err != nil {
		b.t.Fatal(ev.Err)
	}
	p.session = b.w.sessions[sfu.SessionID(id)]
	client, server, err := crypt.Split(crypt.AEADAES128GCM, keying)
	if err != nil {
		b.t.Fatal(err)
	}
	p.sealer, _ = crypt.NewSealer(crypt.AEADAES128GCM, client)
	p.opener, _ = crypt.NewOpener(crypt.AEADAES128GCM, server)
	return p
}

// voice is the next packet of the microphone.
func (p *peer) voice() []byte {
	p.seq++
	return p.packet(p.seq, uint32(p.snap.Media.MicSSRC), 111, []byte("a frame of voice"))
}

func (p *peer) packet(index uint64, ssrc uint32, payloadType uint8, payload []byte) []byte {
	h := []byte{0x90, payloadType, byte(index >> 8), byte(index), 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0x10, 0x80 | 30, 0, 0}
	binary.BigEndian.PutUint32(h[4:], uint32(index)*960)
	binary.BigEndian.PutUint32(h[8:], ssrc)
	return p.sealer.SealRTP(make([]byte, 0, 1500), h, payload, index)
}

// control is an SRTCP packet of the client.
func (p *peer) control(compound []byte) []byte {
	p.rtcp++
	return p.sealer.SealRTCP(make([]byte, 0, 1500), compound, p.rtcp)
}

// nack asks for one packet again.
func (p *peer) nack(ssrc uint32, seq uint16) []byte {
	c := []byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(c[8:], ssrc)
	binary.BigEndian.PutUint16(c[12:], seq)
	return p.control(c)
}

// hears opens what was sent to the client.
func (p *peer) hears(d sentDatagram) rtpwire.Header {
	p.b.t.Helper()
	if d.to != p.at {
		p.b.t.Fatalf("%s lives at %v, not %v", p.session.id, p.at, d.to)
	}
	h, ok := rtpwire.Parse(d.bytes, 1)
	if !ok {
		p.b.t.Fatalf("not RTP: %x", d.bytes)
	}
	if _, ok := p.opener.OpenRTP(bytes.Clone(d.bytes), h.Length, restoreJump+uint64(h.Sequence-restoreJump)); !ok {
		p.b.t.Fatal("cannot be opened")
	}
	return h
}

// check is a connectivity check of the client.
func (p *peer) check(nominate bool) []byte {
	setters := []stun.Setter{
		stun.TransactionID, stun.BindingRequest,
		stun.NewUsername(p.snap.LocalUfrag + ":" + p.snap.RemoteUfrag),
	}
	if nominate {
		setters = append(setters, stun.RawAttribute{Type: stun.AttrUseCandidate})
	}
	setters = append(setters, stun.NewShortTermIntegrity(p.snap.LocalPwd), stun.Fingerprint)
	return stun.MustBuild(setters...).Raw
}

// answer is what the client says to a check of the server's, or nil if that is none.
func (p *peer) answer(check []byte) []byte {
	m := &stun.Message{Raw: check}
	var user stun.Username
	if m.Decode() != nil || m.Type != stun.BindingRequest || user.GetFrom(m) != nil ||
		user.String() != p.snap.RemoteUfrag+":"+p.snap.LocalUfrag ||
		stun.NewShortTermIntegrity(p.snap.RemotePwd).Check(m) != nil || stun.Fingerprint.Check(m) != nil {
		return nil
	}
	return stun.MustBuild(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
		&stun.XORMappedAddress{IP: []byte{192, 0, 2, 1}, Port: 1}, stun.NewShortTermIntegrity(p.snap.RemotePwd), stun.Fingerprint).Raw
}

// moves has the client check from an address and answer what it is asked there.
func (p *peer) moves(at netip.AddrPort) {
	p.b.t.Helper()
	asked, _ := p.b.receive(p.check(false), at)
	for _, d := range asked {
		if a := p.answer(d.bytes); a != nil {
			if sent, drops := p.b.receive(a, at); len(sent) != 0 || drops != "" {
				p.b.t.Fatalf("%d sent for an answer, dropped %q", len(sent), drops)
			}
			return
		}
	}
	p.b.t.Fatalf("%v was not asked", at)
}

func TestForwardsAndRefuses(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	good := p.voice()
	sent, drops := b.receive(good, p.at)
	if len(sent) != 1 || drops != "" {
		t.Fatalf("%d sent, dropped: %s", len(sent), drops)
	}
	if h := q.hears(sent[0]); h.SSRC != uint32(q.snap.Media.Slots[0].SSRC) || h.Sequence != restoreJump || !h.Marker {
		t.Errorf("heard %+v", h)
	}
	forged := p.voice()
	forged[len(forged)-1] ^= 1
	stranger := netip.MustParseAddrPort("203.0.113.9:9")
	long := make([]byte, sfu.MaxDatagram+1)
	long[0] = 0x80
	padded := func(pad byte) []byte {
		d := p.packet(50, uint32(p.snap.Media.MicSSRC), 111, []byte{1, 2, 3, 4, 5, pad})
		// The P bit is authenticated, so it is set before sealing.
		h := bytes.Clone(d[:20])
		h[0] |= 0x20
		return p.sealer.SealRTP(nil, h, []byte{1, 2, 3, 4, 5, pad}, 50)
	}
	wrongKey := q.packet(60, uint32(p.snap.Media.MicSSRC), 111, []byte("a frame of voice"))
	unclear := p.control([]byte{0x80, 201, 0, 1, 0, 0, 0, 9})
	for _, c := range []struct {
		name  string
		d     []byte
		from  netip.AddrPort
		drops string
	}{
		{"replayed", good, p.at, "replay"},
		{"of nobody", append([]byte{0x80, 111}, make([]byte, 40)...), stranger, "unknown_source"},
		{"replayed from elsewhere", good, stranger, "replay"},
		{"forged", forged, p.at, "auth"},
		{"with another's keys", wrongKey, p.at, "auth"},
		{"of an unknown source", p.packet(9, 1234, 111, []byte("a frame of voice")), p.at, "ssrc"},
		{"of another type", p.packet(40, uint32(p.snap.Media.MicSSRC), 96, []byte("a frame of voice")), p.at, "payload_type"},
		{"with no padding to cut", padded(0), p.at, "malformed"},
		{"too short", []byte{0x80, 111, 0}, p.at, "too_short"},
		{"empty", nil, p.at, "not_voice"},
		{"too long", long, p.at, "too_long"},
		{"a header that lies", append([]byte{0x9f, 111, 0, 9}, make([]byte, 12)...), p.at, "malformed"},
		{"SRTP too short for a tag", append([]byte{0x80, 111, 0, 70, 0, 0, 0, 0, 0, 0, 0x1b, 0x59}, 1, 2), p.at, "auth"},
		{"ZRTP", append([]byte{16}, make([]byte, 40)...), p.at, "not_voice"},
		{"DTLS of a stranger", append([]byte{22, 254, 253}, make([]byte, 40)...), stranger, "dtls"},
		{"DTLS after the handshake", append([]byte{23, 254, 253}, make([]byte, 40)...), p.at, "dtls"},
		{"STUN that is none", make([]byte, 20), p.at, "stun"},
		{"RTCP of a stranger", unclear, stranger, "unknown_source"},
		{"RTCP forged", append(bytes.Clone(unclear[:len(unclear)-1]), 77), p.at, "auth"},
		{"RTCP", unclear, p.at, ""},
		{"RTCP replayed", unclear, p.at, "replay"},
		{"RTCP whose length lies", p.control([]byte{0x80, 201, 0, 9, 0, 0, 0, 9}), p.at, "malformed"},
		{"RTCP too short", append([]byte{0x80, 201}, make([]byte, 8)...), p.at, "too_short"},
	} {
		if sent, drops := b.receive(c.d, c.from); len(sent) != 0 || drops != c.drops {
			t.Errorf("%s: %d sent, dropped %q, want %q", c.name, len(sent), drops, c.drops)
		}
	}
	// Nothing of this has moved anything.
	if sent, drops := b.receive(p.packet(2000, uint32(p.snap.Media.MicSSRC), 111, []byte("a frame of voice")), p.at); len(sent) != 1 {
		t.Errorf("afterwards: %d sent, dropped %s", len(sent), drops)
	}
	if n := b.w.count.panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

func TestPacketPathDoesNotAllocate(t *testing.T) {
	b, key := probing(t)
	p := b.connect("p", 1, nil)
	for i := range 5 {
		b.connect(fmt.Sprint("l", i), 10+i, nil)
	}
	b.w.out = egress.NewBatch(func(*egress.Batch) {})
	stranger := netip.MustParseAddrPort("203.0.113.9:9")
	const runs = 100
	many := func(make func() []byte) (list [][]byte) {
		for range runs + 2 {
			list = append(list, make())
		}
		return list
	}
	forge := func(d []byte) []byte { d[len(d)-1] ^= 1; return d }
	once := func(d []byte) func() []byte { return func() []byte { return bytes.Clone(d) } }
	ufrag := p.check(false)
	wrongPwd := *p
	wrongPwd.snap.LocalPwd = "another password"
	wrongUfrag := *p
	wrongUfrag.snap.LocalUfrag = "nobody"
	for _, c := range []struct {
		name string
		list [][]byte
		from netip.AddrPort
	}{
		{"accepted", many(p.voice), p.at},
		{"forged", many(func() []byte { return forge(p.voice()) }), p.at},
		{"replayed", many(once(p.packet(1, uint32(p.snap.Media.MicSSRC), 111, []byte("a frame of voice")))), p.at},
		{"unknown SSRC", many(func() []byte { return p.packet(1, 1234, 111, []byte("a frame")) }), p.at},
		{"stranger", many(once(append([]byte{0x80, 111}, make([]byte, 40)...))), stranger},
		{"forged from elsewhere", many(func() []byte { return forge(p.voice()) }), stranger},
		{"RTCP", many(func() []byte { return p.control([]byte{0x80, 201, 0, 1, 0, 0, 0, 9}) }), p.at},
		{"RTCP forged", many(func() []byte { return forge(p.control([]byte{0x80, 201, 0, 1, 0, 0, 0, 9})) }), p.at},
		{"NACK", many(func() []byte { return p.nack(8010, restoreJump) }), p.at},
		{"check", many(once(ufrag)), p.at},
		{"check forged", many(once(wrongPwd.check(false))), stranger},
		{"check of nobody", many(once(wrongUfrag.check(false))), stranger},
		{"probe", many(once(probeOf(sfu.FleetProbe(time.Now()), key))), stranger},
		{"probe forged", many(once(probeOf(sfu.FleetProbe(time.Now()), sfu.NewProbeKey()))), stranger},
		{"DTLS of a stranger", many(once(append([]byte{22, 254, 253}, make([]byte, 40)...))), stranger},
	} {
		i := 0
		// The flood of RTCP is over the rate after 100: both ways are free.
		if n := testing.AllocsPerRun(runs, func() {
			b.inject(0, c.list[i], c.from)
			b.now += 5 * time.Millisecond
			b.w.packets(b.now, 0, 1)
			b.w.out.Flush()
			i++
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestResendIsTheSamePacket(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	sent, _ := b.receive(p.voice(), p.at)
	h := q.hears(sent[0])
	b.receive(p.voice(), p.at)
	b.now += 50 * time.Millisecond
	again, drops := b.receive(q.nack(h.SSRC, h.Sequence), q.at)
	if len(again) != 1 || again[0].to != q.at || !bytes.Equal(again[0].bytes, sent[0].bytes) {
		t.Fatalf("%d resent, dropped %q", len(again), drops)
	}
	if again, _ := b.receive(q.nack(h.SSRC, h.Sequence+9), q.at); len(again) != 0 {
		t.Error("a packet never sent was sent again")
	}
	if again, _ := b.receive(p.nack(h.SSRC, h.Sequence), p.at); len(again) != 0 {
		t.Error("another's packet was sent again")
	}
	if b.w.count.ResentOut != 1 {
		t.Errorf("%d counted", b.w.count.ResentOut)
	}
}

func TestRoaming(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	home, away := q.at, netip.MustParseAddrPort("[2001:db8::1]:777")
	hear := func(want netip.AddrPort) {
		t.Helper()
		sent, _ := b.receive(p.voice(), p.at)
		if len(sent) != 1 || sent[0].to != want {
			t.Fatalf("sent %v, want to %v", sent, want)
		}
	}
	moved := func() int {
		n := 0
		for _, ev := range b.facts() {
			if ev.Snapshot != nil && ev.Snapshot.Open.Session == "q" {
				n++
			}
		}
		return n
	}
	answered := func(d []byte, from netip.AddrPort) {
		t.Helper()
		sent, drops := b.receive(d, from)
		if len(sent) == 2 && sent[1].to == from { // it is new, and asked whether it receives
			b.receive(q.answer(sent[1].bytes), from)
			sent = sent[:1]
		}
		if len(sent) != 1 || sent[0].to != from {
			t.Fatalf("%d answers, dropped %s", len(sent), drops)
		}
		m := &stun.Message{Raw: sent[0].bytes}
		var mapped stun.XORMappedAddress
		if err := m.Decode(); err != nil || mapped.GetFrom(m) != nil || mapped.Port != int(from.Port()) {
			t.Fatalf("answer %v, %v", m, err)
		}
	}
	answered(q.check(false), home)
	b.facts()
	hear(home)

	// A check proposes the new address. While the old one lives, only a newer
	// authentic packet moves egress there.
	answered(q.check(false), away)
	hear(home)
	old := q.voice()
	b.receive(q.voice(), home)
	b.receive(old, away)
	hear(home)
	if n := moved(); n != 0 {
		t.Errorf("%d snapshots without a move", n)
	}
	b.receive(q.voice(), away)
	hear(away)
	if n := moved(); n != 1 {
		t.Errorf("%d snapshots of one move", n)
	}

	// The other way round: the old path is silent for a second.
	b.now += 900 * time.Millisecond
	answered(q.check(false), home)
	hear(away)
	b.now += 100 * time.Millisecond
	answered(q.check(false), home)
	hear(home)

	// Nobody takes over the address of another client.
	if sent, drops := b.receive(q.check(true), p.at); len(sent) != 0 || drops != "ufrag" {
		t.Errorf("%d answers at another's address, dropped %q", len(sent), drops)
	}
	// Wrong passwords and foreign ufrags get no answer.
	wrong := *q
	wrong.snap.LocalPwd = "wrong"
	if sent, drops := b.receive(wrong.check(true), away); len(sent) != 0 || drops != "integrity" {
		t.Errorf("%d answers to a wrong password, dropped %q", len(sent), drops)
	}
	wrong = *q
	wrong.snap.RemoteUfrag = "someone"
	if sent, drops := b.receive(wrong.check(true), away); len(sent) != 0 || drops != "integrity" {
		t.Errorf("%d answers to a foreign ufrag, dropped %q", len(sent), drops)
	}

	// More addresses than there is room for: the one in use stays.
	for i := range 3 * maxPaths {
		answered(q.check(false), netip.AddrPortFrom(netip.MustParseAddr("192.0.2.77"), uint16(1000+i)))
	}
	hear(home)
	if n := len(b.w.byRemote); n != maxPaths+1 {
		t.Errorf("%d addresses mapped", n)
	}
}

// sentTo marks the first datagram of the batch as sent to an address of ours.
func (b *bench) sentTo(d []byte, from netip.AddrPort, here netip.Addr) (sent []sentDatagram) {
	b.t.Helper()
	b.out = nil
	b.inject(0, d, from)
	s := b.w.sock
	head := (*unix.Cmsghdr)(unsafe.Pointer(&s.inControl[0]))
	head.Level, head.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	head.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	(*unix.Inet6Pktinfo)(unsafe.Pointer(&s.inControl[0][unix.CmsgLen(0)])).Addr = here.As16()
	s.in[0].hdr.SetControllen(unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	b.w.packets(b.now, 0, 1)
	b.w.out.Flush()
	return b.out
}

// TestAnswersWhereItIsAsked: a client that asks two addresses of the node from one of
// its own gets each answer from the address it asked, and its sound from the one it
// nominates.
func TestAnswersWhereItIsAsked(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	first, second := netip.MustParseAddr("127.86.70.1"), netip.MustParseAddr("127.86.70.2")
	ask := func(nominate bool, here netip.Addr) {
		t.Helper()
		sent := b.sentTo(q.check(nominate), q.at, here)
		if len(sent) != 1 || sent[0].to != q.at || sent[0].by != here {
			t.Fatalf("asked %v: %+v", here, sent)
		}
	}
	hear := func(want netip.Addr) {
		t.Helper()
		sent, _ := b.receive(p.voice(), p.at)
		if len(sent) != 1 || sent[0].to != q.at || sent[0].by != want {
			t.Fatalf("sent %+v, want from %v", sent, want)
		}
	}
	ask(true, first)
	hear(first)
	ask(false, second)
	hear(first)
	ask(false, first)
	ask(true, second)
	hear(second)
}

// TestFloodOfAMember holds the rates of one session.
func TestFloodOfAMember(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	flood := func(n int, make func() []byte) (passed int) {
		for range n {
			if _, drops := b.receive(make(), p.at); drops == "" {
				passed++
			}
		}
		return passed
	}
	report := func() []byte { return p.control([]byte{0x80, 201, 0, 1, 0, 0, 0, 9}) }
	for range 2 {
		if n := flood(2000, p.voice); n != sfu.VoicePerSecond {
			t.Errorf("%d voice packets in a second", n)
		}
		if n := flood(2000, report); n != sfu.FeedbackPerSecond {
			t.Errorf("%d RTCP packets in a second", n)
		}
		if sent, _ := b.receive(q.voice(), q.at); len(sent) != 1 {
			t.Error("another session suffers")
		}
		b.now += time.Second
	}
}

// TestMovesByVoice holds that a client whose address changes without notice, as
// by a NAT that forgot it, is found by its SSRC; and that no more goes to an
// address without a check than three times what came from there.
func TestMovesByVoice(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	home, away := q.at, netip.MustParseAddrPort("203.0.113.5:777")
	old := q.voice()
	b.receive(p.voice(), p.at)
	b.receive(q.voice(), home)
	if _, drops := b.receive(old, away); drops != "" || len(b.w.byRemote) != 2 {
		t.Errorf("a late packet from elsewhere: dropped %q, %d addresses", drops, len(b.w.byRemote))
	}
	d := q.voice()
	b.receive(d, away)
	bytes := 0
	for range 100 {
		sent, _ := b.receive(p.voice(), p.at)
		for _, x := range sent {
			if x.to != away {
				t.Fatalf("sent to %v", x.to)
			}
			bytes += len(x.bytes)
		}
	}
	if bytes == 0 || bytes > unprovenFactor*len(d) {
		t.Errorf("%d bytes sent for %d received", bytes, len(d))
	}
	b.pass(6 * time.Second) // no reports there, either
	for _, x := range b.out {
		if x.to == away {
			t.Errorf("%d bytes sent", len(x.bytes))
		}
	}
	q.moves(away)
	for range 100 {
		if sent, _ := b.receive(p.voice(), p.at); len(sent) != 1 || sent[0].to != away {
			t.Fatalf("after a check: %v", sent)
		}
	}
}

// TestNoHammer holds that a client cannot have its voices sent to one who did not ask
// for them, by what it makes in its name: a whole call, checks, packets. Until that
// one has answered no more goes there than three times what came from there.
func TestNoHammer(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	home, victim := q.at, netip.MustParseAddrPort("203.0.113.5:53")
	in, out, media := 0, 0, 0
	spoof := func(d []byte) (asked []byte) {
		in += len(d)
		sent, _ := b.receive(d, victim)
		for _, x := range sent {
			if x.to == victim {
				out += len(x.bytes)
				if q.answer(x.bytes) != nil {
					asked = x.bytes
				}
			}
		}
		return asked
	}
	hear := func() {
		sent, _ := b.receive(p.voice(), p.at)
		for _, x := range sent {
			if x.to == victim {
				out, media = out+len(x.bytes), media+1
			}
		}
	}
	b.receive(q.voice(), home)
	b.pass(2 * time.Second) // its path is silent
	asked := spoof(q.check(true))
	if asked == nil {
		t.Fatal("the new address is not asked")
	}
	for i := range 500 { // ten seconds
		b.now += 20 * time.Millisecond
		hear()
		if i%25 == 0 {
			spoof(q.check(true))
		}
		if i%50 == 0 {
			spoof(q.voice())
		}
	}
	if out > unprovenFactor*in {
		t.Errorf("%d bytes sent for %d", out, in)
	}
	t.Logf("%d bytes for %d, %d packets of voice", out, in, media)
	// Without having seen the ask nobody answers it.
	wrong := *q
	wrong.snap.RemotePwd = "another-password-of-24-chars"
	forged := stun.MustBuild(stun.TransactionID, stun.BindingSuccess, stun.NewShortTermIntegrity(q.snap.RemotePwd), stun.Fingerprint).Raw
	unsigned := bytes.Clone(q.answer(asked))
	unsigned[len(unsigned)-20] ^= 1
	for name, d := range map[string][]byte{"of another transaction": forged, "forged": unsigned} {
		if _, drops := b.receive(d, victim); drops != "stun" {
			t.Errorf("an answer %s: dropped %q", name, drops)
		}
	}
	if _, drops := b.receive(q.answer(asked), p.at); drops != "stun" {
		t.Errorf("an answer from another client: dropped %q", drops)
	}
	// It stops as soon as nothing comes from there; the client's own checks bring it back.
	b.pass(2 * time.Second)
	b.receive(q.check(false), home)
	if sent, _ := b.receive(p.voice(), p.at); len(sent) != 1 || sent[0].to != home {
		t.Errorf("back home: %v", sent)
	}
	if n := b.w.count.panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

// TestHandshakeEndsWhereItBegan: who ends it elsewhere is asked first.
func TestHandshakeEndsWhereItBegan(t *testing.T) {
	b := newBench(t)
	p := b.connect("p", 1, nil)
	q := b.connect("q", 2, func(s *sfu.Snapshot) { s.Unproven = true })
	if sent, _ := b.receive(p.voice(), p.at); len(sent) != 0 {
		t.Errorf("%d sent to an address that has shown nothing", len(sent))
	}
	b.now += askEvery
	q.moves(q.at)
	if sent, _ := b.receive(p.voice(), p.at); len(sent) != 1 || sent[0].to != q.at {
		t.Errorf("once it has answered: %v", sent)
	}
	if s := q.session.snapshot(b.now, b.w); s.Unproven || s.RemotePwd != q.snap.RemotePwd {
		t.Errorf("snapshot %+v", s)
	}
}

func TestSessionsEnd(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	open := func(id string) {
		t.Helper()
		ev := b.command(sfu.Command{Open: &sfu.Open{Session: sfu.SessionID(id), Call: sfu.CallID{ID: 3}, User: sfu.UserID{ID: 9}}})
		if ev.Err != nil || ev.Opened.Port != b.w.sock.port || ev.Opened.SSRC == 0 {
			t.Fatalf("open: %+v", ev)
		}
	}
	open("idle")
	b.pass(20 * time.Second)
	b.receive(q.check(false), q.at)
	if got := b.ended(); len(got) != 0 {
		t.Errorf("ended early: %v", got)
	}
	b.pass(11 * time.Second)
	if got := b.ended(); len(got) != 2 || got["p"] != sfu.EndConsent || got["idle"] != sfu.EndIdle {
		t.Errorf("after 31 s: %v", got)
	}
	if _, drops := b.receive(p.voice(), p.at); drops != "unknown_source" {
		t.Errorf("a packet of the dead: %s", drops)
	}
	open("checks-only")
	c := b.w.sessions["checks-only"]
	c.negotiated, c.remote.Ufrag = b.now, "clientc"
	client := &peer{b: b, snap: sfu.Snapshot{LocalUfrag: c.local.Ufrag, LocalPwd: c.local.Pwd, RemoteUfrag: "clientc"}}
	for range 31 {
		b.receive(client.check(true), netip.MustParseAddrPort("198.51.100.9:9"))
		b.receive(q.check(false), q.at)
		b.pass(time.Second)
	}
	if got := b.ended(); len(got) != 1 || got["checks-only"] != sfu.EndHandshake {
		t.Errorf("without a handshake: %v", got)
	}
	open("idle") // ids are never used twice, but the engine would not mind
	if ev := b.command(sfu.Command{Close: &sfu.Close{Session: "q"}}); ev.Err != nil {
		t.Error(ev.Err)
	}
	if got := b.ended(); got["q"] != sfu.EndClosed {
		t.Errorf("closed: %v", got)
	}
	if ev := b.command(sfu.Command{Close: &sfu.Close{Session: "q"}}); ev.Err == nil || ev.Err.Code != sfu.CodeNoSession {
		t.Errorf("closed twice: %v", ev.Err)
	}
	b.command(sfu.Command{Close: &sfu.Close{Session: "idle"}})
	if len(b.w.sessions)+len(b.w.calls)+len(b.w.byUfrag)+len(b.w.byRemote)+len(b.w.bySSRC) != 0 ||
		len(b.srv.routes.sessions)+len(b.srv.routes.calls)+len(b.srv.routes.ssrcs) != 0 {
		t.Errorf("something is left: %+v", b.srv.routes)
	}
	for i := range b.w.wheel {
		if len(b.w.wheel[i]) != 0 {
			t.Errorf("slot %d of the wheel: %v", i, b.w.wheel[i])
		}
	}
}

func TestPanicEndsOneCall(t *testing.T) {
	b := newBench(t)
	p := b.connect("p", 1, nil)
	b.connect("p2", 2, nil)
	other := func(s *sfu.Snapshot) { s.Open.Call = sfu.CallID{ID: 2} }
	q, r := b.connect("q", 3, other), b.connect("r", 4, other)
	b.facts()
	p.session.call.core = nil // whatever is wrong with it
	b.inject(0, p.voice(), p.at)
	b.inject(1, q.voice(), q.at)
	b.out = nil
	for at := 0; at < 2; {
		at = b.w.packets(b.now, at, 2)
	}
	b.w.out.Flush()
	if got := b.ended(); len(got) != 2 || got["p"] != sfu.EndPanic || got["p2"] != sfu.EndPanic {
		t.Errorf("ended: %v", got)
	}
	if len(b.out) != 1 || b.out[0].to != r.at || b.w.count.panics != 1 {
		t.Errorf("%d sent, %d panics", len(b.out), b.w.count.panics)
	}
	b.pass(2 * time.Second)
	if b.w.count.panics != 1 || len(b.w.calls) != 1 {
		t.Errorf("later: %d panics, %d calls", b.w.count.panics, len(b.w.calls))
	}
}

// TestSnapshotsKeepUp holds that what Restore starts from is never behind what
// was used.
func TestSnapshotsKeepUp(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	latest := map[sfu.SessionID]*sfu.Snapshot{}
	count := 0
	look := func() {
		for _, ev := range b.facts() {
			if s := ev.Snapshot; s != nil {
				latest[s.Open.Session] = s
				count++
			}
		}
	}
	for i := range 40_000 {
		b.receive(p.voice(), p.at)
		b.pass(20 * time.Millisecond)
		if i%500 == 0 {
			b.receive(p.check(false), p.at)
			b.receive(q.check(false), q.at)
		}
		look()
		next := q.session.indices[0]
		if jump := latest["q"].SlotIndex[0] + restoreJump; jump < next {
			t.Fatalf("packet %d: restored at %d, %d was used", i, jump, next-1)
		}
	}
	if count > 20 {
		t.Errorf("%d snapshots", count)
	}
	if in := latest["p"].InIndex; in+snapshotStep+100 < 40_000 {
		t.Errorf("the client's index is stored as %d", in)
	}
}

func TestCommandsAreRefused(t *testing.T) {
	b := newBench(t)
	b.connect("p", 1, nil)
	muted := make([]sfu.UserID, maxMuted+1)
	snap := func(change func(*sfu.Snapshot)) sfu.Command {
		s := b.connect(fmt.Sprint("s", len(b.w.sessions)), 50+len(b.w.sessions), nil).snap
		s.Open.Session, s.SSRC = "fresh", 4711
		change(&s)
		return sfu.Command{Restore: &s}
	}
	for _, c := range []struct {
		name string
		c    sfu.Command
		code sfu.ErrorCode
	}{
		{"nothing", sfu.Command{}, sfu.CodeBadCommand},
		{"two orders", sfu.Command{Close: &sfu.Close{}, Advertise: &sfu.Advertise{}}, sfu.CodeBadCommand},
		{"second start", sfu.Command{Start: &sfu.Start{}}, sfu.CodeBadCommand},
		{"no address", sfu.Command{Advertise: &sfu.Advertise{}}, sfu.CodeBadCommand},
		{"no id", sfu.Command{Open: &sfu.Open{Session: "a b", Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: 1}}}, sfu.CodeBadCommand},
		{"exists", sfu.Command{Open: &sfu.Open{Session: "p", Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: 1}}}, sfu.CodeExists},
		{"second offer", sfu.Command{Negotiate: &sfu.Negotiate{Session: "p"}}, sfu.CodeExists},
		{"offer of nobody", sfu.Command{Negotiate: &sfu.Negotiate{Session: "x"}}, sfu.CodeNoSession},
		{"update of nobody", sfu.Command{Update: &sfu.Update{Session: "x"}}, sfu.CodeNoSession},
		{"too many muted", sfu.Command{Update: &sfu.Update{Session: "p", Muted: &muted}}, sfu.CodeBadCommand},
		{"snapshot of another port", snap(func(s *sfu.Snapshot) { s.Port++ }), sfu.CodeBadCommand},
		{"snapshot without keys", snap(func(s *sfu.Snapshot) { s.Keying = nil }), sfu.CodeBadCommand},
		{"snapshot of another profile", snap(func(s *sfu.Snapshot) { s.Profile = 2 }), sfu.CodeBadCommand},
		{"snapshot without indices", snap(func(s *sfu.Snapshot) { s.SlotIndex = nil }), sfu.CodeBadCommand},
		{"snapshot from nowhere", snap(func(s *sfu.Snapshot) { s.Remote = "" }), sfu.CodeBadCommand},
		{"SSRC in use", snap(func(s *sfu.Snapshot) { s.SSRC = 101 }), sfu.CodeExists},
	} {
		if ev := b.command(c.c); ev.Err == nil || ev.Err.Code != c.code {
			t.Errorf("%s: %v, want %s", c.name, ev.Err, c.code)
		}
	}
	b.srv.limits.Sessions = len(b.w.sessions)
	if ev := b.command(sfu.Command{Open: &sfu.Open{Session: "one-more", Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: 1}}}); ev.Err == nil || ev.Err.Code != sfu.CodeFull {
		t.Errorf("beyond the limit: %v", ev.Err)
	}
	// Who takes the place of its own session has one.
	own := &sfu.Open{Session: "own", Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: 1}, Replaces: "nobody"}
	if ev := b.command(sfu.Command{Open: own}); ev.Err == nil || ev.Err.Code != sfu.CodeFull {
		t.Errorf("in place of nobody: %v", ev.Err)
	}
	own.Replaces = "p"
	if ev := b.command(sfu.Command{Open: own}); ev.Err != nil {
		t.Errorf("in place of its own: %v", ev.Err)
	}
	b.srv.limits.Sessions++
	offer := sfu.Command{Open: &sfu.Open{Session: "offers", Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: 1}}}
	b.srv.limits.Sessions++
	b.command(offer)
	if ev := b.command(sfu.Command{Negotiate: &sfu.Negotiate{Session: "offers", Offer: "v=0"}}); ev.Err == nil || ev.Err.Code != sfu.CodeBadOffer {
		t.Errorf("bad offer: %v", ev.Err)
	}
}

// TestReports reads what a client gets every five seconds.
func TestReports(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	reports := func(of *peer) (list []rtcp.Packet) {
		t.Helper()
		for _, d := range b.out {
			if d.to != of.at || demux.Classify(d.bytes) != demux.RTCP {
				continue
			}
			compound, _, ok := of.opener.OpenRTCP(bytes.Clone(d.bytes))
			if !ok {
				t.Fatal("a report cannot be opened")
			}
			packets, err := rtcp.Unmarshal(compound)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, packets...)
		}
		return list
	}
	// p's own report, for the one about p to refer to.
	own := make([]byte, 28)
	copy(own, []byte{0x80, 200, 0, 6})
	binary.BigEndian.PutUint32(own[4:], uint32(p.snap.Media.MicSSRC))
	binary.BigEndian.PutUint32(own[8:], 0x11112222)
	binary.BigEndian.PutUint32(own[12:], 0x33334444)
	b.receive(p.control(own), p.at)
	var last rtpwire.Header
	for i := range 100 {
		d := p.voice()
		if i%10 != 5 {
			sent, _ := b.receive(d, p.at)
			last = q.hears(sent[0])
		}
		b.pass(20 * time.Millisecond)
	}
	b.out = nil
	b.pass(4 * time.Second)
	toQ, toP := reports(q), reports(p)
	if len(toQ) != 2 || len(toP) != 2 {
		t.Fatalf("%d and %d packets", len(toQ), len(toP))
	}
	sr, ok := toQ[0].(*rtcp.SenderReport)
	if !ok || sr.SSRC != last.SSRC || sr.PacketCount != 90 || sr.OctetCount != 90*16 || len(sr.Reports) != 0 {
		t.Errorf("to q: %v", toQ[0])
	}
	// The time of the report on the clock of the slot: as long after the last
	// packet as it was written after it.
	if since := time.Duration(sr.RTPTime-last.Timestamp) * time.Second / 48000; since <= 0 || since > 5*time.Second {
		t.Errorf("the report is %v after the last packet", since)
	}
	if s, ok := toQ[1].(*rtcp.SourceDescription); !ok || s.Chunks[0].Source != last.SSRC || s.Chunks[0].Items[0].Text != "voicefleet" {
		t.Errorf("to q: %v", toQ[1])
	}
	rr, ok := toP[0].(*rtcp.ReceiverReport)
	if !ok || len(rr.Reports) != 1 {
		t.Fatalf("to p: %v", toP[0])
	}
	if r := rr.Reports[0]; r.SSRC != uint32(p.snap.Media.MicSSRC) || r.TotalLost != 10 || r.FractionLost != 10*256/100 ||
		r.LastSequenceNumber != 100 || r.LastSenderReport != 0x22223333 || r.Delay == 0 {
		t.Errorf("about p: %+v", r)
	}
	// Nothing new, nothing to report but what p sent.
	b.out = nil
	b.pass(5 * time.Second)
	if n := len(reports(q)); n != 0 {
		t.Errorf("%d packets about nothing", n)
	}
}

// FuzzVoice forwards arbitrary headers and payloads, authentic ones: nothing
// panics, and a listener gets at most one packet for one, but for the onset of
// speech.
func FuzzVoice(f *testing.F) {
	f.Add([]byte{0x90, 111, 0, 1, 0, 0, 0, 9, 0, 0, 0x1b, 0x59, 0xbe, 0xde, 0, 1, 0x10, 0x9e, 0, 0, 1, 2, 3, 4, 5})
	f.Add([]byte{0xb0, 111, 0, 2, 0, 0, 0, 9, 0, 0, 0x1b, 0x59, 0x10, 0, 0, 1, 1, 1, 127, 0, 1, 2, 3, 4, 9})
	f.Add([]byte{0xaf, 239, 255, 255, 0, 0, 0, 9, 0, 0, 0x1b, 0x59, 0})
	b := newBench(f)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	f.Fuzz(func(t *testing.T, plain []byte) {
		b.t, q.b.t = t, t
		b.now += 5 * time.Millisecond
		h, ok := rtpwire.Parse(plain, 1)
		if !ok || len(plain) > 1400 {
			return
		}
		binary.BigEndian.PutUint32(plain[8:], uint32(p.snap.Media.MicSSRC))
		p.seq++
		binary.BigEndian.PutUint16(plain[2:], uint16(p.seq))
		sent, drops := b.receive(p.sealer.SealRTP(nil, plain[:h.Length], plain[h.Length:], p.seq), p.at)
		if len(sent) > 1+sfu.OnsetPackets || b.w.count.panics != 0 {
			t.Fatalf("%d sent, dropped %q, %d panics", len(sent), drops, b.w.count.panics)
		}
	})
}
