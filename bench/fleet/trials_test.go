package fleet

import (
	"slices"
	"testing"
	"time"
)

func TestLostSince(t *testing.T) {
	const journal = `2026-11-29 23:00:33  lost edge1: no answer on its media port (allocator)
2026-11-29 23:00:34  move edge1 call 1 to edge2: node_lost (allocator)
2026-11-29 23:00:45  suspect edge2: no heartbeat for 1.5 s (allocator)
2026-11-29 23:00:46  lost edge2: no answer on its media port (allocator)
something else
`
	at := time.Date(2026, 11, 29, 23, 0, 33, 5e8, time.Local)
	if n := lostSince(journal, at); n != 2 {
		t.Errorf("%d, want 2", n)
	}
	if n := lostSince(journal, at.Add(time.Second)); n != 1 {
		t.Errorf("%d after the first, want 1", n)
	}
}

// TestWaits: a wait counts from the return on, also that of a guest who is never in.
func TestWaits(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	for name, c := range map[string]struct {
		begun, now float64
		in         bool
		slowest    time.Duration
		joins      int
	}{
		"in before the return": {-3, -1, true, 0, 0},
		"waited for it":        {-90, 1.5, true, 1500 * time.Millisecond, 1},
		"came after it":        {2, 2.5, true, 500 * time.Millisecond, 1},
		"never in":             {-90, 8, false, 8 * time.Second, 0},
	} {
		v := visits{back: start}
		v.waited(at(c.begun), at(c.now), c.in)
		if v.slowest != c.slowest || v.joins != c.joins {
			t.Errorf("%s: %v, %d joins, want %v, %d", name, v.slowest, v.joins, c.slowest, c.joins)
		}
	}
}

// TestTableHasFigures: what only some rounds tell has columns, too.
func TestTableHasFigures(t *testing.T) {
	res := result{trial: trial{title: "engine killed"}, rounds: []*round{
		{Victim: "edge1", Figures: map[string]float64{farFigure: 0}},
		{Victim: "edge2", Figures: map[string]float64{farFigure: 2, "gap by relay s": 0.0801}},
	}}
	table := res.table()
	n := len(table.Head)
	if got, want := table.Head[n-2:], []string{"gap by relay s", farFigure}; !slices.Equal(got, want) {
		t.Errorf("columns %q, want %q", got, want)
	}
	for i, want := range [][]string{{"-", "0"}, {"0.0801", "2"}} {
		if got := table.Rows[i]; len(got) != n || !slices.Equal(got[n-2:], want) {
			t.Errorf("row %d: %q, want %q at the end of %d cells", i, got, want, n)
		}
	}
}
