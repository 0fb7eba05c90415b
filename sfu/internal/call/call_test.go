package call

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
)

var update = flag.Bool("update", false, "write what happens into testdata")

// plain is a Sealer that seals nothing, but watches that no index is used twice
// for different packets.
type plain struct {
	t    testing.TB
	used map[[2]uint64]string // by SSRC and index
}

func (c plain) SealRTP(dst, header, payload []byte, index uint64) []byte {
	packet := string(header) + string(payload)
	if uint16(index) != binary.BigEndian.Uint16(header[2:]) {
		c.t.Errorf("index %d, sequence number %d", index, binary.BigEndian.Uint16(header[2:]))
	}
	key := [2]uint64{uint64(binary.BigEndian.Uint32(header[8:])), index}
	if c.used != nil {
		if before, ok := c.used[key]; ok && before != packet {
			c.t.Errorf("index %d used twice", index)
		}
		c.used[key] = packet
	}
	return append(append(append(dst, header...), payload...), make([]byte, 16)...)
}
func (c plain) SealRTCP(dst, compound []byte, _ uint32) []byte { return append(dst, compound...) }
func (c plain) Overhead() int                                  { return 16 }

// rig is a call with named members and a record of what it does.
type rig struct {
	t         testing.TB
	call      *Call
	count     Counters
	now       time.Duration
	members   map[string]*Member
	order     []string
	seqs      map[string]uint64
	out       *egress.Batch
	bundle    *egress.Bundle
	lines     []string
	tally     map[string]int      // instead of lines, while a long run goes on
	relayed   [][]byte            // packets that went to the agent, for other nodes
	strangers map[sfu.SSRC]string // names of speakers of other nodes
}

// agentMark marks the path to the agent.
const agentMark = 0xff

func newRig(t testing.TB, cfg Config) *rig {
	r := &rig{t: t, members: map[string]*Member{}, seqs: map[string]uint64{}}
	cfg.ID, cfg.Facts, cfg.Count = sfu.CallID{ID: 7}, r, &r.count
	cfg.Epoch = time.Unix(1_700_000_000, 0)
	r.call = New(cfg)
	r.out = egress.NewBatch(func(b *egress.Batch) {
		for i := range b.Len() {
			d, to := b.At(i)
			r.datagram(d, to)
		}
	})
	r.bundle = egress.NewBundle()
	return r
}

// flush sends all there is, be it due or not.
func (r *rig) flush() {
	path := egress.Path{Len: 16}
	path.Sockaddr[1] = agentMark
	r.bundle.Lead(path, relaySecret, r.out)
	r.out.Flush()
}

func (r *rig) name(ssrc sfu.SSRC) string {
	for name, m := range r.members {
		if m.SSRC == ssrc {
			return name
		}
	}
	if name, ok := r.strangers[ssrc]; ok {
		return name
	}
	return fmt.Sprint("stranger ", ssrc)
}

func (r *rig) Speaking(s sfu.Speaking) {
	r.say("%s speaking %v", r.name(s.SSRC), s.Speaking)
}

func (r *rig) Placed(p sfu.Placed) {
	r.say("%s/%d is %s", p.Session, p.Slot, r.name(p.SSRC))
}

func (r *rig) say(format string, args ...any) {
	r.lines = append(r.lines, "  "+fmt.Sprintf(format, args...))
}

