package chatserver

import (
	"bufio"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"voicefleet/textchat"
)

// needNone are the routes that no permission within a guild is needed for, and why.
var needNone = map[string]string{
	"POST /auth/guest": "an invite is enough", "POST /auth/register": "anybody", "POST /auth/login": "a password", "POST /auth/owner": "the code of the log",
	"POST /auth/logout": "one's own token", "POST /auth/claim": "one's own account", "GET /gateway": "anybody", "GET /gateway/bot": "any account",
	"GET /users/@me": "oneself", "PATCH /users/@me": "oneself", "GET /users/@me/guilds": "one's own", "DELETE /users/@me/guilds/{guild}": "who is in may leave",
	"GET /users/{user}": "names are no secret", "GET /oauth2/applications/@me": "oneself", "GET /applications/@me": "oneself", "GET /voice/regions": "any account",
	"GET /guilds/{guild}/regions": "any member", "GET /invites/{code}": "whoever knows the code", "POST /invites/{code}": "whoever knows the code",
	"POST /guilds": "refused to guests: TestErrors", "GET /guilds/{guild}": "any member", "GET /guilds/{guild}/channels": "any member, of channels that it sees",
	"GET /guilds/{guild}/roles": "any member", "GET /guilds/{guild}/roles/{role}": "any member", "GET /guilds/{guild}/members": "any member",
	"GET /guilds/{guild}/members/search": "any member", "GET /guilds/{guild}/members/{user}": "any member",
	"GET /guilds/{guild}/threads/active":        "any member, of threads that it sees",
	"GET /guilds/{guild}/voice-states/{user}":   "one's own, or in channels that one sees: TestVoiceStateOfOthers",
	"PATCH /guilds/{guild}/voice-states/{user}": "a stage's own rules, in package guild",
	"GET /users/@me/channels":                   "one's own", "POST /users/@me/channels": "who shares a guild: TestDMs",
	"GET /webhooks/{webhook}/{token}": "the token", "PATCH /webhooks/{webhook}/{token}": "the token", "DELETE /webhooks/{webhook}/{token}": "the token", "POST /webhooks/{webhook}/{token}": "the token",
	"GET /webhooks/{webhook}/{token}/messages/{message}": "the token", "PATCH /webhooks/{webhook}/{token}/messages/{message}": "the token",
	"DELETE /webhooks/{webhook}/{token}/messages/{message}": "the token",
}

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
	code := w.do("POST", channel+"/invites", boss.token, nil).body["code"].(string)
	thread := "/channels/" + w.do("POST", channel+"/threads", boss.token, map[string]any{"name": "t", "type": 11}).body["id"].(string)
	closed := "/channels/" + w.do("POST", channel+"/threads", boss.token, map[string]any{"name": "t", "type": 12, "invitable": false}).body["id"].(string)
	w.do("PUT", closed+"/thread-members/"+ann.id, boss.token, nil)
	w.do("PUT", guild+"/members/"+bob.id+"/roles/"+w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "bob's", "permissions": "1024"}).body["id"].(string), boss.token, nil)
	mux := http.NewServeMux()
	for _, rt := range w.srv.routes() {
		mux.HandleFunc(rt.pattern, func(http.ResponseWriter, *http.Request) {})
	}
	checked := map[string]bool{}
	const (
		kick, ban, channels, server, react, audit = 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 6, 1 << 7
		view, send, manage, embed, history        = 1 << 10, 1 << 11, 1 << 13, 1 << 14, 1 << 16
		own, nicks, roles, hooks, moderate, pin   = 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 40, 1 << 51
		mute, deafen, move, threads, begin        = 1 << 22, 1 << 23, 1 << 24, 1 << 34, 1 << 35
		invite, hide, reply                       = 1 << 0, 1 << 36, 1 << 38
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
		{"POST", channel + "/threads", map[string]any{"name": "t", "type": 11}, view, begin},
		{"POST", channel + "/threads", map[string]any{"name": "t"}, view, hide},
		{"POST", channel + "/messages/" + first + "/threads", map[string]any{"name": "t"}, view | history, begin},
		{"POST", channel + "/messages/" + second + "/threads", map[string]any{"name": "t"}, view | begin, history},
		{"GET", thread + "/thread-members", nil, 0, view},
		{"GET", thread + "/thread-members/" + boss.id, nil, 0, view},
		{"PUT", thread + "/thread-members/@me", nil, 0, view},
		{"PUT", thread + "/thread-members/" + bob.id, nil, view, reply},
		{"PUT", closed + "/thread-members/" + bob.id, nil, view | reply, threads},
		{"DELETE", thread + "/thread-members/" + boss.id, nil, view, threads},
		{"GET", channel + "/threads/archived/public", nil, view, history},
		{"GET", channel + "/threads/archived/private", nil, view | history, threads},
		{"GET", channel + "/users/@me/threads/archived/private", nil, view, history},
		{"DELETE", "/invites/" + code, nil, view, channels},
		{"DELETE", "/invites/" + w.first.Invite, nil, view, server},
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
		{"PATCH", guild + "/members/@me/nick", map[string]any{"nick": "n"}, 0, own},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"nick": "n"}, 0, nicks},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"communication_disabled_until": nil}, 0, moderate},
		{"GET", guild + "/invites", nil, 0, server},
		{"GET", guild + "/webhooks", nil, 0, hooks},
		{"GET", guild + "/audit-logs", nil, 0, audit},
		{"POST", guild + "/bots", map[string]any{"name": "b"}, 0, server},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"roles": []string{}}, 0, roles},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"mute": true}, 0, mute},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"deaf": true}, 0, deafen},
		{"PATCH", guild + "/members/" + bob.id, map[string]any{"channel_id": lobby}, 0, move},
		{"POST", guild + "/bulk-ban", map[string]any{"user_ids": []string{"123"}}, server, ban},
		{"POST", guild + "/bulk-ban", map[string]any{"user_ids": []string{"123"}}, ban, server},
		{"GET", guild + "/prune", nil, server, kick},
		{"GET", guild + "/prune", nil, kick, server},
		{"GET", guild + "/bans", nil, 0, ban},
		{"DELETE", guild + "/members/" + bob.id, nil, 0, kick},
		{"PUT", guild + "/bans/" + bob.id, nil, 0, ban},
		{"GET", guild + "/bans/" + bob.id, nil, 0, ban},
		{"DELETE", guild + "/bans/" + bob.id, nil, 0, ban},
		{"DELETE", channel, nil, view, channels},
	} {
		r, err := http.NewRequest(c.method, c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, pattern := mux.Handler(r)
		checked[pattern] = true
		// Who may move whoever is in voice is told that nobody is.
		ok := func(a answer) bool { return a.status < 300 || a.body["code"] == 40032.0 }
		grant(c.with &^ c.need)
		if r := w.try(c.method, c.path, ann.token, c.body); r.status != 403 || r.body["code"] != 50013.0 && r.body["code"] != 50001.0 && r.body["code"] != 50005.0 {
			t.Errorf("%s %s without: %d %s", c.method, c.path, r.status, r.raw)
		}
		grant(c.with | c.need)
		if r := w.try(c.method, c.path, ann.token, c.body); !ok(r) {
			t.Errorf("%s %s with: %d %s", c.method, c.path, r.status, r.raw)
		}
	}
	tests, left := testsHere(t), maps.Clone(needNone)
	for _, rt := range w.srv.routes() {
		why := needNone[rt.pattern]
		switch {
		case rt.access == operator: // the admin token: TestBotsAndOperator
		case !checked[rt.pattern] && why == "":
			t.Errorf("%s: no request above needs a permission for it, and no reason is given", rt.pattern)
		case checked[rt.pattern] && why != "":
			t.Errorf("%s is tried, and is said to need nothing: %s", rt.pattern, why)
		}
		for _, name := range testName.FindAllString(why, -1) {
			if !tests[name] {
				t.Errorf("%s: there is no %s", rt.pattern, name)
			}
		}
		delete(left, rt.pattern)
	}
	for pattern := range left {
		t.Errorf("%s is no route", pattern)
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

var testName = regexp.MustCompile(`\bTest\w+`)

// testsHere are the names of the tests of this package.
func testsHere(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	names := map[string]bool{}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

// TestVoiceStateOfOthers: who is in a channel is told to itself and to who sees the channel;
// to others it is as if it were in none.
func TestVoiceStateOfOthers(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	guild := "/guilds/" + w.guildID()
	view := fmt.Sprint(uint64(textchat.ViewChannel))
	room := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "room", "type": 2, "permission_overwrites": []any{
		map[string]any{"id": w.guildID(), "type": 0, "deny": view}, map[string]any{"id": ann.id, "type": 1, "allow": view}}}).body["id"].(string)
	lobby := w.channelID(bob, "Lobby")
	a := w.enter(ann)
	for _, c := range []struct {
		in     string
		asks   person
		who    string
		status int
	}{
		{room, ann, "@me", 200}, {room, ann, ann.id, 200}, {room, boss, ann.id, 200}, {room, bob, ann.id, 404}, {room, bob, "@me", 404}, {room, ann, bob.id, 404},
		{lobby, bob, ann.id, 200}, {lobby, boss, ann.id, 200}, {lobby, ann, "@me", 200},
	} {
		a.joinVoice(w.guildID(), c.in, false)
		for a.until("VOICE_STATE_UPDATE")["channel_id"] != c.in {
		}
		r := w.try("GET", guild+"/voice-states/"+c.who, c.asks.token, nil)
		if r.status != c.status || c.status == 200 && (r.body["channel_id"] != c.in || r.body["user_id"] != ann.id) || c.status != 200 && r.body["code"] != 10065.0 {
			t.Errorf("%s of %s, asked by %s: %d %s", c.who, c.in, c.asks.id, r.status, r.raw)
		}
	}
	// A channel that is hidden while somebody is in it is hidden with who is in it.
	w.do("PUT", "/channels/"+lobby+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": view})
	if r := w.try("GET", guild+"/voice-states/"+ann.id, bob.token, nil); r.status != 404 || r.body["code"] != 10065.0 {
		t.Errorf("once it is hidden: %d %s", r.status, r.raw)
	}
}

// bodyless are the routes that look at no body, though their method may have one.
var bodyless = map[string]bool{
	"POST /auth/logout": true, "POST /invites/{code}": true, "POST /channels/{channel}/typing": true, "PUT /guilds/{guild}/members/{user}/roles/{role}": true,
	"PUT /channels/{channel}/messages/{message}/reactions/{emoji}/@me": true, "PUT /channels/{channel}/messages/pins/{message}": true,
	"PUT /channels/{channel}/pins/{message}": true, "PUT /channels/{channel}/thread-members/{user}": true,
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
	role := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "toy"}).body["id"].(string)
	hook := w.do("POST", channel+"/webhooks", boss.token, map[string]any{"name": "H"}).body
	posted := w.do("POST", "/webhooks/"+hook["id"].(string)+"/"+hook["token"].(string)+"?wait=true", "", map[string]any{"content": "x"}).body["id"].(string)
	values := map[string]string{"guild": w.guildID(), "channel": w.channelID(boss, "general"), "message": m, "role": role, "user": "@me", "overwrite": role,
		"webhook": hook["id"].(string), "token": hook["token"].(string), "code": w.first.Invite, "emoji": "%E2%98%83"}
	tried := 0
	for _, rt := range w.srv.routes() {
		method, path := concrete(rt.pattern, values)
		token := map[access]string{account: boss.token, operator: "Bearer let-me-in"}[rt.access]
		switch {
		case method == "GET" || method == "DELETE":
			continue
		case bodyless[rt.pattern]:
			waitASecond(w)
			if rt.pattern == "POST /auth/logout" {
				token = w.guest("Ann").token
			}
			if r := w.try(method, path, token, huge); r.status >= 500 || r.body["code"] == 50109.0 || r.body["code"] == 40005.0 {
				t.Errorf("%s, with a body it does not look at: %d %.200s", rt.pattern, r.status, r.raw)
			}
			continue
		case strings.Contains(rt.pattern, "/bans/"):
			path = guild + "/bans/123"
		case strings.HasPrefix(rt.pattern, "PATCH /webhooks/{webhook}/{token}/messages"):
			path = strings.Replace(path, m, posted, 1)
		}
		tried++
		route := rt.pattern
		for name, c := range map[string]struct {
			body   string
			status int
		}{
			"deep": {deep, 400}, "huge": {huge, 413}, "a key twice": {`{"name":"a","name":"b"}`, 400}, "a key twice, hidden": {`{"name":"a","n\u0061me":"b"}`, 400},
			"bad UTF-8": {"{\"name\":\"\xff\"}", 400}, "half": {`{"name":`, 400}, "two": {`{}{}`, 400}, "a number": {`7`, 400}, "NaN": {`{"position":NaN}`, 400},
		} {
			waitASecond(w)
			r := w.try(method, path, token, c.body)
			// Where less is enough a deep body is simply too large.
			if r.status != c.status && !(name == "deep" && r.status == 413) || r.body["message"] == nil {
				t.Errorf("%s, %s: %d %.200s", route, name, r.status, r.raw)
			}
		}
	}
	if tried < 30 {
		t.Errorf("%d routes were tried", tried)
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

// TestCodesOfLimits: what is full, unknown or not to be touched is refused by its number.
func TestCodesOfLimits(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	guild, channel := "/guilds/"+w.guildID(), "/channels/"+w.channelID(boss, "general")
	post := func() string {
		waitASecond(w)
		return w.do("POST", channel+"/messages", boss.token, map[string]any{"content": "x"}).body["id"].(string)
	}
	m := post()
	other := "/channels/" + w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "other"}).body["id"].(string)
	// again repeats a request until it is refused, and says how often it was heard.
	again := func(most int, request func(i int) answer) (n int, last answer) {
		for ; n <= most; n++ {
			waitASecond(w)
			if last = request(n); last.status >= 300 {
				break
			}
		}
		return n, last
	}
	for _, c := range []struct {
		name         string
		status, code int
		full         int // it is heard so often before
		request      func(i int) answer
	}{
		{"a role that is none", 404, 10011, 0, func(int) answer { return w.try("GET", guild+"/roles/123", boss.token, nil) }},
		{"a role to change that is none", 404, 10011, 0, func(int) answer { return w.try("PATCH", guild+"/roles/123", boss.token, map[string]any{"name": "x"}) }},
		{"an emoji that is none", 400, 10014, 0, func(int) answer {
			return w.try("PUT", channel+"/messages/"+m+"/reactions/party:123/@me", boss.token, nil)
		}},
		{"reactions", 400, 30010, 20, func(i int) answer {
			return w.try("PUT", channel+"/messages/"+m+"/reactions/"+url.PathEscape(string(rune(0x1f600+i)))+"/@me", boss.token, nil)
		}},
		{"pins", 400, 30003, 250, func(int) answer { return w.try("PUT", channel+"/pins/"+post(), boss.token, nil) }},
		{"roles", 400, 30005, 249, func(i int) answer {
			return w.try("POST", guild+"/roles", boss.token, map[string]any{"name": fmt.Sprint(i)})
		}},
		{"channels", 400, 30013, 500 - 4, // those the guild began with, and the other one
			func(i int) answer {
				return w.try("POST", guild+"/channels", boss.token, map[string]any{"name": fmt.Sprint(i)})
			}},
		{"@everyone is to go", 400, 50028, 0, func(int) answer { return w.try("DELETE", guild+"/roles/"+w.guildID(), boss.token, nil) }},
		{"a pin from elsewhere", 404, 10008, 0, func(int) answer { return w.try("PUT", other+"/pins/"+m, boss.token, nil) }},
		{"no token", 401, 0, 0, func(int) answer { return w.try("GET", "/users/@me", "", nil) }},
	} {
		if n, r := again(c.full, c.request); n != c.full || r.status != c.status || r.body["code"] != float64(c.code) {
			t.Errorf("%s: after %d: %d %s", c.name, n, r.status, r.raw)
		}
	}
}

