package main

import (
	"context"
	bits "encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/allocatorserver"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

const (
	// addedLimit is what the way over a second node may add to the median delay of
	// a voice on one machine, and cutLimit the gap when the nodes lose each other.
	addedLimit = 2 * time.Millisecond
	cutLimit   = time.Second
)

// seated is a member of a call by a seat of its own asking: it says how far the
// nodes are, as a client far away would measure them.
type seated struct {
	*voiceclient.Voice
	node edgeagent.NodeID
	user sfu.UserID
	ear  *delays
}

// delays are what a listener heard: of each frame of a talker, when.
type delays struct {
	mu sync.Mutex
	// Guarded by mu.
	at map[sfu.UserID]map[uint32]time.Time
}

func (d *delays) hear(p voiceclient.Packet) {
	if len(p.Opus) != len(opusFrame) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at[p.User] == nil {
		d.at[p.User] = map[uint32]time.Time{}
	}
	d.at[p.User][bits.BigEndian.Uint32(p.Opus[1:])] = p.Arrived
}

// of is what came of a talker so far.
func (d *delays) of(user sfu.UserID) map[uint32]time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[uint32]time.Time{}
	for n, at := range d.at[user] {
		out[n] = at
	}
	return out
}

// cascade seats users in one call by how far each says the nodes are.
type cascade struct {
	*edges
	place *allocatorserver.Client
	call  sfu.CallID
}

func (c *cascade) seat(user uint64, ear *delays, rtt map[string]float64) *seated {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), wait)
	defer cancel()
	id := sfu.UserID{ID: snowflake.ID(user)}
	session := fmt.Sprint("gw", user)
	a, err := c.place.Place(ctx, allocator.PlaceRequest{Guild: "1", Call: c.call, User: id, Session: session, Rights: sfu.Rights{Speak: true}, RTT: rtt})
	if err != nil {
		c.t.Fatal(err)
	}
	v, err := voiceclient.Dial(ctx, voiceclient.Endpoint{URLs: []string{"wss://" + a.Endpoints[0]}, Guild: 1, User: id, Session: session, Token: a.Token},
		voiceclient.Options{TLS: c.trust, OnAudio: ear.hear})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { v.Close() })
	return &seated{v, a.Node, id, ear}
}

// says has a member talk without pause until stop, and returns when each frame was
// said.
func (s *seated) says(t *testing.T) (said func() map[uint32]time.Time, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	at := map[uint32]time.Time{}
	var talking sync.WaitGroup
	talking.Go(func() {
		pace := time.NewTicker(frameTime)
		defer pace.Stop()
		frame := slices.Clone(opusFrame)
		for n := uint32(0); ; n++ {
			bits.BigEndian.PutUint32(frame[1:], n)
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
				mu.Lock()
				at[n] = time.Now()
				mu.Unlock()
				_ = s.WriteOpus(frame, frameTime, 20)
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); talking.Wait() })
	t.Cleanup(stop)
	return func() map[uint32]time.Time {
		mu.Lock()
		defer mu.Unlock()
		out := map[uint32]time.Time{}
		for n, when := range at {
			out[n] = when
		}
		return out
	}, stop
}

// median is that of the way of the frames that came.
func median(said, came map[uint32]time.Time) time.Duration {
	var ways []time.Duration
	for n, at := range came {
		if when, ok := said[n]; ok {
			ways = append(ways, at.Sub(when))
		}
	}
	if len(ways) == 0 {
		return -1
	}
	slices.Sort(ways)
	return ways[len(ways)/2]
}

// comes waits until so many frames of a talker came.
func (c *cascade) comes(s *seated, talker *seated, frames int, what string) {
	c.t.Helper()
	for deadline := time.Now().Add(wait); len(s.ear.of(talker.user)) < frames; time.Sleep(frameTime) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: user %v heard %d frames of %v, want %d", what, s.user, len(s.ear.of(talker.user)), talker.user, frames)
		}
	}
}

