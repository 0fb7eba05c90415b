package guild

import (
	"voicefleet/allocator"
	"voicefleet/sfu"
	"voicefleet/textchat"
)

// Out collects what an input led to. Changes come first: events are published
// and effects begun only after the store has the changes.
type Out struct {
	Err     *textchat.Error // refused: everything else is empty
	Changes []textchat.Change
	Events  []Event
	Effects []Effect

	// The object an input made or changed, for the answer to who asked.
	Role    *textchat.Role
	Channel *textchat.Channel
	Member  *textchat.Member
	Guild   *textchat.Guild
	// Joined are users that the guild is new to, Parted those it is gone for;
	// their sessions begin or stop to listen.
	Joined, Parted []textchat.ID
	// Touched are channels of whose messages something may be told without an event.
	Touched []textchat.ID
}

func (o *Out) refuse(err *textchat.Error) { o.Err = err }

func (o *Out) change(c textchat.Change) { o.Changes = append(o.Changes, c) }

func (o *Out) event(e Event) { o.Events = append(o.Events, e) }

// Event is one event and who gets it.
type Event struct {
	Name   string
	Intent textchat.Intents
	Data   any

	// Channel, when set, keeps the event from those who may not view it. They get
	// Hidden instead, if it is set and they may view Was.
	Channel textchat.ID
	Was     textchat.ID
	Hidden  any

	// Need, when set, are permissions in Channel besides to view it.
	Need textchat.Permissions `json:",omitzero"`

	// NeedAny, when set, keeps it from those who have none of these permissions in
	// the guild.
	NeedAny textchat.Permissions

	// Session and User, when set, narrow it to one session or one user.
	Session string
	User    textchat.ID
	// Own is the user whose sessions get it whatever their intents; Except whose
	// sessions do not get it.
	Own    textchat.ID
	Except textchat.ID
}

// Effect is an order to the voice side for one user; exactly one pointer is
// set. Effects of one user are done in order, but for the removal of a named session,
// which waits for none and has none wait.
type Effect struct {
	User  textchat.ID
	Place *PlaceOrder
	// Update of a Session is to find out whether the user has it: done it is a
	// CallOpened, with CodeNoCall a CallLeft with the reason EngineLost.
	Update *allocator.UpdateRequest
	Remove *allocator.RemoveRequest
}

// Reasons of removals of those who left by themselves: their clients have closed their
// paths, or never had one.
const (
	clientLeft          = "left" // a node gives it, too, for a session that its client closed
	gatewaySessionEnded = "gateway_session_ended"
	cancelled           = "cancelled"
	notOpened           = "not_opened"
	notPlaced           = "not_placed"
)

// OfOwnWill says whether a removal is of somebody who left, and was not sent away.
func OfOwnWill(reason string) bool {
	switch reason {
	case clientLeft, gatewaySessionEnded, cancelled, notOpened, notPlaced:
		return true
	}
	return false
}

// PlaceOrder asks for a seat; its answer is Placed or PlaceFailed.
type PlaceOrder struct {
	Attempt uint64
	// Move: the user is in the call and its call has another node, or its session
	// broke. Many such orders come at once.
	Move    bool
	Request allocator.PlaceRequest
}

