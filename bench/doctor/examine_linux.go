package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/internal/rawloop"
)

// Lengths of what is measured.
const (
	watching = time.Second
	looping  = 500 * time.Millisecond
)

// Examine looks at this machine; it takes two seconds.
func Examine(ctx context.Context) (Snapshot, error) {
	s := Snapshot{Cores: runtime.NumCPU()}
	Read(os.DirFS("/"), os.Getpid(), &s)
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		s.Kernel = "Linux " + unix.ByteSliceToString(name.Release[:])
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		s.FilesSoft, s.FilesHard = files.Cur, files.Max
	}
	s.clock()
	s.features()
	if err := s.watch(ctx); err != nil {
		return s, fmt.Errorf("watch the machine: %w", err)
	}
	if err := s.loop(ctx); err != nil {
		return s, fmt.Errorf("measure the raw loop: %w", err)
	}
	return s, nil
}

// clock asks the kernel whether somebody keeps its clock (adjtimex(2)).
func (s *Snapshot) clock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		s.NoClock = true
		return
	}
	s.Synced = state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
	s.ClockError = time.Duration(t.Maxerror) * time.Microsecond
}

// sockTxtime is struct sock_txtime of linux/net_tstamp.h.
type sockTxtime struct {
	clock int32
	flags uint32
}

// features tries what a socket can do.
func (s *Snapshot) features() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	s.Segments = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) == nil
	s.SendTimes = setTxtime(fd, sockTxtime{clock: unix.CLOCK_MONOTONIC}) == nil
	// An empty socket says so; a kernel without the call says ENOSYS.
	s.ManyMessages = errors.Is(tryRecvmmsg(fd), unix.EAGAIN)
}

// watch sleeps a millisecond at a time for a second: how late it wakes up, what the
// cores did meanwhile, and whether the wall clock kept its pace.
func (s *Snapshot) watch(ctx context.Context) error {
	before, err := procstat.ReadMachine()
	if err != nil {
		return err
	}
	// On a thread of its own, as who paces packets has it: the scheduler of Go adds
	// its own lateness to a timer's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	var late []time.Duration
	for time.Since(began) < watching {
		if err := ctx.Err(); err != nil {
			return err
		}
		slept := time.Now()
		nap := unix.NsecToTimespec(int64(time.Millisecond))
		if unix.Nanosleep(&nap, nil) == nil {
			late = append(late, time.Since(slept)-time.Millisecond)
		}
	}
	ended := time.Now()
	after, err := procstat.ReadMachine()
	if err != nil {
		return err
	}
	// Round strips the monotonic reading: what is left is the wall clock.
	s.Jump = ended.Round(0).Sub(began.Round(0)) - ended.Sub(began)
	if spent := after.Sub(before); spent.Total() > 0 {
		s.Busy = float64(spent.Busy()) / float64(spent.Total())
		s.Steal = float64(spent.Steal) / float64(spent.Total())
	}
	if len(late) == 0 {
		return errors.New("no sleep of 1 ms came to its end")
	}
	slices.Sort(late)
	s.OversleepP50, s.OversleepP99 = late[len(late)/2], late[len(late)*99/100]
	return nil
}

// loop sends datagrams to a socket of ours as fast as it can, as many as its buffer
// holds, reads them away, and again. The median of the rounds counts.
func (s *Snapshot) loop(ctx context.Context) error {
	const size, batch = 132, 64
	listener, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	_ = listener.SetReadBuffer(wantBuffer) // as much as we are given
	room, err := receiveBuffer(listener)
	if err != nil {
		return err
	}
	targets := make([]rawloop.Target, batch)
	for i := range targets {
		targets[i] = rawloop.Target{Addr: listener.LocalAddr().(*net.UDPAddr).AddrPort(), SSRC: uint32(i)}
		targets[i].Addr = netip.AddrPortFrom(targets[i].Addr.Addr().Unmap(), targets[i].Addr.Port())
	}
	plan := rawloop.Plan{
		Interval: time.Nanosecond, SmallSize: size, Size: size, Batch: batch, Sources: []rawloop.Source{{Targets: targets}},
		Window: max(1, room/(1024*batch)), // a datagram takes 768 bytes of it
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var each []time.Duration
	read := make([]byte, 2*size)
	for began := time.Now(); time.Since(began) < looping || len(each) < 3; {
		before, err := threadTime()
		if err != nil {
			return err
		}
		plan.Start = time.Now()
		sent, err := rawloop.Run(ctx, plan)
		if err != nil {
			return err
		}
		after, err := threadTime()
		if err != nil {
			return err
		}
		if sent.Voice == 0 {
			return errors.New("the kernel took no datagram over loopback: see whether a firewall forbids it")
		}
		each = append(each, (after-before)/time.Duration(sent.Voice))
		// What was sent over loopback has arrived, or is lost.
		_ = listener.SetReadDeadline(time.Now().Add(time.Second))
		for range sent.Voice {
			if _, err := listener.Read(read); err != nil {
				break
			}
		}
	}
	slices.Sort(each)
	s.Datagram = each[len(each)/2]
	return nil
}

// threadTime is the CPU time of the calling thread.
func threadTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

func receiveBuffer(c *net.UDPConn) (size int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) }); e != nil {
		return 0, e
	}
	return size, err
}
