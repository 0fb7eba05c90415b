package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"voicefleet/textchat"
)

// Guild loads a guild, in one read transaction.
func (s *Store) Guild(ctx context.Context, id textchat.ID) (textchat.GuildRecord, error) {
	const verb = "load guild"
	var g textchat.GuildRecord
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return g, fmt.Errorf("%s: %w", verb, err)
	}
	defer tx.Rollback()
	if g.Guild, err = one[textchat.Guild](tx.QueryRowContext(ctx, "SELECT data FROM guilds WHERE id = ?", int64(id)), verb); err != nil {
		return g, err
	}
	rows, err := tx.QueryContext(ctx, "SELECT data FROM roles WHERE guild_id = ? ORDER BY id", int64(id))
	if g.Roles, err = all[textchat.Role](rows, err, verb); err != nil {
		return g, err
	}
	rows, err = tx.QueryContext(ctx, "SELECT data FROM channels WHERE guild_id = ? ORDER BY id", int64(id))
	if g.Channels, err = all[textchat.Channel](rows, err, verb); err != nil {
		return g, err
	}
	for i := range g.Channels {
		var last sql.NullInt64
		if err := tx.QueryRowContext(ctx, "SELECT max(id) FROM messages WHERE channel_id = ?", int64(g.Channels[i].ID)).Scan(&last); err != nil {
			return g, fmt.Errorf("%s: %w", verb, err)
		}
		if last.Valid {
			id := textchat.ID(last.Int64)
			g.Channels[i].LastMessage = &id
		}
	}
	rows, err = tx.QueryContext(ctx, `SELECT m.data, u.data FROM members m JOIN users u ON u.id = m.user_id
		WHERE m.guild_id = ? ORDER BY m.user_id`, int64(id))
	if err != nil {
		return g, fmt.Errorf("%s: %w", verb, err)
	}
	defer rows.Close()
	for rows.Next() {
		var member, user string
		var m textchat.Member
		if err := rows.Scan(&member, &user); err != nil {
			return g, fmt.Errorf("%s: %w", verb, err)
		}
		// The account's own record is the truth about the user.
		if err := errors.Join(json.Unmarshal([]byte(member), &m), json.Unmarshal([]byte(user), &m.User)); err != nil {
			return g, fmt.Errorf("%s: %w", verb, err)
		}
		g.Members = append(g.Members, m)
	}
	if err := rows.Err(); err != nil {
		return g, fmt.Errorf("%s: %w", verb, err)
	}
	rows, err = tx.QueryContext(ctx, "SELECT user_id FROM bans WHERE guild_id = ? ORDER BY user_id", int64(id))
	g.Banned, err = ids(rows, err, verb)
	return g, err
}

// Save does all changes or none. The guild's owner goes by what it returns, so a
// save that was begun is waited for.
func (s *Store) Save(ctx context.Context, guild textchat.ID, changes []textchat.Change) error {
	return s.changeSurely(ctx, "save guild", func(tx *txn) error {
		for _, c := range changes {
			if err := saveOne(tx, int64(guild), c); err != nil {
				return err
			}
		}
		return nil
	})
}

func saveOne(tx *txn, g int64, c textchat.Change) error {
	var err error
	switch {
	case c.PutGuild != nil:
		_, err = exec(tx, "INSERT INTO guilds (id, data) VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data", g, encode(c.PutGuild))
	case c.DropGuild:
		for _, q := range []string{
			"DELETE FROM messages WHERE channel_id IN (SELECT id FROM channels WHERE guild_id = ?)",
			"DELETE FROM invites WHERE guild_id = ?", "DELETE FROM members WHERE guild_id = ?", "DELETE FROM channels WHERE guild_id = ?",
			"DELETE FROM roles WHERE guild_id = ?", "DELETE FROM bans WHERE guild_id = ?", "DELETE FROM webhooks WHERE guild_id = ?",
			"DELETE FROM audit WHERE guild_id = ?", "DELETE FROM guilds WHERE id = ?",
		} {
			if _, err = exec(tx, q, g); err != nil {
				return err
			}
		}
	case c.PutRole != nil:
		_, err = exec(tx, "INSERT INTO roles (guild_id, id, data) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
			g, int64(c.PutRole.ID), encode(c.PutRole))
	case c.DropRole != 0:
		_, err = exec(tx, "DELETE FROM roles WHERE guild_id = ? AND id = ?", g, int64(c.DropRole))
	case c.PutChannel != nil:
		_, err = exec(tx, "INSERT INTO channels (id, guild_id, data) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
			int64(c.PutChannel.ID), g, encode(c.PutChannel))
	case c.DropChannel != 0:
		for _, q := range []string{"DELETE FROM messages WHERE channel_id = ?", "DELETE FROM invites WHERE channel_id = ?", "DELETE FROM webhooks WHERE channel_id = ?", "DELETE FROM channels WHERE id = ?"} {
			if _, err = exec(tx, q, int64(c.DropChannel)); err != nil {
				return err
			}
		}
	case c.PutMember != nil:
		_, err = exec(tx, "INSERT INTO members (guild_id, user_id, data) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
			g, int64(c.PutMember.User.ID), encode(c.PutMember))
	case c.DropMember != 0:
		_, err = exec(tx, "DELETE FROM members WHERE guild_id = ? AND user_id = ?", g, int64(c.DropMember))
	case c.PutInvite != nil:
		i := c.PutInvite
		_, err = exec(tx, `INSERT INTO invites (code, guild_id, channel_id, uses, data) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET channel_id = excluded.channel_id, data = excluded.data`, i.Code, g, int64(i.Channel), i.Uses, encode(i))
	case c.DropInvite != "":
		_, err = exec(tx, "DELETE FROM invites WHERE guild_id = ? AND code = ?", g, c.DropInvite)
	default:
		return saveCommunity(tx, g, c)
	}
	return err
}

