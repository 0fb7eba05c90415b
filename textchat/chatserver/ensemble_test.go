package chatserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/internal/gatewaysession"
	core "voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/sqlite"
)

// together are several instances on one store and one bus, in this process.
type together struct {
	worlds []*world
	voice  *voiceSide
	bus    *bus.Embedded
	tweak  func(*Server)
	change []func(*Config)
}

func newTogether(t testing.TB, n int, change ...func(*Config)) *together {
	t.Helper()
	return newTweaked(t, n, nil, change...)
}

// newTweaked has each of them changed before it runs.
func newTweaked(t testing.TB, n int, tweak func(*Server), change ...func(*Config)) *together {
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
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: t.TempDir(), Token: "only in process"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	all := &together{voice: newVoiceSide(), bus: server, tweak: tweak, change: change}
	for i := range n {
		all.add(t, fmt.Sprint(i), store, files)
	}
	all.see(t, n)
	return all
}

// add starts one more.
func (all *together) add(t testing.TB, name string, store textchat.Store, files Files) *world {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{Embedded: all.bus, Name: bus.ClientName(bus.RoleText, name)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w := newWorld(t, "", func(c *Config) {
		c.Store, c.Files, c.Bus, c.Instance, c.Worker = store, files, conn, name, uint16(len(all.worlds))
		c.Placer, c.Presence, c.Moves = all.voice, all.voice, all.voice
		for _, change := range all.change {
			change(c)
		}
	}, all.tweak)
	w.voice = all.voice
	all.worlds = append(all.worlds, w)
	return w
}

// see waits until each of them knows that there are n.
func (all *together) see(t testing.TB, n int) {
	t.Helper()
	for _, w := range all.worlds {
		if w.srv.life.Err() != nil {
			continue
		}
		eventually(t, fmt.Sprintf("instance %s sees %d", w.srv.cfg.Instance, n), func() bool { return len(w.srv.ensemble.others()) == n-1 })
	}
}

// eventually waits until what no event tells of is true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, patience)
		case <-tick.C:
		}
	}
}

// leader is the index of the instance that leads the first guild.
func (all *together) leader() int {
	return slices.IndexFunc(all.worlds, func(w *world) bool {
		return w.srv.life.Err() == nil && w.srv.ensemble.leader(w.first.Guild) == w.srv.cfg.Instance
	})
}

