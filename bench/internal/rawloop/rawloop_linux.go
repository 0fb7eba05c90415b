// Package rawloop is the lower bound of a forwarder: it sends the datagrams that
// a forwarder would send, from one socket, with one sendmmsg per batch, and does
// nothing else: no receiving, no decision, and crypto only if the plan asks for it.
package rawloop

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bytes of an RTP header without extensions, and of a tag and a nonce of AES-GCM.
const (
	rtpHeader = 12
	gcmTag    = 16
	gcmNonce  = 12
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
	// Seal has each datagram encrypted by AES-128-GCM (RFC 7714) with a key of its
	// receiver: what no forwarder of SRTP can do without. What a cipher costs beside a
	// system call differs from machine to machine, so that a ratio to this loop travels
	// further than one to the bare loop.
	Seal bool
}

func (p *Plan) validate() error {
	if p.Interval <= 0 || p.Batch < 1 || p.Batch > MaxBatch || p.SmallSize < rtpHeader+gcmTag || p.Size < p.SmallSize || p.Size > 1500 || len(p.Sources) == 0 {
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
	Late                  uint64        // batches more than an interval behind schedule
	Worst                 time.Duration // behind schedule
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is the memory of one sendmmsg, used again for each, so that the kernel
// finds it in the cache.
type batch struct {
	heads   []mmsghdr
	vectors []unix.Iovec
	names   []unix.RawSockaddrInet4
	data    []byte // size bytes per message
	size    int
	speech  []byte // what is sealed
}

func newBatch(messages, size int) *batch {
	b := &batch{
		heads:   make([]mmsghdr, messages),
		vectors: make([]unix.Iovec, messages),
		names:   make([]unix.RawSockaddrInet4, messages),
		data:    make([]byte, messages*size),
		size:    size,
		speech:  make([]byte, size),
	}
	for i := range b.heads {
		d := b.data[i*size : (i+1)*size]
		d[0], d[1] = 0x80, 111
		b.vectors[i].Base = &d[0]
		b.names[i].Family = unix.AF_INET
		h := &b.heads[i].hdr
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = unix.SizeofSockaddrInet4
	}
	return b
}

// destination is a target as the kernel wants it.
type destination struct {
	ssrc uint32
	port uint16 // in network order
	addr [4]byte
	aead cipher.AEAD // nil: sent as it is
}

// destinations are those of a source; keys, unless nil, has the cipher of each receiver so
// far, and gets those of others.
func destinations(targets []Target, keys map[netip.AddrPort]cipher.AEAD) ([]destination, error) {
	list := make([]destination, len(targets))
	for i, t := range targets {
		list[i] = destination{ssrc: t.SSRC, addr: t.Addr.Addr().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&list[i].port))[:], t.Addr.Port())
		if keys == nil {
			continue
		}
		if keys[t.Addr] == nil {
			var key [16]byte
			binary.BigEndian.PutUint32(key[:], uint32(len(keys)))
			block, err := aes.NewCipher(key[:])
			if err != nil {
				return nil, fmt.Errorf("raw loop: %w", err)
			}
			if keys[t.Addr], err = cipher.NewGCM(block); err != nil {
				return nil, fmt.Errorf("raw loop: %w", err)
			}
		}
		list[i].aead = keys[t.Addr]
	}
	return list, nil
}

// send sends one datagram of n bytes with sequence number seq to each.
func (b *batch) send(fd int, to []destination, seq uint16, n int) (taken, refused uint64) {
	var nonce [gcmNonce]byte
	for len(to) > 0 {
		count := min(len(b.heads), len(to))
		for i, d := range to[:count] {
			b.names[i].Addr, b.names[i].Port = d.addr, d.port
			head := b.data[i*b.size:]
			binary.BigEndian.PutUint16(head[2:], seq)
			binary.BigEndian.PutUint32(head[8:], d.ssrc)
			if d.aead != nil {
				copy(nonce[:], head[:rtpHeader])
				d.aead.Seal(head[rtpHeader:rtpHeader], nonce[:], b.speech[:n-rtpHeader-gcmTag], head[:rtpHeader])
			}
			b.vectors[i].SetLen(n)
		}
		for at := 0; at < count; {
			done, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.heads[at])), uintptr(count-at), 0, 0, 0)
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
		to = to[count:]
	}
	return taken, refused
}

// longest bounds one rest, so that the end of the context and the collector of
// garbage do not wait longer for us.
const longest = 5 * time.Millisecond

// rest sleeps for d.
func rest(d time.Duration) {
	for ; d > 0; d -= longest {
		t := unix.NsecToTimespec(min(d, longest).Nanoseconds())
		_, _, _ = unix.RawSyscall6(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0, 0, 0, 0)
	}
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
	fans := make([][]destination, len(plan.Sources))
	var keys map[netip.AddrPort]cipher.AEAD
	if plan.Seal {
		keys = make(map[netip.AddrPort]cipher.AEAD)
	}
	for i, s := range plan.Sources {
		if fans[i], err = destinations(s.Targets, keys); err != nil {
			return sent, err
		}
	}
	memory := newBatch(plan.Batch, plan.Size)
	defer runtime.KeepAlive(memory)
	// The thread is the loop's own, and the runtime is told of none of its system
	// calls: a timer or a scheduler would be a price that is not the kernel's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range plan.Warm + plan.Window + plan.Tail {
		voice := i >= plan.Warm && i < plan.Warm+plan.Window
		n := plan.SmallSize
		if voice {
			n = plan.Size
		}
		for k, f := range fans {
			due := plan.Start.Add(time.Duration(i)*plan.Interval + plan.Sources[k].Phase)
			if ctx.Err() != nil {
				return sent, ctx.Err()
			}
			rest(time.Until(due))
			behind := time.Since(due)
			sent.Worst = max(sent.Worst, behind)
			if behind > plan.Interval {
				sent.Late++
			}
			taken, refused := memory.send(fd, f, uint16(i), n)
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
