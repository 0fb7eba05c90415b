package rtcpwire

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// TestWriteIsReadByPion builds a compound and lets pion/rtcp read it.
func TestWriteIsReadByPion(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 500_000_000, time.UTC)
	about := Block{SSRC: 9, Fraction: 3, Lost: 4, Highest: 5, Jitter: 6, LSR: 7, DLSR: 8}
	b := AppendSenderReport(nil, 1, NTP(now), 2, 3, 4, &about)
	b = AppendSenderReport(b, 2, NTP(now), 5, 6, 7, nil)
	b = AppendReceiverReport(b, 3, &about)
	b = AppendDescription(b, 1, "voicefleet")
	b = AppendDescription(b, 2, "abc")
	list, err := rtcp.Unmarshal(b)
	if err != nil || len(list) != 5 {
		t.Fatalf("%d packets: %v", len(list), err)
	}
	first := list[0].(*rtcp.SenderReport)
	if first.SSRC != 1 || first.RTPTime != 2 || first.PacketCount != 3 || first.OctetCount != 4 ||
		first.NTPTime != 3976311845<<32|1<<31 || len(first.Reports) != 1 {
		t.Errorf("sender report %+v", first)
	}
	want := rtcp.ReceptionReport{SSRC: 9, FractionLost: 3, TotalLost: 4, LastSequenceNumber: 5, Jitter: 6, LastSenderReport: 7, Delay: 8}
	if first.Reports[0] != want {
		t.Errorf("block %+v", first.Reports[0])
	}
	if got := list[3].(*rtcp.SourceDescription).Chunks[0]; got.Source != 1 || got.Items[0].Text != "voicefleet" {
		t.Errorf("description %+v", got)
	}
	p, rest, ok := Next(b)
	if got, has := p.Block(0); !ok || !has || got != about {
		t.Errorf("read back %+v, %v", got, ok)
	}
	if _, has := p.Block(1); has || len(rest) == 0 {
		t.Error("a second block, or no second packet")
	}
}

func TestReadWhatPionWrites(t *testing.T) {
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: 5, NTPTime: 0x1122334455667788},
		&rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: 77, Nacks: []rtcp.NackPair{{PacketID: 10, LostPackets: 5}, {PacketID: 65535}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, rest, ok := Next(b)
	if ssrc, ntp, is := p.Sent(); !ok || !is || ssrc != 5 || ntp != 0x33445566 {
		t.Errorf("sender report of %d at %x", ssrc, ntp)
	}
	p, rest, ok = Next(rest)
	ssrc, seq, mask, has := p.Missing(0)
	if !ok || !has || ssrc != 77 || seq != 10 || mask != 5 {
		t.Errorf("NACK of %d: %d %b", ssrc, seq, mask)
	}
	if _, seq, _, _ := p.Missing(1); seq != 65535 {
		t.Errorf("second entry %d", seq)
	}
	if _, _, _, has := p.Missing(2); has || len(rest) != 0 {
		t.Error("too much")
	}
}

