package localca

import (
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func lan() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("2001:db8::5")}
}

// trust is a client that was told to trust a.
func trust(t *testing.T, a *Authority) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.PEM()) {
		t.Fatal("the PEM holds no certificate")
	}
	return pool
}

func leaf(t *testing.T, a *Authority) *x509.Certificate {
	t.Helper()
	c, err := a.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func TestCertificateNamesEveryAddress(t *testing.T) {
	dir := t.TempDir()
	a, err := Open(dir, "Gamebox.", lan)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "gamebox", "gamebox.local", "192.168.1.5", "2001:db8::5", "127.0.0.1", "::1"} {
		if _, err := leaf(t, a).Verify(x509.VerifyOptions{Roots: trust(t, a), DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := leaf(t, a).Verify(x509.VerifyOptions{Roots: trust(t, a), DNSName: "192.168.1.6"}); err == nil {
		t.Error("an address of another host is named")
	}
	if strings.Contains(string(a.PEM()), "PRIVATE") {
		t.Error("the public PEM holds the key")
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v, %v", info.Mode(), err)
	}
}

func TestAuthorityStays(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(dir, "gamebox", lan)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir, "renamed.example.org", lan)
	if err != nil {
		t.Fatal(err)
	}
	if first.Fingerprint() != second.Fingerprint() {
		t.Error("a second start made a new authority")
	}
	// The new name is outside the constraints; the certificate must stay valid
	// for all the others.
	if _, err := leaf(t, second).Verify(x509.VerifyOptions{Roots: trust(t, first), DNSName: "192.168.1.5"}); err != nil {
		t.Error(err)
	}
	if leaf(t, second).VerifyHostname("renamed.example.org") == nil {
		t.Error("a name outside the constraints is in the certificate")
	}
}

func TestStolenKeyCannotNameTheInternet(t *testing.T) {
	a, err := Open(t.TempDir(), "gamebox", lan)
	if err != nil {
		t.Fatal(err)
	}
	a.host = "bank.example.com"
	a.cert.PermittedDNSDomains = append(a.cert.PermittedDNSDomains, a.host) // the thief's wish, not in the signed bytes
	if err := a.issueLocked(); err != nil {
		t.Fatal(err)
	}
	if err := a.leaf.Leaf.VerifyHostname("bank.example.com"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.leaf.Leaf.Verify(x509.VerifyOptions{Roots: trust(t, a), DNSName: "bank.example.com"}); err == nil {
		t.Error("a certificate for bank.example.com is believed")
	}
}

func TestCertificateFollows(t *testing.T) {
	now := time.Now()
	have := lan()
	a, err := open(t.TempDir(), "gamebox", func() []netip.Addr { return have }, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	first := leaf(t, a)
	if leaf(t, a) != first {
		t.Error("issued again without need")
	}
	have = []netip.Addr{netip.MustParseAddr("10.0.0.7")}
	second := leaf(t, a)
	if second.VerifyHostname("10.0.0.7") != nil || second.VerifyHostname("192.168.1.5") == nil {
		t.Errorf("names %v after the address changed", second.IPAddresses)
	}
	now = now.Add(leafLife - renewBefore + time.Hour)
	if third := leaf(t, a); third == second || !third.NotAfter.After(second.NotAfter) {
		t.Error("not renewed before it expires")
	}
}

func TestBadFile(t *testing.T) {
	other, err := Open(t.TempDir(), "other", lan)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Open(dir, "gamebox", lan); err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(filepath.Join(dir, fileName))
	_, key := pem.Decode(whole)
	for name, body := range map[string]string{
		"empty": "", "garbage": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"no key": string(other.PEM()), "another's key": string(other.PEM()) + string(key),
	} {
		if err := os.WriteFile(filepath.Join(dir, fileName), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, "gamebox", lan); err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidHost(t *testing.T) {
	for s, want := range map[string]bool{"a": true, "a-b.c9": true, "": false, "a..b": false, "a_b": false, "ü": false, strings.Repeat("a", 64): false} {
		if validHost(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
