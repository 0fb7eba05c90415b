package chatserver

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/ratelimit"
	"voicefleet/textchat/internal/token"
)

// entry answers whoever got in.
type entry struct {
	Token   string        `json:"token"`
	User    textchat.User `json:"user"`
	Guild   textchat.ID   `json:"guild_id,omitzero"`
	Channel textchat.ID   `json:"channel_id,omitzero"`
}

// newUser adds an account with its first token.
func (s *Server) newUser(ctx context.Context, u textchat.User, hash string) (string, error) {
	now := u.ID.Time()
	t := token.New(u.ID, now)
	h := token.Hash(t)
	err := s.store.CreateUser(ctx, textchat.Credential{User: u, Hash: hash}, &h, now)
	if errors.Is(err, textchat.ErrNameTaken) {
		err = errNameTaken
	}
	return t, err
}

var errNameTaken = textchat.InvalidField("username", "USERNAME_ALREADY_TAKEN", "This name is taken.")

// unlisted is a name nobody logs in by: it begins with what usernameField
// refuses, and ends with the id.
func unlisted(kind string, id textchat.ID) string { return kind + "." + id.String() }

// liveInvite finds an invite that still lets people in.
func (c *call) liveInvite(code string) (textchat.Invite, error) {
	// A code may come as the link that was passed on.
	if i := strings.LastIndexByte(code, '/'); i >= 0 {
		code = code[i+1:]
	}
	if len(code) > 64 {
		return textchat.Invite{}, textchat.ErrUnknownInvite
	}
	i, err := c.srv.store.Invite(c.ctx, code)
	if errors.Is(err, textchat.ErrNoRecord) || err == nil && !i.Live(c.now) {
		err = textchat.ErrUnknownInvite
	}
	return i, err
}

// guess counts one try to find an invite. Whoever creates accounts by invite
// guesses too.
func (c *call) guess() error {
	if a := c.srv.rates.Take(c.now, "guess|"+c.addr, perMinute(c.srv.cfg.Limits.Invites)); !a.OK {
		return c.limited(a, byUser)
	}
	return nil
}

// join makes a user a member by invite. Whoever is one already uses no use up.
func (c *call) join(u textchat.User, i textchat.Invite) error {
	o, err := c.srv.owner(i.Guild)
	if err != nil {
		return err
	}
	in, err := read(c.ctx, o, func(g *guild.Guild) (bool, error) {
		if g.Member(u.ID) != nil {
			return true, nil
		}
		if err := g.MayJoin(u.ID); err != nil { // else each try would use the invite up
			return false, err
		}
		return false, nil
	})
	if err != nil || in {
		return err
	}
	ids, err := c.srv.store.GuildIDs(c.ctx, u.ID)
	if err != nil {
		return err
	}
	most := textchat.MaxGuilds
	if u.Bot {
		most = textchat.MaxBotGuilds
	}
	if len(ids) >= most {
		return textchat.Refuse(http.StatusBadRequest, textchat.CodeMaxGuilds, fmt.Sprintf("Maximum number of guilds reached (%d)", most))
	}
	if _, err := c.srv.store.UseInvite(c.ctx, i.Code, c.now); errors.Is(err, textchat.ErrNoRecord) || errors.Is(err, textchat.ErrUsedUp) {
		return textchat.ErrUnknownInvite
	} else if err != nil {
		return err
	}
	_, err = o.do(c.ctx, guild.Join{User: u, Temporary: i.Temporary})
	return err
}

