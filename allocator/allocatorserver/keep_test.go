package allocatorserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// puppet is a node on the real bus that beats what it is told, takes orders, and
// answers probes while it lives.
type puppet struct {
	f    *fleet
	id   edgeagent.NodeID
	conn *bus.Conn

	mu     sync.Mutex
	hb     edgeagent.Heartbeat
	alive  bool
	closed map[sfu.CallID]time.Time // when its sessions were ended
	sent   []sfu.UserID             // away
	nodes  *bus.Bucket[edgeagent.Heartbeat]
	stop   context.CancelFunc
	beat   chan struct{}
	gone   chan struct{}
}

// puppets are the nodes of a fleet by id; they answer the allocators' probes.
type puppets struct {
	mu  sync.Mutex
	all map[edgeagent.NodeID]*puppet
}

func (ps *puppets) probe(ctx context.Context, hb edgeagent.Heartbeat) keeper.Answer {
	ps.mu.Lock()
	p := ps.all[hb.Node]
	ps.mu.Unlock()
	if p != nil && p.lives() {
		return keeper.Answer{Came: true}
	}
	<-ctx.Done()
	return keeper.Answer{}
}

func (p *puppet) lives() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive
}

func (ps *puppets) start(f *fleet, id string) *puppet {
	f.t.Helper()
	conn, err := bus.Connect(f.ctx, bus.Config{URL: f.servers.URL(), Name: bus.ClientName(bus.RoleEdge, id)})
	if err != nil {
		f.t.Fatal(err)
	}
	p := &puppet{f: f, id: edgeagent.NodeID(id), conn: conn, alive: true, closed: map[sfu.CallID]time.Time{}, beat: make(chan struct{}, 1)}
	p.hb = edgeagent.Heartbeat{
		Node: p.id, State: edgeagent.Ready, Region: "eu", Started: time.Now(),
		Capacity: edgeagent.Capacity{PPS: 90e6, BPS: 700e9, Sessions: 100_000},
	}
	if p.nodes, err = bus.OpenBucket[edgeagent.Heartbeat](f.ctx, conn, bus.NodesBucket); err != nil {
		f.t.Fatal(err)
	}
	serving, err := bus.Serve(f.ctx, conn, bus.Service{
		Name: "edgeagent", Subject: bus.NodeSubject(id, ""),
		Code: func(err error) (string, string) { return string(edgeagent.CodeOf(err)), err.Error() },
		Verbs: []bus.Verb{
			bus.Handle("close", p.close),
			bus.Handle("drain", func(ctx context.Context, r edgeagent.DrainRequest) (edgeagent.DrainReply, error) {
				return p.drain(r, edgeagent.Draining)
			}),
			bus.Handle("undrain", func(ctx context.Context, r edgeagent.DrainRequest) (edgeagent.DrainReply, error) {
				return p.drain(r, edgeagent.Ready)
			}),
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	p.beats()
	f.t.Cleanup(func() { p.stop(); <-p.gone; serving.Stop(); conn.Close() })
	ps.mu.Lock()
	ps.all[p.id] = p
	ps.mu.Unlock()
	return p
}

// beats has it beat until mute.
func (p *puppet) beats() {
	ctx, stop := context.WithCancel(p.f.ctx)
	gone := make(chan struct{})
	p.stop, p.gone = stop, gone
	go func() {
		defer close(gone)
		tick := time.NewTicker(edgeagent.HeartbeatInterval)
		defer tick.Stop()
		for {
			p.mu.Lock()
			hb := p.hb
			hb.At, hb.Calls = time.Now(), slices.Clone(hb.Calls)
			p.mu.Unlock()
			putting, cancel := context.WithTimeout(ctx, edgeagent.HeartbeatInterval)
			_, _ = p.nodes.Put(putting, string(p.id), hb) // the bus may be away
			cancel()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-p.beat:
			case <-p.conn.Reconnected():
			}
		}
	}()
}

// mute ends its heartbeats; it still answers probes.
func (p *puppet) mute() {
	p.stop()
	<-p.gone
}

func (p *puppet) change(fn func(*edgeagent.Heartbeat)) {
	p.mu.Lock()
	fn(&p.hb)
	p.mu.Unlock()
	select {
	case p.beat <- struct{}{}:
	default:
	}
}

// seat opens n sessions of a call.
func (p *puppet) seat(call int, epoch uint64, n int) {
	id := sfu.CallID{ID: snowflake.ID(call)}
	p.change(func(hb *edgeagent.Heartbeat) {
		hb.Calls = slices.DeleteFunc(slices.Clone(hb.Calls), func(c edgeagent.CallOnANode) bool { return c.Call == id })
		hb.Calls = append(hb.Calls, edgeagent.CallOnANode{Call: id, Epoch: epoch, Sessions: n})
		hb.Epoch = max(hb.Epoch, epoch)
		hb.Load.Sessions += n
	})
}

func (p *puppet) close(_ context.Context, r edgeagent.CloseRequest) (bus.Done, error) {
	if r.Reason == edgeagent.Moved {
		p.change(func(hb *edgeagent.Heartbeat) {
			hb.Calls = slices.DeleteFunc(slices.Clone(hb.Calls), func(c edgeagent.CallOnANode) bool { return c.Call == r.Call })
			p.closed[r.Call] = time.Now()
		})
		return bus.Done{}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.ContainsFunc(p.hb.Calls, func(c edgeagent.CallOnANode) bool { return c.Call == r.Call }) {
		return bus.Done{}, &edgeagent.Error{Code: edgeagent.CodeNoSession, Message: "no such session"}
	}
	p.sent = append(p.sent, r.User)
	return bus.Done{}, nil
}

func (p *puppet) drain(r edgeagent.DrainRequest, state edgeagent.State) (edgeagent.DrainReply, error) {
	p.change(func(hb *edgeagent.Heartbeat) { hb.State, hb.Emptying, hb.Until = state, r.Empty, r.Until })
	return edgeagent.DrainReply{Draining: state == edgeagent.Draining, Emptying: r.Empty, Changed: true}, nil
}

// kill ends it without a word; freeze leaves its connection open.
func (p *puppet) kill() { p.die(); p.conn.Close() }

func (p *puppet) die() {
	p.mu.Lock()
	p.alive = false
	p.mu.Unlock()
	p.mute()
}

// moves collects what is told.
type moves struct {
	mu   sync.Mutex
	told map[sfu.CallID][]allocator.Moved
	at   map[sfu.CallID]time.Time // the first time
	more chan struct{}
}

func (f *fleet) moves() *moves {
	m := &moves{told: map[sfu.CallID][]allocator.Moved{}, at: map[sfu.CallID]time.Time{}, more: make(chan struct{}, 1)}
	cancel, err := NewClient(f.conn).SubscribeMoved(func(x allocator.Moved) {
		m.mu.Lock()
		if m.told[x.Call] == nil {
			m.at[x.Call] = time.Now()
		}
		m.told[x.Call] = append(m.told[x.Call], x)
		m.mu.Unlock()
		select {
		case m.more <- struct{}{}:
		default:
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(cancel)
	return m
}

// now is what was told until now, and when for the first time.
func (m *moves) now() (told map[sfu.CallID][]allocator.Moved, at map[sfu.CallID]time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.told), maps.Clone(m.at)
}

// until waits until ok, which is asked after every move.
func (m *moves) until(t testing.TB, what string, ok func(told map[sfu.CallID][]allocator.Moved) bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		m.mu.Lock()
		done := ok(m.told)
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-m.more:
		case <-deadline:
			t.Fatalf("%s: not in time, told %v", what, m.told)
		}
	}
}

// TestKickedWhileItsCallMoves: who is sent away while its call moves as planned is sent
// away from the node that it still hears, too.
func TestKickedWhileItsCallMoves(t *testing.T) {
	_, f, a, b := newPair(t, startOne(t), 1, 1, 2)
	c := NewClient(f.conn)
	if _, err := c.Move(f.ctx, allocator.MoveRequest{Call: sfu.CallID{ID: 1}, By: "test", Cause: allocator.CauseOverload}); err != nil {
		t.Fatal(err)
	}
	remove := func(user int) {
		t.Helper()
		if err := c.Remove(f.ctx, allocator.RemoveRequest{Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: snowflake.ID(user)}, Reason: "kicked"}); err != nil {
			t.Fatal(err)
		}
	}
	sent := func(p *puppet) int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.sent)
	}
	remove(7) // nobody has come to b yet
	if sent(a) != 1 || sent(b) != 0 {
		t.Errorf("%d sent away from the old node, %d from the new one", sent(a), sent(b))
	}
	e, err := c.Explain(f.ctx, sfu.CallID{ID: 1})
	if err != nil || e.Entry == nil || e.Entry.Node != "b" {
		t.Fatalf("the call is %+v, %v", e.Entry, err)
	}
	b.seat(1, e.Entry.Epoch, 1)
	remove(8)
	if sent(a) != 2 || sent(b) != 1 {
		t.Errorf("%d sent away from the old node, %d from the new one", sent(a), sent(b))
	}
}

