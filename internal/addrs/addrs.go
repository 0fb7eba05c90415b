package addrs

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// MaxAddrs bounds the list: each address is a candidate in every SDP answer and
// a name in the certificate.
const MaxAddrs = 12

// pollInterval is how soon a change is seen. One look reads /proc and a netlink
// table: about 100 µs.
const pollInterval = 5 * time.Second

// Interface is what is known of one network interface.
type Interface struct {
	Name  string
	Up    bool
	Addrs []netip.Addr
}

// bridges are the names of interfaces that join containers and virtual machines
// of this host. Docker names its own bridges br- and 12 hex digits; a plain
// "br-lan" is the real network of many routers.
var bridges = []string{"docker", "veth", "virbr", "vnet", "cni", "flannel", "cali", "cilium", "kube", "podman", "lxcbr", "lxdbr", "vmnet", "vboxnet", "dummy", "ifb"}

// tunnels are reached by members of the same private network only.
var tunnels = []string{"wg", "tailscale", "zt", "tun", "tap", "utun", "ham", "ppp"}

func hasPrefix(name string, list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(name, p) })
}

func isDockerBridge(name string) bool {
	id, ok := strings.CutPrefix(name, "br-")
	return ok && len(id) == 12 && strings.Trim(id, "0123456789abcdef") == ""
}

// rank orders candidates: what the operator named, then network cards, then
// tunnels; within each IPv4 first, because that is what a LAN shares.
const (
	rankCard = iota
	rankTunnel
)

// Candidates picks the addresses worth telling others, best first. advertise
// stands before them all.
func Candidates(interfaces []Interface, advertise []netip.Addr) []netip.Addr {
	type candidate struct {
		addr netip.Addr
		rank int
	}
	var found []candidate
	var loopback []netip.Addr
	for _, i := range interfaces {
		if !i.Up || hasPrefix(i.Name, bridges) || isDockerBridge(i.Name) {
			continue
		}
		rank := rankCard
		if hasPrefix(i.Name, tunnels) {
			rank = rankTunnel
		}
		for _, a := range i.Addrs {
			a = a.Unmap()
			switch {
			case a.IsLoopback():
				loopback = append(loopback, a)
			case a.IsGlobalUnicast():
				found = append(found, candidate{a.WithZone(""), rank})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.addr.BitLen(), b.addr.BitLen()))
	})
	list := slices.Clone(advertise)
	for _, c := range found {
		if !slices.Contains(list, c.addr) {
			list = append(list, c.addr)
		}
	}
	if len(list) == 0 {
		list = loopback
		slices.SortStableFunc(list, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	}
	return list[:min(len(list), MaxAddrs)]
}

// ParseAdvertise reads the operator's wish: "auto", or addresses separated by
// commas, which are named first. With 1:1 NAT or a forwarded port this is the
// public address: the host itself cannot see it.
func ParseAdvertise(s string) ([]netip.Addr, error) {
	if s == "" || s == "auto" {
		return nil, nil
	}
	var list []netip.Addr
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "auto" {
			continue
		}
		a, err := netip.ParseAddr(strings.Trim(part, "[]"))
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return nil, fmt.Errorf("%q is not an IP address others can reach", part)
		}
		if a = a.Unmap(); !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if len(list) > MaxAddrs {
		return nil, fmt.Errorf("%d addresses, at most %d can be advertised", len(list), MaxAddrs)
	}
	return list, nil
}

// Watcher keeps the list current.
type Watcher struct {
	// Immutable.
	advertise []netip.Addr
	changed   func([]netip.Addr)

	current atomic.Pointer[[]netip.Addr]
}

// Watch looks once and makes a Watcher; Run follows the changes. changed may be
// nil; it is called from Run with each new list.
func Watch(advertise []netip.Addr, changed func([]netip.Addr)) (*Watcher, error) {
	w := &Watcher{advertise: advertise, changed: changed}
	found, err := interfaces()
	if err != nil {
		return nil, err
	}
	list := Candidates(found, advertise)
	w.current.Store(&list)
	return w, nil
}

// Addrs is the list as last seen. It is not to be written to.
func (w *Watcher) Addrs() []netip.Addr { return *w.current.Load() }

// Run looks again every five seconds until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.look(interfaces)
		}
	}
}

// look takes over what read finds, if it differs. A failed read, or one that
// finds nothing at all, leaves the old list: the host is between two networks.
func (w *Watcher) look(read func() ([]Interface, error)) {
	found, err := read()
	if err != nil {
		return
	}
	list := Candidates(found, w.advertise)
	if len(list) == 0 || slices.Equal(list, w.Addrs()) {
		return
	}
	w.current.Store(&list)
	if w.changed != nil {
		w.changed(list)
	}
}

// interfaces reads those of this host.
func interfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	unfit := unfitAddrs()
	var list []Interface
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away while we looked
		}
		out := Interface{Name: i.Name, Up: i.Flags&net.FlagUp != 0}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			if ok && !unfit[ip] {
				out.Addrs = append(out.Addrs, ip)
			}
		}
		list = append(list, out)
	}
	return list, nil
}
