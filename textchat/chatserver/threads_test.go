package chatserver

import (
	"encoding/json"
	"fmt"
	"testing"

	"voicefleet/textchat"
)

// enterFully begins a session of a person that hears everything but the audit log.
func (w *world) enterFully(p person) (*socket, map[string]any) {
	w.t.Helper()
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(p.token, allIntents&^int(textchat.IntentModeration)))
	s.event("READY")
	return s, s.event("GUILD_CREATE")
}

func (w *world) threads(path, token string) (list []map[string]any, members int, more bool) {
	w.t.Helper()
	var l struct {
		Threads []map[string]any `json:"threads"`
		Members []map[string]any `json:"members"`
		More    bool             `json:"has_more"`
	}
	if err := json.Unmarshal(w.do("GET", path, token, nil).raw, &l); err != nil {
		w.t.Fatal(err)
	}
	return l.Threads, len(l.Members), l.More
}

// TestThreadOfAMessage: begun, written in, joined, archived, opened by writing,
// locked, deleted; told to who sees its channel.
func TestThreadOfAMessage(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	general := "/channels/" + w.channelID(boss, "general")
	b, _ := w.enterFully(boss)
	m := w.do("POST", general+"/messages", ann.token, map[string]any{"content": "what about this?"}).body["id"].(string)
	b.event("MESSAGE_CREATE")

	th := w.do("POST", general+"/messages/"+m+"/threads", ann.token, map[string]any{"name": "this", "auto_archive_duration": 60}).body
	if th["id"] != m || th["type"] != float64(11) || th["owner_id"] != ann.id || th["member_count"] != float64(1) || th["message_count"] != float64(0) || th["member"] == nil || th["thread_members"] != nil {
		t.Errorf("thread: %v", th)
	}
	if e := b.event("THREAD_CREATE"); e["id"] != m || e["newly_created"] != true || e["member"] != nil {
		t.Errorf("THREAD_CREATE: %v", e)
	}
	if a := w.try("POST", general+"/messages/"+m+"/threads", bob.token, map[string]any{"name": "again"}); a.body["code"] != float64(160004) {
		t.Errorf("a second thread of the message: %d %s", a.status, a.raw)
	}
	if f := w.do("GET", general+"/messages/"+m, bob.token, nil).body["flags"]; f != float64(textchat.FlagHasThread) {
		t.Errorf("flags of the message: %v", f)
	}
	for _, bad := range []any{map[string]any{}, map[string]any{"name": " "}, map[string]any{"name": "x", "auto_archive_duration": 61}, map[string]any{"name": "x", "rate_limit_per_user": -1}} {
		other := w.do("POST", general+"/messages", ann.token, map[string]any{"content": "x"}).body["id"].(string)
		b.event("MESSAGE_CREATE")
		if a := w.try("POST", general+"/messages/"+other+"/threads", ann.token, bad); a.status != 400 || a.body["code"] != float64(50035) {
			t.Errorf("%v: %d %s", bad, a.status, a.raw)
		}
	}

	// Who writes in it follows it.
	thread := "/channels/" + m
	w.do("POST", thread+"/messages", bob.token, map[string]any{"content": "yes"})
	if e := b.event("MESSAGE_CREATE"); e["channel_id"] != m {
		t.Errorf("MESSAGE_CREATE: %v", e)
	}
	if e := b.event("THREAD_MEMBERS_UPDATE"); e["member_count"] != float64(2) || fmt.Sprint(e["added_members"].([]any)[0].(map[string]any)["user_id"]) != bob.id {
		t.Errorf("THREAD_MEMBERS_UPDATE: %v", e)
	}
	w.do("PUT", thread+"/thread-members/@me", boss.token, nil)
	if e := b.event("THREAD_CREATE"); e["member"] == nil || e["newly_created"] != nil {
		t.Errorf("THREAD_CREATE to who joined: %v", e)
	}
	b.event("THREAD_MEMBERS_UPDATE")
	var members []map[string]any
	_ = json.Unmarshal(w.do("GET", thread+"/thread-members?limit=2", ann.token, nil).raw, &members)
	if len(members) != 2 {
		t.Errorf("members: %v", members)
	}
	w.do("DELETE", thread+"/thread-members/@me", boss.token, nil)
	b.event("THREAD_MEMBERS_UPDATE")
	if a := w.try("GET", thread+"/thread-members/@me", boss.token, nil); a.status != 404 || a.body["code"] != float64(10109) {
		t.Errorf("one who has left: %d %s", a.status, a.raw)
	}
	if a := w.try("DELETE", thread+"/thread-members/"+ann.id, bob.token, nil); a.body["code"] != float64(50013) {
		t.Errorf("bob takes ann out: %d %s", a.status, a.raw)
	}

	// It is listed, and sent with the guild, to whom follows it with that.
	if list, mine, _ := w.threads("/guilds/"+w.guildID()+"/threads/active", bob.token); len(list) != 1 || mine != 1 || list[0]["message_count"] != float64(1) {
		t.Errorf("active threads: %v", list)
	}
	_, g := w.enterFully(bob)
	if l := g["threads"].([]any); len(l) != 1 || l[0].(map[string]any)["member"] == nil {
		t.Errorf("threads of GUILD_CREATE: %v", l)
	}
	for _, c := range g["channels"].([]any) {
		if c.(map[string]any)["id"] == m {
			t.Error("the thread is among the channels")
		}
	}

	// Its owner archives it; writing opens it; locked, it is closed to all but those
	// who manage threads.
	if a := w.try("PATCH", thread, bob.token, map[string]any{"name": "mine"}); a.body["code"] != float64(50013) {
		t.Errorf("bob renames it: %d %s", a.status, a.raw)
	}
	w.do("PATCH", thread, ann.token, map[string]any{"archived": true})
	if e := b.event("THREAD_UPDATE"); e["thread_metadata"].(map[string]any)["archived"] != true {
		t.Errorf("archived: %v", e)
	}
	if a := w.try("PUT", thread+"/thread-members/@me", boss.token, nil); a.body["code"] != float64(50083) {
		t.Errorf("joining an archived one: %d %s", a.status, a.raw)
	}
	if list, _, more := w.threads(general+"/threads/archived/public", bob.token); len(list) != 1 || more {
		t.Errorf("archived threads: %v", list)
	}
	w.do("POST", thread+"/messages", bob.token, map[string]any{"content": "one more thing"})
	if e := b.event("THREAD_UPDATE"); e["thread_metadata"].(map[string]any)["archived"] != false {
		t.Errorf("opened: %v", e)
	}
	b.event("MESSAGE_CREATE")
	if a := w.try("PATCH", thread, ann.token, map[string]any{"locked": true}); a.body["code"] != float64(50013) {
		t.Errorf("its owner locks it: %d %s", a.status, a.raw)
	}
	w.do("PATCH", thread, boss.token, map[string]any{"locked": true, "archived": true})
	b.event("THREAD_UPDATE")
	for what, a := range map[string]answer{
		"writing": w.try("POST", thread+"/messages", bob.token, map[string]any{"content": "x"}),
		"opening": w.try("PATCH", thread, ann.token, map[string]any{"archived": false}),
	} {
		if a.body["code"] != float64(160005) {
			t.Errorf("%s when locked: %d %s", what, a.status, a.raw)
		}
	}
	for what, a := range map[string]answer{
		"overwrites": w.try("PUT", thread+"/permissions/"+bob.id, boss.token, map[string]any{"type": 1}),
		"invites":    w.try("POST", thread+"/invites", boss.token, nil),
		"webhooks":   w.try("POST", thread+"/webhooks", boss.token, map[string]any{"name": "x"}),
		"threads":    w.try("POST", thread+"/threads", boss.token, map[string]any{"name": "x", "type": 11}),
	} {
		if a.body["code"] != float64(50024) {
			t.Errorf("%s of a thread: %d %s", what, a.status, a.raw)
		}
	}
	if a := w.try("DELETE", thread, ann.token, nil); a.body["code"] != float64(50013) {
		t.Errorf("its owner deletes it: %d %s", a.status, a.raw)
	}
	w.do("DELETE", thread, boss.token, nil)
	if e := b.event("THREAD_DELETE"); e["id"] != m || e["parent_id"] != general[len("/channels/"):] {
		t.Errorf("THREAD_DELETE: %v", e)
	}
	if a := w.try("GET", thread+"/messages", ann.token, nil); a.status != 404 {
		t.Errorf("messages of a deleted thread: %d", a.status)
	}
}

