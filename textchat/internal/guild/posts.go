package guild

import (
	"time"

	"voicefleet/textchat"
)

// ErasedMany tells of messages that the store has no more.
type ErasedMany struct {
	Channel  textchat.ID
	Messages []textchat.ID
}

func (in ErasedMany) handle(g *Guild, _ time.Time, out *Out) {
	out.event(Event{Name: textchat.EventMessagesDelete, Intent: textchat.IntentGuildMessages, Channel: in.Channel,
		Data: GoneMany{IDs: in.Messages, Channel: in.Channel, Guild: g.self.ID}})
}

// Reacted tells of a reaction that the store has.
type Reacted struct {
	Channel, Message, Author, User textchat.ID
	Emoji                          string
}

func (in Reacted) handle(g *Guild, _ time.Time, out *Out) {
	e := ReactionEvent{User: in.User, Channel: in.Channel, Message: in.Message, Guild: g.self.ID, Member: g.members[in.User],
		Emoji: &textchat.Emoji{Name: in.Emoji}, Author: in.Author}
	out.event(Event{Name: textchat.EventReactionAdd, Intent: textchat.IntentGuildReactions, Channel: in.Channel, Data: e})
}

// Unreacted tells of reactions that the store has no more: that of one user, all
// of one emoji (User zero), or all (Emoji empty too).
type Unreacted struct {
	Channel, Message, User textchat.ID
	Emoji                  string
}

func (in Unreacted) handle(g *Guild, _ time.Time, out *Out) {
	e := Event{Name: textchat.EventReactionRemove, Intent: textchat.IntentGuildReactions, Channel: in.Channel}
	gone := ReactionsGone{Channel: in.Channel, Message: in.Message, Guild: g.self.ID}
	if in.Emoji != "" {
		gone.Emoji = &textchat.Emoji{Name: in.Emoji}
	}
	switch {
	case in.User != 0:
		e.Data = ReactionEvent{User: in.User, Channel: in.Channel, Message: in.Message, Guild: g.self.ID, Emoji: gone.Emoji}
	case in.Emoji != "":
		e.Name, e.Data = textchat.EventReactionEmoji, gone
	default:
		e.Name, e.Data = textchat.EventReactionClear, gone
	}
	out.event(e)
}

// PinsMoved tells that a message, of Author, was pinned or unpinned.
type PinsMoved struct {
	Channel, Message, Author textchat.ID
	Unpinned                 bool
	Last                     textchat.Time // when the newest pin was made; zero: none is left
}

func (in PinsMoved) handle(g *Guild, _ time.Time, out *Out) {
	out.event(Event{Name: textchat.EventPinsUpdate, Intent: textchat.IntentGuilds, Channel: in.Channel,
		Data: PinsEvent{Channel: in.Channel, Guild: g.self.ID, Last: in.Last}})
}

// Touched tells that the store has messages of a channel as somebody wanted them already.
// Who made them so may not have told it yet. Nobody gets an event.
type Touched struct{ Channel textchat.ID }

func (in Touched) handle(_ *Guild, _ time.Time, out *Out) {
	out.Touched = append(out.Touched, in.Channel)
}

// Bodies of the events of this file.
type (
	// GoneMany names messages that were deleted at once.
	GoneMany struct {
		IDs     []textchat.ID `json:"ids"`
		Channel textchat.ID   `json:"channel_id"`
		Guild   textchat.ID   `json:"guild_id,omitzero"`
	}
	// ReactionEvent is one reaction that came or went.
	ReactionEvent struct {
		User    textchat.ID      `json:"user_id"`
		Channel textchat.ID      `json:"channel_id"`
		Message textchat.ID      `json:"message_id"`
		Guild   textchat.ID      `json:"guild_id,omitzero"`
		Member  *textchat.Member `json:"member,omitempty"`
		Emoji   *textchat.Emoji  `json:"emoji"`
		Author  textchat.ID      `json:"message_author_id,omitzero"`
		Burst   bool             `json:"burst"`
		Type    int              `json:"type"`
	}
	// ReactionsGone is reactions that went at once.
	ReactionsGone struct {
		Channel textchat.ID     `json:"channel_id"`
		Message textchat.ID     `json:"message_id"`
		Guild   textchat.ID     `json:"guild_id,omitzero"`
		Emoji   *textchat.Emoji `json:"emoji,omitempty"`
	}
	// PinsEvent tells when the newest pin of a channel was made.
	PinsEvent struct {
		Channel textchat.ID   `json:"channel_id"`
		Guild   textchat.ID   `json:"guild_id,omitzero"`
		Last    textchat.Time `json:"last_pin_timestamp"`
	}
)
