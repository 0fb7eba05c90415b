package chatserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// with makes a request with a reason for the audit log.
func (w *world) with(reason, method, path, token string, body any) answer {
	w.t.Helper()
	old := w.http.Client().Transport
	w.http.Client().Transport = reasoned{old, reason}
	defer func() { w.http.Client().Transport = old }()
	return w.do(method, path, token, body)
}

type reasoned struct {
	http.RoundTripper
	reason string
}

func (r reasoned) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Set("X-Audit-Log-Reason", r.reason)
	return r.RoundTripper.RoundTrip(req)
}

func TestBans(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	guild := "/guilds/" + w.guildID()
	general := w.channelID(ann, "general")
	w.do("POST", "/channels/"+general+"/messages", bob.token, map[string]any{"content": "spam"})
	a, b, s := w.enter(ann), w.enter(bob), w.enter(boss)
	for _, c := range []struct {
		who    person
		path   string
		body   any
		status int
		code   float64
	}{
		{ann, guild + "/bans/" + bob.id, nil, 403, 50013}, {boss, guild + "/bans/" + boss.id, nil, 403, 50013}, {boss, guild + "/bans/123", nil, 404, 10013},
		{boss, guild + "/bans/x", nil, 404, 10013}, {boss, guild + "/bans/" + bob.id, map[string]any{"delete_message_seconds": 604801}, 400, 50035},
	} {
		if r := w.try("PUT", c.path, c.who.token, c.body); r.status != c.status || r.body["code"] != c.code {
			t.Errorf("%s: %d %s", c.path, r.status, r.raw)
		}
	}
	w.with("sp%C3%A4m", "PUT", guild+"/bans/"+bob.id, boss.token, map[string]any{"delete_message_seconds": 3600})
	b.until("GUILD_DELETE")
	b.send(8, map[string]any{"guild_id": w.guildID(), "user_ids": []any{ann.id}}) // it is told nothing of the guild any more
	b.send(43, map[string]any{"guild_id": w.guildID()})
	b.quiet()
	w.do("PATCH", "/users/@me", bob.token, map[string]any{"global_name": "Bobby"})
	b.event("USER_UPDATE")
	if e := a.until("GUILD_MEMBER_REMOVE"); field(e, "user.id") != bob.id {
		t.Fatalf("event %v", e)
	}
	// Only those who may ban hear of bans.
	if e := s.until("GUILD_BAN_ADD"); e["guild_id"] != w.guildID() || field(e, "user.id") != bob.id {
		t.Fatalf("event %v", e)
	}
	if e := s.until("GUILD_AUDIT_LOG_ENTRY_CREATE"); e["action_type"] != 22.0 || e["target_id"] != bob.id || e["user_id"] != boss.id || e["reason"] != "späm" {
		t.Fatalf("event %v", e)
	}
	if e := a.until("MESSAGE_DELETE_BULK"); e["channel_id"] != general {
		t.Fatalf("event %v", e)
	}
	a.quiet()
	w.do("PUT", guild+"/bans/"+bob.id, boss.token, nil) // again: nothing
	if r := w.try("POST", "/invites/"+w.first.Invite, bob.token, nil); r.status != 403 || r.body["code"] != 40007.0 {
		t.Fatalf("a banned user came back: %d %s", r.status, r.raw)
	}
	if x := w.do("GET", guild+"/bans/"+bob.id, boss.token, nil); x.body["reason"] != "späm" || field(x.body, "user.id") != bob.id {
		t.Fatalf("ban: %s", x.raw)
	}
	if l := w.do("GET", guild+"/bans?limit=10", boss.token, nil).list(t); len(l) != 1 {
		t.Fatalf("bans: %v", l)
	}
	if r := w.try("GET", guild+"/bans", ann.token, nil); r.status != 403 {
		t.Fatalf("ann reads bans: %d", r.status)
	}
	w.do("DELETE", guild+"/bans/"+bob.id, boss.token, nil)
	if e := s.until("GUILD_BAN_REMOVE"); field(e, "user.id") != bob.id {
		t.Fatalf("event %v", e)
	}
	if r := w.try("DELETE", guild+"/bans/"+bob.id, boss.token, nil); r.status != 404 || r.body["code"] != 10026.0 {
		t.Fatalf("lifted twice: %d %s", r.status, r.raw)
	}
	w.do("POST", "/invites/"+w.first.Invite, bob.token, nil)
	r := w.do("POST", guild+"/bulk-ban", boss.token, map[string]any{"user_ids": []string{ann.id, bob.id, boss.id}})
	if len(r.body["banned_users"].([]any)) != 2 || len(r.body["failed_users"].([]any)) != 1 {
		t.Fatalf("bulk ban: %s", r.raw)
	}
}

