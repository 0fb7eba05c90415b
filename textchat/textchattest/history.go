package textchattest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

// Numbers of a history's world: few of each, so that steps meet.
const (
	historyUsers    = 5
	historyGuilds   = 2
	historyChannels = 3 // of a guild
	historyNonces   = 4
)

// history is one seeded run of steps against a model and a store.
type history struct {
	t     testing.TB
	seed  uint64
	rng   *rand.Rand
	model *Model
	store textchat.Store

	now  time.Time     // virtual; only grows
	seq  textchat.ID   // of message ids
	sent []textchat.ID // ids that were given to messages, to ask for again
	log  []string      // the steps so far
}

// Differential runs one random history: the same steps against a model and the
// store, which must answer alike each time. Ids and names begin with the seed:
// histories of different seeds may share a store, also at the same time. Times
// are virtual: a history of 300 steps spans months.
func Differential(t testing.TB, store textchat.Store, seed uint64, steps int) {
	t.Helper()
	h := &history{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), model: NewModel(), store: store,
		now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seed%1000) * time.Hour),
	}
	for range steps {
		h.step()
		if t.Failed() {
			t.Logf("seed %d, the last steps:\n%s", seed, strings.Join(h.log[max(0, len(h.log)-40):], "\n"))
			t.FailNow()
		}
	}
}

// id is one of the history's own ids: kind tells users, guilds and channels apart.
func (h *history) id(kind, n int) textchat.ID {
	return textchat.ID(h.seed)<<24 | textchat.ID(kind)<<16 | textchat.ID(n+1)
}

const (
	kindUser = iota
	kindGuild
	kindChannel
	kindRole
	kindWebhook
	kindAudit
	kindDM
)

func (h *history) user() textchat.ID  { return h.id(kindUser, h.rng.IntN(historyUsers)) }
func (h *history) guild() textchat.ID { return h.id(kindGuild, h.rng.IntN(historyGuilds)) }

// channel is a channel of a guild, always of the same one.
func (h *history) channel(guild textchat.ID) textchat.ID {
	return h.id(kindChannel, int(guild&0xff)*16+h.rng.IntN(historyChannels))
}

func (h *history) name() string {
	name := fmt.Sprintf("s%dn%d", h.seed, h.rng.IntN(historyUsers))
	if h.rng.IntN(3) == 0 {
		return strings.ToUpper(name)
	}
	return name
}

func (h *history) code(guild textchat.ID) string {
	return fmt.Sprintf("s%dg%di%d", h.seed, guild&0xff, h.rng.IntN(3))
}

func (h *history) webhook(guild textchat.ID) textchat.ID {
	return h.id(kindWebhook, int(guild&0xff)*16+h.rng.IntN(3))
}

func (h *history) action() textchat.AuditAction {
	return textchat.AuditRoleCreate + textchat.AuditAction(h.rng.IntN(2))
}

func (h *history) emoji() string { return []string{"👍", "🦊", "❤️", "1️⃣"}[h.rng.IntN(4)] }

func (h *history) key() string { return fmt.Sprintf("s%dk%d", h.seed, h.rng.IntN(2)) }

func (h *history) token() textchat.TokenHash {
	var hash textchat.TokenHash
	for i := range 8 {
		hash[i] = byte(h.seed >> (8 * i))
	}
	hash[8] = byte(h.rng.IntN(8))
	return hash
}

func (h *history) text() string { return fmt.Sprintf("text %d «ü»", h.rng.IntN(1000)) }

// freshID is an id for a new message: now, or at times days ago.
func (h *history) freshID() textchat.ID {
	h.seq++
	at := h.now
	if h.rng.IntN(10) == 0 {
		at = at.Add(-time.Duration(h.rng.IntN(40*24)) * time.Hour)
	}
	return textchat.ID(at.UnixMilli()-snowflake.Epoch)<<22 | h.seq
}

// oldID is an id that was given before, or near one.
func (h *history) oldID() textchat.ID {
	if len(h.sent) == 0 {
		return 1
	}
	// The newest half of the time: they are the ones that live.
	n := len(h.sent)
	if h.rng.IntN(2) == 0 {
		n = min(n, 10)
	}
	id := h.sent[len(h.sent)-1-h.rng.IntN(n)]
	if h.rng.IntN(8) == 0 {
		id += textchat.ID(h.rng.IntN(1 << 22))
	}
	return id
}

