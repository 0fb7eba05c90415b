package allocatorserver

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

func TestMain(m *testing.M) {
	bustest.Serve(serve)
	goleak.VerifyTestMain(m, bustest.Left()...)
}

// fleet is a real bus with some allocators and nodes that only beat.
type fleet struct {
	t       testing.TB
	servers servers
	ctx     context.Context
	conn    *bus.Conn
	nodes   *bus.Bucket[edgeagent.Heartbeat]
	keys    *bus.Keys
	serving []*Server

	all   sync.WaitGroup
	conns []*bus.Conn
}

func newFleet(t testing.TB, allocators int, nodes ...string) *fleet {
	t.Helper()
	return newFleetOn(t, startOne(t), allocators, nil, nodes...)
}

// newFleetOn is newFleet with a bus and an answer to probes.
func newFleetOn(t testing.TB, servers servers, allocators int, probe func(context.Context, edgeagent.Heartbeat) keeper.Answer, nodes ...string) *fleet {
	t.Helper()
	return newFleetOf(t, fleetConfig{servers: servers, allocators: allocators, probe: probe}, nodes...)
}

type fleetConfig struct {
	servers    servers
	allocators int
	probe      func(context.Context, edgeagent.Heartbeat) keeper.Answer
	metrics    prometheus.Registerer
}

func newFleetOf(t testing.TB, cfg fleetConfig, nodes ...string) *fleet {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &fleet{t: t, servers: cfg.servers, ctx: ctx, keys: bus.NewKeys()}
	t.Cleanup(func() {
		cancel()
		f.all.Wait()
		for _, c := range f.conns {
			c.Close()
		}
	})
	f.conn = f.connect()
	var err error
	if f.nodes, err = bus.OpenBucket[edgeagent.Heartbeat](ctx, f.conn, bus.NodesBucket); err != nil {
		t.Fatal(err)
	}
	gateways, err := bus.OpenBucket[string](ctx, f.conn, bus.SignalingBucket)
	if err != nil {
		t.Fatal(err)
	}
	f.all.Go(func() { bus.Lease(ctx, gateways, "sig-1", ":8443", time.Second) })
	f.all.Go(func() { _ = f.keys.Run(ctx, f.conn) })
	for _, n := range nodes {
		f.all.Go(func() {
			bus.Lease(ctx, f.nodes, n, edgeagent.Heartbeat{
				Node: edgeagent.NodeID(n), State: edgeagent.Ready, Region: "eu",
				Capacity: edgeagent.Capacity{PPS: 90e6, BPS: 700e9, Sessions: 100_000},
			}, time.Second)
		})
	}
	for i := range cfg.allocators {
		f.begin(Config{Seed: uint64(i) + 1, Probe: cfg.probe, Metrics: cfg.metrics})
	}
	return f
}

func (f *fleet) connect() *bus.Conn {
	f.t.Helper()
	c, err := bus.Connect(f.ctx, bus.Config{URL: f.servers.URL()})
	if err != nil {
		f.t.Fatal(err)
	}
	f.conns = append(f.conns, c)
	return c
}

// begin starts one more allocator, on a connection of its own.
func (f *fleet) begin(cfg Config) *Server {
	f.t.Helper()
	cfg.Bus = f.connect()
	s, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.serving = append(f.serving, s)
	f.all.Go(func() {
		if err := s.Run(f.ctx); err != nil {
			f.t.Errorf("allocator: %v", err)
		}
	})
	return s
}

// place asks until the allocators have seen the nodes and gateways.
func (f *fleet) place(call, user int) (allocator.Assignment, error) {
	c := NewClient(f.conn)
	deadline := time.Now().Add(60 * time.Second)
	for {
		a, err := c.Place(f.ctx, allocator.PlaceRequest{
			Guild: "1", Call: sfu.CallID{ID: snowflake.ID(call)}, User: sfu.UserID{ID: snowflake.ID(user)}, Session: "gw", Rights: sfu.Rights{Speak: true},
		})
		var refused *allocator.Error
		starting := errors.As(err, &refused) && (refused.Code == allocator.CodeUnavailable || refused.Code == allocator.CodeNoNodes)
		if !starting || time.Now().After(deadline) {
			return a, err
		}
	}
}

