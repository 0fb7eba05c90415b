package chatserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"voicefleet/textchat"
)

// list reads an answer that is an array.
func (a answer) list(t *testing.T) []map[string]any {
	t.Helper()
	var l []map[string]any
	if err := json.Unmarshal(a.raw, &l); err != nil {
		t.Fatalf("%v: %s", err, a.raw)
	}
	return l
}

// field finds what stands at a dotted path of an object; a number is a place in
// a list.
func field(v any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i := -1
			if _, err := fmt.Sscan(part, &i); err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// quiet fails the test when an event came before the answer to a heartbeat.
func (s *socket) quiet() {
	s.t.Helper()
	s.send(1, nil)
	if f := s.next(); f.Op != 11 {
		s.t.Fatalf("heard %s %s", f.T, f.D)
	}
}

func TestMessageQueries(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	var ids []string
	for i := range 9 {
		ids = append(ids, w.do("POST", path, ann.token, map[string]any{"content": fmt.Sprint(i)}).body["id"].(string))
	}
	for _, c := range []struct {
		query string
		want  []int
	}{
		{"", []int{8, 7, 6, 5, 4, 3, 2, 1, 0}}, {"?limit=2", []int{8, 7}}, {"?limit=2&before=" + ids[4], []int{3, 2}},
		{"?limit=2&after=" + ids[4], []int{6, 5}}, {"?limit=3&around=" + ids[4], []int{5, 4, 3}}, {"?after=0&limit=2", []int{1, 0}},
		{"?before=" + ids[0], nil}, {"?after=" + ids[8], nil}, {"?around=" + ids[0] + "&limit=1", []int{0}},
	} {
		var got []int
		for _, m := range w.do("GET", path+c.query, ann.token, nil).list(t) {
			n := -1
			_, _ = fmt.Sscan(m["content"].(string), &n)
			got = append(got, n)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.query, got, c.want)
		}
	}
	if r := w.try("GET", path+"?before=1&after=2", ann.token, nil); r.status != 400 || field(r.body, "errors.before") == nil {
		t.Errorf("two bounds: %d %s", r.status, r.raw)
	}
}

