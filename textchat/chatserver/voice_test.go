package chatserver

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

func (w *world) callOf(channel string) sfu.CallID {
	w.t.Helper()
	id, err := snowflake.Parse(channel)
	if err != nil {
		w.t.Fatal(err)
	}
	return sfu.CallID{ID: id}
}

func (p person) user() sfu.UserID {
	id, _ := snowflake.Parse(p.id)
	return sfu.UserID{ID: id}
}

func TestVoiceRefusals(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	a := w.enter(ann)
	general, lobby := w.channelID(ann, "general"), w.channelID(ann, "Lobby")
	a.joinVoice(w.guildID(), general, false)
	if e := a.event("VOICE_ERROR"); e["code"] != "unknown_channel" || e["guild_id"] != w.guildID() || e["message"] == "" {
		t.Fatalf("text channel: %v", e)
	}
	w.voice.mu.Lock()
	w.voice.refuse = allocator.Refuse(allocator.CodeFull, "no room")
	w.voice.mu.Unlock()
	a.joinVoice(w.guildID(), lobby, false)
	if e := a.event("VOICE_ERROR"); e["code"] != "full" || e["message"] != "no room. If you wait, you are number 1 in line." {
		t.Fatalf("full: %v", e)
	}
	// A guild that is not one's own is not looked at.
	a.joinVoice("12345", lobby, false)
	a.send(1, nil)
	if f := a.next(); f.Op != 11 {
		t.Fatalf("foreign guild: %s %s", f.T, f.D)
	}
}

func TestNewestJoinWins(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	a := w.enter(ann)
	lobby, echo := w.channelID(ann, "Lobby"), w.channelID(ann, "Echo test")
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	w.voice.mu.Lock()
	w.voice.hold = hold
	w.voice.mu.Unlock()
	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place")
	w.voice.mu.Lock()
	w.voice.hold = nil // the first hangs on, until it is cancelled
	w.voice.mu.Unlock()
	a.joinVoice(w.guildID(), echo, false)
	w.voice.expect(t, "remove "+ann.id+" cancelled")
	w.voice.expect(t, "place "+ann.id+" speak=true mute=false deaf=false echo=true")
	if s := a.event("VOICE_STATE_UPDATE"); s["channel_id"] != echo {
		t.Fatalf("in %v", s["channel_id"])
	}
	if s := a.event("VOICE_SERVER_UPDATE"); s["token"] != "grant2" {
		t.Fatalf("server: %v", s)
	}
}

// TestRemovalIsKeptUp: who was sent away while nobody answers for the call is removed when
// somebody does, unless it was seated anew meanwhile, for which that is not waited for. Who
// left is not.
func TestRemovalIsKeptUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	a := w.enter(ann)
	lobby := w.channelID(ann, "Lobby")
	unheard := func(n int) {
		w.voice.mu.Lock()
		w.voice.unheard = n
		w.voice.mu.Unlock()
	}
	join := func() {
		a.joinVoice(w.guildID(), lobby, false)
		w.voice.expect(t, "place")
		a.event("VOICE_STATE_UPDATE")
		a.event("VOICE_SERVER_UPDATE")
	}
	sendAway := func(tries int) {
		w.do("PATCH", "/guilds/"+w.guildID()+"/members/"+ann.id, boss.token, map[string]any{"channel_id": nil})
		a.event("VOICE_STATE_UPDATE")
		for range tries {
			w.voice.expect(t, "remove "+ann.id+" disconnected")
		}
	}
	join()
	unheard(orderTries + 1)
	sendAway(orderTries + 2)
	join()
	unheard(100)
	sendAway(orderTries)
	join() // before the removal is tried again
	a.joinVoice(w.guildID(), nil, false)
	a.event("VOICE_STATE_UPDATE")
	for range orderTries {
		w.voice.expect(t, "remove "+ann.id+" left")
	}
	join()
}

