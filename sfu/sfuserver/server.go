package sfuserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/dtlsterm"
	"voicefleet/sfu/internal/ledger"
)

// loadEvery is how often the load is told.
const loadEvery = time.Second

// Config of a Server.
type Config struct {
	// Stream carries commands in and events out. Run closes it.
	Stream io.ReadWriteCloser
	// NextAgent waits for an agent that adopts this engine, and returns its
	// stream; it is called when a stream has ended while there are sessions, and
	// its context ends with the last of them. Nil: the engine ends with Stream.
	NextAgent func(ctx context.Context) (io.ReadWriteCloser, error)
	// Sockets are the media ports, one worker each; at least one. They are lent
	// for the time of Run, and dual stack ones serve both families.
	Sockets []*net.UDPConn
	// Ledger is the memory, a memfd, in which the live indices of all sessions
	// stand, for the engine after this one; it is lent for the time of Run. Nil
	// keeps them in this process, and Restore jumps ahead of the snapshots.
	Ledger *os.File
	// Log takes what an operator must know; nothing is logged per packet or
	// session. Nil discards.
	Log *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Stream == nil:
		return errors.New("configure media engine: no stream")
	case len(c.Sockets) == 0:
		return errors.New("configure media engine: no socket")
	case len(c.Sockets) > ledger.Workers:
		return fmt.Errorf("configure media engine: %d sockets, at most %d", len(c.Sockets), ledger.Workers)
	}
	return nil
}

// Server is the media engine. It serves once.
type Server struct {
	// Immutable.
	cfg    Config
	log    *slog.Logger
	start  time.Time // what times are counted from
	socks  []*socket
	events *events
	routes *routes

	// Set by the Start command, before the workers begin.
	term    *dtlsterm.Terminator
	limits  sfu.Limits
	workers []*worker
	ledger  *ledger.Ledger
	mapped  *mapping // nil without Config.Ledger
	shared  bool     // mapped is there

	fences atomic.Uint64 // how many there were
	alone  atomic.Bool   // no agent is here

	// Owned by control.
	advertise  []netip.Addr
	tcp        uint16 // of ICE-TCP
	probeKey   sfu.ProbeKey
	orphaned   time.Time // when the last agent went
	remembered []byte    // for the next agent
}

// New prepares the sockets.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Log, start: time.Now(), events: newEvents(), routes: newRoutes()}
	for i, conn := range cfg.Sockets {
		sock, err := openSocket(conn)
		if err != nil {
			return nil, fmt.Errorf("open worker %d: %w", i, err)
		}
		s.socks = append(s.socks, sock)
	}
	return s, nil
}

// Run serves until the context ends, or the stream does and nobody adopts the
// engine; a clean end of the stream is no error. Sessions end without notice to their clients: a new engine on the
// same sockets may restore them.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	start := func(run func(context.Context) error) {
		running.Go(func() {
			if err := run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	stop := context.AfterFunc(ctx, func() {
		for _, sock := range s.socks {
			sock.wake()
		}
	})
	err := s.attend(ctx, s.cfg.Stream, start)
	for ctx.Err() == nil && s.cfg.NextAgent != nil && (s.routes.count() > 0 || len(s.remembered) > 0) {
		var stream io.ReadWriteCloser
		if stream, err = s.awaitAgent(ctx, err); err != nil {
			break
		}
		err = s.attend(ctx, stream, start)
	}
	ended := ctx.Err() != nil // before the stream did
	cancel(err)
	running.Wait()
	stop()
	if s.term != nil {
		s.term.Close()
	}
	if s.mapped != nil {
		s.mapped.close()
	}
	for _, sock := range s.socks {
		_ = sock.conn.SetReadDeadline(time.Time{}) // as it was lent
	}
	if ended {
		err = context.Cause(ctx)
		if errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	if err != nil && !hungUp(err) {
		return fmt.Errorf("run media engine: %w", err)
	}
	return nil
}

// attend serves one agent until its stream ends, and closes it.
func (s *Server) attend(ctx context.Context, stream io.ReadWriteCloser, start func(func(context.Context) error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel(nil)
	// The stream ends the reads of control and the writes of events.
	context.AfterFunc(ctx, func() { _ = stream.Close() })
	writing.Go(func() {
		if err := s.events.write(ctx, sfu.NewEncoder(stream)); err != nil {
			cancel(err)
		}
	})
	err := s.control(ctx, stream, start)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// hungUp says that the agent closed the stream, as seen by reads and by writes.
func hungUp(err error) bool {
	for _, end := range []error{io.EOF, io.ErrClosedPipe, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// tellLoad tells the load every second.
func (s *Server) tellLoad(ctx context.Context) error {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l := s.load()
			l.Memory = memoryUsed()
			s.events.load(l)
		}
	}
}

// load adds up the workers' readings.
func (s *Server) load() *sfu.LoadReading {
	l := &sfu.LoadReading{Drops: make(map[string]uint64, sfu.DropReasons), Hearing: make(map[string]int)}
	var losses []float64
	for _, w := range s.workers {
		w.mu.Lock()
		r := &w.reading
		l.PacketsIn += r.packetsIn
		l.BytesIn += r.bytesIn
		l.PacketsOut += r.PacketsOut
		l.BytesOut += r.BytesOut
		l.ResentOut += r.ResentOut
		l.RelayOut += r.RelayOut
		l.RelayIn += r.RelayIn
		l.PacketsOut += r.video.PacketsOut
		l.BytesOut += r.video.BytesOut
		l.ResentOut += r.video.ResentOut
		l.VideoOut += r.video.PacketsOut
		l.RelayOut += r.video.RelayOut
		l.RelayIn += r.video.RelayIn
		l.Cameras += r.cameras
		l.Shedding = l.Shedding || r.shedding
		l.Checks += r.checks
		l.Probes += r.probes
		l.Handshakes += r.handshakes
		l.Panics += r.panics
		l.SocketDrops += r.socketDrops
		l.Sessions += r.sessions
		l.Connected += r.connected
		l.Calls = append(l.Calls, r.calls...)
		l.Busy = max(l.Busy, r.busy)
		l.ListenerExpected += r.ReportedExpected
		l.ListenerLost += r.ReportedLost
		losses = append(losses, r.losses...)
		for kind, n := range r.hearing {
			if n > 0 {
				l.Hearing[sfu.Hearings[kind]] += n
			}
		}
		for why, n := range r.Drops {
			if n > 0 {
				l.Drops[sfu.DropReason(why).String()] += n
			}
		}
		w.mu.Unlock()
	}
	if l.Loss.Of = len(losses); l.Loss.Of > 0 {
		slices.Sort(losses)
		l.Loss.Middle = losses[(len(losses)-1)/2]
	}
	return l
}
