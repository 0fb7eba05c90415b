package edgeagentserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"

	"voicefleet/edgeagent"
)

// PeerTrust says who this node is to other nodes, and whom it believes to be one.
type PeerTrust interface {
	// Own is what this node shows on links from now on.
	Own() *tls.Certificate
	// Node is whom a certificate names, be that believed or not.
	Node(leaf *x509.Certificate) (edgeagent.NodeID, bool)
	// Check says why a certificate is not that of a peer. It is asked when a link
	// begins, and every second as long as it lasts.
	Check(peer edgeagent.RelayPeer, leaf *x509.Certificate) error
}

// pinned is a PeerTrust without an authority: each node makes a certificate when
// it starts and tells its fingerprint in the heartbeat, which nobody else may
// write; the allocator passes it on to the peers. The certificate lives as long as
// the engine: the next agent takes it over.
type pinned struct {
	own atomic.Pointer[tls.Certificate]
}

// certificateLife is that of a certificate made at start: longer than any process.
const certificateLife = 10 * 365 * 24 * time.Hour

// newPinned makes the certificate of a node.
func newPinned(node edgeagent.NodeID) (*pinned, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make link certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: string(node)}, DNSNames: []string{string(node)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make link certificate: %w", err)
	}
	p := &pinned{}
	p.own.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	return p, nil
}

// identity is the certificate with its key, in PEM. Nil: the key is of no kind that
// can be written.
func (p *pinned) identity() []byte {
	own := p.own.Load()
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		return nil
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
}

// become has the node show an identity from now on.
func (p *pinned) become(identity []byte) error {
	own, err := tls.X509KeyPair(identity, identity)
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	p.own.Store(&own)
	return nil
}

// Own serves PeerTrust.
func (p *pinned) Own() *tls.Certificate { return p.own.Load() }

// Node serves PeerTrust.
func (p *pinned) Node(leaf *x509.Certificate) (edgeagent.NodeID, bool) {
	if len(leaf.DNSNames) == 0 {
		return "", false
	}
	node := edgeagent.NodeID(leaf.DNSNames[0])
	return node, node.Valid()
}

// Check serves PeerTrust.
func (p *pinned) Check(peer edgeagent.RelayPeer, leaf *x509.Certificate) error {
	if got := fingerprint(leaf.Raw); subtle.ConstantTimeCompare([]byte(got), []byte(peer.Link.Fingerprint)) != 1 {
		return fmt.Errorf("certificate %s is not that of node %s", got, peer.Node)
	}
	return nil
}

// fingerprint is the SHA-256 of a certificate.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// errStranger refuses who shows no certificate, or one that names no node.
var errStranger = errors.New("certificate names no node")

// named is the leaf of a connection and the node it names.
func named(trust PeerTrust, cs tls.ConnectionState) (*x509.Certificate, edgeagent.NodeID, error) {
	if len(cs.PeerCertificates) == 0 {
		return nil, "", errStranger
	}
	leaf := cs.PeerCertificates[0]
	node, ok := trust.Node(leaf)
	if !ok {
		return nil, "", errStranger
	}
	return leaf, node, nil
}
