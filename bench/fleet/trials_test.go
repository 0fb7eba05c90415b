package fleet

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"voicefleet/allocator"
	"voicefleet/bench"
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
		v := visits{back: start, in: make(map[*member]bool)}
		v.waited(new(member), at(c.begun), at(c.now), c.in)
		if v.slowest != c.slowest || v.joins != c.joins {
			t.Errorf("%s: %v, %d joins, want %v, %d", name, v.slowest, v.joins, c.slowest, c.joins)
		}
	}
}

// TestAllIn: whoever was let in before the return has to be let in again, and who never is
// is waited for so long and told.
func TestAllIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		v := visits{back: begun, in: make(map[*member]bool)}
		var all [guests]member
		for i := range all {
			v.waited(&all[i], begun, begun.Add(time.Second), true)
		}
		if out := v.out(); out != 0 {
			t.Fatalf("%d are out, and all were let in", out)
		}
		back := begun.Add(10 * time.Second)
		v.since(back)
		go func() {
			for i := range all[1:] {
				time.Sleep(5 * time.Second)
				v.waited(&all[i], back, back.Add(time.Since(begun)), true)
				v.waited(&all[i], back, back.Add(time.Since(begun)), true) // twice is one guest
			}
		}()
		if out := v.allIn(t.Context(), 7*time.Second); out != guests-1 {
			t.Errorf("%d are out after 7 s, want %d", out, guests-1)
		}
		if out := v.allIn(t.Context(), time.Minute); out != 1 || time.Since(begun) != 67*time.Second {
			t.Errorf("%d are out after %v, want the one who never was in after 67 s", out, time.Since(begun))
		}
		v.waited(&all[guests-1], back, back.Add(time.Minute), true)
		if out := v.allIn(t.Context(), time.Minute); out != 0 || time.Since(begun) != 67*time.Second {
			t.Errorf("%d are out, after %v", out, time.Since(begun))
		}
	})
}

// TestUntimedNotices: guests who are left out and listeners who fall silent for long miss
// goals also where no times are judged; what the harness was late is not held against it.
func TestUntimedNotices(t *testing.T) {
	gap := func(gap, late time.Duration) *round {
		one := &round{Late: late, Hit: make([]Heard, 200)}
		for i := range one.Hit {
			one.Hit[i] = Heard{Gap: gap, Recovered: true}
		}
		one.Hit[0].Gap = 9 * time.Second // the worst one is not judged
		return one
	}
	for name, c := range map[string]struct {
		trial  string
		one    *round
		missed bool
	}{
		"all got in":                {"outage", &round{Figures: map[string]float64{outFigure: 0}}, false},
		"one did not":               {"outage", &round{Figures: map[string]float64{outFigure: 1}}, true},
		"moved unheard":             {"drain", gap(20*time.Millisecond, 0), false},
		"silent for long":           {"drain", gap(2500*time.Millisecond, 100*time.Millisecond), true},
		"the harness stood, too":    {"drain", gap(2500*time.Millisecond, 800*time.Millisecond), false},
		"silent for a busy machine": {"drain", gap(1500*time.Millisecond, 0), false},
		"its node died":             {"node", gap(1500*time.Millisecond, 0), false},
		"its node died for long":    {"node", gap(2500*time.Millisecond, 100*time.Millisecond), true},
	} {
		r := &run{config: Config{Untimed: []string{"drain", "node", "outage"}}, report: new(bench.Report)}
		tr := trials[slices.IndexFunc(trials, func(t trial) bool { return t.name == c.trial })]
		r.results = []result{{trial: tr, rounds: []*round{c.one}}}
		r.conclude()
		missed := slices.ContainsFunc(r.report.Goals, func(g bench.Goal) bool { return !g.Met() })
		if missed != c.missed {
			t.Errorf("%s: missed %v, want %v: %+v", name, missed, c.missed, r.report.Goals)
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
	for name, want := range map[string]int{"drain": 3, "outage": 3, "node": len(of("node").goals)} {
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
	if got := (&run{}).lateAtMost(of("drain")); got != 20*time.Millisecond {
		t.Errorf("a drain that is timed: %v late at most, want half of its gap", got)
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
