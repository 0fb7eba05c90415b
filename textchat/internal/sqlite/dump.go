package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"voicefleet/textchat"
)

// Dump reads all that a database holds which nobody has open, for another store to
// have it. Nonces are left out: they are of minutes.
type Dump struct {
	db *sql.DB
}

// OpenDump opens the database in dir for reading. It must have the newest schema.
func OpenDump(ctx context.Context, dir string) (*Dump, error) {
	file := filepath.Join(dir, File)
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath()}
	db, err := sql.Open("sqlite", u.String()+"?mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(1000)")
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	db.SetMaxOpenConns(1)
	var version int
	if err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err == nil && version != len(migrations) {
		err = fmt.Errorf("%s has version %d, this program reads %d only; if that is newer, start it on the folder once", file, version, len(migrations))
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("read store: %w", explained(err))
	}
	return &Dump{db}, nil
}

// Close ends the reading.
func (d *Dump) Close() error { return d.db.Close() }

// each gives f the rows of a query.
func (d *Dump) each(ctx context.Context, verb, query string, args []any, f func(*sql.Rows) error) (err error) {
	rows, err := d.db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// State tells this state of the database from others of the same one.
func (d *Dump) State(ctx context.Context) (string, error) {
	var state string
	err := d.db.QueryRowContext(ctx, `SELECT concat_ws('/', (SELECT value FROM settings WHERE key = 'first_guild'), (SELECT page_count FROM pragma_page_count),
		(SELECT freelist_count FROM pragma_freelist_count), (SELECT count(*) FROM users), (SELECT max(id) FROM users), (SELECT count(*) FROM tokens),
		(SELECT count(*) FROM pins), (SELECT count(*) FROM audit))`).Scan(&state)
	if err != nil {
		return "", fmt.Errorf("read store: %w", err)
	}
	return state, nil
}

// Users gives each account, and when it was made.
func (d *Dump) Users(ctx context.Context, f func(c textchat.Credential, created time.Time) error) error {
	return d.each(ctx, "read users", "SELECT hash, created, data FROM users ORDER BY id", nil, func(rows *sql.Rows) error {
		var c textchat.Credential
		var created int64
		var data string
		if err := rows.Scan(&c.Hash, &created, &data); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(data), &c.User); err != nil {
			return err
		}
		return f(c, time.UnixMilli(created))
	})
}

// Tokens gives each token that lets somebody in, whose it is and when it was made.
func (d *Dump) Tokens(ctx context.Context, f func(user textchat.ID, token textchat.TokenHash, created time.Time) error) error {
	return d.each(ctx, "read tokens", "SELECT t.user_id, t.hash, t.created FROM tokens t JOIN users u ON u.id = t.user_id", nil, func(rows *sql.Rows) error {
		var user, created int64
		var hash []byte
		if err := rows.Scan(&user, &hash, &created); err != nil {
			return err
		}
		if len(hash) != len(textchat.TokenHash{}) {
			return fmt.Errorf("a token has %d bytes", len(hash))
		}
		return f(textchat.ID(user), textchat.TokenHash(hash), time.UnixMilli(created))
	})
}

// Settings gives the server's own settings.
func (d *Dump) Settings(ctx context.Context, f func(key, value string) error) error {
	return d.each(ctx, "read settings", "SELECT key, value FROM settings", nil, func(rows *sql.Rows) error {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
		return f(key, value)
	})
}

// DMs gives the private channels.
func (d *Dump) DMs(ctx context.Context, f func(textchat.DM) error) error {
	return d.each(ctx, "read private channels", "SELECT id, low, high FROM dms", nil, func(rows *sql.Rows) error {
		var id, low, high int64
		if err := rows.Scan(&id, &low, &high); err != nil {
			return err
		}
		return f(textchat.DM{ID: textchat.ID(id), Users: [2]textchat.ID{textchat.ID(low), textchat.ID(high)}})
	})
}