// TestInstancesServeOneGuild holds that users of three instances are together as if
// there were one.
func TestInstancesServeOneGuild(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 3)
	w := all.worlds
	boss := w[0].boss()
	ann, bob := w[1].guest("ann"), w[2].guest("bob")
	sockets := []*socket{w[0].enter(boss), w[1].enter(ann), w[2].enter(bob)}
	general := w[0].channelID(boss, "general")

	// Messages by way of any instance reach all, once, in one order.
	var want []string
	for i := range 12 {
		text := fmt.Sprintf("message %d", i)
		want = append(want, text)
		w[i%3].do("POST", "/channels/"+general+"/messages", []person{boss, ann, bob}[i%3].token, map[string]any{"content": text})
	}
	for i, s := range sockets {
		for _, text := range want {
			if got := s.until("MESSAGE_CREATE")["content"]; got != text {
				t.Fatalf("at instance %d came %q, want %q", i, got, text)
			}
		}
	}

	// What one changed all have: whoever asked at once, the others with the event.
	role := w[2].do("POST", "/guilds/"+w[0].guildID()+"/roles", boss.token, map[string]any{"name": "vip"}).body["id"].(string)
	w[2].do("PATCH", "/guilds/"+w[0].guildID()+"/roles/"+role, boss.token, map[string]any{"name": "very important"})
	for i, s := range sockets {
		s.until("GUILD_ROLE_CREATE")
		if got := s.until("GUILD_ROLE_UPDATE")["role"].(map[string]any)["name"]; got != "very important" {
			t.Errorf("at instance %d the role is %q", i, got)
		}
	}
	secret := w[1].do("POST", "/guilds/"+w[0].guildID()+"/channels", boss.token, map[string]any{"name": "secret", "type": 0,
		"permission_overwrites": []any{map[string]any{"id": w[0].guildID(), "type": 0, "deny": "1024"}}}).body["id"].(string)
	eventually(t, "instance 2 has the channel", func() bool { return w[2].try("GET", "/channels/"+secret, boss.token, nil).status == 200 })
	if a := w[2].try("GET", "/channels/"+secret, bob.token, nil); a.status != 403 {
		t.Errorf("bob was answered %d %s", a.status, a.raw)
	}
	w[0].do("PUT", "/guilds/"+w[0].guildID()+"/members/"+bob.id+"/roles/"+role, boss.token, nil)
	w[1].do("PUT", "/channels/"+secret+"/permissions/"+role, boss.token, map[string]any{"type": 0, "allow": "1024"})
	if got := sockets[2].until("CHANNEL_CREATE")["id"]; got != secret {
		t.Errorf("bob sees %v, want %s", got, secret)
	}

	// Refusals name the field, wherever they are found out.
	a := w[(all.leader()+1)%3].try("PATCH", "/guilds/"+w[0].guildID(), boss.token, map[string]any{"system_channel_id": secret + "1"})
	if a.status != 400 || a.body["errors"] == nil {
		t.Errorf("was answered %d %s", a.status, a.raw)
	}

	// Typing, private messages, and who is online.
	w[1].do("POST", "/channels/"+general+"/typing", ann.token, nil)
	for _, s := range sockets {
		if got := s.until("TYPING_START")["user_id"]; got != ann.id {
			t.Errorf("%v writes", got)
		}
	}
	dm := w[1].do("POST", "/users/@me/channels", ann.token, map[string]any{"recipient_id": bob.id}).body["id"].(string)
	w[1].do("POST", "/channels/"+dm+"/messages", ann.token, map[string]any{"content": "psst"})
	if got := sockets[2].until("MESSAGE_CREATE")["content"]; got != "psst" {
		t.Errorf("bob reads %q", got)
	}
	counts := w[2].do("GET", "/guilds/"+w[0].guildID()+"?with_counts=true", bob.token, nil).body
	if counts["approximate_presence_count"] != 3.0 || counts["approximate_member_count"] != 3.0 {
		t.Errorf("%v of %v are online", counts["approximate_presence_count"], counts["approximate_member_count"])
	}

	// A token revoked at one instance ends sessions at another.
	w[0].do("POST", "/auth/logout", bob.token, nil)
	if code := sockets[2].closeCode(); code != 4004 {
		t.Errorf("bob's session was closed with %d", code)
	}
}

// TestInstancesTellWhoIsOnline holds that presences cross instances, and end with an
// instance.
func TestInstancesTellWhoIsOnline(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 2)
	w := all.worlds
	ann, bob := w[0].guest("ann"), w[1].guest("bob")
	enter := func(w *world, p person) *socket {
		s := w.dial("?v=10&encoding=json")
		s.next()
		s.send(2, identify(p.token, int(textchat.IntentsKnown)))
		s.event("READY")
		s.event("GUILD_CREATE")
		return s
	}
	at0 := enter(w[0], ann)
	at1 := enter(w[1], bob)
	if p := at0.until("PRESENCE_UPDATE"); p["status"] != "online" || p["user"].(map[string]any)["id"] != bob.id {
		t.Fatalf("ann sees %v", p)
	}
	at1.send(3, map[string]any{"since": nil, "activities": []any{}, "status": "dnd", "afk": false})
	if p := at0.until("PRESENCE_UPDATE"); p["status"] != "dnd" {
		t.Fatalf("ann sees %v", p)
	}
	w[1].end()
	at1.closeCode()
	if p := at0.until("PRESENCE_UPDATE"); p["status"] != "offline" {
		t.Fatalf("ann sees %v", p)
	}
}

