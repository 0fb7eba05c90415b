package sfuserver_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"voicefleet/internal/stunprobe"
	"voicefleet/sfu"
	"voicefleet/sfu/sfuserver"
	"voicefleet/sfu/sfutest"
)

// orphanage runs an engine that waits for agents.
func orphanage(t *testing.T, start sfu.Start) (first *sfutest.Engine, agents chan io.ReadWriteCloser, ended chan struct{}) {
	t.Helper()
	ours, theirs := net.Pipe()
	agents, ended = make(chan io.ReadWriteCloser), make(chan struct{})
	s, err := sfuserver.New(sfuserver.Config{Stream: theirs, Sockets: sfutest.Listen(t, 2), NextAgent: func(ctx context.Context) (io.ReadWriteCloser, error) {
		select {
		case a := <-agents:
			return a, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("engine: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		ours.Close()
		<-ended
	})
	start.Advertise = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	return sfutest.Drive(t, ours, ended, sfu.Command{Start: &start}), agents, ended
}

// adopt is the next agent.
func adopt(t *testing.T, agents chan io.ReadWriteCloser, ended chan struct{}) *sfutest.Engine {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	select {
	case agents <- theirs:
	case <-time.After(sfutest.Timeout):
		t.Fatal("the engine waits for no agent")
	}
	return sfutest.Drive(t, ours, ended, sfu.Command{Adopt: &sfu.Adopt{Advertise: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}})
}

// TestAdopted lets the agent of a call die, twice. Nobody in the call misses a
// packet, and the next agent learns all there is to know.
func TestAdopted(t *testing.T) {
	first, agents, ended := orphanage(t, sfu.Start{})
	a := sfutest.Dial(t, first, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1)})
	b := sfutest.Dial(t, first, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2)})
	c := sfutest.Dial(t, first, sfutest.Peer{Session: "c", Call: sfutest.Call(8), User: sfutest.User(3)})
	if _, err := first.Do(sfu.Command{Open: &sfu.Open{Session: "half", Call: sfutest.Call(8), User: sfutest.User(4), Keep: []byte("a note")}}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []sfu.SessionID{"gone", "past"} {
		if _, err := first.Open(id, sfutest.Call(8), sfutest.User(5)); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close("past"); err != nil {
		t.Fatal(err)
	}
	yes := true
	if err := first.Update(sfu.Update{Session: "c", SelfDeaf: &yes, Muted: &[]sfu.UserID{sfutest.User(9)}, Rights: &sfu.Rights{Speak: true, Priority: true}}); err != nil {
		t.Fatal(err)
	}
	defer talk(t, a, 'a')()
	awaitVoices(t, b, time.Time{}, 20, 'a')
	first.Die()
	awaitVoices(t, b, time.Now(), 20, 'a') // without an agent
	second := adopt(t, agents, ended)
	awaitVoices(t, b, time.Now(), 10, 'a')

	held, snapshots := map[sfu.SessionID]*sfu.Held{}, map[sfu.SessionID]*sfu.Snapshot{}
	for _, ev := range second.Facts() {
		if ev.Held != nil {
			held[ev.Held.Open.Session] = ev.Held
		}
		if s := ev.Snapshot; s != nil {
			if held[s.Open.Session] == nil {
				t.Errorf("a snapshot of %s before it is held", s.Open.Session)
			}
			snapshots[s.Open.Session] = s
		}
	}
	if len(held) != 5 || len(snapshots) != 3 || len(second.Started.Ports) != 2 || second.Started.Fingerprint != first.Started.Fingerprint {
		t.Fatalf("%d held, %d snapshots, %+v", len(held), len(snapshots), second.Started)
	}
	if h := held["a"]; !h.Connected || !h.Negotiated || !h.Speaking || h.SSRC != a.Opened.SSRC || h.Port != a.Opened.Port || h.Open.Call != sfutest.Call(7) {
		t.Errorf("held %+v", h)
	}
	if h := held["b"]; len(h.Seats) != 1 || h.Seats[0].User != sfutest.User(1) || h.Seats[0].SSRC != a.Opened.SSRC || h.Seats[0].MID != b.Slots[0].MID {
		t.Errorf("held %+v", h)
	}
	if h := held["c"]; !h.SelfDeaf || len(h.Muted) != 1 || h.Muted[0] != sfutest.User(9) || !h.Open.Rights.Priority {
		t.Errorf("held %+v", h)
	}
	if h := held["half"]; h.Connected || h.Negotiated || string(h.Open.Keep) != "a note" {
		t.Errorf("held %+v", h)
	}
	if len(second.Ended) != 1 || second.Ended[0].Session != "past" || second.Ended[0].Reason != sfu.EndClosed {
		t.Errorf("ended %+v", second.Ended)
	}

	// The new agent has all powers of the old one, and may die as well.
	if err := second.Close("half"); err != nil {
		t.Error(err)
	}
	if err := second.Close("gone"); err != nil {
		t.Error(err)
	}
	if _, err := second.Open("new", sfutest.Call(9), sfutest.User(9)); err != nil {
		t.Error(err)
	}
	if _, err := second.Do(sfu.Command{Start: &sfu.Start{}}); err == nil {
		t.Error("started again")
	}
	second.Die()
	third := adopt(t, agents, ended)
	if len(third.Ended) != 3 || !third.Ended[2].Unheard {
		t.Errorf("ended %+v", third.Ended)
	}
	awaitVoices(t, b, time.Now(), 10, 'a')
	if n := len(c.Heard()); n != 0 {
		t.Errorf("c heard %d packets", n)
	}
	gapless(t, b)

	// With the last session the engine ends, if no agent is there.
	for _, id := range []sfu.SessionID{"a", "c", "new"} {
		if err := third.Close(id); err != nil {
			t.Error(err)
		}
	}
	third.Die()
	select {
	case <-ended:
		t.Fatal("ended with a session")
	case <-time.After(50 * time.Millisecond):
	}
	fourth := adopt(t, agents, ended)
	if err := fourth.Close("b"); err != nil {
		t.Error(err)
	}
	fourth.Die()
	select {
	case <-ended:
	case <-time.After(sfutest.Timeout):
		t.Error("lives on without agent and session")
	}
}

// TestDeserted ends an engine that loses its agent when it has no session left.
func TestDeserted(t *testing.T) {
	first, _, ended := orphanage(t, sfu.Start{})
	if _, err := first.Open("idle", sfutest.Call(1), sfutest.User(1)); err != nil {
		t.Fatal(err)
	}
	if err := first.Close("idle"); err != nil {
		t.Fatal(err)
	}
	first.Die()
	select {
	case <-ended:
	case <-time.After(sfutest.Timeout):
		t.Error("lives on")
	}
}

// TestProbesWithoutAnAgent asks an engine whose agent is dead whether it lives,
// as allocators do before they move its calls; and the next agent goes on with
// the key that they know.
func TestProbesWithoutAnAgent(t *testing.T) {
	key := sfu.NewProbeKey()
	first, agents, ended := orphanage(t, sfu.Start{ProbeKey: key})
	sfutest.Dial(t, first, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1)})
	ask := func(key sfu.ProbeKey, wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		ufrag, pwd := sfu.FleetProbe(time.Now()).Credentials(key)
		var ports []netip.AddrPort
		for _, p := range first.Started.Ports {
			ports = append(ports, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p))
		}
		_, err := stunprobe.Probe(ctx, stunprobe.Insistent, ports, ufrag, pwd)
		return err
	}
	if err := ask(key, sfutest.Timeout); err != nil {
		t.Error(err)
	}
	if ask(sfu.NewProbeKey(), 200*time.Millisecond) == nil {
		t.Error("an answer under another key")
	}
	first.Die()
	if err := ask(key, sfutest.Timeout); err != nil {
		t.Errorf("without an agent: %v", err)
	}
	second := adopt(t, agents, ended)
	if !bytes.Equal(second.ProbeKey, key) {
		t.Errorf("the key is %x, was %x", second.ProbeKey, key)
	}
	if err := ask(key, sfutest.Timeout); err != nil {
		t.Errorf("with the next agent: %v", err)
	}
}
