package sfuserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/ledger"
	"voicefleet/sfu/internal/rtpwire"
)

// memfd is a ledger as an agent makes it.
func memfd(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("ledger", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "ledger")
	t.Cleanup(func() { f.Close() })
	return f
}

// successor is a bench whose engine goes on with the ledger and the port of
// another, nil for the first.
func successor(t testing.TB, before *bench, file *os.File) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Second}
	var conn *net.UDPConn
	if before == nil {
		var err error
		if conn, err = net.ListenUDP("udp", nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	} else {
		conn, b.now = before.srv.cfg.Sockets[0], before.now
		// The lock of a process ends with it, and nothing else is tidied up.
		if err := unix.Flock(int(before.srv.mapped.file.Fd()), unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	srv, err := New(Config{Stream: theirs, Sockets: []*net.UDPConn{conn}, Ledger: file})
	if err != nil {
		t.Fatal(err)
	}
	b.srv = srv
	start := &sfu.Start{Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Limits: sfu.Limits{Sessions: 50}}
	if ev := b.command(sfu.Command{Start: start}); ev.Err != nil {
		t.Fatal(ev.Err)
	}
	t.Cleanup(srv.term.Close)
	b.w = srv.workers[0]
	b.keep()
	return b
}

// record is all that was ever sent to one client, by source and index. It holds
// that no index is used for two packets, and that a receiver which guesses
// indices as RFC 3711 section 3.3.1 has it always guesses right.
type record struct {
	opener  crypt.Opener
	windows map[uint32]*crypt.Window
	rtp     map[uint32]map[uint64][]byte
	rtcp    map[uint32]map[uint32][]byte
	resent  int
	first   map[uint32]uint64 // index of the first packet of a source
	payload []byte            // of the last RTP packet
}

func newRecord(opener crypt.Opener) *record {
	return &record{
		opener: opener, windows: map[uint32]*crypt.Window{}, rtp: map[uint32]map[uint64][]byte{},
		rtcp: map[uint32]map[uint32][]byte{}, first: map[uint32]uint64{},
	}
}

// take notes one datagram and returns the index it was sealed with.
func (r *record) take(d []byte) (ssrc uint32, index uint64, err error) {
	if demux.Classify(d) == demux.RTCP {
		_, n, ok := r.opener.OpenRTCP(bytes.Clone(d))
		if !ok {
			return 0, 0, errors.New("SRTCP cannot be opened")
		}
		ssrc = binary.BigEndian.Uint32(d[4:])
		if r.rtcp[ssrc] == nil {
			r.rtcp[ssrc] = map[uint32][]byte{}
		}
		// The nonce holds the SSRC, but one counter serves all of a session.
		for other, used := range r.rtcp {
			if used[n] != nil {
				return 0, 0, fmt.Errorf("SRTCP index %d of SSRC %d was used for SSRC %d", n, ssrc, other)
			}
		}
		r.rtcp[ssrc][n] = bytes.Clone(d)
		return ssrc, uint64(n), nil
	}
	h, ok := rtpwire.Parse(d, 1)
	if !ok {
		return 0, 0, fmt.Errorf("not RTP: %x", d)
	}
	w := r.windows[h.SSRC]
	if w == nil {
		w = &crypt.Window{}
		r.windows[h.SSRC], r.rtp[h.SSRC] = w, map[uint64][]byte{}
		if first, ok := r.first[h.SSRC]; ok {
			w.Accept(first - 1) // as if it had heard all before
		}
	}
	if index, ok = w.Estimate(h.Sequence); !ok {
		return 0, 0, fmt.Errorf("SSRC %d: sequence %d has no index", h.SSRC, h.Sequence)
	}
	if r.payload, ok = r.opener.OpenRTP(bytes.Clone(d), h.Length, index); !ok {
		return 0, 0, fmt.Errorf("SSRC %d: index %#x is not the one it was sealed with", h.SSRC, index)
	}
	w.Accept(index)
	if before := r.rtp[h.SSRC][index]; before != nil {
		if !bytes.Equal(before, d) {
			return 0, 0, fmt.Errorf("SSRC %d: index %#x was used for two packets", h.SSRC, index)
		}
		r.resent++
	}
	r.rtp[h.SSRC][index] = bytes.Clone(d)
	return h.SSRC, index, nil
}

// TestNoNonceTwice records all packets of a call through several engines, each
// killed at any point: within a batch, after resends, around a rollover. No index
// is ever used for two packets, resends are the same bytes, and the next engine
// goes on with the very next index. Whatever a client sent to one engine is taken
// by none after it.
func TestNoNonceTwice(t *testing.T) {
	for _, profile := range []crypt.Profile{crypt.AEADAES128GCM, crypt.AES128CMHMACSHA1_80} {
		t.Run(profile.String(), func(t *testing.T) { noNonceTwice(t, profile) })
	}
}

func noNonceTwice(t *testing.T, profile crypt.Profile) {
	const engines, rollover = 8, 3 << 16
	random := rand.New(rand.NewPCG(4, uint64(profile)))
	file := memfd(t)
	b := successor(t, nil, file)
	snapshots := map[sfu.SessionID]*sfu.Snapshot{}
	peers := make([]*peer, 3)
	records := map[netip.AddrPort]*record{}
	for i := range peers {
		first := uint64(rollover - 40 - 10*i) // packets before the wrap
		p := b.connect(string(rune('a'+i)), i+1, func(s *sfu.Snapshot) {
			s.Profile, s.Keying = uint16(profile), bytes.Repeat([]byte{byte(i + 1)}, profile.KeyingLen())
			s.SlotIndex = []uint64{first - restoreJump, first - restoreJump}
			s.InIndex = rollover - 60
		})
		p.seq = rollover - 60
		client, server, err := crypt.Split(profile, p.snap.Keying)
		if err != nil {
			t.Fatal(err)
		}
		p.sealer, _ = crypt.NewSealer(profile, client)
		p.opener, _ = crypt.NewOpener(profile, server)
		peers[i], records[p.at] = p, newRecord(p.opener)
		for _, s := range p.snap.Media.Slots {
			records[p.at].first[uint32(s.SSRC)] = first
		}
	}
	next := map[uint32]uint64{} // per SSRC: the index that must come next
	take := func(sent []sentDatagram) {
		t.Helper()
		for _, d := range sent {
			r := records[d.to]
			known := 0
			if demux.Classify(d.bytes) == demux.RTP {
				known = r.resent
			}
			ssrc, index, err := r.take(d.bytes)
			if err != nil {
				t.Fatalf("to %v: %v", d.to, err)
			}
			if demux.Classify(d.bytes) != demux.RTP || r.resent > known {
				continue
			}
			if want := next[ssrc]; want != 0 && index != want {
				t.Fatalf("SSRC %d: index %#x after %#x", ssrc, index, want-1)
			}
			next[ssrc] = index + 1
		}
	}
	var said []struct {
		d    []byte
		from netip.AddrPort
	}
	say := func(d []byte, from netip.AddrPort) {
		t.Helper()
		said = append(said, struct {
			d    []byte
			from netip.AddrPort
		}{bytes.Clone(d), from})
		sent, drops := b.receive(d, from)
		if drops != "" {
			t.Fatalf("dropped: %s", drops)
		}
		take(sent)
	}
	for engine := range engines {
		for _, ev := range b.facts() { // of the first moments only: the agent's last word may be old
			if s := ev.Snapshot; s != nil && (engine == 0 || random.IntN(2) == 0) {
				snapshots[s.Open.Session] = s
			}
		}
		for range 60 + random.IntN(100) {
			p := peers[random.IntN(2)]
			say(p.voice(), p.at)
			b.out = nil
			b.pass(20 * time.Millisecond)
			take(b.out)
			if q := peers[random.IntN(len(peers))]; random.IntN(4) == 0 {
				ssrc := uint32(q.snap.Media.Slots[random.IntN(2)].SSRC)
				say(q.nack(ssrc, uint16(next[ssrc])-uint16(random.IntN(30))), q.at)
			}
			if random.IntN(25) == 0 {
				b.out = nil
				b.pass(5 * time.Second) // reports
				take(b.out)
				for _, p := range peers {
					b.receive(p.check(false), p.at)
				}
			}
		}
		// Killed: what was sealed into this batch is never sent.
		lost := 0
		b.w.out = egress.NewBatch(func(batch *egress.Batch) { t.Error("sent") })
		p := peers[0]
		for range random.IntN(20) {
			d := p.voice()
			b.inject(0, d, p.at)
			b.w.packets(b.now, 0, 1)
			b.now += 20 * time.Millisecond
			lost++
		}
		if lost > 0 {
			clear(next) // they leave a gap
		}
		if engine == engines-1 {
			break
		}
		b = successor(t, b, file)
		for _, p := range peers {
			p.b = b
			if ev := b.command(sfu.Command{Restore: snapshots[p.snap.Open.Session]}); ev.Err != nil {
				t.Fatal(ev.Err)
			}
			p.session = b.w.sessions[p.snap.Open.Session]
		}
		for _, s := range said {
			b.now += 20 * time.Millisecond
			if sent, drops := b.receive(s.d, s.from); len(sent) != 0 || drops != "replay" && drops != "auth" {
				t.Fatalf("engine %d took what came before: %d sent, dropped %q", engine+1, len(sent), drops)
			}
		}
	}
	for at, r := range records {
		wrapped := false
		for _, used := range r.rtp {
			for index := range used {
				wrapped = wrapped || index >= rollover && used[index-index%(1<<16)-1] != nil
			}
		}
		if !wrapped || r.resent == 0 || len(r.rtcp) == 0 {
			t.Errorf("%v: rollover %v, %d resent, reports of %d sources: the test shows nothing", at, wrapped, r.resent, len(r.rtcp))
		}
	}
}

func TestRestoreNeedsItsRecord(t *testing.T) {
	file := memfd(t)
	b := successor(t, nil, file)
	b.connect("p", 1, nil)
	b.connect("q", 2, nil)
	var p, q *sfu.Snapshot
	for _, ev := range b.facts() {
		if s := ev.Snapshot; s != nil {
			if s.Record == 0 || s.Tag == 0 || s.SlotIndex != nil {
				t.Errorf("snapshot %+v", s)
			}
			if p == nil {
				p = s
			}
			q = s
		}
	}
	b = successor(t, b, file)
	for name, change := range map[string]func(*sfu.Snapshot){
		"of another session": func(s *sfu.Snapshot) { s.Tag = q.Tag },
		"beyond the ledger":  func(s *sfu.Snapshot) { s.Record = 1000 },
		"without a tag":      func(s *sfu.Snapshot) { s.Tag = 0 },
	} {
		s := *p
		change(&s)
		if ev := b.command(sfu.Command{Restore: &s}); ev.Err == nil || ev.Err.Code != sfu.CodeBadCommand {
			t.Errorf("record %s: %v", name, ev.Err)
		}
	}
	if ev := b.command(sfu.Command{Restore: p}); ev.Err != nil {
		t.Error(ev.Err)
	}
	if ev := b.command(sfu.Command{Close: &sfu.Close{Session: "p"}}); ev.Err != nil {
		t.Error(ev.Err)
	}
	if ev := b.command(sfu.Command{Restore: p}); ev.Err == nil {
		t.Error("restored after its end: its indices are gone")
	}
}

// TestOneEnginePerLedger holds that two engines never forward for the same
// sessions.
func TestOneEnginePerLedger(t *testing.T) {
	file := memfd(t)
	m, err := mapLedger(file, ledger.Size(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mapLedger(file, ledger.Size(1)); err == nil {
		t.Fatal("mapped by two")
	}
	m.close()
	again, err := mapLedger(file, ledger.Size(2))
	if err != nil {
		t.Fatal(err)
	}
	again.close()
}

// TestBlame tells the next engine whose packet was worked on at the end.
func TestBlame(t *testing.T) {
	file := memfd(t)
	b := successor(t, nil, file)
	p := b.connect("p", 1, nil)
	b.w.rest()
	b.inject(0, p.voice(), p.at)
	b.w.packets(b.now, 0, 1)
	// Killed here, before it could rest.
	started := func(b *bench) []sfu.CallID {
		var ids []sfu.CallID
		for _, id := range b.srv.ledger.Blamed() {
			ids = append(ids, sfu.CallID{ID: snowflake.ID(id)})
		}
		return ids
	}
	if got := started(b); !slices.Equal(got, []sfu.CallID{p.snap.Open.Call}) {
		t.Errorf("blamed %v", got)
	}
	b.inject(0, p.voice(), p.at)
	b.w.packets(b.now, 0, 1)
	b.w.rest()
	if got := started(b); got != nil {
		t.Errorf("blamed %v at rest", got)
	}
}

// TestFirstIndices holds that a stream begins where a receiver that misses its
// first packets still guesses rollover counter zero, restores included.
func TestFirstIndices(t *testing.T) {
	for range 1000 {
		for _, index := range firstIndices(sfu.MaxSlots) {
			if index+restoreJump >= 1<<15 {
				t.Fatalf("begins at %d", index)
			}
		}
	}
}

const processEnv = "VOICEFLEET_TEST_ENGINE"

// TestEngineProcess is the engine of TestKilledProcesses.
func TestEngineProcess(t *testing.T) {
	if os.Getenv(processEnv) == "" {
		return // only TestKilledProcesses runs it, in a process of its own
	}
	conn, err := net.FileConn(os.NewFile(3, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.FilePacketConn(os.NewFile(5, "media"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Stream: conn, Ledger: os.NewFile(4, "ledger"), Sockets: []*net.UDPConn{packets.(*net.UDPConn)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// client is a raw one, on a real socket.
type client struct {
	conn   *net.UDPConn
	snap   *sfu.Snapshot
	sealer crypt.Sealer

	mu sync.Mutex
	// Guarded by mu.
	record *record
	last   map[uint32]uint16
	rtcp   uint32
	err    error
	heard  int
}

func (c *client) read() {
	buf := make([]byte, 2000)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			return
		}
		c.mu.Lock()
		if ssrc, index, err := c.record.take(buf[:n]); err != nil {
			c.err = err
		} else if demux.Classify(buf[:n]) == demux.RTP {
			c.last[ssrc] = uint16(index)
			c.heard++
		}
		c.mu.Unlock()
	}
}

// nack asks for a packet of a moment ago again.
func (c *client) nack(back uint16) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rtcp++
	d := []byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	for ssrc, seq := range c.last {
		binary.BigEndian.PutUint32(d[8:], ssrc)
		binary.BigEndian.PutUint16(d[12:], seq-back)
	}
	return c.sealer.SealRTCP(nil, d, c.rtcp)
}

// TestKilledProcesses ends engine processes while they forward, by SIGKILL or in
// the middle of an upgrade by SIGTERM, and restores every time from the first
// snapshots there were: all that three clients ever got is recorded on their
// sockets. One of them takes packets that ask for feedback, and resends of them.
func TestKilledProcesses(t *testing.T) {
	engines := 12
	if testing.Short() {
		engines = 4
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	media, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	at := socket.LocalAddr().(*net.UDPAddr)
	file := memfd(t)
	random := rand.New(rand.NewPCG(7, 7))
	var clients []*client
	for i := range 3 {
		conn, err := net.DialUDP("udp4", nil, at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		profile := crypt.AEADAES128GCM
		keying := bytes.Repeat([]byte{byte(i + 1)}, profile.KeyingLen())
		in, out, _ := crypt.Split(profile, keying)
		sealer, _ := crypt.NewSealer(profile, in)
		opener, _ := crypt.NewOpener(profile, out)
		c := &client{conn: conn, sealer: sealer, record: newRecord(opener), last: map[uint32]uint16{}}
		id := string(rune('a' + i))
		first := uint64(1<<16 - 100 - restoreJump) // so that the wrap is early
		c.snap = &sfu.Snapshot{
			Open: sfu.Open{Session: sfu.SessionID(id), Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: snowflake.ID(i + 1)}, Rights: sfu.Rights{Speak: true}},
			SSRC: sfu.SSRC(100 + i), Port: uint16(at.Port), Remote: conn.LocalAddr().String(),
			LocalUfrag: "ufrag" + id, LocalPwd: "password-of-24-characters", RemoteUfrag: "client" + id,
			Profile: uint16(profile), Keying: keying,
			Media: sfu.Media{MicMID: "0", MicSSRC: sfu.SSRC(7000 + i), OpusPT: 111, LevelExt: 1, NACK: true,
				Slots: []sfu.Slot{{MID: "1", SSRC: sfu.SSRC(8000 + 10*i)}, {MID: "2", SSRC: sfu.SSRC(8001 + 10*i)}}},
			SlotIndex: []uint64{first, first},
		}
		if i == 2 {
			c.snap.Media.TransportCC = 5
		}
		for _, s := range c.snap.Media.Slots {
			c.record.first[uint32(s.SSRC)] = 1<<16 - 100
		}
		clients = append(clients, c)
		go c.read()
	}
	seq := uint64(0)
	for engine := range engines {
		process, stop, stream := spawnEngine(t, media, file)
		enc, dec := sfu.NewEncoder(stream), sfu.NewDecoder(stream)
		commands := []sfu.Command{{Start: &sfu.Start{Advertise: []netip.Addr{at.AddrPort().Addr()}}}}
		for _, c := range clients {
			commands = append(commands, sfu.Command{Restore: c.snap})
		}
		answers := 0
		for i := range commands {
			commands[i].Seq = uint64(i + 1)
			if err := enc.Encode(&commands[i]); err != nil {
				t.Fatal(err)
			}
		}
		for answers < len(commands) || engine == 0 && slices.ContainsFunc(clients, func(c *client) bool { return c.snap.Record == 0 }) {
			var ev sfu.Event
			if err := dec.Decode(&ev); err != nil {
				t.Fatal(err)
			}
			if ev.Err != nil {
				t.Fatal(ev.Err)
			}
			if ev.Seq != 0 {
				answers++
			}
			if s := ev.Snapshot; s != nil && engine == 0 {
				clients[s.SSRC-100].snap = s
			}
		}
		go func() { // the agent that has seen enough
			for {
				var ev sfu.Event
				if dec.Decode(&ev) != nil {
					return
				}
			}
		}()
		before := clients[2].count()
		end := time.Now().Add(150*time.Millisecond + time.Duration(random.IntN(150))*time.Millisecond)
		tick := time.NewTicker(4 * time.Millisecond)
		for time.Now().Before(end) || clients[2].count() < before+20 {
			<-tick.C
			seq++
			for i, c := range clients[:2] {
				h := []byte{0x90, 111, byte(seq >> 8), byte(seq), 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0x10, 0x80 | 30, 0, 0}
				binary.BigEndian.PutUint32(h[4:], uint32(seq)*960)
				binary.BigEndian.PutUint32(h[8:], uint32(7000+i))
				_, _ = c.conn.Write(c.sealer.SealRTP(nil, h, []byte("a frame of voice"), seq))
			}
			if seq%12 == 0 {
				c := clients[random.IntN(3)]
				_, _ = c.conn.Write(c.nack(uint16(6 + random.IntN(20))))
			}
			if time.Since(end) > 60*time.Second {
				t.Fatalf("engine %d forwards nothing", engine)
			}
		}
		tick.Stop()
		if engine%2 == 1 {
			_ = process.Signal(unix.SIGTERM)
		}
		stop()
	}
	for _, c := range clients {
		c.mu.Lock()
		if c.err != nil {
			t.Errorf("%s: %v", c.snap.Open.Session, c.err)
		}
		if c.heard < 20*engines || c.record.resent == 0 {
			t.Errorf("%s heard %d packets, %d again", c.snap.Open.Session, c.heard, c.record.resent)
		} else {
			t.Logf("%s heard %d packets, %d again, of %d engines", c.snap.Open.Session, c.heard, c.record.resent, engines)
		}
		c.mu.Unlock()
	}
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}

// spawnEngine runs TestEngineProcess as a process; stop kills it.
func spawnEngine(t *testing.T, media, file *os.File) (process *os.Process, stop func(), stream net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	stream, err = net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestEngineProcess$")
	cmd.Env = append(os.Environ(), processEnv+"=1")
	cmd.ExtraFiles = []*os.File{theirs, file, media}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			stream.Close()
		})
	}
	t.Cleanup(stop)
	return cmd.Process, stop, stream
}
