// Package freeport finds ports that nobody uses, so that two measurements, or a
// measurement and a server, do not meet. A port is free when it is looked at;
// whoever takes it in between wins.
package freeport

import (
	"fmt"
	"net"
)

// TCP finds a port on the loopback address.
func TCP() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free TCP port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// tries bounds the search for a row, most its length.
const (
	tries = 100
	most  = 128
)

// UDP finds the first of n ports in a row, on all addresses.
func UDP(n int) (int, error) {
	if n < 1 || n > most {
		return 0, fmt.Errorf("find %d free UDP ports in a row: want 1 to %d", n, most)
	}
	var last error
	for range tries {
		first, err := net.ListenUDP("udp", nil)
		if err != nil {
			return 0, fmt.Errorf("find a free UDP port: %w", err)
		}
		port := first.LocalAddr().(*net.UDPAddr).Port
		last = row(port+1, n-1)
		_ = first.Close()
		if last == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find %d free UDP ports in a row: %w", n, last)
}

// row opens n ports from a first one on, and closes them.
func row(port, n int) error {
	for i := range n {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port + i})
		if err != nil {
			return err
		}
		defer c.Close()
	}
	return nil
}
