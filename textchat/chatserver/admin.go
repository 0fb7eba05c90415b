package chatserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// admitOperator checks the admin token. An address may be wrong 20 times a
// minute.
func (c *call) admitOperator() error {
	want := c.srv.cfg.AdminToken
	got, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	if want != "" && ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
		return nil
	}
	if a := c.srv.rates.Take(c.now, "operator|"+c.addr, perMinute(20)); !a.OK {
		return c.limited(a, byUser)
	}
	return textchat.ErrUnauthorized
}

// adminReset gives an account a new random password and makes its tokens void.
func (c *call) adminReset() (int, any, error) {
	var in struct {
		Username string `json:"username"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	cred, err := c.srv.store.Login(c.ctx, strings.TrimSpace(in.Username))
	if errors.Is(err, textchat.ErrNoRecord) || err == nil && (cred.User.Bot || cred.User.Guest) {
		return 0, nil, textchat.InvalidField("username", "USERNAME_UNKNOWN", "There is no account of this name.")
	}
	if err != nil {
		return 0, nil, err
	}
	pass := randomCode(16) // 92 bits
	if cred.Hash, err = c.srv.hasher.Hash(c.ctx, pass); err != nil {
		return 0, nil, err
	}
	if err := c.srv.store.UpdateUser(c.ctx, cred); err != nil {
		return 0, nil, err
	}
	if err := c.endAll(cred.User.ID); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"user": cred.User, "password": pass}, nil
}

// endAll makes all tokens of a user void and ends its sessions, also when the store does
// not say in time whether it did the former: it may yet.
func (c *call) endAll(user textchat.ID) error {
	err := c.srv.store.RevokeTokens(c.srv.life, user)
	if err != nil && !errors.Is(err, textchat.ErrUnsure) {
		return err
	}
	if told := c.srv.tellUsers(c.ctx, usersEntry{End: &usersEnd{User: user}}); err == nil {
		err = told
	}
	return err
}

// makeBot adds a bot account to a guild, by the input that join makes.
func (s *Server) makeBot(ctx context.Context, name string, o *owner, allowed func(*guild.Guild) error, join func(guild.Join) (guild.Input, error)) (entry, error) {
	name, err := nameField("name", name, textchat.MaxNickname)
	if err != nil {
		return entry{}, err
	}
	_, err = read(ctx, o, func(g *guild.Guild) (int, error) { return 0, allowed(g) })
	if err != nil {
		return entry{}, err
	}
	id := s.newID()
	u := textchat.User{ID: id, Username: unlisted("bot", id), Discriminator: "0", GlobalName: &name, Bot: true}
	t, err := s.newUser(ctx, u, "")
	if err != nil {
		return entry{}, err
	}
	in, err := join(guild.Join{User: u})
	if err == nil {
		_, err = o.do(ctx, in)
	}
	return entry{Token: t, User: u, Guild: o.id}, err
}

func (c *call) botCreate() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Name string `json:"name"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	e, err := c.srv.makeBot(c.ctx, in.Name, o, func(g *guild.Guild) error {
		if !g.Base(c.user.ID).Has(textchat.ManageGuild) {
			return textchat.ErrMissingPerms
		}
		if g.BotCount() >= textchat.MaxBots {
			return textchat.Refuse(http.StatusBadRequest, textchat.CodeMaxGuilds, "Maximum number of bots reached (50)")
		}
		return nil
	}, func(in guild.Join) (guild.Input, error) { return c.audited(in) })
	return http.StatusCreated, e, err
}

func (c *call) adminBot() (int, any, error) {
	var in struct {
		Name  string      `json:"name"`
		Guild textchat.ID `json:"guild_id"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if in.Guild == 0 {
		first, err := c.srv.firstGuild(c.ctx)
		if err != nil {
			return 0, nil, err
		}
		in.Guild = first
	}
	o, err := c.srv.owner(in.Guild)
	if err != nil {
		return 0, nil, err
	}
	e, err := c.srv.makeBot(c.ctx, in.Name, o, func(*guild.Guild) error { return nil }, func(in guild.Join) (guild.Input, error) { return in, nil })
	return http.StatusCreated, e, err
}

func (c *call) adminUsers() (int, any, error) {
	limit, err := c.queryInt("limit", 100, 1, 1000)
	if err != nil {
		return 0, nil, err
	}
	after, err := c.queryID("after")
	if err != nil {
		return 0, nil, err
	}
	list, err := c.srv.store.Users(c.ctx, after, limit)
	return http.StatusOK, append([]textchat.User{}, list...), err
}

func (c *call) adminGuilds() (int, any, error) {
	ids, err := c.srv.store.GuildIDs(c.ctx, 0)
	if err != nil {
		return 0, nil, err
	}
	type row struct {
		ID      textchat.ID `json:"id"`
		Name    string      `json:"name"`
		Owner   textchat.ID `json:"owner_id"`
		Members int         `json:"members"`
		Online  int         `json:"online"`
		InVoice int         `json:"in_voice"`
		Leader  string      `json:"leader,omitempty"` // the instance that leads it, of several
		Given   bool        `json:"given,omitempty"`  // because another one had too much to do
	}
	list := []row{}
	for _, id := range ids {
		o, err := c.srv.owner(id)
		if err != nil {
			return 0, nil, err
		}
		r, err := read(c.ctx, o, func(g *guild.Guild) (row, error) {
			s := g.Self()
			r := row{ID: s.ID, Name: s.Name, Owner: s.Owner, Members: g.MemberCount(), Online: len(o.seen), InVoice: g.VoiceCount()}
			if e := c.srv.ensemble; e != nil && e.alone == nil {
				r.Leader, r.Given = e.ledBy(s.ID)
			}
			return r, nil
		})
		if err != nil {
			return 0, nil, err
		}
		list = append(list, r)
	}
	return http.StatusOK, list, nil
}

func (c *call) adminInvites() (int, any, error) {
	id, err := c.id("guild", textchat.ErrUnknownGuild)
	if err != nil {
		return 0, nil, err
	}
	list, err := c.srv.store.Invites(c.ctx, id)
	return http.StatusOK, append([]textchat.Invite{}, list...), err
}
