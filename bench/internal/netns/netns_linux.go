package netns

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// prefix is what all our namespaces are called by.
	prefix = "vf-"
	// folder is where ip(8) keeps them.
	folder = "/run/netns"
	// mostHosts are the addresses of one network.
	mostHosts = 250
	// insideEnv tells a process that was started again that it is isolated.
	insideEnv = "VOICEBENCH_ISOLATED"
	// endWait is how long processes that were killed may take to be gone.
	endWait = 5 * time.Second
)

// Missing says why there can be no network here, and what to do about it.
func Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo, or in a container with --cap-add NET_ADMIN --cap-add SYS_ADMIN")
	}
	for tool, from := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not there: apt-get install %s", tool, from)
		}
	}
	return nil
}

// Isolate starts this program again, with the same arguments and process id, in a
// network namespace of its own. It returns in the program that was started.
func Isolate() error {
	if os.Getenv(insideEnv) != "" {
		return os.Unsetenv(insideEnv)
	}
	if err := Missing(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("isolate: %w", err)
	}
	// The thread that starts the program is the one it goes on in.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("isolate: %w (may this process make network namespaces?)", os.NewSyscallError("unshare", err))
	}
	err = syscall.Exec(self, os.Args, append(os.Environ(), insideEnv+"=1"))
	return fmt.Errorf("isolate: %w", os.NewSyscallError("execve", err))
}

// Net is a private network.
type Net struct {
	run   string // in all names
	hosts []*Host
}

// Host is a namespace with one interface.
type Host struct {
	Name string // of the namespace, as ip(8) knows it
	Addr netip.Addr

	path string
	port string // the other end of its cable, at the bridge
	net  *Net
}

// New makes a network without hosts, after it has removed what earlier runs left.
func New() (*Net, error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	start, err := startOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	n := &Net{run: fmt.Sprintf("%s%d.%d-", prefix, os.Getpid(), start)}
	hub := n.hub()
	if err := run("ip", "netns", "add", hub); err != nil {
		return nil, err
	}
	err = batch("-n", hub, "link set lo up", "link add br0 type bridge forward_delay 0", "link set br0 up")
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Net) hub() string { return n.run + "hub" }

// Host makes one more host.
func (n *Net) Host(name string) (*Host, error) {
	h, err := n.host(name)
	if err != nil {
		return nil, err
	}
	if err := run("ip", "netns", "add", h.Name); err != nil {
		return nil, err
	}
	return h, n.connect(h)
}

// Here makes a host of this process's namespace, which Isolate made.
func (n *Net) Here(name string) (*Host, error) {
	h, err := n.host(name)
	if err != nil {
		return nil, err
	}
	if err := run("ip", "netns", "attach", h.Name, strconv.Itoa(os.Getpid())); err != nil {
		return nil, err
	}
	return h, n.connect(h)
}

func (n *Net) host(name string) (*Host, error) {
	if len(n.hosts) >= mostHosts {
		return nil, fmt.Errorf("add host %s: a network has at most %d", name, mostHosts)
	}
	i := len(n.hosts) + 1
	h := &Host{Name: n.run + name, Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), port: fmt.Sprintf("p%d", i), net: n}
	h.path = filepath.Join(folder, h.Name)
	n.hosts = append(n.hosts, h)
	return h, nil
}

// connect lays the cable.
func (n *Net) connect(h *Host) error {
	err := batch("-n", n.hub(),
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", h.port, h.Name),
		fmt.Sprintf("link set %s master br0", h.port), fmt.Sprintf("link set %s up", h.port))
	if err != nil {
		return err
	}
	return batch("-n", h.Name, "link set lo up", fmt.Sprintf("addr add %v/24 dev eth0", h.Addr), "link set eth0 up")
}

// Enter takes the calling thread to the host: programs it starts and sockets it
// opens live there. The goroutine must be locked to its thread, and stay so until it
// ends, so that nobody else gets a thread that is elsewhere.
func (h *Host) Enter() error {
	fd, err := unix.Open(h.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, os.NewSyscallError("setns", err))
	}
	return nil
}

// Link pulls the cable, or puts it back. The host notices nothing but silence: its
// own end stays up.
func (h *Host) Link(up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	if err := batch("-n", h.net.hub(), fmt.Sprintf("link set %s %s", h.port, state)); err != nil {
		return fmt.Errorf("set link of %s %s: %w", h.Name, state, err)
	}
	return nil
}

// Way is a direction as the host sees it.
type Way string

// The ways.
const (
	In  Way = "in"
	Out Way = "out"
)

// Filter drops what a rule of nft(8) matches, as "meta l4proto udp", on its way in
// or out of the host, in place of what was dropped before; an empty match is
// everything. Mend ends it.
func (h *Host) Filter(match string, ways ...Way) error { return h.filter([]string{match}, ways...) }

