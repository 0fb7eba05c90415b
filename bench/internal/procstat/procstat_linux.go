// Package procstat reads what the kernel says of a process (CPU time, also by
// thread, resident memory, open files, children), and of the machine's CPU time.
package procstat

import (
	"bytes"
	"fmt"
	"os"
	"slices"
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

func (c CPU) add(more CPU) CPU {
	return CPU{User: c.User + more.User, System: c.System + more.System}
}

// ReadCPU sums up utime and stime of /proc/<pid>/stat over processes.
func ReadCPU(pids ...int) (CPU, error) {
	var sum CPU
	for _, pid := range pids {
		one, err := readStat(pid)
		if err != nil {
			return CPU{}, err
		}
		sum = sum.add(one.cpu)
	}
	return sum, nil
}

// treeTries bounds how often TreeCPU begins again because a process came or went
// meanwhile.
const treeTries = 10

// TreeCPU is the CPU time of a process and all its descendants, also of those that
// have ended (cutime and cstime of their parent). While the process lives it never
// goes back, whatever becomes of the others.
func TreeCPU(pid int) (CPU, error) {
	for try := 1; ; try++ {
		pids, err := Tree(pid)
		if err != nil {
			return CPU{}, err
		}
		var sum CPU
		for _, p := range pids {
			var one stat
			if one, err = readStat(p); err != nil {
				break
			}
			sum = sum.add(one.cpu).add(one.waited)
		}
		// Who is taken over by its parent meanwhile counts twice, or not at all.
		if after, again := Tree(pid); again == nil && err == nil && slices.Equal(pids, after) {
			return sum, nil
		}
		if try == treeTries {
			return CPU{}, fmt.Errorf("read CPU time of %d: its processes come and go", pid)
		}
	}
}

// Ended says that a process has ended; its parent may not have noticed yet.
func Ended(pid int) bool {
	one, err := readStat(pid)
	return err != nil || one.state == 'Z' || one.state == 'X'
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, fmt.Errorf("read CPU time: %w", err)
	}
	one, err := parseStat(text)
	if err != nil {
		return stat{}, fmt.Errorf("read CPU time of %d: %w", pid, err)
	}
	return one, nil
}

// stat is what we need of proc_pid_stat(5).
type stat struct {
	state  byte // field 3
	cpu    CPU  // 14, 15
	waited CPU  // 16, 17: of children that have ended and were waited for
}

// parseStat counts the fields behind the name, which may hold spaces and
// parentheses.
func parseStat(text []byte) (stat, error) {
	behind := bytes.LastIndexByte(text, ')')
	if behind < 0 {
		return stat{}, fmt.Errorf("no name in %.40q", text)
	}
	fields := strings.Fields(string(text[behind+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("%d fields", len(fields))
	}
	s := stat{state: fields[0][0]}
	for i, into := range []*time.Duration{&s.cpu.User, &s.cpu.System, &s.waited.User, &s.waited.System} {
		n, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("time %q", fields[11+i])
		}
		*into = time.Duration(n) * tick
	}
	return s, nil
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

// Tree is a process and all its descendants, also those that have ended and are
// not waited for yet.
func Tree(pid int) ([]int, error) {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", all[i]))
		if err != nil && i > 0 { // it is gone since its parent named it
			all = slices.Delete(all, i, i+1)
			i--
			continue
		}
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
