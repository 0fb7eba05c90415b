package chatserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pollEvents are taken of epoll at once.
const pollEvents = 256

// poll waits for what clients send over bare TCP connections, for all of them at
// once: one that says nothing costs neither a goroutine nor a buffer. Each
// connection tells of itself once, and again when it was read (EPOLLONESHOT).
type poll struct {
	// Immutable. The runtime waits for epoll as for any file.
	file  *os.File
	epoll syscall.RawConn

	mu sync.Mutex
	// Guarded by mu: by file descriptor.
	conns []*conn
}

func newPoll() (*poll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	p := &poll{file: os.NewFile(uintptr(fd), "epoll")}
	if p.epoll, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("make epoll: %w", err), p.file.Close())
	}
	return p, nil
}

// run has readable called, each time in a goroutine of its own, for connections
// that have something to read, until close.
func (p *poll) run(readable func(*conn)) {
	events := make([]unix.EpollEvent, pollEvents)
	for {
		n := 0
		err := p.epoll.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0) // EINTR: as if there were none
			return n > 0
		})
		if err != nil {
			return
		}
		p.mu.Lock()
		for _, e := range events[:n] {
			// A descriptor may be another connection's by now: that one is read for
			// nothing, once.
			if c := p.conns[e.Fd]; c != nil && c.reading.CompareAndSwap(false, true) {
				readable(c)
			}
		}
		p.mu.Unlock()
	}
}

func (p *poll) close() { _ = p.file.Close() }

// watch makes a connection known; it tells when it can be read.
func (p *poll) watch(c *conn) error {
	return p.control(c, unix.EPOLL_CTL_ADD, func(fd int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for len(p.conns) <= fd {
			p.conns = append(p.conns, nil)
		}
		p.conns[fd] = c
	})
}

// again has a connection tell once more. Whoever read it does no more.
func (p *poll) again(c *conn) error {
	return p.control(c, unix.EPOLL_CTL_MOD, func(int) { c.reading.Store(false) })
}

func (p *poll) control(c *conn, op int, before func(fd int)) error {
	var gone, failed error
	err := c.wire.raw.Control(func(fd uintptr) {
		before(int(fd))
		gone = p.epoll.Control(func(epoll uintptr) {
			failed = unix.EpollCtl(int(epoll), op, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(fd)})
		})
	})
	return errors.Join(err, gone, failed)
}

// forget comes before the connection is closed.
func (p *poll) forget(c *conn) {
	_ = c.wire.raw.Control(func(fd uintptr) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if int(fd) < len(p.conns) && p.conns[fd] == c {
			p.conns[fd] = nil
		}
	})
}

// look reads what is there; nothing is 0 and no error.
func (w *wire) look(b []byte) (n int, err error) {
	done := w.raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), b)
		return true
	})
	switch {
	case done != nil:
		return 0, done
	case err == unix.EAGAIN, err == unix.EINTR:
		return 0, nil
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}

// offer writes as much as the kernel has room for: by send(2), which has a shorter way
// to the socket than write(2). b is not empty.
func (w *wire) offer(b []byte) (n int, err error) {
	sent, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(w.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		return int(sent), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, errno
}
