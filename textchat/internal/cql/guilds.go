package cql

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gocql/gocql"

	"voicefleet/textchat"
)

// Kinds of rows in guild_parts. The audit log comes last: a guild is loaded
// without it.
const (
	kindGuild int8 = iota + 1
	kindRole
	kindChannel
	kindMember
	kindInvite
	kindBan
	kindWebhook
	kindAudit
)

// part is a row of guild_parts.
type part struct {
	kind    int8
	id      textchat.ID
	code    string
	channel textchat.ID // of invites and webhooks, else zero
	data    string
}

// parts reads rows of a guild.
func (s *Store) parts(ctx context.Context, guild textchat.ID, where string, args ...any) ([]part, error) {
	iter := s.query(ctx, "SELECT kind, id, code, channel_id, data FROM guild_parts WHERE guild_id = ? AND "+where, append([]any{int64(guild)}, args...)...).
		PageSize(guildRows).Iter()
	var list []part
	for {
		var p part
		var id, channel int64
		if !iter.Scan(&p.kind, &id, &p.code, &channel, &p.data) {
			break
		}
		p.id, p.channel = textchat.ID(id), textchat.ID(channel)
		list = append(list, p)
	}
	return list, iter.Close()
}

// one reads the data of one row.
func (s *Store) part(ctx context.Context, guild textchat.ID, kind int8, id textchat.ID, code string) (string, error) {
	var data string
	err := s.query(ctx, "SELECT data FROM guild_parts WHERE guild_id = ? AND kind = ? AND id = ? AND code = ?", int64(guild), kind, int64(id), code).Scan(&data)
	return data, err
}

