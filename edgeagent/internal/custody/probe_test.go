package custody

import (
	"bytes"
	"net/netip"
	"testing"

	"voicefleet/sfu"
)

// TestProbeKey: one key for all engines of a node, told when there is one; an
// engine that is found keeps the key by which the fleet knows it.
func TestProbeKey(t *testing.T) {
	mine, its := bytes.Repeat([]byte{1}, sfu.ProbeKeyLen), bytes.Repeat([]byte{2}, sfu.ProbeKeyLen)
	fresh := func() *Core {
		return New(Config{Node: "edge-1", Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, ProbeKey: mine})
	}
	started := func(seq uint64) sfu.Event {
		return sfu.Event{Seq: seq, Started: &sfu.Started{Ports: []uint16{50000}}}
	}
	c := fresh()
	if c.Report().ProbeKey != nil {
		t.Error("a key is told before there is an engine")
	}
	for seq := range uint64(2) { // the second engine after the end of the first
		out := c.EngineUp(base, nil)
		if got := out[0].Command.Start.ProbeKey; !bytes.Equal(got, mine) {
			t.Errorf("start with %x", got)
		}
		c.Event(base, started(seq+1), nil)
		if got := c.Report().ProbeKey; !bytes.Equal(got, mine) {
			t.Errorf("report tells %x", got)
		}
		c.EngineLost(base, true, nil)
	}
	for name, k := range map[string]struct{ told, want sfu.ProbeKey }{
		"with a key": {its, its}, "of an older version": {nil, mine}, "with half a key": {its[:9], mine},
	} {
		c := fresh()
		if got := c.EngineFound(base, nil)[0].Command.Adopt.ProbeKey; !bytes.Equal(got, mine) {
			t.Errorf("%s: adopt with %x", name, got)
		}
		c.Event(base, sfu.Event{Seq: 1, Adopted: &sfu.Adopted{Started: sfu.Started{Ports: []uint16{50000}}, ProbeKey: k.told}}, nil)
		if got := c.Report().ProbeKey; !bytes.Equal(got, k.want) {
			t.Errorf("%s: report tells %x", name, got)
		}
		c.EngineLost(base, true, nil)
		if got := c.EngineUp(base, nil)[0].Command.Start.ProbeKey; !bytes.Equal(got, k.want) {
			t.Errorf("%s: the engine after it starts with %x", name, got)
		}
	}
}
