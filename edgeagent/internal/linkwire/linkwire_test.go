package linkwire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"testing"

	"voicefleet/sfu"
)

func packet(seq uint32, payload int) sfu.RelayPacket {
	p := sfu.RelayPacket{Call: sfu.CallID{ID: 7}, Epoch: 5, User: sfu.UserID{ID: 9}, SSRC: 11, Sequence: seq, Timestamp: 960 * seq, Level: 0x80 | 30}
	for i := range payload {
		p.Payload = append(p.Payload, byte(i)^byte(seq))
	}
	return p
}

func TestDatagram(t *testing.T) {
	b := NewBuilder()
	b.Begin()
	if !b.Empty() || hex.EncodeToString(b.Datagram()) != "e100000000000001" {
		t.Errorf("alive: %x", b.Datagram())
	}
	b.Begin()
	b.Add([]byte("abc"))
	if !b.Fits(5, 20) || b.Fits(6, 20) {
		t.Error("Fits counts wrongly")
	}
	b.Add([]byte("de"))
	if got := hex.EncodeToString(b.Datagram()); got != "e100000000000002"+"0003616263"+"00026465" {
		t.Errorf("two packets: %s", got)
	}
	number, rest, err := Open(b.Datagram())
	if number != 2 || err != nil {
		t.Fatalf("%d, %v", number, err)
	}
	var got []string
	for len(rest) > 0 {
		var p []byte
		if p, rest, err = sfu.NextRelay(rest); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(p))
	}
	if fmt.Sprint(got) != "[abc de]" {
		t.Error(got)
	}
	for name, d := range map[string]string{"empty": "", "cut": "e1000000000000", "another version": "e200000000000001", "reserved": "e101000000000001"} {
		raw, _ := hex.DecodeString(d)
		if _, _, err := Open(raw); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// TestSplit: the halves of every length come together, in either order, and each
// fits a link.
func TestSplit(t *testing.T) {
	var j Joiner
	for n := 2; n <= sfu.MaxRelayPacket-sfu.RelayHeader; n++ {
		want := packet(uint32(n), n)
		first, second := Split(&want, nil, nil)
		if Header+sfu.RelayPrefix+max(len(first), len(second)) > MinRoom {
			t.Fatalf("%d bytes: halves of %d and %d", n, len(first), len(second))
		}
		a, err1 := sfu.ReadRelayPacket(first)
		b, err2 := sfu.ReadRelayPacket(second)
		if err1 != nil || err2 != nil {
			t.Fatalf("%d bytes: %v, %v", n, err1, err2)
		}
		if n%2 == 0 {
			a, b = b, a
		}
		if _, ok := j.Join(a); ok {
			t.Fatalf("%d bytes: whole with one half", n)
		}
		if got, ok := j.Join(b); !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("%d bytes: %+v", n, got)
		}
	}
	if j.Orphans != 0 {
		t.Errorf("%d orphans", j.Orphans)
	}
}

func TestJoinerIsBounded(t *testing.T) {
	var j Joiner
	half := func(seq uint32, which sfu.RelayHalf) sfu.RelayPacket {
		p := packet(seq, 10)
		p.Half = which
		return p
	}
	for i := range uint32(20) {
		if _, ok := j.Join(half(i, sfu.RelayFirst)); ok {
			t.Fatal("whole")
		}
		if _, ok := j.Join(half(i, sfu.RelayFirst)); ok {
			t.Fatal("the same half twice makes a whole")
		}
	}
	if j.Orphans != 12 {
		t.Errorf("%d orphans", j.Orphans)
	}
	if _, ok := j.Join(half(5, sfu.RelaySecond)); ok {
		t.Error("a half that was given up is there")
	}
	other := half(19, sfu.RelaySecond)
	other.Epoch++
	if _, ok := j.Join(other); ok {
		t.Error("halves of two epochs make a whole")
	}
}

func TestRing(t *testing.T) {
	r := NewRing()
	if _, ok := r.Take(nil); ok {
		t.Error("something in an empty ring")
	}
	for i := range RingPackets + 10 {
		r.Put([]byte{byte(i), byte(i >> 8)}, false)
	}
	r.Put(make([]byte, sfu.MaxRelayPacket+1), false)
	r.Rouse()
	r.Rouse()
	select {
	case <-r.Wake():
	default:
		t.Error("nobody is woken")
	}
	if r.Dropped() != 10 {
		t.Errorf("%d dropped", r.Dropped())
	}
	for i := 10; i < RingPackets+10; i++ {
		if p, ok := r.Take(nil); !ok || !bytes.Equal(p, []byte{byte(i), byte(i >> 8)}) {
			t.Fatalf("%d: %v %v", i, p, ok)
		}
	}
	for range RingPackets {
		r.Put([]byte("v"), true)
	}
	if n, all := r.Clear(), r.Dropped(); n != RingPackets/2 || all != 10+RingPackets/2 {
		t.Errorf("%d packets of video wait, %d were dropped", n, all)
	}
	r.Put([]byte("a"), false)
	if r.Clear() != 1 {
		t.Error("Clear")
	}
	if _, ok := r.Take(nil); ok {
		t.Error("something is left")
	}
	buf := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() { r.Put(buf[:50], false); r.Rouse(); r.Take(buf) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTally(t *testing.T) {
	var c Tally
	for _, n := range []uint32{10, 11, 14, 12, 9} {
		c.Came(n)
	}
	if c.Lost() != 1 {
		t.Errorf("%d lost", c.Lost())
	}
	var w Tally
	for _, n := range []uint32{0xffffffff, 0, 2} {
		w.Came(n)
	}
	if w.Lost() != 1 {
		t.Errorf("%d lost over the wrap", w.Lost())
	}
}

// FuzzDatagram: no panic, and packets never reach beyond what came.
func FuzzDatagram(f *testing.F) {
	b := NewBuilder()
	b.Begin()
	p := packet(1, 20)
	b.Add(p.Append(nil))
	f.Add(bytes.Clone(b.Datagram()))
	f.Add([]byte{Version, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, d []byte) {
		_, rest, err := Open(d)
		total := 0
		var j Joiner
		for err == nil && len(rest) > 0 {
			var one []byte
			if one, rest, err = sfu.NextRelay(rest); err != nil {
				break
			}
			total += len(one)
			if p, bad := sfu.ReadRelayPacket(one); bad == nil && p.Half != sfu.RelayWhole {
				j.Join(p)
			}
		}
		if total > len(d) {
			t.Fatalf("%d bytes of packets in %d", total, len(d))
		}
	})
}
