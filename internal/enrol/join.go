package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"voicefleet/internal/bus"
)

// Where an Enroller is reached by HTTPS, and the largest body there, in bytes: a
// request and a certificate are 2 kB.
const (
	JoinPath  = "/api/fleet/join"
	RenewPath = "/api/fleet/renew"
	MaxBody   = 32 << 10
)

// joinTime bounds one request.
const joinTime = 20 * time.Second

// JoinURL is what a new machine is told: where to go, what to show there, and whom
// to trust. pin is the SHA-256 of the authority that vouches for the address, or nil
// where the world's authorities do.
func JoinURL(base string, t Token, pin []byte) string {
	return strings.TrimSuffix(base, "/") + "#" + t.String() + "." + base64.RawURLEncoding.EncodeToString(pin)
}

// place is where an Enroller is.
type place struct {
	base string
	pin  []byte
}

// String is URL#pin.
func (p place) String() string { return p.base + "#" + base64.RawURLEncoding.EncodeToString(p.pin) }

func parsePlace(base, pin string) (place, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return place{}, fmt.Errorf("%.100q: want https://HOST:PORT", base)
	}
	raw, err := base64.RawURLEncoding.DecodeString(pin)
	if err != nil || len(raw) != 0 && len(raw) != sha256.Size {
		return place{}, errors.New("the token is not complete: copy the whole command")
	}
	return place{strings.TrimSuffix(base, "/"), raw}, nil
}

// parseJoinURL takes apart what JoinURL made.
func parseJoinURL(s string) (place, Token, error) {
	base, frag, ok := strings.Cut(s, "#")
	i := strings.LastIndexByte(frag, '.')
	if !ok || i < 0 {
		return place{}, Token{}, errors.New("want https://HOST:PORT#TOKEN, as voicefleet ctl node add shows it")
	}
	p, err := parsePlace(base, frag[i+1:])
	if err != nil {
		return place{}, Token{}, err
	}
	t, err := parseToken(frag[:i])
	return p, t, err
}

// MemberIn is who a join URL is for.
func MemberIn(joinURL string) (Member, error) {
	_, t, err := parseJoinURL(joinURL)
	if err != nil {
		return Member{}, fmt.Errorf("read join address: %w", err)
	}
	return t.Member, nil
}

// Join enrols this machine: it makes its keys, shows the token of joinURL, and
// stores its identity in dir.
func Join(ctx context.Context, joinURL, dir string) (*Identity, error) {
	p, t, err := parseJoinURL(joinURL)
	if err != nil {
		return nil, fmt.Errorf("join the fleet: %w", err)
	}
	i, err := p.join(ctx, t, dir)
	if err != nil {
		return nil, fmt.Errorf("join the fleet at %s: %w", p.base, err)
	}
	return i, nil
}

func (p place) join(ctx context.Context, t Token, dir string) (*Identity, error) {
	k, err := newKeys()
	if err != nil {
		return nil, err
	}
	csr, err := request(k.tls)
	if err != nil {
		return nil, err
	}
	var rep JoinReply
	if err := p.post(ctx, JoinPath, JoinRequest{Token: t.String(), CSR: string(csr), UserKey: public(k.user)}, &rep); err != nil {
		return nil, err
	}
	if rep.Member != t.Member {
		return nil, fmt.Errorf("it answers for %v", rep.Member)
	}
	f := memberFile{Member: rep.Member, Region: rep.Region, Bus: rep.Bus, Join: p.String()}
	if err := k.store(dir, f, []byte(rep.Certificate), []byte(rep.Authority), rep.JWT); err != nil {
		return nil, err
	}
	return load(dir)
}

// post asks the Enroller. Its refusal is an *Error.
func (p place) post(ctx context.Context, path string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: p.tls(), Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		refusal := &Error{}
		if json.Unmarshal(answer, refusal) != nil || refusal.Code == "" {
			return errors.New(resp.Status)
		}
		return refusal
	}
	return json.Unmarshal(answer, v)
}

