package main

import (
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"

	"voicefleet/signaling/voiceclient"
)

// deafNet is a network whose sockets can be made deaf to media: checks come through,
// and what is said gets out, as with a leg that broke within.
type deafNet struct {
	transport.Net

	mu sync.Mutex
	// Guarded by mu.
	conns []*deafConn
}

type deafConn struct {
	transport.UDPConn
	deaf atomic.Bool
}

func (n *deafNet) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	d := &deafConn{UDPConn: c}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, d)
	return d, nil
}

// deafen makes the sockets deaf that there are; those to come hear.
func (n *deafNet) deafen() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.deaf.Store(true)
	}
}

func (c *deafConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(b)
		media := n > 0 && b[0]>>6 == 2 // RTP and RTCP (RFC 7983)
		if err != nil || !media || !c.deaf.Load() {
			return n, from, err
		}
	}
}

// TestADeafLegIsMended: of two who listen one hears nothing any more. It gets another
// seat by itself, the other one hears on, and it is counted and in the journal.
func TestADeafLegIsMended(t *testing.T) {
	r := launchUp(t)
	ada, bob, dot := r.join(http.DefaultClient, r.http, "Ada"), r.join(http.DefaultClient, r.http, "Bob"), r.join(http.DefaultClient, r.http, "Dot")
	channel := r.voiceChannel(http.DefaultClient, r.http, ada)
	std, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	network := &deafNet{Net: std}
	a, d := enter(t, r.http(""), nil, ada, channel), enter(t, r.http(""), nil, dot, channel)
	b := enterBy(t, r.http(""), bob, channel, voiceclient.Options{Net: network})
	talk(t, a)
	b.until(t, "Bob hears Ada", func(n int) bool { return n > 50 })
	d.until(t, "Dot hears Ada", func(n int) bool { return n > 50 })
	network.deafen()
	deaf := time.Now()
	for !strings.Contains(ctlSays(t, r.data, "journal"), "heard nothing while somebody spoke") { // 20 s: a short silence is none
		if time.Since(deaf) > 3*wait {
			t.Fatal("nobody mends it, says the journal")
		}
	}
	before := 0
	b.until(t, "Bob hears Ada again", func(n int) bool {
		if b.Stats().Moves == 0 {
			before = n
			return false
		}
		return n > before+50
	})
	t.Logf("mended after %v", time.Since(deaf).Round(time.Millisecond))
	if s := d.Stats(); s.Moves != 0 {
		t.Errorf("who heard all along was seated anew %d times", s.Moves)
	}
	m := regexp.MustCompile(`(?m)^voicefleet_allocator_verdicts_total\{deed="mend"\} (\d+)`).FindStringSubmatch(get(t, http.DefaultClient, r.http("/metrics")))
	if m == nil {
		t.Fatal("it is not counted")
	}
	if n, _ := strconv.Atoi(m[1]); n < 1 {
		t.Errorf("%d are counted", n)
	}
}
