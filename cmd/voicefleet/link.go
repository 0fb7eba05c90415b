package main

import (
	"fmt"
	"log/slog"
	"net"
)

// listenLink opens the UDP port for the links to other edges: the one that was
// asked for, or else the one before the media ports, or if that is taken any.
func (m *media) listenLink(log *slog.Logger) (*net.UDPConn, error) {
	if m.link != 0 {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: m.link})
		if err != nil {
			return nil, portError("UDP", m.link, "--link-port", err)
		}
		return c, nil
	}
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: m.port - 1})
	if err == nil {
		return c, nil
	}
	if c, err = net.ListenUDP("udp", nil); err != nil {
		return nil, fmt.Errorf("open UDP port for links to other edges: %w", err)
	}
	log.Warn("the port before the media ports is taken: links to other edges use another, which a firewall may not let through; choose one with --link-port",
		"taken", m.port-1, "port", c.LocalAddr().(*net.UDPAddr).Port)
	return c, nil
}
