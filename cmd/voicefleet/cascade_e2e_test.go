package main

import (
	"context"
	bits "encoding/binary"
	"fmt"
	"maps"
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

// count is how many frames came of all talkers.
func (d *delays) count() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, came := range d.at {
		n += len(came)
	}
	return n
}

// says has a member talk without pause from a moment until stop, and returns when
// each frame was said.
func (s *seated) says(t *testing.T, after time.Duration) (said func() map[uint32]time.Time, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	at := map[uint32]time.Time{}
	var talking sync.WaitGroup
	talking.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(after):
		}
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

// ways are how long the frames that came were on their way.
func ways(said, came map[uint32]time.Time) (all []time.Duration) {
	for n, at := range came {
		if when, ok := said[n]; ok {
			all = append(all, at.Sub(when))
		}
	}
	return all
}

// quantile is the least that a share of all does not exceed.
func quantile(all []time.Duration, share float64) time.Duration {
	if len(all) == 0 {
		return -1
	}
	slices.Sort(all)
	return all[int(float64(len(all)-1)*share)].Round(time.Microsecond)
}

// comes waits until so many frames of a talker came.
func (c *cascade) comes(s *seated, talker *seated, frames int, what string) {
	c.t.Helper()
	if !s.hears(talker, frames, wait) {
		c.t.Fatalf("%s: user %v heard %d frames of %v, want %d", what, s.user, len(s.ear.of(talker.user)), talker.user, frames)
	}
}

