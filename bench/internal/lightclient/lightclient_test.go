package lightclient_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/pionforward"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startEngine runs an engine until the test ends.
func startEngine(t *testing.T, config lightclient.Config) *lightclient.Engine {
	t.Helper()
	if !config.Host.IsValid() {
		config.Host = netip.MustParseAddr("127.0.0.1")
	}
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
			c, err := e.Add(lightclient.Seat{Slots: talkers, Sampled: sampled(i)})
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
// every packet: what is authenticated is what was sent. Once with addresses of
// loopback, once with a socket for each client.
func TestCountsThroughPion(t *testing.T) {
	for name, host := range map[string]string{"shared socket": "127.0.0.1", "own sockets": "0.0.0.0"} {
		t.Run(name, func(t *testing.T) { countThroughPion(t, netip.MustParseAddr(host)) })
	}
}

func countThroughPion(t *testing.T, host netip.Addr) {
	const small, size, warm, window, tail = 40, 100, 25, 50, 5
	e := startEngine(t, lightclient.Config{Host: host, VoiceSize: size + 12})
	clients := room(t, e, 2, 3, func(i int) bool { return i != 4 })
	start := time.Now().Add(50 * time.Millisecond)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * lightclient.FrameInterval) }
	for _, c := range clients {
		c.Judge(meter.Config{From: at(warm), To: at(warm + window)})
	}
	for i := range uint32(2) {
		talk := lightclient.Talk{
			ID: i, Start: start.Add(time.Duration(i) * 10 * time.Millisecond), Stop: at(warm + window + tail),
			From: at(warm), To: at(warm + window), SmallSize: small, Size: size, Voice: lightclient.Filler,
		}
		if err := clients[i].Talk(talk); err != nil {
			t.Fatal(err)
		}
		for k, c := range clients {
			if k != int(i) {
				c.Expect(i, talk.Spans(0, time.Time{}))
			}
		}
	}
	const pairs = 2*3 + 2 // each listener hears both, the talkers each other
	deadline, look := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for n := e.Total(); n.Voice < pairs*window || n.Other < pairs*(warm+tail-5); n = e.Total() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("heard %+v", n)
		}
	}
	if p := e.Pace(); p.Voice != 2*window || p.Failed != 0 || p.SocketDrops != 0 || p.ReaderBusy <= 0 || p.PacerBusy <= 0 || p.Busy < p.ReaderBusy {
		t.Errorf("pace %+v", p)
	}
	for i, c := range clients {
		n := c.Counts()
		want := uint64(2 * window)
		if i < 2 {
			want = window
		}
		if n.Voice != want || n.Unknown != 0 || n.Lost != 0 || n.Late != 0 || n.Duplicates != 0 || n.Refused != 0 {
			t.Errorf("client %d: %+v, want %d", i, n, want)
		}
		heard := c.Heard()
		if i == 4 {
			if n.Opened != 0 {
				t.Errorf("client 4 is not sampled, but opened %d", n.Opened)
			}
			continue
		}
		if heard.Expected != want || heard.Received != want || heard.Lost != 0 || uint64(heard.Latency.Count()) != want {
			t.Errorf("client %d expected %d, heard %d, lost %d, %d latencies; want %d", i, heard.Expected, heard.Received, heard.Lost, heard.Latency.Count(), want)
		}
		if p50 := heard.Latency.Quantile(0.5); p50 <= 0 || p50 > 500*time.Millisecond {
			t.Errorf("client %d: median latency %v", i, p50)
		}
	}
	if sum := e.Heard(); sum.Received != (pairs-2)*window {
		t.Errorf("all together heard %d", sum.Received)
	}
	e.Reset()
	if n := e.Total(); n.Voice != 0 {
		t.Errorf("%+v after reset", n)
	}
}

