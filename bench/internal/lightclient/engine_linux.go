package lightclient

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/meter"
)

// Config of an Engine; the zero value works, with a socket for each client.
type Config struct {
	// Host is the address the clients live on (default 0.0.0.0: a socket each). In
	// 127.0.0.0/8 they share Sockets and get addresses from Base on.
	Host netip.Addr
	// Sockets is how many sockets the clients share on loopback (default 1, which
	// is the cheapest until the kernel's lock of it is what waits).
	Sockets int
	// Base is the first client's address on loopback (default 127.1.0.1). Engines
	// never collide, as each has ports of its own; different bases are for people
	// who read a packet trace.
	Base netip.Addr
	// VoiceSize is the shortest datagram, in bytes, that counts as voice (default
	// 0: all). Talking with short packets before and after a measured window tells
	// the window's packets from the others.
	VoiceSize int
	// Coalesce is how long the reader sleeps after a round that emptied the
	// sockets, as a network card does between interrupts (default 0). 1 ms saves
	// most wake-ups; arrival times come from the kernel and do not suffer.
	Coalesce time.Duration
	// Tick is the grid of the pacer (default 1 ms; divides 20 ms). A shorter one
	// spreads talkers finer and wakes up as much more often.
	Tick time.Duration
	// Sweep moves all due times together to and fro by as much within 2 s (default
	// 0, at most 10 ms). A kernel that samples at its ticks whether a process is in
	// user space needs that: bursts in step with the ticks are all told as one or
	// the other.
	Sweep time.Duration
	// Handshakes bounds the DTLS handshakes under way (default 16).
	Handshakes int
	// ReceiveBuffer is what a shared socket holds until it is read, in bytes as the
	// kernel counts them (default 64 MiB). A small one loses datagrams in bursts,
	// which Pace tells.
	ReceiveBuffer int
	// Ahead is how far the clock of this machine is to seem ahead (default 0: it is
	// taken as it is): a rehearsal of what Setup.Offset makes good.
	Ahead time.Duration
}

const (
	defaultTick = time.Millisecond
	minTick     = 50 * time.Microsecond
	maxSweep    = FrameInterval / 2
)

func (c *Config) validate() error {
	if !c.Host.IsValid() {
		c.Host = netip.IPv4Unspecified()
	}
	if c.Sockets == 0 {
		c.Sockets = 1
	}
	if !c.Base.IsValid() {
		c.Base = netip.AddrFrom4([4]byte{127, 1, 0, 1})
	}
	if c.Tick == 0 {
		c.Tick = defaultTick
	}
	if c.Handshakes == 0 {
		c.Handshakes = 16
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = receiveBuffer
	}
	switch {
	case !c.Host.Is4():
		return fmt.Errorf("light clients: host %v is not an IPv4 address", c.Host)
	case !c.Base.Is4() || !c.Base.IsLoopback() || c.Base.As4()[1] > 200:
		return fmt.Errorf("light clients: base %v, want an address of 127.0.0.0 to 127.200.0.0", c.Base)
	case c.Sockets < 1 || c.Sockets > 16:
		return fmt.Errorf("light clients: %d sockets, want 1 to 16", c.Sockets)
	case c.Tick < minTick || FrameInterval%c.Tick != 0:
		return fmt.Errorf("light clients: tick of %v, want a part of %v of at least %v", c.Tick, FrameInterval, minTick)
	case c.Sweep < 0 || c.Sweep > maxSweep:
		return fmt.Errorf("light clients: sweep of %v, want at most %v", c.Sweep, maxSweep)
	case c.ReceiveBuffer < 0:
		return fmt.Errorf("light clients: receive buffer of %d bytes, want at least 1", c.ReceiveBuffer)
	case c.Handshakes < 1 || c.Coalesce < 0 || c.Coalesce > 100*time.Millisecond || c.VoiceSize < 0:
		return fmt.Errorf("light clients: %d handshakes, %v between reads, voice of %d bytes: out of bounds", c.Handshakes, c.Coalesce, c.VoiceSize)
	}
	return nil
}

// Bounds of an engine.
const (
	// maxClients is how many addresses one hands out on loopback.
	maxClients = 1 << 18
	// rested is how many addresses must wait before the first of them is given
	// again: a server may send to a client that left until it notices.
	rested = 1024
)

