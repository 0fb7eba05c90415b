package chatserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// bot makes a bot of the first guild.
func (w *world) bot(owner person, name string) person {
	w.t.Helper()
	a := w.do("POST", "/guilds/"+w.guildID()+"/bots", owner.token, map[string]any{"name": name})
	token := a.body["token"].(string)
	return person{w.do("GET", "/users/@me", "Bot "+token, nil).body["id"].(string), token}
}

// TestSessionsOfADay: a bot is told how many sessions it may still begin, and begins no
// more; people are not counted.
func TestSessionsOfADay(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Starts = 3 }, nil)
	bot := "Bot " + w.do("POST", "/api/admin/bots", "Bearer let-me-in", map[string]any{"name": "Beep", "guild_id": w.guildID()}).body["token"].(string)
	left := func() (int, float64) {
		t.Helper()
		l := w.do("GET", "/gateway/bot", bot, nil).body["session_start_limit"].(map[string]any)
		if l["total"] != 3.0 || l["max_concurrency"] != 16.0 {
			t.Errorf("limit %v", l)
		}
		return int(l["remaining"].(float64)), l["reset_after"].(float64)
	}
	if n, reset := left(); n != 3 || reset != 0 {
		t.Errorf("at first: %d, reset after %v", n, reset)
	}
	for i := range 3 {
		s := w.enter(person{token: bot})
		if n, reset := left(); n != 2-i || reset <= 0 || reset > float64(sessionDay.Milliseconds()) {
			t.Errorf("after %d: %d, reset after %v", i+1, n, reset)
		}
		s.breakOff()
		again := w.dial("?v=10")
		again.next()
		again.last = s.last
		again.send(6, map[string]any{"token": bot, "session_id": s.session, "seq": s.last})
		again.event("RESUMED") // which is not counted
	}
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(bot, allIntents))
	if f := s.next(); f.Op != 9 || string(f.D) != "false" || f.Retry < (sessionDay-time.Hour).Seconds() || f.Retry > (sessionDay+time.Hour).Seconds() {
		t.Errorf("one too many: op %d %s, come back in %v s", f.Op, f.D, f.Retry)
	}
	if n, _ := left(); n != 0 {
		t.Errorf("at last %d are left", n)
	}
	ann := w.guest("Ann")
	for range 4 {
		w.enter(ann)
	}
}

// TestCrowdIsNoSession: a bot that is told to come later because of others has as many
// sessions left as before.
func TestCrowdIsNoSession(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Starts, c.Limits.Identifying = 2, 1 }, nil)
	bot := "Bot " + w.do("POST", "/api/admin/bots", "Bearer let-me-in", map[string]any{"name": "Beep", "guild_id": w.guildID()}).body["token"].(string)
	left := func() float64 {
		t.Helper()
		return w.do("GET", "/gateway/bot", bot, nil).body["session_start_limit"].(map[string]any)["remaining"].(float64)
	}
	crowd := cap(w.srv.gate.queue)
	for range crowd {
		w.srv.gate.queue <- struct{}{}
	}
	s := w.dial("?v=10")
	s.next()
	for range 3 {
		s.send(2, identify(bot, allIntents))
		if f := s.next(); f.Op != 9 || f.Retry > 10 {
			t.Fatalf("in a crowd: op %d %s, come back in %v s", f.Op, f.D, f.Retry)
		}
	}
	if n := left(); n != 2 {
		t.Errorf("%v are left", n)
	}
	for range crowd {
		<-w.srv.gate.queue
	}
	s.send(2, identify(bot, allIntents))
	s.event("READY")
	if n := left(); n != 1 {
		t.Errorf("one began: %v are left", n)
	}
}

