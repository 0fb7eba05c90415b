package sqlite

import (
	"database/sql"
	"fmt"
)

// migrations bring a file from version i to i+1; the version stands in the file
// (PRAGMA user_version). What was released is never changed, only added to.
//
// Objects are kept as the JSON the API shows, beside the columns they are looked
// up by: a field that is added later needs no migration.
var migrations = []string{
	`CREATE TABLE users (
		id INTEGER PRIMARY KEY,
		username TEXT NOT NULL COLLATE NOCASE,
		hash TEXT NOT NULL,
		created INTEGER NOT NULL,
		data TEXT NOT NULL
	) STRICT;
	CREATE UNIQUE INDEX users_name ON users (username);
	CREATE TABLE tokens (
		hash BLOB PRIMARY KEY,
		user_id INTEGER NOT NULL,
		created INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX tokens_user ON tokens (user_id);
	CREATE TABLE guilds (id INTEGER PRIMARY KEY, data TEXT NOT NULL) STRICT;
	CREATE TABLE roles (guild_id INTEGER NOT NULL, id INTEGER NOT NULL, data TEXT NOT NULL,
		PRIMARY KEY (guild_id, id)) STRICT, WITHOUT ROWID;
	CREATE TABLE channels (id INTEGER PRIMARY KEY, guild_id INTEGER NOT NULL, data TEXT NOT NULL) STRICT;
	CREATE INDEX channels_guild ON channels (guild_id);
	CREATE TABLE members (guild_id INTEGER NOT NULL, user_id INTEGER NOT NULL, data TEXT NOT NULL,
		PRIMARY KEY (guild_id, user_id)) STRICT, WITHOUT ROWID;
	CREATE INDEX members_user ON members (user_id);
	CREATE TABLE invites (code TEXT PRIMARY KEY, guild_id INTEGER NOT NULL, channel_id INTEGER NOT NULL,
		uses INTEGER NOT NULL, data TEXT NOT NULL) STRICT, WITHOUT ROWID;
	CREATE INDEX invites_guild ON invites (guild_id);
	CREATE INDEX invites_channel ON invites (channel_id);
	CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
	CREATE TABLE messages (channel_id INTEGER NOT NULL, id INTEGER NOT NULL, author_id INTEGER NOT NULL,
		data TEXT NOT NULL, PRIMARY KEY (channel_id, id)) STRICT, WITHOUT ROWID;
	CREATE TABLE nonces (channel_id INTEGER NOT NULL, author_id INTEGER NOT NULL, nonce TEXT NOT NULL,
		message_id INTEGER NOT NULL, created INTEGER NOT NULL,
		PRIMARY KEY (channel_id, author_id, nonce)) STRICT, WITHOUT ROWID;
	CREATE INDEX nonces_created ON nonces (created);`,
	`CREATE TABLE reactions (channel_id INTEGER NOT NULL, message_id INTEGER NOT NULL, emoji TEXT NOT NULL, user_id INTEGER NOT NULL,
		n INTEGER NOT NULL, PRIMARY KEY (channel_id, message_id, emoji, user_id)) STRICT, WITHOUT ROWID;
	CREATE TABLE pins (channel_id INTEGER NOT NULL, message_id INTEGER NOT NULL, at INTEGER NOT NULL,
		PRIMARY KEY (channel_id, message_id)) STRICT, WITHOUT ROWID;
	CREATE TABLE bans (guild_id INTEGER NOT NULL, user_id INTEGER NOT NULL, data TEXT NOT NULL,
		PRIMARY KEY (guild_id, user_id)) STRICT, WITHOUT ROWID;
	CREATE TABLE webhooks (id INTEGER PRIMARY KEY, guild_id INTEGER NOT NULL, channel_id INTEGER NOT NULL, data TEXT NOT NULL) STRICT;
	CREATE INDEX webhooks_guild ON webhooks (guild_id);
	CREATE INDEX webhooks_channel ON webhooks (channel_id);
	CREATE TABLE audit (guild_id INTEGER NOT NULL, id INTEGER NOT NULL, user_id INTEGER NOT NULL, action INTEGER NOT NULL,
		data TEXT NOT NULL, PRIMARY KEY (guild_id, id)) STRICT, WITHOUT ROWID;
	CREATE TABLE dms (id INTEGER PRIMARY KEY, low INTEGER NOT NULL, high INTEGER NOT NULL, UNIQUE (low, high)) STRICT;
	CREATE INDEX dms_high ON dms (high);
	CREATE TRIGGER messages_marks AFTER DELETE ON messages BEGIN
		DELETE FROM reactions WHERE channel_id = old.channel_id AND message_id = old.id;
		DELETE FROM pins WHERE channel_id = old.channel_id AND message_id = old.id;
	END;
	CREATE TRIGGER channels_webhooks AFTER DELETE ON channels BEGIN
		DELETE FROM webhooks WHERE channel_id = old.id;
	END;
	CREATE TRIGGER guilds_rest AFTER DELETE ON guilds BEGIN
		DELETE FROM bans WHERE guild_id = old.id;
		DELETE FROM audit WHERE guild_id = old.id;
	END;`,
}

func migrate(db *sql.DB) error {
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(migrations) {
		return fmt.Errorf("the data was written by a newer version (schema %d, this program knows %d)", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		tx, err := db.Begin()
		if err != nil {
			return fmt.Errorf("migrate to schema %d: %w", version+1, err)
		}
		if _, err = tx.Exec(migrations[version]); err == nil {
			_, err = tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", version+1))
		}
		if err == nil {
			err = tx.Commit()
		} else {
			_ = tx.Rollback()
		}
		if err != nil {
			return fmt.Errorf("migrate to schema %d: %w", version+1, err)
		}
	}
	return nil
}