func TestMessageFormsNameTheField(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	embed := func(v map[string]any) map[string]any { return map[string]any{"embeds": []any{v}} }
	long := func(n int) string { return strings.Repeat("ä", n) }
	many := func(n int, v any) []any { return slices.Repeat([]any{v}, n) }
	for _, c := range []struct {
		body  any
		field string
	}{
		{map[string]any{"content": long(2001)}, "content"},
		{map[string]any{"content": 7}, "content"},
		{map[string]any{"content": []string{"x"}}, "content"},
		{map[string]any{"content": "x", "nonce": []int{1}}, "nonce"},
		{map[string]any{"content": "x", "tts": "yes"}, "tts"},
		{map[string]any{"content": "x", "message_reference": map[string]any{"message_id": []string{"1"}}}, "message_reference.message_id"},
		{map[string]any{"content": "x", "message_reference": map[string]any{"message_id": "x"}}, "message_reference.message_id"},
		{map[string]any{"content": "x", "message_reference": map[string]any{"message_id": "1", "type": 1}}, "message_reference.type"},
		{map[string]any{"content": "x", "sticker_ids": []string{"1"}}, "sticker_ids"},
		{map[string]any{"content": "x", "components": []any{map[string]any{"type": 1}}}, "components"},
		{map[string]any{"content": "x", "poll": map[string]any{}}, "poll"},
		{map[string]any{"content": "x", "attachments": []any{map[string]any{"id": 0}}}, "attachments.0.id"},
		{map[string]any{"content": "x", "allowed_mentions": map[string]any{"parse": []string{"users", "all"}}}, "allowed_mentions.parse.1"},
		{map[string]any{"content": "x", "allowed_mentions": map[string]any{"users": many(101, "1")}}, "allowed_mentions.users"},
		{map[string]any{"content": "x", "allowed_mentions": map[string]any{"parse": []string{"roles"}, "roles": []string{"1"}}}, "allowed_mentions.roles"},
		{map[string]any{"embeds": many(11, map[string]any{"title": "x"})}, "embeds"},
		{embed(map[string]any{}), "embeds.0"},
		{embed(map[string]any{"title": long(257)}), "embeds.0.title"},
		{embed(map[string]any{"description": long(4097)}), "embeds.0.description"},
		{embed(map[string]any{"fields": many(26, map[string]any{"name": "a", "value": "b"})}), "embeds.0.fields"},
		{embed(map[string]any{"fields": []any{map[string]any{"name": "a", "value": " "}}}), "embeds.0.fields.0.value"},
		{embed(map[string]any{"fields": []any{map[string]any{"name": long(257), "value": "b"}}}), "embeds.0.fields.0.name"},
		{embed(map[string]any{"footer": map[string]any{"text": long(2049)}}), "embeds.0.footer.text"},
		{embed(map[string]any{"author": map[string]any{"name": ""}}), "embeds.0.author.name"},
		{embed(map[string]any{"title": "x", "url": "javascript:alert(1)"}), "embeds.0.url"},
		{embed(map[string]any{"title": "x", "url": "attachment://x.png"}), "embeds.0.url"},
		{embed(map[string]any{"image": map[string]any{"url": "data:text/html,x"}}), "embeds.0.image.url"},
		{embed(map[string]any{"title": "x", "color": 1 << 24}), "embeds.0.color"},
		{map[string]any{"embeds": many(2, map[string]any{"description": long(3001)})}, "embeds.1"},
		{embed(map[string]any{"title": 5}), "embeds.0.title"},
		{map[string]any{"embeds": []any{map[string]any{"title": "x"}, map[string]any{"fields": []any{map[string]any{"name": "a", "value": "b"}, map[string]any{"name": 7}}}}}, "embeds.1.fields.1.name"},
		{map[string]any{"embeds": map[string]any{}}, "embeds"},
		{map[string]any{"embeds": []any{7}}, "embeds.0"},
		{map[string]any{"content": "x", "allowed_mentions": map[string]any{"users": []any{"1", "x"}}}, "allowed_mentions.users.1"},
		{map[string]any{"content": "x", "attachments": []any{map[string]any{"id": 0, "description": []any{}}}}, "attachments.0.description"},
		{map[string]any{"CONTENT": 5}, "content"},
	} {
		r := w.try("POST", path, ann.token, c.body)
		if r.status != 400 || r.body["code"] != 50035.0 || field(r.body, "errors."+c.field+"._errors") == nil {
			t.Errorf("want %s: %d %.300s", c.field, r.status, r.raw)
		}
	}
	// What fits is kept as it came, less what is unknown.
	r := w.do("POST", path, ann.token, map[string]any{"embeds": []any{map[string]any{"title": " T ", "type": "video", "html": "<b>", "color": 0xffffff,
		"timestamp": "2026-01-02T03:04:05Z", "image": map[string]any{"url": "https://example.com/a.png"}, "fields": []any{map[string]any{"name": "a", "value": "b", "inline": true}}}}})
	if e := field(r.body, "embeds.0").(map[string]any); e["title"] != "T" || e["type"] != "rich" || e["html"] != nil || field(e, "fields.0.inline") != true ||
		e["timestamp"] != "2026-01-02T03:04:05.000000+00:00" {
		t.Errorf("embed %v", e)
	}
}