// TestInstancesVoice holds that op 4 goes through the leader, and that the answers
// reach the session.
func TestInstancesVoice(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 3)
	w := all.worlds
	lead := all.leader()
	here, there := (lead+1)%3, (lead+2)%3
	ann, bob := w[here].guest("ann"), w[there].guest("bob")
	as, bs := w[here].enter(ann), w[there].enter(bob)
	lobby := w[here].channelID(ann, "Lobby")
	as.joinVoice(w[here].guildID(), lobby, false)
	all.voice.expect(t, "place "+ann.id)
	if got := as.until("VOICE_SERVER_UPDATE"); got["token"] != "grant1" || got["endpoint"] == "" {
		t.Errorf("ann got %v", got)
	}
	if got := bs.until("VOICE_STATE_UPDATE"); got["user_id"] != ann.id || got["channel_id"] != lobby {
		t.Errorf("bob sees %v", got)
	}
	id, err := snowflake.Parse(lobby)
	if err != nil {
		t.Fatal(err)
	}
	all.voice.tell(edgeagent.CallEvent{Call: sfu.CallID{ID: id}, Opened: &edgeagent.SessionStart{Session: "vs1", User: ann.user()}})

	// Who comes later sees it, and when the leader goes another one knows of it.
	w[lead].end()
	all.see(t, 2)
	cat := w[here].guest("cat")
	cs := w[there].dial("?v=10&encoding=json")
	cs.next()
	cs.send(2, identify(cat.token, allIntents))
	cs.event("READY")
	states := cs.event("GUILD_CREATE")["voice_states"].([]any)
	if len(states) != 1 || states[0].(map[string]any)["user_id"] != ann.id {
		t.Fatalf("cat sees %v", states)
	}
	as.joinVoice(w[here].guildID(), nil, false)
	all.voice.expect(t, "remove "+ann.id)
	if got := bs.until("VOICE_STATE_UPDATE"); got["user_id"] != ann.id || got["channel_id"] != nil {
		t.Errorf("bob sees %v", got)
	}
}

// TestInstancesRestart holds that what an instance leaves behind ends also when another
// life of it is there, and leads again.
func TestInstancesRestart(t *testing.T) {
	t.Parallel()
	all := newTweaked(t, 2, func(s *Server) { s.instanceGrace, s.resumeWindow = time.Second, 2*time.Second })
	w := all.worlds
	lead := all.leader()
	here, there := w[lead], w[1-lead]
	ann, bob := here.guest("ann"), there.guest("bob")
	as := here.enter(ann)
	bs := there.dial("?v=10&encoding=json")
	bs.next()
	bs.send(2, identify(bob.token, int(textchat.IntentsKnown)))
	bs.event("READY")
	bs.event("GUILD_CREATE")
	as.joinVoice(here.guildID(), here.channelID(ann, "Lobby"), false)
	if got := bs.until("VOICE_STATE_UPDATE"); got["user_id"] != ann.id || got["channel_id"] == nil {
		t.Fatalf("bob sees %v", got)
	}
	here.end()
	all.add(t, here.srv.cfg.Instance, there.srv.store, there.srv.files)
	offline, left := false, false
	for !offline || !left {
		switch f := bs.next(); f.T {
		case "PRESENCE_UPDATE":
			offline = f.data()["status"] == "offline"
		case "VOICE_STATE_UPDATE":
			left = f.data()["channel_id"] == nil
		}
	}
}

