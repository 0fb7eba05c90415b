package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/allocatorserver"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
)

// edges are three media nodes of a fleet.
type edges struct {
	*roles
	all  map[string]*process
	told chan told
	last uint64 // the epoch of the move that next gave
}

type told struct {
	allocator.Moved
	at time.Time
}

func launchEdges(t *testing.T) *edges {
	t.Helper()
	r := launchRoles(t)
	address := r.args[2]
	e := &edges{roles: r, all: map[string]*process{"edge1": r.edge}, told: make(chan told, 64)}
	for _, id := range []string{"edge2", "edge3"} {
		e.all[id] = launch(t, "edge", "--bus", address, "--node", id, "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)),
			"--http", "", "--turn-port", "0", "--capacity-pps", "100000", "--advertise", "127.0.0.1")
		e.all[id].says(`edge ` + id + ` is up`)
		r.text.nodeIs(id, "ready")
	}
	conn, err := bus.Connect(t.Context(), bus.Config{URL: address, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	cancel, err := allocatorserver.NewClient(conn).SubscribeMoved(func(m allocator.Moved) {
		select {
		case e.told <- told{m, time.Now()}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	return e
}

// home is where the one call lives.
func (e *edges) home() string {
	e.t.Helper()
	var calls []struct{ Node string }
	if err := json.Unmarshal([]byte(ctlSays(e.t, e.text.data, "calls", "--json")), &calls); err != nil || len(calls) != 1 {
		e.t.Fatalf("calls %+v, %v", calls, err)
	}
	return calls[0].Node
}

// next is the next move that is told. One that nobody followed at once is told again.
func (e *edges) next(what string) told {
	e.t.Helper()
	for deadline := time.After(wait); ; {
		select {
		case m := <-e.told:
			if m.Epoch > e.last {
				e.last = m.Epoch
				return m
			}
		case <-deadline:
			e.t.Fatalf("%s: no move is told", what)
		}
	}
}

// signal is sent to an agent and its engine, as to a whole machine.
func (e *edges) signal(id string, s syscall.Signal) {
	e.t.Helper()
	agent := e.all[id].cmd.Process.Pid
	engine := child(e.t, agent, 0)
	for _, pid := range []int{agent, engine} {
		if err := syscall.Kill(pid, s); err != nil {
			e.t.Fatal(err)
		}
	}
}

// TestNodesDie: a node with a call is killed, agent and engine, and then the next
// one stands still. Each time the call has another node within the longest time that
// listeners may hear nothing, clients follow by themselves, and the one that wakes has been fenced.
func TestNodesDie(t *testing.T) {
	e := launchEdges(t)
	ada := e.text.join(http.DefaultClient, e.text.http, "Ada")
	bob := e.text.join(http.DefaultClient, e.text.http, "Bob")
	channel := e.text.voiceChannel(http.DefaultClient, e.text.http, ada)
	a := enter(t, e.text.https(""), e.trust, ada, channel)
	b := enter(t, e.text.https(""), e.trust, bob, channel)
	talk(t, a)
	talk(t, b)
	more := func(what string, n int) {
		t.Helper()
		for _, l := range []*listener{a, b} {
			l.mu.Lock()
			already := l.packets
			l.mu.Unlock()
			l.until(t, what, func(now int) bool { return now >= already+n })
		}
	}
	more("before", 100) // two heartbeats show the call
	for _, c := range []struct {
		what   string
		signal syscall.Signal
		limit  time.Duration
	}{
		{"killed", syscall.SIGKILL, 2 * time.Second},
		{"frozen", syscall.SIGSTOP, 3 * time.Second},
	} {
		from := e.home()
		began := time.Now()
		e.signal(from, c.signal)
		m := e.next(c.what)
		took := m.at.Sub(began)
		t.Logf("%s: the move of its call is told after %v", c.what, took)
		if took > c.limit || string(m.From) != from || string(m.To) == from || m.Cause != allocator.CauseNodeLost || m.Planned {
			t.Errorf("%s: told %+v after %v", c.what, m.Moved, took)
		}
		if now := e.home(); now != string(m.To) {
			t.Errorf("%s: the call lives on %s, told was %s", c.what, now, m.To)
		}
		more(c.what, 100)
		if c.signal != syscall.SIGSTOP {
			continue
		}
		e.signal(from, syscall.SIGCONT)
		more("after it woke", 100)
		e.text.nodeIs(from, "ready")
		if now := e.home(); now != string(m.To) {
			t.Errorf("when it woke the call went to %s", now)
		}
	}
	for name, l := range map[string]*listener{"Ada": a, "Bob": b} {
		t.Logf("%s: at most %v never came", name, l.gap())
	}
	if out := ctlSays(t, e.text.data, "explain", channel.String()); !strings.Contains(out, "because of: node_lost") {
		t.Errorf("explain says %s", out)
	}
	for deadline := time.Now().Add(wait); ; {
		var journal []allocator.JournalEntry
		if err := json.Unmarshal([]byte(ctlSays(t, e.text.data, "journal", "--json")), &journal); err != nil {
			t.Fatal(err)
		}
		deeds := map[allocator.Deed]int{}
		moves := map[string]bool{} // a move that is told twice is one
		for _, j := range journal {
			deeds[j.Deed]++
			if j.Deed == allocator.DeedMove {
				moves[fmt.Sprintf("%v from %s to %s", j.Call, j.Node, j.To)] = true
			}
		}
		if len(moves) > 2 {
			t.Fatalf("more moves than nodes that died: %v", slices.Sorted(maps.Keys(moves)))
		}
		if deeds[allocator.DeedLost] >= 2 && len(moves) == 2 && deeds[allocator.DeedBack] >= 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the journal has %v", deeds)
		}
	}
}

// drainGap is the longest stretch of somebody's voice that a drain may cost.
const drainGap = 40 * time.Millisecond

// TestDrainsAreNotHeard: a node with a call is drained by an operator, and the next
// one is told to end: both times the call moves before, and no packet is missed.
func TestDrainsAreNotHeard(t *testing.T) {
	e := launchEdges(t)
	ada := e.text.join(http.DefaultClient, e.text.http, "Ada")
	bob := e.text.join(http.DefaultClient, e.text.http, "Bob")
	channel := e.text.voiceChannel(http.DefaultClient, e.text.http, ada)
	a := enter(t, e.text.https(""), e.trust, ada, channel)
	b := enter(t, e.text.https(""), e.trust, bob, channel)
	talk(t, a)
	talk(t, b)
	more := func(what string, n int) {
		t.Helper()
		for _, l := range []*listener{a, b} {
			l.mu.Lock()
			already := l.packets
			l.mu.Unlock()
			l.until(t, what, func(now int) bool { return now >= already+n })
		}
	}
	more("before", 100)
	from := e.home()
	if out := ctlSays(t, e.text.data, "drain", from, "--dry-run"); !strings.Contains(out, "Nothing was changed") || !strings.Contains(out, channel.String()) {
		t.Errorf("dry run says %s", out)
	}
	began := time.Now()
	out := ctlSays(t, e.text.data, "drain", from, "--reason", "new kernel")
	t.Logf("drained in %v: %s", time.Since(began), out)
	if !strings.Contains(out, "It has none left") {
		t.Errorf("drain says %s", out)
	}
	m := e.next("drain")
	if !m.Planned || m.Cause != allocator.CauseDrain || m.From != edgeagent.NodeID(from) {
		t.Errorf("told %+v", m.Moved)
	}
	more("drained", 100)
	next := e.home()
	if next != string(m.To) {
		t.Errorf("the call lives on %s, told was %s", next, m.To)
	}
	if code, took := e.all[next].ends(syscall.SIGTERM); code != 0 || took > 15*time.Second {
		t.Errorf("SIGTERM: exit code %d after %v", code, took)
	} else {
		t.Logf("ended after %v", took)
	}
	if m := e.next("SIGTERM"); !m.Planned || m.Cause != allocator.CauseDrain || m.From != edgeagent.NodeID(next) || m.To == edgeagent.NodeID(from) {
		t.Errorf("told %+v", m.Moved)
	}
	more("ended", 100)
	for name, l := range map[string]*listener{"Ada": a, "Bob": b} {
		// Not by the clock: this machine may be busy.
		gap := l.gap()
		t.Logf("%s: at most %v never came", name, gap)
		if gap > drainGap {
			t.Errorf("%s heard a gap of %v", name, gap)
		}
	}
}
