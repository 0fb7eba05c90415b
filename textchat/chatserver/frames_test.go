package chatserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"voicefleet/textchat"
)

// ws is a frame of a client, masked with zeros.
func ws(head byte, payload string) string {
	if len(payload) < 126 {
		return string([]byte{head, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
	}
	return string([]byte{head, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload)), 0, 0, 0, 0}) + payload
}

// TestFrames: what a WebSocket must not do ends it with the code that RFC 6455 has for
// it, and what it may do too often with 4008; the others hear nothing of it.
func TestFrames(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	witness := w.bare()
	witness.hear(t, `"op":10`)
	const beat = `{"op":1,"d":null}`
	for _, c := range []struct {
		name, say string
		want      uint16
	}{
		{"not masked", "\x81\x01a", 1002},
		{"RSV1, as of a compressed frame", ws(0xc1, "\x2a\x00"), 1002},
		{"RSV2", ws(0xa1, "x"), 1002},
		{"opcode 3", ws(0x83, "x"), 1002},
		{"opcode 15", ws(0x8f, "x"), 1002},
		{"a ping in fragments", ws(0x09, "x"), 1002},
		{"a ping of 126 bytes", ws(0x89, strings.Repeat("x", 126)), 1002},
		{"a continuation of nothing", ws(0x80, "x"), 1002},
		{"a message within a message", ws(0x01, "x") + ws(0x81, "y"), 1002},
		{"65 fragments", ws(0x01, beat) + strings.Repeat(ws(0x00, ""), 64), 1002},
		{"a close frame with 1005", ws(0x88, "\x03\xed"), 1002},
		{"a close frame of one byte", ws(0x88, "\x03"), 1002},
		{"text that is not UTF-8", ws(0x81, "{\"op\":1,\"d\":\"\xff\"}"), 1007},
		{"UTF-8 that fragments do not complete", ws(0x01, "\xe2\x98") + ws(0x80, "x"), 1007},
		{"a reason that is not UTF-8", ws(0x88, "\x03\xe8\xc0"), 1007},
		{"a length of 2^63", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00", 4002},
		{"4,097 bytes", ws(0x81, strings.Repeat("x", 4097)), 4002},
		{"4,097 bytes in fragments", ws(0x01, strings.Repeat("x", 4000)) + ws(0x80, strings.Repeat("x", 97)), 4002},
		{"11 pings", strings.Repeat(ws(0x89, "p"), 11), 4008},
		{"121 pongs", strings.Repeat(ws(0x8a, "p"), 121), 4008},
		{"121 heartbeats", strings.Repeat(ws(0x81, beat), 121), 4008},
		{"good-bye", ws(0x88, "\x03\xe8bye"), 1000},
	} {
		s := w.bare()
		if _, err := fmt.Fprint(s, c.say); err != nil {
			t.Fatal(err)
		}
		code, reason := s.closing(t)
		if code != c.want {
			t.Errorf("%s: closed with %d %q, want %d", c.name, code, reason, c.want)
		}
		if code != uint16(textchat.CloseRateLimited) {
			continue
		}
		m := regexp.MustCompile(`come back in (\d+) s$`).FindStringSubmatch(reason)
		if m == nil {
			t.Errorf("%s: %q does not say when to come back", c.name, reason)
		} else if n, _ := strconv.Atoi(m[1]); n < 1 || n > 60 || c.name == "11 pings" && n > 10 {
			t.Errorf("%s: is to come back in %d s", c.name, n)
		}
	}
	// What is just allowed.
	s := w.bare()
	fmt.Fprint(s, strings.Repeat(ws(0x89, "p"), 10)+ws(0x01, beat)+strings.Repeat(ws(0x00, ""), 62)+ws(0x80, ""))
	pongs := 0
	for op, body := s.frame(t); !strings.Contains(body, `"op":11`); op, body = s.frame(t) {
		if op == 10 && body == "p" {
			pongs++
		}
	}
	if pongs != 10 {
		t.Errorf("%d of 10 pings were answered", pongs)
	}
	witness.say(beat)
	if op, body := witness.frame(t); op != 1 || !strings.Contains(body, `"op":11`) {
		t.Errorf("the witness heard %d %q", op, body)
	}
}

// TestNothingIsInflated: compression that a client offers is not taken, nor what is
// compressed all the same.
func TestNothingIsInflated(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	_, head := w.bareWith("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 101 ") || strings.Contains(strings.ToLower(head), "extensions") {
		t.Errorf("offered permessage-deflate, answered %q", head)
	}
	var bomb bytes.Buffer
	bomb.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
	bomb.Write(bytes.Repeat([]byte{0}, 1000))
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd", "gzip, identity"} {
		req, _ := http.NewRequest("POST", w.http.URL+"/api/v10/auth/login", bytes.NewReader(bomb.Bytes()))
		req.Header.Set("Content-Encoding", encoding)
		req.Header.Set("Content-Type", "application/json")
		resp, err := w.http.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("a body in %s: %d", encoding, resp.StatusCode)
		}
	}
	if a := w.try("POST", "/auth/login", "", map[string]any{"username": "x", "password": "y"}); a.status != 401 {
		t.Errorf("a plain body: %d %s", a.status, a.raw)
	}
}

