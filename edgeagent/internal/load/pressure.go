package load

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"voicefleet/sfu"
)

const (
	// busyMost is the share of its time a worker may be at work, and memoryMost the
	// share of a memory limit that may be used, before newcomers are refused.
	busyMost   = 0.9
	memoryMost = 0.8
	// busyReadings is how many readings in a row it takes: one a second, so that a
	// burst of joins is none.
	busyReadings = 3
	// dropsMost is how many datagrams the kernel may drop between two readings
	// before that counts as one of a worker that falls behind.
	dropsMost = 100
	// relief is how long all must be well before newcomers are taken again.
	relief = 5 * time.Second
)

// Pressure judges whether a node can take anybody more. The zero value can.
type Pressure struct {
	busy   int // readings in a row
	drops  uint64
	known  bool
	reason string
	since  time.Time // when that was last so
}

// Read takes in a reading of the engine, and how much of its memory limit the
// machine or container uses. It returns why nobody more is to be taken, or "".
func (p *Pressure) Read(now time.Time, r sfu.LoadReading, memory float64) (reason string) {
	dropped := uint64(0)
	if p.known && r.SocketDrops > p.drops {
		dropped = r.SocketDrops - p.drops
	}
	p.known, p.drops = true, r.SocketDrops
	if r.Busy >= busyMost || dropped >= dropsMost {
		p.busy++
	} else {
		p.busy = 0
	}
	switch memory = max(memory, r.Memory); {
	case memory >= memoryMost:
		p.reason, p.since = fmt.Sprintf("memory: %.0f %% of the limit", 100*memory), now
	case p.busy >= busyReadings && dropped >= dropsMost:
		p.reason, p.since = fmt.Sprintf("workers: %d datagrams came faster than they were read", dropped), now
	case p.busy >= busyReadings:
		p.reason, p.since = fmt.Sprintf("workers: %.0f %% busy", 100*r.Busy), now
	case now.Sub(p.since) >= relief:
		p.reason = ""
	}
	return p.reason
}

// Memory is the share of its limit that the control group of this process uses, or
// one of those above it if theirs is greater; 0 without a limit. What the kernel
// keeps of files and gives back at once does not count. own is the content of
// /proc/self/cgroup, sys the file system of /sys/fs/cgroup. Where both versions of
// control groups are mounted, version 1 counts the memory if it names it.
func Memory(own string, sys fs.FS) float64 {
	share := 0.0
	for line := range strings.Lines(own) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) < 3:
		case slices.Contains(strings.Split(fields[1], ","), "memory"):
			return fullest(sys, version1, fields[2])
		case fields[1] == "":
			share = fullest(sys, version2, fields[2])
		}
	}
	return share
}

// accounting is how a version of control groups tells of memory.
type accounting struct{ root, limit, used, idle string }

var (
	version1 = accounting{"memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "}
	version2 = accounting{".", "memory.max", "memory.current", "inactive_file "}
)

// fullest is the greatest share of a limit that is used, in a group and those above
// it. A container may see its own group as the root, whatever its name outside is.
func fullest(sys fs.FS, a accounting, group string) float64 {
	most := 0.0
	for dir := path.Join(a.root, group); ; dir = path.Dir(dir) {
		limit, used := number(sys, path.Join(dir, a.limit)), number(sys, path.Join(dir, a.used))
		if limit > 0 { // version 1 has no word for none: a number of many exabytes
			stat, _ := fs.ReadFile(sys, path.Join(dir, "memory.stat"))
			for line := range strings.Lines(string(stat)) {
				if rest, is := strings.CutPrefix(line, a.idle); is {
					if n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil {
						used -= n
					}
				}
			}
			most = max(most, used/limit)
		}
		if dir == a.root || dir == "." {
			return most
		}
	}
}

// number is what stands in a file; 0 for "max" and for no number.
func number(sys fs.FS, name string) float64 {
	b, err := fs.ReadFile(sys, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	if err != nil {
		return 0
	}
	return n
}
