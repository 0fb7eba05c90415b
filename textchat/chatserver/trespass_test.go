package chatserver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

// What members may not do stays so by every way there is.

// TestHostOfWriter: what the writer of a message calls this server is for the writer alone;
// the others get the addresses of its files as they reach it, in a channel, in an answer,
// by a pin, in private.
func TestHostOfWriter(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("ann"), w.guest("bob")
	general := w.channelID(boss, "general")
	dm := w.do("POST", "/users/@me/channels", ann.token, map[string]any{"recipient_id": bob.id}).body["id"].(string)
	b := w.enter(bob)
	evil := w.http.Client().Transport
	w.http.Client().Transport = hosted{evil, "evil.example"}
	defer func() { w.http.Client().Transport = evil }()
	own := func(e map[string]any, at ...string) {
		t.Helper()
		for _, path := range at {
			if url, _ := field(e, path).(string); !strings.HasPrefix(url, w.http.URL+filePath) {
				t.Errorf("%s is %q", path, url)
			}
		}
	}
	created := func(channel string) map[string]any { // what tells of a pin is left out
		for {
			if e := b.until("MESSAGE_CREATE"); e["channel_id"] == channel && e["type"] != 6.0 {
				return e
			}
		}
	}
	form := part{"payload_json", "", []byte(`{"embeds":[{"title":"e","image":{"url":"attachment://x.png"}}],"nonce":"1"}`)}
	for _, channel := range []string{general, dm} {
		sent := w.upload("POST", "/channels/"+channel+"/messages", ann.token, form, part{"files[0]", "x.png", picture(t)})
		if url, _ := field(sent.body, "attachments.0.url").(string); !strings.HasPrefix(url, "http://evil.example"+filePath) || url != field(sent.body, "embeds.0.image.url") {
			t.Errorf("the writer gets %d %s", sent.status, sent.raw)
		}
		own(created(channel), "attachments.0.url", "attachments.0.proxy_url", "embeds.0.image.url")
		w.do("POST", "/channels/"+channel+"/messages", ann.token, map[string]any{"content": "see", "message_reference": map[string]any{"message_id": sent.body["id"]}})
		own(created(channel), "referenced_message.attachments.0.url")
		pins := map[string]person{general: boss, dm: ann}
		w.do("PUT", "/channels/"+channel+"/messages/pins/"+sent.body["id"].(string), pins[channel].token, nil)
		own(b.until("MESSAGE_UPDATE"), "attachments.0.url", "embeds.0.image.url")
	}
}

// TestLinkedOnce: what is whole stays as it is.
func TestLinkedOnce(t *testing.T) {
	m := textchat.Message{Attachments: []textchat.Attachment{{URL: filePath + "x"}}, Referenced: &textchat.Message{Attachments: []textchat.Attachment{{URL: filePath + "y"}}}}
	m = linked(linked(m, "http://a"), "http://b")
	if m.Attachments[0].URL != "http://a"+filePath+"x" || m.Attachments[0].ProxyURL != m.Attachments[0].URL || m.Referenced.Attachments[0].URL != "http://a"+filePath+"y" {
		t.Errorf("linked twice: %+v, %+v", m.Attachments, m.Referenced.Attachments)
	}
}

// hosted calls the server by another name.
type hosted struct {
	http.RoundTripper
	name string
}

func (h hosted) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Host = h.name
	return h.RoundTripper.RoundTrip(r)
}

// TestDeadInvitesGo: invites that let nobody in any more take the room of none that does.
func TestDeadInvitesGo(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	general, err := snowflake.Parse(w.channelID(boss, "general"))
	if err != nil {
		t.Fatal(err)
	}
	var dead []textchat.Change
	for i := range textchat.MaxInvites {
		dead = append(dead, textchat.Change{PutInvite: &textchat.Invite{Code: fmt.Sprintf("dead%d", i), Guild: w.first.Guild, Channel: general, MaxAge: 1,
			CreatedAt: textchat.Time{Time: time.Now().Add(-time.Hour)}}})
	}
	if err := w.srv.store.Save(t.Context(), w.first.Guild, dead); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.do("POST", "/channels/"+general.String()+"/invites", boss.token, map[string]any{"unique": true})
	}
	list, err := w.srv.store.Invites(t.Context(), w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, i := range list {
		if strings.HasPrefix(i.Code, "dead") {
			left++
		}
	}
	if left != textchat.MaxInvites-3*deadInvites {
		t.Errorf("%d dead ones are left", left)
	}
}

// TestBannedUseNothingUp: who cannot come in uses no invite up.
func TestBannedUseNothingUp(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("ann")
	code := w.do("POST", "/channels/"+w.channelID(boss, "general")+"/invites", boss.token, map[string]any{"max_uses": 2}).body["code"].(string)
	w.do("PUT", "/guilds/"+w.guildID()+"/bans/"+ann.id, boss.token, nil)
	for range 5 {
		if r := w.try("POST", "/invites/"+code, ann.token, nil); r.status != 403 || r.body["code"] != 40007.0 {
			t.Fatalf("a banned user: %d %s", r.status, r.raw)
		}
	}
	w.do("POST", "/auth/guest", "", map[string]any{"invite": code, "nickname": "bob"})
}

// TestInviteEvents: the codes of invites are told to those who manage the channel.
func TestInviteEvents(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("ann")
	b, a := w.enter(boss), w.enter(ann)
	general := w.channelID(boss, "general")
	code := w.do("POST", "/channels/"+general+"/invites", boss.token, map[string]any{"max_uses": 1}).body["code"].(string)
	if e := b.until("INVITE_CREATE"); e["code"] != code {
		t.Errorf("told %v", e)
	}
	w.do("DELETE", "/invites/"+code, boss.token, nil)
	b.until("INVITE_DELETE")
	a.quiet()
}

