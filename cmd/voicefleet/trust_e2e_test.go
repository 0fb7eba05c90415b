package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagentserver"
	"voicefleet/internal/bus"
	"voicefleet/internal/enrol"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// revokedWithin is how soon a revoked node has no link any more.
const revokedWithin = 5 * time.Second

// linked is an enrolled edge, with the test in the place of the allocator.
type linked struct {
	t    *testing.T
	side int // port of its metrics
}

// shows is a metric of its links.
func (l linked) shows(name string) float64 {
	l.t.Helper()
	said := get(l.t, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/metrics", l.side))
	m := regexp.MustCompile(`(?m)^voicefleet_link_` + name + ` (\S+)`).FindStringSubmatch(said)
	if m == nil {
		l.t.Fatalf("it has no metric %s", name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

// until waits for a metric and returns how long that took.
func (l linked) until(name string, good func(float64) bool, limit time.Duration) time.Duration {
	l.t.Helper()
	began := time.Now()
	for !good(l.shows(name)) {
		if time.Since(began) > limit {
			l.t.Fatalf("after %v %s is %v", limit, name, l.shows(name))
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// TestRevokedNodeHasNoLink: edges of a fleet are linked by the certificates of its
// authority, whatever fingerprint is told of them; one that is revoked loses its
// link, and gets no other.
func TestRevokedNodeHasNoLink(t *testing.T) {
	authority, err := enrol.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, listen := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	urls := []string{"tls://" + listen}
	if _, err := authority.ServerBundle(dir, enrol.ServerSpec{Name: "bus", Listen: listen, Hosts: []string{"127.0.0.1"}, Store: t.TempDir(), At: dir}); err != nil {
		t.Fatal(err)
	}
	launch(t, "bus", "--config", filepath.Join(dir, "nats-server.conf")).says(`bus is up`)
	servers := bus.Config{URL: urls[0], Name: bus.ClientName(bus.RoleCentral, "test")}
	if servers.Credentials, err = authority.Credentials(enrol.Member{Role: bus.RoleCentral, Name: "test"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	conn, err := bus.Connect(ctx, servers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	for _, name := range []string{bus.KeysBucket, bus.CallsBucket} {
		if _, err := bus.OpenBucket[struct{}](ctx, conn, name); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := bus.OpenBucket[edgeagent.Heartbeat](ctx, conn, bus.NodesBucket)
	if err != nil {
		t.Fatal(err)
	}
	enroller, err := enrol.New(ctx, enrol.Config{Authority: authority, Bus: conn, Servers: servers, URLs: urls})
	if err != nil {
		t.Fatal(err)
	}

	names, edges := []string{"fra1", "fra2", "fra3"}, map[string]linked{}
	var peers []edgeagent.RelayPeer
	for _, name := range names {
		identity, side := filepath.Join(t.TempDir(), name), freePorts(t, 1)[0]
		if err := authority.Bundle(identity, enrol.Member{Role: bus.RoleEdge, Name: name}, "", urls); err != nil {
			t.Fatal(err)
		}
		launch(t, "edge", "--identity", identity, "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)), "--advertise", "127.0.0.1",
			"--http", fmt.Sprintf("127.0.0.1:%d", side), "--turn-port", "0", "--capacity-pps", "100000", "--drain-time", "0").says(`edge ` + name + ` is up`)
		edges[name] = linked{t, side}
		for {
			if hb, err := nodes.Find(ctx, name); err == nil && hb.Value.Link != nil {
				peers = append(peers, edgeagent.RelayPeer{Node: hb.Value.Node, Addrs: hb.Value.Addrs, Link: *hb.Value.Link})
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s does not beat", name)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for i := range peers {
		peers[i].Link.Fingerprint = "none" // it is the authority's word that counts
	}
	client := edgeagentserver.NewClient(conn)
	for i, p := range peers {
		req := edgeagent.RelayRequest{Call: sfu.CallID{ID: snowflake.ID(7)}, Epoch: 1}
		req.Peers = append(append(req.Peers, peers[:i]...), peers[i+1:]...)
		if err := client.Relay(ctx, p.Node, req); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		edges[name].until("peers_up", func(n float64) bool { return n == 2 }, wait)
	}

	began := time.Now()
	if _, err := enroller.Revoke(ctx, enrol.Member{Role: bus.RoleEdge, Name: "fra2"}, "test"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fra1", "fra3"} {
		edges[name].until("peers_up", func(n float64) bool { return n == 1 }, revokedWithin)
	}
	took := time.Since(began)
	t.Logf("%v after the order a revoked node has no link any more", took.Round(time.Millisecond))
	if took > revokedWithin {
		t.Errorf("%v, at most %v may be", took, revokedWithin)
	}
	// It asks again and again, of one that is to be dialled and of one that dials.
	for _, name := range []string{"fra1", "fra3"} {
		before := edges[name].shows("refused_total")
		edges[name].until("refused_total", func(n float64) bool { return n >= before+3 }, wait)
		if up := edges[name].shows("peers_up"); up != 1 {
			t.Errorf("%s has %v links", name, up)
		}
	}
	if up := edges["fra2"].shows("peers_up"); up != 0 {
		t.Errorf("the revoked node has %v links", up)
	}
}
