package chatserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// endOfTime is after every pin.
var endOfTime = time.Unix(1<<40, 0)

// pins lists pinned messages of the path's channel.
func (c *call) pins(before time.Time, limit int) ([]textchat.Pin, error) {
	p, err := c.place(textchat.ViewChannel)
	if err != nil {
		return nil, err
	}
	if !p.perms.Has(textchat.ReadMessageHistory) {
		return nil, nil
	}
	list, err := c.srv.store.Pins(c.ctx, p.channel.ID, before, limit)
	if err != nil {
		return nil, err
	}
	messages := make([]textchat.Message, len(list))
	for i, pin := range list {
		messages[i] = pin.Message
	}
	if messages, err = c.dress(p.channel.ID, messages); err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Message = messages[i]
	}
	return list, nil
}

// pinPage is the newer form of the list, in pages.
func (c *call) pinPage() (int, any, error) {
	limit, err := c.queryInt("limit", 50, 1, 50)
	if err != nil {
		return 0, nil, err
	}
	before := endOfTime
	if v := c.r.URL.Query().Get("before"); v != "" {
		if before, err = time.Parse(time.RFC3339, v); err != nil {
			return 0, nil, textchat.InvalidField("before", "DATE_TIME_TYPE_PARSE", "Must be an ISO 8601 time.")
		}
	}
	list, err := c.pins(before, limit+1)
	if err != nil {
		return 0, nil, err
	}
	more := len(list) > limit
	return http.StatusOK, map[string]any{"items": append([]textchat.Pin{}, list[:min(limit, len(list))]...), "has_more": more}, nil
}

// pinList is the older form: an array of all.
func (c *call) pinList() (int, any, error) {
	list, err := c.pins(endOfTime, textchat.MaxPins)
	messages := make([]textchat.Message, len(list))
	for i, p := range list {
		messages[i] = p.Message
	}
	return http.StatusOK, messages, err
}

// pinned finds the message of the path, for whoever may pin it.
func (c *call) pinned() (place, textchat.Message, error) {
	p, err := c.place(textchat.ViewChannel | textchat.ReadMessageHistory)
	if err != nil {
		return p, textchat.Message{}, err
	}
	if p.perms&(textchat.ManageMessages|textchat.PinMessages) == 0 {
		return p, textchat.Message{}, textchat.ErrMissingPerms
	}
	m, err := c.message(p.channel.ID)
	return p, m, err
}

func (c *call) pinAdd() (int, any, error) {
	p, m, err := c.pinned()
	if err != nil {
		return 0, nil, err
	}
	if m.Type != textchat.MessageDefault && m.Type != textchat.MessageReply {
		return 0, nil, textchat.ErrSystemMessage
	}
	at := textchat.Time{Time: c.now.Truncate(time.Microsecond)}
	told, err := c.pinsMoved(p, m, guild.PinsMoved{Last: at})
	if err != nil {
		return 0, nil, err
	}
	changed, err := c.srv.store.Pin(c.srv.life, m.Channel, m.ID, at.Time, textchat.MaxPins)
	switch {
	case errors.Is(err, textchat.ErrTooMany):
		return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeMaxPins, "Maximum number of pins reached (250)")
	case errors.Is(err, textchat.ErrNoRecord):
		return 0, nil, textchat.ErrUnknownMessage
	case err != nil:
		c.await(err, func(later *call) bool {
			marks, err := later.marks(m)
			if err != nil || !marks.Pinned {
				return false
			}
			later.pinDone(p, m, told)
			return true
		}, nil)
		return 0, nil, err
	case !changed:
		return http.StatusNoContent, nil, c.pinnedBefore(p, m)
	}
	return http.StatusNoContent, nil, c.told(func(later *call) bool { return later.pinDone(p, m, told) })
}

// pinnedBefore answers a pin, or the end of one, that is as it was wanted.
func (c *call) pinnedBefore(p place, m textchat.Message) error {
	return c.toldAgain(p, func(later *call) bool { return later.tellState(p, m) })
}

