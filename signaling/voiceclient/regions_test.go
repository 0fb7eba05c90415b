package voiceclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/sfutest"
)

// measured has a call measure what a server lists.
func measured(t *testing.T, list http.HandlerFunc) *Call {
	t.Helper()
	h := httptest.NewServer(list)
	t.Cleanup(h.Close)
	c, err := newCall(Config{Server: h.URL, Token: "Bot secret", Guild: 1, Channel: 2})
	if err != nil {
		t.Fatal(err)
	}
	c.settles.Go(func() { c.measure(t.Context()) })
	t.Cleanup(c.settles.Wait)
	return c
}

func target(port uint16, key sfu.ProbeKey) map[string]any {
	at := netip.MustParseAddr("127.0.0.1")
	ufrag, pwd := sfu.ClientProbe(time.Now(), at).Credentials(key)
	return map[string]any{"address": at, "port": port, "ufrag": ufrag, "password": pwd, "expires": time.Now()}
}

// TestMeasuresRegions: the distances of two regions with real media ports go with
// op 4, a third that is silent costs the join 150 ms and no more.
func TestMeasuresRegions(t *testing.T) {
	key := sfu.NewProbeKey()
	e := sfutest.Start(t, 2, sfu.Start{ProbeKey: key})
	silent, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := measured(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v10/voice/regions" || r.Header.Get("Authorization") != "Bot secret" {
			t.Errorf("asks for %s as %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		json.NewEncoder(w).Encode([]map[string]any{
			{"id": "near", "probe": target(e.Started.Ports[0], key)},
			{"id": "far", "optimal": true, "probe": target(e.Started.Ports[1], key)},
			{"id": "lost", "probe": target(uint16(silent.LocalAddr().(*net.UDPAddr).Port), key)},
			{"id": "without a target"},
		})
	})
	<-c.distances.several
	began := time.Now()
	c.distances.await(t.Context())
	if took := time.Since(began); took < measureJoin || took > measureTime {
		t.Errorf("a region that is silent delays the join by %v", took)
	}
	<-c.distances.enough
	c.mu.Lock()
	w := c.hereLocked()
	c.mu.Unlock()
	if len(w.RTT) != 2 || w.RTT["near"] <= 0 || w.RTT["far"] <= 0 || w.RTT["near"] > 1000 {
		t.Errorf("op 4 carries %v", w.RTT)
	}
	if b, err := json.Marshal(wish{Guild: snowflake.ID(1)}); err != nil || string(b) != `{"guild_id":"1","channel_id":null,"self_mute":false,"self_deaf":false}` {
		t.Errorf("a wish without distances is %s, %v", b, err)
	}
}

// TestNothingToMeasure: a join waits for nothing where there is no choice, or where
// nobody lists one.
func TestNothingToMeasure(t *testing.T) {
	key := sfu.NewProbeKey()
	for name, body := range map[string]string{
		"automatic":     `[{"id":"automatic","name":"Automatic","optimal":true}]`,
		"one":           mustJSON(t, []map[string]any{{"id": "one", "probe": target(9, key)}}),
		"none":          `[]`,
		"an error":      ``,
		"another thing": `{"message":"no"}`,
		"bad addresses": `[{"id":"a","probe":{"address":"nowhere"}},{"id":"b","probe":{"port":-1}}]`,
	} {
		c := measured(t, func(w http.ResponseWriter, _ *http.Request) {
			if body == "" {
				w.WriteHeader(http.StatusTooManyRequests)
			}
			fmt.Fprint(w, body)
		})
		<-c.distances.enough
		began := time.Now()
		c.distances.await(context.Background())
		if took := time.Since(began); took > measureJoin/2 {
			t.Errorf("%s: the join waits %v", name, took)
		}
		if got := c.distances.known(); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
