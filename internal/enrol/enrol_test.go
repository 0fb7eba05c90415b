package enrol

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"voicefleet/internal/bus"
)

// asServer has this test's binary be a bus server of that configuration.
const asServer = "VOICEFLEET_TEST_SERVER"

func TestMain(m *testing.M) {
	if file := os.Getenv(asServer); file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = bus.StartEmbedded(bus.EmbeddedConfig{ServerConfig: string(text)})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("up")
		select {}
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"))
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// fleet is an authority, bus servers, and a central that enrols.
type fleet struct {
	a    *Authority
	conn *bus.Conn
	e    *Enroller
	urls []string
	// servers are where the authority tells what it revoked.
	servers bus.Config
	// clock is what the authority believes the time to be, as an offset.
	clock time.Duration
}

// newFleet starts one server in this process, or three in processes of their own.
func newFleet(t testing.TB, servers int) *fleet {
	t.Helper()
	f := &fleet{}
	a, err := open(t.TempDir(), func() time.Time { return time.Now().Add(f.clock) })
	if err != nil {
		t.Fatal(err)
	}
	f.a = a
	cfg := bus.Config{}
	if servers == 1 {
		addr, dir := freePort(t), t.TempDir()
		text, err := a.ServerBundle(dir, ServerSpec{Name: "one", Listen: addr, Hosts: []string{"127.0.0.1"}, Store: t.TempDir(), At: dir})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Embedded, err = bus.StartEmbedded(bus.EmbeddedConfig{ServerConfig: text})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cfg.Embedded.Shutdown)
		f.urls = []string{"tls://" + addr}
	} else {
		f.urls = startServers(t, a, servers)
		cfg.URL = strings.Join(f.urls, ",")
	}
	central := cfg
	if central.Credentials, err = a.Credentials(Member{bus.RoleCentral, "c1"}); err != nil {
		t.Fatal(err)
	}
	if f.conn, err = bus.Connect(t.Context(), central); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.conn.Close)
	for _, name := range []string{bus.NodesBucket, bus.KeysBucket, bus.CallsBucket} {
		if _, err := bus.OpenBucket[beat](t.Context(), f.conn, name); err != nil {
			t.Fatal(err)
		}
	}
	f.servers = cfg
	if f.e, err = New(t.Context(), Config{Authority: a, Bus: f.conn, Servers: cfg, URLs: f.urls}); err != nil {
		t.Fatal(err)
	}
	return f
}

func startServers(t testing.TB, a *Authority, n int) (urls []string) {
	t.Helper()
	var routes, listen []string
	for range n {
		routes, listen = append(routes, freePort(t)), append(listen, freePort(t))
	}
	var up sync.WaitGroup
	for i := range n {
		dir := t.TempDir()
		if _, err := a.ServerBundle(dir, ServerSpec{Name: fmt.Sprint("bus", i), Listen: listen[i], ClusterListen: routes[i], Routes: routes, Hosts: []string{"127.0.0.1"}, Store: t.TempDir(), At: dir}); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asServer+"="+filepath.Join(dir, "nats-server.conf"))
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		up.Go(func() {
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
				t.Errorf("server %d says %q, error %v", i, line, err)
			}
		})
		urls = append(urls, "tls://"+listen[i])
	}
	up.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return urls
}

// beat stands for a heartbeat.
type beat struct{ Node string }

// serve answers as central's control port does.
func (f *fleet) serve(t testing.TB) (base string, pin []byte) {
	t.Helper()
	s := httptest.NewTLSServer(f.e.Handler())
	t.Cleanup(s.Close)
	sum := sha256.Sum256(s.Certificate().Raw)
	return s.URL, sum[:]
}

