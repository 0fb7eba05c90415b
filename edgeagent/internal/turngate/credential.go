package turngate

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"voicefleet/sfu"
)

// Realm is short: it stands in each challenge.
const Realm = "vf"

// nonceLife is how long a nonce is taken from the address it was given to.
const nonceLife = 5 * time.Minute

// secrets are what credentials and nonces are made of. They end with the process,
// as its allocations do.
type secrets struct {
	credentials, nonces [32]byte
}

func newSecrets() *secrets {
	s := &secrets{}
	rand.Read(s.credentials[:]) // never fails: it ends the program instead
	rand.Read(s.nonces[:])
	return s
}

// username is "expiry:session", the TURN REST form.
func username(session sfu.SessionID, expires time.Time) string {
	return strconv.FormatInt(expires.Unix(), 10) + ":" + string(session)
}

// password of a user name.
func (s *secrets) password(username string) string {
	mac := hmac.New(sha1.New, s.credentials[:])
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// key is what a request of the user is signed with (RFC 8489 section 18.5.1).
func (s *secrets) key(username string) []byte {
	sum := md5.Sum([]byte(username + ":" + Realm + ":" + s.password(username)))
	return sum[:]
}

// readUsername takes it apart.
func readUsername(name string) (session sfu.SessionID, expires time.Time, ok bool) {
	when, id, found := strings.Cut(name, ":")
	if !found || len(when) == 0 || len(when) > 11 || len(name) > 128 || when[0] < '1' || when[0] > '9' {
		return "", time.Time{}, false
	}
	unix, err := strconv.ParseUint(when, 10, 63)
	if err != nil || !sfu.SessionID(id).Valid() {
		return "", time.Time{}, false
	}
	return sfu.SessionID(id), time.Unix(int64(unix), 0), true
}

// A nonce is its second and half of an HMAC over that, the address and the realm:
// 12 bytes, 16 characters. A challenge is 56 bytes with it, twice the shortest
// Allocate.
const nonceLen = 16

func (s *secrets) nonce(now time.Time, from netip.Addr) string {
	var b [12]byte
	binary.BigEndian.PutUint32(b[:], uint32(now.Unix()))
	copy(b[4:], s.nonceSum(b[:4], from))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (s *secrets) nonceSum(at []byte, from netip.Addr) []byte {
	mac := hmac.New(sha256.New, s.nonces[:])
	ip := from.As16()
	mac.Write(at)
	mac.Write(ip[:])
	mac.Write([]byte(Realm))
	return mac.Sum(nil)[:8]
}

func (s *secrets) freshNonce(now time.Time, from netip.Addr, nonce []byte) bool {
	var b [12]byte
	if len(nonce) != nonceLen {
		return false
	}
	if n, err := base64.RawURLEncoding.Decode(b[:], nonce); err != nil || n != len(b) {
		return false
	}
	if subtle.ConstantTimeCompare(b[4:], s.nonceSum(b[:4], from)) != 1 {
		return false
	}
	age := now.Unix() - int64(binary.BigEndian.Uint32(b[:]))
	return age >= 0 && age <= int64(nonceLife/time.Second)
}
