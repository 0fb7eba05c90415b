package voiceclient

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestReaderIsWokenLate: a wake-up that comes when its datagram has been read already is no
// error: the reader would end, and whatever came by the detour after it never be heard.
func TestReaderIsWokenLate(t *testing.T) {
	network, err := newProbing(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer network.detour.close()
	socket, err := network.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c := socket.(*probed)
	peer, err := net.Dial("udp4", socket.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	node := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}
	read := make(chan string)
	go func() {
		defer close(read)
		for b := make([]byte, packetSize); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				read <- err.Error()
				return
			}
			read <- string(b[:n])
		}
	}()
	said := func(want string) {
		t.Helper()
		select {
		case got, ok := <-read:
			if !ok || !strings.Contains(got, want) {
				t.Fatalf("read %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q is not read", want)
		}
	}
	for n := range 100 {
		c.deliver(fmt.Appendf(nil, "datagram %d", n), node)
		said(fmt.Sprintf("datagram %d", n))
		if err := c.UDPConn.SetReadDeadline(time.Unix(1, 0)); err != nil { // as that of a deliver that was held up
			t.Fatal(err)
		}
		if _, err := peer.Write(fmt.Appendf(nil, "by UDP %d", n)); err != nil {
			t.Fatal(err)
		}
		said(fmt.Sprintf("by UDP %d", n))
	}
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	said("closed")
}
