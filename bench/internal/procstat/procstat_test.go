package procstat

import (
	"bufio"
	"math"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 25 3 4 20 0 7 0 99\n"))
	const ms = time.Millisecond
	if want := (stat{state: 'S', cpu: CPU{1500 * ms, 250 * ms}, waited: CPU{30 * ms, 40 * ms}}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1 (a) S 1", "42 (a S", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x y 0 0", "1 (a) S 1 2 3 4 5 6 7 8 9 10 1 1 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestParseRollup(t *testing.T) {
	if got, err := parseRollup("5581-7ffd [rollup]\nRss:               1234 kB\nPss: 5 kB\n"); err != nil || got != 1234 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := parseRollup("Pss: 5 kB\n"); err == nil {
		t.Error("no Rss, no error")
	}
}

// TestOwnCPU burns CPU until the kernel says so.
func TestOwnCPU(t *testing.T) {
	before, err := ReadCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	deadline, sum := time.Now().Add(10*time.Second), 0
	for {
		for i := range 1_000_000 {
			sum += i
		}
		now, err := ReadCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now.Sub(before).User >= 50*time.Millisecond {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("10 s of work, %+v counted (%d)", now.Sub(before), sum)
		}
	}
}

func TestOwnMemory(t *testing.T) {
	before, err := ReadRSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	b := make([]byte, size)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	after, err := ReadRSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if grown := after - before; grown < size*9/10 {
		t.Errorf("touched %d bytes, RSS grew by %d", len(b), grown)
	}
}

func TestTree(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	pids, err := Tree(os.Getpid())
	if err != nil || !slices.Contains(pids, cmd.Process.Pid) || pids[0] != os.Getpid() {
		t.Errorf("got %v, %v; want %d in it", pids, err, cmd.Process.Pid)
	}
}

// TestTreeCPU has a shell burn CPU in a child that has ended by the time one looks.
func TestTreeCPU(t *testing.T) {
	cmd := exec.Command("sh", "-c", "(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done); echo done; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "done\n" {
		t.Fatal(line, err)
	}
	alone, err := ReadCPU(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	all, err := TreeCPU(cmd.Process.Pid)
	if err != nil || all.Total() < alone.Total()+2*tick {
		t.Errorf("%v with its child, %v alone, %v", all, alone, err)
	}
	above, err := TreeCPU(os.Getpid())
	if err != nil || above.Total() < all.Total() {
		t.Errorf("%v above, %v below, %v", above, all, err)
	}
	if _, err := TreeCPU(math.MaxInt32); err == nil {
		t.Error("no such process, no error")
	}
}

// TestEnded looks at a process that nobody has waited for yet.
func TestEnded(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if Ended(pid) {
		t.Error("it has ended at once")
	}
	_ = in.Close()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if pids, err := Tree(os.Getpid()); !Ended(pid) || !slices.Contains(pids, pid) {
		t.Errorf("it lives, or is not in %v, %v", pids, err)
	}
	_ = cmd.Wait()
	if pids, err := Tree(os.Getpid()); !Ended(pid) || err != nil || slices.Contains(pids, pid) {
		t.Errorf("it is still in %v, %v", pids, err)
	}
}