func TestMentions(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	role := func(mentionable bool) string {
		return w.do("POST", "/guilds/"+w.guildID()+"/roles", boss.token, map[string]any{"name": "r", "mentionable": mentionable}).body["id"].(string)
	}
	open, closed := role(true), role(false)
	flood := strings.Repeat("<@1>", 400)
	for _, c := range []struct {
		who             person
		body            map[string]any
		everyone        bool
		users, roleList int
	}{
		{ann, map[string]any{"content": "<@" + bob.id + "> <@!" + ann.id + "> <@999> <@" + bob.id + ">"}, false, 2, 0},
		{ann, map[string]any{"content": "@everyone <@&" + open + "> <@&" + closed + ">"}, false, 0, 1},
		{boss, map[string]any{"content": "@here <@&" + open + "> <@&" + closed + ">"}, true, 0, 2},
		{boss, map[string]any{"content": "@everyone <@" + bob.id + "> <@&" + open + ">", "allowed_mentions": map[string]any{"parse": []string{}}}, false, 0, 0},
		{boss, map[string]any{"content": "<@" + bob.id + "> <@" + ann.id + ">", "allowed_mentions": map[string]any{"users": []string{bob.id}}}, false, 1, 0},
		{boss, map[string]any{"content": "@everyone <@&" + open + ">", "allowed_mentions": map[string]any{"parse": []string{"roles", "everyone"}}}, true, 0, 1},
		{ann, map[string]any{"content": flood + "<@" + bob.id + ">"}, false, 1, 0}, // one id many times is one
		{ann, map[string]any{"content": strings.Repeat("<@", 900) + "<@" + bob.id}, false, 0, 0},
	} {
		m := w.do("POST", path, c.who.token, c.body).body
		if m["mention_everyone"] != c.everyone || len(m["mentions"].([]any)) != c.users || len(m["mention_roles"].([]any)) != c.roleList {
			t.Errorf("%.80v: everyone %v, users %v, roles %v", c.body, m["mention_everyone"], m["mentions"], m["mention_roles"])
		}
	}
	// No message calls more than MaxMentions.
	var crowd strings.Builder
	for i := range 3 * textchat.MaxMentions {
		fmt.Fprintf(&crowd, "<@%d>", i+1)
	}
	if users, _ := mentioned(crowd.String()); len(users) != textchat.MaxMentions {
		t.Errorf("%d users are called", len(users))
	}
	// A reply calls its author, unless told not to.
	id := w.do("POST", path, ann.token, map[string]any{"content": "q"}).body["id"]
	reply := map[string]any{"content": "a", "message_reference": map[string]any{"message_id": id}}
	r := w.do("POST", path, bob.token, reply).body
	if len(r["mentions"].([]any)) != 1 || field(r, "referenced_message.content") != "q" || field(r, "message_reference.guild_id") != w.guildID() {
		t.Errorf("reply: %v", r)
	}
	reply["allowed_mentions"] = map[string]any{"parse": []string{"users"}, "replied_user": false}
	if r := w.do("POST", path, bob.token, reply).body; len(r["mentions"].([]any)) != 0 {
		t.Errorf("silent reply: %v", r["mentions"])
	}
}

