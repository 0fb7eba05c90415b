package egress

import (
	"bytes"
	"math"
	"testing"
	"time"

	"voicefleet/sfu"
)

// taker is an agent that takes bundles apart.
type taker struct {
	t         *testing.T
	secret    sfu.RelaySecret
	datagrams int
	packets   []sfu.RelayPacket
}

func (a *taker) take(b *Batch) {
	for i := range b.Len() {
		d, to := b.At(i)
		a.datagrams++
		peer, list, ok := sfu.ReadRelayLocal(d, &a.secret)
		if !ok || peer != 0 || len(d) > sfu.MaxDatagram || to.Len != a.secret[0] {
			a.t.Fatalf("%d bytes to %d: %x", len(d), to.Len, d)
		}
		for len(list) > 0 {
			packet, rest, err := sfu.NextRelay(list)
			if err != nil {
				a.t.Fatal(err)
			}
			p, err := sfu.ReadRelayPacket(bytes.Clone(packet))
			if err != nil {
				a.t.Fatal(err)
			}
			a.packets, list = append(a.packets, p), rest
		}
	}
}

func voice(n int) sfu.RelayPacket {
	return sfu.RelayPacket{Call: sfu.CallID{ID: 7}, User: sfu.UserID{ID: 9}, SSRC: 11, Sequence: uint32(n), Payload: bytes.Repeat([]byte{byte(n)}, n)}
}

// TestBundleCarriesEverySize: payloads from one byte to the longest there may be,
// in order and whole.
func TestBundleCarriesEverySize(t *testing.T) {
	a := &taker{t: t, secret: sfu.RelaySecret{16}}
	out, b := NewBatch(a.take), NewBundle()
	b.Lead(Path{Len: 16}, a.secret, out)
	const most = sfu.MaxRelayPacket - sfu.RelayHeader
	for n := 1; n <= most; n++ {
		p := voice(n)
		b.Add(&p, out)
	}
	b.Send(0, out)
	out.Flush()
	if len(a.packets) != most {
		t.Fatalf("%d packets came of %d", len(a.packets), most)
	}
	for i, p := range a.packets {
		if want := voice(i + 1); p.Sequence != want.Sequence || !bytes.Equal(p.Payload, want.Payload) {
			t.Fatalf("packet %d is number %d of %d bytes", i+1, p.Sequence, len(p.Payload))
		}
	}
}

// TestBundleWaits: the first packet goes at once, what follows within the interval
// goes together at its end, and a new agent gets nothing of the one before.
func TestBundleWaits(t *testing.T) {
	a := &taker{t: t, secret: sfu.RelaySecret{16}}
	out, b := NewBatch(a.take), NewBundle()
	b.Lead(Path{Len: 16}, a.secret, out)
	if b.Due() != math.MaxInt64 {
		t.Error("an empty bundle is due")
	}
	const every = sfu.RelayEvery
	now := 3*every - 700*time.Microsecond
	send := func(after time.Duration, add int, due time.Duration, datagrams int) {
		t.Helper()
		now += after
		for n := range add {
			p := voice(n + 1)
			b.Add(&p, out)
		}
		if add > 0 && b.Due() != due {
			t.Errorf("at %v it is due at %v, want %v", now, b.Due(), due)
		}
		b.Send(now, out)
		out.Flush()
		if a.datagrams != datagrams {
			t.Errorf("at %v: %d datagrams, want %d", now, a.datagrams, datagrams)
		}
	}
	send(0, 1, 0, 1)
	send(100*time.Microsecond, 1, 3*every, 1)
	send(50*time.Microsecond, 2, 3*every, 1)
	send(550*time.Microsecond-early, 0, 0, 2)
	now = 3 * every
	send(0, 1, 4*every, 2)
	send(every, 0, 0, 3)
	send(20*time.Millisecond, 1, 5*every, 4)
	if len(a.packets) != 6 {
		t.Errorf("%d packets came", len(a.packets))
	}
	p := voice(1)
	b.Add(&p, out)
	b.Lead(Path{Len: 28}, sfu.RelaySecret{28}, out)
	out.Flush()
	a.secret = sfu.RelaySecret{28}
	b.Add(&p, out)
	b.Send(time.Second, out)
	out.Flush()
	if a.datagrams != 6 || len(a.packets) != 8 {
		t.Errorf("%d datagrams, %d packets", a.datagrams, len(a.packets))
	}
}
