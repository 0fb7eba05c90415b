package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func testMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// start runs a server and connects to it n times.
func start(t *testing.T, n int) (*Embedded, []*Conn) {
	t.Helper()
	e, err := StartEmbedded(EmbeddedConfig{StoreDir: t.TempDir(), Token: "only in process"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	conns := make([]*Conn, n)
	for i := range conns {
		c, err := Connect(t.Context(), Config{Embedded: e, Name: t.Name()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		conns[i] = c
	}
	return e, conns
}

type question struct {
	N int `json:"n"`
}

type answer struct {
	Square int `json:"square"`
}

var errTooLarge = errors.New("too large")

func serve(t *testing.T, c *Conn, svc Service) {
	t.Helper()
	s, err := Serve(t.Context(), c, svc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
}

func TestRequestAnswersAndRefusals(t *testing.T) {
	_, conns := start(t, 2)
	serve(t, conns[0], Service{
		Name: "squares", Subject: "v1.squares.", Queue: "squares",
		Code: func(err error) (string, string) {
			if errors.Is(err, errTooLarge) {
				return "too_large", err.Error()
			}
			return "unavailable", err.Error()
		},
		Verbs: []Verb{
			Handle("of", func(_ context.Context, q question) (answer, error) {
				if q.N > 1000 {
					return answer{}, fmt.Errorf("square %d: %w", q.N, errTooLarge)
				}
				return answer{q.N * q.N}, nil
			}),
			Handle("panic", func(context.Context, question) (answer, error) { panic("on purpose") }),
			Handle("wait", func(ctx context.Context, _ question) (answer, error) {
				<-ctx.Done()
				return answer{}, ctx.Err()
			}),
		},
	})
	ask := conns[1]
	if rep, err := Request[question, answer](t.Context(), ask, "v1.squares.of", question{12}); err != nil || rep.Square != 144 {
		t.Errorf("answer %+v, error %v", rep, err)
	}
	for _, c := range []struct {
		subject string
		req     any
		code    string
	}{
		{"v1.squares.of", question{1001}, "too_large"},
		{"v1.squares.of", "not a question", "bad_request"},
		{"v1.squares.panic", question{}, "unavailable"},
	} {
		_, err := Request[any, answer](t.Context(), ask, c.subject, c.req)
		var refused *Error
		if !errors.As(err, &refused) || refused.Code != c.code {
			t.Errorf("%s %v: error %v, want code %s", c.subject, c.req, err, c.code)
		}
	}
	var refused *Error
	if _, err := Request[question, answer](t.Context(), ask, "v1.nobody.of", question{}); err == nil || errors.As(err, &refused) {
		t.Errorf("nobody answered with %v", err)
	}
	// The handler learns when the asker gives up.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Request[question, answer](ctx, ask, "v1.squares.wait", question{}); err == nil {
		t.Error("a handler that waits for ever answered")
	}
	// All of this has left the service able to answer.
	if _, err := Request[question, answer](t.Context(), ask, "v1.squares.of", question{3}); err != nil {
		t.Error(err)
	}
}

func TestRequestsBeyondConcurrencyAreRefused(t *testing.T) {
	_, conns := start(t, 1)
	release := make(chan struct{})
	serve(t, conns[0], Service{
		Name: "slow", Subject: "v1.slow.", Concurrency: 2,
		Verbs: []Verb{Handle("go", func(context.Context, question) (Done, error) { <-release; return Done{}, nil })},
	})
	errs := make(chan error, 6)
	for range 6 {
		go func() {
			_, err := Request[question, Done](t.Context(), conns[0], "v1.slow.go", question{})
			errs <- err
		}()
	}
	// Two run and two wait; the other two are refused while those still wait.
	for range 2 {
		var refused *Error
		if err := <-errs; !errors.As(err, &refused) || refused.Code != "unavailable" {
			t.Errorf("error %v, want unavailable", err)
		}
	}
	close(release)
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestStopWaitsForHandlers(t *testing.T) {
	_, conns := start(t, 1)
	entered, ended := make(chan struct{}), false
	s, err := Serve(t.Context(), conns[0], Service{
		Name: "stop", Subject: "v1.stop.",
		Verbs: []Verb{Handle("go", func(ctx context.Context, _ question) (Done, error) {
			close(entered)
			<-ctx.Done()
			ended = true
			return Done{}, nil
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = Request[question, Done](t.Context(), conns[0], "v1.stop.go", question{})
	}()
	<-entered
	s.Stop()
	if !ended {
		t.Error("Stop returned while a handler ran")
	}
	<-done
}

func TestSubscribeMissesNothingAfterItReturns(t *testing.T) {
	_, conns := start(t, 2)
	got := make(chan int, 100)
	sub, err := Subscribe(t.Context(), conns[0], "v1.numbers.*", func(subject string, q question) {
		if subject != "v1.numbers.a" {
			t.Errorf("subject %s", subject)
		}
		got <- q.N
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := Publish(conns[1], "v1.numbers.a", question{i}); err != nil {
			t.Fatal(err)
		}
		if i == 50 {
			_ = Publish(conns[1], "v1.numbers.a", "not a question")
		}
	}
	for i := range 100 {
		if n := <-got; n != i {
			t.Fatalf("message %d came as %d", n, i)
		}
	}
	sub.Unsubscribe()
}

func TestBucketCompareAndSwap(t *testing.T) {
	_, conns := start(t, 8)
	ctx := t.Context()
	// All open the bucket at once, and one of them wins each round.
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := make(map[string]int)
	for i, c := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b, err := OpenBucket[question](ctx, c, CallsBucket)
			if err != nil {
				t.Error(err)
				return
			}
			for key := range 20 {
				_, err := b.Create(ctx, fmt.Sprint(key), question{i})
				if err == nil {
					mu.Lock()
					won[fmt.Sprint(key)]++
					mu.Unlock()
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	for key := range 20 {
		if n := won[fmt.Sprint(key)]; n != 1 {
			t.Errorf("key %d was created %d times", key, n)
		}
	}

	b, err := OpenBucket[question](ctx, conns[0], CallsBucket)
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Find(ctx, "7")
	if err != nil {
		t.Fatal(err)
	}
	next, err := b.Update(ctx, "7", question{100}, e.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(ctx, "7", question{101}, e.Revision); !errors.Is(err, ErrConflict) {
		t.Errorf("update of an old revision: %v", err)
	}
	if err := b.Delete(ctx, "7", e.Revision); !errors.Is(err, ErrConflict) {
		t.Errorf("delete of an old revision: %v", err)
	}
	if err := b.Delete(ctx, "7", next); err != nil {
		t.Error(err)
	}
	if _, err := b.Find(ctx, "7"); !errors.Is(err, ErrNotFound) {
		t.Errorf("find after delete: %v", err)
	}
	if _, err := b.Create(ctx, "7", question{102}); err != nil {
		t.Errorf("create after delete: %v", err)
	}
	if _, err := OpenBucket[question](ctx, conns[0], "elsewhere"); err == nil {
		t.Error("a bucket that no list names was opened")
	}
}

// watch passes the changes of a bucket on until the test ends.
func watch(t *testing.T, b *Bucket[question]) <-chan Change[question] {
	t.Helper()
	changes := make(chan Change[question])
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Watch(ctx, func(ch Change[question]) {
			select {
			case changes <- ch:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return changes
}

func describe(ch Change[question]) string {
	switch {
	case ch.Synced:
		return "synced"
	case ch.Gone:
		return ch.Key + " gone"
	}
	return fmt.Sprintf("%s=%d", ch.Key, ch.Value.N)
}

func expect(t *testing.T, changes <-chan Change[question], want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case ch := <-changes:
			if got := describe(ch); got != w {
				t.Fatalf("saw %q, want %q", got, w)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("never saw %q", w)
		}
	}
}

func TestWatchTellsSnapshotChangesAndExpiry(t *testing.T) {
	_, conns := start(t, 2)
	ctx := t.Context()
	b, err := OpenBucket[question](ctx, conns[0], NodesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(ctx, "a", question{1}); err != nil {
		t.Fatal(err)
	}
	changes := watch(t, b)
	expect(t, changes, "a=1", "synced")
	if _, err := b.Put(ctx, "a", question{2}); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, "a=2")
	if err := b.Delete(ctx, "a", 0); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, "a gone")

	// A lease that is not renewed ends by itself, and the watcher sees it.
	began := time.Now()
	if _, err := b.Put(ctx, "b", question{3}); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, "b=3", "b gone")
	if d := time.Since(began); d < leaseTTL-time.Second || d > leaseTTL+3*time.Second {
		t.Errorf("a lease of %v ended after %v", leaseTTL, d)
	}
}

func TestLeaseIsRenewedAndDeleted(t *testing.T) {
	_, conns := start(t, 1)
	b, err := OpenBucket[question](t.Context(), conns[0], SignalingBucket)
	if err != nil {
		t.Fatal(err)
	}
	changes := watch(t, b)
	expect(t, changes, "synced")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); Lease(ctx, b, "me", question{9}, 20*time.Millisecond) }()
	expect(t, changes, "me=9", "me=9", "me=9")
	cancel()
	for {
		ch := <-changes
		if ch.Gone {
			break
		}
	}
	<-done
}

func TestWatchSurvivesTheLossOfServerAndBucket(t *testing.T) {
	e, conns := start(t, 1)
	ctx := t.Context()
	b, err := OpenBucket[question](ctx, conns[0], NodesBucket)
	if err != nil {
		t.Fatal(err)
	}
	for key, n := range map[string]int{"kept": 1, "lost": 2} {
		if _, err := b.Put(ctx, key, question{n}); err != nil {
			t.Fatal(err)
		}
	}
	changes := watch(t, b)
	first := map[string]bool{describe(<-changes): true, describe(<-changes): true, describe(<-changes): true}
	if !first["kept=1"] || !first["lost=2"] || !first["synced"] {
		t.Fatalf("saw %v", first)
	}

	// Another server takes the place of this one, with nothing in memory.
	reconnected := conns[0].Reconnected()
	old := e.srv.Load()
	next, err := StartEmbedded(EmbeddedConfig{StoreDir: t.TempDir(), Token: "only in process"})
	if err != nil {
		t.Fatal(err)
	}
	swap(e, next)
	old.Shutdown()
	old.WaitForShutdown()
	<-reconnected
	if err := conns[0].Ready(); err != nil {
		t.Error(err)
	}
	if _, err := b.Put(ctx, "kept", question{3}); err != nil {
		t.Fatal(err)
	}
	// Whether the watch is back before or after the Put, it ends up with this.
	kept, lost, synced := false, false, false
	for !kept || !lost || !synced {
		select {
		case ch := <-changes:
			switch describe(ch) {
			case "kept=3":
				kept = true
			case "lost gone":
				lost = true
			case "synced":
				synced = true
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("kept seen %v, lost seen %v, synced %v", kept, lost, synced)
		}
	}
}

// TestRequestsWaitForTheBus: what is asked while the bus is away is answered when
// it is back, and not even sent when its asker gave up before.
func TestRequestsWaitForTheBus(t *testing.T) {
	e, conns := start(t, 1)
	asked := make(chan int, 10)
	serve(t, conns[0], Service{
		Name: "wait", Subject: "v1.wait.",
		Verbs: []Verb{Handle("go", func(_ context.Context, q question) (answer, error) { asked <- q.N; return answer{q.N}, nil })},
	})
	next, err := StartEmbedded(EmbeddedConfig{StoreDir: t.TempDir(), Token: "only in process"})
	if err != nil {
		t.Fatal(err)
	}
	old := e.srv.Load()
	reconnected := conns[0].Reconnected()
	lost := conns[0].nc.StatusChanged(nats.RECONNECTING)
	swap(e, nil)
	old.Shutdown()
	old.WaitForShutdown()
	<-lost
	if err := conns[0].Ready(); err == nil {
		t.Error("ready without a server")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Request[question, answer](ctx, conns[0], "v1.wait.go", question{1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request without a bus ends with %v", err)
	}
	before, _ := conns[0].nc.Buffered()
	opening, enough := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer enough()
	if _, err := OpenBucket[question](opening, conns[0], NodesBucket); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a bucket without a bus: %v", err)
	}
	if after, _ := conns[0].nc.Buffered(); after != before {
		t.Errorf("%d bytes wait to be sent, %d before", after, before)
	}
	answered := make(chan error)
	go func() {
		_, err := Request[question, answer](t.Context(), conns[0], "v1.wait.go", question{2})
		answered <- err
	}()
	swap(e, next)
	<-reconnected
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if n := <-asked; n != 2 || len(asked) != 0 {
		t.Errorf("%d was asked, and %d more", n, len(asked))
	}
}

// TestServerOnAPort: another process needs the token.
func TestServerOnAPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if _, err := StartEmbedded(EmbeddedConfig{Port: port}); err == nil {
		t.Fatal("started on a taken port")
	}
	l.Close()
	e, err := StartEmbedded(EmbeddedConfig{Port: port, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	if want := fmt.Sprintf("nats://127.0.0.1:%d", port); e.URL() != want {
		t.Errorf("URL %s, want %s", e.URL(), want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if c, err := Connect(ctx, Config{URL: e.URL()}); err == nil {
		c.Close()
		t.Error("connected without the token")
	}
	c, err := Connect(t.Context(), Config{URL: fmt.Sprintf("nats://secret@127.0.0.1:%d", port)})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := os.Stat(e.temp); err != nil {
		t.Error(err)
	}
	e.Shutdown()
	if _, err := os.Stat(e.temp); err == nil {
		t.Error("the temporary folder is still there")
	}
}

func TestConnectSaysWhyItCannot(t *testing.T) {
	if _, err := Connect(t.Context(), Config{}); err == nil {
		t.Error("connected to nothing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, Config{URL: "nats://127.0.0.1:1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
}

func TestKeysReadTheBucket(t *testing.T) {
	_, conns := start(t, 1)
	b, err := OpenBucket[[]byte](t.Context(), conns[0], KeysBucket)
	if err != nil {
		t.Fatal(err)
	}
	for key, size := range map[string]int{"short": 31, "whole": 32} {
		if _, err := b.Put(t.Context(), key, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	keys := NewKeys()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- keys.Run(ctx, conns[0]) }()
	<-keys.Synced()
	if keys.Key("whole") == nil {
		t.Error("a key of 32 bytes is not there")
	}
	if keys.Key("short") != nil {
		t.Error("a key of 31 bytes is taken")
	}
	if keys.Key("none") != nil {
		t.Error("a key that nobody wrote is there")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// slowStore answers reads late.
type slowStore struct {
	jetstream.KeyValue
	by time.Duration
}

func (s *slowStore) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.by):
		return s.KeyValue.Get(ctx, key)
	}
}

// TestASlowBusIsRead: answers that take longer than the first try come nevertheless,
// and nobody looks for the bucket in between, which makes a slow bus slower.
func TestASlowBusIsRead(t *testing.T) {
	_, conns := start(t, 1)
	b := open(t, conns[0], NodesBucket)
	if _, err := b.Put(t.Context(), "a", question{}); err != nil {
		t.Fatal(err)
	}
	slow := &slowStore{b.store(), getTry * 3 / 2}
	b.kv = slow
	if _, err := b.Find(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if b.store() != slow {
		t.Error("the bucket was looked for")
	}
}

// swap makes e the server next, or none; connections that are lost come back
// there.
func swap(e, next *Embedded) {
	if next == nil {
		e.srv.Store(nil)
		return
	}
	e.srv.Store(next.srv.Load())
}

// startPlain runs a server as an operator has it who configured nothing, and
// returns its URL.
func startPlain(t *testing.T) string {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(startTimeout) {
		t.Fatal("the server is not ready")
	}
	return srv.ClientURL()
}
