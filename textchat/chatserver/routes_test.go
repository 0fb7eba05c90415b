package chatserver

import (
	"fmt"
	"strings"
	"testing"
)

// TestEveryRouteChecksPermissions makes each request as a member who lacks just
// the permission it needs, and as one who has just that.
func TestEveryRouteChecksPermissions(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Messages = 1e6 }, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	guild := "/guilds/" + w.guildID()
	// A role for ann that stands above all others, and one below to play with.
	toy := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "toy"}).body["id"].(string)
	role := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "ann's"}).body["id"].(string)
	w.do("PATCH", guild+"/roles", boss.token, `[{"id":"`+role+`","position":9}]`)
	w.do("PUT", guild+"/members/"+ann.id+"/roles/"+role, boss.token, nil)
	w.do("PATCH", guild+"/roles/"+w.guildID(), boss.token, map[string]any{"permissions": "0"})
	ch := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "test"}).body["id"].(string)
	lobby := w.channelID(boss, "Lobby")
	channel := "/channels/" + ch
	post := func() string {
		return w.do("POST", channel+"/messages", boss.token, map[string]any{"content": "x"}).body["id"].(string)
	}
	first, second := post(), post()
	w.do("PUT", channel+"/messages/"+first+"/reactions/%E2%98%83/@me", boss.token, nil)
	hook := w.do("POST", channel+"/webhooks", boss.token, map[string]any{"name": "H"}).body["id"].(string)
	const (
		kick, ban, channels, server, react, audit = 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 6, 1 << 7
		view, send, manage, embed, history        = 1 << 10, 1 << 11, 1 << 13, 1 << 14, 1 << 16
		own, nicks, roles, hooks, moderate, pin   = 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 40, 1 << 51
		invite                                    = 1 << 0
	)
	grant := func(bits uint64) {
		w.do("PATCH", guild+"/roles/"+role, boss.token, map[string]any{"permissions": fmt.Sprint(bits)})
		waitASecond(w)
	}
	for _, c := range []struct {
		method, path string
		body         any
		with, need   uint64 // what ann has anyway, and what the route needs
	}{
		{"GET", channel, nil, 0, view},
		{"PATCH", channel, map[string]any{"topic": "t"}, view, channels},
		{"PUT", channel + "/permissions/" + toy, map[string]any{"type": 0}, view, roles},
		{"DELETE", channel + "/permissions/" + toy, nil, view, roles},
		{"POST", channel + "/invites", nil, view, invite},
		{"GET", channel + "/invites", nil, view, channels},
		{"POST", channel + "/typing", nil, view, send},
		{"GET", channel + "/messages", nil, history, view},
		{"GET", channel + "/messages/" + first, nil, view, history},
		{"POST", channel + "/messages", map[string]any{"content": "x"}, view, send},
		{"POST", channel + "/messages", map[string]any{"content": "x", "message_reference": map[string]any{"message_id": first}}, view | send, history},
		{"POST", channel + "/messages", map[string]any{"embeds": []any{map[string]any{"title": "x"}}}, view | send, embed},
		{"PUT", channel + "/messages/" + first + "/reactions/%E2%9C%94/@me", nil, view | history, react},
		{"GET", channel + "/messages/" + first + "/reactions/%E2%98%83", nil, view, history},
		{"DELETE", channel + "/messages/" + first + "/reactions/%E2%98%83/" + boss.id, nil, view | history, manage},
		{"DELETE", channel + "/messages/" + first + "/reactions/%E2%98%83", nil, view | history, manage},
		{"DELETE", channel + "/messages/" + first + "/reactions", nil, view | history, manage},
		{"PUT", channel + "/pins/" + first, nil, view | history, pin},
		{"PUT", channel + "/messages/pins/" + second, nil, view | history, manage},
		{"GET", channel + "/pins", nil, history, view},
		{"GET", channel + "/messages/pins", nil, history, view},
		{"DELETE", channel + "/pins/" + first, nil, view | history, manage},
		{"DELETE", channel + "/messages/pins/" + second, nil, view | history, pin},
		{"PATCH", channel + "/messages/" + first, map[string]any{"flags": 4}, view, manage},
		{"DELETE", channel + "/messages/" + first, nil, view, manage},
		{"POST", channel + "/messages/bulk-delete", map[string]any{"messages": []string{first, second}}, view, manage},
		{"POST", channel + "/webhooks", map[string]any{"name": "H"}, view, hooks},
		{"GET", channel + "/webhooks", nil, view, hooks},
		{"GET", "/webhooks/" + hook, nil, view, hooks},
		{"PATCH", "/webhooks/" + hook, map[string]any{"name": "I"}, view, hooks},
		{"DELETE", "/webhooks/" + hook, nil, view, hooks},
		{"PATCH", guild, map[string]any{"name": "N"}, 0, server},
		{"POST", guild + "/channels", map[string]any{"name": "n"}, 0, channels},
		{"PATCH", guild + "/channels", `[{"id":"` + ch + `","position":3}]`, view, channels},
		{"POST", guild + "/roles", map[string]any{"name": "n", "permissions": "0"}, 0, roles},
		{"PATCH", guild + "/roles", `[{"id":"` + toy + `","position":3}]`, 0, roles},
		{"PATCH", guild + "/roles/" + toy, map[string]any{"name": "n"}, 0, roles},
		{"PUT", guild + "/members/" + bob.id + "/roles/" + toy, nil, 0, roles},
		{"DELETE", guild + "/members/" + bob.id + "/roles/" + toy, nil, 0, roles},
		{"DELETE", guild + "/roles/" + toy, nil, 0, roles},
		{"PATCH", guild + "/members/@me", map[string]any{"nick": "n"}, 0, own},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"nick": "n"}, 0, nicks},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"communication_disabled_until": nil}, 0, moderate},
		{"GET", guild + "/invites", nil, 0, server},
		{"GET", guild + "/webhooks", nil, 0, hooks},
		{"GET", guild + "/audit-logs", nil, 0, audit},
		{"POST", guild + "/bots", map[string]any{"name": "b"}, 0, server},
		{"GET", guild + "/bans", nil, 0, ban},
		{"DELETE", guild + "/members/" + bob.id, nil, 0, kick},
		{"PUT", guild + "/bans/" + bob.id, nil, 0, ban},
		{"GET", guild + "/bans/" + bob.id, nil, 0, ban},
		{"DELETE", guild + "/bans/" + bob.id, nil, 0, ban},
		{"DELETE", channel, nil, view, channels},
	} {
		ok := func(a answer) bool { return a.status < 300 }
		grant(c.with &^ c.need)
		if r := w.try(c.method, c.path, ann.token, c.body); r.status != 403 || r.body["code"] != 50013.0 && r.body["code"] != 50001.0 && r.body["code"] != 50005.0 {
			t.Errorf("%s %s without: %d %s", c.method, c.path, r.status, r.raw)
		}
		grant(c.with | c.need)
		if r := w.try(c.method, c.path, ann.token, c.body); !ok(r) {
			t.Errorf("%s %s with: %d %s", c.method, c.path, r.status, r.raw)
		}
	}
	// To strangers a guild and all in it are unknown.
	stranger := w.do("POST", "/auth/register", "", map[string]any{"username": "eve", "password": "correct horse"}).body["token"].(string)
	for _, path := range []string{guild, guild + "/channels", guild + "/roles", guild + "/members", guild + "/bans", guild + "/audit-logs", guild + "/webhooks",
		"/channels/" + lobby, "/channels/" + lobby + "/messages", "/channels/" + lobby + "/pins"} {
		if r := w.try("GET", path, stranger, nil); r.status != 404 {
			t.Errorf("a stranger's %s: %d %s", path, r.status, r.raw)
		}
	}
}

