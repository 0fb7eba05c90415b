package chatserver

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/sqlite"
)

// slowStore does what is written and does not say so in time, as one whose disk stands
// still after it was written.
type slowStore struct {
	textchat.Store
	slow atomic.Bool
}

// said is the answer to a write.
func (s *slowStore) said(err error) error {
	if err == nil && s.slow.Load() {
		err = fmt.Errorf("write: %w", textchat.ErrUnsure)
	}
	return err
}

func (s *slowStore) AddMessage(ctx context.Context, m textchat.Message, nonce string) (textchat.Message, bool, error) {
	stored, repeated, err := s.Store.AddMessage(ctx, m, nonce)
	return stored, repeated, s.said(err)
}

func (s *slowStore) EditMessage(ctx context.Context, m textchat.Message) error {
	return s.said(s.Store.EditMessage(ctx, m))
}

func (s *slowStore) DeleteMessage(ctx context.Context, channel, id textchat.ID) error {
	return s.said(s.Store.DeleteMessage(ctx, channel, id))
}

func (s *slowStore) DeleteMessages(ctx context.Context, channel textchat.ID, ids []textchat.ID) ([]textchat.ID, error) {
	gone, err := s.Store.DeleteMessages(ctx, channel, ids)
	return gone, s.said(err)
}

func (s *slowStore) React(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID, most int) (bool, error) {
	added, err := s.Store.React(ctx, channel, message, emoji, user, most)
	return added, s.said(err)
}

func (s *slowStore) Unreact(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID) (int, error) {
	n, err := s.Store.Unreact(ctx, channel, message, emoji, user)
	return n, s.said(err)
}

func (s *slowStore) Pin(ctx context.Context, channel, message textchat.ID, at time.Time, most int) (bool, error) {
	changed, err := s.Store.Pin(ctx, channel, message, at, most)
	return changed, s.said(err)
}

func (s *slowStore) Unpin(ctx context.Context, channel, message textchat.ID) (bool, error) {
	changed, err := s.Store.Unpin(ctx, channel, message)
	return changed, s.said(err)
}

func (s *slowStore) UpdateUser(ctx context.Context, c textchat.Credential) error {
	return s.said(s.Store.UpdateUser(ctx, c))
}

func (s *slowStore) RevokeToken(ctx context.Context, token textchat.TokenHash) error {
	return s.said(s.Store.RevokeToken(ctx, token))
}

// slowWorld is a world with such a store.
func slowWorld(t *testing.T) (*world, *slowStore) {
	embedded, err := sqlite.Open(t.TempDir(), sqlite.Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { embedded.Close() })
	store := &slowStore{Store: embedded}
	return newWorld(t, t.TempDir(), func(c *Config) { c.Store = store }, nil), store
}

// TestMessageOfSlowStore: who writes while the store stands still is told to come back;
// the others hear of the message once, and the writer gets that one by its nonce.
func TestMessageOfSlowStore(t *testing.T) {
	w, store := slowWorld(t)
	ann, bob := w.guest("Ann"), w.guest("Bob")
	path := "/channels/" + w.channelID(ann, "general") + "/messages"
	hears := w.enter(bob)

	store.slow.Store(true)
	body := map[string]any{"content": "late", "nonce": "1"}
	a := w.try("POST", path, ann.token, body)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Fatalf("a store that stands still: %d %v %s", a.status, a.header, a.raw)
	}
	store.slow.Store(false)
	again := w.do("POST", path, ann.token, body).body
	if heard := hears.until(textchat.EventMessageCreate); heard["id"] != again["id"] || heard["content"] != "late" {
		t.Fatalf("heard %v, the writer got %v", heard, again)
	}
	hears.quiet()
	if list := w.do("GET", path, ann.token, nil).list(t); len(list) != 1 {
		t.Fatalf("%d messages", len(list))
	}
}