// datagram writes a packet as "listener/slot #sequence time speaker payload".
func (r *rig) datagram(d []byte, to *egress.Path) {
	if to.Sockaddr[1] == agentMark {
		_, list, ok := sfu.ReadRelayLocal(d, &relaySecret)
		if !ok {
			r.t.Fatalf("not for the agent: %x", d)
		}
		for len(list) > 0 {
			packet, rest, err := sfu.NextRelay(list)
			if err != nil {
				r.t.Fatalf("%v: %x", err, d)
			}
			r.relayed, list = append(r.relayed, slices.Clone(packet)), rest
		}
		return
	}
	listener := r.order[to.Sockaddr[0]]
	d = d[:len(d)-16]
	h, ok := rtpwire.Parse(d, 1)
	if !ok || d[0]&15 != 1 {
		r.t.Fatalf("not what we send: %x", d)
	}
	m := r.members[listener]
	slot := slices.IndexFunc(m.Media.Slots, func(s sfu.Slot) bool { return uint32(s.SSRC) == h.SSRC })
	if slot < 0 || h.PayloadType != m.Media.OpusPT {
		r.t.Fatalf("to %s under SSRC %d, type %d", listener, h.SSRC, h.PayloadType)
	}
	speaker := r.name(sfu.SSRC(binary.BigEndian.Uint32(d[12:])))
	if speaker == listener != r.call.cfg.Echo {
		r.t.Errorf("%s hears %s", listener, speaker)
	}
	if r.tally != nil {
		r.tally[fmt.Sprintf("%s/%d %s", listener, slot, speaker)]++
		return
	}
	ticks := int32(h.Timestamp - h.SSRC*0x9E3779B1 - r.call.ticks)
	text := fmt.Sprintf("%s/%d #%d %dms %s", listener, slot, h.Sequence, ticks/48, speaker)
	if h.Marker {
		text += " mark"
	}
	if h.Level != rtpwire.NoLevel {
		text += fmt.Sprintf(" -%d", h.Level&^rtpwire.Voice)
		if h.Level&rtpwire.Voice != 0 {
			text += "V"
		}
	}
	payload := string(d[h.Length:])
	if payload == string(rtpwire.Silence[:]) {
		payload = "silence"
	}
	r.say("%s %s", text, strings.TrimRight(payload, "."))
}

func (r *rig) join(name string, slots int, rights sfu.Rights, nack bool, levelExt uint8) *Member {
	n := len(r.order)
	r.order = append(r.order, name)
	media := &sfu.Media{MicSSRC: sfu.SSRC(9000 + n), OpusPT: uint8(96 + n%32), LevelExt: levelExt, NACK: nack}
	var indices []uint64
	for k := range slots {
		media.Slots = append(media.Slots, sfu.Slot{MID: strconv.Itoa(k + 1), SSRC: sfu.SSRC(100*(n+1) + k)})
		indices = append(indices, uint64(100*(k+1)))
	}
	m := &Member{
		Session: sfu.SessionID(name), User: sfu.UserID{ID: snowflake.ID(n + 1)}, SSRC: sfu.SSRC(5000 + n),
		Media: media, Sealer: plain{r.t, map[[2]uint64]string{}}, Indices: indices,
	}
	r.members[name] = m
	path := egress.Path{Len: 28}
	path.Sockaddr[0] = byte(n)
	r.call.Join(r.now, m, rights, false, nil, path)
	return m
}

// voice sends a packet of a member, behind by so much.
func (r *rig) voice(name string, payload string, level uint8, behind time.Duration) {
	m := r.members[name]
	r.seqs[name]++
	h := &rtpwire.Header{
		Sequence: uint16(r.seqs[name]), Level: level,
		Timestamp: uint32(1_000_000*(slices.Index(r.order, name)+1)) + uint32(ticks(r.now-behind)),
	}
	r.call.Voice(r.now, m, h, r.seqs[name], []byte(payload), r.out)
	r.flush()
}

// advance lets time pass, with ticks.
func (r *rig) advance(to time.Duration) {
	for next := r.now - r.now%TickEvery + TickEvery; next <= to; next += TickEvery {
		r.now = next
		r.call.Tick(next, r.out)
		r.flush()
	}
	r.now = to
}

// TestTranscripts plays testdata/*.txt. A line that begins with "> " is an order,
// what follows it indented is all that it brings about:
//
//	> join NAME [slots=N] [nack] [nolevel] [mute] [nospeak] [priority]
//	> leave NAME
//	> at MS                     let time pass until then
//	> say NAME LEVEL TEXT       a packet of voice; the level as in "30V" or "-"
//	> late NAME MS TEXT         one that should have come so much earlier
//	> dtx NAME                  a packet of discontinuous transmission
//	> talk NAMES LEVEL N        N packets of each, 20 ms apart, only counted
//	> mute|unmute|deaf|hear NAME, selfdeaf|selfhear NAME
//	> block LISTENER NAMES      per-listener mute; "-" for nobody
//	> nack NAME SLOT SEQ...     ask for packets again
//	> drops                     what was dropped so far
//
// The first line may be "> echo" or "> nogate". Lines without either are prose.
func TestTranscripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { playTranscript(t, file) })
	}
}

