package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

// File is the name of the database in its folder.
const File = "textchat.db"

// Backup writes a copy of the database as it is at one moment to dir, while the
// store goes on. It takes about as long as reading and writing the file does;
// writers wait for nothing. A file that is there already is not touched.
func (s *Store) Backup(ctx context.Context, dir string) (err error) {
	to := filepath.Join(dir, File)
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("back up store: %s: %w", to, os.ErrExist)
	}
	var from string
	if err := s.read.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&from); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	// A connection of its own: those for reading may not write, not even elsewhere.
	db, err := openFile(from, "")
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		_ = os.Remove(to) // half of one
		return fmt.Errorf("back up store: %w", err)
	}
	return synced(to)
}

// synced makes a file durable.
func synced(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	return nil
}

// openFile opens a database file.
func openFile(file, extra string) (*sql.DB, error) {
	if err := ownIndex(); err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath()}
	// What is deleted is overwritten, see Scrub.
	return sql.Open("sqlite", u.String()+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(0)&_pragma=secure_delete(1)"+extra)
}

// Check says whether the database in dir is whole and of a version that this
// program reads. It changes nothing.
func Check(ctx context.Context, dir string) (err error) {
	file := filepath.Join(dir, File)
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath()}
	db, err := sql.Open("sqlite", u.String()+"?mode=ro&_pragma=query_only(1)")
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("check store: %s is damaged: %s", file, verdict)
	}
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	if version < 1 || version > len(migrations) {
		return fmt.Errorf("check store: %s has version %d, this program knows 1 to %d", file, version, len(migrations))
	}
	return nil
}
