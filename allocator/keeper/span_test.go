package keeper

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// fleet is a Core whose writes are all won, and whose nodes do as they are told.
type fleet struct {
	t        *testing.T
	c        *Core
	now      time.Time
	revision uint64
	relays   map[edgeagent.NodeID][]edgeagent.RelayOnANode
	sessions map[edgeagent.NodeID]int // of the call
	epochs   map[edgeagent.NodeID]uint64
	lost     map[edgeagent.NodeID][]edgeagent.NodeID
	lossy    map[edgeagent.NodeID][]edgeagent.NodeID
	loss     map[edgeagent.NodeID]float64                 // of its listeners
	plain    map[edgeagent.NodeID][]edgeagent.CallOnANode // further calls
	full     map[edgeagent.NodeID]bool
	ports    map[edgeagent.NodeID]uint16    // added to that of its links
	finds    map[edgeagent.NodeID]bool      // its agent has not found its engine yet
	deaf     map[edgeagent.NodeID]bool      // orders do not come to it
	led      map[[2]edgeagent.NodeID]uint16 // at which port a node was told that another is
	serving  edgeagent.NodeID               // its engine answers
	told     []allocator.Moved
	moved    int // moves that were written
	ended    []edgeagent.NodeID
}

var theCall = sfu.CallID{ID: 7}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, c: New(1), now: time.Unix(1_800_000_000, 0), relays: map[edgeagent.NodeID][]edgeagent.RelayOnANode{},
		sessions: map[edgeagent.NodeID]int{}, epochs: map[edgeagent.NodeID]uint64{}, lost: map[edgeagent.NodeID][]edgeagent.NodeID{}, lossy: map[edgeagent.NodeID][]edgeagent.NodeID{}, loss: map[edgeagent.NodeID]float64{},
		plain: map[edgeagent.NodeID][]edgeagent.CallOnANode{}, full: map[edgeagent.NodeID]bool{},
		ports: map[edgeagent.NodeID]uint16{}, finds: map[edgeagent.NodeID]bool{}, deaf: map[edgeagent.NodeID]bool{}, led: map[[2]edgeagent.NodeID]uint16{}}
	f.c.Synced(f.now, f.now, time.Hour)
	f.beat("a", "b", "c")
	return f
}

func (f *fleet) beat(nodes ...edgeagent.NodeID) {
	for _, n := range nodes {
		hb := edgeagent.Heartbeat{
			Node: n, State: edgeagent.Ready, Region: string(n), At: f.now, Started: time.Unix(1_799_990_000, 0),
			Capacity: edgeagent.Capacity{PPS: 1e5, BPS: 1e9, Sessions: 1000}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			Link: &edgeagent.LinkAddr{Port: 1 + f.ports[n], Fingerprint: string(n)}, Relays: f.relays[n], LostLinks: f.lost[n],
			LossyLinks: f.lossy[n],
		}
		if f.loss[n] > 0 {
			hb.Load = edgeagent.Load{Loss: f.loss[n], Sessions: 9}
		}
		if !f.finds[n] {
			hb.ProbeKey = make(sfu.ProbeKey, sfu.ProbeKeyLen)
		}
		hb.Calls = f.plain[n]
		if f.full[n] {
			hb.Load = edgeagent.Load{PPS: 1e5, BPS: 1e9, Sessions: 1000}
		}
		if f.sessions[n] > 0 {
			hb.Calls = append(slices.Clone(hb.Calls), edgeagent.CallOnANode{Call: theCall, Epoch: f.epochs[n], Sessions: f.sessions[n]})
		}
		f.do(f.c.SeeNode(f.now, hb, f.now, nil))
	}
}

func (f *fleet) do(out []Out) {
	for i := 0; i < len(out); i++ {
		switch o := out[i]; {
		case o.Write != nil:
			f.revision++
			out = f.c.Won(f.now, *o.Write, f.revision, out)
		case o.Tell != nil:
			f.told = append(f.told, *o.Tell)
		case o.Moved != nil:
			f.moved++
		case o.End != nil:
			f.ended = append(f.ended, o.End.Node)
			f.sessions[o.End.Node] = 0
		case o.Relay != nil && f.deaf[o.Relay.Node]:
		case o.Relay != nil:
			f.relays[o.Relay.Node] = nil
			if r := o.Relay.Request; len(r.Peers) > 0 {
				one := edgeagent.RelayOnANode{Call: r.Call, Epoch: r.Epoch}
				for _, p := range r.Peers {
					one.Peers = append(one.Peers, p.Node)
					f.led[[2]edgeagent.NodeID{o.Relay.Node, p.Node}] = p.Link.Port
				}
				f.relays[o.Relay.Node] = []edgeagent.RelayOnANode{one}
				f.epochs[o.Relay.Node] = max(f.epochs[o.Relay.Node], r.Epoch)
			}
		case o.Ask != nil:
			out = f.c.Answered(f.now, o.Ask.Node, Answer{Came: o.Ask.Node == f.serving}, out)
		}
	}
}