// TestForeignOrigin: a page elsewhere gets no further by what a browser sends along: only
// a token in the first frame counts.
func TestForeignOrigin(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	s, _ := w.bareWith("Origin: https://evil.example\r\nCookie: token=" + ann.token + "; Authorization=" + ann.token + "\r\nAuthorization: " + ann.token + "\r\n")
	s.say(`{"op":2,"d":{"intents":513,"properties":{}}}`)
	if code, _ := s.closing(t); code != uint16(textchat.CloseAuthFailed) {
		t.Errorf("without a token: closed with %d", code)
	}
	req, _ := http.NewRequest("GET", w.http.URL+"/api/v10/users/@me", nil)
	req.Header.Set("Origin", "https://evil.example")
	req.Header.Set("Cookie", "token="+ann.token+"; Authorization="+ann.token)
	resp, err := w.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 401 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("REST by cookie: %d %v", resp.StatusCode, resp.Header)
	}
}

// TestDrip: a body that comes byte by byte, or not at all, is waited for so long and no
// longer, whatever kind of body it is; what was asked is not done.
func TestDrip(t *testing.T) {
	const wait = 300 * time.Millisecond
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.bodyTimeout = wait })
	boss := w.boss()
	channel := "/channels/" + w.channelID(boss, "general")
	for _, c := range []struct {
		method, path, kind, begin string
		drips                     bool
	}{
		{"POST", "/auth/guest", "application/json", `{"invite":"` + w.first.Invite + `","nickname":"`, true},
		{"PATCH", "/guilds/" + w.guildID() + "/roles", "application/json", `[{"id":"`, true},
		{"PATCH", "/guilds/" + w.guildID() + "/channels", "application/json", `[`, false},
		{"PATCH", channel, "application/x-www-form-urlencoded", "topic=", true},
		{"POST", channel + "/messages", "application/json", `{"content":"`, false},
		{"POST", channel + "/messages", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"a\"\r\n\r\nabc", false},
	} {
		conn := w.tcp()
		fmt.Fprintf(conn, "%s /api/v10%s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: 10000\r\n\r\n%s", c.method, c.path, boss.token, c.kind, c.begin)
		began := time.Now()
		over, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for tick := time.NewTicker(wait / 10); c.drips; {
				select {
				case <-over:
					tick.Stop()
					return
				case <-tick.C:
					_, _ = conn.Write([]byte("x"))
				}
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		close(over)
		<-ended
		if err != nil {
			t.Errorf("%s %s as %s: %v", c.method, c.path, c.kind, err)
			continue
		}
		resp.Body.Close()
		if took := time.Since(began); resp.StatusCode != 400 || took < wait/2 || took > patience/2 {
			t.Errorf("%s %s as %s: %d after %v", c.method, c.path, c.kind, resp.StatusCode, took)
		}
	}
	if n := w.kept(); n != 0 {
		t.Errorf("%d files are kept", n)
	}
}

