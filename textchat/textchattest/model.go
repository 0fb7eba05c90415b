package textchattest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"voicefleet/textchat"
)

// Model is a store in memory, as plain as can be: what a store promises, without
// durability.
type Model struct {
	mu sync.Mutex
	// Guarded by mu.
	users    map[textchat.ID]textchat.Credential
	tokens   map[textchat.TokenHash]textchat.ID
	guilds   map[textchat.ID]*modelGuild
	settings map[string]string
	messages map[textchat.ID]map[textchat.ID]textchat.Message
	nonces   map[modelNonce]textchat.Message
	marks    map[textchat.ID]map[textchat.ID]*modelMarks // by channel, by message
	dms      map[[2]textchat.ID]textchat.ID
}

type modelGuild struct {
	guild    *textchat.Guild
	roles    map[textchat.ID]textchat.Role
	channels map[textchat.ID]textchat.Channel
	members  map[textchat.ID]textchat.Member
	invites  map[string]textchat.Invite
	bans     map[textchat.ID]textchat.Ban
	webhooks map[textchat.ID]textchat.Webhook
	audit    map[textchat.ID]textchat.AuditEntry
}

type modelNonce struct {
	channel, author textchat.ID
	nonce           string
}

var _ textchat.Store = (*Model)(nil)

// NewModel is an empty store.
func NewModel() *Model {
	return &Model{
		users:    map[textchat.ID]textchat.Credential{},
		tokens:   map[textchat.TokenHash]textchat.ID{},
		guilds:   map[textchat.ID]*modelGuild{},
		settings: map[string]string{},
		messages: map[textchat.ID]map[textchat.ID]textchat.Message{},
		nonces:   map[modelNonce]textchat.Message{},
		marks:    map[textchat.ID]map[textchat.ID]*modelMarks{},
		dms:      map[[2]textchat.ID]textchat.ID{},
	}
}

// Close does nothing.
func (m *Model) Close() error { return nil }

// copied is a deep copy: a store keeps nothing of its caller's.
func copied[T any](v T) T {
	b, err := json.Marshal(v)
	var out T
	if err = errors.Join(err, json.Unmarshal(b, &out)); err != nil {
		panic(err) // our own plain structs
	}
	return out
}

// sorted lists the values of a map by key.
func sorted[K cmp.Ordered, V any](m map[K]V) []V {
	var list []V
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, copied(m[k]))
	}
	return list
}

func (m *Model) nameTakenLocked(name string, by textchat.ID) bool {
	for id, c := range m.users {
		if id != by && strings.EqualFold(c.User.Username, name) {
			return true
		}
	}
	return false
}

// CreateUser adds a user and perhaps its first token.
func (m *Model) CreateUser(_ context.Context, c textchat.Credential, token *textchat.TokenHash, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nameTakenLocked(c.User.Username, c.User.ID) {
		return textchat.ErrNameTaken
	}
	m.users[c.User.ID] = copied(c)
	if token != nil {
		m.tokens[*token] = c.User.ID
	}
	return nil
}

// UpdateUser replaces a user's record.
func (m *Model) UpdateUser(_ context.Context, c textchat.Credential) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.users[c.User.ID]
	if !ok {
		return textchat.ErrNoRecord
	}
	if m.nameTakenLocked(c.User.Username, c.User.ID) {
		return textchat.ErrNameTaken
	}
	if c.Hash == "" {
		c.Hash = old.Hash
	}
	m.users[c.User.ID] = copied(c)
	return nil
}

// User finds a user by id.
func (m *Model) User(_ context.Context, id textchat.ID) (textchat.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.users[id]
	if !ok {
		return textchat.User{}, textchat.ErrNoRecord
	}
	return copied(c.User), nil
}

// Login finds a user by name.
func (m *Model) Login(_ context.Context, username string) (textchat.Credential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.users {
		if strings.EqualFold(c.User.Username, username) {
			return copied(c), nil
		}
	}
	return textchat.Credential{}, textchat.ErrNoRecord
}

// Users lists accounts by id.
func (m *Model) Users(_ context.Context, after textchat.ID, limit int) ([]textchat.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []textchat.User
	for _, c := range sorted(m.users) {
		if c.User.ID > after && len(list) < limit {
			list = append(list, c.User)
		}
	}
	return list, nil
}

// AddToken gives a user one more token.
func (m *Model) AddToken(_ context.Context, user textchat.ID, token textchat.TokenHash, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[token] = user
	return nil
}

// TokenUser finds whose token it is.
func (m *Model) TokenUser(_ context.Context, token textchat.TokenHash) (textchat.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.users[m.tokens[token]]
	if !ok {
		return textchat.User{}, textchat.ErrNoRecord
	}
	return copied(c.User), nil
}

