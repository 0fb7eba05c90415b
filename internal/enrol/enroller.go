package enrol

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"voicefleet/internal/bus"
)

// State is where a member is in its life.
type State string

// The states.
const (
	Invited  State = "invited"  // a token waits for it
	Enrolled State = "enrolled" // it has its credentials
	Revoked  State = "revoked"  // it had
)

// Entry is what the fleet knows of a member, as bus.EnrolledBucket holds it.
type Entry struct {
	Member
	Region string `json:"region,omitempty"`
	State  State  `json:"state"`
	// TokenHash is the SHA-256 of the token's secret, in hex; 160 random bits want
	// no slower one.
	TokenHash string    `json:"token_hash,omitempty"`
	Expires   time.Time `json:"expires,omitzero"` // the token
	By        string    `json:"by,omitempty"`     // who invited it
	At        time.Time `json:"at"`               // of the last change

	UserKey string `json:"user_key,omitempty"` // of the bus
	// ShutOut are the keys that were revoked, of all who went by the name, separated by
	// spaces: whoever tells the bus servers next tells them these, too.
	ShutOut string `json:"shut_out,omitempty"`
	Serial  string `json:"serial,omitempty"` // of the newest certificate, in hex
	// Previous is the serial of the certificate that the newest was given for. It is
	// good for another until the newest was shown: the reply may have been lost.
	Previous string    `json:"previous,omitempty"`
	Until    time.Time `json:"until,omitzero"` // of that certificate
	// RevokedAt refuses every certificate that was issued before.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	RevokedBy string    `json:"revoked_by,omitempty"`
}

// Belongs makes it a bus.Keyed. What is no user's key is none of this fleet's, and to
// revoke "*" would be to revoke everybody.
func (e *Entry) Belongs(key string) bool {
	good := nkeys.IsValidPublicUserKey
	return e.key() == key && e.validate() == nil && (e.UserKey == "" || good(e.UserKey)) &&
		!slices.ContainsFunc(strings.Fields(e.ShutOut), func(k string) bool { return !good(k) })
}

// shutOut adds keys to those that are refused for ever.
func (e *Entry) shutOut(keys []string) {
	all := strings.Fields(e.ShutOut)
	for _, k := range keys {
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	e.ShutOut = strings.Join(all, " ")
}

// Code is the closed list of reasons for which the authority refuses.
type Code string

// The codes.
const (
	CodeBadRequest   Code = "bad_request"
	CodeNameTaken    Code = "name_taken"    // enrolled already, or invited
	CodeUnknownToken Code = "unknown_token" // never given out, or of another invitation
	CodeTokenUsed    Code = "token_used"    // one machine only
	CodeTokenExpired Code = "token_expired"
	CodeRevoked      Code = "revoked"
	CodeUnknown      Code = "unknown_member"
	CodeUnavailable  Code = "unavailable" // the bus is away
)

// Error is a refusal.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Error is the message alone: it is made for people.
func (e *Error) Error() string { return e.Message }

func refuse(code Code, format string, a ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, a...)}
}

// CodeOf is the code of a refusal; of other errors CodeUnavailable.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeUnavailable
}

// Bounds of an invitation.
const (
	DefaultTTL = time.Hour
	MaxTTL     = 7 * 24 * time.Hour
	secretSize = 20 // bytes
)

// Config of an Enroller.
type Config struct {
	Authority *Authority
	Bus       *bus.Conn
	// Servers says how to reach the NATS servers; credentials are added.
	Servers bus.Config
	// URLs of the NATS servers, as members elsewhere reach them.
	URLs []string
	// Farewell says good-bye in the place of an edge that was revoked, before its
	// lease ends: it cannot do so itself any more, and while its media ports still
	// answer nobody would take it for dead. Nil: nobody does.
	Farewell func(ctx context.Context, name string) error
}

// Enroller invites, enrols and revokes. Several may run with copies of one
// authority, as long as each learns of all revocations: they are in the bucket.
// Safe for concurrent use.
type Enroller struct {
	// Immutable.
	cfg     Config
	entries *bus.Bucket[Entry]
}

// New opens the bucket.
func New(ctx context.Context, cfg Config) (*Enroller, error) {
	b, err := bus.OpenBucket[Entry](ctx, cfg.Bus, bus.EnrolledBucket)
	if err != nil {
		return nil, fmt.Errorf("start enrolment: %w", err)
	}
	return &Enroller{cfg: cfg, entries: b}, nil
}

// Token is what a new machine shows, once.
type Token struct {
	Member Member
	secret string
}

// String is how a token is written: role.name.secret.
func (t Token) String() string { return t.Member.key() + "." + t.secret }

