package chatserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/sqlite"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// voiceSide is a Placer, Presence and Moves in memory.
type voiceSide struct {
	mu      sync.Mutex
	n       int
	orders  []string
	last    allocator.PlaceRequest
	notify  []func(edgeagent.CallEvent)
	moved   []func(allocator.Moved)
	epoch   uint64 // of the calls
	node    edgeagent.NodeID
	busy    int // placements under way
	busiest int
	refuse  error
	unheard int                // removals to come that nobody answers
	key     ed25519.PrivateKey // when set, tokens are grants signed by it
	hold    chan struct{}      // when set, Place waits for it, or to be cancelled
	parked  chan struct{}      // when set, Remove waits for it
	arrived chan string        // every order, as it comes

	subscribed chan struct{} // one for each Run that listens
}

func newVoiceSide() *voiceSide {
	return &voiceSide{node: "n1", epoch: 1, arrived: make(chan string, 1000), subscribed: make(chan struct{}, 10)}
}

func (v *voiceSide) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	v.orders = append(v.orders, s)
	v.arrived <- s
}

func (v *voiceSide) Move(_ context.Context, r allocator.MoveRequest) (allocator.MoveReply, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("move %v to %s by %s, %s", r.Call, r.Region, r.By, r.Cause)
	return allocator.MoveReply{Node: v.node, Epoch: v.epoch}, v.refuse
}

func (v *voiceSide) Place(ctx context.Context, r allocator.PlaceRequest) (allocator.Assignment, error) {
	v.mu.Lock()
	v.note("place %v speak=%v mute=%v deaf=%v echo=%v", r.User, r.Rights.Speak, r.Rights.Mute, r.Rights.Deaf, r.Echo)
	v.n++
	v.last = r
	n, hold, refuse, node, epoch, key := v.n, v.hold, v.refuse, v.node, v.epoch, v.key
	v.busy++
	v.busiest = max(v.busiest, v.busy)
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		v.busy--
		v.mu.Unlock()
	}()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return allocator.Assignment{}, ctx.Err()
			}
			<-hold
		}
	}
	if refuse != nil {
		return allocator.Assignment{}, refuse
	}
	a := allocator.Assignment{Node: node, Epoch: epoch, Session: sfu.SessionID(fmt.Sprintf("vs%d", n)), Token: fmt.Sprintf("grant%d", n),
		Endpoints: []string{":8443", "voice.example:443"}}
	if key == nil {
		return a, nil
	}
	var err error
	a.Token, err = edgeagent.SignGrant(key, edgeagent.Grant{ID: a.Session, Node: node, Guild: r.Guild, Call: r.Call, Epoch: epoch, User: r.User,
		Session: r.Session, Rights: r.Rights, Echo: r.Echo, Expires: time.Now().Add(edgeagent.GrantLife)})
	return a, err
}

func (v *voiceSide) Update(_ context.Context, r allocator.UpdateRequest) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("update %v speak=%v mute=%v deaf=%v", r.User, r.Rights.Speak, r.Rights.Mute, r.Rights.Deaf)
	return nil
}

func (v *voiceSide) Remove(_ context.Context, r allocator.RemoveRequest) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := ""
	if r.Session != "" {
		of = " of " + string(r.Session)
	}
	v.note("remove %v %s%s", r.User, r.Reason, of)
	if parked := v.parked; parked != nil {
		v.mu.Unlock()
		<-parked
		v.mu.Lock()
	}
	if v.unheard > 0 {
		v.unheard--
		return allocator.Refuse(allocator.CodeUnavailable, "nobody answers")
	}
	return nil
}

func (v *voiceSide) SubscribePresence(f func(edgeagent.CallEvent)) (func(), error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notify = append(v.notify, f)
	v.subscribed <- struct{}{}
	return func() {}, nil
}

func (v *voiceSide) SubscribeMoved(f func(allocator.Moved)) (func(), error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.moved = append(v.moved, f)
	return func() {}, nil
}

// move puts a call on another node and tells of it.
func (v *voiceSide) move(m allocator.Moved) {
	v.mu.Lock()
	v.node, v.epoch = m.To, m.Epoch
	list := v.moved
	v.mu.Unlock()
	for _, f := range list {
		f(m)
	}
}

func (v *voiceSide) tell(e edgeagent.CallEvent) {
	v.mu.Lock()
	list := v.notify
	v.mu.Unlock()
	for _, f := range list {
		f(e)
	}
}

