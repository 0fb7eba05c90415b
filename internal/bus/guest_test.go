package bus

import (
	"fmt"
	"testing"
	"time"
)

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
	until := func(want string) {
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
