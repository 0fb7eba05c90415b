package lightclient

import "testing"

// TestTrack counts sequences of which the truth is known.
func TestTrack(t *testing.T) {
	for _, c := range []struct {
		name                   string
		seqs                   []uint16
		lost, late, duplicates uint64
	}{
		{"in order over the turn", []uint16{65534, 65535, 0, 1}, 0, 0, 0},
		{"a hole", []uint16{1, 2, 5}, 2, 0, 0},
		{"a hole that is filled", []uint16{1, 2, 5, 3, 6}, 1, 1, 0},
		{"twice", []uint16{1, 2, 2, 3, 1}, 0, 0, 2},
		{"a straggler twice", []uint16{1, 3, 2, 2}, 0, 1, 1},
		{"before the first", []uint16{10, 9, 11}, 0, 1, 0},
		{"far behind", []uint16{100, 400, 301}, 299, 1, 0},
		{"63 behind", []uint16{100, 101, 164, 101}, 62, 0, 1},
	} {
		var s slot
		var n Counts
		for _, seq := range c.seqs {
			s.track(seq, &n)
		}
		if n.Lost != c.lost || n.Late != c.late || n.Duplicates != c.duplicates {
			t.Errorf("%s: %+v", c.name, n)
		}
	}
}
