package chatserver

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoginToVoice(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	bo := w.enter(boss)
	ann := w.guest("Ann")
	if got := bo.event("GUILD_MEMBER_ADD")["user"].(map[string]any)["global_name"]; got != "Ann" {
		t.Fatalf("member is %v", got)
	}
	a := w.enter(ann)
	lobby := w.channelID(ann, "Lobby")

	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place "+ann.id+" speak=true mute=false deaf=false echo=false")
	state := a.event("VOICE_STATE_UPDATE")
	if state["channel_id"] != lobby || state["session_id"] != a.session || state["member"].(map[string]any)["joined_at"] == nil {
		t.Fatalf("voice state: %v", state)
	}
	server := a.event("VOICE_SERVER_UPDATE")
	if server["token"] != "grant1" || server["endpoint"] != "127.0.0.1:8443" {
		t.Fatalf("voice server: %v", server)
	}
	if got := bo.event("VOICE_STATE_UPDATE"); got["user_id"] != ann.id || got["channel_id"] != lobby {
		t.Fatalf("boss saw %v", got)
	}

	// Only the flags change: no new server.
	a.joinVoice(w.guildID(), lobby, true)
	if got := a.event("VOICE_STATE_UPDATE"); got["self_mute"] != true {
		t.Fatalf("flags: %v", got)
	}
	bo.event("VOICE_STATE_UPDATE")

	// A newcomer sees who is there.
	late := w.dial("?v=9&encoding=json")
	late.next()
	late.send(2, identify(boss.token, allIntents))
	if v := late.event("READY")["v"]; v != 9.0 {
		t.Fatalf("v is %v", v)
	}
	g := late.event("GUILD_CREATE")
	if states := g["voice_states"].([]any); len(states) != 1 || states[0].(map[string]any)["user_id"] != ann.id {
		t.Fatalf("voice states: %v", g["voice_states"])
	}

	a.joinVoice(w.guildID(), nil, false)
	if got := a.event("VOICE_STATE_UPDATE"); got["channel_id"] != nil {
		t.Fatalf("after leaving: %v", got)
	}
	if got := bo.event("VOICE_STATE_UPDATE"); got["channel_id"] != nil {
		t.Fatalf("after leaving, boss: %v", got)
	}
	w.voice.expect(t, "remove "+ann.id+" left")
}
