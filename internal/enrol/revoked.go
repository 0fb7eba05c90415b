package enrol

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"voicefleet/internal/bus"
)

// Revocations is what a member knows of the others that were shut out. Safe for
// concurrent use.
type Revocations struct {
	mu sync.Mutex
	// Guarded by mu.
	at map[Member]time.Time
}

// NewRevocations knows of none until it runs.
func NewRevocations() *Revocations { return &Revocations{at: make(map[Member]time.Time)} }

// Run follows the bucket until ctx ends. While the bus is away what is known stands.
func (r *Revocations) Run(ctx context.Context, c *bus.Conn) error {
	b, err := bus.OpenBucket[Entry](ctx, c, bus.EnrolledBucket)
	if err != nil {
		return err
	}
	b.Watch(ctx, func(ch bus.Change[Entry]) {
		if ch.Synced || ch.Gone {
			return
		}
		r.note(ch.Value)
	})
	return nil
}

// note keeps the latest revocation that an entry told of. One that was read later may be
// an older copy; and who was enrolled anew has a certificate that is younger.
func (r *Revocations) note(e Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.RevokedAt.After(r.at[e.Member]) {
		r.at[e.Member] = e.RevokedAt
	}
}

// Refuse returns an error for the certificate of who is no member, or was revoked
// after it was issued. Its chain is for TLS to verify.
func (r *Revocations) Refuse(cert *x509.Certificate) error {
	m, ok := MemberOf(cert)
	if !ok {
		return fmt.Errorf("certificate of %q is no member's", cert.Subject.CommonName)
	}
	r.mu.Lock()
	at, revoked := r.at[m]
	r.mu.Unlock()
	if revoked && !cert.NotBefore.Add(backdate).After(at) {
		return fmt.Errorf("%v was revoked on %s", m, at.Format(time.DateTime))
	}
	return nil
}
