package filestore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestStore(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Put(ctx, "1/2/aB9", strings.NewReader("hello")); err != nil || n != 5 {
		t.Fatalf("put: %d %v", n, err)
	}
	if _, err := s.Put(ctx, "1/2/aB9", strings.NewReader("other")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("put again: %v", err)
	}
	f, err := s.Open(ctx, "1/2/aB9")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(f)
	f.Close()
	if string(b) != "hello" {
		t.Fatalf("read %q", b)
	}
	refusesKeys(ctx, t, s)
	// What fails leaves nothing.
	if _, err := s.Put(ctx, "3/x", io.MultiReader(strings.NewReader("half"), failing{})); err == nil {
		t.Fatal("half a file was kept")
	}
	if _, err := os.Stat(filepath.Join(dir, "files", "3", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("half a file lies there: %v", err)
	}
	var keys []string
	if err := s.Each(ctx, func(key string) error { keys = append(keys, key); return nil }); err != nil || !slices.Equal(keys, []string{"1/2/aB9"}) {
		t.Fatalf("keys %v, %v", keys, err)
	}
	if err := s.Drop(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(ctx, "1/2/aB9"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("dropped: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken off") }

// refusesKeys holds that what is no key leads nowhere.
func refusesKeys(ctx context.Context, t *testing.T, s interface {
	Put(ctx context.Context, key string, r io.Reader) (int64, error)
	Open(ctx context.Context, key string) (io.ReadSeekCloser, error)
	Drop(ctx context.Context, key string) error
}) {
	t.Helper()
	for _, key := range []string{"", "..", "1/../2", "/etc/passwd", "1//2", "a.b", "a\\b", "1/2", "9"} {
		if f, err := s.Open(ctx, key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: %v %v", key, f, err)
		}
	}
	for _, key := range []string{"", "..", "../x", "a/./b"} {
		if _, err := s.Put(ctx, key, strings.NewReader("x")); !errors.Is(err, ErrBadKey) {
			t.Errorf("put %q: %v", key, err)
		}
		if err := s.Drop(ctx, key); !errors.Is(err, ErrBadKey) {
			t.Errorf("drop %q: %v", key, err)
		}
	}
}

// TestErrorsHaveNoKey: who reads a log must not be able to read files by it.
func TestErrorsHaveNoKey(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "files"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := s.Put(ctx, "1/2/secret", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	_, twice := s.Put(ctx, "1/2/secret", strings.NewReader("x"))
	_, below := s.Put(ctx, "1/2/secret/secret", strings.NewReader("x"))
	_, missing := s.Open(ctx, "1/2/secret2")
	for _, err := range []error{twice, below, missing, keyless(&url.Error{Op: "Put", URL: "http://host/bucket/secret", Err: io.ErrUnexpectedEOF})} {
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("says %v", err)
		}
	}
	if !errors.Is(twice, fs.ErrExist) || !errors.Is(missing, fs.ErrNotExist) {
		t.Errorf("%v, %v", twice, missing)
	}
}
