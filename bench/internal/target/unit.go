package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"voicefleet/bench/internal/procstat"
)

// Place is where a unit of a fleet lives.
type Place struct {
	Addr netip.Addr
	// Enter takes the calling thread to a host of its own (netns.Host); nil: this one.
	Enter func() error
}

// Unit is a program of a fleet that can be ended in any way and started again.
type Unit struct {
	// Immutable.
	Name  string
	Place Place

	program string
	args    []string
	env     []string
	upWhen  string // in the line it says when it is up
	log     io.Writer

	mu sync.Mutex
	// Guarded by mu.
	process *process // nil until the first start
	frozen  []int
}

// herald passes on what a program writes, and tells when a word was in it.
type herald struct {
	word []byte
	also io.Writer
	said chan struct{}

	// Owned by the one who copies the program's output.
	last []byte // of the line that has not ended, at most lineKept
	done bool
}

func (h *herald) Write(b []byte) (int, error) {
	if !h.done {
		h.last = append(h.last, b...)
		if bytes.Contains(h.last, h.word) {
			h.done = true
			close(h.said)
		}
		if over := len(h.last) - lineKept; over > 0 {
			h.last = append(h.last[:0], h.last[over:]...)
		}
	}
	if h.also != nil {
		_, _ = h.also.Write(b)
	}
	return len(b), nil
}

// Start starts it and returns when it says that it is up.
func (u *Unit) Start(ctx context.Context) error {
	h, err := u.Launch()
	if err != nil {
		return err
	}
	return u.await(ctx, h)
}

// Launch starts it; Up of what it returns is closed when it says that it is up.
func (u *Unit) Launch() (*Launched, error) {
	h := &herald{word: []byte(u.upWhen), also: u.log, said: make(chan struct{})}
	p, err := beginAt(u.Place.Enter, u.Name, u.program, append(u.env, unitEnv+"="+u.mark()), h, u.args...)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.process, u.frozen = p, nil
	return &Launched{Up: h.said, process: p}, nil
}

// Launched is a unit under way to being up.
type Launched struct {
	Up      <-chan struct{}
	process *process
}

func (u *Unit) await(ctx context.Context, l *Launched) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not up within %v", readyTimeout))
	defer cancel()
	select {
	case <-l.Up:
		return nil
	case <-l.process.ended:
		return fmt.Errorf("start %s: it ended at once: %w\n%s", u.Name, errors.Join(l.process.how), l.process.log.tail())
	case <-ctx.Done():
		return fmt.Errorf("start %s: %w\n%s", u.Name, context.Cause(ctx), l.process.log.tail())
	}
}

// unitEnv marks the processes of a unit, so that an engine is found whose agent was
// killed.
const unitEnv = "VOICEBENCH_UNIT"

func (u *Unit) mark() string { return fmt.Sprintf("%d.%s.%p", os.Getpid(), u.Name, u) }

// PIDs are all processes of the unit, the program itself first if it lives.
func (u *Unit) PIDs() ([]int, error) {
	u.mu.Lock()
	first := 0
	if u.process != nil {
		first = u.process.pid()
	}
	u.mu.Unlock()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	want := []byte(unitEnv + "=" + u.mark() + "\x00")
	var pids []int
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(body, want) {
			continue // gone, or somebody else's
		}
		if pid, err := strconv.Atoi(strings.Split(name, "/")[2]); err == nil && pid != first {
			pids = append(pids, pid)
		}
	}
	if first != 0 && u.Alive() {
		pids = append([]int{first}, pids...)
	}
	return pids, nil
}

// PID is the program itself, zero before its first start.
func (u *Unit) PID() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.process == nil {
		return 0
	}
	return u.process.pid()
}

// CPU is the time of its program and of all that it started, also of those that have
// ended.
func (u *Unit) CPU() (procstat.CPU, error) {
	if !u.Alive() {
		return procstat.CPU{}, u.gone()
	}
	return procstat.TreeCPU(u.PID())
}

// RSS is the resident memory of its program, in bytes.
func (u *Unit) RSS() (int64, error) {
	if !u.Alive() {
		return 0, u.gone()
	}
	return procstat.ReadRSS(u.PID())
}

func (u *Unit) gone() error { return fmt.Errorf("%s does not run\n%s", u.Name, u.Log()) }

// Engine is the media engine of an edge.
func (u *Unit) Engine() (int, error) {
	pids, err := u.PIDs()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // gone: no engine
		if bytes.Contains(line, []byte("\x00sfu\x00")) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s has no engine", u.Name)
}

// Alive says whether its program runs.
func (u *Unit) Alive() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.process == nil {
		return false
	}
	select {
	case <-u.process.ended:
		return false
	default:
		return true
	}
}

// Done is closed when the program of the last start has ended; nil before.
func (u *Unit) Done() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.process == nil {
		return nil
	}
	return u.process.ended
}

// Log is the last of what it wrote.
func (u *Unit) Log() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.process == nil {
		return "it was not started"
	}
	return u.process.log.tail()
}

// KillEngine kills its media engine.
func (u *Unit) KillEngine() error {
	pid, err := u.Engine()
	if err != nil {
		return err
	}
	return os.NewSyscallError("kill", syscall.Kill(pid, syscall.SIGKILL))
}

// KillProgram kills its program alone and waits for its end; an engine lives on.
func (u *Unit) KillProgram() error {
	u.mu.Lock()
	p := u.process
	u.mu.Unlock()
	if p == nil {
		return fmt.Errorf("kill %s: it was not started", u.Name)
	}
	p.stopping.Store(true)
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", u.Name, err)
	}
	<-p.ended
	return nil
}

// Kill kills all its processes at once: the program first, so that it starts no
// other engine.
func (u *Unit) Kill() error {
	pids, err := u.PIDs()
	if err != nil {
		return err
	}
	u.mu.Lock()
	p := u.process
	u.mu.Unlock()
	if p != nil {
		p.stopping.Store(true)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %s: %w", u.Name, err)
		}
	}
	if p != nil {
		<-p.ended
	}
	return nil
}

// Freeze stops all its processes where they are; Thaw lets them go on.
func (u *Unit) Freeze() error {
	pids, err := u.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return fmt.Errorf("freeze %s: %w", u.Name, err)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.frozen = pids
	return nil
}

// Thaw lets go on what Freeze stopped.
func (u *Unit) Thaw() error {
	u.mu.Lock()
	pids := u.frozen
	u.frozen = nil
	u.mu.Unlock()
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("thaw %s: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Stop ends it in order, and whatever is left of it.
func (u *Unit) Stop() error {
	_ = u.Thaw() // so that it can end
	var err error
	if u.Alive() {
		u.mu.Lock()
		p := u.process
		u.mu.Unlock()
		err = p.stop()
	}
	return errors.Join(err, u.Kill())
}

// run runs the program once where the unit lives, and gives what it says.
func (u *Unit) run(ctx context.Context, args ...string) (string, error) {
	out := &bytes.Buffer{}
	p, err := beginAt(u.Place.Enter, u.Name, u.program, nil, out, args...)
	if err != nil {
		return "", err
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	<-p.copied // all that it said
	if p.how != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), errors.Join(p.how, ctx.Err()), bytes.TrimSpace(out.Bytes()))
	}
	return out.String(), nil
}
