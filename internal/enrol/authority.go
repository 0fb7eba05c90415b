package enrol

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"voicefleet/internal/bus"
)

const (
	// authorityLife is long: to change the authority is to enrol the fleet anew.
	authorityLife = 20 * 365 * 24 * time.Hour
	// certLife is that of a member's certificate, renewBefore the rest at which it
	// asks for the next.
	certLife    = 90 * 24 * time.Hour
	renewBefore = 30 * 24 * time.Hour
	// serverLife is that of a bus server's, which nobody renews by itself.
	serverLife = 2 * 365 * 24 * time.Hour
	// backdate forgives clocks that are behind.
	backdate = time.Hour
)

// The files of an authority's folder, readable by their owner only.
const (
	fileCA       = "fleet-ca.pem" // certificate and key
	fileKeys     = "fleet.keys"   // seeds of the NATS operator and accounts
	fileOperator = "operator.jwt"
	fileSystem   = "system.jwt"
	fileAccount  = "account.jwt" // with what was revoked
	fileBus      = "bus.urls"    // of the servers, one a line
)

// Authority vouches for the members of one fleet. Safe for concurrent use.
type Authority struct {
	// Immutable.
	dir                       string
	cert                      *x509.Certificate
	key                       *ecdsa.PrivateKey
	pem                       []byte
	operator, system, account nkeys.KeyPair
	operatorJWT, systemJWT    string
	now                       func() time.Time

	mu sync.Mutex
	// Guarded by mu.
	accountJWT string
}

// seeds is what fileKeys holds.
type seeds struct {
	Operator string `json:"operator"`
	System   string `json:"system"`
	Account  string `json:"account"`
}

// Open reads the authority of a folder, or makes it.
func Open(dir string) (*Authority, error) { return open(dir, time.Now) }

func open(dir string, now func() time.Time) (*Authority, error) {
	a := &Authority{dir: dir, now: now}
	_, err := os.Stat(filepath.Join(dir, fileCA))
	if errors.Is(err, fs.ErrNotExist) {
		err = a.create()
	}
	if err == nil {
		err = a.read()
	}
	if err != nil {
		return nil, fmt.Errorf("open fleet authority %s: %w", dir, err)
	}
	return a, nil
}

// create makes everything anew; fileCA is written last, so that what a crash left
// is begun again.
func (a *Authority) create() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	operator, err1 := nkeys.CreateOperator()
	system, err2 := nkeys.CreateAccount()
	account, err3 := nkeys.CreateAccount()
	key, err4 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	a.operator, a.system, a.account = operator, system, account
	if err := a.createClaims(); err != nil {
		return err
	}
	body, err := json.Marshal(seeds{Operator: seed(operator), System: seed(system), Account: seed(account)})
	if err != nil {
		return err
	}
	now := a.now()
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "voicefleet fleet", Organization: []string{"voicefleet, self-made"}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		write(a.dir, fileKeys, body), write(a.dir, fileOperator, []byte(a.operatorJWT)), write(a.dir, fileSystem, []byte(a.systemJWT)),
		write(a.dir, fileAccount, []byte(a.accountJWT)), write(a.dir, fileCA, append(encodeCert(der), keyPEM...)),
	)
}

// createClaims makes the JWTs of operator and accounts. The system account exports
// what happens in an account to that account, which is how ours hears of closed
// connections (bus.Disconnects).
func (a *Authority) createClaims() (err error) {
	systemKey, accountKey := public(a.system), public(a.account)
	op := jwt.NewOperatorClaims(public(a.operator))
	op.Name, op.SystemAccount = "voicefleet", systemKey
	if a.operatorJWT, err = op.Encode(a.operator); err != nil {
		return err
	}
	sys := jwt.NewAccountClaims(systemKey)
	sys.Name = "SYS"
	sys.Exports.Add(&jwt.Export{Name: "account-monitoring-streams", Subject: "$SYS.ACCOUNT.*.>", Type: jwt.Stream, AccountTokenPosition: 3})
	if a.systemJWT, err = sys.Encode(a.operator); err != nil {
		return err
	}
	acc := jwt.NewAccountClaims(accountKey)
	acc.Name = "VOICEFLEET"
	acc.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	acc.Imports.Add(&jwt.Import{
		Name: "disconnects", Account: systemKey, Type: jwt.Stream,
		Subject: jwt.Subject("$SYS.ACCOUNT." + accountKey + ".DISCONNECT"), LocalSubject: bus.DisconnectSubject,
	})
	a.accountJWT, err = acc.Encode(a.operator)
	return err
}

