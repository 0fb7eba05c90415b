package fleet

import (
	"slices"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

// TestSince: of a journal that which is about a deed, a time and a node.
func TestSince(t *testing.T) {
	at := time.Date(2026, 11, 29, 23, 0, 33, 5e8, time.UTC)
	entry := func(after time.Duration, deed allocator.Deed, node edgeagent.NodeID) allocator.NumberedEntry {
		return allocator.NumberedEntry{JournalEntry: allocator.JournalEntry{At: at.Add(after), Deed: deed, Node: node}}
	}
	journal := []allocator.NumberedEntry{
		entry(-time.Millisecond, allocator.DeedLost, "edge1"),
		entry(0, allocator.DeedMove, "edge1"),
		entry(time.Second, allocator.DeedDegraded, "edge2"),
		entry(2*time.Second, allocator.DeedLost, "edge2"),
		entry(3*time.Second, allocator.DeedDegraded, "edge1"),
	}
	for _, c := range []struct {
		deed allocator.Deed
		node edgeagent.NodeID
		want []time.Duration
	}{
		{allocator.DeedLost, "", []time.Duration{2 * time.Second}},
		{allocator.DeedLost, "edge1", nil},
		{allocator.DeedDegraded, "", []time.Duration{time.Second, 3 * time.Second}},
		{allocator.DeedDegraded, "edge1", []time.Duration{3 * time.Second}},
	} {
		var got []time.Duration
		for _, e := range since(journal, at, c.deed, c.node) {
			got = append(got, e.At.Sub(at))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %s: after %v, want %v", c.deed, c.node, got, c.want)
		}
	}
	if len(journal) != 5 || journal[0].Node != "edge1" {
		t.Error("the journal itself is another now")
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

// TestJudged: of faults that are untimed only what has no time is judged, and a harness
// that is late spoils less of them.
func TestJudged(t *testing.T) {
	r := &run{config: Config{Untimed: []string{"drain", "outage"}}}
	of := func(name string) *trial {
		return &trials[slices.IndexFunc(trials, func(t trial) bool { return t.name == name })]
	}
	judged := func(name string) (n int) {
		for _, g := range of(name).goals {
			if r.judged(of(name), g) {
				n++
			}
		}
		return n
	}
	for name, want := range map[string]int{"drain": 2, "outage": 2, "node": len(of("node").goals)} {
		if got := judged(name); got != want {
			t.Errorf("%s: %d goals are judged, want %d", name, got, want)
		}
	}
	if got := r.lateAtMost(of("drain")); got != lateUnsent {
		t.Errorf("drain: %v late at most, want %v", got, lateUnsent)
	}
	if got := r.lateAtMost(of("node")); got != lateAtMost {
		t.Errorf("node: %v late at most, want %v", got, lateAtMost)
	}
	rounds := []*round{{Hit: []Heard{{Expected: 9_000}}, Spared: []Heard{{Expected: 16_000}}}, {Hit: []Heard{{Expected: 100}}}}
	for name, want := range map[string]float64{"outage": 2, "agent": 0} {
		if got := r.bound(&result{trial: *of(name), rounds: rounds}, lostGoal); got != want {
			t.Errorf("%s: %v packets may be lost, want %v", name, got, want)
		}
	}
	if err := (&Config{Untimed: []string{"nothing"}}).Validate(); err == nil {
		t.Error("an unknown fault is taken")
	}
}