func TestEditAndBulkDelete(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	b := w.enter(bob)
	id := w.do("POST", path, ann.token, map[string]any{"content": "x", "embeds": []any{map[string]any{"title": "t"}}}).body["id"].(string)
	b.event("MESSAGE_CREATE")
	m := w.do("PATCH", path+"/"+id, ann.token, map[string]any{"content": nil}).body
	if m["content"] != "" || len(m["embeds"].([]any)) != 1 || m["edited_timestamp"] == nil {
		t.Fatalf("content taken away: %v", m)
	}
	b.event("MESSAGE_UPDATE")
	if r := w.try("PATCH", path+"/"+id, ann.token, map[string]any{"embeds": []any{}}); r.status != 400 || r.body["code"] != 50006.0 {
		t.Fatalf("nothing left: %d %s", r.status, r.raw)
	}
	// Whoever manages messages hides the embeds of others, and no more.
	if r := w.try("PATCH", path+"/"+id, boss.token, map[string]any{"content": "mine"}); r.status != 403 || r.body["code"] != 50005.0 {
		t.Fatalf("edit by the boss: %d %s", r.status, r.raw)
	}
	if m := w.do("PATCH", path+"/"+id, boss.token, map[string]any{"flags": 4}).body; m["flags"] != 4.0 {
		t.Fatalf("hidden embeds: %v", m)
	}
	b.event("MESSAGE_UPDATE")
	second := w.do("POST", path, ann.token, map[string]any{"content": "y"}).body["id"].(string)
	b.event("MESSAGE_CREATE")
	for _, c := range []struct {
		who  person
		list any
		code float64
	}{
		{ann, []string{id, second}, 50013}, {boss, []string{id}, 50016}, {boss, slices.Repeat([]string{id}, 101), 50016},
		{boss, []string{id, "1"}, 50034}, {boss, []string{id, "x"}, 50035}, {boss, "x", 50035},
	} {
		if r := w.try("POST", path+"/bulk-delete", c.who.token, map[string]any{"messages": c.list}); r.body["code"] != c.code {
			t.Errorf("%.40v: %d %s", c.list, r.status, r.raw)
		}
		waitASecond(w)
	}
	var number json.Number = json.Number(second) // ids may be numbers
	if r := w.do("POST", path+"/bulk-delete", boss.token, map[string]any{"messages": []any{id, number}}); r.status != 204 {
		t.Fatalf("bulk delete: %d", r.status)
	}
	if e := b.event("MESSAGE_DELETE_BULK"); len(e["ids"].([]any)) != 2 || e["channel_id"] != general || e["guild_id"] != w.guildID() {
		t.Fatalf("event %v", e)
	}
	if l := w.do("GET", path, ann.token, nil).list(t); len(l) != 0 {
		t.Fatalf("left: %v", l)
	}
}

// waitASecond lets the windows of a second end, for routes of one request each.
func waitASecond(w *world) { w.srv.rates.Forget() }

func TestSlowmode(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	w.do("PATCH", "/channels/"+general, boss.token, map[string]any{"rate_limit_per_user": 21600})
	if r := w.try("POST", path, ann.token, map[string]any{"content": ""}); r.status != 400 {
		t.Fatalf("empty: %d", r.status)
	}
	w.do("POST", path, ann.token, map[string]any{"content": "1"}) // what was refused did not count
	r := w.try("POST", path, ann.token, map[string]any{"content": "2"})
	if r.status != 429 || r.body["code"] != 20016.0 || r.body["retry_after"].(float64) < 21500 || r.header.Get("Retry-After") == "" {
		t.Fatalf("slow mode: %d %s", r.status, r.raw)
	}
	w.do("POST", path, boss.token, map[string]any{"content": "1"})
	w.do("POST", path, boss.token, map[string]any{"content": "2"})
}

// TestSlowmodeAgain: slow mode does not keep from sending again what was not stored, nor
// what was stored and did not hear so.
func TestSlowmodeAgain(t *testing.T) {
	store := &busyOnce{}
	w := newWorldOver(t, func(embedded textchat.Store) textchat.Store { store.Store = embedded; return store })
	boss, ann := w.boss(), w.guest("Ann")
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	w.do("PATCH", "/channels/"+general, boss.token, map[string]any{"rate_limit_per_user": 21600})
	store.full.Store(true)
	if r := w.try("POST", path, ann.token, map[string]any{"content": "1", "nonce": "a"}); r.status != 503 {
		t.Fatalf("busy: %d %s", r.status, r.raw)
	}
	id := w.do("POST", path, ann.token, map[string]any{"content": "1", "nonce": "a"}).body["id"]
	if again := w.do("POST", path, ann.token, map[string]any{"content": "1", "nonce": "a"}).body["id"]; again != id {
		t.Errorf("sent again: message %v, before %v", again, id)
	}
	for _, other := range []map[string]any{{"content": "2", "nonce": "b"}, {"content": "2", "nonce": "b"}, {"content": "2"}} {
		if r := w.try("POST", path, ann.token, other); r.status != 429 || r.body["code"] != 20016.0 {
			t.Errorf("%v: %d %s", other, r.status, r.raw)
		}
	}
}