// TestBanDeletesInThreads: what a banned user wrote lately goes from threads, too, be they
// public, private or archived; what others wrote stays.
func TestBanDeletesInThreads(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, bob := w.boss(), w.guest("Bob")
	general := w.channelID(boss, "general")
	places := []string{general}
	for _, form := range []map[string]any{{"name": "open", "type": 11}, {"name": "ours", "type": 12}, {"name": "old", "type": 11}} {
		places = append(places, w.do("POST", "/channels/"+general+"/threads", bob.token, form).body["id"].(string))
	}
	spam, kept := map[string]string{}, map[string]string{}
	for _, id := range places {
		waitASecond(w)
		spam[id] = w.do("POST", "/channels/"+id+"/messages", bob.token, map[string]any{"content": "spam"}).body["id"].(string)
		kept[id] = w.do("POST", "/channels/"+id+"/messages", boss.token, map[string]any{"content": "no spam"}).body["id"].(string)
	}
	w.do("PATCH", "/channels/"+places[3], boss.token, map[string]any{"archived": true})
	s := w.enter(boss)
	w.do("PUT", "/guilds/"+w.guildID()+"/bans/"+bob.id, boss.token, map[string]any{"delete_message_seconds": 3600})
	for _, id := range places {
		if e := s.until("MESSAGE_DELETE_BULK"); e["channel_id"] != id || !slices.Contains(e["ids"].([]any), any(spam[id])) || slices.Contains(e["ids"].([]any), any(kept[id])) {
			t.Errorf("deleted in %s: %v", id, e)
		}
	}
	for _, id := range places {
		list := w.do("GET", "/channels/"+id+"/messages", boss.token, nil).list(t)
		if !slices.ContainsFunc(list, func(m map[string]any) bool { return m["id"] == kept[id] }) || slices.ContainsFunc(list, func(m map[string]any) bool { return m["id"] == spam[id] }) {
			t.Errorf("in %s there is %v", id, list)
		}
	}
	if a := w.do("GET", "/channels/"+places[3], boss.token, nil); field(a.body, "thread_metadata.archived") != true {
		t.Errorf("the archived thread is %s", a.raw)
	}
}

// TestTimeout: a member that is timed out reads, and no more, until it is over.
func TestTimeout(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	guild := "/guilds/" + w.guildID()
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	until := func(d time.Duration) map[string]any {
		return map[string]any{"communication_disabled_until": time.Now().Add(d).UTC().Format(time.RFC3339Nano)}
	}
	if r := w.try("PATCH", guild+"/members/"+ann.id, bob.token, until(time.Hour)); r.status != 403 {
		t.Fatalf("bob times ann out: %d", r.status)
	}
	if r := w.try("PATCH", guild+"/members/"+boss.id, boss.token, until(time.Hour)); r.status != 403 {
		t.Fatalf("the owner is timed out: %d", r.status)
	}
	if r := w.try("PATCH", guild+"/members/"+ann.id, boss.token, until(29*24*time.Hour)); r.status != 400 || field(r.body, "errors.communication_disabled_until") == nil {
		t.Fatalf("too long: %d %s", r.status, r.raw)
	}
	a := w.enter(ann)
	a.joinVoice(w.guildID(), w.channelID(ann, "Lobby"), false)
	a.until("VOICE_SERVER_UPDATE")
	w.do("PATCH", guild+"/members/"+ann.id, boss.token, until(time.Hour))
	for e := a.until("VOICE_STATE_UPDATE"); e["channel_id"] != nil; e = a.until("VOICE_STATE_UPDATE") {
	}
	if r := w.try("POST", path, ann.token, map[string]any{"content": "x"}); r.status != 403 || r.body["code"] != 50013.0 {
		t.Fatalf("post: %d %s", r.status, r.raw)
	}
	w.do("GET", path, ann.token, nil)
	w.do("PATCH", guild+"/members/"+ann.id, boss.token, map[string]any{"communication_disabled_until": nil})
	w.do("POST", path, ann.token, map[string]any{"content": "x"})
	// One that runs out ends by itself.
	w.do("PATCH", guild+"/members/"+ann.id, boss.token, until(50*time.Millisecond))
	for deadline := time.Now().Add(patience); ; {
		r := w.try("POST", path, ann.token, map[string]any{"content": "x"})
		if r.status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the time-out does not end: %d %s", r.status, r.raw)
		}
	}
}

