package chatserver

import (
	"fmt"
	"testing"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// visitor is a guest who comes by a temporary invite.
func (w *world) visitor(boss person, name string) person {
	w.t.Helper()
	code := w.do("POST", "/channels/"+w.channelID(boss, "general")+"/invites", boss.token, map[string]any{"temporary": true}).body["code"]
	a := w.do("POST", "/auth/guest", "", map[string]any{"invite": code, "nickname": name})
	return person{a.body["user"].(map[string]any)["id"].(string), a.body["token"].(string)}
}

// visits waits until it is known that temporary members have so many sessions.
func (w *world) visits(n int) {
	w.t.Helper()
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, fmt.Sprintf("there are %d sessions", n), func() bool {
		have, err := read(w.t.Context(), o, func(g *guild.Guild) (int, error) { return len(g.Sessions()), nil })
		return err == nil && have == n
	})
}

// isMember says whether p is a member, as boss sees it.
func (w *world) isMember(boss, p person) bool {
	w.t.Helper()
	a := w.try("GET", "/guilds/"+w.guildID()+"/members/"+p.id, boss.token, nil)
	if a.status != 200 && a.status != 404 {
		w.t.Fatalf("member: %d %s", a.status, a.raw)
	}
	return a.status == 200
}

// TestTemporaryInvite holds that who came by a temporary invite is a member until its last
// session is gone for good: not before it had one, nor while one can be resumed, nor if it
// was given a role.
func TestTemporaryInvite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	member := "/guilds/" + w.guildID() + "/members/"
	cat, dan, eve := w.visitor(boss, "cat"), w.visitor(boss, "dan"), w.visitor(boss, "eve")
	if a := w.do("GET", member+cat.id, boss.token, nil); a.body["temporary"] != true || a.body["visited"] != nil {
		t.Errorf("cat is %s", a.raw)
	}
	bs := w.enter(boss)

	first, second := w.enter(cat), w.enter(cat)
	w.visits(2)
	first.ws.WriteClose(1000, nil)
	w.visits(1)
	bs.quiet()
	second.breakOff()
	second = w.takeUp(second, cat)
	bs.quiet()
	second.ws.WriteClose(1000, nil)
	if e := bs.event("GUILD_MEMBER_REMOVE"); field(e, "user.id") != cat.id {
		t.Errorf("%v is removed", e)
	}
	if a := w.try("GET", "/guilds/"+w.guildID(), cat.token, nil); a.status != 404 {
		t.Errorf("cat is answered %d %s", a.status, a.raw)
	}

	role := w.do("POST", "/guilds/"+w.guildID()+"/roles", boss.token, map[string]any{"name": "vip"}).body["id"].(string)
	bs.until("GUILD_AUDIT_LOG_ENTRY_CREATE")
	ds := w.enter(dan)
	w.visits(1)
	w.do("PUT", member+dan.id+"/roles/"+role, boss.token, nil)
	if e := bs.event("GUILD_MEMBER_UPDATE"); e["temporary"] != nil {
		t.Errorf("dan is %v", e)
	}
	if e := bs.event("GUILD_AUDIT_LOG_ENTRY_CREATE"); e["action_type"] != 25.0 {
		t.Errorf("entry %v", e)
	}
	ds.ws.WriteClose(1000, nil)
	ds.closeCode()
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "dan is offline", func() bool {
		n, err := read(t.Context(), o, func(*guild.Guild) (int, error) { return len(o.seen) + len(o.visits), nil })
		return err == nil && n == 1
	})
	bs.quiet()
	if !w.isMember(boss, dan) || !w.isMember(boss, eve) {
		t.Error("who has a role, or was never online, is removed")
	}

	// Who joins while it is online is there at once; a restart of the guild changes nothing.
	reg := w.do("POST", "/auth/register", "", map[string]any{"username": "fay", "password": "correct horse"})
	fay := person{reg.body["user"].(map[string]any)["id"].(string), reg.body["token"].(string)}
	fs := w.dial("?v=10")
	fs.next()
	fs.send(2, identify(fay.token, allIntents))
	fs.event("READY")
	code := w.do("POST", "/channels/"+w.channelID(boss, "general")+"/invites", boss.token, map[string]any{"temporary": true}).body["code"].(string)
	w.do("POST", "/invites/"+code, fay.token, nil)
	fs.event("GUILD_CREATE")
	w.visits(1)
	bs.until("GUILD_MEMBER_ADD")
	if err := o.ask(t.Context(), func() error { panic("poison") }); err == nil {
		t.Fatal("a panic went unnoticed")
	}
	bs.event("GUILD_CREATE")
	w.visits(1)
	fs.ws.WriteClose(1000, nil)
	if e := bs.event("GUILD_MEMBER_REMOVE"); field(e, "user.id") != fay.id {
		t.Errorf("%v is removed", e)
	}
}

