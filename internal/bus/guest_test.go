package bus

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"
)

// awaitChange is a watcher that sees what is wanted, whatever comes before.
func awaitChange(t *testing.T, changes <-chan Change[question], want string) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		select {
		case ch := <-changes:
			if describe(ch) == want {
				return
			}
		case <-deadline:
			t.Fatalf("never saw %q", want)
		}
	}
}

// TestGuestWatches: without a consumer a guest sees all there is, however many pages
// it has, what is put at once, what ends, and not for long what the bucket did not
// take.
func TestGuestWatches(t *testing.T) {
	_, conns := start(t, 2)
	guest := conns[1]
	guest.guest = true
	ctx := t.Context()
	b := open(t, conns[0], CallsBucket)
	const keys = 2*guestPage + 3
	for i := range keys {
		if _, err := b.Put(ctx, fmt.Sprint("k", i), question{i}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Put(ctx, "k0", question{7}); err != nil {
		t.Fatal(err)
	}
	changes := watch(t, open(t, guest, CallsBucket))
	for i := 1; i < keys; i++ {
		expect(t, changes, fmt.Sprintf("k%d=%d", i, i))
	}
	expect(t, changes, "k0=7", "synced")
	// What is overheard comes at once; a second later all is read again.
	until := func(want string) { t.Helper(); awaitChange(t, changes, want) }
	if _, err := b.Put(ctx, "new", question{1}); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, "new=1")
	until("synced")
	if err := b.Delete(ctx, "new", 0); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, "new gone")
	until("synced")
	if _, err := b.Create(ctx, "k1", question{666}); err == nil {
		t.Fatal("it was there already")
	}
	expect(t, changes, "k1=666")
	until("k1=1")
	until("synced")
	// The bucket is lost, and made anew by who may.
	if err := conns[0].js.DeleteStream(ctx, "KV_"+CallsBucket); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(ctx, "k2", question{5}); err != nil {
		t.Fatal(err)
	}
	until("k2=5")
	until("k1 gone")
}

// mislaid is a connection whose next request of a subject is answered to nobody.
type mislaid struct {
	net.Conn
	next chan string   // that subject
	lost chan struct{} // told when it is
	// Owned by who writes.
	subject string
}

func (c *mislaid) Write(p []byte) (int, error) {
	select {
	case c.subject = <-c.next:
	default:
	}
	if i := bytes.Index(p, []byte(c.subject+" _INBOX.")); c.subject != "" && i >= 0 {
		p = bytes.Clone(p)
		copy(p[i+len(c.subject):], " _LOST_.")
		c.subject = ""
		c.lost <- struct{}{}
	}
	return c.Conn.Write(p)
}

// TestGuestHearsOn: a guest asks again when an answer is lost, as a server loses some
// while it takes the new JWT of an account: meanwhile it would hear of nothing.
func TestGuestHearsOn(t *testing.T) {
	e, err := StartEmbedded(EmbeddedConfig{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	connect := func(cfg Config) *Conn {
		c, err := Connect(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	b := open(t, connect(Config{Embedded: e}), CallsBucket)
	link := &mislaid{next: make(chan string, 1), lost: make(chan struct{}, 1)}
	guest := connect(Config{Dial: func() (net.Conn, error) {
		inner, err := e.InProcessConn()
		link.Conn = inner
		return link, err
	}})
	guest.guest = true
	changes := watch(t, open(t, guest, CallsBucket))
	expect(t, changes, "synced")
	for i, subject := range []string{"$JS.API.STREAM.INFO.KV_" + CallsBucket, "$JS.API.DIRECT.GET.KV_" + CallsBucket} {
		link.next <- subject // it is asked for a second after something was heard
		if _, err := b.Put(t.Context(), "a", question{i}); err != nil {
			t.Fatal(err)
		}
		awaitChange(t, changes, fmt.Sprintf("a=%d", i))
		select {
		case <-link.lost:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s is not asked", subject)
		}
		began := time.Now()
		if _, err := b.Put(t.Context(), "b", question{i}); err != nil {
			t.Fatal(err)
		}
		awaitChange(t, changes, fmt.Sprintf("b=%d", i))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("without an answer on %s it hears what is new %v later", subject, took)
		}
		awaitChange(t, changes, "synced")
	}
}

// TestGuestsSeeLeasesEnd: nobody is told of a lease that expires, so it is looked for.
func TestGuestsSeeLeasesEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("a lease stands for 5 s")
	}
	_, conns := start(t, 2)
	conns[1].guest = true
	if _, err := open(t, conns[0], NodesBucket).Put(t.Context(), "a", question{1}); err != nil {
		t.Fatal(err)
	}
	expect(t, watch(t, open(t, conns[1], NodesBucket)), "a=1", "synced", "a gone")
}
