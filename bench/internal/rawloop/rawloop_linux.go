// Package rawloop is the lower bound of a forwarder: it sends the datagrams that
// a forwarder would send, from one socket, with one sendmmsg per batch, and does
// nothing else: no receiving, no decision, no crypto.
package rawloop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxBatch bounds the messages of one sendmmsg (UIO_MAXIOV of the kernel).
const MaxBatch = 1024

// Target is one stream to one receiver: the receiver's socket and the SSRC of a
// slot of it.
type Target struct {
	Addr netip.AddrPort
	SSRC uint32
}

// Source is what one talker causes: at Phase of each interval, one datagram to
// each target.
type Source struct {
	Phase   time.Duration
	Targets []Target
}

// Plan is what to send: the speech of lightclient.Speech, with sizes in bytes of
// UDP payload.
type Plan struct {
	Start              time.Time
	Interval           time.Duration
	Warm, Window, Tail int
	SmallSize, Size    int
	Batch              int      // messages per sendmmsg, at most
	Sources            []Source // by rising phase
}

func (p *Plan) validate() error {
	if p.Interval <= 0 || p.Batch < 1 || p.Batch > MaxBatch || p.SmallSize < 12 || p.Size < p.SmallSize || p.Size > 1500 || len(p.Sources) == 0 {
		return errors.New("raw loop: plan out of bounds")
	}
	for _, s := range p.Sources {
		if len(s.Targets) == 0 {
			return errors.New("raw loop: source without target")
		}
		for _, t := range s.Targets {
			if !t.Addr.Addr().Is4() {
				return fmt.Errorf("raw loop: target %v is not IPv4", t.Addr)
			}
		}
	}
	return nil
}

// Sent counts datagrams the kernel took, and refused.
type Sent struct {
	Small, Voice, Refused uint64
	Worst                 time.Duration // behind schedule
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// fan is the ready-made batch of one source.
type fan struct {
	heads   []mmsghdr
	vectors []unix.Iovec
	names   []unix.RawSockaddrInet4
	data    []byte // one datagram of plan.Size after the other
	seq     uint16
}

func newFan(targets []Target, size int) *fan {
	f := &fan{
		heads:   make([]mmsghdr, len(targets)),
		vectors: make([]unix.Iovec, len(targets)),
		names:   make([]unix.RawSockaddrInet4, len(targets)),
		data:    make([]byte, len(targets)*size),
	}
	for i, t := range targets {
		d := f.data[i*size : (i+1)*size]
		d[0], d[1] = 0x80, 111
		binary.BigEndian.PutUint32(d[8:], t.SSRC)
		f.vectors[i].Base = &d[0]
		n := &f.names[i]
		n.Family = unix.AF_INET
		n.Addr = t.Addr.Addr().As4()
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&n.Port))[:], t.Addr.Port())
		h := &f.heads[i].hdr
		h.Iov = &f.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(n))
		h.Namelen = unix.SizeofSockaddrInet4
	}
	return f
}

// send sends one datagram of n bytes to each target.
func (f *fan) send(fd, size, n, batch int) (taken, refused uint64) {
	for i := range f.heads {
		binary.BigEndian.PutUint16(f.data[i*size+2:], f.seq)
		f.vectors[i].SetLen(n)
	}
	f.seq++
	for at := 0; at < len(f.heads); {
		count := min(batch, len(f.heads)-at)
		done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&f.heads[at])), uintptr(count), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 { // of the first message; those behind it have their own chance
			refused++
			at++
			continue
		}
		taken += uint64(done)
		at += int(done)
	}
	return taken, refused
}

// Run sends the plan from a socket of its own, blocking and paced by the calling
// goroutine.
func Run(ctx context.Context, plan Plan) (Sent, error) {
	var sent Sent
	if err := plan.validate(); err != nil {
		return sent, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sent, fmt.Errorf("raw loop: open socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20); err != nil {
		return sent, fmt.Errorf("raw loop: size socket: %w", err)
	}
	fans := make([]*fan, len(plan.Sources))
	for i, s := range plan.Sources {
		fans[i] = newFan(s.Targets, plan.Size)
	}
	defer runtime.KeepAlive(fans)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range plan.Warm + plan.Window + plan.Tail {
		voice := i >= plan.Warm && i < plan.Warm+plan.Window
		n := plan.SmallSize
		if voice {
			n = plan.Size
		}
		for k, f := range fans {
			due := plan.Start.Add(time.Duration(i)*plan.Interval + plan.Sources[k].Phase)
			if wait := time.Until(due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return sent, ctx.Err()
				}
			}
			sent.Worst = max(sent.Worst, time.Since(due))
			taken, refused := f.send(fd, plan.Size, n, plan.Batch)
			sent.Refused += refused
			if voice {
				sent.Voice += taken
			} else {
				sent.Small += taken
			}
		}
	}
	return sent, nil
}