func TestGrant(t *testing.T) {
	f := newFleet(t, 1, "a")
	deadline := time.Now().Add(20 * time.Second)
	call := 5
	a, err := f.place(call, 6)
	for err == nil && !a.New && time.Now().Before(deadline) { // it was asked twice, as the first answer was late
		call++
		a, err = f.place(call, 6)
	}
	if err != nil {
		t.Fatal(err)
	}
	<-f.keys.Synced()
	g, err := edgeagent.ReadGrant(a.Token, f.keys.Key)
	for errors.Is(err, edgeagent.ErrGrantKey) && time.Now().Before(deadline) { // its key is on the way
		g, err = edgeagent.ReadGrant(a.Token, f.keys.Key)
	}
	if err != nil || g.Fresh(time.Now()) != nil {
		t.Fatalf("grant %+v: %v", g, err)
	}
	if g.ID != a.Session || g.Node != "a" || g.Call.ID != snowflake.ID(call) || g.User.ID != 6 || !g.Rights.Speak || g.Epoch != a.Epoch || a.Endpoints[0] != ":8443" || !a.New {
		t.Errorf("grant %+v of assignment %+v", g, a)
	}
	other, _, _ := ed25519.GenerateKey(nil)
	if _, err := edgeagent.ReadGrant(a.Token, func(string) ed25519.PublicKey { return other }); !errors.Is(err, edgeagent.ErrGrantSignature) {
		t.Errorf("with another key the grant gives %v", err)
	}
}

// TestRacingAllocators: two allocators and 100 joins of 20 calls at once never
// give one call two nodes or two epochs. At most one of a call's members is told that
// it has begun it: who waited too long has asked twice, and may have taken the answer
// of the other allocator.
func TestRacingAllocators(t *testing.T) {
	here := func(context.Context, edgeagent.Heartbeat) keeper.Answer { return keeper.Answer{Came: true} } // also when the machine is too busy to beat
	f := newFleetOn(t, startOne(t), 2, here, "a", "b", "c", "d")
	if _, err := f.place(999, 1); err != nil {
		t.Fatal(err)
	}
	type seat struct {
		node  edgeagent.NodeID
		epoch uint64
	}
	var mu sync.Mutex
	at := map[int]map[seat]int{}
	created := map[int]int{}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			call := i%20 + 1
			a, err := f.place(call, i+1)
			if err != nil {
				t.Errorf("join %d: %v", i, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if at[call] == nil {
				at[call] = map[seat]int{}
			}
			at[call][seat{a.Node, a.Epoch}]++
			if a.New {
				created[call]++
			}
		})
	}
	all.Wait()
	entries, err := bus.OpenBucket[allocator.CallEntry](f.ctx, f.conn, bus.CallsBucket)
	if err != nil {
		t.Fatal(err)
	}
	for call, seats := range at {
		e, err := entries.Find(f.ctx, fmt.Sprint(call))
		if err != nil {
			t.Errorf("call %d: %v", call, err)
		}
		if kept := (seat{e.Value.Node, e.Value.Epoch}); len(seats) != 1 || seats[kept] != 5 || created[call] > 1 {
			t.Errorf("call %d was created %d times, is kept at %v and sits at %v", call, created[call], kept, seats)
		}
	}
	used := map[edgeagent.NodeID]bool{}
	for _, seats := range at {
		for s := range seats {
			used[s.node] = true
		}
	}
	if len(used) < 3 {
		t.Errorf("20 calls went to %d of 4 equal nodes", len(used))
	}
}

