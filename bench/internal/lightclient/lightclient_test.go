package lightclient_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/pionforward"
)

// startEngine runs an engine until the test ends.
func startEngine(t *testing.T, config lightclient.Config) *lightclient.Engine {
	t.Helper()
	config.Host = netip.MustParseAddr("127.0.0.1")
	e, err := lightclient.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return e
}

// room connects talkers and listeners through a stock pion forwarder, a full ICE
// agent that sends checks of its own.
func room(t *testing.T, e *lightclient.Engine, talkers, listeners int, sampled func(i int) bool) []*lightclient.Client {
	t.Helper()
	f, err := pionforward.New(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close forwarder: %v", err)
		}
	})
	if err := f.Talkers("room", talkers); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var mu sync.Mutex
	clients := make([]*lightclient.Client, talkers+listeners)
	group, ctx := errgroup.WithContext(ctx)
	for i := range clients {
		group.Go(func() error {
			c, err := e.Add(talkers, sampled(i))
			if err != nil {
				return err
			}
			answer, err := f.Join(ctx, "room", i, c.Offer())
			if err != nil {
				return err
			}
			if _, err := c.Connect(ctx, answer); err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
			mu.Lock()
			clients[i] = c
			mu.Unlock()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return clients
}

// TestCountsThroughPion has 2 of 5 talk through a stock pion forwarder and counts
// every packet: what is authenticated is what was sent.
func TestCountsThroughPion(t *testing.T) {
	const small, size, warm, window, tail = 40, 100, 25, 50, 5
	e := startEngine(t, lightclient.Config{VoiceSize: size + 12})
	clients := room(t, e, 2, 3, func(i int) bool { return i != 4 })
	talkers := []lightclient.Talker{{Client: clients[0], ID: 0}, {Client: clients[1], ID: 1, Phase: 10 * time.Millisecond}}
	spoken, err := e.Talk(t.Context(), talkers, lightclient.Speech{
		Start: time.Now(), Warm: warm, Window: window, Tail: tail, SmallSize: small, Size: size,
	})
	if err != nil {
		t.Fatal(err)
	}
	if spoken.Voice != 2*window || spoken.Failed != 0 {
		t.Fatalf("spoke %+v", spoken)
	}
	const pairs = 2*3 + 2 // each listener hears both, the talkers each other
	deadline := time.Now().Add(5 * time.Second)
	for e.Total().Voice < pairs*window && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	for i, c := range clients {
		n := c.Counts()
		want := uint64(2 * window)
		if i < 2 {
			want = window
		}
		if n.Voice != want || n.Unknown != 0 || n.Lost != 0 || n.Late != 0 || n.Refused != 0 {
			t.Errorf("client %d: %+v, want %d", i, n, want)
		}
		if i == 4 {
			if n.Opened != 0 {
				t.Errorf("client 4 is not sampled, but opened %d", n.Opened)
			}
			continue
		}
		for talker := range uint16(2) {
			heard := uint64(window)
			if i == int(talker) {
				heard = 0
			}
			if n.Marks[talker] != heard {
				t.Errorf("client %d: %d marks of talker %d, want %d", i, n.Marks[talker], talker, heard)
			}
		}
	}
	latency := e.Reset()
	if n := latency.TotalCount(); n != (pairs-2)*window {
		t.Errorf("%d latencies, want %d", n, (pairs-2)*window)
	}
	if p50 := time.Duration(latency.ValueAtPercentile(50)); p50 <= 0 || p50 > 500*time.Millisecond {
		t.Errorf("median latency %v", p50)
	}
	if n := e.Total(); n.Voice != 0 {
		t.Errorf("%+v after reset", n)
	}
}
