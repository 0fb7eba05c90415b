package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"voicefleet/bench"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/sfuserver"
)

// engine is a bare media engine in a child process as a server: what is left of a
// node without agent and bus.
type engine struct {
	cmd    *exec.Cmd
	stream *os.File
	enc    *sfu.Encoder
	read   chan struct{} // closed when the stream has ended

	mu sync.Mutex
	// Guarded by mu.
	seq     uint64
	waiting map[uint64]chan sfu.Event
	mint    snowflake.Mint
	rooms   map[int][]sfu.SessionID
}

// startEngine starts this test program as an engine.
func startEngine(t testing.TB) *engine {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "agent")
	media, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	socket, err := media.File()
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{
		stream: os.NewFile(uintptr(pair[0]), "engine"), read: make(chan struct{}),
		waiting: make(map[uint64]chan sfu.Event), rooms: make(map[int][]sfu.SessionID),
	}
	e.enc = sfu.NewEncoder(e.stream)
	e.cmd = exec.Command(os.Args[0], "engine")
	e.cmd.Env = append(os.Environ(), "BENCH_ROLE=engine")
	e.cmd.Stderr = os.Stderr
	e.cmd.ExtraFiles = []*os.File{theirs, socket}
	err = e.cmd.Start()
	_, _, _ = theirs.Close(), socket.Close(), media.Close()
	if err != nil {
		t.Fatal(err)
	}
	go e.readAll()
	t.Cleanup(func() {
		_ = syscall.Shutdown(int(e.stream.Fd()), syscall.SHUT_RDWR)
		<-e.read
		_ = e.stream.Close()
		if err := e.cmd.Wait(); err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	if _, err := e.do(t.Context(), sfu.Command{Start: &sfu.Start{Advertise: []netip.Addr{loopback}}}); err != nil {
		t.Fatal(err)
	}
	return e
}

// serveEngine is the child.
func serveEngine(ctx context.Context) error {
	stream := os.NewFile(3, "agent")
	socket, err := net.FilePacketConn(os.NewFile(4, "media"))
	if err != nil {
		return err
	}
	udp, ok := socket.(*net.UDPConn)
	if !ok {
		return errors.New("not a UDP socket")
	}
	runtime.GOMAXPROCS(2)
	s, err := sfuserver.New(sfuserver.Config{Stream: stream, Sockets: []*net.UDPConn{udp}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

func (e *engine) readAll() {
	defer close(e.read)
	dec := sfu.NewDecoder(e.stream)
	for {
		var ev sfu.Event
		if err := dec.Decode(&ev); err != nil {
			return
		}
		e.mu.Lock()
		answer := e.waiting[ev.Seq]
		delete(e.waiting, ev.Seq)
		e.mu.Unlock()
		if answer != nil {
			answer <- ev
		}
	}
}

func (e *engine) do(ctx context.Context, c sfu.Command) (sfu.Event, error) {
	answer := make(chan sfu.Event, 1)
	e.mu.Lock()
	e.seq++
	c.Seq = e.seq
	e.waiting[c.Seq] = answer
	err := e.enc.Encode(c)
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
	case <-e.read:
		return sfu.Event{}, io.ErrUnexpectedEOF
	case <-ctx.Done():
		return sfu.Event{}, ctx.Err()
	}
}

func (e *engine) join(ctx context.Context, room int, _ Case, _ int, offer string) (string, error) {
	e.mu.Lock()
	id := e.mint.Next(time.Now())
	session := sfu.SessionID("s" + id.String())
	e.rooms[room] = append(e.rooms[room], session)
	e.mu.Unlock()
	if _, err := e.do(ctx, sfu.Command{Open: &sfu.Open{
		Session: session, Call: sfu.CallID{ID: snowflake.ID(room + 1)}, User: sfu.UserID{ID: id}, Rights: sfu.Rights{Speak: true},
	}}); err != nil {
		return "", err
	}
	ev, err := e.do(ctx, sfu.Command{Negotiate: &sfu.Negotiate{Session: session, Offer: offer}})
	if err != nil {
		return "", err
	}
	if ev.Negotiated == nil {
		return "", fmt.Errorf("answered %+v", ev)
	}
	return ev.Negotiated.Answer, nil
}

func (e *engine) leave(ctx context.Context, room int) error {
	e.mu.Lock()
	sessions := e.rooms[room]
	delete(e.rooms, room)
	e.mu.Unlock()
	for _, s := range sessions {
		if _, err := e.do(ctx, sfu.Command{Close: &sfu.Close{Session: s}}); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) pids() ([]int, error) { return []int{e.cmd.Process.Pid}, nil }

// newRun starts generators and yardsticks around a server under test.
func newRun(t testing.TB, config Config, edge func() server) *run {
	t.Helper()
	t.Setenv("BENCH_ROLE", "1")
	config.Self = []string{os.Args[0]}
	config.Progress = testProgress{t}
	if err := config.validate(); err != nil {
		t.Fatal(err)
	}
	r := &run{config: config, random: rand.New(rand.NewPCG(1, 1)), report: &bench.Report{}}
	self := program(config.Self)
	stop := func(what string, f func() error) {
		t.Cleanup(func() {
			if err := f(); err != nil {
				t.Errorf("stop %s: %v", what, err)
			}
		})
	}
	for range r.config.Generators {
		g, err := self.generator(t.Context(), loopback, voicePayload+rtpHeader)
		if err != nil {
			t.Fatal(err)
		}
		stop("generator", g.Stop)
		r.generators = append(r.generators, g)
	}
	var err error
	if r.raw, err = self.raw(); err != nil {
		t.Fatal(err)
	}
	stop("raw loop", r.raw.Stop)
	r.edge, r.pion = edge(), startPion(t, self)
	return r
}

func startPion(t testing.TB, self program) *pionServer {
	t.Helper()
	p, err := self.pion(loopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop pion: %v", err)
		}
	})
	return &pionServer{pion: p, rooms: make(map[int]bool)}
}

// TestMeasureEngine runs whole windows through a real engine: everybody hears
// everybody, nothing is lost, and what a sample opens is what was sent.
func TestMeasureEngine(t *testing.T) {
	r := newRun(t, Config{Rounds: 1, Window: time.Second}, func() server { return startEngine(t) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := r.measure(ctx, 0, Case{Talkers: 3, Listeners: 5})
	if err != nil {
		t.Fatal(err)
	}
	w := result.Arms[armEdge].Windows[0]
	if w.Expected != 50*3*7 || w.Received != w.Expected || w.Unknown != 0 || w.Refused != 0 || w.Gaps != 0 || w.Opened == 0 {
		t.Errorf("received %d of %d, unknown %d, refused %d, gaps %d, opened %d", w.Received, w.Expected, w.Unknown, w.Refused, w.Gaps, w.Opened)
	}
}

// BenchmarkEngine3x300 compares a bare engine with the yardsticks.
func BenchmarkEngine3x300(b *testing.B) {
	r := newRun(b, Config{Rounds: max(1, min(b.N, 3)), Window: 3 * time.Second}, func() server { return startEngine(b) })
	result, err := r.measure(context.Background(), 0, Case{Talkers: 3, Listeners: 300})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(result.ratio(armRaw).Median, "raw")
	b.ReportMetric(result.ratio(armPion).Median, "pion")
	b.ReportMetric(result.Arms[armEdge].spread(func(w Window) float64 { return w.micros(w.CPU.User) }).Median, "user-µs/packet")
}
