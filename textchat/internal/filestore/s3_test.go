package filestore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func TestParseS3(t *testing.T) {
	for in, want := range map[string]S3Config{
		"s3://s3.eu-central-1.amazonaws.com/files":     {Endpoint: "s3.eu-central-1.amazonaws.com", Bucket: "files"},
		"s3://[::1]:9000/files/chat/1?tls=off":         {Endpoint: "[::1]:9000", Plain: true, Bucket: "files", Prefix: "chat/1"},
		"s3://minio:9000/files/?region=home&tls=on":    {Endpoint: "minio:9000", Region: "home", Bucket: "files"},
		"s3://minio.internal:9000/files?region=eu-w-1": {Endpoint: "minio.internal:9000", Region: "eu-w-1", Bucket: "files"},
	} {
		if got, err := ParseS3(in); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for in, says := range map[string]string{
		"files": "want s3://", "s3:///files": "want s3://", "s3://host": "a bucket is missing", "s3://host/": "a bucket is missing",
		"s3://key:secret@host/files": "AWS_ACCESS_KEY_ID", "s3://host/files/../x": "letters, digits", "s3://host/files?tls=no": "on or off",
		"s3://host/files?acl=public": "unknown option",
	} {
		if _, err := ParseS3(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", in, err, says)
		}
	}
}

// bucket is one of a server in this process, with a prefix; broken makes it refuse.
func bucket(t *testing.T, broken *bool) *S3 {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("files"); err != nil {
		t.Fatal(err)
	}
	h := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if *broken {
			http.Error(w, "down", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c, err := ParseS3("s3://" + strings.TrimPrefix(server.URL, "http://") + "/files/chat?tls=off&region=us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	c.Access, c.Secret, c.Spool = "key", "secret", t.TempDir()
	if _, err := OpenS3(context.Background(), S3Config{Endpoint: c.Endpoint, Plain: true, Region: c.Region, Bucket: "none", Access: "a", Secret: "b"}); err == nil {
		t.Error("a bucket that is not there was opened")
	}
	s, err := OpenS3(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestS3(t *testing.T) {
	ctx := context.Background()
	broken := false
	s := bucket(t, &broken)
	big := strings.Repeat("0123456789abcdef", 2<<16) // more than one chunk of the protocol
	for key, text := range map[string]string{"1/2/aB9": "hello", "1/3/x": big, "10/2/y": "other", "4": ""} {
		if n, err := s.Put(ctx, key, strings.NewReader(text)); err != nil || n != int64(len(text)) {
			t.Fatalf("put %s: %d %v", key, n, err)
		}
		f, err := s.Open(ctx, key)
		if err != nil {
			t.Fatalf("open %s: %v", key, err)
		}
		b, err := io.ReadAll(f)
		if err != nil || string(b) != text {
			t.Fatalf("%s has %d bytes, %v", key, len(b), err)
		}
		if end, err := f.Seek(0, io.SeekEnd); err != nil || end != int64(len(text)) {
			t.Errorf("%s ends at %d, %v", key, end, err)
		}
		if len(text) > 2 {
			if _, err := f.Seek(1, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			two := make([]byte, 2)
			if _, err := io.ReadFull(f, two); err != nil || string(two) != text[1:3] {
				t.Errorf("%s from the second letter: %q, %v", key, two, err)
			}
		}
		f.Close()
	}
	refusesKeys(ctx, t, s)
	// What fails leaves nothing, here or there.
	if _, err := s.Put(ctx, "3/x", io.MultiReader(strings.NewReader("half"), failing{})); err == nil {
		t.Fatal("half an object was kept")
	}
	if err := s.Drop(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	var keys []string
	if err := s.Each(ctx, func(key string) error { keys = append(keys, key); return nil }); err != nil || !slices.Equal(keys, []string{"10/2/y", "4"}) {
		t.Fatalf("left are %v, %v", keys, err)
	}
	broken = true
	if _, err := s.Put(ctx, "5", strings.NewReader("x")); err == nil {
		t.Error("put succeeded without a server")
	}
	if _, err := s.Open(ctx, "4"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open without a server: %v", err)
	}
	if left, err := os.ReadDir(s.spool); err != nil || len(left) != 0 {
		t.Errorf("left of uploads: %v %v", left, err)
	}
}
