package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Read fills in what /proc and /sys tell; fsys is the root of the machine. What is
// not there stays zero. self is our own process, which is not one of the others.
func Read(fsys fs.FS, self int, s *Snapshot) {
	r := reader{fsys}
	s.ReceiveMax = r.number("proc/sys/net/core/rmem_max")
	s.SendMax = r.number("proc/sys/net/core/wmem_max")
	s.ReceiveDefault = r.number("proc/sys/net/core/rmem_default")
	s.OptionMax = r.number("proc/sys/net/core/optmem_max")
	s.Backlog = r.number("proc/sys/net/core/netdev_max_backlog")
	if pages := r.numbers("proc/sys/net/ipv4/udp_mem"); len(pages) == 3 {
		s.UDPMemory = pages[2] * int64(os.Getpagesize())
	}
	if ports := r.numbers("proc/sys/net/ipv4/ip_local_port_range"); len(ports) == 2 {
		s.PortFirst, s.PortLast = int(ports[0]), int(ports[1])
	}
	// CAP_NET_ADMIN is bit 12 (capabilities(7)).
	if mask, err := strconv.ParseUint(r.field("proc/self/status", "CapEff:"), 16, 64); err == nil {
		s.Forced = mask&(1<<12) != 0
	}
	s.MemoryTotal = kib(r.field("proc/meminfo", "MemTotal:"))
	s.MemoryAvailable = kib(r.field("proc/meminfo", "MemAvailable:"))
	s.TrackedMax = r.number("proc/sys/net/netfilter/nf_conntrack_max")
	s.Tracked = r.number("proc/sys/net/netfilter/nf_conntrack_count")
	s.IPv6Loopback = strings.Contains(r.text("proc/net/if_inet6"), "00000000000000000000000000000001 ")
	s.ClockSource = r.text("sys/devices/system/clocksource/clocksource0/current_clocksource")
	s.SMT = r.number("sys/devices/system/cpu/smt/active") == 1
	s.Governors = r.governors()
	s.Turbo = r.turbo()
	nodes, _ := fs.Glob(fsys, "sys/devices/system/node/node[0-9]*") // the pattern is good
	s.Nodes = len(nodes)
	s.Quota = r.quota()
	s.Others = r.others(self)
}

// reader takes what it cannot read for empty.
type reader struct{ fsys fs.FS }

func (r reader) text(name string) string {
	b, err := fs.ReadFile(r.fsys, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (r reader) number(name string) int64 {
	n, err := strconv.ParseInt(r.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (r reader) numbers(name string) []int64 {
	var list []int64
	for _, f := range strings.Fields(r.text(name)) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil
		}
		list = append(list, n)
	}
	return list
}

// field is what stands behind key in a file of lines.
func (r reader) field(name, key string) string {
	for line := range strings.Lines(r.text(name)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// kib reads "24684092 kB".
func kib(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

func (r reader) governors() []string {
	files, _ := fs.Glob(r.fsys, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
	var list []string
	for _, f := range files {
		if g := r.text(f); g != "" {
			list = append(list, g)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (r reader) turbo() string {
	switch r.text("sys/devices/system/cpu/intel_pstate/no_turbo") {
	case "0":
		return "on"
	case "1":
		return "off"
	}
	switch r.text("sys/devices/system/cpu/cpufreq/boost") {
	case "1":
		return "on"
	case "0":
		return "off"
	}
	return ""
}

// quota is the tightest of our control group and those above it, in cores: cpu.max
// of version 2, cpu.cfs_quota_us of version 1.
func (r reader) quota() float64 {
	tightest := 0.0
	take := func(quota, period int64) {
		if quota > 0 && period > 0 {
			if cores := float64(quota) / float64(period); tightest == 0 || cores < tightest {
				tightest = cores
			}
		}
	}
	for line := range strings.Lines(r.text("proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		controllers := strings.Split(parts[1], ",")
		for at := path.Clean("/" + parts[2]); ; at = path.Dir(at) {
			switch {
			case parts[1] == "":
				f := strings.Fields(r.text(path.Join("sys/fs/cgroup", at, "cpu.max")))
				if len(f) == 2 {
					quota, _ := strconv.ParseInt(f[0], 10, 64) // "max" is none
					period, _ := strconv.ParseInt(f[1], 10, 64)
					take(quota, period)
				}
			case slices.Contains(controllers, "cpu"):
				dir := path.Join("sys/fs/cgroup", parts[1], at)
				take(r.number(path.Join(dir, "cpu.cfs_quota_us")), r.number(path.Join(dir, "cpu.cfs_period_us")))
			}
			if at == "/" {
				break
			}
		}
	}
	return tightest
}

func (r reader) others(self int) []string {
	entries, err := fs.ReadDir(r.fsys, "proc")
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		if name := r.text(path.Join("proc", e.Name(), "comm")); name == "voicefleet" || name == "voicebench" {
			list = append(list, fmt.Sprintf("%s (%d)", name, pid))
		}
	}
	return list
}
