package chatserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

func (c *call) banList() (int, any, error) {
	o, err := c.may(textchat.BanMembers)
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.queryInt("limit", 1000, 1, 1000)
	if err != nil {
		return 0, nil, err
	}
	before, err := c.queryID("before")
	if err != nil {
		return 0, nil, err
	}
	after, err := c.queryID("after")
	if err != nil {
		return 0, nil, err
	}
	list, err := c.srv.store.Bans(c.ctx, o.id, before, after, limit)
	return http.StatusOK, append([]textchat.Ban{}, list...), err
}

func (c *call) banGet() (int, any, error) {
	o, err := c.may(textchat.BanMembers)
	if err != nil {
		return 0, nil, err
	}
	id, err := c.id("user", textchat.ErrUnknownUser)
	if err != nil {
		return 0, nil, err
	}
	b, err := c.srv.store.Ban(c.ctx, o.id, id)
	if errors.Is(err, textchat.ErrNoRecord) {
		err = textchat.ErrUnknownBan
	}
	return http.StatusOK, b, err
}

// banAdd bans a user, and deletes what it wrote lately when asked to.
func (c *call) banAdd() (int, any, error) {
	o, err := c.may(textchat.BanMembers)
	if err != nil {
		return 0, nil, err
	}
	id, err := c.id("user", textchat.ErrUnknownUser)
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Seconds int `json:"delete_message_seconds"`
		Days    int `json:"delete_message_days"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if in.Seconds == 0 {
		in.Seconds = in.Days * 86400
	}
	if in.Seconds < 0 || in.Seconds > 7*86400 {
		return 0, nil, textchat.InvalidField("delete_message_seconds", "NUMBER_TYPE_RANGE", "Must be between 0 and 604800.")
	}
	if err := c.ban(o, id); err != nil {
		return 0, nil, err
	}
	if in.Seconds > 0 {
		c.sweepAway(o, id, c.now.Add(-time.Duration(in.Seconds)*time.Second))
	}
	return http.StatusNoContent, nil, nil
}

func (c *call) ban(o *owner, id textchat.ID) error {
	u, err := c.srv.store.User(c.ctx, id)
	if errors.Is(err, textchat.ErrNoRecord) {
		return textchat.ErrUnknownUser
	} else if err != nil {
		return err
	}
	b := guild.Ban{Actor: c.user.ID, User: u}
	reason, err := c.reason()
	if err != nil {
		return err
	}
	if reason != "" {
		b.Reason = &reason
	}
	_, err = c.do(o, b)
	return err
}

// sweepPages bounds the pages of 100 messages that are searched in a channel or thread
// for those of a banned user.
const sweepPages = 10

// sweepAway deletes what a user wrote in a guild, in threads too, since a time, in the
// background: the ban is done already.
func (c *call) sweepAway(o *owner, user textchat.ID, since time.Time) {
	s, later := c.srv, c.lasting()
	s.task(func() {
		defer s.recovered("ban_sweep")
		channels, err := read(s.life, o, func(g *guild.Guild) ([]textchat.Channel, error) { return g.WrittenSince(since), nil })
		if err != nil {
			return
		}
		for _, ch := range channels {
			q := textchat.PageQuery{Limit: 100}
			for range sweepPages {
				list, err := s.store.Page(s.life, ch.ID, q)
				if err != nil || len(list) == 0 {
					break
				}
				last := list[len(list)-1]
				list = slices.DeleteFunc(list, func(m textchat.Message) bool { return m.Author.ID != user || m.Timestamp.Before(since) })
				_ = later.eraseMany(place{owner: o, channel: ch}, list, func(_ *call, gone []textchat.ID) bool {
					return o.tell(guild.ErasedMany{Channel: ch.ID, Messages: gone})
				})
				if q.Before = last.ID; last.Timestamp.Before(since) {
					break
				}
			}
		}
	})
}

func (c *call) banDrop() (int, any, error) {
	o, err := c.may(textchat.BanMembers)
	if err != nil {
		return 0, nil, err
	}
	id, err := c.id("user", textchat.ErrUnknownUser)
	if err != nil {
		return 0, nil, err
	}
	u, err := c.srv.store.User(c.ctx, id)
	if errors.Is(err, textchat.ErrNoRecord) {
		u, err = textchat.User{ID: id}, nil
	}
	if err == nil {
		_, err = c.do(o, guild.Unban{Actor: c.user.ID, User: u})
	}
	return http.StatusNoContent, nil, err
}

// bansAdd bans up to 200 users at once, each for itself.
func (c *call) bansAdd() (int, any, error) {
	o, err := c.may(textchat.BanMembers | textchat.ManageGuild)
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Users []textchat.ID `json:"user_ids"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if n := len(in.Users); n < 1 || n > 200 {
		return 0, nil, textchat.InvalidField("user_ids", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 200 in length.")
	}
	banned, failed := []textchat.ID{}, []textchat.ID{}
	for i, id := range in.Users {
		if id == 0 || id > 1<<63-1 {
			return 0, nil, textchat.InvalidField(fmt.Sprintf("user_ids.%d", i), "NUMBER_TYPE_COERCE", "Value is not a snowflake.")
		}
		if err := c.ban(o, id); err != nil {
			failed = append(failed, id)
		} else {
			banned = append(banned, id)
		}
	}
	return http.StatusOK, map[string]any{"banned_users": banned, "failed_users": failed}, nil
}