// TestInstancesTemporaryInvite holds that the sessions of all instances count, whatever
// their presence, and that those of one that was started again end when they cannot be
// resumed any more.
func TestInstancesTemporaryInvite(t *testing.T) {
	t.Parallel()
	all := newTweaked(t, 2, func(s *Server) { s.instanceGrace, s.resumeWindow = 100*time.Millisecond, 2*time.Second })
	lead := all.leader()
	here, there := all.worlds[lead], all.worlds[1-lead]
	boss := all.worlds[0].boss()
	bs := here.enter(boss)
	cat, dan := there.visitor(boss, "cat"), there.visitor(boss, "dan")
	bs.until("GUILD_MEMBER_ADD")
	bs.until("GUILD_MEMBER_ADD")
	first, second := here.enter(cat), there.enter(cat)
	second.send(3, map[string]any{"since": nil, "activities": []any{}, "status": "invisible", "afk": false})
	there.enter(dan)
	here.visits(3)
	first.ws.WriteClose(1000, nil)
	here.visits(2)
	bs.quiet()
	if !here.isMember(boss, cat) {
		t.Error("a session at another instance does not count")
	}
	second.ws.WriteClose(1000, nil)
	if e := bs.event("GUILD_MEMBER_REMOVE"); field(e, "user.id") != cat.id {
		t.Errorf("%v is removed", e)
	}
	here.visits(1)
	there.end()
	all.add(t, there.srv.cfg.Instance, there.srv.store, there.srv.files)
	bs.quiet()
	if e := bs.event("GUILD_MEMBER_REMOVE"); field(e, "user.id") != dan.id {
		t.Errorf("%v is removed", e)
	}
}

// TestAloneTemporaryInvite holds that who comes back after a restart stays, and who does
// not is removed when its session cannot be resumed any more.
func TestAloneTemporaryInvite(t *testing.T) {
	t.Parallel()
	l := newLone(t)
	l.tweak = func(s *Server) { s.resumeWindow = 2 * time.Second }
	boss := l.boss()
	cat, dan := l.visitor(boss, "cat"), l.visitor(boss, "dan")
	bs, cs := l.enter(boss), l.enter(cat)
	l.enter(dan)
	l.visits(2)
	bs.breakOff()
	cs.breakOff()
	l.killed(t)
	bs, cs = l.resume(boss, bs), l.resume(cat, cs)
	cs.until("RESUMED")
	bs.until("RESUMED")
	if e := bs.event("GUILD_MEMBER_REMOVE"); field(e, "user.id") != dan.id {
		t.Errorf("%v is removed", e)
	}
	l.visits(1)
	cs.ws.WriteClose(1000, nil)
	if e := bs.event("GUILD_MEMBER_REMOVE"); field(e, "user.id") != cat.id {
		t.Errorf("%v is removed", e)
	}
}

// TestVisitsLoaded holds that a server that forgets its sessions as it ends expects back who
// was there, and nobody else.
func TestVisitsLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, dir, nil, nil)
	boss := w.boss()
	cat, dan := w.visitor(boss, "cat"), w.visitor(boss, "dan")
	w.enter(cat)
	w.visits(1)
	w.end()
	w = newWorld(t, dir, nil, nil)
	if !w.isMember(boss, cat) || !w.isMember(boss, dan) {
		t.Fatal("somebody is removed at once")
	}
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	deadline := func() time.Time {
		at, err := read(t.Context(), o, func(g *guild.Guild) (time.Time, error) { return g.Deadline(), nil })
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	eventually(t, "cat has time to come back", func() bool { return time.Until(deadline()) > textchat.ResumeWindow })
	cs := w.enter(cat)
	w.visits(1)
	if at := deadline(); !at.IsZero() {
		t.Errorf("cat is back, and somebody is expected until %v", at)
	}
	cs.ws.WriteClose(1000, nil)
	eventually(t, "cat is removed", func() bool { return !w.isMember(boss, cat) })
	if !w.isMember(boss, dan) {
		t.Error("dan, who was never online, is removed")
	}
}