func (h *history) credential() textchat.Credential {
	c := textchat.Credential{User: textchat.User{ID: h.user(), Username: h.name(), Discriminator: "0", PublicFlags: h.rng.IntN(4)}}
	if h.rng.IntN(2) == 0 {
		c.Hash = "hash of " + h.text()
	}
	if h.rng.IntN(2) == 0 {
		label := h.text()
		c.User.GlobalName = &label
	}
	return c
}

func (h *history) message(channel, id textchat.ID) textchat.Message {
	m := textchat.Message{
		ID: id, Channel: channel, Author: textchat.User{ID: h.user(), Username: "author"}, Content: h.text(),
		Timestamp: textchat.Time{Time: h.now}, Mentions: []textchat.User{}, MentionRoles: []textchat.ID{},
	}
	if h.rng.IntN(4) == 0 {
		m.Reference = &textchat.MessageReference{Message: h.oldID(), Channel: channel}
	}
	return m
}

// changes are what one Save writes.
func (h *history) changes(guild textchat.ID) []textchat.Change {
	var list []textchat.Change
	for range 1 + h.rng.IntN(3) {
		var c textchat.Change
		switch h.rng.IntN(21) {
		case 0, 1:
			c.PutGuild = &textchat.Guild{ID: guild, Name: h.text(), Owner: h.user()}
		case 2:
			if h.rng.IntN(4) == 0 {
				c.DropGuild = true
			} else {
				c.PutGuild = &textchat.Guild{ID: guild, Name: h.text(), Owner: h.user()}
			}
		case 3, 4:
			c.PutRole = &textchat.Role{ID: h.id(kindRole, h.rng.IntN(4)), Name: h.text(), Permissions: textchat.Speak}
		case 5:
			c.DropRole = h.id(kindRole, h.rng.IntN(4))
		case 6, 7, 8:
			c.PutChannel = &textchat.Channel{ID: h.channel(guild), Guild: guild, Name: h.text(), Overwrites: []textchat.Overwrite{{ID: guild, Deny: textchat.Speak}}}
		case 9:
			c.DropChannel = h.channel(guild)
		case 10, 11, 12:
			c.PutMember = &textchat.Member{User: textchat.User{ID: h.user(), Username: "stale"}, Roles: []textchat.ID{guild}, JoinedAt: textchat.Time{Time: h.now}, Mute: h.rng.IntN(2) == 0}
		case 13:
			c.DropMember = h.user()
		case 14:
			c.PutInvite = &textchat.Invite{Code: h.code(guild), Guild: guild, Channel: h.channel(guild), MaxUses: h.rng.IntN(3), MaxAge: h.rng.IntN(2) * 86400, CreatedAt: textchat.Time{Time: h.now}}
		case 15:
			c.DropInvite = h.code(guild)
		case 16:
			c.PutBan = &textchat.Ban{User: textchat.User{ID: h.user()}}
		case 17:
			c.DropBan = h.user()
		case 18:
			c.PutWebhook = &textchat.Webhook{ID: h.webhook(guild), Guild: guild, Channel: h.channel(guild), Token: h.text()}
		case 19:
			c.DropWebhook = h.webhook(guild)
		case 20:
			if h.rng.IntN(4) > 0 || h.seq == 0 { // else one is rewritten
				h.seq++ // within AuditLife of each other
			}
			c.PutAudit = &textchat.AuditEntry{ID: h.id(kindAudit, 0)<<20 + h.seq, User: h.user(), Action: h.action()}
		}
		list = append(list, c)
	}
	return list
}

// answer is what a call gave, in a form that can be compared.
type answer struct {
	value string
	err   string
}

func answered(value any, err error) answer {
	var a answer
	for name, kind := range map[string]error{"no record": textchat.ErrNoRecord, "name taken": textchat.ErrNameTaken, "used up": textchat.ErrUsedUp, "too many": textchat.ErrTooMany} {
		if errors.Is(err, kind) {
			a.err = name
			return a
		}
	}
	if err != nil {
		a.err = err.Error()
		return a
	}
	b, err := json.Marshal(value)
	if err != nil {
		panic(err) // our own plain structs
	}
	a.value = string(b)
	return a
}

// both does one call on both and compares.
func (h *history) both(what string, do func(textchat.Store) (any, error)) {
	h.t.Helper()
	want := answered(do(h.model))
	got := answered(do(h.store))
	h.log = append(h.log, what+" -> "+want.value+want.err)
	if got != want {
		h.t.Errorf("seed %d, step %d: %s\n got %s%s\nwant %s%s", h.seed, len(h.log), what, got.value, got.err, want.value, want.err)
	}
}

