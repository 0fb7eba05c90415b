package video

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
	"voicefleet/sfu/internal/vp8wire"
)

const ms = time.Millisecond

// plain seals nothing, and remembers what was sealed under each index: one that is used
// for different packets would give the key away.
type plain struct {
	t    testing.TB
	used map[[2]uint64][]byte
}

func (p plain) SealRTP(dst, header, payload []byte, index uint64) []byte {
	out := append(append(dst, header...), payload...)
	if p.used == nil {
		return out
	}
	name := [2]uint64{uint64(binary.BigEndian.Uint32(header[8:])), index}
	if was, ok := p.used[name]; ok && !bytes.Equal(was, out) {
		p.t.Errorf("index %d of %d seals two packets", index, name[0])
	}
	if binary.BigEndian.Uint16(header[2:]) != uint16(index) {
		p.t.Errorf("index %d of sequence number %d", index, binary.BigEndian.Uint16(header[2:]))
	}
	p.used[name] = bytes.Clone(out)
	return out
}
func (plain) SealRTCP(dst, compound []byte, _ uint32) []byte { return append(dst, compound...) }
func (plain) Overhead() int                                  { return 0 }

// rig is a call of which everything is written down.
type rig struct {
	t     testing.TB
	call  *Call
	base  int // its members are numbered from here
	count Counters
	drops [sfu.DropReasons]uint64
	out   *egress.Batch
	now   time.Duration
	names map[sfu.SSRC]string // of voices
	all   map[string]*filmer
	got   map[string][]*rtp.Packet // by who got it
	told  []string
	// relayed is what goes to other nodes, if the call spans some.
	relayed []sfu.RelayPacket
}

// filmer is a member and the camera it has.
type filmer struct {
	*Member
	number  int
	index   uint64
	ts      uint32
	picture uint16
	frames  int
}

func newRig(t testing.TB, echo bool) *rig {
	r := &rig{t: t, names: make(map[sfu.SSRC]string), all: make(map[string]*filmer), got: make(map[string][]*rtp.Packet)}
	r.call = New(Config{ID: sfu.CallID{ID: 1}, Echo: echo, Epoch: time.Unix(1_700_000_000, 0), Facts: r, Count: &r.count, Drops: &r.drops})
	r.out = egress.NewBatch(func(b *egress.Batch) {
		for i := range b.Len() {
			d, to := b.At(i)
			if to.Len == relayLen {
				r.relayed = append(r.relayed, unbundle(t, d)...)
				continue
			}
			p := &rtp.Packet{}
			if err := p.Unmarshal(bytes.Clone(d)); err != nil {
				t.Fatal(err)
			}
			for name, f := range r.all {
				if f.number == int(to.Sockaddr[0]) {
					r.got[name] = append(r.got[name], p)
				}
			}
		}
	})
	return r
}

func (r *rig) Viewing(v sfu.Viewing) {
	who := "nobody"
	if v.User.ID != 0 {
		who = r.names[v.SSRC]
	}
	r.told = append(r.told, strings.TrimSpace(fmt.Sprintf("%s:%d %s %s", v.Session, v.View, who, v.Why)))
}

// tell is what was told since the last time.
func (r *rig) tell() string {
	s := strings.Join(r.told, ", ")
	r.told = nil
	return s
}

func (r *rig) path(number int) egress.Path {
	p := egress.Path{Len: 16}
	p.Sockaddr[0] = byte(number)
	return p
}

func (r *rig) join(name string, views int) *filmer {
	n := r.base + len(r.all) + 1
	media := &sfu.Media{CameraSSRC: sfu.SSRC(100 + n), VP8PT: 96, VideoNACK: true}
	for k := range views {
		media.Views = append(media.Views, sfu.Slot{MID: fmt.Sprint(k), SSRC: sfu.SSRC(1000*n + k)})
	}
	m := &Member{Session: sfu.SessionID(name), User: sfu.UserID{ID: snowflake.ID(n)}, SSRC: sfu.SSRC(n), Media: media,
		Sealer: plain{r.t, make(map[[2]uint64][]byte)}, Indices: make([]uint64, views)}
	for i := range m.Indices {
		m.Indices[i] = uint64(65500 + i) // it wraps soon
	}
	f := &filmer{Member: m, number: n, index: 500, ts: uint32(90_000 * n), picture: uint16(0x7ffe - n)}
	r.names[m.SSRC], r.all[name] = name, f
	r.call.Join(r.now, m, sfu.Rights{Video: true}, r.path(n))
	return f
}

