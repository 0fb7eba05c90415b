package lightclient

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/mark"
)

// mouths makes clients that can talk to a socket of the test, which is blocking
// nobody: what does not fit into its buffer is dropped.
func mouths(t testing.TB, e *Engine, count int) ([]*Client, audience) {
	t.Helper()
	to, err := openSocket(netip.MustParseAddr("127.0.0.1"), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.close)
	_ = unix.SetsockoptInt(to.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	clients := seated(t, e, count, 1)
	for _, c := range clients {
		e.pacer.connect(c, transformOf(t), answer{remote: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.port), level: true})
	}
	return clients, audience{socket: to, roc: make(map[uint32]*rollover)}
}

func stopped(t testing.TB, config Config) *Engine {
	t.Helper()
	config.Host = netip.MustParseAddr("127.0.0.1")
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.closeAll)
	return e
}

// audience opens what arrives at a socket.
type audience struct {
	socket *socket
	roc    map[uint32]*rollover
}

// heard reads all marks that arrived.
func (a audience) heard(t testing.TB) []mark.Mark {
	t.Helper()
	in, x, roc := newInbox(), transformOf(t), a.roc
	var marks []mark.Mark
	for {
		n := in.read(a.socket.fd)
		if n == 0 {
			return marks
		}
		for i := range n {
			b := in.datagram(i)
			head, ok := headerSize(b)
			if !ok {
				t.Fatalf("% x", b)
			}
			ssrc, seq := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint16(b[2:])
			if roc[ssrc] == nil {
				roc[ssrc] = &rollover{}
			}
			guess := roc[ssrc].guess(seq)
			plain, ok := x.open(make([]byte, 0, datagram), b, head, guess)
			if !ok {
				t.Fatalf("packet %d of %d was not opened", i, n)
			}
			roc[ssrc].took(seq, guess)
			m, ok := mark.Read(plain)
			if !ok {
				t.Fatal("packet without mark")
			}
			if level := b[17]; m.Voiced != (level&0x80 != 0) || !m.Voiced && level != 127 {
				t.Errorf("level %#x of voiced %v", level, m.Voiced)
			}
			marks = append(marks, m)
		}
		in.again(n)
	}
}

// serveAll serves what is due: a round takes no more than longestServe, and the
// next follows at once.
func serveAll(p *pacer, now int64) {
	for next := p.serve(now); next <= now; {
		next = p.serve(now)
	}
}