func (h *history) step() {
	ctx := context.Background()
	// Mostly seconds, so that nonces meet; at times hours or weeks.
	switch h.rng.IntN(20) {
	case 0:
		h.now = h.now.Add(time.Duration(h.rng.IntN(15*24)) * time.Hour)
	case 1:
		h.now = h.now.Add(textchat.NonceLife)
	default:
		h.now = h.now.Add(time.Duration(h.rng.IntN(20_000)) * time.Millisecond)
	}
	switch n := h.rng.IntN(100); {
	case n < 35:
		h.stepMessage(ctx)
	case n < 50:
		h.stepPage(ctx)
	case n < 65:
		h.stepMarks(ctx)
	case n < 80:
		h.stepGuild(ctx)
	case n < 88:
		h.stepAccount(ctx)
	case n < 94:
		h.stepCommunity(ctx)
	default:
		h.stepOther(ctx)
	}
}

func (h *history) stepMessage(ctx context.Context) {
	channel := h.channel(h.guild())
	switch n := h.rng.IntN(11); {
	case n == 10:
		var list []textchat.Message
		for range 1 + h.rng.IntN(5) {
			list = append(list, h.message(channel, h.freshID()))
			h.sent = append(h.sent, list[len(list)-1].ID)
		}
		h.both(fmt.Sprintf("add %d messages from %d to %d", len(list), list[0].ID, channel), func(s textchat.Store) (any, error) { return nil, s.AddMessages(ctx, channel, list) })
	case n < 6:
		m := h.message(channel, h.freshID())
		h.sent = append(h.sent, m.ID)
		nonce := ""
		if h.rng.IntN(2) == 0 {
			nonce = fmt.Sprint("n", h.rng.IntN(historyNonces))
			m.Nonce = json.RawMessage(`"` + nonce + `"`)
		}
		h.both(fmt.Sprintf("add %d to %d by %d nonce %q", m.ID, channel, m.Author.ID, nonce), func(s textchat.Store) (any, error) {
			m, again, err := s.AddMessage(ctx, m, nonce)
			return []any{m, again}, err
		})
	case n < 7:
		m := h.message(channel, h.oldID())
		m.EditedTimestamp = &textchat.Time{Time: h.now}
		h.both(fmt.Sprintf("edit %d of %d", m.ID, channel), func(s textchat.Store) (any, error) { return nil, s.EditMessage(ctx, m) })
	case n < 9:
		id := h.oldID()
		h.both(fmt.Sprintf("delete %d of %d", id, channel), func(s textchat.Store) (any, error) { return nil, s.DeleteMessage(ctx, channel, id) })
	default:
		id := h.oldID()
		h.both(fmt.Sprintf("message %d of %d", id, channel), func(s textchat.Store) (any, error) { return s.Message(ctx, channel, id) })
	}
}

func (h *history) stepPage(ctx context.Context) {
	channel := h.channel(h.guild())
	q := textchat.PageQuery{Limit: 1 + h.rng.IntN(12)}
	if h.rng.IntN(5) == 0 {
		q.Limit = 100
	}
	switch h.rng.IntN(4) {
	case 0:
		q.Before = h.oldID()
	case 1:
		q.After = h.oldID()
	case 2:
		q.Around = h.oldID()
	}
	h.both(fmt.Sprintf("page of %d %+v", channel, q), func(s textchat.Store) (any, error) {
		list, err := s.Page(ctx, channel, q)
		return append([]textchat.Message{}, list...), err
	})
}

