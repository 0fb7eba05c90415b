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
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/sfu/sfuserver"
)

// The media engine runs in this process (up) or in a child (edge). Either way
// the agent speaks to it over a connected pair of Unix sockets, and the media
// sockets stay open here when an engine dies, so that the next one takes them
// over and clients keep their address.

// Where a child finds its stream, the ledger and its sockets.
const (
	streamFD      = 3
	ledgerFD      = 4
	firstSocketFD = 5
)

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
func asStream(f *os.File) (net.Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open command stream: %w", err)
	}
	return c, nil
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
	sockets []*os.File
	ledger  *os.File // what an engine leaves to the next
	child   bool
	log     *slog.Logger

	mu sync.Mutex
	// Guarded by mu.
	last *engine
}

// newEngines takes the sockets over.
func newEngines(sockets []*os.File, child bool, log *slog.Logger) (*engines, error) {
	ledger, err := newLedger()
	if err != nil {
		for _, s := range sockets {
			s.Close()
		}
		return nil, err
	}
	return &engines{sockets: sockets, ledger: ledger, child: child, log: log}, nil
}

// engine is one that was started; the agent reads and writes its stream.
type engine struct {
	net.Conn
	ended chan struct{}
	kill  func()
}

// Close ends the engine and waits for it: its successor must find the sockets
// free of readers.
func (e *engine) Close() error {
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
		next, err = e.spawn(theirs)
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
	for _, s := range e.sockets {
		s.Close()
	}
	e.ledger.Close()
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
	for _, s := range e.sockets {
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
	s, err := sfuserver.New(sfuserver.Config{Stream: stream, Sockets: sockets, Ledger: e.ledger, Log: e.log})
	if err != nil {
		stream.Close()
		return failed(fmt.Errorf("start media engine: %w", err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	next := &engine{ended: make(chan struct{}), kill: cancel}
	go func() {
		defer close(next.ended)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			e.log.Error("media engine failed", "err", err)
		}
		stream.Close()
		for _, s := range sockets {
			s.Close()
		}
	}()
	return next, nil
}

// spawn runs an engine in a child process. It ends when its stream does, so it
// outlives no agent.
func (e *engines) spawn(theirs *os.File) (*engine, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start media engine: %w", err)
	}
	cmd := exec.Command(self, "sfu", "--sockets", strconv.Itoa(len(e.sockets)))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs, e.ledger}
	// A group of its own: Ctrl-C is for the agent, which ends it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.ExtraFiles = append(cmd.ExtraFiles, e.sockets...)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start media engine: %w", err)
	}
	next := &engine{ended: make(chan struct{}), kill: func() { cmd.Process.Kill() }}
	go func() {
		defer close(next.ended)
		if err := cmd.Wait(); err != nil {
			e.log.Error("media engine ended", "pid", cmd.Process.Pid, "err", err)
		}
	}()
	return next, nil
}