func parseToken(s string) (Token, error) {
	part := strings.Split(s, ".")
	if len(part) != 3 || len(part[2]) != base64.RawURLEncoding.EncodedLen(secretSize) {
		return Token{}, refuse(CodeBadRequest, "the token is not complete: copy the whole command")
	}
	t := Token{Member{Role: part[0], Name: part[1]}, part[2]}
	if err := t.Member.validate(); err != nil {
		return Token{}, refuse(CodeBadRequest, "the token is damaged: %v", err)
	}
	return t, nil
}

func (t Token) hash() string {
	sum := sha256.Sum256([]byte(t.secret))
	return hex.EncodeToString(sum[:])
}

// Add invites a member: whoever shows the token within ttl is it.
func (e *Enroller) Add(ctx context.Context, m Member, region, by string, ttl time.Duration) (Token, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if err := m.validate(); err != nil {
		return Token{}, refuse(CodeBadRequest, "%v", err)
	}
	if ttl < time.Minute || ttl > MaxTTL || len(region) > 64 || len(by) > 200 {
		return Token{}, refuse(CodeBadRequest, "want a time of 1 minute to %v, and a region of at most 64 characters", MaxTTL)
	}
	raw := make([]byte, secretSize)
	rand.Read(raw) // never fails
	t := Token{m, base64.RawURLEncoding.EncodeToString(raw)}
	now := e.cfg.Authority.now()
	next := Entry{Member: m, Region: region, State: Invited, TokenHash: t.hash(), Expires: now.Add(ttl), By: by, At: now}
	old, err := e.entries.Find(ctx, m.key())
	switch {
	case errors.Is(err, bus.ErrNotFound):
		_, err = e.entries.Create(ctx, m.key(), next)
	case err != nil:
	case old.Value.State == Enrolled:
		return Token{}, refuse(CodeNameTaken, "%v is enrolled already; revoke it first, or take another name", m)
	case old.Value.State == Invited && now.Before(old.Value.Expires):
		return Token{}, refuse(CodeNameTaken, "%v is invited already, until %s; revoke it to invite it anew", m, old.Value.Expires.Format(time.DateTime))
	default:
		next.RevokedAt, next.RevokedBy, next.ShutOut = old.Value.RevokedAt, old.Value.RevokedBy, old.Value.ShutOut
		_, err = e.entries.Update(ctx, m.key(), next, old.Revision)
	}
	if errors.Is(err, bus.ErrConflict) {
		return Token{}, refuse(CodeNameTaken, "%v was taken by somebody else just now", m)
	}
	if err != nil {
		return Token{}, fmt.Errorf("invite %v: %w", m, err)
	}
	return t, nil
}

// JoinRequest is what a new machine sends.
type JoinRequest struct {
	Token   string `json:"token"`
	CSR     string `json:"csr"`      // PEM
	UserKey string `json:"user_key"` // public NATS user key
}

// JoinReply is what it gets.
type JoinReply struct {
	Member
	Region      string   `json:"region,omitempty"`
	Certificate string   `json:"certificate"` // PEM
	Authority   string   `json:"authority"`   // PEM
	JWT         string   `json:"jwt"`         // for the bus
	Bus         []string `json:"bus"`         // URLs
}

