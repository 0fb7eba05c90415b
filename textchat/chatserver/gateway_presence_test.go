package chatserver

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
)

// watch enters with presences, too.
func (w *world) watch(p person) *socket {
	w.t.Helper()
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(p.token, int(textchat.IntentsKnown)))
	s.session = s.event("READY")["session_id"].(string)
	return s
}

// presenceOf is the next presence of a user.
func (s *socket) presenceOf(user string) (status string, activities []any) {
	s.t.Helper()
	for {
		p := s.until("PRESENCE_UPDATE")
		if p["user"].(map[string]any)["id"] == user {
			return p["status"].(string), p["activities"].([]any)
		}
	}
}

func TestPresence(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	b := w.watch(boss)
	if g := b.event("GUILD_CREATE"); len(g["presences"].([]any)) != 0 {
		t.Errorf("nobody is there, and presences are %v", g["presences"])
	}
	a := w.dial("?v=10")
	a.next()
	m := identify(ann.token, allIntents)
	m["presence"] = map[string]any{"status": "dnd", "activities": []any{map[string]any{"name": "chess", "type": 0}}}
	a.send(2, m)
	a.session = a.event("READY")["session_id"].(string)
	if g := a.event("GUILD_CREATE"); len(g["presences"].([]any)) != 0 {
		t.Errorf("without the intent presences are %v", g["presences"])
	}
	if status, acts := b.presenceOf(ann.id); status != "dnd" || len(acts) != 1 || acts[0].(map[string]any)["name"] != "chess" {
		t.Errorf("Ann came as %s %v", status, acts)
	}
	// A newcomer finds them in GUILD_CREATE.
	late := w.watch(w.guest("Late"))
	if got := late.event("GUILD_CREATE")["presences"].([]any); len(got) != 2 {
		t.Errorf("a newcomer sees %v", got)
	}
	// A second session of Ann that is online does not make her less busy; one that
	// hides says nothing.
	a2 := w.dial("?v=10")
	a2.next()
	m["presence"] = map[string]any{"status": "invisible", "activities": []any{map[string]any{"name": "secrets", "type": 0}}}
	a2.send(2, m)
	a2.event("READY")
	a2.event("GUILD_CREATE")
	a.send(3, map[string]any{"since": nil, "activities": []any{}, "status": "idle", "afk": true})
	if status, acts := b.presenceOf(ann.id); status != "idle" || len(acts) != 0 {
		t.Errorf("Ann is %s %v", status, acts)
	}
	// The last visible session goes: she is offline, though one hides.
	a.ws.WriteClose(1000, nil)
	if status, _ := b.presenceOf(ann.id); status != "offline" {
		t.Errorf("Ann went and is %s", status)
	}
	a2.send(3, map[string]any{"since": nil, "activities": []any{}, "status": "online", "afk": false})
	if status, _ := b.presenceOf(ann.id); status != "online" {
		t.Errorf("Ann shows herself and is %s", status)
	}
}

func TestPresencePace(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var p presencePace
	for i := range presenceBudget {
		if !p.take(start.Add(time.Duration(i) * time.Second)) {
			t.Fatalf("change %d has to wait", i)
		}
	}
	if p.take(start.Add(10*time.Second)) || p.take(start.Add(11*time.Second)) {
		t.Error("one too many is shown")
	}
	if p.due(start.Add(presenceWindow - 1)) {
		t.Error("due too early")
	}
	if !p.due(start.Add(presenceWindow)) || p.due(start.Add(presenceWindow)) {
		t.Error("not due once")
	}
}

// TestPresencePaceOnTheWire: of too many changes the last one is seen.
func TestPresencePaceOnTheWire(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	b := w.watch(boss)
	b.event("GUILD_CREATE")
	a := w.enter(ann)
	for i := range presenceBudget + 5 {
		a.send(3, map[string]any{"status": "online", "activities": []any{map[string]any{"name": fmt.Sprint(i), "type": 0}}})
	}
	x := w.srv.hub.session(a.session)
	until(t, "all changes have come", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.pace.n < presenceBudget+5 {
			return false
		}
		x.pace.window = time.Now().Add(-presenceWindow) // as if it had ended
		return true
	})
	for {
		if _, acts := b.presenceOf(ann.id); len(acts) == 1 && acts[0].(map[string]any)["name"] == fmt.Sprint(presenceBudget+4) {
			break
		}
	}
}

