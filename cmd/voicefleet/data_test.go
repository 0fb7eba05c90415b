package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFolderIsTakenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "data")
	f, err := openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info, err)
	}
	if _, err := openFolder(path); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("taken twice: %v", err)
	}
	if err := f.announce("http://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := (&ctl{data: path}).find(); err == nil || !strings.Contains(err.Error(), "No voicefleet") {
		t.Errorf("ctl finds a house that has ended: %v", err)
	}
	f, err = openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestTokenStays(t *testing.T) {
	f, err := openFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first, err := f.token(fileToken)
	if err != nil || len(first) < 32 {
		t.Fatalf("token %q, %v", first, err)
	}
	if again, err := f.token(fileToken); err != nil || again != first {
		t.Errorf("token was %q, is %q, %v", first, again, err)
	}
	if bus, err := f.token(fileBus); err != nil || bus == first {
		t.Errorf("the bus shares the operator's token (%v)", err)
	}
	path := filepath.Join(f.path, fileToken)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.token(fileToken); err == nil {
		t.Error("a token of five characters is accepted")
	}
}
