package textchat

import (
	"encoding/json"
	"strings"
	"time"
)

// Emoji is what a reaction is made of. There are no emoji of guilds: ID is
// always null.
type Emoji struct {
	ID   *ID    `json:"id"`
	Name string `json:"name"`
}

// Reaction is how often one emoji stands under a message.
type Reaction struct {
	Count   int             `json:"count"`
	Details ReactionDetails `json:"count_details"`
	Me      bool            `json:"me"` // whoever looks is among them
	MeBurst bool            `json:"me_burst"`
	Emoji   Emoji           `json:"emoji"`
	Colors  []string        `json:"burst_colors"`
}

// ReactionDetails splits the count; there are no burst reactions here.
type ReactionDetails struct {
	Burst  int `json:"burst"`
	Normal int `json:"normal"`
}

// Marks are what others put on a message: it is pinned, it has reactions.
type Marks struct {
	Pinned    bool
	Reactions []Reaction // in the order in which each emoji came first
}

// Pin is a pinned message.
type Pin struct {
	At      Time    `json:"pinned_at"`
	Message Message `json:"message"`
}

// Ban keeps a user out of a guild.
type Ban struct {
	Reason *string `json:"reason"`
	User   User    `json:"user"`
}

// Webhook lets whoever has its token post to one channel.
type Webhook struct {
	ID          ID      `json:"id"`
	Type        int     `json:"type"` // always 1: incoming
	Guild       ID      `json:"guild_id"`
	Channel     ID      `json:"channel_id"`
	User        *User   `json:"user,omitempty"` // its maker; hidden from whoever came by token
	Name        *string `json:"name"`
	Avatar      *string `json:"avatar"`
	Token       string  `json:"token,omitempty"`
	Application *ID     `json:"application_id"`
}

// DM is the private channel of two users. Of itself nobody has one.
type DM struct {
	ID          ID
	Users       [2]ID // the smaller first
	LastMessage *ID
}

// Other is who user talks to; zero when user is not of the two.
func (d DM) Other(user ID) ID {
	switch user {
	case d.Users[0]:
		return d.Users[1]
	case d.Users[1]:
		return d.Users[0]
	}
	return 0
}

// AuditAction is the public number of what was done.
type AuditAction int

// What the audit log keeps.
const (
	AuditGuildUpdate       AuditAction = 1
	AuditChannelCreate     AuditAction = 10
	AuditChannelUpdate     AuditAction = 11
	AuditChannelDelete     AuditAction = 12
	AuditOverwriteCreate   AuditAction = 13
	AuditOverwriteUpdate   AuditAction = 14
	AuditOverwriteDelete   AuditAction = 15
	AuditMemberKick        AuditAction = 20
	AuditBanAdd            AuditAction = 22
	AuditBanRemove         AuditAction = 23
	AuditMemberUpdate      AuditAction = 24
	AuditMemberRoles       AuditAction = 25
	AuditMemberMove        AuditAction = 26
	AuditMemberDisconnect  AuditAction = 27
	AuditBotAdd            AuditAction = 28
	AuditRoleCreate        AuditAction = 30
	AuditRoleUpdate        AuditAction = 31
	AuditRoleDelete        AuditAction = 32
	AuditInviteCreate      AuditAction = 40
	AuditInviteDelete      AuditAction = 42
	AuditWebhookCreate     AuditAction = 50
	AuditWebhookUpdate     AuditAction = 51
	AuditWebhookDelete     AuditAction = 52
	AuditMessageDelete     AuditAction = 72
	AuditMessageBulkDelete AuditAction = 73
	AuditMessagePin        AuditAction = 74
	AuditMessageUnpin      AuditAction = 75
	AuditThreadCreate      AuditAction = 110
	AuditThreadUpdate      AuditAction = 111
	AuditThreadDelete      AuditAction = 112
)

// AuditEntry is who did what to whom, and why.
type AuditEntry struct {
	ID      ID                `json:"id"`
	User    ID                `json:"user_id"`
	Target  *ID               `json:"target_id"`
	Action  AuditAction       `json:"action_type"`
	Changes []AuditChange     `json:"changes,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Reason  string            `json:"reason,omitempty"`
}

// AuditChange is one field before and after; what was not there is left out.
type AuditChange struct {
	Key string          `json:"key"`
	Old json.RawMessage `json:"old_value,omitempty"`
	New json.RawMessage `json:"new_value,omitempty"`
}

// AuditLife is how long entries of the audit log are kept.
const AuditLife = 45 * 24 * time.Hour

// emojiRunes are the ranges that emoji are made of, after Unicode's
// emoji-data: letters and digits stand for themselves only before a keycap.
var emojiRunes = [][2]rune{
	{0xa9, 0xa9}, {0xae, 0xae}, {0x203c, 0x203c}, {0x2049, 0x2049}, {0x2122, 0x2122}, {0x2139, 0x2139}, {0x2194, 0x21aa},
	{0x231a, 0x23ff}, {0x24c2, 0x24c2}, {0x25aa, 0x27bf}, {0x2934, 0x2935}, {0x2b05, 0x2b55}, {0x3030, 0x3030}, {0x303d, 0x303d},
	{0x3297, 0x3299}, {0x1f000, 0x1faff},
}

// MaxEmoji bounds an emoji in bytes; the longest families and flags have 35.
const MaxEmoji = 64

// IsEmoji says whether s is one emoji of Unicode, or at least made of nothing
// else: base characters, joined, with modifiers, variation selectors, keycaps
// and tags.
func IsEmoji(s string) bool {
	if len(s) > MaxEmoji {
		return false
	}
	bases, keycap := 0, false
	for i, r := range s {
		switch {
		case r == 0x20e3: // the keycap around one of # * 0-9
			keycap = true
		case strings.ContainsRune("#*0123456789", r):
			if i != 0 || !strings.HasSuffix(s, "\u20e3") {
				return false
			}
			bases++
		case r == 0xfe0f || r == 0x200d || r >= 0xe0020 && r <= 0xe007f:
			if bases == 0 {
				return false
			}
		default:
			known := false
			for _, x := range emojiRunes {
				known = known || r >= x[0] && r <= x[1]
			}
			if !known {
				return false
			}
			bases++
		}
	}
	return bases > 0 && (!keycap || bases == 1)
}
