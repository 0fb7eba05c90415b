package chatserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"voicefleet/textchat"
)

// change is something that may be done to a message, and tried again.
type change struct {
	name, method, path string // %[1]s: its channel, %[2]s: the message
	body               map[string]any
	again              int // the answer to who does it again
	// before it is done; done says whether a page shows that it is.
	before string // a change by name
	done   func(list []textchat.Message, m *textchat.Message) bool
}

var messageChanges = []change{
	{"react", "PUT", "/channels/%[1]s/messages/%[2]s/reactions/👍/@me", nil, 204, "",
		func(_ []textchat.Message, m *textchat.Message) bool { return m != nil && len(m.Reactions) == 1 }},
	{"take a reaction back", "DELETE", "/channels/%[1]s/messages/%[2]s/reactions/👍/@me", nil, 204, "react",
		func(_ []textchat.Message, m *textchat.Message) bool { return m != nil && len(m.Reactions) == 0 }},
	{"clear reactions", "DELETE", "/channels/%[1]s/messages/%[2]s/reactions", nil, 204, "react",
		func(_ []textchat.Message, m *textchat.Message) bool { return m != nil && len(m.Reactions) == 0 }},
	{"pin", "PUT", "/channels/%[1]s/messages/pins/%[2]s", nil, 204, "",
		func(_ []textchat.Message, m *textchat.Message) bool { return m != nil && m.Pinned }},
	{"unpin", "DELETE", "/channels/%[1]s/messages/pins/%[2]s", nil, 204, "pin",
		func(_ []textchat.Message, m *textchat.Message) bool { return m != nil && !m.Pinned }},
	{"post", "POST", "/channels/%[1]s/messages", map[string]any{"content": "said once", "nonce": "77"}, 200, "",
		func(list []textchat.Message, _ *textchat.Message) bool {
			return slices.Contains(contents(list), "said once")
		}},
	{"edit", "PATCH", "/channels/%[1]s/messages/%[2]s", map[string]any{"content": "edited"}, 200, "",
		func(_ []textchat.Message, m *textchat.Message) bool { return m != nil && m.Content == "edited" }},
	{"delete", "DELETE", "/channels/%[1]s/messages/%[2]s", nil, 404, "",
		func(_ []textchat.Message, m *textchat.Message) bool { return m == nil }},
	{"delete many", "POST", "/channels/%[1]s/messages/bulk-delete", map[string]any{"messages": []string{"%[2]s", "%[2]s"}}, 204, "",
		func(_ []textchat.Message, m *textchat.Message) bool { return m == nil }},
}

// request is how a message is changed by REST.
func (c *change) request(channel, message string) (path string, body any) {
	if c.body != nil {
		body = strings.ReplaceAll(string(encode(c.body)), "%[2]s", message)
	}
	return strings.NewReplacer("%[1]s", channel, "%[2]s", message).Replace(c.path), body
}

// shows says whether a page has the change.
func (c *change) shows(list []textchat.Message, message string) bool {
	var m *textchat.Message
	if i := slices.IndexFunc(list, func(m textchat.Message) bool { return m.ID.String() == message }); i >= 0 {
		m = &list[i]
	}
	return c.done(list, m)
}

// prepare posts a message and does what is to be done to it before a change.
func (c *change) prepare(w *world, p person, channel string) (message string) {
	w.t.Helper()
	message = w.do("POST", "/channels/"+channel+"/messages", p.token, map[string]any{"content": c.name}).body["id"].(string)
	for _, b := range messageChanges {
		if b.name == c.before {
			path, body := b.request(channel, message)
			w.do(b.method, path, p.token, body)
		}
	}
	return message
}

// TestToldLate: while the guild does not come to tell of what is stored, who wrote it is
// answered 503 when its request ends; who tries again waits until everybody sees it.
func TestToldLate(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.pages.life = time.Hour })
	boss := w.boss()
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range messageChanges {
		t.Run(c.name, func(t *testing.T) {
			channel := w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "room"}).body["id"].(string)
			message := c.prepare(w, boss, channel)
			for range 2 {
				if c.shows(w.page(boss, channel, 50), message) {
					t.Fatal("it shows before it is done")
				}
			}
			held, hold := make(chan struct{}), make(chan struct{})
			go func() { _ = o.ask(context.Background(), func() error { close(held); <-hold; return nil }) }()
			<-held
			answered := make(chan int, 1)
			ask := func(ctx context.Context) {
				path, body := c.request(channel, message)
				text, _ := body.(string)
				var rec *httptest.ResponseRecorder
				for again := time.Tick(50 * time.Millisecond); ; <-again {
					r := httptest.NewRequestWithContext(ctx, c.method, "/api/v10"+path, strings.NewReader(text))
					r.Host = strings.TrimPrefix(w.http.URL, "http://")
					r.Header.Set("Authorization", boss.token)
					rec = httptest.NewRecorder()
					if w.srv.Handler().ServeHTTP(rec, r); rec.Code != http.StatusTooManyRequests {
						break
					}
				}
				answered <- rec.Code
			}
			ctx, cancel := context.WithCancel(t.Context())
			go ask(ctx)
			eventually(t, "it waits for the guild", func() bool { return len(o.inbox) == 1 })
			cancel()
			select {
			case status := <-answered:
				if status != http.StatusServiceUnavailable {
					t.Errorf("what nobody was told of is answered %d", status)
				}
			case <-time.After(patience):
				t.Error("it is not answered when its request ends")
			}
			go ask(t.Context())
			eventually(t, "the next one is answered, or waits", func() bool { return len(answered) > 0 || len(o.inbox) == 2 })
			if len(answered) > 0 && !c.shows(w.page(boss, channel, 50), message) {
				t.Error("who tries again is answered, and a page lacks it")
			}
			close(hold)
			if status := <-answered; status != c.again {
				t.Errorf("who tries again is answered %d, want %d", status, c.again)
			}
			if !c.shows(w.page(boss, channel, 50), message) {
				t.Error("it is told, and a page lacks it")
			}
		})
	}
}