// newPair is a fleet of two nodes that are puppets: calls of size users each are on a.
func newPair(t testing.TB, on servers, allocators, calls, size int) (ps *puppets, f *fleet, a, b *puppet) {
	t.Helper()
	ps = &puppets{all: map[edgeagent.NodeID]*puppet{}}
	f = newFleetOn(t, on, allocators, ps.probe)
	a = ps.start(f, "a")
	f.settle(a, calls, size)
	b = ps.start(f, "b")
	f.await("two nodes", func(nodes []allocator.NodeView) bool { return ready(2)(nodes) && nodes[0].CallCount == calls })
	return ps, f, a, b
}

// settle places n calls of size sessions each on the only node, and shows them.
func (f *fleet) settle(p *puppet, n, size int) {
	f.t.Helper()
	for call := 1; call <= n; call++ {
		a, err := f.place(call, call)
		if err != nil || a.Node != p.id {
			f.t.Fatalf("call %d at %+v, %v", call, a, err)
		}
		p.seat(call, a.Epoch, size)
	}
}

// await asks the allocators until ok of what each of them says.
func (f *fleet) await(what string, ok func([]allocator.NodeView) bool) {
	f.t.Helper()
	deadline, look := time.Now().Add(60*time.Second), time.NewTicker(10*time.Millisecond)
	defer look.Stop()
	for _, s := range f.serving {
		for {
			page, err := s.nodes(f.ctx, allocator.PageRequest{})
			if err == nil && ok(page.Nodes) {
				break
			}
			if time.Now().After(deadline) {
				f.t.Fatalf("%s: not in time: %+v %v", what, page.Nodes, err)
			}
			<-look.C
		}
	}
}

