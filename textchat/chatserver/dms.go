package chatserver

import (
	"errors"
	"net/http"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// dmObject is a private channel as one of the two sees it.
type dmObject struct {
	ID          textchat.ID          `json:"id"`
	Type        textchat.ChannelType `json:"type"`
	LastMessage *textchat.ID         `json:"last_message_id"`
	Recipients  []textchat.User      `json:"recipients"`
	Flags       int                  `json:"flags"`
}

// dmSeen is a private channel as user sees it.
func (c *call) dmSeen(d textchat.DM, user textchat.ID) (dmObject, error) {
	other, err := c.srv.store.User(c.ctx, d.Other(user))
	if errors.Is(err, textchat.ErrNoRecord) {
		other, err = textchat.User{ID: d.Other(user), Discriminator: "0"}, nil
	}
	return dmObject{ID: d.ID, Type: textchat.ChannelDM, LastMessage: d.LastMessage, Recipients: []textchat.User{other}}, err
}

// dmOpen finds or makes the private channel with a user who shares a guild with
// the caller.
func (c *call) dmOpen() (int, any, error) {
	var in struct {
		Recipient  textchat.ID   `json:"recipient_id"`
		Recipients []textchat.ID `json:"recipients"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	field := "recipient_id"
	if in.Recipient == 0 && len(in.Recipients) > 0 {
		field = "recipients"
		if len(in.Recipients) > 1 {
			return 0, nil, textchat.InvalidField(field, "BASE_TYPE_BAD_LENGTH", "There are no group channels here: name one user.")
		}
		in.Recipient = in.Recipients[0]
	}
	switch {
	case in.Recipient == 0:
		return 0, nil, textchat.InvalidField(field, "BASE_TYPE_REQUIRED", "This field is required")
	case in.Recipient == c.user.ID || in.Recipient > 1<<63-1:
		return 0, nil, textchat.InvalidField(field, "CHANNEL_RECIPIENT_INVALID", "Nobody has a private channel with this user.")
	}
	if _, err := c.srv.store.User(c.ctx, in.Recipient); errors.Is(err, textchat.ErrNoRecord) {
		return 0, nil, textchat.ErrUnknownUser
	} else if err != nil {
		return 0, nil, err
	}
	if err := c.acquainted(in.Recipient); err != nil {
		return 0, nil, err
	}
	d, err := c.srv.store.OpenDM(c.srv.life, textchat.DM{ID: c.srv.newID(), Users: [2]textchat.ID{c.user.ID, in.Recipient}})
	if err != nil {
		return 0, nil, err
	}
	shown, err := c.dmSeen(d, c.user.ID)
	return http.StatusOK, shown, err
}

// acquainted refuses private messages to whom the caller shares no guild with.
func (c *call) acquainted(other textchat.ID) error {
	ids, err := c.srv.store.GuildIDs(c.ctx, c.user.ID)
	if err != nil {
		return err
	}
	for _, id := range ids {
		o, err := c.srv.owner(id)
		if err != nil {
			return err
		}
		if both, err := read(c.ctx, o, func(g *guild.Guild) (bool, error) { return g.Member(other) != nil, nil }); err != nil || both {
			return err
		}
	}
	return textchat.Refuse(http.StatusForbidden, textchat.CodeCannotDM, "Cannot send messages to this user")
}

func (c *call) dmList() (int, any, error) {
	list, err := c.srv.store.DMs(c.ctx, c.user.ID, 100)
	if err != nil {
		return 0, nil, err
	}
	shown := make([]dmObject, len(list))
	for i, d := range list {
		if shown[i], err = c.dmSeen(d, c.user.ID); err != nil {
			return 0, nil, err
		}
	}
	return http.StatusOK, shown, nil
}

// introduce tells people of a private channel before its first message. Bots are
// not told: their libraries take the channel from the message.
func (c *call) introduce(p place) {
	for _, u := range p.dm.Users {
		user, err := c.srv.store.User(c.ctx, u)
		if err != nil || user.Bot {
			continue
		}
		if seen, err := c.dmSeen(p.dm, u); err == nil {
			c.srv.toUsers([]textchat.ID{u}, textchat.EventChannelCreate, textchat.IntentDirectMessages, encode(seen))
		}
	}
}
