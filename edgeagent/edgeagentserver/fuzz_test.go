package edgeagentserver

import (
	"testing"

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
