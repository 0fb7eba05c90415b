package edgeagentserver

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/sfu/sfutest"
)

// spanNode is a node with a real engine, which can be replaced.
type spanNode struct {
	id      edgeagent.NodeID
	server  *Server
	mu      sync.Mutex
	engines []engineStream
}

func (r *rig) spanNode(t *testing.T, id edgeagent.NodeID) *spanNode {
	t.Helper()
	outer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outer.Close() })
	sockets := sfutest.Listen(t, 1)
	n := &spanNode{id: id}
	n.server, _ = r.run(t, Config{
		Node: id, Link: outer, Advertise: func() []netip.Addr { return []netip.Addr{ownHost} },
		Engine: func(context.Context) (io.ReadWriteCloser, error) {
			stream, ended := sfutest.Serve(t, sockets)
			n.mu.Lock()
			defer n.mu.Unlock()
			n.engines = append(n.engines, engineStream{stream, ended})
			return n.engines[len(n.engines)-1], nil
		},
	})
	return n
}

// crash ends the engine of the node, which starts another.
func (n *spanNode) crash() {
	n.mu.Lock()
	e := n.engines[len(n.engines)-1]
	n.mu.Unlock()
	e.ReadWriteCloser.Close()
	<-e.ended
}

// span has nodes share a call, as the allocator would.
func (r *rig) span(t *testing.T, call uint64, nodes ...*spanNode) {
	t.Helper()
	for _, n := range nodes {
		req := edgeagent.RelayRequest{Call: callID(call), Epoch: 5}
		for _, other := range nodes {
			if other != n {
				req.Peers = append(req.Peers, edgeagent.RelayPeer{Node: other.id, Addrs: []netip.Addr{ownHost}, Link: *other.server.links.addr()})
			}
		}
		if err := r.client.Relay(t.Context(), n.id, req); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCallOnTwoNodes: members on two nodes hear each other and know of each other,
// whichever came first; an engine that dies takes nothing of it along; and when the
// call is on one node again, the other hears nothing more.
func TestCallOnTwoNodes(t *testing.T) {
	r := newRig(t)
	left, right := r.spanNode(t, "edge-1"), r.spanNode(t, "edge-2")
	a, _ := r.joinAt(t, "edge-1", 7, 1)
	r.span(t, 7, left, right)
	b, opened := r.joinAt(t, "edge-2", 7, 2)
	if i := slices.IndexFunc(opened.Roster, func(m edgeagent.Member) bool { return m.User == userID(1) }); len(opened.Roster) != 2 || i < 0 || opened.Roster[i].Node != "edge-1" {
		t.Errorf("the second one is told of %+v", opened.Roster)
	}
	hb := r.await(t, "edge-2", "one with the relay", func(hb edgeagent.Heartbeat) bool { return len(hb.Relays) == 1 })
	if x := hb.Relays[0]; x.Call != callID(7) || x.Epoch != 5 || len(x.Peers) != 1 || x.Peers[0] != "edge-1" || hb.Link == nil || len(hb.LostLinks) != 0 {
		t.Errorf("heartbeat %+v", hb)
	}

	talking, hush := context.WithCancel(t.Context())
	var talk sync.WaitGroup
	talk.Go(func() { a.talk(talking) })
	talk.Go(func() { b.talk(talking) })
	defer talk.Wait()
	defer hush()
	hears(t, a, "at all", 20)
	hears(t, b, "at all", 20)
	rep, err := r.client.Resume(t.Context(), "edge-2", edgeagent.ResumeRequest{Token: b.token})
	if err != nil || len(rep.Roster) != 2 || len(rep.Slots) != 1 || rep.Slots[0].User != userID(1) {
		t.Errorf("resumed: %+v, %v", rep, err)
	}

	right.crash()
	for _, k := range []*talker{a, b} {
		for len(k.heard) > 0 {
			<-k.heard
		}
		hears(t, k, "after the death of an engine", 20)
	}

	for _, n := range []*spanNode{left, right} {
		if err := r.client.Relay(t.Context(), n.id, edgeagent.RelayRequest{Call: callID(7), Epoch: 5}); err != nil {
			t.Fatal(err)
		}
	}
	quiet := time.After(edgeagenttest.Timeout)
	for silent := false; !silent; { // what is on its way comes still
		select {
		case <-b.heard:
		case <-time.After(300 * time.Millisecond):
			silent = true
		case <-quiet:
			t.Fatal("a call that is on one node again is heard on another")
		}
	}
	r.await(t, "edge-2", "without the relay", func(hb edgeagent.Heartbeat) bool { return len(hb.Relays) == 0 && len(hb.Calls) == 1 })
}

func hears(t *testing.T, k *talker, what string, packets int) {
	t.Helper()
	for range packets {
		select {
		case <-k.heard:
		case <-time.After(edgeagenttest.Timeout):
			t.Fatalf("nothing is heard %s", what)
		}
	}
}

// TestLostLinkIsReported: the heartbeat names the node that cannot be reached, after
// lostAfter and not only when one is due or with the patience for a link that never was.
func TestLostLinkIsReported(t *testing.T) {
	r := newRig(t)
	left, right := r.spanNode(t, "edge-1"), r.spanNode(t, "edge-2")
	r.joinAt(t, "edge-1", 7, 1)
	r.joinAt(t, "edge-2", 7, 2)
	r.span(t, 7, left, right)
	for _, n := range []*spanNode{left, right} {
		for deadline := time.Now().Add(edgeagenttest.Timeout); gauge(t, n.server.links.metrics.up) != 1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no link")
			}
		}
	}
	right.server.cfg.Link.Close() // as if its network were gone
	began := time.Now()
	hb := r.await(t, "edge-1", "one with a lost link", func(hb edgeagent.Heartbeat) bool { return len(hb.LostLinks) > 0 })
	if took := time.Since(began); took > firstPatience || hb.LostLinks[0] != "edge-2" {
		t.Errorf("%v after %v", hb.LostLinks, took)
	}
}