func ready(n int) func([]allocator.NodeView) bool {
	return func(nodes []allocator.NodeView) bool {
		count := 0
		for _, v := range nodes {
			if v.State == edgeagent.Ready {
				count++
			}
		}
		return count == n
	}
}

// TestFailover: a node is killed, with 40 calls of 5. Each is moved once, by one of
// two allocators, over the survivors, and told within a fraction of a second.
func TestFailover(t *testing.T) { onBoth(t, failover) }

func failover(t *testing.T, s servers) {
	ps := &puppets{all: map[edgeagent.NodeID]*puppet{}}
	f := newFleetOn(t, s, 2, ps.probe)
	a := ps.start(f, "a")
	const calls = 40
	f.settle(a, calls, 5)
	for _, id := range []string{"b", "c", "d"} {
		ps.start(f, id)
	}
	f.await("four nodes", func(nodes []allocator.NodeView) bool {
		return ready(4)(nodes) && nodes[0].CallCount == calls
	})
	m := f.moves()
	killed := time.Now()
	a.kill()
	m.until(t, "all moved", func(told map[sfu.CallID][]allocator.Moved) bool { return len(told) == calls })
	to := map[edgeagent.NodeID]int{}
	var took []time.Duration
	told, at := m.now()
	for id, list := range told {
		x := list[0]
		if x.From != "a" || x.Cause != allocator.CauseNodeLost || x.Planned || x.To == "a" {
			t.Errorf("told %+v", x)
		}
		for _, again := range list {
			if again.Epoch != x.Epoch || again.To != x.To {
				t.Errorf("call %v was moved twice: %+v", id, list)
			}
		}
		to[x.To]++
		took = append(took, at[id].Sub(killed))
	}
	slices.Sort(took)
	t.Logf("told after %v (p50), %v (max); over %v", took[calls/2], took[calls-1], to)
	// Half a second, on a machine of one's own. On a busy one what counts is that nobody
	// waited for heartbeats to be missed.
	if took[calls/2] > time.Second && !strings.Contains(f.reason(allocator.DeedSuspect, "a"), "connection closed") {
		t.Errorf("half of the moves took longer than %v", took[calls/2])
	}
	for n, got := range to {
		if got > calls*2/3 {
			t.Errorf("%d of %d calls went to %s: %v", got, calls, n, to)
		}
	}
	// Who asks now is sent to the new node, whichever allocator answers.
	for call := 1; call <= calls; call++ {
		moved := told[sfu.CallID{ID: snowflake.ID(call)}][0]
		got, err := NewClient(f.conn).Place(f.ctx, allocator.PlaceRequest{
			Guild: "1", Call: moved.Call, User: sfu.UserID{ID: 1}, Session: "gw", Epoch: moved.Epoch,
		})
		if err != nil || got.Node != moved.To || got.Epoch != moved.Epoch {
			t.Fatalf("call %d was moved to %+v and is placed at %+v, %v", call, moved, got, err)
		}
	}
	// Nobody shows sessions on the new nodes: it is told again.
	m.until(t, "told again", func(told map[sfu.CallID][]allocator.Moved) bool {
		return !slices.ContainsFunc(slices.Collect(maps.Values(told)), func(l []allocator.Moved) bool { return len(l) < 2 })
	})
	// The journal tells why, once for both allocators.
	deadline := time.Now().Add(60 * time.Second)
	for {
		rep, err := NewClient(f.conn).Journal(f.ctx, allocator.JournalRequest{Node: "a"})
		deeds := map[allocator.Deed]int{}
		for _, e := range rep.Entries {
			deeds[e.Deed]++
		}
		if deeds[allocator.DeedLost] >= 1 && deeds[allocator.DeedMove] == calls {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the journal has %v, %v", deeds, err)
		}
	}
}

