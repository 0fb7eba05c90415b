package chatserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
)

func TestGuest(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	pub := w.do("GET", "/invites/"+w.first.Invite, "", nil)
	if pub.body["guild"].(map[string]any)["name"] != "Voicefleet" || pub.body["channel"].(map[string]any)["name"] != "general" || pub.body["expires_at"] != nil {
		t.Fatalf("invite: %s", pub.raw)
	}
	// The nickname is cleaned; the link itself works as the code.
	a := w.do("POST", "/auth/guest", "", map[string]any{"invite": "https://host/invite/" + w.first.Invite, "nickname": "  A\u202enn\x07 "})
	u := a.body["user"].(map[string]any)
	if a.status != 201 || u["global_name"] != "Ann" || u["guest"] != true || u["bot"] != false || u["discriminator"] != "0" || a.body["guild_id"] != w.guildID() {
		t.Fatalf("guest: %s", a.raw)
	}
	tok := a.body["token"].(string)
	if me := w.do("GET", "/users/@me", tok, nil); me.body["id"] != u["id"] {
		t.Fatalf("me: %s", me.raw)
	}
	for _, c := range []struct {
		body   any
		status int
		field  string
		code   float64
	}{
		{map[string]any{"invite": w.first.Invite, "nickname": " \u200b "}, 400, "nickname", 50035},
		{map[string]any{"invite": w.first.Invite, "nickname": strings.Repeat("ä", 33)}, 400, "nickname", 50035},
		{map[string]any{"invite": w.first.Invite, "nickname": 7}, 400, "nickname", 50035},
		{map[string]any{"invite": "wrong", "nickname": "Bob"}, 404, "", 10006},
		{map[string]any{"nickname": "Bob"}, 404, "", 10006},
	} {
		r := w.try("POST", "/auth/guest", "", c.body)
		fields, _ := r.body["errors"].(map[string]any)
		if r.status != c.status || r.body["code"] != c.code || c.field != "" && fields[c.field] == nil {
			t.Errorf("%v: %d %s", c.body, r.status, r.raw)
		}
	}
	w.do("POST", "/auth/guest", "", map[string]any{"invite": w.first.Invite, "nickname": strings.Repeat("ä", 32)})

	// The guest becomes an account: same id, old token and password both work.
	if r := w.try("POST", "/auth/claim", tok, map[string]any{"username": "ann", "password": "short"}); r.status != 400 || r.body["errors"].(map[string]any)["password"] == nil {
		t.Fatalf("claim with a short password: %d %s", r.status, r.raw)
	}
	s := w.enter(person{token: tok})
	c := w.do("POST", "/auth/claim", tok, map[string]any{"username": "Ann", "password": "correct horse"})
	if c.body["user"].(map[string]any)["id"] != u["id"] || c.body["user"].(map[string]any)["username"] != "ann" {
		t.Fatalf("claim: %s", c.raw)
	}
	for range 2 { // in either order: they come by different ways
		if f := s.next(); f.T != "USER_UPDATE" && f.T != "GUILD_MEMBER_UPDATE" {
			t.Fatalf("after the claim: %s", f.T)
		}
	}
	w.do("GET", "/users/@me", tok, nil)
	if l := w.do("POST", "/auth/login", "", map[string]any{"username": "ANN", "password": "correct horse"}); l.body["user"].(map[string]any)["id"] != u["id"] {
		t.Fatalf("login: %s", l.raw)
	}
	if r := w.try("POST", "/auth/claim", tok, map[string]any{"username": "ann2", "password": "correct horse"}); r.status != 400 {
		t.Fatalf("claimed twice: %d", r.status)
	}
}

