package chatserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// What is kept of a person, told and erased: the rights of access and erasure
// (GDPR, articles 15 and 17), for the operator to fulfil.

// stream is the body of an answer that is told line by line as JSON, while it is
// found. emit sends one line.
type stream func(emit func(any) error) error

const (
	// operatorTimeout bounds what an operator asks for: all messages are looked at.
	operatorTimeout = time.Hour
	// lineTimeout bounds the wait of a stream for its reader.
	lineTimeout = 30 * time.Second
	// linesFlushed at once, or what came within flushEvery.
	linesFlushed = 256
	flushEvery   = time.Second
)

// send writes a stream. What goes wrong on the way is its last line.
func (s stream) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	n, last := 0, time.Now()
	flush := func() error {
		n, last = 0, time.Now()
		_ = rc.SetWriteDeadline(last.Add(lineTimeout))
		return rc.Flush()
	}
	_ = rc.SetWriteDeadline(last.Add(lineTimeout))
	err := s(func(v any) error {
		if err := enc.Encode(v); err != nil {
			return err
		}
		if n++; n >= linesFlushed || time.Since(last) >= flushEvery {
			return flush()
		}
		return nil
	})
	if err != nil {
		_ = enc.Encode(map[string]any{"error": textchat.ErrorOf(err).Message}) // the reader may be gone
	}
	_ = flush()
}

// person finds the user of the path, by id or name.
func (c *call) person() (textchat.User, error) {
	name := c.r.PathValue("user")
	var u textchat.User
	err := textchat.ErrNoRecord
	if id, bad := strconv.ParseUint(name, 10, 63); bad == nil {
		u, err = c.srv.store.User(c.ctx, textchat.ID(id))
	}
	if errors.Is(err, textchat.ErrNoRecord) {
		var cred textchat.Credential
		cred, err = c.srv.store.Login(c.ctx, name)
		u = cred.User
	}
	if errors.Is(err, textchat.ErrNoRecord) {
		err = textchat.ErrUnknownUser
	}
	return u, err
}

// Lines of an export and an erasure; one field is set in each.
type (
	personLine struct {
		User     *textchat.User     `json:"user,omitempty"`
		Member   *guild.MemberEvent `json:"member,omitempty"`
		Message  *personMessage     `json:"message,omitempty"`
		Progress *personProgress    `json:"progress,omitempty"`
		Done     *personProgress    `json:"done,omitempty"`
	}
	personMessage struct {
		textchat.Message
		Guild textchat.ID `json:"guild_id,omitzero"`
	}
	personProgress struct {
		Channels int `json:"channels"` // looked through
		Messages int `json:"messages"` // found
		Guilds   int `json:"guilds"`   // that the person is in
	}
)

// walk goes through all messages there are for those by a user, the private ones
// included, and through the guilds that the user is in.
func (c *call) walk(user textchat.ID, member func(*owner, guild.MemberEvent) error, message func(*owner, textchat.Message) error, progress func(personProgress) error) (personProgress, error) {
	var p personProgress
	look := func(o *owner, channel textchat.ID) error {
		q := textchat.PageQuery{Limit: 100}
		for {
			list, err := c.srv.store.Page(c.ctx, channel, q)
			if err != nil {
				return err
			}
			for _, m := range list {
				if m.Author.ID != user {
					continue
				}
				p.Messages++
				if err := message(o, m); err != nil {
					return err
				}
			}
			if len(list) < q.Limit {
				break
			}
			q.Before = list[len(list)-1].ID
		}
		p.Channels++
		return progress(p)
	}
	ids, err := c.srv.store.GuildIDs(c.ctx, 0)
	if err != nil {
		return p, err
	}
	for _, id := range ids {
		r, err := c.srv.store.Guild(c.ctx, id)
		if errors.Is(err, textchat.ErrNoRecord) {
			continue
		}
		if err != nil {
			return p, err
		}
		o, err := c.srv.owner(id)
		if err != nil {
			return p, err
		}
		for _, ch := range r.Channels {
			if ch.Type.Text() {
				if err := look(o, ch.ID); err != nil {
					return p, err
				}
			}
		}
		for _, m := range r.Members {
			if m.User.ID != user {
				continue
			}
			p.Guilds++
			if err := member(o, guild.MemberEvent{Member: m, Guild: id}); err != nil {
				return p, err
			}
		}
	}
	private, err := c.srv.store.DMs(c.ctx, user, maxPrivate)
	if err != nil {
		return p, err
	}
	for _, d := range private {
		if err := look(nil, d.ID); err != nil {
			return p, err
		}
	}
	return p, nil
}

