package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"voicefleet/textchat"
)

// auditTidied is how many expired entries one new entry takes away.
const auditTidied = 4

// ids reads a column of ids.
func ids(rows *sql.Rows, err error, verb string) ([]textchat.ID, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	defer rows.Close()
	var list []textchat.ID
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
		list = append(list, textchat.ID(id))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return list, nil
}

// in is "(?,?,?)" and the ids as arguments.
func in(list []textchat.ID, before ...any) (string, []any) {
	args := before
	for _, id := range list {
		args = append(args, int64(id))
	}
	return "(" + strings.TrimSuffix(strings.Repeat("?,", len(list)), ",") + ")", args
}

// saveCommunity does the changes of bans, webhooks and the audit log.
func saveCommunity(tx *txn, g int64, c textchat.Change) error {
	var err error
	switch {
	case c.PutBan != nil:
		_, err = exec(tx, "INSERT INTO bans (guild_id, user_id, data) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
			g, int64(c.PutBan.User.ID), encode(c.PutBan))
	case c.DropBan != 0:
		_, err = exec(tx, "DELETE FROM bans WHERE guild_id = ? AND user_id = ?", g, int64(c.DropBan))
	case c.PutWebhook != nil:
		w := c.PutWebhook
		_, err = exec(tx, `INSERT INTO webhooks (id, guild_id, channel_id, data) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET channel_id = excluded.channel_id, data = excluded.data`, int64(w.ID), g, int64(w.Channel), encode(w))
	case c.DropWebhook != 0:
		_, err = exec(tx, "DELETE FROM webhooks WHERE guild_id = ? AND id = ?", g, int64(c.DropWebhook))
	case c.PutAudit != nil:
		a := c.PutAudit
		oldest := int64(a.ID) - textchat.AuditLife.Milliseconds()<<22
		if _, err = exec(tx, "DELETE FROM audit WHERE (guild_id, id) IN (SELECT guild_id, id FROM audit WHERE guild_id = ? AND id < ? ORDER BY id LIMIT ?)",
			g, oldest, auditTidied); err != nil {
			return err
		}
		_, err = exec(tx, `INSERT INTO audit (guild_id, id, user_id, action, data) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET user_id = excluded.user_id, action = excluded.action, data = excluded.data`, g, int64(a.ID), int64(a.User), int(a.Action), encode(a))
	default:
		err = errors.New("empty change")
	}
	return err
}

// mustHave refuses with ErrNoRecord when a message does not exist.
func mustHave(tx *txn, channel, message textchat.ID) error {
	var n int
	err := tx.row("SELECT 1 FROM messages WHERE channel_id = ? AND id = ?", int64(channel), int64(message)).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return textchat.ErrNoRecord
	}
	return err
}

func count(tx *txn, q string, args ...any) (n int, err error) {
	err = tx.row(q, args...).Scan(&n)
	return n, err
}

// React adds a reaction.
func (s *Store) React(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID, most int) (bool, error) {
	added := false
	err := s.change(ctx, "react", func(tx *txn) error {
		if err := mustHave(tx, channel, message); err != nil {
			return err
		}
		n, err := count(tx, "SELECT count(DISTINCT emoji) FROM reactions WHERE channel_id = ? AND message_id = ? AND emoji != ?", int64(channel), int64(message), emoji)
		if err != nil {
			return err
		}
		if n >= most {
			return textchat.ErrTooMany
		}
		// n orders the reactions of a message.
		rows, err := exec(tx, `INSERT INTO reactions (channel_id, message_id, emoji, user_id, n)
			VALUES (?1, ?2, ?3, ?4, (SELECT coalesce(max(n), 0) + 1 FROM reactions WHERE channel_id = ?1 AND message_id = ?2)) ON CONFLICT DO NOTHING`,
			int64(channel), int64(message), emoji, int64(user))
		added = rows > 0
		return err
	})
	if err != nil {
		return false, err // added may be written yet
	}
	return added, nil
}

// Unreact takes reactions away.
func (s *Store) Unreact(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID) (int, error) {
	var n int64
	err := s.change(ctx, "unreact", func(tx *txn) error {
		var err error
		n, err = exec(tx, "DELETE FROM reactions WHERE channel_id = ?1 AND message_id = ?2 AND (?3 = '' OR emoji = ?3) AND (?4 = 0 OR user_id = ?4)",
			int64(channel), int64(message), emoji, int64(user))
		return err
	})
	if err != nil {
		return 0, err
	}
	return int(n), nil
}

