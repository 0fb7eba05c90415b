package call

import (
	"encoding/binary"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/ear"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtcpwire"
	"voicefleet/sfu/internal/rtpwire"
)

const stampExt = 5

// hearing is a call of one speaker and one listener with one slot, whose packets
// are kept unsealed.
type hearing struct {
	call            *Call
	speaker, member *Member
	out             *egress.Batch
	count           Counters
	n               int // of the last packet
	sent            [][]byte
}

func newHearing(t *testing.T) *hearing {
	h := &hearing{}
	h.out = egress.NewBatch(func(b *egress.Batch) {
		for i := range b.Len() {
			d, _ := b.At(i)
			h.sent = append(h.sent, append([]byte(nil), d[:len(d)-16]...))
		}
	})
	h.call = New(Config{ID: sfu.CallID{ID: 1}, Epoch: time.Unix(1_700_000_000, 0), Facts: quiet{}, Count: &h.count})
	used := plain{t, make(map[[2]uint64]string)}
	join := func(id uint64, slots ...sfu.Slot) *Member {
		m := &Member{Session: sfu.SessionID(rune('a' + id)), User: sfu.UserID{ID: snowflake.ID(id)}, SSRC: sfu.SSRC(id),
			Media: &sfu.Media{OpusPT: 111, LevelExt: 1, NACK: true, TransportCC: stampExt, Slots: slots}, Sealer: used, Indices: make([]uint64, len(slots))}
		for i := range m.Indices {
			m.Indices[i] = 5000
		}
		h.call.Join(0, m, sfu.Rights{Speak: true}, false, nil, egress.Path{Len: 28})
		return m
	}
	h.speaker, h.member = join(1), join(2, sfu.Slot{MID: "1", SSRC: 77})
	return h
}

func (h *hearing) now() time.Duration { return time.Duration(h.n) * 20 * time.Millisecond }

// speak sends so many packets of 20 ms and looks at the listener every second; it
// returns the verdicts.
func (h *hearing) speak(packets int) (verdicts []ear.Verdict) {
	for range packets {
		h.n++
		rtp := rtpwire.Header{Sequence: uint16(h.n), Timestamp: uint32(960 * h.n), Level: rtpwire.Voice | 30}
		h.call.Voice(h.now(), h.speaker, &rtp, uint64(h.n), []byte{1, 2, 3, 4}, h.out)
		h.call.Tick(h.now(), h.out)
		if h.n%50 == 0 {
			if v := h.call.Listen(h.now(), h.member, h.now()); v != ear.Same {
				verdicts = append(verdicts, v)
			}
		}
	}
	h.out.Flush()
	return verdicts
}

func (h *hearing) feedback(compound []byte) {
	h.call.Feedback(h.now(), h.member, compound, h.out)
	h.out.Flush()
}

// stamps of all that was sent, in order.
func (h *hearing) stamps() (list []uint16) {
	for _, d := range h.sent {
		if d[19] == 2 {
			list = append(list, binary.BigEndian.Uint16(d[23:]))
		}
	}
	return list
}

// transportCC is feedback that the packets from base on came.
func transportCC(base, count uint16) []byte {
	b := []byte{0x80 | 15, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2}
	b = binary.BigEndian.AppendUint16(b, base)
	b = binary.BigEndian.AppendUint16(b, count)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, 1<<13|count)
	return append(b, 0, 0)
}

