package doctor

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// healthy is a machine with nothing to complain of.
var healthy = Snapshot{
	Cores: 8, ReceiveMax: 8 << 20, SendMax: 8 << 20, ReceiveDefault: 212992, OptionMax: 131072, Backlog: 16384, UDPMemory: 1 << 30,
	FilesSoft: 1 << 20, FilesHard: 1 << 20, PortFirst: 32768, PortLast: 60999, Governors: []string{"performance"}, Turbo: "off", Nodes: 1,
	Busy: .01, ClockSource: "tsc", Synced: true, ClockError: time.Millisecond, OversleepP50: 60 * time.Microsecond, OversleepP99: 120 * time.Microsecond,
	MemoryTotal: 16 << 30, MemoryAvailable: 12 << 30, IPv6Loopback: true, Kernel: "Linux 6.1", Segments: true, SendTimes: true, ManyMessages: true,
	Datagram: 900 * time.Nanosecond,
}

func TestJudge(t *testing.T) {
	for _, c := range Judge(healthy) {
		if c.Verdict != Good || c.Why != "" || c.Change != "" || c.Found == "" || c.Wanted == "" {
			t.Errorf("%+v", c)
		}
	}
	for _, c := range []struct {
		check, change string // the command must hold it
		want          Verdict
		spoil         func(*Snapshot)
	}{
		{"receive buffer", "net.core.rmem_max=4194304", Bad, func(s *Snapshot) { s.ReceiveMax = 212992 }},
		{"receive buffer", "net.core.rmem_max=4194304", Better, func(s *Snapshot) { s.ReceiveMax = 4<<20 - 1 }},
		{"receive buffer", "", Good, func(s *Snapshot) { s.ReceiveMax = 4 << 20 }},
		{"receive buffer", "rmem_max", Better, func(s *Snapshot) { s.ReceiveMax, s.Forced = 212992, true }},
		{"receive buffer", "", Unknown, func(s *Snapshot) { s.ReceiveMax, s.Forced = 0, true }},
		{"send buffer", "net.core.wmem_max=4194304", Bad, func(s *Snapshot) { s.SendMax = 212992 }},
		{"default buffer", "rmem_default", Better, func(s *Snapshot) { s.ReceiveDefault = 65536 }},
		{"option memory", "optmem_max", Better, func(s *Snapshot) { s.OptionMax = 10240 }},
		{"backlog of a core", "netdev_max_backlog=4096", Better, func(s *Snapshot) { s.Backlog = 1000 }},
		{"backlog of a core", "netdev_max_backlog=4096", Bad, func(s *Snapshot) { s.Backlog = 300 }},
		{"memory of all UDP", "udp_mem='32768 49152 65536'", Bad, func(s *Snapshot) { s.UDPMemory = 16 << 20 }},
		{"kernel", "newer kernel", Bad, func(s *Snapshot) { s.ManyMessages = false }},
		{"kernel", "newer kernel", Better, func(s *Snapshot) { s.Segments = false }},
		{"IPv6 loopback", "disable_ipv6=0", Better, func(s *Snapshot) { s.IPv6Loopback = false }},
		{"open files", "prlimit", Bad, func(s *Snapshot) { s.FilesSoft, s.FilesHard = 1024, 1024 }},
		{"open files", "LimitNOFILE", Better, func(s *Snapshot) { s.FilesHard = 20000 }},
		{"open files", "", Good, func(s *Snapshot) { s.FilesHard = ^uint64(0) }},
		{"ports of clients", "ip_local_port_range", Bad, func(s *Snapshot) { s.PortFirst, s.PortLast = 60000, 60999 }},
		{"ports of clients", "", Unknown, func(s *Snapshot) { s.PortFirst, s.PortLast = 0, 0 }},
		{"free memory", "ps -eo", Bad, func(s *Snapshot) { s.MemoryAvailable = 100 << 20 }},
		{"free memory", "ps -eo", Better, func(s *Snapshot) { s.MemoryAvailable = 900 << 20 }},
		{"connection tracking", "", Good, func(s *Snapshot) { s.TrackedMax = 65536 }},
		{"connection tracking", "", Good, func(s *Snapshot) { s.Tracked, s.TrackedMax = 10, 262144 }},
		{"connection tracking", "NOTRACK", Better, func(s *Snapshot) { s.Tracked, s.TrackedMax = 10, 65536 }},
		{"connection tracking", "nf_conntrack_max", Bad, func(s *Snapshot) { s.Tracked, s.TrackedMax = 250000, 262144 }},
		{"cores", "numactl", Better, func(s *Snapshot) { s.Nodes = 2 }},
		{"cores", "voicebench generator", Bad, func(s *Snapshot) { s.Cores = 1 }},
		{"cores", "", Good, func(s *Snapshot) { s.SMT = true }},
		{"CPU quota", "--cpus", Bad, func(s *Snapshot) { s.Quota = .5 }},
		{"CPU quota", "CPUQuota", Better, func(s *Snapshot) { s.Quota = 4 }},
		{"CPU quota", "", Good, func(s *Snapshot) { s.Quota = 8 }},
		{"frequency governor", "scaling_governor", Better, func(s *Snapshot) { s.Governors = []string{"performance", "powersave"} }},
		{"frequency governor", "", Unknown, func(s *Snapshot) { s.Governors = nil }},
		{"turbo", "", Unknown, func(s *Snapshot) { s.Turbo = "" }},
		{"stolen time", "dedicated", Better, func(s *Snapshot) { s.Steal = .01 }},
		{"stolen time", "dedicated", Bad, func(s *Snapshot) { s.Steal = .03 }},
		{"work of others", "top", Better, func(s *Snapshot) { s.Busy = .2 }},
		{"work of others", "top", Bad, func(s *Snapshot) { s.Busy = .7 }},
		{"other runs", "end those", Better, func(s *Snapshot) { s.Others = []string{"voicefleet (42)"} }},
		{"clock source", "current_clocksource", Bad, func(s *Snapshot) { s.ClockSource = "hpet" }},
		{"clock source", "current_clocksource", Better, func(s *Snapshot) { s.ClockSource = "xen" }},
		{"clock source", "", Unknown, func(s *Snapshot) { s.ClockSource = "" }},
		{"wall clock in 1 s", "chronyd", Better, func(s *Snapshot) { s.Jump = -2 * time.Millisecond }},
		{"wall clock in 1 s", "chronyd", Bad, func(s *Snapshot) { s.Jump = -time.Second }},
		{"wall clock in 1 s", "", Good, func(s *Snapshot) { s.Jump = 500 * time.Microsecond }},
		{"clock kept by NTP", "set-ntp", Better, func(s *Snapshot) { s.Synced = false }},
		{"clock kept by NTP", "", Unknown, func(s *Snapshot) { s.Synced, s.NoClock = false, true }},
		{"oversleep of 1 ms", "cpupower", Better, func(s *Snapshot) { s.OversleepP99 = time.Millisecond }},
		{"oversleep of 1 ms", "cpupower", Bad, func(s *Snapshot) { s.OversleepP99 = 3 * time.Millisecond }},
		{"raw loop", "nft list", Better, func(s *Snapshot) { s.Datagram = 5 * time.Microsecond }},
		{"raw loop", "", Unknown, func(s *Snapshot) { s.Datagram = 0 }},
	} {
		s := healthy
		c.spoil(&s)
		found := false
		for _, got := range Judge(s) {
			if got.Name != c.check {
				if got.Verdict != Good {
					t.Errorf("%s: %s became %s", c.check, got.Name, got.Verdict)
				}
				continue
			}
			found = true
			told := got.Why != "" && got.Change != ""
			if got.Verdict != c.want || !strings.Contains(got.Change, c.change) || told != (c.want == Bad || c.want == Better) {
				t.Errorf("%s: %+v, want %s with %q", c.check, got, c.want, c.change)
			}
		}
		if !found {
			t.Errorf("no check %q", c.check)
		}
	}
}

