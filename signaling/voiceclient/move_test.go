package voiceclient_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"

	"voicefleet/edgeagent"
	"voicefleet/signaling/voiceclient"
)

// A call that moves while its old node still serves loses nothing: everybody
// speaks on both paths, and hears each frame once.
func TestPlannedMoveLosesNothing(t *testing.T) {
	w := newWorld(t)
	ears := []*ear{newEar(), newEar(), newEar()}
	var calls []*voiceclient.Call
	for i, e := range ears {
		calls = append(calls, w.join(t, i+1, e))
	}
	const frame, before, all = 5 * time.Millisecond, 60, 500
	said := 0
	talk := func() {
		for i, c := range calls {
			if err := c.WriteOpus(fmt.Appendf(nil, "%d says %04d", i+1, said), frame, 20); err != nil {
				t.Fatal(err)
			}
		}
		said++
	}
	ears[0].until(t, "a hears the others", talk, func() bool { return len(ears[0].heard) > 20 })
	from := said
	beat := time.NewTicker(frame)
	defer beat.Stop()
	for said < from+all {
		<-beat.C
		talk()
		if said == from+before {
			w.gw.follow("n2")
		}
	}
	for i, e := range ears {
		e.until(t, "the last frame comes", nil, func() bool {
			for other := range ears {
				if other != i && e.heard[fmt.Sprintf("%d %d says %04d", other+1, other+1, said-1)] == 0 {
					return false
				}
			}
			return true
		})
		e.mu.Lock()
		for other := range ears {
			if other == i {
				continue
			}
			for n := from; n < said; n++ {
				if times := e.heard[fmt.Sprintf("%d %d says %04d", other+1, other+1, n)]; times != 1 {
					t.Errorf("%d heard %d say %d %d times", i+1, other+1, n, times)
				}
			}
		}
		for _, event := range e.events {
			if slices.Contains([]string{"member 1 left=true", "member 2 left=true", "member 3 left=true"}, event) {
				t.Errorf("%d was told %q: nobody left", i+1, event)
			}
		}
		e.mu.Unlock()
	}
	ears[0].until(t, "the old node is empty", nil, func() bool { return len(w.nodes["n1"].Sessions()) == 0 })
	for i, c := range calls {
		if s := c.Stats(); s.Moves != 1 || s.Voice.Node != "n2" || c.Err() != nil {
			t.Errorf("%d: %+v, %v", i+1, s, c.Err())
		}
	}
}

// The old node ends its sessions in the middle of a move: no kick.
func TestClosedAfterAMoveIsNoKick(t *testing.T) {
	w := newWorld(t)
	ea, eb := newEar(), newEar()
	a, b := w.join(t, 1, ea), w.join(t, 2, eb)
	old := w.nodes["n1"].Sessions()
	w.gw.follow("n2")
	for _, s := range old {
		w.nodes["n1"].End(s, edgeagent.Moved)
	}
	eb.until(t, "b hears a there", func() {
		if a.Stats().Voice.Node == "n2" {
			speak(t, a, "after")()
		}
	}, func() bool { return eb.heard["1 after"] > 0 })
	if a.Err() != nil || b.Err() != nil {
		t.Errorf("%v, %v", a.Err(), b.Err())
	}
}

// cable is a network that can be pulled out.
type cable struct {
	transport.Net
	out atomic.Bool
}

func (c *cable) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	under, err := c.Net.ListenUDP(network, addr)
	return &plug{under, c}, err
}

type plug struct {
	transport.UDPConn
	cable *cable
}

func (p *plug) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.cable.out.Load() {
		return len(b), nil
	}
	return p.UDPConn.WriteTo(b, to)
}

func (p *plug) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := p.UDPConn.ReadFrom(b)
		if err != nil || !p.cable.out.Load() {
			return n, from, err
		}
	}
}

// Nothing comes from the node any more: the client says so, and asks for another
// seat when nobody gives it one.
func TestSilentPath(t *testing.T) {
	w := newWorld(t)
	std, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	wire := &cable{Net: std}
	ea := newEar()
	opts := ea.options()
	opts.Net = wire
	a, err := voiceclient.Join(context.Background(), voiceclient.Config{Server: w.gw.url, Token: "1", Guild: guild, Channel: channel, Options: opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	ea.until(t, "an idle path is asked for signs of life", nil, func() bool { return a.Voice().Quiet() > 200*time.Millisecond })
	ea.until(t, "and gives them", nil, func() bool { return a.Voice().Quiet() < 100*time.Millisecond })
	wire.out.Store(true)
	cut := time.Now()
	// First a doubt, unless this process has not run meanwhile; the times are tested by
	// the cores, for here something may have been late before the cut.
	told := <-w.silent
	for told.Silent == 0 {
		if told.Node != "n1" || told.Doubt != 1 {
			t.Errorf("first %+v, want a doubt", told)
		}
		told = <-w.silent
	}
	if told.Node != "n1" || told.Silent != 1 {
		t.Errorf("%+v", told)
	}
	ea.until(t, "another seat is asked for", nil, func() bool { return w.gw.asked() > 0 })
	took := time.Since(cut)
	t.Logf("asked after %v", took)
	if took < 2500*time.Millisecond {
		t.Errorf("asked after %v: somebody may have moved the call", took)
	}
	wire.out.Store(false)
	ea.until(t, "seated anew", nil, func() bool { return a.Stats().Moves > 0 && a.Voice().Quiet() < 100*time.Millisecond })
}
