package chatserver

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/token"
)

// Keys of the server's own settings.
const (
	settingFirstGuild = "first_guild"
	settingInvite     = "first_invite"
	settingSystemUser = "system_user"
	settingOwnerCode  = "owner_code" // its hash
)

// FirstGuild is what people need to get in.
type FirstGuild struct {
	Guild  textchat.ID
	Invite string // its permanent invite code
	// OwnerCode makes whoever shows it first the owner; it is new on every start,
	// the one before is void. Empty: there is an owner.
	OwnerCode string
	Created   bool // this start made the guild
}

// Bootstrap makes the first guild with a text, a voice and an echo channel on
// the first start and finds it again on later ones. It belongs to a system user
// that nobody can log in as, until somebody shows the owner code.
func (s *Server) Bootstrap(ctx context.Context, name string) (FirstGuild, error) {
	var f FirstGuild
	// A store that has much to do just now is no reason not to start.
	err := whileBusy(ctx, bootstrapPatience, func() (err error) {
		f, err = s.bootstrap(ctx, name)
		return err
	})
	if err != nil {
		return f, fmt.Errorf("bootstrap: %w", err)
	}
	return f, nil
}

// bootstrapPatience is how long a busy store is asked again.
const bootstrapPatience = 20 * time.Second

func (s *Server) bootstrap(ctx context.Context, name string) (FirstGuild, error) {
	var f FirstGuild
	first := true
	if s.ensemble != nil {
		var err error
		if first, err = s.ensemble.first(ctx); err != nil {
			return f, err
		}
	}
	switch _, err := s.store.Setting(ctx, settingCopy); {
	case err == nil:
		return f, errHalfCopied
	case !errors.Is(err, textchat.ErrNoRecord):
		return f, err
	}
	id, err := s.firstGuild(ctx)
	switch {
	case errors.Is(err, textchat.ErrNoRecord):
		if f, err = s.makeFirst(ctx, name); err != nil {
			return f, err
		}
	case err != nil:
		return f, err
	default:
		f.Guild = id
		if f.Invite, err = s.store.Setting(ctx, settingInvite); err != nil {
			return f, err
		}
	}
	r, err := s.store.Guild(ctx, f.Guild)
	if err != nil {
		return f, err
	}
	system, err := s.store.Setting(ctx, settingSystemUser)
	if err != nil {
		return f, err
	}
	if r.Guild.Owner.String() != system || !first {
		return f, nil // of several instances one makes the code
	}
	f.OwnerCode = randomCode(24) // 139 bits
	h := token.Hash(f.OwnerCode)
	return f, s.store.SetSetting(ctx, settingOwnerCode, hex.EncodeToString(h[:]))
}

func (s *Server) firstGuild(ctx context.Context) (textchat.ID, error) {
	v, err := s.store.Setting(ctx, settingFirstGuild)
	if err != nil {
		return 0, err
	}
	return snowflake.Parse(v)
}

// makeFirst writes the setting that names the guild last: a start that is cut
// short begins anew and leaves at worst a guild without members.
func (s *Server) makeFirst(ctx context.Context, name string) (FirstGuild, error) {
	var f FirstGuild
	name, err := nameField("name", name, textchat.MaxName)
	if err != nil {
		return f, err
	}
	id := s.newID()
	label := "System"
	system := textchat.User{ID: id, Username: unlisted("system", id), Discriminator: "0", GlobalName: &label, System: true, Bot: true}
	if err := s.store.CreateUser(ctx, textchat.Credential{User: system}, nil, id.Time()); err != nil {
		return f, err
	}
	g, err := s.makeGuild(ctx, name, system, false)
	if err != nil {
		return f, err
	}
	invite := textchat.Invite{Code: randomCode(10), Guild: g.Guild.ID, Channel: g.Channels[0].ID, Inviter: system.ID, CreatedAt: textchat.Time{Time: id.Time()}}
	if err := s.store.Save(ctx, g.Guild.ID, []textchat.Change{{PutInvite: &invite}}); err != nil {
		return f, err
	}
	for _, kv := range [][2]string{{settingSystemUser, system.ID.String()}, {settingInvite, invite.Code}, {settingFirstGuild, g.Guild.ID.String()}} {
		if err := s.store.SetSetting(ctx, kv[0], kv[1]); err != nil {
			return f, err
		}
	}
	return FirstGuild{Guild: g.Guild.ID, Invite: invite.Code, Created: true}, nil
}

// makeGuild writes a new guild with three channels.
func (s *Server) makeGuild(ctx context.Context, name string, owner textchat.User, join bool) (textchat.GuildRecord, error) {
	id := s.newID()
	var g textchat.GuildRecord
	g.Roles = []textchat.Role{{ID: id, Name: "@everyone", Permissions: textchat.DefaultPermissions}}
	for i, c := range []textchat.Channel{
		{Name: "general", Type: textchat.ChannelText},
		{Name: "Lobby", Type: textchat.ChannelVoice, Bitrate: 64000},
		{Name: "Echo test", Type: textchat.ChannelVoice, Bitrate: 64000, Echo: true},
	} {
		c.ID, c.Guild, c.Position, c.Overwrites = s.newID(), id, i, []textchat.Overwrite{}
		g.Channels = append(g.Channels, c)
	}
	text := g.Channels[0].ID
	g.Guild = textchat.Guild{ID: id, Name: name, Owner: owner.ID, SystemChannel: &text}
	changes := []textchat.Change{{PutGuild: &g.Guild}, {PutRole: &g.Roles[0]}}
	for i := range g.Channels {
		changes = append(changes, textchat.Change{PutChannel: &g.Channels[i]})
	}
	if join {
		m := textchat.Member{User: owner, Roles: []textchat.ID{}, JoinedAt: textchat.Time{Time: id.Time()}}
		changes = append(changes, textchat.Change{PutMember: &m})
	}
	return g, s.store.Save(ctx, id, changes)
}
