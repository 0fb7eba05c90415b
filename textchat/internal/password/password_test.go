package password

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
)

func TestHashAndVerify(t *testing.T) {
	h := NewHasher(1, 0)
	ctx := context.Background()
	a, err := h.Hash(ctx, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash is %q", a)
	}
	if b, _ := h.Hash(ctx, "correct horse"); a == b {
		t.Error("two hashes of one password are the same")
	}
	for pass, want := range map[string]bool{"correct horse": true, "Correct horse": false, "": false} {
		if ok, err := h.Verify(ctx, pass, a); err != nil || ok != want {
			t.Errorf("%q: %v, %v", pass, ok, err)
		}
	}
	if ok, err := h.Verify(ctx, "x", ""); ok || err != nil {
		t.Errorf("no account: %v, %v", ok, err)
	}
	for _, bad := range []string{"x", "$argon2i$v=19$m=8,t=1,p=1$AA$AA", "$argon2id$v=19$m=99999999,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=64,t=1,p=1$!$AAAA"} {
		if ok, err := h.Verify(ctx, "x", bad); ok || err == nil {
			t.Errorf("%s: %v, %v", bad, ok, err)
		}
	}
}

func TestBounded(t *testing.T) {
	h := NewHasher(1, 1)
	if err := h.enter(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	waits := make(chan error, 1)
	began := make(chan struct{})
	go func() { close(began); waits <- h.enter(ctx) }()
	<-began
	for h.waiting.Load() != 2 { // until it waits
		runtime.Gosched()
	}
	if _, err := h.Hash(context.Background(), "x"); !errors.Is(err, ErrBusy) {
		t.Fatalf("a third: %v", err)
	}
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Fatalf("the second: %v", err)
	}
	h.leave()
	if _, err := h.Hash(context.Background(), "x"); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
}
