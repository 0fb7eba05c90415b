package enrol

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
)

// holder has the newest certificate.
type holder struct {
	now atomic.Pointer[tls.Certificate]
}

func (h *holder) set(cert *x509.Certificate, key crypto.Signer) { h.now.Store(tlsPair(cert, key)) }
func (h *holder) get() *tls.Certificate                         { return h.now.Load() }
