package signalingserver

import (
	"net/netip"
	"sync"
)

// door counts connections, so that strangers cannot take all the room.
type door struct {
	// Immutable.
	connections, strangers, perPrefix int

	mu sync.Mutex
	// Guarded by mu.
	total    int
	unproved int
	prefixes map[netip.Addr]int // unproved connections by prefix
}

// prefix is what one stranger can easily have many addresses of: an IPv4
// address or an IPv6 /64. Loopback is the zero Addr, which is not counted: who
// is on the machine needs no limit, and a proxy there speaks for many.
func prefix(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() {
		return netip.Addr{}
	}
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// enter says whether a connection from a prefix may come in.
func (d *door) enter(p netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.total >= d.connections || d.unproved >= d.strangers || p.IsValid() && d.prefixes[p] >= d.perPrefix {
		return false
	}
	d.total++
	d.unproved++
	if p.IsValid() {
		d.prefixes[p]++
	}
	return true
}

// proved makes a stranger known.
func (d *door) proved(c *conn) {
	if c.proved.CompareAndSwap(false, true) {
		d.mu.Lock()
		d.knownLocked(c.addr)
		d.mu.Unlock()
	}
}

// exit counts a connection out.
func (d *door) exit(c *conn) {
	stranger := c.proved.CompareAndSwap(false, true)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total--
	if stranger {
		d.knownLocked(c.addr)
	}
}

func (d *door) knownLocked(p netip.Addr) {
	d.unproved--
	if !p.IsValid() {
		return
	}
	if d.prefixes[p]--; d.prefixes[p] == 0 {
		delete(d.prefixes, p)
	}
}
