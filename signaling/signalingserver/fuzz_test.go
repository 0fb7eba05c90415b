package signalingserver

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
	"voicefleet/sfu"
	"voicefleet/signaling"
	"voicefleet/signaling/signalingtest"
)

// hearing hears of calls by the bus, as the client of agents does, but for what that
// leaves out by itself.
type hearing struct {
	*signalingtest.Node
	conn *bus.Conn
}

func (h hearing) SubscribeCall(call sfu.CallID, fn func(edgeagent.CallEvent)) (func(), error) {
	sub, err := bus.Subscribe(context.Background(), h.conn, bus.CallEvents(call.String()), func(_ string, ev edgeagent.CallEvent) { fn(ev) })
	if err != nil {
		return nil, err
	}
	return sub.Unsubscribe, nil
}

// FuzzBusMsg: whatever comes on the subject of a call's events, in whatever name, is
// left out, or told as far as it goes, for little memory: a session of which it says
// nothing stands, and is told the next event.
func FuzzBusMsg(f *testing.F) {
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: f.TempDir(), Token: "only in process"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(server.Shutdown)
	conn, err := bus.Connect(f.Context(), bus.Config{Embedded: server, Name: bus.ClientName(bus.RoleCentral, "c")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(conn.Close)
	nc, err := nats.Connect("", nats.InProcessServer(server), nats.Token("only in process"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	x := newFixture()
	x.cfg.Nodes, x.cfg.Heartbeat = hearing{x.node, conn}, time.Hour
	const listener, speaker = 108151623421, 234215108163 // nobody guesses them
	i := serve(f, x.cfg, false)
	c, _ := x.join(f, i, listener, "session-5f1c9b72e0")
	subjects := []string{bus.CallSubject(call.String(), "n1"), bus.CallSubject(call.String(), "ghost"), bus.CallSubject("7", "n1")}
	for i := range subjects {
		for _, body := range []string{
			`{"call":"20","node":"n1","joined":{"user":"7","ssrc":4294967295,"flags":-1}}`, `{"call":"20","node":"n1","joined":{"user":"-1","ssrc":-1}}`,
			`{"call":"20","node":"ghost","left":{"session":"x","user":"7","reason":"moved"}}`, fmt.Sprintf(`{"call":"20","node":"n1","left":{"session":"x","user":"%d","reason":"king"}}`, listener),
			`{"call":"20","node":"n1","speaking":{"user":"7","ssrc":7,"flags":255},"seated":{"session":"x","seat":{"slot":-1}},"deaf":{"session":"x"}}`,
			`{"call":"20","node":"n1","seated":{"session":"session-5f1c9b72e0","seat":{"slot":9223372036854775807,"mid":"\u0000","user":"7"}}}`, `{"call":"20","node":"n1","opened":{"session":"x","user":"7"}}`,
			`{"call":"20","node":"n1"}`, `{"call":"7","node":"","joined":{}}`, `[[[[[[[[`, `null`, ``,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	told := 0
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		c.t = t
		subject := subjects[int(which)%len(subjects)]
		told++
		took := bustest.Allocated(func() {
			if err := nc.Publish(subject, body); err != nil {
				t.Fatal(err)
			}
			next := edgeagent.CallEvent{Call: call, Node: "n1", Joined: &edgeagent.Member{User: uid(speaker), SSRC: sfu.SSRC(told)}}
			if after, err := json.Marshal(next); err != nil || nc.Publish(subjects[0], after) != nil {
				t.Fatal("the next event is not published")
			}
			for {
				var sp signaling.Speaking
				if m := c.next(); m.Op == signaling.OpSpeaking && m.Payload(&sp) == nil && sp.User == uid(speaker) && sp.SSRC == sfu.SSRC(told) {
					break
				}
			}
		})
		if took > 16<<20+256*uint64(len(body)) {
			t.Errorf("%s: %d bytes of memory for %d", subject, took, len(body))
		}
		if got := count(t, i.metrics.panics); got > 0 {
			t.Fatalf("%s %q: %v panics", subject, body, got)
		}
	})
}
