package netns

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain is an echo server on a host, too.
func TestMain(m *testing.M) {
	if os.Getenv("NETNS_ECHO") != "" {
		echo()
	}
	os.Exit(m.Run())
}

func echo() {
	c, err := net.ListenPacket("udp", ":7")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	buf := make([]byte, 16)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			os.Exit(1)
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}

// at does something on a host.
func at(t *testing.T, h *Host, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never again free: the thread ends
		if err := h.Enter(); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) *Net {
	t.Helper()
	if err := Missing(); err != nil {
		t.Skip(err)
	}
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestCableAndFilters(t *testing.T) {
	n := open(t)
	server, err1 := n.Host("server")
	client, err2 := n.Host("client")
	other, err3 := n.Host("other")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NETNS_ECHO=1")
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	at(t, server, cmd.Start)
	lines := bufio.NewScanner(said)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("server says %q", lines.Text())
	}
	var c net.Conn
	at(t, client, func() (err error) {
		c, err = net.Dial("udp", net.JoinHostPort(server.Addr.String(), "7"))
		return err
	})
	defer c.Close()
	// answered asks until it is answered, or often enough to be sure.
	answered := func() bool {
		buf := make([]byte, 16)
		for range 10 {
			_, _ = c.Write([]byte("x"))
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := c.Read(buf); err == nil {
				return true
			}
		}
		return false
	}
	drained := func() {
		buf := make([]byte, 16)
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}
	for _, step := range []struct {
		name string
		do   func() error
		want bool
	}{
		{"at first", func() error { return nil }, true},
		{"cable pulled", func() error { return server.Link(false) }, false},
		{"cable back", func() error { return server.Link(true) }, true},
		{"nothing out", func() error { return server.Filter("", Out) }, false},
		{"nothing in, by another rule", func() error { return server.Filter("meta l4proto udp", In) }, false},
		{"only TCP", func() error { return server.Filter("meta l4proto tcp", In, Out) }, true},
		{"no UDP", func() error { return server.Filter("meta l4proto udp", In, Out) }, false},
		{"some lost", func() error { return server.Lose(10) }, true},
		{"nearly all lost with the client", func() error { return server.LoseWith(client, 99) }, false},
		{"nearly all lost with another", func() error { return server.LoseWith(other, 99) }, true},
		{"mended", server.Mend, true},
		{"mended twice", server.Mend, true},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		drained()
		if got := answered(); got != step.want {
			t.Errorf("%s: answered %v", step.name, got)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if left, _ := filepath.Glob(filepath.Join(folder, n.run+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestSweep removes what a run left that is no more, and nothing of one that goes on.
func TestSweep(t *testing.T) {
	n := open(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprintf("%s%d.%d-hub", prefix, gone.Process.Pid, 1)
	foreign := prefix + "somebodys"
	for _, name := range []string{old, foreign} {
		if err := ip("netns", "add", name); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = ip("netns", "del", foreign) }()
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	if s := string(list); strings.Contains(s, old) || !strings.Contains(s, foreign) || !strings.Contains(s, n.hub()) {
		t.Errorf("left are\n%s", s)
	}
}
