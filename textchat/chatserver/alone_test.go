package chatserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/internal/journal"
	"voicefleet/textchat/internal/sqlite"
)

// lone is a server that is alone, life after life on one store.
type lone struct {
	*world
	store textchat.Store
	files Files
	voice *voiceSide
	told  string
	now   func() time.Time // of the journal
	tweak func(*Server)
}

func newLone(t *testing.T) *lone {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(dir, sqlite.Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	files, err := filestore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{store: store, files: files, voice: newVoiceSide(), told: t.TempDir()}
	l.live(t)
	return l
}

func (l *lone) live(t *testing.T) {
	t.Helper()
	l.world = newWorld(t, "", func(c *Config) {
		c.Store, c.Files, c.Told, c.toldNow = l.store, l.files, l.told, l.now
		c.Placer, c.Presence, c.Moves = l.voice, l.voice, l.voice
	}, l.tweak)
	l.world.voice = l.voice
}

// killed has the next life begin with what this one has written by now, and nothing of
// what it does as it ends.
func (l *lone) killed(t *testing.T) {
	t.Helper()
	told := t.TempDir()
	if err := os.CopyFS(told, os.DirFS(l.told)); err != nil {
		t.Fatal(err)
	}
	l.told = told
	l.end()
	l.live(t)
}

// ended has it end as told to, and begin anew.
func (l *lone) ended(t *testing.T) {
	t.Helper()
	l.end()
	l.live(t)
}

// resume goes on with the session of s.
func (l *lone) resume(p person, s *socket) *socket {
	l.t.Helper()
	again := l.dial("?v=10&encoding=json")
	again.next()
	again.session, again.last, again.guildChannels = s.session, s.last, s.guildChannels
	again.send(6, map[string]any{"token": p.token, "session_id": s.session, "seq": s.last})
	return again
}

// TestAloneResume holds that sessions go on over the ends of a server that is alone,
// however it ends, life after life: what was acknowledged comes once, in order, of guilds
// and of private channels.
func TestAloneResume(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	ann, bob := l.guest("ann"), l.guest("bob")
	as := l.enter(ann)
	general := l.channelID(bob, "general")
	dm := l.do("POST", "/users/@me/channels", bob.token, map[string]any{"recipient_id": ann.id}).body["id"].(string)
	wrote, read := 0, 0
	post := func() {
		for _, channel := range []string{general, dm} {
			wrote++
			l.do("POST", "/channels/"+channel+"/messages", bob.token, map[string]any{"content": fmt.Sprint(wrote)})
		}
	}
	hears := func() {
		t.Helper()
		seen := map[string]int{}
		for range wrote - read {
			seen[as.until("MESSAGE_CREATE")["content"].(string)]++
		}
		for read < wrote {
			read++
			if n := seen[fmt.Sprint(read)]; n != 1 {
				t.Errorf("message %d came %d times", read, n)
			}
		}
	}
	post()
	hears()
	for i, end := range []func(*testing.T){l.killed, l.ended, l.killed, l.killed, l.ended} {
		as.breakOff()
		post()
		post()
		end(t)
		post()
		as = l.resume(ann, as)
		hears()
		for f := as.next(); f.T != "RESUMED"; f = as.next() { // of which nothing comes twice
			if f.Op == 9 || f.T == "MESSAGE_CREATE" || f.T == "GUILD_CREATE" {
				t.Fatalf("in life %d came op %d %s", i+2, f.Op, f.T)
			}
		}
		if i%2 == 0 { // else it is gone again with nothing but that
			post()
			hears()
		}
	}
}

// TestAloneAgain holds that who tries again with a nonce what a server was killed over
// has everybody told of it once.
func TestAloneAgain(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	ann, bob := l.guest("ann"), l.guest("bob")
	as := l.enter(ann)
	dm := l.do("POST", "/users/@me/channels", bob.token, map[string]any{"recipient_id": ann.id}).body["id"].(string)
	as.breakOff()
	for _, channel := range []string{l.channelID(bob, "general"), dm} {
		say := func() string {
			return l.do("POST", "/channels/"+channel+"/messages", bob.token, map[string]any{"content": "hello", "nonce": "n1", "enforce_nonce": true}).body["id"].(string)
		}
		first := say()
		l.killed(t)
		if again := say(); again != first {
			t.Errorf("it was said twice: %s, %s", first, again)
		}
	}
	as = l.resume(ann, as)
	n := 0
	for f := as.next(); f.T != "RESUMED"; f = as.next() {
		if f.Op == 9 {
			t.Fatal("the session cannot be resumed")
		}
		if f.T == "MESSAGE_CREATE" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("ann hears it %d times, want once in each channel", n)
	}
}

// talk has ann in the lobby by session vs1, which bob sees, before both are cut off.
func (l *lone) talk(t *testing.T, ann, bob person) (as, bs *socket, call sfu.CallID) {
	t.Helper()
	as, bs = l.enter(ann), l.enter(bob)
	lobby := l.channelID(ann, "Lobby")
	as.joinVoice(l.guildID(), lobby, false)
	l.voice.expect(t, "place "+ann.id)
	as.until("VOICE_SERVER_UPDATE")
	channel, err := snowflake.Parse(lobby)
	if err != nil {
		t.Fatal(err)
	}
	call = sfu.CallID{ID: channel}
	l.voice.tell(edgeagent.CallEvent{Call: call, Opened: &edgeagent.SessionStart{Session: "vs1", User: ann.user()}})
	bs.until("VOICE_STATE_UPDATE")
	as.breakOff()
	bs.breakOff()
	return as, bs, call
}

// TestAloneVoice holds that who is in voice is so after the server was killed, that the
// node is asked for each session, and that a user whose call has ended has a new seat.
func TestAloneVoice(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	ann, bob := l.guest("ann"), l.guest("bob")
	as, bs, call := l.talk(t, ann, bob)
	l.killed(t)
	l.voice.expect(t, "update "+ann.id) // whether the node has it
	as = l.resume(ann, as)
	as.until("RESUMED")
	cs := l.dial("?v=10&encoding=json")
	cs.next()
	cs.send(2, identify(l.guest("cat").token, allIntents))
	cs.event("READY")
	states := cs.event("GUILD_CREATE")["voice_states"].([]any)
	if len(states) != 1 || states[0].(map[string]any)["user_id"] != ann.id {
		t.Fatalf("cat sees %v", states)
	}
	l.voice.tell(edgeagent.CallEvent{Call: call, Left: &edgeagent.Left{Session: "vs1", User: ann.user(), Reason: edgeagent.EngineLost}})
	l.voice.expect(t, "place "+ann.id)
	as.until("VOICE_SERVER_UPDATE")
	as.joinVoice(l.guildID(), nil, false)
	l.voice.expect(t, "remove "+ann.id)
	bs = l.resume(bob, bs)
	for {
		f := bs.next()
		if f.T == "VOICE_STATE_UPDATE" && f.data()["channel_id"] == nil {
			break
		}
		if f.Op == 9 {
			t.Fatal("bob's session cannot be resumed")
		}
	}
}

// TestAloneUntold holds that sessions have what the store was told of a guild and nobody
// else, as the server was killed in between.
func TestAloneUntold(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	ann := l.guest("ann")
	as := l.enter(ann)
	as.breakOff()
	o, err := l.srv.owner(l.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	c := textchat.Channel{ID: l.srv.newID(), Guild: l.first.Guild, Name: "untold", Type: textchat.ChannelText}
	if !o.saving() {
		t.Fatal("it cannot be noted")
	}
	if err := l.store.Save(t.Context(), l.first.Guild, []textchat.Change{{PutChannel: &c}}); err != nil {
		t.Fatal(err)
	}
	l.killed(t)
	l.channelID(ann, "general") // the guild is loaded, and then that life ends, too
	l.killed(t)
	as = l.resume(ann, as)
	if f := as.next(); f.T != "GUILD_CREATE" || !contains(f.data()["channels"].([]any), c.ID.String()) {
		t.Fatalf("ann is given op %d %s %s", f.Op, f.T, f.D)
	}
	as.until("RESUMED")
}

// TestAloneQuiet holds that a session goes on that was given nothing for so long that the
// journal has dropped the last entry there was.
func TestAloneQuiet(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	var later atomic.Int64
	wrote := make(chan struct{}, 1)
	l.now = func() time.Time {
		select {
		case wrote <- struct{}{}:
		default:
		}
		return time.Now().Add(time.Duration(later.Load()))
	}
	l.ended(t)
	ann, bob := l.guest("ann"), l.guest("bob")
	as := l.enter(ann)
	general := l.channelID(bob, "general")
	l.do("POST", "/channels/"+general+"/messages", bob.token, map[string]any{"content": "the last one"})
	as.until("MESSAGE_CREATE")
	e := l.srv.ensemble
	last := e.order.seen.Load()
	later.Store(int64(10 * time.Minute))
	marks := func() uint64 {
		e.order.noteMu.Lock()
		defer e.order.noteMu.Unlock()
		return e.order.notes
	}
	for end := marks() + 5; marks() < end; <-wrote { // one a second
	}
	if first := e.journal.First(); first <= last {
		t.Fatalf("the journal still has %d, and the last entry is %d", first, last)
	}
	as.breakOff()
	l.killed(t)
	l.do("POST", "/channels/"+general+"/messages", bob.token, map[string]any{"content": "one more"})
	as = l.resume(ann, as)
	for f := as.next(); f.T != "MESSAGE_CREATE"; f = as.next() {
		if f.Op == 9 || f.T == "RESUMED" {
			t.Fatalf("came op %d %s", f.Op, f.T)
		}
	}
	as.until("RESUMED")
}

// busyStore is busy once, when it is asked for a guild so many times.
type busyStore struct {
	textchat.Store
	times atomic.Int32
}

func (s *busyStore) Guild(ctx context.Context, id textchat.ID) (textchat.GuildRecord, error) {
	if s.times.Add(-1) == 0 {
		return textchat.GuildRecord{}, textchat.ErrBusy
	}
	return s.Store.Guild(ctx, id)
}

// TestAloneVoiceBusy holds that who is in voice is so after the server was killed, also
// when the store was too busy for the guild at first.
func TestAloneVoiceBusy(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	store := &busyStore{Store: l.store}
	l.store = store
	ann, bob, cat := l.guest("ann"), l.guest("bob"), l.guest("cat")
	l.talk(t, ann, bob)
	store.times.Store(2) // the first time it is who sets up the server
	l.killed(t)
	l.try("GET", "/guilds/"+l.guildID()+"/channels", cat.token, nil) // one of those who ask is refused
	_, seen := l.enterFully(cat)
	if n := store.times.Load(); n >= 0 {
		t.Fatal("the store was not asked again")
	}
	if states := seen["voice_states"].([]any); len(states) != 1 || states[0].(map[string]any)["user_id"] != ann.id {
		t.Fatalf("cat sees %v", states)
	}
}

// TestAloneFull holds that what waits for a journal that refuses all does not grow with the
// time, and is told when it takes notes again.
func TestAloneFull(t *testing.T) {
	t.Parallel()
	s, err := New(Config{DataDir: t.TempDir(), Told: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := s.ensemble
	e.tellOrder(t.Context(), true)
	at := e.order.told.Load()
	if err := e.journal.Close(); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		e.order.mu.Lock()
		e.order.take()
		e.order.mu.Unlock()
		e.tellOrder(t.Context(), false)
		e.tellOrder(t.Context(), true)
	}
	if n := len(e.order.batch); n > 3 || e.order.told.Load() != at {
		t.Errorf("%d wait, and %d of %d are told", n, e.order.told.Load(), at)
	}
	if e.journal, err = journal.Open(journal.Config{Dir: t.TempDir(), Boot: "b"}); err != nil {
		t.Fatal(err)
	}
	e.tellOrder(t.Context(), false)
	if p := e.order.p; e.order.told.Load() != p || len(e.order.batch) != 0 {
		t.Errorf("%d wait, and %d of %d are told", len(e.order.batch), e.order.told.Load(), p)
	} else if _, ok := e.mirrors.spots(e.life, p); !ok {
		t.Errorf("it is not known what stood at %d", p)
	}
}

// refusingLog refuses entries of guilds, so many times.
type refusingLog struct {
	guildLog
	times atomic.Int32
}

func (l *refusingLog) Append(ctx context.Context, key string, last uint64, body []byte) (uint64, error) {
	if key != bus.UsersKey && l.times.Add(-1) >= 0 {
		return 0, errors.New("no room")
	}
	return l.guildLog.Append(ctx, key, last, body)
}

// TestAloneRefused holds that sessions are given what was saved and could not be told as
// the journal refused it, in that life when it takes entries again, and in the next.
func TestAloneRefused(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	var log *refusingLog
	l.tweak = func(s *Server) {
		log = &refusingLog{guildLog: s.ensemble.log}
		s.ensemble.log = log
	}
	l.ended(t)
	ann, bob, boss := l.guest("ann"), l.guest("bob"), l.boss()
	as, bs := l.enter(ann), l.enter(bob)
	bs.breakOff()
	log.times.Store(1 << 20) // as often as it is tried again
	if a := l.try("POST", "/guilds/"+l.guildID()+"/channels", boss.token, map[string]any{"name": "untold"}); a.status != 503 {
		t.Fatalf("it is answered %d %s", a.status, a.raw)
	}
	untold := func(list any) bool {
		return slices.ContainsFunc(list.([]any), func(c any) bool { return c.(map[string]any)["name"] == "untold" })
	}
	log.times.Store(0)
	if given := as.until("GUILD_CREATE"); !untold(given["channels"]) {
		t.Fatalf("ann is given %v", given["channels"])
	}
	l.killed(t)
	bs = l.resume(bob, bs)
	if f := bs.next(); f.T != "GUILD_CREATE" || !untold(f.data()["channels"]) {
		t.Fatalf("bob is given op %d %s %s", f.Op, f.T, f.D)
	}
	bs.until("RESUMED")
}

func contains(list []any, id string) bool {
	for _, x := range list {
		if x.(map[string]any)["id"] == id {
			return true
		}
	}
	return false
}

// TestAloneForeign holds that a session begins anew where what it was told is not known.
func TestAloneForeign(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	ann := l.guest("ann")
	as := l.enter(ann)
	as.breakOff()
	l.end()
	list, err := filepath.Glob(filepath.Join(l.told, "*"))
	if err != nil || len(list) == 0 {
		t.Fatalf("there are %q: %v", list, err)
	}
	for _, name := range list {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	l.live(t)
	if f := l.resume(ann, as).next(); f.Op != 9 {
		t.Errorf("came op %d %s", f.Op, f.T)
	}
	s := l.enter(ann)
	s.breakOff()
	l.killed(t)
	s = l.resume(ann, s)
	for f := s.next(); f.T != "RESUMED"; f = s.next() { // it was in its log-in still, for all that is known
		if f.Op == 9 {
			t.Fatal("the new one cannot be resumed")
		}
	}
}
