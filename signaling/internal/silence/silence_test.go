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
		{50 * time.Millisecond, "n1", "e", 0, "<nil>"},
		{60 * time.Millisecond, "n1", "f", 0, "<nil>"},
		{100 * time.Millisecond, "n1", "b", 599 * time.Millisecond, "<nil>"},
		{200 * time.Millisecond, "n1", "c", time.Second, "&{n1 1 5 0}"}, // the first silent one is told at once
		{210 * time.Millisecond, "n1", "b", 2 * time.Second, "<nil>"},   // too soon: it is not half
		{210 * time.Millisecond, "n2", "x", 2 * time.Second, "&{n2 1 1 0}"},
		{400 * time.Millisecond, "", "", -1, "[]"},
		{450 * time.Millisecond, "", "", -1, "[{n1 2 5 0}]"},
		{800 * time.Millisecond, "", "", -1, "[]"}, // nothing new
		// Half of them in doubt, and half of them silent, are told at once, but once.
		{810 * time.Millisecond, "n1", "e", 600 * time.Millisecond, "&{n1 2 5 1}"},
		{820 * time.Millisecond, "n1", "f", 700 * time.Millisecond, "<nil>"},
		{830 * time.Millisecond, "n1", "a", time.Second, "&{n1 3 5 2}"},
		{840 * time.Millisecond, "n1", "e", time.Second, "<nil>"},
		{850 * time.Millisecond, "n1", "a", 0, "<nil>"},
		{860 * time.Millisecond, "n1", "f", 0, "<nil>"},
		{870 * time.Millisecond, "n1", "f", time.Second, "<nil>"},
		{1070 * time.Millisecond, "", "", -1, "[]"},
		{1080 * time.Millisecond, "", "", -1, "[{n1 4 5 0}]"},
		{1090 * time.Millisecond, "n1", "e", 0, "<nil>"},
		{1090 * time.Millisecond, "n1", "f", 0, "<nil>"},
		// Doubts are told, too.
		{1120 * time.Millisecond, "n3", "y", 600 * time.Millisecond, "&{n3 0 1 1}"},
		{1130 * time.Millisecond, "n3", "z", 999 * time.Millisecond, "<nil>"},
		{1370 * time.Millisecond, "", "", -1, "[{n3 0 2 2}]"},
		// It hears again: that alone is told to nobody.
		{1400 * time.Millisecond, "n1", "b", 0, "<nil>"},
		{1700 * time.Millisecond, "", "", -1, "[]"},
		{1700 * time.Millisecond, "n1", "c", 2 * time.Second, "&{n1 1 5 0}"},
		// Old reports do not count, though nobody has looked for them yet.
		{3600 * time.Millisecond, "n1", "c", 4 * time.Second, "&{n1 1 1 0}"},
		{3610 * time.Millisecond, "n1", "c", 0, "<nil>"},
		{3610 * time.Millisecond, "n1", "d", 3 * time.Second, "<nil>"},
		{3620 * time.Millisecond, "n1", "d", 0, "<nil>"}, // recovered before it was told
		{3900 * time.Millisecond, "", "", -1, "[]"},
		// Who has left counts for up to Pause more.
		{4 * time.Second, "n4", "g", 0, "<nil>"},
		{4 * time.Second, "n4", "h", 0, "<nil>"},
		{4 * time.Second, "n4", "i", 0, "<nil>"},
		{5 * time.Second, "n4", "j", 700 * time.Millisecond, "&{n4 0 4 1}"},
		{6 * time.Second, "n4", "j", 1700 * time.Millisecond, "&{n4 1 4 0}"},
		{6100 * time.Millisecond, "n4", "k", 1200 * time.Millisecond, "<nil>"},
		{6200 * time.Millisecond, "", "", -1, "[]"},
		{6250 * time.Millisecond, "", "", -1, "[{n4 2 2 0}]"},
		{9 * time.Second, "", "", -1, "[]"},
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

// TestCountsAreFew: of a node whose thousand sessions fall silent within a second, and
// stay so, two counts are told beyond four a second.
func TestCountsAreFew(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var tally Tally
	const sessions, seconds = 1000, 5
	told, first := 0, time.Duration(0)
	tell := func(at time.Duration, c *edgeagent.Silence) {
		if c == nil {
			return
		}
		told++
		if first == 0 && 2*c.Silent >= c.Of {
			first = at
		}
	}
	for ms := range seconds * 1000 {
		at := time.Duration(ms) * time.Millisecond
		s := sfu.SessionID(fmt.Sprint(ms % sessions))
		quiet := time.Duration(ms/sessions) * time.Second
		tell(at, tally.Report(now.Add(at), "n", s, quiet))
		if ms%int(Beat/time.Millisecond) == 0 {
			for _, c := range tally.Due(now.Add(at)) {
				tell(at, &c)
			}
		}
	}
	// 999 of them have said before that they hear: half is reached with the 500th.
	if told > 4*(seconds-1)+2 || first != 1499*time.Millisecond {
		t.Errorf("%d counts in %d s, the first of half of them after %v", told, seconds-1, first)
	}
}

// BenchmarkDue is one beat over 20,000 sessions that hear, on 100 nodes, and the
// reports that come meanwhile.
func BenchmarkDue(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	var tally Tally
	const sessions, nodes, perBeat = 20_000, 100, 20_000 / 20
	ids, on := make([]sfu.SessionID, sessions), make([]edgeagent.NodeID, nodes)
	for i := range ids {
		ids[i] = sfu.SessionID(fmt.Sprint(i))
	}
	for i := range on {
		on[i] = edgeagent.NodeID(fmt.Sprint(i))
	}
	for i := 0; b.Loop(); i++ {
		now = now.Add(Beat)
		for k := range perBeat {
			s := (i*perBeat + k) % sessions
			tally.Report(now, on[s%nodes], ids[s], 0)
		}
		tally.Due(now)
	}
}
