// Package rawfan is the lower bound of a gateway's fan-out: it writes one frame
// after the other to each of its WebSockets, by one write(2) each, and does nothing
// else: no session, no sequence, no queue, no reading.
package rawfan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// accepted is what every upgrade is answered with; its clients check no key.
const accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

// maxHead bounds a request.
const maxHead = 4096

// Fan has sockets to write to.
type Fan struct {
	listener int
	addr     netip.AddrPort
	sockets  []int
}

// Listen opens a port on the loopback address.
func Listen() (*Fan, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("raw fan: open socket: %w", err)
	}
	f := &Fan{listener: fd}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raw fan: listen: %w", err), unix.Close(fd))
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raw fan: find port: %w", err), unix.Close(fd))
	}
	f.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(at.(*unix.SockaddrInet4).Port))
	return f, nil
}

// Addr is where to connect.
func (f *Fan) Addr() netip.AddrPort { return f.addr }

// Accept takes n WebSockets, one after the other.
func (f *Fan) Accept(n int) error {
	for range n {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("raw fan: accept: %w", err)
		}
		f.sockets = append(f.sockets, fd)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		var head []byte
		for b := [512]byte{}; !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
			n, err := unix.Read(fd, b[:])
			if err != nil || n == 0 || len(head) > maxHead {
				return fmt.Errorf("raw fan: read request: %w", errors.Join(err, errors.New("no whole request")))
			}
			head = append(head, b[:n]...)
		}
		if _, err := unix.Write(fd, []byte(accepted)); err != nil {
			return fmt.Errorf("raw fan: answer: %w", err)
		}
	}
	return nil
}

// Plan is what to write: at each moment after Start one post to all.
type Plan struct {
	Start time.Time
	At    []time.Duration
	First int    // number of the first post
	Mark  string // before the number
	Size  int    // of a frame with its head, in bytes
}

// text is an event as long as a server's. Its post is found like one of those.
func (p *Plan) text(i int) []byte {
	due := p.Start.Add(p.At[i])
	b := fmt.Appendf(nil, `{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"content":"%s %d %d "`, p.Mark, p.First+i, due.UnixNano())
	const end = `,"pad":""}}`
	b = append(b, end[:len(end)-3]...)
	for len(b)+4+3 < p.Size {
		b = append(b, 'x')
	}
	return append(b, end[len(end)-3:]...)
}

// frame puts the head of a text frame before it (RFC 6455 section 5.2).
func frame(text []byte) []byte {
	if len(text) < 126 {
		return append([]byte{0x81, byte(len(text))}, text...)
	}
	return append([]byte{0x81, 126, byte(len(text) >> 8), byte(len(text))}, text...)
}

// Run writes the plan.
func (f *Fan) Run(ctx context.Context, plan Plan) error {
	if plan.Size > 0xffff {
		return fmt.Errorf("raw fan: frames of %d bytes, want at most %d", plan.Size, 0xffff)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i, at := range plan.At {
		t := time.NewTimer(time.Until(plan.Start.Add(at)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		b := frame(plan.text(i))
		for _, fd := range f.sockets {
			if _, err := unix.Write(fd, b); err != nil {
				return fmt.Errorf("raw fan: write: %w", err)
			}
		}
	}
	return nil
}

// Close closes all sockets.
func (f *Fan) Close() error {
	errs := []error{unix.Close(f.listener)}
	for _, fd := range f.sockets {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
