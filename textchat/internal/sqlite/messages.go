package sqlite

import (
	"context"
	"errors"
	"slices"

	"voicefleet/textchat"
)

// noncesTidied is how many expired nonces one insert takes away: more than one
// comes in, so the table does not grow.
const noncesTidied = 4

// bulkMost is how many messages of AddMessages are one write: 10 ms of the writer's time,
// so that those of others need not wait long.
const bulkMost = 512

const putMessage = `INSERT INTO messages (channel_id, id, author_id, data) VALUES (?, ?, ?, ?)
	ON CONFLICT DO UPDATE SET author_id = excluded.author_id, data = excluded.data`

// AddMessage stores a message, unless its nonce was used before.
func (s *Store) AddMessage(ctx context.Context, m textchat.Message, nonce string) (textchat.Message, bool, error) {
	var earlier *textchat.Message
	m.Nonce = nil
	data := encode(m)
	err := s.change(ctx, "add message", func(tx *txn) error {
		earlier = nil
		if nonce != "" {
			oldest := m.Timestamp.UnixMilli() - textchat.NonceLife.Milliseconds()
			old, err := one[textchat.Message](tx.row(`SELECT m.data FROM nonces n
				JOIN messages m ON m.channel_id = n.channel_id AND m.id = n.message_id
				WHERE n.channel_id = ? AND n.author_id = ? AND n.nonce = ? AND n.created > ?`,
				int64(m.Channel), int64(m.Author.ID), nonce, oldest), "find nonce")
			if err == nil {
				earlier = &old
				return nil
			}
			if !errors.Is(err, textchat.ErrNoRecord) {
				return err
			}
			if _, err := exec(tx, `DELETE FROM nonces WHERE (channel_id, author_id, nonce) IN
				(SELECT channel_id, author_id, nonce FROM nonces WHERE created <= ? ORDER BY created LIMIT ?)`, oldest, noncesTidied); err != nil {
				return err
			}
			if _, err := exec(tx, `INSERT INTO nonces (channel_id, author_id, nonce, message_id, created) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET message_id = excluded.message_id, created = excluded.created`,
				int64(m.Channel), int64(m.Author.ID), nonce, int64(m.ID), m.Timestamp.UnixMilli()); err != nil {
				return err
			}
		}
		// It may be there: after ErrUnsure the same one is written again.
		_, err := exec(tx, putMessage, int64(m.Channel), int64(m.ID), int64(m.Author.ID), data)
		return err
	})
	if err != nil {
		return textchat.Message{}, false, err
	}
	if earlier != nil {
		return *earlier, true, nil
	}
	return m, false, nil
}

// AddMessages stores messages of a channel. At most bulkMost of them are one write.
func (s *Store) AddMessages(ctx context.Context, channel textchat.ID, list []textchat.Message) error {
	for part := range slices.Chunk(list, bulkMost) {
		data := make([]string, len(part))
		for i, m := range part {
			m.Nonce = nil
			data[i] = encode(m)
		}
		err := s.change(ctx, "add messages", func(tx *txn) error {
			for i, m := range part {
				if _, err := exec(tx, putMessage, int64(channel), int64(m.ID), int64(m.Author.ID), data[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// EditMessage replaces what an edit may change.
func (s *Store) EditMessage(ctx context.Context, m textchat.Message) error {
	m.Nonce = nil
	data := encode(m)
	return s.change(ctx, "edit message", func(tx *txn) error {
		n, err := exec(tx, "UPDATE messages SET data = ? WHERE channel_id = ? AND id = ?", data, int64(m.Channel), int64(m.ID))
		if err == nil && n == 0 {
			err = textchat.ErrNoRecord
		}
		return err
	})
}

// DeleteMessage removes a message.
func (s *Store) DeleteMessage(ctx context.Context, channel, id textchat.ID) error {
	return s.change(ctx, "delete message", func(tx *txn) error {
		n, err := exec(tx, "DELETE FROM messages WHERE channel_id = ? AND id = ?", int64(channel), int64(id))
		if err == nil && n == 0 {
			err = textchat.ErrNoRecord
		}
		return err
	})
}

// Message finds a message.
func (s *Store) Message(ctx context.Context, channel, id textchat.ID) (textchat.Message, error) {
	return one[textchat.Message](s.read.QueryRowContext(ctx, "SELECT data FROM messages WHERE channel_id = ? AND id = ?",
		int64(channel), int64(id)), "find message")
}

// Page lists messages, newest first.
func (s *Store) Page(ctx context.Context, channel textchat.ID, q textchat.PageQuery) ([]textchat.Message, error) {
	const newest = "SELECT data FROM messages WHERE channel_id = ? AND id < ? ORDER BY id DESC LIMIT ?"
	const oldest = "SELECT data FROM messages WHERE channel_id = ? AND id > ? ORDER BY id LIMIT ?"
	query := func(stmt string, from textchat.ID, limit int) ([]textchat.Message, error) {
		rows, err := s.read.QueryContext(ctx, stmt, int64(channel), int64(from), limit)
		return all[textchat.Message](rows, err, "list messages")
	}
	switch {
	case q.Around != 0:
		// Half before (the message itself counts there), the rest after.
		before, err := query(newest, q.Around+1, q.Limit/2+1)
		if err != nil {
			return nil, err
		}
		after, err := query(oldest, q.Around, q.Limit-min(q.Limit, len(before)))
		if err != nil {
			return nil, err
		}
		slices.Reverse(after)
		return append(after, before[:min(len(before), q.Limit)]...), nil
	case q.After != 0:
		list, err := query(oldest, q.After, q.Limit)
		slices.Reverse(list)
		return list, err
	case q.Before != 0:
		return query(newest, q.Before, q.Limit)
	}
	return query(newest, 1<<63-1, q.Limit)
}
