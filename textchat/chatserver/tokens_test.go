package chatserver

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// TestTokensThatAreNone: whatever is not exactly a token that stands opens neither REST nor
// the gateway.
func TestTokensThatAreNone(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	parts := strings.Split(ann.token, ".")
	others := strings.Split(bob.token, ".")
	if len(parts) != 3 || len(others) != 3 {
		t.Fatalf("token %q", ann.token)
	}
	id, mid, secret := parts[0], parts[1], parts[2]
	turned := func(s string, i int) string {
		c := byte('A')
		if s[i] == c {
			c = 'B'
		}
		return s[:i] + string(c) + s[i+1:]
	}
	gone := w.guest("Gone")
	w.do("POST", "/auth/logout", gone.token, nil)
	erased := w.guest("Erased")
	w.do("DELETE", "/api/admin/users/"+erased.id, "Bearer let-me-in", nil)
	w.do("POST", "/auth/register", "", map[string]any{"username": "carl", "password": "correct horse"})
	reset := w.do("POST", "/auth/login", "", map[string]any{"username": "carl", "password": "correct horse"}).body["token"].(string)
	w.do("POST", "/api/admin/reset-password", "Bearer let-me-in", map[string]any{"username": "carl"})
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	table := map[string]string{
		"nothing": "", "a space": " ", "a prefix": "Bot ", "another prefix": "Bearer ", "a word": "token", "null": "null", "undefined": "undefined", "a dot": ".", "two dots": "..", "three dots": "...",
		"only an id": id, "an id and a dot": id + ".", "two parts": id + "." + mid, "no id": "." + mid + "." + secret, "no middle": id + ".." + secret, "no secret": id + "." + mid + ".",
		"four parts": ann.token + ".x", "twice": ann.token + ann.token, "cut": ann.token[:len(ann.token)-1], "longer": ann.token + "A", "cut in front": ann.token[1:],
		"another first letter": turned(id, 0) + "." + mid + "." + secret, "another letter of the secret": id + "." + mid + "." + turned(secret, 0),
		"another letter amid the secret": id + "." + mid + "." + turned(secret, 20), "in capitals": strings.ToUpper(ann.token), "in small letters": strings.ToLower(ann.token),
		"backwards": secret + "." + mid + "." + id, "the id of another": others[0] + "." + mid + "." + secret, "the secret of another": id + "." + mid + "." + others[2],
		"id and middle of another": others[0] + "." + others[1] + "." + secret, "padded": id + "==." + mid + "." + secret, "the secret padded": ann.token + "=",
		"an id in decimals": ann.id + "." + mid + "." + secret, "id 0": base64.RawStdEncoding.EncodeToString([]byte("0")) + "." + mid + "." + secret,
		"a negative id":      base64.RawStdEncoding.EncodeToString([]byte("-"+ann.id)) + "." + mid + "." + secret,
		"an id of 64 digits": base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("9", 64))) + "." + mid + "." + secret,
		"a space within":     id + "." + mid + ". " + secret, "quotes": `"` + ann.token + `"`, "a query": ann.token + "?x", "percent": strings.ReplaceAll(ann.token, ".", "%2e"),
		"an SQL word": id + "." + mid + ".' OR '1'='1", "the webhook's way": ann.id + "/" + secret,
		"a JWT without alg": part(`{"alg":"none"}`) + "." + part(`{"sub":"`+ann.id+`"}`) + ".",
		"a JWT by HS256":    part(`{"alg":"HS256"}`) + "." + part(`{"sub":"`+ann.id+`"}`) + "." + secret,
		"a JWT with a kid":  part(`{"alg":"HS256","kid":"../../../../dev/null"}`) + "." + part(`{"sub":"`+ann.id+`"}`) + "." + secret,
		"the operator's":    "let-me-in", "dots": strings.Repeat(".", 3000), "letters": strings.Repeat("A", 3000), "letters in three parts": strings.Repeat("A", 1000) + "." + mid + "." + secret,
		"one that logged out": gone.token, "one of somebody erased": erased.token, "one from before a new password": reset,
		"a token with a prefix that is none": "Basic " + ann.token, "the prefix alone, no space": "Bot" + ann.token,
	}
	if len(table) < 40 {
		t.Errorf("%d tokens", len(table))
	}
	for name, token := range table {
		if r := w.try("GET", "/users/@me", token, nil); r.status != 401 || r.body["code"] != 0.0 {
			t.Errorf("REST, %s: %d %s", name, r.status, r.raw)
		}
		s := w.dial("?v=10")
		s.next()
		s.send(2, identify(token, 1))
		if code := s.closeCode(); code != 4004 {
			t.Errorf("Identify, %s: %d", name, code)
		}
	}
	a := w.enter(ann)
	for _, name := range []string{"nothing", "cut", "the secret of another", "one that logged out"} {
		s := w.dial("?v=10")
		s.next()
		s.send(6, map[string]any{"token": table[name], "session_id": a.session, "seq": a.last})
		if code := s.closeCode(); code != 4004 {
			t.Errorf("Resume, %s: %d", name, code)
		}
	}
	for _, p := range []person{boss, ann, bob} { // these stand
		w.do("GET", "/users/@me", p.token, nil)
	}
	w.do("GET", "/users/@me", "Bot "+ann.token, nil)
}

// TestKickIsQuick: who is kicked is out of voice and guild within a second, judged by the
// quickest of five, and cannot come back by what it holds.
func TestKickIsQuick(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, bob := w.boss(), w.guest("Bob")
	guild, lobby, general := "/guilds/"+w.guildID(), w.channelID(boss, "Lobby"), w.channelID(boss, "general")
	best := time.Hour
	for range 5 {
		w.do("POST", "/invites/"+w.first.Invite, bob.token, nil)
		s := w.enter(bob)
		s.joinVoice(w.guildID(), lobby, false)
		w.voice.expect(t, "place "+bob.id)
		s.until("VOICE_SERVER_UPDATE")
		began := time.Now()
		w.do("DELETE", guild+"/members/"+bob.id, boss.token, nil)
		w.voice.expect(t, "remove "+bob.id)
		s.until("GUILD_DELETE")
		best = min(best, time.Since(began))
		s.joinVoice(w.guildID(), lobby, false)
		s.send(1, nil)
		if f := s.next(); f.Op != 11 {
			t.Errorf("after the kick: op %d %s %s", f.Op, f.T, f.D)
		}
		if r := w.try("GET", "/channels/"+general+"/messages", bob.token, nil); r.status != 404 {
			t.Errorf("after the kick: %d %s", r.status, r.raw)
		}
		s.breakOff()
	}
	if best > time.Second {
		t.Errorf("out after %v", best)
	}
	select {
	case order := <-w.voice.arrived:
		t.Errorf("voice side was told %q", order)
	default:
	}
}