// TestLanes: to a client that lags what matters comes first; of presences only
// the newest, and beyond a bound one list.
func TestLanes(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	general, lobby := w.channelID(boss, "general"), w.channelID(boss, "Lobby")
	b := w.watch(boss)
	b.event("GUILD_CREATE")
	a := w.enter(ann)
	b.presenceOf(ann.id)
	b.breakOff()
	s := w.srv.hub.session(b.session)
	until(t, "the session is without a connection", func() bool { return !s.attached() })
	// While the boss is away Ann types, changes her presence twice, writes, and
	// joins a call.
	w.do("POST", "/channels/"+general+"/typing", ann.token, nil)
	for _, status := range []string{"idle", "dnd"} {
		a.send(3, map[string]any{"status": status})
	}
	w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "<@" + boss.id + "> hello"})
	a.joinVoice(w.guildID(), lobby, false)
	a.until("VOICE_SERVER_UPDATE")
	b = w.takeUp(b, boss)
	if c := b.event("MESSAGE_CREATE")["content"]; c != "<@"+boss.id+"> hello" {
		t.Errorf("first comes %v", c)
	}
	b.event("VOICE_STATE_UPDATE")
	b.event("RESUMED")
	if p := b.event("PRESENCE_UPDATE"); p["status"] != "dnd" {
		t.Errorf("presence %v", p)
	}
	// More presences than may wait: one list of all comes instead.
	b.breakOff()
	until(t, "the session is without a connection", func() bool { return !s.attached() })
	for i := range textchat.LateEvents + 1 {
		s.deliver(&gatewaysession.Event{Name: "PRESENCE_UPDATE", Body: []byte(`{"user":{"id":"1"}}`),
			Late: gatewaysession.Key{Kind: gatewaysession.Presence, Place: w.first.Guild, User: textchat.ID(1000 + i)}})
	}
	b = w.takeUp(b, boss)
	b.event("RESUMED")
	f := b.next()
	var list []map[string]any
	if err := json.Unmarshal(f.D, &list); f.T != "PRESENCES_REPLACE" || err != nil {
		t.Fatalf("got %s %s", f.T, f.D)
	}
	if len(list) != 2 {
		t.Errorf("the list has %v", list)
	}
	for _, p := range list {
		if p["guild_id"] != w.guildID() || p["status"] == "offline" {
			t.Errorf("the list has %v", p)
		}
	}
	// It was numbered when it was sent, so it is replayed like all others.
	b.last = f.S - 1
	b.breakOff()
	b = w.takeUp(b, boss)
	b.event("PRESENCES_REPLACE")
	b.event("RESUMED")
}

// until waits for what nobody tells.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func (s *session) attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
}

// takeUp resumes where a socket stopped.
func (w *world) takeUp(old *socket, p person) *socket {
	w.t.Helper()
	s := w.dial("?v=10")
	s.next()
	s.last, s.session = old.last, old.session
	s.send(6, map[string]any{"token": p.token, "session_id": old.session, "seq": old.last})
	return s
}

// TestTrim: a heartbeat that says what the client has empties the replay; what
// came later is still replayed.
func TestTrim(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	general := w.channelID(boss, "general")
	a := w.enter(ann)
	s := w.srv.hub.session(a.session)
	weight := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.replay.Weight()
	}
	if weight() == 0 {
		t.Fatal("nothing is kept for a client that has confirmed nothing")
	}
	for _, d := range []any{nil, 0, 1 << 40, -1, "x"} { // no client says so and means it
		a.send(1, d)
		a.next()
	}
	if weight() == 0 {
		t.Fatal("something else than a sequence emptied the replay")
	}
	a.send(1, a.last)
	if f := a.next(); f.Op != 11 {
		t.Fatalf("op %d", f.Op)
	}
	// The acknowledgement goes out before the replay is emptied: the next one is after.
	a.send(1, nil)
	a.next()
	if n := weight(); n != 0 {
		t.Errorf("%d bytes are kept for an idle client", n)
	}
	a.breakOff()
	w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": "x"})
	a = w.takeUp(a, ann)
	a.event("MESSAGE_CREATE")
	a.event("RESUMED")
	b := w.dial("?v=10")
	b.next()
	b.send(6, map[string]any{"token": ann.token, "session_id": a.session, "seq": 1})
	if f := b.next(); f.Op != 9 || strings.TrimSpace(string(f.D)) != "false" {
		t.Errorf("resume from what was confirmed long ago: op %d %s", f.Op, f.D)
	}
}
