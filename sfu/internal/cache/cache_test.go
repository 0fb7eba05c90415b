package cache

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestArena holds the arena against a plain list: what it returns is right, and
// the newest 8 payloads of any size are always there.
func TestArena(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var a Arena
	var all [][]byte
	for range 5000 {
		p := make([]byte, r.IntN(1400))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		all = append(all, p)
		if n := a.Put(p); n != uint32(len(all)) {
			t.Fatalf("payload %d got number %d", len(all), n)
		}
		for n := range all {
			got, ok := a.At(uint32(n + 1))
			if ok && !bytes.Equal(got, all[n]) {
				t.Fatalf("payload %d of %d is wrong", n+1, len(all))
			}
			if !ok && n >= len(all)-8 {
				t.Fatalf("payload %d of %d is gone", n+1, len(all))
			}
		}
		if len(all) > 200 {
			break
		}
	}
	if _, ok := a.At(0); ok {
		t.Error("there is a payload without number")
	}
}

func TestSent(t *testing.T) {
	var s Sent
	if s.Find(0) != nil {
		t.Error("an empty slot remembers a packet")
	}
	put := func(from, to uint32) {
		for i := from; i < to; i++ {
			*s.Put(uint16(i)) = Packet{Sequence: uint16(i), Number: i}
		}
	}
	put(65530, 65540)
	if p := s.Find(2); p == nil || p.Number != 65538 {
		t.Errorf("across the wrap: %+v", p)
	}
	if s.Find(40) != nil {
		t.Error("a packet not sent yet is found")
	}
	put(65540, 65600)
	if s.Find(2) != nil {
		t.Error("an overwritten packet is found")
	}
}

func TestPutDoesNotAllocate(t *testing.T) {
	var a Arena
	p := make([]byte, 1275)
	a.Put(p)
	if n := testing.AllocsPerRun(100, func() { a.Put(p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
