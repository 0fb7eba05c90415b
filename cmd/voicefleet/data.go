package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The files of a data folder that are ours; rooms keep their own beside them.
const (
	fileToken = "admin.token" // for ctl and scrapers, 0600
	fileBus   = "bus.token"   // for nodes that join, 0600
	fileURL   = "admin.url"   // where ctl finds the running program
	fileLock  = "lock"

	folderTold  = "told"  // what gateway sessions were told of late; no backup has it
	folderBus   = "bus"   // of the embedded NATS; no backup has it
	folderFleet = "fleet" // the fleet's authority
	folderACME  = "acme"  // account and keys of certificates
)

// folder is the data folder of a running program.
type folder struct {
	path string // absolute
	lock *os.File
}

// openFolder makes the folder if need be and takes it for this process: two that
// write to one database would spoil it.
func openFolder(path string) (*folder, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find data folder: %w", err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(abs, fileLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock data folder: %w", err)
		}
		holder := make([]byte, 16)
		n, _ := lock.ReadAt(holder, 0)
		return nil, errors.New(wordsFolderTaken(abs, strings.TrimSpace(string(holder[:n]))))
	}
	lock.Truncate(0)
	lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return &folder{abs, lock}, nil
}

// Close gives the folder back.
func (f *folder) Close() error {
	os.Remove(filepath.Join(f.path, fileURL))
	return f.lock.Close()
}

// token reads a token of the folder, or makes it.
func (f *folder) token(file string) (string, error) {
	path := filepath.Join(f.path, file)
	body, err := os.ReadFile(path)
	if err == nil {
		if t := strings.TrimSpace(string(body)); len(t) >= 32 {
			return t, nil
		}
		return "", fmt.Errorf("read token: %s holds less than 32 characters; remove the file to have a new one made", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read token: %w", err)
	}
	raw := make([]byte, 24)
	rand.Read(raw) // never fails
	t := hex.EncodeToString(raw)
	if err := os.WriteFile(path, []byte(t+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write token: %w", err)
	}
	return t, nil
}

// announce tells ctl where this program answers.
func (f *folder) announce(url string) error {
	if err := os.WriteFile(filepath.Join(f.path, fileURL), []byte(url+"\n"), 0o600); err != nil {
		return fmt.Errorf("write admin address: %w", err)
	}
	return nil
}