// TestPacerKeepsItsPlan drives the pacer by a clock of the test, through a stall
// that it makes up for and one that it cannot.
func TestPacerKeepsItsPlan(t *testing.T) {
	e := stopped(t, Config{})
	clients, to := mouths(t, e, 2)
	p := e.pacer
	start := time.Unix(2000, 0)
	clients[0].seq = 65530 // over the turn
	talk := Talk{ID: 7, Start: start, Stop: start.Add(10 * time.Second), From: start.Add(time.Second), To: start.Add(2 * time.Second), SmallSize: 40, Size: 100, Voice: Filler}
	if err := clients[0].Talk(talk); err != nil {
		t.Fatal(err)
	}
	talk.ID, talk.Voice, talk.Size, talk.SmallSize = 8, 0, 0, 0
	talk.Start, talk.Silence, talk.Spurts = start.Add(5*time.Millisecond), true, []Spurt{{0, 10}, {20, 10}}
	if err := clients[1].Talk(talk); err != nil {
		t.Fatal(err)
	}
	upTo := func(d time.Duration) { serveAll(p, start.Add(d).UnixNano()) }
	upTo(0)
	if got := to.heard(t); len(got) != 1 || !got[0].Due.Equal(start) || got[0].Talker != 7 {
		t.Fatalf("at the start %+v", got)
	}
	for d := time.Duration(0); d <= time.Second-time.Millisecond; d += time.Millisecond {
		upTo(d)
	}
	got := to.heard(t)
	if len(got) != 49+50 || p.pace.Late != 0 || p.pace.Voice != 0 || p.pace.Sent != 100 {
		t.Fatalf("first second: %d packets, %+v", len(got), p.pace)
	}
	for _, m := range got {
		onset, voiced := uint32(0), true
		if m.Talker == 8 {
			onset, voiced = m.Index/10*10, m.Index/10%2 == 0 && m.Index < 30
			if m.Index >= 30 {
				onset = 30
			}
		}
		phase := time.Duration(m.Talker-7) * 5 * time.Millisecond
		if m.Onset != onset || m.Voiced != voiced || !m.Due.Equal(start.Add(phase+time.Duration(m.Index)*FrameInterval)) {
			t.Errorf("%+v, want onset %d, voiced %v", m, onset, voiced)
		}
	}
	p.pace = Pace{}
	upTo(1800 * time.Millisecond) // 0.8 s of stall, all made up for
	if n := len(to.heard(t)); n != 81 || p.pace.Failed != 0 || p.pace.Worst != 800*time.Millisecond || p.pace.Late != 2*39+1 && p.pace.Late != 2*39 {
		t.Errorf("after 0.8 s of stall %d packets, %+v", n, p.pace)
	}
	if p.pace.Voice != 41 {
		t.Errorf("%d packets in the window, want 41", p.pace.Voice)
	}
	p.pace = Pace{}
	upTo(6800 * time.Millisecond) // 5 s of stall
	if p.pace.Failed < 2*195 || p.pace.Failed > 2*200 || p.pace.Sent+p.pace.Failed != 500 || uint64(len(to.heard(t))) != p.pace.Sent {
		t.Errorf("after 5 s of stall %+v", p.pace)
	}
	clients[0].Hush()
	upTo(7800 * time.Millisecond)
	for _, m := range to.heard(t) {
		if m.Talker == 7 {
			t.Fatalf("talks after Hush: %+v", m)
		}
	}
	for d := 8 * time.Second; d <= 11*time.Second; d += 20 * time.Millisecond {
		upTo(d)
	}
	got = to.heard(t)
	if last := got[len(got)-1]; last.Index != 499 || p.talkers != 0 {
		t.Errorf("last %+v, %d talk", last, p.talkers)
	}
	clients[1].Close()
	if err := clients[1].Talk(talk); err == nil {
		t.Error("a closed client talks")
	}
}

// TestSweep holds that due times move together and come back, and rise.
func TestSweep(t *testing.T) {
	p := newPacer(time.Millisecond, 10*time.Millisecond)
	most := int64(0)
	for tick := int64(1e9); tick < 1e9+4000; tick++ {
		if p.at(tick+1) <= p.at(tick) {
			t.Fatalf("tick %d is due at %d, the next at %d", tick, p.at(tick), p.at(tick+1))
		}
		most = max(most, p.at(tick)-tick*int64(time.Millisecond))
	}
	if most != int64(10*time.Millisecond) {
		t.Errorf("swept by %v", time.Duration(most))
	}
}

// TestSendAllocates holds that a tick of 100 talkers allocates nothing.
func TestSendAllocates(t *testing.T) {
	e := stopped(t, Config{})
	clients, _ := mouths(t, e, 100)
	start := time.Unix(2000, 0)
	for i, c := range clients {
		talk := Talk{ID: uint32(i), Start: start, SmallSize: 40, Size: 100, Voice: Filler}
		if err := c.Talk(talk); err != nil {
			t.Fatal(err)
		}
	}
	now := start.UnixNano()
	serveAll(e.pacer, now)
	if n := testing.AllocsPerRun(50, func() {
		now += int64(FrameInterval)
		serveAll(e.pacer, now)
	}); n != 0 {
		t.Errorf("%v allocations per tick", n)
	}
	if p := e.Pace(); p.Sent < 5000 || p.Failed != 0 {
		t.Errorf("%+v", p)
	}
}

// BenchmarkSend tells the time to mark, seal and send one packet, 500 talkers in
// turn.
func BenchmarkSend(b *testing.B) {
	e := stopped(b, Config{})
	clients, _ := mouths(b, e, 500)
	start := time.Unix(2000, 0)
	for i, c := range clients {
		talk := Talk{ID: uint32(i), Start: start.Add(time.Duration(i) * FrameInterval / 500), SmallSize: 40, Size: 100, Voice: Filler}
		if err := c.Talk(talk); err != nil {
			b.Fatal(err)
		}
	}
	now := start.UnixNano()
	serveAll(e.pacer, now)
	e.pacer.resetSpoken()
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	for range b.N {
		now += int64(time.Millisecond)
		serveAll(e.pacer, now)
	}
	b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(max(1, e.pacer.pace.Sent)), "ns/packet")
}