// TestPrivateThread: only its members and who manages threads see it.
func TestPrivateThread(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob, cat := w.boss(), w.guest("Ann"), w.guest("Bob"), w.guest("Cat")
	general := "/channels/" + w.channelID(boss, "general")
	x, _ := w.enterFully(bob)
	id := w.do("POST", general+"/threads", ann.token, map[string]any{"name": "us", "invitable": false}).body["id"].(string)
	thread := "/channels/" + id
	if a := w.try("GET", thread, bob.token, nil); a.status != 403 {
		t.Errorf("bob looks: %d %s", a.status, a.raw)
	}
	w.do("GET", thread, boss.token, nil)
	w.do("PUT", thread+"/thread-members/"+bob.id, ann.token, nil)
	if e := x.event("THREAD_CREATE"); e["id"] != id || e["type"] != float64(12) || e["member"] == nil {
		t.Errorf("bob is told: %v", e)
	}
	x.event("THREAD_MEMBERS_UPDATE")
	w.do("POST", thread+"/messages", ann.token, map[string]any{"content": "only us"})
	x.event("MESSAGE_CREATE")
	if a := w.try("PUT", thread+"/thread-members/"+cat.id, bob.token, nil); a.body["code"] != float64(50013) {
		t.Errorf("bob invites where he may not: %d %s", a.status, a.raw)
	}
	w.do("DELETE", thread+"/thread-members/"+bob.id, ann.token, nil)
	x.event("THREAD_MEMBERS_UPDATE")
	w.do("POST", thread+"/messages", ann.token, map[string]any{"content": "me alone"})
	x.send(1, nil)
	if f := x.next(); f.Op != 11 {
		t.Errorf("bob still hears %s %s", f.T, f.D)
	}
	w.do("PATCH", thread, ann.token, map[string]any{"archived": true})
	if list, _, _ := w.threads(general+"/users/@me/threads/archived/private", ann.token); len(list) != 1 {
		t.Errorf("ann's archived: %v", list)
	}
	if a := w.try("GET", general+"/threads/archived/private", bob.token, nil); a.status != 403 {
		t.Errorf("all private ones, for bob: %d", a.status)
	}
	if list, _, _ := w.threads(general+"/threads/archived/private?before=2099-01-01T00:00:00Z", boss.token); len(list) != 1 {
		t.Errorf("all private ones, for the owner: %v", list)
	}
}