// maxPrivate is more than the private channels that anybody has.
const maxPrivate = 1 << 20

// adminExport tells all that is kept of a person: the account, memberships, and
// every message with the URLs of its files.
func (c *call) adminExport() (int, any, error) {
	u, err := c.person()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, stream(func(emit func(any) error) error {
		if err := emit(personLine{User: &u}); err != nil {
			return err
		}
		p, err := c.walk(u.ID,
			func(_ *owner, m guild.MemberEvent) error { return emit(personLine{Member: &m}) },
			func(o *owner, m textchat.Message) error {
				c.whole(&m)
				line := personMessage{Message: m}
				if o != nil {
					line.Guild = o.id
				}
				return emit(personLine{Message: &line})
			},
			func(personProgress) error { return nil })
		if err != nil {
			return err
		}
		return emit(personLine{Done: &p})
	}), nil
}

// adminErase removes a person: its messages and their files, its memberships, its
// sessions; the account stays without a name, so that what refers to it still does.
// It can be repeated.
func (c *call) adminErase() (int, any, error) {
	u, err := c.person()
	if err != nil {
		return 0, nil, err
	}
	owned, err := c.owned(u.ID)
	if err != nil {
		return 0, nil, err
	}
	if len(owned) > 0 {
		return 0, nil, textchat.Refuse(http.StatusConflict, textchat.CodeGeneral,
			"This user owns "+strings.Join(owned, ", ")+". Hand that over first: community settings, or PATCH /guilds/{guild} with owner_id.")
	}
	return http.StatusOK, stream(func(emit func(any) error) error {
		if err := c.endAll(u.ID); err != nil {
			return err
		}
		var member []*owner
		p, err := c.walk(u.ID,
			func(o *owner, _ guild.MemberEvent) error { member = append(member, o); return nil },
			c.eraseMessage,
			func(p personProgress) error { return emit(personLine{Progress: &p}) })
		if err != nil {
			return err
		}
		for _, o := range member {
			if _, err := o.do(c.ctx, guild.Leave{User: u.ID}); err != nil && !errors.Is(err, textchat.ErrUnknownMember) {
				return err
			}
		}
		hash, err := c.srv.hasher.Hash(c.ctx, randomCode(32)) // nobody knows it
		if err != nil {
			return err
		}
		gone := textchat.User{ID: u.ID, Username: unlisted("deleted", u.ID), Discriminator: "0", Bot: u.Bot, Guest: true}
		if err := c.srv.store.UpdateUser(c.ctx, textchat.Credential{User: gone, Hash: hash}); err != nil {
			return err
		}
		return emit(personLine{Done: &p})
	}), nil
}

// owned are the names of the guilds of a user.
func (c *call) owned(user textchat.ID) ([]string, error) {
	ids, err := c.srv.store.GuildIDs(c.ctx, user)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, id := range ids {
		r, err := c.srv.store.Guild(c.ctx, id)
		if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
			return nil, err
		}
		if err == nil && r.Guild.Owner == user {
			names = append(names, r.Guild.Name)
		}
	}
	return names, nil
}

// eraseMessage deletes a message with its files, and tells who is there.
func (c *call) eraseMessage(o *owner, m textchat.Message) error {
	p := place{owner: o}
	if o == nil {
		var err error
		if p.dm, err = c.srv.store.DM(c.ctx, m.Channel); err != nil {
			return err
		}
	}
	in := guild.Erased{Channel: m.Channel, Message: m.ID, Author: m.Author.ID}
	err := c.srv.store.DeleteMessage(c.srv.life, m.Channel, m.ID)
	if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
		c.awaitErased(err, p, m, in)
		return err
	}
	return c.told(func(later *call) bool { return later.erased(p, m, in) })
}