// TestSlowmodeOfAll: who wrote by way of one instance waits at the others, too, and is
// known there by the nonce.
func TestSlowmodeOfAll(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 3)
	w := all.worlds
	boss, ann := w[0].boss(), w[1].guest("ann")
	sockets := []*socket{w[0].enter(boss), w[1].enter(boss), w[2].enter(boss)}
	general := w[0].channelID(boss, "general")
	path := "/channels/" + general + "/messages"
	w[0].do("PATCH", "/channels/"+general, boss.token, map[string]any{"rate_limit_per_user": 21600})
	for _, s := range sockets {
		s.until("CHANNEL_UPDATE")
	}
	id := w[1].do("POST", path, ann.token, map[string]any{"content": "1", "nonce": "a"}).body["id"]
	for i, s := range sockets {
		s.until("MESSAGE_CREATE")
		if r := w[i].try("POST", path, ann.token, map[string]any{"content": "2", "nonce": "b"}); r.status != 429 || r.body["code"] != 20016.0 || r.body["retry_after"].(float64) < 21500 {
			t.Errorf("at instance %d: %d %s", i, r.status, r.raw)
		}
		if again := w[i].do("POST", path, ann.token, map[string]any{"content": "1", "nonce": "a"}).body["id"]; again != id {
			t.Errorf("sent again at instance %d: message %v, before %v", i, again, id)
		}
		w[i].do("POST", path, boss.token, map[string]any{"content": "who moderates does not wait"})
	}
}

