package remote

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"voicefleet/bench/internal/child"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
)

// codes are all that a request may be refused with; the last is of the bus.
var codes = map[string]bool{codeBadRequest: true, codeBusy: true, codeVersion: true, codeGone: true, codeFailed: true, "unavailable": true}

// FuzzBusMsg: whatever a generator is asked by who has no lease of it, or stands in the
// bucket, is refused with a code or left out, for little memory: the coordinator who has
// it goes on, and finds it under its name alone.
func FuzzBusMsg(f *testing.F) {
	e := embed(f)
	double := child.On(func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	start(f, connected(f, e), Config{Name: "g1", Open: Plain(map[string]child.Verb{"double": double}), ttl: time.Hour})
	conn := connected(f, e)
	g, err := dial(f.Context(), conn, "g1", "desk", Version(), time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := g.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	nc, err := nats.Connect("", nats.InProcessServer(e), nats.Token(busToken))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	var subjects []string
	for _, verb := range []string{"take", "beat", "free", "ask", "fetch"} {
		subjects = append(subjects, bus.GeneratorSubject("g1", verb))
	}
	verbs := len(subjects)
	subjects = append(subjects, "$KV."+bus.GeneratorsBucket+".g2", "$KV."+bus.GeneratorsBucket+".g3.x")
	for i := range subjects {
		for _, body := range []string{
			`{"lease":"x","coordinator":"thief","version":"` + Version() + `","protocol":1}`, `{"lease":"","version":"","protocol":-1}`,
			`{"lease":"","call":18446744073709551615,"verb":"double","size":-1,"offset":-1,"data":"AAAA","done":[1,2,3],"within_ms":-9223372036854775808}`,
			`{"lease":"x","call":1,"offset":9223372036854775807}`, `{"name":"g1","host":"192.0.2.1","version":"x"}`, `{"name":"g2","protocol":-1,"machine":{"cores":-1}}`,
			`{"name":""}`, `[[[[[[[[`, `null`, ``,
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
			if _, refused := bustest.Ask(t, nc, subject, body); refused == nil || !codes[refused.Code] || refused.Message == "" {
				t.Errorf("%s %q: refused with %+v", subject, body, refused)
			}
		})
		if took > 16<<20+256*uint64(len(body)) {
			t.Errorf("%s: %d bytes of memory for %d", subject, took, len(body))
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		var four int
		if err := g.Call(t.Context(), "double", 2, &four); err != nil || four != 4 {
			t.Errorf("%s %q: the coordinator gets %d, %v", subject, body, four, err)
		}
		all, err := Find(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		ours := 0
		for _, info := range all {
			if info.Name == "g1" {
				ours++
			} else if info.Name != "g2" {
				t.Errorf("%s %q: a generator %q is found", subject, body, info.Name)
			}
		}
		if ours != 1 {
			t.Errorf("%s %q: it is found %d times", subject, body, ours)
		}
	})
}
