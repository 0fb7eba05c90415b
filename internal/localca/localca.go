package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// fileName holds the certificate and the private key of the authority.
	fileName = "ca.pem"
	// authorityLife is long: each renewal would have to be trusted by hand on
	// every PC again.
	authorityLife = 20 * 365 * 24 * time.Hour
	// leafLife stays below the 825 days Apple's systems allow under an
	// authority of the user's own.
	leafLife = 90 * 24 * time.Hour
	// renewBefore is the rest of leafLife at which a new one is made.
	renewBefore = 30 * 24 * time.Hour
	// backdate forgives clocks of clients that are behind.
	backdate = 24 * time.Hour
)

// localDomains are the names a local network gives to its hosts (RFC 6762, RFC
// 8375, and what home routers use).
var localDomains = []string{"localhost", "local", "lan", "internal", "home.arpa", "fritz.box"}

// Authority is the certificate authority of one data folder.
type Authority struct {
	// Immutable.
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	host string
	// addrs gives the addresses the certificate has to name now.
	addrs func() []netip.Addr
	now   func() time.Time

	mu sync.Mutex
	// Guarded by mu.
	leaf  *tls.Certificate
	named []netip.Addr // by leaf
}

// Open reads the authority of the folder dir, or makes it. The file is readable
// by its owner only. host is the name of this host; addrs is asked at every
// handshake and must be quick.
func Open(dir, host string, addrs func() []netip.Addr) (*Authority, error) {
	return open(dir, host, addrs, time.Now)
}

func open(dir, host string, addrs func() []netip.Addr, now func() time.Time) (*Authority, error) {
	a := &Authority{host: strings.TrimSuffix(strings.ToLower(host), "."), addrs: addrs, now: now}
	path := filepath.Join(dir, fileName)
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if body, err = create(path, a.host, now()); err != nil {
			return nil, fmt.Errorf("make certificate authority: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	if err := a.parse(body); err != nil {
		return nil, fmt.Errorf("read certificate authority %s (remove the file to have a new one made; every PC must then trust that): %w", path, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a, a.issueLocked()
}

func create(path, host string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	domains := slices.Clone(localDomains)
	if validHost(host) && !slices.Contains(domains, host) {
		domains = append(domains, host)
	}
	t := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: "voicefleet on " + host, Organization: []string{"voicefleet, self-made"}},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(authorityLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         domains,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	body := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	body = append(body, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	// Written beside and renamed: a crash leaves no half of a key.
	half := path + ".new"
	if err := os.WriteFile(half, body, 0o600); err != nil {
		return nil, err
	}
	return body, os.Rename(half, path)
}

func (a *Authority) parse(body []byte) error {
	for {
		var block *pem.Block
		if block, body = pem.Decode(body); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return err
			}
			a.cert, a.pem = cert, pem.EncodeToMemory(block)
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return err
			}
			a.key, _ = key.(*ecdsa.PrivateKey)
		}
	}
	switch {
	case a.cert == nil || a.key == nil:
		return errors.New("no certificate with its ECDSA key in it")
	case !a.key.PublicKey.Equal(a.cert.PublicKey):
		return errors.New("key and certificate do not belong together")
	case a.now().After(a.cert.NotAfter):
		return fmt.Errorf("it expired on %s", a.cert.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// PEM is the authority's certificate, for other PCs to trust.
func (a *Authority) PEM() []byte { return a.pem }

// Fingerprint is the SHA-256 of the certificate, as systems show it when asked
// to trust it.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// GetCertificate serves [tls.Config.GetCertificate].
func (a *Authority) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now().After(a.leaf.Leaf.NotAfter.Add(-renewBefore)) || !slices.Equal(a.named, a.addrs()) {
		if err := a.issueLocked(); err != nil {
			return nil, err
		}
	}
	return a.leaf, nil
}

// issueLocked makes a certificate for the addresses of now. It has no common
// name: clients check the alternative names only (RFC 9525 section 6.3).
func (a *Authority) issueLocked() error {
	named := slices.Clone(a.addrs())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	now := a.now()
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"voicefleet"}},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     a.names(),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	for _, ip := range named {
		if !ip.IsLoopback() {
			t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	a.leaf = &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
	a.named = named
	return nil
}

// names are those of the host that the constraints of the authority permit: the
// host may have been renamed since the authority was made.
func (a *Authority) names() []string {
	names := []string{"localhost"}
	for _, n := range []string{a.host, a.host + ".local"} {
		if validHost(n) && permitted(n, a.cert.PermittedDNSDomains) && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

func permitted(name string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

// validHost says whether s is a host name that may stand in a certificate.
func validHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	b[0] &= 0x7f // positive
	b[0] |= 0x40 // and of full length
	return new(big.Int).SetBytes(b)
}