func (f *fleet) pass(d time.Duration, beating ...edgeagent.NodeID) {
	for end := f.now.Add(d); f.now.Before(end); {
		f.now = f.now.Add(100 * time.Millisecond)
		if f.now.UnixMilli()%1000 == 0 {
			f.beat(beating...)
		}
		f.do(f.c.Tick(f.now, nil))
	}
}

// join seats a user by what it measured, and has the session open there.
func (f *fleet) join(user uint64, rtt map[string]float64) edgeagent.NodeID {
	f.t.Helper()
	cl, refused := f.c.Claim(f.now, allocator.PlaceRequest{Call: theCall, User: sfu.UserID{ID: snowflake.ID(user)}, Session: "s", RTT: rtt})
	if refused != nil || cl.Wait || cl.Reread {
		f.t.Fatalf("%+v, %v", cl, refused)
	}
	if cl.Write != nil {
		f.do([]Out{{Write: cl.Write}})
	}
	node := cl.Entry.Node
	if cl.Why.Span {
		node = cl.Why.Chosen
	}
	f.sessions[node]++
	f.epochs[node] = max(f.epochs[node], cl.Entry.Epoch)
	f.beat(node)
	return node
}

func (f *fleet) entry() allocator.CallEntry {
	e, _ := f.c.place.Call(theCall)
	return e
}

// relayed says whether the nodes of the call know of one another, and no other does.
func (f *fleet) relayed() bool {
	e := f.entry()
	for _, n := range []edgeagent.NodeID{"a", "b", "c"} {
		want := []edgeagent.NodeID{}
		if nodes := e.Nodes(); slices.Contains(nodes, n) {
			want = slices.DeleteFunc(nodes, func(o edgeagent.NodeID) bool { return o == n })
		}
		switch {
		case len(want) == 0 && len(f.relays[n]) > 0:
			return false
		case len(want) > 0 && (len(f.relays[n]) != 1 || f.relays[n][0].Epoch != e.Epoch || !slices.Equal(slices.Sorted(slices.Values(f.relays[n][0].Peers)), slices.Sorted(slices.Values(want)))):
			return false
		}
	}
	return true
}

var (
	atA = map[string]float64{"a": 10, "b": 150, "c": 150}
	atB = map[string]float64{"a": 150, "b": 10, "c": 150}
	atC = map[string]float64{"a": 150, "b": 150, "c": 10}
)

// spanned is a call on three nodes.
func spanned(t *testing.T) *fleet {
	f := newFleet(t)
	if n := f.join(1, atA); n != "a" {
		t.Fatalf("the first is on %s", n)
	}
	epoch := f.entry().Epoch
	if n := f.join(2, atB); n != "b" {
		t.Fatalf("the second is on %s", n)
	}
	f.join(3, atB)
	f.join(4, atC)
	if e := f.entry(); e.Node != "a" || !slices.Equal(e.Spans, []edgeagent.NodeID{"b", "c"}) || e.Epoch != epoch || !f.relayed() || len(f.told) != 0 {
		t.Fatalf("%+v, relays %v, told %v", e, f.relays, f.told)
	}
	return f
}

// TestCallSpansToWhereItsMembersAre: by the second who is far, in one epoch, told to
// all of its nodes; and it leaves where nobody is any more.
func TestCallSpansToWhereItsMembersAre(t *testing.T) {
	f := spanned(t)
	f.pass(10*time.Second, "a", "b", "c")
	if len(f.told)+len(f.ended) != 0 || !f.relayed() {
		t.Errorf("told %v, ended %v", f.told, f.ended)
	}
	f.relays["b"] = nil // it has started anew
	f.pass(3*time.Second, "a", "b", "c")
	if !f.relayed() {
		t.Error("a node that forgot is not told again")
	}
	f.sessions["c"] = 0
	f.pass(allocator.CallIdle+5*time.Second, "a", "b", "c")
	if e := f.entry(); !slices.Equal(e.Spans, []edgeagent.NodeID{"b"}) || !f.relayed() || len(f.told) != 0 {
		t.Errorf("%+v, relays %v, told %v", e, f.relays, f.told)
	}
}

