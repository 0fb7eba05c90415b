// Package filestore keeps what people attach: as files of a folder, or as objects
// of a bucket that is reached by S3. Keys are paths of plain letters and digits,
// made by the server; no name that a stranger chose becomes a path.
package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// ErrBadKey is a key that is no path of letters and digits.
var ErrBadKey = errors.New("not a key")

// Store is one folder. Safe for concurrent use.
type Store struct{ root string }

// Open makes the folder when it is missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open file store: %w", err)
	}
	return &Store{root: dir}, nil
}

// check refuses what is no key.
func check(key string) error {
	for part := range strings.SplitSeq(key, "/") {
		if part == "" {
			return ErrBadKey
		}
		for _, c := range []byte(part) {
			if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return ErrBadKey
			}
		}
	}
	return nil
}

func (s *Store) path(key string) (string, error) {
	return filepath.Join(s.root, filepath.FromSlash(key)), check(key)
}

// keyless is an error without the path or address in it: by a key anybody may read
// its file, so that no key is for a log.
func keyless(err error) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return fmt.Errorf("%s: %w", at.Op, at.Err)
	}
	if at := (*url.Error)(nil); errors.As(err, &at) {
		return fmt.Errorf("%s: %w", at.Op, at.Err)
	}
	return err
}

// Put keeps all of r, durably, and says how much that was. What fails leaves
// nothing.
func (s *Store) Put(ctx context.Context, key string, r io.Reader) (n int64, err error) {
	p, err := s.path(key)
	if err != nil {
		return 0, fmt.Errorf("put file: %w", keyless(err))
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return 0, fmt.Errorf("put file: %w", keyless(err))
	}
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("put file: %w", keyless(err))
	}
	n, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), ctx.Err()); err != nil {
		_ = os.Remove(p) // the first error is the one to tell
		return 0, fmt.Errorf("put file: %w", keyless(err))
	}
	return n, nil
}

// Open reads a file (fs.ErrNotExist).
func (s *Store) Open(_ context.Context, key string) (io.ReadSeekCloser, error) {
	p, err := s.path(key)
	if err != nil {
		return nil, fmt.Errorf("open file: %w", os.ErrNotExist)
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, fmt.Errorf("open file: %w", keyless(err))
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open file: %w", os.ErrNotExist)
	}
	return f, nil
}

// Drop removes a file, or all whose keys begin with key and a slash.
func (s *Store) Drop(_ context.Context, key string) error {
	p, err := s.path(key)
	if err == nil {
		err = os.RemoveAll(p)
	}
	if err != nil {
		return fmt.Errorf("drop file: %w", keyless(err))
	}
	return nil
}

// Each calls f with the key of each file, in order.
func (s *Store) Each(ctx context.Context, f func(key string) error) error {
	err := filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // dropped on the way
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		key, err := filepath.Rel(s.root, path)
		if key = filepath.ToSlash(key); err != nil || !d.Type().IsRegular() || check(key) != nil {
			return err
		}
		return f(key)
	})
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	return nil
}