// TestEditsAddNoEmbeds: who may not post embeds may not edit them in.
func TestEditsAddNoEmbeds(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("ann")
	general := w.channelID(boss, "general")
	path := "/channels/" + general + "/messages"
	w.do("PUT", "/channels/"+general+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": fmt.Sprint(uint64(textchat.EmbedLinks))})
	id := w.do("POST", path, ann.token, map[string]any{"content": "x"}).body["id"].(string)
	embeds := map[string]any{"embeds": []any{map[string]any{"title": "e"}}}
	for _, r := range []answer{w.try("POST", path, ann.token, embeds), w.try("PATCH", path+"/"+id, ann.token, embeds)} {
		if r.status != 403 || r.body["code"] != 50013.0 {
			t.Errorf("%d %s", r.status, r.raw)
		}
	}
	w.do("PATCH", path+"/"+id, ann.token, map[string]any{"content": "y", "embeds": []any{}})
	w.do("PATCH", path+"/"+id, boss.token, map[string]any{"flags": 4})
}

// TestTimedOutReactNot: a time-out leaves looking and reading, and no joining of reactions.
func TestTimedOutReactNot(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("ann"), w.guest("bob")
	general := w.channelID(boss, "general")
	at := "/channels/" + general + "/messages/" + w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": "x"}).body["id"].(string) + "/reactions/👍/@me"
	w.do("PUT", at, boss.token, nil)
	w.do("PUT", "/channels/"+general+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": fmt.Sprint(uint64(textchat.AddReactions))})
	w.do("PUT", at, bob.token, nil) // may not begin one, and joins it
	w.do("PATCH", "/guilds/"+w.guildID()+"/members/"+ann.id, boss.token, map[string]any{"communication_disabled_until": time.Now().Add(time.Hour).Format(time.RFC3339)})
	if r := w.try("PUT", at, ann.token, nil); r.status != 403 || r.body["code"] != 50013.0 {
		t.Errorf("timed out: %d %s", r.status, r.raw)
	}
}

// TestTextOfClosedVoice: what is written in a voice channel is for those who may connect.
func TestTextOfClosedVoice(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("ann")
	lobby := w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "Lobby", "type": 2}).body["id"].(string)
	path := "/channels/" + lobby + "/messages"
	a := w.enter(ann)
	w.do("POST", path, boss.token, map[string]any{"content": "open"})
	if e := a.until("MESSAGE_CREATE"); e["content"] != "open" {
		t.Fatalf("event %v", e)
	}
	w.do("PUT", "/channels/"+lobby+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": fmt.Sprint(uint64(textchat.Connect))})
	a.until("CHANNEL_UPDATE")
	w.do("POST", path, boss.token, map[string]any{"content": "closed"})
	w.do("POST", "/channels/"+lobby+"/typing", boss.token, nil)
	a.quiet()
	if list := w.do("GET", path, ann.token, nil).list(t); len(list) != 0 {
		t.Errorf("reads %v", list)
	}
	if r := w.try("POST", path, ann.token, map[string]any{"content": "x"}); r.status != 403 {
		t.Errorf("writes: %d %s", r.status, r.raw)
	}
}

// TestFormsAreBounded: the fields of a form are, together, no longer than a message.
func TestFormsAreBounded(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("ann")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	half := []byte(strings.Repeat("x", textchat.MaxMessageBody/2))
	if r := w.upload("POST", path, ann.token, part{"a", "", half}, part{"content", "", []byte("hi")}); r.status != 200 {
		t.Errorf("half of it: %d %s", r.status, r.raw)
	}
	if r := w.upload("POST", path, ann.token, part{"a", "", half}, part{"b", "", half}, part{"content", "", []byte("hi")}); r.status != 413 {
		t.Errorf("more than all: %d %s", r.status, r.raw)
	}
}

// overtaken has a webhook deleted by another when it was looked up for the last time.
type overtaken struct {
	textchat.Store
	now atomic.Bool
}

func (s *overtaken) Webhook(ctx context.Context, id textchat.ID) (textchat.Webhook, error) {
	w, err := s.Store.Webhook(ctx, id)
	if s.now.Load() && err == nil {
		err = s.Save(ctx, w.Guild, []textchat.Change{{DropWebhook: id}})
	}
	return w, err
}

// TestDeletedWebhookStays: who changes a webhook while it is deleted does not bring it
// back.
func TestDeletedWebhookStays(t *testing.T) {
	store := &overtaken{}
	w := newWorldOver(t, func(embedded textchat.Store) textchat.Store { store.Store = embedded; return store })
	boss := w.boss()
	hook := w.do("POST", "/channels/"+w.channelID(boss, "general")+"/webhooks", boss.token, map[string]any{"name": "hook"}).body
	store.now.Store(true)
	if r := w.try("PATCH", fmt.Sprintf("/webhooks/%v/%v", hook["id"], hook["token"]), "", map[string]any{}); r.status != 404 || r.body["code"] != 10015.0 {
		t.Errorf("changed: %d %s", r.status, r.raw)
	}
	list, err := w.srv.store.Webhooks(t.Context(), w.first.Guild)
	if err != nil || slices.ContainsFunc(list, func(x textchat.Webhook) bool { return x.ID.String() == hook["id"] }) {
		t.Errorf("there are %v, %v", list, err)
	}
}
