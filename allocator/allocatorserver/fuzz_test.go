package allocatorserver

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// codes are all that a request may be refused with.
var codes = map[allocator.ErrorCode]bool{
	allocator.CodeNoNodes: true, allocator.CodeFull: true, allocator.CodeNoCall: true, allocator.CodeBadRequest: true, allocator.CodeUnavailable: true, allocator.CodeRefused: true,
}

// FuzzBusMsg: whatever comes on a subject that allocators hear, in whatever name, is
// refused with a code or counted, for little memory; a call of which it says nothing
// stays where it is, and who asks next is answered.
func FuzzBusMsg(f *testing.F) {
	const node, call = "node-5f1c9b72e0", 481516234242 // nobody guesses them
	reg := prometheus.NewRegistry()
	fl := newFleetOf(f, fleetConfig{servers: startOne(f), allocators: 1, metrics: reg}, node)
	home, err := fl.place(call, 6)
	if err != nil {
		f.Fatal(err)
	}
	nc, err := nats.Connect(fl.servers.URL())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	var subjects []string
	for _, verb := range []string{"place", "update", "remove", "explain", "nodes", "calls", "journal", "peers", "regions", "drain", "cordon", "undrain", "upgrade", "progress", "move", "label", "labels"} {
		subjects = append(subjects, bus.AllocatorSubject+verb)
	}
	verbs := len(subjects)
	subjects = append(subjects,
		"$KV."+bus.NodesBucket+".b", "$KV."+bus.NodesBucket+".liar", "$KV."+bus.CallsBucket+".7", "$KV."+bus.SignalingBucket+".x", "$KV."+bus.KeysBucket+".k", "$KV."+bus.LabelsBucket+".7",
		bus.SilenceSubject, bus.MovedSubject("7"), bus.JournalSubject, bus.DisconnectSubject)
	for i := range subjects {
		for _, body := range []string{
			`{"node":"liar","state":"ready","started":"2030-01-01T00:00:00Z","epoch":9223372036854775808,"capacity":{"pps":1e300,"bps":-1,"sessions":-5},"calls":[{"call":"5","epoch":18446744073709551615,"sessions":-1}]}`,
			`{"call":"7","node":"b","epoch":18446744073709551615,"spans":["a","a"],"move":{"from":"a","at":"0001-01-01T00:00:00Z"}}`,
			`{"call":"7","from":"b","to":"c","epoch":1,"cause":"region"}`, `{"node":"a","silent":-1,"of":-5}`,
			`{"guild":"7","label":"canary","by":"x","at":"2030-01-01T00:00:00Z","nodes":-1}`, `{"guild":"1","label":"a","clear":true}`,
			`{"call":"8","user":"6","session":"gw","guild":"1","rtt":{"a":-1},"avoid":["a"]}`, `{"seq":-1,"limit":-1,"after":"x"}`,
			`{"at":"x","deed":"move"}`, `{"client":{"name":"edge a","stop":"2030-01-01T00:00:00Z"}}`, `[[[[[[[[`, `null`, ``, `{"calls":[{},{},{},{},{},{},{},{}]}`,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		subject := subjects[int(which)%len(subjects)]
		took := bustest.Allocated(func() {
			if int(which)%len(subjects) >= verbs {
				if err := nc.Publish(subject, body); err != nil {
					t.Fatal(err)
				}
				return
			}
			if _, refused := bustest.Ask(t, nc, subject, body); refused != nil && (!codes[allocator.ErrorCode(refused.Code)] || refused.Message == "") {
				t.Errorf("%s: refused with %+v", subject, refused)
			}
		})
		if took > 16<<20+256*uint64(len(body)) {
			t.Errorf("%s: %d bytes of memory for %d", subject, took, len(body))
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		got, err := NewClient(fl.conn).Place(fl.ctx, allocator.PlaceRequest{Guild: "1", Call: sfu.CallID{ID: snowflake.ID(call)}, User: sfu.UserID{ID: 9}, Session: "gw"})
		if err != nil || got.Node != home.Node || got.Epoch != home.Epoch {
			t.Errorf("the call was at %s@%d and is at %s@%d, %v", home.Node, home.Epoch, got.Node, got.Epoch, err)
		}
		if n := counted(t, reg, "voicefleet_panics_total"); n != 0 {
			t.Errorf("%v panics", n)
		}
	})
}

// counted is the sum of a counter.
func counted(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// TestLiesAreCounted: by what they are about, in the allocator's metrics.
func TestLiesAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFleetOf(t, fleetConfig{servers: startOne(t), allocators: 1, metrics: reg}, "a")
	if _, err := f.place(5, 6); err != nil {
		t.Fatal(err)
	}
	f.beat(edgeagent.Heartbeat{Node: "liar", Epoch: 1 << 63})
	f.journal("it is noted", func(deeds map[allocator.Deed]map[edgeagent.NodeID]bool) bool {
		return deeds[allocator.DeedRefused]["liar"]
	})
	if n := counted(t, reg, "voicefleet_allocator_refused_total"); n == 0 {
		t.Error("it is not counted")
	}
	if a, err := f.place(7, 6); err != nil || a.Epoch >= 1<<53 {
		t.Errorf("the next call has epoch %d, %v", a.Epoch, err)
	}
}
