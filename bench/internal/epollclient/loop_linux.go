package epollclient

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	// tick is how often heartbeats and arrivals are looked at.
	tick = 5 * time.Millisecond
	// lateRead is from when on bytes were read late: the loop was busy.
	lateRead = 50 * time.Millisecond
	// interval is how often a session beats: the server asks for one in 41.25 s.
	interval = 40 * time.Second
	// retryFirst is about when a connection that was refused is tried again, at a
	// random moment as clients do; each time twice as late, up to retryMost.
	retryFirst = time.Second
	retryMost  = 4 * time.Second
	// readBuffer is shared by all sessions.
	readBuffer = 256 << 10
	// events are taken of epoll at once.
	events = 512
	// dueAtOnce bounds what is begun between two looks: whoever connects is to say
	// something soon, as a client by itself would.
	dueAtOnce = 64
	// pause follows each look at the sockets: what comes meanwhile is read by one call,
	// and wakes nobody. Times are the kernel's, so it makes none longer, but that bytes
	// read together have the time of the last.
	pause = 3 * time.Millisecond
)

// What ends a connection, beside close codes and the kernel's errors.
var (
	errClosed  = errors.New("closed by the server")
	errStatus  = errors.New("upgrade refused")
	errUnread  = errors.New("the server does not read")
	errInvalid = errors.New("op 9, invalid session")
)

// Loop holds the sessions.
type Loop struct {
	// Immutable.
	epoll, bell int

	// Owned by Run.
	servers   []place
	yardstick unix.SockaddrInet4
	mark      []byte
	random    *rand.Rand
	sessions  []*session
	byFD      []*session
	agenda    agenda
	beats     int // sent since begun, in turn over sessions
	begun     time.Time
	buf, out  []byte
	control   [64]byte
	message   unix.Msghdr // of reads: buf and control
	vector    unix.Iovec
	inside    int // sessions that are in
	tally     Tally
	posts     []Heard // by number
	delay     *hdrhistogram.Histogram
	entering  *entering // nil: nobody is on the way in

	mu sync.Mutex
	// Guarded by mu.
	todo  []func()
	ended bool
}

// place is a server, by its address and as it is called.
type place struct {
	at   unix.SockaddrInet4
	host string
}

// entering is a group of sessions on its way in.
type entering struct {
	left    int
	give    time.Time
	waiting map[*session]bool
	took    *hdrhistogram.Histogram
	failed  map[string]int
	done    chan Entered
}

// Entered is what came of a group.
type Entered struct {
	In     int
	Failed map[string]int // by why they did not get in
	Took   *hdrhistogram.Snapshot
}

// Tally is what was heard since the last one.
type Tally struct {
	In        int   // sessions that are in
	Delivered int64 // posts heard, each once by each session
	Twice     int64
	Aliens    int64 // messages of others
	Garbled   int64
	// Repeated are sequence numbers that did not rise. They leap, so nobody knows which
	// were skipped: an event that was lost is known by its post.
	Repeated         int64
	Reads, LateReads int64
	Retries          map[string]int // connections on the way in that were tried again, by why
	Frames, Bytes    int64
	Lost             map[string]int         // connections that ended by themselves, by why
	Delay            *hdrhistogram.Snapshot // post to each session
	Posts            []Heard                // those from the number on that was asked for
}

// Heard is what became of a post.
type Heard struct {
	Seen int   // by how many sessions
	Last int64 // Unix ns, of the last of them
}

// Histogram holds 10 µs to 2 min in ns, exact to 1 %.
func Histogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(10*time.Microsecond), int64(2*time.Minute), 2)
}

func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(ns, 0), int64(2*time.Minute))) // within its bounds
}

// New makes a loop of sessions at a server; posts of a run begin with mark.
func New(server netip.AddrPort, mark string, seed uint64) (*Loop, error) {
	l := &Loop{servers: []place{{unix.SockaddrInet4{Addr: server.Addr().As4(), Port: int(server.Port())}, server.String()}}, mark: []byte(mark + " "),
		random: rand.New(rand.NewPCG(seed, 9)), buf: make([]byte, readBuffer), begun: time.Now(), delay: Histogram()}
	l.vector.Base = &l.buf[0]
	l.vector.SetLen(len(l.buf))
	l.message.Iov, l.message.Control = &l.vector, &l.control[0]
	l.message.SetIovlen(1)
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	if l.bell, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.bell, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.bell)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make bell: %w", err), unix.Close(l.epoll))
	}
	return l, nil
}