// TestFrozenNodeIsFenced: a node that stands still is lost within 2.5 s; when it
// wakes, its sessions of calls that live elsewhere are ended at once.
func TestFrozenNodeIsFenced(t *testing.T) {
	ps, f, a, _ := newPair(t, startOne(t), 2, 3, 2)
	m := f.moves()
	frozen := time.Now()
	a.die()
	m.until(t, "all moved", func(told map[sfu.CallID][]allocator.Moved) bool { return len(told) == 3 })
	// 2.5 s, on a machine of one's own. On a busy one what counts is that nobody waited
	// for its lease to end.
	if took := time.Since(frozen); took > 3*time.Second && !strings.Contains(f.reason(allocator.DeedSuspect, "a"), "no heartbeat") {
		t.Errorf("told after %v", took)
	}
	// It wakes with what it had.
	calls := a.hb.Calls
	a.conn.Close()
	again := ps.start(f, "a")
	again.change(func(hb *edgeagent.Heartbeat) { hb.Calls = calls })
	woke := time.Now()
	for deadline := woke.Add(10 * time.Second); ; {
		again.mu.Lock()
		n := len(again.closed)
		again.mu.Unlock()
		if n == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of 3 calls were ended", n)
		}
	}
	t.Logf("fenced %v after it woke", time.Since(woke))
	f.await("it takes calls again", ready(2))
}

// TestGuard: no node beats any more, and all answer on their media port: it is the
// way to them that is ill. They are held, nothing is moved, and all is as before when
// they beat again.
func TestGuard(t *testing.T) {
	onBoth(t, func(t *testing.T, s servers) {
		for _, n := range []int{3, 10} {
			t.Run(fmt.Sprint(n, " nodes"), func(t *testing.T) { guard(t, s, n) })
			s.restart(false) // the journal of the next one is empty
		}
	})
}