// frame makes the packets of a picture.
func (f *filmer) frame(key bool, packets int) (list []packet) {
	f.ts += 3750 // 24 a second
	f.picture = (f.picture + 1) & 0x7fff
	f.frames++
	for i := range packets {
		first, inner := byte(0x80), byte(1)
		if i == 0 {
			first |= 0x10
			if key {
				inner = 0
			}
		}
		payload := []byte{first, 0xc0, 0x80 | byte(f.picture>>8), byte(f.picture), byte(f.frames), inner}
		payload = append(payload, bytes.Repeat([]byte{byte(f.number)}, 30+i)...)
		list = append(list, packet{f.index, f.ts, i == packets-1, payload})
		f.index++
	}
	return list
}

type packet struct {
	index   uint64
	ts      uint32
	marker  bool
	payload []byte
}

// video sends packets of a camera.
func (r *rig) video(name string, list ...packet) {
	for _, p := range list {
		h := rtpwire.Header{Sequence: uint16(p.index), Timestamp: p.ts, Marker: p.marker}
		r.call.Video(r.now, r.all[name].Member, &h, p.index, bytes.Clone(p.payload), r.out)
	}
	r.out.Flush()
}

// film sends a whole picture.
func (r *rig) film(name string, key bool, packets int) {
	r.video(name, r.all[name].frame(key, packets)...)
}

// advance lets time go by, and returns what cameras were asked for meanwhile.
func (r *rig) advance(d time.Duration) (asked []string) {
	for end := r.now + d; r.now < end; {
		r.now += 20 * ms
		r.call.Tick(r.now, r.out)
		for _, m := range r.call.Asking(r.now) {
			list, err := rtcp.Unmarshal(r.call.AppendRequests(r.now, m, nil))
			if err != nil {
				r.t.Fatal(err)
			}
			for _, p := range list {
				switch p := p.(type) {
				case *rtcp.TransportLayerNack:
					for _, n := range p.Nacks {
						asked = append(asked, fmt.Sprintf("%s %v", m.Session, n.PacketList()))
					}
				case *rtcp.PictureLossIndication:
					if p.MediaSSRC != uint32(m.Media.CameraSSRC) {
						r.t.Errorf("a key frame of %d is asked for", p.MediaSSRC)
					}
					asked = append(asked, string(m.Session)+" key")
				}
			}
		}
	}
	return asked
}

// feedback gives a member's RTCP to the call.
func (r *rig) feedback(name string, packets ...rtcp.Packet) {
	b, err := rtcp.Marshal(packets)
	if err != nil {
		r.t.Fatal(err)
	}
	r.call.Feedback(r.now, r.all[name].Member, b, r.out)
	r.out.Flush()
}

// pli is a picture loss indication of what a member sees first.
func pli(f *filmer) rtcp.Packet { return &rtcp.PictureLossIndication{MediaSSRC: f.views[0].ssrc} }

// take is what somebody got since the last time.
func (r *rig) take(name string) []*rtp.Packet {
	list := r.got[name]
	r.got[name] = nil
	return list
}

// numbers says what matters of packets: how far the sequence number, the timestamp and
// the picture are behind the packet before, and the marker.
func numbers(t testing.TB, list []*rtp.Packet) (from *rtp.Packet, s []string) {
	for i, p := range list {
		if i > 0 {
			was := list[i-1]
			line := fmt.Sprintf("%+d %+d", int16(p.SequenceNumber-was.SequenceNumber), int32(p.Timestamp-was.Timestamp))
			a, ok := vp8wire.Read(was.Payload)
			b, also := vp8wire.Read(p.Payload)
			if !ok || !also {
				t.Fatal("no descriptor")
			}
			line += fmt.Sprintf(" %+d", int16((b.Picture-a.Picture)<<1)>>1)
			if p.Marker {
				line += " end"
			}
			s = append(s, line)
		}
	}
	if len(list) > 0 {
		from = list[0]
	}
	return from, s
}

