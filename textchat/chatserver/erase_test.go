package chatserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/cql"
	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/internal/token"
	"voicefleet/textchat/textchattest"
)

// What the person of these tests is called and writes, in small letters.
const (
	theirName   = "zaphodb"
	theirGlobal = "beeblebrox"
	theirNick   = "trillianx"
	theirWords  = "marker-4711"
)

// named says which of it is in a text.
func named(text []byte) (list []string) {
	low := bytes.ToLower(text)
	for _, s := range []string{theirName, theirGlobal, theirNick, theirWords} {
		if bytes.Contains(low, []byte(s)) {
			list = append(list, s)
		}
	}
	return list
}

// TestErasedLeavesNothing: after an erasure neither the store, down to the bytes of its
// files, nor what any instance answers has the person's names or words.
func TestErasedLeavesNothing(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		dir := t.TempDir()
		w := newWorld(t, dir, nil, nil)
		eraseEverywhere(t, w, w, func() []byte {
			var all []byte
			for _, name := range []string{"textchat.db", "textchat.db-wal"} {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b...)
			}
			return all
		})
	})
	t.Run("Instances", func(t *testing.T) {
		all := newTogether(t, 2)
		eraseEverywhere(t, all.worlds[0], all.worlds[1], nil)
	})
	t.Run("CQL", func(t *testing.T) {
		store, addr, keyspace := newCQLStore(t, "erase")
		files, err := filestore.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, "", func(c *Config) { c.Store, c.Files = store, files }, nil)
		eraseEverywhere(t, w, w, func() []byte { return scanned(t, addr, keyspace) })
	})
}

// newCQLStore is a keyspace of its own, at a real CQL server that ends with the test.
func newCQLStore(t *testing.T, name string) (store *cql.Store, addr, keyspace string) {
	t.Helper()
	server := new(textchattest.CQLServer)
	keyspace = fmt.Sprintf("%s_%d", name, time.Now().UnixNano())
	addr = server.Address(t)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if strings.HasPrefix(addr, cql.Scheme) {
		t.Skip("the CQL server is somebody else's, with an address of its own")
	}
	c, err := cql.ParseAddress(cql.Scheme + addr + "/" + keyspace)
	if err != nil {
		t.Fatal(err)
	}
	c.Timeout = 10 * time.Second // the server's code is not compiled yet
	if store, err = cql.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, addr, keyspace
}