// Changes gives all that makes the guilds, as what would have to be saved; the guilds
// themselves come last. What is of one kind and guild comes together.
func (d *Dump) Changes(ctx context.Context, f func(guild textchat.ID, size int, c textchat.Change) error) error {
	for _, part := range []struct {
		query string
		field func(*textchat.Change) any
	}{
		{"SELECT guild_id, 0, data FROM roles ORDER BY guild_id", func(c *textchat.Change) any { return &c.PutRole }},
		{"SELECT guild_id, 0, data FROM channels ORDER BY guild_id", func(c *textchat.Change) any { return &c.PutChannel }},
		{"SELECT guild_id, 0, data FROM members ORDER BY guild_id", func(c *textchat.Change) any { return &c.PutMember }},
		{"SELECT guild_id, uses, data FROM invites ORDER BY guild_id", func(c *textchat.Change) any { return &c.PutInvite }},
		{"SELECT guild_id, 0, data FROM bans ORDER BY guild_id", func(c *textchat.Change) any { return &c.PutBan }},
		{"SELECT guild_id, 0, data FROM webhooks ORDER BY guild_id", func(c *textchat.Change) any { return &c.PutWebhook }},
		{"SELECT guild_id, 0, data FROM audit ORDER BY guild_id", func(c *textchat.Change) any { return &c.PutAudit }},
		{"SELECT id, 0, data FROM guilds", func(c *textchat.Change) any { return &c.PutGuild }},
	} {
		err := d.each(ctx, "read guilds", part.query, nil, func(rows *sql.Rows) error {
			var guild int64
			var uses int
			var data []byte
			if err := rows.Scan(&guild, &uses, &data); err != nil {
				return err
			}
			var c textchat.Change
			if err := json.Unmarshal(data, part.field(&c)); err != nil {
				return err
			}
			if c.PutInvite != nil {
				c.PutInvite.Uses = uses
			}
			return f(textchat.ID(guild), len(data), c)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// At is a message's place among all, by channel and id.
type At struct {
	Channel, ID textchat.ID
}

// Reacted is one reaction.
type Reacted struct {
	At    At
	Emoji string
	User  textchat.ID
}

// Pinned is one pin.
type Pinned struct {
	At   At
	Time time.Time
}

// Stretch is some messages that follow one another, with their reactions, the first
// ones first, and pins.
type Stretch struct {
	Messages  []textchat.Message
	Reactions []Reacted
	Pins      []Pinned
}

// Messages gives the messages after a place, at most limit; there are no more when there
// are none.
func (d *Dump) Messages(ctx context.Context, after At, limit int) (Stretch, error) {
	var s Stretch
	last := after
	err := d.each(ctx, "read messages", "SELECT channel_id, id, data FROM messages WHERE (channel_id, id) > (?, ?) ORDER BY channel_id, id LIMIT ?",
		[]any{int64(after.Channel), int64(after.ID), limit}, func(rows *sql.Rows) error {
			var channel, id int64
			var data []byte
			var m textchat.Message
			if err := rows.Scan(&channel, &id, &data); err != nil {
				return err
			}
			if err := json.Unmarshal(data, &m); err != nil {
				return err
			}
			last = At{textchat.ID(channel), textchat.ID(id)}
			m.Channel, m.ID = last.Channel, last.ID
			s.Messages = append(s.Messages, m)
			return nil
		})
	if err != nil || len(s.Messages) == 0 {
		return s, err
	}
	const among = " WHERE (channel_id, message_id) > (?, ?) AND (channel_id, message_id) <= (?, ?) ORDER BY channel_id, message_id"
	span := []any{int64(after.Channel), int64(after.ID), int64(last.Channel), int64(last.ID)}
	err = d.each(ctx, "read reactions", "SELECT channel_id, message_id, emoji, user_id FROM reactions"+among+", n", span, func(rows *sql.Rows) error {
		var channel, id, user int64
		var r Reacted
		if err := rows.Scan(&channel, &id, &r.Emoji, &user); err != nil {
			return err
		}
		r.At, r.User = At{textchat.ID(channel), textchat.ID(id)}, textchat.ID(user)
		s.Reactions = append(s.Reactions, r)
		return nil
	})
	if err != nil {
		return s, err
	}
	err = d.each(ctx, "read pins", "SELECT channel_id, message_id, at FROM pins"+among, span, func(rows *sql.Rows) error {
		var channel, id, at int64
		if err := rows.Scan(&channel, &id, &at); err != nil {
			return err
		}
		s.Pins = append(s.Pins, Pinned{At{textchat.ID(channel), textchat.ID(id)}, time.UnixMicro(at).UTC()})
		return nil
	})
	return s, err
}
