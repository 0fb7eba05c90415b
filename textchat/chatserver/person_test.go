package chatserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// told reads the lines of a stream.
func told(t *testing.T, a answer) (lines []map[string]any) {
	t.Helper()
	for s := bufio.NewScanner(bytes.NewReader(a.raw)); s.Scan(); {
		var l map[string]any
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		lines = append(lines, l)
	}
	return lines
}

// TestPersonIsToldAndErased: an export has every word of a person and nobody
// else's, an erasure leaves none, also where the person was once.
func TestPersonIsToldAndErased(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	const admin = "Bearer let-me-in"
	general := "/channels/" + w.channelID(boss, "general")
	guild := "/guilds/" + w.guildID()
	for i := range 7 {
		who := []person{ann, bob}[i%2]
		w.do("POST", general+"/messages", who.token, map[string]any{"content": "of " + who.id})
	}
	up := w.upload("POST", general+"/messages", ann.token, part{name: "payload_json", body: []byte(`{"content":"of ` + ann.id + `"}`)}, part{"files[0]", "a.txt", []byte("my file")})
	url := up.body["attachments"].([]any)[0].(map[string]any)["url"].(string)
	thread := "/channels/" + w.do("POST", general+"/threads", bob.token, map[string]any{"name": "t", "type": 11}).body["id"].(string)
	w.do("POST", thread+"/messages", ann.token, map[string]any{"content": "of " + ann.id})
	dm := "/channels/" + w.do("POST", "/users/@me/channels", ann.token, map[string]any{"recipient_id": bob.id}).body["id"].(string)
	w.do("POST", dm+"/messages", ann.token, map[string]any{"content": "of " + ann.id})
	w.do("POST", dm+"/messages", bob.token, map[string]any{"content": "of " + bob.id})

	for _, name := range []string{"nobody", "1", "x/y"} {
		if a := w.try("GET", "/admin/users/"+name+"/export", admin, nil); a.status != 404 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	if a := w.try("GET", "/admin/users/"+ann.id+"/export", ann.token, nil); a.status != 401 {
		t.Errorf("without the operator's token: %d", a.status)
	}
	count := map[string]int{}
	lines := told(t, w.do("GET", "/admin/users/"+ann.id+"/export", admin, nil))
	for _, l := range lines {
		for kind, v := range l {
			count[kind]++
			if m, ok := v.(map[string]any); ok && kind == "message" {
				if c := m["content"].(string); c != "" && c != "of "+ann.id {
					t.Errorf("somebody else's: %v", m)
				}
			}
		}
	}
	// 4 in general, one with a file, one in the thread, one in private.
	if count["user"] != 1 || count["member"] != 1 || count["message"] != 7 || count["done"] != 1 || lines[len(lines)-1]["done"] == nil {
		t.Errorf("exported %v", count)
	}

	if a := w.try("DELETE", "/admin/users/boss", admin, nil); a.status != 409 || !strings.Contains(string(a.raw), "Voicefleet") {
		t.Errorf("the owner: %d %s", a.status, a.raw)
	}
	b, _ := w.enterFully(bob)
	lines = told(t, w.do("DELETE", "/admin/users/"+ann.id, admin, nil))
	if d, _ := lines[len(lines)-1]["done"].(map[string]any); d["messages"] != float64(7) {
		t.Errorf("erased: %v", lines[len(lines)-1])
	}
	b.until("GUILD_MEMBER_REMOVE")
	for range 7 {
		b.until("MESSAGE_DELETE")
	}
	if a := w.try("GET", "/users/@me", ann.token, nil); a.status != 401 {
		t.Errorf("the old token: %d", a.status)
	}
	if a := w.try("GET", "/users/"+ann.id, boss.token, nil); bytes.Contains(a.raw, []byte("Ann")) {
		t.Errorf("the name is still there: %s", a.raw)
	}
	if got := told(t, w.do("GET", "/admin/users/"+ann.id+"/export", admin, nil)); len(got) != 3 || got[1]["dm"] == nil {
		t.Errorf("still kept: %v", got) // but for the account and what bob wrote to it
	}
	for deadline := time.Now().Add(patience); ; {
		if status, _, _ := w.fetch(url); status == 404 {
			break
		} else if time.Now().After(deadline) {
			t.Errorf("the file: %d", status)
			break
		}
	}
	var left []map[string]any
	_ = json.Unmarshal(w.do("GET", general+"/messages?limit=100", bob.token, nil).raw, &left)
	for _, m := range left {
		if m["author"].(map[string]any)["id"] == ann.id {
			t.Errorf("still there: %v", m)
		}
	}
	told(t, w.do("DELETE", "/admin/users/"+ann.id, admin, nil)) // again
	if a := w.try("GET", guild+"/members/"+ann.id, boss.token, nil); a.status != 404 {
		t.Errorf("still a member: %d", a.status)
	}
}