func TestAuditLog(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	guild := "/guilds/" + w.guildID()
	general := w.channelID(ann, "general")
	s, a := w.enter(boss), w.enter(ann)
	role := w.with("for%20order", "POST", guild+"/roles", boss.token, map[string]any{"name": "mods"}).body["id"].(string)
	if e := s.until("GUILD_AUDIT_LOG_ENTRY_CREATE"); e["guild_id"] != w.guildID() || e["action_type"] != 30.0 || e["reason"] != "for order" {
		t.Fatalf("event %v", e)
	}
	w.do("PATCH", guild+"/roles/"+role, boss.token, map[string]any{"name": "crew"})
	w.do("PATCH", guild+"/roles/"+role, boss.token, map[string]any{"name": "crew"}) // nothing changed: no entry
	w.do("PUT", guild+"/members/"+ann.id+"/roles/"+role, boss.token, nil)
	w.do("PATCH", guild+"/members/"+ann.id, boss.token, map[string]any{"nick": "A"})
	w.do("PATCH", "/channels/"+general, boss.token, map[string]any{"topic": "t"})
	w.do("PUT", "/channels/"+general+"/permissions/"+role, boss.token, map[string]any{"type": 0, "allow": "1024"})
	w.do("DELETE", "/channels/"+general+"/permissions/"+role, boss.token, nil)
	m := w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "x"}).body["id"].(string)
	w.do("PUT", "/channels/"+general+"/pins/"+m, boss.token, nil)
	w.do("DELETE", "/channels/"+general+"/messages/"+m, boss.token, nil)
	own := w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "x"}).body["id"].(string)
	w.do("DELETE", "/channels/"+general+"/messages/"+own, ann.token, nil) // one's own: no entry
	hook := w.do("POST", "/channels/"+general+"/webhooks", boss.token, map[string]any{"name": "H"}).body
	code := w.do("POST", "/channels/"+general+"/invites", boss.token, nil).body["code"].(string)
	w.do("DELETE", "/invites/"+code, boss.token, nil)
	w.do("PATCH", guild, boss.token, map[string]any{"name": "New"})
	w.do("DELETE", guild+"/members/"+ann.id, boss.token, nil)
	w.do("DELETE", guild+"/roles/"+role, boss.token, nil)
	r := w.do("GET", guild+"/audit-logs?limit=100", boss.token, nil)
	want := []int{32, 20, 1, 42, 40, 50, 72, 74, 15, 13, 11, 24, 25, 31, 30}
	entries := r.body["audit_log_entries"].([]any)
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprint(field(e, "action_type")))
	}
	if strings.Join(got, " ") != strings.Trim(fmt.Sprint(want), "[]") {
		t.Fatalf("log has %v, want %v", got, want)
	}
	for at, v := range map[string]any{"13.target_id": role, "13.changes.0.key": "name", "13.changes.0.old_value": "mods", "13.changes.0.new_value": "crew",
		"12.changes.0.key": "$add", "12.changes.0.new_value.0.id": role, "11.changes.0.key": "nick", "9.options.id": role, "7.options.message_id": m,
		"6.target_id": ann.id, "6.options.channel_id": general, "5.target_id": hook["id"], "4.target_id": nil, "1.target_id": ann.id} {
		if got := field(entries, at); got != v {
			t.Errorf("%s is %v, want %v", at, got, v)
		}
	}
	if strings.Contains(string(r.raw), hook["token"].(string)) {
		t.Error("the log shows the webhook's token")
	}
	if len(r.body["users"].([]any)) != 2 || field(r.body, "webhooks.0.id") != hook["id"] {
		t.Errorf("named: %v %v", r.body["users"], r.body["webhooks"])
	}
	second := field(entries, "1.id").(string)
	if l := w.do("GET", guild+"/audit-logs?limit=1&before="+second, boss.token, nil); field(l.body, "audit_log_entries.0.action_type") != 1.0 {
		t.Errorf("second page: %s", l.raw)
	}
	if l := w.do("GET", guild+"/audit-logs?action_type=25&user_id="+boss.id, boss.token, nil); len(l.body["audit_log_entries"].([]any)) != 1 {
		t.Errorf("narrowed: %s", l.raw)
	}
	for a.next().T != "GUILD_DELETE" { // ann, who may not see the log, heard of no entry
		if e := a.last; e > 100 {
			t.Fatal("ann is still there")
		}
	}
	bob := w.guest("Bob")
	if r := w.try("GET", guild+"/audit-logs", bob.token, nil); r.status != 403 {
		t.Errorf("bob reads the log: %d", r.status)
	}
	req := map[string]any{"name": "x"}
	w.http.Client().Transport = reasoned{w.http.Client().Transport, strings.Repeat("x", 513)}
	if r := w.try("PATCH", guild, boss.token, req); r.status != 400 || field(r.body, "errors.reason") == nil {
		t.Errorf("long reason: %d %s", r.status, r.raw)
	}
}