// TestResumesInTurn: who cannot be resumed for want of room is let go when its turn comes,
// not at once, to come back at once; unless it has a session by then.
func TestResumesInTurn(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Limits.Identifying = 1 }, nil)
	ann := w.guest("Ann")
	resume := map[string]any{"token": ann.token, "session_id": "of another instance", "seq": 1}
	crowd := cap(w.srv.gate.queue)
	for range crowd {
		w.srv.gate.queue <- struct{}{}
	}
	begun := time.Now()
	other, s := w.dial("?v=10"), w.dial("?v=10")
	for _, s := range []*socket{other, s} {
		s.next()
		s.send(6, resume)
		s.send(1, nil)
		if f := s.next(); f.Op != 11 { // and its Resume has been heard
			t.Fatalf("a heartbeat is answered with op %d", f.Op)
		}
	}
	for range crowd {
		<-w.srv.gate.queue
	}
	other.send(2, identify(ann.token, allIntents))
	other.event("READY")
	if code, after := s.closeCode(), time.Since(begun); code != uint16(textchat.CloseUnknown) || after < turnLeast {
		t.Errorf("closed with %d after %v, want %d after %v at least", code, after, textchat.CloseUnknown, turnLeast)
	}
	other.send(1, nil)
	for other.next().Op != 11 {
	}
	again := w.dial("?v=10")
	again.next()
	again.send(6, resume)
	if f := again.next(); f.Op != 9 {
		t.Errorf("a session that nobody knows is answered with op %d", f.Op)
	}
}

// TestRefusedAtTheDoor: what cannot be spoken is refused before the upgrade, with
// the field named.
func TestRefusedAtTheDoor(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	for query, field := range map[string]string{
		"?v=10&encoding=etf": "encoding", "?encoding=xml": "encoding", "?compress=lz4": "compress", "?v=10&compress=zlib": "compress",
	} {
		resp, err := w.http.Client().Get(w.http.URL + "/gateway" + query)
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Code   int            `json:"code"`
			Errors map[string]any `json:"errors"`
		}
		err = json.NewDecoder(resp.Body).Decode(&body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusBadRequest || body.Code != textchat.CodeInvalidForm || body.Errors[field] == nil {
			t.Errorf("%s: %d %+v (%v)", query, resp.StatusCode, body, err)
		}
	}
}

// TestCloseCodesOfSessions are those that need more than a frame: 4007, 4009,
// 4011, 4014. The others stand in TestCloseCodes.
func TestCloseCodesOfSessions(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.WithheldIntents = textchat.IntentMessageContent }, func(s *Server) {
		s.gate.shardGuilds = 1
	})
	boss := w.boss()
	bot := w.bot(boss, "helper")
	try := func(p person, change map[string]any) *socket {
		s := w.dial("?v=10")
		s.next()
		m := identify(p.token, int(textchat.IntentGuilds))
		for k, v := range change {
			m[k] = v
		}
		s.send(2, m)
		return s
	}
	if got := try(bot, map[string]any{"intents": textchat.IntentGuilds | textchat.IntentMessageContent}).closeCode(); got != 4014 {
		t.Errorf("a withheld intent: %d", got)
	}
	s := try(bot, map[string]any{"intents": textchat.IntentGuilds | textchat.IntentPresences})
	ready := s.event("READY")
	if flags := ready["application"].(map[string]any)["flags"]; flags != float64(1<<12|1<<14) {
		t.Errorf("flags are %v", flags)
	}
	person := try(boss, map[string]any{"intents": int(textchat.IntentsKnown)})
	person.event("READY") // withheld from bots only
	person.event("GUILD_CREATE")
	w.do("POST", "/guilds", boss.token, map[string]any{"name": "second"})
	person.event("GUILD_CREATE")
	if got := try(boss, nil).closeCode(); got != 4011 {
		t.Errorf("two guilds on one shard that may have one: %d", got)
	}
	future := w.dial("?v=10")
	future.next()
	future.send(6, map[string]any{"token": bot.token, "session_id": ready["session_id"], "seq": 99999})
	if got := future.closeCode(); got != 4007 {
		t.Errorf("a sequence of the future: %d", got)
	}
	// Only a session's owner learns that its sequence is wrong.
	thief := w.dial("?v=10")
	thief.next()
	thief.send(6, map[string]any{"token": boss.token, "session_id": ready["session_id"], "seq": 99999})
	if f := thief.next(); f.Op != 9 {
		t.Errorf("another's session: op %d", f.Op)
	}
}

