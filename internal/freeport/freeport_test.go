package freeport_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"voicefleet/internal/freeport"
)

func TestPorts(t *testing.T) {
	tcp, err := freeport.TCP()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(tcp))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	udp, err := freeport.UDP(3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: udp + i})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// No other process is given it while this one lives.
	other, err := os.OpenFile(filepath.Join(os.TempDir(), "voicefleet-ports"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, port := range []int{tcp, udp, udp + 2} {
		if err := unix.FcntlFlock(other.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: int64(port), Len: 1}); err == nil {
			t.Errorf("port %d could be given to another process", port)
		}
	}
	for _, n := range []int{-1, 0, 129} {
		if _, err := freeport.UDP(n); err == nil {
			t.Errorf("%d ports in a row", n)
		}
	}
}

// TestForks: a child that this process begins just then does not keep a port open that
// was looked at, until it runs its program.
func TestForks(t *testing.T) {
	var forks sync.WaitGroup
	defer forks.Wait()
	done := make(chan struct{})
	defer close(done)
	for range 4 {
		forks.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 500 {
		port, err := freeport.TCP()
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
