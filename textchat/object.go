package textchat

import (
	"encoding/json"
	"time"

	"voicefleet/internal/snowflake"
)

// ID names a guild, channel, user, role or message.
type ID = snowflake.ID

// Time is a time as JSON shows it: ISO 8601 with microseconds and offset.
type Time struct{ time.Time }

// MarshalJSON writes e.g. "2026-01-02T03:04:05.678000+00:00".
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.UTC().AppendFormat(make([]byte, 0, 36), `"2006-01-02T15:04:05.000000-07:00"`), nil
}

// UnmarshalJSON reads RFC 3339 or null.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = Time{}
		return nil
	}
	return json.Unmarshal(b, &t.Time)
}

// User is an account: a person, a guest (a person with a nickname only) or a
// bot.
type User struct {
	ID            ID      `json:"id"`
	Username      string  `json:"username"`
	Discriminator string  `json:"discriminator"` // always "0"
	GlobalName    *string `json:"global_name"`
	Avatar        *string `json:"avatar"`
	Bot           bool    `json:"bot"`
	System        bool    `json:"system,omitempty"`
	Guest         bool    `json:"guest,omitempty"` // ours
	PublicFlags   int     `json:"public_flags"`
}

// Role is a named set of permissions. @everyone has the guild's id.
type Role struct {
	ID           ID          `json:"id"`
	Name         string      `json:"name"`
	Color        int         `json:"color"`
	Hoist        bool        `json:"hoist"`
	Icon         *string     `json:"icon"`
	UnicodeEmoji *string     `json:"unicode_emoji"`
	Position     int         `json:"position"`
	Permissions  Permissions `json:"permissions"`
	Managed      bool        `json:"managed"`
	Mentionable  bool        `json:"mentionable"`
	Flags        int         `json:"flags"`
}

// OverwriteType says whom an overwrite is for.
type OverwriteType int

// The overwrite types.
const (
	OverwriteRole   OverwriteType = 0
	OverwriteMember OverwriteType = 1
)

// Overwrite changes the permissions of a role or member in one channel.
type Overwrite struct {
	ID    ID            `json:"id"`
	Type  OverwriteType `json:"type"`
	Allow Permissions   `json:"allow"`
	Deny  Permissions   `json:"deny"`
}

// ChannelType is the public number of a kind of channel.
type ChannelType int

// The channel types there are.
const (
	ChannelText         ChannelType = 0
	ChannelDM           ChannelType = 1
	ChannelVoice        ChannelType = 2
	ChannelCategory     ChannelType = 4
	ChannelAnnouncement ChannelType = 5
	ChannelStage        ChannelType = 13
)

// Voice says whether people can talk in a channel of this type, Text whether
// they can write there.
func (t ChannelType) Voice() bool { return t == ChannelVoice || t == ChannelStage }
func (t ChannelType) Text() bool  { return t != ChannelCategory }

// Channel is a text or voice channel. Both take messages.
type Channel struct {
	ID               ID          `json:"id"`
	Type             ChannelType `json:"type"`
	Guild            ID          `json:"guild_id"`
	Name             string      `json:"name"`
	Position         int         `json:"position"`
	Overwrites       []Overwrite `json:"permission_overwrites"`
	Parent           *ID         `json:"parent_id"`
	Topic            *string     `json:"topic"`
	NSFW             bool        `json:"nsfw"`
	LastMessage      *ID         `json:"last_message_id"`
	RateLimitPerUser int         `json:"rate_limit_per_user"`
	Flags            int         `json:"flags"`

	// Voice only.
	Bitrate   int     `json:"bitrate,omitempty"`
	UserLimit int     `json:"user_limit"`
	RTCRegion *string `json:"rtc_region"`
	// Echo, ours: each member of the call hears only itself.
	Echo bool `json:"echo,omitempty"`

	// Threads only: who made it, its life, and who follows it. Parent is the
	// channel it hangs on; its own overwrites are void.
	Owner         *ID            `json:"owner_id,omitempty"`
	Thread        *ThreadMeta    `json:"thread_metadata,omitempty"`
	ThreadMembers []ThreadMember `json:"thread_members,omitempty"`
	// MessageCount counts messages since the thread was loaded at least, the first
	// of a message's thread excepted. The others are filled in by Shown.
	MessageCount *int          `json:"message_count,omitempty"`
	TotalSent    *int          `json:"total_message_sent,omitempty"`
	MemberCount  *int          `json:"member_count,omitempty"`
	Member       *ThreadMember `json:"member,omitempty"`
}

// Member is a user in a guild.
type Member struct {
	User         User    `json:"user"`
	Nick         *string `json:"nick"`
	Avatar       *string `json:"avatar"`
	Banner       *string `json:"banner"`
	Roles        []ID    `json:"roles"`
	JoinedAt     Time    `json:"joined_at"`
	PremiumSince *Time   `json:"premium_since"`
	Deaf         bool    `json:"deaf"`
	Mute         bool    `json:"mute"`
	Flags        int     `json:"flags"`
	Pending      bool    `json:"pending"`
	TimeoutUntil *Time   `json:"communication_disabled_until"`
	// Temporary members came by such an invite, and were given no role so far; Visited are
	// those of them who were online. These go when they are no more (own).
	Temporary bool `json:"temporary,omitempty"`
	Visited   bool `json:"visited,omitempty"`
}

