package guild

import (
	"slices"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

// begun is a guild with one thread of general, by ann.
func begun(t *testing.T, now time.Time, kind textchat.ChannelType) *Guild {
	t.Helper()
	g := testGuild()
	general := ids["general"]
	var out Out
	g.Handle(now, PutThread{Actor: ids["ann"], New: true, Thread: textchat.Channel{ID: 100, Type: kind, Name: "t", Parent: &general,
		Thread: &textchat.ThreadMeta{AutoArchive: 60}}}, &out)
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	return g
}

// TestThreadArchivesItself: after its time without a message, told and stored; a
// message puts that off.
func TestThreadArchivesItself(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := begun(t, now, textchat.ChannelPublicThread)
	if at := g.Deadline(); !at.Equal(now.Add(time.Hour)) {
		t.Fatalf("deadline in %v", at.Sub(now))
	}
	var mint snowflake.Mint
	now = now.Add(50 * time.Minute)
	var out Out
	g.Handle(now, Posted{Message: textchat.Message{ID: mint.Next(now), Channel: 100, Author: textchat.User{ID: ids["ann"]}}}, &out)
	last := g.Channel(100).LastMessage.Time()

	out = Out{}
	g.Handle(now.Add(10*time.Minute), Tick{}, &out)
	if len(out.Changes) != 0 || len(out.Events) != 0 {
		t.Fatalf("archived too early: %+v", out)
	}
	if at := g.Deadline(); !at.Equal(last.Add(time.Hour)) {
		t.Fatalf("deadline %v after the message", at.Sub(last))
	}
	out = Out{}
	g.Handle(g.Deadline(), Tick{}, &out)
	if len(out.Changes) != 1 || !out.Changes[0].PutChannel.Thread.Archived || len(out.Events) != 1 || out.Events[0].Name != textchat.EventThreadUpdate {
		t.Fatalf("not archived: %+v", out)
	}
	if at := g.Deadline(); !at.IsZero() {
		t.Errorf("still a deadline: %v", at)
	}
}

// TestThreadPermissions: a thread has those of its channel, SendInThreads stands
// for SendMessages, and a private one is its members'.
func TestThreadPermissions(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name           string
		kind           textchat.ChannelType
		allow, deny    textchat.Permissions // of everyone in general
		who            string
		sees, may, man bool
	}{
		{"public", textchat.ChannelPublicThread, 0, 0, "bob", true, true, false},
		{"no threads", textchat.ChannelPublicThread, 0, textchat.SendInThreads, "bob", true, false, false},
		{"threads alone", textchat.ChannelPublicThread, 0, textchat.SendMessages, "bob", true, true, false},
		{"hidden channel", textchat.ChannelPublicThread, 0, textchat.ViewChannel, "bob", false, false, false},
		{"private, stranger", textchat.ChannelPrivateThread, 0, 0, "bob", false, false, false},
		{"private, member", textchat.ChannelPrivateThread, 0, 0, "ann", true, true, false},
		{"private, manager", textchat.ChannelPrivateThread, textchat.ManageThreads, 0, "bob", true, true, true},
		{"private, owner of the guild", textchat.ChannelPrivateThread, 0, textchat.ViewChannel, "boss", true, true, true},
		{"of no guild", textchat.ChannelPublicThread, 0, 0, "cat", false, false, false},
	} {
		g := begun(t, now, c.kind)
		g.channels[ids["general"]].Overwrites = []textchat.Overwrite{{ID: 1, Allow: c.allow, Deny: c.deny}}
		p := g.Permissions(ids[c.who], 100)
		if p.Has(textchat.ViewChannel) != c.sees || p.Has(textchat.SendMessages) != c.may || p.Has(textchat.ManageThreads) != c.man {
			t.Errorf("%s: %b", c.name, p)
		}
		if c.may != p.Has(textchat.EmbedLinks) {
			t.Errorf("%s: embeds without the right to write, or the other way round", c.name)
		}
	}
}

