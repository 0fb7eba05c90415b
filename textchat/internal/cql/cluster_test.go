//go:build cqlcluster

package cql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"voicefleet/textchat"
	"voicefleet/textchat/textchattest"
)

// clusterPatience is how long the test waits for what nodes find out about each other.
const clusterPatience = 5 * time.Minute

// longestRefusal is how long a writer may be refused when a node stands still or dies. A
// node is passed over after 0.2 s; a lightweight transaction that it has begun by then is
// given up after 0.8 s, and as many may stop the cluster from being asked for 0.5 s. The
// nodes find out about each other after 20 s.
const longestRefusal = 3 * time.Second

// ledger is what writers of one channel each were told.
type ledger struct {
	name string
	// add writes a message, again with the same id when it was refused, and says under
	// which id it is there.
	add func(ctx context.Context, channel, id textchat.ID) (textchat.ID, error)

	mu      sync.Mutex
	acked   map[textchat.ID][]textchat.ID // by channel, in the order of the answers
	refused map[string]int                // by why
	slowest time.Duration                 // answer
	gap     time.Duration                 // between two acknowledged messages of one writer
}

// fewest is how many messages were acknowledged to the one who was told of the fewest.
func (l *ledger) fewest() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 1 << 30
	for _, ids := range l.acked {
		n = min(n, len(ids))
	}
	return n
}

// phase says what came of the time since the last phase, and returns its gap.
func (l *ledger) phase(t *testing.T, name string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, ids := range l.acked {
		n += len(ids)
	}
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("%s, %s: %d acknowledged so far, refused %v; the slowest answer %v, the longest time without one that is good %v (load %.14s)",
		name, l.name, n, l.refused, l.slowest.Round(time.Millisecond), l.gap.Round(time.Millisecond), load)
	gap := l.gap
	l.refused, l.slowest, l.gap = make(map[string]int), 0, 0
	return gap
}