func guard(t *testing.T, s servers, n int) {
	ps := &puppets{all: map[edgeagent.NodeID]*puppet{}}
	f := newFleetOn(t, s, 2, ps.probe)
	for i := range n {
		ps.start(f, fmt.Sprintf("n%02d", i))
	}
	f.await("all nodes", ready(n))
	const calls = 40
	for call := 1; call <= calls; call++ {
		a, err := f.place(call, call)
		if err != nil {
			t.Fatal(err)
		}
		ps.all[a.Node].seat(call, a.Epoch, 3)
	}
	f.await("all calls", func(nodes []allocator.NodeView) bool {
		shown := 0
		for _, v := range nodes {
			shown += v.CallCount
		}
		return shown == calls
	})
	m := f.moves()
	for _, p := range ps.all {
		p.mute()
	}
	f.journal("all are held", func(deeds map[allocator.Deed]map[edgeagent.NodeID]bool) bool {
		return len(deeds[allocator.DeedHold]) == n
	})
	for _, p := range ps.all {
		p.beats()
	}
	f.journal("all are back", func(deeds map[allocator.Deed]map[edgeagent.NodeID]bool) bool {
		return len(deeds[allocator.DeedBack]) == n
	})
	f.await("nobody is suspect", func(nodes []allocator.NodeView) bool {
		return !slices.ContainsFunc(nodes, func(v allocator.NodeView) bool { return v.Suspect })
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.told) > 0 {
		t.Errorf("moved: %v", m.told)
	}
	f.journal("nobody is lost", func(deeds map[allocator.Deed]map[edgeagent.NodeID]bool) bool {
		return len(deeds[allocator.DeedLost]) == 0
	})
}

// journal reads the journal until ok of the nodes by what was done to them.
func (f *fleet) journal(what string, ok func(deeds map[allocator.Deed]map[edgeagent.NodeID]bool) bool) {
	f.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; {
		rep, err := NewClient(f.conn).Journal(f.ctx, allocator.JournalRequest{})
		deeds := map[allocator.Deed]map[edgeagent.NodeID]bool{}
		for _, e := range rep.Entries {
			if deeds[e.Deed] == nil {
				deeds[e.Deed] = map[edgeagent.NodeID]bool{}
			}
			deeds[e.Deed][e.Node] = true
		}
		if err == nil && ok(deeds) {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not in time: %v %v", what, deeds, err)
		}
	}
}

// reason is what the journal gives as reason of a deed, each time it was done to the node.
func (f *fleet) reason(deed allocator.Deed, node edgeagent.NodeID) string {
	f.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		rep, err := NewClient(f.conn).Journal(f.ctx, allocator.JournalRequest{Node: node})
		why := ""
		for _, e := range rep.Entries {
			if e.Deed == deed {
				why += e.Why + "\n"
			}
		}
		if why != "" {
			return why
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the journal of %s has no %s: %+v, %v", node, deed, rep.Entries, err)
		}
	}
}

// TestCutOffNode: a node beats no more and answers on its media port. Who joins its call
// waits for it, and then takes the call to the other one; of another call an order is
// refused at once.
func TestCutOffNode(t *testing.T) {
	_, f, a, _ := newPair(t, startOne(t), 1, 2, 2)
	m := f.moves()
	a.mute()
	f.journal("it is held", func(deeds map[allocator.Deed]map[edgeagent.NodeID]bool) bool { return deeds[allocator.DeedHold]["a"] })
	if got, err := f.place(1, 900); err != nil || got.Node != "b" {
		t.Fatalf("placed on %s, %v", got.Node, err)
	}
	m.until(t, "told", func(told map[sfu.CallID][]allocator.Moved) bool { return len(told) == 1 })
	m.mu.Lock()
	one := m.told[sfu.CallID{ID: 1}][0]
	m.mu.Unlock()
	if one.From != "a" || one.To != "b" || !one.Planned || one.Cause != allocator.CauseNodeLost {
		t.Errorf("told %+v", one)
	}
	err := NewClient(f.conn).Remove(f.ctx, allocator.RemoveRequest{Call: sfu.CallID{ID: 2}, User: sfu.UserID{ID: 1}, Reason: "kicked"})
	if refused := (*allocator.Error)(nil); !errors.As(err, &refused) || refused.Code != allocator.CodeUnavailable || !strings.Contains(refused.Message, "cut off") {
		t.Errorf("a removal: %v", err)
	}
}

// TestAMoveThatWasNotToldIsTold: an allocator dies after it has written a move and
// before it has told it. Another one tells it; nobody moves the call again.
func TestAMoveThatWasNotToldIsTold(t *testing.T) {
	_, f, _, _ := newPair(t, startOne(t), 2, 1, 2)
	calls, err := bus.OpenBucket[allocator.CallEntry](f.ctx, f.conn, bus.CallsBucket)
	if err != nil {
		t.Fatal(err)
	}
	e, err := calls.Find(f.ctx, "1")
	if err != nil {
		t.Fatal(err)
	}
	m := f.moves()
	next, now := e.Value, time.Now()
	next.Node, next.Epoch, next.Touched, next.Created = "b", e.Value.Epoch+1, now, now
	next.Move = &allocator.CallMove{From: "a", Cause: allocator.CauseDrain, Planned: true, At: now, Sessions: 2}
	if _, err := calls.Update(f.ctx, "1", next, e.Revision); err != nil {
		t.Fatal(err)
	}
	m.until(t, "told by another", func(told map[sfu.CallID][]allocator.Moved) bool { return len(told[next.Call]) >= 2 })
	told, at := m.now()
	for _, x := range told[next.Call] {
		if x.From != "a" || x.To != "b" || x.Epoch != next.Epoch || !x.Planned || x.Cause != allocator.CauseDrain {
			t.Errorf("told %+v", x)
		}
	}
	if took := at[next.Call].Sub(now); took < 500*time.Millisecond {
		t.Errorf("told after %v", took)
	}
}