// enrol adds a machine and has it join.
func (f *fleet) enrol(t testing.TB, name string) *Identity {
	t.Helper()
	base, pin := f.serve(t)
	token, err := f.e.Add(t.Context(), Member{bus.RoleEdge, name}, "eu", "ada", 0)
	if err != nil {
		t.Fatal(err)
	}
	i, err := Join(t.Context(), JoinURL(base, token, pin), filepath.Join(t.TempDir(), "identity"))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func connect(t *testing.T, i *Identity) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), bus.Config{URL: i.BusURL(), Name: "edge somebody-else", Credentials: i.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// stream is JetStream as a program of that kind may use it.
func stream(t testing.TB, urls []string, creds *bus.Credentials) jetstream.JetStream {
	t.Helper()
	opts := []nats.Option{nats.UserJWTAndSeed(creds.JWT(), string(creds.Seed)), nats.Secure(creds.TLS),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})} // it is refused on purpose
	if creds.Inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(creds.Inbox))
	}
	nc, err := nats.Connect(strings.Join(urls, ","), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// soon is a context for what must not work: it times out.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// patient is a context for what must work, be the machine slow.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// within5s says whether it is done after 5 s at most, by the clock but for what the
// machine was seen to be late: by how much a pause was longer than twice what it should.
func within5s(done func() bool) bool {
	const turn = 5 * time.Millisecond
	var late time.Duration
	for began := time.Now(); time.Since(began)-late <= 5*time.Second; {
		if done() {
			return true
		}
		paused := time.Now()
		time.Sleep(turn)
		late += max(0, time.Since(paused)-2*turn)
	}
	return false
}

func onBoth(t *testing.T, test func(t *testing.T, f *fleet)) {
	for name, n := range map[string]int{"embedded": 1, "cluster": 3} {
		t.Run(name, func(t *testing.T) {
			if n > 1 && testing.Short() {
				t.Skip("three servers choose their leaders for seconds")
			}
			test(t, newFleet(t, n))
		})
	}
}

// answered asks until the server that is asked has heard of who answers: those of a
// cluster learn of each other's subscriptions a moment later.
func answered(t *testing.T, conn *bus.Conn, subject string) (rep beat, err error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		rep, err = bus.Request[beat, beat](t.Context(), conn, subject, beat{})
		if !errors.Is(err, bus.ErrNobody) || time.Now().After(deadline) {
			return rep, err
		}
	}
}

