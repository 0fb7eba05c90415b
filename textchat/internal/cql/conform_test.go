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

	"github.com/anishathalye/porcupine"
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

// TestLinearizable holds what clients of two instances are told, who race for the same
// things, against all orders of it; in half of the histories the connections of one
// instance are cut.
func TestLinearizable(t *testing.T) {
	s := openAt(t, patient(t, runKeyspace()))
	c := patient(t, runKeyspace())
	cutter := textchattest.NewCutter(t, c.Hosts[0])
	if server.Pid() == 0 {
		t.Skip("the CQL server is somebody else's: its nodes are not reached through one port")
	}
	c.Hosts = []string{cutter.Addr()}
	cut := openAt(t, c)
	seed := uint64(newID() >> 22) // no two runs share names
	for n := range uint64(2) {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) { textchattest.Linearizable(t, seed+n, nil, cut, s) })
		t.Run(fmt.Sprintf("Cut/%d", n+1), func(t *testing.T) { textchattest.Linearizable(t, seed+2+n, cutter.Cut, cut, s) })
	}
}

// TestLeaseLinearizable has processes that want to migrate race for the lease: it is one's
// at a time, and who asks for more time gets it while it holds the lease.
func TestLeaseLinearizable(t *testing.T) {
	openAt(t, patient(t, runKeyspace()))
	c := patient(t, runKeyspace())
	session, err := c.cluster().CreateSession()
	must(t, err)
	defer session.Close()
	type act struct{ verb, holder string }
	var mu sync.Mutex
	var ops []porcupine.Operation
	begun := time.Now()
	do := func(client int, verb string, m *migrator, f func() (bool, error)) {
		call := time.Since(begun)
		held, err := f()
		if err != nil {
			t.Errorf("%s: %v", verb, err)
		}
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, porcupine.Operation{ClientId: client, Input: act{verb, m.holder}, Output: held, Call: call.Nanoseconds(), Return: time.Since(begun).Nanoseconds()})
	}
	var running sync.WaitGroup
	for client := range 3 {
		running.Go(func() {
			for range 2 {
				m := &migrator{session: session, keyspace: runKeyspace()}
				do(client, "take", m, func() (bool, error) { return true, m.take(ctx) })
				do(client, "renew", m, func() (bool, error) { return m.renew(ctx) })
				do(client, "release", m, func() (bool, error) { return true, m.release(ctx) })
				do(client, "renew", m, func() (bool, error) { return m.renew(ctx) })
			}
		})
	}
	running.Wait()
	model := porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			holder, in := state.(string), input.(act)
			switch in.verb {
			case "take":
				return holder == "", in.holder
			case "renew":
				return output.(bool) == (holder == in.holder), holder
			}
			return holder == in.holder, ""
		},
	}
	if verdict := porcupine.CheckOperationsTimeout(model, ops, time.Minute); verdict != porcupine.Ok {
		t.Errorf("no order fits (%s): %+v", verdict, ops)
	}
}