// Guild is what a guild is without its members, roles and channels.
type Guild struct {
	ID            ID      `json:"id"`
	Name          string  `json:"name"`
	Icon          *string `json:"icon"`
	Description   *string `json:"description"`
	Owner         ID      `json:"owner_id"`
	SystemChannel *ID     `json:"system_channel_id"`
}

// VoiceState says in which voice channel a user is, by which session.
type VoiceState struct {
	Guild          ID      `json:"guild_id,omitzero"` // left out inside GUILD_CREATE
	Channel        *ID     `json:"channel_id"`
	User           ID      `json:"user_id"`
	Member         *Member `json:"member,omitempty"` // left out inside GUILD_CREATE
	Session        string  `json:"session_id"`
	Deaf           bool    `json:"deaf"`
	Mute           bool    `json:"mute"`
	SelfDeaf       bool    `json:"self_deaf"`
	SelfMute       bool    `json:"self_mute"`
	SelfVideo      bool    `json:"self_video"`
	Suppress       bool    `json:"suppress"` // no permission to speak, or a listener on a stage
	RequestToSpeak *Time   `json:"request_to_speak_timestamp"`
}

// Invite lets people into a guild.
type Invite struct {
	Code      string `json:"code"`
	Guild     ID     `json:"guild_id"`
	Channel   ID     `json:"channel_id"`
	Inviter   ID     `json:"inviter_id"`
	Uses      int    `json:"uses"`
	MaxUses   int    `json:"max_uses"` // 0: no limit
	MaxAge    int    `json:"max_age"`  // seconds; 0: for ever
	Temporary bool   `json:"temporary"`
	CreatedAt Time   `json:"created_at"`
}

// Expires is when the invite ends; zero is never.
func (i Invite) Expires() Time {
	if i.MaxAge == 0 {
		return Time{}
	}
	return Time{i.CreatedAt.Add(time.Duration(i.MaxAge) * time.Second)}
}

// Live says whether the invite still lets anybody in.
func (i Invite) Live(now time.Time) bool {
	return (i.MaxAge == 0 || now.Before(i.Expires().Time)) && (i.MaxUses == 0 || i.Uses < i.MaxUses)
}

// Message is a message as it is stored and shown.
type Message struct {
	ID              ID                `json:"id"`
	Channel         ID                `json:"channel_id"`
	Author          User              `json:"author"`
	Content         string            `json:"content"`
	Timestamp       Time              `json:"timestamp"`
	EditedTimestamp *Time             `json:"edited_timestamp"`
	TTS             bool              `json:"tts"`
	MentionEveryone bool              `json:"mention_everyone"`
	Mentions        []User            `json:"mentions"`
	MentionRoles    []ID              `json:"mention_roles"`
	Attachments     []Attachment      `json:"attachments"`
	Embeds          []Embed           `json:"embeds"`
	Components      []json.RawMessage `json:"components"`
	Pinned          bool              `json:"pinned"`
	Type            int               `json:"type"`
	Flags           int               `json:"flags"`
	Webhook         ID                `json:"webhook_id,omitzero"`
	Reference       *MessageReference `json:"message_reference,omitempty"`
	Nonce           json.RawMessage   `json:"nonce,omitempty"` // echoed as it came, not stored

	// Filled in when a message is shown, not stored.
	Reactions  []Reaction `json:"reactions,omitempty"`
	Referenced *Message   `json:"referenced_message,omitempty"`
}

// The types of messages that this server makes.
const (
	MessageDefault = 0
	MessagePinned  = 6  // says that somebody pinned the referenced message
	MessageThread  = 18 // says that somebody began the referenced thread
	MessageReply   = 19
)

// The flags of messages that their authors may set.
const (
	FlagSuppressEmbeds        = 1 << 2
	FlagSuppressNotifications = 1 << 12
)

// FlagHasThread is on a message that a thread hangs on; the server sets it.
const FlagHasThread = 1 << 5

// Attachment is a file of a message. URL is kept as a path of this server and
// shown with its host.
type Attachment struct {
	ID          ID      `json:"id"`
	Filename    string  `json:"filename"`
	Description *string `json:"description,omitempty"`
	ContentType string  `json:"content_type,omitempty"` // by its first bytes, whatever the sender says
	Size        int64   `json:"size"`                   // bytes
	URL         string  `json:"url"`
	ProxyURL    string  `json:"proxy_url"`
	Width       *int    `json:"width,omitempty"`
	Height      *int    `json:"height,omitempty"`
}

// MessageReference names the message that this one replies to.
type MessageReference struct {
	Type    int `json:"type"`
	Message ID  `json:"message_id"`
	Channel ID  `json:"channel_id"`
	Guild   ID  `json:"guild_id,omitzero"`
}
