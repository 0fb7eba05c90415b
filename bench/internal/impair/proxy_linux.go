package impair

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config of a Proxy; the zero value works.
type Config struct {
	// Seed of all random numbers.
	Seed uint64
	// Listen is the address of the doors (default 127.0.0.1).
	Listen netip.Addr
	// Clients bounds the clients (default 4,096). Each costs a descriptor and a
	// kilobyte; datagrams of further sources are refused.
	Clients int
	// Pending bounds the packets that wait (default 65,536), 2 KiB each: one second
	// of 65 thousand packets/s.
	Pending int
	// Idle is after how long without a datagram of its own a client is forgotten
	// (default 60 s; consent checks come every 5 s, RFC 7675).
	Idle time.Duration
}

func (c Config) withDefaults() Config {
	if !c.Listen.IsValid() {
		c.Listen = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	c.Listen = c.Listen.Unmap()
	if c.Clients == 0 {
		c.Clients = 4096
	}
	if c.Pending == 0 {
		c.Pending = 65536
	}
	if c.Idle == 0 {
		c.Idle = time.Minute
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Clients < 1:
		return fmt.Errorf("%d clients: want at least 1", c.Clients)
	case c.Pending < 1:
		return fmt.Errorf("%d pending packets: want at least 1", c.Pending)
	case c.Idle < time.Millisecond:
		return fmt.Errorf("idle %v: want at least 1ms", c.Idle)
	case c.Listen.Zone() != "":
		return fmt.Errorf("listen on %v: want an address without a zone", c.Listen)
	}
	return nil
}

// Bounds that no Config moves.
const (
	maxDoors  = 64
	maxFlows  = 64 // per client and direction; a call has up to 33 down
	pollBatch = 256
	// socketBuffer is asked for at each door, for 2,700 datagrams in one burst (768
	// bytes of kernel memory each); upstream sockets keep the default.
	socketBuffer = 2 << 20
)

// holdLimit is how long a packet is held back for later ones at most.
const holdLimit = 200 * time.Millisecond

// lateness above which a packet counts as late.
const lateness = 200 * time.Microsecond

// Proxy passes datagrams between clients and servers, and impairs RTP.
type Proxy struct {
	// Immutable.
	config            Config
	poll, wake, timer int
	began             time.Time // zero of our clock

	// Owned by loop.
	events [pollBatch]unix.EpollEvent
	batch  batch
	armed  int64 // when the timer will go off, zero when it has

	mu sync.Mutex
	// Guarded by mu. Loop holds it for one batch of one socket.
	laws     [3]*law // by Direction
	doors    map[netip.AddrPort]*door
	ends     map[int32]*end
	clients  int
	queue    queue
	counts   Counts
	expired  int64 // when clients were last looked through
	stopping bool
	running  chan struct{} // closed when Run has ended; nil before it
	closed   bool
}

// door is a listening socket, for one address of a server.
type door struct {
	fd      int
	server  netip.AddrPort
	addr    netip.AddrPort
	clients map[netip.AddrPort]*client
}

// client is a source address at a door.
type client struct {
	door   *door
	fd     int // upstream
	from   netip.AddrPort
	name   unix.Sockaddr // the same for the kernel
	number uint64
	heard  int64
	flows  [3][]*flow // by Direction, the one heard last in front
	began  [3]uint64  // flows ever
	gone   bool
}

// end is what a descriptor is: a door, or the upstream socket of a client.
type end struct {
	door   *door
	client *client
	drops  uint32 // the kernel's count when it last told
}

// New makes a proxy that lets everything pass. It has no door yet.
func New(config Config) (*Proxy, error) {
	p := &Proxy{config: config.withDefaults(), poll: -1, wake: -1, timer: -1,
		doors: make(map[netip.AddrPort]*door), ends: make(map[int32]*end)}
	if err := p.config.validate(); err != nil {
		return nil, fmt.Errorf("make proxy: %w", err)
	}
	p.queue.limit = p.config.Pending
	p.laws[Up], p.laws[Down] = newLaw(Rule{Direction: Up}), newLaw(Rule{Direction: Down})
	p.batch.init()
	if err := p.open(); err != nil {
		p.release()
		return nil, fmt.Errorf("make proxy: %w", err)
	}
	return p, nil
}

func (p *Proxy) open() error {
	var err error
	if p.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("open epoll: %w", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("open eventfd: %w", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("open timer: %w", err)
	}
	// Edge-triggered, neither needs to be read: each wake and each setting is one
	// event.
	for _, fd := range []int{p.wake, p.timer} {
		if err := unix.EpollCtl(p.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
	p.began = time.Now()
	return nil
}

// now is the proxy's clock, in nanoseconds.
func (p *Proxy) now() int64 { return int64(time.Since(p.began)) }

// Set changes the rule of a direction, or of both, from the next packet on.
func (p *Proxy) Set(r Rule) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("set rule: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range []Direction{Up, Down} {
		if r.Direction == Both || r.Direction == d {
			one := r
			one.Direction = d
			p.laws[d] = newLaw(one)
		}
	}
	return nil
}

// Rules are those in force.
func (p *Proxy) Rules() (up, down Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.laws[Up].Rule, p.laws[Down].Rule
}

// Counts are what was done until now.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counts
	c.Clients = p.clients
	return c
}

// Rewrite makes an answer lead through the proxy: its UDP candidates become host
// candidates of doors, TCP candidates and names are taken out.
func (p *Proxy) Rewrite(answer string) (string, error) { return rewrite(answer, p.Through) }

// Through is the address of the door to a server, which is opened when it is new.
// It stays until the proxy ends.
func (p *Proxy) Through(server netip.AddrPort) (netip.AddrPort, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.stopping {
		return netip.AddrPort{}, errors.New("open door: the proxy has ended")
	}
	server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
	if d := p.doors[server]; d != nil {
		return d.addr, nil
	}
	if len(p.doors) >= maxDoors {
		return netip.AddrPort{}, fmt.Errorf("open door to %v: there are %d, one per address of a server; use a second proxy", server, maxDoors)
	}
	d := &door{server: server, clients: make(map[netip.AddrPort]*client)}
	var err error
	if d.fd, err = socket(p.config.Listen); err != nil {
		return netip.AddrPort{}, fmt.Errorf("open door to %v: %w", server, err)
	}
	if err := p.openDoorLocked(d); err != nil {
		_ = unix.Close(d.fd)
		return netip.AddrPort{}, fmt.Errorf("open door to %v: %w", server, err)
	}
	p.doors[server] = d
	return d.addr, nil
}

func (p *Proxy) openDoorLocked(d *door) error {
	// Past the limit of net.core.rmem_max where we may.
	if unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
	if err := unix.Bind(d.fd, sockaddr(netip.AddrPortFrom(p.config.Listen, 0))); err != nil {
		return fmt.Errorf("bind to %v: %w", p.config.Listen, err)
	}
	name, err := unix.Getsockname(d.fd)
	if err != nil {
		return fmt.Errorf("name socket: %w", err)
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		d.addr = netip.AddrPortFrom(netip.AddrFrom4(n.Addr), uint16(n.Port))
	case *unix.SockaddrInet6:
		d.addr = netip.AddrPortFrom(netip.AddrFrom16(n.Addr), uint16(n.Port))
	}
	return p.watchLocked(d.fd, &end{door: d})
}

func (p *Proxy) watchLocked(fd int, e *end) error {
	if err := unix.EpollCtl(p.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	p.ends[int32(fd)] = e
	return nil
}

// socket makes one of the family of an address that tells arrivals and drops.
func socket(like netip.Addr) (int, error) {
	family := unix.AF_INET
	if like.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	for _, option := range []int{unix.SO_TIMESTAMPNS, unix.SO_RXQ_OVFL} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("ask for arrival times and drops: %w", err)
		}
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Run passes datagrams until ctx ends or Close is called, then closes all sockets.
// Packets still pending then are never sent; [Tally.Pending] tells how many.
func (p *Proxy) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.closed || p.stopping || p.running != nil {
		p.mu.Unlock()
		return errors.New("run proxy: it has run, or was closed")
	}
	p.running = make(chan struct{})
	p.mu.Unlock()
	defer close(p.running)
	stopWatching := context.AfterFunc(ctx, p.stop)
	// The loop's thread may be given a priority, so it must end with the loop.
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		favour()
		ended <- p.loop()
	}()
	err := <-ended
	stopWatching()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping, p.closed = true, true
	p.release()
	return err
}

// favour asks the scheduler to wake this thread ahead of others. Without the right
// to it, it stays as it is: delays are then less precise on a busy machine.
func favour() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10) }

