package bus

import (
	"context"
	"crypto/ed25519"
	"sync"
)

// Keys are the public keys that grants may be signed with, as KeysBucket holds
// them. Safe for concurrent use.
type Keys struct {
	synced chan struct{} // closed when all keys have been read once
	once   sync.Once     // closes synced

	mu sync.RWMutex
	// Guarded by mu.
	keys map[string]ed25519.PublicKey
}

// NewKeys has no keys until it runs.
func NewKeys() *Keys {
	return &Keys{synced: make(chan struct{}), keys: make(map[string]ed25519.PublicKey)}
}

// Run follows the bucket until ctx ends.
func (k *Keys) Run(ctx context.Context, c *Conn) error {
	b, err := OpenBucket[ed25519.PublicKey](ctx, c, KeysBucket)
	if err != nil {
		return err
	}
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
