package chatserver

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/sqlite"
)

// heldStore is a store of which one guild takes its time, or whose reads fail.
type heldStore struct {
	textchat.Store
	guild atomic.Uint64  // that one; zero: reads of tokens fail, and no guild is held
	held  chan struct{}  // closed when it may be read
	begun chan time.Time // deadlines of its readings

	busy   atomic.Int64 // how many readings are to fail first
	tokens atomic.Int64 // that were asked for
}

func (s *heldStore) refuses() bool {
	for {
		n := s.busy.Load()
		if n == 0 {
			return false
		}
		if s.busy.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

func (s *heldStore) Guild(ctx context.Context, id textchat.ID) (textchat.GuildRecord, error) {
	if uint64(id) == s.guild.Load() {
		if s.refuses() {
			return textchat.GuildRecord{}, textchat.ErrUnsure
		}
		deadline, _ := ctx.Deadline()
		s.begun <- deadline
		select {
		case <-s.held:
		case <-ctx.Done():
			return textchat.GuildRecord{}, ctx.Err()
		}
	}
	return s.Store.Guild(ctx, id)
}

func (s *heldStore) TokenUser(ctx context.Context, token textchat.TokenHash) (textchat.User, error) {
	s.tokens.Add(1)
	if s.guild.Load() == 0 && s.refuses() {
		return textchat.User{}, textchat.ErrUnsure
	}
	return s.Store.TokenUser(ctx, token)
}

// heldWorld is a world with such a store, in which one session may begin at once.
func heldWorld(t *testing.T) (*world, *heldStore) {
	embedded, err := sqlite.Open(t.TempDir(), sqlite.Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { embedded.Close() })
	store := &heldStore{Store: embedded, held: make(chan struct{}), begun: make(chan time.Time, 100)}
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Store, c.Limits.Identifying = store, 1 },
		func(s *Server) { s.idleTime = 20 * time.Millisecond })
	return w, store
}

// knock connects and identifies.
func (w *world) knock(p person) *socket {
	w.t.Helper()
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(p.token, allIntents))
	return s
}

// TestGuildThatTakesLong: while a guild is being loaded, however long, sessions begin, more
// than may at once; other guilds come at once; and when it is there everybody has it, and
// what was said meanwhile is heard.
func TestGuildThatTakesLong(t *testing.T) {
	w, store := heldWorld(t)
	members := []person{w.guest("Ann"), w.guest("Bob"), w.guest("Cy"), w.guest("Dan")}
	boss := w.boss()
	lobby := w.channelID(boss, "Lobby")
	own := w.do("POST", "/guilds", boss.token, map[string]any{"name": "small"}).body["id"]
	w.asleep(t)
	store.guild.Store(uint64(w.first.Guild))
	var sockets []*socket
	for _, p := range members {
		s := w.knock(p)
		s.event("READY")
		sockets = append(sockets, s)
	}
	deadline := <-store.begun
	if left := time.Until(deadline); left < 2*askTimeout {
		t.Errorf("a guild is read for %v at most: less than one may take of which several begin to be loaded", left)
	}
	sockets[0].joinVoice(w.guildID(), lobby, false)
	b := w.knock(boss)
	b.event("READY")
	if g := b.event("GUILD_CREATE"); g["id"] != own {
		t.Errorf("the other guild is %v", g["id"])
	}
	close(store.held)
	for _, s := range append(sockets, b) {
		if g := s.until("GUILD_CREATE"); g["id"] != w.guildID() {
			t.Errorf("the guild is %v", g["id"])
		}
	}
	w.voice.expect(t, "place "+members[0].id)
	if n := len(store.begun); n > 0 {
		t.Errorf("the guild was read %d times more", n)
	}
}

// TestGuildThatFails: a guild that cannot be loaded when a session begins comes later,
// though nobody asks for it any more.
func TestGuildThatFails(t *testing.T) {
	w, store := heldWorld(t)
	ann := w.guest("Ann")
	w.asleep(t)
	store.guild.Store(uint64(w.first.Guild))
	store.busy.Store(1)
	close(store.held)
	a := w.knock(ann)
	a.event("READY")
	a.event("GUILD_CREATE")
	if n := store.busy.Load(); n != 0 {
		t.Errorf("%d readings did not fail", n)
	}
}

