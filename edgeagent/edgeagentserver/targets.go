package edgeagentserver

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/telemetry"
)

const (
	// maxNodeAddrs and maxNodePorts bound what is believed of one heartbeat.
	maxNodeAddrs = 16
	maxNodePorts = 128
	// maxTargets bounds the media sockets of other nodes: 2,000 of them with four
	// addresses and eight workers.
	maxTargets = 1 << 16
)

// targets are the media sockets of the fleet, the only ones that a relay leads to.
// Those of this node are reached over the loopback interface: the address that
// clients know may be one of a NAT that leads nothing back. Each of its addresses
// has a loopback address of its own there, so that an answer can be told to come
// from the one the client asked.
type targets struct {
	// Immutable.
	self edgeagent.NodeID
	turn uint16 // port of the relay itself, which it must not lead to

	mu sync.Mutex
	// Guarded by mu.
	addrs   []netip.Addr
	ports   []uint16
	aliases map[netip.Addr]netip.Addr // never taken back: paths of the engine lead there
	others  map[string][]netip.AddrPort

	table atomic.Pointer[targetTable]
}

type targetTable struct {
	reach map[netip.AddrPort]netip.AddrPort // as clients name it → where it is sent to
	names map[netip.AddrPort]netip.AddrPort // the other way
	addrs map[netip.Addr]bool
}

func newTargets(self edgeagent.NodeID, turn uint16) *targets {
	p := &targets{self: self, turn: turn, aliases: make(map[netip.Addr]netip.Addr), others: make(map[string][]netip.AddrPort)}
	p.table.Store(&targetTable{})
	return p
}

// permits serves turngate.Config: port zero asks for the address alone.
func (p *targets) permits(to netip.AddrPort) bool {
	t := p.table.Load()
	if to.Port() == 0 {
		return t.addrs[to.Addr()]
	}
	_, ok := t.reach[to]
	return ok
}

func (p *targets) reach(to netip.AddrPort) (netip.AddrPort, bool) {
	at, ok := p.table.Load().reach[to]
	return at, ok
}

func (p *targets) name(from netip.AddrPort) (netip.AddrPort, bool) {
	at, ok := p.table.Load().names[from]
	return at, ok
}

// address is the first of this node in a family.
func (p *targets) address(v6 bool) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.addrs {
		if a = a.Unmap(); a.Is6() == v6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// own says where this node's media sockets are.
func (p *targets) own(addrs []netip.Addr, ports []uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(addrs, p.addrs) && slices.Equal(ports, p.ports) {
		return
	}
	p.addrs, p.ports = slices.Clone(addrs), slices.Clone(ports)
	p.buildLocked()
}

// aliasLocked is the loopback address that stands for one of this node: 127.86.70.1 and
// on. The 251st address of a node's life shares that of the first.
func (p *targets) aliasLocked(a netip.Addr) netip.Addr {
	at, ok := p.aliases[a]
	if !ok {
		at = netip.AddrFrom4([4]byte{127, 86, 70, byte(1 + len(p.aliases)%250)})
		p.aliases[a] = at
	}
	return at
}

func (p *targets) buildLocked() {
	t := &targetTable{
		reach: make(map[netip.AddrPort]netip.AddrPort), names: make(map[netip.AddrPort]netip.AddrPort),
		addrs: make(map[netip.Addr]bool),
	}
	put := func(name, at netip.AddrPort) {
		t.reach[name], t.names[at], t.addrs[name.Addr()] = at, name, true
	}
	for _, sockets := range p.others {
		for _, s := range sockets {
			if len(t.reach) < maxTargets && !(s.Port() == p.turn && slices.Contains(p.addrs, s.Addr())) {
				put(s, s)
			}
		}
	}
	for _, a := range p.addrs { // last: what another node says of our addresses does not count
		for _, port := range p.ports {
			put(netip.AddrPortFrom(a.Unmap(), port), netip.AddrPortFrom(p.aliasLocked(a.Unmap()), port))
		}
	}
	p.table.Store(t)
}

// other notes the heartbeat of another node; nil: it is gone.
func (p *targets) other(node string, hb *edgeagent.Heartbeat) {
	if node == string(p.self) {
		return
	}
	var sockets []netip.AddrPort
	if hb != nil && hb.State != edgeagent.Gone {
		sockets = mediaSockets(hb)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(sockets, p.others[node]) {
		return
	}
	if sockets == nil {
		delete(p.others, node)
	} else {
		p.others[node] = sockets
	}
	p.buildLocked()
}

// mediaSockets are those of a heartbeat that lead to another machine. What a node
// says of itself can be wrong; nothing of it leads back into this one.
func mediaSockets(hb *edgeagent.Heartbeat) (list []netip.AddrPort) {
	for _, a := range hb.Addrs[:min(len(hb.Addrs), maxNodeAddrs)] {
		if a = a.Unmap(); !a.IsGlobalUnicast() || a.Zone() != "" {
			continue
		}
		for _, port := range hb.Ports[:min(len(hb.Ports), maxNodePorts)] {
			if port != 0 {
				list = append(list, netip.AddrPortFrom(a, port))
			}
		}
	}
	return list
}

// follow keeps the others until ctx ends.
func (p *targets) follow(ctx context.Context, conn *bus.Conn, log *telemetry.Flood) {
	for ctx.Err() == nil {
		bucket, err := bus.OpenBucket[edgeagent.Heartbeat](ctx, conn, bus.NodesBucket)
		if err == nil {
			bucket.Watch(ctx, func(c bus.Change[edgeagent.Heartbeat]) {
				switch {
				case c.Synced:
				case c.Gone:
					p.other(c.Key, nil)
				default:
					p.other(c.Key, &c.Value)
				}
			})
			return
		}
		log.Log(slog.LevelWarn, "targets", "other nodes are not known to the relay yet", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(serveRetry):
		}
	}
}
