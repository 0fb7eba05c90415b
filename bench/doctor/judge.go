package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a finding means.
type Verdict string

// The verdicts. Unknown is what the kernel does not tell; it costs nothing.
const (
	Good    Verdict = "good"
	Better  Verdict = "could be better"
	Bad     Verdict = "bad"
	Unknown Verdict = "not told"
)

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"name"`
	Found   string  `json:"found"`
	Wanted  string  `json:"wanted"`
	Verdict Verdict `json:"verdict"`
	// Why it matters and Change, the command, stand where the verdict is not good.
	Why    string `json:"why,omitempty"`
	Change string `json:"change,omitempty"`
}

// What is wanted, and below what it is bad.
const (
	// A datagram of speech (132 bytes) takes 768 bytes of a receive buffer: 4 MiB
	// hold 5,400 of them, 31 ms of 175,000 packets/s. 1 MiB holds 8 ms, less than
	// the scheduler may keep a reader waiting.
	wantBuffer, badBuffer = 4 << 20, 1 << 20
	// wantDefault is the kernel's own default; sockets that ask for nothing get it.
	wantDefault = 212992
	// wantOption is what messages of a batch need for their control data.
	wantOption = 20480
	// A core queues what arrives over loopback or from another core; a room of
	// 1,000 gets a packet each at once.
	wantBacklog, badBacklog = 4096, 1000
	// All sockets of 3,000 bots with 100 packets each: 230 MB.
	wantUDPMemory, badUDPMemory = 256 << 20, 32 << 20
	// A bot has up to two files, a server one for each connection.
	wantFiles, badFiles = 65536, 4096
	wantPorts, badPorts = 20000, 5000
	wantFree, badFree   = 1 << 30, 256 << 20
	wantTracked         = 262144
)

// judging collects the checks.
type judging struct{ checks []Check }

// add keeps why and change only where they are of use.
func (j *judging) add(c Check) {
	if c.Verdict == Good || c.Verdict == Unknown {
		c.Why, c.Change = "", ""
	}
	j.checks = append(j.checks, c)
}

// atLeast grades a figure of which more is better; 0 is not told.
func atLeast(have, want, bad int64) Verdict {
	switch {
	case have == 0:
		return Unknown
	case have < bad:
		return Bad
	case have < want:
		return Better
	}
	return Good
}

// atMost grades a figure of which less is better.
func atMost[T float64 | time.Duration](have, want, bad T) Verdict {
	switch {
	case have > bad:
		return Bad
	case have > want:
		return Better
	}
	return Good
}

// Judge says what a snapshot means.
func Judge(s Snapshot) []Check {
	var j judging
	j.sockets(s)
	j.limits(s)
	j.cores(s)
	j.clocks(s)
	j.surroundings(s)
	return j.checks
}

func (j *judging) sockets(s Snapshot) {
	for _, b := range []struct {
		name, key string
		have      int64
	}{{"receive buffer", "net.core.rmem_max", s.ReceiveMax}, {"send buffer", "net.core.wmem_max", s.SendMax}} {
		verdict, found := atLeast(b.have, wantBuffer, badBuffer), size(b.have)
		if s.Forced && verdict != Unknown && b.have < wantBuffer {
			verdict, found = Better, found+", we may exceed it"
		}
		j.add(Check{
			Name: b.name, Found: found, Wanted: "at least " + size(wantBuffer), Verdict: verdict,
			Why:    "packets that find no room while a thread waits for its core are lost",
			Change: fmt.Sprintf("sudo sysctl -w %s=%d", b.key, wantBuffer),
		})
	}
	j.add(Check{
		Name: "default buffer", Found: size(s.ReceiveDefault), Wanted: "at least " + size(wantDefault), Verdict: atLeast(s.ReceiveDefault, wantDefault, 0),
		Why: "sockets that ask for nothing get it", Change: fmt.Sprintf("sudo sysctl -w net.core.rmem_default=%d", wantDefault),
	})
	j.add(Check{
		Name: "option memory", Found: size(s.OptionMax), Wanted: "at least " + size(wantOption), Verdict: atLeast(s.OptionMax, wantOption, 0),
		Why: "a batch of messages that name their own sender's address needs it", Change: fmt.Sprintf("sudo sysctl -w net.core.optmem_max=%d", wantOption),
	})
	j.add(Check{
		Name: "backlog of a core", Found: fmt.Sprintf("%d packets", s.Backlog), Wanted: fmt.Sprintf("at least %d packets", wantBacklog), Verdict: atLeast(s.Backlog, wantBacklog, badBacklog),
		Why: "what loopback or another core hands over beyond it is lost without a trace at the socket", Change: fmt.Sprintf("sudo sysctl -w net.core.netdev_max_backlog=%d", wantBacklog),
	})
	pages := int64(wantUDPMemory / 4096)
	j.add(Check{
		Name: "memory of all UDP", Found: size(s.UDPMemory), Wanted: "at least " + size(wantUDPMemory), Verdict: atLeast(s.UDPMemory, wantUDPMemory, badUDPMemory),
		Why: "beyond it packets for any socket are lost", Change: fmt.Sprintf("sudo sysctl -w net.ipv4.udp_mem='%d %d %d'", pages/2, pages*3/4, pages),
	})
	features := []string{s.Kernel}
	for _, f := range []struct {
		name string
		has  bool
	}{{"recvmmsg", s.ManyMessages}, {"UDP GSO", s.Segments}, {"SO_TXTIME", s.SendTimes}} {
		if f.has {
			features = append(features, f.name)
		}
	}
	verdict := Good
	switch {
	case !s.ManyMessages:
		verdict = Bad
	case !s.Segments || !s.SendTimes:
		verdict = Better
	}
	j.add(Check{
		Name: "kernel", Found: strings.Join(features, ", "), Wanted: "recvmmsg, UDP GSO, SO_TXTIME (Linux 4.19)", Verdict: verdict,
		Why: "many packets in a system call are what makes a packet cheap", Change: "install a newer kernel: sudo apt-get install linux-image-amd64, and start the machine anew",
	})
	verdict = Better
	found := "none"
	if s.IPv6Loopback {
		verdict, found = Good, "::1"
	}
	j.add(Check{
		Name: "IPv6 loopback", Found: found, Wanted: "::1", Verdict: verdict,
		Why: "scenarios over IPv6 cannot run", Change: "sudo sysctl -w net.ipv6.conf.lo.disable_ipv6=0",
	})
}

func (j *judging) limits(s Snapshot) {
	verdict := atLeast(int64(min(s.FilesHard, 1<<62)), wantFiles, badFiles)
	j.add(Check{
		Name: "open files", Found: fmt.Sprintf("%d, at most %d", s.FilesSoft, s.FilesHard), Wanted: fmt.Sprintf("at least %d", wantFiles), Verdict: verdict,
		Why:    "a faithful bot takes two, a server one for each connection; a Go program raises its own limit to the hard one",
		Change: fmt.Sprintf("sudo prlimit --pid $$ --nofile=%d:%d (this shell), LimitNOFILE=%d (a service)", wantFiles, wantFiles, wantFiles),
	})
	ports := int64(0)
	if s.PortLast > 0 {
		ports = int64(s.PortLast - s.PortFirst + 1)
	}
	j.add(Check{
		Name: "ports of clients", Found: fmt.Sprintf("%d (%d-%d)", ports, s.PortFirst, s.PortLast), Wanted: fmt.Sprintf("at least %d", wantPorts), Verdict: atLeast(ports, wantPorts, badPorts),
		Why: "each connection and each socket of a bot takes one", Change: "sudo sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
	})
	j.add(Check{
		Name: "free memory", Found: fmt.Sprintf("%s of %s", size(s.MemoryAvailable), size(s.MemoryTotal)), Wanted: "at least " + size(wantFree), Verdict: atLeast(s.MemoryAvailable, wantFree, badFree),
		Why: "a machine that swaps measures its disk", Change: "end what uses it: ps -eo pid,rss,comm --sort=-rss | head",
	})
	switch full := float64(s.Tracked) / float64(max(1, s.TrackedMax)); {
	case s.TrackedMax == 0 || s.Tracked == 0:
		j.add(Check{Name: "connection tracking", Found: "not on the path", Wanted: "not on the path, or room for all", Verdict: Good})
	default:
		verdict := atLeast(s.TrackedMax, wantTracked, 0)
		if full > .8 {
			verdict = Bad
		}
		j.add(Check{
			Name: "connection tracking", Found: fmt.Sprintf("%d of %d", s.Tracked, s.TrackedMax), Wanted: "not on the path, or room for all", Verdict: verdict,
			Why:    "every client's way is a connection; when the table is full new ones are lost",
			Change: fmt.Sprintf("sudo sysctl -w net.netfilter.nf_conntrack_max=%d, or take voice off it: sudo iptables -t raw -A PREROUTING -p udp -j NOTRACK", 4*wantTracked),
		})
	}
}

func (j *judging) cores(s Snapshot) {
	verdict := Good
	found := fmt.Sprintf("%d", s.Cores)
	if s.SMT {
		found += ", two threads to each core"
	}
	if s.Nodes > 1 {
		found += fmt.Sprintf(", %d NUMA nodes", s.Nodes)
		verdict = Better
	}
	change := "keep a run on one NUMA node: numactl --cpunodebind=0 --membind=0 voicebench ..."
	if s.Cores < 2 {
		verdict, change = Bad, "give the machine a second core, or put the generators on another machine: voicebench generator"
	}
	j.add(Check{
		Name: "cores", Found: found, Wanted: "2 or more, of one NUMA node", Verdict: verdict,
		Why: "server and generator on the same core measure one another", Change: change,
	})
	switch {
	case s.Quota == 0:
		j.add(Check{Name: "CPU quota", Found: "none", Wanted: "none", Verdict: Good})
	default:
		verdict := Good
		switch {
		case s.Quota < 1:
			verdict = Bad
		case s.Quota < float64(s.Cores):
			verdict = Better
		}
		j.add(Check{
			Name: "CPU quota", Found: fmt.Sprintf("%.2f cores", s.Quota), Wanted: "none, or all cores", Verdict: verdict,
			Why:    "a container that has used its share stands still for the rest of each 100 ms: all its listeners hear a gap",
			Change: "start the container without --cpus, the service without CPUQuota=, the pod without a CPU limit",
		})
	}
	switch {
	case len(s.Governors) == 0:
		j.add(Check{Name: "frequency governor", Found: "none shown", Wanted: "performance", Verdict: Unknown})
	default:
		verdict := Good
		if !slices.Equal(s.Governors, []string{"performance"}) {
			verdict = Better
		}
		j.add(Check{
			Name: "frequency governor", Found: strings.Join(s.Governors, ", "), Wanted: "performance", Verdict: verdict,
			Why:    "a core that clocks down between packets makes CPU per packet look dearer at low load",
			Change: "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
		})
	}
	switch s.Turbo {
	case "":
		j.add(Check{Name: "turbo", Found: "not shown", Wanted: "off to compare, on to serve", Verdict: Unknown})
	default:
		j.add(Check{Name: "turbo", Found: s.Turbo, Wanted: "off to compare, on to serve", Verdict: Good})
	}
	j.add(Check{
		Name: "stolen time", Found: percent(s.Steal), Wanted: "at most 0.5 %", Verdict: atMost(s.Steal, .005, .02),
		Why: "the host gives our cores to others: figures are theirs too", Change: "take a machine with cores of its own (dedicated vCPU)",
	})
	j.add(Check{
		Name: "work of others", Found: percent(s.Busy) + " of all cores", Wanted: "at most 5 %", Verdict: atMost(s.Busy, .05, .5),
		Why: "whatever else runs is in the figures", Change: "see what it is: top -b -n1 | head -15",
	})
	verdict, found = Good, "none"
	if len(s.Others) > 0 {
		verdict, found = Better, strings.Join(s.Others, ", ")
	}
	j.add(Check{
		Name: "other runs", Found: found, Wanted: "none while measuring", Verdict: verdict,
		Why: "two of them share cores and ports", Change: "end those that are not what you measure",
	})
}

func (j *judging) clocks(s Snapshot) {
	verdict := Good
	switch s.ClockSource {
	case "":
		verdict = Unknown
	case "tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "riscv_clocksource", "timebase":
	case "hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit":
		verdict = Bad
	default:
		verdict = Better
	}
	j.add(Check{
		Name: "clock source", Found: orNone(s.ClockSource), Wanted: "tsc", Verdict: verdict,
		Why: "a clock that is read by a system call costs more than a packet", Change: "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource",
	})
	j.add(Check{
		// 0.5 ms in a second is what the kernel slews a clock by.
		Name: "wall clock in 1 s", Found: millis(s.Jump), Wanted: "at most ± 0.5 ms", Verdict: atMost(s.Jump.Abs(), 600*time.Microsecond, 5*time.Millisecond),
		Why: "latencies are taken from it", Change: "let one program alone set the clock, by slewing: chronyd, or systemd-timesyncd",
	})
	verdict, found := Better, "no"
	switch {
	case s.NoClock:
		verdict, found = Unknown, "not told"
	case s.Synced:
		verdict, found = Good, fmt.Sprintf("yes, within %s", millis(s.ClockError))
	}
	j.add(Check{
		Name: "clock kept by NTP", Found: found, Wanted: "yes", Verdict: verdict,
		Why: "generators on several machines measure one another's clocks, and a steady drift alone is corrected", Change: "sudo timedatectl set-ntp true, or: sudo apt-get install chrony",
	})
	j.add(Check{
		Name: "oversleep of 1 ms", Found: fmt.Sprintf("p50 %s, p99 %s", millis(s.OversleepP50), millis(s.OversleepP99)), Wanted: "p99 at most 0.3 ms",
		Verdict: atMost(s.OversleepP99, 300*time.Microsecond, 2*time.Millisecond),
		Why:     "who paces packets wakes up late by as much", Change: "end what else runs, or take cores of your own; on bare metal keep cores awake: sudo cpupower idle-set -D 50",
	})
}

func (j *judging) surroundings(s Snapshot) {
	verdict := atMost(s.Datagram, 2*time.Microsecond, time.Hour) // slow is no fault of a setting
	if s.Datagram == 0 {
		verdict = Unknown
	}
	j.add(Check{
		Name: "raw loop", Found: fmt.Sprintf("%.2f µs per datagram", float64(s.Datagram)/1e3), Wanted: "about 1 µs", Verdict: verdict,
		Why: "the yardstick of every figure of this machine: nothing forwards a packet for less", Change: "see whether a firewall is on the path: sudo nft list ruleset",
	})
}

func size(n int64) string {
	switch {
	case n == 0:
		return "not told"
	case n < 1<<20:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

func millis(d time.Duration) string { return fmt.Sprintf("%.3f ms", float64(d)/1e6) }

func orNone(s string) string {
	if s == "" {
		return "not told"
	}
	return s
}