// TestNodeGone: when the node's lease ends, the next joiner is placed anew with
// a higher epoch.
func TestNodeGone(t *testing.T) {
	f := newFleet(t, 1)
	beat := func(ctx context.Context, n string) {
		bus.Lease(ctx, f.nodes, n, edgeagent.Heartbeat{Node: edgeagent.NodeID(n), State: edgeagent.Ready, Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 100}}, time.Second)
	}
	var all sync.WaitGroup
	defer all.Wait()
	actx, stopA := context.WithCancel(f.ctx)
	defer stopA()
	all.Go(func() { beat(actx, "a") })
	first, err := f.place(1, 1)
	if err != nil || first.Node != "a" {
		t.Fatalf("%+v, %v", first, err)
	}
	bctx, stopB := context.WithCancel(f.ctx)
	defer stopB()
	all.Go(func() { beat(bctx, "b") })
	stopA()
	deadline := time.Now().Add(10 * time.Second)
	for {
		next, err := f.place(1, 2)
		if err == nil && next.Node == "b" {
			if next.Epoch <= first.Epoch {
				t.Errorf("moved from epoch %d to %d", first.Epoch, next.Epoch)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still placed at %+v, %v", next, err)
		}
	}
	ex, err := NewClient(f.conn).Explain(f.ctx, sfu.CallID{ID: 1})
	if err != nil || ex.Entry == nil || ex.Entry.Why.Chosen != "b" || ex.Entry.Why.Reason == "" || len(ex.Decisions) == 0 || ex.Now.Chosen != "b" {
		t.Errorf("explained as %+v, %v", ex, err)
	}
}

