package cql

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Config
	}{
		{"cql://a/chat", Config{Hosts: []string{"a:9042"}, Keyspace: "chat"}},
		{"cql://a:1,b,[::1]:2/chat_2", Config{Hosts: []string{"a:1", "b:9042", "[::1]:2"}, Keyspace: "chat_2"}},
		{"cql://a/chat?timeout=2s", Config{Hosts: []string{"a:9042"}, Keyspace: "chat", Timeout: 2 * time.Second}},
		{"cql://u:p%40w@a/chat?dc=eu&rack=r1&replicas=5", Config{Hosts: []string{"a:9042"}, Keyspace: "chat", User: "u", Password: "p@w", DC: "eu", Rack: "r1", Replicas: 5}},
		{"cql://a/chat?ca=ca.pem", Config{Hosts: []string{"a:9042"}, Keyspace: "chat", TLS: true, CA: "ca.pem"}},
		{"cql://a/chat?tls=on&cert=c&key=k", Config{Hosts: []string{"a:9042"}, Keyspace: "chat", TLS: true, Cert: "c", Key: "k"}},
	} {
		if got, err := ParseAddress(c.in); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v %v", c.in, got, err)
		}
	}
	for in, says := range map[string]string{
		"sqlite:x":                    "want cql://",
		"cql://a":                     "keyspace",
		"cql://a/Chat":                "keyspace",
		"cql:///chat":                 "a host is missing",
		"cql://a,/chat":               "a host is missing",
		"cql://a:0/chat":              "port",
		"cql://a:x/chat":              "port",
		"cql://a/chat?tls=yes":        "on or off",
		"cql://a/chat?tls=off&ca=x":   "tls=off",
		"cql://a/chat?cert=x":         "go together",
		"cql://a/chat?rack=x":         "wants dc",
		"cql://a/chat?replicas=0":     "1 to 9",
		"cql://a/chat?timeout=2":      "100ms to 1m",
		"cql://a/chat?timeout=1h":     "100ms to 1m",
		"cql://a/chat?consistency=1":  "unknown option",
		"cql://u:%zz@a/chat":          "cannot be read",
		"cql://a/chat;drop keyspace ": "keyspace",
	} {
		if _, err := ParseAddress(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", in, err, says)
		}
	}
}

func TestBuckets(t *testing.T) {
	day := func(n int) textchat.ID { return textchat.ID(n) * 24 * 3600 * 1000 << 22 }
	for _, c := range []struct {
		id   textchat.ID
		want int32
	}{{0, 0}, {day(10) - 1, 0}, {day(10), 1}, {day(3650), 365}} {
		if got := bucketOf(c.id); got != c.want {
			t.Errorf("bucket of %d is %d, want %d", c.id, got, c.want)
		}
	}
	if first(7) != day(70) || bucketOf(first(7)) != 7 || bucketOf(first(7)-1) != 6 {
		t.Errorf("bucket 7 begins at %d", first(7))
	}
	epoch := time.UnixMilli(snowflake.Epoch)
	end := epoch.Add(80 * 24 * time.Hour) // of bucket 7
	if closed(7, end) || closed(7, end.Add(settled)) || !closed(7, end.Add(settled+time.Millisecond)) {
		t.Error("a bucket closes an hour after its end")
	}
}

func TestBucketSetIsBounded(t *testing.T) {
	hits, misses := prometheus.NewCounter(prometheus.CounterOpts{}), prometheus.NewCounter(prometheus.CounterOpts{})
	b := newBucketSet(3, hits, misses)
	for i := range int32(10) {
		b.add(bucketKey{1, i})
	}
	if !b.has(bucketKey{1, 9}) || len(b.set) != 3 {
		t.Errorf("%d are kept", len(b.set))
	}
	b.drop(bucketKey{1, 9})
	for range 2 {
		if b.has(bucketKey{1, 9}) {
			t.Error("it was dropped")
		}
	}
	for c, want := range map[prometheus.Counter]float64{hits: 1, misses: 2} {
		var m dto.Metric
		if err := c.Write(&m); err != nil || m.GetCounter().GetValue() != want {
			t.Errorf("counted %v, want %v (%v)", m.GetCounter().GetValue(), want, err)
		}
	}
}

func TestBreaker(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	for range breakerFailures - 1 {
		b.allow(now)
		b.note(now, now, true)
	}
	b.allow(now)
	b.note(now, now, false) // one answer, and it counts anew
	for i := range breakerFailures {
		if !b.allow(now) {
			t.Fatalf("open after %d failures", i)
		}
		b.note(now, now, true)
	}
	if b.allow(now.Add(breakerRest-1)) || !b.open() {
		t.Fatal("still asking")
	}
	now = now.Add(breakerRest)
	if !b.allow(now) || b.allow(now) {
		t.Fatal("after its rest one may try")
	}
	b.pass()
	if !b.allow(now) {
		t.Fatal("whoever went away is no answer: another may try")
	}
	b.note(now, now, true)
	if b.allow(now) {
		t.Fatal("the try failed, yet it asks")
	}
	now = now.Add(breakerRest)
	b.allow(now)
	b.note(now, now, false)
	if !b.allow(now) || b.open() {
		t.Fatal("the cluster answered")
	}
	for range 2 * breakerFailures {
		b.note(now.Add(-1), now.Add(time.Second), true)
	}
	if b.open() {
		t.Fatal("what was begun before the last answer is held against the cluster")
	}
	for range breakerFailures {
		b.note(now, now.Add(time.Second), true)
	}
	if !b.open() {
		t.Fatal("it does not answer any more, yet it is asked")
	}
}