// TestInstancesResume holds that a session goes on at another instance: what its client
// has not seen comes once, in order, whether its instance lives, has ended, or was cut
// off without a word.
func TestInstancesResume(t *testing.T) {
	for _, how := range []string{"lives", "ends", "dies"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			all := newTogether(t, 3)
			w := all.worlds
			here, there, third := 0, 1, 2
			ann, bob := w[here].guest("ann"), w[there].guest("bob")
			as, bs := w[here].enter(ann), w[there].enter(bob)
			general := w[there].channelID(bob, "general")
			dm := w[there].do("POST", "/users/@me/channels", bob.token, map[string]any{"recipient_id": ann.id}).body["id"].(string)
			n := 0
			post := func(w *world, channel string) {
				n++
				w.do("POST", "/channels/"+channel+"/messages", bob.token, map[string]any{"content": fmt.Sprint(n)})
			}
			read := 0
			expect := func(s *socket, to int) {
				t.Helper()
				for read < to {
					read++
					if got := s.until("MESSAGE_CREATE")["content"]; got != fmt.Sprint(read) {
						t.Fatalf("ann reads %v, want %d", got, read)
					}
				}
			}
			// Marks are told each second, and what the first says is two older.
			eventually(t, "the others know of this instance", func() bool {
				_, ok := w[there].srv.ensemble.mirrors.spots(w[here].srv.ensemble.life, 0)
				return ok || w[there].srv.ensemble.mirrors.lives(w[here].srv.ensemble.life)
			})
			for range 5 {
				post(w[there], general)
			}
			post(w[there], dm)
			expect(as, 6)
			as.breakOff()
			for i := range 6 {
				post(w[there+i%2], []string{general, dm}[i/3])
			}
			for range 9 {
				bs.until("MESSAGE_CREATE")
			}
			switch how {
			case "ends":
				w[here].end()
			case "dies":
				w[here].srv.ensemble.bus.Close()
			}
			again := w[third].dial("?v=10&encoding=json")
			again.next()
			again.last = as.last
			again.send(6, map[string]any{"token": ann.token, "session_id": as.session, "seq": as.last})
			seen := map[string]bool{}
			for {
				f := again.next()
				if f.Op == 9 {
					t.Fatal("the session cannot be resumed")
				}
				if f.T == "RESUMED" {
					break
				}
				if f.T == "MESSAGE_CREATE" {
					seen[f.data()["content"].(string)] = true
				}
			}
			for i := 7; i <= 12; i++ {
				if !seen[fmt.Sprint(i)] {
					t.Errorf("%d is missing", i)
				}
			}
			if len(seen) != 6 {
				t.Errorf("came %v", slices.Sorted(maps.Keys(seen)))
			}
			// It goes on there, and from there to the next.
			read = 12
			post(w[there], general)
			expect(again, 13)
			again.breakOff()
			post(w[there], general)
			last := w[there].dial("?v=10&encoding=json")
			last.next()
			last.last = again.last
			last.send(6, map[string]any{"token": ann.token, "session_id": as.session, "seq": again.last})
			expect(last, 14)
			last.until("RESUMED")
			post(w[third], dm)
			expect(last, 15)
			// Where it ends the others are told.
			w[there].do("POST", "/auth/logout", ann.token, nil)
			eventually(t, "another instance knows that the session has ended", func() bool {
				a, ok := w[third].srv.ensemble.mirrors.adoption(as.session)
				return ok && !a.Ended.IsZero()
			})
		})
	}
}

// known waits until instances know the order of another one.
func (all *together) known(t *testing.T, of *world, by ...*world) {
	t.Helper()
	for _, w := range by {
		eventually(t, "instance "+w.srv.cfg.Instance+" knows the order of "+of.srv.cfg.Instance, func() bool {
			return w.srv.ensemble.mirrors.lives(of.srv.ensemble.life)
		})
	}
}

// marked is the time of the last mark that an instance has of another.
func (w *world) marked(of *world) int64 {
	m := &w.srv.ensemble.mirrors
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range slices.Backward(m.mirror(of.srv.ensemble.life).list) {
		if d.T != 0 {
			return d.T
		}
	}
	return 0
}

// TestInstancesTyping holds that what is no entry of the log leaves the order as it is.
func TestInstancesTyping(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 2)
	w := all.worlds
	ann := w[0].guest("ann")
	as := w[0].enter(ann)
	general := w[0].channelID(ann, "general")
	all.known(t, w[0], w[1])
	w[0].do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "hello"})
	w[0].do("POST", "/channels/"+general+"/typing", ann.token, nil)
	as.until("TYPING_START")
	for range 2 {
		before := w[1].marked(w[0])
		eventually(t, "marks go on", func() bool { return w[1].marked(w[0]) > before })
	}
}

