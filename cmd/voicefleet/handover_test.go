package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is both ends of a stream.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = asStream(ours); err != nil {
		t.Fatal(err)
	}
	if b, err = asStream(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func held(t *testing.T, n int) custody {
	t.Helper()
	sockets, err := listenMedia(freeMedia(t, n), n, "")
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := newLedger()
	if err != nil {
		t.Fatal(err)
	}
	c := custody{sockets: sockets, ledger: ledger}
	t.Cleanup(c.close)
	return c
}

func TestHandover(t *testing.T) {
	a, b := pair(t)
	given := held(t, 3)
	if _, err := given.ledger.WriteAt([]byte("indices"), 0); err != nil {
		t.Fatal(err)
	}
	// What follows on the stream is left on it.
	if err := given.give(a); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("next")); err != nil {
		t.Fatal(err)
	}
	taken, err := take(b)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.close()
	buf := make([]byte, 16)
	if n, err := b.Read(buf); err != nil || string(buf[:n]) != "next" {
		t.Errorf("then came %q, %v", buf[:n], err)
	}
	if n, err := taken.ledger.ReadAt(buf[:7], 0); err != nil || string(buf[:n]) != "indices" {
		t.Errorf("ledger holds %q, %v", buf[:n], err)
	}
	if len(taken.sockets) != 3 {
		t.Fatalf("%d sockets", len(taken.sockets))
	}
	for i := range taken.sockets {
		old, err := asSocket(given.sockets[i])
		if err != nil {
			t.Fatal(err)
		}
		again, err := asSocket(taken.sockets[i])
		if err != nil {
			t.Fatal(err)
		}
		if old.LocalAddr().String() != again.LocalAddr().String() {
			t.Errorf("socket %d is %v, not %v", i, again.LocalAddr(), old.LocalAddr())
		}
		old.Close()
		again.Close()
	}
}

func TestHandoverIsRefused(t *testing.T) {
	c := held(t, 1)
	fds := unix.UnixRights(int(c.sockets[0].Fd()), int(c.ledger.Fd()))
	for name, send := range map[string]struct {
		head string
		oob  []byte
	}{
		"another program": {"GET / HTTP/1.1\r\n", fds},
		"later version":   {handoverMagic + "\x00\x00\x00\x02\x00\x00\x00\x01", fds},
		"no files":        {handoverMagic + "\x00\x00\x00\x01\x00\x00\x00\x01", nil},
		"too few files":   {handoverMagic + "\x00\x00\x00\x01\x00\x00\x00\x02", fds},
		"no sockets":      {handoverMagic + "\x00\x00\x00\x01\x00\x00\x00\x00", fds},
		"absurd number":   {handoverMagic + "\x00\x00\x00\x01\xff\xff\xff\xff", fds},
		"cut short":       {handoverMagic, fds},
	} {
		a, b := pair(t)
		if _, _, err := a.WriteMsgUnix([]byte(send.head), send.oob, nil); err != nil {
			t.Fatal(err)
		}
		a.Close()
		before := openFiles(t)
		if _, err := take(b); err == nil || !strings.Contains(err.Error(), "take sockets over") {
			t.Errorf("%s: %v", name, err)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d files are open, %d were", name, after, before)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestNoEngineToFind looks where none is, and at one that has its agent.
func TestNoEngineToFind(t *testing.T) {
	port := freeMedia(t, 1)
	if _, _, err := findEngine(port); err != errNoEngine {
		t.Errorf("%v", err)
	}
	l, err := net.ListenUnix("unix", doorName(port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, _, err := findEngine(port); err == nil || err == errNoEngine {
		t.Errorf("an engine that hands nothing over: %v", err)
	}
}

// TestWhoseFault tells crashes from ends that somebody wanted.
func TestWhoseFault(t *testing.T) {
	for script, crashed := range map[string]bool{
		"exit 2":        true, // as Go does after a panic
		"kill -SEGV $$": true,
		"kill -ABRT $$": true,
		"kill -KILL $$": false,
		"kill -TERM $$": false,
		"exit 0":        false,
	} {
		if got := byItself(exec.Command("sh", "-c", script).Run()); got != crashed {
			t.Errorf("%s: crashed %v", script, got)
		}
	}
}