// relayed is how many packets edge1 has sent to other nodes.
func (c *cascade) relayed() int {
	c.t.Helper()
	m := regexp.MustCompile(`(?m)^voicefleet_link_packets_out_total (\S+)`).FindStringSubmatch(get(c.t, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/metrics", c.side)))
	if m == nil {
		c.t.Fatal("edge1 counts no relayed packets")
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return int(n)
}

// TestCallSpansNodes is a call of members far apart, on real nodes: who is far is
// seated on a node near, they hear each other and know of each other, each voice
// crosses once, and hardly later than it comes to a neighbour; and when the nodes
// lose each other the call is on one again.
func TestCallSpansNodes(t *testing.T) {
	e := launchEdges(t)
	conn, err := bus.Connect(t.Context(), bus.Config{URL: e.args[2], Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c := &cascade{edges: e, place: allocatorserver.NewClient(conn), call: sfu.CallID{ID: 777}}
	here := map[string]float64{"edge1": 10, "edge2": 150, "edge3": 150}
	there := map[string]float64{"edge1": 150, "edge2": 10, "edge3": 150}
	ear := func() *delays { return &delays{at: map[sfu.UserID]map[uint32]time.Time{}} }
	ada, dot := c.seat(1, ear(), here), c.seat(2, ear(), here)
	bob, eve := c.seat(3, ear(), there), c.seat(4, ear(), there)
	for s, node := range map[*seated]edgeagent.NodeID{ada: "edge1", dot: "edge1", bob: "edge2", eve: "edge2"} {
		if s.node != node {
			t.Fatalf("user %v is seated on %s, want %s", s.user, s.node, node)
		}
	}
	before := c.relayed()
	said, hush := ada.says(t)
	for _, s := range []*seated{dot, bob, eve} {
		c.comes(s, ada, 250, "Ada talks")
	}
	hush()
	time.Sleep(500 * time.Millisecond) // what is on its way comes, and the count of it
	frames, crossed := len(said()), c.relayed()-before
	near, far := median(said(), dot.ear.of(ada.user)), median(said(), bob.ear.of(ada.user))
	t.Logf("%d frames of one speaker crossed as %d packets, for two listeners", frames, crossed)
	t.Logf("median one-way delay: %v beside the speaker, %v on the other node: %v added", near, far, far-near)
	// The end of a talk spurt is three frames of silence, and so may be each pause.
	if crossed < frames*9/10 || crossed > frames+30 {
		t.Errorf("%d frames of one speaker crossed as %d packets", frames, crossed)
	}
	if far-near > addedLimit {
		t.Errorf("%v are added by the second node, at most %v may be", far-near, addedLimit)
	}
	saidBob, _ := bob.says(t)
	c.comes(ada, bob, 100, "Bob talks")
	c.comes(eve, bob, 100, "Bob talks")
	for _, s := range []*seated{ada, bob} {
		if got := len(s.Members()); got != 3 {
			t.Errorf("user %v knows of %d others, want 3", s.user, got)
		}
	}

	// The agent of the second node stands still: to the first it is as if the way
	// between them were cut. Its engine serves on.
	_ = saidBob
	said, hush = ada.says(t)
	defer hush()
	time.Sleep(time.Second)
	agent := e.all["edge2"].cmd.Process.Pid
	cut := time.Now()
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(agent, syscall.SIGCONT)
	var moved told
	for moved.Cause != allocator.CauseLinkLost && moved.Cause != allocator.CauseNodeLost {
		moved = e.next("the link is cut")
	}
	again := c.seat(3, bob.ear, there) // as Bob's program does when it is told
	c.comes(again, ada, len(bob.ear.of(ada.user))+50, "after the cut")
	var last, first time.Time
	for _, at := range bob.ear.of(ada.user) {
		if at.Before(cut.Add(100*time.Millisecond)) && at.After(last) {
			last = at
		}
		if at.After(cut.Add(150*time.Millisecond)) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	t.Logf("cut: told after %v (%s), seated on %s, gap of %v", moved.at.Sub(cut), moved.Cause, again.node, first.Sub(last))
	if again.node != "edge1" || moved.From != "edge2" || moved.To != "edge1" {
		t.Errorf("seated on %s, told %+v", again.node, moved.Moved)
	}
	if gap := first.Sub(last); gap > cutLimit {
		t.Errorf("a gap of %v, at most %v may be", gap, cutLimit)
	}
}

// relayCost is how much more of a processor a packet may cost that comes to its
// listener over a second node.
const relayCost = 2.0

// busy is the processor time that both edges and their engines have had.
func (c *cascade) busy() time.Duration {
	c.t.Helper()
	total := time.Duration(0)
	for _, id := range []string{"edge1", "edge2"} {
		agent := c.all[id].cmd.Process.Pid
		for _, pid := range []int{agent, child(c.t, agent, 0)} {
			tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
			if err != nil || len(tasks) == 0 {
				c.t.Fatalf("process %d has no tasks: %v", pid, err)
			}
			for _, task := range tasks {
				b, err := os.ReadFile(task)
				if err != nil {
					continue // it has ended
				}
				ns, _, _ := strings.Cut(string(b), " ")
				n, err := strconv.ParseInt(ns, 10, 64)
				if err != nil {
					c.t.Fatal(err)
				}
				total += time.Duration(n)
			}
		}
	}
	return total
}

// TestRelayedPacketsAreCheap compares eight who talk on one node with four each on
// two: as many packets come to listeners, in the second case more than half of them
// over a link.
func TestRelayedPacketsAreCheap(t *testing.T) {
	e := launchEdges(t)
	conn, err := bus.Connect(t.Context(), bus.Config{URL: e.args[2], Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	here := map[string]float64{"edge1": 10, "edge2": 150, "edge3": 150}
	there := map[string]float64{"edge1": 150, "edge2": 10, "edge3": 150}
	// What it costs is judged where it is asked for, with a machine for it alone.
	judged := os.Getenv("VOICEFLEET_CASCADE") != ""
	const members = 8
	window := 2 * time.Second
	if judged {
		window = 10 * time.Second
	}
	place := allocatorserver.NewClient(conn)
	heard := func(all []*seated) (n int) {
		for _, s := range all {
			s.ear.mu.Lock()
			for _, came := range s.ear.at {
				n += len(came)
			}
			s.ear.mu.Unlock()
		}
		return n
	}
	c := &cascade{edges: e, place: place}
	idle := c.busy()
	time.Sleep(window)
	idle = c.busy() - idle
	// talk is what the packets of a call cost, and how many came to listeners.
	talk := func(call uint64, far int) (cost time.Duration, packets int) {
		c.call = sfu.CallID{ID: snowflake.ID(call)}
		var all []*seated
		var stops []func()
		for i := range members {
			rtt := here
			if i >= members-far {
				rtt = there
			}
			s := c.seat(call*100+uint64(i), &delays{at: map[sfu.UserID]map[uint32]time.Time{}}, rtt)
			all = append(all, s)
		}
		for _, s := range all {
			_, stop := s.says(t)
			stops = append(stops, stop)
		}
		for _, s := range all {
			c.comes(s, all[(slices.Index(all, s)+members-1)%members], 25, "warm up")
		}
		before, came := c.busy(), heard(all)
		time.Sleep(window)
		cost, packets = c.busy()-before-idle, heard(all)-came
		for i, stop := range stops {
			stop()
			all[i].Close()
		}
		return cost, packets
	}
	one, local := talk(778, 0)
	two, both := talk(779, members/2)
	// Of each one's seven listeners, four are on the other node.
	relayed := float64(both) * 4 / 7
	each := one.Seconds() / float64(local)
	over := (two.Seconds() - each*(float64(both)-relayed)) / relayed
	t.Logf("one node: %d packets for %v, %.1f µs each; two: %d for %v, %.1f µs for one over a link: %.2f times as much; idle %v",
		local, one.Round(time.Millisecond), each*1e6, both, two.Round(time.Millisecond), over*1e6, over/each, idle.Round(time.Millisecond))
	if want := members * (members - 1) * int(window/frameTime) / 2; local < want || both < want {
		t.Fatalf("%d and %d packets came, want %d", local, both, want)
	}
	if judged && over > relayCost*each {
		t.Errorf("a packet over a link costs %.2f times as much, at most %v may be", over/each, relayCost)
	}
}
