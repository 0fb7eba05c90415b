package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenTCP opens the control port on every address, IPv4 and IPv6.
func listenTCP(port int, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, portError("TCP", port, flag, err)
	}
	return l, nil
}

// mediaBuffer is what the kernel may hold of a media port while its worker is
// busy: 4 MiB are 20 ms of 200,000 packets/s with the kernel's bookkeeping. The
// kernel cuts it to net.core.rmem_max.
const mediaBuffer = 4 << 20

// listenMedia opens n UDP ports from first on, one per worker. The files are for
// keeping and handing over only: they are not watched by this process, which
// would otherwise wake up for every datagram that an engine receives.
func listenMedia(first, n int, flag string) ([]*os.File, error) {
	var files []*os.File
	failed := func(err error) ([]*os.File, error) {
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	for i := range n {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: first + i})
		if err != nil {
			return failed(portError("UDP", first+i, flag, err))
		}
		// Best effort: a smaller buffer works, and its drops are counted.
		_ = c.SetReadBuffer(mediaBuffer)
		_ = c.SetWriteBuffer(mediaBuffer)
		f, err := unwatched(c)
		c.Close()
		if err != nil {
			return failed(fmt.Errorf("keep UDP port %d: %w", first+i, err))
		}
		files = append(files, f)
	}
	return files, nil
}

// unwatched is a second file of a socket that the runtime's poller leaves alone:
// it takes in what is non-blocking when the file is made. Whoever makes a
// connection of the file sets it to non-blocking again.
func unwatched(c *net.UDPConn) (f *os.File, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	inner := raw.Control(func(fd uintptr) {
		var second int
		if second, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		if err = unix.SetNonblock(second, false); err != nil {
			unix.Close(second)
			return
		}
		f = os.NewFile(uintptr(second), c.LocalAddr().String())
	})
	return f, errors.Join(inner, err)
}

func portError(proto string, port int, flag string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.New(wordsPortTaken(proto, port, flag, portHolder(proto, port)))
	case errors.Is(err, os.ErrPermission):
		return errors.New(wordsPortForbidden(proto, port, flag))
	}
	return fmt.Errorf("listen on %s port %d: %w", proto, port, err)
}
