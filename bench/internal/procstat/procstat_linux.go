// Package procstat reads what the kernel says of a process (CPU time, also by
// thread, resident memory, open files, children), and of the machine's CPU time.
package procstat

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of utime and stime: USER_HZ is 100 on every Linux that Go
// runs on.
const tick = 10 * time.Millisecond

// CPU is time spent in user space and in the kernel.
type CPU struct{ User, System time.Duration }

// Total is both.
func (c CPU) Total() time.Duration { return c.User + c.System }

// Sub is the time since an earlier reading.
func (c CPU) Sub(earlier CPU) CPU {
	return CPU{User: c.User - earlier.User, System: c.System - earlier.System}
}

// ReadCPU sums up utime and stime of /proc/<pid>/stat over processes.
func ReadCPU(pids ...int) (CPU, error) {
	var sum CPU
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return CPU{}, fmt.Errorf("read CPU time: %w", err)
		}
		one, err := parseStat(text)
		if err != nil {
			return CPU{}, fmt.Errorf("read CPU time of %d: %w", pid, err)
		}
		sum.User += one.User
		sum.System += one.System
	}
	return sum, nil
}

// parseStat finds fields 14 and 15 of proc_pid_stat(5), counted behind the name,
// which may hold spaces and parentheses.
func parseStat(text []byte) (CPU, error) {
	behind := bytes.LastIndexByte(text, ')')
	if behind < 0 {
		return CPU{}, fmt.Errorf("no name in %.40q", text)
	}
	fields := strings.Fields(string(text[behind+1:]))
	if len(fields) < 13 {
		return CPU{}, fmt.Errorf("%d fields", len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return CPU{}, fmt.Errorf("times %q %q", fields[11], fields[12])
	}
	return CPU{User: time.Duration(user) * tick, System: time.Duration(system) * tick}, nil
}

// ReadRSS sums up the resident memory of processes in bytes, as smaps_rollup
// counts it: /proc/<pid>/statm is off by a batch per CPU.
func ReadRSS(pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("read memory: %w", err)
		}
		kib, err := parseRollup(string(text))
		if err != nil {
			return 0, fmt.Errorf("read memory of %d: %w", pid, err)
		}
		sum += kib << 10
	}
	return sum, nil
}

func parseRollup(text string) (kib int64, err error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Rss:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("parse %q: %w", line, err)
			}
			return kib, nil
		}
	}
	return 0, fmt.Errorf("no Rss in %.80q", text)
}

// Tree is a process and all its descendants.
func Tree(pid int) ([]int, error) {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", all[i]))
		if err != nil {
			return nil, fmt.Errorf("list threads: %w", err)
		}
		for _, t := range tasks {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", all[i], t.Name()))
			if err != nil {
				continue // the thread has ended
			}
			for _, f := range strings.Fields(string(text)) {
				if child, err := strconv.Atoi(f); err == nil {
					all = append(all, child)
				}
			}
		}
	}
	return all, nil
}
