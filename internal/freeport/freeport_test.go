package freeport_test

import (
	"net"
	"strconv"
	"testing"

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
	for _, n := range []int{-1, 0, 129} {
		if _, err := freeport.UDP(n); err == nil {
			t.Errorf("%d ports in a row", n)
		}
	}
}
