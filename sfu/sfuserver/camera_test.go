package sfuserver

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/egress"
)

// films makes the session of a snapshot one with a camera and views.
func films(n, views int) func(*sfu.Snapshot) {
	return func(s *sfu.Snapshot) {
		s.Open.Rights.Video = true
		s.Media.CameraSSRC, s.Media.VP8PT, s.Media.VideoNACK = sfu.SSRC(6000+n), 96, true
		for k := range views {
			s.Media.Views = append(s.Media.Views, sfu.Slot{MID: string(rune('u' + k)), SSRC: sfu.SSRC(9000 + 10*n + k)})
			s.SlotIndex = append(s.SlotIndex, 0)
		}
	}
}

// filming is a peer's camera.
type filming struct {
	*peer
	index   uint64
	picture uint16
}

// frame is its next picture, in one packet.
func (f *filming) frame(key bool) []byte {
	f.index++
	f.picture++
	inner := byte(1)
	if key {
		inner = 0
	}
	payload := []byte{0x90, 0x80, 0x80 | byte(f.picture>>8), byte(f.picture), inner, 'v', 'i', 'd', 'e', 'o'}
	h := []byte{0x80, 0x80 | 96, byte(f.index >> 8), byte(f.index), 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(h[4:], uint32(f.index)*3750)
	binary.BigEndian.PutUint32(h[8:], uint32(f.snap.Media.CameraSSRC))
	return f.sealer.SealRTP(make([]byte, 0, 1500), h, payload, f.index)
}

// asked lists the sources that are asked for a key frame among what was sent to a peer.
func (f *filming) asked(sent []sentDatagram) (n int) {
	for _, d := range sent {
		if d.to != f.at || demux.Classify(d.bytes) != demux.RTCP {
			continue
		}
		compound, _, ok := f.opener.OpenRTCP(bytes.Clone(d.bytes))
		if !ok {
			f.b.t.Fatal("RTCP cannot be opened")
		}
		list, err := rtcp.Unmarshal(compound)
		if err != nil {
			f.b.t.Fatal(err)
		}
		for _, p := range list {
			if l, ok := p.(*rtcp.PictureLossIndication); ok && l.MediaSSRC == uint32(f.snap.Media.CameraSSRC) {
				n++
			}
		}
	}
	return n
}

// TestCameraThroughEngines: two cameras and three viewers, through several engines that
// are killed at any point. No index seals two packets, what a camera sent to one engine is
// taken by none after it, and each asks for the key frame that its views begin with.
func TestCameraThroughEngines(t *testing.T) {
	const engines = 6
	random := rand.New(rand.NewPCG(9, 9))
	file := memfd(t)
	b := successor(t, nil, file)
	var peers []*filming
	records := map[netip.AddrPort]*record{}
	for i := range 3 {
		p := b.connect(string(rune('a'+i)), i+1, films(i+1, 2))
		peers = append(peers, &filming{peer: p, index: uint64(65400 + 50*i)})
		records[p.at] = newRecord(p.opener)
	}
	seen := 0
	take := func(sent []sentDatagram) {
		t.Helper()
		for _, d := range sent {
			if _, _, err := records[d.to].take(d.bytes); err != nil {
				t.Fatalf("to %v: %v", d.to, err)
			}
			if demux.Classify(d.bytes) == demux.RTP {
				seen++
			}
		}
	}
	var said []struct {
		d    []byte
		from netip.AddrPort
	}
	for engine := range engines {
		snapshots := map[sfu.SessionID]*sfu.Snapshot{}
		for _, ev := range b.facts() {
			if s := ev.Snapshot; s != nil {
				snapshots[s.Open.Session] = s
			}
		}
		began := false
		for round := range 150 {
			p := peers[random.IntN(2)]
			d := p.frame(round > 20 && random.IntN(8) == 0)
			if random.IntN(10) == 0 {
				continue // lost
			}
			said = append(said, struct {
				d    []byte
				from netip.AddrPort
			}{bytes.Clone(d), p.at})
			sent, drops := b.receive(d, p.at)
			if drops != "" {
				t.Fatalf("dropped: %s", drops)
			}
			if began = began || len(sent) > 0; began && round <= 20 {
				t.Fatalf("engine %d forwards before it has a key frame", engine)
			}
			take(sent)
			b.out = nil
			b.pass(20 * time.Millisecond)
			if round == 20 && peers[0].asked(b.out)+peers[1].asked(b.out) > 2 {
				t.Errorf("engine %d asks too often", engine)
			}
			take(b.out)
			if q := peers[random.IntN(3)]; random.IntN(4) == 0 {
				v := random.IntN(2)
				ssrc, next := uint32(q.snap.Media.Views[v].SSRC), b.w.sessions[q.snap.Open.Session].indices[2+v]
				sent, _ := b.receive(q.nack(ssrc, uint16(next)-uint16(random.IntN(40))), q.at)
				take(sent)
			}
		}
		if !began {
			t.Fatalf("engine %d forwards no video", engine)
		}
		// Killed: what was sealed into this batch is never sent.
		b.w.out = egress.NewBatch(func(*egress.Batch) { t.Error("sent") })
		for range random.IntN(20) {
			p := peers[random.IntN(2)]
			b.inject(0, p.frame(random.IntN(4) == 0), p.at)
			b.w.packets(b.now, 0, 1)
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
		}
		for _, s := range said {
			b.now += time.Millisecond
			if sent, drops := b.receive(s.d, s.from); len(sent) != 0 || drops != "replay" && drops != "auth" {
				t.Fatalf("engine %d took what came before: %d sent, dropped %q", engine+1, len(sent), drops)
			}
		}
		said = said[max(0, len(said)-200):]
	}
	resent := 0
	for _, r := range records {
		resent += r.resent
	}
	if seen < 500 || resent < 20 {
		t.Errorf("%d packets, %d of them again: the test shows nothing", seen, resent)
	}
}

// TestCameraKeysAndShed: a worker that is too busy opens few packets of a camera, and
// follows its numbers all the same.
func TestCameraKeysAndShed(t *testing.T) {
	b := newBench(t)
	a, v := b.connect("a", 1, films(1, 1)), b.connect("v", 2, films(2, 1))
	cam, viewer := &filming{peer: a, index: 1000}, &filming{peer: v}
	sent, _ := b.receive(cam.frame(true), a.at)
	if len(sent) != 1 || sent[0].to != v.at {
		t.Fatalf("%d datagrams", len(sent))
	}
	if h := viewer.hears(sent[0]); h.PayloadType != 96 || h.SSRC != uint32(v.snap.Media.Views[0].SSRC) {
		t.Errorf("%+v", h)
	}
	b.w.shed.on = true
	b.w.shedVideo(b.now)
	opened := 0
	for range 100_000 { // one and a half turns of the sequence number
		if sent, drops := b.receive(cam.frame(false), a.at); len(sent) != 0 || drops != "shed" {
			t.Fatalf("%d sent, dropped %q", len(sent), drops)
		}
		if index, _ := a.session.camera.window.Highest(); index == cam.index {
			opened++
		}
		b.now += time.Millisecond
	}
	if opened < 3000 || opened > 3200 {
		t.Errorf("%d packets were opened", opened)
	}
	b.w.shed.on = false
	b.w.shedVideo(b.now)
	if sent, drops := b.receive(cam.frame(true), a.at); len(sent) != 1 || drops != "" {
		t.Errorf("afterwards %d sent, dropped %q", len(sent), drops)
	}
}

// TestCameraDoesNotAllocate, on the whole way from the socket's batch to the next: good
// packets, forged ones, those that come twice, while video is shed, and wishes.
func TestCameraDoesNotAllocate(t *testing.T) {
	b := newBench(t)
	a, v := b.connect("a", 1, films(1, 1)), b.connect("v", 2, films(2, 1))
	cam := &filming{peer: a, index: 1000}
	b.receive(cam.frame(true), a.at)
	b.w.out = egress.NewBatch(func(*egress.Batch) {})
	const runs = 200
	var good, forged, pli [][]byte
	for range 2*runs + 10 {
		good = append(good, cam.frame(false))
		f := cam.frame(false)
		f[len(f)-1] ^= 1
		forged = append(forged, f)
		c := []byte{0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(c[8:], uint32(v.snap.Media.Views[0].SSRC))
		pli = append(pli, v.control(c))
	}
	for _, c := range []struct {
		name string
		list [][]byte
		from netip.AddrPort
		shed bool
	}{{"good", good, a.at, false}, {"again", good, a.at, false}, {"forged", forged, a.at, false}, {"wishes", pli, v.at, false}, {"shed", good[:1], a.at, true}} {
		b.w.shed.on = c.shed
		i := 0
		work := func() {
			b.inject(0, c.list[i%len(c.list)], c.from)
			i++
			b.now += 20 * time.Millisecond
			b.w.packets(b.now, 0, 1)
			b.w.flush(b.now)
		}
		work()
		if n := testing.AllocsPerRun(runs, work); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if b.w.count.video.PacketsOut < runs {
		t.Errorf("%d packets went out", b.w.count.video.PacketsOut)
	}
}
