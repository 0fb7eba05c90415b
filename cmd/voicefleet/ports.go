package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// listenTCP opens the control port on every address, IPv4 and IPv6.
func listenTCP(port int, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, portError("TCP", port, flag, err)
	}
	return l, nil
}

// mediaBuffer is what the kernel may hold of a media port while its worker is
// busy: 4 MiB are 20 ms of 200,000 packets/s with the kernel's bookkeeping. The
// kernel cuts it to net.core.rmem_max.
const mediaBuffer = 4 << 20

// listenMedia opens n UDP ports from first on, one per worker.
func listenMedia(first, n int, flag string) ([]*net.UDPConn, error) {
	var socks []*net.UDPConn
	for i := range n {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: first + i})
		if err != nil {
			for _, s := range socks {
				s.Close()
			}
			return nil, portError("UDP", first+i, flag, err)
		}
		// Best effort: a smaller buffer works, and its drops are counted.
		_ = c.SetReadBuffer(mediaBuffer)
		_ = c.SetWriteBuffer(mediaBuffer)
		socks = append(socks, c)
	}
	return socks, nil
}

func portError(proto string, port int, flag string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.New(wordsPortTaken(proto, port, flag, portHolder(proto, port)))
	case errors.Is(err, os.ErrPermission):
		return errors.New(wordsPortForbidden(proto, port, flag))
	}
	return fmt.Errorf("listen on %s port %d: %w", proto, port, err)
}