func TestSilentNodes(t *testing.T) {
	const patience = 200 * time.Millisecond
	n := newNodes(patience)
	a, b := netip.MustParseAddrPort("127.0.0.1:9042"), netip.MustParseAddrPort("127.0.0.2:9042")
	now := time.Unix(0, 0)
	want := func(what string, addresses ...netip.AddrPort) {
		t.Helper()
		for _, at := range []netip.AddrPort{a, b} {
			if n.silent(at, now) != slices.Contains(addresses, at) {
				t.Errorf("%s: %v is silent: %v", what, at, n.silent(at, now))
			}
		}
		if got := n.count(now); got != len(addresses) {
			t.Errorf("%s: %d are silent", what, got)
		}
	}
	want("nobody was asked")
	n.asked(a, now)
	n.asked(a, now)
	now = now.Add(patience)
	n.asked(b, now)
	want("there is time yet")
	now = now.Add(1)
	want("nothing came", a)
	n.heard(a)
	n.ended(a)
	now = now.Add(time.Hour)
	want("a spoke, and owes an answer only to what was asked before", b)
	n.asked(a, now)
	now = now.Add(patience + 1)
	want("a is asked again", a, b)
	n.heard(b)
	want("b spoke, if of something else", a)
	n.ended(a)
	n.ended(a)
	want("a has no connection any more")
	n.ended(b)
	n.heard(a)
	n.ended(a)
	if len(n.known) != 0 {
		t.Errorf("%d nodes are kept", len(n.known))
	}
}

// inOrder is a policy that has the same nodes for every statement.
type inOrder struct {
	gocql.HostSelectionPolicy
	hosts []*gocql.HostInfo
}

type chosen struct{ *gocql.HostInfo }

func (c chosen) Info() *gocql.HostInfo { return c.HostInfo }
func (chosen) Token() gocql.Token      { return nil }
func (chosen) Mark(error)              {}

func (p inOrder) Pick(gocql.ExecutableQuery) gocql.NextHost {
	rest := p.hosts
	return func() gocql.SelectedHost {
		if len(rest) == 0 {
			return nil
		}
		h := chosen{rest[0]}
		rest = rest[1:]
		return h
	}
}

func TestSilentNodesComeLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hosts []*gocql.HostInfo
		for i := range 3 {
			h := gocql.HostInfoBuilder{ConnectAddress: net.IPv4(10, 0, 0, byte(i)), Port: 9042}.Build()
			hosts = append(hosts, &h)
		}
		l := listener{newNodes(time.Second)}
		c := choice{inOrder{hosts: hosts}, l.nodes, prometheus.NewCounter(prometheus.CounterOpts{Name: "passed"})}
		want := func(what string, order ...int) {
			t.Helper()
			next := c.Pick(nil)
			for _, i := range order {
				if h := next(); h == nil || h.Info() != hosts[i] {
					t.Fatalf("%s: got %v, want node %d", what, h, i)
				}
			}
			for range 2 {
				if h := next(); h != nil {
					t.Fatalf("%s: %v is one too many", what, h)
				}
			}
		}
		ask := func(i int) { l.StreamContext(t.Context()).StreamStarted(gocql.ObservedStream{Host: hosts[i]}) }
		ask(0)
		want("all may answer yet", 0, 1, 2)
		time.Sleep(time.Second + 1)
		want("one is silent", 1, 2, 0)
		ask(1)
		time.Sleep(time.Second + 1)
		want("two are silent", 2, 0, 1)
		ask(2)
		time.Sleep(time.Second + 1)
		want("all are silent", 0, 1, 2)
		l.ObserveFrameHeader(t.Context(), gocql.ObservedFrameHeader{Host: hosts[1]})
		want("one spoke", 1, 0, 2)
		l.StreamAbandoned(gocql.ObservedStream{Host: hosts[0]})
		want("one is connected anew", 0, 1, 2)
		ask(0)
		next := c.Pick(nil)
		time.Sleep(time.Second + 1)
		if h := next(); h.Info() != hosts[1] {
			t.Errorf("it is asked though it fell silent since the statement was begun: %v", h)
		}
		var m dto.Metric
		if err := c.passed.Write(&m); err != nil || m.GetCounter().GetValue() != 10 {
			t.Errorf("%v were put behind others, %v", m.GetCounter().GetValue(), err)
		}
	})
}

