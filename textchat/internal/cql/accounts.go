package cql

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/gocql/gocql"

	"voicefleet/textchat"
)

const (
	// listShards spreads the lists of all users and of all guilds: a shard of a
	// million ids takes 30 MB.
	listShards = 16
	// claimLife is how long a claimed name is kept for an account that is not there:
	// long past the time in which one is made.
	claimLife = 30 * time.Second
	// usersAtOnce are the accounts that one query reads: it costs the cluster a third of what
	// 50 queries do, and ScyllaDB takes 100 keys at most. usersFanOut is how many such
	// queries one operation has under way, as each is 50 reads for the cluster: the 13,334
	// members of a guild take 267 of them, and others are served meanwhile.
	usersAtOnce = 50
	usersFanOut = 8
)

// folded is a name as it is compared: ASCII letters lose their case.
func folded(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// claim takes a name for a user. A claim counts while the account it is for bears
// the name, and for claimLife while that is being written.
func (s *Store) claim(ctx context.Context, name string, user textchat.ID) error {
	name = folded(name)
	for range casTries {
		now := time.Now()
		applied, row, err := s.cas(ctx, "INSERT INTO lwt.names (name, user_id, claimed) VALUES (?, ?, ?) IF NOT EXISTS", name, int64(user), now.UnixMilli())
		if err != nil || applied {
			return err
		}
		holder, _ := row["user_id"].(int64)
		claimed, _ := row["claimed"].(int64)
		if holder == int64(user) {
			return nil
		}
		c, err := s.credential(ctx, textchat.ID(holder))
		switch {
		case err == nil && folded(c.User.Username) == name, now.Sub(time.UnixMilli(claimed)) < claimLife && (err == nil || errors.Is(err, gocql.ErrNotFound)):
			return textchat.ErrNameTaken
		case err != nil && !errors.Is(err, gocql.ErrNotFound):
			return err
		}
		applied, _, err = s.cas(ctx, "UPDATE lwt.names SET user_id = ?, claimed = ? WHERE name = ? IF user_id = ? AND claimed = ?",
			int64(user), now.UnixMilli(), name, holder, claimed)
		if err != nil || applied {
			return err
		}
	}
	return textchat.ErrBusy
}

func (s *Store) credential(ctx context.Context, id textchat.ID) (textchat.Credential, error) {
	var c textchat.Credential
	var data string
	if err := s.query(ctx, "SELECT hash, data FROM users WHERE id = ?", int64(id)).Scan(&c.Hash, &data); err != nil {
		return c, err
	}
	if data == "" {
		return c, gocql.ErrNotFound
	}
	var err error
	c.User, err = decode[textchat.User](data)
	return c, err
}

// CreateUser adds a user and perhaps its first token.
func (s *Store) CreateUser(ctx context.Context, c textchat.Credential, token *textchat.TokenHash, now time.Time) error {
	defer s.changed(c.User.ID)
	return s.do(ctx, "create user", 0, func(ctx context.Context) error {
		if err := s.claim(ctx, c.User.Username, c.User.ID); err != nil {
			return err
		}
		if err := s.write(ctx, "INSERT INTO user_list (shard, id) VALUES (?, ?)", int(c.User.ID%listShards), int64(c.User.ID)); err != nil {
			return err
		}
		if err := s.write(ctx, "INSERT INTO users (id, username, hash, created, data) VALUES (?, ?, ?, ?, ?)",
			int64(c.User.ID), c.User.Username, c.Hash, now.UnixMilli(), encode(c.User)); err != nil || token == nil {
			return err
		}
		return s.addToken(ctx, c.User.ID, *token, now)
	})
}

// UpdateUser replaces a user's record.
func (s *Store) UpdateUser(ctx context.Context, c textchat.Credential) error {
	defer s.changed(c.User.ID)
	return s.do(ctx, "update user", 0, func(ctx context.Context) error {
		old, err := s.credential(ctx, c.User.ID)
		if err != nil {
			return err
		}
		renamed := folded(old.User.Username) != folded(c.User.Username)
		if renamed {
			if err := s.claim(ctx, c.User.Username, c.User.ID); err != nil {
				return err
			}
		}
		if c.Hash == "" {
			c.Hash = old.Hash
		}
		if err := s.write(ctx, "UPDATE users SET username = ?, hash = ?, data = ? WHERE id = ?", c.User.Username, c.Hash, encode(c.User), int64(c.User.ID)); err != nil {
			return err
		}
		if renamed {
			// A claim that stays behind is void: its account bears another name.
			_, _, err := s.cas(ctx, "DELETE FROM lwt.names WHERE name = ? IF user_id = ?", folded(old.User.Username), int64(c.User.ID))
			s.leftOver("release name", err)
		}
		return nil
	})
}

// leftOver notes a clean-up that failed; what stays behind leads nowhere.
func (s *Store) leftOver(verb string, err error) {
	if err != nil {
		s.metrics.left.Inc()
		s.log.Debug("clean up", "verb", verb, "err", err)
	}
}

// User finds a user by id.
func (s *Store) User(ctx context.Context, id textchat.ID) (textchat.User, error) {
	data, err := s.share(ctx, "find user", [4]uint64{uint64(id)}, func(ctx context.Context) (any, error) {
		var data string
		err := s.query(ctx, "SELECT data FROM users WHERE id = ?", int64(id)).Scan(&data)
		if err == nil && data == "" {
			err = gocql.ErrNotFound
		}
		return data, err
	})
	if err != nil {
		return textchat.User{}, err
	}
	return decode[textchat.User](data.(string))
}

// Login finds a user by name.
func (s *Store) Login(ctx context.Context, username string) (textchat.Credential, error) {
	var c textchat.Credential
	err := s.do(ctx, "find account", 0, func(ctx context.Context) error {
		var id int64
		if err := s.settledRead(ctx, "SELECT user_id FROM lwt.names WHERE name = ?", folded(username)).Scan(&id); err != nil {
			return err
		}
		var err error
		if c, err = s.credential(ctx, textchat.ID(id)); err == nil && folded(c.User.Username) != folded(username) {
			err = gocql.ErrNotFound
		}
		return err
	})
	if err != nil {
		return textchat.Credential{}, err
	}
	return c, nil
}

// listed reads the ids of a sharded list after an id, in order, at most limit.
func (s *Store) listed(ctx context.Context, table string, after textchat.ID, limit int) ([]textchat.ID, error) {
	shards := make([][]textchat.ID, listShards)
	err := each(ctx, listShards, func(ctx context.Context, shard int) error {
		iter := s.query(ctx, "SELECT id FROM "+table+" WHERE shard = ? AND id > ? LIMIT ?", shard, int64(after), limit).Iter()
		var id int64
		for iter.Scan(&id) {
			shards[shard] = append(shards[shard], textchat.ID(id))
		}
		return iter.Close()
	})
	list := slices.Concat(shards...)
	slices.Sort(list)
	return list[:min(limit, len(list))], err
}

// Users lists accounts by id.
func (s *Store) Users(ctx context.Context, after textchat.ID, limit int) ([]textchat.User, error) {
	var list []textchat.User
	err := s.doFor(ctx, longTimeout, "list users", 0, func(ctx context.Context) error {
		for len(list) < limit {
			ids, err := s.listed(ctx, "user_list", after, limit-len(list))
			if err != nil || len(ids) == 0 {
				return err
			}
			found, err := s.users(ctx, ids)
			if err != nil {
				return err
			}
			list = append(list, found...)
			// A shorter list than was asked for is the last one.
			if after = ids[len(ids)-1]; len(found) == len(ids) && len(list) < limit && len(ids) < limit {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// users reads accounts; those that do not exist are left out.
func (s *Store) users(ctx context.Context, ids []textchat.ID) ([]textchat.User, error) {
	parts := slices.Collect(slices.Chunk(ids, usersAtOnce))
	found := make([][]textchat.User, len(parts))
	err := eachOf(ctx, usersFanOut, len(parts), func(ctx context.Context, i int) error {
		keys := make([]int64, len(parts[i]))
		for k, id := range parts[i] {
			keys[k] = int64(id)
		}
		iter := s.query(ctx, "SELECT data FROM users WHERE id IN ?", keys).Iter()
		var data string
		var failed error
		for iter.Scan(&data) {
			if data != "" && failed == nil { // else an account that was never made
				failed = decodeTo(&found[i], data)
			}
		}
		if err := iter.Close(); err != nil {
			return err
		}
		return failed
	})
	if err != nil {
		return nil, err
	}
	list := slices.Concat(found...)
	slices.SortFunc(list, func(a, b textchat.User) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// tokenKey stands for a token in generations.
func tokenKey(token textchat.TokenHash) uint64 { return binary.LittleEndian.Uint64(token[:]) }

func (s *Store) addToken(ctx context.Context, user textchat.ID, token textchat.TokenHash, now time.Time) error {
	defer s.changed(textchat.ID(tokenKey(token)))
	// The list first: a token that is not in it could not be revoked.
	if err := s.write(ctx, "INSERT INTO user_tokens (user_id, hash) VALUES (?, ?)", int64(user), token[:]); err != nil {
		return err
	}
	return s.write(ctx, "INSERT INTO tokens (hash, user_id, created) VALUES (?, ?, ?)", token[:], int64(user), now.UnixMilli())
}

// AddToken gives a user one more token.
func (s *Store) AddToken(ctx context.Context, user textchat.ID, token textchat.TokenHash, now time.Time) error {
	return s.do(ctx, "add token", 0, func(ctx context.Context) error { return s.addToken(ctx, user, token, now) })
}

// TokenUser finds whose token it is.
func (s *Store) TokenUser(ctx context.Context, token textchat.TokenHash) (textchat.User, error) {
	args := [4]uint64{}
	for i := range args {
		args[i] = binary.LittleEndian.Uint64(token[8*i:])
	}
	id, err := s.share(ctx, "find token", args, func(ctx context.Context) (any, error) {
		var id int64
		err := s.query(ctx, "SELECT user_id FROM tokens WHERE hash = ?", token[:]).Scan(&id)
		return textchat.ID(id), err
	})
	if err != nil {
		return textchat.User{}, err
	}
	return s.User(ctx, id.(textchat.ID))
}

// RevokeToken makes one token void.
func (s *Store) RevokeToken(ctx context.Context, token textchat.TokenHash) error {
	defer s.changed(textchat.ID(tokenKey(token)))
	return s.do(ctx, "revoke token", 0, func(ctx context.Context) error {
		return s.write(ctx, "DELETE FROM tokens WHERE hash = ?", token[:])
	})
}

// RevokeTokens makes all tokens of a user void.
func (s *Store) RevokeTokens(ctx context.Context, user textchat.ID) error {
	return s.doFor(ctx, longTimeout, "revoke tokens", 0, func(ctx context.Context) error {
		iter := s.query(ctx, "SELECT hash FROM user_tokens WHERE user_id = ?", int64(user)).Iter()
		var list []textchat.TokenHash
		var hash []byte
		for iter.Scan(&hash) {
			list = append(list, textchat.TokenHash(hash))
		}
		if err := iter.Close(); err != nil {
			return err
		}
		return each(ctx, len(list), func(ctx context.Context, i int) error {
			defer s.changed(textchat.ID(tokenKey(list[i])))
			// The list goes row by row: a token added meanwhile stays in it.
			if err := s.write(ctx, "DELETE FROM tokens WHERE hash = ?", list[i][:]); err != nil {
				return err
			}
			return s.write(ctx, "DELETE FROM user_tokens WHERE user_id = ? AND hash = ?", int64(user), list[i][:])
		})
	})
}
