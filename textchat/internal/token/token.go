// Package token makes and reads the tokens of users and bots:
//
//	base64raw(decimal user id) "." base64url(seconds) "." base64url(32 random bytes)
//
// Bot libraries read their own user id from the first part. The rest is opaque;
// only the hash of the whole is stored.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

// MaxLen is longer than any token.
const MaxLen = 128

const secretLen = 32

// New makes a token of a user.
func New(user snowflake.ID, now time.Time) string {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(now.Unix()))
	secret := make([]byte, secretLen)
	rand.Read(secret)
	url := base64.RawURLEncoding
	return base64.RawStdEncoding.EncodeToString([]byte(user.String())) + "." + url.EncodeToString(at[4:]) + "." + url.EncodeToString(secret)
}

// Read says whose token it claims to be, and by what hash it is known. ok is
// false when it has not the form of a token; that costs no look-up.
func Read(token string) (user snowflake.ID, hash textchat.TokenHash, ok bool) {
	if len(token) > MaxLen {
		return 0, hash, false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, hash, false
	}
	id, err1 := base64.RawStdEncoding.DecodeString(parts[0])
	secret, err2 := base64.RawURLEncoding.DecodeString(parts[2])
	if err1 != nil || err2 != nil || len(secret) != secretLen {
		return 0, hash, false
	}
	user, err := snowflake.Parse(string(id))
	if err != nil {
		return 0, hash, false
	}
	return user, Hash(token), true
}

// Hash is what is stored of a token. It has 256 random bits, so a plain SHA-256
// is enough.
func Hash(token string) textchat.TokenHash { return sha256.Sum256([]byte(token)) }
