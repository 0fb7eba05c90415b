package call

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtpwire"
)

// quiet takes no facts.
type quiet struct{}

func (quiet) Speaking(sfu.Speaking) {}
func (quiet) Placed(sfu.Placed)     {}

// forwarding is a call with real keys whose datagrams go nowhere.
func forwarding(t testing.TB, listeners, slots int, p crypt.Profile, nack bool) (*Call, []*Member, *egress.Batch, *Counters) {
	count := new(Counters)
	c := New(Config{ID: sfu.CallID{ID: 1}, Epoch: time.Unix(1_700_000_000, 0), Facts: quiet{}, Count: count})
	var members []*Member
	for i := range listeners {
		material := make([]byte, p.KeyingLen())
		rand.Read(material)
		_, server, err := crypt.Split(p, material)
		if err != nil {
			t.Fatal(err)
		}
		sealer, err := crypt.NewSealer(p, server)
		if err != nil {
			t.Fatal(err)
		}
		media := &sfu.Media{OpusPT: 111, LevelExt: 1, NACK: nack}
		for k := range slots {
			media.Slots = append(media.Slots, sfu.Slot{SSRC: sfu.SSRC(1000*i + k + 1)})
		}
		m := &Member{
			Session: sfu.SessionID(fmt.Sprint(i)), User: sfu.UserID{ID: snowflake.ID(i + 1)}, SSRC: sfu.SSRC(i + 1),
			Media: media, Sealer: sealer, Indices: make([]uint64, slots),
		}
		c.Join(0, m, sfu.Rights{Speak: true}, false, nil, egress.Path{Len: 28})
		members = append(members, m)
	}
	return c, members, egress.NewBatch(func(*egress.Batch) {}), count
}

// speak sends the n-th packet of the first so many members.
func speak(c *Call, members []*Member, talkers, n int, level uint8, payload []byte, out *egress.Batch) {
	now := time.Duration(n) * 20 * time.Millisecond
	for _, m := range members[:talkers] {
		h := rtpwire.Header{Sequence: uint16(n), Timestamp: uint32(960 * n), Level: level}
		c.Voice(now, m, &h, uint64(n), payload, out)
	}
}

// TestForwardDoesNotAllocate holds for speech, silence and its ends.
func TestForwardDoesNotAllocate(t *testing.T) {
	for _, p := range []crypt.Profile{crypt.AEADAES128GCM, crypt.AES128CMHMACSHA1_80} {
		c, members, out, _ := forwarding(t, 10, 16, p, true)
		payload := make([]byte, 120)
		n := 0
		cycle := func() {
			for range 5 {
				n++
				speak(c, members, 10, n, rtpwire.Voice|30, payload, out)
				c.Tick(time.Duration(n)*20*time.Millisecond, out)
			}
			for range 10 {
				n++
				speak(c, members, 10, n, 127, payload, out)
				c.Tick(time.Duration(n)*20*time.Millisecond, out)
			}
		}
		cycle()
		if got := testing.AllocsPerRun(20, cycle); got != 0 {
			t.Errorf("%v: %v allocations", p, got)
		}
	}
}

// TestIndexIsStoredBeforeItIsUsed: an engine may be killed as soon as a packet has left,
// and the next one must not use its index again.
func TestIndexIsStoredBeforeItIsUsed(t *testing.T) {
	c, members, _, count := forwarding(t, 30, 16, crypt.AEADAES128GCM, true)
	streams := make(map[uint32]*uint64)
	for _, m := range members {
		for k, s := range m.Media.Slots {
			streams[uint32(s.SSRC)] = &m.Indices[k]
		}
	}
	out := egress.NewBatch(func(b *egress.Batch) {
		for i := range b.Len() {
			d, _ := b.At(i)
			h, _ := rtpwire.Parse(d, 1)
			if next := streams[h.SSRC]; int16(uint16(*next)-h.Sequence) < 1 {
				t.Fatalf("number %d of %d leaves while the next is %d", h.Sequence, h.SSRC, *next)
			}
		}
	})
	for n := range 20 {
		speak(c, members, 10, n, rtpwire.Voice|30, make([]byte, 120), out)
	}
	if count.PacketsOut < 3*egress.Datagrams {
		t.Errorf("%d packets: no batch was full", count.PacketsOut)
	}
}

// BenchmarkForward is the user-space part of forwarding one packet: decide, write
// the header, seal. ns/packet is per packet sent.
func BenchmarkForward(b *testing.B) {
	for _, size := range []struct{ talkers, listeners int }{{10, 10}, {25, 25}, {3, 303}} {
		for _, p := range []crypt.Profile{crypt.AEADAES128GCM, crypt.AES128CMHMACSHA1_80} {
			b.Run(fmt.Sprintf("%dx%d/%v", size.talkers, size.listeners, p), func(b *testing.B) {
				c, members, out, count := forwarding(b, size.listeners, 32, p, false)
				payload := make([]byte, 120)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					n++
					speak(c, members, size.talkers, n, rtpwire.Voice|30, payload, out)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count.PacketsOut), "ns/packet")
			})
		}
	}
}