// TestPublic: a channel is public when no overwrite hides it, and so are its threads
// but for private ones.
func TestPublic(t *testing.T) {
	for _, c := range []struct {
		kind       textchat.ChannelType
		overwrites []textchat.Overwrite
		want       bool
	}{
		{textchat.ChannelPublicThread, nil, true},
		{textchat.ChannelPublicThread, []textchat.Overwrite{{ID: 1, Deny: textchat.SendMessages}}, true},
		{textchat.ChannelPublicThread, []textchat.Overwrite{{ID: 1, Deny: textchat.ViewChannel}}, false},
		{textchat.ChannelPublicThread, []textchat.Overwrite{{ID: ids["bob"], Type: textchat.OverwriteMember, Deny: textchat.ViewChannel}}, false},
		{textchat.ChannelPrivateThread, nil, false},
	} {
		g := begun(t, time.Unix(1_800_000_000, 0), c.kind)
		g.channels[ids["general"]].Overwrites = c.overwrites
		if g.Public(100) != c.want {
			t.Errorf("type %d, %+v: %v", c.kind, c.overwrites, !c.want)
		}
		if hidden := len(c.overwrites) > 0 && c.overwrites[0].Deny.Has(textchat.ViewChannel); g.Public(ids["general"]) == hidden {
			t.Errorf("its channel, %+v: %v", c.overwrites, !hidden)
		}
		g.roles[1].Permissions = 0
		if g.Public(ids["general"]) || g.Public(999) {
			t.Error("public, although @everyone sees nothing, or there is no such channel")
		}
	}
}

// TestThreadsAreLeft: who leaves the guild follows none of its threads any more.
func TestThreadsAreLeft(t *testing.T) {
	g := begun(t, time.Unix(1_800_000_000, 0), textchat.ChannelPublicThread)
	var out Out
	g.Handle(time.Time{}, Leave{User: ids["ann"]}, &out)
	if n := len(g.Channel(100).ThreadMembers); n != 0 {
		t.Errorf("%d follow it", n)
	}
	g.Revert()
	if n := len(g.Channel(100).ThreadMembers); n != 1 {
		t.Errorf("after the store refused: %d follow it", n)
	}
}

// TestTooManyThreads: active ones are bounded, archived ones are not.
func TestTooManyThreads(t *testing.T) {
	g := testGuild()
	general, now := ids["general"], time.Unix(1_800_000_000, 0)
	put := func(id textchat.ID) *textchat.Error {
		var out Out
		g.Handle(now, PutThread{Actor: ids["ann"], New: true, Thread: textchat.Channel{ID: id, Type: textchat.ChannelPublicThread, Name: "t", Parent: &general,
			Thread: &textchat.ThreadMeta{AutoArchive: 60}}}, &out)
		return out.Err
	}
	for i := range textchat.MaxThreads {
		if err := put(textchat.ID(1000 + i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(5000); err == nil || err.Code != textchat.CodeMaxThreads {
		t.Fatalf("one more: %v", err)
	}
	c := *g.Channel(1000)
	meta := *c.Thread
	meta.Archived = true
	c.Thread = &meta
	var out Out
	g.Handle(now, PutThread{Actor: ids["ann"], Thread: c}, &out)
	if err := put(5000); out.Err != nil || err != nil {
		t.Errorf("after one was archived: %v, %v", out.Err, err)
	}
}

// TestPatchKeepsWhatWasWritten: settings that were read before a message was written do
// not take it back.
func TestPatchKeepsWhatWasWritten(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := begun(t, now, textchat.ChannelPublicThread)
	var mint snowflake.Mint
	for _, id := range []textchat.ID{ids["general"], 100} {
		c := *g.Channel(id)
		m := textchat.Message{ID: mint.Next(now), Channel: id, Author: textchat.User{ID: ids["ann"]}}
		var out Out
		g.Handle(now, Posted{Message: m}, &out)
		followers := len(g.Channel(id).ThreadMembers)
		c.Name = "renamed"
		if c.ThreadMembers = nil; id == 100 {
			g.Handle(now, PutThread{Actor: ids["ann"], Thread: c}, &out)
		} else {
			g.Handle(now, PutChannel{Actor: g.Self().Owner, Channel: c}, &out)
		}
		if out.Err != nil {
			t.Fatal(out.Err)
		}
		if got := g.Channel(id); got.Name != "renamed" || got.LastMessage == nil || *got.LastMessage != m.ID || len(got.ThreadMembers) != followers {
			t.Errorf("%v became %+v", id, got)
		}
	}
}

// TestWrittenSince: all channels but categories, and threads, but for those that were
// archived before.
func TestWrittenSince(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := begun(t, now, textchat.ChannelPrivateThread)
	has := func(at time.Time) bool {
		t.Helper()
		list := g.WrittenSince(at)
		thread := slices.ContainsFunc(list, func(c textchat.Channel) bool { return c.ID == 100 })
		if n := len(g.ByID()); len(list) != n && (thread || len(list) != n-1) {
			t.Errorf("%d of %d channels", len(list), n)
		}
		return thread
	}
	if !has(now.Add(50 * time.Minute)) {
		t.Error("an active thread is passed over")
	}
	var out Out
	g.Handle(now.Add(time.Hour), Tick{}, &out)
	if !g.Channel(100).Thread.Archived || !has(now.Add(time.Hour)) || has(now.Add(time.Hour+time.Second)) {
		t.Error("an archived thread counts after it was archived, or not before")
	}
}
