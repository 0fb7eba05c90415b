package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/oneport"
)

const (
	// headerTime is how long a client may take for the head of a request, and
	// for its TLS handshake.
	headerTime = 5 * time.Second
	// requestTime is how long it may take for the whole: an image over a slow
	// line. WebSockets have left the server's hands by then.
	requestTime = 60 * time.Second
	idleTime    = 2 * time.Minute
	maxHeader   = 16 << 10
	// lastRequests is what requests under way get when the program ends.
	lastRequests = time.Second
)

// door is the one TCP port of the control side: http and https, told apart by
// the first byte.
type door struct {
	split  *oneport.Splitter
	vouch  *vouching
	server *http.Server
}

func openDoor(l net.Listener, v *vouching, h http.Handler, metrics prometheus.Registerer, log *slog.Logger) (*door, error) {
	split, err := oneport.New(l, oneport.Config{Metrics: metrics})
	if err != nil {
		return nil, err
	}
	plain := v.plain(h)
	d := &door{split: split, vouch: v}
	d.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.TLS != nil:
				h.ServeHTTP(w, r)
			case needsSecure(r):
				// Temporary: the browser must not remember it for localhost.
				http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			default:
				plain.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      requestTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		// Strangers' broken handshakes are not news.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return d, nil
}

// run serves until ctx ends. Open WebSockets are not waited for: they belong to
// the rooms.
func (d *door) run(ctx context.Context) error {
	ended := make(chan error, 3)
	own, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- d.split.Run(own) }()
	go func() { ended <- d.server.Serve(d.split.Plain()) }()
	go func() { ended <- d.server.Serve(tls.NewListener(d.split.Secure(), d.vouch.config())) }()
	var failure error
	left := 3
	select {
	case <-ctx.Done():
	case err := <-ended:
		left--
		failure = fmt.Errorf("serve the control port: %w", err)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
	defer cancel()
	if d.server.Shutdown(grace) != nil {
		d.server.Close()
	}
	stop()
	for range left {
		if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) && failure == nil && ctx.Err() == nil {
			failure = fmt.Errorf("serve the control port: %w", err)
		}
	}
	return failure
}

// isVoice says whether a request is for the voice gateway: bots dial the bare
// host and port, so it answers upgrades on "/".
func isVoice(r *http.Request) bool {
	return (r.URL.Path == "/" || r.URL.Path == "") && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// needsSecure says whether a person is opening the page by http from elsewhere,
// as browsers do with a bare address: they would get a page without microphone.
// Programs, this PC and whatever stands behind a proxy are left alone, and so is
// the authority's certificate, which has to be had before https is trusted.
func needsSecure(r *http.Request) bool {
	if r.Method != http.MethodGet || r.URL.Path == "/ca.pem" || !strings.Contains(r.Header.Get("Accept"), "text/html") || r.Header.Get("X-Forwarded-Proto") != "" {
		return false
	}
	if strings.HasPrefix(r.URL.Path, "/.well-known/") || strings.HasPrefix(r.URL.Path, "/api/") {
		return false
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && !from.Addr().Unmap().IsLoopback() && r.Host != ""
}
