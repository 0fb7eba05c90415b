package chatserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/internal/sqlite"
)

// concrete is a route with values in the places of its pattern.
func concrete(pattern string, values map[string]string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	for name, value := range values {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return method, path
}

// brokenFiles keeps nothing, and reads nothing, once it is broken.
type brokenFiles struct {
	Files
	broken bool
}

func (f *brokenFiles) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	if f.broken {
		return 0, errors.New("the disk is gone")
	}
	return f.Files.Put(ctx, key, r)
}

func (f *brokenFiles) Open(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	if f.broken {
		return nil, errors.New("the disk is gone")
	}
	return f.Files.Open(ctx, key)
}

// TestNothingOfUsersIsLogged puts a word into everything that a user can set, on every
// route and in every frame, while all is well and while the store is gone: neither
// the log nor the metrics have the word, or a token, in them.
func TestNothingOfUsersIsLogged(t *testing.T) {
	const word = "zqmarkerqz" // as a username may be
	dir := t.TempDir()
	store, err := sqlite.Open(dir, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filestore.Open(dir + "/files")
	if err != nil {
		t.Fatal(err)
	}
	files := &brokenFiles{Files: folder}
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	w := newWorld(t, dir, func(c *Config) {
		c.Store, c.Files, c.Metrics = store, files, reg
		c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}, nil)
	boss := w.boss()
	secrets := []string{word, boss.token, "let-me-in", "correct horse"}
	all := map[string]any{"invite": w.first.Invite, "code": word, "password": word + word}
	for _, field := range []string{"name", "topic", "description", "content", "nick", "nickname", "username", "global_name", "reason", "rtc_region", "avatar_url",
		"nonce", "icon", "avatar", "locale", "email"} {
		all[field] = word
	}
	all["embeds"] = []any{map[string]any{"title": word, "description": word, "url": "https://" + word + "/", "footer": map[string]any{"text": word},
		"author": map[string]any{"name": word}, "fields": []any{map[string]any{"name": word, "value": word}}}}
	say := func(method, path, token string, body any) answer {
		t.Helper()
		waitASecond(w)
		kind, b := "application/json", encode(body)
		if ready, ok := body.([]byte); ok {
			kind, b = "multipart/form-data; boundary="+word, ready
		}
		req, err := http.NewRequest(method, w.http.URL+"/api/v10"+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"User-Agent", "Referer", "Origin", "Cookie", "X-Audit-Log-Reason", "X-Forwarded-For", "X-Forwarded-Proto", "Accept-Language", "X-" + word} {
			req.Header.Set(name, word)
		}
		req.Host = word
		req.Header.Set("Content-Type", kind)
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		resp, err := w.http.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		a := answer{status: resp.StatusCode, header: resp.Header}
		a.raw, _ = io.ReadAll(resp.Body)
		_ = json.Unmarshal(a.raw, &a.body)
		return a
	}
	id := func(a answer) string {
		t.Helper()
		if a.status >= 300 {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		return fmt.Sprint(a.body["id"])
	}
	upload := func() []byte {
		var form bytes.Buffer
		mw := multipart.NewWriter(&form)
		_ = mw.SetBoundary(word)
		_ = mw.WriteField("payload_json", string(encode(map[string]any{"content": word, "attachments": []any{map[string]any{"id": 0, "description": word}}})))
		file, _ := mw.CreateFormFile("files[0]", word+".txt")
		_, _ = file.Write([]byte(word))
		_ = mw.Close()
		return form.Bytes()
	}
	guild := "/guilds/" + w.guildID()
	general := w.channelID(boss, "general")
	channel := "/channels/" + general
	ann := say("POST", "/auth/guest", "", all)
	who := person{fmt.Sprint(field(ann.body, "user.id")), fmt.Sprint(ann.body["token"])}
	secrets = append(secrets, who.token)
	say("POST", "/auth/claim", who.token, all)
	values := map[string]string{"guild": w.guildID(), "channel": general, "user": who.id, "code": w.first.Invite, "overwrite": w.guildID(), "emoji": "%E2%98%83", "what": "%E2%98%83"}
	values["role"] = id(say("POST", guild+"/roles", boss.token, all))
	values["message"] = id(say("POST", channel+"/messages", boss.token, all))
	hook := say("POST", channel+"/webhooks", boss.token, all)
	values["webhook"], values["token"] = id(hook), fmt.Sprint(hook.body["token"])
	secrets = append(secrets, values["token"])
	sent := say("POST", channel+"/messages", who.token, upload())
	if url := fmt.Sprint(field(sent.body, "attachments.0.url")); !strings.Contains(url, word) {
		t.Errorf("posted a file: %d %s", sent.status, sent.raw)
	} else {
		secrets = append(secrets, strings.Split(url, "/")[6])
	}
	// A call whose channel is to be elsewhere, and no fleet that answers.
	w.voice.mu.Lock()
	w.voice.refuse = errors.New("nobody answers")
	w.voice.mu.Unlock()
	if a := say("PATCH", "/channels/"+w.channelID(boss, "Lobby"), boss.token, all); a.body["rtc_region"] != word {
		t.Errorf("region: %d %s", a.status, a.raw)
	}
	gateway := func() {
		s := w.dial("?v=10&encoding=json&" + word + "=" + word)
		s.next()
		m := identify(who.token, allIntents)
		m["properties"] = map[string]any{"os": word, "browser": word, "device": word, word: word}
		m["presence"] = map[string]any{"status": word, "activities": []any{map[string]any{"name": word, "state": word, "url": "https://" + word}}}
		s.send(2, m)
		s.send(3, map[string]any{"status": "online", "activities": []any{map[string]any{"name": word, "state": word}}})
		s.send(4, map[string]any{"guild_id": w.guildID(), "channel_id": general, "preferred_region": word, "rtt": map[string]any{word: 5}, "holds": word})
		s.send(8, map[string]any{"guild_id": w.guildID(), "query": word, "limit": 10, "nonce": word})
		s.send(43, map[string]any{"guild_id": w.guildID(), "fields": []string{word}})
		s.send(1, 0)
		for f := s.next(); f.Op != 11; f = s.next() {
		}
		s.ws.WriteClose(4321, []byte(word))
		s.closeCode()
		for _, wrong := range []map[string]any{{"op": 2, "d": identify(word, 1)}, {"op": 6, "d": map[string]any{"token": word, "session_id": word, "seq": 1}},
			{"op": 2, "d": map[string]any{"token": word, "intents": word}}, {"op": 99, "d": word}} {
			s := w.dial("?v=10")
			s.raw(string(encode(wrong)))
			s.closeCode()
		}
	}
	round := func(values map[string]string) (done int) {
		for _, last := range []bool{false, true} { // what deletes comes last
			for _, rt := range w.srv.routes() {
				method, path := concrete(rt.pattern, values)
				if (method == "DELETE") != last {
					continue
				}
				token := boss.token
				switch rt.access {
				case operator:
					token = "Bearer let-me-in"
				case anybody:
					token = ""
				}
				if path == "/auth/logout" {
					token = word
				}
				for _, query := range []string{"", "?query=" + word + "&limit=" + word + "&after=" + word + "&before=" + word + "&around=" + word + "&" + word + "=" + word} {
					if a := say(method, path+query, token, all); a.status < 300 {
						done++
					}
				}
			}
		}
		return done
	}
	wrong := map[string]string{}
	for name := range map[string]bool{"guild": true, "channel": true, "user": true, "code": true, "overwrite": true, "emoji": true, "what": true, "role": true, "message": true, "webhook": true, "token": true} {
		wrong[name] = word
	}
	gateway()
	round(wrong)
	if done := round(values); done < 60 {
		t.Errorf("%d requests were heard: hardly anything was set", done)
	}
	say("GET", "/users/@me", word, nil)
	say("GET", "/admin/users", "Bearer "+word, nil)
	if audit := w.try("GET", guild+"/audit-logs", boss.token, nil); !strings.Contains(string(audit.raw), word) {
		t.Errorf("no reason was kept: %d %s", audit.status, audit.raw)
	}
	// The same, and nothing can be kept.
	general = id(say("POST", guild+"/channels", boss.token, all))
	values["channel"], channel = general, "/channels/"+general
	files.broken = true
	if a := say("POST", channel+"/messages", boss.token, upload()); a.status != 503 {
		t.Errorf("a file without a disk: %d %s", a.status, a.raw)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	round(values)
	for _, path := range []string{"/attachments/1/2/" + strings.Repeat(word, 4)[:fileKeyLen] + "/" + word, "/" + word, "/invite/" + word, "/gateway?" + word} {
		resp, err := w.http.Client().Get(w.http.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	w.end()
	for _, what := range []string{"request failed", "call stays in its old region", "keep attachment", "read attachment"} {
		if !strings.Contains(log.String(), what) {
			t.Errorf("the log does not have %q: little was tried", what)
		}
	}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(page.Body.String(), "voicefleet_rest_requests_total") {
		t.Errorf("metrics: %d %s", page.Code, page.Body)
	}
	for where, text := range map[string]string{"log": log.String(), "metrics": page.Body.String()} {
		for line := range strings.SplitSeq(text, "\n") {
			for _, s := range secrets {
				if strings.Contains(strings.ToLower(line), strings.ToLower(s)) {
					t.Errorf("%s: %.300s", where, line)
				}
			}
		}
	}
}
