package oneport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
)

// start splits a loopback listener and stops it when the test ends.
func start(t *testing.T, cfg Config) *Splitter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		goleak.VerifyNone(t, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
	})
	return s
}

func dial(t *testing.T, s *Splitter) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.from.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func refusals(t *testing.T, s *Splitter, reason string) float64 {
	t.Helper()
	var m dto.Metric
	if err := s.refused.WithLabelValues(reason).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestHTTPAndHTTPSOnOnePort(t *testing.T) {
	s := start(t, Config{})
	pair := httptest.NewUnstartedServer(nil) // for its certificate
	pair.StartTLS()
	defer pair.Close()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			io.WriteString(w, "secure")
			return
		}
		io.WriteString(w, "plain")
	})}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(s.Plain()) }()
	go func() { ended <- server.Serve(tls.NewListener(s.Secure(), pair.TLS)) }()
	client := pair.Client()
	for _, scheme := range []string{"http", "https"} {
		resp, err := client.Get(scheme + "://" + s.from.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := map[string]string{"http": "plain", "https": "secure"}[scheme]
		if string(body) != want {
			t.Errorf("%s answered %q, want %q", scheme, body, want)
		}
	}
	client.CloseIdleConnections()
	server.Close()
	for range 2 {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve ended with %v", err)
		}
	}
}

func TestSilentConnectionIsClosed(t *testing.T) {
	s := start(t, Config{SniffTimeout: 20 * time.Millisecond})
	c := dial(t, s)
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("silent connection: %v, want EOF", err)
	}
	if n := refusals(t, s, "silent"); n != 1 {
		t.Errorf("silent counted %v, want 1", n)
	}
}

// accept takes the next plain connection and reads its first byte.
func accept(t *testing.T, s *Splitter) string {
	t.Helper()
	c, err := s.Plain().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPendingConnectionsAreBounded(t *testing.T) {
	for name, cfg := range map[string]Config{
		"pending":        {Pending: 2, Waiting: 1, SniffTimeout: time.Hour, PressedTimeout: time.Hour},
		"pending_prefix": {PendingPerPrefix: 2, WaitingPerPrefix: 1, SniffTimeout: time.Hour, PressedTimeout: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, cfg)
			dial(t, s)
			second := dial(t, s)
			third := dial(t, s)
			third.Write([]byte("W")) // waits
			fourth := dial(t, s)
			fourth.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := fourth.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Fatalf("fourth connection: %v, want it closed", err)
			}
			if n := refusals(t, s, name); n != 1 {
				t.Errorf("%s counted %v, want 1", name, n)
			}
			// The one that waited gets the place of one that has spoken.
			second.Write([]byte("G"))
			if got := accept(t, s) + accept(t, s); got != "GW" && got != "WG" {
				t.Errorf("accepted %q, want G and W", got)
			}
			fifth := dial(t, s)
			fifth.Write([]byte("P"))
			if got := accept(t, s); got != "P" {
				t.Errorf("first byte came as %q", got)
			}
			var m dto.Metric
			if err := s.waited.Write(&m); err != nil || m.GetCounter().GetValue() != 1 {
				t.Errorf("%v waited, want 1 (%v)", m.GetCounter().GetValue(), err)
			}
		})
	}
}

// TestCrowdBehindOneAddress: more people than there are places come at once;
// all get in, though silent connections hold every place at first.
func TestCrowdBehindOneAddress(t *testing.T) {
	s := start(t, Config{PendingPerPrefix: 8, SniffTimeout: time.Hour, PressedTimeout: time.Second}) // also who has spoken waits for the processor
	for range 8 {
		dial(t, s)
	}
	const crowd = 200
	for range crowd {
		if _, err := dial(t, s).Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
	}
	for range crowd {
		if got := accept(t, s); got != "G" {
			t.Fatalf("first byte came as %q", got)
		}
	}
	for _, reason := range []string{"pending", "pending_prefix"} {
		if n := refusals(t, s, reason); n != 0 {
			t.Errorf("%v refused as %s", n, reason)
		}
	}
}

// TestEndWhileOthersWait: Run ends whatever waits.
func TestEndWhileOthersWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(l, Config{PendingPerPrefix: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conns := []net.Conn{dial(t, s), dial(t, s), dial(t, s)}
	var m dto.Metric
	for m.GetCounter().GetValue() < 2 { // two wait
		if err := s.waited.Write(&m); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("after the end: %v, want it closed", err)
		}
	}
}

func TestPrefix(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7:1":           "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1":  "192.0.2.7/32",
		"[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":      "fe80::/64",
	} {
		got := prefixOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(in)))
		if got.String() != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
