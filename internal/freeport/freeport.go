// Package freeport finds ports that nobody uses, so that two measurements, or a
// measurement and a server, do not meet. A port is free when it is looked at;
// whoever takes it in between wins. That is seldom anybody: none is given twice by one
// process, and the kernel gives none of them to a socket that asks for any port.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
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
		if last = open(port); last != nil {
			found = 0
			continue
		}
		if found++; found == n {
			return port - n + 1, nil
		}
	}
	return 0, fmt.Errorf("find %d free ports in a row: %w", n, last)
}