// Reactors lists who reacted.
func (s *Store) Reactors(ctx context.Context, channel, message textchat.ID, emoji string, after textchat.ID, limit int) ([]textchat.ID, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT user_id FROM reactions WHERE channel_id = ? AND message_id = ? AND emoji = ? AND user_id > ?
		ORDER BY user_id LIMIT ?`, int64(channel), int64(message), emoji, int64(after), limit)
	return ids(rows, err, "list reactors")
}

// Marks finds the marks of messages.
func (s *Store) Marks(ctx context.Context, channel textchat.ID, messages []textchat.ID, viewer textchat.ID) (map[textchat.ID]textchat.Marks, error) {
	const verb = "find marks"
	marks := make(map[textchat.ID]textchat.Marks)
	if len(messages) == 0 {
		return marks, nil
	}
	set, args := in(messages, int64(viewer), int64(channel))
	rows, err := s.read.QueryContext(ctx, `SELECT message_id, emoji, count(*), max(user_id = ?) FROM reactions
		WHERE channel_id = ? AND message_id IN `+set+` GROUP BY message_id, emoji ORDER BY message_id, min(n)`, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		r := textchat.Reaction{Colors: []string{}}
		if err := rows.Scan(&id, &r.Emoji.Name, &r.Count, &r.Me); err != nil {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
		r.Details.Normal = r.Count
		m := marks[textchat.ID(id)]
		m.Reactions = append(m.Reactions, r)
		marks[textchat.ID(id)] = m
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	set, args = in(messages, int64(channel))
	pinned, err := s.read.QueryContext(ctx, "SELECT message_id FROM pins WHERE channel_id = ? AND message_id IN "+set, args...)
	list, err := ids(pinned, err, verb)
	for _, id := range list {
		m := marks[id]
		m.Pinned = true
		marks[id] = m
	}
	return marks, err
}

// Pin pins a message.
func (s *Store) Pin(ctx context.Context, channel, message textchat.ID, at time.Time, most int) (bool, error) {
	changed := false
	err := s.change(ctx, "pin", func(tx *txn) error {
		if err := mustHave(tx, channel, message); err != nil {
			return err
		}
		n, err := count(tx, "SELECT count(*) FROM pins WHERE channel_id = ? AND message_id != ?", int64(channel), int64(message))
		if err != nil {
			return err
		}
		if n >= most {
			return textchat.ErrTooMany
		}
		rows, err := exec(tx, "INSERT INTO pins (channel_id, message_id, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
			int64(channel), int64(message), at.UnixMicro())
		changed = rows > 0
		return err
	})
	if err != nil {
		return false, err // changed may be written yet
	}
	return changed, nil
}

// Unpin takes a pin away.
func (s *Store) Unpin(ctx context.Context, channel, message textchat.ID) (bool, error) {
	var n int64
	err := s.change(ctx, "unpin", func(tx *txn) error {
		var err error
		n, err = exec(tx, "DELETE FROM pins WHERE channel_id = ? AND message_id = ?", int64(channel), int64(message))
		return err
	})
	if err != nil {
		return false, err // n may be written yet
	}
	return n > 0, nil
}

// Pins lists pinned messages. There are few in a channel: no index is needed.
func (s *Store) Pins(ctx context.Context, channel textchat.ID, before time.Time, limit int) ([]textchat.Pin, error) {
	const verb = "list pins"
	rows, err := s.read.QueryContext(ctx, `SELECT p.at, m.data FROM pins p JOIN messages m ON m.channel_id = p.channel_id AND m.id = p.message_id
		WHERE p.channel_id = ? AND p.at < ? ORDER BY p.at DESC, p.message_id DESC LIMIT ?`, int64(channel), before.UnixMicro(), limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	defer rows.Close()
	var list []textchat.Pin
	for rows.Next() {
		var at int64
		var data string
		var p textchat.Pin
		if err := rows.Scan(&at, &data); err != nil {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
		if err := json.Unmarshal([]byte(data), &p.Message); err != nil {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
		p.At, p.Message.Pinned = textchat.Time{Time: time.UnixMicro(at).UTC()}, true
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return list, nil
}

// DeleteMessages removes messages.
func (s *Store) DeleteMessages(ctx context.Context, channel textchat.ID, list []textchat.ID) ([]textchat.ID, error) {
	var gone []textchat.ID
	if len(list) == 0 {
		return nil, nil
	}
	err := s.change(ctx, "delete messages", func(tx *txn) error {
		set, args := in(list, int64(channel))
		rows, err := tx.rows("SELECT id FROM messages WHERE channel_id = ? AND id IN "+set+" ORDER BY id", args...)
		if gone, err = ids(rows, err, "find messages"); err != nil {
			return err
		}
		_, err = exec(tx, "DELETE FROM messages WHERE channel_id = ? AND id IN "+set, args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// Ban finds a ban.
func (s *Store) Ban(ctx context.Context, guild, user textchat.ID) (textchat.Ban, error) {
	return one[textchat.Ban](s.read.QueryRowContext(ctx, "SELECT data FROM bans WHERE guild_id = ? AND user_id = ?", int64(guild), int64(user)), "find ban")
}

// Bans lists the bans of a guild.
func (s *Store) Bans(ctx context.Context, guild, before, after textchat.ID, limit int) ([]textchat.Ban, error) {
	if before != 0 {
		rows, err := s.read.QueryContext(ctx, `SELECT data FROM (SELECT user_id, data FROM bans WHERE guild_id = ? AND user_id < ?
			ORDER BY user_id DESC LIMIT ?) ORDER BY user_id`, int64(guild), int64(before), limit)
		return all[textchat.Ban](rows, err, "list bans")
	}
	rows, err := s.read.QueryContext(ctx, "SELECT data FROM bans WHERE guild_id = ? AND user_id > ? ORDER BY user_id LIMIT ?",
		int64(guild), int64(after), limit)
	return all[textchat.Ban](rows, err, "list bans")
}

// Webhook finds a webhook.
func (s *Store) Webhook(ctx context.Context, id textchat.ID) (textchat.Webhook, error) {
	return one[textchat.Webhook](s.read.QueryRowContext(ctx, "SELECT data FROM webhooks WHERE id = ?", int64(id)), "find webhook")
}

// Webhooks lists the webhooks of a guild.
func (s *Store) Webhooks(ctx context.Context, guild textchat.ID) ([]textchat.Webhook, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT data FROM webhooks WHERE guild_id = ? ORDER BY id", int64(guild))
	return all[textchat.Webhook](rows, err, "list webhooks")
}

// Audit lists entries of the audit log.
func (s *Store) Audit(ctx context.Context, guild textchat.ID, q textchat.AuditQuery) ([]textchat.AuditEntry, error) {
	where, order := "id < ?2", "DESC"
	edge := q.Before
	if q.Before == 0 {
		edge = 1<<63 - 1
	}
	if q.After != 0 {
		where, order, edge = "id > ?2", "ASC", q.After
	}
	rows, err := s.read.QueryContext(ctx, "SELECT data FROM audit WHERE guild_id = ?1 AND "+where+
		" AND (?3 = 0 OR user_id = ?3) AND (?4 = 0 OR action = ?4) ORDER BY id "+order+" LIMIT ?5",
		int64(guild), int64(edge), int64(q.User), int(q.Action), q.Limit)
	return all[textchat.AuditEntry](rows, err, "read audit log")
}

const dmColumns = "SELECT d.id, d.low, d.high, (SELECT max(id) FROM messages m WHERE m.channel_id = d.id) AS last FROM dms d "

func dm(row interface{ Scan(...any) error }) (textchat.DM, error) {
	var id, low, high int64
	var last sql.NullInt64
	err := row.Scan(&id, &low, &high, &last)
	if errors.Is(err, sql.ErrNoRows) {
		err = textchat.ErrNoRecord
	}
	if err != nil {
		return textchat.DM{}, fmt.Errorf("find dm: %w", err)
	}
	d := textchat.DM{ID: textchat.ID(id), Users: [2]textchat.ID{textchat.ID(low), textchat.ID(high)}}
	if last.Valid {
		l := textchat.ID(last.Int64)
		d.LastMessage = &l
	}
	return d, nil
}

// OpenDM finds or makes the channel of two users.
func (s *Store) OpenDM(ctx context.Context, d textchat.DM) (textchat.DM, error) {
	var found textchat.DM
	low, high := int64(min(d.Users[0], d.Users[1])), int64(max(d.Users[0], d.Users[1]))
	err := s.change(ctx, "open dm", func(tx *txn) error {
		if _, err := exec(tx, "INSERT INTO dms (id, low, high) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", int64(d.ID), low, high); err != nil {
			return err
		}
		var err error
		found, err = dm(tx.row(dmColumns+"WHERE d.low = ? AND d.high = ?", low, high))
		return err
	})
	if err != nil {
		return textchat.DM{}, err
	}
	return found, nil
}

// DM finds one by its channel.
func (s *Store) DM(ctx context.Context, channel textchat.ID) (textchat.DM, error) {
	return dm(s.read.QueryRowContext(ctx, dmColumns+"WHERE d.id = ?", int64(channel)))
}

// DMs lists those of a user that have messages.
func (s *Store) DMs(ctx context.Context, user textchat.ID, limit int) ([]textchat.DM, error) {
	rows, err := s.read.QueryContext(ctx, dmColumns+"WHERE (d.low = ?1 OR d.high = ?1) AND last IS NOT NULL ORDER BY last DESC LIMIT ?2", int64(user), limit)
	if err != nil {
		return nil, fmt.Errorf("list dms: %w", err)
	}
	defer rows.Close()
	var list []textchat.DM
	for rows.Next() {
		d, err := dm(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, rows.Err()
}
