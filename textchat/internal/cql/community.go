package cql

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/gocql/gocql"

	"voicefleet/textchat"
)

// exists refuses what is to be done to a message that is not there.
func (s *Store) exists(ctx context.Context, channel, message textchat.ID) error {
	_, err := s.message(ctx, channel, message)
	return err
}

// reaction is a row of reactions.
type reaction struct {
	message textchat.ID
	emoji   string
	user    textchat.ID
	at      int64
}

func (s *Store) reactions(ctx context.Context, channel textchat.ID, bucket int32, from, to textchat.ID) ([]reaction, error) {
	iter := s.query(ctx, "SELECT message_id, emoji, user_id, at FROM reactions WHERE channel_id = ? AND bucket = ? AND message_id >= ? AND message_id <= ?",
		int64(channel), bucket, int64(from), int64(to)).PageSize(guildRows).Iter()
	var list []reaction
	var message, user, at int64
	var emoji string
	for iter.Scan(&message, &emoji, &user, &at) {
		list = append(list, reaction{textchat.ID(message), emoji, textchat.ID(user), at})
	}
	return list, iter.Close()
}

// React adds a reaction. The limit is that of one instance: several that react at
// once may pass it by as many.
func (s *Store) React(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID, most int) (bool, error) {
	defer s.changed(channel)
	added := false
	err := s.do(ctx, "react", channel, func(ctx context.Context) error {
		if err := s.exists(ctx, channel, message); err != nil {
			return err
		}
		list, err := s.reactions(ctx, channel, bucketOf(message), message, message)
		if err != nil {
			return err
		}
		others, there := map[string]bool{}, false
		for _, r := range list {
			if r.emoji != emoji {
				others[r.emoji] = true
			}
			there = there || r.emoji == emoji && r.user == user
		}
		if len(others) >= most {
			return textchat.ErrTooMany
		}
		if there {
			return nil
		}
		added = true
		return s.write(ctx, "INSERT INTO reactions (channel_id, bucket, message_id, emoji, user_id, at) VALUES (?, ?, ?, ?, ?, ?)",
			int64(channel), bucketOf(message), int64(message), emoji, int64(user), s.stamp(1))
	})
	return added && err == nil, err
}

