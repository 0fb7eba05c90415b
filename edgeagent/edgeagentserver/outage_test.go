package edgeagentserver

import (
	"crypto/ed25519"
	"fmt"
	"net"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

// TestANodeOutlivesItsBus: while the bus is away the sessions live on, and on a
// bus that remembers nothing the node is there again by itself, with its calls.
func TestANodeOutlivesItsBus(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	if r.conn, err = bus.Connect(t.Context(), bus.Config{URL: fmt.Sprintf("nats://127.0.0.1:%d", port)}); err != nil {
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
	engine := edgeagenttest.NewEngine(t)
	r.run(t, Config{Engine: engine.Start})
	rep, token := r.open(t, r.grant(7, 1))
	call := r.events(t, 7)

	reconnected := r.conn.Reconnected()
	server.Shutdown()
	// What is said before the connection is known to be lost may be lost with it.
	for deadline := time.Now().Add(edgeagenttest.Timeout); r.conn.Ready() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the loss of the bus is not noticed")
		}
	}
	// The engine goes on; what it says now is told when the bus is back.
	engine.Say(t, sfu.Event{Speaking: &sfu.Speaking{Call: callID(7), Session: rep.Record.Session, User: userID(1), SSRC: rep.Record.SSRC, Speaking: true}})
	server, err = bus.StartEmbedded(bus.EmbeddedConfig{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	<-reconnected
	back := time.Now()
	hb := r.await(t, "edge-1", "ready with its call", func(hb edgeagent.Heartbeat) bool {
		return hb.State == edgeagent.Ready && len(hb.Calls) == 1
	})
	t.Logf("the node is seen %v after the bus is back", time.Since(back).Round(time.Millisecond))
	if hb.Calls[0].Call != callID(7) || hb.Epoch != 5 {
		t.Errorf("heartbeat %+v", hb)
	}
	// The token of a live session needs no key, and the new bucket has none.
	if again, err := r.client.Resume(t.Context(), "edge-1", edgeagent.ResumeRequest{Token: token}); err != nil || again.Record.Session != rep.Record.Session {
		t.Errorf("resume: %+v, error %v", again, err)
	}
	if ev := next(t, call); ev.Speaking == nil || ev.Speaking.Flags != 1 {
		t.Errorf("the call brings %+v, want Speaking", ev)
	}
	if n := engine.Starts(); n != 1 {
		t.Errorf("the engine was started %d times", n)
	}
}
