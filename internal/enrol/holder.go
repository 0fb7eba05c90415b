package enrol

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
)

// holder has the newest certificate, and the newest JWT for the bus.
type holder struct {
	now   atomic.Pointer[tls.Certificate]
	token atomic.Pointer[string]
}

func (h *holder) set(cert *x509.Certificate, key crypto.Signer) { h.now.Store(tlsPair(cert, key)) }
func (h *holder) get() *tls.Certificate                         { return h.now.Load() }

func (h *holder) setToken(token string) { h.token.Store(&token) }
func (h *holder) jwt() string           { return *h.token.Load() }