func playTranscript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Config{Echo: strings.Contains(string(text), "> echo"), NoGate: strings.Contains(string(text), "> nogate")})
	var got []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		got = append(got, line)
		if order, ok := strings.CutPrefix(line, "> "); ok {
			r.lines = nil
			r.obey(strings.Fields(order))
			got = append(got, r.lines...)
		}
	}
	out := strings.Join(got, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(string(text), "\n")
	for i, line := range strings.Split(out, "\n") {
		if i >= len(want) || want[i] != line {
			t.Fatalf("line %d: got %q, want %q", i+1, line, want[min(i, len(want)-1)])
		}
	}
	if len(strings.Split(out, "\n")) != len(want) {
		t.Fatalf("the transcript goes on: %q", want[len(strings.Split(out, "\n"))])
	}
}

func (r *rig) obey(w []string) {
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			r.t.Fatalf("%q: %v", w, err)
		}
		return n
	}
	ms := func(s string) time.Duration { return time.Duration(number(s)) * time.Millisecond }
	rights := func(change func(*sfu.Rights)) {
		m := r.members[w[1]]
		change(&m.rights)
		r.call.SetRights(m, m.rights)
	}
	switch w[0] {
	case "echo", "nogate":
	case "join":
		slots, nack, ext, rights := 2, false, uint8(1), sfu.Rights{Speak: true}
		for _, o := range w[2:] {
			switch {
			case strings.HasPrefix(o, "slots="):
				slots = number(o[6:])
			case o == "nack":
				nack = true
			case o == "nolevel":
				ext = 0
			case o == "mute":
				rights.Mute = true
			case o == "nospeak":
				rights.Speak = false
			case o == "priority":
				rights.Priority = true
			default:
				r.t.Fatalf("%q", w)
			}
		}
		r.join(w[1], slots, rights, nack, ext)
	case "leave":
		r.call.Leave(r.now, r.members[w[1]], r.out)
	case "at":
		r.advance(ms(w[1]))
	case "say":
		r.voice(w[1], dotted(w[3]), r.level(w[2]), 0)
	case "late":
		r.voice(w[1], dotted(w[3]), 30|rtpwire.Voice, ms(w[2]))
	case "dtx":
		r.voice(w[1], "x", rtpwire.NoLevel, 0)
	case "talk":
		r.tally = map[string]int{}
		for range number(w[3]) {
			for _, name := range strings.Split(w[1], ",") {
				r.voice(name, "voice.....", r.level(w[2]), 0)
			}
			r.advance(r.now + 20*time.Millisecond)
		}
		for key, n := range r.tally {
			r.say("%s: %d packets", key, n)
		}
		r.tally = nil
		slices.Sort(r.lines)
	case "mute":
		rights(func(x *sfu.Rights) { x.Mute = true })
	case "unmute":
		rights(func(x *sfu.Rights) { x.Mute = false })
	case "deaf":
		rights(func(x *sfu.Rights) { x.Deaf = true })
	case "hear":
		rights(func(x *sfu.Rights) { x.Deaf = false })
	case "selfdeaf", "selfhear":
		r.call.SetSelfDeaf(r.members[w[1]], w[0] == "selfdeaf")
	case "block":
		var users []sfu.UserID
		for _, name := range w[2:] {
			if name != "-" {
				users = append(users, r.members[name].User)
			}
		}
		r.call.SetMuted(r.now, r.members[w[1]], users)
	case "nack":
		m := r.members[w[1]]
		for _, seq := range w[3:] {
			b := []byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
			binary.BigEndian.PutUint32(b[8:], uint32(m.Media.Slots[number(w[2])].SSRC))
			binary.BigEndian.PutUint16(b[12:], uint16(number(seq)))
			r.call.Feedback(r.now, m, b, r.out)
		}
	case "drops":
		for why, n := range r.count.Drops {
			if n > 0 {
				r.say("%v %d", sfu.DropReason(why), n)
			}
		}
	default:
		r.t.Fatalf("%q", w)
	}
	r.flush()
}

func (r *rig) level(s string) uint8 {
	if s == "-" {
		return rtpwire.NoLevel
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, "V"))
	if err != nil {
		r.t.Fatalf("level %q", s)
	}
	if strings.HasSuffix(s, "V") {
		n |= rtpwire.Voice
	}
	return uint8(n)
}

var _ crypt.Sealer = plain{}

// dotted is a text as a payload too long for discontinuous transmission.
func dotted(s string) string { return s + strings.Repeat(".", max(0, 10-len(s))) }