// TestToldElsewhere: what an instance stored, and died before it told, everybody sees once
// another one acknowledged it.
func TestToldElsewhere(t *testing.T) {
	all := newTweaked(t, 3, func(s *Server) { s.pages.life = time.Hour })
	w, by := all.worlds[0], all.worlds[1]
	boss := w.boss()
	channel := w.channelID(boss, "general")
	number := func(s string) (id textchat.ID) {
		if err := json.Unmarshal([]byte(`"`+s+`"`), &id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	at, user := number(channel), number(boss.id)
	for name, store := range map[string]func(m textchat.ID) error{
		"react": func(m textchat.ID) error {
			_, err := w.srv.store.React(t.Context(), at, m, "👍", user, 20)
			return err
		},
		"take a reaction back": func(m textchat.ID) error {
			_, err := w.srv.store.Unreact(t.Context(), at, m, "👍", user)
			return err
		},
		"pin":         func(m textchat.ID) error { _, err := w.srv.store.Pin(t.Context(), at, m, time.Now(), 250); return err },
		"unpin":       func(m textchat.ID) error { _, err := w.srv.store.Unpin(t.Context(), at, m); return err },
		"delete":      func(m textchat.ID) error { return w.srv.store.DeleteMessage(t.Context(), at, m) },
		"delete many": func(m textchat.ID) error { return w.srv.store.DeleteMessage(t.Context(), at, m) },
	} {
		c := messageChanges[slices.IndexFunc(messageChanges, func(c change) bool { return c.name == name })]
		message := c.prepare(w, boss, channel)
		for _, w := range all.worlds {
			before := testutil.ToFloat64(w.srv.pages.hits)
			eventually(t, "a page is remembered", func() bool {
				w.page(boss, channel, 50)
				return testutil.ToFloat64(w.srv.pages.hits) > before
			})
		}
		if err := store(number(message)); err != nil {
			t.Fatal(err)
		}
		path, body := c.request(channel, message)
		if r := by.try(c.method, path, boss.token, body); r.status != c.again {
			t.Errorf("%s: %d %s", name, r.status, r.raw)
		}
		for i, w := range all.worlds {
			if !c.shows(w.page(boss, channel, 50), message) {
				t.Errorf("%s: a page of instance %d lacks what was acknowledged", name, i)
			}
		}
	}
}

// busyOnce is a store that does not save the next changes of a guild, or does not store
// the next message.
type busyOnce struct {
	textchat.Store
	busy, full atomic.Bool
}

func (s *busyOnce) AddMessage(ctx context.Context, m textchat.Message, nonce string) (textchat.Message, bool, error) {
	if s.full.CompareAndSwap(true, false) {
		return textchat.Message{}, false, fmt.Errorf("add message: %w", textchat.ErrBusy)
	}
	return s.Store.AddMessage(ctx, m, nonce)
}

func (s *busyOnce) Save(ctx context.Context, guild textchat.ID, changes []textchat.Change) error {
	if s.busy.CompareAndSwap(true, false) {
		return fmt.Errorf("save: %w", textchat.ErrBusy)
	}
	return s.Store.Save(ctx, guild, changes)
}

// TestToldInSpite: what is stored is told also when what the guild notes of it is not
// saved at once.
func TestToldInSpite(t *testing.T) {
	store := &busyOnce{}
	w := newWorldOver(t, func(embedded textchat.Store) textchat.Store { store.Store = embedded; return store })
	boss, ann := w.boss(), w.guest("Ann")
	path := "/channels/" + w.channelID(boss, "general") + "/messages"
	id := w.do("POST", path, ann.token, map[string]any{"content": "one"}).body["id"].(string)
	hears := w.enter(ann)
	store.busy.Store(true)
	w.do("DELETE", path+"/"+id, boss.token, nil)
	if store.busy.Load() {
		t.Error("nothing was saved")
	}
	if d := hears.event("MESSAGE_DELETE"); d["id"] != id {
		t.Errorf("heard of %v", d)
	}
}