// Close ends Run and waits for it.
func (p *Proxy) Close() {
	p.stop()
	p.mu.Lock()
	running := p.running
	if running == nil && !p.closed {
		p.closed = true
		p.release()
	}
	p.mu.Unlock()
	if running != nil {
		<-running
	}
}

func (p *Proxy) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.stopping {
		return
	}
	p.stopping = true
	var one = [8]byte{7: 1}
	_, _ = unix.Write(p.wake, one[:])
}

// release closes all descriptors.
func (p *Proxy) release() {
	for fd := range p.ends {
		_ = unix.Close(int(fd))
	}
	clear(p.ends)
	clear(p.doors)
	p.clients = 0
	for _, fd := range []int{p.timer, p.wake, p.poll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// loop is the one thread that reads, decides and sends.
func (p *Proxy) loop() error {
	for {
		stop, err := p.round(time.Second)
		if stop || err != nil {
			return err
		}
	}
}

// round waits for datagrams or the time of the next pending packet, at most so
// long, and handles what is there. A second is often enough to look for idle
// clients.
func (p *Proxy) round(longest time.Duration) (stop bool, err error) {
	p.mu.Lock()
	p.armLocked()
	p.mu.Unlock()
	wait := min(longest, p.config.Idle/2).Milliseconds() + 1
	n, err := unix.EpollWait(p.poll, p.events[:], int(wait))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("wait for datagrams: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return true, nil
	}
	p.sendDueLocked(p.now())
	for _, event := range p.events[:n] {
		if event.Fd == int32(p.timer) {
			p.armed = 0
			continue
		}
		e := p.ends[event.Fd]
		if e == nil {
			continue // the wake-up
		}
		p.receiveLocked(e, int(event.Fd))
		// Let in whoever waits to ask or to set.
		p.mu.Unlock()
		p.mu.Lock()
	}
	if now := p.now(); now-p.expired >= int64(min(longest, p.config.Idle/2)) {
		p.expired = now
		p.expireLocked(now)
	}
	return p.stopping, nil
}

// armLocked sets the timer to the next pending packet. It is a high-resolution
// timer without slack, unlike the timeout of epoll_wait.
func (p *Proxy) armLocked() {
	first := p.queue.first()
	if first == nil || first.due == p.armed {
		return
	}
	p.armed = first.due
	in := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, first.due-p.now()))}
	_ = unix.TimerfdSettime(p.timer, 0, &in, nil) // of a valid time
}