// Join enrols the machine that shows a token, unless another was first.
func (e *Enroller) Join(ctx context.Context, r JoinRequest) (JoinReply, error) {
	t, err := parseToken(r.Token)
	if err != nil {
		return JoinReply{}, err
	}
	old, err := e.entries.Find(ctx, t.Member.key())
	now := e.cfg.Authority.now()
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return JoinReply{}, refuse(CodeUnknownToken, "nobody invited %v", t.Member)
	case err != nil:
		return JoinReply{}, fmt.Errorf("enrol %v: %w", t.Member, err)
	case old.Value.TokenHash != t.hash():
		return JoinReply{}, refuse(CodeUnknownToken, "this token for %v was never given out, or is of an earlier invitation", t.Member)
	case old.Value.State == Enrolled:
		return JoinReply{}, refuse(CodeTokenUsed, "the token for %v was used already, on %s; if that was not you, revoke it", t.Member, old.Value.At.Format(time.DateTime))
	case old.Value.State == Revoked:
		return JoinReply{}, refuse(CodeRevoked, "%v was revoked", t.Member)
	case !now.Before(old.Value.Expires):
		return JoinReply{}, refuse(CodeTokenExpired, "the token for %v expired on %s; make a new one", t.Member, old.Value.Expires.Format(time.DateTime))
	}
	cert, err := e.cfg.Authority.sign(t.Member, []byte(r.CSR))
	if err != nil {
		return JoinReply{}, refuse(CodeBadRequest, "certificate request: %v", err)
	}
	token, err := e.cfg.Authority.userJWT(t.Member, r.UserKey)
	if err != nil {
		return JoinReply{}, refuse(CodeBadRequest, "bus key: %v", err)
	}
	// Written down before it is given out, beside the bucket: that may be lost.
	if err := e.cfg.Authority.note(t.Member, r.UserKey); err != nil {
		return JoinReply{}, fmt.Errorf("enrol %v: %w", t.Member, err)
	}
	next := old.Value
	next.State, next.At, next.UserKey = Enrolled, now, r.UserKey
	next.Serial, next.Until = cert.SerialNumber.Text(16), cert.NotAfter
	if _, err := e.entries.Update(ctx, t.Member.key(), next, old.Revision); errors.Is(err, bus.ErrConflict) {
		return JoinReply{}, refuse(CodeTokenUsed, "the token for %v was used by another machine just now", t.Member)
	} else if err != nil {
		return JoinReply{}, fmt.Errorf("enrol %v: %w", t.Member, err)
	}
	return JoinReply{
		Member: t.Member, Region: next.Region, JWT: token, Bus: e.cfg.URLs,
		Certificate: string(encodeCert(cert.Raw)), Authority: string(e.cfg.Authority.PEM()),
	}, nil
}

// RenewRequest asks for the next certificate: signed by the key of the one before.
type RenewRequest struct {
	Certificate string `json:"certificate"` // PEM
	CSR         string `json:"csr"`         // PEM
	Signature   []byte `json:"signature"`   // ASN.1 ECDSA over the SHA-256 of CSR
}

// RenewReply is what a member has from now on.
type RenewReply struct {
	// Certificate is the next, in PEM; empty where the one that was shown is good for
	// long yet.
	Certificate string `json:"certificate,omitempty"`
	// JWT lets it do on the bus what members of today may; empty where its user key
	// is not known.
	JWT string `json:"jwt,omitempty"`
}

// Renew gives a member that was not revoked its next certificate, if that is due, and
// its permissions on the bus as they are now.
func (e *Enroller) Renew(ctx context.Context, r RenewRequest) (RenewReply, error) {
	block, _ := pem.Decode([]byte(r.Certificate))
	if block == nil {
		return RenewReply{}, refuse(CodeBadRequest, "no certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return RenewReply{}, refuse(CodeBadRequest, "read certificate: %v", err)
	}
	// An expired one still says who asks: a node that was off for long comes back.
	if err := cert.CheckSignatureFrom(e.cfg.Authority.cert); err != nil {
		return RenewReply{}, refuse(CodeBadRequest, "the certificate is not of this fleet")
	}
	m, ok := MemberOf(cert)
	if !ok {
		return RenewReply{}, refuse(CodeBadRequest, "the certificate is no member's")
	}
	if err := cert.CheckSignature(x509.ECDSAWithSHA256, []byte(r.CSR), r.Signature); err != nil {
		return RenewReply{}, refuse(CodeBadRequest, "the request is not signed by the key of the certificate")
	}
	old, err := e.entries.Find(ctx, m.key())
	shown := cert.SerialNumber.Text(16)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return RenewReply{}, refuse(CodeUnknown, "%v is not enrolled", m)
	case err != nil:
		return RenewReply{}, fmt.Errorf("renew %v: %w", m, err)
	case old.Value.State != Enrolled || shown != old.Value.Serial && shown != old.Value.Previous:
		return RenewReply{}, refuse(CodeRevoked, "this is not the certificate that %v has now", m)
	}
	var rep RenewReply
	next := old.Value
	if shown == old.Value.Serial {
		next.Previous = ""
	}
	if renewable(cert, e.cfg.Authority.now()) {
		fresh, err := e.cfg.Authority.sign(m, []byte(r.CSR))
		if err != nil {
			return RenewReply{}, refuse(CodeBadRequest, "certificate request: %v", err)
		}
		next.Previous, next.Serial, next.Until = shown, fresh.SerialNumber.Text(16), fresh.NotAfter
		rep.Certificate = string(encodeCert(fresh.Raw))
	}
	if old.Value.UserKey != "" {
		if rep.JWT, err = e.cfg.Authority.userJWT(m, old.Value.UserKey); err != nil {
			return RenewReply{}, fmt.Errorf("renew %v: %w", m, err)
		}
	}
	if next != old.Value {
		if _, err := e.entries.Update(ctx, m.key(), next, old.Revision); err != nil {
			return RenewReply{}, fmt.Errorf("renew %v: %w", m, err)
		}
	}
	return rep, nil
}

