package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(askedEnv); dir != "" {
		asked(dir, os.Stdin, os.Stdout)
		return
	}
	goleak.VerifyTestMain(m)
}

var (
	ctx = context.Background()
	now = time.Unix(1_800_000_000, 0).UTC()
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func user(id textchat.ID, name string) textchat.Credential {
	return textchat.Credential{User: textchat.User{ID: id, Username: name, Discriminator: "0"}, Hash: "h-" + name}
}

func TestAccounts(t *testing.T) {
	s := open(t, t.TempDir())
	tok, other := textchat.TokenHash{1}, textchat.TokenHash{2}
	must(t, s.CreateUser(ctx, user(1, "ann"), &tok, now))
	if err := s.CreateUser(ctx, user(2, "ANN"), &other, now); !errors.Is(err, textchat.ErrNameTaken) {
		t.Fatalf("same name: %v", err)
	}
	if _, err := s.TokenUser(ctx, other); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("the refused user left a token: %v", err)
	}
	must(t, s.CreateUser(ctx, user(2, "bob"), nil, now))
	if c, err := s.Login(ctx, "Ann"); err != nil || c.User.ID != 1 || c.Hash != "h-ann" {
		t.Fatalf("login: %+v %v", c, err)
	}
	if u, err := s.TokenUser(ctx, tok); err != nil || u.ID != 1 {
		t.Fatalf("token: %+v %v", u, err)
	}
	renamed := user(2, "ann")
	if err := s.UpdateUser(ctx, renamed); !errors.Is(err, textchat.ErrNameTaken) {
		t.Fatalf("rename: %v", err)
	}
	renamed.User.Username, renamed.Hash = "rob", ""
	must(t, s.UpdateUser(ctx, renamed))
	if c, _ := s.Login(ctx, "rob"); c.Hash != "h-bob" {
		t.Fatalf("an empty hash replaced the old one: %q", c.Hash)
	}
	if err := s.UpdateUser(ctx, user(9, "x")); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("unknown: %v", err)
	}
	must(t, s.AddToken(ctx, 1, other, now))
	must(t, s.RevokeToken(ctx, tok))
	if _, err := s.TokenUser(ctx, tok); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("revoked: %v", err)
	}
	must(t, s.RevokeTokens(ctx, 1))
	if _, err := s.TokenUser(ctx, other); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("revoked all: %v", err)
	}
	if list, err := s.Users(ctx, 1, 10); err != nil || len(list) != 1 || list[0].Username != "rob" {
		t.Fatalf("list: %+v %v", list, err)
	}
}

func TestGuildComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.CreateUser(ctx, user(1, "ann"), nil, now))
	g := textchat.Guild{ID: 10, Name: "G", Owner: 1}
	role := textchat.Role{ID: 10, Name: "@everyone", Permissions: textchat.AllPermissions}
	ch := textchat.Channel{ID: 11, Guild: 10, Name: "c", Overwrites: []textchat.Overwrite{{ID: 10, Deny: textchat.Speak}}}
	m := textchat.Member{User: textchat.User{ID: 1, Username: "stale"}, Roles: []textchat.ID{10}, JoinedAt: textchat.Time{Time: now}, Mute: true}
	inv := textchat.Invite{Code: "abc", Guild: 10, Channel: 11, MaxUses: 2, CreatedAt: textchat.Time{Time: now}}
	must(t, s.Save(ctx, 10, []textchat.Change{{PutGuild: &g}, {PutRole: &role}, {PutChannel: &ch}, {PutMember: &m}, {PutInvite: &inv}}))
	if _, _, err := s.AddMessage(ctx, message(11, 500, "last"), ""); err != nil {
		t.Fatal(err)
	}
	must(t, s.Close())

	s = open(t, dir)
	r, err := s.Guild(ctx, 10)
	must(t, err)
	if r.Guild.Name != "G" || len(r.Roles) != 1 || r.Roles[0].Permissions != textchat.AllPermissions || len(r.Channels) != 1 ||
		r.Channels[0].Overwrites[0].Deny != textchat.Speak || *r.Channels[0].LastMessage != 500 ||
		len(r.Members) != 1 || r.Members[0].User.Username != "ann" || !r.Members[0].Mute || !r.Members[0].JoinedAt.Equal(now) {
		t.Fatalf("%+v", r)
	}
	if _, err := s.Guild(ctx, 99); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("unknown guild: %v", err)
	}
	if id, err := s.ChannelGuild(ctx, 11); err != nil || id != 10 {
		t.Fatalf("channel's guild: %v %v", id, err)
	}
	if ids, _ := s.GuildIDs(ctx, 1); !slices.Equal(ids, []textchat.ID{10}) {
		t.Fatalf("guilds: %v", ids)
	}
	for i := range 3 {
		if _, err := s.UseInvite(ctx, "abc", now); i < 2 && err != nil || i == 2 && !errors.Is(err, textchat.ErrUsedUp) {
			t.Fatalf("use %d: %v", i, err)
		}
	}
	must(t, s.Save(ctx, 10, []textchat.Change{{PutInvite: &textchat.Invite{Code: "hour", Guild: 10, Channel: 11, MaxAge: 3600, CreatedAt: textchat.Time{Time: now}}}}))
	if _, err := s.UseInvite(ctx, "hour", now.Add(time.Hour-time.Second)); err != nil {
		t.Fatalf("before its hour is over: %v", err)
	}
	if _, err := s.UseInvite(ctx, "hour", now.Add(time.Hour)); !errors.Is(err, textchat.ErrUsedUp) {
		t.Fatalf("after its hour: %v", err)
	}
	must(t, s.Save(ctx, 10, []textchat.Change{{DropMember: 1}, {DropChannel: 11}}))
	if _, err := s.Message(ctx, 11, 500); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("message of a deleted channel: %v", err)
	}
	if _, err := s.Invite(ctx, "abc"); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("invite of a deleted channel: %v", err)
	}
	// All or none: the second change cannot be done.
	if err := s.Save(ctx, 10, []textchat.Change{{DropGuild: true}, {}}); err == nil {
		t.Fatal("an empty change was taken")
	}
	if _, err := s.Guild(ctx, 10); err != nil {
		t.Fatalf("half a save was done: %v", err)
	}
}

func message(ch, id textchat.ID, text string) textchat.Message {
	return textchat.Message{ID: id, Channel: ch, Author: textchat.User{ID: 1}, Content: text, Timestamp: textchat.Time{Time: now}}
}

// TestLongHistory: more messages than one write takes.
func TestLongHistory(t *testing.T) {
	s := open(t, t.TempDir())
	var list []textchat.Message
	for i := range textchat.ID(bulkMost + 1) {
		list = append(list, message(7, i+1, "old"))
	}
	must(t, s.AddMessages(ctx, 7, list))
	list[0].Content = "new"
	must(t, s.AddMessages(ctx, 7, list[:1]))
	must(t, s.AddMessages(ctx, 7, nil))
	newest, err := s.Page(ctx, 7, textchat.PageQuery{Limit: 1})
	must(t, err)
	all, err := s.Page(ctx, 7, textchat.PageQuery{Limit: 2 * bulkMost})
	must(t, err)
	if newest[0].ID != bulkMost+1 || len(all) != bulkMost+1 || all[bulkMost].Content != "new" {
		t.Errorf("%d messages, the newest %d, the oldest %q", len(all), newest[0].ID, all[len(all)-1].Content)
	}
}

