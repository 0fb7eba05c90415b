package lightclient

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// Config of an Engine; the zero value works.
type Config struct {
	// Host is the address the sockets are bound to (default 0.0.0.0).
	Host netip.Addr
	// VoiceSize is the shortest datagram, in bytes, that counts as voice (default
	// 0: all). Talking with short packets before and after a measured window tells
	// the window's packets from the others.
	VoiceSize int
	// Coalesce is how long the reader sleeps after each round, as a network card
	// does between interrupts (default 0). 1 ms saves most wake-ups; arrival times
	// of sampled clients come from the kernel and do not suffer.
	Coalesce time.Duration
	// Handshakes bounds the DTLS handshakes under way (default 16).
	Handshakes int
}

func (c Config) withDefaults() Config {
	if !c.Host.IsValid() {
		c.Host = netip.IPv4Unspecified()
	}
	if c.Handshakes == 0 {
		c.Handshakes = 16
	}
	return c
}

// Sizes of a read: how many sockets one epoll_wait names, and how many datagrams
// one recvmmsg takes from a socket. What remains is named again.
const (
	pollBatch = 256
	readBatch = 32
	datagram  = 1600
	control   = 64 // one SCM_TIMESTAMPNS
)

// Engine runs many clients.
type Engine struct {
	// Immutable.
	config      Config
	cert        tls.Certificate
	fingerprint [sha256.Size]byte
	poll, wake  int // epoll and the eventfd that interrupts it
	handshakes  chan struct{}

	// Owned by read.
	batch mmsgBatch
	plain [datagram]byte

	mu sync.Mutex
	// Guarded by mu.
	clients map[int32]*Client // by descriptor
	latency *hdrhistogram.Histogram
	stopped bool
}

// New makes an engine without clients.
func New(config Config) (*Engine, error) {
	e := &Engine{config: config.withDefaults(), clients: make(map[int32]*Client), latency: NewLatency()}
	if !e.config.Host.Is4() {
		return nil, fmt.Errorf("host %v is not an IPv4 address", e.config.Host)
	}
	var err error
	if e.cert, e.fingerprint, err = newCertificate(); err != nil {
		return nil, err
	}
	e.handshakes = make(chan struct{}, e.config.Handshakes)
	if e.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("open epoll: %w", err)
	}
	if e.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		_ = unix.Close(e.poll)
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	if err := unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, e.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(e.wake)}); err != nil {
		_ = unix.Close(e.poll)
		_ = unix.Close(e.wake)
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	e.batch.init()
	return e, nil
}

// NewLatency makes a histogram of nanoseconds from 1 µs to 60 s.
func NewLatency() *hdrhistogram.Histogram { return hdrhistogram.New(1000, 60_000_000_000, 3) }

// Run reads and checks until ctx ends, then closes all clients.
func (e *Engine) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { e.check(ctx) })
	stop := context.AfterFunc(ctx, func() {
		var one = [8]byte{7: 1}
		_, _ = unix.Write(e.wake, one[:])
	})
	err := e.read(ctx)
	if stop() {
		err = errors.Join(err, errors.New("reader ended early"))
	}
	running.Wait()
	e.mu.Lock()
	e.stopped = true
	clients := make([]*Client, 0, len(e.clients))
	for _, c := range e.clients {
		clients = append(clients, c)
	}
	e.mu.Unlock()
	for _, c := range clients {
		c.Close()
	}
	_ = unix.Close(e.poll)
	_ = unix.Close(e.wake)
	return err
}

func (e *Engine) register(c *Client) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return errors.New("engine has stopped")
	}
	if err := unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)}); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	e.clients[int32(c.fd)] = c
	return nil
}

func (e *Engine) forget(c *Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.clients, int32(c.fd))
	_ = unix.EpollCtl(e.poll, unix.EPOLL_CTL_DEL, c.fd, nil)
}

// Total sums up the counts of all clients.
func (e *Engine) Total() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	var sum Counts
	for _, c := range e.clients {
		sum.Add(c.counts)
	}
	return sum
}