// TestInstancesResumeAnew holds that a client that was cut off again before it had read
// anything, or in the middle of its log-in, misses nothing.
func TestInstancesResumeAnew(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 3)
	w := all.worlds
	ann, bob, cat := w[0].guest("ann"), w[1].guest("bob"), w[0].guest("cat")
	as, bs := w[0].enter(ann), w[1].enter(bob)
	general := w[1].channelID(bob, "general")
	all.known(t, w[0], w[1], w[2])

	cs := w[0].dial("?v=10&encoding=json")
	cs.next()
	cs.send(2, identify(cat.token, allIntents))
	session := cs.event("READY")["session_id"].(string)
	for _, x := range []*world{w[1], w[2]} { // from 1 it is gone before it has read anything
		cs.breakOff()
		cs = x.dial("?v=10&encoding=json")
		cs.next()
		cs.last = 1
		cs.send(6, map[string]any{"token": cat.token, "session_id": session, "seq": 1})
		eventually(t, "the session is there", func() bool { return x.srv.hub.session(session) != nil })
	}
	if f := cs.next(); f.T != "GUILD_CREATE" {
		t.Fatalf("came op %d %s", f.Op, f.T)
	}
	cs.until("RESUMED")

	post := func(i int) {
		w[1].do("POST", "/channels/"+general+"/messages", bob.token, map[string]any{"content": fmt.Sprint(i)})
	}
	post(1)
	as.until("MESSAGE_CREATE")
	as.breakOff()
	for i := 2; i <= 4; i++ {
		post(i)
	}
	for range 4 {
		bs.until("MESSAGE_CREATE")
	}
	resume := func(w *world) *socket {
		s := w.dial("?v=10&encoding=json")
		s.next()
		s.last = as.last
		s.send(6, map[string]any{"token": ann.token, "session_id": as.session, "seq": as.last})
		return s
	}
	// At 2 the client is gone before it has read anything.
	x := resume(w[2])
	eventually(t, "instance 2 has the session", func() bool { return w[2].srv.hub.session(as.session) != nil })
	x.breakOff()
	y := resume(w[1])
	for i := 2; i <= 4; i++ {
		if got := y.until("MESSAGE_CREATE")["content"]; got != fmt.Sprint(i) {
			t.Fatalf("ann reads %v, want %d", got, i)
		}
	}
	y.until("RESUMED")
	if w[2].srv.hub.session(as.session) != nil {
		t.Error("instance 2 has the session still")
	}
}

// TestInstancesResumeKicked holds that who was kicked while away is told so wherever the
// session goes on, once.
func TestInstancesResumeKicked(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 3)
	w := all.worlds
	boss, ann := w[0].boss(), w[0].guest("ann")
	as := w[0].enter(ann)
	general := w[1].channelID(boss, "general")
	all.known(t, w[0], w[1], w[2])
	w[1].do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": "hello"})
	as.until("MESSAGE_CREATE")
	as.breakOff()
	w[1].do("DELETE", "/guilds/"+w[1].guildID()+"/members/"+ann.id, boss.token, nil)
	eventually(t, "the instances know", func() bool {
		for _, x := range w {
			e := x.srv.ensemble
			e.usersMu.Lock()
			told := slices.ContainsFunc(e.past, func(p usersPast) bool { return p.entry.Leave != nil })
			e.usersMu.Unlock()
			if !told {
				return false
			}
		}
		return true
	})
	last := as.last
	for i, want := range []string{"GUILD_DELETE", "RESUMED"} {
		s := w[2-i].dial("?v=10&encoding=json")
		s.next()
		s.last = last
		s.send(6, map[string]any{"token": ann.token, "session_id": as.session, "seq": last})
		f := s.next()
		if f.T != want || want == "GUILD_DELETE" && f.data()["id"] != w[0].guildID() {
			t.Fatalf("after %d came op %d %s %s", last, f.Op, f.T, f.D)
		}
		if want == "GUILD_DELETE" {
			s.until("RESUMED")
		}
		last = s.last
		s.breakOff()
	}
}

// TestInstancesResumeUnsure holds that a session is not resumed where it cannot be known
// whether an instance that is gone had it meanwhile.
func TestInstancesResumeUnsure(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 2)
	w := all.worlds
	ann := w[0].guest("ann")
	resume := func(s *socket) frame {
		again := w[0].dial("?v=10&encoding=json")
		again.next()
		again.send(6, map[string]any{"token": ann.token, "session_id": s.session, "seq": s.last})
		return again.next()
	}
	before := w[0].enter(ann)
	m := &w[0].srv.ensemble.mirrors
	m.follow(orderNote{Life: "gone" + lifeSep + "1", N: 1})
	m.follow(orderNote{Life: "gone" + lifeSep + "1", N: 5})
	after := w[0].enter(ann)
	if f := resume(before); f.Op != 9 {
		t.Errorf("the one that was there before came back: op %d %s", f.Op, f.T)
	}
	if f := resume(after); f.T != "RESUMED" {
		t.Errorf("the one that is newer did not: op %d %s", f.Op, f.T)
	}
}