func (r *rig) want(what, got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: %s; want %s", what, got, want)
	}
}

func TestViewIsOneEncoder(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 1)
	r.join("bob", 1)
	r.film("ann", false, 1) // no key frame yet
	r.want("told", r.tell(), "bob:0 ann")
	if n := len(r.take("bob")); n != 0 {
		t.Errorf("%d packets before a key frame", n)
	}
	r.want("asked", fmt.Sprint(r.advance(20*ms)), "[ann key]")
	r.film("ann", true, 2)
	lost := r.all["ann"].frame(false, 3)
	r.video("ann", lost[0], lost[2])
	r.now += 10 * ms
	r.video("ann", lost[1])
	first, s := numbers(t, r.take("bob"))
	r.want("packets", fmt.Sprint(s), "[+1 +0 +0 end +1 +3750 +1 +2 +0 +0 end -1 +0 +0]")
	if first.SSRC != 2000 || first.SequenceNumber != 65500 || first.PayloadType != 96 || !slices.Equal(first.CSRC, []uint32{1}) {
		t.Errorf("first packet %v", first)
	}
	if n := len(r.take("ann")); n != 0 {
		t.Errorf("ann sees herself: %d packets", n)
	}

	// Ann stops, and Cat begins: the view goes on with her, when she has a key frame.
	r.advance(darkAfter)
	r.want("told", r.tell(), "bob:0 nobody off")
	r.join("cat", 0)
	r.film("cat", false, 1)
	r.film("cat", true, 1)
	r.film("cat", false, 1)
	r.want("told", r.tell(), "ann:0 cat, bob:0 cat")
	next, s := numbers(t, r.take("bob"))
	r.want("packets", fmt.Sprint(s), "[+1 +3750 +1 end]")
	if d := next.SequenceNumber - first.SequenceNumber; d != 5 {
		t.Errorf("sequence number %d behind the first", d)
	}
	a, _ := vp8wire.Read(first.Payload)
	if d, _ := vp8wire.Read(next.Payload); (d.Picture-a.Picture)&0x7fff != 2 || d.Base-a.Base != 2 {
		t.Errorf("picture %d after %d, base %d after %d", d.Picture, a.Picture+1, d.Base, a.Base+1)
	}
	if d := next.Timestamp - first.Timestamp; d < 180_000 || d > 190_000 {
		t.Errorf("%d ticks passed in 2.03 s", d)
	}
}

func TestMissingIsAskedFor(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 0)
	r.join("bob", 1)
	r.film("ann", true, 1)
	r.advance(20 * ms)
	f := r.all["ann"].frame(false, 20)
	r.video("ann", slices.Concat(f[:1], f[3:4], f[19:])...)
	r.want("asked", fmt.Sprint(r.advance(20*ms)), "[ann [502 503 505 506 507 508 509 510 511 512 513 514 515 516 517 518] ann [519]]")
	r.video("ann", f[1:3]...)
	r.video("ann", f[5:19]...)
	r.want("asked", fmt.Sprint(r.advance(80*ms)), "[ann [505]]")
	asked := r.advance(400 * ms)
	if len(asked) != askTimes-1 || asked[len(asked)-1] != "ann key" {
		t.Errorf("asked %v: what does not come takes a key frame", asked)
	}
	// So much is missing that asking for it is of no use.
	r.film("ann", true, 1)
	r.advance(keyEvery)
	f = r.all["ann"].frame(false, maxMissing+3)
	r.video("ann", f[0], f[maxMissing+2])
	r.want("asked", fmt.Sprint(r.advance(100*ms)), "[ann key]")
}

func TestKeyFramesAreRare(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 0)
	for i := range 20 {
		r.join(fmt.Sprint(i), 1)
	}
	r.film("ann", true, 1)
	n := 0
	for range 100 { // 2 s in which everybody asks all the time
		for i := range 20 {
			v := r.all[fmt.Sprint(i)]
			r.feedback(fmt.Sprint(i), pli(v))
			r.feedback(fmt.Sprint(i), &rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: v.views[0].ssrc}}})
		}
		n += len(r.advance(20 * ms))
		r.film("ann", false, 1)
	}
	if n != 4 {
		t.Errorf("%d key frames were asked for in 2 s", n)
	}
}

