package sfutest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/sfuserver"
)

// Timeout is how long anything here waits before the test fails.
const Timeout = 15 * time.Second

// Listen opens n dual-stack media sockets on free ports, closed at the end of
// the test.
func Listen(t testing.TB, n int) []*net.UDPConn {
	t.Helper()
	var list []*net.UDPConn
	for range n {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		list = append(list, c)
	}
	return list
}

// Serve runs an engine on sockets and returns the agent's end of its stream.
// The engine ends with the stream, at the latest with the test; ended is closed
// then.
func Serve(t testing.TB, sockets []*net.UDPConn) (stream io.ReadWriteCloser, ended <-chan struct{}) {
	t.Helper()
	ours, theirs := net.Pipe()
	log := slog.New(slog.NewTextHandler(writer{t}, nil))
	s, err := sfuserver.New(sfuserver.Config{Stream: theirs, Sockets: sockets, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(context.Background()); err != nil {
			t.Errorf("engine: %v", err)
		}
	}()
	t.Cleanup(func() {
		ours.Close()
		<-done
	})
	return ours, done
}

// writer logs to the test.
type writer struct{ t testing.TB }

func (w writer) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// Engine drives a media engine over its stream. Calls are safe for concurrent
// use.
type Engine struct {
	Started  sfu.Started
	Ended    []sfu.PastEnd // as Adopted has it
	ProbeKey sfu.ProbeKey  // too

	stream io.ReadWriteCloser
	ended  <-chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	enc     *sfu.Encoder
	seq     uint64
	waiting map[uint64]chan sfu.Event
	facts   []sfu.Event
	changed chan struct{} // closed and replaced when a fact comes
}

// Start runs an engine with so many workers on loopback.
func Start(t testing.TB, workers int, start sfu.Start) *Engine {
	t.Helper()
	return Attach(t, Listen(t, workers), start)
}

// Attach runs an engine on sockets and starts it. Without addresses to advertise
// it is reached on loopback.
func Attach(t testing.TB, sockets []*net.UDPConn, start sfu.Start) *Engine {
	t.Helper()
	stream, ended := Serve(t, sockets)
	if len(start.Advertise) == 0 {
		start.Advertise = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	return Drive(t, stream, ended, sfu.Command{Start: &start})
}

// Drive is the agent of an engine that runs already, beginning with a Start or
// an Adopt. The engine closes ended, if it does.
func Drive(t testing.TB, stream io.ReadWriteCloser, ended <-chan struct{}, first sfu.Command) *Engine {
	t.Helper()
	e := &Engine{
		stream: stream, ended: ended, enc: sfu.NewEncoder(stream),
		waiting: make(map[uint64]chan sfu.Event), changed: make(chan struct{}),
	}
	go e.read()
	ev, err := e.Do(first)
	switch {
	case err != nil:
		t.Fatal(err)
	case ev.Adopted != nil:
		e.Started, e.Ended, e.ProbeKey = ev.Adopted.Started, ev.Adopted.Ended, ev.Adopted.ProbeKey
	default:
		e.Started = *ev.Started
	}
	return e
}

// Die closes the stream as the death of an agent does; the engine may live on.
func (e *Engine) Die() { e.stream.Close() }

// Stop ends the engine as the death of its agent would, and waits for it.
func (e *Engine) Stop() {
	e.stream.Close()
	<-e.ended
}

func (e *Engine) read() {
	dec := sfu.NewDecoder(e.stream)
	for {
		var ev sfu.Event
		if dec.Decode(&ev) != nil {
			return
		}
		e.mu.Lock()
		if ev.Seq != 0 {
			e.waiting[ev.Seq] <- ev
			delete(e.waiting, ev.Seq)
		} else {
			e.facts = append(e.facts, ev)
			close(e.changed)
			e.changed = make(chan struct{})
		}
		e.mu.Unlock()
	}
}

// Do sends a command and waits for its answer.
func (e *Engine) Do(c sfu.Command) (sfu.Event, error) {
	answer := make(chan sfu.Event, 1)
	e.mu.Lock()
	e.seq++
	c.Seq = e.seq
	e.waiting[c.Seq] = answer
	err := e.enc.Encode(&c)
	e.mu.Unlock()
	if err != nil {
		return sfu.Event{}, err
	}
	select {
	case ev := <-answer:
		if ev.Err != nil {
			return ev, ev.Err
		}
		return ev, nil
	case <-time.After(Timeout):
		return sfu.Event{}, context.DeadlineExceeded
	}
}

// Open opens a session that may speak.
func (e *Engine) Open(session sfu.SessionID, call sfu.CallID, user sfu.UserID) (*sfu.Opened, error) {
	ev, err := e.Do(sfu.Command{Open: &sfu.Open{Session: session, Call: call, User: user, Rights: sfu.Rights{Speak: true}}})
	return ev.Opened, err
}

// Negotiate answers an offer.
func (e *Engine) Negotiate(session sfu.SessionID, offer string) (*sfu.Negotiated, error) {
	ev, err := e.Do(sfu.Command{Negotiate: &sfu.Negotiate{Session: session, Offer: offer}})
	return ev.Negotiated, err
}

// Update changes a session.
func (e *Engine) Update(u sfu.Update) error {
	_, err := e.Do(sfu.Command{Update: &u})
	return err
}

// Close ends a session.
func (e *Engine) Close(session sfu.SessionID) error {
	_, err := e.Do(sfu.Command{Close: &sfu.Close{Session: session}})
	return err
}

// Restore gives the engine a session of another.
func (e *Engine) Restore(s *sfu.Snapshot) error {
	_, err := e.Do(sfu.Command{Restore: s})
	return err
}

// Facts is all that was told so far but answers.
func (e *Engine) Facts() []sfu.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.facts[:len(e.facts):len(e.facts)]
}

// Await waits for a fact, past or to come, that match accepts.
func (e *Engine) Await(t testing.TB, what string, match func(sfu.Event) bool) sfu.Event {
	t.Helper()
	deadline := time.After(Timeout)
	for at := 0; ; {
		e.mu.Lock()
		facts, changed := e.facts, e.changed
		e.mu.Unlock()
		for ; at < len(facts); at++ {
			if match(facts[at]) {
				return facts[at]
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
