package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestTakenPortIsExplained(t *testing.T) {
	tcp, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	port := tcp.Addr().(*net.TCPAddr).Port
	_, err = listenTCP(port, "--port")
	explained(t, err, "TCP", port, "--port")

	udp, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	port = udp.LocalAddr().(*net.UDPAddr).Port
	_, err = listenMedia(port, 1, "--media-port")
	explained(t, err, "UDP", port, "--media-port")
}

func explained(t *testing.T, err error, proto string, port int, flag string) {
	t.Helper()
	if err == nil {
		t.Fatal("a taken port was opened")
	}
	want := []string{proto, fmt.Sprint(port), flag}
	if runtime.GOOS == "linux" {
		want = append(want, fmt.Sprintf("process %d", os.Getpid()))
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %s", err, w)
		}
	}
}
