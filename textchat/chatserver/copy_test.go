package chatserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/sqlite"
	"voicefleet/textchat/textchattest"
)

// copySeeds are the histories that the embedded store of a copy has behind it.
var copySeeds = []uint64{21, 22, 23, 24}

// copySource is the folder of an embedded store with some histories, and what to look up
// to see all of it.
type copySource struct {
	dir                                string
	users, guilds, channels            []textchat.ID
	codes, settings, names, emojis     []string
	tokens                             []textchat.TokenHash
	messages, reactions, pins, private int
}

func newCopySource(t *testing.T) *copySource {
	t.Helper()
	s := &copySource{dir: t.TempDir()}
	store, err := sqlite.Open(s.dir, sqlite.Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range copySeeds {
		textchattest.Differential(t, store, seed, 600)
	}
	// As much of one channel that the copy notes in between how far it is.
	many := make([]textchat.Message, copyNoted+10)
	for i := range many {
		many[i] = textchat.Message{ID: textchat.ID(1000+i) << 22, Channel: 77, Author: textchat.User{ID: 1}, Content: fmt.Sprint(i), Mentions: []textchat.User{}, MentionRoles: []textchat.ID{}}
	}
	if err := errors.Join(store.AddMessages(t.Context(), 77, many), store.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, sqlite.File))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []struct {
		query string
		to    any
	}{
		{"SELECT id FROM users", &s.users},
		{"SELECT id FROM guilds UNION SELECT guild_id FROM roles UNION SELECT guild_id FROM members UNION SELECT guild_id FROM audit", &s.guilds},
		{"SELECT channel_id FROM messages UNION SELECT id FROM channels UNION SELECT id FROM dms", &s.channels},
		{"SELECT code FROM invites", &s.codes}, {"SELECT key FROM settings", &s.settings}, {"SELECT username FROM users", &s.names},
		{"SELECT DISTINCT emoji FROM reactions", &s.emojis}, {"SELECT hash FROM tokens", &s.tokens},
	} {
		rows, err := db.Query(q.query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			switch to := q.to.(type) {
			case *[]textchat.ID:
				var id int64
				err = rows.Scan(&id)
				*to = append(*to, textchat.ID(id))
			case *[]string:
				var text string
				err = rows.Scan(&text)
				*to = append(*to, text)
			case *[]textchat.TokenHash:
				var hash []byte
				err = rows.Scan(&hash)
				*to = append(*to, textchat.TokenHash(hash))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		rows.Close()
	}
	if err := db.QueryRow("SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM reactions), (SELECT count(*) FROM pins), (SELECT count(*) FROM dms)").Scan(&s.messages, &s.reactions, &s.pins, &s.private); err != nil {
		t.Fatal(err)
	}
	for what, n := range map[string]int{
		"users": len(s.users), "guilds": len(s.guilds), "channels": len(s.channels), "invites": len(s.codes), "settings": len(s.settings),
		"tokens": len(s.tokens), "messages": s.messages, "reactions": s.reactions, "pins": s.pins, "private channels": s.private,
	} {
		if n == 0 {
			t.Fatalf("the histories leave no %s", what)
		}
	}
	return s
}

// seen is all that a store answers about what the source has: a line for each question.
func (s *copySource) seen(t *testing.T, store textchat.Store) []string {
	t.Helper()
	var all []string
	ctx := t.Context()
	note := func(what string, v any, err error) {
		answer := string(encode(v))
		if answer == "[]" { // of none a store may say either
			answer = "null"
		}
		if errors.Is(err, textchat.ErrNoRecord) {
			answer = "no record"
		} else if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		all = append(all, what+": "+answer)
	}
	users, err := store.Users(ctx, 0, 1000)
	note("users", users, err)
	for _, name := range s.names {
		c, err := store.Login(ctx, name)
		note("login "+name, c, err)
	}
	for _, token := range s.tokens {
		u, err := store.TokenUser(ctx, token)
		note(fmt.Sprintf("token %x", token[:]), u, err)
	}
	for _, user := range s.users {
		ids, err := store.GuildIDs(ctx, user)
		note(fmt.Sprint("guilds of ", user), ids, err)
		dms, err := store.DMs(ctx, user, 1000)
		note(fmt.Sprint("private channels of ", user), dms, err)
	}
	ids, err := store.GuildIDs(ctx, 0)
	note("guilds", ids, err)
	for _, guild := range s.guilds {
		r, err := store.Guild(ctx, guild)
		note(fmt.Sprint("guild ", guild), r, err)
		invites, err := store.Invites(ctx, guild)
		note(fmt.Sprint("invites ", guild), invites, err)
		bans, err := store.Bans(ctx, guild, 0, 0, 1000)
		note(fmt.Sprint("bans ", guild), bans, err)
		webhooks, err := store.Webhooks(ctx, guild)
		note(fmt.Sprint("webhooks ", guild), webhooks, err)
		for _, w := range webhooks {
			w, err = store.Webhook(ctx, w.ID)
			note(fmt.Sprint("webhook ", w.ID), w, err)
		}
		log, err := store.Audit(ctx, guild, textchat.AuditQuery{Limit: 1000})
		note(fmt.Sprint("audit ", guild), log, err)
	}
	for _, code := range s.codes {
		i, err := store.Invite(ctx, code)
		note("invite "+code, i, err)
	}
	for _, key := range s.settings {
		v, err := store.Setting(ctx, key)
		note("setting "+key, v, err)
	}
	for _, channel := range s.channels {
		guild, err := store.ChannelGuild(ctx, channel)
		note(fmt.Sprint("guild of ", channel), guild, err)
		dm, err := store.DM(ctx, channel)
		note(fmt.Sprint("private channel ", channel), dm, err)
		pins, err := store.Pins(ctx, channel, time.Now(), 1000)
		note(fmt.Sprint("pins of ", channel), pins, err)
		for q := (textchat.PageQuery{Limit: 100}); ; {
			page, err := store.Page(ctx, channel, q)
			note(fmt.Sprintf("messages of %v before %v", channel, q.Before), page, err)
			if len(page) == 0 {
				break
			}
			of := make([]textchat.ID, len(page))
			for i, m := range page {
				of[i] = m.ID
			}
			q.Before = of[len(of)-1]
			marks, err := store.Marks(ctx, channel, of, s.users[0])
			note(fmt.Sprintf("marks of %v before %v", channel, q.Before), marks, err)
			for id, m := range marks {
				if len(m.Reactions) == 0 {
					continue
				}
				for _, emoji := range s.emojis {
					who, err := store.Reactors(ctx, channel, id, emoji, 0, 1000)
					note(fmt.Sprint("reactors of ", id, " ", emoji), who, err)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// compare says what differs.
func (s *copySource) compare(t *testing.T, got textchat.Store) {
	t.Helper()
	from, err := sqlite.Open(s.dir, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	want, have := s.seen(t, from), s.seen(t, got)
	if len(want) != len(have) {
		t.Errorf("%d answers, want %d", len(have), len(want))
	}
	for i := range min(len(want), len(have)) {
		if want[i] != have[i] {
			t.Fatalf("the copy says\n%s\nwant\n%s", have[i], want[i])
		}
	}
}

// before is a time at which no entry of the histories is too old.
var before = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)

func silently(Copied) {}

// breaking is a store of which a write fails now and then, done or not; and is busy at
// other times.
type breaking struct {
	textchat.Store
	lots *rand.Rand
}

var errBroken = errors.New("broken for the test")

func (b *breaking) write(do func() error) error {
	switch b.lots.IntN(150) {
	case 0:
		return errBroken
	case 1:
		return errors.Join(errBroken, do())
	case 2:
		return textchat.ErrBusy
	case 3:
		if err := do(); err != nil {
			return err
		}
		return textchat.ErrUnsure
	}
	return do()
}

func (b *breaking) CreateUser(ctx context.Context, c textchat.Credential, token *textchat.TokenHash, now time.Time) error {
	return b.write(func() error { return b.Store.CreateUser(ctx, c, token, now) })
}

func (b *breaking) AddToken(ctx context.Context, user textchat.ID, token textchat.TokenHash, now time.Time) error {
	return b.write(func() error { return b.Store.AddToken(ctx, user, token, now) })
}

func (b *breaking) Save(ctx context.Context, guild textchat.ID, list []textchat.Change) error {
	return b.write(func() error { return b.Store.Save(ctx, guild, list) })
}

func (b *breaking) AddMessages(ctx context.Context, channel textchat.ID, list []textchat.Message) error {
	return b.write(func() error { return b.Store.AddMessages(ctx, channel, list) })
}

func (b *breaking) Pin(ctx context.Context, channel, message textchat.ID, at time.Time, most int) (changed bool, err error) {
	err = b.write(func() (err error) { changed, err = b.Store.Pin(ctx, channel, message, at, most); return err })
	return changed, err
}

func (b *breaking) OpenDM(ctx context.Context, d textchat.DM) (dm textchat.DM, err error) {
	err = b.write(func() (err error) { dm, err = b.Store.OpenDM(ctx, d); return err })
	return dm, err
}

func (b *breaking) SetSetting(ctx context.Context, key, value string) error {
	return b.write(func() error { return b.Store.SetSetting(ctx, key, value) })
}

func (b *breaking) TakeSetting(ctx context.Context, key, value string) error {
	return b.write(func() error { return b.Store.TakeSetting(ctx, key, value) })
}

// emptyStore is an embedded one, which shows what Copy asks of any.
func emptyStore(t *testing.T) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(t.TempDir(), sqlite.Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// TestCopy interrupts copies and repeats them until they are whole; then the stores
// answer alike.
func TestCopy(t *testing.T) {
	s := newCopySource(t)
	broken := 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			to := &breaking{Store: emptyStore(t), lots: rand.New(rand.NewPCG(seed+1, 7))}
			runs := 0
			for {
				runs++
				_, err := Copy(t.Context(), s.dir, to, before, silently)
				if err == nil {
					break
				}
				if !errors.Is(err, errBroken) {
					t.Fatal(err)
				}
			}
			broken += runs - 1
			s.compare(t, to.Store)
		})
	}
	if broken == 0 {
		t.Error("no copy was interrupted")
	}
}

// TestCopyGoesOn: a copy that was broken off does not bring again what it noted to be
// there, and what it brings is counted.
func TestCopyGoesOn(t *testing.T) {
	s := newCopySource(t)
	to := emptyStore(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	first, err := Copy(ctx, s.dir, to, before, func(c Copied) {
		if c.Messages >= copyNoted {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the broken copy: %v", err)
	}
	second, err := Copy(t.Context(), s.dir, to, before, silently)
	if err != nil {
		t.Fatal(err)
	}
	if first.Messages+second.Messages >= s.messages+copyNoted || second.Messages >= s.messages {
		t.Errorf("%d messages and then %d, of %d", first.Messages, second.Messages, s.messages)
	}
	whole, err := Copy(t.Context(), s.dir, emptyStore(t), before, silently)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Users != len(s.users) || whole.Messages != s.messages || whole.Reactions != s.reactions || whole.Pins != s.pins || whole.DMs != s.private {
		t.Errorf("brought %+v, there are %d users, %d messages, %d reactions, %d pins, %d private channels", whole, len(s.users), s.messages, s.reactions, s.pins, s.private)
	}
	s.compare(t, to)
}

// TestCopyRefuses: a store that is in use is not mixed with another one, half of a copy
// goes on from the same state only, no server starts on it, and old entries of audit logs
// stay behind.
func TestCopyRefuses(t *testing.T) {
	s := newCopySource(t)
	to := emptyStore(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if _, err := Copy(ctx, s.dir, to, before, func(c Copied) { stop() }); !errors.Is(err, context.Canceled) {
		t.Fatalf("the broken copy: %v", err)
	}
	v := newVoiceSide()
	srv, err := New(Config{DataDir: t.TempDir(), Store: to, Placer: v, Presence: v, Moves: v})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Bootstrap(t.Context(), "half"); !errors.Is(err, errHalfCopied) {
		t.Errorf("a server on half a copy: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := srv.Run(ended); err != nil {
		t.Error(err)
	}
	other := t.TempDir()
	if err := os.CopyFS(other, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	add, err := sqlite.Open(other, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(add.CreateUser(t.Context(), textchat.Credential{User: textchat.User{ID: 5, Username: "late"}}, nil, before), add.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(t.Context(), other, to, before, silently); err == nil || !strings.Contains(err.Error(), "earlier state") {
		t.Errorf("another state goes on with half a copy: %v", err)
	}
	late := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := Copy(t.Context(), s.dir, to, late, silently); err != nil {
		t.Fatal(err)
	}
	for _, guild := range s.guilds {
		if log, err := to.Audit(t.Context(), guild, textchat.AuditQuery{Limit: 10}); err != nil || len(log) > 0 {
			t.Errorf("years later the audit log has %v (%v)", log, err)
		}
	}
	if _, err := Copy(t.Context(), s.dir, to, before, silently); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("copied over a whole copy: %v", err)
	}
	if v, err := to.Setting(t.Context(), settingCopy); !errors.Is(err, textchat.ErrNoRecord) {
		t.Errorf("the note stays: %q %v", v, err)
	}
}

// TestCopyToCluster copies to a real CQL server, twice interrupted.
func TestCopyToCluster(t *testing.T) {
	to, _, _ := newCQLStore(t, "copy")
	s := newCopySource(t)
	for _, most := range []int{0, copyStretch} {
		ctx, stop := context.WithCancel(t.Context())
		if _, err := Copy(ctx, s.dir, to, before, func(c Copied) {
			if c.Guilds > 0 && c.Messages >= most {
				stop()
			}
		}); !errors.Is(err, context.Canceled) {
			t.Fatalf("the broken copy: %v", err)
		}
		stop()
	}
	began := time.Now()
	done, err := Copy(t.Context(), s.dir, to, before, silently)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v in %v", done, time.Since(began))
	s.compare(t, to)
}
