package chatserver

import (
	"context"
	"math"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// regionsKept is how long the list of regions serves before it is asked for
	// again; regionsStale how long it serves while nobody answers: targets that are
	// gone by then answer nobody, which costs a client no more than the attempt.
	regionsKept  = 2 * time.Second
	regionsStale = 5 * time.Minute
	// regionsWait bounds the wait for the list: a join must not hang on it.
	regionsWait = time.Second
)

// Region is one entry of the list of voice regions.
type Region struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Optimal bool   `json:"optimal"`
	// Deprecated and Custom are always false here.
	Deprecated bool `json:"deprecated"`
	Custom     bool `json:"custom"`
	// Probe, ours, is what to measure the region by: a media port that answers STUN
	// binding requests (RFC 8489) with these credentials. It is missing where there is
	// but one region, and where none of its nodes has an address of the family that
	// the request came by.
	Probe *ProbeTarget `json:"probe,omitempty"`
}

// ProbeTarget answers only the network prefix that asked for it, until it expires,
// and at most ten times a second.
type ProbeTarget struct {
	Address  netip.Addr `json:"address"`
	Port     uint16     `json:"port"`
	Ufrag    string     `json:"ufrag"`
	Password string     `json:"password"`
	Expires  time.Time  `json:"expires"`
}

// regionList is what the allocators said last.
type regionList struct {
	mu sync.Mutex // held while they are asked: who comes meanwhile waits for the same answer
	// Guarded by mu.
	list []allocator.Region
	at   time.Time
}

// of is the list, at most regionsKept old unless nobody answers.
func (l *regionList) of(ctx context.Context, ask func(context.Context) ([]allocator.Region, error)) []allocator.Region {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.at) < regionsKept {
		return l.list
	}
	ctx, cancel := context.WithTimeout(ctx, regionsWait)
	defer cancel()
	switch list, err := ask(ctx); {
	case err == nil:
		l.list, l.at = list, time.Now()
	case now.Sub(l.at) > regionsStale:
		l.list = nil
	}
	return l.list
}

func (c *call) regions() (int, any, error) {
	if c.r.PathValue("guild") != "" {
		if _, err := c.guild(); err != nil {
			return 0, nil, err
		}
	}
	var list []allocator.Region
	if ask := c.srv.cfg.Regions; ask != nil {
		list = c.srv.regionsKnown.of(c.ctx, ask)
	}
	client := c.srv.clientAddr(c.r)
	var where *edgeagent.Location
	if c.srv.cfg.Locate != nil {
		where = c.srv.cfg.Locate(client)
	}
	return http.StatusOK, regionsFor(c.now, list, client, where), nil
}

// regionsFor is the list for a client. Exactly one region is optimal: the nearest
// one as far as places on the earth tell, or else the one with most room.
func regionsFor(now time.Time, list []allocator.Region, client netip.Addr, where *edgeagent.Location) []Region {
	if len(list) == 0 {
		return []Region{{ID: "automatic", Name: "Automatic", Optimal: true}}
	}
	out := make([]Region, len(list))
	best, nearest := 0, math.Inf(1)
	for i, r := range list {
		out[i] = Region{ID: r.ID, Name: r.ID}
		if len(list) > 1 {
			out[i].Probe = probeTarget(now, r, client)
		}
		away := math.Inf(1)
		if where != nil && r.Location != nil {
			away = where.Distance(*r.Location)
		}
		if away < nearest || away == nearest && r.Headroom > list[best].Headroom {
			best, nearest = i, away
		}
	}
	out[best].Optimal = true
	return out
}

// probeTarget is a media port for a client to measure, made out to where it will
// come from: the network that its request came from, or, on this machine, the
// address it goes to.
func probeTarget(now time.Time, r allocator.Region, client netip.Addr) *ProbeTarget {
	client = client.Unmap()
	if !client.IsValid() || !r.ProbeKey.Valid() {
		return nil
	}
	for _, a := range r.Addrs {
		at := a.Addr().Unmap()
		if at.Is4() != client.Is4() && !client.IsLoopback() {
			continue
		}
		from := client
		if client.IsLoopback() {
			from = at
		}
		p := sfu.ClientProbe(now, from)
		t := &ProbeTarget{Address: at, Port: a.Port(), Expires: p.Expires.UTC().Truncate(time.Second)}
		t.Ufrag, t.Password = p.Credentials(r.ProbeKey)
		return t
	}
	return nil
}