// TestConnectRefuses holds that a client tells what is wrong with an answer, and
// gives up on a server that does not answer.
func TestConnectRefuses(t *testing.T) {
	e := startEngine(t, lightclient.Config{})
	answer := func(lines ...string) string {
		return "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" + strings.Join(lines, "\r\n") + "\r\n"
	}
	const (
		ufrag       = "a=ice-ufrag:abcd"
		pwd         = "a=ice-pwd:abcdefghijklmnopqrstuv"
		fingerprint = "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"
		candidate   = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host"
	)
	for _, c := range []struct{ sdp, want string }{
		{"", "0 sections to an offer of 2"},
		{"m=audio\n", "1 sections to an offer of 2"},
		{answer(), "without ICE credentials"},
		{answer(ufrag, pwd), "without a sha-256 fingerprint"},
		{answer(ufrag, pwd, "a=fingerprint:sha-1 00:11"), "without a sha-256 fingerprint"},
		{answer(ufrag, pwd, fingerprint), "without a UDP candidate"},
		{answer(ufrag, pwd, fingerprint, "a=candidate:1 1 tcp 1 127.0.0.1 9 typ host", "a=candidate:1 1 udp 1 ::1 9 typ host", "a=candidate:1 1 udp 1 x 9 typ host"), "without a UDP candidate"},
		{strings.Repeat("a", 70<<10), "at most"},
		{answer(ufrag, pwd, fingerprint, candidate), "no answer to STUN checks"},
	} {
		client, err := e.Add(lightclient.Seat{Slots: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := client.Connect(ctx, c.sdp); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %q", c.sdp, err, c.want)
		}
		cancel()
		client.Close()
		client.Close()
	}
}

// TestWrongCertificate holds that the fingerprint of the answer is the proof.
func TestWrongCertificate(t *testing.T) {
	e := startEngine(t, lightclient.Config{})
	f, err := pionforward.New(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Talkers("room", 1); err != nil {
		t.Fatal(err)
	}
	c, err := e.Add(lightclient.Seat{Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := f.Join(t.Context(), "room", 1, c.Offer())
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(answer, "a=fingerprint:sha-256 ") + len("a=fingerprint:sha-256 ")
	forged := answer[:at] + "00:00" + answer[at+5:]
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Connect(ctx, forged); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}

// TestTellAndRetire has one client listen by a function of its own, watch its path, and
// leave it: from then on it sends nothing and still counts what comes.
func TestTellAndRetire(t *testing.T) {
	const frames = 50
	e := startEngine(t, lightclient.Config{})
	clients := room(t, e, 1, 1, func(int) bool { return true })
	talker, listener := clients[0], clients[1]
	told := make(chan mark.Mark, 4*frames)
	listener.Tell(func(m mark.Mark, _ time.Time) { told <- m })
	listener.Watch()
	begun := time.Now()
	if err := talker.Talk(lightclient.Talk{ID: 7, Start: begun, Voice: lightclient.Filler, SmallSize: 60, Size: 60}); err != nil {
		t.Fatal(err)
	}
	hear := func(n int) {
		t.Helper()
		for range n {
			select {
			case m := <-told:
				if m.Talker != 7 {
					t.Fatalf("told %+v", m)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("nothing is told")
			}
		}
	}
	hear(frames)
	if n, last := listener.Received(); n < frames || last.Before(begun) {
		t.Errorf("heard %d, the last at %v", n, last)
	}
	// Silence: it asks, and the answers count as hearing.
	talker.Hush()
	quiet := time.Now().Add(400 * time.Millisecond)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := quiet.Add(5 * time.Second); ; <-look.C {
		if _, last := listener.Received(); last.After(quiet) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no check was answered in silence")
		}
	}
	listener.Retire()
	before := listener.Counts().Opened
	if err := talker.Talk(lightclient.Talk{ID: 7, Start: time.Now(), Voice: lightclient.Filler, SmallSize: 60, Size: 60}); err != nil {
		t.Fatal(err)
	}
	hear(frames)
	if n := listener.Counts().Opened; n < before+frames {
		t.Errorf("%d packets were counted after it left", n-before)
	}
}
