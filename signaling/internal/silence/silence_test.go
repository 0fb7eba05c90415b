package silence

import (
	"fmt"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

func TestTally(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var tally Tally
	for i, step := range []struct {
		at     time.Duration
		node   edgeagent.NodeID
		who    sfu.SessionID
		silent time.Duration // negative: Due is asked
		want   string
	}{
		{0, "n1", "a", 0, "<nil>"},
		{100 * time.Millisecond, "n1", "b", 599 * time.Millisecond, "<nil>"},
		{200 * time.Millisecond, "n1", "c", time.Second, "&{n1 1 3 0}"}, // the first silent one is told at once
		{210 * time.Millisecond, "n1", "b", 2 * time.Second, "<nil>"},   // too soon
		{210 * time.Millisecond, "n2", "x", 2 * time.Second, "&{n2 1 1 0}"},
		{240 * time.Millisecond, "", "", -1, "[]"},
		{250 * time.Millisecond, "", "", -1, "[{n1 2 3 0}]"},
		{700 * time.Millisecond, "", "", -1, "[]"}, // nothing new
		// Doubts are told, too.
		{720 * time.Millisecond, "n3", "y", 600 * time.Millisecond, "&{n3 0 1 1}"},
		{730 * time.Millisecond, "n3", "z", 999 * time.Millisecond, "<nil>"},
		{770 * time.Millisecond, "", "", -1, "[{n3 0 2 2}]"},
		// It hears again: that alone is told to nobody.
		{800 * time.Millisecond, "n1", "b", 0, "<nil>"},
		{1100 * time.Millisecond, "", "", -1, "[]"},
		{1100 * time.Millisecond, "n1", "c", 2 * time.Second, "&{n1 1 3 0}"},
		// Old reports do not count.
		{2900 * time.Millisecond, "n1", "c", 4 * time.Second, "&{n1 1 1 0}"},
		{2910 * time.Millisecond, "n1", "c", 0, "<nil>"},
		{2910 * time.Millisecond, "n1", "d", 3 * time.Second, "<nil>"},
		{2920 * time.Millisecond, "n1", "d", 0, "<nil>"}, // recovered before it was told
		{3200 * time.Millisecond, "", "", -1, "[]"},
		{6 * time.Second, "", "", -1, "[]"},
	} {
		now, got := start.Add(step.at), ""
		if step.silent < 0 {
			got = fmt.Sprint(tally.Due(now))
		} else {
			got = fmt.Sprint(tally.Report(now, step.node, step.who, step.silent))
		}
		if got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	if len(tally.nodes) != 0 {
		t.Errorf("%d nodes are remembered", len(tally.nodes))
	}
}
