package bus

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKeysFind: a key that the watch has not told yet is found in the bucket, also where
// it comes there a little later than it is looked for; one that is nowhere is not waited
// for long, and so many are looked for at once and no more.
func TestKeysFind(t *testing.T) {
	_, conns := start(t, 1)
	b, err := OpenBucket[ed25519.PublicKey](t.Context(), conns[0], KeysBucket)
	if err != nil {
		t.Fatal(err)
	}
	id := func(i int) string { return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "key %04d", i)) }
	key := func(i int) ed25519.PublicKey { return bytes.Repeat([]byte{byte(i)}, ed25519.PublicKeySize) }
	put := func(i int) {
		t.Helper()
		if _, err := b.Put(t.Context(), id(i), key(i)); err != nil {
			t.Fatal(err)
		}
	}
	k := NewKeys()
	put(1)
	if got := k.Find(t.Context(), id(1)); got != nil {
		t.Errorf("before it runs it finds %x", got)
	}
	k.from.Store(&source{t.Context(), b}) // a watch that tells nothing
	if got := k.Find(t.Context(), id(1)); !got.Equal(key(1)) {
		t.Errorf("found %x", got)
	}
	if got := k.Key(id(1)); got != nil {
		t.Errorf("kept %x, which only the watch could take away", got)
	}
	looks := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.looks)
	}
	until := func(n int) {
		t.Helper()
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for deadline := time.Now().Add(10 * time.Second); looks() != n; <-look.C {
			if time.Now().After(deadline) {
				t.Fatalf("%d are looked for, want %d", looks(), n)
			}
		}
	}
	var finding sync.WaitGroup
	for range 2 { // both by one look
		finding.Go(func() {
			if got := k.Find(t.Context(), id(2)); !got.Equal(key(2)) {
				t.Errorf("what came later: found %x", got)
			}
		})
	}
	until(1)
	put(2)
	finding.Wait()
	for i := range findAtOnce {
		finding.Go(func() {
			if got := k.Find(t.Context(), id(100+i)); got != nil {
				t.Errorf("found %x, and it is nowhere", got)
			}
		})
	}
	until(findAtOnce)
	if got := k.Find(t.Context(), id(1)); got != nil {
		t.Errorf("one more found %x", got)
	}
	finding.Wait()
	for _, bad := range []string{"", "a.b", "k e", "*", strings.Repeat("A", 64)} {
		if got := k.Find(t.Context(), bad); got != nil || looks() != 0 {
			t.Errorf("%q: found %x, %d are looked for", bad, got, looks())
		}
	}
	put(3)
	if got := k.Find(t.Context(), id(3)); !got.Equal(key(3)) {
		t.Errorf("afterwards: found %x", got)
	}
}