// TestNewcomersWhoLeft: sessions that end while their guild cannot be loaded are not kept.
func TestNewcomersWhoLeft(t *testing.T) {
	w, store := heldWorld(t)
	ann := w.guest("Ann")
	w.asleep(t)
	store.guild.Store(uint64(w.first.Guild))
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	store.busy.Store(1 << 40)
	s := w.knock(ann)
	s.event("READY")
	until(t, "the session waits", o.newcomers.waiting)
	s.ws.WriteClose(1000, nil)
	until(t, "nobody waits", func() bool { return !o.newcomers.waiting() })
}

// TestCrowdAsksNothing: who is told to come later, and who is not let in to resume, costs
// the store nothing, however often it comes.
func TestCrowdAsksNothing(t *testing.T) {
	w, store := heldWorld(t)
	ann := w.guest("Ann")
	crowd := cap(w.srv.gate.queue)
	for range crowd {
		w.srv.gate.queue <- struct{}{}
	}
	asked := store.tokens.Load()
	s := w.dial("?v=10")
	s.next()
	for range 3 {
		s.send(2, identify(ann.token, allIntents))
		if f := s.next(); f.Op != 9 || f.Retry < 1 || f.Retry > 10 {
			t.Fatalf("in a crowd: op %d %s, come back in %v s", f.Op, f.D, f.Retry)
		}
	}
	resume := w.dial("?v=10")
	resume.next()
	resume.send(6, map[string]any{"token": ann.token, "session_id": "of another server", "seq": 3})
	if code := resume.closeCode(); code != 4000 {
		t.Errorf("resuming in a crowd: %d", code)
	}
	none := w.dial("?v=10")
	none.next()
	none.send(2, identify("no token", allIntents))
	if code := none.closeCode(); code != 4004 {
		t.Errorf("no token, in a crowd: %d", code)
	}
	if n := store.tokens.Load() - asked; n != 0 {
		t.Errorf("the store was asked for %d tokens", n)
	}
	for range crowd {
		<-w.srv.gate.queue
	}
	s.send(2, identify(ann.token, allIntents))
	s.event("READY")
}

// TestStoreWithoutTime: who comes while the store is too busy is told when to come back,
// on a connection that stays.
func TestStoreWithoutTime(t *testing.T) {
	w, store := heldWorld(t)
	ann := w.guest("Ann")
	store.busy.Store(1)
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(ann.token, allIntents))
	if f := s.next(); f.Op != 9 || string(f.D) != "false" || f.Retry < 1 || f.Retry > 10 {
		t.Fatalf("the store is busy: op %d %s, come back in %v s", f.Op, f.D, f.Retry)
	}
	s.send(2, identify(ann.token, allIntents))
	s.event("READY")
}

// TestWaitingIsNotLate: a connection has the time to Identify, from when it came or from
// when it was to wait until, and then no more.
func TestWaitingIsNotLate(t *testing.T) {
	opened := time.Unix(1_800_000_000, 0)
	c := &conn{srv: &Server{identifyTimeout: 5 * time.Second}, opened: opened}
	for _, step := range []struct {
		told, at time.Duration
		late     bool
	}{{0, 4 * time.Second, false}, {0, 5 * time.Second, true}, {7 * time.Second, 11 * time.Second, false}, {0, 12 * time.Second, true}} {
		if step.told != 0 {
			c.patient(opened.Add(step.told))
		}
		if got := c.overdue(opened.Add(step.at)); got != step.late {
			t.Errorf("%v after it came it is late: %v", step.at, got)
		}
	}
}

// TestLaterIsBounded: a connection that is to come back tomorrow does not stay until then.
func TestLaterIsBounded(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Starts = 1 }, nil)
	bot := person{token: "Bot " + w.do("POST", "/api/admin/bots", "Bearer let-me-in", map[string]any{"name": "Beep", "guild_id": w.guildID()}).body["token"].(string)}
	w.enter(bot)
	s := w.knock(bot)
	if f := s.next(); f.Op != 9 || f.Retry < 3600 {
		t.Fatalf("one too many: op %d, come back in %v s", f.Op, f.Retry)
	}
	w.srv.hub.mu.Lock()
	defer w.srv.hub.mu.Unlock()
	found := errors.New("no connection waits")
	for c := range w.srv.hub.conns {
		if c.beat.Load() == 0 {
			found = nil
			if !c.overdue(time.Now().Add(laterMost + textchat.IdentifyTimeout)) {
				t.Error("it may stay for longer")
			}
			if c.overdue(time.Now().Add(laterMost - time.Second)) {
				t.Error("it may not stay for a while")
			}
		}
	}
	if found != nil {
		t.Error(found)
	}
}