// TestRequestSmuggling: a request whose end two readers could see in two places is refused,
// or ends its connection: what stands behind it is answered as no request.
func TestRequestSmuggling(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	const inner = "GET /api/v10/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	chunked := "0\r\n\r\n" + inner
	for name, head := range map[string]string{
		"both lengths":           fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", len(chunked), chunked),
		"both, turned":           fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n%s", len(chunked), chunked),
		"two lengths":            "Content-Length: 0\r\nContent-Length: 4\r\n\r\n" + inner,
		"a list of lengths":      "Content-Length: 0, 4\r\n\r\n" + inner,
		"a signed length":        "Content-Length: +0\r\n\r\n" + inner,
		"a negative length":      "Content-Length: -1\r\n\r\n" + inner,
		"another encoding":       "Transfer-Encoding: identity\r\n\r\n" + chunked,
		"chunked twice":          "Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked,
		"chunked in two lines":   "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked,
		"a space before a colon": "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + inner,
		"a folded line":          "Transfer-Encoding:\r\n chunked\r\nContent-Length: 0\r\n\r\n" + inner,
		"a chunk that overflows": "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n" + inner,
		"a NUL in a header":      "X: a\x00b\r\nContent-Length: 0\r\n\r\n" + inner,
	} {
		c := w.tcp()
		fmt.Fprintf(c, "POST /api/v10/auth/login HTTP/1.1\r\nHost: x\r\n%s", head)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(c)
		var answers []int
		for {
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				break
			}
			b, _ := io.ReadAll(r.Body)
			answers = append(answers, r.StatusCode)
			if strings.Contains(string(b), "404") {
				answers = append(answers, 404)
			}
		}
		switch {
		case len(answers) == 0:
			t.Errorf("%s: no answer", name)
		case len(answers) > 1:
			t.Errorf("%s: answered %v: what was smuggled was heard", name, answers)
		case answers[0] < 400:
			t.Errorf("%s: %d", name, answers[0])
		}
	}
}