func TestArrange(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	guild := "/guilds/" + w.guildID()
	general := w.channelID(ann, "general")
	cat := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "Group", "type": 4,
		"permission_overwrites": []any{map[string]any{"id": w.guildID(), "type": 0, "deny": "2048"}}}).body["id"].(string)
	news := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "Big News", "type": 5, "parent_id": cat}).body
	stage := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "Stage", "type": 13}).body
	if news["name"] != "big-news" || news["parent_id"] != cat || stage["bitrate"] != 64000.0 {
		t.Fatalf("made %v and %v", news, stage)
	}
	s := w.enter(boss)
	for _, c := range []struct {
		who    person
		body   string
		status int
		field  string
	}{
		{ann, `[]`, 403, ""}, {boss, `{}`, 400, ""}, {boss, `[{"id":"1"}]`, 404, ""}, {boss, `[{"id":[1]}]`, 400, "0.id"},
		{boss, `[{"id":"` + general + `","position":-1}]`, 400, "0.position"},
		{boss, `[{"id":"` + general + `"},{"id":"` + general + `"}]`, 400, "1.id"},
		{boss, `[{"id":"` + general + `","parent_id":"` + general + `"}]`, 400, "parent_id"},
		{boss, `[{"id":"` + general + `","position":7,"parent_id":"` + cat + `","lock_permissions":true}]`, 204, ""},
	} {
		r := w.try("PATCH", guild+"/channels", c.who.token, c.body)
		if r.status != c.status || c.field != "" && field(r.body, "errors."+c.field) == nil {
			t.Errorf("%s: %d %s", c.body, r.status, r.raw)
		}
	}
	if e := s.event("CHANNEL_UPDATE"); e["position"] != 7.0 || e["parent_id"] != cat || field(e, "permission_overwrites.0.deny") != "2048" {
		t.Fatalf("event %v", e)
	}
	if r := w.try("POST", "/channels/"+cat+"/messages", boss.token, map[string]any{"content": "x"}); r.status != 400 || r.body["code"] != 50008.0 {
		t.Fatalf("message in a category: %d %s", r.status, r.raw)
	}
	if r := w.try("PATCH", "/channels/"+cat, boss.token, map[string]any{"type": 0}); r.status != 400 || field(r.body, "errors.type") == nil {
		t.Fatalf("category to text: %d", r.status)
	}
	w.do("PATCH", "/channels/"+news["id"].(string), boss.token, map[string]any{"type": 0})
	w.do("DELETE", "/channels/"+cat, boss.token, nil)
	if c := w.do("GET", "/channels/"+general, boss.token, nil).body; c["parent_id"] != nil {
		t.Fatalf("in a deleted category: %v", c)
	}
	low := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "low"}).body["id"].(string)
	high := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "high", "permissions": "268435456"}).body["id"].(string)
	l := w.do("PATCH", guild+"/roles", boss.token, `[{"id":"`+high+`","position":5},{"id":"`+low+`","position":2}]`).list(t)
	if l[len(l)-1]["id"] != high {
		t.Fatalf("roles %v", l)
	}
	w.do("PUT", guild+"/members/"+ann.id+"/roles/"+high, boss.token, nil)
	if r := w.try("PATCH", guild+"/roles", ann.token, `[{"id":"`+low+`","position":5}]`); r.status != 403 {
		t.Fatalf("ann lifts a role to her own: %d %s", r.status, r.raw)
	}
	w.do("PATCH", guild+"/roles", ann.token, `[{"id":"`+low+`","position":4}]`)
	if r := w.do("GET", guild+"/roles/"+low, ann.token, nil); r.body["position"] != 4.0 {
		t.Fatalf("role %s", r.raw)
	}
	if r := w.try("DELETE", "/channels/"+general+"/permissions/"+ann.id, boss.token, nil); r.status != 404 || r.body["code"] != 10009.0 {
		t.Fatalf("no such overwrite: %d %s", r.status, r.raw)
	}
	if r := w.try("PATCH", guild, ann.token, map[string]any{"owner_id": ann.id}); r.status != 403 {
		t.Fatalf("ann takes the guild: %d", r.status)
	}
	if r := w.try("PATCH", guild, boss.token, map[string]any{"owner_id": ann.id}); r.status != 400 || field(r.body, "errors.owner_id") == nil {
		t.Fatalf("the guild to a guest: %d %s", r.status, r.raw)
	}
	if g := w.do("PATCH", guild, boss.token, map[string]any{"system_channel_id": nil}); g.body["system_channel_id"] != nil {
		t.Fatalf("system channel: %s", g.raw)
	}
}