// Run serves until ctx ends; then all connections are closed.
func (l *Loop) Run(ctx context.Context) error {
	release := context.AfterFunc(ctx, func() { l.ring(func() { l.ended = true }) })
	defer release()
	defer l.close()
	list := make([]unix.EpollEvent, events)
	for more := false; !l.work(); {
		wait := int(tick.Milliseconds())
		if more {
			wait = 0
		}
		n, err := unix.EpollWait(l.epoll, list, wait)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait: %w", err)
		}
		now := time.Now()
		for _, e := range list[:max(n, 0)] {
			if int(e.Fd) == l.bell {
				var b [8]byte
				_, _ = unix.Read(l.bell, b[:])
				continue
			}
			s := l.byFD[e.Fd]
			switch {
			case s == nil: // closed by an event before this one
			case s.stage == connecting:
				l.connected(s)
			default:
				l.readable(s, now.UnixNano(), e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
			}
		}
		more = l.turn(time.Now())
		if n > 0 && n < len(list) && !more {
			time.Sleep(pause)
		}
	}
	return nil
}

func (l *Loop) close() {
	for _, s := range l.sessions {
		if s.stage != away {
			_ = unix.Close(s.fd)
		}
	}
	_ = unix.Close(l.bell)
	_ = unix.Close(l.epoll)
}

// ring has f done by the loop.
func (l *Loop) ring(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.todo = append(l.todo, f)
	_, _ = unix.Write(l.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// work does what was asked for, and says whether Run is to end.
func (l *Loop) work() bool {
	l.mu.Lock()
	todo := l.todo
	l.todo = nil
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
	return l.ended
}

// turn does what is due, and says whether there is more of it.
func (l *Loop) turn(now time.Time) (more bool) {
	due := func() bool { return len(l.agenda) > 0 && !l.agenda[0].at.After(now) }
	for n := 0; n < dueAtOnce && due(); n++ {
		heap.Pop(&l.agenda).(item).do()
	}
	if n := len(l.sessions); n > 0 {
		want := int(float64(n) * float64(now.Sub(l.begun)) / float64(interval))
		for ; l.beats < want; l.beats++ {
			if s := l.sessions[l.beats%n]; s.stage == in && !s.raw {
				l.beat(s)
			}
		}
	}
	if e := l.entering; e != nil && (e.left == 0 || now.After(e.give)) {
		for s := range e.waiting {
			e.failed["not in within the patience"]++
			s.given = true
			l.leave(s)
		}
		l.entering = nil
		e.done <- Entered{In: int(e.took.TotalCount()), Failed: e.failed, Took: e.took.Export()}
	}
	return due()
}

// item is something to do at a moment.
type item struct {
	at time.Time
	do func()
}

// agenda is a heap.
type agenda []item

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(item)) }
func (a *agenda) Pop() any {
	old := *a
	x := old[len(old)-1]
	old[len(old)-1] = item{}
	*a = old[:len(old)-1]
	return x
}

func (l *Loop) later(at time.Time, do func()) { heap.Push(&l.agenda, item{at, do}) }

// group begins to count who comes in.
func (l *Loop) group(list []*session, patience time.Duration) chan Entered {
	e := &entering{left: len(list), give: time.Now().Add(patience), waiting: make(map[*session]bool, len(list)), took: Histogram(), failed: make(map[string]int), done: make(chan Entered, 1)}
	for _, s := range list {
		e.waiting[s] = true
	}
	l.entering = e
	return e.done
}

// enter notes that a session is in.
func (l *Loop) enter(s *session, at int64) {
	s.stage, s.tries = in, 0
	if !s.raw {
		l.inside++
	}
	if e := l.entering; e != nil && e.waiting[s] {
		delete(e.waiting, s)
		e.left--
		record(e.took, at-s.due)
	}
}

// leave ends the connection.
func (l *Loop) leave(s *session) {
	if s.fd > 0 {
		if s.fd < len(l.byFD) {
			l.byFD[s.fd] = nil
		}
		_ = unix.Close(s.fd)
	}
	if s.stage == in && !s.raw {
		l.inside--
	}
	s.fd, s.stage, s.partial = 0, away, nil
}

// fail ends a connection that did not serve. Who is on the way in tries again soon.
func (l *Loop) fail(s *session, why error) {
	was := s.stage
	l.leave(s)
	e := l.entering
	switch {
	case was == in:
		count(&l.tally.Lost, why)
	case e == nil || !e.waiting[s]:
	case s.given:
		delete(e.waiting, s)
		e.left--
		e.failed[reason(why)]++
	default:
		count(&l.tally.Retries, why)
		wait := min(retryFirst<<s.tries, retryMost)
		s.tries = min(s.tries+1, 10)
		l.later(time.Now().Add(wait/2+time.Duration(l.random.Int64N(int64(wait)))), func() {
			if !s.given && s.stage == away {
				l.connect(s)
			}
		})
	}
}

// count counts an error in a map that may not be made yet.
func count(by *map[string]int, why error) {
	if *by == nil {
		*by = make(map[string]int)
	}
	(*by)[reason(why)]++
}

// reason is an error without what differs from one connection to the next.
func reason(err error) string {
	if errno := syscall.Errno(0); errors.As(err, &errno) && errno == unix.EADDRNOTAVAIL {
		return "no local port left"
	}
	return err.Error()
}