func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lanes{busy: map[uint64]*lane{}}
		ctx := context.Background()
		for range laneWidth {
			if err := l.enter(ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		gone, cancel := context.WithCancel(ctx)
		order := make(chan int, laneQueue)
		for i := range laneQueue {
			who := ctx
			if i == 1 {
				who = gone
			}
			go func() {
				if l.enter(who, 1) == nil {
					order <- i
				}
			}()
			synctest.Wait()
		}
		if err := l.enter(ctx, 1); !errors.Is(err, textchat.ErrBusy) {
			t.Errorf("the lane is full: %v", err)
		}
		if err := l.enter(ctx, 2); err != nil {
			t.Errorf("another channel: %v", err)
		}
		l.leave(2)
		cancel()
		synctest.Wait()
		for range laneWidth + laneQueue - 1 {
			l.leave(1)
			synctest.Wait()
		}
		for _, want := range []int{0, 2, 3} {
			if got := <-order; got != want {
				t.Errorf("%d came in, want %d", got, want)
			}
		}
		if len(l.busy) != 0 || l.total != 0 {
			t.Errorf("%d lanes and %d are left", len(l.busy), l.total)
		}
	})
}

func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		f.init()
		reads := 0
		begin, answer := make(chan bool), make(chan int)
		read := func(depart func()) (any, error) {
			reads++
			if !<-begin {
				return nil, textchat.ErrBusy
			}
			depart()
			return <-answer, nil
		}
		got := make(chan any, 10)
		ask := func(ctx context.Context, generation uint64) {
			go func() {
				v, _, err := f.share(ctx, flightKey{verb: "x", generation: generation}, read)
				if err != nil {
					v = err
				}
				got <- v
			}()
			synctest.Wait()
		}
		first, cancel := context.WithCancel(context.Background())
		ask(first, 1)
		ask(context.Background(), 1)
		cancel() // the one who asked goes away; the other still gets its answer
		synctest.Wait()
		if v := <-got; v != context.Canceled {
			t.Errorf("who went away got %v", v)
		}
		ask(context.Background(), 2) // something was written in between
		if reads != 2 {
			t.Errorf("%d reads, want 2", reads)
		}
		begin <- true
		begin <- true
		synctest.Wait()
		// Both are under way: who comes now shares one that begins later.
		ask(context.Background(), 1)
		ask(context.Background(), 1)
		if reads != 2 {
			t.Errorf("%d reads beside one that is under way, want 2", reads)
		}
		answer <- 7
		answer <- 7
		if a, b := <-got, <-got; a != 7 || b != 7 {
			t.Errorf("got %v and %v", a, b)
		}
		synctest.Wait()
		if reads != 3 {
			t.Errorf("%d reads, want 3", reads)
		}
		begin <- true
		synctest.Wait()
		// It lasts long: the next one does not wait for its end.
		ask(context.Background(), 1)
		time.Sleep(flightWait)
		synctest.Wait()
		if reads != 4 {
			t.Errorf("%d reads after one that lasts, want 4", reads)
		}
		begin <- false
		if v := <-got; v != textchat.ErrBusy {
			t.Errorf("who was refused got %v", v)
		}
		answer <- 8
		if a, b := <-got, <-got; a != 8 || b != 8 {
			t.Errorf("who came later got %v and %v", a, b)
		}
		f.tasks.Wait()
		if len(f.under) != 0 || len(f.waiting) != 0 {
			t.Error("flights are left")
		}
	})
}

func TestReplicas(t *testing.T) {
	three := []string{"a:9042", "b:9042", "c:9042"}
	for _, c := range []struct {
		config Config
		nodes  int
		want   int
	}{
		{Config{Hosts: three[:1]}, 1, 1}, {Config{Hosts: three[:1]}, 3, 3}, {Config{Hosts: three[:2]}, 2, 1},
		{Config{Hosts: three}, 1, 3}, // the one that answered does not know the others yet
		{Config{Hosts: three, Replicas: 1}, 3, 1}, {Config{Hosts: three[:1], Replicas: 2}, 5, 2},
	} {
		if got := c.config.replicas(c.nodes); got != c.want {
			t.Errorf("%d named, replicas=%d, %d known: %d replicas, want %d", len(c.config.Hosts), c.config.Replicas, c.nodes, got, c.want)
		}
	}
}

func TestPending(t *testing.T) {
	sum := checksum(migrations[0])
	for _, c := range []struct {
		done map[int]string
		n    int
		says string
	}{
		{nil, 0, ""}, {map[int]string{1: sum}, 1, ""}, {map[int]string{1: "x"}, 0, "not that of this program"},
		{map[int]string{1: sum, len(migrations) + 1: "y"}, 0, "newer version"},
	} {
		n, err := pending(c.done)
		if n != c.n || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %d %v", c.done, n, err)
		}
	}
}

// TestReleasedMigrations: what was released is never changed.
func TestReleasedMigrations(t *testing.T) {
	for i, want := range []string{"a498c2179b738753"} {
		if got := checksum(migrations[i]); got != want {
			t.Errorf("migration %d has the checksum %s, want %s", i+1, got, want)
		}
	}
}
