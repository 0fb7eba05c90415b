package cql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, a.file = a.make(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// make makes a certificate with its key, and a file of it.
func (a *authority) make(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-2*time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	by, signer := a.cert, a.key
	if by == nil {
		by, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	must(a.t, err)
	cert, err := x509.ParseCertificate(der)
	must(a.t, err)
	return cert, key, a.keep("CERTIFICATE", der)
}

func (a *authority) keep(kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "file.pem")
	must(a.t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return file
}

// node is a certificate of a node that is called so.
func (a *authority) node(c *x509.Certificate) tls.Certificate {
	cert, key, _ := a.make(c)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// client is a certificate of a client, as files.
func (a *authority) client() (cert, key string) {
	_, k, cert := a.make(&x509.Certificate{Subject: pkix.Name{CommonName: "text"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	must(a.t, err)
	return cert, a.keep("PRIVATE KEY", der)
}

// encrypted ends TLS before a node, and returns where.
func encrypted(t *testing.T, node string, c *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	must(t, err)
	var tasks sync.WaitGroup
	var mu sync.Mutex
	live, over := map[net.Conn]bool{}, false
	hold := func(c net.Conn) bool {
		mu.Lock()
		defer mu.Unlock()
		live[c] = true
		return !over
	}
	pass := func(from, to net.Conn) {
		_, _ = io.Copy(to, from)
		from.Close()
		to.Close()
	}
	tasks.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer near.Close()
				if !hold(near) {
					return
				}
				if near.(*tls.Conn).Handshake() != nil {
					// To close it with something unread would take back what it says of that.
					tcp := near.(*tls.Conn).NetConn().(*net.TCPConn)
					_ = tcp.CloseWrite()
					_, _ = io.Copy(io.Discard, tcp)
					return
				}
				far, err := net.Dial("tcp", node)
				if err != nil {
					return
				}
				defer far.Close()
				if !hold(far) {
					return
				}
				tasks.Go(func() { pass(far, near) })
				pass(near, far)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		over = true
		for c := range live {
			c.Close()
		}
		mu.Unlock()
		tasks.Wait()
	})
	return l.Addr().String()
}

// TestTLS: a node is taken whose certificate is of the given authority and for its
// address, and no other; the error says what to do. So is a client, where nodes ask for
// a certificate.
func TestTLS(t *testing.T) {
	openAt(t, patient(t, runKeyspace())) // the schema is there
	if server.Pid() == 0 {
		t.Skip("the CQL server is somebody else's: its nodes are not reached through one port")
	}
	node := patient(t, runKeyspace()).Hosts[0]
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	here := []net.IP{net.IPv4(127, 0, 0, 1)}
	good := ours.node(&x509.Certificate{IPAddresses: here})
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	cert, key := ours.client()
	strange, strangeKey := theirs.client()
	mutual := &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	for _, c := range []struct {
		name    string
		server  *tls.Config // nil: it does not encrypt
		options string
		says    []string // nil: it opens
	}{
		{"right", &tls.Config{Certificates: []tls.Certificate{good}}, "?ca=" + ours.file, nil},
		{"wrong authority", &tls.Config{Certificates: []tls.Certificate{good}}, "?ca=" + theirs.file, []string{"unknown authority", "ca=FILE"}},
		{"system's authorities", &tls.Config{Certificates: []tls.Certificate{good}}, "?tls=on", []string{"unknown authority", "ca=FILE"}},
		{"wrong address", &tls.Config{Certificates: []tls.Certificate{ours.node(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 9)}})}},
			"?ca=" + ours.file, []string{"127.0.0.1", "name the node as its certificate does"}},
		{"wrong name", &tls.Config{Certificates: []tls.Certificate{ours.node(&x509.Certificate{DNSNames: []string{"db.example.org"}})}},
			"?ca=" + ours.file, []string{"127.0.0.1", "name the node as its certificate does"}},
		{"expired", &tls.Config{Certificates: []tls.Certificate{ours.node(&x509.Certificate{IPAddresses: here, NotAfter: time.Now().Add(-time.Hour)})}},
			"?ca=" + ours.file, []string{"expired", "new certificate"}},
		{"no TLS", nil, "?ca=" + ours.file, []string{"tls=off"}},
		{"client", mutual, "?ca=" + ours.file + "&cert=" + cert + "&key=" + key, nil},
		{"no client", mutual, "?ca=" + ours.file, []string{"cert=FILE"}},
		{"strange client", mutual, "?ca=" + ours.file + "&cert=" + strange + "&key=" + strangeKey, []string{"cert=FILE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := node
			if c.server != nil {
				at = encrypted(t, node, c.server)
			}
			config, err := ParseAddress(Scheme + at + "/" + runKeyspace() + c.options)
			must(t, err)
			config.Timeout = 10 * time.Second
			s, err := Open(ctx, config)
			if err == nil {
				defer s.Close()
			}
			switch {
			case c.says == nil && err == nil:
				channel := newID()
				if _, _, err := s.AddMessage(ctx, message(channel, newID(), "m"), ""); err != nil {
					t.Error(err)
				}
			case c.says == nil:
				t.Error(err)
			case err == nil:
				t.Error("it opens")
			}
			for _, words := range c.says {
				if err != nil && !strings.Contains(err.Error(), words) {
					t.Errorf("%v\ndoes not say %q", err, words)
				}
			}
		})
	}
}