func TestRegisterAndLogin(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	reg := func(name, pass string) answer {
		return w.try("POST", "/auth/register", "", map[string]any{"username": name, "password": pass, "invite": w.first.Invite})
	}
	for name, pass := range map[string]string{"a": "correct horse", "ann!": "correct horse", "guest.1": "correct horse", "systemX": "correct horse",
		strings.Repeat("a", 33): "correct horse", "ann": "1234567", "bob": strings.Repeat("x", 257)} {
		if r := reg(name, pass); r.status != 400 || r.body["code"] != 50035.0 {
			t.Errorf("%q: %d %s", name, r.status, r.raw)
		}
	}
	r := reg("ann", "correct horse")
	if r.status != 201 || r.body["guild_id"] != w.guildID() {
		t.Fatalf("register: %d %s", r.status, r.raw)
	}
	if r := reg("Ann", "other password"); r.status != 400 || r.body["errors"].(map[string]any)["username"] == nil {
		t.Errorf("taken: %d %s", r.status, r.raw)
	}
	for name, pass := range map[string]string{"ann": "wrong password", "nobody": "correct horse", "": "", "system." + w.guildID(): "x"} {
		if r := w.try("POST", "/auth/login", "", map[string]any{"username": name, "password": pass}); r.status != 401 || r.body["code"] != 50018.0 {
			t.Errorf("login %q: %d %s", name, r.status, r.raw)
		}
	}
	// The token has the shape that libraries read; the file has only its hash.
	tok := r.body["token"].(string)
	if !regexp.MustCompile(`^[A-Za-z0-9+/]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$`).MatchString(tok) {
		t.Errorf("token %q", tok)
	}
}

func TestOwnerCodeOnce(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir, nil, nil)
	if w.first.OwnerCode == "" || !w.first.Created {
		t.Fatalf("first start: %+v", w.first)
	}
	// Coming first makes nobody owner.
	ann := w.guest("Ann")
	if r := w.try("PATCH", "/guilds/"+w.guildID(), ann.token, map[string]any{"name": "Mine"}); r.status != 403 {
		t.Fatalf("a guest changed the guild: %d", r.status)
	}
	form := func(code, name string) map[string]any {
		return map[string]any{"code": code, "username": name, "password": "correct horse"}
	}
	if r := w.try("POST", "/auth/owner", "", form("wrong", "boss")); r.status != 403 || r.body["code"] != 50018.0 {
		t.Fatalf("wrong code: %d %s", r.status, r.raw)
	}
	// A bad form does not burn the code.
	if r := w.try("POST", "/auth/owner", "", form(w.first.OwnerCode, "!")); r.status != 400 {
		t.Fatalf("bad name: %d %s", r.status, r.raw)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 4 {
		wg.Go(func() {
			if r := w.try("POST", "/auth/owner", "", form(w.first.OwnerCode, fmt.Sprintf("boss%d", i))); r.status == 200 {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d became owner", won)
	}
	if r := w.try("POST", "/auth/owner", "", form(w.first.OwnerCode, "late")); r.status != 403 {
		t.Fatalf("used code: %d %s", r.status, r.raw)
	}
	w.end()
	w2 := newWorld(t, dir, nil, nil)
	if w2.first.OwnerCode != "" || w2.first.Created || w2.first.Invite != w.first.Invite || w2.first.Guild != w.first.Guild {
		t.Fatalf("second start: %+v", w2.first)
	}
}

func TestOwnerCodeIsNewOnEveryStart(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir, nil, nil)
	w.end()
	w2 := newWorld(t, dir, nil, nil)
	if w2.first.OwnerCode == "" || w2.first.OwnerCode == w.first.OwnerCode {
		t.Fatalf("codes %q and %q", w.first.OwnerCode, w2.first.OwnerCode)
	}
	if r := w2.try("POST", "/auth/owner", "", map[string]any{"code": w.first.OwnerCode, "username": "boss", "password": "correct horse"}); r.status != 403 {
		t.Fatalf("the old code: %d %s", r.status, r.raw)
	}
	w2.boss()
}

func TestSecondStartFindsEverything(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir, nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	general := w.channelID(boss, "general")
	w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "kept"})
	role := w.do("POST", "/guilds/"+w.guildID()+"/roles", boss.token, map[string]any{"name": "mods", "permissions": "4194304"}).body["id"].(string)
	w.do("PUT", "/guilds/"+w.guildID()+"/members/"+ann.id+"/roles/"+role, boss.token, nil)
	w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "Raid", "type": 2, "user_limit": 5})
	w.end()
	w = newWorld(t, dir, nil, nil)
	var list []map[string]any
	if err := json.Unmarshal(w.do("GET", "/channels/"+general+"/messages", boss.token, nil).raw, &list); err != nil || len(list) != 1 || list[0]["content"] != "kept" {
		t.Fatalf("messages: %v %v", list, err)
	}
	m := w.do("GET", "/guilds/"+w.guildID()+"/members/"+ann.id, boss.token, nil)
	if roles := m.body["roles"].([]any); len(roles) != 1 || roles[0] != role {
		t.Fatalf("member: %s", m.raw)
	}
	w.channelID(ann, "Raid")
	w.do("POST", "/auth/login", "", map[string]any{"username": "boss", "password": "correct horse"})
}

