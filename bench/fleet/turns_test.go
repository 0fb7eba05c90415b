package fleet

import (
	"testing"
	"time"
)

// TestTurns holds that somebody else always talks, that all have their turns, and that
// spurts say the same as slots do.
func TestTurns(t *testing.T) {
	for members := leastMembers; members <= 9; members++ {
		plan := turns{members}
		said := make([]int, members)
		for slot := range uint32(3 * turnSlots * 9) {
			if plan.first(slot) == plan.second(slot) {
				t.Fatalf("%d members, slot %d: one member is both voices", members, slot)
			}
			for m := range members {
				from := plan.source(slot, m)
				if from == m || !plan.talks(slot, from) {
					t.Fatalf("%d members, slot %d: %d listens to %d", members, slot, m, from)
				}
				if plan.talks(slot, m) {
					said[m]++
				}
			}
		}
		for m, n := range said {
			if n == 0 {
				t.Errorf("%d members: %d never talks", members, m)
			}
		}
		for _, from := range []uint32{0, 7, 25, 1234567} {
			const n = 1000
			for m := range members {
				spoken := make([]bool, n)
				last := -1
				for _, s := range plan.spurts(m, from, n) {
					if int(s.First) <= last || s.Count == 0 {
						t.Fatalf("spurts are not apart: %+v", s)
					}
					last = int(s.First + s.Count)
					for i := range s.Count {
						spoken[s.First+i] = true
					}
				}
				for i, got := range spoken {
					if want := plan.talks(from+uint32(i), m); got != want {
						t.Fatalf("%d members, %d from slot %d on: talks %v in slot %d", members, m, from, got, i)
					}
				}
			}
		}
	}
}

func TestClock(t *testing.T) {
	c := clock{time.Unix(1000, 0)}
	for _, s := range []uint32{0, 1, 49, 50, 1 << 20} {
		for _, late := range []time.Duration{0, slotTime - 1} {
			if got := c.slot(c.due(s).Add(late)); got != s {
				t.Errorf("slot %d and %v: %d", s, late, got)
			}
		}
	}
	if got := c.slot(time.Unix(0, 0)); got != 0 {
		t.Errorf("before the epoch: %d", got)
	}
}