func TestResend(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 0)
	r.join("bob", 1)
	r.film("ann", true, 3)
	r.film("ann", false, 3)
	sent := r.take("bob")
	ask := func(p *rtp.Packet, mask rtcp.PacketBitmap) []*rtp.Packet {
		r.feedback("bob", &rtcp.TransportLayerNack{MediaSSRC: p.SSRC, Nacks: []rtcp.NackPair{{PacketID: p.SequenceNumber, LostPackets: mask}}})
		return r.take("bob")
	}
	got := ask(sent[1], 0b1010)
	if len(got) != 3 {
		t.Fatalf("%d packets again", len(got))
	}
	for i, at := range []int{1, 3, 5} {
		a, _ := got[i].Marshal()
		if b, _ := sent[at].Marshal(); !bytes.Equal(a, b) {
			t.Errorf("packet %d came otherwise", at)
		}
	}
	if got := ask(sent[1], 0b1010); len(got) != 3 {
		t.Errorf("%d packets the second time", len(got))
	}
	for range keptPackets / 4 {
		r.film("ann", false, 4)
	}
	r.take("bob")
	if got := ask(sent[1], 0); len(got) != 0 {
		t.Errorf("a packet that was forgotten came again")
	}
	later := &rtp.Packet{Header: rtp.Header{SSRC: sent[0].SSRC, SequenceNumber: sent[0].SequenceNumber + 1000}}
	if got := ask(later, 0xffff); len(got) != 0 {
		t.Errorf("%d packets that were never sent", len(got))
	}
	last := sent[0].SequenceNumber + 6 + keptPackets - 1
	n := 0
	for range 30 {
		n += len(ask(&rtp.Packet{Header: rtp.Header{SSRC: sent[0].SSRC, SequenceNumber: last - 16}}, 0xffff))
	}
	if n+6 != resendsPerSecond {
		t.Errorf("%d packets again in a second", n+6)
	}
}

func TestPaddingKeepsTheNumbers(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 0)
	r.join("bob", 1)
	r.film("ann", true, 1)
	r.video("ann", packet{r.all["ann"].index, r.all["ann"].ts, false, nil})
	r.all["ann"].index++
	r.film("ann", false, 1)
	got := r.take("bob")
	if len(got) != 3 || got[1].SequenceNumber != got[0].SequenceNumber+1 || len(got[1].Payload) != 0 || got[1].PaddingSize != 1 {
		t.Errorf("got %v", got)
	}
}

func TestViewsRunOut(t *testing.T) {
	r := newRig(t, false)
	r.join("eve", 2)
	for _, name := range []string{"ann", "bob", "cat"} {
		r.join(name, 0)
		r.film(name, true, 1)
	}
	r.want("told", r.tell(), "eve:0 ann, eve:1 bob")
	r.call.Leave(r.now, r.all["ann"].Member)
	r.want("told", r.tell(), "eve:0 nobody off, eve:0 cat")
	for i := range sfu.MaxCameras + 3 {
		name := fmt.Sprint(i)
		r.join(name, 0)
		r.film(name, true, 1)
	}
	if n := r.call.Cameras(); n != sfu.MaxCameras || r.drops[sfu.DropNotOnStage] != 5 {
		t.Errorf("%d cameras, %d packets of others", n, r.drops[sfu.DropNotOnStage])
	}
}

func TestRightsAndEcho(t *testing.T) {
	r := newRig(t, false)
	ann := r.join("ann", 0)
	r.join("bob", 1)
	r.film("ann", true, 1)
	r.tell()
	r.call.SetRights(r.now, ann.Member, sfu.Rights{Speak: true})
	r.film("ann", true, 1)
	r.want("told", r.tell(), "bob:0 nobody off")
	if len(r.take("bob")) != 1 || r.drops[sfu.DropMuted] != 1 {
		t.Error("video of who may not send it is forwarded")
	}
	r.call.SetRights(r.now, ann.Member, sfu.Rights{Video: true})
	r.film("ann", true, 1)
	r.want("told", r.tell(), "bob:0 ann")

	e := newRig(t, true)
	e.join("ann", 1)
	e.join("bob", 1)
	e.film("ann", true, 1)
	e.want("told", e.tell(), "ann:0 ann")
}