// serveNode answers update and close in the name of a node.
func (f *fleet) serveNode(node string, update func(edgeagent.UpdateRequest) error, end func(edgeagent.CloseRequest) error) {
	f.t.Helper()
	serving, err := bus.Serve(f.ctx, f.conn, bus.Service{
		Name: "edgeagent", Subject: bus.NodeSubject(node, ""),
		Code: func(err error) (string, string) { return string(edgeagent.CodeOf(err)), err.Error() },
		Verbs: []bus.Verb{
			bus.Handle("update", func(_ context.Context, r edgeagent.UpdateRequest) (bus.Done, error) { return bus.Done{}, update(r) }),
			bus.Handle("close", func(_ context.Context, r edgeagent.CloseRequest) (bus.Done, error) { return bus.Done{}, end(r) }),
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(serving.Stop)
}

// TestOrdersReachTheNode: update and remove go to the node of the call.
func TestOrdersReachTheNode(t *testing.T) {
	f := newFleet(t, 1, "a")
	var updated edgeagent.UpdateRequest
	var ended edgeagent.CloseRequest
	f.serveNode("a",
		func(r edgeagent.UpdateRequest) error { updated = r; return nil },
		func(r edgeagent.CloseRequest) error {
			if ended = r; r.User.ID == 9 {
				return &edgeagent.Error{Code: edgeagent.CodeNoSession, Message: "session has ended"}
			}
			return nil
		})
	if _, err := f.place(3, 4); err != nil {
		t.Fatal(err)
	}
	c := NewClient(f.conn)
	call, user := sfu.CallID{ID: 3}, sfu.UserID{ID: 4}
	if err := c.Update(f.ctx, allocator.UpdateRequest{Call: call, User: user, Rights: sfu.Rights{Mute: true}}); err != nil {
		t.Fatal(err)
	}
	if updated.Call != call || updated.User != user || updated.Rights == nil || !updated.Rights.Mute {
		t.Errorf("the node was told %+v", updated)
	}
	if err := c.Remove(f.ctx, allocator.RemoveRequest{Call: call, User: user, Reason: "kicked"}); err != nil {
		t.Fatal(err)
	}
	if ended != (edgeagent.CloseRequest{Call: call, User: user, Reason: "kicked"}) {
		t.Errorf("the node was told %+v", ended)
	}
	if err := c.Remove(f.ctx, allocator.RemoveRequest{Call: call, User: user, Session: "s1", Reason: "left"}); err != nil {
		t.Fatal(err)
	}
	if ended != (edgeagent.CloseRequest{Session: "s1", Call: call, User: user, Reason: "left"}) {
		t.Errorf("the node was told %+v", ended)
	}
	for name, err := range map[string]error{
		string(allocator.CodeNoCall):     c.Remove(f.ctx, allocator.RemoveRequest{Call: call, User: sfu.UserID{ID: 9}, Reason: "kicked"}),
		string(allocator.CodeBadRequest): c.Remove(f.ctx, allocator.RemoveRequest{Call: call, Reason: "nobody"}),
	} {
		var refused *allocator.Error
		if !errors.As(err, &refused) || string(refused.Code) != name {
			t.Errorf("got %v, want code %s", err, name)
		}
	}
}

// TestACarriedCallIsAdopted: a call whose entry was lost stays on the node that
// shows it, at the epoch it has there; and one that is shown by a node it was
// moved away from is ended there.
func TestACarriedCallIsAdopted(t *testing.T) {
	f := newFleet(t, 2, "b")
	closed := make(chan edgeagent.CloseRequest, 16)
	f.serveNode("a", func(edgeagent.UpdateRequest) error { return nil }, func(r edgeagent.CloseRequest) error { closed <- r; return nil })
	if _, err := f.place(50, 1); err != nil { // goes to b, the only node
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	var beating sync.WaitGroup
	defer beating.Wait()
	defer cancel()
	beating.Go(func() {
		bus.Lease(ctx, f.nodes, "a", edgeagent.Heartbeat{
			Node: "a", State: edgeagent.Draining, Capacity: edgeagent.Capacity{PPS: 1e6, BPS: 1e9, Sessions: 100}, Epoch: 77,
			Calls: []edgeagent.CallOnANode{
				{Call: sfu.CallID{ID: 51}, Epoch: 77, Sessions: 2},
				{Call: sfu.CallID{ID: 50}, Epoch: 76, Sessions: 1},
			},
		}, time.Second)
	})
	c := NewClient(f.conn)
	for seen := false; !seen; { // by the allocators; either may answer
		seen = true
		for range 4 {
			nodes, err := c.Nodes(f.ctx)
			if err != nil {
				t.Fatal(err)
			}
			seen = seen && len(nodes) == 2
		}
	}
	a, err := f.place(51, 2)
	if err != nil || a.Node != "a" || a.Epoch != 77 || a.New {
		t.Errorf("placed at %+v, error %v; want node a at epoch 77", a, err)
	}
	select {
	case r := <-closed:
		if r != (edgeagent.CloseRequest{Call: sfu.CallID{ID: 50}, Reason: edgeagent.Moved}) {
			t.Errorf("node a was told %+v", r)
		}
	case <-time.After(3 * sweepEvery):
		t.Error("node a keeps a call that lives elsewhere")
	}
}

// TestDecisionsAreRemembered: refusals too, and not more than there is room for.
func TestDecisionsAreRemembered(t *testing.T) {
	d := newDecisions()
	for i := range 3 * decisionCalls {
		for j := range 2 * decisionsPerCall {
			d.add(allocator.Explanation{Call: sfu.CallID{ID: snowflake.ID(i)}, Reason: fmt.Sprint(j), Candidates: make([]allocator.Candidate, 100)})
		}
	}
	if len(d.calls) != decisionCalls || len(d.order) != decisionCalls {
		t.Errorf("%d calls are remembered", len(d.calls))
	}
	last := d.of(sfu.CallID{ID: 3*decisionCalls - 1})
	if len(last) != decisionsPerCall || last[0].Reason != fmt.Sprint(2*decisionsPerCall-1) || len(last[0].Candidates) != allocator.MaxWhy {
		t.Errorf("%d decisions, the newest %+v", len(last), last[0])
	}
	if len(d.of(sfu.CallID{})) != 0 {
		t.Error("the oldest call is still remembered")
	}
}

func TestRefusals(t *testing.T) {
	f := newFleet(t, 1, "a")
	if _, err := f.place(1, 1); err != nil {
		t.Fatal(err)
	}
	c := NewClient(f.conn)
	for name, err := range map[string]error{
		string(allocator.CodeBadRequest): func() error { _, err := c.Place(f.ctx, allocator.PlaceRequest{}); return err }(),
		string(allocator.CodeNoCall):     c.Remove(f.ctx, allocator.RemoveRequest{Call: sfu.CallID{ID: 77}, User: sfu.UserID{ID: 1}}),
	} {
		var refused *allocator.Error
		if !errors.As(err, &refused) || string(refused.Code) != name {
			t.Errorf("got %v, want code %s", err, name)
		}
	}
	nodes, err := c.Nodes(f.ctx)
	if err != nil || len(nodes) != 1 || nodes[0].Node != "a" {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	calls, err := c.Calls(f.ctx)
	if err != nil || len(calls) != 1 || fmt.Sprint(calls[0].Call) != "1" {
		t.Errorf("calls %+v, %v", calls, err)
	}
}

// BenchmarkPlace is a seat given over the bus: a new call each time, written to
// the bucket, or one that is live.
func BenchmarkPlace(b *testing.B) {
	for _, fresh := range []bool{true, false} {
		b.Run(map[bool]string{true: "new", false: "live"}[fresh], func(b *testing.B) {
			f := newFleet(b, 1, "a", "b", "c")
			if _, err := f.place(1, 1); err != nil {
				b.Fatal(err)
			}
			c := NewClient(f.conn)
			call := snowflake.ID(1)
			for b.Loop() {
				if fresh {
					call++
				}
				if _, err := c.Place(f.ctx, allocator.PlaceRequest{Call: sfu.CallID{ID: call}, User: sfu.UserID{ID: 1}, Session: "gw"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestFirstAnswerIsWhole: one that begins answers when it has read all there is.
func TestFirstAnswerIsWhole(t *testing.T) {
	f := newFleet(t, 0)
	calls, err := bus.OpenBucket[allocator.CallEntry](f.ctx, f.conn, bus.CallsBucket)
	if err != nil {
		t.Fatal(err)
	}
	past, err := bus.OpenHistory[allocator.JournalEntry](f.ctx, f.conn, bus.JournalHistory)
	if err != nil {
		t.Fatal(err)
	}
	const many = 900 // of which one answer tells
	now := time.Now()
	for id := range snowflake.ID(many) {
		e := allocator.CallEntry{Call: sfu.CallID{ID: id + 1}, Node: "a", Epoch: 1, Created: now, Touched: now}
		if _, err := calls.Put(f.ctx, e.Call.String(), e); err != nil {
			t.Fatal(err)
		}
		if err := past.Append(f.ctx, "", allocator.JournalEntry{At: now, By: "ada", Deed: allocator.DeedMove, Node: "a", Call: e.Call}); err != nil {
			t.Fatal(err)
		}
	}
	client := NewClient(f.conn)
	for seed := range uint64(3) {
		f.begin(Config{Seed: seed + 1})
		for range 20 {
			if got, err := client.Calls(f.ctx); err != nil || len(got) != many {
				t.Fatalf("%d of %d calls are told, %v", len(got), many, err)
			}
		}
		// Those before may have written since that nobody knows the node.
		j, err := client.Journal(f.ctx, allocator.JournalRequest{Limit: 10})
		at := slices.IndexFunc(j.Entries, func(e allocator.NumberedEntry) bool { return e.By == "ada" })
		if err != nil || at < 0 || j.Entries[at].Call.ID != many {
			t.Errorf("the newest of its journal are %+v, %v", j.Entries, err)
		}
	}
}