// expect waits for an order that begins with want. Before it others may come that begin
// with one of besides.
func (v *voiceSide) expect(t testing.TB, want string, besides ...string) {
	t.Helper()
	for {
		select {
		case got := <-v.arrived:
			if strings.HasPrefix(got, want) {
				return
			}
			if !slices.ContainsFunc(besides, func(b string) bool { return strings.HasPrefix(got, b) }) {
				t.Fatalf("voice side was told %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("voice side was not told %q", want)
		}
	}
}

// world is a running server.
type world struct {
	t     testing.TB
	srv   *Server
	http  *httptest.Server
	first FirstGuild
	voice *voiceSide
	end   func()
}

// newWorld starts a server over dir; change may alter its config, tweak the
// server before it runs.
func newWorld(t testing.TB, dir string, change func(*Config), tweak func(*Server)) *world {
	t.Helper()
	v := newVoiceSide()
	cfg := Config{DataDir: dir, Placer: v, Presence: v, Moves: v, AdminToken: "let-me-in", patience: time.Minute,
		Limits: Limits{Guests: 1e6, Registers: 1e6, Logins: 1e6, Invites: 1e6, Requests: 1e6, Attempts: 1e6, Messages: 1e6}}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if tweak != nil {
		tweak(s)
	}
	first, err := s.Bootstrap(context.Background(), "Voicefleet")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	h := httptest.NewServer(s.Handler())
	var once sync.Once
	end := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			h.Close()
		})
	}
	t.Cleanup(end)
	if p, ok := cfg.Presence.(*voiceSide); ok {
		<-p.subscribed
	}
	return &world{t: t, srv: s, http: h, first: first, voice: v, end: end}
}

// newWorldOver is one whose store is made of an embedded one.
func newWorldOver(t *testing.T, over func(embedded textchat.Store) textchat.Store) *world {
	t.Helper()
	dir := t.TempDir()
	embedded, err := sqlite.Open(dir, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = embedded.Close() })
	return newWorld(t, dir, func(c *Config) { c.Store = over(embedded) }, nil)
}

// answer is a REST answer.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// try makes a request below /api/v10; body may be a string, a value or nil.
func (w *world) try(method, path, token string, body any) answer {
	w.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	if !strings.HasPrefix(path, "/api") {
		path = "/api/v10" + path
	}
	req, err := http.NewRequest(method, w.http.URL+path, r)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := w.http.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw}
	_ = json.Unmarshal(raw, &a.body)
	return a
}

// do is try that must succeed.
func (w *world) do(method, path, token string, body any) answer {
	w.t.Helper()
	a := w.try(method, path, token, body)
	if a.status >= 300 {
		w.t.Fatalf("%s %s: %d %s", method, path, a.status, a.raw)
	}
	return a
}

// person is an account with its token.
type person struct {
	id, token string
}

func (w *world) guest(name string) person {
	w.t.Helper()
	a := w.do("POST", "/auth/guest", "", map[string]any{"invite": w.first.Invite, "nickname": name})
	return person{a.body["user"].(map[string]any)["id"].(string), a.body["token"].(string)}
}

func (w *world) boss() person {
	w.t.Helper()
	a := w.do("POST", "/auth/owner", "", map[string]any{"code": w.first.OwnerCode, "username": "boss", "password": "correct horse"})
	return person{a.body["user"].(map[string]any)["id"].(string), a.body["token"].(string)}
}

// channelID finds a channel of the first guild by name.
func (w *world) channelID(p person, name string) string {
	w.t.Helper()
	var list []map[string]any
	if err := json.Unmarshal(w.do("GET", "/guilds/"+w.guildID()+"/channels", p.token, nil).raw, &list); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range list {
		if c["name"] == name {
			return c["id"].(string)
		}
	}
	w.t.Fatalf("no channel %q", name)
	return ""
}

func (w *world) guildID() string { return w.first.Guild.String() }

// frame is a gateway frame.
type frame struct {
	Op int             `json:"op"`
	T  string          `json:"t"`
	S  uint64          `json:"s"`
	D  json.RawMessage `json:"d"`

	Retry float64 `json:"retry_after"`
}

func (f frame) data() map[string]any {
	var m map[string]any
	_ = json.Unmarshal(f.D, &m)
	return m
}

