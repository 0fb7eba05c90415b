package procstat

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine is the time that all cores together, or one of them, spent since the machine
// started. What a guest used is a part of User already (proc_stat(5)).
type Machine struct {
	User, Nice, System, Idle, IOWait, IRQ, SoftIRQ, Steal time.Duration
}

// Sub is the time since an earlier reading.
func (m Machine) Sub(earlier Machine) Machine {
	return Machine{
		User: m.User - earlier.User, Nice: m.Nice - earlier.Nice, System: m.System - earlier.System,
		Idle: m.Idle - earlier.Idle, IOWait: m.IOWait - earlier.IOWait,
		IRQ: m.IRQ - earlier.IRQ, SoftIRQ: m.SoftIRQ - earlier.SoftIRQ, Steal: m.Steal - earlier.Steal,
	}
}

// Busy is the time in which a core did something, interrupts included. Stolen time
// is not: another machine had the core.
func (m Machine) Busy() time.Duration { return m.User + m.Nice + m.System + m.IRQ + m.SoftIRQ }

// Total is all time there was: cores by seconds.
func (m Machine) Total() time.Duration { return m.Busy() + m.Idle + m.IOWait + m.Steal }

// ReadMachine reads the first line of /proc/stat.
func ReadMachine() (Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("read CPU time of the machine: %w", err)
	}
	return ParseMachine(string(text))
}

// ReadCores reads the lines of the cores that are on, in their order.
func ReadCores() ([]Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read CPU time of the cores: %w", err)
	}
	return ParseCores(string(text))
}

// ParseMachine reads the line "cpu" of a /proc/stat. What an old kernel does not
// tell is zero.
func ParseMachine(text string) (Machine, error) {
	list, err := parseTimes(text, func(name string) bool { return name == "cpu" })
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("no line of all cores in %.80q", text)
	}
	if err != nil {
		return Machine{}, fmt.Errorf("read CPU time of the machine: %w", err)
	}
	return list[0], nil
}

// ParseCores reads the lines "cpu0" and so on of a /proc/stat.
func ParseCores(text string) ([]Machine, error) {
	list, err := parseTimes(text, func(name string) bool { return len(name) > 3 && name[:3] == "cpu" })
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("no line of a core in %.80q", text)
	}
	if err != nil {
		return nil, fmt.Errorf("read CPU time of the cores: %w", err)
	}
	return list, nil
}

func parseTimes(text string, named func(string) bool) (list []Machine, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !named(fields[0]) {
			continue
		}
		var m Machine
		into := []*time.Duration{&m.User, &m.Nice, &m.System, &m.Idle, &m.IOWait, &m.IRQ, &m.SoftIRQ, &m.Steal}
		for i, f := range fields[1:min(len(fields), 1+len(into))] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return nil, err
			}
			*into[i] = time.Duration(n) * tick
		}
		list = append(list, m)
	}
	return list, nil
}

// Thread is a thread of a process.
type Thread struct {
	ID   int
	Name string // 15 bytes at most; threads of Go have the program's
	CPU  CPU
}

// Threads are those of a process, by id. One that ends meanwhile is left out.
func Threads(pid int) ([]Thread, error) {
	return threads(fmt.Sprintf("/proc/%d", pid))
}

func threads(dir string) ([]Thread, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return nil, fmt.Errorf("list threads: %w", err)
	}
	var list []Thread
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "task", e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		one, err := parseStat(text)
		if err != nil {
			return nil, fmt.Errorf("read CPU time of thread %d: %w", id, err)
		}
		list = append(list, Thread{ID: id, Name: parseName(string(text)), CPU: one.cpu})
	}
	slices.SortFunc(list, func(a, b Thread) int { return a.ID - b.ID })
	return list, nil
}

// parseName is field 2 of proc_pid_stat(5), between the first parenthesis and the
// last.
func parseName(text string) string {
	from, to := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return ""
	}
	return text[from+1 : to]
}

// Files counts the open files of processes, sockets among them.
func Files(pids ...int) (int, error) {
	sum := 0
	for _, pid := range pids {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return 0, fmt.Errorf("count open files: %w", err)
		}
		sum += len(entries)
	}
	return sum, nil
}
