package guild

import (
	"slices"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/sfu"
	"voicefleet/textchat"
)

// mightier is a test guild in which ann moderates and cat has nothing but the
// permissions given in general.
func mightier(t *testing.T, cat textchat.Permissions) (g *Guild, do func(Input) Out) {
	t.Helper()
	g = testGuild()
	now := time.Unix(1_800_000_000, 0)
	do = func(in Input) Out {
		var out Out
		g.Handle(now, in, &out)
		return out
	}
	boss := ids["boss"]
	for _, in := range []Input{
		Join{User: textchat.User{ID: 77, Username: "cat"}},
		PatchMember{Actor: boss, User: ids["ann"], Roles: &[]textchat.ID{ids["mod"]}},
		PutOverwrite{Actor: boss, Channel: ids["general"], ID: 77, Set: &textchat.Overwrite{ID: 77, Type: textchat.OverwriteMember, Allow: cat}},
	} {
		if out := do(in); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	return g, do
}

// TestTimeoutAndMove: a time-out ends the voice of who is moved or disconnected by the
// same request.
func TestTimeoutAndMove(t *testing.T) {
	for _, channel := range []textchat.ID{0, ids["small"], ids["lobby"]} {
		g, do := mightier(t, 0)
		g.voice[ids["bob"]] = &voice{Channel: ids["lobby"], Session: "b"}
		until := time.Unix(1_800_000_600, 0)
		out := do(PatchMember{Actor: ids["boss"], User: ids["bob"], Timeout: &until, Channel: &channel})
		if out.Err != nil || g.voice[ids["bob"]] != nil || !g.TimedOut(ids["bob"]) || len(g.pending) > 0 {
			t.Errorf("to %d: %v; in voice %v, on the way %v", channel, out.Err, g.voice, g.pending)
		}
	}
}

// TestMuteOfUnopenedGrant: what a grant says of a session is old when rights were changed
// before it was used, or another was: the node is told those of now.
func TestMuteOfUnopenedGrant(t *testing.T) {
	for name, c := range map[string]struct {
		opened sfu.SessionID
		mute   bool
		told   bool
	}{"as granted": {"grant", false, false}, "muted meanwhile": {"grant", true, true}, "an older grant": {"older", false, true}} {
		_, do := mightier(t, 0)
		bob := ids["bob"]
		out := do(VoiceUpdate{User: bob, Session: "b", Channel: ids["lobby"]})
		if len(out.Effects) != 1 || out.Effects[0].Place == nil {
			t.Fatalf("%+v, %v", out.Effects, out.Err)
		}
		do(Placed{User: bob, Attempt: out.Effects[0].Place.Attempt, Assignment: allocator.Assignment{Node: "n", Epoch: 1, Session: "grant"}})
		if c.mute {
			mute := true
			if out := do(PatchMember{Actor: ids["boss"], User: bob, Mute: &mute}); out.Err != nil {
				t.Fatal(out.Err)
			}
		}
		out = do(CallOpened{Channel: ids["lobby"], User: bob, Session: c.opened})
		if told := len(out.Effects) == 1 && out.Effects[0].Update != nil; told != c.told || len(out.Effects) > 1 {
			t.Fatalf("%s: %+v", name, out.Effects)
		}
		if !c.told {
			continue
		}
		if u := out.Effects[0].Update; u.Session != "" || u.User.ID != bob || u.Rights.Mute != c.mute {
			t.Errorf("%s: told %+v", name, u)
		}
		if out = do(CallOpened{Channel: ids["lobby"], User: bob, Session: c.opened}); len(out.Effects) != 0 {
			t.Errorf("%s: told again: %+v", name, out.Effects)
		}
	}
}

// TestChangesOfChannelsMeet: what others changed since a channel was read stays.
func TestChangesOfChannelsMeet(t *testing.T) {
	g, do := mightier(t, textchat.ManageChannels)
	read := *g.Channel(ids["general"])
	lock := textchat.Overwrite{ID: 1, Deny: textchat.ViewChannel}
	topic := "locked"
	locked := read
	locked.Topic = &topic
	for _, in := range []Input{
		PutChannel{Actor: ids["boss"], Channel: locked, Was: &read},
		PutOverwrite{Actor: ids["boss"], Channel: read.ID, ID: 77, Set: &textchat.Overwrite{ID: 77, Type: textchat.OverwriteMember, Allow: textchat.ManageChannels | textchat.ViewChannel}},
		PutOverwrite{Actor: ids["boss"], Channel: read.ID, ID: 1, Set: &lock},
	} {
		if out := do(in); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	late := read
	late.Name = "renamed"
	if out := do(PutChannel{Actor: 77, Channel: late, Was: &read}); out.Err != nil {
		t.Fatal(out.Err)
	}
	is := g.Channel(read.ID)
	if is.Name != "renamed" || is.Topic == nil || *is.Topic != topic || len(is.Overwrites) != 2 || !slices.Contains(is.Overwrites, lock) {
		t.Errorf("the channel is %+v", *is)
	}
	if g.Permissions(ids["bob"], read.ID) != 0 {
		t.Error("bob sees it again")
	}
	// One that is taken away, and one that is not there.
	if out := do(PutOverwrite{Actor: ids["boss"], Channel: read.ID, ID: 1}); out.Err != nil || len(out.Channel.Overwrites) != 1 {
		t.Errorf("taken away: %+v, %v", out.Channel, out.Err)
	}
	if out := do(PutOverwrite{Actor: ids["boss"], Channel: read.ID, ID: 1}); out.Err != textchat.ErrUnknownOver {
		t.Errorf("taken away again: %v", out.Err)
	}
}

// TestWhoHandsOverwritesOn: to manage the overwrites of a channel is given by
// administrators, and by who was given it there.
func TestWhoHandsOverwritesOn(t *testing.T) {
	g, do := mightier(t, 0)
	hand := func(actor, to textchat.ID) *textchat.Error {
		return do(PutOverwrite{Actor: actor, Channel: ids["general"], ID: to,
			Set: &textchat.Overwrite{ID: to, Type: textchat.OverwriteMember, Allow: textchat.ManageRoles}}).Err
	}
	if err := hand(ids["ann"], ids["ann"]); err != textchat.ErrMissingPerms {
		t.Errorf("a moderator to itself: %v", err)
	}
	if err := hand(ids["ann"], ids["bob"]); err != textchat.ErrMissingPerms {
		t.Errorf("a moderator to another: %v", err)
	}
	if err := hand(ids["boss"], ids["ann"]); err != nil {
		t.Errorf("the owner: %v", err)
	}
	if err := hand(ids["ann"], ids["bob"]); err != nil {
		t.Errorf("who was given it there: %v", err)
	}
	if out := do(PutOverwrite{Actor: ids["ann"], Channel: ids["lobby"], ID: ids["bob"], Set: &textchat.Overwrite{ID: ids["bob"], Type: textchat.OverwriteMember, Deny: textchat.SendMessages}}); out.Err != nil {
		t.Errorf("a moderator, of other things: %v", out.Err)
	}
	if !g.Permissions(ids["bob"], ids["general"]).Has(textchat.ManageRoles) {
		t.Error("bob was given nothing")
	}
}

// TestChannelOfCategory: a new channel without overwrites of its own is for those of its
// category, and making one wants no more than to manage channels.
func TestChannelOfCategory(t *testing.T) {
	g, do := mightier(t, 0)
	hidden := []textchat.Overwrite{{ID: 1, Deny: textchat.ViewChannel}}
	if out := do(PutChannel{Actor: ids["boss"], New: true, Overwrites: true, Channel: textchat.Channel{ID: 500, Type: textchat.ChannelCategory, Name: "staff", Overwrites: hidden}}); out.Err != nil {
		t.Fatal(out.Err)
	}
	builder := textchat.Role{ID: 600, Name: "builder", Position: 3, Permissions: textchat.ManageChannels}
	if out := do(PutRole{Actor: ids["boss"], New: true, Role: builder}); out.Err != nil {
		t.Fatal(out.Err)
	}
	if out := do(PatchMember{Actor: ids["boss"], User: 77, Roles: &[]textchat.ID{600}}); out.Err != nil {
		t.Fatal(out.Err)
	}
	parent := textchat.ID(500)
	for i, given := range []bool{false, true} {
		id := textchat.ID(501 + i)
		out := do(PutChannel{Actor: 77, New: true, Overwrites: given, Channel: textchat.Channel{ID: id, Name: "secret", Parent: &parent}})
		if out.Err != nil || !slices.Equal(out.Channel.Overwrites, hidden) {
			t.Errorf("empty list given %v: %+v, %v", given, out.Channel, out.Err)
		}
		if g.Permissions(ids["bob"], id) != 0 {
			t.Error("bob sees it")
		}
	}
	// What is given must be the maker's own.
	for bits, want := range map[textchat.Permissions]*textchat.Error{textchat.SendMessages: nil, textchat.BanMembers: textchat.ErrMissingPerms, textchat.ManageRoles: textchat.ErrMissingPerms} {
		c := textchat.Channel{ID: 510 + textchat.ID(bits&7), Name: "own", Overwrites: []textchat.Overwrite{{ID: 1, Allow: bits}}}
		if out := do(PutChannel{Actor: 77, New: true, Overwrites: true, Channel: c}); out.Err != want {
			t.Errorf("with %d: %v", bits, out.Err)
		}
	}
}

// TestNoConnect: of a voice channel those who may not connect see that it is there, and
// no more; of a text channel that bit takes nothing.
func TestNoConnect(t *testing.T) {
	g, do := mightier(t, 0)
	for _, c := range []textchat.ID{ids["lobby"], ids["stage"], ids["general"]} {
		if out := do(PutOverwrite{Actor: ids["boss"], Channel: c, ID: 1, Set: &textchat.Overwrite{ID: 1, Deny: textchat.Connect}}); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	for _, who := range []textchat.ID{ids["bob"], ids["ann"]} { // ann manages channels
		if p := g.Permissions(who, ids["lobby"]); p != textchat.ViewChannel {
			t.Errorf("%d in a voice channel: %b", who, p)
		}
		if p := g.Permissions(who, ids["stage"]); p != textchat.ViewChannel {
			t.Errorf("%d on a stage: %b", who, p)
		}
		if p := g.Permissions(who, ids["general"]); !p.Has(textchat.SendMessages | textchat.ReadMessageHistory) {
			t.Errorf("%d in a text channel: %b", who, p)
		}
	}
	if p := g.Permissions(ids["boss"], ids["lobby"]); p != textchat.AllPermissions {
		t.Errorf("the owner: %b", p)
	}
}