// TestBadInput: what no client sends is refused by every route with a body, by
// name and without harm.
func TestBadInput(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Messages = 1e6 }, nil)
	boss := w.boss()
	guild, channel := "/guilds/"+w.guildID(), "/channels/"+w.channelID(boss, "general")
	m := w.do("POST", channel+"/messages", boss.token, map[string]any{"content": "x"}).body["id"].(string)
	deep := `{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`
	huge := `{"x":"` + strings.Repeat("y", 10<<20) + `"}`
	for _, route := range []string{"POST " + channel + "/messages", "PATCH " + channel + "/messages/" + m, "POST " + channel + "/messages/bulk-delete",
		"POST " + guild + "/channels", "PATCH " + guild, "POST " + guild + "/roles", "PATCH " + channel, "POST " + channel + "/invites",
		"POST " + channel + "/webhooks", "PUT " + guild + "/bans/123", "POST " + guild + "/bulk-ban", "PATCH " + guild + "/members/@me", "PATCH " + guild + "/voice-states/@me",
		"POST /users/@me/channels", "PATCH /users/@me", "PUT " + channel + "/permissions/123", "PATCH " + guild + "/channels", "PATCH " + guild + "/roles"} {
		method, path, _ := strings.Cut(route, " ")
		for name, c := range map[string]struct {
			body   string
			status int
		}{
			"deep": {deep, 400}, "huge": {huge, 413}, "a key twice": {`{"name":"a","name":"b"}`, 400}, "a key twice, hidden": {`{"name":"a","n\u0061me":"b"}`, 400},
			"bad UTF-8": {"{\"name\":\"\xff\"}", 400}, "half": {`{"name":`, 400}, "two": {`{}{}`, 400}, "a number": {`7`, 400}, "NaN": {`{"position":NaN}`, 400},
		} {
			waitASecond(w)
			r := w.try(method, path, boss.token, c.body)
			// Where less is enough a deep body is simply too large.
			if r.status != c.status && !(name == "deep" && r.status == 413) || r.body["message"] == nil {
				t.Errorf("%s, %s: %d %.200s", route, name, r.status, r.raw)
			}
		}
	}
	// Snowflakes are strings or numbers, and nothing else.
	for body, ok := range map[string]bool{`{"parent_id":null,"name":"a"}`: true, `{"parent_id":["1"],"name":"a"}`: false, `{"parent_id":1.5,"name":"a"}`: false,
		`{"parent_id":-1,"name":"a"}`: false, `{"parent_id":"0x10","name":"a"}`: false, `{"parent_id":18446744073709551616,"name":"a"}`: false, `{"parent_id":true,"name":"a"}`: false} {
		waitASecond(w)
		r := w.try("POST", guild+"/channels", boss.token, body)
		if ok != (r.status == 201) || !ok && field(r.body, "errors.parent_id") == nil {
			t.Errorf("%s: %d %s", body, r.status, r.raw)
		}
	}
}

