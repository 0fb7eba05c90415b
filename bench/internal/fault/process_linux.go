package fault

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// identity is a process for all time: numbers are used again, but not with the
// same start.
type identity struct {
	pid   int
	start uint64 // clock ticks since boot
}

// status is what proc_pid_stat(5) tells of a process.
type status struct {
	identity
	parent int
	state  byte
}

// readStatus finds fields 3, 4 and 22, counted behind the name, which may hold
// spaces and parentheses.
func readStatus(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return status{}, os.ErrProcessDone
	}
	if err != nil {
		return status{}, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return status{}, fmt.Errorf("%d fields in /proc/%d/stat", len(fields), pid)
	}
	parent, err1 := strconv.Atoi(fields[1])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return status{}, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
	}
	s := status{identity: identity{pid, start}, parent: parent, state: fields[0][0]}
	if s.state == 'Z' || s.state == 'X' {
		return s, os.ErrProcessDone
	}
	return s, nil
}

// maxDepth bounds the walk up the tree of processes.
const maxDepth = 64

// ours tells which processes this run started.
type ours map[identity]bool

var errForeign = errors.New("it was not started by this run; only processes of this run are signalled: let voicebench start the server, or do it by hand on its machine")

// open gives a handle to a process that may be signalled. The caller releases it.
func (o ours) open(pid int) (*os.Process, identity, error) {
	if pid <= 1 {
		return nil, identity{}, fmt.Errorf("pid %d: %w", pid, errForeign)
	}
	if pid == os.Getpid() {
		return nil, identity{}, fmt.Errorf("pid %d is this process: the server must run as a process of its own", pid)
	}
	// First the handle, then the look: what it says holds for the handle, or the
	// process has ended and the signal goes nowhere.
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, identity{}, fmt.Errorf("pid %d: %w", pid, explain(err))
	}
	s, err := o.look(pid)
	if err == nil {
		err = p.Signal(syscall.Signal(0))
	}
	if err != nil {
		_ = p.Release()
		return nil, identity{}, fmt.Errorf("pid %d: %w", pid, explain(err))
	}
	return p, s.identity, nil
}

func (o ours) look(pid int) (status, error) {
	s, err := readStatus(pid)
	if err != nil {
		return s, err
	}
	for at, depth := s, 0; depth < maxDepth; depth++ {
		if o[at.identity] || at.parent == os.Getpid() {
			return s, nil
		}
		if at.parent <= 1 {
			break
		}
		if at, err = readStatus(at.parent); err != nil {
			break // the parent ended under our eyes
		}
	}
	return s, errForeign
}

// explain says what to do about a signal that could not be sent.
func explain(err error) error {
	switch {
	case errors.Is(err, os.ErrProcessDone), errors.Is(err, syscall.ESRCH):
		return errors.New("it has ended already; look into its log, or put the step earlier")
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no right to signal it (%w); run voicebench as the user the server runs as", err)
	}
	return err
}
