package cql

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"
)

// nodes knows which nodes of the cluster are asked and say nothing. One that stands still
// keeps its connections, so that the driver holds it for up until the other nodes say that
// it is down, some 20 s later: what it is to coordinate would wait in vain until then.
//
// It hears all that goes over connections, so no trial is needed: an answer that comes too
// late, to one who has gone, is a sign of life, and so is that to the driver's own question
// every 30 s, or to the greeting of a new connection.
type nodes struct {
	// Immutable.
	patience time.Duration // in which a node that is asked says a word

	mu sync.Mutex
	// Guarded by mu: those with requests under way.
	known map[netip.AddrPort]node
}

type node struct {
	// open are requests without an answer on connections that are there. One that was given
	// up is among them.
	open int
	// since is when it was asked first after it last said something; zero when it was not.
	since time.Time
}

func newNodes(patience time.Duration) *nodes {
	return &nodes{patience: patience, known: make(map[netip.AddrPort]node)}
}

func (n *nodes) asked(at netip.AddrPort, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.known[at]
	one.open++
	if one.since.IsZero() {
		one.since = now
	}
	n.known[at] = one
}

// heard is for whatever came from a node.
func (n *nodes) heard(at netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if one, is := n.known[at]; is {
		one.since = time.Time{}
		n.known[at] = one
	}
}

// ended is for a request that was answered, or whose connection is gone.
func (n *nodes) ended(at netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.known[at]
	if one.open--; one.open <= 0 {
		delete(n.known, at)
		return
	}
	n.known[at] = one
}

func (n *nodes) silent(at netip.AddrPort, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silentLocked(n.known[at], now)
}

func (n *nodes) silentLocked(one node, now time.Time) bool {
	return !one.since.IsZero() && now.Sub(one.since) > n.patience
}

// count is how many are silent.
func (n *nodes) count(now time.Time) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	silent := 0
	for _, one := range n.known {
		if n.silentLocked(one, now) {
			silent++
		}
	}
	return silent
}

func addressOf(h *gocql.HostInfo) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(h.ConnectAddress())
	return netip.AddrPortFrom(addr.Unmap(), uint16(h.Port()))
}

// listener is what the driver tells of its connections.
type listener struct{ *nodes }

// StreamContext is the same for all requests.
func (l listener) StreamContext(context.Context) gocql.StreamObserverContext { return l }

// StreamStarted comes just before a request is written.
func (l listener) StreamStarted(s gocql.ObservedStream) { l.asked(addressOf(s.Host), time.Now()) }

// StreamFinished comes after an answer, or when the request was not written after all.
func (l listener) StreamFinished(s gocql.ObservedStream) { l.ended(addressOf(s.Host)) }

// StreamAbandoned comes when the connection is gone.
func (l listener) StreamAbandoned(s gocql.ObservedStream) { l.ended(addressOf(s.Host)) }

// ObserveFrameHeader comes with every answer and every event.
func (l listener) ObserveFrameHeader(_ context.Context, f gocql.ObservedFrameHeader) {
	l.heard(addressOf(f.Host))
}

// choice is in which order nodes are asked: as the driver has it, but for those that are
// silent, which come last. So all of them are asked as ever when all are silent.
type choice struct {
	gocql.HostSelectionPolicy
	nodes  *nodes
	passed prometheus.Counter
}

// AddHosts is looked for by the driver: one by one the ring would be built anew for each.
func (c choice) AddHosts(hosts []*gocql.HostInfo) {
	if all, is := c.HostSelectionPolicy.(interface{ AddHosts([]*gocql.HostInfo) }); is {
		all.AddHosts(hosts)
		return
	}
	for _, h := range hosts {
		c.AddHost(h)
	}
}

// Pick is called for each statement, what it returns for each try.
func (c choice) Pick(q gocql.ExecutableQuery) gocql.NextHost {
	next := c.HostSelectionPolicy.Pick(q)
	var last []gocql.SelectedHost
	return func() gocql.SelectedHost {
		for host := next(); host != nil; host = next() {
			if !c.nodes.silent(addressOf(host.Info()), time.Now()) {
				return host
			}
			last = append(last, host)
			c.passed.Inc()
		}
		if len(last) == 0 {
			return nil
		}
		host := last[0]
		last = last[1:]
		return host
	}
}