// TestInviteBruteForce: an address has a budget of guesses, whichever way it
// makes them.
func TestInviteBruteForce(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Invites = 10 }, nil)
	for i := range 11 {
		path, body := "/auth/guest", any(map[string]any{"invite": randomCode(10), "nickname": "x"})
		method := "POST"
		if i%2 == 0 {
			method, path, body = "GET", "/invites/"+randomCode(10), nil
		}
		r := w.try(method, path, "", body)
		if i < 10 && r.status != 404 || i == 10 && (r.status != 429 || r.header.Get("Retry-After") == "") {
			t.Fatalf("guess %d: %d %s", i, r.status, r.raw)
		}
	}
}

// TestGlobalRateLimit: a user has one budget over all routes.
func TestGlobalRateLimit(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	w.srv.cfg.Limits.Requests = 2
	waitASecond(w)
	var r answer
	for _, path := range []string{"/users/@me", "/voice/regions", "/users/@me/guilds", "/users/@me", "/voice/regions"} {
		if r = w.try("GET", path, ann.token, nil); r.status == 429 {
			break
		}
	}
	h := r.header
	if r.status != 429 || r.body["global"] != true || h.Get("X-RateLimit-Global") != "true" || h.Get("X-RateLimit-Scope") != "global" || h.Get("Retry-After") != "1" ||
		h.Get("X-RateLimit-Bucket") == "" || h.Get("X-RateLimit-Reset-After") == "" || h.Get("Via") == "" {
		t.Fatalf("%d %s %v", r.status, r.raw, h)
	}
}
