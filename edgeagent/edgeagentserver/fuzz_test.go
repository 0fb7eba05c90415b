package edgeagentserver

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
)

// codes are all that a request may be refused with.
var codes = map[edgeagent.ErrorCode]bool{
	edgeagent.CodeGrant: true, edgeagent.CodeNoSession: true, edgeagent.CodeBadRequest: true,
	edgeagent.CodeFull: true, edgeagent.CodeDraining: true, edgeagent.CodeUnavailable: true,
}

// FuzzBusMsg: whatever a node is asked, or reads of others, is refused with a code or
// left out, for little memory; a session of which it says nothing goes on.
func FuzzBusMsg(f *testing.F) {
	const call, user = 481516234242, 108151623421 // nobody guesses them
	r := newRig(f)
	reg := prometheus.NewRegistry()
	r.run(f, Config{Engine: edgeagenttest.NewEngine(f).Start, Metrics: reg})
	nc, err := nats.Connect("", nats.InProcessServer(r.server))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	var subjects []string
	for _, verb := range []string{"open", "resume", "negotiate", "update", "close", "drain", "undrain", "upgrade", "relay", "roster"} {
		subjects = append(subjects, bus.NodeSubject("edge-1", verb))
	}
	verbs := len(subjects)
	subjects = append(subjects, "$KV."+bus.NodesBucket+".other", "$KV."+bus.KeysBucket+".k", "$KV."+bus.EnrolledBucket+".edge.x")
	for i := range subjects {
		for _, body := range []string{
			`{"token":"x.y.z"}`, `{"session":"x","offer":"v=0"}`, `{"call":"7","user":"8","rights":{"speak":true},"reason":"moved"}`,
			`{"by":"x","empty":true,"until":"0001-01-01T00:00:00Z"}`, `{"call":"7","epoch":18446744073709551615,"peers":[{},{},{},{},{},{},{},{}]}`,
			`{"node":"other","addrs":["::1","10.0.0.1"],"ports":[1,2,3],"link":"[::1]:9"}`, `[[[[[[[[`, `null`, ``, `{"rights":null,"muted":[1,2,3]}`,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		// One that nobody negotiates ends by itself, so each has its own.
		_, token := r.open(t, r.grant(call, user))
		subject := subjects[int(which)%len(subjects)]
		took := bustest.Allocated(func() {
			if int(which)%len(subjects) >= verbs {
				if err := nc.Publish(subject, body); err != nil {
					t.Fatal(err)
				}
				return
			}
			if _, refused := bustest.Ask(t, nc, subject, body); refused != nil && (!codes[edgeagent.ErrorCode(refused.Code)] || refused.Message == "") {
				t.Errorf("%s: refused with %+v", subject, refused)
			}
		})
		if took > 16<<20+256*uint64(len(body)) {
			t.Errorf("%s: %d bytes of memory for %d", subject, took, len(body))
		}
		if _, err := r.client.Resume(t.Context(), "edge-1", edgeagent.ResumeRequest{Token: token}); err != nil {
			t.Errorf("the session is gone: %v", err)
		}
		if _, err := r.client.Undrain(t.Context(), "edge-1", edgeagent.DrainRequest{By: "test"}); err != nil {
			t.Error(err)
		}
		if n := panics(t, reg); n != 0 {
			t.Errorf("%v panics", n)
		}
	})
}

// panics is how many were counted.
func panics(t *testing.T, reg *prometheus.Registry) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "voicefleet_panics_total" {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// FuzzBusMsgHome: whatever the bucket of calls says of one, a node whose engine stood
// still takes it for moved only to another node, and every other call stays.
func FuzzBusMsgHome(f *testing.F) {
	r := newRig(f)
	s, _ := r.run(f, Config{Engine: edgeagenttest.NewEngine(f).Start})
	homes, err := bus.OpenBucket[home](f.Context(), r.conn, bus.CallsBucket)
	if err != nil {
		f.Fatal(err)
	}
	here := edgeagent.CallOnANode{Call: callID(481516234242), Epoch: 5}
	if _, err := homes.Put(f.Context(), here.Call.String(), home{Node: "edge-1", Epoch: 5}); err != nil {
		f.Fatal(err)
	}
	nc, err := nats.Connect("", nats.InProcessServer(r.server))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	for _, body := range []string{
		`{"node":"edge-2","epoch":6}`, `{"node":"edge-2","epoch":6,"move":{"planned":true}}`, `{"node":"edge-2","epoch":18446744073709551615,"spans":["edge-1","edge-1"]}`,
		`{"epoch":6}`, `{"node":"","epoch":18446744073709551615,"spans":null}`, `{"node":"*.>","epoch":6}`, `{"node":"edge-2","epoch":-6}`, `{"move":[]}`, `[[[[[[[[`, `null`, ``,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		strange := edgeagent.CallOnANode{Call: callID(7), Epoch: 5}
		// As the bucket's own client asks: the answer tells that it is written.
		if _, err := nc.Request("$KV."+bus.CallsBucket+"."+strange.Call.String(), body, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 2*lookPause) // what cannot be read is read again until then
		defer cancel()
		moved, unknown := s.look(short, []edgeagent.CallOnANode{strange})
		if len(moved)+len(unknown) > 1 {
			t.Errorf("%q: moved %v, unknown %v", body, moved, unknown)
		}
		if len(moved) > 0 {
			var at struct{ Node edgeagent.NodeID }
			if err := json.Unmarshal(body, &at); err != nil || !at.Node.Valid() || at.Node == "edge-1" {
				t.Errorf("%q: it moved to %q", body, at.Node)
			}
		}
		if moved, unknown := s.look(t.Context(), []edgeagent.CallOnANode{here}); len(moved)+len(unknown) > 0 {
			t.Errorf("%q: another call moved %v, or is unknown %v", body, moved, unknown)
		}
	})
}
