package voiceclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/lxzan/gws"
)

// talker is a server that says more than is read.
type talker struct {
	gws.BuiltinEventHandler
	closed chan error
}

func (s *talker) OnClose(_ *gws.Conn, err error) { s.closed <- err }

// lasting is a connection that gws does not close; it keeps the error of what was
// written last.
type lasting struct {
	*net.TCPConn
	err error
}

func (l *lasting) Close() error { return nil }

func (l *lasting) Write(p []byte) (n int, err error) {
	n, l.err = l.TCPConn.Write(p)
	return n, l.err
}

// upgraded gives both ends of a WebSocket, and the connection under the server's.
func upgraded(t *testing.T, handler gws.Event) (*socket, *gws.Conn, *lasting) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var ws *gws.Conn
	var tcp *lasting
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			accepted <- err
			return
		}
		tcp = &lasting{TCPConn: c.(*net.TCPConn)}
		br := bufio.NewReader(tcp)
		r, err := http.ReadRequest(br)
		if err == nil {
			ws, err = gws.NewUpgrader(handler, nil).UpgradeFromConn(tcp, br, r)
		}
		accepted <- err
	}()
	s, err := dialSocket(context.Background(), "ws://"+l.Addr().String(), nil)
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.TCPConn.Close() })
	return s, ws, tcp
}

// Whoever leaves has that confirmed: a server which has said more than was read meets no
// reset, that could take the closing frame with it.
func TestPartingIsConfirmed(t *testing.T) {
	server := &talker{closed: make(chan error, 1)}
	s, ws, tcp := upgraded(t, server)
	for range 4 * socketFrames {
		if err := ws.WriteMessage(gws.OpcodeText, make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	after := make(chan error, 1)
	go func() {
		ws.ReadLoop()
		_ = tcp.CloseWrite()
		_, err := io.Copy(io.Discard, tcp)
		after <- errors.Join(tcp.err, err)
	}()
	s.part(1000)
	err := <-server.closed
	if e := (*gws.CloseError)(nil); !errors.As(err, &e) || e.Code != 1000 {
		t.Error(err)
	}
	if err := <-after; err != nil {
		t.Errorf("confirmed, and read to the end: %v", err)
	}
}

// A server that does not answer is not waited for longer than that.
func TestPartingUnconfirmed(t *testing.T) {
	s, _, _ := upgraded(t, gws.BuiltinEventHandler{})
	s.part(1000)
	if s.code != 0 {
		t.Errorf("answered with %d", s.code)
	}
}
