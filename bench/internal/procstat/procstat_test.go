package procstat

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 7 0 99\n"))
	if err != nil || got != (CPU{User: 1500 * time.Millisecond, System: 250 * time.Millisecond}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1 (a) S 1", "42 (a S", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x y 0"} {
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
