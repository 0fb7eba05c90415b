package edgeagentserver

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, bustest.Left()...)
}

// rig is a bus with a signing key on it and a client.
type rig struct {
	server *bus.Embedded
	conn   *bus.Conn
	client *Client
	key    ed25519.PrivateKey
	nodes  *bus.Bucket[edgeagent.Heartbeat]
	serial atomic.Uint64
}

func newRig(t testing.TB) *rig {
	t.Helper()
	e, err := bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	r := &rig{server: e, key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	if r.conn, err = bus.Connect(t.Context(), bus.Config{Embedded: e, Name: t.Name()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.conn.Close)
	r.client = NewClient(r.conn)
	keys, err := bus.OpenBucket[ed25519.PublicKey](t.Context(), r.conn, bus.KeysBucket)
	if err != nil {
		t.Fatal(err)
	}
	pub := r.key.Public().(ed25519.PublicKey)
	if _, err := keys.Put(t.Context(), edgeagent.KeyID(pub), pub); err != nil {
		t.Fatal(err)
	}
	if r.nodes, err = bus.OpenBucket[edgeagent.Heartbeat](t.Context(), r.conn, bus.NodesBucket); err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs a node until stop, at the latest until the test ends, and waits until
// it is ready.
func (r *rig) run(t testing.TB, cfg Config) (s *Server, stop func()) {
	t.Helper()
	cfg.Bus = r.conn
	if cfg.Node == "" {
		cfg.Node = "edge-1"
	}
	if cfg.CapacityPPS == 0 {
		cfg.CapacityPPS = 100_000
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("agent: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	r.await(t, cfg.Node, "ready", func(hb edgeagent.Heartbeat) bool { return hb.State == edgeagent.Ready })
	return s, stop
}

// await waits for a heartbeat, past or to come.
func (r *rig) await(t testing.TB, node edgeagent.NodeID, what string, match func(edgeagent.Heartbeat) bool) edgeagent.Heartbeat {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), edgeagenttest.Timeout)
	defer cancel()
	var found edgeagent.Heartbeat
	ok := false
	r.nodes.Watch(ctx, func(ch bus.Change[edgeagent.Heartbeat]) {
		if !ok && ch.Value.Node == node && match(ch.Value) {
			found, ok = ch.Value, true
			cancel()
		}
	})
	if !ok {
		t.Fatalf("no heartbeat of %s is %s", node, what)
	}
	return found
}

func (r *rig) grant(call, user uint64) edgeagent.Grant {
	return edgeagent.Grant{
		ID: sfu.SessionID("g-" + snowflake.ID(r.serial.Add(1)).String()), Node: "edge-1", Guild: "1",
		Call: callID(call), User: userID(user), Epoch: 5, Session: "gw", Rights: sfu.Rights{Speak: true},
		Expires: time.Now().Add(edgeagent.GrantLife),
	}
}

func (r *rig) token(t testing.TB, g edgeagent.Grant) string {
	t.Helper()
	token, err := edgeagent.SignGrant(r.key, g)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (r *rig) open(t testing.TB, g edgeagent.Grant) (edgeagent.SessionReply, string) {
	t.Helper()
	token := r.token(t, g)
	rep, err := r.client.Open(t.Context(), g.Node, edgeagent.OpenRequest{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return rep, token
}

func callID(n uint64) sfu.CallID { return sfu.CallID{ID: snowflake.ID(n)} }
func userID(n uint64) sfu.UserID { return sfu.UserID{ID: snowflake.ID(n)} }

// events collects what a subscription brings.
func (r *rig) events(t *testing.T, call uint64) <-chan edgeagent.CallEvent {
	t.Helper()
	events := make(chan edgeagent.CallEvent, 100)
	var stop func()
	var err error
	if call == 0 {
		stop, err = r.client.SubscribePresence(func(ev edgeagent.CallEvent) { events <- ev })
	} else {
		stop, err = r.client.SubscribeCall(callID(call), func(ev edgeagent.CallEvent) { events <- ev })
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return events
}

func next(t *testing.T, events <-chan edgeagent.CallEvent) edgeagent.CallEvent {
	t.Helper()
	select {
	case ev := <-events:
		if ev.Node != "edge-1" {
			t.Fatalf("event of node %q: %+v", ev.Node, ev)
		}
		return ev
	case <-time.After(edgeagenttest.Timeout):
		t.Fatal("no event came")
	}
	panic("unreachable")
}

func wantCode(t *testing.T, err error, code edgeagent.ErrorCode) {
	t.Helper()
	var refused *edgeagent.Error
	if !errors.As(err, &refused) || refused.Code != code {
		t.Errorf("error %v, want code %s", err, code)
	}
}

func TestASessionFromOpenToClose(t *testing.T) {
	r := newRig(t)
	engine := edgeagenttest.NewEngine(t)
	r.run(t, Config{
		Region: "eu", Zone: "rack 1", Version: "v1", Engine: engine.Start,
		Advertise: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} },
	})
	start, _ := engine.Await(t, 0, "start", func(c sfu.Command) bool { return c.Start != nil })
	if a := start.Start.Advertise; len(a) != 1 || a[0].String() != "192.0.2.1" {
		t.Errorf("the engine advertises %v", a)
	}
	call, presence := r.events(t, 7), r.events(t, 0)

	rep, token := r.open(t, r.grant(7, 1))
	if rep.Record.SSRC == 0 || rep.Record.Port != 50000 || len(rep.Roster) != 1 || rep.Record.Gateway != "gw" {
		t.Errorf("open is answered with %+v", rep)
	}
	if ev := next(t, presence); ev.Opened == nil || ev.Opened.Session != rep.Record.Session || ev.Call != callID(7) {
		t.Errorf("presence brings %+v, want Opened", ev)
	}
	if ev := next(t, call); ev.Joined == nil || ev.Joined.User != userID(1) {
		t.Errorf("the call brings %+v, want Joined", ev)
	}
	hb := r.await(t, "edge-1", "one with the call", func(hb edgeagent.Heartbeat) bool { return len(hb.Calls) == 1 })
	if hb.Calls[0] != (edgeagent.CallOnANode{Call: callID(7), Epoch: 5, Sessions: 1}) || hb.Load.Sessions != 1 || hb.Epoch != 5 ||
		hb.Region != "eu" || hb.Zone != "rack 1" || hb.Capacity.PPS != 100_000 || hb.Capacity.BPS <= 0 || hb.Capacity.Sessions != 4000 || len(hb.Ports) != 1 {
		t.Errorf("heartbeat %+v", hb)
	}

	if neg, err := r.client.Negotiate(t.Context(), "edge-1", edgeagent.NegotiateRequest{Session: rep.Record.Session, Offer: "v=0"}); err != nil || len(neg.Slots) != 1 || !strings.Contains(neg.Answer, string(rep.Record.Session)) {
		t.Errorf("negotiate: %+v, error %v", neg, err)
	}
	engine.Say(t, sfu.Event{Connected: &sfu.Connected{Session: rep.Record.Session, Call: callID(7)}})
	engine.Say(t, sfu.Event{Speaking: &sfu.Speaking{Call: callID(7), Session: rep.Record.Session, User: userID(1), SSRC: rep.Record.SSRC, Speaking: true}})
	if ev := next(t, call); ev.Speaking == nil || ev.Speaking.Flags != 1 {
		t.Errorf("the call brings %+v, want Speaking", ev)
	}
	again, err := r.client.Resume(t.Context(), "edge-1", edgeagent.ResumeRequest{Token: token})
	if err != nil || again.Record.Session != rep.Record.Session || !again.Record.Negotiated || !again.Record.Connected || again.Roster[0].Flags != 1 {
		t.Errorf("resume: %+v, error %v", again, err)
	}

	deaf := true
	if err := r.client.Update(t.Context(), "edge-1", edgeagent.UpdateRequest{Call: callID(7), User: userID(1), SelfDeaf: &deaf}); err != nil {
		t.Error(err)
	}
	engine.Await(t, 0, "update", func(c sfu.Command) bool { return c.Update != nil && c.Update.SelfDeaf != nil && *c.Update.SelfDeaf })
	if err := r.client.Close(t.Context(), "edge-1", edgeagent.CloseRequest{Call: callID(7), User: userID(1), Reason: "kicked"}); err != nil {
		t.Error(err)
	}
	engine.Await(t, 0, "close", func(c sfu.Command) bool { return c.Close != nil && c.Close.Session == rep.Record.Session })
	for name, events := range map[string]<-chan edgeagent.CallEvent{"call": call, "presence": presence} {
		if ev := next(t, events); ev.Left == nil || ev.Left.Reason != "kicked" || ev.Left.Session != rep.Record.Session {
			t.Errorf("%s brings %+v, want Left", name, ev)
		}
	}
	r.await(t, "edge-1", "empty again", func(hb edgeagent.Heartbeat) bool { return len(hb.Calls) == 0 && hb.State == edgeagent.Ready })
}

func TestRefusals(t *testing.T) {
	r := newRig(t)
	engine := edgeagenttest.NewEngine(t)
	engine.Answer = func(c sfu.Command) *sfu.Event {
		switch {
		case c.Open != nil && c.Open.User == userID(99):
			return &sfu.Event{Err: sfu.Refuse(sfu.CodeFull, "no room")}
		case c.Negotiate != nil:
			return &sfu.Event{Err: sfu.Refuse(sfu.CodeBadOffer, "no audio in it")}
		}
		return nil
	}
	r.run(t, Config{Engine: engine.Start})
	rep, used := r.open(t, r.grant(7, 1))
	other := ed25519.NewKeyFromSeed([]byte("another seed of thirty-two bytes"))
	forged, err := edgeagent.SignGrant(other, r.grant(7, 2))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, old, expired, full := r.grant(7, 2), r.grant(7, 2), r.grant(7, 2), r.grant(7, 99)
	elsewhere.Node = "edge-2"
	old.Epoch = 4
	expired.Expires = time.Now().Add(-time.Minute)
	for _, c := range []struct {
		name, token string
		code        edgeagent.ErrorCode
	}{
		{"no token", "", edgeagent.CodeGrant},
		{"forged", forged, edgeagent.CodeGrant},
		{"used", used, edgeagent.CodeGrant},
		{"for another node", r.token(t, elsewhere), edgeagent.CodeGrant},
		{"of an older placement", r.token(t, old), edgeagent.CodeGrant},
		{"expired", r.token(t, expired), edgeagent.CodeGrant},
		{"engine is full", r.token(t, full), edgeagent.CodeFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := r.client.Open(t.Context(), "edge-1", edgeagent.OpenRequest{Token: c.token})
			wantCode(t, err, c.code)
		})
	}
	_, err = r.client.Resume(t.Context(), "edge-1", edgeagent.ResumeRequest{Token: forged})
	wantCode(t, err, edgeagent.CodeGrant)
	_, err = r.client.Resume(t.Context(), "edge-1", edgeagent.ResumeRequest{Token: r.token(t, r.grant(7, 3))})
	wantCode(t, err, edgeagent.CodeNoSession)
	_, err = r.client.Negotiate(t.Context(), "edge-1", edgeagent.NegotiateRequest{Session: rep.Record.Session, Offer: "v=0"})
	wantCode(t, err, edgeagent.CodeBadRequest)
	wantCode(t, r.client.Update(t.Context(), "edge-1", edgeagent.UpdateRequest{Session: "none"}), edgeagent.CodeNoSession)
	wantCode(t, r.client.Close(t.Context(), "edge-1", edgeagent.CloseRequest{Session: "none"}), edgeagent.CodeNoSession)
	wantCode(t, r.client.Close(t.Context(), "edge-2", edgeagent.CloseRequest{Session: "none"}), edgeagent.CodeUnavailable)
	wantCode(t, r.client.Close(t.Context(), "edge.>", edgeagent.CloseRequest{Session: "none"}), edgeagent.CodeBadRequest)
}

func TestDrainAndUndrain(t *testing.T) {
	r := newRig(t)
	engine := edgeagenttest.NewEngine(t)
	journal := make(chan map[string]any, 100)
	r.run(t, Config{Engine: engine.Start, Log: slog.New(slog.NewJSONHandler(lines(journal), nil))})
	noted := func(message string) map[string]any {
		t.Helper()
		for {
			select {
			case line := <-journal:
				if line["msg"] == message {
					return line
				}
			case <-time.After(edgeagenttest.Timeout):
				t.Fatalf("the log does not say %q", message)
			}
		}
	}
	before, _ := r.open(t, r.grant(7, 1))

	_, err := r.client.Drain(t.Context(), "edge-1", edgeagent.DrainRequest{Reason: "nobody asks"})
	wantCode(t, err, edgeagent.CodeBadRequest)
	if rep, err := r.client.Undrain(t.Context(), "edge-1", edgeagent.DrainRequest{By: "ada"}); err != nil || rep.Changed || rep.Draining {
		t.Errorf("undrain of a ready node: %+v, error %v", rep, err)
	}
	if line := noted("node takes calls again"); line["by"] != "ada" || line["changed"] != false {
		t.Errorf("the log says %v", line)
	}
	asked := time.Now()
	rep, err := r.client.Drain(t.Context(), "edge-1", edgeagent.DrainRequest{By: "ada", Reason: "new kernel"})
	if want := (edgeagent.DrainReply{Draining: true, Changed: true, Calls: 1, Sessions: 1}); err != nil || rep != want {
		t.Fatalf("drain: %+v, error %v", rep, err)
	}
	// It refuses from now on, not from the next heartbeat on.
	_, err = r.client.Open(t.Context(), "edge-1", edgeagent.OpenRequest{Token: r.token(t, r.grant(8, 2))})
	wantCode(t, err, edgeagent.CodeDraining)
	hb := r.await(t, "edge-1", "draining", func(hb edgeagent.Heartbeat) bool { return hb.State == edgeagent.Draining })
	if len(hb.Calls) != 1 {
		t.Errorf("a draining node shows the calls %v", hb.Calls)
	}
	if line := noted("node takes no new calls"); line["by"] != "ada" || line["reason"] != "new kernel" || line["node"] != "edge-1" || line["changed"] != true || line["calls"] != 1.0 {
		t.Errorf("the log says %v", line)
	} else if at, err := time.Parse(time.RFC3339Nano, line["time"].(string)); err != nil || at.Before(asked.Truncate(time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("the log says it was at %v", line["time"])
	}

	// What lives goes on: the member there, and whoever joins.
	if _, err := r.client.Negotiate(t.Context(), "edge-1", edgeagent.NegotiateRequest{Session: before.Record.Session, Offer: "v=0"}); err != nil {
		t.Errorf("negotiate on a draining node: %v", err)
	}
	if joined, _ := r.open(t, r.grant(7, 2)); len(joined.Roster) != 2 {
		t.Errorf("the call has %+v", joined.Roster)
	}

	if rep, err := r.client.Undrain(t.Context(), "edge-1", edgeagent.DrainRequest{By: "bob"}); err != nil || rep.Draining || !rep.Changed || rep.Sessions != 2 {
		t.Errorf("undrain: %+v, error %v", rep, err)
	}
	r.open(t, r.grant(8, 2))
	r.await(t, "edge-1", "ready with both calls", func(hb edgeagent.Heartbeat) bool { return hb.State == edgeagent.Ready && len(hb.Calls) == 2 })
	if line := noted("node takes calls again"); line["by"] != "bob" || line["changed"] != true {
		t.Errorf("the log says %v", line)
	}
}

// lines takes a log of JSON apart.
type lines chan<- map[string]any

func (l lines) Write(b []byte) (int, error) {
	line := map[string]any{}
	err := json.Unmarshal(b, &line)
	l <- line
	return len(b), err
}

func TestAnEngineThatDiesTakesOnlyTheUnconnectedAlong(t *testing.T) {
	r := newRig(t)
	reg := prometheus.NewRegistry()
	engine := edgeagenttest.NewEngine(t)
	r.run(t, Config{Engine: engine.Start, Metrics: reg})
	call := r.events(t, 7)
	kept, token := r.open(t, r.grant(7, 1))
	lost, _ := r.open(t, r.grant(7, 2))
	next(t, call)
	next(t, call)
	engine.Say(t, sfu.Event{Snapshot: &sfu.Snapshot{
		Open: sfu.Open{Session: kept.Record.Session, Call: callID(7), User: userID(1), Rights: sfu.Rights{Speak: true}},
		SSRC: kept.Record.SSRC, Keying: []byte("keys"),
	}})
	// An answer after it proves that the snapshot has arrived.
	mute := sfu.Rights{Speak: true, Mute: true}
	if err := r.client.Update(t.Context(), "edge-1", edgeagent.UpdateRequest{Session: kept.Record.Session, Rights: &mute}); err != nil {
		t.Fatal(err)
	}
	engine.Crash()
	if ev := next(t, call); ev.Left == nil || ev.Left.Session != lost.Record.Session || ev.Left.Reason != edgeagent.EngineLost {
		t.Errorf("the call brings %+v, want that the unconnected one left", ev)
	}
	restore, n := engine.Await(t, 0, "restore", func(c sfu.Command) bool { return c.Restore != nil })
	if r := restore.Restore; string(r.Keying) != "keys" || r.Open.Rights != mute {
		t.Errorf("restored with %+v", r)
	}
	engine.Await(t, n, "wishes after the restore", func(c sfu.Command) bool { return c.Update != nil })
	if again, err := r.client.Resume(t.Context(), "edge-1", edgeagent.ResumeRequest{Token: token}); err != nil || len(again.Roster) != 1 {
		t.Errorf("resume: %+v, error %v", again, err)
	}
	if n := engine.Starts(); n != 2 {
		t.Errorf("the engine was started %d times", n)
	}
	if n := gathered(t, reg, "voicefleet_agent_engine_restarts_total", nil); n != 1 {
		t.Errorf("%v restarts are counted", n)
	}
}

func TestLoadBecomesHeartbeatAndMetrics(t *testing.T) {
	r := newRig(t)
	reg := prometheus.NewRegistry()
	engine := edgeagenttest.NewEngine(t)
	r.run(t, Config{Engine: engine.Start, Metrics: reg})
	engine.Say(t, sfu.Event{Load: &sfu.LoadReading{}})
	engine.Say(t, sfu.Event{Load: &sfu.LoadReading{
		PacketsIn: 10, PacketsOut: 1000, BytesOut: 100_000, SocketDrops: 3, Panics: 2, Sessions: 5, Connected: 4,
		Drops: map[string]uint64{"auth": 7}, Calls: []sfu.CallReading{{Call: callID(1), Sessions: 5, Speakers: 2}},
	}})
	hb := r.await(t, "edge-1", "loaded", func(hb edgeagent.Heartbeat) bool { return hb.Load.PPS > 0 })
	if perPacket := hb.Load.BPS / hb.Load.PPS; math.Abs(perPacket-800) > 1e-6 || hb.Load.SocketDrops != 3 {
		t.Errorf("load %+v", hb.Load)
	}
	for _, c := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"voicefleet_sfu_packets_total", map[string]string{"direction": "out"}, 1000},
		{"voicefleet_sfu_packets_total", map[string]string{"direction": "in"}, 10},
		{"voicefleet_sfu_drops_total", map[string]string{"reason": "auth"}, 7},
		{"voicefleet_sfu_drops_total", map[string]string{"reason": "replay"}, 0},
		{"voicefleet_sfu_sessions", map[string]string{"state": "connected"}, 4},
		{"voicefleet_sfu_speakers", nil, 2},
		{"voicefleet_panics_total", map[string]string{"unit": "call"}, 2},
		{"voicefleet_agent_state", map[string]string{"state": "ready"}, 1},
		{"voicefleet_agent_capacity", map[string]string{"resource": "pps"}, 100_000},
	} {
		if got := gathered(t, reg, c.name, c.labels); got != c.want {
			t.Errorf("%s%v = %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

// gathered is the value of a counter or gauge.
func gathered(t *testing.T, reg *prometheus.Registry, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			matching := 0
			for _, l := range m.Label {
				if labels[l.GetName()] == l.GetValue() {
					matching++
				}
			}
			if matching == len(labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s%v", name, labels)
	return 0
}

func TestANodeSaysGoodbye(t *testing.T) {
	r := newRig(t)
	engine := edgeagenttest.NewEngine(t)
	_, stop := r.run(t, Config{Engine: engine.Start})
	call, presence := r.events(t, 7), r.events(t, 0)
	rep, _ := r.open(t, r.grant(7, 1))
	next(t, call)
	next(t, presence)
	stop()
	for name, events := range map[string]<-chan edgeagent.CallEvent{"call": call, "presence": presence} {
		if ev := next(t, events); ev.Left == nil || ev.Left.Reason != edgeagent.NodeGone || ev.Left.Session != rep.Record.Session {
			t.Errorf("%s brings %+v, want Left", name, ev)
		}
	}
	r.await(t, "edge-1", "gone", func(hb edgeagent.Heartbeat) bool { return hb.State == edgeagent.Gone && len(hb.Calls) == 0 })
	_, err := r.client.Open(t.Context(), "edge-1", edgeagent.OpenRequest{Token: r.token(t, r.grant(7, 2))})
	wantCode(t, err, edgeagent.CodeUnavailable)
}

func TestUnsubscribeFromWithin(t *testing.T) {
	r := newRig(t)
	var stop func()
	calls := make(chan struct{}, 2)
	ready := make(chan struct{})
	stop, err := r.client.SubscribeCall(callID(1), func(edgeagent.CallEvent) { <-ready; stop(); calls <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	all := r.events(t, 1)
	for range 2 {
		if err := bus.Publish(r.conn, bus.CallSubject("1", "edge-1"), edgeagent.CallEvent{Call: callID(1), Node: "edge-1", Speaking: &edgeagent.Member{}}); err != nil {
			t.Fatal(err)
		}
		next(t, all)
	}
	<-calls
	if len(calls) != 0 {
		t.Error("called after unsubscribe")
	}
}

func TestConfigIsChecked(t *testing.T) {
	r := newRig(t)
	start := edgeagenttest.NewEngine(t).Start
	for name, cfg := range map[string]Config{
		"no bus":            {Node: "edge-1", Engine: start},
		"no engine":         {Node: "edge-1", Bus: r.conn},
		"no node":           {Engine: start, Bus: r.conn},
		"bad node":          {Node: "Edge 1", Engine: start, Bus: r.conn},
		"negative capacity": {Node: "edge-1", Engine: start, Bus: r.conn, CapacityPPS: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBackOffGrowsAndEnds(t *testing.T) {
	if d := backOff(0); d != 0 {
		t.Errorf("the first restart waits %v", d)
	}
	for crashes := 1; crashes < 100; crashes++ {
		want := min(maxWait, firstWait<<min(crashes-1, 16))
		if d := backOff(crashes); d < want/2 || d > want {
			t.Errorf("restart after %d crashes waits %v, want %v to %v", crashes, d, want/2, want)
		}
	}
}

// BenchmarkOpen is a session opened and closed over the bus, by an engine that
// takes no time.
func BenchmarkOpen(b *testing.B) {
	e, err := bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Shutdown()
	conn, err := bus.Connect(b.Context(), bus.Config{Embedded: e})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	keys, err := bus.OpenBucket[ed25519.PublicKey](b.Context(), conn, bus.KeysBucket)
	if err != nil {
		b.Fatal(err)
	}
	pub := key.Public().(ed25519.PublicKey)
	if _, err := keys.Put(b.Context(), edgeagent.KeyID(pub), pub); err != nil {
		b.Fatal(err)
	}
	// Room for the used grants of a long benchmark.
	s, err := New(Config{Bus: conn, Node: "edge-1", CapacityPPS: 1, Engine: edgeagenttest.NewEngine(b).Start, Limits: sfu.Limits{Sessions: 1 << 20}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	client := NewClient(conn)
	open := func(i int) error {
		token, err := edgeagent.SignGrant(key, edgeagent.Grant{
			ID: sfu.SessionID("g" + snowflake.ID(i).String()), Node: "edge-1", Call: callID(1), User: userID(1),
			Expires: time.Now().Add(edgeagent.GrantLife),
		})
		if err != nil {
			b.Fatal(err)
		}
		_, err = client.Open(ctx, "edge-1", edgeagent.OpenRequest{Token: token})
		return err
	}
	for open(0) != nil { // until the node is up and knows the key
		if ctx.Err() != nil {
			b.Fatal(ctx.Err())
		}
	}
	i := 0
	for b.Loop() {
		i++
		if err := open(i); err != nil {
			b.Fatal(err)
		}
	}
}