// TestLeaverComesAgain: the removal of who left names its session, and whoever comes again
// is seated while nobody answers it. That of who was sent away names none.
func TestLeaverComesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	a := w.enter(ann)
	lobby := w.channelID(ann, "Lobby")
	open := func(session string) {
		a.joinVoice(w.guildID(), lobby, false)
		w.voice.expect(t, "place")
		a.event("VOICE_STATE_UPDATE")
		a.event("VOICE_SERVER_UPDATE")
		w.voice.tell(edgeagent.CallEvent{Call: w.callOf(lobby), Opened: &edgeagent.SessionStart{Session: sfu.SessionID(session), User: ann.user()}})
	}
	parked := make(chan struct{})
	w.voice.mu.Lock()
	w.voice.parked = parked
	w.voice.mu.Unlock()
	open("vs1")
	a.joinVoice(w.guildID(), nil, false)
	a.event("VOICE_STATE_UPDATE")
	w.voice.expect(t, "remove "+ann.id+" left of vs1")
	open("vs2")
	close(parked)
	w.do("PATCH", "/guilds/"+w.guildID()+"/members/"+ann.id, boss.token, map[string]any{"channel_id": nil})
	a.event("VOICE_STATE_UPDATE")
	select {
	case got := <-w.voice.arrived:
		if want := "remove " + ann.id + " disconnected"; got != want {
			t.Errorf("sent away: %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Error("who was sent away is not removed")
	}
}

func TestModeration(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	a := w.enter(ann)
	lobby := w.channelID(ann, "Lobby")
	member := "/guilds/" + w.guildID() + "/members/" + ann.id
	if r := w.try("PATCH", member, boss.token, map[string]any{"mute": true}); r.status != 400 || r.body["code"] != 40032.0 {
		t.Fatalf("not in voice: %d %s", r.status, r.raw)
	}
	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place")
	a.event("VOICE_STATE_UPDATE")
	a.event("VOICE_SERVER_UPDATE")
	for _, body := range []map[string]any{{"mute": true}, {"deaf": true}, {"channel_id": nil}, {"nick": "x"}, {"roles": []string{}}} {
		if r := w.try("PATCH", member, bob.token, body); r.status != 403 || r.body["code"] != 50013.0 {
			t.Errorf("bob %v: %d %s", body, r.status, r.raw)
		}
	}
	w.do("PATCH", member, boss.token, map[string]any{"mute": true, "deaf": true})
	a.event("GUILD_MEMBER_UPDATE")
	if s := a.event("VOICE_STATE_UPDATE"); s["mute"] != true || s["deaf"] != true || s["channel_id"] != lobby {
		t.Fatalf("muted: %v", s)
	}
	w.voice.expect(t, "update "+ann.id+" speak=true mute=true deaf=true")
	// SPEAK goes by an overwrite: the media engine is told at once.
	w.do("PUT", "/channels/"+lobby+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": "2097152", "allow": "0"})
	a.event("CHANNEL_UPDATE")
	if s := a.event("VOICE_STATE_UPDATE"); s["suppress"] != true {
		t.Fatalf("suppressed: %v", s)
	}
	w.voice.expect(t, "update "+ann.id+" speak=false")
	w.do("PATCH", member, boss.token, map[string]any{"channel_id": nil})
	if s := a.event("VOICE_STATE_UPDATE"); s["channel_id"] != nil {
		t.Fatalf("disconnected: %v", s)
	}
	w.voice.expect(t, "remove "+ann.id+" disconnected")
	// Kicked: the guild goes away.
	w.do("DELETE", member, boss.token, nil)
	if d := a.event("GUILD_DELETE"); d["id"] != w.guildID() || d["unavailable"] == true {
		t.Fatalf("kicked: %v", d)
	}
	if r := w.try("GET", "/channels/"+lobby, ann.token, nil); r.status != 404 {
		t.Fatalf("after the kick: %d", r.status)
	}
}

func TestVoiceStateEndsWithItsSessions(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.resumeWindow = 10 * time.Millisecond })
	boss, ann := w.boss(), w.guest("Ann")
	bo := w.enter(boss)
	lobby := w.channelID(ann, "Lobby")
	join := func() *socket {
		t.Helper()
		a := w.enter(ann)
		a.joinVoice(w.guildID(), lobby, false)
		w.voice.expect(t, "place")
		a.event("VOICE_STATE_UPDATE")
		a.event("VOICE_SERVER_UPDATE")
		if s := bo.event("VOICE_STATE_UPDATE"); s["channel_id"] != lobby {
			t.Fatalf("joined: %v", s)
		}
		return a
	}
	gone := func(how string) {
		t.Helper()
		if s := bo.event("VOICE_STATE_UPDATE"); s["channel_id"] != nil || s["user_id"] != ann.id {
			t.Fatalf("%s: %v", how, s)
		}
	}
	// The client says good-bye.
	a := join()
	a.ws.WriteClose(1000, nil)
	gone("good-bye")
	w.voice.expect(t, "remove "+ann.id+" gateway_session_ended")
	// The connection breaks and nobody resumes.
	a = join()
	a.breakOff()
	gone("broken")
	w.voice.expect(t, "remove")
	// The media session ends; first another one, which is not ours.
	a = join()
	call := w.callOf(lobby)
	w.voice.tell(edgeagent.CallEvent{Call: call, Opened: &edgeagent.SessionStart{Session: "vs3", User: ann.user()}})
	w.voice.tell(edgeagent.CallEvent{Call: call, Left: &edgeagent.Left{Session: "vs1", User: ann.user(), Reason: "consent"}})
	w.voice.tell(edgeagent.CallEvent{Call: call, Left: &edgeagent.Left{Session: "vs3", User: ann.user(), Reason: "consent"}})
	gone("media")
	a.event("VOICE_STATE_UPDATE")
	// The account logs out.
	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place")
	bo.event("VOICE_STATE_UPDATE")
	w.do("POST", "/auth/logout", ann.token, nil)
	gone("logout")
	if c := a.closeCode(); c != 4004 {
		t.Errorf("closed with %d", c)
	}
	if r := w.try("GET", "/users/@me", ann.token, nil); r.status != 401 {
		t.Errorf("the token still works: %d", r.status)
	}
}