// TestWritesOfSlowStore: what the store did without saying so in time is told once, and
// whoever tries again in the meantime finds it done.
func TestWritesOfSlowStore(t *testing.T) {
	w, store := slowWorld(t)
	boss, bob, cy := w.boss(), w.guest("Bob"), w.guest("Cy")
	path := "/channels/" + w.channelID(boss, "general")
	post := func(text string) string {
		return w.do("POST", path+"/messages", boss.token, map[string]any{"content": text}).body["id"].(string)
	}
	file := part{"files[0]", "a.txt", []byte("x")}
	edited, liked, cooled, pinned, loose := post("to edit"), post("to like"), post("liked"), post("to pin"), post("pinned")
	many := []string{post("one of many"), post("the other")}
	w.do("PUT", path+"/messages/"+cooled+"/reactions/👍/@me", boss.token, nil)
	w.do("PUT", path+"/pins/"+loose, boss.token, nil)
	r := w.upload("POST", path+"/messages", boss.token, part{"payload_json", "", []byte(`{"content":"with a file"}`)}, file)
	erased, _ := r.body["id"].(string)
	hears, out := w.enter(bob), w.enter(cy)

	slow := func(a answer) {
		t.Helper()
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Fatalf("a store that stands still: %d %v %s", a.status, a.header, a.raw)
		}
	}
	store.slow.Store(true)
	slow(w.upload("PATCH", path+"/messages/"+edited, boss.token, part{"payload_json", "", []byte(`{"content":"edited","embeds":[{"title":"e"}]}`)}, file))
	slow(w.try("DELETE", path+"/messages/"+erased, boss.token, nil))
	slow(w.try("POST", path+"/messages/bulk-delete", boss.token, map[string]any{"messages": many}))
	slow(w.try("PUT", path+"/messages/"+liked+"/reactions/👍/@me", boss.token, nil))
	slow(w.try("DELETE", path+"/messages/"+cooled+"/reactions/👍/@me", boss.token, nil))
	slow(w.try("PUT", path+"/pins/"+pinned, boss.token, nil))
	slow(w.try("DELETE", path+"/pins/"+loose, boss.token, nil))
	slow(w.try("POST", "/auth/logout", cy.token, nil))
	slow(w.try("PATCH", "/users/@me", bob.token, map[string]any{"global_name": "Rob"}))
	store.slow.Store(false)
	if r := w.try("DELETE", path+"/messages/"+erased, boss.token, nil); r.status != http.StatusNotFound {
		t.Errorf("deleted again: %d", r.status)
	}
	w.do("PUT", path+"/messages/"+liked+"/reactions/👍/@me", boss.token, nil)

	want := map[string]int{
		"MESSAGE_UPDATE " + edited: 1, "MESSAGE_DELETE " + erased: 1, "MESSAGE_DELETE_BULK": 1,
		"MESSAGE_REACTION_ADD " + liked: 1, "MESSAGE_REACTION_REMOVE " + cooled: 1,
		"CHANNEL_PINS_UPDATE": 2, "MESSAGE_UPDATE " + pinned: 1, "MESSAGE_UPDATE " + loose: 1, "MESSAGE_CREATE": 1, // the note
		"GUILD_MEMBER_UPDATE": 1, "USER_UPDATE": 1,
	}
	for len(want) > 0 {
		f := hears.next()
		d := f.data()
		what := f.T
		for _, key := range []string{"id", "message_id"} {
			if id, ok := d[key].(string); ok && want[f.T+" "+id] > 0 {
				what = f.T + " " + id
			}
		}
		if want[what] == 0 {
			t.Fatalf("heard %s %s; not yet: %v", f.T, f.D, want)
		}
		if want[what]--; want[what] == 0 {
			delete(want, what)
		}
		if what == "MESSAGE_UPDATE "+edited && (d["content"] != "edited" || len(d["attachments"].([]any)) != 1) {
			t.Errorf("edited: %s", f.D)
		}
	}
	hears.quiet()
	if code := out.closeCode(); textchat.CloseCode(code) != textchat.CloseAuthFailed {
		t.Errorf("who logged out was closed with %d", code)
	}
	w.end()
	if n := w.kept(); n != 1 {
		t.Errorf("%d files are kept, want that of the edit", n)
	}
}
