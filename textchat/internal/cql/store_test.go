package cql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// idAt is an id of that time; n tells those of one millisecond apart.
func idAt(at time.Time, n int) textchat.ID {
	return textchat.ID(at.UnixMilli()-snowflake.Epoch)<<22 | textchat.ID(n)
}

// unique are ids that no other test uses.
var unique = struct {
	sync.Mutex
	mint snowflake.Mint
}{}

func newID() textchat.ID {
	unique.Lock()
	defer unique.Unlock()
	return unique.mint.Next(time.Now())
}

func message(channel, id textchat.ID, text string) textchat.Message {
	return textchat.Message{ID: id, Channel: channel, Author: textchat.User{ID: 1}, Content: text, Timestamp: textchat.Time{Time: id.Time()}}
}

// count adds up a counter over its labels.
func count(t *testing.T, reg *prometheus.Registry, name string) int {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	n := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return int(n)
}

// counted opens the store with metrics of its own.
func withCounts(t *testing.T) (*Store, func(name string) int) {
	t.Helper()
	c := patient(t, runKeyspace())
	reg := prometheus.NewRegistry()
	c.Metrics = reg
	s := openAt(t, c)
	return s, func(name string) int { return count(t, reg, name) }
}

// TestOpenTwice: two that start at once migrate once, and each finds the other's
// schema.
func TestOpenTwice(t *testing.T) {
	openAt(t, patient(t, runKeyspace())) // Cassandra wants keyspaces made by one
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			s, err := Open(ctx, patient(t, runKeyspace()))
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}

// TestEqualReadsShareAQuery: a hundred who ask for one page at once cost less than
// ten queries, and whoever asks after a write sees it.
func TestEqualReadsShareAQuery(t *testing.T) {
	s, counted := withCounts(t)
	channel := newID()
	_, _, err := s.AddMessage(ctx, message(channel, newID(), "first"), "")
	must(t, err)
	before := counted("voicefleet_store_queries_total")
	// One more in the lane's place makes all of them meet.
	for range laneWidth {
		must(t, s.lanes.enter(ctx, uint64(channel)))
	}
	var wg sync.WaitGroup
	begun := make(chan struct{}, 100)
	for range 100 {
		wg.Go(func() {
			begun <- struct{}{}
			list, err := s.Page(ctx, channel, textchat.PageQuery{Limit: 50})
			if err != nil || len(list) != 1 || list[0].Content != "first" {
				t.Errorf("%v %v", list, err)
			}
		})
	}
	for range 100 {
		<-begun
	}
	for range laneWidth {
		s.lanes.leave(uint64(channel))
	}
	wg.Wait()
	if n := counted("voicefleet_store_queries_total") - before; n >= 10 {
		t.Errorf("100 equal reads cost %d queries", n)
	} else {
		t.Logf("100 equal reads: %d queries, %d joined", n, counted("voicefleet_store_coalesced_total"))
	}
	for i := range 50 {
		id := newID()
		go func() { _, _ = s.Page(ctx, channel, textchat.PageQuery{Limit: 1}) }()
		_, _, err := s.AddMessage(ctx, message(channel, id, fmt.Sprint(i)), "")
		must(t, err)
		if list, err := s.Page(ctx, channel, textchat.PageQuery{Limit: 1}); err != nil || list[0].ID != id {
			t.Fatalf("a page after the write of %d begins with %v, %v", id, list, err)
		}
	}
}

// TestQuietChannel: the history of a channel that wrote once a year costs a query
// for each bucket that has something, and those found empty are not asked again.
func TestQuietChannel(t *testing.T) {
	s, counted := withCounts(t)
	channel := newID()
	var ids []textchat.ID
	for year := range 8 {
		ids = append(ids, idAt(time.Date(2016+year, 5, 1, 0, 0, 0, 0, time.UTC), int(channel%1000)))
		_, _, err := s.AddMessage(ctx, message(channel, ids[year], "hi"), "")
		must(t, err)
	}
	page := func(limit, want int) int {
		t.Helper()
		before := counted("voicefleet_store_queries_total")
		list, err := s.Page(ctx, channel, textchat.PageQuery{Limit: limit})
		if err != nil || len(list) != want {
			t.Fatalf("%d messages, %v", len(list), err)
		}
		return counted("voicefleet_store_queries_total") - before
	}
	if n := page(50, 8); n > 1+8 {
		t.Errorf("8 messages in 8 years cost %d queries", n)
	}
	for _, id := range ids[1:] {
		must(t, s.DeleteMessage(ctx, channel, id))
	}
	hits := counted("voicefleet_store_bucket_hits_total")
	first, second := page(50, 1), page(50, 1)
	if first < 8 || second > 2 {
		t.Errorf("with 7 emptied buckets: %d queries, then %d; want 9 and 2", first, second)
	}
	if n := counted("voicefleet_store_bucket_hits_total") - hits; n != 7 {
		t.Errorf("%d of 7 empty buckets were remembered", n)
	}
	// A message that comes late is seen all the same.
	_, _, err := s.AddMessage(ctx, message(channel, ids[4]+1, "late"), "")
	must(t, err)
	page(50, 2)
}