// TestVoiceStateOutlivesABreak: a lost connection that resumes keeps its place.
func TestVoiceStateOutlivesABreak(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	lobby := w.channelID(ann, "Lobby")
	a := w.enter(ann)
	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place")
	a.event("VOICE_STATE_UPDATE")
	a.event("VOICE_SERVER_UPDATE")
	a.breakOff()
	bo := w.dial("?v=10")
	bo.next()
	bo.send(2, identify(boss.token, allIntents))
	bo.event("READY")
	if states := bo.event("GUILD_CREATE")["voice_states"].([]any); len(states) != 1 {
		t.Fatalf("voice states after a break: %v", states)
	}
	b := w.dial("?v=10")
	b.next()
	b.last, b.session = a.last, a.session
	b.send(6, map[string]any{"token": ann.token, "session_id": a.session, "seq": a.last})
	b.event("RESUMED")
	b.joinVoice(w.guildID(), lobby, true)
	if s := b.event("VOICE_STATE_UPDATE"); s["self_mute"] != true || s["channel_id"] != lobby {
		t.Fatalf("after the resume: %v", s)
	}
}

// TestMovedCall: the members of a call that has another node are told of it, and
// nobody else of anything; so is one who hears nothing, or says so itself.
func TestMovedCall(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	bo, a := w.enter(boss), w.enter(ann)
	lobby := w.channelID(ann, "Lobby")
	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place")
	a.event("VOICE_STATE_UPDATE")
	bo.event("VOICE_STATE_UPDATE")
	if s := a.event("VOICE_SERVER_UPDATE"); s["move"] != nil {
		t.Fatalf("a join is no move: %v", s)
	}
	call := w.callOf(lobby)
	w.voice.tell(edgeagent.CallEvent{Call: call, Opened: &edgeagent.SessionStart{Session: "vs1", User: ann.user()}})
	for range 2 { // the second time it is known
		w.voice.move(allocator.Moved{Call: call, From: "n1", To: "n2", Epoch: 2, Cause: allocator.CauseDrain, Planned: true})
	}
	w.voice.expect(t, "place "+ann.id)
	s := a.event("VOICE_SERVER_UPDATE")
	if m, ok := s["move"].(map[string]any); !ok || m["from"] != "n1" || m["to"] != "n2" || m["cause"] != "drain" || m["planned"] != true || s["token"] != "grant2" || s["endpoint"] == "" {
		t.Fatalf("moved: %v", s)
	}
	// The old session ends; the new one is opened, hears nothing, and is mended.
	w.voice.tell(edgeagent.CallEvent{Call: call, Node: "n1", Left: &edgeagent.Left{Session: "vs1", User: ann.user(), Reason: edgeagent.Moved}})
	w.voice.tell(edgeagent.CallEvent{Call: call, Node: "n2", Left: &edgeagent.Left{Session: "vs2", User: ann.user(), Reason: edgeagent.EngineLost}})
	w.voice.expect(t, "place "+ann.id, "update "+ann.id) // that vs1 was opened may be told after the move: rights, then
	s = a.event("VOICE_SERVER_UPDATE")
	if m, ok := s["move"].(map[string]any); !ok || m["from"] != "n2" || m["cause"] != "mend" || m["planned"] != nil {
		t.Fatalf("mended: %v", s)
	}
	// The boss, who saw her come, sees her go, and nothing in between.
	a.joinVoice(w.guildID(), nil, false)
	if s := bo.event("VOICE_STATE_UPDATE"); s["channel_id"] != nil {
		t.Fatalf("in between: %v", s)
	}
}