// RevokeToken makes one token void.
func (m *Model) RevokeToken(_ context.Context, token textchat.TokenHash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tokens, token)
	return nil
}

// RevokeTokens makes all tokens of a user void.
func (m *Model) RevokeTokens(_ context.Context, user textchat.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.tokens, func(_ textchat.TokenHash, id textchat.ID) bool { return id == user })
	return nil
}

// Guild loads a guild.
func (m *Model) Guild(_ context.Context, id textchat.ID) (textchat.GuildRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guilds[id]
	if g == nil || g.guild == nil {
		return textchat.GuildRecord{}, textchat.ErrNoRecord
	}
	r := textchat.GuildRecord{Guild: copied(*g.guild), Roles: sorted(g.roles), Channels: sorted(g.channels)}
	for i := range r.Channels {
		if list := m.messages[r.Channels[i].ID]; len(list) > 0 {
			last := slices.Max(slices.Collect(maps.Keys(list)))
			r.Channels[i].LastMessage = &last
		}
	}
	for _, mem := range sorted(g.members) {
		// The account's own record is the truth about the user.
		if c, ok := m.users[mem.User.ID]; ok {
			mem.User = copied(c.User)
			r.Members = append(r.Members, mem)
		}
	}
	r.Banned = slices.Sorted(maps.Keys(g.bans))
	return r, nil
}

// Save does all changes or none.
func (m *Model) Save(_ context.Context, guild textchat.ID, changes []textchat.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(changes, textchat.Change{}) {
		return errors.New("empty change")
	}
	g := m.guilds[guild]
	if g == nil {
		g = &modelGuild{
			roles: map[textchat.ID]textchat.Role{}, channels: map[textchat.ID]textchat.Channel{},
			members: map[textchat.ID]textchat.Member{}, invites: map[string]textchat.Invite{},
			bans: map[textchat.ID]textchat.Ban{}, webhooks: map[textchat.ID]textchat.Webhook{}, audit: map[textchat.ID]textchat.AuditEntry{},
		}
		m.guilds[guild] = g
	}
	for _, c := range changes {
		switch {
		case c.PutGuild != nil:
			v := copied(*c.PutGuild)
			g.guild = &v
		case c.DropGuild:
			for id := range g.channels {
				m.dropMessagesLocked(id)
			}
			g.guild = nil
			clear(g.roles)
			clear(g.channels)
			clear(g.members)
			clear(g.invites)
			clear(g.bans)
			clear(g.webhooks)
			clear(g.audit)
		case c.PutRole != nil:
			g.roles[c.PutRole.ID] = copied(*c.PutRole)
		case c.DropRole != 0:
			delete(g.roles, c.DropRole)
		case c.PutChannel != nil:
			g.channels[c.PutChannel.ID] = copied(*c.PutChannel)
		case c.DropChannel != 0:
			delete(g.channels, c.DropChannel)
			m.dropMessagesLocked(c.DropChannel)
			maps.DeleteFunc(g.invites, func(_ string, i textchat.Invite) bool { return i.Channel == c.DropChannel })
			maps.DeleteFunc(g.webhooks, func(_ textchat.ID, w textchat.Webhook) bool { return w.Channel == c.DropChannel })
		case c.PutMember != nil:
			g.members[c.PutMember.User.ID] = copied(*c.PutMember)
		case c.DropMember != 0:
			delete(g.members, c.DropMember)
		case c.PutInvite != nil:
			i := copied(*c.PutInvite)
			if old, ok := g.invites[i.Code]; ok {
				i.Uses = old.Uses
			}
			g.invites[i.Code] = i
		case c.DropInvite != "":
			delete(g.invites, c.DropInvite)
		case c.PutBan != nil:
			g.bans[c.PutBan.User.ID] = copied(*c.PutBan)
		case c.DropBan != 0:
			delete(g.bans, c.DropBan)
		case c.PutWebhook != nil:
			g.webhooks[c.PutWebhook.ID] = copied(*c.PutWebhook)
		case c.DropWebhook != 0:
			delete(g.webhooks, c.DropWebhook)
		case c.PutAudit != nil:
			g.audit[c.PutAudit.ID] = copied(*c.PutAudit)
		}
	}
	return nil
}