// widely is a store in which everybody is in more guilds than there are.
type widely struct {
	textchat.Store
	more atomic.Int64
}

func (s *widely) GuildIDs(ctx context.Context, user textchat.ID) ([]textchat.ID, error) {
	ids, err := s.Store.GuildIDs(ctx, user)
	for i := range s.more.Load() {
		ids = append(ids, textchat.ID(i+1))
	}
	return ids, err
}

// TestBotsOfManyGuilds: a bot may be in more guilds than a person, and is told to have a
// shard for each thousand.
func TestBotsOfManyGuilds(t *testing.T) {
	store := &widely{}
	w := newWorldOver(t, func(embedded textchat.Store) textchat.Store { store.Store = embedded; return store })
	boss, ann := w.boss(), w.guest("Ann")
	bot := w.bot(boss, "helper")
	second := w.do("POST", "/guilds", boss.token, map[string]any{"name": "second"}).body["system_channel_id"].(string)
	code := w.do("POST", "/channels/"+second+"/invites", boss.token, nil).body["code"].(string)
	shards := func() float64 { return w.do("GET", "/gateway/bot", bot.token, nil).body["shards"].(float64) }
	if n := shards(); n != 1 {
		t.Errorf("%v shards for one guild", n)
	}
	store.more.Store(textchat.MaxGuilds)
	if r := w.try("POST", "/invites/"+code, ann.token, nil); r.status != 400 || r.body["code"] != float64(textchat.CodeMaxGuilds) {
		t.Errorf("a person joins one more: %d %s", r.status, r.raw)
	}
	w.do("POST", "/invites/"+code, bot.token, nil)
	store.more.Store(2*textchat.RoomyShardGuilds - 1) // and two that are there
	if n := shards(); n != 3 {
		t.Errorf("%v shards for 2,001 guilds", n)
	}
}

func TestFinalCloseCodes(t *testing.T) {
	for code := textchat.CloseCode(4000); code <= 4014; code++ {
		final := code == 4004 || code >= 4010
		if code == 4006 {
			continue // unused by the protocol
		}
		if code.Final() != final {
			t.Errorf("%d: final %v", code, code.Final())
		}
		if code.String() == "closed" {
			t.Errorf("%d has no reason", code)
		}
	}
}

// TestIdentifyThrottle: too many sessions of one account are told when to come
// back, on the same socket; others are not held up by them, and resumes are free.
func TestIdentifyThrottle(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann, bob := w.guest("Ann"), w.guest("Bob")
	begun := time.Now()
	var last *socket
	for range textchat.MaxConcurrency {
		last = w.enter(ann)
	}
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(ann.token, allIntents))
	f := s.next()
	if f.Op == 0 && time.Since(begun) > textchat.IdentifyWindow {
		t.Skip("this machine needs more than a window for as many sessions")
	}
	if f.Op != 9 || string(f.D) != "false" || f.Retry <= 0 || f.Retry > 10 {
		t.Fatalf("one too many: op %d %s, retry after %v", f.Op, f.D, f.Retry)
	}
	s.send(1, nil) // the socket stays open
	if f := s.next(); f.Op != 11 {
		t.Fatalf("op %d", f.Op)
	}
	w.enter(bob)
	last.breakOff()
	w.takeUp(last, ann).event("RESUMED")
}

func TestShardBuckets(t *testing.T) {
	s := &Server{}
	now := time.Unix(1_800_000_000, 0)
	for shard := range uint64(textchat.MaxConcurrency) {
		if wait := s.mayIdentify(now, 7, [2]uint64{shard, 40}); wait != 0 {
			t.Errorf("shard %d waits for %v", shard, wait)
		}
	}
	if wait := s.mayIdentify(now.Add(time.Second), 7, [2]uint64{16, 40}); wait != 4*time.Second {
		t.Errorf("shard 16, of the bucket of shard 0, waits for %v", wait)
	}
	if s.mayIdentify(now, 8, [2]uint64{0, 40}) != 0 || s.mayIdentify(now.Add(textchat.IdentifyWindow), 7, [2]uint64{16, 40}) != 0 {
		t.Error("another account, or the next window, waits")
	}
}

