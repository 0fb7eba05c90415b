package edgeagentserver

import (
	"net/netip"
	"testing"

	"voicefleet/edgeagent"
)

func TestMediaSockets(t *testing.T) {
	at := netip.MustParseAddrPort
	p := newTargets("edge-1", 3478)
	p.own([]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, []uint16{50000, 50001})
	if !p.permits(at("192.0.2.1:50001")) || !p.permits(at("[2001:db8::1]:50000")) || !p.permits(at("192.0.2.1:0")) {
		t.Error("own media sockets are not permitted")
	}
	for _, bad := range []string{"192.0.2.1:50002", "192.0.2.1:3478", "192.0.2.2:50000", "127.86.70.1:50000", "127.0.0.1:50000", "[::ffff:192.0.2.1]:50000", "192.0.2.2:0"} {
		if p.permits(at(bad)) {
			t.Errorf("%s is permitted", bad)
		}
	}
	here, ok := p.reach(at("192.0.2.1:50001"))
	if !ok || !here.Addr().IsLoopback() || here.Port() != 50001 {
		t.Errorf("own socket is reached at %v", here)
	}
	if name, ok := p.name(here); !ok || name != at("192.0.2.1:50001") {
		t.Errorf("%v is called %v", here, name)
	}
	other, _ := p.reach(at("[2001:db8::1]:50001"))
	if other.Addr() == here.Addr() {
		t.Error("two addresses of the node are one")
	}
	// The order may change: paths of the engine lead to where they led.
	p.own([]netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}, []uint16{50000, 50001})
	if again, _ := p.reach(at("192.0.2.1:50001")); again != here {
		t.Errorf("reached at %v, then at %v", here, again)
	}

	hb := &edgeagent.Heartbeat{State: edgeagent.Ready, Ports: []uint16{50000, 0, 3478}}
	for _, s := range []string{"198.51.100.9", "192.0.2.1", "127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "fe80::1", "224.0.0.1", "255.255.255.255", "::ffff:127.0.0.1"} {
		hb.Addrs = append(hb.Addrs, netip.MustParseAddr(s))
	}
	p.other("edge-2", hb)
	if where, ok := p.reach(at("198.51.100.9:50000")); !ok || where != at("198.51.100.9:50000") {
		t.Errorf("another node is reached at %v, %v", where, ok)
	}
	if again, _ := p.reach(at("192.0.2.1:50000")); !again.Addr().IsLoopback() {
		t.Error("another node takes our address")
	}
	for _, bad := range []string{"192.0.2.1:3478", "127.0.0.1:50000", "[::1]:50000", "0.0.0.0:50000", "169.254.169.254:50000", "[fe80::1]:50000", "224.0.0.1:50000", "255.255.255.255:50000", "198.51.100.9:3477"} {
		if p.permits(at(bad)) {
			t.Errorf("%s of a heartbeat is permitted", bad)
		}
	}
	p.other("edge-1", hb) // an echo of ourselves, or somebody with our name
	p.other("edge-2", nil)
	if p.permits(at("198.51.100.9:50000")) {
		t.Error("a node that is gone is permitted")
	}
	hb.State = edgeagent.Gone
	p.other("edge-3", hb)
	if p.permits(at("198.51.100.9:50000")) {
		t.Error("a node that said good-bye is permitted")
	}
}
