package main

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

// TestNodesAreShownAsTheyStand: ctl nodes and ctl top tell of each node what is worst
// about it, and how much its listeners lose.
func TestNodesAreShownAsTheyStand(t *testing.T) {
	node := func(name string, state edgeagent.State) allocator.NodeView {
		n := allocator.NodeView{Heartbeat: edgeagent.Heartbeat{Node: edgeagent.NodeID(name), State: state, Region: "eu", Started: time.Unix(0, 0), At: time.Unix(90, 0)}, CallCount: 2}
		n.Load.Sessions, n.Capacity.Sessions = 10, 100
		return n
	}
	well, silent, lossy, hot, cordoned, draining := node("well", edgeagent.Ready), node("mute", edgeagent.Ready), node("lossy", edgeagent.Ready), node("hot", edgeagent.Ready), node("closed", edgeagent.Draining), node("leaving", edgeagent.Draining)
	silent.Suspect = true
	lossy.Degraded, lossy.Load.Loss = allocator.CauseDegraded, 0.125
	hot.Degraded = allocator.CauseOverload
	cordoned.Cordoned = true
	list := []allocator.NodeView{well, silent, lossy, hot, cordoned, draining}
	for verb, show := range map[string]func(io.Writer, []allocator.NodeView){"nodes": showNodes, "top": showTop} {
		var out bytes.Buffer
		w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
		show(w, list)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for _, want := range []string{"well +ready +eu", "mute +silent +eu", "lossy +losing packets +eu", "hot +too hot +eu", "closed +cordoned +eu", "leaving +draining +eu", "lossy .* 12.5 %"} {
			if !regexp.MustCompile("(?m)^" + want).MatchString(text) {
				t.Errorf("ctl %s lacks %q:\n%s", verb, want, text)
			}
		}
		if strings.Count(text, "12.5 %") != 1 {
			t.Errorf("ctl %s: who loses how much?\n%s", verb, text)
		}
	}
}

// TestPenaltiesAreTold: ctl explain tells of each candidate what it costs beside its distance.
func TestPenaltiesAreTold(t *testing.T) {
	for want, k := range map[string]allocator.Candidate{
		"2 ms":                           {Penalty: 2},
		"0 ms, takes 5 %":                {Share: 0.05},
		"0 ms + 150 ms aside":            {Aside: 150},
		"1 ms + 3 ms domain":             {Penalty: 1, Domain: 3},
		"0 ms + 150 ms aside, takes 5 %": {Share: 0.05, Aside: 150},
	} {
		if got := penalties(k); got != want {
			t.Errorf("%+v: %q, want %q", k, got, want)
		}
	}
}
