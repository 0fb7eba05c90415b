// Package freeport finds ports that nobody uses, so that two measurements, or a
// measurement and a server, do not meet. A port is free when it is looked at;
// whoever takes it in between wins. That is seldom anybody: none is given twice while
// the process lives that it was given to, by whichever process, and the kernel gives
// none of them to a socket that asks for any port.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Ports are looked for from lowest to below highest, where the kernel's own choice
// begins (ip_local_port_range).
const lowest, highest = 12_000, 32_000

// most bounds the length of a row.
const most = 128

// next is the port to look at first, from a place by lot on.
var next = struct {
	sync.Mutex
	port int // guarded by the mutex
}{port: lowest + rand.IntN(highest-lowest)}

// given is a file of which each process locks the bytes whose numbers are the ports
// that it was given (fcntl(2), open file description locks); -1: there is none, and
// nobody knows of other processes.
var given = sync.OnceValue(func() int {
	fd, err := unix.Open(filepath.Join(os.TempDir(), "voicefleet-ports"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return -1
	}
	return fd
})

// take says whether a port may be given to this process, and keeps it for it.
func take(port int) bool {
	fd := given()
	return fd < 0 || unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: int64(port), Len: 1}) == nil
}

// TCP finds a port, on all addresses.
func TCP() (int, error) {
	return row(1, func(port int) error {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			err = l.Close()
		}
		return err
	})
}

// UDP finds the first of n ports in a row, on all addresses.
func UDP(n int) (int, error) {
	return row(n, func(port int) error {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// row finds the first of n ports in a row that can be opened.
func row(n int, open func(port int) error) (int, error) {
	if n < 1 || n > most {
		return 0, fmt.Errorf("find %d free ports in a row: want 1 to %d", n, most)
	}
	next.Lock()
	defer next.Unlock()
	var last error
	for found, looked := 0, 0; looked < highest-lowest; looked++ {
		if next.port >= highest {
			next.port, found = lowest, 0
		}
		port := next.port
		next.port++
		// In this order: to look at a port is to use it for a moment, in which whoever it
		// was given to may begin to.
		last = errors.New("other processes were given them")
		if take(port) {
			// A child that is begun meanwhile has the socket too, until it runs its program.
			syscall.ForkLock.RLock()
			last = open(port)
			syscall.ForkLock.RUnlock()
		}
		if last != nil {
			found = 0
			continue
		}
		if found++; found == n {
			return port - n + 1, nil
		}
	}
	return 0, fmt.Errorf("find %d free ports in a row: %w", n, last)
}