func TestShedAndStrain(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 0)
	bob := r.join("bob", 1)
	r.film("ann", true, 1)
	r.take("bob")
	r.tell()
	r.call.Shed(r.now, true)
	r.want("told", r.tell(), "bob:0 nobody busy")
	r.join("cat", 2)
	r.want("told", r.tell(), "cat:0 nobody busy")
	r.call.Leave(r.now, r.all["cat"].Member)
	r.film("ann", true, 1)
	if len(r.take("bob")) != 0 || r.drops[sfu.DropShed] != 1 || len(r.advance(time.Second)) != 0 {
		t.Error("video is forwarded or asked for while it is shed")
	}
	r.call.Shed(r.now, false)
	r.film("ann", true, 1)
	r.want("told", r.tell(), "bob:0 ann")

	// There is nobody to be seen when it is over: that is told, too.
	r.call.Leave(r.now, r.all["ann"].Member)
	r.call.Shed(r.now, true)
	r.call.Shed(r.now, true)
	r.call.Shed(r.now, false)
	r.call.Shed(r.now, false)
	r.want("told", r.tell(), "bob:0 nobody off, bob:0 nobody busy, bob:0 nobody")
	r.call.Join(r.now, r.all["ann"].Member, sfu.Rights{Video: true}, r.path(1))
	r.film("ann", true, 1)
	r.want("told", r.tell(), "bob:0 ann")

	// Bob loses a tenth and more.
	report := func(lost uint8) {
		r.feedback("bob", &rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: bob.views[0].ssrc, FractionLost: lost}}})
		r.film("ann", true, 1)
		r.advance(time.Second)
		r.film("ann", true, 1)
	}
	lose := func() {
		for range strainedReports {
			report(strained)
		}
	}
	report(strained)
	report(strained)
	report(strained - 1)
	report(strained)
	report(0)
	r.want("told", r.tell(), "")
	lose()
	r.want("told", r.tell(), "bob:0 nobody loss")
	paused := func() time.Duration {
		from := r.now
		for r.told == nil {
			r.film("ann", true, 1)
			r.advance(time.Second)
		}
		r.want("told", r.tell(), "bob:0 ann")
		return (r.now - from).Round(time.Second)
	}
	for _, want := range []time.Duration{pause - time.Second, 2*pause - time.Second, 4*pause - time.Second} {
		if got := paused(); got < want || got > want+2*time.Second {
			t.Errorf("a pause of %v, want %v", got, want)
		}
		lose()
		r.tell()
	}
	paused()
	for range int(wellAfter/time.Second) + 1 {
		report(0)
	}
	lose()
	r.tell()
	if got := paused(); got > pause {
		t.Errorf("a pause of %v after it went well", got)
	}
	if lose(); r.call.paused != 1 {
		t.Errorf("%d members are paused", r.call.paused)
	}
	if r.call.Leave(r.now, bob.Member); r.call.paused != 0 {
		t.Errorf("%d members are paused, and nobody is there", r.call.paused)
	}
}

func TestUnprovenAddressGetsNone(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 0)
	bob := r.join("bob", 1)
	r.call.Limit(bob.Member)
	r.film("ann", true, 1)
	if len(r.take("bob")) != 0 {
		t.Error("video goes to an address that has not shown to receive")
	}
	r.call.Redirect(bob.Member, r.path(bob.number))
	r.film("ann", false, 1)
	r.want("asked", fmt.Sprint(r.advance(20*ms)), "[ann key]")
	r.film("ann", true, 1)
	if len(r.take("bob")) != 1 {
		t.Error("no video afterwards")
	}
}

