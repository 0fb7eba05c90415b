package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"voicefleet/edgeagent"
	"voicefleet/internal/geoip"
)

// whereabouts are the flags about where clients come from.
type whereabouts struct {
	geoip   string
	proxies []string
}

func (w *whereabouts) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.geoip, "geoip", "", "GeoIP database (.mmdb, City or Country) by which clients that measure nothing are sent to a near node with a --location")
	f.StringSliceVar(&w.proxies, "trusted-proxy", nil, "addresses or networks of proxies in front of this program, which may name the client in X-Forwarded-For")
}

// known is what the flags lead to. Close it when nobody asks any more.
type known struct {
	proxies []netip.Prefix
	db      *geoip.DB // nil: none
}

func (w *whereabouts) open(log *slog.Logger) (*known, error) {
	var k known
	for _, s := range w.proxies {
		p, err := netip.ParsePrefix(s)
		if a, bare := netip.ParseAddr(s); bare == nil && !strings.Contains(s, "/") {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxy %.60q: want an address or a network, as 10.0.0.0/8", s)
		}
		k.proxies = append(k.proxies, p.Masked())
	}
	if w.geoip == "" {
		return &k, nil
	}
	var err error
	if k.db, err = geoip.Open(w.geoip); err != nil {
		return nil, fmt.Errorf("--geoip: %w", err)
	}
	log.Info("GeoIP database is open", "file", w.geoip, "kind", k.db.Kind())
	return &k, nil
}

func (k *known) close() {
	if k.db != nil {
		_ = k.db.Close() // it was only read
	}
}

// locate serves chatserver.Config.Locate.
func (k *known) locate(a netip.Addr) *edgeagent.Location {
	if k.db == nil {
		return nil
	}
	lat, lon, ok := k.db.Lookup(a)
	if !ok {
		return nil
	}
	return &edgeagent.Location{Lat: lat, Lon: lon}
}