// receiveLocked takes one batch from a socket.
func (p *Proxy) receiveLocked(e *end, fd int) {
	n := p.batch.read(fd)
	for i := range n {
		now := time.Now()
		clock := int64(now.Sub(p.began))
		stamp, drops := p.batch.control(i)
		if drops != 0 { // not told with each datagram
			p.counts.SocketDrops += uint64(drops - e.drops)
			e.drops = drops
		}
		// The kernel's stamp is of the wall clock. If that was just set, a packet is
		// as old as it may be or brand new, for once.
		arrived := clock
		if stamp != 0 {
			arrived -= min(max(0, now.UnixNano()-stamp), int64(time.Second))
		}
		if p.batch.tooLong(i) {
			p.counts.TooLong++
			continue
		}
		p.sendDueLocked(clock)
		if c, d := p.clientLocked(e, i, clock); c != nil {
			p.handleLocked(c, d, p.batch.datagram(i), arrived, clock)
		}
	}
	p.sendDueLocked(p.now())
}

// clientLocked is whose datagram i is, and whither it goes.
func (p *Proxy) clientLocked(e *end, i int, clock int64) (*client, Direction) {
	if e.client != nil {
		return e.client, Down
	}
	from := p.batch.from(i)
	c := e.door.clients[from]
	if c == nil {
		var err error
		if c, err = p.admitLocked(e.door, from); err != nil {
			p.counts.Refused++
			p.counts.Why = err.Error()
			return nil, Up
		}
	}
	c.heard = clock
	return c, Up
}

