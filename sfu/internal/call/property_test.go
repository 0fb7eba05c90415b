package call

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
	"voicefleet/sfu/internal/stage"
)

// TestProperties lets random members of a crowded call do random things, and
// holds every packet that goes out against what a listener may rely on: numbers
// rise by one per slot, times rise, nobody hears itself, no packet comes twice,
// and the speaker is the one told last for the slot.
func TestProperties(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { properties(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

type watched struct {
	seq uint16
	ts  uint32
}

func properties(t *testing.T, rnd *rand.Rand) {
	r := newRig(t, Config{NoGate: rnd.IntN(4) == 0})
	slots := map[uint32]watched{} // by SSRC
	seen := map[string]bool{}     // listener and payload
	sent := 0
	placed := placements{who: map[string]sfu.SSRC{}, flush: func() { r.out.Flush() }}
	r.call.cfg.Facts = placed
	r.out = egress.NewBatch(func(b *egress.Batch) {
		for i := range b.Len() {
			d, to := b.At(i)
			d = d[:len(d)-16]
			h, _ := rtpwire.Parse(d, 1)
			listener := int(binary.LittleEndian.Uint16(to.Sockaddr[:]))
			speaker := sfu.SSRC(binary.BigEndian.Uint32(d[12:]))
			name := r.order[listener]
			m := r.members[name]
			slot := int(h.SSRC) - 100*(listener+1)
			if slot < 0 || slot >= len(m.Media.Slots) {
				t.Fatalf("listener %d under SSRC %d", listener, h.SSRC)
			}
			if speaker == m.SSRC {
				t.Fatalf("%s hears itself", name)
			}
			if got := placed.who[fmt.Sprint(name, slot)]; got != speaker {
				t.Fatalf("%s was told %d in slot %d, gets %d", name, got, slot, speaker)
			}
			if last, ok := slots[h.SSRC]; ok {
				if h.Sequence != last.seq+1 {
					t.Fatalf("%s slot %d: %d after %d", name, slot, h.Sequence, last.seq)
				}
				if int32(h.Timestamp-last.ts) <= 0 {
					t.Fatalf("%s slot %d: time %d after %d", name, slot, h.Timestamp, last.ts)
				}
			} else if h.Sequence >= 1<<15 {
				t.Fatalf("first sequence number %d", h.Sequence)
			}
			slots[h.SSRC] = watched{seq: h.Sequence, ts: h.Timestamp}
			if p := string(d[h.Length:]); p != string(rtpwire.Silence[:]) && p != "x" {
				if key := name + p; seen[key] {
					t.Fatalf("%s got %s twice", name, p)
				} else {
					seen[key] = true
				}
			}
			sent++
		}
	})
	for i := range 45 {
		r.join(fmt.Sprintf("m%d", i), 1+rnd.IntN(6), sfu.Rights{Speak: true, Priority: i == 3}, i%3 == 0, 1)
		l := &r.call.listeners[i]
		binary.LittleEndian.PutUint16(l.path.Sockaddr[:], uint16(i))
	}
	alive, said := slices.Clone(r.order), map[string]time.Duration{}
	for step := range 6000 {
		name := alive[rnd.IntN(len(alive))]
		m := r.members[name]
		if said[name] == r.now { // one packet at a time
			r.advance(r.now + time.Millisecond)
		}
		said[name] = r.now
		switch n := rnd.IntN(1000); {
		case n < 900:
			level := uint8(rnd.IntN(256))
			if rnd.IntN(3) > 0 {
				level = rtpwire.Voice | uint8(20+rnd.IntN(30))
			}
			r.voice(name, fmt.Sprintf("%s says %d", name, step), level, 0)
		case n < 940:
			r.voice(name, "x", rtpwire.NoLevel, 0)
		case n < 960:
			m.rights.Mute, m.rights.Deaf = rnd.IntN(2) == 0, rnd.IntN(4) == 0
			r.call.SetRights(m, m.rights)
		case n < 980:
			var block []sfu.UserID
			for range rnd.IntN(4) {
				block = append(block, r.members[alive[rnd.IntN(len(alive))]].User)
			}
			r.call.SetMuted(r.now, m, block)
		case n == 980 && len(alive) > 20:
			r.call.Leave(r.now, m, r.out)
			alive = slices.DeleteFunc(alive, func(s string) bool { return s == name })
		default:
			r.advance(r.now + time.Duration(rnd.IntN(30))*time.Millisecond)
		}
		r.out.Flush()
		if rnd.IntN(3) == 0 {
			r.advance(r.now + time.Millisecond)
		}
	}
	if on := r.call.Speakers(); on > stage.Positions || sent < 10_000 {
		t.Errorf("%d on stage, %d packets sent", on, sent)
	}
	for name := range r.members {
		if slices.Contains(alive, name) {
			r.call.Leave(r.now, r.members[name], r.out)
		}
	}
	r.out.Flush()
	if r.call.Members() != 0 || len(r.call.listeners) != 0 || len(r.call.awake) != 0 || r.call.nackers != 0 {
		t.Error("something is left of a call that all have left")
	}
}

// placements is who is in which slot, by listener and slot. What was sealed
// before is flushed first, to be held against what was told by then.
type placements struct {
	who   map[string]sfu.SSRC
	flush func()
}

func (p placements) Speaking(sfu.Speaking) {}
func (p placements) Placed(f sfu.Placed) {
	p.flush()
	p.who[fmt.Sprint(f.Session, f.Slot)] = f.SSRC
}

// TestCrowd holds the arithmetic of a crowd that talks without pause, as a load
// tester computes it: 33 are on stage; who is on it hears the 32 others, who is
// not hears as many of them as it has slots.
func TestCrowd(t *testing.T) {
	for _, c := range []struct{ talkers, listeners, slots, perRound int }{
		{10, 10, 32, 10 * 9},
		{25, 25, 32, 25 * 24},
		{3, 303, 32, 3 * 302},
		{33, 33, 32, 33 * 32},
		{40, 40, 32, 40 * 32},
		{40, 50, 16, 50 * 16},
		{5, 8, 2, 8 * 2},
	} {
		call, members, out, count := forwarding(t, c.listeners, c.slots, crypt.AEADAES128GCM, false)
		round := 0
		run := func(rounds int) uint64 {
			before := count.PacketsOut
			for range rounds {
				round++
				speak(call, members, c.talkers, round, rtpwire.Voice|30, make([]byte, 50), out)
				call.Tick(time.Duration(round)*20*time.Millisecond, out)
			}
			return count.PacketsOut - before
		}
		run(1)
		if got := run(100); got != uint64(100*c.perRound) {
			t.Errorf("%d talkers, %d listeners of %d slots: %d packets in 100 rounds, want %d",
				c.talkers, c.listeners, c.slots, got, 100*c.perRound)
		}
	}
}
