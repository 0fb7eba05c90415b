package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/textchat/chatserver"
)

// folderBackups is where backups lie in a data folder, one folder each;
// folderRestore is where one is brought in.
const (
	folderBackups = "backups"
	folderRestore = ".restore"
)

// backupTime bounds one backup.
const backupTime = 6 * time.Hour

// backedUp is what a backup consists of besides what the chat server keeps: the
// small files of the data folder, but for those of the running program, and the
// folders of keys.
func backedUp(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read data folder: %w", err)
	}
	var names []string
	for _, e := range entries {
		skip := []string{fileLock, fileURL, "textchat.db", "textchat.db-wal", "textchat.db-shm"}
		if e.Type().IsRegular() && !slices.Contains(skip, e.Name()) || e.IsDir() && slices.Contains(foldersOfKeys, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// foldersOfKeys know more with time, as who was shut out: a restore leaves those that
// are there as they are.
var foldersOfKeys = []string{folderFleet, folderACME}

// backup makes a copy of the house in a folder of its data folder, while it runs,
// and names it.
func backup(ctx context.Context, data string, chat *chatserver.Server, now time.Time) (string, error) {
	// It gets its name when it is whole.
	half, err := newFolder(filepath.Join(data, folderBackups), now, ".half")
	if err != nil {
		return "", fmt.Errorf("back up: %w", err)
	}
	dir := strings.TrimSuffix(half, ".half")
	err = chat.Backup(ctx, half)
	if err == nil {
		err = copyNamed(data, half)
	}
	if err == nil {
		err = os.Rename(half, dir)
	}
	if err != nil {
		os.RemoveAll(half)
		return "", fmt.Errorf("back up: %w", err)
	}
	return dir, nil
}

// newFolder makes a folder that is named after the time, and by a number when there
// is one already, with or without the ending.
func newFolder(in string, now time.Time, ending string) (string, error) {
	if err := os.MkdirAll(in, 0o700); err != nil {
		return "", err
	}
	name := now.UTC().Format("2006-01-02T150405Z")
	for n := 2; ; n++ {
		at := filepath.Join(in, name)
		if _, err := os.Lstat(at); errors.Is(err, os.ErrNotExist) {
			if err := os.Mkdir(at+ending, 0o700); !errors.Is(err, os.ErrExist) {
				return at + ending, err
			}
		}
		name = fmt.Sprintf("%s-%d", now.UTC().Format("2006-01-02T150405Z"), n)
	}
}

// copyNamed copies the small files of a data folder.
func copyNamed(from, to string) error {
	names, err := backedUp(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := copySmall(filepath.Join(from, n), filepath.Join(to, n)); err != nil {
			return err
		}
	}
	return nil
}

// copySmall copies a small file, or a folder of such.
func copySmall(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), body, 0o600)
	})
}

// serveBackup answers POST /api/admin/backup.
func serveBackup(data string, chat *chatserver.Server, token string) http.HandlerFunc {
	one := make(chan struct{}, 1) // at a time
	return func(w http.ResponseWriter, r *http.Request) {
		if !authorized(r, token) {
			refuse(w)
			return
		}
		answer := func(status int, v any) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(v)
		}
		select {
		case one <- struct{}{}:
			defer func() { <-one }()
		default:
			answer(http.StatusConflict, map[string]any{"code": 0, "message": "A backup is being made already."})
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
		ctx, cancel := context.WithTimeout(r.Context(), backupTime)
		defer cancel()
		dir, err := backup(ctx, data, chat, time.Now())
		switch {
		case errors.Is(err, chatserver.ErrNotEmbedded):
			answer(http.StatusConflict, map[string]any{"code": 0, "message": err.Error()})
		case err != nil:
			answer(http.StatusInternalServerError, map[string]any{"code": 0, "message": err.Error()})
		default:
			answer(http.StatusOK, map[string]string{"folder": dir})
		}
	}
}

// restoreCommand puts a backup in place of a data folder.
func restoreCommand() *cobra.Command {
	var data, files string
	cmd := &cobra.Command{
		Use: "restore BACKUP", Short: "Put a backup in place of a data folder", Long: wordsRestore,
		Example: wordsRestoreExamples,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			attached, err := chatserver.ParseFiles(files)
			if err != nil {
				return fmt.Errorf("--files: %w", err)
			}
			bucket, err := attached.Open(cmd.Context())
			if err != nil {
				return fmt.Errorf("--files: %w", err)
			}
			before, err := restore(cmd.Context(), a[0], data, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), wordsRestored(data, before))
			if bucket == nil {
				return nil
			}
			n, err := chatserver.RestoreFiles(cmd.Context(), data, bucket)
			fmt.Fprintln(cmd.OutOrStdout(), wordsRestoredFiles(n))
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "./data", "data folder to restore; the program must not run on it")
	cmd.Flags().StringVar(&files, "files", "", "bucket to bring the attachments to, those that it lacks: s3://HOST/BUCKET (default: none)")
	return cmd
}

// restore checks the backup, moves what is there aside, and copies it in. It names
// where the old things are, if there were any. Until the copy is whole the folder
// stays as it was.
func restore(ctx context.Context, from, data string, now time.Time) (before string, err error) {
	f, err := openFolder(data) // nobody runs on it
	if err != nil {
		return "", err
	}
	defer f.Close()
	fresh := filepath.Join(f.path, folderRestore)
	if err := os.RemoveAll(fresh); err != nil { // of one that was broken off
		return "", fmt.Errorf("restore: %w", err)
	}
	if err := chatserver.Restore(ctx, from, fresh); err != nil {
		os.RemoveAll(fresh)
		return "", err
	}
	before, err = newFolder(filepath.Join(f.path, folderBackups), now, ".before-restore")
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	moved := 0
	for _, e := range entries {
		if e.Name() == folderTold { // of no use any more, and with words of people who may be erased
			if err := os.RemoveAll(filepath.Join(f.path, e.Name())); err != nil {
				return "", fmt.Errorf("restore: %w (what was moved is in %s)", err, before)
			}
			continue
		}
		if slices.Contains(foldersOfKeys, e.Name()) {
			if err := os.RemoveAll(filepath.Join(fresh, e.Name())); err != nil {
				return "", fmt.Errorf("restore: %w (what was moved is in %s)", err, before)
			}
			continue
		}
		if slices.Contains([]string{fileLock, folderBackups, folderRestore}, e.Name()) {
			continue
		}
		if err := os.Rename(filepath.Join(f.path, e.Name()), filepath.Join(before, e.Name())); err != nil {
			return "", fmt.Errorf("restore: %w (what was moved is in %s)", err, before)
		}
		moved++
	}
	entries, err = os.ReadDir(fresh)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(fresh, e.Name()), filepath.Join(f.path, e.Name())); err != nil {
			return "", fmt.Errorf("restore: %w (the old things are in %s)", err, before)
		}
	}
	if err := os.Remove(fresh); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if moved == 0 {
		os.Remove(before)
		return "", nil
	}
	return before, nil
}

// backupHouse asks the running program for a backup.
func (c *ctl) backupHouse(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "POST", c.url+"/api/admin/backup", nil)
	if err != nil {
		return fmt.Errorf("ask for a backup: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.url, err)
	}
	defer resp.Body.Close()
	var answer struct{ Folder, Message string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if answer.Folder == "" {
		return errors.New(answer.Message)
	}
	if c.json {
		return c.show(map[string]string{"folder": answer.Folder}, nil)
	}
	fmt.Fprintln(c.out, answer.Folder)
	return nil
}