func (a *Authority) read() error {
	body, err := os.ReadFile(filepath.Join(a.dir, fileCA))
	if err != nil {
		return err
	}
	var key crypto.Signer
	if a.cert, key, err = decodePair(body); err != nil {
		return fmt.Errorf("%s: %w", fileCA, err)
	}
	a.key, _ = key.(*ecdsa.PrivateKey)
	if a.key == nil || !a.cert.IsCA {
		return fmt.Errorf("%s: no authority with its ECDSA key", fileCA)
	}
	a.pem = encodeCert(a.cert.Raw)
	var s seeds
	if body, err = os.ReadFile(filepath.Join(a.dir, fileKeys)); err == nil {
		err = json.Unmarshal(body, &s)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", fileKeys, err)
	}
	for _, k := range []struct {
		to   *nkeys.KeyPair
		seed string
	}{{&a.operator, s.Operator}, {&a.system, s.System}, {&a.account, s.Account}} {
		if *k.to, err = nkeys.FromSeed([]byte(k.seed)); err != nil {
			return fmt.Errorf("%s: %w", fileKeys, err)
		}
	}
	for _, f := range []struct {
		to   *string
		name string
	}{{&a.operatorJWT, fileOperator}, {&a.systemJWT, fileSystem}, {&a.accountJWT, fileAccount}} {
		body, err := os.ReadFile(filepath.Join(a.dir, f.name))
		if err != nil {
			return err
		}
		*f.to = strings.TrimSpace(string(body))
		if _, err := jwt.Decode(*f.to); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// SetBus writes down where members find the bus.
func (a *Authority) SetBus(urls []string) error {
	if err := write(a.dir, fileBus, []byte(strings.Join(urls, "\n")+"\n")); err != nil {
		return fmt.Errorf("fleet authority %s: %w", a.dir, err)
	}
	return nil
}

// Bus is what SetBus wrote down.
func (a *Authority) Bus() ([]string, error) {
	body, err := os.ReadFile(filepath.Join(a.dir, fileBus))
	if err != nil {
		return nil, fmt.Errorf("fleet authority %s: %w", a.dir, err)
	}
	return strings.Fields(string(body)), nil
}

// Exists says whether a folder holds an authority.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, fileCA))
	return err == nil
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return a.pem }

// Pool trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// sign makes the certificate of a member for the key of its request.
func (a *Authority) sign(m Member, csrPEM []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("no certificate request in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, err
	}
	if k, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("its key is not ECDSA P-256")
	}
	// Of the request the key alone is taken: names are the authority's to give.
	return a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: m.String()}, DNSNames: []string{m.ServerName()},
		NotAfter: a.now().Add(certLife),
	}, csr.PublicKey)
}

func (a *Authority) issue(t *x509.Certificate, key any) (*x509.Certificate, error) {
	t.SerialNumber = serial()
	t.NotBefore = a.now().Add(-backdate)
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// userJWT lets the holder of a NATS user key act as a member.
func (a *Authority) userJWT(m Member, userKey string) (string, error) {
	if !nkeys.IsValidPublicUserKey(userKey) {
		return "", errors.New("no public NATS user key")
	}
	u := jwt.NewUserClaims(userKey)
	u.Name = m.String()
	u.Permissions = m.permissions()
	return u.Encode(a.account)
}

// Credentials are fresh ones for a part of the fleet that lives with the authority.
func (a *Authority) Credentials(m Member) (*bus.Credentials, error) {
	return a.fresh(func(userKey string) (string, error) { return a.userJWT(m, userKey) })
}

// systemCredentials let one tell the servers what was revoked.
func (a *Authority) systemCredentials() (*bus.Credentials, error) {
	return a.fresh(func(userKey string) (string, error) {
		u := jwt.NewUserClaims(userKey)
		u.Name = "authority"
		u.Permissions.Pub.Allow.Add("$SYS.REQ.CLAIMS.UPDATE")
		u.Permissions.Sub.Allow.Add("_INBOX.>")
		u.Expires = a.now().Add(backdate).Unix()
		return u.Encode(a.system)
	})
}

func (a *Authority) fresh(issue func(userKey string) (string, error)) (*bus.Credentials, error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make bus credentials: %w", err)
	}
	token, err := issue(public(user))
	if err != nil {
		return nil, fmt.Errorf("make bus credentials: %w", err)
	}
	return &bus.Credentials{JWT: func() string { return token }, Seed: []byte(seed(user)), TLS: clientTLS(a.Pool())}, nil
}