// Revoke shuts a member out: when it returns, the bus has been told to close its
// connection and refuse it, and its lease is gone.
func (e *Enroller) Revoke(ctx context.Context, m Member, by string) (Entry, error) {
	if err := m.validate(); err != nil {
		return Entry{}, refuse(CodeBadRequest, "%v", err)
	}
	userKeys, err := e.cfg.Authority.issuedTo(m)
	if err != nil {
		return Entry{}, fmt.Errorf("revoke %v: %w", m, err)
	}
	if old, err := e.entries.Find(ctx, m.key()); err == nil && old.Value.UserKey != "" {
		userKeys = append(userKeys, old.Value.UserKey)
	}
	// The servers first: who was broken into hears of the bucket, and could answer in its
	// place.
	var untold error
	known := len(userKeys)
	if known > 0 {
		untold = e.tell(ctx, userKeys)
	}
	now := e.cfg.Authority.now()
	var next Entry
	for {
		old, err := e.entries.Find(ctx, m.key())
		switch {
		case err == nil:
			next = old.Value
			if next.UserKey != "" && !slices.Contains(userKeys, next.UserKey) {
				userKeys = append(userKeys, next.UserKey)
			}
			next.shutOut(userKeys)
			next.State, next.At, next.RevokedAt, next.RevokedBy, next.TokenHash = Revoked, now, now, by, ""
			_, err = e.entries.Update(ctx, m.key(), next, old.Revision)
		case errors.Is(err, bus.ErrNotFound) && len(userKeys) > 0: // enrolled by hand, or the bucket was lost
			next = Entry{Member: m, State: Revoked, At: now, RevokedAt: now, RevokedBy: by}
			next.shutOut(userKeys)
			_, err = e.entries.Create(ctx, m.key(), next)
		case errors.Is(err, bus.ErrNotFound):
			return Entry{}, refuse(CodeUnknown, "%v is not enrolled", m)
		}
		if errors.Is(err, bus.ErrConflict) {
			continue // it joined just now
		}
		if err != nil {
			return Entry{}, fmt.Errorf("revoke %v: %w", m, err)
		}
		break
	}
	if len(userKeys) > known { // it joined meanwhile
		untold = e.tell(ctx, userKeys)
	}
	if untold != nil {
		return next, fmt.Errorf("revoke %v: it is revoked, but the bus servers do not know; revoke it again: %w", m, untold)
	}
	if m.Role == bus.RoleEdge {
		if e.cfg.Farewell != nil {
			if err := e.cfg.Farewell(ctx, m.Name); err != nil {
				return next, fmt.Errorf("revoke %v: its calls are not moved yet: %w", m, err)
			}
		}
		nodes, err := bus.OpenBucket[struct{}](ctx, e.cfg.Bus, bus.NodesBucket)
		if err == nil {
			err = nodes.Delete(ctx, m.Name, 0)
		}
		if err != nil {
			return next, fmt.Errorf("revoke %v: its lease stands for 5 s more: %w", m, err)
		}
	}
	return next, nil
}

// tell has the servers refuse user keys, and all others that were revoked before.
func (e *Enroller) tell(ctx context.Context, userKeys []string) error {
	all, err := e.List(ctx)
	if err != nil {
		return err
	}
	userKeys = slices.Clone(userKeys)
	for _, other := range all {
		if other.State == Revoked && other.UserKey != "" {
			userKeys = append(userKeys, other.UserKey)
		}
		userKeys = append(userKeys, strings.Fields(other.ShutOut)...)
	}
	slices.Sort(userKeys)
	userKeys = slices.Compact(userKeys)
	accountJWT, err := e.cfg.Authority.revoke(userKeys)
	if err != nil {
		return err
	}
	creds, err := e.cfg.Authority.systemCredentials()
	if err != nil {
		return err
	}
	servers := e.cfg.Servers
	servers.Credentials = creds
	return bus.UpdateAccount(ctx, servers, accountJWT)
}

// List is everybody, by role and name.
func (e *Enroller) List(ctx context.Context) ([]Entry, error) {
	ctx, stop := context.WithTimeout(ctx, bus.RequestTimeout)
	defer stop()
	all := []Entry{}
	synced := false
	e.entries.Watch(ctx, func(ch bus.Change[Entry]) {
		switch {
		case synced:
		case ch.Synced:
			synced = true
			stop()
		case !ch.Gone:
			all = append(all, ch.Value)
		}
	})
	if !synced {
		return nil, fmt.Errorf("list members: %w", ctx.Err())
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.key(), b.key()) })
	return all, nil
}
