//go:build unix

package textchattest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Freeze has the server stand still, and returns when it does: a signal is there before
// all threads have heard of it, and a busy machine answers a few requests meanwhile.
func (c *CQLServer) Freeze() error {
	if err := syscall.Kill(c.pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze CQL server: %w", err)
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for until := time.Now().Add(5 * time.Second); !still(c.pid); <-look.C {
		if time.Now().After(until) {
			return fmt.Errorf("freeze CQL server: process %d goes on", c.pid)
		}
	}
	return nil
}

// Thaw has it go on.
func (c *CQLServer) Thaw() error {
	if err := syscall.Kill(c.pid, syscall.SIGCONT); err != nil {
		return fmt.Errorf("thaw CQL server: %w", err)
	}
	return nil
}

// still says whether all threads of a process stand still (proc_pid_stat(5), state).
func still(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range threads {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		// The name, in parentheses, may have any.
		if _, after, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" ")); !ok || after[0] != 'T' {
			return false
		}
	}
	return true
}
