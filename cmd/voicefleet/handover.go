package main

import (
	"bytes"
	"context"
	wire "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Agent and engine hand each other the media sockets and the ledger over the Unix
// socket that is then their command stream: the agent to an engine it starts, an
// engine to the agent that adopts it. Either can die, and the other has all of it.
//
//	magic (8 bytes), version (uint32), number of sockets (uint32), big-endian;
//	with the first byte come the files (SCM_RIGHTS, unix(7)): sockets, ledger

const (
	handoverMagic   = "vfengine"
	handoverVersion = 1
	handoverLen     = len(handoverMagic) + 8
	// handoverTime bounds a handover. An engine whose agent is alive hands over
	// nothing.
	handoverTime = 2 * time.Second
)

// custody is what outlives agent and engine: the media sockets, one per worker,
// and the ledger.
type custody struct {
	sockets []*os.File
	ledger  *os.File
}

func (c custody) close() {
	for _, s := range c.sockets {
		s.Close()
	}
	if c.ledger != nil {
		c.ledger.Close()
	}
}

// give hands everything over; it stays the giver's, too.
func (c custody) give(to *net.UnixConn) error {
	head := wire.BigEndian.AppendUint32([]byte(handoverMagic), handoverVersion)
	head = wire.BigEndian.AppendUint32(head, uint32(len(c.sockets)))
	fds := make([]int, 0, len(c.sockets)+1)
	for _, s := range c.sockets {
		fds = append(fds, int(s.Fd()))
	}
	fds = append(fds, int(c.ledger.Fd()))
	if err := to.SetWriteDeadline(time.Now().Add(handoverTime)); err != nil {
		return fmt.Errorf("hand sockets over: %w", err)
	}
	n, _, err := to.WriteMsgUnix(head, unix.UnixRights(fds...), nil)
	if err == nil && n != len(head) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("hand sockets over: %w", err)
	}
	return to.SetWriteDeadline(time.Time{})
}

// take receives what give sends. The files are not watched by this process.
func take(from *net.UnixConn) (c custody, err error) {
	head := make([]byte, handoverLen)
	oob := make([]byte, unix.CmsgSpace(4*(maxWorkers+1)))
	if err := from.SetReadDeadline(time.Now().Add(handoverTime)); err != nil {
		return c, fmt.Errorf("take sockets over: %w", err)
	}
	n, oobn, _, _, err := from.ReadMsgUnix(head, oob)
	files, bad := filesOf(oob[:oobn])
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			c, err = custody{}, fmt.Errorf("take sockets over: %w", err)
		}
	}()
	if err = errors.Join(err, bad); err != nil {
		return c, err
	}
	if _, err = io.ReadFull(from, head[n:]); err != nil {
		return c, err
	}
	version, sockets := wire.BigEndian.Uint32(head[8:]), int(wire.BigEndian.Uint32(head[12:]))
	switch {
	case !bytes.HasPrefix(head, []byte(handoverMagic)):
		return c, errors.New("the other side is no engine or agent")
	case version != handoverVersion:
		return c, fmt.Errorf("the other side speaks version %d, this is %d", version, handoverVersion)
	case sockets < 1 || len(files) != sockets+1:
		return c, fmt.Errorf("%d sockets were announced and %d files came", sockets, len(files))
	}
	if err = from.SetReadDeadline(time.Time{}); err != nil {
		return c, err
	}
	return custody{sockets: files[:sockets], ledger: files[sockets]}, nil
}

// filesOf are the files of a control message.
func filesOf(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			// Blocking while the file is made, so that the poller leaves it
			// alone; whoever reads these sockets does so without waiting.
			err = errors.Join(err, unix.SetNonblock(fd, false))
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
		if err != nil {
			return files, err
		}
	}
	return files, nil
}

// doorName is the abstract Unix socket at which an engine waits for its next agent.
// Like the media port in it, it is unique in a network namespace, and gone with
// the engine.
func doorName(port int) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@voicefleet-engine-%d", port)}
}

// hatch is where the next agent comes in.
type hatch struct {
	listener *net.UnixListener
	custody  custody
}

// next serves sfuserver.Config.NextAgent.
func (h *hatch) next(ctx context.Context) (io.ReadWriteCloser, error) {
	stop := context.AfterFunc(ctx, func() { _ = h.listener.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		conn, err := h.listener.AcceptUnix()
		if err != nil {
			return nil, fmt.Errorf("wait for an agent: %w", errors.Join(ctx.Err(), err))
		}
		if _, err := peer(conn); err == nil && h.custody.give(conn) == nil {
			return conn, nil
		}
		conn.Close() // a stranger, or gone already
	}
}

// peer is the process at the other end, which must be of the same user.
func peer(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	inner := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(inner, err); err != nil {
		return 0, err
	}
	if int(cred.Uid) != os.Geteuid() {
		return 0, fmt.Errorf("it is a process of user %d", cred.Uid)
	}
	return int(cred.Pid), nil
}

// errNoEngine says that no engine waits for an agent.
var errNoEngine = errors.New("no media engine waits for an agent")

// findEngine looks for an engine that an agent before this one left at work on a
// port, and takes it over. An engine that cannot be taken over is an error other
// than errNoEngine.
func findEngine(port int) (*engine, custody, error) {
	failed := func(err error) (*engine, custody, error) {
		return nil, custody{}, fmt.Errorf("adopt media engine: %w", err)
	}
	conn, err := net.DialUnix("unix", nil, doorName(port))
	if err != nil {
		return nil, custody{}, errNoEngine
	}
	pid, err := peer(conn)
	if err != nil {
		conn.Close()
		return failed(err)
	}
	life, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		conn.Close()
		return failed(os.NewSyscallError("pidfd_open", err))
	}
	held, err := take(conn)
	if err != nil {
		conn.Close()
		unix.Close(life)
		return failed(err)
	}
	e := &engine{Conn: conn, found: true, ended: make(chan struct{})}
	signal := func(s syscall.Signal) func() {
		return func() { _ = unix.PidfdSendSignal(life, s, nil, 0) } // it may have ended
	}
	e.term, e.kill = signal(syscall.SIGTERM), signal(syscall.SIGKILL)
	go func() {
		defer close(e.ended)
		// A pidfd is readable once its process has ended.
		for {
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(life), Events: unix.POLLIN}}, -1); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				// After an upgrade it is our child, and ours to bury.
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
				return
			}
		}
	}()
	return e, held, nil
}
