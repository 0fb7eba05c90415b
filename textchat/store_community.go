package textchat

import (
	"context"
	"errors"
	"time"
)

// ErrTooMany is what a store answers when something would have more than its
// limit.
var ErrTooMany = errors.New("there are too many already")

// Community is what gathers around messages and members. What belongs to a guild
// is written by Save (Change.PutBan, PutWebhook, PutAudit), in one step with what
// it goes with. Reactions and pins end with their message, webhooks with their
// channel.
type Community interface {
	// React adds a reaction, with at most most different emoji on the message
	// (ErrTooMany, ErrNoRecord). added is false when it was there.
	React(ctx context.Context, channel, message ID, emoji string, user ID, most int) (added bool, err error)
	// Unreact takes reactions away: user zero is everybody's, an empty emoji is
	// every one. It returns how many there were.
	Unreact(ctx context.Context, channel, message ID, emoji string, user ID) (int, error)
	// Reactors lists who reacted, by id.
	Reactors(ctx context.Context, channel, message ID, emoji string, after ID, limit int) ([]ID, error)
	// Marks finds the marks of messages of a channel; those without any may be
	// left out. viewer is who Reaction.Me is about.
	Marks(ctx context.Context, channel ID, messages []ID, viewer ID) (map[ID]Marks, error)

	// Pin pins a message (ErrNoRecord, ErrTooMany), Unpin takes the pin away.
	// changed is false when nothing was to do.
	Pin(ctx context.Context, channel, message ID, at time.Time, most int) (changed bool, err error)
	Unpin(ctx context.Context, channel, message ID) (changed bool, err error)
	// Pins lists pinned messages, the last pinned first: those pinned before a
	// time, which is not zero.
	Pins(ctx context.Context, channel ID, before time.Time, limit int) ([]Pin, error)

	// DeleteMessages removes messages of a channel and returns which it had.
	DeleteMessages(ctx context.Context, channel ID, ids []ID) ([]ID, error)

	// Ban finds a ban (ErrNoRecord); Bans lists those of a guild by user: the
	// first after an id, or, when before is not zero, the last before it.
	Ban(ctx context.Context, guild, user ID) (Ban, error)
	Bans(ctx context.Context, guild, before, after ID, limit int) ([]Ban, error)

	// Webhook finds a webhook (ErrNoRecord), Webhooks lists those of a guild.
	Webhook(ctx context.Context, id ID) (Webhook, error)
	Webhooks(ctx context.Context, guild ID) ([]Webhook, error)

	// Audit lists entries of a guild, newest first, or with After set the oldest
	// after it.
	Audit(ctx context.Context, guild ID, q AuditQuery) ([]AuditEntry, error)

	// OpenDM finds the channel of two users, or makes this one.
	OpenDM(ctx context.Context, d DM) (DM, error)
	// DM finds one by its channel (ErrNoRecord), DMs lists those of a user that
	// have messages, the last written to first.
	DM(ctx context.Context, channel ID) (DM, error)
	DMs(ctx context.Context, user ID, limit int) ([]DM, error)
}

// AuditQuery picks entries of an audit log; what is zero does not narrow it.
type AuditQuery struct {
	Limit         int
	Before, After ID
	User          ID
	Action        AuditAction
}
