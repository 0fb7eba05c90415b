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
	until("new=1")
	until("synced")
	if err := b.Delete(ctx, "new", 0); err != nil {
		t.Fatal(err)
	}
	until("new gone")
	until("synced")
	if _, err := b.Create(ctx, "k1", question{666}); err == nil {
		t.Fatal("it was there already")
	}
	until("k1=666")
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

// tampered is a connection that has what is written changed.
type tampered struct {
	net.Conn
	change func([]byte) []byte
}

func (c *tampered) Write(p []byte) (int, error) { return c.Conn.Write(c.change(bytes.Clone(p))) }

// tamper starts a server and returns the bucket of calls of who may write there, and
// that of a guest whose connection is tampered with. What is written stays as long.
func tamper(t *testing.T, change func([]byte) []byte) (b *Bucket[question], changes <-chan Change[question]) {
	t.Helper()
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
	b = open(t, connect(Config{Embedded: e}), CallsBucket)
	guest := connect(Config{Dial: func() (net.Conn, error) {
		inner, err := e.InProcessConn()
		return &tampered{inner, change}, err
	}})
	guest.guest = true
	return b, watch(t, open(t, guest, CallsBucket))
}

// TestGuestReadsSoonAgain: what was put just before a guest hears, and comes into the
// bucket just after it has read, is not missed until the next check. Here it hears nothing.
func TestGuestReadsSoonAgain(t *testing.T) {
	b, changes := tamper(t, func(p []byte) []byte {
		return bytes.Replace(p, []byte("SUB $KV."), []byte("SUB $NO."), 1)
	})
	expect(t, changes, "synced")
	began := time.Now()
	if _, err := b.Put(t.Context(), "a", question{1}); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, "a=1", "synced")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it is seen %v later", took)
	}
}

// TestGuestHearsOn: a guest asks again when an answer is lost, as a server loses some
// while it takes the new JWT of an account: meanwhile it would hear of nothing.
func TestGuestHearsOn(t *testing.T) {
	next, lost := make(chan string, 1), make(chan struct{}, 1)
	subject := "" // whose next answer is sent to nobody
	b, changes := tamper(t, func(p []byte) []byte {
		select {
		case subject = <-next:
		default:
		}
		if i := bytes.Index(p, []byte(subject+" _INBOX.")); subject != "" && i >= 0 {
			copy(p[i+len(subject):], " _LOST_.")
			subject = ""
			lost <- struct{}{}
		}
		return p
	})
	expect(t, changes, "synced")
	for i, subject := range []string{"$JS.API.STREAM.INFO.KV_" + CallsBucket, "$JS.API.DIRECT.GET.KV_" + CallsBucket} {
		next <- subject // it is asked for a second after something was heard
		if _, err := b.Put(t.Context(), "a", question{i}); err != nil {
			t.Fatal(err)
		}
		awaitChange(t, changes, fmt.Sprintf("a=%d", i))
		select {
		case <-lost:
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
