package voiceclient

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// TestCrossing lays two paths with different delays side by side and listens:
// whatever the delays, every frame is heard once.
func TestCrossing(t *testing.T) {
	const frame = 20 * time.Millisecond
	user := sfu.UserID{ID: snowflake.ID(7)}
	start := time.Unix(1_800_000_000, 0)
	for _, delays := range [][2]time.Duration{ // of the old path and the new
		{5 * time.Millisecond, 5 * time.Millisecond}, {5 * time.Millisecond, 6 * time.Millisecond},
		{5 * time.Millisecond, 95 * time.Millisecond}, {95 * time.Millisecond, 5 * time.Millisecond},
		{40 * time.Millisecond, 0}, {0, 150 * time.Millisecond},
	} {
		for opens := range 5 { // how much of a frame after the beginning the new path opens
			type arrival struct {
				at    time.Duration
				path  int
				frame int
			}
			var all []arrival
			for i := range 100 {
				said := time.Duration(i) * frame
				all = append(all, arrival{said + delays[0], 1, i})
				if said >= 20*frame+time.Duration(opens)*frame/5 {
					all = append(all, arrival{said + delays[1], 2, i})
				}
			}
			slices.SortStableFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
			c := newCrossing()
			c.begin(1)
			c.begin(2)
			heard := make(map[int]int)
			sinceOld, last, lastAt := 0, 0, time.Duration(0)
			var worst time.Duration
			for _, a := range all {
				if !c.admit(a.path, user, fmt.Appendf(nil, "frame %d", a.frame), start.Add(a.at)) {
					continue
				}
				heard[a.frame]++
				if a.path == 1 {
					sinceOld = a.frame
				}
				if lastAt != 0 {
					worst = max(worst, a.at-lastAt)
				}
				last, lastAt = a.frame, a.at
			}
			for i := range 100 {
				if heard[i] != 1 {
					t.Errorf("delays %v: frame %d was heard %d times", delays, i, heard[i])
				}
			}
			if last != 99 || sinceOld > 40 {
				t.Errorf("delays %v: the old path counted until frame %d, the last was %d", delays, sinceOld, last)
			}
			if most := frame + max(delays[1]-delays[0], 0); worst > most {
				t.Errorf("delays %v: a gap of %v, want at most %v", delays, worst, most)
			}
			if !c.settled(start.Add(2 * time.Second)) {
				t.Errorf("delays %v: not settled", delays)
			}
		}
	}
}

func TestCrossingOrder(t *testing.T) {
	ann, bob, nobody := sfu.UserID{ID: 1}, sfu.UserID{ID: 2}, sfu.UserID{}
	now := time.Unix(1_800_000_000, 0)
	c := newCrossing()
	ask := func(want bool, path int, u sfu.UserID, payload string) {
		t.Helper()
		now = now.Add(time.Millisecond)
		if got := c.admit(path, u, []byte(payload), now); got != want {
			t.Errorf("path %d, %v says %q: heard %t", path, u, payload, got)
		}
	}
	c.begin(1)
	ask(true, 1, nobody, "who")
	ask(false, 2, ann, "from nowhere")
	c.begin(2)
	ask(true, 1, ann, "ann 1")
	ask(true, 1, bob, "bob 1")
	ask(false, 2, nobody, "who") // the old path has it
	ask(false, 2, ann, "\xf8\xff\xfe")
	ask(true, 1, ann, "\xf8\xff\xfe")
	if c.settled(now) {
		t.Error("settled before anybody is heard on the new path")
	}
	ask(true, 2, ann, "ann 2")
	ask(false, 1, ann, "ann 2")
	ask(false, 1, ann, "ann 3") // from now on only the new path counts
	ask(true, 2, ann, "ann 3")
	ask(true, 2, ann, "\xf8\xff\xfe")
	if c.settled(now) {
		t.Error("settled without bob")
	}
	ask(true, 1, bob, "bob 2") // has not moved
	now = now.Add(time.Second)
	if !c.settled(now) {
		t.Error("who is not audible is waited for")
	}
	// Two that have nothing in common: the old one counts for a moment only.
	ask(true, 2, bob, "bob 7")
	ask(true, 1, bob, "bob 3")
	now = now.Add(crossWithin)
	ask(false, 1, bob, "bob 4")
	c.end(1)
	ask(false, 1, bob, "bob 5")
	ask(true, 2, nobody, "who")
	// An attempt that fails changes nothing.
	c.begin(3)
	ask(true, 2, ann, "ann 9")
	c.abandon(3)
	ask(true, 2, ann, "ann 10")
	ask(false, 3, ann, "ann 10")
	c.abandon(1)
	ask(true, 2, ann, "ann 11")
}
