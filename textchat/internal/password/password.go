// Package password hashes passwords with argon2id (RFC 9106), a bounded number
// at a time: each costs 19 MiB and about 30 ms of a core, which is what makes
// guessing dear, and what a stranger must not be able to spend for us.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
)

// ErrBusy says that too many are waiting already.
var ErrBusy = errors.New("too many passwords are being checked")

// Cost of one hash: 19 MiB, 2 passes, 1 lane, the first choice of OWASP's list
// for argon2id.
const (
	memory  = 19 << 10 // KiB
	passes  = 2
	lanes   = 1
	saltLen = 16
	keyLen  = 32
)

// Hasher hashes at most `at once` passwords and lets at most `waiting` more wait.
type Hasher struct {
	slots   chan struct{}
	waiting atomic.Int64
	most    int64
}

// NewHasher makes a Hasher.
func NewHasher(atOnce, waiting int) *Hasher {
	return &Hasher{slots: make(chan struct{}, atOnce), most: int64(atOnce + waiting)}
}

func (h *Hasher) enter(ctx context.Context) error {
	if h.waiting.Add(1) > h.most {
		h.waiting.Add(-1)
		return ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		h.waiting.Add(-1)
		return ctx.Err()
	}
}

func (h *Hasher) leave() {
	<-h.slots
	h.waiting.Add(-1)
}

// Hash is the PHC string of a password with a new salt.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := make([]byte, saltLen)
	rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, passes, memory, lanes, keyLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, lanes, b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// Verify says whether password is the one of the hash. An empty hash costs as
// much as a real one and never matches, so that a name without an account cannot
// be told by the time its refusal takes.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	if hash == "" {
		argon2.IDKey([]byte(password), make([]byte, saltLen), passes, memory, lanes, keyLen)
		return false, nil
	}
	var version, m, t, p int
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, errors.New("check password: stored hash has a foreign form")
	}
	_, err1 := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &m, &t, &p)
	salt, err2 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err3 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2, err3); err != nil || version != argon2.Version || m < 8 || m > 1<<20 || t < 1 || t > 16 || p < 1 || p > 16 || len(want) < 16 {
		return false, errors.New("check password: stored hash has a foreign form")
	}
	got := argon2.IDKey([]byte(password), salt, uint32(t), uint32(m), uint8(p), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}
