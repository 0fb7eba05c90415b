package chatserver

import (
	"testing"

	"voicefleet/textchat"
)

// TestChannelsComeAndGo: whatever changes what a member sees, its sessions are
// told of the channels, once, and nobody else is.
func TestChannelsComeAndGo(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann, bob := w.boss(), w.guest("Ann"), w.guest("Bob")
	general, lobby := w.channelID(boss, "general"), w.channelID(boss, "Lobby")
	guild := "/guilds/" + w.guildID()
	enter := func(p person) *socket {
		s := w.dial("?v=10")
		s.next()
		s.send(2, identify(p.token, allIntents&^int(textchat.IntentModeration))) // no audit log
		s.event("READY")
		s.guildChannels = s.event("GUILD_CREATE")["channels"].([]any)
		return s
	}
	b, a, x := enter(boss), enter(ann), enter(bob)
	role := w.do("POST", guild+"/roles", boss.token, map[string]any{"name": "crew", "permissions": "0"}).body["id"].(string)
	for _, s := range []*socket{a, x, b} {
		s.event("GUILD_ROLE_CREATE")
	}
	view := map[string]any{"type": 0, "allow": "1024"}
	hide := map[string]any{"type": 0, "deny": "1024"}

	// Only the crew sees general: gone for both, for the owner it has changed.
	w.do("PUT", "/channels/"+general+"/permissions/"+w.guildID(), boss.token, hide)
	for _, s := range []*socket{a, x} {
		if d := s.event("CHANNEL_DELETE"); d["id"] != general || d["guild_id"] != w.guildID() || d["name"] != nil {
			t.Errorf("gone: %v", d)
		}
	}
	b.event("CHANNEL_UPDATE")
	w.do("PUT", "/channels/"+general+"/permissions/"+role, boss.token, view)
	b.event("CHANNEL_UPDATE")

	// A role makes it appear for Ann alone, and its loss takes it away.
	w.do("PUT", guild+"/members/"+ann.id+"/roles/"+role, boss.token, nil)
	a.event("GUILD_MEMBER_UPDATE")
	if c := a.event("CHANNEL_CREATE"); c["id"] != general || c["name"] != "general" {
		t.Errorf("came: %v", c)
	}
	x.event("GUILD_MEMBER_UPDATE")
	b.event("GUILD_MEMBER_UPDATE")
	w.do("DELETE", guild+"/members/"+ann.id+"/roles/"+role, boss.token, nil)
	a.event("GUILD_MEMBER_UPDATE")
	a.event("CHANNEL_DELETE")
	w.do("PUT", guild+"/members/"+ann.id+"/roles/"+role, boss.token, nil)
	a.event("GUILD_MEMBER_UPDATE")
	a.event("CHANNEL_CREATE")

	// The role itself becomes an administrator's, then goes: all that it gave goes.
	w.do("PUT", "/channels/"+lobby+"/permissions/"+w.guildID(), boss.token, hide)
	a.event("CHANNEL_DELETE")
	b.until("CHANNEL_UPDATE")
	b.joinVoice(w.guildID(), lobby, false)
	b.event("VOICE_STATE_UPDATE")
	b.event("VOICE_SERVER_UPDATE")
	w.do("PATCH", guild+"/roles/"+role, boss.token, map[string]any{"permissions": "8"})
	a.event("GUILD_ROLE_UPDATE")
	if c := a.event("CHANNEL_CREATE"); c["id"] != lobby {
		t.Errorf("came: %v", c)
	}
	// Who talks in a channel that came into sight is told, too.
	if v := a.event("VOICE_STATE_UPDATE"); v["user_id"] != boss.id || v["channel_id"] != lobby {
		t.Errorf("voice state: %v", v)
	}
	w.do("DELETE", guild+"/roles/"+role, boss.token, nil)
	a.event("GUILD_ROLE_DELETE")
	for range 2 {
		a.event("CHANNEL_DELETE")
	}

	// A channel that is made, and one that is deleted, are told once.
	made := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "new", "type": 0}).body["id"].(string)
	a.event("CHANNEL_CREATE")
	w.do("DELETE", "/channels/"+made, boss.token, nil)
	a.event("CHANNEL_DELETE")

	// What came of all this is what a fresh session would see.
	a.send(1, nil)
	if f := a.next(); f.Op != 11 {
		t.Errorf("Ann also got %s %s", f.T, f.D)
	}
	if n := len(enter(ann).guildChannels); n != len(a.guildChannels)-2 {
		t.Errorf("a fresh session sees %d channels, of %d at first", n, len(a.guildChannels))
	}
}

func TestDifference(t *testing.T) {
	list := func(ids ...textchat.ID) []textchat.ID { return ids }
	for _, c := range []struct{ before, now, but, came, went []textchat.ID }{
		{nil, nil, nil, nil, nil},
		{list(1, 2, 3), list(1, 2, 3), nil, nil, nil},
		{nil, list(1, 2), nil, list(1, 2), nil},
		{list(1, 2), nil, nil, nil, list(1, 2)},
		{list(1, 3, 5), list(2, 3, 6), nil, list(2, 6), list(1, 5)},
		{list(1, 3, 5), list(2, 3, 6), list(2, 5), list(6), list(1)},
	} {
		came, went := difference(c.before, c.now, c.but)
		if !same(came, c.came) || !same(went, c.went) {
			t.Errorf("%v to %v but %v: came %v, went %v", c.before, c.now, c.but, came, went)
		}
	}
}

func same(a, b []textchat.ID) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
