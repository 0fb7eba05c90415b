package generator

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/remote"
	"voicefleet/internal/bus"
)

// TestMain is the child process, too.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_CHILD") == "1" {
		args := strings.Join(os.Args[1:], " ")
		err := child.Serve(context.Background(), os.Stdin, os.Stdout, map[string]child.Verb{
			"args": child.On(func(context.Context, struct{}) (string, error) { return args, nil }),
		})
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestTowards(t *testing.T) {
	for _, c := range []struct{ bus, want, fails string }{
		{bus: "nats://127.0.0.1:4222", want: "127.0.0.1"},
		{bus: "nats://secret@127.0.0.1:4222,nats://192.0.2.1:4222", want: "127.0.0.1"},
		{bus: "127.0.0.1:4222", fails: "nats://HOST:4222"},
		{bus: "nats://", fails: "nats://HOST:4222"},
	} {
		got, err := towards(c.bus)
		switch {
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%+v: %v", c, err)
		case c.fails == "" && (err != nil || got.String() != c.want):
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	if err := remote.CheckName(OwnName()); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	self := []string{os.Args[0]}
	for text, c := range map[string]Config{
		"voicefleet bus":    {Self: self},
		"no program":        {Bus: "nats://127.0.0.1:4222"},
		"letters, digits":   {Bus: "nats://127.0.0.1:4222", Self: self, Name: "a b"},
		"nats://HOST:4222":  {Bus: "here", Self: self},
		"a NATS server ans": {Bus: "nats://127.0.0.1:1", Self: self, Wait: 100 * time.Millisecond},
	} {
		if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want %q in it", err, text)
		}
	}
}

// TestRun is the coordinator of a generator over a real socket.
func TestRun(t *testing.T) {
	t.Setenv("BENCH_CHILD", "1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: t.TempDir(), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := bus.Connect(ctx, bus.Config{URL: server.URL(), Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	running, stop := context.WithCancel(ctx)
	ended, ready := make(chan error, 1), make(chan netip.Addr, 1)
	go func() {
		ended <- Run(running, Config{
			Bus: server.URL(), Name: "east1", Self: []string{os.Args[0], "role"},
			Ready: func(_ string, host netip.Addr) { ready <- host },
		})
	}()
	if host := <-ready; host != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("clients at %v", host)
	}
	var g *remote.Generator
	for g == nil { // until it is announced and serves
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		g, err = remote.Dial(ctx, conn, "east1", "desk")
	}
	if i := g.Info(); i.Name != "east1" || i.Host != "127.0.0.1" || i.Machine.Cores < 1 {
		t.Errorf("%+v", i)
	}
	var args string
	if err := g.Call(ctx, "args", nil, &args); err != nil || args != "role generator 127.0.0.1" {
		t.Errorf("%q, %v", args, err)
	}
	if err := g.Close(ctx); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
