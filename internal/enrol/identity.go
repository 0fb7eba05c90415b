package enrol

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"voicefleet/internal/bus"
)

// The files of an identity's folder, readable by their owner only.
const (
	fileMember = "member.json" // who, where the bus is; written last
	fileCert   = "member.pem"  // certificate and key
	fileTrust  = "fleet-ca.crt"
	fileCreds  = "bus.creds" // JWT and seed, in two lines
)

// Identity is what a member has of the fleet, in a folder of its machine.
//
// For links between members it gives the two ends: each shows Certificate, which
// changes while a program runs, verifies the other's chain by Pool, learns who it is
// by MemberOf, and asks Revocations.Refuse, again and again as long as the link lasts.
type Identity struct {
	// Immutable.
	Member
	Region string
	Bus    []string // URLs of the NATS servers
	Pool   *x509.CertPool

	dir   string
	join  string // where it was enrolled, and may renew; empty: by hand
	creds bus.Credentials
	cert  *holder
	// asked says that the authority has told what it lets the member do today: be that
	// not what this program expects, it is not asked for that again.
	asked atomic.Bool
}

// memberFile is what fileMember holds.
type memberFile struct {
	Member
	Region string   `json:"region,omitempty"`
	Bus    []string `json:"bus"`
	Join   string   `json:"join,omitempty"` // URL#pin
}

// Load reads the identity of a folder; fs.ErrNotExist tells that there is none.
func Load(dir string) (*Identity, error) {
	i, err := load(dir)
	if err != nil {
		return nil, fmt.Errorf("read identity %s: %w", dir, err)
	}
	return i, nil
}

func load(dir string) (*Identity, error) {
	var f memberFile
	body, err := os.ReadFile(filepath.Join(dir, fileMember))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", fileMember, err)
	}
	if err := f.Member.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", fileMember, err)
	}
	i := &Identity{Member: f.Member, Region: f.Region, Bus: f.Bus, Pool: x509.NewCertPool(), dir: dir, join: f.Join, cert: &holder{}}
	trust, err := os.ReadFile(filepath.Join(dir, fileTrust))
	if err != nil {
		return nil, err
	}
	if !i.Pool.AppendCertsFromPEM(trust) {
		return nil, fmt.Errorf("%s: no certificate in it", fileTrust)
	}
	if body, err = os.ReadFile(filepath.Join(dir, fileCert)); err != nil {
		return nil, err
	}
	cert, key, err := decodePair(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileCert, err)
	}
	i.cert.set(cert, key)
	if body, err = os.ReadFile(filepath.Join(dir, fileCreds)); err != nil {
		return nil, err
	}
	token, seed, ok := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if !ok {
		return nil, fmt.Errorf("%s: want a JWT and a seed", fileCreds)
	}
	i.cert.setToken(token)
	i.creds = bus.Credentials{JWT: i.cert.jwt, Seed: []byte(seed), TLS: clientTLS(i.Pool), Inbox: i.inbox(), Guest: i.Role == bus.RoleEdge}
	return i, nil
}

// BusURL is bus.Config.URL.
func (i *Identity) BusURL() string { return strings.Join(i.Bus, ",") }

// Credentials are for bus.Config.
func (i *Identity) Credentials() *bus.Credentials { return &i.creds }

// Certificate is the newest of the member.
func (i *Identity) Certificate() *tls.Certificate { return i.cert.get() }

// keys are what a machine makes for itself; of them only public halves leave it.
type keys struct {
	tls  *ecdsa.PrivateKey
	user nkeys.KeyPair
}

func newKeys() (keys, error) {
	k, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	u, err2 := nkeys.CreateUser()
	return keys{k, u}, errors.Join(err1, err2)
}

// request is a certificate request for a key.
func request(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// store writes the folder.
func (k keys) store(dir string, f memberFile, certPEM, trustPEM []byte, token string) error {
	keyPEM, err := encodeKey(k.tls)
	if err != nil {
		return err
	}
	if _, _, err := decodePair(append(certPEM, keyPEM...)); err != nil {
		return err
	}
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, w := range []struct {
		name string
		body []byte
	}{{fileTrust, trustPEM}, {fileCert, append(certPEM, keyPEM...)}, {fileCreds, []byte(token + "\n" + seed(k.user) + "\n")}, {fileMember, body}} {
		if err := write(dir, w.name, w.body); err != nil {
			return err
		}
	}
	return nil
}

// Bundle writes an identity into the folder out, for a machine that cannot join by
// itself yet: the first of a fleet. Whoever carries the folder there carries a
// secret.
func (a *Authority) Bundle(out string, m Member, region string, busURLs []string) error {
	err := func() error {
		if err := m.validate(); err != nil {
			return err
		}
		k, err := newKeys()
		if err != nil {
			return err
		}
		csr, err := request(k.tls)
		if err != nil {
			return err
		}
		cert, err := a.sign(m, csr)
		if err != nil {
			return err
		}
		token, err := a.userJWT(m, public(k.user))
		if err != nil {
			return err
		}
		if err := a.note(m, public(k.user)); err != nil {
			return err
		}
		return k.store(out, memberFile{Member: m, Region: region, Bus: busURLs}, encodeCert(cert.Raw), a.pem, token)
	}()
	if err != nil {
		return fmt.Errorf("credentials of %v: %w", m, err)
	}
	return nil
}

func clientTLS(pool *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
}

// renewalDue says whether it is time for the next certificate, or for what a program
// of today is let do on the bus.
func (i *Identity) renewalDue(now time.Time) bool {
	return renewable(i.Certificate().Leaf, now) || i.outdated()
}

// renewable says whether a certificate ends so soon that it is time for the next.
func renewable(cert *x509.Certificate, now time.Time) bool {
	return now.After(cert.NotAfter.Add(-renewBefore))
}

// outdated says whether the member was enrolled, or renewed last, when members were
// let do something else on the bus than this program expects, and nothing newer is
// known.
func (i *Identity) outdated() bool {
	may, ok := permissionsOf(i.cert.jwt())
	return ok && !i.asked.Load() && !reflect.DeepEqual(may, i.permissions())
}

// permissionsOf are what a JWT lets its user do.
func permissionsOf(token string) (jwt.Permissions, bool) {
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return jwt.Permissions{}, false
	}
	return claims.Permissions, true
}

// tlsPair makes what tls serves.
func tlsPair(cert *x509.Certificate, key crypto.Signer) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}