// TestANodePublishesOnlyAsItself is what an enrolled edge can and cannot do on the
// bus.
func TestANodePublishesOnlyAsItself(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fleet) {
		id := f.enrol(t, "fra1")
		edge := connect(t, id)
		nodes, err := bus.OpenBucket[beat](t.Context(), edge, bus.NodesBucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nodes.Put(t.Context(), "fra1", beat{"fra1"}); err != nil {
			t.Errorf("its own heartbeat: %v", err)
		}
		if _, err := nodes.Put(soon(t), "fra2", beat{"fra2"}); err == nil {
			t.Error("it wrote another's heartbeat")
		}
		keys := bus.NewKeys()
		following, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- keys.Run(following, edge) }()
		select {
		case <-keys.Synced():
		case <-time.After(20 * time.Second):
			t.Error("it cannot read the keys of grants")
		}
		stop()
		<-done
		// It reads where calls are and which nodes there are, and changes neither.
		all, err := bus.OpenBucket[beat](t.Context(), f.conn, bus.CallsBucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.Put(t.Context(), "1", beat{"fra2"}); err != nil {
			t.Fatal(err)
		}
		calls, err := bus.OpenBucket[beat](t.Context(), edge, bus.CallsBucket)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := calls.Find(t.Context(), "1"); err != nil || got.Value.Node != "fra2" {
			t.Errorf("where a call is: %+v, error %v", got, err)
		}
		if _, err := calls.Put(soon(t), "1", beat{"fra1"}); err == nil {
			t.Error("it wrote into the bucket of calls")
		}
		// A key that it has not been told of yet it looks up.
		if all, err = bus.OpenBucket[beat](t.Context(), f.conn, bus.KeysBucket); err != nil {
			t.Fatal(err)
		}
		if _, err := all.Put(t.Context(), "k", beat{"central9"}); err != nil {
			t.Fatal(err)
		}
		signers, err := bus.OpenBucket[beat](t.Context(), edge, bus.KeysBucket)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := signers.Find(t.Context(), "k"); err != nil || got.Value.Node != "central9" {
			t.Errorf("a key of grants: %+v, error %v", got, err)
		}
		if _, err := signers.Put(soon(t), "k", beat{"fra1"}); err == nil {
			t.Error("it wrote into the bucket of keys")
		}
		looking, enough := context.WithTimeout(t.Context(), 20*time.Second)
		saw := false
		nodes.Watch(looking, func(ch bus.Change[beat]) {
			if ch.Key == "fra1" {
				saw = true
				enough()
			}
		})
		enough()
		if !saw {
			t.Error("it does not see which nodes there are")
		}
		// It has no part in the consumers of a bucket, its own or others'.
		centrals, err := f.a.Credentials(Member{bus.RoleCentral, "central9"})
		if err != nil {
			t.Fatal(err)
		}
		labels, err := bus.OpenBucket[beat](t.Context(), f.conn, bus.LabelsBucket)
		if err != nil {
			t.Fatal(err)
		}
		ours, its := stream(t, f.urls, centrals), stream(t, f.urls, id.Credentials())
		for _, bucket := range []string{bus.NodesBucket, bus.KeysBucket, bus.EnrolledBucket, bus.CallsBucket, bus.LabelsBucket} {
			name := "KV_" + bucket
			if _, err := ours.CreateConsumer(t.Context(), name, jetstream.ConsumerConfig{Name: "ours"}); err != nil {
				t.Fatal(err)
			}
			if _, err := its.CreateConsumer(soon(t), name, jetstream.ConsumerConfig{Name: "its"}); err == nil {
				t.Errorf("it made a consumer of %s", bucket)
			}
			if err := its.DeleteConsumer(soon(t), name, "ours"); err == nil {
				t.Errorf("it ended a consumer of %s", bucket)
			}
			if _, err := its.Consumer(soon(t), name, "ours"); err == nil {
				t.Errorf("it looked at a consumer of %s", bucket)
			}
			if _, err := ours.Consumer(t.Context(), name, "ours"); err != nil {
				t.Errorf("our consumer of %s: %v", bucket, err)
			}
		}
		// Which guilds try a label it neither reads nor says.
		if _, err := labels.Put(t.Context(), "7", beat{"fra2"}); err != nil {
			t.Fatal(err)
		}
		if _, err := bus.OpenBucket[beat](soon(t), edge, bus.LabelsBucket); err == nil {
			t.Error("it found the bucket of labels")
		}
		if _, err := its.Publish(soon(t), "$KV."+bus.LabelsBucket+".7", []byte(`{"node":"fra1"}`)); err == nil {
			t.Error("it wrote into the bucket of labels")
		}
		if got, err := labels.Find(t.Context(), "7"); err != nil || got.Value.Node != "fra2" {
			t.Errorf("the label is %+v, error %v", got, err)
		}
		// It is asked on its own subjects and answers; nobody else's requests reach it.
		answer := bus.Handle("ask", func(context.Context, beat) (beat, error) { return beat{"fra1"}, nil })
		own, err := bus.Serve(t.Context(), edge, bus.Service{Name: "own", Subject: bus.NodeSubject("fra1", ""), Verbs: []bus.Verb{answer}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(own.Stop)
		foreign, err := bus.Serve(t.Context(), edge, bus.Service{Name: "foreign", Subject: bus.NodeSubject("fra2", ""), Verbs: []bus.Verb{answer}})
		if err == nil {
			t.Cleanup(foreign.Stop)
		}
		if rep, err := answered(t, f.conn, bus.NodeSubject("fra1", "ask")); err != nil || rep.Node != "fra1" {
			t.Errorf("it answers %+v, error %v", rep, err)
		}
		if _, err := bus.Request[beat, beat](soon(t), f.conn, bus.NodeSubject("fra2", "ask"), beat{}); err == nil {
			t.Error("it answered for another node")
		}
		// Of other nodes it may ask who is in a call, and nothing else.
		verb := func(name string) bus.Verb {
			return bus.Handle(name, func(context.Context, beat) (beat, error) { return beat{"fra2"}, nil })
		}
		other, err := bus.Serve(t.Context(), f.conn, bus.Service{Name: "other", Subject: bus.NodeSubject("fra2", ""), Verbs: []bus.Verb{verb("roster"), verb("close")}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(other.Stop)
		if rep, err := answered(t, edge, bus.NodeSubject("fra2", "roster")); err != nil || rep.Node != "fra2" {
			t.Errorf("another node's roster: %+v, error %v", rep, err)
		}
		if _, err := bus.Request[beat, beat](soon(t), edge, bus.NodeSubject("fra2", "close"), beat{}); err == nil {
			t.Error("it closes sessions of another node")
		}
		// Of many events those under its own name alone come through.
		type event struct{ subject string }
		seen := make(chan event, 100)
		for _, pattern := range []string{"v1.call.*.*", "v1.presence.*.*", "v1.moved.*", "v1.silence", "v1.journal", "v1.node.*.*", "v1.bus.disconnect", "v1.end"} {
			sub, err := bus.Subscribe(t.Context(), f.conn, pattern, func(s string, _ json.RawMessage) { seen <- event{s} })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(sub.Unsubscribe)
		}
		own1, own2 := bus.CallSubject("1", "fra1"), bus.PresenceSubject("1", "fra1")
		came := map[string]bool{}
		// Servers of a cluster learn of each other's subscriptions a moment later.
		for deadline := time.Now().Add(20 * time.Second); !came[own1] || !came[own2]; {
			if time.Now().After(deadline) {
				t.Fatal("its own events do not come")
			}
			for _, s := range []string{
				bus.CallSubject("1", "fra2"), bus.PresenceSubject("1", "fra2"), bus.MovedSubject("1"), bus.SilenceSubject, bus.JournalSubject,
				bus.NodeSubject("fra2", "close"), bus.DisconnectSubject, own1, own2,
			} {
				if err := bus.Publish(edge, s, beat{"fra1"}); err != nil {
					t.Fatal(err)
				}
			}
			for wait := time.After(300 * time.Millisecond); wait != nil && !(came[own1] && came[own2]); {
				select {
				case ev := <-seen:
					if came[ev.subject] = true; ev.subject != own1 && ev.subject != own2 {
						t.Fatalf("it published on %s", ev.subject)
					}
				case <-wait:
					wait = nil
				}
			}
		}
		// What others are told is not for its ears.
		heard := make(chan string, 10)
		for _, pattern := range []string{">", "v1.call.*.*", "_INBOX.>", bus.NodeSubject("fra2", "*")} {
			if sub, err := bus.Subscribe(soon(t), edge, pattern, func(s string, _ json.RawMessage) { heard <- s }); err == nil {
				t.Cleanup(sub.Unsubscribe)
			}
		}
		for _, s := range []string{bus.CallSubject("1", "fra2"), "_INBOX.x", bus.NodeSubject("fra2", "open")} {
			if err := bus.Publish(f.conn, s, beat{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.conn.Flush(t.Context()), edge.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		if len(heard) > 0 {
			t.Errorf("it hears %s", <-heard)
		}
	})
}

// TestRevokedStaysSo: a copy from before the revocation, read after it, takes nothing back.
func TestRevokedStaysSo(t *testing.T) {
	known, who, at := NewRevocations(), Member{Name: "fra1"}, time.Unix(1_800_000_000, 0)
	for _, seen := range []time.Time{at, {}, at.Add(-time.Hour)} {
		known.note(Entry{Member: who, RevokedAt: seen})
		if got := known.at[who]; !got.Equal(at) {
			t.Errorf("after an entry of %v: revoked at %v", seen, got)
		}
	}
	known.note(Entry{Member: who, RevokedAt: at.Add(time.Hour)})
	if got := known.at[who]; !got.Equal(at.Add(time.Hour)) {
		t.Errorf("revoked again: %v", got)
	}
}

// TestRevoke: within 5 s a revoked node is off the bus, has no lease, and neither
// its credentials nor its certificate are worth anything.
func TestRevoke(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fleet) {
		id, stays := f.enrol(t, "fra1"), f.enrol(t, "fra2")
		edge, other := connect(t, id), connect(t, stays)
		nodes, err := bus.OpenBucket[beat](t.Context(), edge, bus.NodesBucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nodes.Put(t.Context(), "fra1", beat{"fra1"}); err != nil {
			t.Fatal(err)
		}
		told := make(chan string, 10)
		known := NewRevocations()
		watching, stop := context.WithCancel(t.Context())
		var watchers sync.WaitGroup
		watchers.Go(func() { bus.Disconnects(watching, f.conn, func(name string, _ time.Time) { told <- name }) })
		watchers.Go(func() { known.Run(watching, other) })
		t.Cleanup(func() { stop(); watchers.Wait() })
		if err := known.Refuse(id.Certificate().Leaf); err != nil {
			t.Error(err)
		}

		began := time.Now()
		entry, err := f.e.Revoke(patient(t), id.Member, "ada")
		if err != nil {
			t.Fatal(err)
		}
		if entry.State != Revoked || entry.RevokedBy != "ada" {
			t.Errorf("entry %+v", entry)
		}
		if !within5s(func() bool { return edge.Ready() != nil && known.Refuse(id.Certificate().Leaf) != nil }) {
			t.Fatalf("after 5 s: bus %v, certificate %v", edge.Ready(), known.Refuse(id.Certificate().Leaf))
		}
		t.Logf("off the bus and known to the others %v after the order", time.Since(began).Round(time.Millisecond))
		select {
		case name := <-told:
			if name != "edge fra1" {
				t.Errorf("told of the end of %q", name)
			}
		case <-time.After(20 * time.Second):
			t.Error("nobody is told that its connection was closed")
		}
		if again, err := bus.Connect(soon(t), bus.Config{URL: id.BusURL(), Credentials: id.Credentials()}); err == nil {
			again.Close()
			t.Error("it is let in again")
		}
		all, err := bus.OpenBucket[beat](t.Context(), f.conn, bus.NodesBucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.Find(t.Context(), "fra1"); !errors.Is(err, bus.ErrNotFound) {
			t.Errorf("its lease: %v", err)
		}
		if err := other.Ready(); err != nil {
			t.Errorf("the other node: %v", err)
		}
		if err := known.Refuse(stays.Certificate().Leaf); err != nil {
			t.Error(err)
		}
		// Invited again under the same name it is another member: its new certificate
		// is good, the old one stays refused.
		f.clock = 2 * time.Hour
		back := f.enrol(t, "fra1")
		f.clock = 0
		if err := known.Refuse(back.Certificate().Leaf); err != nil {
			t.Error(err)
		}
		if known.Refuse(id.Certificate().Leaf) == nil {
			t.Error("the old certificate is good again")
		}
		connect(t, back)
	})
}

// TestRevokedForEver: who was shut out under a name that somebody else has by now stays
// out, too, when another program, whose copy of the authority is older, revokes a third.
func TestRevokedForEver(t *testing.T) {
	f := newFleet(t, 1)
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(f.a.dir)); err != nil {
		t.Fatal(err)
	}
	first, third := f.enrol(t, "fra1"), f.enrol(t, "fra2")
	if _, err := f.e.Revoke(patient(t), first.Member, "ada"); err != nil {
		t.Fatal(err)
	}
	f.clock = 2 * time.Hour
	second := f.enrol(t, "fra1")
	f.clock = 0
	old, err := Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(t.Context(), Config{Authority: old, Bus: f.conn, Servers: f.servers, URLs: f.urls})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Revoke(patient(t), third.Member, "bob"); err != nil {
		t.Fatal(err)
	}
	for _, out := range []*Identity{first, third} {
		if c, err := bus.Connect(soon(t), bus.Config{URL: out.BusURL(), Credentials: out.Credentials()}); err == nil {
			c.Close()
			t.Errorf("%v is let in again", out.Member)
		}
	}
	connect(t, second)
}

func TestTokens(t *testing.T) {
	f := newFleet(t, 1)
	base, pin := f.serve(t)
	ctx := t.Context()
	m := Member{bus.RoleEdge, "fra1"}
	add := func(m Member, ttl time.Duration) (string, error) {
		token, err := f.e.Add(ctx, m, "eu", "ada", ttl)
		return JoinURL(base, token, pin), err
	}
	join := func(url string) error {
		_, err := Join(ctx, url, filepath.Join(t.TempDir(), "x"))
		return err
	}
	want := func(what string, err error, code Code) {
		t.Helper()
		if err == nil || CodeOf(err) != code {
			t.Errorf("%s: error %v, want %s", what, err, code)
		}
	}
	url, err := add(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = add(m, 0)
	want("a name invited twice", err, CodeNameTaken)
	_, err = add(Member{bus.RoleEdge, "Fra 1"}, 0)
	want("a name that is none", err, CodeBadRequest)
	_, err = add(Member{"king", "fra1"}, 0)
	want("a role that is none", err, CodeBadRequest)
	_, err = add(Member{bus.RoleEdge, "fra9"}, time.Second)
	want("a time too short", err, CodeBadRequest)
	secret := url[strings.LastIndexByte(url[:strings.LastIndexByte(url, '.')], '.')+1 : strings.LastIndexByte(url, '.')]
	forged := strings.Replace(url, secret, strings.Repeat("A", len(secret)), 1)
	want("a forged secret", join(forged), CodeUnknownToken)
	want("another's name", join(strings.Replace(url, "edge.fra1", "edge.fra2", 1)), CodeUnknownToken)
	want("half a command", join(url[:len(url)-20]), CodeUnavailable)
	if err := join(base + "#"); err == nil {
		t.Error("joined without a token")
	}
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	if err := join(strings.Replace(url, base, other.URL, 1)); err == nil {
		// httptest's servers share a certificate; a wrong pin is what a thief has.
		t.Log("the same certificate is trusted wherever it is")
	}
	if err := join(JoinURL(base, Token{m, secret}, make([]byte, 32))); err == nil || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("a wrong pin: %v", err)
	}
	// None of that has used the token up. Two machines at once: one of them is it.
	errs := make(chan error)
	for range 2 {
		go func() { errs <- join(url) }()
	}
	first, second := <-errs, <-errs
	if first == nil {
		first, second = second, first
	}
	if second != nil {
		t.Errorf("nobody could join: %v and %v", first, second)
	}
	want("the slower of two", first, CodeTokenUsed)
	want("a token used twice", join(url), CodeTokenUsed)
	_, err = add(m, 0)
	want("a name that is enrolled", err, CodeNameTaken)

	url, err = add(Member{bus.RoleEdge, "fra2"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	f.clock = 2 * time.Minute
	want("a token too old", join(url), CodeTokenExpired)
	if url, err = add(Member{bus.RoleEdge, "fra2"}, 0); err != nil {
		t.Errorf("a name whose invitation expired: %v", err)
	}
	if _, err := f.e.Revoke(ctx, Member{bus.RoleEdge, "fra2"}, "ada"); err != nil {
		t.Errorf("take an invitation back: %v", err)
	}
	if err := join(url); err == nil || CodeOf(err) != CodeUnknownToken {
		t.Errorf("an invitation taken back: %v", err)
	}
	_, err = f.e.Revoke(ctx, Member{bus.RoleEdge, "nobody"}, "ada")
	want("revoke nobody", err, CodeUnknown)
	list, err := f.e.List(ctx)
	if err != nil || len(list) != 2 || list[0].State != Enrolled || list[1].State != Revoked {
		t.Errorf("list %+v, error %v", list, err)
	}
	for _, entry := range list {
		if strings.Contains(fmt.Sprint(entry), secret) {
			t.Error("the secret of a token is kept")
		}
	}
}

func TestIdentityIsPrivateAndRenewed(t *testing.T) {
	f := newFleet(t, 1)
	id := f.enrol(t, "fra1")
	files, err := os.ReadDir(id.dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, error %v", file.Name(), info.Mode(), err)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	if id.renewalDue(time.Now()) || !id.renewalDue(time.Now().Add(certLife-renewBefore+time.Minute)) {
		t.Error("not renewed in time")
	}
	old := id.Certificate().Leaf
	if err := id.renew(t.Context()); err != nil || id.Certificate().Leaf != old {
		t.Errorf("another certificate long before it is due, error %v", err)
	}
	f.clock = certLife - renewBefore + time.Minute
	before, err := Load(id.dir)
	if err != nil {
		t.Fatal(err)
	}
	// The answer to a request is lost, and then the certificate that was asked with
	// still gets another.
	req, err := id.renewRequest(id.Certificate().PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := f.e.Renew(t.Context(), req); err != nil || rep.Certificate == "" {
		t.Fatalf("renewed: %+v, error %v", rep, err)
	}
	if err := id.renew(t.Context()); err != nil {
		t.Fatal("after a lost answer:", err)
	}
	again, err := Load(id.dir)
	if err != nil {
		t.Fatal(err)
	}
	if fresh := again.Certificate().Leaf; fresh.SerialNumber.Cmp(old.SerialNumber) == 0 || fresh.SerialNumber.Cmp(id.Certificate().Leaf.SerialNumber) != 0 {
		t.Error("the certificate is not another, or not in the folder")
	}
	if m, ok := MemberOf(again.Certificate().Leaf); !ok || m != id.Member {
		t.Errorf("the certificate is of %v", m)
	}
	// Once the new one was shown, the old one gets nothing any more.
	if err := again.renew(t.Context()); err != nil {
		t.Error(err)
	}
	if err := before.renew(t.Context()); CodeOf(err) != CodeRevoked {
		t.Errorf("a certificate that was replaced renews: %v", err)
	}
	if _, err := f.e.Revoke(patient(t), id.Member, "ada"); err != nil {
		t.Fatal(err)
	}
	if err := id.renew(t.Context()); CodeOf(err) != CodeRevoked {
		t.Errorf("a revoked member renews: %v", err)
	}
}

// TestPermissionsOfToday: a member that was enrolled when members were let do less gets
// what they are let do today when its program starts, with the same key.
func TestPermissionsOfToday(t *testing.T) {
	f := newFleet(t, 1)
	id := f.enrol(t, "fra1")
	if id.outdated() || id.renewalDue(time.Now()) {
		t.Fatal("a new member is outdated")
	}
	user, err := jwt.DecodeUserClaims(id.creds.JWT())
	if err != nil {
		t.Fatal(err)
	}
	user.Permissions.Sub.Allow = user.Permissions.Sub.Allow[:0]
	older, err := user.Encode(f.a.account)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(id.dir, fileCreds, []byte(older+"\n"+string(id.creds.Seed)+"\n")); err != nil {
		t.Fatal(err)
	}
	if id, err = Load(id.dir); err != nil || !id.outdated() || !id.renewalDue(time.Now()) {
		t.Fatalf("it does not know that it is outdated: %v", err)
	}
	if err := id.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := Load(id.dir)
	if err != nil || again.outdated() || id.outdated() || again.creds.JWT() != id.creds.JWT() {
		t.Fatalf("its permissions are not those of today, or not kept: %v", err)
	}
	got, err := jwt.DecodeUserClaims(id.creds.JWT())
	if err != nil || got.Subject != user.Subject {
		t.Errorf("they are of user %q, want %q: %v", got.Subject, user.Subject, err)
	}
	if conn := connect(t, again); conn.Ready() != nil {
		t.Error("it is not let in")
	}
	if _, err := f.e.Revoke(patient(t), id.Member, "ada"); err != nil {
		t.Fatal(err)
	}
	id.cert.setToken(older)
	id.asked.Store(false)
	if err := id.Refresh(t.Context()); CodeOf(err) != CodeRevoked {
		t.Errorf("a revoked member gets permissions: %v", err)
	}
}

// outdate has a member be one that was enrolled when members were let do something else.
func outdate(t *testing.T, f *fleet, id *Identity) (older string) {
	t.Helper()
	user, err := jwt.DecodeUserClaims(id.creds.JWT())
	if err == nil {
		user.Permissions.Sub.Allow.Add("v0.>")
		older, err = user.Encode(f.a.account)
	}
	if err != nil {
		t.Fatal(err)
	}
	id.cert.setToken(older)
	return older
}

// TestPermissionsWhileItRuns: a member that could not ask before it connected is
// connected anew when it knows what it may do today.
func TestPermissionsWhileItRuns(t *testing.T) {
	f := newFleet(t, 1)
	id := f.enrol(t, "fra1")
	outdate(t, f, id)
	conn := connect(t, id)
	reconnected := conn.Reconnected()
	ctx, stop := context.WithCancel(t.Context())
	var renewing sync.WaitGroup
	renewing.Go(func() { id.Renew(ctx, conn.Renew, func(err error) { t.Error(err) }) })
	select {
	case <-reconnected:
	case <-time.After(20 * time.Second):
		t.Error("it is not connected anew")
	}
	stop()
	renewing.Wait()
	if id.outdated() {
		t.Error("it is not let do what it is today")
	}
}

// TestAuthorityOlderThanProgram: who is told that it is let do what it knows asks no more.
func TestAuthorityOlderThanProgram(t *testing.T) {
	f := newFleet(t, 1)
	id := f.enrol(t, "fra1")
	older := outdate(t, f, id)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, func() (any, error) { return RenewReply{JWT: older}, nil })
	}))
	defer s.Close()
	sum := sha256.Sum256(s.Certificate().Raw)
	id.join = place{s.URL, sum[:]}.String()
	if err := id.Refresh(t.Context()); err != nil || id.renewalDue(time.Now()) {
		t.Errorf("it is to ask again, error %v", err)
	}
}

// TestAuthorityAway: an edge starts at once where nobody answers: its calls wait.
func TestAuthorityAway(t *testing.T) {
	f := newFleet(t, 1)
	id := f.enrol(t, "fra1")
	outdate(t, f, id)
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	id.join = place{"https://" + l.Addr().String(), nil}.String()
	began := time.Now()
	if err := id.Refresh(t.Context()); !errors.Is(err, context.DeadlineExceeded) || !id.renewalDue(time.Now()) {
		t.Errorf("it is not to ask again, error %v", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it waits %v", took)
	}
}

// TestBundlesByHand: the first members of a fleet are enrolled without one.
func TestBundlesByHand(t *testing.T) {
	f := newFleet(t, 1)
	dir := filepath.Join(t.TempDir(), "text1")
	m := Member{bus.RoleText, "text1"}
	if err := f.a.Bundle(dir, m, "", f.urls); err != nil {
		t.Fatal(err)
	}
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, id)
	if _, err := f.e.Revoke(patient(t), m, "ada"); err != nil {
		t.Fatal(err)
	}
	if !within5s(func() bool { return conn.Ready() != nil }) {
		t.Fatal("it is still on the bus")
	}
	again, err := Open(f.a.dir)
	if err != nil || string(again.PEM()) != string(f.a.PEM()) || again.accountJWT != f.a.accountJWT {
		t.Errorf("the authority does not stay: error %v", err)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add("https://a:1#edge.fra1.AAAAAAAAAAAAAAAAAAAAAAAAAAA.", `{"token":"edge.fra1.AAAAAAAAAAAAAAAAAAAAAAAAAAA","csr":"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----","user_key":"U"}`)
	f.Add("", `{}`)
	a, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, url, body string) {
		if p, token, err := parseJoinURL(url); err == nil {
			if p2, token2, err := parseJoinURL(JoinURL(p.base, token, p.pin)); err != nil || token2 != token || p2.base != p.base {
				t.Errorf("%q does not come through a second time: %v", url, err)
			}
		}
		var r JoinRequest
		if json.Unmarshal([]byte(body), &r) != nil {
			return
		}
		if token, err := parseToken(r.Token); err == nil && token.Member.validate() != nil {
			t.Errorf("token %q names %v", r.Token, token.Member)
		}
		if cert, err := a.sign(Member{bus.RoleEdge, "fra1"}, []byte(r.CSR)); err == nil && cert.IsCA {
			t.Error("a member's certificate that can sign others")
		}
		if _, err := a.userJWT(Member{bus.RoleEdge, "fra1"}, r.UserKey); err == nil && !strings.HasPrefix(r.UserKey, "U") {
			t.Errorf("credentials for the key %q", r.UserKey)
		}
	})
}
