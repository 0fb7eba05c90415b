package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestDoor(t *testing.T) {
	defer goleak.VerifyNone(t)
	v, err := vouch(t.TempDir(), "", func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} })
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ca.pem", v.servePEM)
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, r.TLS != nil) })
	d, err := openDoor(l, v, mux, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()

	pool := x509.NewCertPool()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	c := &http.Client{Transport: tr}
	if !pool.AppendCertsFromPEM([]byte(get(t, c, "http://"+l.Addr().String()+"/ca.pem"))) {
		t.Fatal("/ca.pem holds no certificate")
	}
	if got := get(t, c, "http://"+l.Addr().String()+"/who"); got != "HTTP/1.1false" {
		t.Errorf("by http: %s", got)
	}
	if got := get(t, c, "https://"+l.Addr().String()+"/who"); got != "HTTP/1.1true" {
		t.Errorf("by https: %s", got)
	}
	tr.CloseIdleConnections()

	// Who sends the head of a request, or of a handshake, letter by letter, is waited for
	// so long and no longer.
	var slow sync.WaitGroup
	for _, begin := range []string{"GET /who HTTP/1.1\r\nHost: a\r\nX-Slow: ", "\x16\x03\x01\x02\x00\x01"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		over := make(chan struct{})
		slow.Go(func() {
			tick := time.NewTicker(headerTime / 20)
			defer tick.Stop()
			_, _ = io.WriteString(conn, begin)
			for {
				select {
				case <-over:
					return
				case <-tick.C:
					_, _ = io.WriteString(conn, "x")
				}
			}
		})
		slow.Go(func() {
			defer conn.Close()
			_ = conn.SetReadDeadline(began.Add(6 * headerTime))
			_, err := io.Copy(io.Discard, conn)
			close(over)
			if late := (net.Error)(nil); errors.As(err, &late) && late.Timeout() {
				t.Errorf("%q is still waited for after %v", begin, time.Since(began))
			}
		})
	}

	// A stranger's garbage gets an answer or an end, and disturbs nobody.
	for _, garbage := range []string{"\x16\x03\x01\x00\x05garbage", "GARBAGE\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, garbage)
		said, _ := io.ReadAll(conn)
		if len(garbage) > maxHeader && !strings.HasPrefix(string(said), "HTTP/1.1 431 ") {
			t.Errorf("a head of %d bytes: %.40q", len(garbage), said)
		}
		conn.Close()
	}
	if got := get(t, c, "https://"+l.Addr().String()+"/who"); got != "HTTP/1.1true" {
		t.Errorf("after garbage: %s", got)
	}
	tr.CloseIdleConnections()
	slow.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhoIsSentToHTTPS(t *testing.T) {
	for name, c := range map[string]struct {
		from, path, accept string
		want               bool
	}{
		"a browser in the LAN":    {"192.0.2.7:4711", "/invite/abc", "text/html,*/*", true},
		"a browser here":          {"127.0.0.1:4711", "/", "text/html,*/*", false},
		"a browser here, by IPv6": {"[::1]:4711", "/", "text/html,*/*", false},
		"a bot":                   {"192.0.2.7:4711", "/api/v10/gateway", "*/*", false},
		"the API in a browser":    {"192.0.2.7:4711", "/api/v10/gateway", "text/html,*/*", false},
		"the authority":           {"192.0.2.7:4711", "/ca.pem", "text/html,*/*", false},
		"a challenge":             {"192.0.2.7:4711", "/.well-known/acme-challenge/x", "text/html", false},
	} {
		r, err := http.NewRequest("GET", "http://192.0.2.1:8443"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = c.from
		r.Header.Set("Accept", c.accept)
		if needsSecure(r) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
		r.Header.Set("X-Forwarded-Proto", "https")
		if needsSecure(r) {
			t.Errorf("%s: sent round in circles behind a proxy", name)
		}
	}
}

func TestPublicNameBesideOurOwn(t *testing.T) {
	v, err := vouch(t.TempDir(), "voice.example.org", func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} })
	if err != nil {
		t.Fatal(err)
	}
	c := v.config()
	if !slices.Contains(c.NextProtos, "acme-tls/1") || slices.Contains(c.NextProtos, "h2") {
		t.Errorf("protocols %v", c.NextProtos)
	}
	// Whoever comes by the address of the LAN gets the certificate of the house.
	cert, err := c.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || cert.Leaf.VerifyHostname("192.0.2.1") != nil {
		t.Errorf("certificate for the LAN: %v", err)
	}
	// A challenge never asked for is refused and does not reach the page.
	page := v.plain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page") }))
	if w := ask(page, "/.well-known/acme-challenge/unknown", nil); w.Code == http.StatusOK {
		t.Errorf("unknown challenge: %d %s", w.Code, w.Body)
	}
	if w := ask(page, "/", nil); w.Body.String() != "page" {
		t.Errorf("page: %d %s", w.Code, w.Body)
	}
}
