package target

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	"voicefleet/signaling/voiceclient"
)

// refusal is an answer of REST that is not a success.
type refusal struct {
	Status  int    `json:"-"`
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string {
	return fmt.Sprintf("status %d, code %d: %s", r.Status, r.Code, r.Message)
}

// unknownInvite is the code for it in Discord's API.
const unknownInvite = 10006

// explain adds the next step to what went wrong on the way to a server.
func explain(err error) error {
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		dial     *net.OpError
		lookup   *net.DNSError
		answered *refusal
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid), errors.As(err, &verify):
		return fmt.Errorf("the server's certificate is not trusted: %w (name what to trust with --ca FILE, the server shows it at /ca.pem; or trust anything with --insecure)", err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("the server speaks no TLS there: %w (is it http:// instead of https://?)", err)
	case errors.As(err, &answered) && answered.Status == http.StatusUnauthorized, errors.Is(err, voiceclient.ErrRefused):
		return fmt.Errorf("the server refuses the login: %w (is the token, or the data folder, of this server and still good?)", err)
	case errors.As(err, &answered) && answered.Code == unknownInvite:
		return fmt.Errorf("the invite is not known there: %w (is it of this server, whole, and still good?)", err)
	case errors.As(err, &answered) && answered.Status == http.StatusForbidden:
		return fmt.Errorf("the account may not do that: %w (use one that may, or the server's data folder with --data)", err)
	case errors.As(err, &lookup):
		return fmt.Errorf("the server's name is not known: %w (check --server)", err)
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("the server cannot be reached: %w (does it run, and do address and port fit?)", err)
	}
	return err
}
