package edgeagent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"voicefleet/sfu"
)

// GrantLife is how long a grant may be used to open its session. A session once
// open may be resumed with it for as long as it lives.
const GrantLife = 60 * time.Second

// ClockLeeway is how far the clocks of signer and node may differ.
const ClockLeeway = 5 * time.Second

// maxToken bounds a token before anything of it is decoded.
const maxToken = 2048

// Grant permits one user to open one session in one call on one node. It is the
// token of VOICE_SERVER_UPDATE: version, key id, claims and signature, joined by
// dots. There is one algorithm, Ed25519 (RFC 8032), so no field names it.
type Grant struct {
	ID      sfu.SessionID `json:"id"` // names the session; used once
	Node    NodeID        `json:"node"`
	Guild   string        `json:"guild"`
	Call    sfu.CallID    `json:"call"`
	Epoch   uint64        `json:"epoch"`
	User    sfu.UserID    `json:"user"`
	Session string        `json:"session"` // the gateway session, echoed in Identify
	Rights  sfu.Rights    `json:"rights"`
	Echo    bool          `json:"echo,omitempty"`
	Expires time.Time     `json:"expires"`
}

// Why a token is refused.
var (
	ErrGrantForm      = errors.New("token is malformed")
	ErrGrantKey       = errors.New("token is signed by an unknown key")
	ErrGrantSignature = errors.New("token signature is wrong")
	ErrGrantExpired   = errors.New("token has expired")
	ErrGrantScope     = errors.New("token is for another node, channel or user")
	ErrGrantUsed      = errors.New("token was used before")
)

const grantVersion = "vf1"

// KeyID names a signing key: the first 8 bytes of it, in base64url.
func KeyID(pub ed25519.PublicKey) string {
	return base64.RawURLEncoding.EncodeToString(pub[:8])
}

// SignGrant makes the token of g.
func SignGrant(key ed25519.PrivateKey, g Grant) (string, error) {
	claims, err := json.Marshal(g)
	if err != nil {
		return "", fmt.Errorf("sign grant: %w", err)
	}
	head := grantVersion + "." + KeyID(key.Public().(ed25519.PublicKey)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sig := ed25519.Sign(key, []byte(head))
	return head + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// ReadGrant checks form and signature of a token, not its expiry: a live session
// is resumed with an expired one. keys gives the public key of a key id, or nil: then
// the error is ErrGrantKey, and the grant is what the token claims, proved by nothing.
func ReadGrant(token string, keys func(kid string) ed25519.PublicKey) (Grant, error) {
	var g Grant
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // which base64 would skip
		return g, ErrGrantForm
	}
	parts := strings.Split(token, ".")
	if len(parts) != 4 || parts[0] != grantVersion {
		return g, ErrGrantForm
	}
	claims, err1 := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	sig, err2 := base64.RawURLEncoding.Strict().DecodeString(parts[3])
	if err1 != nil || err2 != nil || len(sig) != ed25519.SignatureSize {
		return g, ErrGrantForm
	}
	pub := keys(parts[1])
	if pub != nil && !ed25519.Verify(pub, []byte(token[:len(token)-len(parts[3])-1]), sig) {
		return g, ErrGrantSignature
	}
	d := json.NewDecoder(bytes.NewReader(claims))
	if err := d.Decode(&g); err != nil || !g.ID.Valid() || !g.Node.Valid() {
		return Grant{}, ErrGrantForm
	}
	if pub == nil {
		return g, ErrGrantKey
	}
	return g, nil
}

// Fresh says whether the grant may still open its session.
func (g Grant) Fresh(now time.Time) error {
	if now.After(g.Expires.Add(ClockLeeway)) || g.Expires.Sub(now) > GrantLife+ClockLeeway {
		return ErrGrantExpired
	}
	return nil
}
