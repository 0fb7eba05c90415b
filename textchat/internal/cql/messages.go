package cql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gocql/gocql"

	"voicefleet/textchat"
)

// nonceTTL is how long nonces are kept, in seconds: longer than they count.
const nonceTTL = 900

// row is a message as it is stored.
type row struct {
	id   textchat.ID
	data string
}

// AddMessage stores a message, unless its nonce was used before.
func (s *Store) AddMessage(ctx context.Context, m textchat.Message, nonce string) (textchat.Message, bool, error) {
	m.Nonce = nil
	var earlier *textchat.Message
	err := s.do(ctx, "add message", m.Channel, func(ctx context.Context) (err error) {
		if nonce != "" {
			if earlier, err = s.claimNonce(ctx, &m, nonce); err != nil || earlier != nil {
				return err
			}
		}
		return s.insert(ctx, m, nonce)
	})
	switch {
	case err != nil:
		return textchat.Message{}, false, err
	case earlier != nil:
		return *earlier, true, nil
	}
	return m, false, nil
}

// claimNonce takes the nonce for m. When it is taken by a message that is there it
// returns that one. When that one is not there, its writer is under way or has
// died: m takes its id, and whoever writes it last writes the same row.
func (s *Store) claimNonce(ctx context.Context, m *textchat.Message, nonce string) (*textchat.Message, error) {
	created := m.Timestamp.UnixMilli()
	for range casTries {
		applied, claim, err := s.cas(ctx, fmt.Sprintf("INSERT INTO lwt.nonces (channel_id, author_id, nonce, message_id, created) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS USING TTL %d", nonceTTL),
			int64(m.Channel), int64(m.Author.ID), nonce, int64(m.ID), created)
		if err != nil || applied {
			return nil, err
		}
		holder, _ := claim["message_id"].(int64)
		since, _ := claim["created"].(int64)
		if holder == int64(m.ID) {
			return nil, nil
		}
		if since > created-textchat.NonceLife.Milliseconds() {
			old, err := s.message(ctx, m.Channel, textchat.ID(holder))
			if err == nil {
				earlier, err := decode[textchat.Message](old)
				return &earlier, err
			}
			if !errors.Is(err, gocql.ErrNotFound) {
				return nil, err
			}
			m.ID, m.Timestamp.Time = textchat.ID(holder), time.UnixMilli(since).UTC()
			return nil, nil
		}
		applied, _, err = s.cas(ctx, fmt.Sprintf("UPDATE lwt.nonces USING TTL %d SET message_id = ?, created = ? WHERE channel_id = ? AND author_id = ? AND nonce = ? IF message_id = ?", nonceTTL),
			int64(m.ID), created, int64(m.Channel), int64(m.Author.ID), nonce, holder)
		if err != nil || applied {
			return nil, err
		}
	}
	return nil, textchat.ErrBusy
}

func (s *Store) insert(ctx context.Context, m textchat.Message, nonce string) error {
	k := bucketKey{m.Channel, bucketOf(m.ID)}
	return s.into(ctx, k, func() error {
		if nonce == "" {
			return s.write(ctx, putMessage, int64(k.channel), k.bucket, int64(m.ID), int64(m.Author.ID), encode(m))
		}
		return s.write(ctx, "INSERT INTO messages (channel_id, bucket, id, author_id, nonce, data) VALUES (?, ?, ?, ?, ?, ?)",
			int64(k.channel), k.bucket, int64(m.ID), int64(m.Author.ID), nonce, encode(m))
	})
}

// into puts messages into a bucket.
func (s *Store) into(ctx context.Context, k bucketKey, put func() error) error {
	// In this order: whoever found the bucket empty meanwhile either noted it before
	// the drop, or sees the new generation and takes its note back.
	defer s.empty.drop(k)
	defer s.changed(k.channel)
	if !s.known.has(k) {
		if err := s.write(ctx, "INSERT INTO channel_buckets (channel_id, bucket) VALUES (?, ?)", int64(k.channel), k.bucket); err != nil {
			return err
		}
		s.known.add(k)
	}
	return put()
}

