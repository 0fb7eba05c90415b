package edgeagentserver

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/sfu"
	"voicefleet/sfu/sfutest"
)

// TestMeasuresPeers: a node tells the distance of a peer whose engine answers, and
// none of one that does not; the peers it has stay while nobody names others.
func TestMeasuresPeers(t *testing.T) {
	r := newRig(t)
	key := sfu.NewProbeKey()
	real := sfutest.Start(t, 1, sfu.Start{ProbeKey: key})
	peer := func(node edgeagent.NodeID, key sfu.ProbeKey) edgeagent.Peer {
		hb := edgeagent.Heartbeat{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports: real.Started.Ports}
		p := edgeagent.Peer{Node: node, Addrs: hb.MediaAddrs()}
		p.Ufrag, p.Pwd = sfu.FleetProbe(time.Now()).Credentials(key)
		return p
	}
	var asked atomic.Int32
	location := &edgeagent.Location{Lat: 50.1, Lon: 8.7}
	r.run(t, Config{
		Node: "edge-1", Engine: edgeagenttest.NewEngine(t).Start, Location: location, Label: "canary", Weight: 0.1,
		Peers: func(_ context.Context, req edgeagent.PeersRequest) ([]edgeagent.Peer, error) {
			if req.Node != "edge-1" {
				t.Errorf("node %q asks", req.Node)
			}
			if asked.Add(1) > 1 {
				return nil, errors.New("nobody answers")
			}
			return []edgeagent.Peer{peer("edge-2", key), peer("edge-3", sfu.NewProbeKey())}, nil
		},
	})
	hb := r.await(t, "edge-1", "with a distance", func(hb edgeagent.Heartbeat) bool { return len(hb.PeerRTT) > 0 && asked.Load() > 1 })
	if ms, ok := hb.PeerRTT["edge-2"]; !ok || ms <= 0 || ms > 1000 || len(hb.PeerRTT) != 1 {
		t.Errorf("distances %v", hb.PeerRTT)
	}
	if hb.Location == nil || *hb.Location != *location || hb.Label != "canary" || hb.Weight != 0.1 {
		t.Errorf("location %v, label %q, weight %v", hb.Location, hb.Label, hb.Weight)
	}
}