// TestIdentifyCrowd: more sessions than can begin at once wait; more than may wait
// are told so.
func TestIdentifyCrowd(t *testing.T) {
	g := gate{seats: make(chan struct{}, 1), queue: make(chan struct{}, 2)}
	leave, reason := g.enter(context.Background())
	if reason != "" {
		t.Fatal(reason)
	}
	ctx, cancel := context.WithCancel(context.Background())
	waited := make(chan string)
	go func() { _, why := g.enter(ctx); waited <- why }()
	until(t, "one waits", func() bool { return len(g.queue) == 2 })
	if _, why := g.enter(context.Background()); why != "crowd" {
		t.Errorf("beyond the queue: %q", why)
	}
	cancel()
	if why := <-waited; why != "slow" {
		t.Errorf("waited too long: %q", why)
	}
	leave()
	if leave, why := g.enter(context.Background()); why != "" {
		t.Errorf("a free seat: %q", why)
	} else {
		leave()
	}
	if len(g.queue) != 0 || len(g.seats) != 0 {
		t.Error("a seat is lost")
	}
}

// TestMessageContent: without the intent a bot sees that something was said, and
// what, only in its own messages and those that mention it.
func TestMessageContent(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	bot := w.bot(boss, "helper")
	general := w.channelID(boss, "general")
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(bot.token, int(textchat.IntentGuilds|textchat.IntentGuildMessages)))
	s.event("READY")
	s.event("GUILD_CREATE")
	post := func(token, text string) {
		w.do("POST", "/channels/"+general+"/messages", token, map[string]any{"content": text})
	}
	post(boss.token, "a secret")
	m := s.event("MESSAGE_CREATE")
	if m["content"] != "" || m["author"].(map[string]any)["id"] != boss.id || m["guild_id"] != w.guildID() {
		t.Errorf("without the intent: %v", m)
	}
	for _, f := range []string{"embeds", "attachments", "components"} {
		if list, ok := m[f].([]any); !ok || len(list) != 0 {
			t.Errorf("%s is %v", f, m[f])
		}
	}
	post(boss.token, "<@"+bot.id+"> help")
	if c := s.event("MESSAGE_CREATE")["content"]; c != "<@"+bot.id+"> help" {
		t.Errorf("mentioned: %q", c)
	}
	post("Bot "+bot.token, "here I am")
	if c := s.event("MESSAGE_CREATE")["content"]; c != "here I am" {
		t.Errorf("its own: %q", c)
	}
}