// hears says whether so many frames of a talker come within a time.
func (s *seated) hears(talker *seated, frames int, within time.Duration) bool {
	for deadline := time.Now().Add(within); len(s.ear.of(talker.user)) < frames; time.Sleep(frameTime) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
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

// nearEdge1 and nearEdge2 are where members are: round trips to the nodes, in ms.
var (
	nearEdge1 = map[string]float64{"edge1": 10, "edge2": 150, "edge3": 150}
	nearEdge2 = map[string]float64{"edge1": 150, "edge2": 10, "edge3": 150}
)

// launchCascade is a call on real nodes: ada and dot are seated near edge1, bob and
// eve near edge2.
func launchCascade(t *testing.T) (c *cascade, ada, dot, bob, eve *seated) {
	t.Helper()
	e := launchEdges(t)
	conn, err := bus.Connect(t.Context(), bus.Config{URL: e.args[2], Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c = &cascade{edges: e, place: allocatorserver.NewClient(conn), call: sfu.CallID{ID: 777}}
	ear := func() *delays { return &delays{at: map[sfu.UserID]map[uint32]time.Time{}} }
	ada, dot = c.seat(1, ear(), nearEdge1), c.seat(2, ear(), nearEdge1)
	bob, eve = c.seat(3, ear(), nearEdge2), c.seat(4, ear(), nearEdge2)
	return c, ada, dot, bob, eve
}

// TestCallSpansNodes is a call of members far apart, on real nodes: who is far is
// seated on a node near, they hear each other and know of each other, each voice
// crosses once, and hardly later than it comes to a neighbour; and when the nodes
// lose each other the call is on one again.
func TestCallSpansNodes(t *testing.T) {
	c, ada, dot, bob, eve := launchCascade(t)
	for s, node := range map[*seated]edgeagent.NodeID{ada: "edge1", dot: "edge1", bob: "edge2", eve: "edge2"} {
		if s.node != node {
			t.Fatalf("user %v is seated on %s, want %s", s.user, s.node, node)
		}
	}
	before := c.relayed()
	said, hush := ada.says(t, 0)
	for _, s := range []*seated{dot, bob, eve} {
		c.comes(s, ada, 250, "Ada talks")
	}
	hush()
	frames, crossed := len(said()), c.relayed()-before
	near, far := quantile(ways(said(), dot.ear.of(ada.user)), 0.5), quantile(ways(said(), bob.ear.of(ada.user)), 0.5)
	t.Logf("%d frames of one speaker crossed as %d packets, for two listeners", frames, crossed)
	t.Logf("median one-way delay: %v beside the speaker, %v on the other node: %v added", near, far, far-near)
	// The end of a talk spurt is three frames of silence, and so may be each pause.
	if crossed < frames*9/10 || crossed > frames+30 {
		t.Errorf("%d frames of one speaker crossed as %d packets", frames, crossed)
	}
	if far-near > addedLimit {
		t.Errorf("%v are added by the second node, at most %v may be", far-near, addedLimit)
	}
	bob.says(t, 0)
	c.comes(ada, bob, 100, "Bob talks")
	c.comes(eve, bob, 100, "Bob talks")
	for _, s := range []*seated{ada, bob} {
		if got := len(s.Members()); got != 3 {
			t.Errorf("user %v knows of %d others, want 3", s.user, got)
		}
	}

	// The agent of the second node stands still: to the first it is as if the way
	// between them were cut. Its engine serves on.
	began := time.Now()
	_, hush = ada.says(t, 0)
	defer hush()
	for deadline := began.Add(wait); !bob.ear.of(ada.user)[25].After(began); time.Sleep(frameTime) { // she counts anew
		if time.Now().After(deadline) {
			t.Fatal("Ada talks again, and Bob hears nothing")
		}
	}
	agent := c.edges.all["edge2"].cmd.Process.Pid
	cut := time.Now()
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(agent, syscall.SIGCONT)
	var moved told
	for moved.Cause != allocator.CauseLinkLost && moved.Cause != allocator.CauseNodeLost {
		moved = c.edges.next("the link is cut")
	}
	again := c.seat(3, bob.ear, nearEdge2) // as Bob's program does when it is told
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

// apartLimit is for how long the nodes of a call may not hear each other when the
// agent of one dies alone and is started again at once.
const apartLimit = 3 * time.Second

// silence is the longest pause in what came of a talker after a moment, and how many
// frames are missing among all that came.
func (d *delays) silence(user sfu.UserID, after time.Time) (longest time.Duration, missed int) {
	came := d.of(user)
	at := slices.SortedFunc(maps.Values(came), time.Time.Compare)
	for i := 1; i < len(at); i++ {
		if at[i].After(after) {
			longest = max(longest, at[i].Sub(at[i-1]))
		}
	}
	numbers := slices.Sorted(maps.Keys(came))
	return longest, int(numbers[len(numbers)-1]-numbers[0]) + 1 - len(numbers)
}

// TestAgentOfASpanningCallDies kills the agent of one node of a call, of either, and
// starts it again: nobody is moved, members of one node hear each other all along,
// and the nodes hear each other again as soon as the next agent has found its engine.
func TestAgentOfASpanningCallDies(t *testing.T) {
	for try := range carryTries {
		stayed := false
		if !t.Run(fmt.Sprint("try ", try+1), func(t *testing.T) { stayed = agentsDie(t) }) || stayed {
			return
		}
	}
	t.Errorf("the call was moved in each try of %d", carryTries)
}

// agentsDie is one try, and says whether the call stayed where it was: also a machine
// that stands still for half a second has the nodes lose each other.
func agentsDie(t *testing.T) (stayed bool) {
	c, ada, dot, bob, eve := launchCascade(t)
	all := []*seated{ada, dot, bob, eve}
	for _, s := range all {
		s.says(t, 0)
	}
	moved := func() bool {
		t.Helper()
		select {
		case m := <-c.edges.told:
			if m.Cause != allocator.CauseLinkLost {
				t.Errorf("moved: %+v", m.Moved)
			}
			t.Logf("moved: %+v", m.Moved)
			return true
		default:
			return false
		}
	}
	// hear is false when the call was moved meanwhile.
	hear := func(what string, frames int) bool {
		t.Helper()
		var wants []func() bool
		for _, s := range all {
			for _, talker := range all {
				if s == talker {
					continue
				}
				want := len(s.ear.of(talker.user)) + frames
				wants = append(wants, func() bool {
					t.Helper()
					for deadline := time.Now().Add(wait); !s.hears(talker, want, 5*frameTime); {
						if moved() {
							return false
						}
						if time.Now().After(deadline) {
							t.Fatalf("%s: user %v heard %d frames of %v, want %d", what, s.user, len(s.ear.of(talker.user)), talker.user, want)
						}
					}
					return true
				})
			}
		}
		for _, want := range wants {
			if !want() {
				return false
			}
		}
		return true
	}
	if !hear("before", 25) {
		return false
	}
	for _, node := range []string{"edge2", "edge1", "edge2"} { // the home is the first's
		began := time.Now()
		dead := c.edges.all[node]
		if err := dead.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-dead.done
		c.edges.all[node] = launch(t, dead.cmd.Args[1:]...)
		c.edges.all[node].says(`edge ` + node + ` is up`)
		up := time.Since(began)
		if !hear("after the death of an agent", 25) {
			return false
		}
		apart := time.Duration(0)
		for _, s := range all {
			for _, talker := range all {
				if s == talker {
					continue
				}
				gap, missed := s.ear.silence(talker.user, began)
				if s.node != talker.node {
					apart = max(apart, gap)
				} else if missed > 0 {
					t.Errorf("user %v missed %d frames of %v beside it", s.user, missed, talker.user)
				}
			}
		}
		t.Logf("the agent of %s was back after %v: silence of at most %v between the nodes", node, up.Round(time.Millisecond), apart.Round(time.Millisecond))
		if apart > apartLimit {
			t.Errorf("at most %v may be", apartLimit)
		}
	}
	if moved() {
		return false
	}
	for _, s := range all {
		if v := s.Stats(); v.Resumes != 0 || s.Err() != nil {
			t.Errorf("user %v: %+v, %v", s.user, v, s.Err())
		}
	}
	return true
}

const (
	// relayCost is how much more of a processor a packet may cost that crosses a link, by
	// the median of the rounds.
	relayCost = 2.0
	// relayRounds are what it is judged by: calls on one node and calls on two, by turns.
	relayRounds = 3
)

// busy is the processor time that the agents of the edges have had, and their engines.
type busy struct{ agents, engines time.Duration }

func (b busy) all() time.Duration { return b.agents + b.engines }

func (b busy) less(o busy) busy { return busy{b.agents - o.agents, b.engines - o.engines} }

func (b busy) String() string {
	return fmt.Sprintf("%v (agents %v)", b.all().Round(time.Millisecond), b.agents.Round(time.Millisecond))
}

func (c *cascade) busy() (b busy) {
	c.t.Helper()
	for id := range c.all {
		agent := c.all[id].cmd.Process.Pid
		b.agents += c.had(agent)
		b.engines += c.had(child(c.t, agent, 0))
	}
	return b
}

// had is the processor time of a process.
func (c *cascade) had(pid int) (total time.Duration) {
	c.t.Helper()
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
	return total
}

// relayLoad is so many calls of so many members, of whom the first few talk without
// pause; the packets of their talkers are spread over the interval, as those of
// people are.
type relayLoad struct{ calls, members, talkers int }

func (l relayLoad) String() string {
	return fmt.Sprintf("%d calls of %d, %d of whom talk", l.calls, l.members, l.talkers)
}

// relayCosts are what a load costs all nodes together.
type relayCosts struct {
	busy    busy // beyond what they cost idle
	packets int  // that came to listeners
	// near and far are the ways of packets to listeners beside the speaker and on the
	// other node: the median, and of 99 %.
	near, far [2]time.Duration
}

// each is what a packet that came to a listener cost, in seconds.
func (c relayCosts) each() float64 { return c.busy.all().Seconds() / float64(c.packets) }

// carryTries is how often a load is begun: a machine that stands still for half a
// second has its nodes lose each other, and a call that spanned them is on one again;
// nor does it say what it was to say.
const carryTries = 4

// carry has a load talk for a window; side is the node that a member of a call says
// it is near to.
func (c *cascade) carry(first uint64, load relayLoad, side func(call, member int) string, window time.Duration, idle busy) relayCosts {
	c.t.Helper()
	for try := range uint64(carryTries) {
		cost, void := c.tryCarry(first+100*try, load, side, window, idle)
		if void == "" {
			return cost
		}
		c.t.Logf("%v: once more: %s", load, void)
	}
	c.t.Fatalf("%v: no try of %d was carried", load, carryTries)
	return relayCosts{}
}

// tryCarry is one try of carry; void is why it tells nothing, if so.
func (c *cascade) tryCarry(first uint64, load relayLoad, side func(call, member int) string, window time.Duration, idle busy) (cost relayCosts, void string) {
	c.t.Helper()
	for len(c.edges.told) > 0 {
		<-c.edges.told
	}
	calls := make([][]*seated, load.calls)
	said := make([]map[*seated]func() map[uint32]time.Time, load.calls)
	var all []*seated
	var stops []func()
	defer func() {
		for _, stop := range stops {
			stop()
		}
		for _, s := range all {
			s.Close()
		}
	}()
	for k := range calls {
		c.call = sfu.CallID{ID: snowflake.ID(first + uint64(k))}
		for i := range load.members {
			node := side(k, i)
			// So far that nodes as young as these, which take only few calls, do.
			rtt := map[string]float64{"edge1": 900, "edge2": 900, "edge3": 900}
			rtt[node] = 10
			s := c.seat(uint64(c.call.ID)*100+uint64(i), &delays{at: map[sfu.UserID]map[uint32]time.Time{}}, rtt)
			calls[k], all = append(calls[k], s), append(all, s)
			if s.node != edgeagent.NodeID(node) {
				return cost, fmt.Sprintf("user %v is seated on %s: %s", s.user, s.node, ctlSays(c.t, c.text.data, "explain", c.call.String()))
			}
		}
	}
	talkers := load.calls * load.talkers
	for k, members := range calls {
		said[k] = map[*seated]func() map[uint32]time.Time{}
		for _, s := range members[:load.talkers] {
			var stop func()
			said[k][s], stop = s.says(c.t, frameTime*time.Duration(len(stops))/time.Duration(talkers))
			stops = append(stops, stop)
		}
	}
	for _, members := range calls {
		for i, s := range members {
			if talker := members[(i+1)%load.talkers]; !s.hears(talker, 25, wait) {
				return cost, fmt.Sprintf("user %v does not hear %v", s.user, talker.user)
			}
		}
	}
	heard := func() (n int) {
		for _, s := range all {
			n += s.ear.count()
		}
		return n
	}
	before, came := c.busy(), heard()
	time.Sleep(window)
	cost.busy, cost.packets = c.busy().less(before).less(idle), heard()-came
	var near, far []time.Duration
	for i, stop := range stops {
		stop()
		talker := calls[i/load.talkers][i%load.talkers]
		spoken := said[i/load.talkers][talker]()
		for _, s := range calls[i/load.talkers] {
			ways := ways(spoken, s.ear.of(talker.user))
			if s.node == talker.node {
				near = append(near, ways...)
			} else {
				far = append(far, ways...)
			}
		}
	}
	cost.near, cost.far = [2]time.Duration{quantile(near, 0.5), quantile(near, 0.99)}, [2]time.Duration{quantile(far, 0.5), quantile(far, 0.99)}
	want := load.calls * load.talkers * (load.members - 1) * int(window/frameTime) / 2
	switch {
	case cost.packets < want:
		void = fmt.Sprintf("%d packets came, want %d", cost.packets, want)
	case len(c.edges.told) > 0:
		void = fmt.Sprintf("a call was moved: %+v", (<-c.edges.told).Moved)
	}
	return cost, void
}

// TestRelayedPacketsAreCheap compares calls that are each on one node with the same
// calls each spread over two, where more than half of the packets that come to
// listeners crossed a link. Both ways the calls are on two nodes, as many on each:
// what is compared is whether they cross, not how much each engine has to do at once.
//
// A relayed packet is one of a speaker that crosses a link, once for whoever listens
// there, so what it costs is all that agents and engines of both nodes do for it:
// receive, decrypt, bring across, encrypt and send it to each of its listeners. A
// local one is received, decrypted, encrypted and sent to as many listeners by one
// node, and the two are compared as they are; as every packet of a spread call here
// crosses, and all have equally many listeners, that is the processor time per packet
// that came to one, of spread calls over that of the others.
//
// Told with it is the harsher ratio that lays the crossing on those alone who are
// beyond it: the processor time of spread calls, less that of as many packets on one
// node as came to listeners beside the speaker, over the packets that came to the
// others, as a multiple of what a packet costs when no call is spread.
//
// What a crossing costs depends on how many there are to share a datagram, so it is
// judged at a load that a link is made for, and shown at the least there is.
func TestRelayedPacketsAreCheap(t *testing.T) {
	e := launchEdges(t)
	conn, err := bus.Connect(t.Context(), bus.Config{URL: e.args[2], Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c := &cascade{edges: e, place: allocatorserver.NewClient(conn)}
	loads, window := []relayLoad{{1, 8, 8}}, 2*time.Second
	// What it costs is judged where it is asked for, with a machine for it alone.
	judged := os.Getenv("VOICEFLEET_CASCADE") != ""
	if judged {
		loads, window = []relayLoad{{1, 8, 8}, {20, 8, 3}}, 10*time.Second
	}
	idle := c.busy()
	time.Sleep(window)
	idle = c.busy().less(idle)
	t.Logf("idle: %v in %v", idle, window)
	for i, load := range loads {
		sides := []string{"edge1", []string{"edge2", "edge3"}[i]}
		// Of three talkers two are here in one call, and there in the next.
		spread := func(call, member int) string { return sides[(call+member)%2] }
		whole := func(call, member int) string { return sides[call%2] }
		crossing, added, rounds := []float64{}, []time.Duration{}, 1
		if judged && load.calls > 1 {
			rounds = relayRounds
		}
		for round := range rounds {
			first := uint64(10_000*i + 1000*round)
			local := c.carry(first+1000, load, whole, window, idle)
			two := c.carry(first+1500, load, spread, window, idle)
			relayed := float64(two.packets) * float64(load.members/2) / float64(load.members-1)
			each := local.each()
			over := (two.busy.all().Seconds() - each*(float64(two.packets)-relayed)) / relayed
			t.Logf("%v: each call on one node: %d packets came to listeners for %v, %.1f µs each; each on two: %d for %v, %.1f µs each: a packet that crosses costs %.2f times as much (laid on those beyond the link alone: %.1f µs, %.2f times); median way and that of 99 %% %v, over a link %v",
				load, local.packets, local.busy, each*1e6, two.packets, two.busy, two.each()*1e6, two.each()/each, over*1e6, over/each, two.near, two.far)
			crossing, added = append(crossing, two.each()/each), append(added, two.far[0]-two.near[0])
		}
		if rounds == 1 {
			continue
		}
		slices.Sort(crossing)
		t.Logf("%v: a packet that crosses costs %.2f times as much, and its way is %v longer: medians of %d rounds", load, crossing[rounds/2], quantile(added, 0.5), rounds)
		if crossing[rounds/2] > relayCost {
			t.Errorf("%v: a packet that crosses a link costs %.2f times as much, at most %v may be", load, crossing[rounds/2], relayCost)
		}
		if added := quantile(added, 0.5); added > addedLimit {
			t.Errorf("%v: %v are added by the second node, at most %v may be", load, added, addedLimit)
		}
	}
}
