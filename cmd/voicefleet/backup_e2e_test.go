package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"voicefleet/textchat"
)

// writer is a guest who writes in the first text channel of a house.
type writer struct {
	guest
	channel textchat.ID
}

func (r *running) writer() writer {
	r.t.Helper()
	w := writer{guest: r.join(http.DefaultClient, r.http, "Ada")}
	var channels []textchat.Channel
	if err := json.Unmarshal([]byte(r.read(w.Token, fmt.Sprintf("/guilds/%v/channels", w.GuildID))), &channels); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range channels {
		if c.Type == textchat.ChannelText {
			w.channel = c.ID
		}
	}
	return w
}

// read is a GET of the API.
func (r *running) read(token, path string) string {
	r.t.Helper()
	return get(r.t, &http.Client{Transport: withToken(token)}, r.http("/api/v10"+path))
}

type withToken string

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", string(t))
	return http.DefaultTransport.RoundTrip(r)
}

func (r *running) say(w writer, text string) {
	r.t.Helper()
	post[textchat.Message](r.t, http.DefaultClient, r.http(fmt.Sprintf("/api/v10/channels/%v/messages", w.channel)), w.Token, map[string]string{"content": text})
}

// heard is what stands in the channel, the newest first.
func (r *running) heard(w writer) string {
	r.t.Helper()
	var list []textchat.Message
	if err := json.Unmarshal([]byte(r.read(w.Token, fmt.Sprintf("/channels/%v/messages", w.channel))), &list); err != nil {
		r.t.Fatal(err)
	}
	words := make([]string, len(list))
	for i, m := range list {
		words[i] = m.Content
	}
	return strings.Join(words, "|")
}

// again starts the program on the folder of an ended one.
func (r *running) again() *running {
	r.t.Helper()
	next := &running{port: r.port, media: r.media, data: r.data}
	next.process = launch(r.t, next.args()...)
	next.says(`End +Ctrl-C`)
	return next
}

// TestBackupAndRestore: a house that is written to is backed up; after more was
// written and a restore it is as it was, what was there is kept aside, and the
// backup is good for another time.
func TestBackupAndRestore(t *testing.T) {
	r := launchUp(t)
	w := r.writer()
	r.say(w, "before")
	issued := filepath.Join(r.data, "fleet", "bus", "issued")
	authority := func(text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(issued), 0o700), os.WriteFile(issued, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	authority("one")
	folder := strings.TrimSpace(ctlSays(t, r.data, "backup"))
	if _, err := os.Stat(filepath.Join(folder, "textchat.db")); err != nil || !strings.HasPrefix(folder, r.data) {
		t.Fatalf("ctl backup says %q: %v", folder, err)
	}
	r.say(w, "after")
	if got := r.heard(w); got != "after|before" {
		t.Fatalf("written: %q", got)
	}
	restore := func(from string) (string, error) {
		out, err := exec.Command(binary(), "restore", from, "--data", r.data).CombinedOutput()
		return string(out), err
	}
	if out, err := restore(folder); err == nil {
		t.Errorf("restored under a running house: %s", out)
	}
	r.ends(syscall.SIGTERM)
	authority("one and two")

	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "textchat.db"), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{bad, filepath.Join(bad, "nowhere")} {
		if out, err := restore(from); err == nil {
			t.Errorf("restored from %s: %s", from, out)
		}
	}
	for _, want := range []string{"one and two", "one"} {
		out, err := restore(folder)
		if err != nil || !strings.Contains(out, ".before-restore") {
			t.Fatalf("restore: %v: %s", err, out)
		}
		for _, kept := range []string{"textchat.db", "told"} {
			if list, err := filepath.Glob(filepath.Join(r.data, "backups", "*.before-restore", kept)); err != nil || len(list) > 0 != (kept == "textchat.db") {
				t.Errorf("of what was before there is %v (%v)", list, err)
			}
		}
		if got, err := os.ReadFile(issued); err != nil || string(got) != want {
			t.Errorf("of the authority there is %q, want %q: %v", got, want, err)
		}
		if info, err := os.Stat(issued); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("readable by others: %v, %v", info, err)
		}
		again := r.again()
		if got := again.heard(w); got != "before" {
			t.Errorf("restored: %q", got)
		}
		again.say(w, "later")
		again.ends(syscall.SIGTERM)
		// The machine is lost, and all but the backup with it.
		if err := os.RemoveAll(filepath.Join(r.data, "fleet")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExportAndErase goes through the commands that people type.
func TestExportAndErase(t *testing.T) {
	r := launchUp(t)
	w := r.writer()
	r.say(w, "mine")
	user := w.User.ID.String()
	file := filepath.Join(t.TempDir(), "ada.ndjson")
	if out := ctlSays(t, r.data, "user", "export", user, "--out", file); !strings.Contains(out, "1 messages, in 1 guilds") {
		t.Errorf("export says %q", out)
	}
	body, err := os.ReadFile(file)
	if err != nil || bytes.Count(body, []byte("\n")) != 4 || !bytes.Contains(body, []byte(`"content":"mine"`)) {
		t.Errorf("exported: %v: %s", err, body)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"export", user, "--out", file}, "exists"},
		{[]string{"export", "nobody"}, "Unknown User"},
		{[]string{"erase", user}, "--yes"},
	} {
		out, err := exec.Command(binary(), append([]string{"ctl", "--data", r.data, "user"}, c.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) {
			t.Errorf("%v: %v: %s", c.args, err, out)
		}
	}
	if out := ctlSays(t, r.data, "user", "erase", user, "--yes"); !strings.Contains(out, "is erased: 1 messages, 1 memberships") {
		t.Errorf("erase says %q", out)
	}
}
