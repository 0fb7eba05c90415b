package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"voicefleet/allocator"
)

// ctl asks the fleet that a data folder belongs to, as an operator does.
func ctl[T any](t *testing.T, data string, args ...string) (v T) {
	t.Helper()
	out, err := exec.Command(voicefleet, append([]string{"ctl", "--data", data, "--json"}, args...)...).Output()
	if err != nil {
		t.Fatalf("ctl %v: %v: %s", args, err, out)
	}
	must(t, json.Unmarshal(out, &v))
	return v
}

// TestPageMeasuresRegions: where there are two regions, the page measures both
// before it joins, and where the call goes is decided by that.
func TestPageMeasuresRegions(t *testing.T) {
	dir := t.TempDir()
	bus := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	start(t, "", "bus", "--listen", bus).await(`nats://`)
	gateway := freePort(t)
	start(t, "", "central", "--bus", "nats://"+bus, "--port", fmt.Sprint(gateway), "--advertise-endpoint", fmt.Sprintf(":%d", gateway), "--data", dir+"/central").await(`central is up`)
	for _, region := range []string{"east", "west"} {
		start(t, "", "edge", "--bus", "nats://"+bus, "--node", "edge-"+region, "--region", region, "--workers", "1", "--capacity-pps", "100000",
			"--media-port", fmt.Sprint(freeMediaPort(t, 1)), "--http", fmt.Sprintf("127.0.0.1:%d", freePort(t))).await(`capacity`)
	}
	h := &house{port: freePort(t), data: dir + "/text"}
	h.program = start(t, "", "text", "--bus", "nats://"+bus, "--port", fmt.Sprint(h.port), "--store", "sqlite:"+h.data)
	h.invite = h.await(`/invite/([A-Za-z0-9_-]+)`)
	for deadline := time.Now().Add(10 * time.Second); ; {
		ready := 0
		for _, n := range ctl[[]allocator.NodeView](t, h.data, "nodes") {
			if n.State == "ready" && n.Fullness == 0 {
				ready++
			}
		}
		if ready == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("two nodes are not ready within 10 s")
		}
	}
	p := visit(t, ada, h.page("/invite/"+h.invite), "")
	// The invitation led into the lobby at once, whatever was measured by then; the
	// next call begins with all of it.
	must(t, p.Wait("button", "Leave call", 30*time.Second))
	lobby := awaitCalls(t, h, 1)[0]
	must(t, p.Click("button", "Join voice channel Echo test", 30*time.Second))
	calls := awaitCalls(t, h, 2)
	echo := calls[0]
	if echo.Call == lobby.Call {
		echo = calls[1]
	}
	why := ctl[allocator.ExplainReply](t, h.data, "explain", echo.Call.String()).Entry.Why
	if len(why.Candidates) != 2 {
		t.Fatalf("decided among %+v", why.Candidates)
	}
	for _, c := range why.Candidates {
		if c.RTTFrom != "client" || c.RTT <= 0 || c.RTT > 200 {
			t.Errorf("%s is %.1f ms away by %s", c.Node, c.RTT, c.RTTFrom)
		}
	}
}

// awaitCalls waits until so many calls live.
func awaitCalls(t *testing.T, h *house, n int) []allocator.CallEntry {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if calls := ctl[[]allocator.CallEntry](t, h.data, "calls"); len(calls) >= n {
			return calls
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls do not live within 10 s", n)
		}
	}
}
