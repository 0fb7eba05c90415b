package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	root = "/sys/fs/cgroup"
	// chunk is how much is filled in between two looks.
	chunk = 1 << 20
	// fillWithin bounds Fill.
	fillWithin = 10 * time.Second
)

// Group is a control group.
type Group struct {
	dir, parent string
	limit, used string // files
	bytes       int64
}

// New makes a group of at most so many bytes.
func New(name string, bytes int64) (*Group, error) {
	g := &Group{bytes: bytes}
	if own, err := first(); err == nil {
		g.parent, g.limit, g.used = own, "memory.limit_in_bytes", "memory.usage_in_bytes"
	} else {
		if second := write(filepath.Join(root, "cgroup.subtree_control"), "+memory"); second != nil {
			return nil, fmt.Errorf("no control groups of memory: %w; %w", err, second)
		}
		g.parent, g.limit, g.used = root, "memory.max", "memory.current"
	}
	g.dir = filepath.Join(g.parent, name)
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make control group: %w", err)
	}
	if err := write(filepath.Join(g.dir, g.limit), strconv.FormatInt(bytes, 10)); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Missing says why there can be no group here.
func Missing() error {
	g, err := New(fmt.Sprintf("voicebench-%d-try", os.Getpid()), 1<<30)
	if err != nil {
		return err
	}
	return g.Close()
}

// first is this process's group of version 1.
func first() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 || fields[1] != "memory" {
			continue
		}
		dir := filepath.Join(root, "memory", fields[2])
		if _, err := os.Stat(dir); err != nil {
			dir = filepath.Join(root, "memory") // a container sees its own as the root
		}
		_, err := os.Stat(filepath.Join(dir, "memory.limit_in_bytes"))
		return dir, err
	}
	return "", errors.New("no memory controller of version 1")
}

// Add moves processes into the group. What they have allocated stays where it is counted.
func (g *Group) Add(pids ...int) error { return move(g.dir, pids...) }

func move(dir string, pids ...int) error {
	for _, pid := range pids {
		if err := write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Used is the share of the limit (0..1) that is used.
func (g *Group) Used() (float64, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, g.used))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", g.used, err)
	}
	return float64(n) / float64(g.bytes), nil
}

// Fill uses the group up to a share (0..1) of its limit, by a process that holds memory
// until release: tail(1) keeps a line that does not end.
func (g *Group) Fill(share float64) (release func() error, err error) {
	cmd := exec.Command("sh", "-c", `echo $$ > "$1" && exec tail -n 1`, "sh", filepath.Join(g.dir, "cgroup.procs"))
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("fill control group: %w", err)
	}
	release = func() error {
		err := cmd.Process.Kill()
		_ = cmd.Wait() // killed
		return err
	}
	for end := time.Now().Add(fillWithin); ; {
		used, err := g.Used()
		if err == nil && used >= share {
			return release, nil
		}
		if err == nil && time.Now().After(end) {
			err = fmt.Errorf("%.0f %% after %v", 100*used, fillWithin)
		}
		if err == nil {
			_, err = in.Write(make([]byte, chunk))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("fill control group: %w", err), release())
		}
	}
}

// Close puts what is in the group back, and removes it.
func (g *Group) Close() error {
	text, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	for _, field := range strings.Fields(string(text)) {
		pid, bad := strconv.Atoi(field)
		err = errors.Join(err, bad, move(g.parent, pid))
	}
	return errors.Join(err, os.Remove(g.dir))
}

func write(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}
