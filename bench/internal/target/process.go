package target

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookFor refuses a program that is not there, before anything is started.
func lookFor(program *string) error {
	if *program == "" {
		*program = "bin/voicefleet"
	}
	if _, err := os.Stat(*program); err != nil {
		return fmt.Errorf("no program to measure: %w (make build makes it)", err)
	}
	return nil
}

// process is a program we started.
type process struct {
	// Immutable.
	name  string // for people
	cmd   *exec.Cmd
	log   *kept
	ended chan struct{} // closed when it has; how is set before
	how   error

	said   *os.File      // what it, and what outlives it, writes
	copied chan struct{} // closed when that has been read to the end

	stopping atomic.Bool
}

// begin starts a program whose log is kept, and goes to also as well.
func begin(name, program string, env []string, also io.Writer, args ...string) (*process, error) {
	return beginAt(nil, name, program, env, also, args...)
}

// beginAt is begin on the host that enter takes the thread to.
func beginAt(enter func() error, name, program string, env []string, also io.Writer, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(program, args...), log: &kept{also: also}, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	// A pipe of our own: an engine that outlives its agent holds it too, and the end
	// of the agent is not to wait for that.
	from, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.cmd.Stdout, p.cmd.Stderr = to, to
	copied := make(chan struct{})
	p.said, p.copied = from, copied
	go func() { // ends when nobody holds the pipe any more, or with stop
		defer close(copied)
		defer from.Close()
		_, _ = io.Copy(p.log, from)
	}()
	// A group of its own: Ctrl-C is for us, who end it in order; else what it says
	// while it dies is taken for a failure. The signal of our death comes when the
	// thread ends that started the process, so that one must stay.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() { // ends with the process; stop waits for it
		runtime.LockOSThread()
		defer close(p.ended)
		var err error
		if enter == nil {
			defer runtime.UnlockOSThread()
		} else { // the thread is elsewhere now and ends with us
			err = enter()
		}
		if err == nil {
			err = p.cmd.Start()
		}
		_ = to.Close()
		started <- err
		if err == nil {
			p.how = p.cmd.Wait()
			select { // its last words
			case <-copied:
			case <-time.After(lastWords):
			}
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// err is why it ended: nil while it runs, and when stop ended it.
func (p *process) err() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	switch {
	case p.stopping.Load():
		return nil
	case p.how != nil:
		return fmt.Errorf("%s ended: %w\n%s", p.name, p.how, p.log.tail())
	}
	return fmt.Errorf("%s ended of itself\n%s", p.name, p.log.tail())
}

// because adds to an error that the server has ended, if it has.
func (p *process) because(err error) error {
	if err == nil {
		return nil
	}
	if ended := p.err(); ended != nil {
		return fmt.Errorf("%w: %w", err, ended)
	}
	return err
}

// stop ends it and waits.
func (p *process) stop() error {
	p.stopping.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	patience := time.NewTimer(endTimeout)
	defer patience.Stop()
	defer func() { // what has outlived it may hold the pipe for long
		_ = p.said.Close()
		<-p.copied
	}()
	select {
	case <-p.ended:
		return nil
	case <-patience.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	return fmt.Errorf("%s did not end within %v of SIGTERM and was killed\n%s", p.name, endTimeout, p.log.tail())
}

const (
	// lastWords is how long what a program wrote at its end may take to be read.
	lastWords = 100 * time.Millisecond
	// logKept is how much of a log is kept for an error.
	logKept = 16 << 10
	// lineKept is how much of a line is looked at.
	lineKept = 256
)

// named passes whole lines on, each with the name of the program that wrote it.
type named struct {
	name string
	to   io.Writer
	line []byte // not ended yet
}

func byName(name string, to io.Writer) io.Writer {
	if to == nil {
		return nil
	}
	return &named{name: name + ": ", to: to}
}

func (n *named) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if len(n.line) == 0 {
			n.line = append(n.line, n.name...)
		}
		if n.line = append(n.line, line...); line[len(line)-1] == '\n' || len(n.line) > logKept {
			if _, err := n.to.Write(n.line); err != nil {
				return 0, err
			}
			n.line = n.line[:0]
		}
	}
	return len(b), nil
}

// kept keeps the last of a log, and counts the goroutines of stack dumps in it.
type kept struct {
	also io.Writer

	mu sync.Mutex
	// Guarded by mu.
	buf        []byte
	line       []byte // not ended yet, at most lineKept of it
	goroutines int
	written    time.Time
}

// dumped is the head of a goroutine in a stack dump of the Go runtime.
var dumped = regexp.MustCompile(`^goroutine [0-9]+ .*\[.*\]:$`)

func (k *kept) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.written = time.Now()
	k.buf = append(k.buf, b...)
	if over := len(k.buf) - logKept; over > 0 {
		k.buf = append(k.buf[:0], k.buf[over:]...)
	}
	for _, c := range b {
		switch {
		case c == '\n':
			if dumped.Match(k.line) {
				k.goroutines++
			}
			k.line = k.line[:0]
		case len(k.line) < lineKept:
			k.line = append(k.line, c)
		}
	}
	if k.also != nil {
		_, _ = k.also.Write(b)
	}
	return len(b), nil
}

// tail is what is kept, for an error.
func (k *kept) tail() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if text := bytes.TrimSpace(k.buf); len(text) > 0 {
		return "the last of its log:\n" + string(text)
	}
	return "it logged nothing"
}

// count is the goroutines seen since the last reset, and since when the log has
// been quiet.
func (k *kept) count() (goroutines int, quiet time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.goroutines, time.Since(k.written)
}

func (k *kept) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.goroutines, k.buf = 0, nil
}

// killOurs kills the process with an id, if it runs this program, and waits until it
// has ended. It need not be a child.
func killOurs(pid int, program string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	// What is behind the descriptor is looked at now: the id may be another's by then.
	runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	ours, notFound := os.Stat(program)
	if err != nil || notFound != nil || !os.SameFile(runs, ours) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(endTimeout.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
}
