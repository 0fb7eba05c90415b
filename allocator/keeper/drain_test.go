package keeper

import (
	"slices"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// TestADeadlineHastensADrain: 600 people leave a node at the pace of all planned moves,
// or, where its deadline asks for more, at twice what would just do, which is less and
// less; no faster, each once, and make before break.
func TestADeadlineHastensADrain(t *testing.T) {
	const calls, people = 120, 600
	for name, c := range map[string]struct {
		deadline    time.Duration // from the order on; zero: none
		half        time.Duration // by when 300 must have left
		empty       time.Duration // and all
		first, last int           // at most so many leave in the first second, and in the tenth
	}{
		"no deadline":        {0, 11 * time.Second, 21 * time.Second, departuresPerSecond, departuresPerSecond},
		"it has ten minutes": {10 * time.Minute, 11 * time.Second, 21 * time.Second, departuresPerSecond, departuresPerSecond},
		"it has 15 s":        {15 * time.Second, 6 * time.Second, 15 * time.Second, 80, 40},
		"it has 5 s":         {5 * time.Second, 2500 * time.Millisecond, 5 * time.Second, 270, 0},
		"it is over":         {-time.Second, time.Second, 2 * time.Second, people, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := newClinic(t, "a")
			k.pass(2, func() {})
			k.settle(calls)
			for _, id := range []edgeagent.NodeID{"b", "c"} {
				k.nodes[id] = &edgeagent.Heartbeat{Node: id, State: edgeagent.Ready, Started: start.Add(-time.Hour), Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 1000}}
			}
			k.pass(5, func() {})
			a, began := k.nodes["a"], k.now
			a.State, a.Emptying = edgeagent.Draining, true
			if c.deadline != 0 {
				a.Until = began.Add(c.deadline)
			}
			k.pass(30, func() {})
			if len(k.moves) != calls || a.Load.Sessions != 0 {
				t.Fatalf("%d calls were moved, %d people are left", len(k.moves), a.Load.Sessions)
			}
			left := make([]int, 31) // who went, by second
			seen := map[sfu.CallID]bool{}
			for _, m := range k.moves {
				if seen[m.Call] || !m.Planned || m.Cause != allocator.CauseDrain || m.From != "a" {
					t.Errorf("told %+v", m)
				}
				seen[m.Call] = true
				left[m.At.Sub(began)/time.Second] += 5
			}
			t.Logf("people that left, by second: %v", left)
			if at := k.moves[calls/2-1].At.Sub(began); at > c.half {
				t.Errorf("half have left after %v, want %v", at, c.half)
			}
			if at := k.moves[calls-1].At.Sub(began); at > c.empty {
				t.Errorf("all have left after %v, want %v", at, c.empty)
			}
			// What was saved up may go at once, and of the last call all five.
			const slack = departuresAtOnce + 5
			if most := slices.Max(left); most > c.first+slack || left[9] > c.last+slack {
				t.Errorf("too fast: %v", left)
			}
		})
	}
}