// Bounds of one batch of AddMessages: what a node takes without a word.
const (
	batchRows  = 100
	batchBytes = 64 << 10
)

// putMessage has no nonce: a null would be a tombstone.
const putMessage = "INSERT INTO messages (channel_id, bucket, id, author_id, data) VALUES (?, ?, ?, ?, ?)"

// AddMessages stores messages of a channel, those of one partition in batches.
func (s *Store) AddMessages(ctx context.Context, channel textchat.ID, list []textchat.Message) error {
	for len(list) > 0 {
		k := bucketKey{channel, bucketOf(list[0].ID)}
		b := s.batch(ctx)
		size := 0
		for len(list) > 0 && b.Size() < batchRows && size < batchBytes && bucketOf(list[0].ID) == k.bucket {
			m := list[0]
			m.Nonce = nil
			data := encode(m)
			size += len(data)
			b.Query(putMessage, int64(channel), k.bucket, int64(m.ID), int64(m.Author.ID), data)
			b.Entries[b.Size()-1].Idempotent = true
			list = list[1:]
		}
		err := s.do(ctx, "add messages", channel, func(ctx context.Context) error {
			return s.into(ctx, k, func() error { return s.session.ExecuteBatch(b.WithContext(ctx).WithTimestamp(s.stamp(1))) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// message reads one message.
func (s *Store) message(ctx context.Context, channel, id textchat.ID) (string, error) {
	var author *int64
	var data string
	bucket := bucketOf(id)
	err := s.query(ctx, "SELECT author_id, data FROM messages WHERE channel_id = ? AND bucket = ? AND id = ?", int64(channel), bucket, int64(id)).Scan(&author, &data)
	if err == nil && author == nil {
		s.exorcise(ctx, channel, id)
		err = gocql.ErrNotFound
	}
	return data, err
}

// exorcise removes what is left of a message whose edit raced its deletion.
func (s *Store) exorcise(ctx context.Context, channel, id textchat.ID) {
	s.leftOver("remove ghost", s.write(ctx, "DELETE FROM messages WHERE channel_id = ? AND bucket = ? AND id = ?", int64(channel), bucketOf(id), int64(id)))
}

// EditMessage replaces what an edit may change.
func (s *Store) EditMessage(ctx context.Context, m textchat.Message) error {
	m.Nonce = nil
	defer s.changed(m.Channel)
	return s.do(ctx, "edit message", m.Channel, func(ctx context.Context) error {
		if _, err := s.message(ctx, m.Channel, m.ID); err != nil {
			return err
		}
		return s.write(ctx, "UPDATE messages SET data = ? WHERE channel_id = ? AND bucket = ? AND id = ?", encode(m), int64(m.Channel), bucketOf(m.ID), int64(m.ID))
	})
}

// DeleteMessage removes a message.
func (s *Store) DeleteMessage(ctx context.Context, channel, id textchat.ID) error {
	return s.do(ctx, "delete message", channel, func(ctx context.Context) error { return s.erase(ctx, channel, id) })
}

// erase removes a message and its marks. Its nonce goes first: one that leads to
// no message would bring it back.
func (s *Store) erase(ctx context.Context, channel, id textchat.ID) error {
	defer s.changed(channel)
	var author *int64
	var nonce *string
	var written *int64
	bucket := bucketOf(id)
	err := s.query(ctx, "SELECT author_id, nonce, writetime(author_id) FROM messages WHERE channel_id = ? AND bucket = ? AND id = ?",
		int64(channel), bucket, int64(id)).Scan(&author, &nonce, &written)
	if err != nil {
		return err
	}
	if author == nil {
		s.exorcise(ctx, channel, id)
		return gocql.ErrNotFound
	}
	if nonce != nil && time.Since(time.UnixMicro(*written)) < nonceTTL*time.Second {
		if _, _, err := s.cas(ctx, "DELETE FROM lwt.nonces WHERE channel_id = ? AND author_id = ? AND nonce = ? IF message_id = ?",
			int64(channel), *author, *nonce, int64(id)); err != nil {
			return err
		}
	}
	if err := s.write(ctx, "DELETE FROM messages WHERE channel_id = ? AND bucket = ? AND id = ?", int64(channel), bucket, int64(id)); err != nil {
		return err
	}
	// Marks of a message that is not there are never asked for.
	s.leftOver("remove reactions", s.write(ctx, "DELETE FROM reactions WHERE channel_id = ? AND bucket = ? AND message_id = ?", int64(channel), bucket, int64(id)))
	s.leftOver("remove pin", s.write(ctx, "DELETE FROM pins WHERE channel_id = ? AND message_id = ?", int64(channel), int64(id)))
	return nil
}

// DeleteMessages removes messages.
func (s *Store) DeleteMessages(ctx context.Context, channel textchat.ID, ids []textchat.ID) ([]textchat.ID, error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	had := make([]bool, len(ids))
	err := s.doFor(ctx, longTimeout, "delete messages", channel, func(ctx context.Context) error {
		return each(ctx, len(ids), func(ctx context.Context, i int) error {
			err := s.erase(ctx, channel, ids[i])
			had[i] = err == nil
			if errors.Is(err, gocql.ErrNotFound) {
				err = nil
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	var gone []textchat.ID
	for i, id := range ids {
		if had[i] {
			gone = append(gone, id)
		}
	}
	return gone, nil
}

// Message finds a message.
func (s *Store) Message(ctx context.Context, channel, id textchat.ID) (textchat.Message, error) {
	data, err := s.share(ctx, "find message", [4]uint64{uint64(channel), uint64(id)}, func(ctx context.Context) (any, error) {
		return s.message(ctx, channel, id)
	})
	if err != nil {
		return textchat.Message{}, err
	}
	return decode[textchat.Message](data.(string))
}

// Page lists messages, newest first.
func (s *Store) Page(ctx context.Context, channel textchat.ID, q textchat.PageQuery) ([]textchat.Message, error) {
	kind, edge := uint64(0), textchat.ID(0)
	switch {
	case q.Around != 0:
		kind, edge = 1, q.Around
	case q.After != 0:
		kind, edge = 2, q.After
	case q.Before != 0:
		kind, edge = 3, q.Before
	}
	rows, err := s.share(ctx, "list messages", [4]uint64{uint64(channel), kind, uint64(edge), uint64(q.Limit)}, func(ctx context.Context) (any, error) {
		switch kind {
		case 1:
			// Half before (the message itself counts there), the rest after.
			before, err := s.newest(ctx, channel, edge+1, q.Limit/2+1)
			if err != nil {
				return nil, err
			}
			after, err := s.oldest(ctx, channel, edge, q.Limit-min(q.Limit, len(before)))
			slices.Reverse(after)
			return append(after, before[:min(len(before), q.Limit)]...), err
		case 2:
			after, err := s.oldest(ctx, channel, edge, q.Limit)
			slices.Reverse(after)
			return after, err
		case 3:
			return s.newest(ctx, channel, edge, q.Limit)
		}
		return s.newest(ctx, channel, math.MaxInt64, q.Limit)
	})
	if err != nil {
		return nil, err
	}
	var list []textchat.Message
	for _, r := range rows.([]row) {
		m, err := decode[textchat.Message](r.data)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// newest reads the newest messages below an id.
func (s *Store) newest(ctx context.Context, channel, below textchat.ID, limit int) ([]row, error) {
	var list []row
	if below == 0 || limit <= 0 {
		return nil, nil
	}
	buckets := s.query(ctx, "SELECT bucket FROM channel_buckets WHERE channel_id = ? AND bucket <= ? ORDER BY bucket DESC", int64(channel), bucketOf(below-1)).Iter()
	var bucket int32
	for len(list) < limit && buckets.Scan(&bucket) {
		k := bucketKey{channel, bucket}
		if s.empty.has(k) {
			continue
		}
		generation := s.gens.of(uint64(channel)).Load()
		found, err := s.inBucket(ctx, k, "id < ? ORDER BY id DESC", below, limit-len(list))
		if err != nil {
			_ = buckets.Close()
			return nil, err
		}
		if len(found) == 0 && below >= first(bucket+1) {
			s.noteEmpty(k, generation)
		}
		list = append(list, found...)
	}
	return list, buckets.Close()
}

// oldest reads the oldest messages above an id, oldest first.
func (s *Store) oldest(ctx context.Context, channel, above textchat.ID, limit int) ([]row, error) {
	var list []row
	if above >= math.MaxInt64 || limit <= 0 {
		return nil, nil
	}
	buckets := s.query(ctx, "SELECT bucket FROM channel_buckets WHERE channel_id = ? AND bucket >= ? ORDER BY bucket ASC", int64(channel), bucketOf(above+1)).Iter()
	var bucket int32
	for len(list) < limit && buckets.Scan(&bucket) {
		k := bucketKey{channel, bucket}
		if s.empty.has(k) {
			continue
		}
		generation := s.gens.of(uint64(channel)).Load()
		found, err := s.inBucket(ctx, k, "id > ? ORDER BY id ASC", above, limit-len(list))
		if err != nil {
			_ = buckets.Close()
			return nil, err
		}
		if len(found) == 0 && above < first(bucket) {
			s.noteEmpty(k, generation)
		}
		list = append(list, found...)
	}
	return list, buckets.Close()
}

// noteEmpty remembers a bucket that had no message, unless one may still come or
// has come since the generation that was read before.
func (s *Store) noteEmpty(k bucketKey, generation uint64) {
	if !closed(k.bucket, time.Now()) {
		return
	}
	s.empty.add(k)
	if s.gens.of(uint64(k.channel)).Load() != generation {
		s.empty.drop(k)
	}
}

// inBucket reads messages of one partition. Ghosts do not count.
func (s *Store) inBucket(ctx context.Context, k bucketKey, where string, edge textchat.ID, limit int) ([]row, error) {
	var list []row
	for len(list) < limit {
		asked := limit - len(list)
		iter := s.query(ctx, "SELECT id, author_id, data FROM messages WHERE channel_id = ? AND bucket = ? AND "+where+" LIMIT ?",
			int64(k.channel), k.bucket, int64(edge), asked).Iter()
		got := 0
		for {
			var id int64
			var author *int64
			var data string
			if !iter.Scan(&id, &author, &data) {
				break
			}
			got++
			edge = textchat.ID(id)
			if author == nil {
				s.exorcise(ctx, k.channel, edge)
				continue
			}
			list = append(list, row{edge, data})
		}
		if err := iter.Close(); err != nil {
			return nil, err
		}
		if got < asked {
			break
		}
	}
	return list, nil
}

// last is the id of the newest message of a channel, or nil.
func (s *Store) last(ctx context.Context, channel textchat.ID) (*textchat.ID, error) {
	list, err := s.newest(ctx, channel, math.MaxInt64, 1)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0].id, nil
}

// dropMessages removes all messages of a channel, and their marks.
func (s *Store) dropMessages(ctx context.Context, channel textchat.ID) error {
	s.changed(channel)
	defer s.changed(channel)
	iter := s.query(ctx, "SELECT bucket FROM channel_buckets WHERE channel_id = ?", int64(channel)).Iter()
	var buckets []int32
	var bucket int32
	for iter.Scan(&bucket) {
		buckets = append(buckets, bucket)
	}
	if err := iter.Close(); err != nil {
		return err
	}
	err := each(ctx, len(buckets), func(ctx context.Context, i int) error {
		if err := s.write(ctx, "DELETE FROM messages WHERE channel_id = ? AND bucket = ?", int64(channel), buckets[i]); err != nil {
			return err
		}
		return s.write(ctx, "DELETE FROM reactions WHERE channel_id = ? AND bucket = ?", int64(channel), buckets[i])
	})
	if err != nil {
		return err
	}
	if err := s.write(ctx, "DELETE FROM pins WHERE channel_id = ?", int64(channel)); err != nil {
		return err
	}
	for _, b := range buckets {
		s.known.drop(bucketKey{channel, b})
		if err := s.write(ctx, "DELETE FROM channel_buckets WHERE channel_id = ? AND bucket = ?", int64(channel), b); err != nil {
			return err
		}
	}
	return nil
}