// GuildIDs lists all guilds, or those of a user.
func (s *Store) GuildIDs(ctx context.Context, user textchat.ID) ([]textchat.ID, error) {
	q, args := "SELECT id FROM guilds ORDER BY id", []any{}
	if user != 0 {
		q, args = "SELECT guild_id FROM members WHERE user_id = ? ORDER BY guild_id", []any{int64(user)}
	}
	rows, err := s.read.QueryContext(ctx, q, args...)
	return ids(rows, err, "list guilds")
}

// ChannelGuild finds the guild of a channel.
func (s *Store) ChannelGuild(ctx context.Context, channel textchat.ID) (textchat.ID, error) {
	var id int64
	err := s.read.QueryRowContext(ctx, "SELECT guild_id FROM channels WHERE id = ?", int64(channel)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = textchat.ErrNoRecord
	}
	if err != nil {
		return 0, fmt.Errorf("find channel: %w", err)
	}
	return textchat.ID(id), nil
}

// Invite finds an invite, live or not.
func (s *Store) Invite(ctx context.Context, code string) (textchat.Invite, error) {
	return s.invite(s.read.QueryRowContext(ctx, "SELECT uses, data FROM invites WHERE code = ?", code))
}

func (s *Store) invite(row interface{ Scan(...any) error }) (textchat.Invite, error) {
	var i textchat.Invite
	var uses int
	var data string
	err := row.Scan(&uses, &data)
	if errors.Is(err, sql.ErrNoRows) {
		err = textchat.ErrNoRecord
	}
	if err == nil {
		err = json.Unmarshal([]byte(data), &i)
	}
	if err != nil {
		return i, fmt.Errorf("find invite: %w", err)
	}
	i.Uses = uses
	return i, nil
}

// Invites lists the invites of a guild.
func (s *Store) Invites(ctx context.Context, guild textchat.ID) ([]textchat.Invite, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT uses, data FROM invites WHERE guild_id = ? ORDER BY code", int64(guild))
	if err != nil {
		return nil, fmt.Errorf("list invites: %w", err)
	}
	defer rows.Close()
	var list []textchat.Invite
	for rows.Next() {
		i, err := s.invite(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, rows.Err()
}

// UseInvite counts one use.
func (s *Store) UseInvite(ctx context.Context, code string, now time.Time) (textchat.Invite, error) {
	var used textchat.Invite
	err := s.change(ctx, "use invite", func(tx *txn) error {
		i, err := s.invite(tx.row("SELECT uses, data FROM invites WHERE code = ?", code))
		if err != nil {
			return err
		}
		if !i.Live(now) {
			return textchat.ErrUsedUp
		}
		if _, err := exec(tx, "UPDATE invites SET uses = uses + 1 WHERE code = ?", code); err != nil {
			return err
		}
		i.Uses++
		used = i
		return nil
	})
	if err != nil {
		return textchat.Invite{}, err
	}
	return used, nil
}

// Setting reads a setting.
func (s *Store) Setting(ctx context.Context, key string) (string, error) {
	var v string
	err := s.read.QueryRowContext(ctx, "SELECT value FROM settings WHERE key = ?", key).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		err = textchat.ErrNoRecord
	}
	if err != nil {
		return "", fmt.Errorf("read setting: %w", err)
	}
	return v, nil
}

// SetSetting writes a setting.
func (s *Store) SetSetting(ctx context.Context, key, value string) error {
	return s.change(ctx, "write setting", func(tx *txn) error {
		_, err := exec(tx, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", key, value)
		return err
	})
}

// TakeSetting removes a setting of this value.
func (s *Store) TakeSetting(ctx context.Context, key, value string) error {
	return s.change(ctx, "take setting", func(tx *txn) error {
		n, err := exec(tx, "DELETE FROM settings WHERE key = ? AND value = ?", key, value)
		if err == nil && n == 0 {
			err = textchat.ErrNoRecord
		}
		return err
	})
}
