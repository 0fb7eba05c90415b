package procstat

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestParseMachine(t *testing.T) {
	const text = "cpu  4990 10 2733 182194 343 5 42 14 7 3\ncpu0 2126 0 1173 91794 18 0 10 6 0 0\nintr 1\n"
	const cs = 10 * time.Millisecond
	got, err := ParseMachine(text)
	want := Machine{User: 4990 * cs, Nice: 10 * cs, System: 2733 * cs, Idle: 182194 * cs, IOWait: 343 * cs, IRQ: 5 * cs, SoftIRQ: 42 * cs, Steal: 14 * cs}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if busy, total := got.Busy(), got.Total(); busy != 7780*cs || total != (7780+182194+343+14)*cs {
		t.Errorf("busy %v of %v", busy, total)
	}
	later, err := ParseMachine("cpu 5000 10 2733 182294 343 5 52 15\n")
	if err != nil || later.Sub(got) != (Machine{User: 10 * cs, Idle: 100 * cs, SoftIRQ: 10 * cs, Steal: cs}) {
		t.Errorf("got %+v, %v", later.Sub(got), err)
	}
	if old, err := ParseMachine("cpu 1 2 3 4\n"); err != nil || old != (Machine{User: cs, Nice: 2 * cs, System: 3 * cs, Idle: 4 * cs}) {
		t.Errorf("got %+v, %v", old, err)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4\n", "cpu 1 2\n", "cpu 1 2 x 4\n"} {
		if _, err := ParseMachine(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestParseCores(t *testing.T) {
	const text = "cpu  4990 10 2733 182194 343 5 42 14 7 3\ncpu0 2126 0 1173 91794 18 0 10 6 0 0\ncpu3 1 2 3 4 5 6 7 8\nintr 1\n"
	const cs = 10 * time.Millisecond
	got, err := ParseCores(text)
	want := []Machine{
		{User: 2126 * cs, System: 1173 * cs, Idle: 91794 * cs, IOWait: 18 * cs, SoftIRQ: 10 * cs, Steal: 6 * cs},
		{User: cs, Nice: 2 * cs, System: 3 * cs, Idle: 4 * cs, IOWait: 5 * cs, IRQ: 6 * cs, SoftIRQ: 7 * cs, Steal: 8 * cs},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3 4\n", "cpu0 1 2\n", "cpu0 1 2 x 4\n"} {
		if _, err := ParseCores(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if here, err := ReadCores(); err != nil || here[0].Total() <= 0 {
		t.Errorf("%+v, %v", here, err)
	}
}

func TestReadMachine(t *testing.T) {
	m, err := ReadMachine()
	if err != nil || m.Total() <= 0 || m.Busy() <= 0 || m.Busy() > m.Total() {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestThreads(t *testing.T) {
	dir := t.TempDir()
	for id, stat := range map[string]string{
		"42":   "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 7 0 99\n",
		"43":   "43 (reader) R 1 2 3 4 5 6 7 8 9 10 1 2 0 0 20 0 7 0 99\n",
		"self": "no thread",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "task", id), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "task", id, "stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "task", "44"), 0o755); err != nil { // has ended
		t.Fatal(err)
	}
	got, err := threads(dir)
	want := []Thread{
		{42, "a) b (c)", CPU{1500 * time.Millisecond, 250 * time.Millisecond}},
		{43, "reader", CPU{10 * time.Millisecond, 20 * time.Millisecond}},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := threads(filepath.Join(dir, "none")); err == nil {
		t.Error("a process that is not was read")
	}
	if own, err := Threads(os.Getpid()); err != nil || len(own) == 0 {
		t.Errorf("own threads: %v, %v", own, err)
	}
}

func TestFiles(t *testing.T) {
	before, err := Files(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// The first socket of a program opens the poller's files as well.
	if after, err := Files(os.Getpid()); err != nil || after < before+10 {
		t.Errorf("%d open files, then %d; %v", before, after, err)
	}
	if _, err := Files(-1); err == nil {
		t.Error("a process that is not was read")
	}
}