// TestLostLinkFallsBack: the members of one node of the two that cannot reach each
// other are told to come to the home; nobody else is moved; and the call does not
// span there again at once.
func TestLostLinkFallsBack(t *testing.T) {
	f := spanned(t)
	was := f.entry()
	f.lost["a"], f.lost["b"] = []edgeagent.NodeID{"b"}, []edgeagent.NodeID{"a"}
	f.beat("a", "b")
	e := f.entry()
	if len(f.told) != 1 || f.told[0].From != "b" || f.told[0].To != "a" || f.told[0].Cause != allocator.CauseLinkLost || !f.told[0].Planned || f.told[0].Epoch <= was.Epoch {
		t.Fatalf("told %+v", f.told)
	}
	if e.Node != "a" || !slices.Equal(e.Spans, []edgeagent.NodeID{"c"}) || e.Epoch != f.told[0].Epoch || !f.relayed() {
		t.Fatalf("%+v, relays %v", e, f.relays)
	}
	f.lost = map[edgeagent.NodeID][]edgeagent.NodeID{}
	f.sessions["b"]--
	if n := f.join(2, atB); n != "a" {
		t.Errorf("who comes from there is seated on %s", n)
	}
	f.pass(settleWait+2*time.Second, "a", "b", "c")
	if !slices.Equal(f.ended, []edgeagent.NodeID{"b"}) || len(f.told) != 1 {
		t.Errorf("ended on %v, told %v", f.ended, f.told)
	}
	f.pass(time.Minute, "a", "b", "c")
	if n := f.join(5, atB); n != "b" {
		t.Errorf("after a minute: %s", n)
	}
}

// TestLossyLinkFallsBack: as that, when packets get lost between the nodes; but where one
// of them loses them to everybody, which its heartbeats tell of first, it is left alone.
func TestLossyLinkFallsBack(t *testing.T) {
	for _, ill := range []bool{false, true} {
		f := spanned(t)
		if ill {
			f.loss["a"] = 0.05
			f.beat("a")
		}
		f.lossy["b"] = []edgeagent.NodeID{"a"}
		f.beat("b")
		if ill {
			if len(f.told) != 0 {
				t.Fatalf("told %+v", f.told)
			}
			f.pass(5*time.Second, "a", "b", "c") // it is found
			if e := f.entry(); e.Node == "a" || slices.ContainsFunc(f.told, func(m allocator.Moved) bool { return m.Cause == allocator.CauseLinkLossy }) {
				t.Fatalf("%+v, told %+v", e, f.told)
			}
			continue
		}
		if len(f.told) != 1 || f.told[0].From != "b" || f.told[0].To != "a" || f.told[0].Cause != allocator.CauseLinkLossy || !f.told[0].Planned {
			t.Fatalf("told %+v", f.told)
		}
		f.lossy["b"] = nil
		f.sessions["b"]--
		if n := f.join(2, atB); n != "a" {
			t.Errorf("who comes from there is seated on %s", n)
		}
	}
}

// TestAgentOfACallIsAway: the links of a node whose agent alone has died are waited
// for, be it the home of the call or not; if they are not back soon after it, or it
// stays away, the call falls back to one node.
func TestAgentOfACallIsAway(t *testing.T) {
	for _, node := range []edgeagent.NodeID{"a", "b"} {
		for name, c := range map[string]struct {
			back, linked time.Duration // zero: never
			moves        bool
		}{
			"started again at once": {300 * time.Millisecond, 700 * time.Millisecond, false},
			"back without links":    {300 * time.Millisecond, 0, true},
			"away":                  {0, 0, true},
		} {
			f := spanned(t)
			f.serving = node
			others := slices.DeleteFunc([]edgeagent.NodeID{"a", "b", "c"}, func(n edgeagent.NodeID) bool { return n == node })
			f.do(f.c.Closed(f.now, node, f.now, nil))
			f.pass(400*time.Millisecond, others...)
			for _, n := range others {
				f.lost[n] = []edgeagent.NodeID{node}
			}
			f.beat(others...)
			if c.back > 0 {
				others = append(others, node)
				f.beat(node)
			}
			f.pass(700*time.Millisecond, others...)
			if c.linked > 0 {
				f.lost = map[edgeagent.NodeID][]edgeagent.NodeID{}
				f.beat(others...)
			}
			if len(f.told) != 0 {
				t.Errorf("%s, %s: moved at once: %+v", node, name, f.told)
			}
			f.pass(absence+2*time.Second, others...)
			if moved := len(f.told) > 0; moved != c.moves {
				t.Errorf("%s, %s: told %+v", node, name, f.told)
			}
		}
	}
}

