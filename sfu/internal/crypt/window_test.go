package crypt

import (
	"math/rand/v2"
	"testing"
)

func TestEstimate(t *testing.T) {
	for _, c := range []struct {
		name    string
		highest uint64
		seq     uint16
		want    uint64
		ok      bool
	}{
		{"next", 10, 11, 11, true},
		{"late", 10, 9, 9, true},
		{"rolls over", 65535, 0, 65536, true},
		{"late, from before the rollover", 65536, 65535, 65535, true},
		{"late, from before the first packet", 0, 65535, 0, false},
		{"half way ahead", 0, 32768, 32768, true},
		{"more than half way ahead is behind", 1 << 16, 32769, 32769, true},
		{"half way behind", 3<<16 | 40000, 7232, 3<<16 | 7232, true},
		{"more than half way behind is ahead", 3<<16 | 40000, 7231, 4<<16 | 7231, true},
		{"past the last index", MaxIndex, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w Window
			w.Accept(c.highest)
			before := w
			got, ok := w.Estimate(c.seq)
			if ok != c.ok || ok && got != c.want {
				t.Errorf("%#x, %v, want %#x, %v", got, ok, c.want, c.ok)
			}
			if w != before {
				t.Error("asking moved the window")
			}
		})
	}
}

// A first packet near the end of the sequence numbers has rollover counter zero.
func TestFirst(t *testing.T) {
	var w Window
	if index, ok := w.Estimate(65535); !ok || index != 65535 || !w.Fresh(index) {
		t.Errorf("%#x, %v", index, ok)
	}
	if _, ok := w.Highest(); ok {
		t.Error("a highest index without a packet")
	}
}

func TestResume(t *testing.T) {
	w := Resume(5<<16 | 10)
	for _, seq := range []uint16{10, 9, 0, 65535, 65000} {
		if index, ok := w.Estimate(seq); ok && w.Fresh(index) {
			t.Errorf("seq %d is fresh as %#x", seq, index)
		}
	}
	if index, ok := w.Estimate(11); !ok || index != 5<<16|11 || !w.Fresh(index) {
		t.Errorf("seq 11: %#x, %v", index, ok)
	}
	if got, ok := w.Highest(); !ok || got != 5<<16|10 {
		t.Errorf("highest %#x, %v", got, ok)
	}
}

// The window against a model: a set of all accepted indices and the highest.
func TestWindowModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var w Window
		accepted := map[uint64]bool{}
		highest := uint64(rng.IntN(70000))
		for i := range 5000 {
			index := highest + uint64(rng.IntN(5))
			switch rng.IntN(20) {
			case 0:
				index = highest + uint64(rng.IntN(2*WindowSize))
			case 1, 2, 3, 4, 5, 6:
				index = highest - min(highest, uint64(rng.IntN(WindowSize+50)))
			}
			want := i == 0 || index > highest || highest-index < WindowSize && !accepted[index]
			if got := w.Fresh(index); got != want {
				t.Fatalf("highest %d: %d fresh %v, want %v", highest, index, got, want)
			}
			if !want || rng.IntN(4) == 0 && i > 0 { // some are lost, or forged
				continue
			}
			w.Accept(index)
			accepted[index] = true
			highest = max(highest, index)
			if i == 0 {
				highest = index
			}
			if w.Fresh(index) {
				t.Fatalf("%d is fresh after it was accepted", index)
			}
		}
	}
}