// write writes message after message, each until it is acknowledged.
func (l *ledger) write(ctx context.Context, channel textchat.ID) {
	last := time.Now()
	for ctx.Err() == nil {
		id := newID()
		for ctx.Err() == nil {
			begun := time.Now()
			stored, err := l.add(ctx, channel, id)
			now := time.Now()
			l.mu.Lock()
			l.slowest = max(l.slowest, now.Sub(begun))
			if err == nil {
				l.acked[channel] = append(l.acked[channel], stored)
				l.gap, last = max(l.gap, now.Sub(last)), now
			} else if ctx.Err() == nil {
				why, _, _ := strings.Cut(err.Error(), " (") // of the driver: how many are under way
				l.refused[why]++
			}
			l.mu.Unlock()
			if err == nil {
				break
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// kept holds what is stored to what was acknowledged.
func (l *ledger) kept(t *testing.T, s *Store) {
	t.Helper()
	lost, total := 0, 0
	for channel, want := range l.acked {
		var got []textchat.ID
		for q := (textchat.PageQuery{Limit: 100}); ; {
			page, err := s.Page(ctx, channel, q)
			must(t, err)
			for _, m := range page {
				got = append(got, m.ID)
			}
			if len(page) < q.Limit {
				break
			}
			q.Before = page[len(page)-1].ID
		}
		slices.Reverse(got)
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: channel %d is out of order, or has a message twice", l.name, channel)
		}
		for _, id := range want {
			total++
			if _, ok := slices.BinarySearch(got, id); !ok {
				lost++
			}
		}
		if len(got) > len(want)+1 { // the last one may not have been acknowledged
			t.Errorf("%s: channel %d has %d messages, %d were acknowledged", l.name, channel, len(got), len(want))
		}
	}
	t.Logf("%s: %d of %d acknowledged messages are lost", l.name, lost, total)
	if lost > 0 {
		t.Errorf("%s: %d acknowledged messages are lost", l.name, lost)
	}
}

// TestCluster holds the store to its model on three nodes of which two are a quorum: with
// all of them, while one stands still, and after another one was killed. Eight writers go
// on all the time: nothing that was acknowledged to them is lost or there twice.
func TestCluster(t *testing.T) {
	nodes := textchattest.CQLCluster(t)
	address := func(n int) string { return nodes[n].Address(t) }
	c := Config{Hosts: []string{address(0), address(1), address(2)}, Keyspace: runKeyspace(), Timeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler)}
	var ledgers []*ledger
	within := func(what string, is func() bool) {
		t.Helper()
		deadline, cancel := context.WithTimeout(ctx, clusterPatience)
		defer cancel()
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		begun := time.Now()
		for !is() {
			select {
			case <-look.C:
			case <-deadline.Done():
				for _, l := range ledgers {
					l.phase(t, "until then")
				}
				t.Fatalf("%s: not within %v", what, clusterPatience)
			}
		}
		t.Logf("%s: after %v", what, time.Since(begun).Round(100*time.Millisecond))
	}
	// Each is asked by itself: one that knows fewer nodes takes others to own a row.
	within("three nodes know each other, and of one schema", func() bool {
		for n := range nodes {
			one := c.cluster()
			one.Hosts, one.HostFilter = []string{address(n)}, gocql.WhiteListHostFilter(address(n))
			session, err := one.CreateSession()
			if err != nil {
				return false
			}
			iter := session.Query("SELECT peer FROM system.peers").Iter()
			known := iter.NumRows()
			err = errors.Join(iter.Close(), session.AwaitSchemaAgreement(ctx))
			session.Close()
			if known != 2 || err != nil {
				return false
			}
		}
		return true
	})
	open := func(c Config) *Store {
		t.Helper()
		s, err := Open(ctx, c)
		must(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	s, other := open(c), open(c)
	b, err := inspect(ctx, s.session, "")
	must(t, err)
	if n, err := (&migrator{session: s.session, backend: b, keyspace: c.Keyspace}).replicas(ctx); err != nil || n != 3 {
		t.Fatalf("%d replicas, %v: want 3", n, err)
	}
	c.Timeout = 0
	strict := open(c) // as it is set in earnest
	if strict.second.Attempts() == 0 {
		t.Fatal("reads are not asked of a second node")
	}
	// up says whether the driver has a node for up.
	up := func(s *Store, n int) bool {
		host, _, _ := strings.Cut(address(n), ":")
		return slices.ContainsFunc(s.session.GetHosts(), func(h *gocql.HostInfo) bool { return h.ConnectAddress().String() == host && h.IsUp() })
	}
	signal := func(n int, sig syscall.Signal) { must(t, syscall.Kill(nodes[n].Pid(), sig)) }

	seed := uint64(0)
	histories := func(name string) {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				seed++
				n := seed
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					t.Parallel()
					textchattest.Differential(t, s, n, 250)
				})
			}
		})
	}
	// led is a channel whose messages the driver asks that node for first.
	led := func(n int) textchat.ID {
		t.Helper()
		host, _, _ := strings.Cut(address(n), ":")
		for range 1000 {
			channel := newID()
			iter := s.query(ctx, "SELECT id FROM messages WHERE channel_id = ? AND bucket = ?", int64(channel), bucketOf(channel)).Iter()
			must(t, iter.Close())
			if iter.Host().ConnectAddress().String() == host {
				return channel
			}
		}
		t.Fatalf("node %d is asked for no channel", n)
		return 0
	}
	ledgers = []*ledger{
		{name: "by a nonce and a write", add: func(ctx context.Context, channel, id textchat.ID) (textchat.ID, error) {
			m, _, err := strict.AddMessage(ctx, message(channel, id, "kept"), id.String())
			return m.ID, err
		}},
		{name: "by a write", add: func(ctx context.Context, channel, id textchat.ID) (textchat.ID, error) {
			m, _, err := strict.AddMessage(ctx, message(channel, id, "kept"), "")
			return m.ID, err
		}},
		{name: "by a batch", add: func(ctx context.Context, channel, id textchat.ID) (textchat.ID, error) {
			return id, strict.AddMessages(ctx, channel, []textchat.Message{message(channel, id, "kept")})
		}},
	}
	writing, stop := context.WithCancel(ctx)
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for i, l := range ledgers {
		l.acked, l.refused = make(map[textchat.ID][]textchat.ID), make(map[string]int)
		var channels []textchat.ID
		for j := range []int{8, 2, 2}[i] {
			channel := led(1 + j%2) // the two that will fail
			channels, l.acked[channel] = append(channels, channel), nil
		}
		for _, channel := range channels {
			writers.Go(func() { l.write(writing, channel) })
		}
	}
	more := func() {
		t.Helper()
		var want []int
		for _, l := range ledgers {
			want = append(want, l.fewest()+50)
		}
		within("every writer writes 50 more", func() bool {
			for i, l := range ledgers {
				if l.fewest() < want[i] {
					return false
				}
			}
			return true
		})
	}
	phase := func(name string, most time.Duration) {
		t.Helper()
		for _, l := range ledgers {
			if gap := l.phase(t, name); gap > most {
				t.Errorf("%s, %s: refused for %v, want %v at most", name, l.name, gap.Round(time.Millisecond), most)
			}
		}
	}

	more()
	histories("Whole")
	t.Run("Linearizable", func(t *testing.T) { textchattest.Linearizable(t, uint64(newID()>>22), nil, s, other) })
	phase("three nodes", clusterPatience)

	signal(2, syscall.SIGSTOP)
	defer func() { _ = syscall.Kill(nodes[2].Pid(), syscall.SIGCONT) }()
	more()
	within("the third is known to stand still", func() bool { return !up(s, 2) && !up(other, 2) })
	phase("one stands still, and who asks it finds out", longestRefusal)
	histories("Stopped")
	phase("one stands still", clusterPatience)

	signal(2, syscall.SIGCONT)
	within("the third is back", func() bool { return up(s, 2) && up(other, 2) })
	phase("it goes on", clusterPatience)
	signal(1, syscall.SIGKILL)
	more()
	within("the second is known to be gone", func() bool { return !up(s, 1) && !up(other, 1) })
	phase("another one is killed", longestRefusal)
	histories("Killed")
	phase("with two that are left", clusterPatience)

	stop()
	writers.Wait()
	for _, l := range ledgers {
		l.kept(t, s)
	}
}
