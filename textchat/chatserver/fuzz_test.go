package chatserver

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
)

// hearing hears of calls by the bus, as the clients of agents and allocators do, but
// for what these leave out by themselves.
type hearing struct {
	*voiceSide
	conn *bus.Conn
}

func (h hearing) SubscribePresence(fn func(edgeagent.CallEvent)) (func(), error) {
	return hears(h.conn, bus.AllPresence, fn)
}

func (h hearing) SubscribeMoved(fn func(allocator.Moved)) (func(), error) {
	return hears(h.conn, bus.AllMoved, fn)
}

func hears[T any](conn *bus.Conn, pattern string, fn func(T)) (func(), error) {
	sub, err := bus.Subscribe(context.Background(), conn, pattern, func(_ string, v T) { fn(v) })
	if err != nil {
		return nil, err
	}
	return sub.Unsubscribe, nil
}

// FuzzBusMsg: whatever comes on a subject that text instances hear, in whatever name,
// is refused with a code or left out, for little memory: the next message reaches a
// session that stands, once, and who is in a call of which it says nothing stays there.
func FuzzBusMsg(f *testing.F) {
	reg := prometheus.NewRegistry()
	all := newTogether(f, 1, func(c *Config) {
		h := hearing{c.Placer.(*voiceSide), c.Bus}
		c.Metrics, c.Presence, c.Moves = reg, h, h
	})
	w := all.worlds[0]
	boss := w.boss()
	session := w.enter(boss)
	general := w.channelID(boss, "general")
	// Of one call nobody guesses the channel; of the other all is told.
	echo, lobby, ann := w.channelID(boss, "Echo test"), w.channelID(boss, "Lobby"), w.guest("Ann")
	session.joinVoice(w.guildID(), echo, false)
	session.until("VOICE_SERVER_UPDATE")
	member := w.enter(ann)
	member.joinVoice(w.guildID(), lobby, false)
	member.until("VOICE_SERVER_UPDATE")
	nc, err := nats.Connect("", nats.InProcessServer(all.bus), nats.Token("only in process"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	call := w.callOf(echo)
	opened, err := json.Marshal(edgeagent.CallEvent{Call: call, Node: "n1", Opened: &edgeagent.SessionStart{Session: "vs1", User: boss.user()}})
	if err != nil || nc.Publish(bus.PresenceSubject(call.String(), "n1"), opened) != nil {
		f.Fatal("who is in a call cannot open it")
	}
	var subjects []string
	for _, verb := range []string{"do", "live", "lead", "warm", "mirror", "yield"} {
		subjects = append(subjects, bus.TextSubject("0", verb))
	}
	verbs := len(subjects)
	guild := w.guildID()
	subjects = append(subjects, bus.DeliveredSubject, bus.OnlineSubject(guild), bus.OnlineSubject("7"), "v1.guild."+guild, "v1.guild.7", "v1.told."+guild,
		"v1.guild."+bus.UsersKey, "v1.told."+bus.UsersKey, "$KV."+bus.TextsBucket+".ghost", "$KV."+bus.LeadsBucket+"."+guild, "$KV."+bus.LeadsBucket+".7", bus.DisconnectSubject,
		bus.MovedSubject(lobby), bus.MovedSubject("7"), bus.PresenceSubject(lobby, "n1"), bus.PresenceSubject("7", "ghost"))
	for i := range subjects {
		for _, body := range []string{
			`{"guild":"7","id":"x","input":{"kind":"SetTyping","data":{}}}`, `{"guild":"` + guild + `","id":"x","input":{"kind":"nothing","data":null}}`, `{"guild":"-1"}`,
			`{"guilds":["7","7","7","18446744073709551615"]}`, `{"life":"other~x","from":18446744073709551615,"session":"x"}`, `{"session":"x","life":"","opened":"0001-01-01T00:00:00Z"}`,
			`{"life":"ghost~1","n":18446744073709551615,"first":1,"list":[{"p":18446744073709551615,"k":"7","s":18446744073709551615},{},{}],"adopted":{"x":{"life":"y","at":"2999-01-01T00:00:00Z"}}}`,
			`{"from":"ghost~1","online":{"7":{"status":"online"},"x":null},"typing":{"channel":"` + general + `","user":"7"}}`, `{"id":"x","events":[{},{},{}],"changes":[{"kind":"Deleted"}]}`,
			`{"began":"2999-01-01T00:00:00Z","life":"ghost~zz","load":{"cpu":-1e300,"guilds":[{}]}}`, `{"to":"ghost","from":"0","by":"0"}`,
			`{"client":{"name":"text 0","stop":"2030-01-01T00:00:00Z"}}`, `[[[[[[[[`, `null`, ``,
			`{"call":"` + lobby + `","from":"ghost","to":"","epoch":18446744073709551615,"cause":"king","planned":true}`, `{"call":"` + lobby + `","epoch":0,"cause":"drain"}`, `{"call":"-1","epoch":-1}`,
			`{"call":"` + lobby + `","node":"n1","opened":{"session":"x","user":"7"},"left":{"session":"x","user":"7","reason":"moved"}}`,
			`{"call":"` + lobby + `","node":"n1","left":{"session":"x","user":"` + ann.id + `","reason":""}}`, `{"call":"` + lobby + `","node":"","deaf":{"session":"","user":"` + ann.id + `"}}`,
			`{"call":"` + lobby + `","opened":null,"left":null,"deaf":{}}`, `{"call":"7","node":"ghost","left":{"user":"-1"}}`,
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
		for came := false; !came; {
			m := session.next()
			d := m.data()
			switch {
			case m.T == "MESSAGE_CREATE" && d["content"] != text:
				t.Fatalf("%s %q: a message came that nobody wrote: %v", subjects[at], body, d)
			case m.T == "MESSAGE_CREATE":
				came = d["id"] == said.ID
			case m.T == "VOICE_SERVER_UPDATE", m.T == "VOICE_STATE_UPDATE" && d["user_id"] == boss.id:
				t.Fatalf("%s %q: who is in a call is told %v", subjects[at], body, d)
			}
		}
		for len(member.frames) > 0 {
			<-member.frames
		}
		for len(w.voice.arrived) > 0 {
			<-w.voice.arrived
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
