package chatserver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// passive identifies as a client that tells what it looks at, with all intents.
func passive(token string) map[string]any {
	d := identify(token, int(textchat.IntentsKnown))
	d["capabilities"] = textchat.CapabilityPassive
	return d
}

// TestPassiveSessions holds that a session gets of a large guild that it has not opened
// what it must have, is told what it missed when it opens it, and then gets all; and
// that it sees the members by the list it looks at.
func TestPassiveSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Large = 2 }, nil)
	boss, ann, bob := w.boss(), w.guest("ann"), w.guest("bob")
	general, lobby := w.channelID(ann, "general"), w.channelID(ann, "Lobby")
	bs := w.enter(bob)
	s := w.dial("?v=10&encoding=json")
	s.next()
	s.send(2, passive(ann.token))
	s.event("READY")
	s.event("GUILD_CREATE")
	say := func(text string) string {
		return w.do("POST", "/channels/"+general+"/messages", bob.token, map[string]any{"content": text}).body["id"].(string)
	}
	look := func(open bool, channels map[string]any) {
		s.send(14, map[string]any{"guild_id": w.guildID(), "typing": open, "activities": open, "threads": open, "members": []any{}, "channels": channels})
	}

	// Closed: calls, its own voice state, and marks; no voice states of others, presences,
	// members or typing.
	bs.joinVoice(w.guildID(), lobby, false)
	bs.until("VOICE_STATE_UPDATE")
	w.do("POST", "/channels/"+general+"/typing", bob.token, nil)
	say("one")
	last := say("hello <@" + ann.id + ">")
	if m := s.event("MESSAGE_CREATE"); m["id"] != last {
		t.Fatalf("came %v", m)
	}
	mark := s.event("PASSIVE_UPDATE_V1")
	if c := mark["channels"].([]any); len(c) != 1 || c[0].(map[string]any)["id"] != general || c[0].(map[string]any)["last_message_id"] != last || mark["voice_states"] != nil {
		t.Fatalf("marked %v", mark)
	}
	s.joinVoice(w.guildID(), lobby, false)
	if v := s.until("VOICE_STATE_UPDATE"); v["user_id"] != ann.id {
		t.Fatalf("came %v", v)
	}
	s.until("VOICE_SERVER_UPDATE")

	// It opens the guild, and looks at the members.
	look(true, map[string]any{general: [][2]int{{0, 99}}})
	sync := s.event("PASSIVE_UPDATE_V1")
	if v := sync["voice_states"].([]any); len(v) != 2 || len(sync["members"].([]any)) != 2 {
		t.Fatalf("opened: %v", sync)
	}
	s.event("THREAD_LIST_SYNC")
	names := func(list map[string]any) (names []string) {
		for _, op := range list["ops"].([]any) {
			o := op.(map[string]any)
			items, _ := o["items"].([]any)
			if item, ok := o["item"]; ok {
				items = []any{item}
			}
			for _, i := range items {
				if g, ok := i.(map[string]any)["group"].(map[string]any); ok {
					names = append(names, fmt.Sprint(o["op"], " ", g["id"], " ", g["count"]))
					continue
				}
				m := i.(map[string]any)["member"].(map[string]any)
				name := m["user"].(map[string]any)["global_name"]
				if name == nil {
					name = m["user"].(map[string]any)["username"]
				}
				names = append(names, fmt.Sprint(o["op"], " ", name, " ", m["presence"].(map[string]any)["status"]))
			}
		}
		return names
	}
	first := s.event("GUILD_MEMBER_LIST_UPDATE")
	if got := fmt.Sprint(names(first)); got != "[SYNC online 2 SYNC ann online SYNC bob online SYNC offline 1 SYNC boss offline]" || first["id"] != "everyone" || first["online_count"] != 2.0 {
		t.Fatalf("list %v: %s", first, got)
	}
	say("two")
	if m := s.event("MESSAGE_CREATE"); m["content"] != "two" {
		t.Fatalf("came %v", m)
	}
	w.enter(boss)
	if got := fmt.Sprint(names(s.event("GUILD_MEMBER_LIST_UPDATE"))); got != "[UPDATE online 3 UPDATE boss online]" {
		t.Fatalf("boss came as %s", got)
	}
	role := w.do("POST", "/guilds/"+w.guildID()+"/roles", boss.token, map[string]any{"name": "vip", "hoist": true}).body["id"].(string)
	w.do("PUT", "/guilds/"+w.guildID()+"/members/"+bob.id+"/roles/"+role, boss.token, nil)
	for want := "SYNC " + role + " 1"; ; {
		if got := names(s.until("GUILD_MEMBER_LIST_UPDATE")); got[0] == want || len(got) > 1 && got[1] == want {
			break
		}
	}

	// It looks elsewhere.
	look(false, map[string]any{})
	if op := s.until("GUILD_MEMBER_LIST_UPDATE")["ops"].([]any)[0].(map[string]any); op["op"] != "INVALIDATE" {
		t.Fatalf("came %v", op)
	}
	say("three")
	if m := w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": "all of you: @everyone"}); s.until("MESSAGE_CREATE")["id"] != m.body["id"] {
		t.Error("what calls nobody came")
	}
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ask(t.Context(), func() error {
		if n := len(o.lists.of); n != 1 {
			t.Errorf("%d lists are kept after the last look, want 1", n)
		}
		if at, want := o.toldAt(), time.Now().Add(listKept); at.IsZero() || at.After(want) {
			t.Errorf("they are looked at again at %v, want before %v", at, want)
		}
		o.tellWatchers(time.Now().Add(listKept))
		if n := len(o.lists.of); n != 0 {
			t.Errorf("%d lists are kept for nobody", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	// Channels may share a list: what is left of one is looked at beside the other.
	news := w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "news", "type": 0}).body["id"].(string)
	look(true, map[string]any{general: [][2]int{{0, 99}}, news: [][2]int{{0, 99}}})
	ops := func() (list []string) {
		for _, op := range s.until("GUILD_MEMBER_LIST_UPDATE")["ops"].([]any) {
			list = append(list, op.(map[string]any)["op"].(string))
		}
		return list
	}
	if got := ops(); len(got) != 1 || got[0] != "SYNC" {
		t.Fatalf("of two channels with one list came %v", got)
	}
	look(true, map[string]any{news: [][2]int{{0, 199}}})
	if got := ops(); len(got) != 1 || got[0] != "SYNC" {
		t.Fatalf("of one of them came %v", got)
	}
	look(true, map[string]any{news: [][2]int{{0, 199}}})
	if got := ops(); len(got) != 2 || got[0] != "SYNC" || got[1] != "SYNC" {
		t.Fatalf("asked again, it came as %v", got)
	}
	look(false, map[string]any{})
	ops()

	// Of a secret channel the list has those who see it, and strangers get none.
	secret := w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "secret", "type": 0,
		"permission_overwrites": []any{map[string]any{"id": w.guildID(), "type": 0, "deny": "1024"}, map[string]any{"id": bob.id, "type": 1, "allow": "1024"}}}).body["id"].(string)
	look(true, map[string]any{secret: [][2]int{{0, 99}}, general: [][2]int{{0, 99}}})
	if l := s.until("GUILD_MEMBER_LIST_UPDATE"); l["id"] != "everyone" {
		t.Errorf("ann sees the list of %v", l["id"])
	}
	s.send(14, map[string]any{"guild_id": w.guildID(), "channels": map[string]any{general: [][2]int{}}})
	s.until("GUILD_MEMBER_LIST_UPDATE")
	b2 := w.dial("?v=10&encoding=json")
	b2.next()
	b2.send(2, passive(bob.token))
	b2.until("GUILD_CREATE")
	b2.send(37, map[string]any{"subscriptions": map[string]any{w.guildID(): map[string]any{"typing": true, "channels": map[string]any{secret: [][2]int{{0, 99}}}}}})
	if got := fmt.Sprint(names(b2.until("GUILD_MEMBER_LIST_UPDATE"))); got != "[SYNC "+role+" 1 SYNC bob online SYNC online 1 SYNC boss online]" {
		t.Errorf("beside the secret channel stand %s", got)
	}

	// Who loses the role by which it sees a channel is told no more of its list.
	staff := w.do("POST", "/guilds/"+w.guildID()+"/roles", boss.token, map[string]any{"name": "staff"}).body["id"].(string)
	w.do("PUT", "/guilds/"+w.guildID()+"/members/"+ann.id+"/roles/"+staff, boss.token, nil)
	crew := w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": "crew", "type": 0,
		"permission_overwrites": []any{map[string]any{"id": w.guildID(), "type": 0, "deny": "1024"}, map[string]any{"id": staff, "type": 0, "allow": "1024"}}}).body["id"].(string)
	for s.until("CHANNEL_CREATE")["id"] != crew {
	}
	look(true, map[string]any{crew: [][2]int{{0, 99}}})
	list := s.until("GUILD_MEMBER_LIST_UPDATE")
	for list["id"] == "everyone" {
		list = s.until("GUILD_MEMBER_LIST_UPDATE")
	}
	w.do("DELETE", "/guilds/"+w.guildID()+"/members/"+ann.id+"/roles/"+staff, boss.token, nil)
	for {
		e := s.until("GUILD_MEMBER_LIST_UPDATE")
		if op := e["ops"].([]any)[0].(map[string]any); e["id"] != list["id"] || op["op"] != "INVALIDATE" {
			t.Logf("came %v", e)
			continue
		}
		if groups := e["groups"].([]any); len(groups) != 0 {
			t.Errorf("who sees the channel no more is told %v", groups)
		}
		break
	}
	if err := o.ask(t.Context(), func() error {
		for x, b := range o.subs.all() {
			if x.user.String() == ann.id && len(b.pages) > 0 {
				t.Errorf("ann still looks at %v", b.pages)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestLooksArePaced holds that a session that looks here and there costs a guild few looks,
// and no more lists than it looks at; the last look counts.
func TestLooksArePaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Large = 1 }, nil)
	boss, ann := w.boss(), w.guest("ann")
	s := w.dial("?v=10&encoding=json")
	s.next()
	s.send(2, passive(ann.token))
	s.until("GUILD_CREATE")
	var channels []textchat.ID
	for i := range textchat.MaxLists + 1 { // each is seen by others
		body := w.do("POST", "/guilds/"+w.guildID()+"/channels", boss.token, map[string]any{"name": fmt.Sprint("c", i), "type": 0,
			"permission_overwrites": []any{map[string]any{"id": fmt.Sprint(i + 1), "type": 1, "deny": "1024"}}}).body
		id, err := snowflake.Parse(body["id"].(string))
		if err != nil {
			t.Fatal(err)
		}
		channels = append(channels, id)
	}
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ask(t.Context(), func() error {
		var x *session
		for x = range o.subs.all() {
		}
		b, now := o.subs.of(x), time.Now().Add(time.Hour)
		look := func(channel textchat.ID, at time.Time) *listing {
			o.looksAt(x, b, gatewaysession.Look{Pages: map[textchat.ID][]int{channel: {0}}}, at)
			return o.lists.of[o.listID(channel)]
		}
		first := look(channels[0], now)
		if first == nil || len(first.sessions) != 1 {
			return fmt.Errorf("the first look found %+v", first)
		}
		open := true
		for _, c := range channels[1:] {
			if l := look(c, now.Add(lookEvery-1)); l != nil {
				t.Errorf("a list was made too soon")
			}
		}
		o.looksAt(x, b, gatewaysession.Look{Open: &open}, now.Add(lookEvery-1))
		if at := o.toldAt(); !at.Equal(now.Add(lookEvery)) {
			t.Errorf("the last look is done at %v, want %v", at, now.Add(lookEvery))
		}
		o.tellWatchers(now.Add(lookEvery))
		if l := o.lists.of[o.listID(channels[len(channels)-1])]; len(o.lists.of) != 2 || l == nil || len(l.sessions) != 1 || b.closed {
			t.Errorf("the last look is not done: %d lists, %+v, closed %v", len(o.lists.of), l, b.closed)
		}
		if l := look(channels[0], now.Add(2*lookEvery)); l != first {
			t.Error("a list that was left just now is made anew")
		}
		for i, c := range channels {
			if l := look(c, now.Add(time.Duration(3+i)*lookEvery)); l == nil || len(l.sessions) != 1 {
				t.Errorf("look %d found no room: %+v", i, l)
			}
		}
		if n := len(o.lists.of); n != textchat.MaxLists {
			t.Errorf("%d lists are kept, want %d", n, textchat.MaxLists)
		}
		core := o.core
		if o.core = nil; !o.toldAt().IsZero() {
			t.Errorf("a guild that is not loaded is to tell something at %v", o.toldAt())
		}
		o.core = core
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestWatchersShareEvents holds that who looks at the same, or reads the same, is told by
// one event, and that who may look no more is told so.
func TestWatchersShareEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Large = 1 }, nil)
	boss, ann, bob := w.boss(), w.guest("ann"), w.guest("bob")
	general := w.channelID(ann, "general")
	w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": "hello"})
	enter := func(p person) *socket {
		s := w.dial("?v=10&encoding=json")
		s.next()
		s.send(2, passive(p.token))
		s.until("GUILD_CREATE")
		s.send(14, map[string]any{"guild_id": w.guildID(), "channels": map[string]any{general: [][2]int{{0, 99}}}})
		s.until("GUILD_MEMBER_LIST_UPDATE")
		return s
	}
	as, bs := enter(ann), enter(bob)
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ask(t.Context(), func() error {
		now := time.Now()
		o.lists.stale(now)
		if list := o.listNews(now); len(list) != 1 || len(list[0].to) != 2 {
			t.Errorf("a list that is made anew is told by %d events", len(list))
		}
		for _, b := range o.subs.all() {
			b.closed = true
		}
		id, err := snowflake.Parse(general)
		if err != nil {
			return err
		}
		c := o.core.Channel(id)
		o.mark(id)
		if c.LastMessage == nil {
			return fmt.Errorf("nothing was said in %v", c.Name)
		}
		if list := o.unreadNews(); len(list) != 1 || len(list[0].to) != 2 {
			t.Errorf("new messages are told by %d events", len(list))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.do("PUT", "/channels/"+general+"/permissions/"+ann.id, boss.token, map[string]any{"type": 1, "deny": "1024"})
	for want, s := range map[string]*socket{"INVALIDATE": as, "SYNC": bs} {
		for {
			e := s.until("GUILD_MEMBER_LIST_UPDATE")
			op := e["ops"].([]any)[0].(map[string]any)["op"]
			if want == "INVALIDATE" && op == want && len(e["groups"].([]any)) == 0 || want == "SYNC" && op == want && e["id"] != "everyone" {
				break
			}
		}
	}
}

// TestInstancesResumePassive holds that a session that goes on at another instance misses
// nothing of a large guild that it had open, has it open there, and can close it.
func TestInstancesResumePassive(t *testing.T) {
	t.Parallel()
	all := newTweaked(t, 2, func(s *Server) { s.cfg.Large = 1 })
	w := all.worlds
	ann, bob := w[0].guest("ann"), w[1].guest("bob")
	bs := w[1].enter(bob)
	s := w[0].dial("?v=10&encoding=json")
	s.next()
	s.send(2, passive(ann.token))
	session := s.event("READY")["session_id"].(string)
	s.event("GUILD_CREATE")
	look := func(s *socket, open bool) {
		s.send(14, map[string]any{"guild_id": w[0].guildID(), "typing": open, "activities": open, "threads": open})
	}
	look(s, true)
	s.until("THREAD_LIST_SYNC")
	general := w[1].channelID(bob, "general")
	say := func(text string) {
		w[1].do("POST", "/channels/"+general+"/messages", bob.token, map[string]any{"content": text})
		bs.until("MESSAGE_CREATE")
	}
	all.known(t, w[0], w[1])
	say("1")
	s.until("MESSAGE_CREATE")
	s.breakOff()
	say("2")
	say("3")
	again := w[1].dial("?v=10&encoding=json")
	again.next()
	again.last = s.last
	again.send(6, map[string]any{"token": ann.token, "session_id": session, "seq": s.last})
	reads := func(want string) {
		t.Helper()
		if got := again.until("MESSAGE_CREATE")["content"]; got != want {
			t.Fatalf("ann reads %v, want %s", got, want)
		}
	}
	reads("2")
	reads("3")
	again.until("RESUMED")
	say("4")
	reads("4")
	look(again, false)
	again.send(8, map[string]any{"guild_id": w[0].guildID(), "user_ids": []any{ann.id}, "limit": 0}) // is answered after it
	again.until("GUILD_MEMBERS_CHUNK")
	say("5")
	say("6 <@" + ann.id + ">")
	reads("6 <@" + ann.id + ">")

	// What an instance that died had saved and not told shows in lists, too.
	again.send(14, map[string]any{"guild_id": w[0].guildID(), "channels": map[string]any{general: [][2]int{{0, 99}}}})
	again.until("GUILD_MEMBER_LIST_UPDATE")
	o, err := w[1].srv.owner(w[1].first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	id, err := snowflake.Parse(bob.id)
	if err != nil {
		t.Fatal(err)
	}
	m, err := read(t.Context(), o, func(g *guild.Guild) (textchat.Member, error) { return *g.Member(id), nil })
	if err != nil {
		t.Fatal(err)
	}
	nick := "bobby"
	m.Nick = &nick
	if err := w[1].srv.store.Save(t.Context(), o.id, []textchat.Change{{PutMember: &m}}); err != nil {
		t.Fatal(err)
	}
	o.compare()
	for !strings.Contains(fmt.Sprint(again.until("GUILD_MEMBER_LIST_UPDATE")), nick) {
	}
}