// machine is a tree of files as the kernel shows them.
func machine(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return m
}

func TestRead(t *testing.T) {
	var got Snapshot
	Read(machine(map[string]string{
		"proc/sys/net/core/rmem_max":                                      "4194304",
		"proc/sys/net/core/wmem_max":                                      "212992",
		"proc/sys/net/core/rmem_default":                                  "212992",
		"proc/sys/net/core/optmem_max":                                    "131072",
		"proc/sys/net/core/netdev_max_backlog":                            "1000",
		"proc/sys/net/ipv4/udp_mem":                                       "575802\t767736\t1151604",
		"proc/sys/net/ipv4/ip_local_port_range":                           "32768\t60999",
		"proc/sys/net/netfilter/nf_conntrack_max":                         "262144",
		"proc/sys/net/netfilter/nf_conntrack_count":                       "17",
		"proc/net/if_inet6":                                               "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo",
		"proc/meminfo":                                                    "MemTotal:       24684092 kB\nMemFree:        24342732 kB\nMemAvailable:   24334928 kB",
		"proc/self/status":                                                "Name:\tvoicebench\nCapInh:\t0000000000000000\nCapEff:\t0000000000001000",
		"proc/self/cgroup":                                                "0::/system.slice/voice.service",
		"sys/fs/cgroup/system.slice/cpu.max":                              "150000 100000",
		"sys/fs/cgroup/system.slice/voice.service/cpu.max":                "max 100000",
		"sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
		"sys/devices/system/cpu/smt/active":                               "1",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor":            "schedutil",
		"sys/devices/system/cpu/cpu1/cpufreq/scaling_governor":            "performance",
		"sys/devices/system/cpu/cpu2/cpufreq/scaling_governor":            "schedutil",
		"sys/devices/system/cpu/intel_pstate/no_turbo":                    "0",
		"sys/devices/system/node/node0/cpulist":                           "0-3",
		"sys/devices/system/node/node1/cpulist":                           "4-7",
		"proc/7/comm":                                                     "voicebench",
		"proc/42/comm":                                                    "voicefleet",
		"proc/43/comm":                                                    "cat",
	}), 7, &got)
	want := Snapshot{
		ReceiveMax: 4194304, SendMax: 212992, ReceiveDefault: 212992, OptionMax: 131072, Backlog: 1000, Forced: true,
		UDPMemory: 1151604 * int64(os.Getpagesize()), PortFirst: 32768, PortLast: 60999,
		Governors: []string{"performance", "schedutil"}, Turbo: "on", SMT: true, Nodes: 2, ClockSource: "tsc",
		MemoryTotal: 24684092 << 10, MemoryAvailable: 24334928 << 10, Tracked: 17, TrackedMax: 262144,
		IPv6Loopback: true, Quota: 1.5, Others: []string{"voicefleet (42)"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	var empty Snapshot
	Read(fstest.MapFS{}, 1, &empty)
	if !reflect.DeepEqual(empty, Snapshot{}) {
		t.Errorf("of nothing: %+v", empty)
	}
}

func TestQuota(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  float64
	}{
		"none": {map[string]string{"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 0},
		"the tightest counts": {map[string]string{
			"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "50000 100000", "sys/fs/cgroup/a/b/cpu.max": "200000 100000",
		}, .5},
		"version 1": {map[string]string{
			"proc/self/cgroup": "3:cpu,cpuacct:/box\n2:memory:/box",
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us":  "250000",
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":      "-1",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":     "100000",
		}, 2.5},
		"broken": {map[string]string{"proc/self/cgroup": "nonsense\n0::/", "sys/fs/cgroup/cpu.max": "x y"}, 0},
	} {
		if got := (reader{machine(c.files)}).quota(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestExamine looks at the machine of the test: what must be true of any.
func TestExamine(t *testing.T) {
	s, err := Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Cores < 1 || s.MemoryTotal == 0 || s.FilesHard == 0 || !s.ManyMessages || s.Kernel == "" || s.OversleepP99 < s.OversleepP50 || s.OversleepP50 <= 0 ||
		s.Busy < 0 || s.Busy > 1 || s.Datagram < 50*time.Nanosecond || s.Datagram > time.Millisecond {
		t.Errorf("%+v", s)
	}
	r := ResultOf(time.Now(), s)
	var text, raw bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&raw); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", &text)
	var back Result
	if err := json.Unmarshal(raw.Bytes(), &back); err != nil || len(back.Checks) != len(r.Checks) || back.Kind != "doctor" {
		t.Errorf("%+v, %v", back, err)
	}
	if sum := r.Count(Good) + r.Count(Better) + r.Count(Bad) + r.Count(Unknown); sum != len(r.Checks) {
		t.Errorf("%d of %d checks have a verdict", sum, len(r.Checks))
	}
	for _, c := range r.Checks {
		if !strings.Contains(text.String(), c.Name) || c.Change != "" && !strings.Contains(text.String(), c.Change) {
			t.Errorf("the text lacks %+v", c)
		}
	}
}