// FuzzBody gives any body to any route that has one: it is refused by name or heard, and
// nothing breaks.
func FuzzBody(f *testing.F) {
	w := newWorld(f, f.TempDir(), nil, nil)
	boss := w.boss()
	guild, channel := "/guilds/"+w.guildID(), "/channels/"+w.channelID(boss, "general")
	hook := w.do("POST", channel+"/webhooks", boss.token, map[string]any{"name": "H"}).body
	values := map[string]string{"guild": w.guildID(), "channel": w.channelID(boss, "general"), "user": "@me", "code": w.first.Invite, "overwrite": w.guildID(),
		"message": w.do("POST", channel+"/messages", boss.token, map[string]any{"content": "x"}).body["id"].(string),
		"role":    w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "toy"}).body["id"].(string),
		"webhook": hook["id"].(string), "token": hook["token"].(string), "emoji": "%E2%98%83"}
	var routes []route
	for _, rt := range w.srv.routes() {
		if method, _, _ := strings.Cut(rt.pattern, " "); method != "GET" && method != "DELETE" && !bodyless[rt.pattern] {
			routes = append(routes, rt)
		}
	}
	for i, body := range []string{`{"content":"x","embeds":[{"title":5}],"nonce":[]}`, `{"name":"x","type":2,"parent_id":"1","permission_overwrites":[{"id":1,"allow":"x"}]}`,
		`[{"id":"1","position":-1}]`, `{"nick":null,"roles":["1",2],"channel_id":{},"communication_disabled_until":"x"}`, `{"user_ids":[1,"2",null]}`, `{"messages":["1","x"]}`,
		`content=a&content=b`, "--b\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\r\n{\"attachments\":[{\"id\":{}}]}\r\n--b--", "\xff", ``, `null`, `{"a":1e999}`} {
		for route := range routes {
			f.Add(uint8(route), uint8(i%3), body)
		}
	}
	f.Fuzz(func(t *testing.T, which, kind uint8, body string) {
		rt := routes[int(which)%len(routes)]
		method, path := concrete(rt.pattern, values)
		waitASecond(w)
		r := httptest.NewRequest(method, "/api/v10"+path, strings.NewReader(body))
		r.RemoteAddr = "192.0.2.1:5"
		r.Header.Set("Content-Type", []string{"application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"}[kind%3])
		r.Header.Set("Authorization", map[access]string{account: boss.token, operator: "Bearer let-me-in"}[rt.access])
		a := httptest.NewRecorder()
		w.srv.Handler().ServeHTTP(a, r)
		var e textchat.Error
		if a.Code >= 400 && (a.Code >= 500 || json.Unmarshal(a.Body.Bytes(), &struct {
			*textchat.Error
			Fields map[string]any `json:"errors"`
		}{Error: &e}) != nil || e.Message == "") {
			t.Errorf("%s, %q: %d %s", rt.pattern, body, a.Code, a.Body)
		}
	})
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
