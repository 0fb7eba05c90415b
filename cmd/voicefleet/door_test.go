package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

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

	// A stranger's garbage gets an answer or an end, and disturbs nobody.
	for _, garbage := range []string{"\x16\x03\x01\x00\x05garbage", "GARBAGE\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, garbage)
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	if got := get(t, c, "https://"+l.Addr().String()+"/who"); got != "HTTP/1.1true" {
		t.Errorf("after garbage: %s", got)
	}
	tr.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
