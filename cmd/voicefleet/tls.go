package main

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"voicefleet/internal/localca"
)

// vouching is how a program proves over TLS who it is.
type vouching struct {
	ca   *localca.Authority
	acme *autocert.Manager // nil without a public name
	name string            // the public name, or empty
}

// vouch makes the authority of the folder, and with a domain also asks Let's
// Encrypt for a certificate of that name at the first handshake for it.
func vouch(folder, domain string, addrs func() []netip.Addr) (*vouching, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	ca, err := localca.Open(folder, host, addrs)
	if err != nil {
		return nil, err
	}
	v := &vouching{ca: ca, name: domain}
	if domain != "" {
		v.acme = &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			HostPolicy: autocert.HostWhitelist(domain),
			Cache:      autocert.DirCache(filepath.Join(folder, folderACME)),
		}
	}
	return v, nil
}

// config is that of the https side. HTTP/2 is off: a WebSocket takes over its
// connection, which HTTP/1.1 alone allows.
func (v *vouching) config() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: v.ca.GetCertificate}
	if v.acme != nil {
		c.NextProtos = append(c.NextProtos, acme.ALPNProto) // tls-alpn-01, when port 443 leads here
		c.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.ServerName == v.name {
				return v.acme.GetCertificate(h)
			}
			return v.ca.GetCertificate(h)
		}
	}
	return c
}

// relay is that of TURN, with the same certificates.
func (v *vouching) relay() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: v.config().GetCertificate}
}

// plain wraps what answers by http: the challenge http-01 comes there, when port
// 80 leads here.
func (v *vouching) plain(h http.Handler) http.Handler {
	if v.acme == nil {
		return h
	}
	return v.acme.HTTPHandler(h)
}

// servePEM gives out the authority's certificate; Debian, Windows and Android
// open it by this media type.
func (v *vouching) servePEM(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-x509-ca-cert")
	w.Header().Set("Content-Disposition", `attachment; filename="voicefleet-ca.pem"`)
	w.Write(v.ca.PEM())
}