func (c *call) authGuest() (int, any, error) {
	var in struct {
		Invite   string `json:"invite"`
		Nickname string `json:"nickname"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	nick, err := nameField("nickname", in.Nickname, textchat.MaxNickname)
	if err != nil {
		return 0, nil, err
	}
	if err := c.guess(); err != nil {
		return 0, nil, err
	}
	i, err := c.liveInvite(in.Invite)
	if err != nil {
		return 0, nil, err
	}
	id := c.srv.newID()
	u := textchat.User{ID: id, Username: unlisted("guest", id), Discriminator: "0", GlobalName: &nick, Guest: true}
	t, err := c.srv.newUser(c.ctx, u, "")
	if err != nil {
		return 0, nil, err
	}
	if err := c.join(u, i); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, entry{Token: t, User: u, Guild: i.Guild, Channel: i.Channel}, nil
}

func (c *call) authRegister() (int, any, error) {
	var in struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Nickname string `json:"nickname"`
		Invite   string `json:"invite"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	u, hash, err := c.newAccount(in.Username, in.Password, in.Nickname, func() error {
		if in.Invite == "" {
			return nil
		}
		if err := c.guess(); err != nil {
			return err
		}
		_, err := c.liveInvite(in.Invite)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	t, err := c.srv.newUser(c.ctx, u, hash)
	if err != nil {
		return 0, nil, err
	}
	e := entry{Token: t, User: u}
	if in.Invite != "" {
		i, err := c.liveInvite(in.Invite)
		if err == nil {
			err = c.join(u, i)
		}
		// The account exists: an invite that ended this moment must not hide its
		// token.
		if err == nil {
			e.Guild, e.Channel = i.Guild, i.Channel
		}
	}
	return http.StatusCreated, e, nil
}

// newAccount checks a form and hashes its password, last of all: it is dear.
func (c *call) newAccount(username, pass, nickname string, more func() error) (textchat.User, string, error) {
	name, err := usernameField(username)
	if err != nil {
		return textchat.User{}, "", err
	}
	if err := passwordField(pass); err != nil {
		return textchat.User{}, "", err
	}
	u := textchat.User{ID: c.srv.newID(), Username: name, Discriminator: "0"}
	if nickname != "" {
		nick, err := nameField("nickname", nickname, textchat.MaxNickname)
		if err != nil {
			return textchat.User{}, "", err
		}
		u.GlobalName = &nick
	}
	if _, err := c.srv.store.Login(c.ctx, name); err == nil {
		return textchat.User{}, "", errNameTaken
	} else if !errors.Is(err, textchat.ErrNoRecord) {
		return textchat.User{}, "", err
	}
	if err := more(); err != nil {
		return textchat.User{}, "", err
	}
	hash, err := c.srv.hasher.Hash(c.ctx, pass)
	return u, hash, err
}

// login checks name and password.
func (c *call) login(username, pass string) (textchat.Credential, error) {
	username = strings.ToLower(strings.TrimSpace(username))
	if len(username) > textchat.MaxUsername || len(pass) > textchat.MaxPassword || username == "" {
		return textchat.Credential{}, textchat.ErrWrongPassword
	}
	rule := ratelimit.Rule{Limit: 10, Window: perMinute(1).Window}
	if a := c.srv.rates.Take(c.now, "name|"+username, rule); !a.OK {
		return textchat.Credential{}, c.limited(a, byAll)
	}
	cred, err := c.srv.store.Login(c.ctx, username)
	if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
		return textchat.Credential{}, err
	}
	ok, err := c.srv.hasher.Verify(c.ctx, pass, cred.Hash)
	if err != nil {
		return textchat.Credential{}, err
	}
	if !ok {
		return textchat.Credential{}, textchat.ErrWrongPassword
	}
	return cred, nil
}

// newToken gives who has shown a password a token, unless the account has another one by
// now: who takes a password away replaces it first and makes the tokens void then, so
// that either the token is among those or the other password is seen here.
func (c *call) newToken(cred textchat.Credential) (string, error) {
	t := token.New(cred.User.ID, c.now)
	h := token.Hash(t)
	if err := c.srv.store.AddToken(c.ctx, cred.User.ID, h, c.now); err != nil {
		return "", err
	}
	now, err := c.srv.store.Login(c.ctx, cred.User.Username)
	if errors.Is(err, textchat.ErrNoRecord) || err == nil && (now.User.ID != cred.User.ID || now.Hash != cred.Hash) {
		err = textchat.ErrWrongPassword
	}
	if err != nil {
		return "", errors.Join(err, c.srv.store.RevokeToken(c.srv.life, h))
	}
	return t, nil
}

func (c *call) authLogin() (int, any, error) {
	var in struct {
		Username string `json:"username"`
		Login    string `json:"login"` // the name Discord's own form uses
		Password string `json:"password"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if in.Username == "" {
		in.Username = in.Login
	}
	cred, err := c.login(in.Username, in.Password)
	if err != nil {
		return 0, nil, err
	}
	t, err := c.newToken(cred)
	return http.StatusOK, entry{Token: t, User: cred.User}, err
}

func (c *call) authLogout() (int, any, error) {
	end := usersEntry{End: &usersEnd{User: c.user.ID, Token: &c.token}}
	if err := c.srv.store.RevokeToken(c.srv.life, c.token); err != nil {
		c.await(err, func(later *call) bool {
			_, err := later.srv.store.TokenUser(later.ctx, later.token)
			return errors.Is(err, textchat.ErrNoRecord) && later.srv.tellUsers(later.ctx, end) == nil
		}, nil)
		return 0, nil, err
	}
	if err := c.srv.tellUsers(c.ctx, end); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}

func (c *call) authClaim() (int, any, error) {
	var in struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if !c.user.Guest {
		return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeGeneral, "This is an account already.")
	}
	form, hash, err := c.newAccount(in.Username, in.Password, "", func() error { return nil })
	if err != nil {
		return 0, nil, err
	}
	u := c.user
	u.Username, u.Guest = form.Username, false
	if err := c.updateUser(u, hash); errors.Is(err, textchat.ErrNameTaken) {
		return 0, nil, errNameTaken
	} else if err != nil {
		return 0, nil, err
	}
	t, err := c.newToken(textchat.Credential{User: u, Hash: hash})
	return http.StatusOK, entry{Token: t, User: u}, err
}

// updateUser stores the user's new record, and its password when there is a hash, and
// tells of it.
func (c *call) updateUser(u textchat.User, hash string) error {
	err := c.srv.store.UpdateUser(c.srv.life, textchat.Credential{User: u, Hash: hash})
	if err != nil {
		c.await(err, func(later *call) bool {
			stored, err := later.srv.store.User(later.ctx, u.ID)
			if err != nil || !bytes.Equal(encode(stored), encode(u)) {
				return false
			}
			later.srv.userChanged(later.ctx, u)
			return true
		}, nil)
		return err
	}
	c.srv.userChanged(c.srv.life, u)
	return nil
}

// userChanged tells the user's guilds and sessions of its new record.
func (s *Server) userChanged(ctx context.Context, u textchat.User) {
	ids, err := s.store.GuildIDs(ctx, u.ID)
	if err != nil {
		s.cfg.Log.Warn("list guilds of a changed user", "err", err)
	}
	for _, id := range ids {
		if o, err := s.owner(id); err == nil {
			o.post(guild.UserChanged{User: u})
		}
	}
	s.toUsers([]textchat.ID{u.ID}, textchat.EventUserUpdate, 0, encode(selfUser(u)))
}

func (c *call) authOwner() (int, any, error) {
	var in struct {
		Code     string `json:"code"`
		Username string `json:"username"`
		Password string `json:"password"`
		Nickname string `json:"nickname"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	s := c.srv
	h := token.Hash(strings.TrimSpace(in.Code))
	hash := hex.EncodeToString(h[:])
	if now, err := s.store.Setting(c.ctx, settingOwnerCode); errors.Is(err, textchat.ErrNoRecord) || err == nil && now != hash {
		return 0, nil, textchat.ErrWrongOwnerCode
	} else if err != nil {
		return 0, nil, err
	}
	// Everything that can be wrong with the form comes before the code is burnt.
	var u textchat.User
	var passHash string
	u, passHash, err := c.newAccount(in.Username, in.Password, in.Nickname, func() error { return nil })
	exists := errors.Is(err, errNameTaken)
	if exists {
		var cred textchat.Credential
		cred, err = c.login(in.Username, in.Password)
		u, passHash = cred.User, cred.Hash
	}
	if err != nil {
		return 0, nil, err
	}
	first, err := s.firstGuild(c.ctx)
	if err != nil {
		return 0, nil, err
	}
	o, err := s.owner(first)
	if err != nil {
		return 0, nil, err
	}
	if err := s.store.TakeSetting(c.ctx, settingOwnerCode, hash); errors.Is(err, textchat.ErrNoRecord) {
		return 0, nil, textchat.ErrWrongOwnerCode
	} else if err != nil {
		return 0, nil, err
	}
	t, err := c.becomeOwner(o, u, passHash, exists)
	if err != nil {
		// Nobody became owner: the code counts again.
		if back := s.store.SetSetting(context.WithoutCancel(c.ctx), settingOwnerCode, hash); back != nil {
			s.cfg.Log.Error("give owner code back", "err", back)
		}
		return 0, nil, err
	}
	return http.StatusOK, entry{Token: t, User: u, Guild: first}, nil
}

func (c *call) becomeOwner(o *owner, u textchat.User, passHash string, exists bool) (t string, err error) {
	if exists {
		t, err = c.newToken(textchat.Credential{User: u, Hash: passHash})
	} else {
		t, err = c.srv.newUser(c.ctx, u, passHash)
	}
	if err != nil {
		return "", err
	}
	if _, err := o.do(c.ctx, guild.Join{User: u}); err != nil {
		return "", err
	}
	_, err = o.do(c.ctx, guild.SetOwner{User: u.ID})
	return t, err
}