// Engine runs many clients.
type Engine struct {
	// Immutable.
	config      Config
	cert        tls.Certificate
	fingerprint [sha256.Size]byte
	sockets     []*socket // shared; none when clients have their own, watched by poll
	base        uint32    // Config.Base
	poll, wake  int       // epoll and the eventfd that interrupts it
	handshakes  chan struct{}
	checker     *checker
	pacer       *pacer

	// Owned by read.
	inbox *inbox
	plain [datagram]byte

	reader atomic.Int32 // thread id while it runs
	// shift is the kernel's clock less the coordinator's, in nanoseconds: what is
	// taken off each arrival and each look at the clock. Written by Set.
	shift atomic.Int64

	mu sync.Mutex
	// Guarded by mu.
	voiceSize int               // Config.VoiceSize, or what Set says
	byAddress []*Client         // on loopback, by address less base
	free      []uint32          // addresses of clients that left, oldest first
	bySocket  map[int32]*Client // of clients with their own
	stopped   bool
	past      Counts // of clients that left, since the reset
	reset     time.Time
	readerCPU time.Duration // at the reset
	pacerCPU  time.Duration
	dropped   uint64 // at the reset
}

// New makes an engine without clients.
func New(config Config) (_ *Engine, err error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	base := config.Base.As4()
	e := &Engine{
		config: config, poll: -1, wake: -1, base: binary.BigEndian.Uint32(base[:]),
		handshakes: make(chan struct{}, config.Handshakes),
		checker:    newChecker(), pacer: newPacer(config.Tick, config.Sweep), inbox: newInbox(),
		bySocket: make(map[int32]*Client), reset: time.Now(),
		voiceSize: config.VoiceSize,
	}
	e.shift.Store(int64(-config.Ahead))
	defer func() {
		if err != nil {
			e.closeAll()
		}
	}()
	if e.cert, e.fingerprint, err = newCertificate(); err != nil {
		return nil, err
	}
	if e.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("open epoll: %w", err)
	}
	if e.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	if err := e.watch(e.wake); err != nil {
		return nil, err
	}
	if !config.Host.IsLoopback() {
		return e, nil
	}
	for range config.Sockets {
		s, err := openSocket(config.Host, true, config.ReceiveBuffer)
		if err != nil {
			return nil, err
		}
		e.sockets = append(e.sockets, s)
	}
	return e, nil
}

func (e *Engine) watch(fd int) error {
	if err := unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// closeAll gives all descriptors of the engine itself back.
func (e *Engine) closeAll() {
	for _, s := range e.sockets {
		s.close()
	}
	for _, fd := range []int{e.poll, e.wake} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// ownThreads are those of reader and pacer. They keep their processors of the
// runtime in their short sleeps, which it is not told of: else its monitor took
// the processors away and gave them back a thousand times a second, for more CPU
// time than the two take themselves. Everybody else gets two more instead.
const ownThreads = 2

var processors sync.Mutex // around GOMAXPROCS, which is read and written

func addProcessors(n int) {
	processors.Lock()
	defer processors.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// Run reads, checks and talks until ctx ends, then closes all clients. Meanwhile
// GOMAXPROCS is two higher.
func (e *Engine) Run(ctx context.Context) error {
	addProcessors(ownThreads)
	defer addProcessors(-ownThreads)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { e.checker.run(ctx) })
	running.Go(func() { e.pacer.run(ctx, &e.shift) })
	stop := context.AfterFunc(ctx, func() {
		var one = [8]byte{7: 1}
		_, _ = unix.Write(e.wake, one[:])
	})
	err := e.read(ctx)
	// The reader may see the end of ctx before the function is called that wakes it.
	if stop() && ctx.Err() == nil {
		err = errors.Join(err, errors.New("reader ended early"))
		cancel()
	}
	running.Wait()
	e.mu.Lock()
	e.stopped = true
	clients := e.clientsLocked(nil)
	e.mu.Unlock()
	for _, c := range clients {
		c.Close()
	}
	e.closeAll()
	return err
}

// clientsLocked appends all clients to list.
func (e *Engine) clientsLocked(list []*Client) []*Client {
	for _, c := range e.byAddress {
		if c != nil {
			list = append(list, c)
		}
	}
	for _, c := range e.bySocket {
		list = append(list, c)
	}
	return list
}

// register gives a client its address.
func (e *Engine) register(c *Client) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return errors.New("add client: the engine has stopped")
	}
	if len(e.sockets) == 0 {
		return e.registerOwnLocked(c)
	}
	offset := uint32(len(e.byAddress))
	switch {
	case len(e.free) > rested || len(e.free) > 0 && offset >= maxClients:
		offset, e.free = e.free[0], e.free[1:]
	case offset >= maxClients:
		return fmt.Errorf("add client: %d addresses are in use; start another generator", maxClients)
	default:
		e.byAddress = append(e.byAddress, nil)
	}
	binary.BigEndian.PutUint32(c.source[:], e.base+offset)
	c.socket = e.sockets[int(offset)%len(e.sockets)]
	c.local = netip.AddrPortFrom(netip.AddrFrom4(c.source), c.socket.port)
	e.byAddress[offset] = c
	return nil
}

