package textchat

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What a store answers, besides failures of its own.
var (
	ErrNoRecord  = errors.New("no such record")
	ErrNameTaken = errors.New("name is taken")
	ErrUsedUp    = errors.New("invite has expired or is used up")
	// ErrBusy says that nothing was done; come back later. ErrUnsure, which is an
	// ErrBusy to whoever only wants to come back, says that the store did not answer
	// in time: a write may have been done, or be done yet.
	ErrBusy   = errors.New("store has too much to do")
	ErrUnsure = fmt.Errorf("store does not answer: %w", ErrBusy)
)

// Store is the durable truth. A write that returned nil survives a crash of the
// process and of the machine; one that failed was not done, unless it failed
// because its context ended or with ErrUnsure: that leaves it open. A store that
// is down or slow says so within 1 s. Everything is safe for concurrent use.
type Store interface {
	Accounts
	Guilds
	Messages
	Community
	// Close writes what waits and ends the store.
	Close() error
}

// Credential is what logs a person in.
type Credential struct {
	User User
	// Hash is the argon2id hash in PHC form; empty: no login by password.
	Hash string
}

// TokenHash is the SHA-256 of a token; the token itself is never stored.
type TokenHash [32]byte

// Accounts are users, how they log in, and their tokens.
type Accounts interface {
	// CreateUser adds a user (ErrNameTaken), with its first token when one is
	// given.
	CreateUser(ctx context.Context, c Credential, token *TokenHash, now time.Time) error
	// UpdateUser replaces a user's record; a hash that is not empty replaces its
	// password too (ErrNameTaken, ErrNoRecord).
	UpdateUser(ctx context.Context, c Credential) error
	// User finds a user by id, Login by name (case does not count).
	User(ctx context.Context, id ID) (User, error)
	Login(ctx context.Context, username string) (Credential, error)
	// Users lists accounts by id, for the operator.
	Users(ctx context.Context, after ID, limit int) ([]User, error)

	AddToken(ctx context.Context, user ID, token TokenHash, now time.Time) error
	TokenUser(ctx context.Context, token TokenHash) (User, error)
	RevokeToken(ctx context.Context, token TokenHash) error
	RevokeTokens(ctx context.Context, user ID) error
}

// GuildRecord is all of a guild that is durable.
type GuildRecord struct {
	Guild    Guild
	Roles    []Role
	Channels []Channel
	Members  []Member
	Banned   []ID
}

// Change is one write to a guild; exactly one field is set.
type Change struct {
	PutGuild    *Guild
	DropGuild   bool
	PutRole     *Role
	DropRole    ID
	PutChannel  *Channel
	DropChannel ID // its messages and invites go with it
	PutMember   *Member
	DropMember  ID
	PutInvite   *Invite
	DropInvite  string
	PutBan      *Ban
	DropBan     ID
	PutWebhook  *Webhook
	DropWebhook ID
	PutAudit    *AuditEntry // one of the same id is replaced
}

// Guilds are guilds, invites and the server's own few settings.
type Guilds interface {
	// Guild loads a guild (ErrNoRecord).
	Guild(ctx context.Context, id ID) (GuildRecord, error)
	// Save does all changes or none.
	Save(ctx context.Context, guild ID, changes []Change) error
	// GuildIDs lists the guilds, all or those of one user.
	GuildIDs(ctx context.Context, user ID) ([]ID, error)
	// ChannelGuild finds the guild of a channel (ErrNoRecord).
	ChannelGuild(ctx context.Context, channel ID) (ID, error)

	Invite(ctx context.Context, code string) (Invite, error)
	Invites(ctx context.Context, guild ID) ([]Invite, error)
	// UseInvite counts one use, if the invite is live (ErrNoRecord, ErrUsedUp).
	UseInvite(ctx context.Context, code string, now time.Time) (Invite, error)

	// Setting reads a setting (ErrNoRecord), SetSetting writes it. TakeSetting
	// removes it if it has this value (ErrNoRecord): of two takers one succeeds.
	Setting(ctx context.Context, key string) (string, error)
	SetSetting(ctx context.Context, key, value string) error
	TakeSetting(ctx context.Context, key, value string) error
}

// PageQuery picks messages of a channel: the newest Limit, or those before,
// after or around an id.
type PageQuery struct {
	Limit                 int
	Before, After, Around ID
}

// Messages are the messages of channels.
type Messages interface {
	// AddMessage stores a message. With a nonce that the same author used in the
	// channel less than NonceLife ago it stores nothing and returns the earlier
	// one and true.
	AddMessage(ctx context.Context, m Message, nonce string) (Message, bool, error)
	// AddMessages stores messages of one channel that come from elsewhere, as a history
	// does, without nonces; one that is there is replaced. All are durable when it returns,
	// some may be when it fails.
	AddMessages(ctx context.Context, channel ID, list []Message) error
	// EditMessage replaces content, edit time and mentions (ErrNoRecord).
	EditMessage(ctx context.Context, m Message) error
	DeleteMessage(ctx context.Context, channel, id ID) error
	Message(ctx context.Context, channel, id ID) (Message, error)
	// Page lists messages, newest first.
	Page(ctx context.Context, channel ID, q PageQuery) ([]Message, error)
}