// scanned is every row of every table of a keyspace and of its keyspace of transactions.
func scanned(t *testing.T, addr, keyspace string) []byte {
	t.Helper()
	cluster := gocql.NewCluster(addr)
	cluster.Timeout, cluster.ConnectTimeout = 30*time.Second, 30*time.Second
	session, err := cluster.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var all []byte
	for _, ks := range []string{keyspace, keyspace + "_lwt"} {
		tables := session.Query("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", ks).Iter()
		var table string
		for tables.Scan(&table) {
			rows := session.Query("SELECT JSON * FROM " + ks + "." + table).Iter()
			var row string
			for rows.Scan(&row) {
				all = append(append(all, row...), '\n')
			}
			if err := rows.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := tables.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// eraseEverywhere has a person leave traces of every kind and erases it at w; at is where
// others look, raw what the store has.
func eraseEverywhere(t *testing.T, w, at *world, raw func() []byte) {
	const admin = "Bearer let-me-in"
	at.first = w.first
	boss, bob := w.boss(), w.guest("Bob")
	reg := w.do("POST", "/auth/register", "", map[string]any{"username": theirName, "password": "correct horse", "invite": w.first.Invite})
	her := person{reg.body["user"].(map[string]any)["id"].(string), reg.body["token"].(string)}
	mention := "<@" + her.id + "> "
	guild, general := "/guilds/"+w.guildID(), "/channels/"+w.channelID(boss, "general")
	say := func(who person, where, text string, more map[string]any) string {
		t.Helper()
		body := map[string]any{"content": text}
		for k, v := range more {
			body[k] = v
		}
		return w.do("POST", where+"/messages", who.token, body).body["id"].(string)
	}

	w.do("PATCH", "/users/@me", her.token, map[string]any{"global_name": theirGlobal})
	w.with("she is "+theirWords, "PATCH", guild+"/members/"+her.id, boss.token, map[string]any{"nick": theirNick})
	role := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "admins", "permissions": "8"}).body["id"].(string)
	w.do("PUT", guild+"/members/"+her.id+"/roles/"+role, boss.token, nil)
	first := say(her, general, theirWords, nil)
	w.upload("POST", general+"/messages", her.token, part{name: "payload_json", body: []byte(`{"content":"see"}`)}, part{"files[0]", theirWords + ".txt", []byte(theirWords)})
	hello := say(bob, general, mention+"hello", nil)
	say(bob, general, "indeed", map[string]any{"message_reference": map[string]any{"message_id": first}})
	long := strings.Repeat("many words ", 180)
	more := make([]textchat.Message, 130) // than a page
	channel := snowflakeOf(t, w.channelID(boss, "general"))
	for i := range more {
		m := textchat.Message{ID: w.srv.newID(), Channel: channel, Author: textchat.User{ID: snowflakeOf(t, bob.id)}, Content: long}
		m.Timestamp.Time = m.ID.Time()
		more[i] = m
	}
	if err := w.srv.store.AddMessages(t.Context(), more[0].Channel, more); err != nil {
		t.Fatal(err)
	}
	say(her, general, theirWords+long, nil)
	last := say(bob, general, mention+"again", nil)
	for _, m := range []string{hello, last} {
		w.do("PUT", general+"/messages/"+m+"/reactions/%F0%9F%91%8D/@me", her.token, nil)
		w.do("PUT", general+"/messages/"+m+"/reactions/%F0%9F%91%8D/@me", boss.token, nil)
	}
	w.with(theirWords, "PATCH", general, her.token, map[string]any{"topic": "a topic"})
	w.do("PUT", general+"/pins/"+hello, her.token, nil)
	hook := w.do("POST", general+"/webhooks", her.token, map[string]any{"name": "hook"})
	dm := "/channels/" + w.do("POST", "/users/@me/channels", her.token, map[string]any{"recipient_id": bob.id}).body["id"].(string)
	say(her, dm, theirWords, nil)
	reply := say(bob, dm, mention+"yes", nil)
	w.do("PUT", dm+"/messages/"+reply+"/reactions/%F0%9F%91%8D/@me", her.token, nil)
	other := w.do("POST", "/guilds", boss.token, map[string]any{"name": "Other"}).body
	otherPath := "/guilds/" + other["id"].(string)
	otherChannel := "/channels/" + w.do("POST", otherPath+"/channels", boss.token, map[string]any{"name": "talk", "type": 0}).body["id"].(string)
	invite := w.do("POST", otherChannel+"/invites", boss.token, map[string]any{}).body["code"].(string)
	w.do("POST", "/invites/"+invite, her.token, nil)
	say(her, otherChannel, theirWords, nil)
	say(boss, otherChannel, mention+"go", nil)
	w.with("spread "+theirWords, "PUT", otherPath+"/bans/"+her.id, boss.token, nil)

	// look is what others see, hot pages included.
	look := func() []byte {
		t.Helper()
		var all []byte
		for _, l := range []struct {
			who  person
			path string
		}{
			{bob, general + "/messages?limit=50"}, {bob, general + "/messages?limit=100"}, {bob, general + "/messages?limit=50&after=1"}, {bob, general + "/pins"},
			{bob, dm + "/messages"}, {boss, otherChannel + "/messages"}, {boss, guild + "/members?limit=100"}, {boss, guild + "/audit-logs"}, {boss, guild + "/webhooks"},
			{boss, otherPath + "/bans"}, {boss, otherPath + "/audit-logs"}, {bob, "/users/@me/channels"}, {bob, "/users/" + her.id},
		} {
			all = append(all, at.do("GET", l.path, l.who.token, nil).raw...)
		}
		return all
	}
	want := []string{theirName, theirGlobal, theirNick, theirWords}
	if got := named(look()); !slices.Equal(got, want) {
		t.Fatalf("others see %q", got)
	}
	if raw != nil {
		if got := named(raw()); !slices.Equal(got, want) {
			t.Fatalf("the store has %q", got)
		}
	}

	count := map[string]int{}
	told1 := w.do("GET", "/admin/users/"+theirName+"/export", admin, nil)
	for _, l := range told(t, told1) {
		for kind := range l {
			count[kind]++
		}
	}
	// Written: four with her words, one beside a file, and that she pinned.
	exact := map[string]int{"user": 1, "member": 1, "ban": 1, "webhook": 1, "dm": 1, "message": 6, "reaction": 3, "mention": 5, "done": 1}
	if audit := count["audit"]; audit < 6 {
		t.Errorf("%d entries of audit logs are told", audit)
	}
	delete(count, "audit")
	if fmt.Sprint(count) != fmt.Sprint(exact) {
		t.Errorf("exported %v, want %v", count, exact)
	}
	if token := hook.body["token"].(string); bytes.Contains(told1.raw, []byte(token)) {
		t.Error("the export has the token of a webhook")
	}

	lines := told(t, w.do("DELETE", "/admin/users/"+theirName, admin, nil))
	done, _ := lines[len(lines)-1]["done"].(map[string]any)
	for what, n := range map[string]float64{"messages": 6, "reactions": 3, "mentions": 5, "guilds": 1, "bans": 1, "webhooks": 1, "dms": 1} {
		if done[what] != n {
			t.Errorf("erased %v %s, want %v: %v", done[what], what, n, lines[len(lines)-1])
		}
	}
	seen := look()
	if got := named(seen); len(got) > 0 {
		t.Errorf("others still see %q", got)
	}
	if !bytes.Contains(seen, []byte("deleted."+her.id)) {
		t.Error("nobody is told that the account is deleted")
	}
	if raw != nil {
		left := raw()
		for _, s := range named(left) {
			i := bytes.Index(bytes.ToLower(left), []byte(s))
			t.Errorf("the store still has %s: %q", s, left[max(0, i-300):min(len(left), i+100)])
		}
	}
	// What is not hers stays.
	if a := w.do("GET", general+"/messages/"+hello+"/reactions/%F0%9F%91%8D", bob.token, nil).list(t); len(a) != 1 || a[0]["id"] != boss.id {
		t.Errorf("reactions: %v", a)
	}
	m := w.do("GET", general+"/messages/"+last, bob.token, nil).body
	if c := m["mentions"].([]any); m["content"] != mention+"again" || len(c) != 1 || c[0].(map[string]any)["id"] != her.id {
		t.Errorf("bob's message is %v", m)
	}
	if b := w.do("GET", otherPath+"/bans/"+her.id, boss.token, nil).body; b["reason"] != nil {
		t.Errorf("the ban is %v", b)
	}
	w.do("POST", "/webhooks/"+hook.body["id"].(string)+"/"+hook.body["token"].(string), "", map[string]any{"content": "beep"})
	again := told(t, w.do("DELETE", "/admin/users/"+her.id, admin, nil))
	for what, n := range again[len(again)-1]["done"].(map[string]any) {
		if slices.Contains([]string{"messages", "reactions", "guilds"}, what) && n != 0.0 {
			t.Errorf("erased again: %v %s", n, what)
		}
	}
	eventually(t, "no file is left", func() bool { return w.kept() == 0 })
}

// interrupted is a store that fails to list one channel, and counts who else is asked for.
type interrupted struct {
	textchat.Store
	mu    sync.Mutex
	fails textchat.ID
	pages map[textchat.ID]int
	first func() // called before the first page
}

func (s *interrupted) Page(ctx context.Context, channel textchat.ID, q textchat.PageQuery) ([]textchat.Message, error) {
	s.mu.Lock()
	s.pages[channel]++
	fails, first := channel == s.fails, s.first
	s.first = nil
	s.mu.Unlock()
	if first != nil {
		first()
	}
	if fails {
		return nil, errors.New("no answer")
	}
	return s.Store.Page(ctx, channel, q)
}

// TestEraseGoesOn: an erasure that was interrupted does not begin anew, and at its end
// tells of all of it.
func TestEraseGoesOn(t *testing.T) {
	const admin = "Bearer let-me-in"
	broken := &interrupted{pages: map[textchat.ID]int{}}
	w := newWorld(t, t.TempDir(), nil, func(s *Server) {
		broken.Store, s.store, s.noteErase = s.store, broken, 0
	})
	boss, ann := w.boss(), w.guest("Ann")
	guild := "/guilds/" + w.guildID()
	first := w.channelID(boss, "general")
	second := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "last", "type": 0}).body["id"].(string)
	for _, ch := range []string{first, second} {
		w.do("POST", "/channels/"+ch+"/messages", ann.token, map[string]any{"content": "mine"})
	}
	erase := func() (map[string]any, int) {
		broken.mu.Lock()
		clear(broken.pages)
		broken.mu.Unlock()
		lines := told(t, w.do("DELETE", "/admin/users/"+ann.id, admin, nil))
		broken.mu.Lock()
		defer broken.mu.Unlock()
		return lines[len(lines)-1], broken.pages[snowflakeOf(t, first)]
	}
	broken.fails = snowflakeOf(t, second)
	if last, n := erase(); last["error"] == nil || n == 0 {
		t.Fatalf("ends with %v, looked %d times into the first channel", last, n)
	}
	broken.fails = 0
	last, n := erase()
	if done, _ := last["done"].(map[string]any); done["messages"] != 2.0 || done["guilds"] != 1.0 || n != 0 {
		t.Errorf("goes on to %v, looked %d times into the first channel", last, n)
	}
	if last, n = erase(); last["done"] == nil || n == 0 {
		t.Errorf("repeated: %v, looked %d times into the first channel", last, n)
	}
}

