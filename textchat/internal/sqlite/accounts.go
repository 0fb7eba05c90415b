package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	lib "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"voicefleet/textchat"
)

// CreateUser adds a user and perhaps its first token.
func (s *Store) CreateUser(ctx context.Context, c textchat.Credential, token *textchat.TokenHash, now time.Time) error {
	return s.change(ctx, "create user", func(tx *txn) error {
		if _, err := exec(tx, "INSERT INTO users (id, username, hash, created, data) VALUES (?, ?, ?, ?, ?)",
			int64(c.User.ID), c.User.Username, c.Hash, now.UnixMilli(), encode(c.User)); err != nil {
			return nameTaken(err)
		}
		if token == nil {
			return nil
		}
		return addToken(tx, c.User.ID, *token, now)
	})
}

// nameTaken tells a broken uniqueness of names from other failures.
func nameTaken(err error) error {
	if e := (*lib.Error)(nil); errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return textchat.ErrNameTaken
	}
	return err
}

// UpdateUser replaces a user's record.
func (s *Store) UpdateUser(ctx context.Context, c textchat.Credential) error {
	return s.change(ctx, "update user", func(tx *txn) error {
		n, err := exec(tx, "UPDATE users SET username = ?, data = ?, hash = CASE WHEN ? = '' THEN hash ELSE ? END WHERE id = ?",
			c.User.Username, encode(c.User), c.Hash, c.Hash, int64(c.User.ID))
		if err != nil {
			return nameTaken(err)
		}
		if n == 0 {
			return textchat.ErrNoRecord
		}
		return nil
	})
}

// User finds a user by id.
func (s *Store) User(ctx context.Context, id textchat.ID) (textchat.User, error) {
	return one[textchat.User](s.read.QueryRowContext(ctx, "SELECT data FROM users WHERE id = ?", int64(id)), "find user")
}

// Login finds a user by name.
func (s *Store) Login(ctx context.Context, username string) (textchat.Credential, error) {
	var c textchat.Credential
	u, err := one[textchat.User](s.read.QueryRowContext(ctx, "SELECT data FROM users WHERE username = ?", username), "find account")
	if err != nil {
		return c, err
	}
	c.User = u
	if err := s.read.QueryRowContext(ctx, "SELECT hash FROM users WHERE id = ?", int64(u.ID)).Scan(&c.Hash); err != nil {
		return c, fmt.Errorf("find account: %w", err)
	}
	return c, nil
}

// Users lists accounts by id.
func (s *Store) Users(ctx context.Context, after textchat.ID, limit int) ([]textchat.User, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT data FROM users WHERE id > ? ORDER BY id LIMIT ?", int64(after), limit)
	return all[textchat.User](rows, err, "list users")
}

func addToken(tx *txn, user textchat.ID, token textchat.TokenHash, now time.Time) error {
	_, err := exec(tx, "INSERT INTO tokens (hash, user_id, created) VALUES (?, ?, ?)", token[:], int64(user), now.UnixMilli())
	return err
}

// AddToken gives a user one more token.
func (s *Store) AddToken(ctx context.Context, user textchat.ID, token textchat.TokenHash, now time.Time) error {
	return s.change(ctx, "add token", func(tx *txn) error { return addToken(tx, user, token, now) })
}

// TokenUser finds whose token it is.
func (s *Store) TokenUser(ctx context.Context, token textchat.TokenHash) (textchat.User, error) {
	return one[textchat.User](s.tokenUser.QueryRowContext(ctx, token[:]), "find token")
}

// RevokeToken makes one token void.
func (s *Store) RevokeToken(ctx context.Context, token textchat.TokenHash) error {
	return s.change(ctx, "revoke token", func(tx *txn) error {
		_, err := exec(tx, "DELETE FROM tokens WHERE hash = ?", token[:])
		return err
	})
}

// RevokeTokens makes all tokens of a user void.
func (s *Store) RevokeTokens(ctx context.Context, user textchat.ID) error {
	return s.change(ctx, "revoke tokens", func(tx *txn) error {
		_, err := exec(tx, "DELETE FROM tokens WHERE user_id = ?", int64(user))
		return err
	})
}
