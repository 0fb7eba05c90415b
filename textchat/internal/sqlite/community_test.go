package sqlite

import (
	"errors"
	"slices"
	"testing"
	"time"

	"voicefleet/textchat"
)

// told fails the test unless err is want.
func told(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func TestReactionsAndPins(t *testing.T) {
	s := open(t, t.TempDir())
	for id := textchat.ID(1); id <= 3; id++ {
		_, _, err := s.AddMessage(ctx, message(7, id, "m"), "")
		must(t, err)
	}
	react := func(m textchat.ID, emoji string, user textchat.ID, want bool) {
		t.Helper()
		if added, err := s.React(ctx, 7, m, emoji, user, 2); err != nil || added != want {
			t.Fatalf("react %d %s %d: %v %v", m, emoji, user, added, err)
		}
	}
	react(1, "b", 11, true)
	react(1, "b", 12, true)
	react(1, "b", 11, false)
	react(1, "a", 11, true)
	react(2, "c", 12, true)
	_, err := s.React(ctx, 7, 1, "d", 11, 2)
	told(t, "third emoji", err, textchat.ErrTooMany)
	react(1, "a", 12, true) // one that is there already is no third
	_, err = s.React(ctx, 7, 9, "a", 11, 2)
	told(t, "unknown message", err, textchat.ErrNoRecord)
	if list, err := s.Reactors(ctx, 7, 1, "b", 11, 10); err != nil || !slices.Equal(list, []textchat.ID{12}) {
		t.Fatalf("reactors: %v %v", list, err)
	}
	changed, err := s.Pin(ctx, 7, 2, now, 2)
	if err != nil || !changed {
		t.Fatalf("pin: %v %v", changed, err)
	}
	if changed, err := s.Pin(ctx, 7, 2, now.Add(time.Hour), 2); err != nil || changed {
		t.Fatalf("pinned twice: %v %v", changed, err)
	}
	_, err = s.Pin(ctx, 7, 1, now.Add(time.Second), 2)
	must(t, err)
	_, err = s.Pin(ctx, 7, 3, now, 2)
	told(t, "third pin", err, textchat.ErrTooMany)
	_, err = s.Pin(ctx, 7, 9, now, 2)
	told(t, "pin of nothing", err, textchat.ErrNoRecord)
	marks, err := s.Marks(ctx, 7, []textchat.ID{1, 2, 3}, 12)
	must(t, err)
	if r := marks[1].Reactions; len(r) != 2 || r[0].Emoji.Name != "b" || r[0].Count != 2 || !r[0].Me || r[1].Emoji.Name != "a" || !marks[1].Pinned ||
		!marks[2].Pinned || len(marks[2].Reactions) != 1 || marks[3].Pinned {
		t.Fatalf("marks: %+v", marks)
	}
	pins, err := s.Pins(ctx, 7, now.Add(time.Minute), 10)
	must(t, err)
	if len(pins) != 2 || pins[0].Message.ID != 1 || !pins[0].At.Equal(now.Add(time.Second)) || !pins[1].Message.Pinned {
		t.Fatalf("pins: %+v", pins)
	}
	if pins, _ := s.Pins(ctx, 7, now.Add(time.Second), 10); len(pins) != 1 || pins[0].Message.ID != 2 {
		t.Fatalf("pins before: %+v", pins)
	}
	if n, err := s.Unreact(ctx, 7, 1, "b", 0); err != nil || n != 2 {
		t.Fatalf("unreact: %d %v", n, err)
	}
	if n, err := s.Unreact(ctx, 7, 1, "", 11); err != nil || n != 1 {
		t.Fatalf("unreact of one: %d %v", n, err)
	}
	// Marks end with their message.
	if gone, err := s.DeleteMessages(ctx, 7, []textchat.ID{2, 1, 9}); err != nil || !slices.Equal(gone, []textchat.ID{1, 2}) {
		t.Fatalf("deleted: %v %v", gone, err)
	}
	if marks, err := s.Marks(ctx, 7, []textchat.ID{1, 2, 3}, 12); err != nil || len(marks) != 0 {
		t.Fatalf("marks of nothing: %v %v", marks, err)
	}
	if changed, err := s.Unpin(ctx, 7, 1); err != nil || changed {
		t.Fatalf("unpin of nothing: %v %v", changed, err)
	}
}

func TestBansWebhooksAudit(t *testing.T) {
	s := open(t, t.TempDir())
	g := textchat.Guild{ID: 10}
	ch := textchat.Channel{ID: 11, Guild: 10}
	why := "spam"
	changes := []textchat.Change{{PutGuild: &g}, {PutChannel: &ch}}
	for id := textchat.ID(1); id <= 4; id++ {
		changes = append(changes, textchat.Change{PutBan: &textchat.Ban{User: textchat.User{ID: id}, Reason: &why}})
	}
	for id := textchat.ID(21); id <= 22; id++ {
		changes = append(changes, textchat.Change{PutWebhook: &textchat.Webhook{ID: id, Guild: 10, Channel: 11, Token: "t"}})
	}
	life := textchat.ID(textchat.AuditLife.Milliseconds()) << 22
	for i, id := range []textchat.ID{31, 32, 33} {
		changes = append(changes, textchat.Change{PutAudit: &textchat.AuditEntry{ID: id, User: textchat.ID(i), Action: textchat.AuditRoleCreate}})
	}
	must(t, s.Save(ctx, 10, changes))
	must(t, s.Save(ctx, 10, []textchat.Change{{DropBan: 4}, {DropWebhook: 22}}))
	if r, err := s.Guild(ctx, 10); err != nil || !slices.Equal(r.Banned, []textchat.ID{1, 2, 3}) {
		t.Fatalf("banned: %v %v", r.Banned, err)
	}
	if b, err := s.Ban(ctx, 10, 2); err != nil || *b.Reason != why {
		t.Fatalf("ban: %+v %v", b, err)
	}
	_, err := s.Ban(ctx, 10, 4)
	told(t, "lifted ban", err, textchat.ErrNoRecord)
	for _, c := range []struct {
		before, after textchat.ID
		want          []textchat.ID
	}{{0, 0, []textchat.ID{1, 2}}, {0, 1, []textchat.ID{2, 3}}, {3, 0, []textchat.ID{1, 2}}, {4, 0, []textchat.ID{2, 3}}} {
		list, err := s.Bans(ctx, 10, c.before, c.after, 2)
		must(t, err)
		var got []textchat.ID
		for _, b := range list {
			got = append(got, b.User.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("bans before %d after %d: %v", c.before, c.after, got)
		}
	}
	for _, c := range []struct {
		q    textchat.AuditQuery
		want []textchat.ID
	}{
		{textchat.AuditQuery{Limit: 2}, []textchat.ID{33, 32}}, {textchat.AuditQuery{Limit: 2, Before: 32}, []textchat.ID{31}},
		{textchat.AuditQuery{Limit: 1, After: 31}, []textchat.ID{32}}, {textchat.AuditQuery{Limit: 9, User: 1}, []textchat.ID{32}},
		{textchat.AuditQuery{Limit: 9, Action: textchat.AuditRoleDelete}, nil},
	} {
		list, err := s.Audit(ctx, 10, c.q)
		must(t, err)
		var got []textchat.ID
		for _, e := range list {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c.q, got)
		}
	}
	// What is older than AuditLife goes when more comes.
	must(t, s.Save(ctx, 10, []textchat.Change{{PutAudit: &textchat.AuditEntry{ID: life + 33}}}))
	if list, err := s.Audit(ctx, 10, textchat.AuditQuery{Limit: 9}); err != nil || len(list) != 2 || list[1].ID != 33 {
		t.Fatalf("after its life: %+v %v", list, err)
	}
	if w, err := s.Webhook(ctx, 21); err != nil || w.Token != "t" {
		t.Fatalf("webhook: %+v %v", w, err)
	}
	must(t, s.Save(ctx, 10, []textchat.Change{{DropChannel: 11}}))
	if list, err := s.Webhooks(ctx, 10); err != nil || len(list) != 0 {
		t.Fatalf("webhooks of a deleted channel: %v %v", list, err)
	}
	must(t, s.Save(ctx, 10, []textchat.Change{{DropGuild: true}}))
	if list, err := s.Bans(ctx, 10, 0, 0, 9); err != nil || len(list) != 0 {
		t.Fatalf("bans of a deleted guild: %v %v", list, err)
	}
}

func TestDMs(t *testing.T) {
	s := open(t, t.TempDir())
	d, err := s.OpenDM(ctx, textchat.DM{ID: 5, Users: [2]textchat.ID{2, 1}})
	if err != nil || d.ID != 5 || d.Other(2) != 1 || d.Other(1) != 2 || d.Other(3) != 0 {
		t.Fatalf("open: %+v %v", d, err)
	}
	if d, err := s.OpenDM(ctx, textchat.DM{ID: 6, Users: [2]textchat.ID{1, 2}}); err != nil || d.ID != 5 {
		t.Fatalf("open again: %+v %v", d, err)
	}
	_, err = s.DM(ctx, 6)
	told(t, "unknown", err, textchat.ErrNoRecord)
	if list, err := s.DMs(ctx, 1, 9); err != nil || len(list) != 0 {
		t.Fatalf("one without messages is listed: %v %v", list, err)
	}
	_, err = s.OpenDM(ctx, textchat.DM{ID: 7, Users: [2]textchat.ID{1, 3}})
	must(t, err)
	for i, ch := range []textchat.ID{5, 7} {
		_, _, err := s.AddMessage(ctx, message(ch, textchat.ID(100+i), "m"), "")
		must(t, err)
	}
	if list, err := s.DMs(ctx, 1, 9); err != nil || len(list) != 2 || list[0].ID != 7 || *list[1].LastMessage != 100 {
		t.Fatalf("list: %+v %v", list, err)
	}
	if list, err := s.DMs(ctx, 2, 9); err != nil || len(list) != 1 || list[0].ID != 5 {
		t.Fatalf("list of the other: %+v %v", list, err)
	}
}