// TestGhost: what an edit leaves behind that raced a deletion is not shown, and
// goes when it is read.
func TestGhost(t *testing.T) {
	s, _ := withCounts(t)
	channel := newID()
	var ids []textchat.ID
	for range 5 {
		ids = append(ids, newID())
		_, _, err := s.AddMessage(ctx, message(channel, ids[len(ids)-1], "m"), "")
		must(t, err)
	}
	must(t, s.DeleteMessage(ctx, channel, ids[3]))
	edit := func() {
		must(t, s.write(ctx, "UPDATE messages SET data = ? WHERE channel_id = ? AND bucket = ? AND id = ?", encode(message(channel, ids[3], "ghost")), int64(channel), bucketOf(ids[3]), int64(ids[3])))
		s.changed(channel)
	}
	edit()
	list, err := s.Page(ctx, channel, textchat.PageQuery{Limit: 4})
	if err != nil || len(list) != 4 || list[1].ID != ids[2] {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	var data string
	if err := s.query(ctx, "SELECT data FROM messages WHERE channel_id = ? AND bucket = ? AND id = ?", int64(channel), bucketOf(ids[3]), int64(ids[3])).Scan(&data); err == nil {
		t.Error("the ghost is still there")
	}
	edit()
	if _, err := s.Message(ctx, channel, ids[3]); !errors.Is(err, textchat.ErrNoRecord) {
		t.Errorf("a ghost is shown: %v", err)
	}
}

// TestManyMembers: the accounts of a guild's members come many at a time, and those that
// are not there are left out.
func TestManyMembers(t *testing.T) {
	s, sent := withCounts(t)
	guild := newID()
	changes := []textchat.Change{{PutGuild: &textchat.Guild{ID: guild, Name: "large"}}}
	var want []textchat.ID
	for i := range 3*usersAtOnce + 1 {
		u := textchat.User{ID: newID()}
		changes = append(changes, textchat.Change{PutMember: &textchat.Member{User: u}})
		switch i {
		case 7: // no account
		case 70: // half of one
			must(t, s.write(ctx, "INSERT INTO users (id, username) VALUES (?, ?)", int64(u.ID), "half"))
		default:
			u.Username = fmt.Sprint("name ", i)
			must(t, s.write(ctx, "INSERT INTO users (id, data) VALUES (?, ?)", int64(u.ID), encode(u)))
			want = append(want, u.ID)
		}
	}
	for part := range slices.Chunk(changes, 100) {
		must(t, s.Save(ctx, guild, part))
	}
	before := sent("voicefleet_store_queries_total")
	g, err := s.Guild(ctx, guild)
	must(t, err)
	if n := sent("voicefleet_store_queries_total") - before; n > 10 {
		t.Errorf("%d members cost %d queries", len(want), n)
	}
	var got []textchat.ID
	for _, m := range g.Members {
		got = append(got, m.User.ID)
		if m.User.Username == "" {
			t.Errorf("member %d is not as its account says", m.User.ID)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d members, want %d", len(got), len(want))
	}
}

// TestHistoryInBatches: a long list goes in batches of one partition each, bounded by rows
// and bytes, and what was there is replaced.
func TestHistoryInBatches(t *testing.T) {
	s, sent := withCounts(t)
	channel := newID()
	at := time.Now().Add(-30 * 24 * time.Hour)
	var list []textchat.Message
	for i := range 250 {
		list = append(list, message(channel, idAt(at.Add(time.Duration(i)*time.Minute), i), "short"))
	}
	at = at.Add(20 * 24 * time.Hour)
	for i := range 4 {
		list = append(list, message(channel, idAt(at.Add(time.Duration(i)*time.Second), i), strings.Repeat("long", batchBytes/8)))
	}
	for _, text := range []string{"short", "new"} {
		list[0].Content = text
		before := sent("voicefleet_store_queries_total")
		must(t, s.AddMessages(ctx, channel, list))
		// Three and two, and at first a note of either bucket; both lists may lie over the
		// end of one.
		if n := sent("voicefleet_store_queries_total") - before; n < 5 || n > 11 {
			t.Errorf("%d statements", n)
		}
	}
	var got []textchat.Message
	for q := (textchat.PageQuery{Limit: 100}); ; {
		page, err := s.Page(ctx, channel, q)
		must(t, err)
		got = append(got, page...)
		if len(page) < q.Limit {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	slices.Reverse(got)
	if len(got) != len(list) || got[0].Content != "new" {
		t.Fatalf("%d messages of %d, the first %q", len(got), len(list), got[0].Content)
	}
	for i := range got {
		if got[i].ID != list[i].ID || got[i].Content != list[i].Content {
			t.Fatalf("message %d: %d %.9q, want %d %.9q", i, got[i].ID, got[i].Content, list[i].ID, list[i].Content)
		}
	}
}

// TestCrashesBetween: what a process that died leaves in the middle of a write is
// taken up or leads nowhere.
func TestCrashesBetween(t *testing.T) {
	s, _ := withCounts(t)
	t.Run("Nonce", func(t *testing.T) {
		// The nonce was claimed and the message not written; the retry, under a new
		// id, becomes that message. Should the first write come late after all, it is
		// the same row.
		channel, lost, retry := newID(), newID(), newID()
		m := message(channel, lost, "once")
		if earlier, err := s.claimNonce(ctx, &m, "n"); err != nil || earlier != nil {
			t.Fatal(earlier, err)
		}
		got, again, err := s.AddMessage(ctx, message(channel, retry, "once"), "n")
		if err != nil || again || got.ID != lost {
			t.Fatalf("%d again %v, %v; want %d", got.ID, again, err, lost)
		}
		must(t, s.insert(ctx, m, "n"))
		if list, err := s.Page(ctx, channel, textchat.PageQuery{Limit: 9}); err != nil || len(list) != 1 {
			t.Fatalf("%d messages, %v", len(list), err)
		}
	})
	t.Run("Name", func(t *testing.T) {
		name := fmt.Sprintf("half%d", newID())
		dead, user := newID(), textchat.User{ID: newID(), Username: name}
		must(t, s.claim(ctx, name, dead))
		if err := s.CreateUser(ctx, textchat.Credential{User: user}, nil, time.Now()); !errors.Is(err, textchat.ErrNameTaken) {
			t.Fatalf("a fresh claim: %v", err)
		}
		if _, err := s.Login(ctx, name); !errors.Is(err, textchat.ErrNoRecord) {
			t.Fatalf("nobody has the name yet: %v", err)
		}
		// It is older than an account takes to be made.
		_, _, err := s.cas(ctx, "UPDATE lwt.names SET claimed = ? WHERE name = ? IF user_id = ?", time.Now().Add(-claimLife).UnixMilli(), name, int64(dead))
		must(t, err)
		must(t, s.CreateUser(ctx, textchat.Credential{User: user}, nil, time.Now()))
		if c, err := s.Login(ctx, name); err != nil || c.User.ID != user.ID {
			t.Fatalf("%d %v", c.User.ID, err)
		}
	})
	t.Run("Save", func(t *testing.T) {
		// Only the first stage was done: nothing is there.
		guild, channel, user := newID(), newID(), newID()
		code := guild.String()
		changes := []textchat.Change{
			{PutGuild: &textchat.Guild{ID: guild}}, {PutChannel: &textchat.Channel{ID: channel}},
			{PutMember: &textchat.Member{User: textchat.User{ID: user}}}, {PutInvite: &textchat.Invite{Code: code, Channel: channel}},
			{PutWebhook: &textchat.Webhook{ID: channel, Channel: channel}},
		}
		p, err := s.plan(ctx, guild, changes)
		must(t, err)
		must(t, s.lead(ctx, p))
		_, a := s.Guild(ctx, guild)
		_, b := s.ChannelGuild(ctx, channel)
		_, c := s.Invite(ctx, code)
		_, d := s.Webhook(ctx, channel)
		for i, err := range []error{a, b, c, d} {
			if !errors.Is(err, textchat.ErrNoRecord) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if ids, err := s.GuildIDs(ctx, user); err != nil || len(ids) != 0 {
			t.Errorf("guilds %v, %v", ids, err)
		}
		// Another guild may have the code then.
		must(t, s.Save(ctx, newID(), []textchat.Change{{PutInvite: &textchat.Invite{Code: code}}}))
		if err := s.Save(ctx, guild, changes); !errors.Is(err, textchat.ErrNameTaken) {
			t.Errorf("two guilds have one code: %v", err)
		}
	})
	t.Run("Drop", func(t *testing.T) {
		// The channel is gone and its messages are not: the next start takes them.
		guild, channel, id := newID(), newID(), newID()
		must(t, s.Save(ctx, guild, []textchat.Change{{PutChannel: &textchat.Channel{ID: channel}}}))
		_, _, err := s.AddMessage(ctx, message(channel, id, "m"), "")
		must(t, err)
		p, err := s.plan(ctx, guild, []textchat.Change{{DropChannel: channel}})
		must(t, err)
		must(t, s.lead(ctx, p))
		must(t, s.sweep(ctx)) // not dropped yet
		if _, err := s.Message(ctx, channel, id); err != nil {
			t.Fatalf("the messages of a channel that is there: %v", err)
		}
		must(t, s.lead(ctx, p))
		must(t, s.commit(ctx, p))
		must(t, s.sweep(ctx))
		if _, err := s.Message(ctx, channel, id); !errors.Is(err, textchat.ErrNoRecord) {
			t.Fatalf("the messages of a channel that is gone: %v", err)
		}
	})
}

// TestSilentServer stops the server: every answer comes within 1 s, soon at once,
// and when it goes on so does the store, with all that was acknowledged.
func TestSilentServer(t *testing.T) {
	warm := openAt(t, patient(t, runKeyspace()))
	if server.Pid() == 0 {
		t.Skip("the CQL server is somebody else's: it is not stopped")
	}
	channel := newID()
	for range 200 { // the server compiles what it runs
		_, _, err := warm.AddMessage(ctx, message(channel, newID(), "warm"), "")
		must(t, err)
	}
	c := patient(t, runKeyspace())
	c.Timeout = 0
	s := openAt(t, c)
	kept := map[textchat.ID]bool{}
	add := func() error {
		id := newID()
		_, _, err := s.AddMessage(ctx, message(channel, id, "kept"), "")
		if err == nil {
			kept[id] = true
		}
		return err
	}
	must(t, add())
	// A short pause, as of its garbage collection, is waited for.
	must(t, server.Freeze())
	defer server.Thaw()
	over := make(chan struct{})
	time.AfterFunc(s.timeout/2, func() {
		_ = server.Thaw()
		close(over)
	})
	if _, err := s.Page(ctx, channel, textchat.PageQuery{Limit: 5}); err != nil {
		t.Errorf("after a pause: %v", err)
	}
	<-over
	must(t, server.Freeze())
	var errs [breakerFailures]error
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = s.Page(ctx, channel, textchat.PageQuery{Limit: 10 + i})
		})
	}
	wg.Wait()
	slow := time.Since(begun)
	for _, err := range errs {
		if e := textchat.ErrorOf(err); !errors.Is(err, textchat.ErrUnsure) || e.Status != 503 || e.RetryAfter == 0 {
			t.Errorf("a silent server: %v", err)
		}
	}
	begun = time.Now()
	if err := add(); !errors.Is(err, textchat.ErrBusy) || errors.Is(err, textchat.ErrUnsure) {
		t.Errorf("with the breaker open: %v", err)
	}
	fast := time.Since(begun)
	// The promise is a second; the rest is for a machine that has other things to do.
	if slow > 3*time.Second || fast > s.timeout {
		t.Errorf("refused after %v, then after %v", slow, fast)
	}
	t.Logf("refused after %v, then after %v", slow, fast)
	must(t, server.Thaw())
	deadline, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for add() != nil {
		select {
		case <-look.C:
		case <-deadline.Done():
			t.Fatal("the server goes on, the store does not")
		}
	}
	t.Logf("back after %v", time.Since(begun))
	list, err := warm.Page(ctx, channel, textchat.PageQuery{Limit: 10})
	must(t, err)
	for _, m := range list {
		delete(kept, m.ID)
	}
	if len(kept) != 0 {
		t.Errorf("lost: %v", kept)
	}
}

// TestSilence: what the cluster answers that it could not do is no fault of the
// statement, and the other way round.
func TestSilence(t *testing.T) {
	for _, err := range []error{
		&gocql.RequestErrWriteTimeout{}, &gocql.RequestErrReadTimeout{}, &gocql.RequestErrUnavailable{}, &gocql.RequestErrCASWriteUnknown{},
		gocql.ErrNoConnections, context.DeadlineExceeded, fmt.Errorf("wrapped: %w", gocql.ErrTimeoutNoResponse), &net.OpError{Err: errors.New("reset")}, io.EOF,
	} {
		if !silence(err) {
			t.Errorf("%T %v is no silence", err, err)
		}
	}
	s, _ := withCounts(t)
	wrong := s.query(ctx, "SELECT nothing FROM users WHERE id = 1").Exec()
	for _, err := range []error{nil, wrong, gocql.ErrNotFound, textchat.ErrUsedUp, textchat.ErrBusy, errors.New("read record")} {
		if silence(err) {
			t.Errorf("%T %v is silence", err, err)
		}
	}
	if wrong == nil {
		t.Error("the cluster knows a column that is not there")
	}
}

// TestNoServer: the error names the address.
func TestNoServer(t *testing.T) {
	begun := time.Now()
	_, err := Open(ctx, Config{Hosts: []string{"127.0.0.1:1"}, Keyspace: "none"})
	if err == nil || time.Since(begun) > 5*time.Second {
		t.Fatalf("%v after %v", err, time.Since(begun))
	}
	t.Log(err)
}
