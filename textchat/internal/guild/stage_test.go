package guild

import (
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/sfu"
	"voicefleet/textchat"
)

// TestRightsOnStage: a listener sends nothing, a speaker sound and pictures, nobody has
// priority; the permission to speak is for other channels.
func TestRightsOnStage(t *testing.T) {
	all := textchat.ViewChannel | textchat.Connect | textchat.Speak | textchat.Stream | textchat.PrioritySpeaker
	for _, c := range []struct {
		name     string
		perms    textchat.Permissions
		suppress *bool // by the owner, once the member is there
		want     sfu.Rights
	}{
		{"a listener", all, nil, sfu.Rights{}},
		{"a moderator", all | textchat.MuteMembers, nil, sfu.Rights{Speak: true, Video: true}},
		{"one who is let speak", all, new(false), sfu.Rights{Speak: true, Video: true}},
		{"one who is let speak, and may not elsewhere", all &^ textchat.Speak, new(false), sfu.Rights{Speak: true, Video: true}},
		{"one who is let speak, without a camera", all &^ textchat.Stream, new(false), sfu.Rights{Speak: true}},
		{"a moderator who is silenced", all | textchat.MuteMembers, new(true), sfu.Rights{}},
	} {
		g := testGuild()
		now := time.Unix(1_800_000_000, 0)
		do := func(in Input) {
			t.Helper()
			var out Out
			if g.Handle(now, in, &out); out.Err != nil {
				t.Fatalf("%s: %T: %v", c.name, in, out.Err)
			}
		}
		do(PutRole{Actor: ids["boss"], Role: textchat.Role{ID: 1, Name: "@everyone", Permissions: c.perms}})
		do(VoiceUpdate{User: ids["ann"], Session: "a", Channel: ids["stage"]})
		do(Placed{User: ids["ann"], Attempt: 1, Assignment: allocator.Assignment{Session: "v"}})
		if c.suppress != nil {
			do(PatchVoice{Actor: ids["boss"], User: ids["ann"], Suppress: c.suppress})
		}
		if got := g.voice[ids["ann"]].Rights; got != c.want {
			t.Errorf("%s has %+v, want %+v", c.name, got, c.want)
		}
		// And so it is after a restart of what carries the packets.
		do(CallOpened{User: ids["ann"], Channel: ids["stage"], Session: "v"})
		var out Out
		g.Handle(now, CallLeft{User: ids["ann"], Channel: ids["stage"], Session: "v", Reason: "engine_lost"}, &out)
		if len(out.Effects) != 1 || out.Effects[0].Place == nil || out.Effects[0].Place.Request.Rights != c.want {
			t.Errorf("%s is seated anew by %+v, want %+v", c.name, out.Effects, c.want)
		}
	}
}
