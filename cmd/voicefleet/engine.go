package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/sfu/sfuserver"
)

// The media engine runs in this process (up) or in a child (edge). Either way
// the agent speaks to it over a connected pair of Unix sockets, and media sockets
// and ledger stay open here when an engine dies, so that the next one goes on and
// clients notice a pause at most. A child outlives its agent, too: the next agent
// on the machine finds it by its port and adopts it.

// streamFD is where a child finds its stream.
const streamFD = 3

// newLedger makes the memory in which the packet indices of all sessions stand.
// The engine gives it its size; nobody can take that away under it.
func newLedger() (*os.File, error) {
	fd, err := unix.MemfdCreate("voicefleet-ledger", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make ledger: %w", os.NewSyscallError("memfd_create", err))
	}
	f := os.NewFile(uintptr(fd), "ledger")
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err != nil {
		f.Close()
		return nil, fmt.Errorf("make ledger: %w", os.NewSyscallError("fcntl F_ADD_SEALS", err))
	}
	return f, nil
}

// farewell is how long an engine may take to end once its stream is closed.
const farewell = 3 * time.Second

// socketPair is two ends of one stream.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make command stream: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "engine"), os.NewFile(uintptr(fds[1]), "agent"), nil
}

// asStream makes a connection of one end; the file is used up.
func asStream(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open command stream: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("open command stream: it is no Unix socket")
	}
	return u, nil
}

// asSocket makes a UDP socket of a file, which stays as it is.
func asSocket(f *os.File) (*net.UDPConn, error) {
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("open media socket: %w", err)
	}
	u, ok := c.(*net.UDPConn)
	if !ok {
		c.Close()
		return nil, errors.New("open media socket: it is not UDP")
	}
	return u, nil
}

// engines starts media engines on the same sockets, one at a time.
type engines struct {
	// Immutable.
	custody custody
	child   bool
	log     *slog.Logger

	mu sync.Mutex
	// Guarded by mu.
	last  *engine
	found *engine // at work already, until start returns it
	next  string  // program of an upgrade; empty: our own
}

// newEngines takes the sockets over.
func newEngines(sockets []*os.File, child bool, log *slog.Logger) (*engines, error) {
	held := custody{sockets: sockets}
	var err error
	if held.ledger, err = newLedger(); err != nil {
		held.close()
		return nil, err
	}
	return &engines{custody: held, child: child, log: log}, nil
}

const (
	// doorTime bounds the wait for an engine that is there but lets nobody in: it
	// may be about to end. doorLook is how often it is asked.
	doorTime = 3 * time.Second
	doorLook = 100 * time.Millisecond
)

// childEngines are engines in child processes: the one that an agent before this
// one left at work, or else new ones on ports of their own.
func childEngines(ctx context.Context, m *media, log *slog.Logger) (*engines, error) {
	for deadline := time.Now().Add(doorTime); ; {
		e, held, err := findEngine(m.port)
		if err == nil {
			log.Warn("found a media engine at work without an agent: it goes on", "port", m.port, "workers", len(held.sockets))
			if len(held.sockets) != m.workers {
				log.Warn("its number of workers stays until the node is stopped and started", "workers", len(held.sockets), "wanted", m.workers)
			}
			return &engines{custody: held, child: true, log: log, last: e, found: e}, nil
		}
		sockets, taken := listenMedia(m.port, m.workers, "--media-port")
		switch {
		case taken == nil:
			return newEngines(sockets, true, log)
		case errors.Is(err, errNoEngine), time.Now().After(deadline):
			return nil, taken
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(doorLook):
		}
	}
}

// engine is one that was started; the agent reads and writes its stream.
type engine struct {
	net.Conn
	found      bool
	ended      chan struct{}
	term, kill func()

	crashed bool // set before ended is closed
}

// Found says that another agent started it.
func (e *engine) Found() bool { return e.found }

// Crashed says, after Close, that it ended by its own fault.
func (e *engine) Crashed() bool {
	select {
	case <-e.ended:
		return e.crashed
	default:
		return false
	}
}

// Close ends the engine and waits for it: its successor must find the sockets
// free of readers. Without the signal it would take us for dead and go on.
func (e *engine) Close() error {
	e.term()
	err := e.Conn.Close()
	select {
	case <-e.ended:
	case <-time.After(farewell):
		e.kill()
		<-e.ended
	}
	return err
}

// start serves edgeagentserver.Config.Engine.
func (e *engines) start(ctx context.Context) (io.ReadWriteCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if found := e.found; found != nil {
		e.found = nil
		return found, nil
	}
	if e.last != nil {
		e.last.Close()
		e.last = nil
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	stream, err := asStream(ours)
	if err != nil {
		return nil, err
	}
	var next *engine
	if e.child {
		if next, err = e.spawn(theirs); err == nil {
			if err = e.custody.give(stream); err != nil {
				next.kill()
			}
		}
	} else {
		next, err = e.host(theirs)
	}
	if err != nil {
		stream.Close()
		return nil, err
	}
	next.Conn = stream
	e.last = next
	return next, nil
}

// close ends the engine that runs, and closes the sockets.
func (e *engines) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last != nil {
		e.last.Close()
	}
	e.custody.close()
}

// host runs an engine in this process.
func (e *engines) host(theirs *os.File) (*engine, error) {
	var sockets []*net.UDPConn
	failed := func(err error) (*engine, error) {
		for _, s := range sockets {
			s.Close()
		}
		return nil, err
	}
	for _, s := range e.custody.sockets {
		own, err := asSocket(s)
		if err != nil {
			return failed(err)
		}
		sockets = append(sockets, own)
	}
	stream, err := net.FileConn(theirs)
	if err != nil {
		return failed(fmt.Errorf("open command stream: %w", err))
	}
	s, err := sfuserver.New(sfuserver.Config{Stream: stream, Sockets: sockets, Ledger: e.custody.ledger, Log: e.log})
	if err != nil {
		stream.Close()
		return failed(fmt.Errorf("start media engine: %w", err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	next := &engine{ended: make(chan struct{}), term: cancel, kill: cancel}
	go func() {
		defer close(next.ended)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			e.log.Error("media engine failed", "err", err)
			next.crashed = true
		}
		stream.Close()
		for _, s := range sockets {
			s.Close()
		}
	}()
	return next, nil
}

// spawn runs an engine in a child process, which waits for what it is given.
func (e *engines) spawn(theirs *os.File) (*engine, error) {
	program, err := e.image()
	if err != nil {
		return nil, fmt.Errorf("start media engine: %w", err)
	}
	cmd := exec.Command(program, "sfu")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	// A group of its own: Ctrl-C is for the agent, which ends it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start media engine: %w", err)
	}
	next := &engine{
		ended: make(chan struct{}),
		term:  func() { cmd.Process.Signal(syscall.SIGTERM) },
		kill:  func() { cmd.Process.Kill() },
	}
	go func() {
		defer close(next.ended)
		if err := cmd.Wait(); err != nil {
			next.crashed = byItself(err)
			e.log.Error("media engine ended", "pid", cmd.Process.Pid, "err", err)
		}
	}()
	return next, nil
}

// byItself says that a process ended by its own fault: with an exit code, as after
// a panic, or by a signal that only what it did brings about.
func byItself(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok {
		return false
	}
	switch {
	case status.Exited():
		return status.ExitStatus() != 0
	case status.Signaled():
		return slices.Contains([]syscall.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGABRT}, status.Signal())
	}
	return false
}
