package voiceclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"voicefleet/internal/stunprobe"
)

const (
	// measureJoin is what a join waits at most for the regions to answer, once the
	// gateway has let it in; measureTime is how long they may take for what comes
	// after.
	measureJoin = 150 * time.Millisecond
	measureTime = time.Second
	// measureMost bounds the regions that are asked, the optimal one before others:
	// the way to the rest follows from these.
	measureMost = 12
	// maxRegions bounds the list of regions, in bytes.
	maxRegions = 1 << 20
)

// region is an entry of GET /voice/regions.
type region struct {
	ID      string `json:"id"`
	Optimal bool   `json:"optimal"`
	Probe   *struct {
		Address  netip.Addr `json:"address"`
		Port     uint16     `json:"port"`
		Ufrag    string     `json:"ufrag"`
		Password string     `json:"password"`
	} `json:"probe"`
}

// distances are what was measured so far.
type distances struct {
	// several is closed when there are regions to choose from, and enough when each
	// has answered or had its time.
	several, enough chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	rtt map[string]float64 // milliseconds
}

func newDistances(known map[string]float64) *distances {
	d := &distances{several: make(chan struct{}), enough: make(chan struct{}), rtt: map[string]float64{}}
	maps.Copy(d.rtt, known)
	return d
}

// known is what op 4 carries.
func (d *distances) known() map[string]float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.rtt)
}

// await gives the regions a moment to answer, where there is a choice of them.
func (d *distances) await(ctx context.Context) {
	select {
	case <-d.several:
	default:
		return // there is none, or nobody knows yet
	}
	moment := time.NewTimer(measureJoin)
	defer moment.Stop()
	select {
	case <-d.enough:
	case <-moment.C:
	case <-ctx.Done():
	}
}

// measure finds out how far each region is. What fails is missing, and nothing
// comes of it but a call that is placed by other means.
func (c *Call) measure(ctx context.Context) {
	defer close(c.distances.enough)
	ctx, cancel := context.WithTimeout(ctx, measureTime+dialTimeout)
	defer cancel()
	list, err := c.regions(ctx)
	if err != nil {
		c.cfg.Log.Debug("regions are not known", "err", err)
		return
	}
	list = slices.DeleteFunc(list, func(r region) bool { return r.Probe == nil })
	if len(list) < 2 {
		return
	}
	slices.SortStableFunc(list, func(a, b region) int {
		switch {
		case a.Optimal == b.Optimal:
			return 0
		case a.Optimal:
			return -1
		}
		return 1
	})
	close(c.distances.several)
	asking, stop := context.WithTimeout(ctx, measureTime)
	defer stop()
	var all sync.WaitGroup
	for _, r := range list[:min(len(list), measureMost)] {
		all.Go(func() {
			at := netip.AddrPortFrom(r.Probe.Address, r.Probe.Port)
			a, err := stunprobe.Probe(asking, stunprobe.Sparing, []netip.AddrPort{at}, r.Probe.Ufrag, r.Probe.Password)
			if err != nil {
				return
			}
			c.distances.mu.Lock()
			c.distances.rtt[r.ID] = float64(a.RTT) / float64(time.Millisecond)
			c.distances.mu.Unlock()
		})
	}
	all.Wait()
}

// regions asks for the list.
func (c *Call) regions(ctx context.Context) ([]region, error) {
	transport := &http.Transport{TLSClientConfig: c.cfg.TLS, DisableKeepAlives: true} // it is asked once
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.Scheme+"://"+c.server.Host+"/api/v10/voice/regions", nil)
	if err != nil {
		return nil, fmt.Errorf("ask for regions: %w", err)
	}
	req.Header.Set("Authorization", c.cfg.Token)
	rep, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for regions: %w", err)
	}
	defer rep.Body.Close()
	if rep.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for regions: the server answers %s", rep.Status)
	}
	var list []region
	if err := json.NewDecoder(io.LimitReader(rep.Body, maxRegions)).Decode(&list); err != nil {
		return nil, fmt.Errorf("read regions: %w", err)
	}
	return list, nil
}
