package chatserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

var regionsNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// region is one whose target has some addresses.
func region(id string, headroom int, at *edgeagent.Location, addrs ...string) allocator.Region {
	r := allocator.Region{ID: id, Nodes: 1, Headroom: headroom, Location: at, Target: "node", ProbeKey: make(sfu.ProbeKey, sfu.ProbeKeyLen)}
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, netip.MustParseAddrPort(a))
	}
	return r
}

func TestRegionsFor(t *testing.T) {
	frankfurt, york := &edgeagent.Location{Lat: 50.1, Lon: 8.7}, &edgeagent.Location{Lat: 40.7, Lon: -74}
	both := []allocator.Region{
		region("eu", 10, frankfurt, "198.51.100.1:50000", "[2001:db8::1]:50000"),
		region("us", 20, york, "203.0.113.1:50000"),
	}
	keyless := []allocator.Region{both[0], both[1]}
	keyless[0].ProbeKey = nil
	for _, c := range []struct {
		name   string
		list   []allocator.Region
		client string
		where  *edgeagent.Location
		want   string
	}{
		{"none", nil, "192.0.2.9", nil, "automatic* -"},
		{"one", both[:1], "192.0.2.9", nil, "eu* -"},
		{"two, by IPv4", both, "192.0.2.9", nil, "eu 198.51.100.1:50000 192.0.2.1|us* 203.0.113.1:50000 192.0.2.1"},
		{"two, by mapped IPv4", both, "::ffff:192.0.2.9", nil, "eu 198.51.100.1:50000 192.0.2.1|us* 203.0.113.1:50000 192.0.2.1"},
		{"two, by IPv6", both, "2001:db8:1::9", nil, "eu [2001:db8::1]:50000 2001:db8:1::1|us* -"},
		{"two, on this machine", both, "127.0.0.1", nil, "eu 198.51.100.1:50000 198.51.100.1|us* 203.0.113.1:50000 203.0.113.1"},
		{"two, from nowhere", both, "", nil, "eu -|us* -"},
		{"two, near one of them", both, "192.0.2.9", &edgeagent.Location{Lat: 48.9, Lon: 2.4}, "eu* 198.51.100.1:50000 192.0.2.1|us 203.0.113.1:50000 192.0.2.1"},
		{"without a key", keyless, "192.0.2.9", nil, "eu -|us* 203.0.113.1:50000 192.0.2.1"},
	} {
		client, _ := netip.ParseAddr(c.client)
		var got []string
		for _, r := range regionsFor(regionsNow, c.list, client, c.where) {
			s := r.ID
			if r.Optimal {
				s += "*"
			}
			if r.Probe == nil {
				s += " -"
			} else {
				// Whom it answers: the neighbour in the client's network, and nobody else.
				p, ok := sfu.ReadProbe([]byte(r.Probe.Ufrag))
				from := client.Unmap()
				if from.IsLoopback() {
					from = r.Probe.Address
				}
				network, _ := from.Prefix(map[bool]int{true: 24, false: 64}[from.Is4()])
				neighbour := network.Addr().Next()
				if !ok || !p.May(regionsNow, neighbour) || p.May(regionsNow, netip.MustParseAddr("233.252.0.1")) || !p.Expires.Equal(r.Probe.Expires) {
					t.Errorf("%s: %s answers %+v", c.name, r.ID, p)
				}
				if _, pwd := p.Credentials(make(sfu.ProbeKey, sfu.ProbeKeyLen)); pwd != r.Probe.Password {
					t.Errorf("%s: password %q", c.name, r.Probe.Password)
				}
				s += fmt.Sprint(" ", netip.AddrPortFrom(r.Probe.Address, r.Probe.Port), " ", neighbour)
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

// TestRegionListIsKept: the allocators are asked once for all within two seconds,
// and while they do not answer, what they said last stands.
func TestRegionListIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l regionList
		asked, dead := 0, false
		ask := func(ctx context.Context) ([]allocator.Region, error) {
			asked++
			if dead {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []allocator.Region{{ID: fmt.Sprint("r", asked)}}, nil
		}
		is := func(when string, calls int, want string) {
			t.Helper()
			began := time.Now()
			got := l.of(t.Context(), ask)
			if asked != calls || fmt.Sprint(got) == "[]" != (want == "") || len(got) == 1 && got[0].ID != want {
				t.Errorf("%s: asked %d times, %v", when, asked, got)
			}
			if took := time.Since(began); took > regionsWait {
				t.Errorf("%s: took %v", when, took)
			}
		}
		is("first", 1, "r1")
		is("at once again", 1, "r1")
		time.Sleep(regionsKept)
		is("later", 2, "r2")
		time.Sleep(regionsKept)
		dead = true
		is("without an answer", 3, "r2")
		time.Sleep(regionsStale + time.Second)
		is("long without an answer", 4, "")
	})
}

func TestRegionsOverREST(t *testing.T) {
	var down atomic.Bool
	w := newWorld(t, t.TempDir(), func(c *Config) {
		c.Regions = func(context.Context) ([]allocator.Region, error) {
			if down.Load() {
				return nil, errors.New("nobody answers")
			}
			return []allocator.Region{region("eu", 10, nil, "127.0.0.1:50000"), region("us", 20, nil, "127.0.0.2:50000")}, nil
		}
	}, nil)
	ann := w.guest("Ann")
	for _, path := range []string{"/voice/regions", "/guilds/" + w.guildID() + "/regions"} {
		r := w.try("GET", path, ann.token, nil)
		if r.status != 200 || !strings.HasPrefix(string(r.raw), `[{"id":"eu","name":"eu","optimal":false,"deprecated":false,"custom":false,"probe":{"address":"127.0.0.1","port":50000,"ufrag":"prbB`) {
			t.Errorf("%s: %d %s", path, r.status, r.raw)
		}
	}
	if r := w.try("GET", "/voice/regions", "", nil); r.status != 401 {
		t.Errorf("a stranger: %d %s", r.status, r.raw)
	}
}

// TestLocationOfAJoin: the place of the client's address goes with its join.
func TestLocationOfAJoin(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) {
		c.Locate = func(a netip.Addr) *edgeagent.Location {
			if !a.IsLoopback() {
				t.Errorf("a client at %v", a)
			}
			return &edgeagent.Location{Lat: 1, Lon: 2}
		}
	}, nil)
	ann := w.guest("Ann")
	a := w.enter(ann)
	a.joinVoice(w.guildID(), w.channelID(ann, "Lobby"), false)
	w.voice.expect(t, "place")
	w.voice.mu.Lock()
	defer w.voice.mu.Unlock()
	if at := w.voice.last.Location; at == nil || *at != (edgeagent.Location{Lat: 1, Lon: 2}) {
		t.Errorf("placed with location %v", at)
	}
}
