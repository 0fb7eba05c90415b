package chatserver

import (
	"testing"
)

// TestWebhookSpam: a webhook has one budget, wherever its posts come from.
func TestWebhookSpam(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Messages = 3 }, nil)
	boss := w.boss()
	h := w.do("POST", "/channels/"+w.channelID(boss, "general")+"/webhooks", boss.token, map[string]any{"name": "Hook"}).body
	by := "/webhooks/" + h["id"].(string) + "/" + h["token"].(string)
	for i := range 4 {
		r := w.try("POST", by, "", map[string]any{"content": "x"})
		if i < 3 && r.status != 204 || i == 3 && (r.status != 429 || r.header.Get("X-RateLimit-Scope") != "shared") {
			t.Fatalf("post %d: %d %s", i, r.status, r.raw)
		}
	}
}

func TestWebhooks(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Messages = 20 }, nil)
	boss, ann := w.boss(), w.guest("Ann")
	guild := "/guilds/" + w.guildID()
	general := w.channelID(ann, "general")
	a := w.enter(ann)
	if r := w.try("POST", "/channels/"+general+"/webhooks", ann.token, map[string]any{"name": "H"}); r.status != 403 {
		t.Fatalf("ann makes a webhook: %d", r.status)
	}
	for _, bad := range []any{map[string]any{}, map[string]any{"name": "Clyde"}, map[string]any{"name": 5}} {
		if r := w.try("POST", "/channels/"+general+"/webhooks", boss.token, bad); r.status != 400 || field(r.body, "errors.name") == nil {
			t.Errorf("%v: %d %s", bad, r.status, r.raw)
		}
	}
	h := w.do("POST", "/channels/"+general+"/webhooks", boss.token, map[string]any{"name": "Hook"}).body
	if e := a.event("WEBHOOKS_UPDATE"); e["channel_id"] != general || e["guild_id"] != w.guildID() {
		t.Fatalf("event %v", e)
	}
	id, token := h["id"].(string), h["token"].(string)
	if h["type"] != 1.0 || h["channel_id"] != general || h["guild_id"] != w.guildID() || field(h, "user.id") != boss.id || len(token) != webhookTokenLen {
		t.Fatalf("webhook %v", h)
	}
	by := "/webhooks/" + id + "/" + token
	// Without wait there is no body.
	if r := w.do("POST", by, "", map[string]any{"content": "x"}); r.status != 204 || len(r.raw) != 0 {
		t.Fatalf("post: %d %s", r.status, r.raw)
	}
	e := a.event("MESSAGE_CREATE")
	if e["webhook_id"] != id || field(e, "author.id") != id || field(e, "author.username") != "Hook" || field(e, "author.bot") != true || e["member"] != nil {
		t.Fatalf("event %v", e)
	}
	m := w.do("POST", by+"?wait=true", "", map[string]any{"content": "@everyone", "username": "Other", "embeds": []any{map[string]any{"title": "t"}}}).body
	if field(m, "author.username") != "Other" || m["mention_everyone"] != true || m["channel_id"] != general {
		t.Fatalf("posted %v", m)
	}
	a.event("MESSAGE_CREATE")
	at := by + "/messages/" + m["id"].(string)
	if x := w.do("GET", at, "", nil).body; x["id"] != m["id"] {
		t.Fatalf("got %v", x)
	}
	if x := w.do("PATCH", at, "", map[string]any{"content": "new"}).body; x["content"] != "new" {
		t.Fatalf("edited %v", x)
	}
	a.event("MESSAGE_UPDATE")
	anns := w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "mine"}).body["id"].(string)
	a.event("MESSAGE_CREATE")
	if r := w.try("DELETE", by+"/messages/"+anns, "", nil); r.status != 404 || r.body["code"] != 10008.0 {
		t.Fatalf("another's message: %d %s", r.status, r.raw)
	}
	w.do("DELETE", at, "", nil)
	a.event("MESSAGE_DELETE")
	// By token, or by whoever manages webhooks; nobody else.
	for _, c := range []struct {
		path, token string
		status      int
		code        float64
	}{
		{"/webhooks/" + id, ann.token, 403, 50013}, {"/webhooks/" + id, "", 401, 0}, {"/webhooks/" + id + "/wrong", "", 401, 50027}, {"/webhooks/123", boss.token, 404, 10015},
		{"/webhooks/x/y", "", 404, 10015},
	} {
		if r := w.try("GET", c.path, c.token, nil); r.status != c.status || r.body["code"] != c.code {
			t.Errorf("%s: %d %s", c.path, r.status, r.raw)
		}
	}
	if x := w.do("GET", by, "", nil).body; x["user"] != nil || x["token"] != token {
		t.Fatalf("by token: %v", x)
	}
	if l := w.do("GET", guild+"/webhooks", boss.token, nil).list(t); len(l) != 1 {
		t.Fatalf("list %v", l)
	}
	lobby := w.channelID(ann, "Lobby")
	if x := w.do("PATCH", by, "", map[string]any{"name": "Again", "channel_id": lobby}).body; x["name"] != "Again" || x["channel_id"] != general {
		t.Fatalf("changed by token: %v", x)
	}
	if x := w.do("PATCH", "/webhooks/"+id, boss.token, map[string]any{"channel_id": lobby}).body; x["channel_id"] != lobby {
		t.Fatalf("moved: %v", x)
	}
	if l := w.do("GET", "/channels/"+general+"/webhooks", boss.token, nil).list(t); len(l) != 0 {
		t.Fatalf("left in general: %v", l)
	}
	w.do("DELETE", "/webhooks/"+id, boss.token, nil)
	if r := w.try("POST", by, "", map[string]any{"content": "x"}); r.status != 404 {
		t.Fatalf("deleted: %d %s", r.status, r.raw)
	}
	for i := range 16 {
		waitASecond(w)
		r := w.try("POST", "/channels/"+general+"/webhooks", boss.token, map[string]any{"name": "H"})
		if i == 15 && (r.status != 400 || r.body["code"] != 30007.0) || i < 15 && r.status != 200 {
			t.Fatalf("webhook %d: %d %s", i, r.status, r.raw)
		}
	}
}