// tls trusts the pinned authority alone, for whatever address was dialled: the
// operator copied it from the authority's own machine. Without a pin the world's
// authorities are asked.
func (p place) tls() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(p.pin) == 0 {
		return c
	}
	c.InsecureSkipVerify = true // VerifyConnection does it
	c.VerifyConnection = func(s tls.ConnectionState) error {
		pool := x509.NewCertPool()
		for _, cert := range s.PeerCertificates {
			if sum := sha256.Sum256(cert.Raw); bytes.Equal(sum[:], p.pin) {
				pool.AddCert(cert)
			}
		}
		if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool}); err != nil {
			return errors.New("another machine answers there than the one that gave the token")
		}
		return nil
	}
	return c
}

// Renew has the certificate renewed when it is due, until ctx ends, and what it is let
// do on the bus: changed is called when that is something else, which counts from the
// next connection on. It goes on trying: failed tells each failure. An identity made
// by hand is renewed by hand.
func (i *Identity) Renew(ctx context.Context, changed func(), failed func(error)) error {
	tick := time.NewTicker(renewLook)
	defer tick.Stop()
	for {
		if i.join != "" && i.renewalDue(time.Now()) {
			was := i.cert.jwt()
			if err := i.renew(ctx); err != nil && ctx.Err() == nil {
				failed(fmt.Errorf("renew certificate: %w", err))
			}
			if i.cert.jwt() != was {
				changed()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// renewLook is how often it is looked whether a certificate is due.
const renewLook = time.Hour

// renew asks for what the member has from now on, and keeps it.
func (i *Identity) renew(ctx context.Context) error {
	base, pin, _ := strings.Cut(i.join, "#")
	p, err := parsePlace(base, pin)
	if err != nil {
		return err
	}
	next, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	req, err := i.renewRequest(next)
	if err != nil {
		return err
	}
	var rep RenewReply
	if err := p.post(ctx, RenewPath, req, &rep); err != nil {
		return err
	}
	if err := i.keepCertificate(rep.Certificate, next); err != nil {
		return err
	}
	return i.keepToken(rep.JWT)
}

// renewRequest asks for a certificate of the next key.
func (i *Identity) renewRequest(next *ecdsa.PrivateKey) (RenewRequest, error) {
	csr, err := request(next)
	if err != nil {
		return RenewRequest{}, err
	}
	now := i.Certificate()
	key, ok := now.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return RenewRequest{}, errors.New("its key is not ECDSA")
	}
	sum := sha256.Sum256(csr)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	return RenewRequest{Certificate: string(encodeCert(now.Leaf.Raw)), CSR: string(csr), Signature: sig}, err
}

// keepCertificate has the member show the next certificate, if it was given one.
func (i *Identity) keepCertificate(certPEM string, key *ecdsa.PrivateKey) error {
	if certPEM == "" {
		return nil
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	body := append([]byte(certPEM), keyPEM...)
	cert, fresh, err := decodePair(body)
	if err != nil {
		return err
	}
	if err := write(i.dir, fileCert, body); err != nil {
		return err
	}
	i.cert.set(cert, fresh)
	return nil
}

// keepToken has the member show a JWT on the bus, if it lets it do something else than
// the one before.
func (i *Identity) keepToken(token string) error {
	had, _ := permissionsOf(i.cert.jwt())
	may, ok := permissionsOf(token)
	if ok && !reflect.DeepEqual(may, had) {
		if err := write(i.dir, fileCreds, []byte(token+"\n"+string(i.creds.Seed)+"\n")); err != nil {
			return err
		}
		i.cert.setToken(token)
	}
	i.asked.Store(true)
	return nil
}

// Refresh asks for what a program of today is let do on the bus, if the member was
// enrolled when that was something else: to be called before it connects. One that was
// enrolled by hand is enrolled by hand again.
func (i *Identity) Refresh(ctx context.Context) error {
	if i.join == "" || !i.outdated() {
		return nil
	}
	patience := refreshTime
	if i.Role == bus.RoleEdge {
		patience = refreshEdge
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := i.renew(ctx); err != nil {
		return fmt.Errorf("renew permissions: %w", err)
	}
	return nil
}

// refreshTime bounds it: a member starts without, if need be, and Renew asks again. Of
// an edge refreshEdge does: as long as its program starts, its links and heartbeats
// are away, and after 3 s its calls are moved.
const (
	refreshTime = 5 * time.Second
	refreshEdge = 300 * time.Millisecond
)
