package chatserver

import (
	"errors"
	"net/http"
	"slices"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// emoji reads the emoji of the path. Only those of Unicode exist: there are no
// emoji of guilds.
func (c *call) emoji() (string, error) {
	e := c.r.PathValue("emoji")
	if !textchat.IsEmoji(e) {
		return "", textchat.ErrUnknownEmoji
	}
	return e, nil
}

// reacted finds the message and emoji of the path.
func (c *call) reacted(need textchat.Permissions) (place, textchat.Message, string, error) {
	p, err := c.place(need)
	if err != nil {
		return p, textchat.Message{}, "", err
	}
	e, err := c.emoji()
	if err != nil {
		return p, textchat.Message{}, "", err
	}
	m, err := c.message(p.channel.ID)
	return p, m, e, err
}

func (c *call) reactionAdd() (int, any, error) {
	p, m, e, err := c.reacted(textchat.ViewChannel | textchat.ReadMessageHistory)
	if err != nil {
		return 0, nil, err
	}
	// An emoji that is there may be joined without AddReactions.
	most := textchat.MaxReactions
	if !p.perms.Has(textchat.AddReactions) {
		first, err := c.srv.store.Reactors(c.ctx, m.Channel, m.ID, e, 0, 1)
		if err != nil {
			return 0, nil, err
		}
		if len(first) == 0 {
			return 0, nil, textchat.ErrMissingPerms
		}
		if p.owner != nil { // who is timed out joins none
			silent, err := read(c.ctx, p.owner, func(g *guild.Guild) (bool, error) { return g.TimedOut(c.user.ID), nil })
			if err != nil {
				return 0, nil, err
			}
			if silent {
				return 0, nil, textchat.ErrMissingPerms
			}
		}
	}
	in := guild.Reacted{Channel: m.Channel, Message: m.ID, Author: m.Author.ID, User: c.user.ID, Emoji: e}
	added, err := c.srv.store.React(c.srv.life, m.Channel, m.ID, e, c.user.ID, most)
	switch {
	case errors.Is(err, textchat.ErrTooMany):
		return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeMaxReactions, "Maximum number of reactions reached (20)")
	case errors.Is(err, textchat.ErrNoRecord):
		return 0, nil, textchat.ErrUnknownMessage
	case err != nil:
		c.await(err, func(later *call) bool {
			marks, err := later.marks(m)
			return err == nil && slices.ContainsFunc(marks.Reactions, func(r textchat.Reaction) bool { return r.Me && r.Emoji.Name == e }) &&
				p.tell(later.srv, in)
		}, nil)
		return 0, nil, err
	case !added:
		return http.StatusNoContent, nil, c.toldSo(p)
	}
	return http.StatusNoContent, nil, c.told(func(later *call) bool { return p.tell(later.srv, in) })
}

// reactionDrop takes one's own reaction away, or with ManageMessages another's.
func (c *call) reactionDrop() (int, any, error) {
	p, m, e, err := c.reacted(textchat.ViewChannel | textchat.ReadMessageHistory)
	if err != nil {
		return 0, nil, err
	}
	user, err := c.id("user", textchat.ErrUnknownUser)
	if err != nil {
		return 0, nil, err
	}
	if user != c.user.ID && !p.perms.Has(textchat.ManageMessages) {
		return 0, nil, textchat.ErrMissingPerms
	}
	return c.unreact(p, m, e, user)
}

// reactionsDrop takes all reactions away, or all of one emoji.
func (c *call) reactionsDrop() (int, any, error) {
	p, err := c.place(textchat.ViewChannel | textchat.ReadMessageHistory | textchat.ManageMessages)
	if err != nil {
		return 0, nil, err
	}
	e := ""
	if c.r.PathValue("emoji") != "" {
		if e, err = c.emoji(); err != nil {
			return 0, nil, err
		}
	}
	m, err := c.message(p.channel.ID)
	if err != nil {
		return 0, nil, err
	}
	return c.unreact(p, m, e, 0)
}

func (c *call) unreact(p place, m textchat.Message, e string, user textchat.ID) (int, any, error) {
	in := guild.Unreacted{Channel: m.Channel, Message: m.ID, User: user, Emoji: e}
	n, err := c.srv.store.Unreact(c.srv.life, m.Channel, m.ID, e, user)
	if err != nil {
		c.await(err, func(later *call) bool {
			later.user.ID = user // whose reaction it was; zero: everybody's
			marks, err := later.marks(m)
			return err == nil && !slices.ContainsFunc(marks.Reactions, func(r textchat.Reaction) bool {
				return (e == "" || r.Emoji.Name == e) && (user == 0 || r.Me)
			}) && p.tell(later.srv, in)
		}, nil)
		return 0, nil, err
	}
	if n == 0 {
		return http.StatusNoContent, nil, c.toldSo(p)
	}
	return http.StatusNoContent, nil, c.told(func(later *call) bool { return p.tell(later.srv, in) })
}

func (c *call) reactionList() (int, any, error) {
	_, m, e, err := c.reacted(textchat.ViewChannel | textchat.ReadMessageHistory)
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.queryInt("limit", 25, 1, 100)
	if err != nil {
		return 0, nil, err
	}
	after, err := c.queryID("after")
	if err != nil {
		return 0, nil, err
	}
	list := []textchat.User{}
	if kind, err := c.queryInt("type", 0, 0, 1); err != nil {
		return 0, nil, err
	} else if kind == 1 {
		return http.StatusOK, list, nil // burst reactions: there are none
	}
	ids, err := c.srv.store.Reactors(c.ctx, m.Channel, m.ID, e, after, limit)
	if err != nil {
		return 0, nil, err
	}
	for _, id := range ids {
		u, err := c.srv.store.User(c.ctx, id)
		if errors.Is(err, textchat.ErrNoRecord) {
			continue
		} else if err != nil {
			return 0, nil, err
		}
		list = append(list, u)
	}
	return http.StatusOK, list, nil
}