// Reset sets all counts to zero and hands out the latencies of the sampled
// clients since the last time.
func (e *Engine) Reset() *hdrhistogram.Histogram {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.clients {
		c.counts = Counts{}
	}
	h := e.latency
	e.latency = NewLatency()
	return h
}

// check keeps consent for all clients.
func (e *Engine) check(ctx context.Context) {
	t := time.NewTicker(checkAtFirst / 2)
	defer t.Stop()
	var all []*Client
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			all = all[:0]
			e.mu.Lock()
			for _, c := range e.clients {
				all = append(all, c)
			}
			e.mu.Unlock()
			for _, c := range all {
				c.tick(now)
			}
		}
	}
}

// read is the reader's loop.
func (e *Engine) read(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events := make([]unix.EpollEvent, pollBatch)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(e.poll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for datagrams: %w", err)
		}
		e.mu.Lock()
		for _, event := range events[:n] {
			if c := e.clients[event.Fd]; c != nil {
				e.receiveLocked(c)
			}
		}
		e.mu.Unlock()
		if e.config.Coalesce > 0 && n < len(events) {
			pause := unix.NsecToTimespec(e.config.Coalesce.Nanoseconds())
			_ = unix.Nanosleep(&pause, nil)
		}
	}
	return nil
}

// receiveLocked empties one socket, at most readBatch datagrams.
func (e *Engine) receiveLocked(c *Client) {
	n := e.batch.read(c.fd, c.sampled)
	for i := range n {
		b := e.batch.datagram(i)
		switch {
		case len(b) < 12:
		case b[0] < 4:
			c.handleSTUN(b, e.batch.from(i))
		case 20 <= b[0] && b[0] < 64:
			c.mu.Lock()
			shake := c.shake
			c.mu.Unlock()
			if shake != nil {
				shake.push(b)
			}
		case 128 <= b[0] && b[0] < 192:
			c.handleRTPLocked(b, e.batch.arrived(i, c.sampled))
		}
	}
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// mmsgBatch is the memory of one recvmmsg.
type mmsgBatch struct {
	heads    [readBatch]mmsghdr
	vectors  [readBatch]unix.Iovec
	names    [readBatch]unix.RawSockaddrInet4
	controls [readBatch][control]byte
	data     [readBatch][datagram]byte
}

func (b *mmsgBatch) init() {
	for i := range b.heads {
		b.vectors[i].Base = &b.data[i][0]
		b.vectors[i].SetLen(datagram)
		h := &b.heads[i].hdr
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	}
}

// read takes what is there; control asks for arrival times.
func (b *mmsgBatch) read(fd int, stamped bool) int {
	for i := range b.heads {
		h := &b.heads[i].hdr
		h.Namelen = unix.SizeofSockaddrInet4
		h.Control, h.Controllen = nil, 0
		if stamped {
			h.Control = &b.controls[i][0]
			h.SetControllen(control)
		}
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.heads[0])), readBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (b *mmsgBatch) datagram(i int) []byte { return b.data[i][:min(int(b.heads[i].len), datagram)] }

func (b *mmsgBatch) from(i int) unix.SockaddrInet4 {
	port := (*[2]byte)(unsafe.Pointer(&b.names[i].Port))
	return unix.SockaddrInet4{Port: int(port[0])<<8 | int(port[1]), Addr: b.names[i].Addr}
}

// arrived is the kernel's time of arrival, or now.
func (b *mmsgBatch) arrived(i int, stamped bool) time.Time {
	if stamped {
		h := &b.heads[i].hdr
		const size = unix.SizeofCmsghdr + int(unsafe.Sizeof(unix.Timespec{}))
		if int(h.Controllen) >= size {
			c := (*unix.Cmsghdr)(unsafe.Pointer(&b.controls[i][0]))
			if c.Level == unix.SOL_SOCKET && c.Type == unix.SCM_TIMESTAMPNS {
				ts := (*unix.Timespec)(unsafe.Pointer(&b.controls[i][unix.SizeofCmsghdr]))
				return time.Unix(ts.Unix())
			}
		}
	}
	return time.Now()
}
