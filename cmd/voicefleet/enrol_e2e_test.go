package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// refused runs the program and expects it to end with words.
func refused(t *testing.T, words string, args ...string) {
	t.Helper()
	if out, err := exec.Command(binary(), args...).CombinedOutput(); err == nil || !strings.Contains(string(out), words) {
		t.Errorf("%s: %v: %s\nwant %q", strings.Join(args, " "), err, out, words)
	}
}

// nodeGone waits until the fleet does not see a node any more.
func (r *running) nodeGone(node string, limit time.Duration) {
	r.t.Helper()
	began := time.Now()
	for {
		var nodes []struct{ Node, State string }
		if err := json.Unmarshal([]byte(ctlSays(r.t, r.data, "nodes", "--json")), &nodes); err != nil {
			r.t.Fatal(err)
		}
		there := false
		for _, n := range nodes {
			there = there || n.Node == node && n.State != "gone"
		}
		took := time.Since(began)
		if !there {
			r.t.Logf("%s is gone after %v", node, took.Round(time.Millisecond))
			return
		}
		if took > limit {
			r.t.Fatalf("nodes: %+v, want %s gone within %v", nodes, node, limit)
		}
	}
}

// joinOf is the join address that ctl node add shows.
func joinOf(t *testing.T, data string, args ...string) string {
	t.Helper()
	said := ctlSays(t, data, append([]string{"node", "add"}, args...)...)
	_, rest, ok := strings.Cut(said, "--join '")
	join, _, ok2 := strings.Cut(rest, "'")
	if !ok || !ok2 {
		t.Fatalf("node add says %s", said)
	}
	return join
}

// busPort is the port of the bus that an identity knows.
func busPort(t *testing.T, identity string) string {
	t.Helper()
	var member struct{ Bus []string }
	body, err := os.ReadFile(filepath.Join(identity, "member.json"))
	if err == nil {
		err = json.Unmarshal(body, &member)
	}
	if err != nil || len(member.Bus) == 0 {
		t.Fatalf("identity %s: %v", body, err)
	}
	return member.Bus[0][strings.LastIndexByte(member.Bus[0], ':')+1:]
}

// TestNodeIsEnrolledInAHouse adds a machine by the one command, and shuts it out: a call
// on it goes on elsewhere.
func TestNodeIsEnrolledInAHouse(t *testing.T) {
	r := launchUp(t, "--bus-listen", fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0]), "--enrol", "--node", "house", "--advertise", "127.0.0.1")
	join := joinOf(t, r.data, "fra1", "--region", "eu-west")
	edge := func(join string, more ...string) []string {
		return append([]string{"edge", "--join", join, "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)), "--http", "", "--turn-port", "0", "--capacity-pps", "100000", "--drain-time", "0", "--advertise", "127.0.0.1"}, more...)
	}
	identity := filepath.Join(t.TempDir(), "fra1")
	node := launch(t, edge(join, "--identity", identity)...)
	node.says(`edge fra1 is up`)
	r.nodeIs("fra1", "ready")
	var nodes []struct{ Node, Region string }
	if err := json.Unmarshal([]byte(ctlSays(t, r.data, "nodes", "--json")), &nodes); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Node == "fra1" && n.Region != "eu-west" {
			t.Errorf("its region is %s", n.Region)
		}
	}
	// The same command again, as its unit gives it after a reboot.
	node.ends(syscall.SIGTERM)
	again := launch(t, edge(join, "--identity", identity)...)
	again.says(`edge fra1 is up`)
	r.nodeIs("fra1", "ready")

	refused(t, "was used already", edge(join, "--identity", filepath.Join(t.TempDir(), "thief"))...)
	refused(t, "is enrolled already", "ctl", "--data", r.data, "node", "add", "fra1")
	refused(t, "want 1 to 63 of a-z", "ctl", "--data", r.data, "node", "add", "Fra_1")
	refused(t, "is not enrolled", "ctl", "--data", r.data, "node", "revoke", "nobody")
	refused(t, "certificate", "edge", "--bus", "nats://127.0.0.1:"+busPort(t, identity), "--identity", filepath.Join(t.TempDir(), "none"), "--node", "evil", "--workers", "1",
		"--media-port", fmt.Sprint(freeMedia(t, 1)), "--http", "", "--turn-port", "0", "--bus-wait", "2s")

	// All it does as a node it may.
	if said := again.text(); strings.Contains(strings.ToLower(said), "violation") {
		t.Errorf("it does what it may not: %s", said)
	}

	// A call of two on it, as the house takes none just now.
	ctlSays(t, r.data, "cordon", "house")
	ada, bob := r.join(http.DefaultClient, r.http, "Ada"), r.join(http.DefaultClient, r.http, "Bob")
	channel := r.voiceChannel(http.DefaultClient, r.http, ada)
	a, b := enter(t, r.http(""), nil, ada, channel), enter(t, r.http(""), nil, bob, channel)
	talk(t, a)
	talk(t, b)
	a.until(t, "Ada hears Bob", func(n int) bool { return n > 25 })
	b.until(t, "Bob hears Ada", func(n int) bool { return n > 25 })
	for _, l := range []*listener{a, b} {
		if node := l.Stats().Voice.Node; node != "fra1" {
			t.Fatalf("seated on %s, want fra1", node)
		}
	}
	ctlSays(t, r.data, "undrain", "house")

	began := time.Now()
	if out := ctlSays(t, r.data, "node", "revoke", "fra1"); !strings.Contains(out, "edge fra1 is shut out") {
		t.Errorf("revoke says %s", out)
	}
	for name, l := range map[string]*listener{"Ada": a, "Bob": b} {
		before := -1
		l.until(t, name+" hears the other one from the house", func(n int) bool {
			if l.Stats().Voice.Node != "house" {
				return false
			}
			if before < 0 {
				before = n
			}
			return n > before+10
		})
	}
	moved := time.Since(began)
	t.Logf("its call is on the house, and heard there, %v after the order", moved.Round(time.Millisecond))
	if moved > 5*time.Second {
		t.Errorf("its call moved after %v, want 5 s at most", moved)
	}
	r.nodeGone("fra1", max(5*time.Second-time.Since(began), time.Second))
	t.Logf("revoked %v after the order", time.Since(began).Round(time.Millisecond))
	if list := ctlSays(t, r.data, "node", "list"); !strings.Contains(list, "fra1") || !strings.Contains(list, "revoked") {
		t.Errorf("list says %s", list)
	}
	if journal := ctlSays(t, r.data, "journal"); !strings.Contains(journal, "edge fra1 invited until") || !strings.Contains(journal, "edge fra1 revoked") {
		t.Errorf("the journal says %s", journal)
	}
	// The house itself has not noticed.
	r.nodeIs("house", "ready")
}