// TestReports: of each view what was sent, and of the camera what came.
func TestReports(t *testing.T) {
	r := newRig(t, false)
	ann := r.join("ann", 0)
	bob := r.join("bob", 1)
	if b := r.call.AppendReport(r.now, bob.Member, nil); len(b) != 0 {
		t.Errorf("a report of nothing: %x", b)
	}
	r.film("ann", true, 2)
	f := ann.frame(false, 2)
	r.video("ann", f[1])
	r.now += 100 * ms
	list, err := rtcp.Unmarshal(r.call.AppendReport(r.now, bob.Member, nil))
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	got := r.take("bob")
	if sr := list[0].(*rtcp.SenderReport); sr.SSRC != bob.views[0].ssrc || sr.PacketCount != 3 || sr.RTPTime != got[2].Timestamp+9000 {
		t.Errorf("%+v", sr)
	}
	list, err = rtcp.Unmarshal(r.call.AppendReport(r.now, ann.Member, nil))
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if b := list[0].(*rtcp.ReceiverReport).Reports[0]; b.SSRC != uint32(ann.Media.CameraSSRC) || b.TotalLost != 1 || b.LastSequenceNumber != uint32(f[1].index) {
		t.Errorf("%+v", b)
	}
}

// TestIndicesAreUsedOnce: whatever is lost, late, asked for again, or comes and goes, no
// index seals two packets, and what one sees has each number once or the same again.
func TestIndicesAreUsedOnce(t *testing.T) {
	for seed := range uint64(30) {
		lots := rand.New(rand.NewPCG(seed, 1))
		r := newRig(t, false)
		names := []string{"ann", "bob", "cat", "dan", "eve"}
		for _, name := range names {
			r.join(name, 1+lots.IntN(3))
		}
		late := make(map[string][]packet)
		seen := make(map[uint32]map[uint16][]byte)
		for range 400 {
			name := names[lots.IntN(len(names))]
			switch lots.IntN(12) {
			case 0:
				r.advance(time.Duration(lots.IntN(int(3 * time.Second))))
			case 1:
				r.call.Redirect(r.all[name].Member, r.path(r.all[name].number))
			case 2:
				r.call.Shed(r.now, lots.IntN(3) == 0)
			case 3:
				r.call.SetRights(r.now, r.all[name].Member, sfu.Rights{Video: lots.IntN(3) > 0})
			case 4:
				r.video(name, late[name]...)
				late[name] = nil
			case 5:
				f := r.all[name]
				for i := range f.views {
					v := &f.views[i]
					r.feedback(name, &rtcp.TransportLayerNack{MediaSSRC: v.ssrc, Nacks: []rtcp.NackPair{{PacketID: uint16(v.index) - uint16(lots.IntN(200)), LostPackets: rtcp.PacketBitmap(lots.Uint32())}}})
				}
			default:
				for _, p := range r.all[name].frame(lots.IntN(5) == 0, 1+lots.IntN(4)) {
					switch lots.IntN(10) {
					case 0:
					case 1:
						late[name] = append(late[name], p)
					default:
						r.video(name, p)
					}
				}
			}
			for _, who := range names {
				for _, p := range r.take(who) {
					if seen[p.SSRC] == nil {
						seen[p.SSRC] = make(map[uint16][]byte)
					}
					b, _ := p.Marshal()
					if was, ok := seen[p.SSRC][p.SequenceNumber]; ok && !bytes.Equal(was, b) {
						t.Fatalf("seed %d: %s got two packets of one number", seed, who)
					}
					seen[p.SSRC][p.SequenceNumber] = b
				}
			}
		}
		stands := 0
		for _, m := range r.call.stands {
			if m != nil {
				stands++
			}
		}
		if r.call.Cameras() != stands {
			t.Fatalf("seed %d: %d cameras on %d stands", seed, r.call.Cameras(), stands)
		}
		if len(seen) == 0 {
			t.Fatalf("seed %d: nobody saw anything", seed)
		}
	}
}