// TestStamps: some packets ask for feedback, all of them when it does not come,
// and without it the listener is deaf within 3 s, once it was known to work.
func TestStamps(t *testing.T) {
	h := newHearing(t)
	answered := 0
	for range 20 {
		if v := h.speak(25); len(v) != 0 {
			t.Fatalf("verdicts %v", v)
		}
		all := h.stamps()
		h.feedback(transportCC(uint16(answered), uint16(len(all)-answered)))
		answered = len(all)
	}
	if answered != 25 { // 10 s, one in 400 ms
		t.Errorf("%d of %d packets ask for feedback", answered, len(h.sent))
	}
	for i, stamp := range h.stamps() {
		if stamp != uint16(i) {
			t.Fatalf("stamp %d is %d", i, stamp)
		}
	}
	// None of these is evidence.
	for name, b := range map[string][]byte{
		"feedback on what was never sent": transportCC(uint16(answered)+5, 3),
		"the same feedback again":         transportCC(uint16(answered)-3, 3),
		"feedback that nothing came":      {0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, byte(answered), 0, 3, 0, 0, 0, 0, 0, 3, 0, 0},
		"a report about another stream":   rtcpwire.AppendReceiverReport(nil, 9, &rtcpwire.Block{SSRC: 78, Highest: 5400}),
		"a report from the future":        rtcpwire.AppendReceiverReport(nil, 9, &rtcpwire.Block{SSRC: 77, Highest: 9000}),
		"a report of nothing":             rtcpwire.AppendReceiverReport(nil, 9, &rtcpwire.Block{SSRC: 77}),
		"a request for another stream":    {0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 78, 0x14, 0, 0, 0},
		"a request for what was not sent": {0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 77, 0x24, 0, 0, 0},
	} {
		h.speak(25)
		h.feedback(b)
		if by, _ := h.member.Ear().By(); by != ear.Feedback {
			t.Errorf("%s is taken as %v", name, by)
		}
		h.feedback(transportCC(uint16(answered), uint16(len(h.stamps())-answered)))
		answered = len(h.stamps())
	}
	if v := h.speak(200); len(v) != 1 || v[0] != ear.Deaf {
		t.Fatalf("verdicts %v without feedback for 4 s", v)
	}
	if asked := len(h.stamps()) - answered; asked < 100 {
		t.Errorf("%d packets ask for feedback that does not come", asked)
	}
	h.feedback(transportCC(uint16(answered), uint16(len(h.stamps())-answered)))
	if v := h.speak(50); len(v) != 1 || v[0] != ear.Hears {
		t.Fatalf("verdicts %v with feedback again", v)
	}
}

// TestReportsTellLoss: what listeners report is added up, and the highest of it
// is evidence.
func TestReportsTellLoss(t *testing.T) {
	h := newHearing(t)
	h.speak(50)
	report := func(highest uint32, lost int32) {
		h.feedback(rtcpwire.AppendReceiverReport(nil, 9, &rtcpwire.Block{SSRC: 77, Highest: highest, Lost: lost}))
	}
	report(5049, 1) // from here on
	h.speak(250)
	report(5299, 26)
	if by, ok := h.member.Ear().By(); !ok || by != ear.Report {
		t.Errorf("evidence by %v, %v", by, ok)
	}
	if f, ok := h.member.Ear().Down.Fraction(h.now()); !ok || f < 0.099 || f > 0.101 {
		t.Errorf("loss of %v, %v", f, ok)
	}
	if h.count.ReportedExpected != 250 || h.count.ReportedLost != 25 {
		t.Errorf("%d of %d", h.count.ReportedLost, h.count.ReportedExpected)
	}
	h.speak(250)
	report(5299, 26)
	if v := h.speak(550); len(v) != 1 || v[0] != ear.Deaf {
		t.Errorf("verdicts %v 16 s after the last progress", v)
	}
}

// TestResentStampIsTheSame: a packet sent again has the bytes it had, its stamp
// included; plain checks that.
func TestResentStampIsTheSame(t *testing.T) {
	h := newHearing(t)
	for round := range 20 {
		h.speak(7)
		before := len(h.sent)
		for i := range 7 {
			seq := uint16(5000 + 7*round + i)
			h.feedback(binary.BigEndian.AppendUint32([]byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 77}, uint32(seq)<<16))
		}
		h.n += 2
		for i := range 7 {
			seq := uint16(5000 + 7*round + i)
			h.feedback(binary.BigEndian.AppendUint32([]byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 77}, uint32(seq)<<16))
		}
		h.n -= 2
		if len(h.sent) == before {
			t.Fatal("nothing was sent again")
		}
	}
	if len(h.stamps()) < 5 {
		t.Errorf("%d stamps", len(h.stamps()))
	}
	if by, _ := h.member.Ear().By(); by != ear.Request {
		t.Errorf("evidence by %v", by)
	}
}

// BenchmarkForwardStamped is BenchmarkForward to listeners who give feedback.
func BenchmarkForwardStamped(b *testing.B) {
	c, members, out, count := forwarding(b, 303, 32, crypt.AEADAES128GCM, false)
	for i := range c.listeners {
		c.listeners[i].stampExt, c.listeners[i].stampEvery = stampExt, stampEvery
	}
	payload := make([]byte, 120)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		speak(c, members, 3, n, rtpwire.Voice|30, payload, out)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count.PacketsOut), "ns/packet")
}
