package target

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"voicefleet/internal/snowflake"
)

// front is a server's REST in memory: a guild with an echo channel and two voice
// channels.
type front struct {
	mu      sync.Mutex
	next    snowflake.ID
	busy    int                           // answers of 429 before the next one
	rooms   map[snowflake.ID][]channel    // by guild
	owner   map[snowflake.ID]string       // by guild, the token
	members map[snowflake.ID][]string     // by guild, tokens
	users   map[string]snowflake.ID       // by token
	of      map[snowflake.ID]snowflake.ID // guild of a channel
	refused bool                          // nobody may make channels
}

const firstGuild = snowflake.ID(1)

func newFront() *front {
	return &front{
		next:    100,
		rooms:   map[snowflake.ID][]channel{firstGuild: {{2, 0, "text", false}, {3, 2, "Echo", true}, {4, 2, "Lobby", false}, {5, 2, "Den", false}}},
		owner:   make(map[snowflake.ID]string),
		members: make(map[snowflake.ID][]string),
		users:   map[string]snowflake.ID{"known": 90, "known2": 91},
		of:      make(map[snowflake.ID]snowflake.ID),
	}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	say := func(status int, body any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	if f.busy > 0 {
		f.busy--
		w.Header().Set("Retry-After", "0.01")
		say(http.StatusTooManyRequests, map[string]any{"message": "You are being rate limited.", "code": 0})
		return
	}
	var in struct {
		Name   string       `json:"name"`
		Type   int          `json:"type"`
		Guild  snowflake.ID `json:"guild_id"`
		Invite string       `json:"invite"`
	}
	body, _ := io.ReadAll(r.Body)
	if len(body) > 0 && json.Unmarshal(body, &in) != nil {
		say(http.StatusBadRequest, map[string]any{"message": "no JSON", "code": 50109})
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bot ")
	id := func() snowflake.ID { f.next++; return f.next }
	entry := func(guild snowflake.ID) {
		user := id()
		made := fmt.Sprint("token", user)
		f.users[made] = user
		f.members[guild] = append(f.members[guild], made)
		say(http.StatusCreated, map[string]any{"token": made, "user": map[string]any{"id": user}, "guild_id": guild})
	}
	route := r.Method + " " + r.URL.Path
	part := strings.Split(r.URL.Path, "/")
	last, _ := snowflake.Parse(part[len(part)-1])
	var inGuild snowflake.ID
	if len(part) > 4 {
		inGuild, _ = snowflake.Parse(part[4])
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/admin/") && token != "Bearer secret",
		strings.HasPrefix(r.URL.Path, "/api/v10/") && route != "POST /api/v10/auth/guest" && f.users[token] == 0:
		say(http.StatusUnauthorized, map[string]any{"message": "401: Unauthorized", "code": 0})
	case route == "GET /api/admin/guilds":
		say(http.StatusOK, []map[string]any{{"id": firstGuild}})
	case route == "POST /api/admin/bots":
		entry(in.Guild)
	case route == "POST /api/v10/auth/guest" && in.Invite == "code":
		entry(firstGuild)
	case route == "GET /api/v10/users/@me":
		say(http.StatusOK, map[string]any{"id": f.users[token]})
	case route == "POST /api/v10/guilds":
		guild := id()
		f.owner[guild] = token
		f.members[guild] = []string{token}
		say(http.StatusCreated, map[string]any{"id": guild})
	case r.Method == "GET" && strings.HasSuffix(r.URL.Path, "/channels"):
		say(http.StatusOK, f.rooms[inGuild])
	case r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/channels"):
		if f.refused || f.owner[inGuild] != token && inGuild != firstGuild {
			say(http.StatusForbidden, map[string]any{"message": "Missing Permissions", "code": 50013})
			return
		}
		c := channel{ID: id(), Type: in.Type, Name: in.Name}
		f.rooms[inGuild] = append(f.rooms[inGuild], c)
		f.of[c.ID] = inGuild
		say(http.StatusCreated, c)
	case r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/api/v10/channels/"):
		guild := f.of[last]
		f.rooms[guild] = slices.DeleteFunc(f.rooms[guild], func(c channel) bool { return c.ID == last })
		say(http.StatusOK, map[string]any{})
	case r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/api/v10/users/@me/guilds/"):
		f.members[last] = slices.DeleteFunc(f.members[last], func(m string) bool { return m == token })
		w.WriteHeader(http.StatusNoContent)
	default:
		say(http.StatusNotFound, map[string]any{"message": "404: Not Found", "code": 0})
	}
}

// serve starts a front and a data folder that leads to it.
func serve(t *testing.T) (f *front, url, data string) {
	t.Helper()
	f = newFront()
	h := httptest.NewServer(f)
	t.Cleanup(h.Close)
	return f, h.URL, folder(t, h.URL, "secret")
}

func folder(t *testing.T, url, token string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"admin.url": url + "\n", "admin.token": token + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t *testing.T, c RemoteConfig) *Remote {
	t.Helper()
	r, err := OpenRemote(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Rooms beyond the first are made in guilds of the run's own, every account is in
// the guild of its room, and nothing of it stays.
func TestRoomsOfOurOwn(t *testing.T) {
	f, url, data := serve(t)
	f.busy = 2 // is waited for
	r := open(t, RemoteConfig{Data: data})
	if r.URL() != url || r.Room() != (Room{firstGuild, 4, "Lobby"}) {
		t.Errorf("%s, %+v", r.URL(), r.Room())
	}
	const n = 2*roomsPerGuild + 5
	rooms, err := r.Rooms(t.Context(), n)
	if err != nil || len(rooms) != n || rooms[0] != r.Room() {
		t.Fatalf("%d rooms, %v", len(rooms), err)
	}
	guilds, names := make(map[snowflake.ID]int), make(map[string]bool)
	for _, room := range rooms {
		guilds[room.Guild]++
		names[room.Name] = true
	}
	if len(guilds) != 4 || guilds[firstGuild] != 1 || len(names) != n {
		t.Errorf("guilds %v, %d names", guilds, len(names))
	}
	if again, err := r.Rooms(t.Context(), 3); err != nil || !slices.Equal(again, rooms[:3]) {
		t.Errorf("asked again: %v, %v", again, err)
	}
	accounts, err := r.Accounts(t.Context(), rooms)
	if err != nil {
		t.Fatal(err)
	}
	tokens := make(map[string]bool)
	for i, a := range accounts {
		tokens[a.Token] = true
		if a.Guild != rooms[i].Guild || a.User == 0 || !strings.HasPrefix(a.Token, "Bot ") {
			t.Fatalf("account %d: %+v in %+v", i, a, rooms[i])
		}
	}
	if len(tokens) != n {
		t.Errorf("%d accounts for %d seats", len(tokens), n)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for guild, rooms := range f.rooms {
		if guild != firstGuild && len(rooms) != 0 || guild == firstGuild && len(rooms) != 4 {
			t.Errorf("guild %v has rooms %v", guild, rooms)
		}
	}
	for guild, members := range f.members {
		if guild == firstGuild && len(members) != 0 || guild != firstGuild && !slices.Equal(members, []string{f.owner[guild]}) {
			t.Errorf("guild %v has members %v", guild, members)
		}
	}
}

// With tokens the rooms are made in their guild, if they may.
func TestRoomsByTokens(t *testing.T) {
	f, url, _ := serve(t)
	r := open(t, RemoteConfig{Server: url + "/", Tokens: []string{"known", "Bot known2"}, Guild: "1", Channel: "Den"})
	rooms, err := r.Rooms(t.Context(), 3)
	if err != nil || rooms[0].Name != "Den" || rooms[2].Guild != firstGuild || rooms[1].Channel == rooms[2].Channel || rooms[1].Name != "bench-1" {
		t.Errorf("%+v, %v", rooms, err)
	}
	if a, err := r.Accounts(t.Context(), rooms[:2]); err != nil || a[0].User != 90 || a[1].User != 91 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := r.Accounts(t.Context(), rooms); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("too few tokens: %v", err)
	}
	if err := r.Close(t.Context()); err != nil || len(f.rooms[firstGuild]) != 4 {
		t.Errorf("%v, %v", f.rooms[firstGuild], err)
	}
	f.refused = true
	if _, err := r.Rooms(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "may not") || !strings.Contains(err.Error(), "Missing Permissions") {
		t.Errorf("refused: %v", err)
	}
}

// Guests use the rooms there are.
func TestRoomsOfGuests(t *testing.T) {
	_, url, _ := serve(t)
	r := open(t, RemoteConfig{Server: url, Invite: url + "/invite/code"})
	if a, err := r.Account(t.Context(), 1); err != nil || a.Guild != firstGuild || a == r.first {
		t.Errorf("%+v, %v", a, err)
	}
	if rooms, err := r.Rooms(t.Context(), 2); err != nil || rooms[1].Name != "Den" {
		t.Errorf("%+v, %v", rooms, err)
	}
	if _, err := r.Rooms(t.Context(), 3); err == nil || !strings.Contains(err.Error(), "has 2 voice channels") {
		t.Errorf("%v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is in the way of a server is told with what to do.
func TestNoWayIn(t *testing.T) {
	_, url, data := serve(t)
	secure := httptest.NewUnstartedServer(newFront())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	words := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer words.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(none, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config RemoteConfig
		want   []string // none: it opens
	}{
		"data":        {RemoteConfig{Data: data}, nil},
		"trusted":     {RemoteConfig{Server: secure.URL, Invite: "code", CA: ca}, nil},
		"insecure":    {RemoteConfig{Server: secure.URL, Invite: "code", Insecure: true}, nil},
		"untrusted":   {RemoteConfig{Server: secure.URL, Invite: "code"}, []string{"not trusted", "--ca", "--insecure", "/ca.pem"}},
		"closed port": {RemoteConfig{Server: closed.URL, Invite: "code"}, []string{"cannot be reached", "connection refused", closed.URL}},
		"no TLS":      {RemoteConfig{Server: "https" + strings.TrimPrefix(url, "http"), Invite: "code"}, []string{"http://"}},
		"token":       {RemoteConfig{Server: url, Tokens: []string{"stranger"}, Guild: "1"}, []string{"refuses the login", "token"}},
		"admin token": {RemoteConfig{Data: folder(t, url, "old")}, []string{"refuses the login", "data folder"}},
		"invite":      {RemoteConfig{Server: url, Invite: "void"}, []string{"404"}},
		"no data":     {RemoteConfig{Data: "no-such-folder"}, []string{"does it run?"}},
		"no way":      {RemoteConfig{Server: url}, []string{"a way in"}},
		"no URL":      {RemoteConfig{Server: "voice.example", Invite: "x"}, []string{"no http or https URL"}},
		"no guild":    {RemoteConfig{Server: url, Tokens: []string{"known"}}, []string{"need the guild"}},
		"bad guild":   {RemoteConfig{Server: url, Tokens: []string{"known"}, Guild: "home"}, []string{"no id"}},
		"no channel":  {RemoteConfig{Data: data, Channel: "Attic"}, []string{`"Attic"`}},
		"no file":     {RemoteConfig{Server: url, Invite: "x", CA: "no-such-file"}, []string{"read certificates"}},
		"empty file":  {RemoteConfig{Server: url, Invite: "x", CA: none}, []string{"holds none"}},
		"other":       {RemoteConfig{Server: words.URL, Invite: "x"}, []string{"voicefleet server?"}},
		"shape":       {RemoteConfig{Data: data, Shape: Shape{AtOnce: -1}}, []string{"at once"}},
	} {
		r, err := OpenRemote(t.Context(), test.config)
		if err == nil {
			err = r.Close(t.Context())
			if len(test.want) > 0 {
				t.Errorf("%s: opened", name)
			}
		}
		if len(test.want) == 0 && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
}

func TestInviteCode(t *testing.T) {
	for in, want := range map[string]string{"abc": "abc", "https://h:8443/invite/abc": "abc", " https://h/#abc/ ": "abc", "http://h/?invite=abc": "abc"} {
		if got := inviteCode(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