// TestThreadsStay: a restart forgets neither threads nor who follows them, and a
// channel takes its threads along when it goes.
func TestThreadsStay(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir, nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	guild := "/guilds/" + w.guildID()
	ch := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "plans"}).body["id"].(string)
	th := w.do("POST", "/channels/"+ch+"/threads", ann.token, map[string]any{"name": "may", "type": 11}).body["id"].(string)
	w.do("POST", "/channels/"+th+"/messages", ann.token, map[string]any{"content": "kept"})
	hook := w.do("POST", "/channels/"+ch+"/webhooks", boss.token, map[string]any{"name": "H"}).body
	post := fmt.Sprintf("/webhooks/%v/%v?wait=true&thread_id=", hook["id"], hook["token"])
	if m := w.do("POST", post+th, "", map[string]any{"content": "by hook"}).body; m["channel_id"] != th {
		t.Errorf("a webhook's message: %v", m)
	}
	if a := w.try("POST", post+ch, "", map[string]any{"content": "x"}); a.status != 400 {
		t.Errorf("no thread: %d %s", a.status, a.raw)
	}
	w.end()

	w2 := newWorld(t, dir, nil, nil)
	list, mine, _ := w2.threads(guild+"/threads/active", ann.token)
	if len(list) != 1 || mine != 1 || list[0]["last_message_id"] == nil {
		t.Errorf("after a restart: %v", list)
	}
	b, _ := w2.enterFully(boss)
	w2.do("DELETE", "/channels/"+ch, boss.token, nil)
	b.event("CHANNEL_DELETE")
	if a := w2.try("GET", "/channels/"+th, ann.token, nil); a.status != 404 {
		t.Errorf("a thread whose channel has gone: %d", a.status)
	}
	if list, _, _ := w2.threads(guild+"/threads/active", ann.token); len(list) != 0 {
		t.Errorf("threads left: %v", list)
	}
}