func TestErrors(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	general := w.channelID(ann, "general")
	messages := "/channels/" + general + "/messages"
	for _, c := range []struct {
		method, path, token string
		body                any
		status              int
		code                float64
	}{
		{"GET", "/nowhere", ann.token, nil, 404, 0},
		{"GET", "/api/v8/users/@me", ann.token, nil, 400, 50041},
		{"PUT", "/users/@me", ann.token, nil, 405, 0},
		{"GET", "/users/@me", "", nil, 401, 0},
		{"GET", "/users/@me", "Bot x.y.z", nil, 401, 0},
		{"GET", "/channels/x", ann.token, nil, 404, 10003},
		{"GET", "/channels/0", ann.token, nil, 404, 10003},
		{"GET", "/channels/18446744073709551615", ann.token, nil, 404, 10003},
		{"GET", "/channels/123", ann.token, nil, 404, 10003},
		{"GET", "/guilds/123", ann.token, nil, 404, 10004},
		{"GET", "/users/123", ann.token, nil, 404, 10013},
		{"GET", "/guilds/" + w.guildID() + "/members/123", ann.token, nil, 404, 10007},
		{"GET", "/guilds/" + w.guildID() + "/voice-states/@me", ann.token, nil, 404, 10065},
		{"PATCH", "/guilds/" + w.guildID() + "/voice-states/@me", ann.token, map[string]any{"suppress": true}, 404, 10065},
		{"PATCH", "/guilds/" + w.guildID() + "/voice-states/123", ann.token, map[string]any{"suppress": true}, 404, 10065},
		{"PATCH", "/guilds/123/voice-states/@me", ann.token, nil, 404, 10004},
		{"GET", messages + "/123", ann.token, nil, 404, 10008},
		{"GET", messages + "?limit=0", ann.token, nil, 400, 50035},
		{"GET", messages + "?limit=101", ann.token, nil, 400, 50035},
		{"GET", messages + "?before=x", ann.token, nil, 400, 50035},
		{"POST", messages, ann.token, "{", 400, 50109},
		{"POST", messages, ann.token, "[]", 400, 50109},
		{"POST", messages, ann.token, `{"content":"a","content":"b"}`, 400, 50109},
		{"POST", messages, ann.token, "{\"content\":\"\xff\"}", 400, 50109},
		{"POST", messages, ann.token, `{"content":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, 400, 50109},
		{"POST", messages, ann.token, `{"content":"` + strings.Repeat("x", 300000) + `"}`, 413, 40005},
		{"POST", messages, ann.token, nil, 400, 50006},
		{"POST", messages, ann.token, map[string]any{"content": " \n "}, 400, 50006},
		{"POST", messages, ann.token, map[string]any{"content": strings.Repeat("ä", 2001)}, 400, 50035},
		{"POST", messages, ann.token, map[string]any{"content": "x", "nonce": strings.Repeat("n", 26)}, 400, 50035},
		{"POST", messages, ann.token, map[string]any{"content": "x", "message_reference": map[string]any{"message_id": "5"}}, 400, 50035},
		{"POST", "/guilds/" + w.guildID() + "/channels", ann.token, map[string]any{"name": "x"}, 403, 50013},
		{"POST", "/guilds/" + w.guildID() + "/roles", ann.token, nil, 403, 50013},
		{"POST", "/guilds/" + w.guildID() + "/bots", ann.token, map[string]any{"name": "x"}, 403, 50013},
		{"GET", "/guilds/" + w.guildID() + "/invites", ann.token, nil, 403, 50013},
		{"DELETE", "/channels/" + general, ann.token, nil, 403, 50013},
		{"POST", "/guilds", ann.token, map[string]any{"name": "x"}, 403, 50001},
		{"GET", "/api/admin/users", "Bearer wrong", nil, 401, 0},
		{"GET", "/api/admin/users", ann.token, nil, 401, 0},
	} {
		a := w.try(c.method, c.path, c.token, c.body)
		if a.status != c.status || a.body["code"] != c.code || a.body["message"] == nil || a.header.Get("Content-Type") != "application/json" || a.header.Get("Via") == "" {
			t.Errorf("%s %s: %d %.200s", c.method, c.path, a.status, a.raw)
		}
	}
}

func TestMessages(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	b := w.enter(bob)
	// The retry of a nonce answers the first message and tells nobody again.
	first := w.do("POST", path, ann.token, map[string]any{"content": "hi <@" + bob.id + "> @everyone", "nonce": 7, "enforce_nonce": true, "embeds": nil, "tts": false})
	again := w.do("POST", path, ann.token, map[string]any{"content": "hi", "nonce": 7})
	id := first.body["id"].(string)
	if again.body["id"] != id || first.body["nonce"] != 7.0 || first.body["mention_everyone"] != false || len(first.body["mentions"].([]any)) != 1 {
		t.Fatalf("first %s, again %s", first.raw, again.raw)
	}
	e := b.event("MESSAGE_CREATE")
	if e["id"] != id || e["guild_id"] != w.guildID() || e["member"].(map[string]any)["joined_at"] == nil || e["author"].(map[string]any)["id"] != ann.id || e["nonce"] != 7.0 {
		t.Fatalf("event %v", e)
	}
	reply := w.do("POST", path, bob.token, map[string]any{"content": "re", "message_reference": map[string]any{"message_id": id}})
	if reply.body["type"] != 19.0 {
		t.Fatalf("reply %s", reply.raw)
	}
	b.event("MESSAGE_CREATE")
	if r := w.try("PATCH", path+"/"+id, bob.token, map[string]any{"content": "x"}); r.status != 403 || r.body["code"] != 50005.0 {
		t.Fatalf("edit of another's: %d %s", r.status, r.raw)
	}
	if edited := w.do("PATCH", path+"/"+id, ann.token, map[string]any{"content": "hello", "ID": id, "Channel": general}); edited.body["edited_timestamp"] == nil {
		t.Fatalf("edit: %s", edited.raw)
	}
	if e := b.event("MESSAGE_UPDATE"); e["content"] != "hello" {
		t.Fatalf("event %v", e)
	}
	if r := w.try("DELETE", path+"/"+id, bob.token, nil); r.status != 403 {
		t.Fatalf("bob deleted: %d", r.status)
	}
	d := w.do("DELETE", path+"/"+id, boss.token, nil)
	if d.status != 204 || d.header.Get("Content-Type") != "" || len(d.raw) != 0 {
		t.Fatalf("delete: %d %v %s", d.status, d.header, d.raw)
	}
	if e := b.event("MESSAGE_DELETE"); e["id"] != id || e["channel_id"] != general {
		t.Fatalf("event %v", e)
	}
	w.do("POST", "/channels/"+general+"/typing", ann.token, nil)
	if e := b.event("TYPING_START"); e["user_id"] != ann.id {
		t.Fatalf("typing %v", e)
	}
	// A channel out of sight: no event, no history, no posting.
	w.do("PUT", "/channels/"+general+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": "1024"})
	if e := b.event("CHANNEL_DELETE"); e["id"] != general {
		t.Fatalf("event %v", e)
	}
	w.do("POST", path, boss.token, map[string]any{"content": "secret"})
	if r := w.try("GET", path, bob.token, nil); r.status != 403 || r.body["code"] != 50001.0 {
		t.Fatalf("hidden history: %d %s", r.status, r.raw)
	}
	if r := w.try("POST", path, bob.token, map[string]any{"content": "x"}); r.status != 403 {
		t.Fatalf("hidden post: %d", r.status)
	}
	b.send(1, nil)
	if f := b.next(); f.Op != 11 {
		t.Fatalf("bob heard %s %s", f.T, f.D)
	}
}

func TestRoleLadder(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	guild := "/guilds/" + w.guildID()
	role := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "mods", "permissions": "268435456"}).body["id"].(string)
	w.do("PUT", guild+"/members/"+ann.id+"/roles/"+role, boss.token, nil)
	// Ann may manage roles now: but not her own, nor give what she has not.
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"PATCH", guild + "/roles/" + role, map[string]any{"permissions": "8"}},
		{"PATCH", guild + "/roles/" + w.guildID(), map[string]any{"permissions": "8"}},
		{"POST", guild + "/roles", map[string]any{"permissions": "8"}},
		{"DELETE", guild + "/roles/" + role, nil},
		{"DELETE", guild + "/members/" + boss.id, nil},
		{"PATCH", guild + "/members/" + boss.id, map[string]any{"nick": "x"}},
	} {
		if r := w.try(c.method, c.path, ann.token, c.body); r.status != 403 || r.body["code"] != 50013.0 {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.raw)
		}
	}
	if r := w.try("DELETE", guild+"/roles/"+w.guildID(), boss.token, nil); r.status != 400 {
		t.Errorf("@everyone deleted: %d %s", r.status, r.raw)
	}
	if d := w.do("DELETE", guild+"/roles/"+role, boss.token, nil); d.status != 204 {
		t.Errorf("delete role: %d", d.status)
	}
	if m := w.do("GET", guild+"/members/"+ann.id, ann.token, nil); len(m.body["roles"].([]any)) != 0 {
		t.Errorf("ann keeps %s", m.raw)
	}
	if m := w.do("PATCH", guild+"/members/@me", ann.token, map[string]any{"nick": "Annie"}); m.body["nick"] != "Annie" {
		t.Errorf("nick: %s", m.raw)
	}
	if r := w.try("PATCH", guild+"/members/@me", ann.token, map[string]any{"mute": false}); r.status != 400 {
		t.Errorf("own mute by @me: %d", r.status)
	}
	// As older libraries do it.
	for _, c := range []struct{ body, want any }{{"Anna", "Anna"}, {nil, nil}} {
		if n := w.do("PATCH", guild+"/members/@me/nick", ann.token, map[string]any{"nick": c.body}); n.body["nick"] != c.want {
			t.Errorf("nick %v: %s", c.body, n.raw)
		}
		if m := w.do("GET", guild+"/members/@me", ann.token, nil); m.body["nick"] != c.want {
			t.Errorf("after nick %v: %s", c.body, m.raw)
		}
	}
}

// TestGuildsOfAUser: one's guilds are told with how many are in them when that is asked for.
func TestGuildsOfAUser(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	w.enter(w.guest("Bob"))
	for query, want := range map[string][2]any{"": {nil, nil}, "?with_counts=true": {2.0, 1.0}} {
		var list []map[string]any
		if err := json.Unmarshal(w.do("GET", "/users/@me/guilds"+query, ann.token, nil).raw, &list); err != nil || len(list) != 1 {
			t.Fatalf("%q: %v %v", query, list, err)
		}
		if got := [2]any{list[0]["approximate_member_count"], list[0]["approximate_presence_count"]}; got != want {
			t.Errorf("%q: members and presences %v, want %v", query, got, want)
		}
	}
}

func TestInvites(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	general := w.channelID(boss, "general")
	inv := w.do("POST", "/channels/"+general+"/invites", boss.token, map[string]any{"max_uses": 1, "max_age": 0})
	code := inv.body["code"].(string)
	reg := w.do("POST", "/auth/register", "", map[string]any{"username": "ann", "password": "correct horse"})
	ann := person{id: reg.body["user"].(map[string]any)["id"].(string), token: reg.body["token"].(string)}
	// Joining live: the session gets the guild.
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(ann.token, allIntents))
	if g := s.event("READY")["guilds"].([]any); len(g) != 0 {
		t.Fatalf("guilds %v", g)
	}
	w.do("POST", "/invites/"+code, ann.token, nil)
	if g := s.event("GUILD_CREATE"); g["id"] != w.guildID() {
		t.Fatalf("joined %v", g["id"])
	}
	// Once is once, for others; for a member it is no use.
	if r := w.try("POST", "/auth/guest", "", map[string]any{"invite": code, "nickname": "Bob"}); r.status != 404 || r.body["code"] != 10006.0 {
		t.Fatalf("used up: %d %s", r.status, r.raw)
	}
	w.do("POST", "/invites/"+w.first.Invite, ann.token, nil)
	if r := w.try("DELETE", "/invites/"+w.first.Invite, ann.token, nil); r.status != 403 {
		t.Fatalf("ann deleted the invite: %d", r.status)
	}
	w.do("DELETE", "/invites/"+w.first.Invite, boss.token, nil)
	if r := w.try("GET", "/invites/"+w.first.Invite, "", nil); r.status != 404 {
		t.Fatalf("deleted: %d", r.status)
	}
	w.do("DELETE", "/users/@me/guilds/"+w.guildID(), ann.token, nil)
	s.until("GUILD_DELETE")
}

// TestInviteEnds: an invite whose age or uses are over is unknown to whoever comes with it,
// is not listed, and is not given for a new one.
func TestInviteEnds(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	invites := "/channels/" + w.channelID(boss, "general") + "/invites"
	reg := w.do("POST", "/auth/register", "", map[string]any{"username": "ann", "password": "correct horse"})
	ann := reg.body["token"].(string)
	create := func(form map[string]any) map[string]any {
		t.Helper()
		return w.do("POST", invites, boss.token, form).body
	}
	// old has an invite be made so long ago.
	old := func(code any, ago time.Duration) {
		t.Helper()
		i, err := w.srv.store.Invite(t.Context(), code.(string))
		if err != nil {
			t.Fatal(err)
		}
		i.CreatedAt = textchat.Time{Time: time.Now().Add(-ago)}
		if err := w.srv.store.Save(t.Context(), i.Guild, []textchat.Change{{PutInvite: &i}}); err != nil {
			t.Fatal(err)
		}
	}
	listed := func(code any) bool {
		t.Helper()
		return slices.ContainsFunc(w.do("GET", invites, boss.token, nil).list(t), func(i map[string]any) bool { return i["code"] == code })
	}
	over := func(code any) {
		t.Helper()
		for _, r := range []answer{
			w.try("GET", "/invites/"+code.(string), "", nil), w.try("POST", "/invites/"+code.(string), ann, nil), w.try("DELETE", "/invites/"+code.(string), boss.token, nil),
			w.try("POST", "/auth/guest", "", map[string]any{"invite": code, "nickname": "x"}),
		} {
			if r.status != 404 || r.body["code"] != 10006.0 {
				t.Errorf("it is over: %d %s", r.status, r.raw)
			}
		}
		if listed(code) {
			t.Error("it is over, and listed")
		}
	}

	day := create(map[string]any{})
	made, errMade := time.Parse(time.RFC3339Nano, day["created_at"].(string))
	ends, errEnds := time.Parse(time.RFC3339Nano, day["expires_at"].(string))
	if day["max_age"] != 86400.0 || errMade != nil || errEnds != nil || ends.Sub(made) != 24*time.Hour {
		t.Errorf("an invite of a day is %v", day)
	}
	if again := create(map[string]any{}); again["code"] != day["code"] {
		t.Error("a like invite that is fresh is not given again")
	}
	old(day["code"], 13*time.Hour)
	if again := create(map[string]any{}); again["code"] == day["code"] {
		t.Error("one is given for a new one of which less than half is left")
	}
	old(day["code"], 24*time.Hour-time.Minute)
	w.do("GET", "/invites/"+day["code"].(string), "", nil)
	if !listed(day["code"]) {
		t.Error("it lives, and is not listed")
	}
	old(day["code"], 24*time.Hour+time.Second)
	over(day["code"])

	twice := create(map[string]any{"max_uses": 2, "max_age": 0})
	if twice["expires_at"] != nil || twice["uses"] != 0.0 || twice["max_uses"] != 2.0 {
		t.Errorf("an invite for two is %v", twice)
	}
	w.do("POST", "/invites/"+twice["code"].(string), boss.token, nil) // a member's is no use
	for _, name := range []string{"bob", "cat"} {
		w.do("POST", "/auth/guest", "", map[string]any{"invite": twice["code"], "nickname": name})
	}
	over(twice["code"])
	for _, form := range []map[string]any{{"max_age": -1}, {"max_age": 604801}, {"max_uses": -1}, {"max_uses": 101}} {
		if r := w.try("POST", invites, boss.token, form); r.status != 400 || r.body["code"] != 50035.0 {
			t.Errorf("%v: %d %s", form, r.status, r.raw)
		}
	}
}

func TestBotsAndOperator(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	for _, a := range []answer{
		w.do("POST", "/guilds/"+w.guildID()+"/bots", boss.token, map[string]any{"name": "Beep"}),
		w.do("POST", "/api/admin/bots", "Bearer let-me-in", map[string]any{"name": "Boop", "guild_id": w.guildID()}),
		w.do("POST", "/api/v10/admin/bots", "Bearer let-me-in", map[string]any{"name": "Boop"}),
	} {
		tok := "Bot " + a.body["token"].(string)
		u := a.body["user"].(map[string]any)
		if u["bot"] != true {
			t.Fatalf("bot: %s", a.raw)
		}
		if g := w.do("GET", "/gateway/bot", tok, nil); g.body["url"] != "ws"+strings.TrimPrefix(w.http.URL, "http")+"/gateway" ||
			g.body["session_start_limit"].(map[string]any)["remaining"].(float64) < 1 {
			t.Fatalf("gateway: %s", g.raw)
		}
		if app := w.do("GET", "/oauth2/applications/@me", tok, nil); app.body["id"] != u["id"] {
			t.Fatalf("application: %s", app.raw)
		}
		s := w.dial("/?v=10&encoding=json") // discordgo puts a slash in
		s.next()
		s.send(2, identify(tok, 1<<0|1<<7))
		ready := s.event("READY")
		if ready["application"].(map[string]any)["id"] != u["id"] || len(ready["guilds"].([]any)) != 1 || ready["resume_gateway_url"] == "" {
			t.Fatalf("ready: %v", ready)
		}
		g := s.event("GUILD_CREATE")
		own := false
		for _, m := range g["members"].([]any) {
			own = own || m.(map[string]any)["user"].(map[string]any)["id"] == u["id"]
		}
		if !own || g["unavailable"] != false {
			t.Fatalf("guild without the bot's own member: %v", g["members"])
		}
	}
	reset := w.do("POST", "/api/admin/reset-password", "Bearer let-me-in", map[string]any{"username": "Boss"})
	if r := w.try("GET", "/users/@me", boss.token, nil); r.status != 401 {
		t.Fatalf("the old token: %d", r.status)
	}
	w.do("POST", "/auth/login", "", map[string]any{"username": "boss", "password": reset.body["password"]})
	if r := w.try("POST", "/api/admin/reset-password", "Bearer let-me-in", map[string]any{"username": "nobody"}); r.status != 400 {
		t.Fatalf("unknown: %d", r.status)
	}
	for path, want := range map[string]string{"/api/admin/users": `"boss"`, "/api/admin/guilds": `"Voicefleet"`, "/api/admin/guilds/" + w.guildID() + "/invites": w.first.Invite} {
		if a := w.do("GET", path, "Bearer let-me-in", nil); !strings.Contains(string(a.raw), want) {
			t.Errorf("%s: %s", path, a.raw)
		}
	}
}

func TestRateLimits(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits, c.Metrics = Limits{Guests: 3, Logins: 2, Invites: 1000}, reg }, nil)
	var last answer
	for range 4 {
		last = w.try("POST", "/auth/guest", "", map[string]any{"invite": w.first.Invite, "nickname": "x"})
	}
	h := last.header
	if last.status != 429 || last.body["retry_after"] == nil || last.body["global"] != false || h.Get("X-RateLimit-Scope") != "user" {
		t.Fatalf("%d %s %v", last.status, last.raw, h)
	}
	for name, form := range map[string]string{"Retry-After": `^\d+$`, "X-RateLimit-Limit": `^3$`, "X-RateLimit-Remaining": `^0$`,
		"X-RateLimit-Reset": `^\d+\.\d+$`, "X-RateLimit-Reset-After": `^\d+\.\d+$`, "X-RateLimit-Bucket": `^[0-9a-f]+$`, "Via": `.`} {
		if !regexp.MustCompile(form).MatchString(h.Get(name)) {
			t.Errorf("%s is %q", name, h.Get(name))
		}
	}
	for i, want := range []int{401, 401, 429} {
		if r := w.try("POST", "/auth/login", "", map[string]any{"username": "x", "password": "y"}); r.status != want {
			t.Errorf("login %d: %d", i, r.status)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
	}
	for _, n := range []string{"voicefleet_rest_requests_total", "voicefleet_rest_limited_total", "voicefleet_gateway_connections", "voicefleet_gateway_guilds"} {
		if !seen[n] {
			t.Errorf("no metric %s", n)
		}
	}
}

func TestClientAddr(t *testing.T) {
	s := &Server{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}
	for _, c := range []struct {
		peer string
		xff  []string
		want string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"198.51.100.9"}, "192.0.2.1"}, // not trusted: it may say what it likes
		{"10.0.0.1:5", []string{"198.51.100.9"}, "198.51.100.9"},
		{"10.0.0.1:5", []string{"1.1.1.1, 198.51.100.9, 10.0.0.2"}, "198.51.100.9"}, // what the client put in first is not believed
		{"10.0.0.1:5", []string{"1.1.1.1", "198.51.100.9"}, "198.51.100.9"},
		{"10.0.0.1:5", []string{"nonsense"}, "10.0.0.1"},
		{"[::ffff:192.0.2.1]:5", nil, "192.0.2.1"},
		{"[::1]:5", []string{"2001:db8::7"}, "2001:db8::7"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.xff}}
		if got := s.clientAddr(r).String(); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.peer, c.xff, got, c.want)
		}
	}
	if k := prefixKey(netip.MustParseAddr("2001:db8:1:2:3::7")); k != "2001:db8:1:2::/64" {
		t.Errorf("prefix %s", k)
	}
}

func TestPage(t *testing.T) {
	page := fstest.MapFS{"index.html": {Data: []byte("<!doctype html>page")}, "assets/a-123.js": {Data: []byte("js")}}
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Page = page }, nil)
	for _, c := range []struct {
		path, want, cache string
		status            int
	}{
		{"/", "page", "no-cache", 200},
		{"/invite/abc", "page", "no-cache", 200},
		{"/owner/abc", "page", "no-cache", 200},
		{"/channels/1/2", "page", "no-cache", 200},
		{"/assets/a-123.js", "js", "public, max-age=31536000, immutable", 200},
		{"/assets/missing.js", "", "", 404},
		{"/favicon.ico", "", "", 404},
		{"/../../etc/passwd", "", "no-cache", 200}, // a place within the page, like any other
		{"/api/nowhere", "404", "no-store", 404},
	} {
		resp, err := w.http.Client().Get(w.http.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(b), c.want) || c.cache != "" && resp.Header.Get("Cache-Control") != c.cache {
			t.Errorf("%s: %d %q %q", c.path, resp.StatusCode, b, resp.Header.Get("Cache-Control"))
		}
		if !strings.HasPrefix(c.path, "/api") {
			csp := resp.Header.Get("Content-Security-Policy")
			if strings.Contains(csp, "unsafe-inline") || !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(resp.Header.Get("Permissions-Policy"), "microphone=(self)") {
				t.Errorf("%s: %v", c.path, resp.Header)
			}
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s allows foreign origins", c.path)
		}
	}
}

func TestStoppedServerRefuses(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	s := w.enter(ann)
	h := w.srv.Handler()
	w.end()
	if f := s.next(); f.Op != 7 {
		t.Errorf("told op %d %s, not to reconnect", f.Op, f.T)
	}
	if c := s.closeCode(); c != uint16(textchat.CloseGoingAway) {
		t.Errorf("closed with %d", c)
	}
	_ = h
	if err := w.srv.Run(context.Background()); err == nil {
		t.Error("Run ran twice")
	}
}
