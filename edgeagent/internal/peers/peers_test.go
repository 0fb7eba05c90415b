package peers

import (
	"fmt"
	"testing"
	"time"

	"voicefleet/edgeagent"
)

func list(n int) (out []edgeagent.Peer) {
	for i := range n {
		out = append(out, edgeagent.Peer{Node: edgeagent.NodeID(fmt.Sprint("n", i))})
	}
	return out
}

func TestNext(t *testing.T) {
	var table Table
	if got := table.Next(4); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
	table.Set(list(6))
	asked := map[edgeagent.NodeID]int{}
	for range 6 {
		seen := map[edgeagent.NodeID]bool{}
		for _, p := range table.Next(4) {
			if seen[p.Node] {
				t.Errorf("%s twice at once", p.Node)
			}
			seen[p.Node] = true
			asked[p.Node]++
		}
	}
	for _, p := range list(6) {
		if asked[p.Node] != 4 {
			t.Errorf("%s was asked %d times of 4", p.Node, asked[p.Node])
		}
	}
	if table.Set(list(2)); len(table.Next(4)) != 2 {
		t.Error("of two, not two are asked")
	}
	if table.Set(list(100)); len(table.Next(100)) != edgeagent.MaxPeers {
		t.Error("of a hundred, not the bound is asked")
	}
}

func TestRTT(t *testing.T) {
	now := time.Unix(1e9, 0)
	var table Table
	if table.RTT(now) != nil {
		t.Error("distances out of nothing")
	}
	for _, c := range []struct {
		ms   float64
		want float64
	}{
		{20, 20}, {12.345, 12.3}, {300, 12.3}, {14, 12.3}, // the least of the last four
		{15, 12.3}, {16, 14}, {17, 14}, {18, 15}, {0.01, 0.1},
	} {
		table.Measured(now, "a", time.Duration(c.ms*float64(time.Millisecond)))
		if got := table.RTT(now)["a"]; got != c.want {
			t.Errorf("after %v ms: %v, want %v", c.ms, got, c.want)
		}
		now = now.Add(time.Second)
	}
	table.Measured(now, "b", time.Millisecond)
	if got := table.RTT(now.Add(kept)); len(got) != 1 || got["b"] != 1 {
		t.Errorf("a while later: %v", got)
	}
	// Those measured longest ago make room.
	for i := range 3 * edgeagent.MaxPeers {
		table.Measured(now.Add(time.Duration(i)*time.Second), edgeagent.NodeID(fmt.Sprint("n", i)), time.Millisecond)
	}
	got := table.RTT(now)
	if _, newest := got["n47"]; len(got) != edgeagent.MaxPeers || !newest {
		t.Errorf("%d distances: %v", len(got), got)
	}
}