// TestMovesAreBounded: a big call that moves does not ask for all seats at once.
func TestMovesAreBounded(t *testing.T) {
	const members = 3 * movesAtOnce
	w := newWorld(t, t.TempDir(), nil, nil)
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	lobby := w.channelID(w.boss(), "Lobby")
	call := w.callOf(lobby)
	for i := range members {
		user := snowflake.ID(1000 + i)
		for _, in := range []guild.Input{guild.Join{User: textchat.User{ID: user}}, guild.VoiceUpdate{User: user, Session: "s", Channel: call.ID}} {
			if _, err := o.do(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		w.voice.expect(t, "place")
	}
	release := make(chan struct{})
	for { // all are placed
		if n, err := read(t.Context(), o, func(g *guild.Guild) (int, error) { return g.VoiceCount(), nil }); err != nil {
			t.Fatal(err)
		} else if n == members {
			break
		}
	}
	w.voice.mu.Lock()
	w.voice.busiest, w.voice.hold = 0, release
	w.voice.mu.Unlock()
	w.voice.move(allocator.Moved{Call: call, From: "n1", To: "n2", Epoch: 2, Cause: allocator.CauseNodeLost})
	for range movesAtOnce {
		w.voice.expect(t, "place")
	}
	close(release)
	for range members - movesAtOnce {
		w.voice.expect(t, "place")
	}
	w.voice.mu.Lock()
	defer w.voice.mu.Unlock()
	if w.voice.busiest != movesAtOnce {
		t.Errorf("%d seats were asked for at once, want %d", w.voice.busiest, movesAtOnce)
	}
}

// poison is an input that panics in the core.
type poison struct{ guild.Input }

// TestGuildPanic: a fault in one guild, in an input or in a look at it, restarts that guild
// only. Another one goes on as if nothing had been: the same core, its calls, its events.
func TestGuildPanic(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	created := w.do("POST", "/guilds", boss.token, map[string]any{"name": "second"}).body
	second, err := snowflake.Parse(created["id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	channels := map[float64]string{}
	for _, c := range w.do("GET", "/guilds/"+second.String()+"/channels", boss.token, nil).list(t) {
		channels[c["type"].(float64)] = c["id"].(string)
	}
	code := w.do("POST", "/channels/"+channels[0]+"/invites", boss.token, nil).body["code"]
	guest := w.do("POST", "/auth/guest", "", map[string]any{"invite": code, "nickname": "Bob"}).body
	bob := person{guest["user"].(map[string]any)["id"].(string), guest["token"].(string)}

	a, b := w.enter(ann), w.enter(bob)
	b.joinVoice(second.String(), channels[2], false)
	w.voice.expect(t, "place "+bob.id)
	b.event("VOICE_STATE_UPDATE")
	b.event("VOICE_SERVER_UPDATE")
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.srv.owner(second)
	if err != nil {
		t.Fatal(err)
	}
	core := func(o *owner) *guild.Guild {
		t.Helper()
		g, err := read(t.Context(), o, func(g *guild.Guild) (*guild.Guild, error) { return g, nil })
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	broken, sound, was := core(o), core(other), testutil.ToFloat64(w.srv.metrics.panics.WithLabelValues("guild"))
	lobby := w.channelID(ann, "Lobby")
	for i, fault := range []func() error{
		func() error { return o.ask(t.Context(), func() error { panic("poison") }) },
		func() error { _, err := o.do(t.Context(), poison{}); return err },
	} {
		a.joinVoice(w.guildID(), lobby, false)
		w.voice.expect(t, "place "+ann.id)
		a.event("VOICE_STATE_UPDATE")
		a.event("VOICE_SERVER_UPDATE")
		if err := fault(); err != errStartsAgain {
			t.Fatalf("a panic is answered %v", err)
		}
		w.voice.expect(t, "remove "+ann.id+" guild_restarted")
		if g := a.event("GUILD_CREATE"); g["id"] != w.guildID() || len(g["voice_states"].([]any)) != 0 || g["member_count"] != 2.0 {
			t.Fatalf("after the restart: %v", g)
		}
		w.do("POST", "/channels/"+channels[0]+"/messages", bob.token, map[string]any{"content": fmt.Sprint(i)})
		if e := b.event("MESSAGE_CREATE"); e["content"] != fmt.Sprint(i) { // the next one, by its number too
			t.Errorf("the other guild says %v", e)
		}
		if now := core(o); now == broken {
			t.Error("the core that broke goes on")
		} else {
			broken = now
		}
		talk, err := read(t.Context(), other, func(g *guild.Guild) (int, error) { return g.VoiceCount(), nil })
		if again, _ := w.srv.owner(second); err != nil || again != other || core(other) != sound || talk != 1 {
			t.Errorf("the other guild is not what it was; %d talk there, %v", talk, err)
		}
		if n := testutil.ToFloat64(w.srv.metrics.panics.WithLabelValues("guild")) - was; n != float64(i+1) {
			t.Errorf("%v panics are counted after %d", n, i+1)
		}
	}
	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place "+ann.id)
	a.event("VOICE_STATE_UPDATE")
	b.quiet()
}

// brokenStore fails to read guilds while it is broken.
type brokenStore struct {
	textchat.Store
	broken atomic.Bool
}

func (s *brokenStore) Guild(ctx context.Context, id textchat.ID) (textchat.GuildRecord, error) {
	if s.broken.Load() {
		return textchat.GuildRecord{}, textchat.ErrBusy
	}
	return s.Store.Guild(ctx, id)
}

// TestGuildPanicUnread holds that a guild that cannot be read after a fault is tried again
// without anybody asking, and its sessions get it then.
func TestGuildPanicUnread(t *testing.T) {
	t.Parallel()
	store := new(brokenStore)
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { store.Store, s.store = s.store, store })
	ann := w.guest("Ann")
	a := w.enter(ann)
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	store.broken.Store(true)
	if err := o.ask(t.Context(), func() error { panic("poison") }); err == nil {
		t.Fatal("a panic went unnoticed")
	}
	a.quiet()
	store.broken.Store(false)
	a.event("GUILD_CREATE")
}

// TestWaitsInLine: who finds no seat waits in line, hears of its place, and gets in
// when there is room, before who came later.
func TestWaitsInLine(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann, bob := w.guest("Ann"), w.guest("Bob")
	a, b := w.enter(ann), w.enter(bob)
	lobby := w.channelID(ann, "Lobby")
	full := allocator.Refuse(allocator.CodeFull, "full here")
	full.Full = &allocator.Full{SeatEvery: 30, Elsewhere: &allocator.Elsewhere{Node: "far-1", Region: "far", RTT: 180, RTTFrom: "client"}}
	refuse := func(err error) {
		w.voice.mu.Lock()
		defer w.voice.mu.Unlock()
		w.voice.refuse = err
	}
	refuse(full)
	join := map[string]any{"guild_id": w.guildID(), "channel_id": lobby}
	a.send(4, join)
	e := a.event("VOICE_ERROR")
	more, _ := e["full"].(map[string]any)
	room, _ := more["elsewhere"].(map[string]any)
	if e["code"] != "full" || more["place"] != 1.0 || more["wait"] != 30.0 || room["rtt_ms"] != 180.0 || room["node"] != "far-1" {
		t.Fatalf("offered %v", e)
	}
	join["wait"] = true
	a.send(4, join)
	if e := a.event("VOICE_ERROR"); e["code"] != "queued" {
		t.Fatalf("first in line: %v", e)
	}
	b.send(4, join)
	if e := b.event("VOICE_ERROR"); e["code"] != "queued" || e["full"].(map[string]any)["place"] != 2.0 {
		t.Fatalf("second in line: %v", e)
	}
	refuse(nil)
	a.event("VOICE_STATE_UPDATE")
	if s := a.event("VOICE_SERVER_UPDATE"); s["token"] == "" {
		t.Fatalf("the first gets %v", s)
	}
	b.event("VOICE_STATE_UPDATE") // of the first
	if e := b.event("VOICE_ERROR"); e["code"] != "queued" || e["full"].(map[string]any)["place"] != 1.0 {
		t.Fatalf("moved up: %v", e)
	}
	b.event("VOICE_STATE_UPDATE")
	if s := b.event("VOICE_SERVER_UPDATE"); s["token"] == "" {
		t.Fatalf("the second gets %v", s)
	}
}

// TestRegionOfAChannel: a channel with a region has its live call moved there, and
// its next ones begin there, wherever their first member is.
func TestRegionOfAChannel(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	lobby := w.channelID(ann, "Lobby")
	w.do("PATCH", "/channels/"+lobby, boss.token, map[string]any{"topic": "t"})
	w.do("PATCH", "/channels/"+lobby, boss.token, map[string]any{"rtc_region": "us-east"})
	w.voice.expect(t, "move "+lobby+" to us-east by user "+boss.id+", region")
	w.do("PATCH", "/channels/"+lobby, boss.token, map[string]any{"rtc_region": "us-east"}) // as it is
	a := w.enter(ann)
	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place")
	w.voice.mu.Lock()
	defer w.voice.mu.Unlock()
	if r := w.voice.last; r.Region != "us-east" || len(r.RTT) > 0 || r.Location != nil {
		t.Errorf("placed by %+v", r)
	}
}
