package cql

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/textchat/textchattest"
)

// server is quick for tests; benchmarks name another one, which is not.
var server textchattest.CQLServer

func TestMain(m *testing.M) {
	code := m.Run()
	if err := leave(); err != nil {
		fmt.Fprintln(os.Stderr, "remove the keyspaces of the run:", err)
		code = 1
	}
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop CQL server:", err)
		code = 1
	}
	// The driver leaves these behind when it could not connect at all.
	var known []goleak.Option
	for _, f := range []string{"/debounce.(*RefreshDebouncer).flusher", ".(*eventDebouncer).flusher", "/tablets.(*opQueue).next", "/internal/eventbus.(*EventBus[...]).run"} {
		known = append(known, goleak.IgnoreTopFunction("github.com/gocql/gocql"+f))
	}
	if err := goleak.Find(known...); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runKeyspace is one for this run of tests: the server may be anybody's.
var runKeyspace = sync.OnceValue(func() string {
	return strings.ToLower(fmt.Sprintf("voicefleet_test_%x", time.Now().UnixNano()))
})

// patient is a Config that waits longer: the tests share a machine with the server,
// whose code is not compiled yet.
func patient(t testing.TB, keyspace string) Config {
	t.Helper()
	address := server.Address(t)
	if !strings.HasPrefix(address, Scheme) {
		address = Scheme + address + "/of_the_run"
	}
	c, err := ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	c.Keyspace, c.Timeout = keyspace, 10*time.Second
	return c
}

// leave removes the run's keyspaces from a server that is somebody else's.
func leave() error {
	if used == nil || server.Pid() != 0 {
		return nil
	}
	session, err := used.cluster().CreateSession()
	if err != nil {
		return err
	}
	defer session.Close()
	for _, suffix := range []string{"", lwtSuffix} {
		if err := session.Query("DROP KEYSPACE IF EXISTS " + used.Keyspace + suffix).SetRequestTimeout(ddlTimeout).Exec(); err != nil {
			return err
		}
	}
	return nil
}

// used is how the run's keyspace was opened last.
var used *Config

func openAt(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	c.Log = slog.New(slog.DiscardHandler)
	used = &c
	t.Cleanup(func() { s.Close() })
	return s
}

// TestConform runs seeded histories against the model and this store, several at
// once on one keyspace.
func TestConform(t *testing.T) {
	s := openAt(t, patient(t, runKeyspace()))
	other := openAt(t, patient(t, runKeyspace()))
	t.Run("Histories", func(t *testing.T) {
		n, err := strconv.ParseUint(cmp.Or(os.Getenv("VOICEFLEET_HISTORIES"), "8"), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		for seed := range n {
			t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
				t.Parallel()
				textchattest.Differential(t, s, seed+1, 250)
			})
		}
	})
	t.Run("Rivals", func(t *testing.T) { textchattest.Rivals(t, 1000, s, other) })
}
