package voiceclient

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"voicefleet/signaling"
)

// When a path is lost. At 30 % loss each way, an idle path on which nothing but
// checks can be heard is silent for 1.5 s once in an hour (and for 1 s 124 times,
// as was measured); one that is left, after 3.5 s, is so never.
const (
	// probeAfter is the silence after which a path is asked for a sign of life,
	// probeEvery how often then.
	probeAfter = 300 * time.Millisecond
	probeEvery = 100 * time.Millisecond
	// doubtFrom is the silence that is reported at once, so that the node may be asked,
	// reportFrom that by which it counts as silent, lostAfter that of a path that is
	// lost.
	doubtFrom  = 600 * time.Millisecond
	reportFrom = time.Second
	lostAfter  = 1500 * time.Millisecond
	// reportEvery is the pause between reports.
	reportEvery = time.Second
)

// trouble is what a session has to say of its path.
type trouble int

const (
	pathSilent trouble = iota // nothing comes any more
	pathMoved                 // this host reaches the node from another address now
	pathStuck                 // the relay or the TCP connection it took is gone, and no other way is open to it
)

// watch looks at the media of a session until ctx ends: it has reports told to
// the server, and says when the path is lost.
func (v *Voice) watch(ctx context.Context) {
	media, ok := v.media.(Watched)
	if !ok {
		return
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var (
		w     watch
		route netip.Addr // from where the node is reached
		stuck bool
	)
	if v.pion != nil {
		route = routeTo(v.pion.remote())
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.media.Lost():
			return
		case now := <-tick.C:
			received, last := media.Heard()
			quiet := now.Sub(last)
			v.quiet.Store(int64(quiet))
			report, lost := w.step(now, received, quiet)
			if report {
				put(v.reports, signaling.ReceiveReport{Received: received, Silent: int(max(quiet, 0) / time.Millisecond)})
			}
			if lost {
				put(v.trouble, pathSilent)
			}
			if v.pion == nil {
				continue
			}
			was := stuck
			if stuck = v.pion.net.detour.stuck(); stuck && !was {
				put(v.trouble, pathStuck)
			}
			if quiet < probeEvery || !route.IsValid() {
				continue
			}
			// An address that this host has no more needs no proof by silence.
			if r := routeTo(v.pion.remote()); r.IsValid() && r != route && (quiet >= probeAfter || !ours(route)) {
				route = r
				put(v.trouble, pathMoved)
			}
		}
	}
}

// watch is what was said of a path so far.
type watch struct {
	reported time.Time
	doubted  time.Time // the last report of the first mark
	received uint64    // as reported
	said     int       // of the three marks of a silence, how many were reached
}

// step says whether a report is due, and whether the path has just been lost.
func (w *watch) step(now time.Time, received uint64, quiet time.Duration) (report, lost bool) {
	marks := 0
	for _, mark := range [...]time.Duration{doubtFrom, reportFrom, lostAfter} {
		if quiet >= mark {
			marks++
		}
	}
	lost = marks == 3 && w.said < 3
	switch {
	case marks > w.said && marks > 1:
		report = true
	case marks > w.said && now.Sub(w.doubted) >= reportEvery: // a far node's answers may take as long each time
		report, w.doubted = true, now
	case now.Sub(w.reported) < reportEvery:
	case received != w.received || quiet >= probeAfter:
		report = true
	}
	w.said = marks
	if report {
		w.reported, w.received = now, received
	}
	return report, lost
}

// ours says whether an address is one of this host, which it also is when that
// cannot be known.
func ours(a netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(list, func(one net.Addr) bool {
		p, err := netip.ParsePrefix(one.String())
		return err == nil && p.Addr() == a.Unmap().WithZone("")
	})
}

// routeTo is the address of this host from which a peer is reached; invalid when
// it is not. Nothing is sent.
func routeTo(peer netip.AddrPort) netip.Addr {
	if !peer.IsValid() {
		return netip.Addr{}
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
}