func (h *Host) filter(matches []string, ways ...Way) error {
	rules := "add table inet fault\ndelete table inet fault\nadd table inet fault\n"
	for _, way := range ways {
		hook := map[Way]string{In: "input", Out: "output"}[way]
		rules += fmt.Sprintf("add chain inet fault %s { type filter hook %s priority 0 ; }\n", way, hook)
		for _, match := range matches {
			rules += fmt.Sprintf("add rule inet fault %s %s drop\n", way, match)
		}
	}
	return h.nft(rules)
}

// Cut drops the packets of TCP connections to or from a port, on their way in or out of
// the host.
func (h *Host) Cut(port int, ways ...Way) error { return h.filter(ends(port, ""), ways...) }

// ends matches the packets of TCP connections to or from a port, as far as more does: by
// two rules, as which end of it has the port is the same for all of a connection.
func ends(port int, more string) []string {
	return []string{fmt.Sprintf("tcp dport %d %s", port, more), fmt.Sprintf("tcp sport %d %s", port, more)}
}

// Lose drops a share of all datagrams in both directions, at random, in percent, and of
// the packets of TCP connections to or from these ports.
func (h *Host) Lose(percent int, ports ...int) error {
	share := lost(percent)
	matches := []string{"meta l4proto udp " + share}
	for _, port := range ports {
		matches = append(matches, ends(port, share)...)
	}
	return h.filter(matches, In, Out)
}

// LoseWith drops a share of the datagrams to and from another host, as Lose does.
func (h *Host) LoseWith(other *Host, percent int) error {
	return h.filter([]string{fmt.Sprintf("ip daddr %v meta l4proto udp %s", other.Addr, lost(percent)),
		fmt.Sprintf("ip saddr %v meta l4proto udp %s", other.Addr, lost(percent))}, In, Out)
}

func lost(percent int) string { return fmt.Sprintf("numgen random mod 100 < %d", percent) }

// Mend drops nothing any more.
func (h *Host) Mend() error { return h.nft("add table inet fault\ndelete table inet fault\n") }

func (h *Host) nft(rules string) error {
	cmd := command("ip", "netns", "exec", h.Name, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("filter at %s: %w: %s", h.Name, err, bytes.TrimSpace(out))
	}
	return nil
}

// Close ends the processes that are left on the hosts, but this one, and removes
// the network.
func (n *Net) Close() error { return remove(n.run) }

// Sweep removes what runs left that have ended without their end.
func Sweep() error {
	names, err := filepath.Glob(filepath.Join(folder, prefix+"*.*-*"))
	if err != nil {
		return err
	}
	var errs []error
	var done []string
	for _, name := range names {
		run, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), prefix), "-")
		id, since, _ := strings.Cut(run, ".")
		pid, err1 := strconv.Atoi(id)
		start, err2 := strconv.ParseUint(since, 10, 64)
		if err1 != nil || err2 != nil || slices.Contains(done, run) {
			continue
		}
		if at, err := startOf(pid); err == nil && at == start {
			continue // it goes on
		}
		done = append(done, run)
		errs = append(errs, remove(prefix+run+"-"))
	}
	return errors.Join(errs...)
}

// remove ends what runs in the namespaces of a run, and them.
func remove(run string) error {
	names, err := filepath.Glob(filepath.Join(folder, run+"*"))
	if err != nil {
		return err
	}
	// Killing leaves none behind that could start another: agents first or last,
	// both are gone in the end.
	for deadline := time.Now().Add(endWait); time.Now().Before(deadline); {
		left := 0
		for _, name := range names {
			left += kill(filepath.Base(name))
		}
		if left == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, ip("netns", "del", filepath.Base(name)))
	}
	return errors.Join(errs...)
}

// kill ends the processes of a namespace, but this one, and tells how many there were.
func kill(name string) int {
	out, err := command("ip", "netns", "pids", name).Output()
	if err != nil {
		return 0
	}
	n := 0
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() {
			n++
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	return n
}

// startOf is when a process started, in clock ticks since boot: field 22 of
// proc_pid_stat(5), counted behind the name.
func startOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("%d fields in /proc/%d/stat", len(fields), pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// command has a group of its own: Ctrl-C is for us, and what it would break off here
// is what cleans up.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func ip(args ...string) error { return run("ip", args...) }

// batch runs several commands of ip(8) at once.
func batch(flag, namespace string, lines ...string) error {
	cmd := command("ip", flag, namespace, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(lines, "; "), err, bytes.TrimSpace(out))
	}
	return nil
}

func run(name string, args ...string) error {
	if out, err := command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