func (e *Engine) registerOwnLocked(c *Client) error {
	s, err := openSocket(e.config.Host, false, 0)
	if err != nil {
		return err
	}
	if err := e.watch(s.fd); err != nil {
		s.close()
		return err
	}
	c.socket, c.source = s, e.config.Host.As4()
	c.local = netip.AddrPortFrom(e.config.Host, s.port)
	e.bySocket[int32(s.fd)] = c
	return nil
}

// forget takes a client's address back. Nobody sends through its socket any more.
func (e *Engine) forget(c *Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.past.Add(c.counts)
	if c.socket.shared {
		offset := binary.BigEndian.Uint32(c.source[:]) - e.base
		e.byAddress[offset] = nil
		e.free = append(e.free, offset)
		return
	}
	delete(e.bySocket, int32(c.socket.fd))
	e.dropped -= c.socket.drops() // its drops go with it
	c.socket.close()              // and out of epoll
}

// clientLocked finds who has an address.
func (e *Engine) clientLocked(to uint32) *Client {
	if offset := to - e.base; int(offset) < len(e.byAddress) {
		return e.byAddress[offset]
	}
	return nil
}

// Setup is what a coordinator tells an engine before anybody talks.
type Setup struct {
	// Offset is this machine's clock less the coordinator's. All times that come in
	// later (of talks, of judgements) and all that go out (marks, latencies, the first
	// arrival) are on the coordinator's clock.
	Offset time.Duration
	// VoiceSize and Sweep take the place of those of Config.
	VoiceSize int
	Sweep     time.Duration
}

// Set sets an engine up. Clients that it has may stay, but none may talk: their due
// times would jump.
func (e *Engine) Set(s Setup) error {
	if s.VoiceSize < 0 || s.Sweep < 0 || s.Sweep > maxSweep {
		return fmt.Errorf("set up generator: voice of %d bytes, sweep of %v: want 0 or more, and at most %v", s.VoiceSize, s.Sweep, maxSweep)
	}
	if err := e.pacer.set(s.Sweep, func() { e.shift.Store(int64(s.Offset - e.config.Ahead)) }); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.voiceSize = s.VoiceSize
	return nil
}

// Total sums up the counts of all clients, also of those that were closed.
func (e *Engine) Total() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	sum := e.past
	for _, c := range e.byAddress {
		if c != nil {
			sum.Add(c.counts)
		}
	}
	for _, c := range e.bySocket {
		sum.Add(c.counts)
	}
	return sum
}

// Heard merges what all sampled clients heard since they were last told to judge.
func (e *Engine) Heard() meter.Result {
	e.mu.Lock()
	clients := e.clientsLocked(nil)
	e.mu.Unlock()
	var sum meter.Result
	for _, c := range clients {
		if c.seat.Sampled {
			sum.Merge(c.Heard())
		}
	}
	return sum
}

// Pace is how the engine kept up since the last Reset. With late or failed
// packets, dropped ones or a busy thread the generator is the bottleneck, and what
// was measured is not the server.
type Pace struct {
	// Sent are packets the kernel took, Voice of them those due in the window of
	// their Talk. Failed were refused, or more than a second late when their turn
	// came.
	Sent, Voice, Failed uint64
	// Late are packets sent more than an interval behind their due time, Worst the
	// longest delay of all.
	Late  uint64
	Worst time.Duration
	// SocketDrops are datagrams that our own receive buffers had no room for.
	SocketDrops uint64
	// ReaderBusy and PacerBusy are CPU time of the two threads by wall time, Busy
	// the greater one: near 1 there is no more to be had of this process.
	ReaderBusy, PacerBusy, Busy float64
}

// Add makes one pace of two engines'.
func (p *Pace) Add(o Pace) {
	p.Sent += o.Sent
	p.Voice += o.Voice
	p.Failed += o.Failed
	p.Late += o.Late
	p.Worst = max(p.Worst, o.Worst)
	p.SocketDrops += o.SocketDrops
	p.ReaderBusy = max(p.ReaderBusy, o.ReaderBusy)
	p.PacerBusy = max(p.PacerBusy, o.PacerBusy)
	p.Busy = max(p.Busy, o.Busy)
}