// admitLocked makes a client of a source address.
func (p *Proxy) admitLocked(d *door, from netip.AddrPort) (*client, error) {
	if p.clients >= p.config.Clients {
		return nil, fmt.Errorf("there are %d clients; raise the bound or use a second proxy", p.clients)
	}
	fd, err := socket(d.server.Addr())
	if err != nil {
		return nil, err
	}
	c := &client{door: d, fd: fd, from: from, name: sockaddr(from), number: p.counts.Seen}
	if err := unix.Connect(fd, sockaddr(d.server)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connect to %v: %w", d.server, err)
	}
	if err := p.watchLocked(fd, &end{client: c}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	p.counts.Seen++
	p.clients++
	d.clients[from] = c
	return c, nil
}

// expireLocked forgets clients that were silent too long.
func (p *Proxy) expireLocked(clock int64) {
	for _, d := range p.doors {
		for from, c := range d.clients {
			if clock-c.heard < int64(p.config.Idle) {
				continue
			}
			c.gone = true // for its pending packets
			delete(d.clients, from)
			delete(p.ends, int32(c.fd))
			_ = unix.Close(c.fd)
			p.clients--
		}
	}
}

func (p *Proxy) tally(d Direction) *Tally {
	if d == Up {
		return &p.counts.Up
	}
	return &p.counts.Down
}

// flowLocked finds the flow of a packet, or begins it; when there are too many,
// the one silent longest makes room.
func (p *Proxy) flowLocked(c *client, d Direction, ssrc uint32) *flow {
	flows := c.flows[d]
	for i, f := range flows {
		if f.ssrc == ssrc {
			copy(flows[1:i+1], flows[:i])
			flows[0] = f
			return f
		}
	}
	// Clients by order of appearance, in each the directions, in each the flows.
	f := newFlow(p.config.Seed, c.number<<32|uint64(d)<<24|c.began[d]&0xffffff, ssrc)
	c.began[d]++
	if len(flows) < maxFlows {
		flows = append(flows, nil)
	} else {
		p.counts.Forgotten++
	}
	copy(flows[1:], flows)
	flows[0] = f
	c.flows[d] = flows
	return f
}

// handleLocked decides over one datagram: sends it, keeps it or drops it.
func (p *Proxy) handleLocked(c *client, d Direction, b []byte, arrived, clock int64) {
	t, l := p.tally(d), p.laws[d]
	if !isRTP(b) {
		switch {
		case l.Cut:
			t.OtherCut++
		case p.sendLocked(c, d, b) != nil:
			t.OtherFailed++
		default:
			t.Other++
		}
		return
	}
	t.Received++
	f, timestamp := p.flowLocked(c, d, rtpSSRC(b)), rtpTimestamp(b)
	f.hear(timestamp)
	if l.Cut {
		t.Cut++
		return
	}
	v := f.judge(l, timestamp)
	switch v.fate {
	case lost:
		t.Lost++
		return
	case clipped:
		t.Clipped++
		return
	}
	due := arrived + int64(v.delay)
	if v.hold {
		held := p.keepLocked(c, d, f, due+int64(holdLimit), arrived, b)
		if held != nil {
			f.held, held.behind = held, l.Behind
		}
		return
	}
	// A packet that need not wait goes from where it lies. All that were due before
	// it have gone: receiveLocked sees to that.
	due = max(due, f.newest)
	if due <= clock {
		p.passedLocked(t, p.sendLocked(c, d, b), arrived, due, clock, v.delay > 0, false)
	} else if p.keepLocked(c, d, f, due, arrived, b) == nil {
		return
	}
	f.newest = due
	if v.double {
		if copied := p.queue.add(due, b); copied != nil {
			copied.client, copied.direction, copied.flow, copied.double = c, d, f, true
		}
	}
	if held := f.held; held != nil {
		held.overtaken++
		if held.behind--; held.behind == 0 {
			p.queue.move(held, max(due, held.due-int64(holdLimit)))
			f.newest = max(f.newest, held.due)
			f.held = nil
		}
	}
}

// keepLocked lets a packet wait, nil when there are too many.
func (p *Proxy) keepLocked(c *client, d Direction, f *flow, due, arrived int64, b []byte) *pending {
	t := p.tally(d)
	w := p.queue.add(due, b)
	if w == nil {
		t.Overflow++
		return nil
	}
	t.Pending++
	w.client, w.direction, w.flow, w.arrived = c, d, f, arrived
	return w
}

// sendDueLocked sends all packets whose time has come.
func (p *Proxy) sendDueLocked(clock int64) {
	for w := p.queue.first(); w != nil && w.due <= clock; w = p.queue.first() {
		p.queue.next()
		t := p.tally(w.direction)
		err := p.sendLocked(w.client, w.direction, w.data[:w.size])
		if w.double {
			if err == nil {
				t.Duplicated++
			}
		} else {
			t.Pending--
			if w.flow.held == w { // nothing came behind it in time
				w.flow.held = nil
			}
			p.passedLocked(t, err, w.arrived, w.due, clock, true, w.overtaken > 0)
		}
		p.queue.done(w)
		clock = p.now()
	}
}

// passedLocked counts a packet that was sent, or could not be.
func (p *Proxy) passedLocked(t *Tally, err error, arrived, due, clock int64, delayed, overtaken bool) {
	if err != nil {
		t.Failed++
		return
	}
	t.Passed++
	if delayed {
		t.Delayed++
	}
	if overtaken {
		t.Reordered++
	}
	t.Waited += time.Duration(clock - arrived)
	if late := time.Duration(clock - due); late > lateness {
		t.Late++
		t.Worst = max(t.Worst, late)
	}
}

var errGone = errors.New("client was forgotten")

// sendLocked sends b on. An error that an earlier datagram left on the socket (its
// receiver was not there, ICMP) does not keep this one back.
func (p *Proxy) sendLocked(c *client, d Direction, b []byte) error {
	if c.gone {
		return errGone
	}
	err := c.send(d, b)
	if err == unix.ECONNREFUSED || err == unix.EINTR {
		err = c.send(d, b)
	}
	return err
}

func (c *client) send(d Direction, b []byte) error {
	if d == Down {
		return unix.Sendto(c.door.fd, b, unix.MSG_DONTWAIT, c.name)
	}
	_, err := unix.Write(c.fd, b)
	return err
}
