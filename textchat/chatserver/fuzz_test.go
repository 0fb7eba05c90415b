package chatserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
)

// FuzzBusMsg: whatever comes on a subject that text instances hear, in whatever name,
// is refused with a code or left out, for little memory: the next message reaches a
// session that stands, once.
func FuzzBusMsg(f *testing.F) {
	reg := prometheus.NewRegistry()
	all := newTogether(f, 1, func(c *Config) { c.Metrics = reg })
	w := all.worlds[0]
	boss := w.boss()
	session := w.enter(boss)
	general := w.channelID(boss, "general")
	nc, err := nats.Connect("", nats.InProcessServer(all.bus), nats.Token("only in process"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	var subjects []string
	for _, verb := range []string{"do", "live", "lead", "warm", "mirror", "yield"} {
		subjects = append(subjects, bus.TextSubject("0", verb))
	}
	verbs := len(subjects)
	guild := w.guildID()
	subjects = append(subjects, bus.DeliveredSubject, bus.OnlineSubject(guild), bus.OnlineSubject("7"), "v1.guild."+guild, "v1.guild.7", "v1.told."+guild,
		"v1.guild."+bus.UsersKey, "v1.told."+bus.UsersKey, "$KV."+bus.TextsBucket+".ghost", "$KV."+bus.LeadsBucket+"."+guild, "$KV."+bus.LeadsBucket+".7", bus.DisconnectSubject)
	for i := range subjects {
		for _, body := range []string{
			`{"guild":"7","id":"x","input":{"kind":"SetTyping","data":{}}}`, `{"guild":"` + guild + `","id":"x","input":{"kind":"nothing","data":null}}`, `{"guild":"-1"}`,
			`{"guilds":["7","7","7","18446744073709551615"]}`, `{"life":"other~x","from":18446744073709551615,"session":"x"}`, `{"session":"x","life":"","opened":"0001-01-01T00:00:00Z"}`,
			`{"life":"ghost~1","n":18446744073709551615,"first":1,"list":[{"p":18446744073709551615,"k":"7","s":18446744073709551615},{},{}],"adopted":{"x":{"life":"y","at":"2999-01-01T00:00:00Z"}}}`,
			`{"from":"ghost~1","online":{"7":{"status":"online"},"x":null},"typing":{"channel":"` + general + `","user":"7"}}`, `{"id":"x","events":[{},{},{}],"changes":[{"kind":"Deleted"}]}`,
			`{"began":"2999-01-01T00:00:00Z","life":"ghost~zz","load":{"cpu":-1e300,"guilds":[{}]}}`, `{"to":"ghost","from":"0","by":"0"}`,
			`{"client":{"name":"text 0","stop":"2030-01-01T00:00:00Z"}}`, `[[[[[[[[`, `null`, ``,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		w.t, session.t = t, t
		at := int(which) % len(subjects)
		took := bustest.Allocated(func() {
			if at >= verbs {
				if err := nc.Publish(subjects[at], body); err != nil {
					t.Fatal(err)
				}
				return
			}
			if _, refused := bustest.Ask(t, nc, subjects[at], body); refused != nil && (refused.Code == "" || refused.Message == "") {
				t.Errorf("%s: refused with %+v", subjects[at], refused)
			}
		})
		if took > 16<<20+256*uint64(len(body)) {
			t.Errorf("%s: %d bytes of memory for %d", subjects[at], took, len(body))
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		// Who may lead is asked first, so that an answer may be a while in coming.
		text := "after " + strings.Repeat("x", at)
		var said struct {
			ID string `json:"id"`
		}
		eventually(t, "a message is taken", func() bool {
			a := w.try("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": text})
			switch a.status {
			case http.StatusOK:
				if err := json.Unmarshal(a.raw, &said); err != nil {
					t.Fatal(err)
				}
				return true
			case http.StatusServiceUnavailable:
				return false
			}
			t.Fatalf("%s %q: a message is answered with %d %s", subjects[at], body, a.status, a.raw)
			return false
		})
		for m := session.until("MESSAGE_CREATE"); m["id"] != said.ID; m = session.until("MESSAGE_CREATE") {
			if m["content"] != text {
				t.Fatalf("%s %q: a message came that nobody wrote: %v", subjects[at], body, m)
			}
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "voicefleet_panics_total" {
				for _, m := range family.GetMetric() {
					if m.GetCounter().GetValue() > 0 {
						t.Fatalf("%s %q: a panic: %v", subjects[at], body, m)
					}
				}
			}
		}
	})
}