// TestIndexIsStoredBeforeItIsUsed, as that of voices.
func TestIndexIsStoredBeforeItIsUsed(t *testing.T) {
	r := newRig(t, false)
	r.join("ann", 0)
	streams := make(map[uint32]*uint64)
	for i := range 30 {
		f := r.join(fmt.Sprint(i), 1)
		streams[uint32(f.Media.Views[0].SSRC)] = &f.Indices[0]
	}
	full := 0
	r.out = egress.NewBatch(func(b *egress.Batch) {
		if b.Len() > 30 {
			full++
		}
		for i := range b.Len() {
			d, _ := b.At(i)
			h, _ := rtpwire.Parse(d, 0)
			if next := streams[h.SSRC]; int16(uint16(*next)-h.Sequence) < 1 {
				t.Fatalf("number %d of %d leaves while the next is %d", h.Sequence, h.SSRC, *next)
			}
		}
	})
	f := r.all["ann"]
	for n := range 20 {
		for _, p := range f.frame(n == 0, 8) {
			h := rtpwire.Header{Sequence: uint16(p.index), Timestamp: p.ts, Marker: p.marker}
			r.call.Video(r.now, f.Member, &h, p.index, p.payload, r.out)
		}
	}
	if full == 0 {
		t.Error("no batch was full")
	}
}

func TestVideoDoesNotAllocate(t *testing.T) {
	r := newRig(t, false)
	r.out = egress.NewBatch(func(*egress.Batch) {})
	r.join("ann", 0)
	for i := range 10 {
		f := r.join(fmt.Sprint(i), 3)
		f.Sealer = plain{}
	}
	f := r.all["ann"]
	list := f.frame(true, 4)
	h := rtpwire.Header{}
	cycle := func() {
		r.now += 40 * ms
		for i, p := range list {
			f.index++
			if i == 2 {
				continue // lost
			}
			h.Timestamp = uint32(f.index) * 900
			r.call.Video(r.now, f.Member, &h, f.index, p.payload, r.out)
		}
		r.call.Tick(r.now, r.out)
		for range r.call.Asking(r.now) {
			f.camera.ask(r.now, make([]uint16, 0, maxMissing))
		}
		r.out.Flush()
	}
	cycle()
	if got := testing.AllocsPerRun(100, cycle); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if r.count.PacketsOut < 1000 {
		t.Errorf("%d packets", r.count.PacketsOut)
	}
}

// FuzzFeedback: no RTCP does harm.
func FuzzFeedback(f *testing.F) {
	for _, p := range []rtcp.Packet{
		&rtcp.PictureLossIndication{MediaSSRC: 2000}, &rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: 2000}}},
		&rtcp.TransportLayerNack{MediaSSRC: 2000, Nacks: []rtcp.NackPair{{PacketID: 65500, LostPackets: 0xffff}}},
		&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: 2000, FractionLost: 255}}},
	} {
		b, _ := p.Marshal()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, compound []byte) {
		r := newRig(t, false)
		r.join("ann", 0)
		r.join("bob", 1)
		r.film("ann", true, 3)
		r.call.Feedback(r.now, r.all["bob"].Member, compound, r.out)
		r.out.Flush()
		if n := len(r.take("bob")); n > 3+resendsPerSecond {
			t.Errorf("%d packets for %d bytes", n, len(compound))
		}
		r.advance(time.Second)
	})
}

// BenchmarkVideo is the user-space part of forwarding one packet of video, keeping it for
// who misses it included. ns/packet is per packet sent.
func BenchmarkVideo(b *testing.B) {
	for _, viewers := range []int{1, 9, 24} {
		b.Run(fmt.Sprint(viewers), func(b *testing.B) {
			r := newRig(b, false)
			r.out = egress.NewBatch(func(*egress.Batch) {})
			r.join("ann", 0)
			for i := range viewers {
				f := r.join(fmt.Sprint(i), 9)
				keying := make([]byte, crypt.AEADAES128GCM.KeyingLen())
				_, server, err := crypt.Split(crypt.AEADAES128GCM, keying)
				if err != nil {
					b.Fatal(err)
				}
				if f.Sealer, err = crypt.NewSealer(crypt.AEADAES128GCM, server); err != nil {
					b.Fatal(err)
				}
			}
			f := r.all["ann"]
			p := f.frame(true, 1)[0]
			p.payload = append(p.payload, make([]byte, 1100)...)
			h := rtpwire.Header{}
			b.ReportAllocs()
			for b.Loop() {
				f.index++
				h.Timestamp += 900
				r.call.Video(r.now, f.Member, &h, f.index, p.payload, r.out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(r.count.PacketsOut), "ns/packet")
		})
	}
}