func TestRelayIsRefused(t *testing.T) {
	r := newRig(t)
	n := r.spanNode(t, "edge-1")
	_, _ = r.run(t, Config{Node: "edge-2", Engine: edgeagenttest.NewEngine(t).Start})
	good := edgeagent.RelayPeer{Node: "edge-9", Addrs: []netip.Addr{ownHost}, Link: *n.server.links.addr()}
	with := func(change func(*edgeagent.RelayPeer)) []edgeagent.RelayPeer {
		p := good
		change(&p)
		return []edgeagent.RelayPeer{p}
	}
	for name, c := range map[string]struct {
		node edgeagent.NodeID
		req  edgeagent.RelayRequest
	}{
		"of no call":                  {"edge-1", edgeagent.RelayRequest{Peers: []edgeagent.RelayPeer{good}}},
		"of a node without links":     {"edge-2", edgeagent.RelayRequest{Call: callID(7), Peers: []edgeagent.RelayPeer{good}}},
		"with itself":                 {"edge-1", edgeagent.RelayRequest{Call: callID(7), Peers: with(func(p *edgeagent.RelayPeer) { p.Node = "edge-1" })}},
		"with a node without address": {"edge-1", edgeagent.RelayRequest{Call: callID(7), Peers: with(func(p *edgeagent.RelayPeer) { p.Addrs = nil })}},
		"with a node without link":    {"edge-1", edgeagent.RelayRequest{Call: callID(7), Peers: with(func(p *edgeagent.RelayPeer) { p.Link.Port = 0 })}},
		"with a name that is none":    {"edge-1", edgeagent.RelayRequest{Call: callID(7), Peers: with(func(p *edgeagent.RelayPeer) { p.Node = "Edge" })}},
		"with one twice":              {"edge-1", edgeagent.RelayRequest{Call: callID(7), Peers: []edgeagent.RelayPeer{good, good}}},
		"with too many":               {"edge-1", edgeagent.RelayRequest{Call: callID(7), Peers: slices.Repeat([]edgeagent.RelayPeer{good}, 8)}},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, r.client.Relay(t.Context(), c.node, c.req), edgeagent.CodeBadRequest)
		})
	}
	hb := r.await(t, "edge-2", "ready", func(edgeagent.Heartbeat) bool { return true })
	if hb.Link != nil {
		t.Error("a node without links has one")
	}
}
