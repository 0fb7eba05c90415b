package chatserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/internal/sqlite"
)

// folderFiles is where attachments lie in the data folder and in a backup.
const folderFiles = "attachments"

// Restore brings the backup in dir to a new folder, from which a server can begin.
// The backup stays as it is.
func Restore(ctx context.Context, dir, to string) error {
	if err := sqlite.Check(ctx, dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for _, e := range entries {
		// The database would change under both names, if it were linked.
		if err := copyFiles(ctx, filepath.Join(dir, e.Name()), filepath.Join(to, e.Name()), e.Name() == folderFiles); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	return nil
}

// ErrNotEmbedded says that the store is no file of this server's: its own tools
// make its backups.
var ErrNotEmbedded = errors.New("the store is not embedded: a cluster is backed up by its own snapshots, files by copying --data")

// Backup writes all that the server keeps to dir, an empty folder, as it is at one
// moment, while it goes on serving. Attachments never change: where dir lies on the
// same file system they are linked, which takes no room; those of a bucket are fetched.
func (s *Server) Backup(ctx context.Context, dir string) error {
	db, ok := s.store.(*sqlite.Store)
	if !ok {
		return ErrNotEmbedded
	}
	if err := db.Backup(ctx, dir); err != nil {
		return err
	}
	// After the database: what it names is there, or was erased meanwhile.
	if s.cfg.Files != nil {
		to, err := filestore.Open(filepath.Join(dir, folderFiles))
		if err == nil {
			_, err = copyKept(ctx, s.files, to)
		}
		return err
	}
	return copyFiles(ctx, filepath.Join(s.cfg.DataDir, folderFiles), filepath.Join(dir, folderFiles), true)
}

// RestoreFiles brings the attachments in dir, a restored data folder, to where the
// server will look for them: those that are not there. It says how many.
func RestoreFiles(ctx context.Context, dir string, to Files) (int, error) {
	from, err := filestore.Open(filepath.Join(dir, folderFiles))
	if err != nil {
		return 0, err
	}
	return copyKept(ctx, from, to)
}

// copyKept brings files from one place to another, those that are not there. One that
// vanishes on the way is left out.
func copyKept(ctx context.Context, from, to Files) (n int, err error) {
	err = from.Each(ctx, func(key string) error {
		there, err := to.Open(ctx, key)
		if err == nil {
			return there.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err := from.Open(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			_, err = to.Put(ctx, key, f)
			err = errors.Join(err, f.Close())
		}
		if err == nil {
			n++
		}
		return err
	})
	return n, err
}

// copyFiles brings all regular files below from to the same places below to: by
// links where it can, if they may be, else by copies that are durable. One that
// vanishes on the way is left out.
func copyFiles(ctx context.Context, from, to string, links bool) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case !d.Type().IsRegular(), links && os.Link(path, target) == nil:
			return nil
		}
		return copyFile(path, target)
	})
	if err != nil {
		return fmt.Errorf("copy files: %w", err)
	}
	return nil
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}