// TestEraseShutsTheAccount: while a person is erased, and after, nobody can use the
// account; what got in all the same is ended with it.
func TestEraseShutsTheAccount(t *testing.T) {
	const admin, pass = "Bearer let-me-in", "correct horse"
	broken := &interrupted{pages: map[textchat.ID]int{}}
	w := newWorld(t, t.TempDir(), nil, func(s *Server) {
		broken.Store, s.store, s.noteErase = s.store, broken, 0
	})
	boss := w.boss()
	reg := w.do("POST", "/auth/register", "", map[string]any{"username": theirName, "password": pass, "invite": w.first.Invite})
	her := person{reg.body["user"].(map[string]any)["id"].(string), reg.body["token"].(string)}
	id, general := snowflakeOf(t, her.id), w.channelID(boss, "general")
	last := w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "last", "type": 0}).body["id"].(string)
	login := func(password string) answer {
		return w.try("POST", "/auth/login", "", map[string]any{"username": theirName, "password": password})
	}
	late := token.New(id, time.Now())
	broken.fails = snowflakeOf(t, last)
	broken.first = func() {
		if a := login(pass); a.status != 401 && a.status != 400 {
			t.Errorf("logs in while it is erased: %d %s", a.status, a.raw)
		}
		if a := w.try("POST", "/channels/"+general+"/messages", her.token, map[string]any{"content": theirWords}); a.status != 401 {
			t.Errorf("posts while it is erased: %d %s", a.status, a.raw)
		}
	}
	lines := told(t, w.do("DELETE", "/admin/users/"+theirName, admin, nil))
	if lines[len(lines)-1]["error"] == nil {
		t.Fatalf("ends with %v", lines[len(lines)-1])
	}
	// Interrupted, and let in again by the operator, it writes where it was looked already.
	again := w.do("POST", "/admin/reset-password", admin, map[string]any{"username": theirName}).body["password"].(string)
	in := login(again)
	her.token, _ = in.body["token"].(string)
	w.do("POST", "/invites/"+w.first.Invite, her.token, nil)
	w.do("POST", "/channels/"+general+"/messages", her.token, map[string]any{"content": theirWords})
	broken.fails = 0
	broken.first = func() { // as what was asked before, and ends now
		if err := broken.AddToken(t.Context(), id, token.Hash(late), time.Now()); err != nil {
			t.Error(err)
		}
		w.do("POST", "/invites/"+w.first.Invite, late, nil)
	}
	lines = told(t, w.do("DELETE", "/admin/users/"+theirName, admin, nil))
	if lines[len(lines)-1]["done"] == nil {
		t.Fatalf("ends with %v", lines[len(lines)-1])
	}
	if m := w.do("GET", "/channels/"+general+"/messages", boss.token, nil); bytes.Contains(m.raw, []byte(theirWords)) {
		t.Errorf("what it wrote meanwhile is there: %s", m.raw)
	}
	for _, tok := range []string{her.token, late} {
		if a := w.try("GET", "/users/@me", tok, nil); a.status != 401 {
			t.Errorf("a token still stands: %d %s", a.status, a.raw)
		}
	}
	if ids, err := w.srv.store.GuildIDs(t.Context(), id); err != nil || len(ids) > 0 {
		t.Errorf("it is in %v (%v)", ids, err)
	}
}