// GuildIDs lists all guilds, or those of a user.
func (m *Model) GuildIDs(_ context.Context, user textchat.ID) ([]textchat.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []textchat.ID
	for id, g := range m.guilds {
		if _, in := g.members[user]; in || user == 0 && g.guild != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// ChannelGuild finds the guild of a channel.
func (m *Model) ChannelGuild(_ context.Context, channel textchat.ID) (textchat.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, g := range m.guilds {
		if _, ok := g.channels[channel]; ok {
			return id, nil
		}
	}
	return 0, textchat.ErrNoRecord
}

// Invite finds an invite, live or not.
func (m *Model) Invite(_ context.Context, code string) (textchat.Invite, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.guilds {
		if i, ok := g.invites[code]; ok {
			return i, nil
		}
	}
	return textchat.Invite{}, textchat.ErrNoRecord
}

// Invites lists the invites of a guild, by code.
func (m *Model) Invites(_ context.Context, guild textchat.ID) ([]textchat.Invite, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.guilds[guild]; g != nil {
		return sorted(g.invites), nil
	}
	return nil, nil
}

// UseInvite counts one use.
func (m *Model) UseInvite(_ context.Context, code string, now time.Time) (textchat.Invite, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.guilds {
		if i, ok := g.invites[code]; ok {
			if !i.Live(now) {
				return textchat.Invite{}, textchat.ErrUsedUp
			}
			i.Uses++
			g.invites[code] = i
			return i, nil
		}
	}
	return textchat.Invite{}, textchat.ErrNoRecord
}

// Setting reads a setting.
func (m *Model) Setting(_ context.Context, key string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.settings[key]
	if !ok {
		return "", textchat.ErrNoRecord
	}
	return v, nil
}

// SetSetting writes a setting.
func (m *Model) SetSetting(_ context.Context, key, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settings[key] = value
	return nil
}

// TakeSetting removes a setting of this value.
func (m *Model) TakeSetting(_ context.Context, key, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.settings[key]; !ok || v != value {
		return textchat.ErrNoRecord
	}
	delete(m.settings, key)
	return nil
}

// AddMessage stores a message, unless its nonce was used before.
func (m *Model) AddMessage(_ context.Context, msg textchat.Message, nonce string) (textchat.Message, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg = copied(msg)
	msg.Nonce = nil
	if nonce != "" {
		k := modelNonce{msg.Channel, msg.Author.ID, nonce}
		if first, ok := m.nonces[k]; ok && first.Timestamp.After(msg.Timestamp.Add(-textchat.NonceLife)) {
			if old, ok := m.messages[msg.Channel][first.ID]; ok {
				return copied(old), true, nil
			}
		}
		m.nonces[k] = msg
	}
	if m.messages[msg.Channel] == nil {
		m.messages[msg.Channel] = map[textchat.ID]textchat.Message{}
	}
	m.messages[msg.Channel][msg.ID] = msg
	return copied(msg), false, nil
}

// AddMessages stores messages of a channel.
func (m *Model) AddMessages(ctx context.Context, _ textchat.ID, list []textchat.Message) error {
	for _, msg := range list {
		if _, _, err := m.AddMessage(ctx, msg, ""); err != nil {
			return err
		}
	}
	return nil
}

// EditMessage replaces what an edit may change.
func (m *Model) EditMessage(_ context.Context, msg textchat.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.messages[msg.Channel][msg.ID]; !ok {
		return textchat.ErrNoRecord
	}
	msg = copied(msg)
	msg.Nonce = nil
	m.messages[msg.Channel][msg.ID] = msg
	return nil
}

// DeleteMessage removes a message.
func (m *Model) DeleteMessage(_ context.Context, channel, id textchat.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.messages[channel][id]; !ok {
		return textchat.ErrNoRecord
	}
	delete(m.messages[channel], id)
	delete(m.marks[channel], id)
	return nil
}

func (m *Model) dropMessagesLocked(channel textchat.ID) {
	delete(m.messages, channel)
	delete(m.marks, channel)
}

// Message finds a message.
func (m *Model) Message(_ context.Context, channel, id textchat.ID) (textchat.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg, ok := m.messages[channel][id]
	if !ok {
		return textchat.Message{}, textchat.ErrNoRecord
	}
	return copied(msg), nil
}

// Page lists messages, newest first.
func (m *Model) Page(_ context.Context, channel textchat.ID, q textchat.PageQuery) ([]textchat.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := sorted(m.messages[channel])
	slices.Reverse(list)
	// at is how many are newer than id, or as new.
	at := func(id textchat.ID) int {
		return len(slices.DeleteFunc(slices.Clone(list), func(m textchat.Message) bool { return m.ID < id }))
	}
	var from, to int
	switch {
	case q.Around != 0:
		// Half before (the message itself counts there), the rest after.
		middle := at(q.Around + 1)
		to = min(len(list), middle+q.Limit/2+1, middle+q.Limit)
		from = max(0, middle-(q.Limit-(to-middle)))
	case q.After != 0:
		to = at(q.After + 1)
		from = max(0, to-q.Limit)
	case q.Before != 0:
		from = at(q.Before)
		to = min(len(list), from+q.Limit)
	default:
		to = min(len(list), q.Limit)
	}
	return list[from:to], nil
}
