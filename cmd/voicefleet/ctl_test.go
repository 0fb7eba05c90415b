package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
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

// crowded is a foreman whose node stands as it is told to, whoever looks; the first who do
// see it as it was before.
type crowded struct {
	foreman
	stands  allocator.Progress
	late    atomic.Int32
	ordered chan allocator.Order
}

func (c *crowded) Drain(_ context.Context, o allocator.Order) (allocator.Progress, error) {
	c.ordered <- o
	return allocator.Progress{Node: "fra1", State: edgeagent.Draining, Emptying: true, Calls: 2, Sessions: 7}, nil
}

func (c *crowded) Progress(context.Context, edgeagent.NodeID) (allocator.Progress, error) {
	if c.late.Add(-1) >= 0 {
		return allocator.Progress{Node: "fra1", State: edgeagent.Ready}, nil
	}
	return c.stands, nil
}

// TestDrainEndsWithItsDeadline: ctl drain asks for the deadline, tells how it goes, and
// fails with the words for it when the time is over and people are left, or when the
// node is not drained any more.
func TestDrainEndsWithItsDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		stands   allocator.Progress
		args     []string
		late     int32
		out, err string // of standard output and standard error, the whole of the latter
	}{
		"people are left": {
			allocator.Progress{Node: "fra1", State: edgeagent.Draining, Emptying: true, Calls: 1, Sessions: 3, Stuck: "no node has room for 3"}, []string{"--deadline", "1ms"}, 0,
			"fra1: 2 calls with 7 people left",
			"voicefleet: fra1 is not empty in time: 1 calls with 3 people are left: no node has room for 3. It takes no new calls; take it back with voicefleet ctl undrain fra1.\n",
		},
		"in JSON, too": {
			allocator.Progress{Node: "fra1", State: edgeagent.Draining, Emptying: true, Calls: 1, Sessions: 3}, []string{"--deadline", "1ms", "--json"}, 0,
			"",
			"voicefleet: fra1 is not empty in time: 1 calls with 3 people are left. It takes no new calls; take it back with voicefleet ctl undrain fra1.\n",
		},
		"it got empty at the last moment": {
			allocator.Progress{Node: "fra1", State: edgeagent.Draining, Emptying: true}, []string{"--deadline", "1ms"}, 0,
			"It has none left: it can be stopped now.", "",
		},
		"an allocator hears of it late": {
			allocator.Progress{Node: "fra1", State: edgeagent.Draining, Emptying: true}, []string{"--deadline", "10m"}, 2,
			"It has none left: it can be stopped now.", "",
		},
		"somebody took it back": {
			allocator.Progress{Node: "fra1", State: edgeagent.Ready, Calls: 2, Sessions: 7}, []string{"--deadline", "10m"}, 0,
			"fra1: 2 calls with 7 people left", "voicefleet: fra1 is not drained any more: it is ready\n",
		},
		"nobody waits": {
			allocator.Progress{}, []string{"--deadline", "1ms", "--no-wait"}, 0,
			"fra1 takes no new calls.", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &crowded{stands: c.stands, ordered: make(chan allocator.Order, 1)}
			f.late.Store(c.late)
			mux := http.NewServeMux()
			mountFleet(mux, &oracle{}, f, "secret")
			server := httptest.NewServer(mux)
			defer server.Close()
			var out, errs bytes.Buffer
			cmd := exec.Command(binary(), append([]string{"ctl", "--url", server.URL, "--token", "secret", "drain", "fra1"}, c.args...)...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			began := time.Now()
			_ = cmd.Run() // how it ended is looked at
			if got, want := cmd.ProcessState.ExitCode(), min(len(c.err), 1); got != want {
				t.Errorf("it ended with %d, want %d", got, want)
			}
			if errs.String() != c.err {
				t.Errorf("it fails with %q, want %q", &errs, c.err)
			}
			if !strings.Contains(out.String(), c.out) || c.out == "" && out.Len() > 0 {
				t.Errorf("it says %q, want %q", &out, c.out)
			}
			asked, err := time.ParseDuration(c.args[1])
			if err != nil {
				t.Fatal(err)
			}
			if o := <-f.ordered; o.Node != "fra1" || o.DryRun || o.Deadline.Before(began.Add(asked)) || o.Deadline.After(time.Now().Add(asked)) {
				t.Errorf("it ordered %+v, want a deadline in %v", o, asked)
			}
		})
	}
	t.Run("no time at all", func(t *testing.T) {
		t.Parallel()
		out, err := exec.Command(binary(), "ctl", "--url", "http://127.0.0.1:1", "--token", "x", "drain", "fra1", "--deadline", "0s").CombinedOutput()
		if want := "voicefleet: --deadline 0s: want more than nothing\n"; err == nil || string(out) != want {
			t.Errorf("it says %q, %v, want %q", out, err, want)
		}
	})
}