// TestEraseForgetsWhatWasTold: what a server that is alone wrote down for sessions has
// nothing of an erased person any more. Who has seen all goes on; who was away begins
// anew, and has no gap.
func TestEraseForgetsWhatWasTold(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	ann, bob := l.guest("ann"), l.guest("bob")
	her := l.do("POST", "/auth/register", "", map[string]any{"username": theirName, "nickname": theirGlobal, "password": "correct horse", "invite": l.first.Invite})
	id, token := her.body["user"].(map[string]any)["id"].(string), her.body["token"].(string)
	general := "/channels/" + l.channelID(ann, "general") + "/messages"
	as, bs := l.enter(ann), l.enter(bob)
	bs.breakOff()
	l.do("POST", general, token, map[string]any{"content": theirWords})
	as.until("MESSAGE_CREATE")
	kept := func() (all []byte) {
		names, err := filepath.Glob(filepath.Join(l.told, "*"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			body, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, body...)
		}
		return all
	}
	if got, want := named(kept()), []string{theirName, theirGlobal, theirWords}; !slices.Equal(got, want) {
		t.Fatalf("the journal has %q, want %q", got, want)
	}
	lines := told(t, l.do("DELETE", "/admin/users/"+id, "Bearer let-me-in", nil))
	if lines[len(lines)-1]["done"] == nil {
		t.Fatalf("ends with %v", lines[len(lines)-1])
	}
	if got := named(kept()); len(got) > 0 {
		t.Errorf("the journal still has %q", got)
	}
	l.do("POST", general, bob.token, map[string]any{"content": "zero"})
	e := l.srv.ensemble
	eventually(t, "it is noted what sessions have of what was written since", func() bool {
		e.mirrors.mu.Lock()
		defer e.mirrors.mu.Unlock()
		r := e.mirrors.of[e.life]
		return r != nil && len(r.list) > 0 && r.list[len(r.list)-1].Seq >= e.journal.First()
	})
	l.do("POST", general, bob.token, map[string]any{"content": "one"})
	for as.until("MESSAGE_CREATE")["content"] != "one" {
	}
	as.breakOff()
	l.do("POST", general, bob.token, map[string]any{"content": "two"})
	l.killed(t)
	as = l.resume(ann, as)
	if got := as.until("MESSAGE_CREATE")["content"]; got != "two" {
		t.Errorf("goes on with %q", got)
	}
	as.until("RESUMED")
	if f := l.resume(bob, bs).next(); f.Op != 9 {
		t.Errorf("who was away is told op %d %s", f.Op, f.T)
	}
}