// there says whether a row is there.
func (s *Store) there(ctx context.Context, guild textchat.ID, kind int8, id textchat.ID) (bool, error) {
	_, err := s.part(ctx, guild, kind, id, "")
	if errors.Is(err, gocql.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func decodeTo[T any](list *[]T, data string) error {
	v, err := decode[T](data)
	*list = append(*list, v)
	return err
}

// Guild loads a guild. Its owner is the only one who writes it: rows that come in
// pages are of one state.
func (s *Store) Guild(ctx context.Context, id textchat.ID) (textchat.GuildRecord, error) {
	var g textchat.GuildRecord
	err := s.doFor(ctx, longTimeout, "load guild", 0, func(ctx context.Context) error {
		parts, err := s.parts(ctx, id, "kind < ?", kindAudit)
		if err != nil {
			return err
		}
		found := false
		var members []textchat.Member
		for _, p := range parts {
			switch p.kind {
			case kindGuild:
				found = true
				g.Guild, err = decode[textchat.Guild](p.data)
			case kindRole:
				err = decodeTo(&g.Roles, p.data)
			case kindChannel:
				err = decodeTo(&g.Channels, p.data)
			case kindMember:
				err = decodeTo(&members, p.data)
			case kindBan:
				g.Banned = append(g.Banned, p.id)
			}
			if err != nil {
				return err
			}
		}
		if !found {
			return gocql.ErrNotFound
		}
		if err := each(ctx, len(g.Channels), func(ctx context.Context, i int) (err error) {
			g.Channels[i].LastMessage, err = s.last(ctx, g.Channels[i].ID)
			return err
		}); err != nil {
			return err
		}
		// The accounts' own records are the truth about users.
		ids := make([]textchat.ID, len(members))
		for i := range members {
			ids[i] = members[i].User.ID
		}
		users, err := s.users(ctx, ids)
		for _, m := range members {
			at, ok := slices.BinarySearchFunc(users, m.User.ID, func(u textchat.User, id textchat.ID) int { return cmp.Compare(u.ID, id) })
			if ok {
				m.User = users[at]
				g.Members = append(g.Members, m)
			}
		}
		return err
	})
	if err != nil {
		return textchat.GuildRecord{}, err
	}
	return g, nil
}

// GuildIDs lists all guilds, or those of a user.
func (s *Store) GuildIDs(ctx context.Context, user textchat.ID) ([]textchat.ID, error) {
	var ids []textchat.ID
	err := s.doFor(ctx, longTimeout, "list guilds", 0, func(ctx context.Context) error {
		var listed []textchat.ID
		if user == 0 {
			var err error
			if listed, err = s.listed(ctx, "guild_list", 0, 1<<31-1); err != nil {
				return err
			}
		} else {
			iter := s.query(ctx, "SELECT guild_id FROM user_guilds WHERE user_id = ?", int64(user)).Iter()
			var id int64
			for iter.Scan(&id) {
				listed = append(listed, textchat.ID(id))
			}
			if err := iter.Close(); err != nil {
				return err
			}
		}
		is := make([]bool, len(listed))
		if err := each(ctx, len(listed), func(ctx context.Context, i int) (err error) {
			if user == 0 {
				is[i], err = s.there(ctx, listed[i], kindGuild, listed[i])
			} else {
				is[i], err = s.there(ctx, listed[i], kindMember, user)
			}
			return err
		}); err != nil {
			return err
		}
		for i, id := range listed {
			if is[i] {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// ChannelGuild finds the guild of a channel.
func (s *Store) ChannelGuild(ctx context.Context, channel textchat.ID) (textchat.ID, error) {
	id, err := s.share(ctx, "find channel", [4]uint64{uint64(channel)}, func(ctx context.Context) (any, error) {
		var guild int64
		if err := s.query(ctx, "SELECT guild_id FROM channel_guilds WHERE channel_id = ?", int64(channel)).Scan(&guild); err != nil {
			return nil, err
		}
		is, err := s.there(ctx, textchat.ID(guild), kindChannel, channel)
		if err == nil && !is {
			err = gocql.ErrNotFound
		}
		return textchat.ID(guild), err
	})
	if err != nil {
		return 0, err
	}
	return id.(textchat.ID), nil
}

// counted is an invite with the number of its uses.
func (s *Store) counted(ctx context.Context, data string) (textchat.Invite, error) {
	i, err := decode[textchat.Invite](data)
	if err != nil {
		return i, err
	}
	return i, s.settledRead(ctx, "SELECT uses FROM lwt.invites WHERE code = ?", i.Code).Scan(&i.Uses)
}

// invite finds an invite: its code leads to a guild, which has it or not.
func (s *Store) invite(ctx context.Context, code string) (textchat.Invite, error) {
	var guild int64
	if err := s.settledRead(ctx, "SELECT guild_id FROM lwt.invites WHERE code = ?", code).Scan(&guild); err != nil {
		return textchat.Invite{}, err
	}
	data, err := s.part(ctx, textchat.ID(guild), kindInvite, 0, code)
	if err != nil {
		return textchat.Invite{}, err
	}
	return s.counted(ctx, data)
}

// Invite finds an invite, live or not.
func (s *Store) Invite(ctx context.Context, code string) (textchat.Invite, error) {
	var i textchat.Invite
	err := s.do(ctx, "find invite", 0, func(ctx context.Context) (err error) {
		i, err = s.invite(ctx, code)
		return err
	})
	if err != nil {
		return textchat.Invite{}, err
	}
	return i, nil
}

// Invites lists the invites of a guild, by code.
func (s *Store) Invites(ctx context.Context, guild textchat.ID) ([]textchat.Invite, error) {
	var list []textchat.Invite
	err := s.doFor(ctx, longTimeout, "list invites", 0, func(ctx context.Context) error {
		parts, err := s.parts(ctx, guild, "kind = ?", kindInvite)
		if err != nil {
			return err
		}
		list = make([]textchat.Invite, len(parts))
		return each(ctx, len(parts), func(ctx context.Context, i int) (err error) {
			list[i], err = s.counted(ctx, parts[i].data)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// UseInvite counts one use.
func (s *Store) UseInvite(ctx context.Context, code string, now time.Time) (textchat.Invite, error) {
	var used textchat.Invite
	err := s.do(ctx, "use invite", 0, func(ctx context.Context) error {
		for range casTries {
			i, err := s.invite(ctx, code)
			if err != nil {
				return err
			}
			if !i.Live(now) {
				return textchat.ErrUsedUp
			}
			applied, _, err := s.cas(ctx, "UPDATE lwt.invites SET uses = ? WHERE code = ? IF uses = ?", i.Uses+1, code, i.Uses)
			if err != nil {
				return err
			}
			if applied {
				i.Uses++
				used = i
				return nil
			}
		}
		return textchat.ErrBusy
	})
	if err != nil {
		return textchat.Invite{}, err
	}
	return used, nil
}

// Setting reads a setting.
func (s *Store) Setting(ctx context.Context, key string) (string, error) {
	var v string
	err := s.do(ctx, "read setting", 0, func(ctx context.Context) error {
		return s.settledRead(ctx, "SELECT value FROM lwt.settings WHERE name = ?", key).Scan(&v)
	})
	return v, err
}

// SetSetting writes a setting: all writes to it are transactions, since one that
// takes it is.
func (s *Store) SetSetting(ctx context.Context, key, value string) error {
	return s.do(ctx, "write setting", 0, func(ctx context.Context) error {
		for range casTries {
			applied, row, err := s.cas(ctx, "INSERT INTO lwt.settings (name, value) VALUES (?, ?) IF NOT EXISTS", key, value)
			if err != nil || applied || row["value"] == value {
				return err
			}
			if applied, _, err = s.cas(ctx, "UPDATE lwt.settings SET value = ? WHERE name = ? IF value = ?", value, key, row["value"]); err != nil || applied {
				return err
			}
		}
		return textchat.ErrBusy
	})
}

// TakeSetting removes a setting of this value.
func (s *Store) TakeSetting(ctx context.Context, key, value string) error {
	return s.do(ctx, "take setting", 0, func(ctx context.Context) error {
		applied, _, err := s.cas(ctx, "DELETE FROM lwt.settings WHERE name = ? IF value = ?", key, value)
		if err == nil && !applied {
			err = textchat.ErrNoRecord
		}
		return err
	})
}