// TestInstancesTakeOver holds that an heir that did not know the guild asks again for
// the seat of who was on the way into voice, and that one who begins to serve a guild
// waits for what a busy leader knows.
func TestInstancesTakeOver(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 3)
	w := all.worlds
	boss := w[0].boss()
	user, err := w[0].srv.store.User(t.Context(), boss.user().ID)
	if err != nil {
		t.Fatal(err)
	}
	// A guild that 1 leads, then 2.
	var guild, lobby textchat.ID
	for guild == 0 || w[0].srv.ensemble.leader(guild) != "1" || leaderOf([]string{"0", "2"}, guild) != "2" {
		r, err := w[0].srv.makeGuild(t.Context(), "another", user, true)
		if err != nil {
			t.Fatal(err)
		}
		guild, lobby = r.Guild.ID, r.Channels[1].ID
	}
	s := w[0].dial("?v=10&encoding=json")
	s.next()
	s.send(2, identify(boss.token, allIntents))
	for s.until("GUILD_CREATE")["id"] != guild.String() {
	}
	all.voice.mu.Lock()
	hold := make(chan struct{})
	all.voice.hold = hold
	all.voice.mu.Unlock()
	s.joinVoice(guild.String(), lobby.String(), false)
	all.voice.expect(t, "place "+boss.id)
	ended := make(chan struct{})
	go func() { defer close(ended); w[1].end() }()
	for _, x := range []*world{w[0], w[2]} {
		eventually(t, "one is gone", func() bool { return len(x.srv.ensemble.others()) == 1 })
	}
	all.voice.expect(t, "place "+boss.id)
	close(hold)
	<-ended
	s.until("VOICE_SERVER_UPDATE")

	heir, err := w[2].srv.owner(guild)
	if err != nil {
		t.Fatal(err)
	}
	busy := make(chan struct{})
	heir.later(func() { <-busy })
	late := all.add(t, "3", w[0].srv.store, w[0].srv.files)
	o, err := late.srv.owner(guild)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() { asked <- o.ask(t.Context(), func() error { return nil }) }()
	eventually(t, "the busy leader is asked", func() bool { return len(heir.inbox) > 0 })
	close(busy)
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	n, err := read(t.Context(), o, func(g *core.Guild) (int, error) { return g.VoiceCount(), nil })
	if err != nil || n != 1 {
		t.Errorf("who came last has %d in voice: %v", n, err)
	}
}

// TestInstancesKnowWhatIsNew holds that a channel can be used at an instance that has not
// been told of it yet.
func TestInstancesKnowWhatIsNew(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 2)
	boss := all.worlds[0].boss()
	lead := all.leader()
	here, there := all.worlds[lead], all.worlds[1-lead]
	o, err := there.srv.owner(all.worlds[0].first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ask(t.Context(), func() error { o.unshare(); return nil }); err != nil { // it hears nothing
		t.Fatal(err)
	}
	channel := here.do("POST", "/guilds/"+o.key+"/channels", boss.token, map[string]any{"name": "new"}).body["id"].(string)
	there.do("POST", "/channels/"+channel+"/messages", boss.token, map[string]any{"content": "hello"})
}