func TestReactions(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	id := w.do("POST", path, ann.token, map[string]any{"content": "x"}).body["id"].(string)
	b := w.enter(bob)
	at := path + "/" + id + "/reactions"
	const thumb, heart = "%F0%9F%91%8D", "%E2%9D%A4%EF%B8%8F"
	if r := w.do("PUT", at+"/"+thumb+"/@me", ann.token, nil); r.status != 204 {
		t.Fatalf("react: %d", r.status)
	}
	w.do("PUT", at+"/"+thumb+"/@me", ann.token, nil) // again: nothing
	e := b.event("MESSAGE_REACTION_ADD")
	if e["user_id"] != ann.id || e["message_id"] != id || e["guild_id"] != w.guildID() || field(e, "emoji.name") != "👍" || field(e, "emoji.id") != nil ||
		field(e, "member.user.id") != ann.id || e["burst"] != false || e["type"] != 0.0 || e["message_author_id"] != ann.id {
		t.Fatalf("event %v", e)
	}
	w.do("PUT", at+"/"+thumb+"/@me", bob.token, nil)
	b.event("MESSAGE_REACTION_ADD")
	w.do("PUT", at+"/"+heart+"/@me", bob.token, nil)
	b.event("MESSAGE_REACTION_ADD")
	m := w.do("GET", path+"/"+id, ann.token, nil).body
	if field(m, "reactions.0.count") != 2.0 || field(m, "reactions.0.me") != true || field(m, "reactions.1.emoji.name") != "❤️" || field(m, "reactions.1.me") != false {
		t.Fatalf("reactions %v", m["reactions"])
	}
	if l := w.do("GET", at+"/"+thumb+"?limit=1&after="+ann.id, ann.token, nil).list(t); len(l) != 1 || l[0]["id"] != bob.id {
		t.Fatalf("who: %v", l)
	}
	if l := w.do("GET", at+"/"+thumb+"?type=1", ann.token, nil).list(t); len(l) != 0 {
		t.Fatalf("bursts: %v", l)
	}
	waitASecond(w)
	for _, bad := range []string{"a", "party:123", "%2e%2e", "%F0%9F%91%8Dx", "%ff"} {
		if r := w.try("PUT", at+"/"+bad+"/@me", ann.token, nil); r.status != 400 && r.status != 404 {
			t.Errorf("emoji %q: %d %s", bad, r.status, r.raw)
		}
		waitASecond(w)
	}
	if r := w.try("DELETE", at+"/"+thumb+"/"+bob.id, ann.token, nil); r.status != 403 {
		t.Fatalf("ann takes bob's away: %d", r.status)
	}
	w.do("DELETE", at+"/"+thumb+"/@me", ann.token, nil)
	if e := b.event("MESSAGE_REACTION_REMOVE"); e["user_id"] != ann.id {
		t.Fatalf("event %v", e)
	}
	w.do("DELETE", at+"/"+thumb, boss.token, nil)
	if e := b.event("MESSAGE_REACTION_REMOVE_EMOJI"); field(e, "emoji.name") != "👍" || e["user_id"] != nil {
		t.Fatalf("event %v", e)
	}
	w.do("DELETE", at, boss.token, nil)
	if e := b.event("MESSAGE_REACTION_REMOVE_ALL"); e["emoji"] != nil {
		t.Fatalf("event %v", e)
	}
	w.do("DELETE", at, boss.token, nil)
	b.quiet()
	// Without AddReactions only what is there can be joined.
	w.do("PUT", at+"/"+heart+"/@me", boss.token, nil)
	b.event("MESSAGE_REACTION_ADD")
	w.do("PUT", "/channels/"+general+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": "64"})
	waitASecond(w)
	if r := w.try("PUT", at+"/"+thumb+"/@me", ann.token, nil); r.status != 403 {
		t.Fatalf("new emoji: %d", r.status)
	}
	w.do("PUT", at+"/"+heart+"/@me", ann.token, nil)
	// The twenty-first emoji is refused.
	for i := range 20 {
		waitASecond(w)
		r := w.try("PUT", at+"/"+fmt.Sprintf("%%F0%%9F%%90%%%02X", 0x80+i)+"/@me", boss.token, nil)
		if want := map[bool]int{true: 204, false: 400}[i < 19]; r.status != want {
			t.Fatalf("emoji %d: %d %s", i, r.status, r.raw)
		}
	}
}

func TestPins(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	general := w.channelID(ann, "general")
	path := "/channels/" + general
	var ids []string
	for range 3 {
		ids = append(ids, w.do("POST", path+"/messages", ann.token, map[string]any{"content": "x"}).body["id"].(string))
	}
	a := w.enter(ann)
	if r := w.try("PUT", path+"/pins/"+ids[0], ann.token, nil); r.status != 403 {
		t.Fatalf("ann pins: %d", r.status)
	}
	// Both forms do the same.
	w.do("PUT", path+"/pins/"+ids[0], boss.token, nil)
	e := a.event("CHANNEL_PINS_UPDATE")
	if e["channel_id"] != general || e["guild_id"] != w.guildID() || e["last_pin_timestamp"] == nil {
		t.Fatalf("event %v", e)
	}
	if e := a.event("MESSAGE_UPDATE"); e["pinned"] != true {
		t.Fatalf("event %v", e)
	}
	note := a.event("MESSAGE_CREATE")
	if note["type"] != 6.0 || field(note, "message_reference.message_id") != ids[0] {
		t.Fatalf("announced as %v", note)
	}
	if r := w.try("PUT", path+"/pins/"+note["id"].(string), boss.token, nil); r.status != 403 || r.body["code"] != 50021.0 {
		t.Fatalf("pin of the announcement: %d %s", r.status, r.raw)
	}
	waitASecond(w)
	w.do("PUT", path+"/messages/pins/"+ids[1], boss.token, nil)
	w.do("PUT", path+"/messages/pins/"+ids[1], boss.token, nil) // again: nothing
	a.event("CHANNEL_PINS_UPDATE")
	a.event("MESSAGE_UPDATE")
	a.event("MESSAGE_CREATE")
	a.quiet()
	if l := w.do("GET", path+"/pins", ann.token, nil).list(t); len(l) != 2 || l[0]["id"] != ids[1] || l[0]["pinned"] != true {
		t.Fatalf("old list: %v", l)
	}
	page := w.do("GET", path+"/messages/pins?limit=1", ann.token, nil).body
	if page["has_more"] != true || field(page, "items.0.message.id") != ids[1] {
		t.Fatalf("new list: %v", page)
	}
	before := strings.ReplaceAll(field(page, "items.0.pinned_at").(string), "+", "%2B")
	page = w.do("GET", path+"/messages/pins?limit=1&before="+before, ann.token, nil).body
	if page["has_more"] != false || field(page, "items.0.message.id") != ids[0] {
		t.Fatalf("its second page: %v", page)
	}
	if r := w.try("GET", path+"/messages/pins?before=yesterday", ann.token, nil); r.status != 400 || field(r.body, "errors.before") == nil {
		t.Fatalf("bad time: %d %s", r.status, r.raw)
	}
	waitASecond(w)
	w.do("DELETE", path+"/messages/pins/"+ids[1], boss.token, nil)
	a.event("CHANNEL_PINS_UPDATE")
	if e := a.event("MESSAGE_UPDATE"); e["pinned"] != false {
		t.Fatalf("event %v", e)
	}
	w.do("DELETE", path+"/pins/"+ids[0], boss.token, nil)
	if e := a.event("CHANNEL_PINS_UPDATE"); e["last_pin_timestamp"] != nil {
		t.Fatalf("event %v", e)
	}
	if r := w.try("DELETE", path+"/messages/"+ids[0]+"/nothing", boss.token, nil); r.status != http.StatusNotFound {
		t.Fatalf("unknown route: %d", r.status)
	}
}

// TestBodiesOfLibraries are bodies as bot libraries were seen to send them.
func TestBodiesOfLibraries(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Messages = 1e6 }, nil)
	ann := w.guest("Ann")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	first := w.do("POST", path, ann.token, map[string]any{"content": "x"}).body["id"].(string)
	for name, body := range map[string]string{
		"discordgo":    `{"content":"x","embeds":null,"tts":false,"components":null,"sticker_ids":null,"flags":0}`,
		"discordgo/re": `{"content":"x","embeds":null,"tts":false,"components":null,"sticker_ids":null,"message_reference":{"message_id":"` + first + `","fail_if_not_exists":null}}`,
		"discord.py":   `{"content":"x","tts":false,"nonce":"71f1ab3bd94a9d5ac4a85a8c","enforce_nonce":true}`,
		"numbers":      `{"content":"x","nonce":1573649490689130497,"message_reference":{"message_id":` + first + `}}`,
		"disgo":        `{"content":"x","allowed_mentions":{"parse":["roles","users","everyone"],"roles":[],"users":[],"replied_user":true}}`,
		"discord.js":   `{"content":"x","tts":false,"nonce":null,"enforce_nonce":false,"flags":null,"poll":null,"attachments":[]}`,
	} {
		if r := w.try("POST", path, ann.token, body); r.status != 200 || r.body["content"] != "x" {
			t.Errorf("%s: %d %s", name, r.status, r.raw)
		}
	}
	for name, body := range map[string]string{
		"discordgo":  `{"content":"y","embeds":null,"components":null,"allowed_mentions":null,"ID":"1","Channel":"2"}`,
		"discord.py": `{"content":"z","attachments":[],"embeds":[],"components":[]}`,
	} {
		if r := w.try("PATCH", path+"/"+first, ann.token, body); r.status != 200 {
			t.Errorf("edit by %s: %d %s", name, r.status, r.raw)
		}
	}
	// What discord.py sends with a file: numeric ids, a form without a body type.
	r := w.upload("POST", path, ann.token, part{"payload_json", "", []byte(`{"content":"f","attachments":[{"id":0,"filename":"a.txt","description":null}]}`)}, part{"files[0]", "a.txt", []byte("x")})
	if r.status != 200 || field(r.body, "attachments.0.filename") != "a.txt" {
		t.Errorf("file: %d %s", r.status, r.raw)
	}
	// A type without a body is no body.
	if r := w.send("POST", strings.TrimSuffix(path, "/messages")+"/typing", ann.token, "application/octet-stream", nil); r.status != 204 || r.header.Get("Content-Type") != "" {
		t.Errorf("typing: %d %v", r.status, r.header)
	}
}