// revoke has the servers refuse user keys from now on, and returns what to tell
// them.
func (a *Authority) revoke(userKeys []string) (accountJWT string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	claims, err := jwt.DecodeAccountClaims(a.accountJWT)
	if err != nil {
		return "", err
	}
	for _, k := range userKeys {
		claims.RevokeAt(k, a.now().Add(time.Second)) // JWTs tell whole seconds
	}
	if accountJWT, err = claims.Encode(a.operator); err != nil {
		return "", err
	}
	if err := write(a.dir, fileAccount, []byte(accountJWT)); err != nil {
		return "", err
	}
	a.accountJWT = accountJWT
	return accountJWT, nil
}

// ServerSpec is what a NATS server of the fleet is like.
type ServerSpec struct {
	Name   string
	Listen string // HOST:PORT for clients
	// ClusterListen and Routes as in bus.EmbeddedConfig.
	ClusterListen string
	Routes        []string
	// Hosts are the names and addresses by which clients and servers dial it.
	Hosts []string
	// Store is the folder of what must last, on the server's machine.
	Store string
	// At is where the bundle will lie on the server's machine.
	At string
}

// ServerBundle writes what a NATS server of the fleet needs into the folder out: its
// certificate and key, the authority's certificate, and nats-server.conf, for
// nats-server -c or voicefleet bus --config; it returns the text of that.
func (a *Authority) ServerBundle(out string, s ServerSpec) (config string, err error) {
	if config, err = a.serverBundle(out, s); err != nil {
		return "", fmt.Errorf("bundle of bus server %s: %w", s.Name, err)
	}
	return config, nil
}

func (a *Authority) serverBundle(out string, s ServerSpec) (config string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "bus " + s.Name}, NotAfter: a.now().Add(serverLife)}
	for _, h := range s.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	cert, err := a.issue(t, key.Public())
	if err != nil {
		return "", err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return "", err
	}
	config = a.serverConfig(s)
	return config, errors.Join(write(out, "server.crt", encodeCert(cert.Raw)), write(out, "server.key", keyPEM), write(out, "fleet-ca.crt", a.pem), write(out, "nats-server.conf", []byte(config)))
}

// serverConfig is the file of a server, in nats-server's syntax. JWTs and public
// keys have no characters that would want quoting.
func (a *Authority) serverConfig(s ServerSpec) string {
	a.mu.Lock()
	accountJWT := a.accountJWT
	a.mu.Unlock()
	var b strings.Builder
	at := func(name string) string { return filepath.Join(s.At, name) }
	fmt.Fprintf(&b, "# Written by voicefleet. Everything here is public but server.key.\nserver_name: %q\nlisten: %q\n", s.Name, s.Listen)
	fmt.Fprintf(&b, "tls { cert_file: %q, key_file: %q, timeout: 5 }\n", at("server.crt"), at("server.key"))
	fmt.Fprintf(&b, "jetstream { store_dir: %q, max_mem: 256M, max_file: 1G }\n", filepath.Join(s.Store, "jetstream"))
	fmt.Fprintf(&b, "operator: %s\nsystem_account: %s\n", a.operatorJWT, public(a.system))
	fmt.Fprintf(&b, "resolver { type: full, dir: %q, allow_delete: false, interval: \"30s\" }\n", filepath.Join(s.Store, "accounts"))
	fmt.Fprintf(&b, "resolver_preload {\n  %s: %s\n  %s: %s\n}\n", public(a.system), a.systemJWT, public(a.account), accountJWT)
	if s.ClusterListen != "" {
		fmt.Fprintf(&b, "cluster {\n  name: voicefleet\n  pool_size: -1\n  listen: %q\n  tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true, timeout: 5 }\n  routes: [", s.ClusterListen, at("server.crt"), at("server.key"), at("fleet-ca.crt"))
		for i, r := range s.Routes {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %q", "nats://"+r)
		}
		b.WriteString(" ]\n}\n")
	}
	return b.String()
}

func public(k nkeys.KeyPair) string {
	p, _ := k.PublicKey() // of a key that was just made or read: never fails
	return p
}

func seed(k nkeys.KeyPair) string {
	s, _ := k.Seed() // as public
	return string(s)
}

// write replaces a file by a rename, so that a crash leaves no half of it.
func write(dir, name string, body []byte) error {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", body, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// decodePair reads a certificate and its key, in either order.
func decodePair(body []byte) (cert *x509.Certificate, key crypto.Signer, err error) {
	for {
		var block *pem.Block
		if block, body = pem.Decode(body); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, nil, err
			}
		case "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			key, _ = parsed.(crypto.Signer)
		}
	}
	if cert == nil || key == nil {
		return nil, nil, errors.New("no certificate with its key in it")
	}
	if k, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(cert.PublicKey) {
		return nil, nil, errors.New("key and certificate do not belong together")
	}
	return cert, key, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}