func TestPages(t *testing.T) {
	s := open(t, t.TempDir())
	for i := textchat.ID(1); i <= 20; i++ {
		if _, _, err := s.AddMessage(ctx, message(7, i*10, fmt.Sprint(i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		q    textchat.PageQuery
		want []int
	}{
		{textchat.PageQuery{Limit: 3}, []int{20, 19, 18}},
		{textchat.PageQuery{Limit: 3, Before: 40}, []int{3, 2, 1}},
		{textchat.PageQuery{Limit: 3, Before: 25}, []int{2, 1}},
		{textchat.PageQuery{Limit: 3, After: 40}, []int{7, 6, 5}},
		{textchat.PageQuery{Limit: 3, After: 190}, []int{20}},
		{textchat.PageQuery{Limit: 3, After: 200}, nil},
		{textchat.PageQuery{Limit: 4, Around: 100}, []int{11, 10, 9, 8}},
		{textchat.PageQuery{Limit: 1, Around: 100}, []int{10}},
		{textchat.PageQuery{Limit: 5, Around: 105}, []int{12, 11, 10, 9, 8}},
	} {
		list, err := s.Page(ctx, 7, c.q)
		must(t, err)
		var got []int
		for _, m := range list {
			got = append(got, int(m.ID/10))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.q, got, c.want)
		}
	}
	if list, err := s.Page(ctx, 8, textchat.PageQuery{Limit: 3}); err != nil || len(list) != 0 {
		t.Errorf("another channel: %v %v", list, err)
	}
}

func TestNonce(t *testing.T) {
	s := open(t, t.TempDir())
	first, again, err := s.AddMessage(ctx, message(7, 1, "a"), "n")
	if err != nil || again || first.ID != 1 {
		t.Fatalf("first: %+v %v %v", first, again, err)
	}
	if m, again, err := s.AddMessage(ctx, message(7, 2, "a"), "n"); err != nil || !again || m.ID != 1 {
		t.Fatalf("same nonce: %+v %v %v", m, again, err)
	}
	if _, again, _ := s.AddMessage(ctx, message(8, 3, "a"), "n"); again {
		t.Fatal("the nonce counts in another channel")
	}
	late := message(7, 4, "a")
	late.Timestamp.Time = now.Add(textchat.NonceLife)
	if m, again, err := s.AddMessage(ctx, late, "n"); err != nil || again || m.ID != 4 {
		t.Fatalf("after its life: %+v %v %v", m, again, err)
	}
	must(t, s.DeleteMessage(ctx, 7, 4))
	if err := s.DeleteMessage(ctx, 7, 4); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("deleted twice: %v", err)
	}
	if err := s.EditMessage(ctx, message(7, 4, "ghost")); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("edit of a deleted message: %v", err)
	}
}