// socket is a gateway client.
type socket struct {
	gws.BuiltinEventHandler
	t       testing.TB
	ws      *gws.Conn
	inflate func([]byte) []byte
	frames  chan frame
	closed  chan uint16
	session string
	last    uint64
	leaps   bool // numbers of events grow, and not by one
	// guildChannels are those of the first GUILD_CREATE.
	guildChannels []any
}

func (s *socket) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	b := bytes.Clone(m.Bytes())
	if s.inflate != nil && m.Opcode == gws.OpcodeBinary {
		b = s.inflate(b)
	}
	var f frame
	if err := json.Unmarshal(b, &f); err != nil {
		s.t.Errorf("server sent %q: %v", b, err)
	}
	s.frames <- f
}

func (s *socket) OnClose(_ *gws.Conn, err error) {
	code := uint16(1006)
	if e := (*gws.CloseError)(nil); errors.As(err, &e) {
		code = e.Code
	}
	s.closed <- code
}

func (w *world) dial(query string) *socket {
	w.t.Helper()
	return w.dialWith(query, nil)
}

// dialWith reads binary frames by inflate.
func (w *world) dialWith(query string, inflate func([]byte) []byte) *socket {
	w.t.Helper()
	s := &socket{t: w.t, inflate: inflate, frames: make(chan frame, 10000), closed: make(chan uint16, 1), leaps: w.srv.ensemble != nil}
	ws, _, err := gws.NewClient(s, &gws.ClientOption{Addr: "ws" + strings.TrimPrefix(w.http.URL, "http") + "/gateway" + query})
	if err != nil {
		w.t.Fatal(err)
	}
	s.ws = ws
	go ws.ReadLoop()
	w.t.Cleanup(func() { ws.NetConn().Close() })
	return s
}

func (s *socket) send(op int, d any) {
	s.t.Helper()
	b, err := json.Marshal(map[string]any{"op": op, "d": d})
	if err != nil {
		s.t.Fatal(err)
	}
	s.raw(string(b))
}

func (s *socket) raw(text string) {
	_ = s.ws.WriteMessage(gws.OpcodeText, []byte(text))
}

// next is the next frame.
func (s *socket) next() frame {
	s.t.Helper()
	select {
	case f := <-s.frames:
		if f.Op == 0 {
			if f.S <= s.last || !s.leaps && f.S != s.last+1 {
				s.t.Fatalf("sequence %d after %d (%s)", f.S, s.last, f.T)
			}
			s.last = f.S
		}
		return f
	case <-time.After(patience):
		s.t.Fatal("no frame came")
		return frame{}
	}
}

// until skips frames up to an event of this name.
func (s *socket) until(name string) map[string]any {
	s.t.Helper()
	for {
		f := s.next()
		if f.T == name {
			return f.data()
		}
	}
}

// event is the next frame, which must be this event.
func (s *socket) event(name string) map[string]any {
	s.t.Helper()
	f := s.next()
	if f.T != name {
		s.t.Fatalf("got op %d %s %s, want %s", f.Op, f.T, f.D, name)
	}
	return f.data()
}

func (s *socket) closeCode() uint16 {
	s.t.Helper()
	select {
	case c := <-s.closed:
		return c
	case <-time.After(patience):
		s.t.Fatal("connection was not closed")
		return 0
	}
}

// breakOff ends the connection without a word.
func (s *socket) breakOff() {
	s.ws.NetConn().Close()
	s.closeCode()
}

// allIntents are all but presences: those come at moments of their own.
const allIntents = int(textchat.IntentsKnown &^ textchat.IntentPresences)

func identify(token string, intents int) map[string]any {
	return map[string]any{"token": token, "intents": intents, "properties": map[string]any{"os": "linux", "browser": "test", "device": "test"}}
}

// enter connects, identifies and waits for the first guild.
func (w *world) enter(p person) *socket {
	w.t.Helper()
	s := w.dial("?v=10&encoding=json")
	if f := s.next(); f.Op != 10 {
		w.t.Fatalf("first frame has op %d", f.Op)
	}
	s.send(2, identify(p.token, allIntents))
	s.session = s.event("READY")["session_id"].(string)
	s.guildChannels = s.event("GUILD_CREATE")["channels"].([]any)
	return s
}

// joinVoice sends op 4.
func (s *socket) joinVoice(guild string, channel any, mute bool) {
	s.t.Helper()
	s.send(4, map[string]any{"guild_id": guild, "channel_id": channel, "self_mute": mute, "self_deaf": false})
}