// tardy is a store where passwords are replaced, and tokens made void, just before the
// next token is added.
type tardy struct {
	textchat.Store
	before func()
	added  textchat.TokenHash
}

func (s *tardy) AddToken(ctx context.Context, user textchat.ID, hash textchat.TokenHash, now time.Time) error {
	if before := s.before; before != nil {
		s.before = nil
		before()
		s.added = hash
	}
	return s.Store.AddToken(ctx, user, hash, now)
}

// TestLoginAsThePasswordGoes: who had shown a password when it was taken away gets no
// token that stands.
func TestLoginAsThePasswordGoes(t *testing.T) {
	store := new(tardy)
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { store.Store, s.store = s.store, store })
	form := map[string]any{"username": theirName, "password": "correct horse"}
	w.do("POST", "/auth/register", "", form)
	store.before = func() {
		w.do("POST", "/admin/reset-password", "Bearer let-me-in", map[string]any{"username": theirName})
	}
	if a := w.try("POST", "/auth/login", "", form); a.status < 400 || a.status >= 500 || a.body["token"] != nil {
		t.Errorf("logged in: %d %s", a.status, a.raw)
	}
	if store.added == (textchat.TokenHash{}) {
		t.Fatal("no token was added")
	}
	if u, err := w.srv.store.TokenUser(t.Context(), store.added); !errors.Is(err, textchat.ErrNoRecord) {
		t.Errorf("the token stands for %v (%v)", u.ID, err)
	}
}

func snowflakeOf(t *testing.T, s string) (id textchat.ID) {
	t.Helper()
	if _, err := fmt.Sscan(s, (*uint64)(&id)); err != nil {
		t.Fatal(err)
	}
	return id
}