// TestKindsOfLimits: each kind of 429 has all of its headers, and each agrees with the others.
func TestKindsOfLimits(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	general := "/channels/" + w.channelID(boss, "general")
	slow := "/channels/" + w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "slow", "rate_limit_per_user": 30}).body["id"].(string)
	h := w.do("POST", general+"/webhooks", boss.token, map[string]any{"name": "H"}).body
	hook := "/webhooks/" + h["id"].(string) + "/" + h["token"].(string)
	text := map[string]any{"content": "x"}
	form := func() answer {
		return w.upload("POST", general+"/messages", ann.token, part{name: "files[0]", file: "a.txt", body: make([]byte, 3<<20)})
	}
	get := func(path string) func() answer {
		return func() answer {
			resp, err := w.http.Client().Get(w.http.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var b bytes.Buffer
			_, _ = b.ReadFrom(resp.Body)
			a := answer{status: resp.StatusCode, header: resp.Header, raw: b.Bytes()}
			_ = json.Unmarshal(a.raw, &a.body)
			return a
		}
	}
	does := func(method, path, token string, body any) func() answer {
		return func() answer { return w.try(method, path, token, body) }
	}
	normal := w.srv.cfg.Limits
	for _, c := range []struct {
		name, route string
		limit       int
		scope       string
		code        float64
		set         func(*Limits)
		ask         func() answer
	}{
		{"a route", "GET /guilds/{guild}", 30, "user", 0, func(*Limits) {}, does("GET", "/guilds/"+w.guildID(), ann.token, nil)},
		{"all routes", "GET /users/@me", 3, "global", 0, func(l *Limits) { l.Requests = 3 }, does("GET", "/users/@me", ann.token, nil)},
		{"wrong tokens", "GET /users/@me", 40, "global", 0, func(l *Limits) { l.Requests = 2 }, does("GET", "/users/@me", "wrong", nil)},
		{"guessed invites", "POST /auth/guest", 2, "user", 0, func(l *Limits) { l.Invites = 2 }, does("POST", "/auth/guest", "", map[string]any{"invite": "wrong", "nickname": "x"})},
		{"passwords of a name", "POST /auth/login", 10, "shared", 0, func(*Limits) {}, does("POST", "/auth/login", "", map[string]any{"username": "boss", "password": "wrong"})},
		{"the operator's token", "GET /admin/users", 20, "user", 0, func(*Limits) {}, does("GET", "/api/admin/users", "Bearer wrong", nil)},
		{"files", "POST /channels/{channel}/messages", 4 << 10, "user", 0, func(l *Limits) { l.Files = 4 }, form},
		{"a webhook", "POST /webhooks/{webhook}/{token}", 2, "shared", 0, func(l *Limits) { l.Messages = 2 }, does("POST", hook, "", text)},
		{"slow mode", "POST /channels/{channel}/messages", 1, "user", 20016, func(*Limits) {}, does("POST", slow+"/messages", ann.token, text)},
		{"connections begun", "WebSocket /gateway", 2, "user", 0, func(l *Limits) { l.Attempts = 2 }, get("/gateway")},
		{"downloads", "GET /attachments", 4, "user", 0, func(l *Limits) { l.Requests = 1 }, get("/attachments/1/2/x/y")},
	} {
		waitASecond(w)
		c.set(&w.srv.cfg.Limits)
		before := testutil.ToFloat64(w.srv.metrics.limited)
		var r answer
		for range c.limit + 1 {
			if r = c.ask(); r.status == 429 {
				break
			}
		}
		w.srv.cfg.Limits = normal
		if r.status != 429 {
			t.Errorf("%s: %d %s", c.name, r.status, r.raw)
			continue
		}
		number := func(name string) float64 {
			n, err := strconv.ParseFloat(r.header.Get(name), 64)
			if err != nil {
				t.Errorf("%s: %s is %q", c.name, name, r.header.Get(name))
			}
			return n
		}
		after, _ := r.body["retry_after"].(float64)
		global := c.scope == "global"
		if whole := number("Retry-After"); r.header.Get("Retry-After") != fmt.Sprint(int(whole)) || whole < after || whole >= after+1 || after <= 0 {
			t.Errorf("%s: Retry-After %s, retry_after %v", c.name, r.header.Get("Retry-After"), after)
		}
		if rest := number("X-RateLimit-Reset-After"); rest < after-0.01 || rest > after+0.01 {
			t.Errorf("%s: Reset-After %v, retry_after %v", c.name, rest, after)
		}
		if at := number("X-RateLimit-Reset") - float64(time.Now().UnixMilli())/1000; at > after+0.01 || at < after-float64(patience/time.Second) {
			t.Errorf("%s: Reset in %v, retry_after %v", c.name, at, after)
		}
		if r.header.Get("X-RateLimit-Limit") != fmt.Sprint(c.limit) || r.header.Get("X-RateLimit-Remaining") != "0" || r.header.Get("X-RateLimit-Bucket") != bucketName(c.route) ||
			r.header.Get("X-RateLimit-Scope") != c.scope || (r.header.Get("X-RateLimit-Global") == "true") != global || r.header.Get("Via") == "" ||
			r.header.Get("Content-Type") != "application/json" || r.body["global"] != global || r.body["code"] != c.code || r.body["message"] == nil {
			t.Errorf("%s: %s %v", c.name, r.raw, r.header)
		}
		if n := testutil.ToFloat64(w.srv.metrics.limited); n != before+1 {
			t.Errorf("%s: %v refusals were counted", c.name, n-before)
		}
	}
}
