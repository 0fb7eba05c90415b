package bus

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of Find.
const (
	// findFor is how long a key is looked for, findAgain apart: the server's copy that
	// answers may be behind.
	findFor   = time.Second
	findAgain = 100 * time.Millisecond
	// findAtOnce is how many different ones are at a time.
	findAtOnce = 8
)

// Keys are the public keys that grants may be signed with, as KeysBucket holds
// them. Safe for concurrent use.
type Keys struct {
	synced chan struct{}          // closed when all keys have been read once
	once   sync.Once              // closes synced
	from   atomic.Pointer[source] // nil before Run

	mu sync.RWMutex
	// Guarded by mu.
	keys  map[string]ed25519.PublicKey
	looks map[string]*look
}

// NewKeys has no keys until it runs.
func NewKeys() *Keys {
	return &Keys{synced: make(chan struct{}), keys: make(map[string]ed25519.PublicKey), looks: make(map[string]*look)}
}

// Run follows the bucket until ctx ends.
func (k *Keys) Run(ctx context.Context, c *Conn) error {
	b, err := OpenBucket[ed25519.PublicKey](ctx, c, KeysBucket)
	if err != nil {
		return err
	}
	k.from.Store(&source{ctx, b})
	b.Watch(ctx, func(ch Change[ed25519.PublicKey]) {
		k.mu.Lock()
		defer k.mu.Unlock()
		switch {
		case ch.Synced:
			k.once.Do(func() { close(k.synced) })
		case ch.Gone:
			delete(k.keys, ch.Key)
		case len(ch.Value) == ed25519.PublicKeySize:
			k.keys[ch.Key] = ch.Value
		}
	})
	return nil
}

// Synced is closed when all keys have been read once.
func (k *Keys) Synced() <-chan struct{} { return k.synced }

// Key is the public key of a key id, or nil; made for edgeagent.ReadGrant.
func (k *Keys) Key(kid string) ed25519.PublicKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[kid]
}

// Find is Key that looks into the bucket for one it does not know: what was written while
// the bus was away, or just now, may come later by the watch than what it signed. Where
// there is no such key it takes 1 s, or until ctx ends; where findAtOnce others are looked
// for it is not.
func (k *Keys) Find(ctx context.Context, kid string) ed25519.PublicKey {
	if key := k.Key(kid); key != nil {
		return key
	}
	l := k.looking(kid)
	if l == nil {
		return nil
	}
	select {
	case <-l.over:
		return l.key
	case <-ctx.Done():
		return k.Key(kid)
	}
}

// looking joins the look for a key, or begins it; nil: it is none.
func (k *Keys) looking(kid string) *look {
	from := k.from.Load()
	if raw, err := base64.RawURLEncoding.DecodeString(kid); from == nil || err != nil || len(raw) == 0 || len(raw) > ed25519.PublicKeySize {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.looks[kid]
	if l == nil && len(k.looks) < findAtOnce {
		l = &look{over: make(chan struct{})}
		k.looks[kid] = l
		go func() {
			l.key = from.find(kid)
			k.mu.Lock()
			delete(k.looks, kid)
			k.mu.Unlock()
			close(l.over)
		}()
	}
	return l
}

// look is one for a key. What it finds is not kept: that a key is gone only the watch tells.
type look struct {
	over chan struct{}
	key  ed25519.PublicKey // nil: there is none; set before over is closed
}

// source is where keys are looked for, while ctx lasts.
type source struct {
	ctx    context.Context
	bucket *Bucket[ed25519.PublicKey]
}

func (f *source) find(kid string) ed25519.PublicKey {
	ctx, cancel := context.WithTimeout(f.ctx, findFor)
	defer cancel()
	for {
		e, err := f.bucket.Find(ctx, kid)
		if err == nil && len(e.Value) == ed25519.PublicKeySize {
			return e.Value
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(findAgain):
		}
	}
}
