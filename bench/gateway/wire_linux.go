package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a TCP connection that knows when the kernel had the bytes that were read
// last. Reading belongs to one goroutine.
type wire struct {
	net.Conn
	raw syscall.RawConn

	// Owned by the reader.
	arrived time.Time // zero when the kernel does not say, as for a moment after the first socket asked
	read    func(fd uintptr) bool
	into    []byte
	control [64]byte // one SCM_TIMESTAMPNS takes 32
	n, oobn int
	err     error
}

// newWire asks the kernel for the times of what tcp receives.
func newWire(tcp *net.TCPConn) (*wire, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: tcp, raw: raw}
	w.read = func(fd uintptr) bool {
		for {
			w.n, w.oobn, _, _, w.err = unix.Recvmsg(int(fd), w.into, w.control[:], 0)
			if w.err != unix.EINTR {
				return w.err != unix.EAGAIN
			}
		}
	}
	var refused error
	err = raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	if err = errors.Join(err, refused); err != nil {
		return nil, fmt.Errorf("ask for time stamps: %w", err)
	}
	return w, nil
}

// Read reads, and keeps when the kernel got the last of it.
func (w *wire) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	w.into = b
	err := w.raw.Read(w.read)
	w.into = nil
	switch {
	case err != nil:
		return 0, err
	case w.err != nil:
		return 0, fmt.Errorf("read: %w", w.err)
	case w.n == 0:
		return 0, io.EOF
	}
	w.arrived = stampOf(w.control[:w.oobn])
	return w.n, nil
}

// stampOf finds the time in the control messages of a read (socket(7)).
func stampOf(control []byte) time.Time {
	for len(control) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		// struct timespec of a 64-bit kernel.
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		}
		control = rest
	}
	return time.Time{}
}

// spareFiles are for what a program opens beside its sessions: REST connections,
// the report, the runtime's own.
const spareFiles = 300

// checkFiles says whether so many sockets can be open at once.
func checkFiles(sessions int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	// Go has raised the soft limit to the hard one.
	if need := uint64(sessions + spareFiles); limit.Cur < need {
		return fmt.Errorf("%d sessions need %d open files, the limit is %d: run \"ulimit -n %d\" first, or take fewer --sessions", sessions, need, limit.Cur, need)
	}
	return nil
}