// pinDone tells of a pin, and says so in the channel.
func (c *call) pinDone(p place, m textchat.Message, in guild.Input) (told bool) {
	told = c.tellPinned(p, m, in)
	note := textchat.Message{ID: c.srv.newID(), Channel: m.Channel, Author: c.user, Type: textchat.MessagePinned,
		Mentions: []textchat.User{}, MentionRoles: []textchat.ID{}, Attachments: []textchat.Attachment{}, Embeds: []textchat.Embed{},
		Components: []json.RawMessage{}, Reference: &textchat.MessageReference{Message: m.ID, Channel: m.Channel}}
	if p.owner != nil {
		note.Reference.Guild = p.owner.id
	}
	note.Timestamp.Time = note.ID.Time()
	c.announce(p, note)
	return told
}

// announce posts what the server itself says of something that is done: that it cannot
// be said would be no reason to say that it is not.
func (c *call) announce(p place, note textchat.Message) {
	stored, _, err := c.srv.store.AddMessage(c.srv.life, note, "")
	if err != nil {
		c.awaitMessage(err, p, note, nil, nil)
		c.srv.cfg.Log.Warn("announce", "err", err)
		return
	}
	_ = c.told(func(later *call) bool { return p.tell(later.srv, guild.Posted{Message: stored}) })
}

func (c *call) pinDrop() (int, any, error) {
	p, m, err := c.pinned()
	if err != nil {
		return 0, nil, err
	}
	told, err := c.pinsMoved(p, m, guild.PinsMoved{Unpinned: true})
	if err != nil {
		return 0, nil, err
	}
	changed, err := c.srv.store.Unpin(c.srv.life, m.Channel, m.ID)
	if err != nil {
		c.await(err, func(later *call) bool {
			marks, err := later.marks(m)
			if err != nil || marks.Pinned {
				return false
			}
			later.unpinned(p, m, told)
			return true
		}, nil)
		return 0, nil, err
	}
	if !changed {
		return http.StatusNoContent, nil, c.pinnedBefore(p, m)
	}
	return http.StatusNoContent, nil, c.told(func(later *call) bool { return later.unpinned(p, m, told) })
}

// unpinned tells that a pin was taken away.
func (c *call) unpinned(p place, m textchat.Message, in guild.Input) (told bool) {
	last, err := c.srv.store.Pins(c.ctx, m.Channel, endOfTime, 1)
	if a, ok := in.(guild.Audited); ok && err == nil && len(last) > 0 {
		moved := a.Input.(guild.PinsMoved)
		moved.Last = last[0].At
		a.Input = moved
		in = a
	}
	return c.tellPinned(p, m, in)
}

// pinsMoved is what the guild will be told; nothing is audited in private.
func (c *call) pinsMoved(p place, m textchat.Message, in guild.PinsMoved) (guild.Input, error) {
	in.Channel, in.Message, in.Author = m.Channel, m.ID, m.Author.ID
	return c.audited(in)
}

// tellPinned tells that pins moved, and of the message's new state.
func (c *call) tellPinned(p place, m textchat.Message, in guild.Input) (told bool) {
	if a, ok := in.(guild.Audited); ok && p.owner == nil {
		in = a.Input
	}
	told = p.tell(c.srv, in)
	return c.tellState(p, m) && told
}

// tellState tells how a message is now: nobody else does, so it is tried again when the
// store is busy.
func (c *call) tellState(p place, m textchat.Message) (told bool) {
	for range awaitLooks {
		now, err := c.srv.store.Message(c.ctx, m.Channel, m.ID)
		if err == nil {
			err = c.tellEdited(p, now)
		}
		if err == nil || errors.Is(err, textchat.ErrNoRecord) {
			return true
		}
		select {
		case <-c.ctx.Done():
			return false
		case <-time.After(awaitLook):
		}
	}
	return false
}

// pinOrReactions tells two routes apart that the router cannot: both
// /messages/pins/{message} and /messages/{message}/reactions fit it.
func (c *call) pinOrReactions() (int, any, error) {
	switch what := c.r.PathValue("what"); {
	case c.r.PathValue("message") == "pins":
		c.r.SetPathValue("message", what)
		return c.pinDrop()
	case what == "reactions":
		return c.reactionsDrop()
	}
	return 0, nil, textchat.ErrNotFound
}