// Unreact takes reactions away.
func (s *Store) Unreact(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID) (int, error) {
	defer s.changed(channel)
	n := 0
	err := s.doFor(ctx, longTimeout, "unreact", channel, func(ctx context.Context) error {
		list, err := s.reactions(ctx, channel, bucketOf(message), message, message)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(r reaction) bool { return emoji != "" && r.emoji != emoji || user != 0 && r.user != user })
		n = len(list)
		return each(ctx, n, func(ctx context.Context, i int) error {
			return s.write(ctx, "DELETE FROM reactions WHERE channel_id = ? AND bucket = ? AND message_id = ? AND emoji = ? AND user_id = ?",
				int64(channel), bucketOf(message), int64(message), list[i].emoji, int64(list[i].user))
		})
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Reactors lists who reacted.
func (s *Store) Reactors(ctx context.Context, channel, message textchat.ID, emoji string, after textchat.ID, limit int) ([]textchat.ID, error) {
	var list []textchat.ID
	err := s.do(ctx, "list reactors", channel, func(ctx context.Context) error {
		iter := s.query(ctx, "SELECT user_id FROM reactions WHERE channel_id = ? AND bucket = ? AND message_id = ? AND emoji = ? AND user_id > ? LIMIT ?",
			int64(channel), bucketOf(message), int64(message), emoji, int64(after), limit).Iter()
		var id int64
		for iter.Scan(&id) {
			list = append(list, textchat.ID(id))
		}
		return iter.Close()
	})
	return list, err
}

// Marks finds the marks of messages: those of a page lie side by side, so it is
// one query for each bucket.
func (s *Store) Marks(ctx context.Context, channel textchat.ID, messages []textchat.ID, viewer textchat.ID) (map[textchat.ID]textchat.Marks, error) {
	marks := make(map[textchat.ID]textchat.Marks)
	ids := slices.Compact(slices.Sorted(slices.Values(messages)))
	if len(ids) == 0 {
		return marks, nil
	}
	err := s.do(ctx, "find marks", channel, func(ctx context.Context) error {
		pins, err := s.pins(ctx, channel)
		if err != nil {
			return err
		}
		for _, p := range pins {
			if _, asked := slices.BinarySearch(ids, p.message); asked {
				marks[p.message] = textchat.Marks{Pinned: true}
			}
		}
		for rest := ids; len(rest) > 0; {
			bucket := bucketOf(rest[0])
			n := slices.IndexFunc(rest, func(id textchat.ID) bool { return bucketOf(id) != bucket })
			if n < 0 {
				n = len(rest)
			}
			list, err := s.reactions(ctx, channel, bucket, rest[0], rest[n-1])
			if err != nil {
				return err
			}
			for id, r := range tally(list, viewer) {
				if _, asked := slices.BinarySearch(rest[:n], id); asked {
					marks[id] = textchat.Marks{Pinned: marks[id].Pinned, Reactions: r}
				}
			}
			rest = rest[n:]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return marks, nil
}

// tally counts reactions by message and emoji, in the order in which each emoji
// came first.
func tally(list []reaction, viewer textchat.ID) map[textchat.ID][]textchat.Reaction {
	slices.SortStableFunc(list, func(a, b reaction) int { return cmp.Compare(a.at, b.at) })
	out := make(map[textchat.ID][]textchat.Reaction)
	for _, r := range list {
		sums := out[r.message]
		at := slices.IndexFunc(sums, func(s textchat.Reaction) bool { return s.Emoji.Name == r.emoji })
		if at < 0 {
			at = len(sums)
			sums = append(sums, textchat.Reaction{Emoji: textchat.Emoji{Name: r.emoji}, Colors: []string{}})
		}
		sums[at].Count++
		sums[at].Details.Normal++
		sums[at].Me = sums[at].Me || r.user == viewer
		out[r.message] = sums
	}
	return out
}

// pin is a row of pins.
type pin struct {
	message textchat.ID
	at      int64 // microseconds
}

// pins reads all of a channel; there are few.
func (s *Store) pins(ctx context.Context, channel textchat.ID) ([]pin, error) {
	iter := s.query(ctx, "SELECT message_id, at FROM pins WHERE channel_id = ?", int64(channel)).Iter()
	var list []pin
	var message, at int64
	for iter.Scan(&message, &at) {
		list = append(list, pin{textchat.ID(message), at})
	}
	return list, iter.Close()
}

// Pin pins a message. The limit is that of one instance, as with React.
func (s *Store) Pin(ctx context.Context, channel, message textchat.ID, at time.Time, most int) (bool, error) {
	defer s.changed(channel)
	pinned := false
	err := s.do(ctx, "pin", channel, func(ctx context.Context) error {
		if err := s.exists(ctx, channel, message); err != nil {
			return err
		}
		list, err := s.pins(ctx, channel)
		if err != nil {
			return err
		}
		others := slices.DeleteFunc(slices.Clone(list), func(p pin) bool { return p.message == message })
		if len(others) >= most {
			return textchat.ErrTooMany
		}
		if len(others) < len(list) {
			return nil
		}
		pinned = true
		return s.write(ctx, "INSERT INTO pins (channel_id, message_id, at) VALUES (?, ?, ?)", int64(channel), int64(message), at.UnixMicro())
	})
	return pinned && err == nil, err
}

// Unpin takes a pin away.
func (s *Store) Unpin(ctx context.Context, channel, message textchat.ID) (bool, error) {
	defer s.changed(channel)
	err := s.do(ctx, "unpin", channel, func(ctx context.Context) error {
		var at int64
		if err := s.query(ctx, "SELECT at FROM pins WHERE channel_id = ? AND message_id = ?", int64(channel), int64(message)).Scan(&at); err != nil {
			return err
		}
		return s.write(ctx, "DELETE FROM pins WHERE channel_id = ? AND message_id = ?", int64(channel), int64(message))
	})
	if errors.Is(err, textchat.ErrNoRecord) {
		return false, nil
	}
	return err == nil, err
}

// Pins lists pinned messages.
func (s *Store) Pins(ctx context.Context, channel textchat.ID, before time.Time, limit int) ([]textchat.Pin, error) {
	var list []textchat.Pin
	err := s.do(ctx, "list pins", channel, func(ctx context.Context) error {
		all, err := s.pins(ctx, channel)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(p pin) bool { return p.at >= before.UnixMicro() })
		slices.SortFunc(all, func(a, b pin) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.message, a.message)) })
		found := make([]*textchat.Pin, len(all))
		if err := each(ctx, len(all), func(ctx context.Context, i int) error {
			data, err := s.message(ctx, channel, all[i].message)
			if errors.Is(err, gocql.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			m, err := decode[textchat.Message](data)
			m.Pinned = true
			found[i] = &textchat.Pin{At: textchat.Time{Time: time.UnixMicro(all[i].at).UTC()}, Message: m}
			return err
		}); err != nil {
			return err
		}
		for _, p := range found {
			if p != nil && len(list) < limit {
				list = append(list, *p)
			}
		}
		return nil
	})
	return list, err
}

// Ban finds a ban.
func (s *Store) Ban(ctx context.Context, guild, user textchat.ID) (textchat.Ban, error) {
	var b textchat.Ban
	err := s.do(ctx, "find ban", 0, func(ctx context.Context) error {
		data, err := s.part(ctx, guild, kindBan, user, "")
		if err == nil {
			b, err = decode[textchat.Ban](data)
		}
		return err
	})
	return b, err
}

// Bans lists the bans of a guild.
func (s *Store) Bans(ctx context.Context, guild, before, after textchat.ID, limit int) ([]textchat.Ban, error) {
	var list []textchat.Ban
	err := s.do(ctx, "list bans", 0, func(ctx context.Context) error {
		where, edge := "kind = ? AND id > ? LIMIT ?", after
		if before != 0 {
			where, edge = "kind = ? AND id < ? ORDER BY kind DESC, id DESC, code DESC LIMIT ?", before
		}
		parts, err := s.parts(ctx, guild, where, kindBan, int64(edge), limit)
		for _, p := range parts {
			if err == nil {
				err = decodeTo(&list, p.data)
			}
		}
		if before != 0 {
			slices.Reverse(list)
		}
		return err
	})
	return list, err
}

// Webhook finds a webhook.
func (s *Store) Webhook(ctx context.Context, id textchat.ID) (textchat.Webhook, error) {
	var w textchat.Webhook
	err := s.do(ctx, "find webhook", 0, func(ctx context.Context) error {
		var guild int64
		if err := s.query(ctx, "SELECT guild_id FROM webhook_guilds WHERE id = ?", int64(id)).Scan(&guild); err != nil {
			return err
		}
		data, err := s.part(ctx, textchat.ID(guild), kindWebhook, id, "")
		if err == nil {
			w, err = decode[textchat.Webhook](data)
		}
		return err
	})
	return w, err
}

// Webhooks lists the webhooks of a guild.
func (s *Store) Webhooks(ctx context.Context, guild textchat.ID) ([]textchat.Webhook, error) {
	var list []textchat.Webhook
	err := s.do(ctx, "list webhooks", 0, func(ctx context.Context) error {
		parts, err := s.parts(ctx, guild, "kind = ?", kindWebhook)
		for _, p := range parts {
			if err == nil {
				err = decodeTo(&list, p.data)
			}
		}
		return err
	})
	return list, err
}

// Audit lists entries of the audit log. What narrows it besides the id is sifted
// here: the log of 45 days is short.
func (s *Store) Audit(ctx context.Context, guild textchat.ID, q textchat.AuditQuery) ([]textchat.AuditEntry, error) {
	var list []textchat.AuditEntry
	err := s.doFor(ctx, longTimeout, "read audit log", 0, func(ctx context.Context) error {
		where, edge := "id < ? ORDER BY kind DESC, id DESC, code DESC", q.Before
		switch {
		case q.After != 0:
			where, edge = "id > ?", q.After
		case q.Before == 0:
			edge = math.MaxInt64
		}
		iter := s.query(ctx, "SELECT data FROM guild_parts WHERE guild_id = ? AND kind = ? AND "+where, int64(guild), kindAudit, int64(edge)).Iter()
		var data string
		for len(list) < q.Limit && iter.Scan(&data) {
			e, err := decode[textchat.AuditEntry](data)
			if err != nil {
				_ = iter.Close()
				return err
			}
			if (q.User == 0 || e.User == q.User) && (q.Action == 0 || e.Action == q.Action) {
				list = append(list, e)
			}
		}
		return iter.Close()
	})
	return list, err
}

// OpenDM finds or makes the channel of two users. The pair decides which channel
// it is; whoever opens it again writes what a crash left out.
func (s *Store) OpenDM(ctx context.Context, d textchat.DM) (textchat.DM, error) {
	low, high := min(d.Users[0], d.Users[1]), max(d.Users[0], d.Users[1])
	var found textchat.DM
	err := s.do(ctx, "open dm", 0, func(ctx context.Context) error {
		applied, pair, err := s.cas(ctx, "INSERT INTO lwt.dm_pairs (low, high, channel_id) VALUES (?, ?, ?) IF NOT EXISTS", int64(low), int64(high), int64(d.ID))
		if err != nil {
			return err
		}
		id := int64(d.ID)
		if !applied {
			id, _ = pair["channel_id"].(int64)
		}
		found, err = s.dm(ctx, textchat.ID(id))
		if !errors.Is(err, gocql.ErrNotFound) {
			return err
		}
		for _, user := range []textchat.ID{low, high} {
			if err := s.write(ctx, "INSERT INTO user_dms (user_id, channel_id) VALUES (?, ?)", int64(user), id); err != nil {
				return err
			}
		}
		// Last: it says that all is there.
		if err := s.write(ctx, "INSERT INTO dms (id, low, high) VALUES (?, ?, ?)", id, int64(low), int64(high)); err != nil {
			return err
		}
		found, err = s.dm(ctx, textchat.ID(id))
		return err
	})
	return found, err
}

func (s *Store) dm(ctx context.Context, channel textchat.ID) (textchat.DM, error) {
	var low, high int64
	if err := s.query(ctx, "SELECT low, high FROM dms WHERE id = ?", int64(channel)).Scan(&low, &high); err != nil {
		return textchat.DM{}, err
	}
	last, err := s.last(ctx, channel)
	return textchat.DM{ID: channel, Users: [2]textchat.ID{textchat.ID(low), textchat.ID(high)}, LastMessage: last}, err
}

// DM finds one by its channel.
func (s *Store) DM(ctx context.Context, channel textchat.ID) (textchat.DM, error) {
	var d textchat.DM
	err := s.do(ctx, "find dm", channel, func(ctx context.Context) (err error) {
		d, err = s.dm(ctx, channel)
		return err
	})
	return d, err
}

// DMs lists those of a user that have messages.
func (s *Store) DMs(ctx context.Context, user textchat.ID, limit int) ([]textchat.DM, error) {
	var list []textchat.DM
	err := s.doFor(ctx, longTimeout, "list dms", 0, func(ctx context.Context) error {
		iter := s.query(ctx, "SELECT channel_id FROM user_dms WHERE user_id = ?", int64(user)).Iter()
		var id int64
		for iter.Scan(&id) {
			list = append(list, textchat.DM{ID: textchat.ID(id)})
		}
		if err := iter.Close(); err != nil {
			return err
		}
		err := each(ctx, len(list), func(ctx context.Context, i int) error {
			d, err := s.dm(ctx, list[i].ID)
			if errors.Is(err, gocql.ErrNotFound) {
				return nil // its maker is under way
			}
			list[i] = d
			return err
		})
		list = slices.DeleteFunc(list, func(d textchat.DM) bool { return d.LastMessage == nil })
		slices.SortFunc(list, func(a, b textchat.DM) int { return cmp.Compare(*b.LastMessage, *a.LastMessage) })
		list = list[:min(limit, len(list))]
		return err
	})
	return list, err
}