func (h *history) stepGuild(ctx context.Context) {
	guild := h.guild()
	switch n := h.rng.IntN(10); {
	case n < 5:
		changes := h.changes(guild)
		if h.rng.IntN(20) == 0 {
			// Both must refuse; with what words is their own.
			changes = append(changes, textchat.Change{})
			if err := h.store.Save(ctx, guild, changes); err == nil {
				h.t.Errorf("seed %d: save took an empty change", h.seed)
			}
			return
		}
		words, _ := json.Marshal(changes)
		h.both(fmt.Sprintf("save %d %s", guild, words), func(s textchat.Store) (any, error) { return nil, s.Save(ctx, guild, changes) })
	case n < 8:
		h.both(fmt.Sprintf("guild %d", guild), func(s textchat.Store) (any, error) {
			g, err := s.Guild(ctx, guild)
			g.Roles = append([]textchat.Role{}, g.Roles...)
			g.Channels = append([]textchat.Channel{}, g.Channels...)
			g.Members = append([]textchat.Member{}, g.Members...)
			g.Banned = append([]textchat.ID{}, g.Banned...)
			return g, err
		})
	case n < 9:
		channel := h.channel(guild)
		h.both(fmt.Sprintf("guild of channel %d", channel), func(s textchat.Store) (any, error) { return s.ChannelGuild(ctx, channel) })
	default:
		user := h.user()
		if h.rng.IntN(3) == 0 {
			user = 0
		}
		h.both(fmt.Sprintf("guilds of %d", user), func(s textchat.Store) (any, error) {
			ids, err := s.GuildIDs(ctx, user)
			ids = append([]textchat.ID{}, ids...)
			return slices.DeleteFunc(ids, func(id textchat.ID) bool { return id>>24 != textchat.ID(h.seed) }), err
		})
	}
}

func (h *history) stepAccount(ctx context.Context) {
	user, token := h.user(), h.token()
	switch h.rng.IntN(10) {
	case 0, 1:
		c := h.credential()
		if _, err := h.model.User(ctx, c.User.ID); err == nil {
			return // an id is minted once
		}
		first := &token
		if _, taken := h.model.tokens[token]; taken || h.rng.IntN(2) == 0 {
			first = nil
		}
		h.both(fmt.Sprintf("create %+v", c), func(s textchat.Store) (any, error) { return nil, s.CreateUser(ctx, c, first, h.now) })
	case 2:
		c := h.credential()
		h.both(fmt.Sprintf("update %+v", c), func(s textchat.Store) (any, error) { return nil, s.UpdateUser(ctx, c) })
	case 3:
		h.both(fmt.Sprintf("user %d", user), func(s textchat.Store) (any, error) { return s.User(ctx, user) })
	case 4:
		name := h.name()
		h.both("login "+name, func(s textchat.Store) (any, error) { return s.Login(ctx, name) })
	case 5:
		limit := 1 + h.rng.IntN(historyUsers)
		after := h.id(kindUser, h.rng.IntN(historyUsers)-1) - 1
		h.both(fmt.Sprintf("users after %d, %d", after, limit), func(s textchat.Store) (any, error) {
			list, err := s.Users(ctx, after, limit)
			list = append([]textchat.User{}, list...)
			return slices.DeleteFunc(list, func(u textchat.User) bool { return u.ID>>24 != textchat.ID(h.seed) }), err
		})
	case 6:
		if _, taken := h.model.tokens[token]; taken {
			return
		}
		h.both(fmt.Sprintf("add token %x to %d", token[8], user), func(s textchat.Store) (any, error) { return nil, s.AddToken(ctx, user, token, h.now) })
	case 7:
		h.both(fmt.Sprintf("token %x", token[8]), func(s textchat.Store) (any, error) { return s.TokenUser(ctx, token) })
	case 8:
		h.both(fmt.Sprintf("revoke %x", token[8]), func(s textchat.Store) (any, error) { return nil, s.RevokeToken(ctx, token) })
	case 9:
		h.both(fmt.Sprintf("revoke all of %d", user), func(s textchat.Store) (any, error) { return nil, s.RevokeTokens(ctx, user) })
	}
}

func (h *history) stepOther(ctx context.Context) {
	guild := h.guild()
	code, key, value := h.code(guild), h.key(), fmt.Sprint(h.rng.IntN(2))
	switch h.rng.IntN(6) {
	case 0:
		h.both("invite "+code, func(s textchat.Store) (any, error) { return s.Invite(ctx, code) })
	case 1:
		h.both(fmt.Sprintf("invites of %d", guild), func(s textchat.Store) (any, error) {
			list, err := s.Invites(ctx, guild)
			return append([]textchat.Invite{}, list...), err
		})
	case 2:
		h.both("use "+code, func(s textchat.Store) (any, error) { return s.UseInvite(ctx, code, h.now) })
	case 3:
		h.both("setting "+key, func(s textchat.Store) (any, error) { return s.Setting(ctx, key) })
	case 4:
		h.both("set "+key+" "+value, func(s textchat.Store) (any, error) { return nil, s.SetSetting(ctx, key, value) })
	case 5:
		h.both("take "+key+" "+value, func(s textchat.Store) (any, error) { return nil, s.TakeSetting(ctx, key, value) })
	}
}