// TestGroupCommit: many writers at once, one of each pair refused, all that was
// acknowledged is there after the file is opened again.
func TestGroupCommit(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := range 10 {
				id := textchat.ID(1 + w*10 + i)
				if err := s.CreateUser(ctx, user(id, fmt.Sprintf("u%d", id)), nil, now); err != nil {
					t.Errorf("user %d: %v", id, err)
				}
				if err := s.CreateUser(ctx, user(id+1000, fmt.Sprintf("u%d", id)), nil, now); !errors.Is(err, textchat.ErrNameTaken) {
					t.Errorf("user %d again: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
	must(t, s.Close())
	if err := s.SetSetting(ctx, "a", "b"); err == nil {
		t.Fatal("a closed store took a write")
	}
	s = open(t, dir)
	if list, err := s.Users(ctx, 0, 1000); err != nil || len(list) != 320 {
		t.Fatalf("%d users, %v", len(list), err)
	}
}

func TestTakeSettingOnce(t *testing.T) {
	s := open(t, t.TempDir())
	must(t, s.SetSetting(ctx, "code", "x"))
	if err := s.TakeSetting(ctx, "code", "y"); !errors.Is(err, textchat.ErrNoRecord) {
		t.Fatalf("wrong value: %v", err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 16 {
		wg.Go(func() {
			if s.TakeSetting(ctx, "code", "x") == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d takers succeeded", won)
	}
}

func BenchmarkAddMessage64(b *testing.B) {
	s, err := Open(b.TempDir(), Config{Patience: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var mint snowflake.Mint
	text := string(make([]byte, 500))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := s.AddMessage(ctx, message(7, mint.Next(time.Now()), text), ""); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestStalledDisk: while a group of writes does not come to its end, writers are refused
// within the time that a write may take, readers go on, and each is told the truth.
func TestStalledDisk(t *testing.T) {
	const patience = 100 * time.Millisecond
	// soon is long for the second that is promised of a longer patience: a machine may have
	// other things to do.
	const soon = 3 * time.Second
	reg := prometheus.NewRegistry()
	s, err := Open(t.TempDir(), Config{Patience: patience, Metrics: reg})
	must(t, err)
	defer s.Close()
	add := func(id textchat.ID) error {
		_, _, err := s.AddMessage(ctx, textchat.Message{ID: id, Channel: 1, Author: textchat.User{ID: 1}}, "")
		return err
	}
	for err = textchat.ErrBusy; errors.Is(err, textchat.ErrBusy); { // on a busy machine the first may be late
		err = add(1)
	}
	if !errors.Is(err, textchat.ErrUnsure) {
		must(t, err)
	}

	stalled, flows := make(chan struct{}, 1), make(chan struct{})
	results := make(chan error, 2)
	stall := func(tx *txn) error {
		select {
		case stalled <- struct{}{}:
		default:
		}
		<-flows
		return nil
	}
	go func() { results <- s.changeSurely(ctx, "stall", stall) }()
	select {
	case <-stalled:
	case err := <-results:
		t.Fatalf("a write before anything stalls: %v", err)
	}
	// Not begun: it was not done, whatever the disk does later.
	begun := time.Now()
	if err := add(2); !errors.Is(err, textchat.ErrBusy) || errors.Is(err, textchat.ErrUnsure) || time.Since(begun) > soon {
		t.Errorf("a write behind a stalled one, after %v: %v", time.Since(begun), err)
	}
	// The disk is late by now: who comes is not kept waiting.
	begun = time.Now()
	if err := add(3); !s.late() || !errors.Is(err, textchat.ErrBusy) || time.Since(begun) > soon {
		t.Errorf("a write on a late disk, after %v: %v", time.Since(begun), err)
	}
	if list, err := s.Page(ctx, 1, textchat.PageQuery{Limit: 50}); err != nil || len(list) != 1 {
		t.Errorf("a page meanwhile: %v %v", list, err)
	}
	select {
	case err := <-results:
		t.Fatalf("a write that must be sure gave up: %v", err)
	default:
	}
	close(flows)
	must(t, <-results)

	// One that was begun may be done yet, and is.
	flows = make(chan struct{})
	begun = time.Now()
	go func() {
		results <- s.change(ctx, "stall", func(tx *txn) error {
			<-flows
			_, err := exec(tx, "INSERT INTO settings (key, value) VALUES ('late', 'done')")
			return err
		})
	}()
	if err := <-results; !errors.Is(err, textchat.ErrUnsure) || time.Since(begun) > soon {
		t.Errorf("a write that was begun, after %v: %v", time.Since(begun), err)
	}
	close(flows)
	for err = textchat.ErrBusy; errors.Is(err, textchat.ErrBusy); {
		err = add(4)
	}
	if v, err := s.Setting(ctx, "late"); err != nil || v != "done" {
		t.Fatalf("what was begun: %q %v", v, err)
	}
	list, err := s.Page(ctx, 1, textchat.PageQuery{Limit: 50})
	if err != nil || len(list) != 2 || list[0].ID != 4 || list[1].ID != 1 {
		t.Fatalf("a write that was refused shows: %v %v", list, err)
	}
	// Who was not sure writes the same again.
	for err = textchat.ErrBusy; errors.Is(err, textchat.ErrBusy); {
		err = add(4)
	}
	must(t, err)
	for reason, least := range map[string]float64{refusedStalled: 2, refusedSilent: 1} {
		if n := testutil.ToFloat64(s.metrics.refused.WithLabelValues(reason)); n < least {
			t.Errorf("%s: %v counted, want %v", reason, n, least)
		}
	}
}

// TestUnsureResult: what a write finds out is not read by who was told that nobody knows
// yet, as the writer may still write it. It takes the race detector to see it fail.
func TestUnsureResult(t *testing.T) {
	s, err := Open(t.TempDir(), Config{Patience: 100 * time.Millisecond})
	must(t, err)
	defer s.Close()
	for {
		begun, flows, first := make(chan struct{}), make(chan struct{}), make(chan struct{})
		hold := func(tx *txn) error { close(begun); <-first; return nil }
		stall := func(tx *txn) error { <-flows; return nil }
		results := make(chan error, 3)
		go func() { results <- s.changeSurely(ctx, "hold", hold) }()
		select {
		case <-begun:
		case <-results: // on a busy machine
			continue
		}
		// These two are the next group.
		go func() { results <- s.changeSurely(ctx, "stall", stall) }()
		for len(s.jobs) < 1 && !s.late() {
			runtime.Gosched()
		}
		silent := s.metrics.refused.WithLabelValues(refusedSilent)
		before := testutil.ToFloat64(silent)
		reacted := make(chan error, 1)
		go func() {
			_, err := s.Unpin(ctx, 1, 1)
			reacted <- err
		}()
		for len(s.jobs) < 2 && !s.late() {
			runtime.Gosched()
		}
		close(first)
		// The writer goes on once the other does not wait any more, whose end it does not
		// see: only so can the detector tell that they are not in order.
		for testutil.ToFloat64(silent) == before && len(reacted) == 0 {
			runtime.Gosched()
		}
		close(flows)
		for range 2 {
			<-results
		}
		if err := <-reacted; errors.Is(err, textchat.ErrUnsure) {
			return
		}
	}
}