// TestInstancesRemember holds that an instance knows what was handled of a guild that
// nobody else has any more.
func TestInstancesRemember(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 1)
	first := all.worlds[0]
	ann := first.guest("ann")
	general := first.channelID(ann, "general")
	posted := first.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "hello"}).body["id"].(string)
	first.end()
	next := all.add(t, "next", first.srv.store, first.srv.files)
	o, err := next.srv.owner(first.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ask(t.Context(), func() error {
		if _, known := o.recent.get(newMessage + posted); !known {
			t.Error("the message would be told of once more")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestInstancesTellMany: an instance that comes is told of more people online than fit
// into one message of the bus, and does not say of each of them that it is not there.
func TestInstancesTellMany(t *testing.T) {
	t.Parallel()
	const online = 30_000
	all := newTogether(t, 1)
	first := all.worlds[0]
	o, err := first.srv.owner(first.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ask(t.Context(), func() error {
		for i := range textchat.ID(online) {
			o.seen[1<<60+i] = &shown{local: gatewaysession.PresenceUpdate{Status: gatewaysession.Online}}
		}
		if n := len(encode(o.onlineHere())); n < 1<<20 {
			t.Errorf("they are told in %d bytes", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	told := make(chan onlineNote, online+1)
	notes, err := bus.Subscribe(t.Context(), first.srv.ensemble.bus, bus.OnlineSubject(o.key), func(_ string, n onlineNote) { told <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Unsubscribe()
	next := all.add(t, "next", first.srv.store, first.srv.files)
	theirs, err := next.srv.owner(first.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	look := func() error {
		if n := len(theirs.seen); n != online {
			t.Errorf("%d are seen, want %d", n, online)
		}
		theirs.note(onlineNote{User: 1}) // comes after all that it said
		return nil
	}
	// With the race detector on a busy machine it reads for longer than anybody waits.
	for end := time.Now().Add(patience); ; {
		if err := theirs.ask(t.Context(), look); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if n := <-told; n.User != 1 {
		t.Errorf("it tells how %v is seen there: %+v", n.User, n.Presence)
	}
	p := &first.srv.ensemble.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.of) != 0 {
		t.Errorf("%d answers are kept", len(p.of))
	}
}

// TestParts: an answer is given in parts, once, and not for ever.
func TestParts(t *testing.T) {
	var p parts
	now := time.Now()
	body := bytes.Repeat([]byte("0123456789"), livePart/4)
	first, err := p.keep(now, body)
	if err != nil || first.Size != len(body) {
		t.Fatal(first.Size, err)
	}
	whole := first.Part
	for len(whole) < len(body) {
		next, err := p.part(first.Parts, len(whole))
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, next.Part...)
	}
	if !bytes.Equal(whole, body) {
		t.Error("the parts are not the whole")
	}
	if _, err := p.part(first.Parts, 0); err == nil {
		t.Error("a whole answer is kept")
	}
	for range partsMost {
		if _, err := p.keep(now, body); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.keep(now, body); err == nil {
		t.Error("as many are kept as one likes")
	}
	if _, err := p.keep(now.Add(partsKept+1), body); err != nil || len(p.of) != 1 {
		t.Errorf("%d are kept that nobody fetched: %v", len(p.of), err)
	}
}

// TestLeaders holds that guilds are spread evenly and that an instance that comes or
// goes moves only what is its own.
func TestLeaders(t *testing.T) {
	names := []string{"0", "1", "2", "3", "4"}
	led := map[string]int{}
	for i := range 10_000 {
		id := textchat.ID(i) << 22
		lead := leaderOf(names, id)
		led[lead]++
		if without := leaderOf(names[:4], id); without != lead && lead != "4" {
			t.Fatalf("guild %d goes from %s to %s when 4 does", id, lead, without)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(led)) {
		if led[name] < 1800 || led[name] > 2200 {
			t.Errorf("%s leads %d of 10000", name, led[name])
		}
	}
}

// TestInstancesPassOver holds that an entry that cannot be read leaves nobody with
// something else than its leader has, and that who comes from elsewhere over it is given
// the guild anew.
func TestInstancesPassOver(t *testing.T) {
	t.Parallel()
	all := newTogether(t, 2)
	w := all.worlds
	lead := all.leader()
	here, there := w[lead], w[1-lead]
	ann, bob := here.guest("ann"), there.guest("bob")
	as, bs := here.enter(ann), there.enter(bob)
	said := fmt.Sprintf(`{"Voice":{"%s":{"Channel":"%s","Session":"%s","Opened":true}}}`, ann.id, here.channelID(ann, "Lobby"), as.session)
	var change core.Delta
	if err := json.Unmarshal([]byte(said), &change); err != nil {
		t.Fatal(err)
	}
	o, err := here.srv.owner(here.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	var seq uint64
	err = o.ask(t.Context(), func() (err error) {
		o.core.Apply(&change)
		seq, err = o.write([]byte("["))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	states := bs.until("GUILD_CREATE")["voice_states"].([]any)
	if len(states) != 1 || states[0].(map[string]any)["user_id"] != ann.id {
		t.Errorf("bob sees %v", states)
	}
	if o, err = there.srv.owner(there.first.Guild); err != nil {
		t.Fatal(err)
	}
	for _, known := range []bool{true, false} { // here, and by the log
		err = o.ask(t.Context(), func() error {
			if !known {
				o.history, o.historyFrom = nil, o.applied
			}
			list, err := o.since(seq - 1)
			if err == nil && (len(list) == 0 || list[0].seq != seq || !list[0].sight) {
				t.Errorf("passed over, %v: %+v", known, list)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