// TestLinkElsewhere: when the next agent of a node has its links at another port, the
// other nodes of its calls are told as soon as it has its engine, and again if they did
// not hear it.
func TestLinkElsewhere(t *testing.T) {
	for _, node := range []edgeagent.NodeID{"a", "b"} {
		f := spanned(t)
		f.serving = node
		others := slices.DeleteFunc([]edgeagent.NodeID{"a", "b", "c"}, func(n edgeagent.NodeID) bool { return n == node })
		f.do(f.c.Closed(f.now, node, f.now, nil))
		f.ports[node], f.finds[node], f.deaf[others[1]] = 8, true, true
		f.beat(node)
		for _, n := range others {
			if port := f.led[[2]edgeagent.NodeID{n, node}]; port != 1 {
				t.Errorf("%s is told of port %d of %s, whose engine is not found yet", n, port, node)
			}
		}
		f.finds[node] = false
		f.beat(node)
		if port := f.led[[2]edgeagent.NodeID{others[0], node}]; port != 9 {
			t.Errorf("%s is told of port %d of %s", others[0], port, node)
		}
		f.deaf[others[1]] = false
		f.lost[others[1]] = []edgeagent.NodeID{node}
		f.pass(relayAgain+time.Second, "a", "b", "c")
		if port := f.led[[2]edgeagent.NodeID{others[1], node}]; port != 9 {
			t.Errorf("%s, which did not hear it, is told of port %d of %s", others[1], port, node)
		}
		if len(f.told) != 0 || !f.relayed() {
			t.Errorf("told %v, relays %v", f.told, f.relays)
		}
	}
}

// TestLostNodeOfACall: a further node that dies costs only those who were on it; a
// home that dies leaves the call to a further node.
func TestLostNodeOfACall(t *testing.T) {
	for _, c := range []struct {
		dies, home edgeagent.NodeID
		spans      []edgeagent.NodeID
	}{{"b", "a", []edgeagent.NodeID{"c"}}, {"a", "b", []edgeagent.NodeID{"c"}}} {
		f := spanned(t)
		alive := slices.DeleteFunc([]edgeagent.NodeID{"a", "b", "c"}, func(n edgeagent.NodeID) bool { return n == c.dies })
		f.pass(6*time.Second, alive...)
		e := f.entry()
		if e.Node != c.home || !slices.Equal(e.Spans, c.spans) || len(f.told) < 1 || f.told[0].From != c.dies || f.told[0].Cause != allocator.CauseNodeLost {
			t.Errorf("%s dies: %+v, told %+v", c.dies, e, f.told)
		}
		if slices.Contains(f.ended, alive[0]) || slices.Contains(f.ended, alive[1]) {
			t.Errorf("%s dies: ended on %v", c.dies, f.ended)
		}
		for _, n := range alive {
			if len(f.relays[n]) != 1 || f.relays[n][0].Epoch != e.Epoch {
				t.Errorf("%s dies: %s relays %+v", c.dies, n, f.relays[n])
			}
		}
	}
}

// TestHeirNeedsNoRoom: a call that is on a node that lives, too, has its home there at
// once, though a hundred others of the lost node wait until any node has room.
func TestHeirNeedsNoRoom(t *testing.T) {
	f := spanned(t)
	for i := range 100 {
		cl, refused := f.c.Claim(f.now, allocator.PlaceRequest{Call: sfu.CallID{ID: snowflake.ID(1000 + i)}, User: sfu.UserID{ID: snowflake.ID(1000 + i)}, Session: "s", RTT: atA})
		if refused != nil || cl.Write == nil || cl.Entry.Node != "a" {
			t.Fatalf("%+v, %v", cl, refused)
		}
		f.do([]Out{{Write: cl.Write}})
		f.plain["a"] = append(f.plain["a"], edgeagent.CallOnANode{Call: cl.Entry.Call, Epoch: cl.Entry.Epoch, Sessions: 1})
	}
	f.full["b"], f.full["c"] = true, true
	f.pass(2*time.Second, "a", "b", "c")
	f.pass(6*time.Second, "b", "c")
	moved := map[bool]int{}
	for _, m := range f.told {
		moved[m.Call == theCall]++
	}
	if e := f.entry(); e.Node != "b" || moved[true] == 0 || moved[false] != 0 {
		t.Errorf("%+v; told of it %d times, of others %d times", e, moved[true], moved[false])
	}
}