// Pace reads the figures.
func (e *Engine) Pace() Pace {
	p := e.pacer.spoken()
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	reader, pacer, dropped := e.usageLocked()
	p.SocketDrops = dropped - e.dropped
	if wall := now.Sub(e.reset); wall > 0 {
		p.ReaderBusy = float64(max(0, reader-e.readerCPU)) / float64(wall)
		p.PacerBusy = float64(max(0, pacer-e.pacerCPU)) / float64(wall)
		p.Busy = max(p.ReaderBusy, p.PacerBusy)
	}
	return p
}

func (e *Engine) usageLocked() (reader, pacer time.Duration, dropped uint64) {
	if e.stopped {
		return 0, 0, e.dropped
	}
	for _, s := range e.sockets {
		dropped += s.drops()
	}
	for _, c := range e.bySocket {
		dropped += c.socket.drops()
	}
	return threadClock(e.reader.Load()), threadClock(e.pacer.thread.Load()), dropped
}

// Reset zeroes all counts and the pace. The next packet of a slot begins its
// sequence numbers anew.
func (e *Engine) Reset() {
	e.pacer.resetSpoken()
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.clientsLocked(nil) {
		c.counts = Counts{}
		for i := range c.slots {
			c.slots[i].span = 0
		}
	}
	e.past = Counts{}
	e.reset = now
	e.readerCPU, e.pacerCPU, e.dropped = e.usageLocked()
}

// idleRounds is how many empty rounds the reader makes before it waits for a
// wake-up, which costs the sender of the next datagram.
const idleRounds = 20

// read is the reader's loop.
func (e *Engine) read(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e.reader.Store(int32(unix.Gettid()))
	defer e.reader.Store(0)
	if len(e.sockets) == 0 {
		return e.readOwn(ctx)
	}
	// Poll leaves nothing behind at the sockets; epoll would cost every sender.
	waiting := []unix.PollFd{{Fd: int32(e.wake), Events: unix.POLLIN}}
	for _, s := range e.sockets {
		waiting = append(waiting, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	for idle := 0; ctx.Err() == nil; {
		got, full := 0, false
		for _, s := range e.sockets {
			n := e.receive(s)
			got, full = got+n, full || n == readBatch
		}
		switch {
		case full:
			continue
		case got > 0:
			idle = 0
		default:
			idle++
		}
		if e.config.Coalesce > 0 && idle < idleRounds {
			e.nap()
			continue
		}
		if _, err := unix.Poll(waiting, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for datagrams: %w", err)
		}
		idle = 0
	}
	return nil
}

func (e *Engine) nap() {
	pause := unix.NsecToTimespec(e.config.Coalesce.Nanoseconds())
	_, _, _ = unix.RawSyscall6(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0, 0, 0, 0)
}

// receive reads one batch of a shared socket and deals it out.
func (e *Engine) receive(s *socket) int {
	n := e.inbox.read(s.fd)
	if n == 0 {
		return 0
	}
	e.mu.Lock()
	for i := range n {
		to, arrived := e.inbox.meta(i)
		if c := e.clientLocked(to); c != nil && c.socket == s {
			c.handleLocked(e.inbox.datagram(i), arrived)
		}
	}
	e.mu.Unlock()
	e.inbox.again(n)
	return n
}

// readOwn is the reader's loop when each client has a socket.
func (e *Engine) readOwn(ctx context.Context) error {
	events := make([]unix.EpollEvent, 256)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(e.poll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for datagrams: %w", err)
		}
		e.mu.Lock() // around reading too: a socket is closed under it
		for _, event := range events[:n] {
			c := e.bySocket[event.Fd]
			if c == nil {
				continue
			}
			got := e.inbox.read(c.socket.fd)
			for i := range got {
				_, arrived := e.inbox.meta(i)
				c.handleLocked(e.inbox.datagram(i), arrived)
			}
			e.inbox.again(got)
		}
		e.mu.Unlock()
		if e.config.Coalesce > 0 && n < len(events) {
			e.nap()
		}
	}
	return nil
}

// handleLocked deals a datagram by its first byte (RFC 7983 section 7).
func (c *Client) handleLocked(b []byte, arrived int64) {
	switch {
	case len(b) < 12:
	case 128 <= b[0] && b[0] < 192:
		if arrived == 0 {
			arrived = time.Now().UnixNano()
		}
		c.handleRTPLocked(b, arrived)
	case b[0] < 4:
		c.handleSTUN(b)
	case 20 <= b[0] && b[0] < 64:
		c.handleDTLS(b)
	}
}
