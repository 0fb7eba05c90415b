package bus

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"voicefleet/internal/bus/bustest"
)

// asClient has this test's binary connect to the bus of that URL and wait to be
// killed.
const asClient = "VOICEFLEET_TEST_BUS"

func TestMain(m *testing.M) {
	bustest.Serve(serveForTest)
	if url := os.Getenv(asClient); url != "" {
		c, err := Connect(context.Background(), Config{URL: url, Name: ClientName(RoleEdge, "fra1")})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("connected", c.nc.Status())
		select {}
	}
	testMain(m)
}

type ending struct {
	name string
	at   time.Time
}

// hear collects what Disconnects tells.
func hear(t *testing.T, c *Conn) <-chan ending {
	t.Helper()
	told := make(chan ending, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Disconnects(ctx, c, func(name string, at time.Time) { told <- ending{name, at} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return told
}

// killable starts a process that is connected as edge fra1.
func killable(t *testing.T, url string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asClient+"="+url)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "connected") {
		t.Fatalf("the client says %q, error %v", line, err)
	}
	return cmd
}

// TestAKilledProcessIsToldAtOnce: SIGKILL leaves a process no good-bye; its
// kernel closes the connection, and the bus tells.
func TestAKilledProcessIsToldAtOnce(t *testing.T) {
	e, err := StartEmbedded(EmbeddedConfig{StoreDir: t.TempDir(), Port: bustest.FreePort(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	c, err := Connect(t.Context(), Config{Embedded: e, Name: ClientName(RoleCentral, "1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	told := hear(t, c)
	victim := killable(t, e.URL())
	began := time.Now()
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-told:
		took := time.Since(began)
		t.Logf("told %v after SIGKILL", took)
		if node, ok := NodeOf(got.name); !ok || node != "fra1" {
			t.Errorf("told of %q", got.name)
		}
		// A server that has to miss pings tells minutes later.
		if d := got.at.Sub(began); d < -time.Second || d > took+time.Second {
			t.Errorf("closed %v after the kill, by the server's clock", d)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
	}
}

// TestAServerThatShutsDownTellsNothing: its clients come back by themselves,
// quickly, and nobody is told that they had gone.
func TestAServerThatShutsDownTellsNothing(t *testing.T) {
	dir, port := t.TempDir(), bustest.FreePort(t)
	e, err := StartEmbedded(EmbeddedConfig{StoreDir: dir, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	url := e.URL()
	observer, err := Connect(t.Context(), Config{URL: url, Name: ClientName(RoleCentral, "1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(observer.Close)
	told := hear(t, observer)
	edge, err := Connect(t.Context(), Config{URL: url, Name: ClientName(RoleEdge, "fra1")})
	if err != nil {
		t.Fatal(err)
	}
	back, seen := edge.Reconnected(), observer.Reconnected()
	e.Shutdown()
	if e, err = StartEmbedded(EmbeddedConfig{StoreDir: dir, Port: port}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	began := time.Now()
	for _, c := range []<-chan struct{}{back, seen} {
		select {
		case <-c:
		case <-time.After(30 * time.Second):
			t.Fatal("a client is not back 30 s after the server")
		}
	}
	t.Logf("both are back %v after the server", time.Since(began))
	if err := observer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The next to be told of is one that really goes: nothing came before it.
	edge.Close()
	select {
	case got := <-told:
		if got.name != "edge fra1" {
			t.Errorf("told of %q", got.name)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was told of a client that went")
	}
	if len(told) != 0 {
		t.Errorf("told of %q, too", (<-told).name)
	}
}

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	// Guarded by mu.
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestASilentBusIsSaid: where servers tell of no disconnects the log says so.
func TestASilentBusIsSaid(t *testing.T) {
	e := startPlain(t)
	var log lines
	c, err := Connect(t.Context(), Config{URL: e, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	hear(t, c)
	for deadline := time.Now().Add(4 * probeWait); !strings.Contains(log.String(), "does not tell"); {
		if time.Now().After(deadline) {
			t.Fatalf("the log says %q", log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestNodeOf(t *testing.T) {
	for name, want := range map[string]string{"edge fra1": "fra1", "central fra1": "", "edge": "", "edge ": "", "": "", "edgefra1": ""} {
		if node, ok := NodeOf(name); ok != (want != "") || ok && node != want {
			t.Errorf("%q: %q, %v", name, node, ok)
		}
	}
	if node, ok := NodeOf(ClientName(RoleEdge, "fra1")); !ok || node != "fra1" {
		t.Errorf("round trip gives %q, %v", node, ok)
	}
}
