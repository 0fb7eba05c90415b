package cql

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/textchat/textchattest"
)

var server textchattest.CQLServer

func TestMain(m *testing.M) {
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop CQL server:", err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
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
	return Config{Hosts: []string{server.Address(t)}, Keyspace: keyspace, Timeout: 10 * time.Second}
}

func openAt(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestConform runs seeded histories against the model and this store, several at
// once on one keyspace.
func TestConform(t *testing.T) {
	s := openAt(t, patient(t, runKeyspace()))
	other := openAt(t, patient(t, runKeyspace()))
	t.Run("Histories", func(t *testing.T) {
		for seed := range uint64(8) {
			t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
				t.Parallel()
				textchattest.Differential(t, s, seed+1, 250)
			})
		}
	})
	t.Run("Rivals", func(t *testing.T) { textchattest.Rivals(t, 1000, s, other) })
}