// TestDrainMovesCalls: new calls go elsewhere at once, live ones are moved make
// before break: the old sessions end when the new ones are there, or after 5 s.
func TestDrainMovesCalls(t *testing.T) { onBoth(t, drainMovesCalls) }

func drainMovesCalls(t *testing.T, s servers) {
	const calls, size = 40, 5
	_, f, a, b := newPair(t, s, 2, calls, size)
	c := NewClient(f.conn)
	plan, err := c.Drain(f.ctx, allocator.Order{Node: "a", By: "test", DryRun: true})
	if err != nil || len(plan.Plan) != calls || plan.Plan[0].To != "b" || plan.State != edgeagent.Ready {
		t.Fatalf("dry run: %+v, %v", plan, err)
	}
	m := f.moves()
	// Members follow at once, but those of call 1.
	stay := sfu.CallID{ID: 1}
	cancel, err := c.SubscribeMoved(func(x allocator.Moved) {
		if x.Call != stay {
			b.seat(int(x.Call.ID), x.Epoch, size)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	began := time.Now()
	if p, err := c.Drain(f.ctx, allocator.Order{Node: "a", By: "test", Reason: "new kernel"}); err != nil || p.State != edgeagent.Draining || !p.Emptying {
		t.Fatalf("drain: %+v, %v", p, err)
	}
	if got, err := f.place(999, 1); err != nil || got.Node != "b" {
		t.Errorf("a new call goes to %+v, %v", got, err)
	}
	m.until(t, "all moved", func(told map[sfu.CallID][]allocator.Moved) bool { return len(told) >= calls })
	told, _ := m.now()
	for _, list := range told {
		if x := list[0]; !x.Planned || x.Cause != allocator.CauseDrain || x.To != "b" {
			t.Errorf("told %+v", x)
		}
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		p, err := c.Progress(f.ctx, "a")
		if err == nil && p.Calls == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %+v, %v", p, err)
		}
	}
	took := time.Since(began)
	t.Logf("%d users left in %v", calls*size, took)
	if took > 30*time.Second {
		t.Errorf("draining took %v", took)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, at := range a.closed {
		wait := at.Sub(told[id][0].At) // not when it came here, which may be later
		if id == stay && wait < 4500*time.Millisecond {
			t.Errorf("those of call %v, who had not come yet, were ended after %v", id, wait)
		}
	}
}

// TestBusRestart: all servers of the bus end, with all they had; 40 calls run on.
// None is moved, none is split, and epochs only grow.
func TestBusRestart(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprintf("calls kept %v", keep), func(t *testing.T) {
			onBoth(t, func(t *testing.T, s servers) {
				ps := &puppets{all: map[edgeagent.NodeID]*puppet{}}
				f := newFleetOn(t, s, 2, ps.probe)
				nodes := []*puppet{ps.start(f, "a"), ps.start(f, "b"), ps.start(f, "c")}
				f.await("three nodes", ready(3))
				const calls = 40
				at := map[int]allocator.Assignment{}
				for call := 1; call <= calls; call++ {
					a, err := f.place(call, call)
					if err != nil {
						t.Fatal(err)
					}
					at[call] = a
					ps.all[a.Node].seat(call, a.Epoch, 3)
				}
				f.await("all shown", func(v []allocator.NodeView) bool {
					return len(v) == 3 && v[0].CallCount+v[1].CallCount+v[2].CallCount == calls
				})
				m := f.moves()
				s.restart(keep)
				for call := 1; call <= calls; call++ {
					a, err := f.place(call, 1000+call)
					if err != nil || a.Node != at[call].Node || a.Epoch != at[call].Epoch {
						t.Errorf("call %d was at %s@%d and is placed at %s@%d, %v", call, at[call].Node, at[call].Epoch, a.Node, a.Epoch, err)
					}
				}
				fresh, err := f.place(calls+1, 1)
				if err != nil {
					t.Fatal(err)
				}
				for call, a := range at {
					if fresh.Epoch <= a.Epoch {
						t.Errorf("a new call has epoch %d, call %d had %d", fresh.Epoch, call, a.Epoch)
					}
				}
				f.await("all nodes are back", ready(3))
				m.mu.Lock()
				defer m.mu.Unlock()
				if len(m.told) > 0 {
					t.Errorf("moved: %v", m.told)
				}
				for _, n := range nodes {
					n.mu.Lock()
					if len(n.closed) > 0 {
						t.Errorf("node %s was told to end %v", n.id, n.closed)
					}
					n.mu.Unlock()
				}
			})
		})
	}
}

// TestLeaderDies: the server dies that takes the writes of a bucket. Who joins a live
// call waits for no write, who begins one waits until another server leads; no node
// is taken for dead, for heartbeats are overheard.
func TestLeaderDies(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	for _, bucket := range []string{bus.NodesBucket, bus.CallsBucket} {
		round := func(t *testing.T) (quick bool) {
			s := three{bustest.Start(t)}
			ps := &puppets{all: map[edgeagent.NodeID]*puppet{}}
			f := newFleetOn(t, s, 2, ps.probe)
			for _, id := range []string{"a", "b", "c", "d"} {
				ps.start(f, id)
			}
			f.await("four nodes", ready(4))
			entries, err := bus.OpenBucket[allocator.CallEntry](f.ctx, f.conn, bus.CallsBucket)
			if err != nil {
				t.Fatal(err)
			}
			const calls = 20
			at := map[int]allocator.Assignment{}
			for call := 1; call <= calls; call++ {
				a, err := f.place(call, call)
				if err != nil {
					t.Fatal(err)
				}
				ps.all[a.Node].seat(call, a.Epoch, 3)
				at[call] = a
				// So long ago that who joins now has it written that the call lives.
				e, err := entries.Find(f.ctx, fmt.Sprint(call))
				for errors.Is(err, bus.ErrNotFound) { // not every server has it yet
					e, err = entries.Find(f.ctx, fmt.Sprint(call))
				}
				if err != nil {
					t.Fatal(err)
				}
				e.Value.Touched = e.Value.Touched.Add(-time.Minute)
				if _, err := entries.Update(f.ctx, e.Key, e.Value, e.Revision); err != nil {
					t.Fatal(err)
				}
			}
			f.await("all shown", func(nodes []allocator.NodeView) bool {
				shown := 0
				for _, v := range nodes {
					shown += v.CallCount
				}
				return shown == calls
			})
			m := f.moves()
			leader := s.leader(t, bucket)
			s.Kill(leader)
			killed := time.Now()
			var all sync.WaitGroup
			var mu sync.Mutex
			slowest := map[string]time.Duration{}
			for call := 1; call <= 2*calls; call++ {
				all.Go(func() {
					a, err := f.place(call, 1000+call)
					took := time.Since(killed)
					was, live := at[call]
					if err != nil || live && (a.Node != was.Node || a.Epoch != was.Epoch) {
						t.Errorf("call %d was at %+v and is placed at %+v, %v", call, was, a, err)
					}
					kind := map[bool]string{true: "live", false: "new"}[live]
					mu.Lock()
					defer mu.Unlock()
					slowest[kind] = max(slowest[kind], took)
				})
			}
			all.Wait()
			t.Logf("slowest join of a live call %v, of a new one %v", slowest["live"].Round(time.Millisecond), slowest["new"].Round(time.Millisecond))
			f.journal("nobody is lost", func(deeds map[allocator.Deed]map[edgeagent.NodeID]bool) bool {
				if len(deeds[allocator.DeedSuspect]) > 0 {
					t.Errorf("suspect: %v", deeds[allocator.DeedSuspect])
				}
				return len(deeds[allocator.DeedLost]) == 0
			})
			m.mu.Lock()
			defer m.mu.Unlock()
			if len(m.told) > 0 {
				t.Errorf("moved: %v", m.told)
			}
			return slowest["live"] <= 2*time.Second && slowest["new"] <= 3*time.Second
		}
		t.Run(bucket, func(t *testing.T) {
			for n := range 3 { // a machine that is busy with something else is so once
				quick := false
				t.Run(fmt.Sprint(n+1), func(t *testing.T) { quick = round(t) })
				if quick || t.Failed() {
					return
				}
			}
			t.Error("joins waited too long")
		})
	}
}