// Bodies of events that are not objects of the front door.
type (
	// Gone names what was deleted.
	Gone struct {
		ID      textchat.ID `json:"id"`
		Channel textchat.ID `json:"channel_id,omitzero"`
		Guild   textchat.ID `json:"guild_id,omitzero"`
	}
	// MemberEvent is a member with its guild.
	MemberEvent struct {
		textchat.Member
		Guild textchat.ID `json:"guild_id"`
	}
	// MemberGone names a member that left.
	MemberGone struct {
		Guild textchat.ID   `json:"guild_id"`
		User  textchat.User `json:"user"`
	}
	// RoleEvent is a role with its guild.
	RoleEvent struct {
		Guild textchat.ID   `json:"guild_id"`
		Role  textchat.Role `json:"role"`
	}
	// RoleGone names a deleted role.
	RoleGone struct {
		Guild textchat.ID `json:"guild_id"`
		Role  textchat.ID `json:"role_id"`
	}
	// InviteEvent tells of a new invite.
	InviteEvent struct {
		Code      string        `json:"code"`
		Guild     textchat.ID   `json:"guild_id"`
		Channel   textchat.ID   `json:"channel_id"`
		Inviter   textchat.User `json:"inviter"`
		MaxAge    int           `json:"max_age"`
		MaxUses   int           `json:"max_uses"`
		Uses      int           `json:"uses"`
		Temporary bool          `json:"temporary"`
		CreatedAt textchat.Time `json:"created_at"`
	}
	// InviteGone names a deleted invite.
	InviteGone struct {
		Code    string      `json:"code"`
		Guild   textchat.ID `json:"guild_id"`
		Channel textchat.ID `json:"channel_id"`
	}
	// MessageEvent is a message with its guild and its author's member.
	MessageEvent struct {
		textchat.Message
		Guild  textchat.ID    `json:"guild_id,omitzero"`
		Member *PartialMember `json:"member,omitempty"`
	}
	// PartialMember is a member without its user.
	PartialMember struct {
		Nick     *string       `json:"nick"`
		Avatar   *string       `json:"avatar"`
		Roles    []textchat.ID `json:"roles"`
		JoinedAt textchat.Time `json:"joined_at"`
		Deaf     bool          `json:"deaf"`
		Mute     bool          `json:"mute"`
		Flags    int           `json:"flags"`
		Pending  bool          `json:"pending"`
	}
	// TypingEvent tells that somebody writes.
	TypingEvent struct {
		Channel   textchat.ID      `json:"channel_id"`
		Guild     textchat.ID      `json:"guild_id,omitzero"`
		User      textchat.ID      `json:"user_id"`
		Timestamp int64            `json:"timestamp"` // seconds
		Member    *textchat.Member `json:"member,omitempty"`
	}
	// VoiceServer is what a client joins a call with. Endpoint is filled in for
	// each session: it depends on the host that the client came by.
	VoiceServer struct {
		Token     string      `json:"token"`
		Guild     textchat.ID `json:"guild_id"`
		Endpoint  string      `json:"endpoint"`
		Endpoints []string    `json:"endpoints"`
		// Move is set when the call has another node now (own).
		Move *VoiceMove `json:"move,omitempty"`
	}
	// VoiceMove tells a client how to follow its call. Planned: the old path still
	// carries audio, so the new one is opened first and both are spoken on.
	VoiceMove struct {
		From    string `json:"from"`
		To      string `json:"to"`
		Cause   string `json:"cause"` // an allocator.Cause
		Planned bool   `json:"planned,omitempty"`
	}
	// VoiceError tells a joiner why it did not get in.
	VoiceError struct {
		Guild   textchat.ID `json:"guild_id"`
		Channel textchat.ID `json:"channel_id"`
		Code    string      `json:"code"`
		Message string      `json:"message"`
		Full    *VoiceFull  `json:"full,omitempty"`
	}
	// VoiceFull says what to hope for where there is no room.
	VoiceFull struct {
		// Place is the joiner's in the line for the channel, or the one it would have; 0:
		// the line is at its bound. Wait is about how long that takes, in seconds; 0:
		// nobody knows.
		Place int `json:"place,omitempty"`
		Wait  int `json:"wait,omitempty"`
		// Elsewhere is the nearest node with room for another call.
		Elsewhere *allocator.Elsewhere `json:"elsewhere,omitempty"`
	}
)

// Codes of VoiceError besides those of the allocator.
const (
	VoiceUnknownChannel = "unknown_channel"
	VoiceMissingPerms   = "missing_permissions"
	VoiceChannelFull    = "channel_full"
	VoiceQueued         = "queued" // not an error: the joiner stands in line
)

func callID(channel textchat.ID) sfu.CallID { return sfu.CallID{ID: channel} }
func userID(user textchat.ID) sfu.UserID    { return sfu.UserID{ID: user} }