// hear takes the event of a post.
func (l *Loop) hear(s *session, event []byte, at int64) {
	_, rest, ok := bytes.Cut(event, l.mark)
	if !ok {
		l.tally.Aliens++
		return
	}
	n, rest := number(rest)
	if len(rest) == 0 || n >= maxPosts {
		l.tally.Aliens++
		return
	}
	due, _ := number(rest[1:])
	for uint64(len(s.seen)) <= n/64 {
		s.seen = append(s.seen, 0)
	}
	if bit := uint64(1) << (n % 64); s.seen[n/64]&bit != 0 {
		l.tally.Twice++
		return
	} else {
		s.seen[n/64] |= bit
	}
	for uint64(len(l.posts)) <= n {
		l.posts = append(l.posts, Heard{})
	}
	p := &l.posts[n]
	p.Seen++
	p.Last = max(p.Last, at)
	l.tally.Delivered++
	record(l.delay, at-int64(due))
}

// maxPosts bounds what a run may post.
const maxPosts = 1 << 20

// Arrive has more sessions come, at the moments of a Poisson process of rate a
// second, and returns when each is in or was given up.
func (l *Loop) Arrive(ctx context.Context, tokens []string, sources []netip.Addr, n int, rate float64, patience time.Duration) (Entered, error) {
	return l.enterAll(ctx, func() chan Entered {
		begin := time.Now().Add(tick)
		at := begin
		var list []*session
		for i := range n {
			s := &session{token: tokens[i%len(tokens)], source: sources[i%len(sources)].As4()}
			at = at.Add(time.Duration(l.random.ExpFloat64() / rate * float64(time.Second)))
			s.due = at.UnixNano()
			list = append(list, s)
			l.later(at, func() { l.connect(s) })
		}
		l.sessions = append(l.sessions, list...)
		return l.group(list, at.Sub(begin)+patience)
	})
}

// ArriveRaw opens raw sessions at a yardstick.
func (l *Loop) ArriveRaw(ctx context.Context, at netip.AddrPort, sources []netip.Addr, n int, patience time.Duration) (Entered, error) {
	return l.enterAll(ctx, func() chan Entered {
		l.yardstick = unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
		now := time.Now()
		list := make([]*session, n)
		for i := range list {
			list[i] = &session{source: sources[i%len(sources)].As4(), raw: true, due: now.UnixNano()}
			l.later(now, func() { l.connect(list[i]) })
		}
		l.sessions = append(l.sessions, list...)
		return l.group(list, patience)
	})
}

// Cut ends a share of the connections as a lost network would, with a reset, and
// says how many.
func (l *Loop) Cut(ctx context.Context, share float64) (n int, err error) {
	err = l.do(ctx, func() {
		list := slices.DeleteFunc(slices.Clone(l.sessions), func(s *session) bool { return s.stage != in || s.raw })
		l.random.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		n = int(share * float64(len(list)))
		for _, s := range list[:n] {
			_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			l.leave(s)
			s.cut = true
		}
	})
	return n, err
}

// Resume has all that were cut come back at a moment, and returns when each is in or
// was given up.
func (l *Loop) Resume(ctx context.Context, at time.Time, patience time.Duration) (Entered, error) {
	return l.enterAll(ctx, func() chan Entered {
		list := slices.DeleteFunc(slices.Clone(l.sessions), func(s *session) bool { return !s.cut })
		for _, s := range list {
			s.cut, s.resumes, s.due = false, true, at.UnixNano()
			l.later(at, func() { l.connect(s) })
		}
		return l.group(list, time.Until(at)+patience)
	})
}

// Count is how many posts were heard since the last Tally, and who is in.
func (l *Loop) Count(ctx context.Context) (delivered int64, sessions int, err error) {
	err = l.do(ctx, func() { delivered, sessions = l.tally.Delivered, l.inside })
	return delivered, sessions, err
}

// Tally is what was heard since the last one, and what became of the posts from a
// number on.
func (l *Loop) Tally(ctx context.Context, from int) (t Tally, err error) {
	err = l.do(ctx, func() {
		t = l.tally
		t.In, t.Delay, t.Posts = l.inside, l.delay.Export(), slices.Clone(l.posts[min(from, len(l.posts)):])
		l.tally, l.delay = Tally{}, Histogram()
	})
	return t, err
}

// do has f done by the loop and waits.
func (l *Loop) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	l.ring(func() { f(); close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enterAll has a group begin and waits for it.
func (l *Loop) enterAll(ctx context.Context, begin func() chan Entered) (Entered, error) {
	var done chan Entered
	if err := l.do(ctx, func() { done = begin() }); err != nil {
		return Entered{}, err
	}
	select {
	case e := <-done:
		return e, nil
	case <-ctx.Done():
		return Entered{}, ctx.Err()
	}
}

// MostSessions is how many sessions this process may hold: its limit of open files,
// less those that it opens for other things.
func MostSessions() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	return int(limit.Cur) - spareFiles, nil
}

const spareFiles = 500
