package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/signaling/voiceclient"
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
	h.awaitNodes(t, 2)
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

// awaitNodes waits until so many nodes take calls.
func (h *house) awaitNodes(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		ready := 0
		for _, v := range ctl[[]allocator.NodeView](t, h.data, "nodes") {
			if v.State == "ready" && v.Fullness == 0 {
				ready++
			}
		}
		if ready == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d nodes are not ready within 20 s", n)
		}
	}
}

// TestChannelRegionMovesCall: two people talk while the owner gives their channel another
// region. The call goes to the node there, each keeps its old way until it hears the
// other by the new one, and hardly a frame is missed.
func TestChannelRegionMovesCall(t *testing.T) {
	f := startFleet(t)
	for _, region := range []string{"east", "west"} {
		f.edge(t, edgeagent.NodeID("edge-"+region), "--region", region, "--capacity-pps", "100000")
	}
	owner := f.own(t)
	f.awaitNodes(t, 2)
	type ear struct {
		frames atomic.Int64 // that could be decoded
		first  sync.Once
		moved  chan struct{} // closed when a frame came by the new way

		mu sync.Mutex
		// Guarded by mu.
		numbers  []uint32        // of the frames, as they came
		decoders map[int]decoder // of each way
	}
	ears := [2]*ear{}
	calls := [2]*voiceclient.Call{}
	var channel snowflake.ID
	for i, name := range []string{"Ada", "Brian"} {
		e := &ear{moved: make(chan struct{}), decoders: map[int]decoder{}}
		ears[i] = e
		cfg := guest(t, f.house, f.page(""), "", name, func(p voiceclient.Packet) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if newDecoder != nil {
				d := e.decoders[p.Path]
				if d == nil {
					var err error
					if d, err = newDecoder(); err != nil {
						t.Error(err)
						return
					}
					e.decoders[p.Path] = d
				}
				if _, err := d(p.Opus); err != nil {
					t.Errorf("a frame by way %d: %v", p.Path, err)
				}
			}
			if len(p.Opus) != len(hum)/2 {
				return // a node's own silence
			}
			if p.Path > 1 {
				e.first.Do(func() { close(e.moved) })
			}
			e.numbers = append(e.numbers, binary.BigEndian.Uint32(p.Opus[len(p.Opus)-4:]))
			e.frames.Add(1)
		})
		call, err := voiceclient.Join(t.Context(), cfg)
		must(t, err)
		t.Cleanup(func() { _ = call.Close() })
		calls[i], channel = call, cfg.Channel
	}
	frame, err := hex.DecodeString(hum)
	must(t, err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	said := uint32(0)
	// talk has both say a frame after the other until enough is so, for at most 30 s. The
	// frames are numbered in their last bytes, which sound a little: no two are alike, as
	// of any voice.
	talk := func(what string, enough func() bool) {
		t.Helper()
		for range 1500 {
			if enough() {
				return
			}
			<-tick.C
			said++
			binary.BigEndian.PutUint32(frame[len(frame)-4:], said)
			for _, c := range calls {
				must(t, c.WriteOpus(frame, 20*time.Millisecond, 20))
			}
		}
		t.Fatalf("%s for 30 s", what)
	}
	talk("they do not hear one another", func() bool { return ears[0].frames.Load() > 50 && ears[1].frames.Load() > 50 })
	from := f.call(t)
	region := map[edgeagent.NodeID]string{"edge-east": "west", "edge-west": "east"}[from.Node]
	to := "edge-" + region
	if region == "" {
		t.Fatalf("the call is on %s", from.Node)
	}
	f.ask(t, owner, "PATCH", fmt.Sprintf("/channels/%v", channel), map[string]any{"rtc_region": region}, nil)
	before := said
	talk("they are not moved", func() bool {
		for i, c := range calls {
			select {
			case <-ears[i].moved:
			default:
				return false
			}
			if s := c.Stats(); s.Voice.Node != to || s.Moves != 1 {
				return false
			}
		}
		return true
	})
	// What is said from now on comes by the new node only.
	after := [2]int64{ears[0].frames.Load() + 50, ears[1].frames.Load() + 50}
	talk("they do not hear one another any more", func() bool {
		return ears[0].frames.Load() > after[0] && ears[1].frames.Load() > after[1]
	})
	for i, e := range ears {
		e.mu.Lock()
		slices.Sort(e.numbers)
		gap, lost, last := uint32(0), uint32(0), before
		for _, n := range e.numbers {
			if n > last {
				gap, lost, last = max(gap, n-last-1), lost+n-last-1, n
			}
		}
		e.mu.Unlock()
		t.Logf("moved from %s to %s: of %d frames the %d. did not hear %d, %d in a row", from.Node, to, last-before, i+1, lost, gap)
		if gap > 15 { // 300 ms
			t.Errorf("the %d. misses %d frames in a row", i+1, gap)
		}
	}
	if e := f.call(t); string(e.Node) != to || e.Call != from.Call {
		t.Errorf("the call %v is on %s", e.Call, e.Node)
	}
	for _, c := range calls {
		if s := c.Stats(); s.Moves != 1 || c.Err() != nil {
			t.Errorf("%d moves: %v", s.Moves, c.Err())
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
