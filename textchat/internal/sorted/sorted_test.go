package sorted

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestList holds a list to a sorted slice, through growth and shrinking.
func TestList(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	for _, start := range []int{0, 1, 5000} {
		var want []int
		for range start {
			want = append(want, draw.IntN(20_000))
		}
		l := New(cmp.Compare[int], slices.Clone(want))
		slices.Sort(want)
		want = slices.Compact(want)
		look := func(from int) {
			t.Helper()
			i, _ := slices.BinarySearch(want, from)
			if got := slices.Collect(l.From(from)); !slices.Equal(got, want[i:]) {
				t.Fatalf("from %d: %d values, want %d", from, len(got), len(want)-i)
			}
			if l.Len() != len(want) || !slices.Equal(l.All(), want) {
				t.Fatalf("%d values, want %d", l.Len(), len(want))
			}
		}
		look(0)
		for step := range 30_000 {
			v := draw.IntN(20_000)
			i, there := slices.BinarySearch(want, v)
			grows := step%15_000 < 10_000 // else it shrinks
			switch {
			case grows:
				l.Put(v)
				if !there {
					want = slices.Insert(want, i, v)
				}
			case step%2 == 0 && len(want) > 0:
				i = draw.IntN(len(want))
				l.Drop(want[i])
				want = slices.Delete(want, i, i+1)
			default:
				l.Drop(v)
				if there {
					want = slices.Delete(want, i, i+1)
				}
			}
			if step%500 == 0 {
				look(v)
			}
			for i, b := range l.blocks {
				if len(b) == 0 || len(b) > blockMost {
					t.Fatalf("block %d holds %d values", i, len(b))
				}
			}
		}
		for len(want) > 0 {
			l.Drop(want[len(want)/2])
			want = slices.Delete(want, len(want)/2, len(want)/2+1)
			if most := 2 + 4*len(want)/blockMost; len(l.blocks) > 2*most {
				t.Fatalf("%d values lie in %d blocks", len(want), len(l.blocks))
			}
		}
		look(0)
	}
}

// TestPutReplaces: of two that compare as equal the newer is kept.
func TestPutReplaces(t *testing.T) {
	type pair struct{ key, value int }
	l := New(func(a, b pair) int { return cmp.Compare(a.key, b.key) }, []pair{{1, 1}, {2, 1}})
	l.Put(pair{1, 2})
	if got := l.All(); !slices.Equal(got, []pair{{1, 2}, {2, 1}}) {
		t.Error(got)
	}
}

// TestComparisons holds what one of 200,000 costs.
func TestComparisons(t *testing.T) {
	n := 0
	values := make([]int, 200_000)
	for i := range values {
		values[i] = 2 * i
	}
	l := New(func(a, b int) int { n++; return cmp.Compare(a, b) }, values)
	for name, do := range map[string]func(){
		"put": func() { l.Put(100_001) }, "drop": func() { l.Drop(100_001) },
		"ten": func() {
			left := 10
			for range l.From(150_000) {
				if left--; left == 0 {
					break
				}
			}
		},
	} {
		if n = 0; true {
			do()
		}
		if n > 25 { // log2(200,000) = 17.6, and what rounding up twice costs
			t.Errorf("%s takes %d comparisons", name, n)
		}
	}
}