// TestArrived reads feedback in all its forms, as pion writes them.
func TestArrived(t *testing.T) {
	const none, small, large = rtcp.TypeTCCPacketNotReceived, rtcp.TypeTCCPacketReceivedSmallDelta, rtcp.TypeTCCPacketReceivedLargeDelta
	vector := func(size uint16, symbols ...uint16) rtcp.PacketStatusChunk {
		return &rtcp.StatusVectorChunk{SymbolSize: size, SymbolList: symbols}
	}
	run := func(symbol, n uint16) rtcp.PacketStatusChunk {
		return &rtcp.RunLengthChunk{PacketStatusSymbol: symbol, RunLength: n}
	}
	one, two := rtcp.TypeTCCSymbolSizeOneBit, rtcp.TypeTCCSymbolSizeTwoBit
	for _, c := range []struct {
		name          string
		base, count   uint16
		chunks        []rtcp.PacketStatusChunk
		deltas        int
		any           bool
		first, behind uint16
	}{
		{"a run", 65530, 10, []rtcp.PacketStatusChunk{run(small, 10)}, 10, true, 65530, 4},
		{"a run of nothing", 5, 10, []rtcp.PacketStatusChunk{run(none, 10)}, 0, false, 0, 0},
		{"the last came", 5, 4, []rtcp.PacketStatusChunk{run(none, 3), run(large, 1)}, 1, true, 8, 9},
		{"14 bits", 100, 14, []rtcp.PacketStatusChunk{vector(uint16(one), 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)}, 2, true, 102, 106},
		{"7 symbols", 100, 7, []rtcp.PacketStatusChunk{vector(uint16(two), 0, 2, 0, 1, 0, 0, 0)}, 2, true, 101, 104},
		{"padding behind the count is nothing", 100, 3, []rtcp.PacketStatusChunk{vector(uint16(two), 1, 0, 0, 1, 1, 1, 1)}, 1, true, 100, 101},
	} {
		f := &rtcp.TransportLayerCC{
			Header:     rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback},
			SenderSSRC: 1, MediaSSRC: 2, BaseSequenceNumber: c.base, PacketStatusCount: c.count, PacketChunks: c.chunks,
		}
		for range c.deltas {
			f.RecvDeltas = append(f.RecvDeltas, &rtcp.RecvDelta{Type: small, Delta: 250})
		}
		f.Header.Length = uint16((f.MarshalSize()+3)/4 - 1)
		b, err := f.Marshal()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		p, _, _ := Next(b)
		first, behind, any, ok := p.Arrived()
		if !ok || any != c.any || first != c.first || behind != c.behind {
			t.Errorf("%s: %d to %d, %v, %v", c.name, first, behind, any, ok)
		}
	}
	for name, b := range map[string][]byte{
		"a NACK":               {0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 4},
		"too short":            {0x8f, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 4, 0, 0, 0, 0},
		"more than its chunks": {0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 255, 255, 0, 0, 0, 0, 0x20, 1, 0x20, 1},
		"a run of no length":   {0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 9, 0, 0, 0, 0, 0x20, 0, 0x20, 9},
	} {
		p, _, ok := Next(b)
		if _, _, _, is := p.Arrived(); !ok || is {
			t.Errorf("%s is read (%v)", name, ok)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	sent := uint32(0xfffffff0) // the clock wraps before the report returns
	b := Block{LSR: sent, DLSR: 100}
	if rtt, ok := b.RoundTrip(sent + 150); !ok || rtt != 50 {
		t.Errorf("%d, %v", rtt, ok)
	}
	if _, ok := b.RoundTrip(sent + 50); ok {
		t.Error("a negative round trip")
	}
	if _, ok := (&Block{DLSR: 1}).RoundTrip(100); ok {
		t.Error("without sender report")
	}
}

func TestReception(t *testing.T) {
	var r Reception
	if _, ok := r.Block(0, 1); ok {
		t.Error("a report about nothing")
	}
	for i := range uint64(100) {
		if i%10 != 3 {
			r.Packet(65500+i, uint32(i*960), uint32(i*960))
		}
	}
	r.Report(2*time.Second, 0xabcd)
	b, _ := r.Block(3*time.Second, 1)
	if b.Lost != 10 || b.Fraction != 25 || b.Highest != 65599 || b.Jitter != 0 || b.LSR != 0xabcd || b.DLSR != 65536 {
		t.Errorf("%+v", b)
	}
	for i := range uint64(10) {
		r.Packet(65600+i, uint32((100+i)*960), uint32((100+i)*960+i%2*480))
	}
	if b, _ = r.Block(4*time.Second, 1); b.Fraction != 0 || b.Lost != 10 || b.Jitter < 150 || b.Jitter > 480 {
		t.Errorf("%+v", b)
	}
}

// FuzzNext walks any compound to its end.
func FuzzNext(f *testing.F) {
	b := AppendSenderReport(nil, 1, 2, 3, 4, 5, &Block{SSRC: 9})
	f.Add(AppendDescription(b, 1, "voicefleet"))
	f.Add([]byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			p, rest, ok := Next(b)
			if !ok {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			p.Sent()
			p.Arrived()
			for i := 0; ; i++ {
				if _, ok := p.Block(i); !ok {
					break
				}
			}
			for i := 0; ; i++ {
				if _, _, _, ok := p.Missing(i); !ok {
					break
				}
			}
			b = rest
		}
	})
}

// TestLengths sweeps random bodies of all lengths and types: nothing reads
// beyond the end.
func TestLengths(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for kind := 192; kind < 224; kind++ {
		for n := 0; n < 1500; n += 7 {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if n >= 4 {
				b[0], b[1], b[2], b[3] = 0x80|b[0]&31, byte(kind), byte(n/4>>8), byte(n/4-1)
			}
			for len(b) > 0 {
				p, rest, ok := Next(b)
				if !ok {
					break
				}
				p.Sent()
				p.Block(int(p.Count))
				p.Block(0)
				p.Missing(n / 4)
				p.Arrived()
				b = rest
			}
		}
	}
}