func TestWithoutContent(t *testing.T) {
	got := withoutContent([]byte(`{"id":"1","content":"x","embeds":[1],"attachments":[{"a":1}],"poll":{},"referenced_message":{"id":"2","content":"y"}}`))
	want := `{"attachments":[],"components":[],"content":"","embeds":[],"id":"1","referenced_message":{"attachments":[],"components":[],"content":"","embeds":[],"id":"2"}}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
	if string(withoutContent([]byte(`null`))) != "null" {
		t.Error("null is not null")
	}
}

// TestMembersInChunks: a guild of more than one chunk comes whole, in order, at
// the pace of the client, with presences for those who asked.
func TestMembersInChunks(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	b := w.watch(boss)
	b.event("GUILD_CREATE")
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*chunkSize + 5 // with the owner, whose id is the highest
	d := guild.Delta{Members: map[textchat.ID]*textchat.Member{}}
	for id := textchat.ID(1); id < n; id++ {
		d.Members[id] = &textchat.Member{User: textchat.User{ID: id}}
	}
	if err := o.ask(t.Context(), func() error { o.core.Apply(&d); return nil }); err != nil {
		t.Fatal(err)
	}
	b.send(8, map[string]any{"guild_id": w.guildID(), "query": "", "limit": 0, "presences": true, "nonce": "n"})
	next := 1
	for i := range 3 {
		c := b.event("GUILD_MEMBERS_CHUNK")
		if c["chunk_index"] != float64(i) || c["chunk_count"] != 3.0 || c["nonce"] != "n" {
			t.Fatalf("chunk %d: %v of %v, nonce %v", i, c["chunk_index"], c["chunk_count"], c["nonce"])
		}
		for _, m := range c["members"].([]any) {
			if id := m.(map[string]any)["user"].(map[string]any)["id"]; id != fmt.Sprint(next) && (next != n || id != boss.id) {
				t.Fatalf("member %v, want %d", id, next)
			}
			next++
		}
		if got := len(c["presences"].([]any)); got != map[int]int{2: 1}[i] {
			t.Errorf("chunk %d has %d presences", i, got)
		}
	}
	if next != n+1 {
		t.Errorf("%d members came, want %d", next-1, n)
	}
	// Who has left when its chunk is made is missed by nobody.
	s := w.srv.hub.session(b.session)
	a := chunks{all: []textchat.ID{n + 1}}
	for id := textchat.ID(1); id <= chunkSize; id++ {
		a.all = append(a.all, id)
	}
	s.send(o, &a, gatewaysession.MembersRequest{Guild: o.id})
	for i, want := range []int{chunkSize - 1, 1} {
		if c := b.event("GUILD_MEMBERS_CHUNK"); len(c["members"].([]any)) != want || c["chunk_index"] != float64(i) || c["chunk_count"] != 2.0 || c["not_found"] != nil {
			t.Fatalf("chunk %v of %v has %d members, not found: %v", c["chunk_index"], c["chunk_count"], len(c["members"].([]any)), c["not_found"])
		}
	}
	// Presences of those asked for by name, and the bounds of a request by id.
	b.send(8, map[string]any{"guild_id": w.guildID(), "user_ids": []string{boss.id}, "presences": true, "nonce": "p"})
	c := b.event("GUILD_MEMBERS_CHUNK")
	if p := c["presences"].([]any); len(p) != 1 || p[0].(map[string]any)["status"] != "online" {
		t.Errorf("presences: %v", c["presences"])
	}
	// What no guild here has is answered all the same.
	b.send(31, map[string]any{"guild_ids": []string{w.guildID(), "5"}})
	if e := b.event("SOUNDBOARD_SOUNDS"); e["guild_id"] != w.guildID() || len(e["soundboard_sounds"].([]any)) != 0 {
		t.Errorf("sounds: %v", e)
	}
	b.send(43, map[string]any{"guild_id": w.guildID(), "fields": []string{"status"}})
	if e := b.event("CHANNEL_INFO"); e["guild_id"] != w.guildID() {
		t.Errorf("channel info: %v", e)
	}
}

// TestTurns: a crowd for which there is no room comes back at the pace at which seats become
// free, each at its own moment; when that is too long, within a bounded time; and a crowd
// that has gone leaves no turns to wait for.
func TestTurns(t *testing.T) {
	var own turns
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if wait := own.give(now); wait != turnLeast {
		t.Errorf("before anybody left: %v", wait)
	}
	own = turns{}
	for range 200 { // 100 a second begin
		now = now.Add(10 * time.Millisecond)
		own.left(now, true)
	}
	own.left(now.Add(time.Hour), false) // nobody waits: no measure of it
	const crowd = 10_000
	came := map[int]int{} // in each second
	for range crowd {
		wait := own.give(now)
		if wait < turnLeast || wait > laterMost {
			t.Fatalf("told to come in %v", wait)
		}
		came[int(wait/time.Second)]++
	}
	for second := 1; second < int(laterMost/time.Second)/2; second++ {
		if n := came[second]; n < 90 || n > 110 {
			t.Errorf("in second %d come %d, want the 100 for whom there is room", second, n)
		}
	}
	for second, n := range came {
		if n > crowd/4 {
			t.Errorf("in second %d come %d at once", second, n)
		}
	}
	now = now.Add(time.Minute)
	if wait := own.give(now); wait > turnLeast+20*time.Millisecond {
		t.Errorf("when they have come: %v", wait)
	}
}