func TestDMs(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	reg := w.do("POST", "/auth/register", "", map[string]any{"username": "cat", "password": "correct horse"})
	cat := person{field(reg.body, "user.id").(string), reg.body["token"].(string)}
	open := func(p person, body any) answer { return w.try("POST", "/users/@me/channels", p.token, body) }
	for _, c := range []struct {
		body   any
		status int
		code   float64
		field  string
	}{
		{map[string]any{}, 400, 50035, "recipient_id"}, {map[string]any{"recipient_id": ann.id}, 400, 50035, "recipient_id"},
		{map[string]any{"recipient_id": "x"}, 400, 50035, "recipient_id"}, {map[string]any{"recipient_id": "123"}, 404, 10013, ""},
		{map[string]any{"recipients": []string{bob.id, boss.id}}, 400, 50035, "recipients"}, {map[string]any{"recipient_id": cat.id}, 403, 50007, ""},
	} {
		if r := open(ann, c.body); r.status != c.status || r.body["code"] != c.code || c.field != "" && field(r.body, "errors."+c.field) == nil {
			t.Errorf("%v: %d %s", c.body, r.status, r.raw)
		}
	}
	d := open(ann, map[string]any{"recipient_id": bob.id})
	if d.body["type"] != 1.0 || field(d.body, "recipients.0.id") != bob.id {
		t.Fatalf("opened %d %s", d.status, d.raw)
	}
	id := d.body["id"].(string)
	if again := open(bob, map[string]any{"recipients": []string{ann.id}}); again.body["id"] != id || field(again.body, "recipients.0.id") != ann.id {
		t.Fatalf("opened again: %s", again.raw)
	}
	path := "/channels/" + id + "/messages"
	a, b, x := w.enter(ann), w.enter(bob), w.enter(boss)
	m := w.do("POST", path, ann.token, map[string]any{"content": "psst <@" + bob.id + "> <@" + boss.id + ">", "nonce": "1"}).body
	if len(m["mentions"].([]any)) != 1 {
		t.Fatalf("mentions %v", m["mentions"])
	}
	for _, s := range []*socket{a, b} {
		if e := s.event("CHANNEL_CREATE"); e["id"] != id || len(e["recipients"].([]any)) != 1 {
			t.Fatalf("event %v", e)
		}
		e := s.event("MESSAGE_CREATE")
		if _, guild := e["guild_id"]; guild || e["channel_id"] != id || e["member"] != nil {
			t.Fatalf("event %v", e)
		}
	}
	mid := m["id"].(string)
	w.do("POST", "/channels/"+id+"/typing", bob.token, nil)
	if e := a.event("TYPING_START"); e["user_id"] != bob.id || e["guild_id"] != nil {
		t.Fatalf("event %v", e)
	}
	b.event("TYPING_START")
	w.do("PUT", path+"/"+mid+"/reactions/%F0%9F%91%8D/@me", bob.token, nil)
	a.event("MESSAGE_REACTION_ADD")
	w.do("PUT", "/channels/"+id+"/pins/"+mid, bob.token, nil)
	a.event("CHANNEL_PINS_UPDATE")
	if r := w.try("DELETE", path+"/"+mid, bob.token, nil); r.status != 403 {
		t.Fatalf("bob deletes ann's: %d", r.status)
	}
	if r := w.try("POST", path+"/bulk-delete", ann.token, map[string]any{"messages": []string{mid, mid}}); r.status != 403 || r.body["code"] != 50003.0 {
		t.Fatalf("bulk delete: %d %s", r.status, r.raw)
	}
	for _, p := range []string{"", "/messages", "/pins"} {
		if r := w.try("GET", "/channels/"+id+p, boss.token, nil); r.status != 404 || r.body["code"] != 10003.0 {
			t.Errorf("the boss reads %s: %d %s", p, r.status, r.raw)
		}
	}
	x.quiet()
	if l := w.do("GET", "/users/@me/channels", bob.token, nil).list(t); len(l) != 1 || l[0]["id"] != id {
		t.Fatalf("list %v", l)
	}
	if c := w.do("GET", "/channels/"+id, bob.token, nil).body; field(c, "recipients.0.id") != ann.id {
		t.Fatalf("channel %v", c)
	}
	if r := w.upload("POST", path, ann.token, part{"files[0]", "x.txt", []byte("x")}); r.status != 200 {
		t.Fatalf("file: %d %s", r.status, r.raw)
	}
	// Who shares no guild any more is left alone.
	w.do("DELETE", "/users/@me/guilds/"+w.guildID(), bob.token, nil)
	if r := w.try("POST", path, ann.token, map[string]any{"content": "still there?"}); r.status != 403 || r.body["code"] != 50007.0 {
		t.Fatalf("after bob left: %d %s", r.status, r.raw)
	}
}
