package chatserver

import (
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// TestStage: who joins a stage gets a grant to listen, raises a hand, and is let speak
// and silenced by a moderator, of which everybody there and the media engine hear.
func TestStage(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.voice.key = key // before anybody joins
	granted := func(s *socket) sfu.Rights {
		t.Helper()
		token := s.event("VOICE_SERVER_UPDATE")["token"].(string)
		g, err := edgeagent.ReadGrant(token, func(string) ed25519.PublicKey { return pub })
		if err != nil {
			t.Fatalf("%s: %v", token, err)
		}
		return g.Rights
	}
	boss, ann := w.boss(), w.guest("Ann")
	guild := "/guilds/" + w.guildID()
	stage := w.do("POST", guild+"/channels", boss.token, map[string]any{"name": "Talk", "type": 13}).body["id"].(string)
	bo, a := w.enter(boss), w.enter(ann)
	patch := func(who person, user string, body map[string]any, status int, code any) {
		t.Helper()
		if r := w.try("PATCH", guild+"/voice-states/"+user, who.token, body); r.status != status || r.body["code"] != code {
			t.Fatalf("%v: %d %s, want %d %v", body, r.status, r.raw, status, code)
		}
	}
	// told holds what both hear of Ann's voice state, and what is read of it; asks is
	// since when she asks to speak, or "some" time.
	told := func(suppress bool, asks string) {
		t.Helper()
		heard := a.event("VOICE_STATE_UPDATE")
		for where, s := range map[string]map[string]any{"ann": heard, "boss": bo.event("VOICE_STATE_UPDATE"), "rest": w.do("GET", guild+"/voice-states/"+ann.id, boss.token, nil).body} {
			at, _ := s["request_to_speak_timestamp"].(string)
			if s["user_id"] != ann.id || s["channel_id"] != stage || s["suppress"] != suppress || at != asks && (asks != "some" || at == "") {
				t.Fatalf("%s is told %v, want suppress=%v asks=%q", where, s, suppress, asks)
			}
		}
	}

	bo.joinVoice(w.guildID(), stage, false)
	w.voice.expect(t, "place "+boss.id+" speak=true")
	for _, s := range []*socket{bo, a} {
		if e := s.event("VOICE_STATE_UPDATE"); e["suppress"] != false {
			t.Fatalf("the owner only listens: %v", e)
		}
	}
	if r := granted(bo); !r.Speak || r.Priority {
		t.Fatalf("the owner is granted %+v", r)
	}
	patch(ann, "@me", map[string]any{"request_to_speak_timestamp": time.Now()}, 404, 10065.0)
	a.joinVoice(w.guildID(), stage, false)
	w.voice.expect(t, "place "+ann.id+" speak=false")
	told(true, "")
	if r := granted(a); r != (sfu.Rights{}) {
		t.Fatalf("a listener is granted %+v", r)
	}

	// Her hand goes up at a time to come, as some clients have it, and down.
	up := time.Now().UTC().Add(time.Hour).Truncate(time.Microsecond)
	patch(ann, "@me", map[string]any{"channel_id": stage, "request_to_speak_timestamp": up}, 204, nil)
	told(true, up.Format("2006-01-02T15:04:05.000000-07:00"))
	patch(ann, "@me", map[string]any{"channel_id": stage, "request_to_speak_timestamp": nil}, 204, nil)
	told(true, "")
	patch(ann, "@me", map[string]any{"channel_id": stage, "request_to_speak_timestamp": time.Now()}, 204, nil)
	told(true, "some")
	for _, at := range []string{"2020-01-02T03:04:05.000Z", "9999-12-31T23:59:59-23:59", "soon"} {
		patch(ann, "@me", map[string]any{"request_to_speak_timestamp": at}, 400, 50035.0)
	}
	patch(ann, "@me", map[string]any{"suppress": false}, 403, 50013.0)
	patch(ann, boss.id, map[string]any{"suppress": true}, 403, 50013.0)
	patch(boss, "@me", map[string]any{"channel_id": w.channelID(ann, "Lobby"), "suppress": true}, 404, 10065.0)

	// A hand of another is no field of hers; the rest is.
	patch(boss, ann.id, map[string]any{"channel_id": stage, "suppress": false, "request_to_speak_timestamp": nil}, 204, nil)
	w.voice.expect(t, "update "+ann.id+" speak=true mute=false")
	told(false, "some")
	// Another seat in the same call is granted with it.
	call := w.callOf(stage)
	w.voice.tell(edgeagent.CallEvent{Call: call, Opened: &edgeagent.SessionStart{Session: "vs2", User: ann.user()}})
	w.voice.tell(edgeagent.CallEvent{Call: call, Left: &edgeagent.Left{Session: "vs2", User: ann.user(), Reason: edgeagent.EngineLost}})
	w.voice.expect(t, "update "+ann.id+" speak=true mute=false") // the grant she came by had her listen
	w.voice.expect(t, "place "+ann.id+" speak=true")
	if r := granted(a); r != (sfu.Rights{Speak: true, Video: true}) {
		t.Fatalf("who was let speak is granted %+v", r)
	}
	patch(boss, ann.id, map[string]any{"suppress": true}, 204, nil)
	w.voice.expect(t, "update "+ann.id+" speak=false")
	told(true, "")

	// Elsewhere nobody is suppressed so.
	a.joinVoice(w.guildID(), w.channelID(ann, "Lobby"), false)
	w.voice.expect(t, "place "+ann.id+" speak=true")
	if e := a.event("VOICE_STATE_UPDATE"); e["suppress"] != false {
		t.Fatalf("in the lobby: %v", e)
	}
	patch(boss, ann.id, map[string]any{"suppress": true}, 400, 50024.0)
	patch(boss, fmt.Sprint(1<<62), map[string]any{"suppress": true}, 404, 10065.0)
}
