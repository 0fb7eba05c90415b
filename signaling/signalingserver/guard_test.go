package signalingserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

// bytesConn reads from memory, n bytes at a time.
type bytesConn struct {
	net.Conn
	r io.Reader
	n int
}

func (c *bytesConn) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.n)]) }

func wsFrame(length int, announced uint64) []byte {
	b := []byte{0x81, 0x80}
	switch {
	case announced < 126:
		b[1] |= byte(announced)
	case announced <= 0xffff:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(announced))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, announced)
	}
	return append(append(b, 1, 2, 3, 4), make([]byte, length)...)
}

func TestGuard(t *testing.T) {
	for name, c := range map[string]struct {
		in     []byte
		proved bool
		ok     bool
	}{
		"identify":          {wsFrame(700, 700), false, true},
		"control frames":    {append(wsFrame(0, 0), wsFrame(125, 125)...), false, true},
		"at the limit":      {wsFrame(signaling.MaxFirstMessage-8, signaling.MaxFirstMessage-8), false, true},
		"over the limit":    {wsFrame(0, signaling.MaxFirstMessage+1), false, false},
		"64 bits":           {wsFrame(0, 1<<40), false, false},
		"overflow":          {append(wsFrame(10, 10), wsFrame(0, 1<<64-1)...), false, false},
		"many":              {bytes.Repeat(wsFrame(4000, 4000), 5), false, false},
		"unmasked":          {append([]byte{0x81, 5}, make([]byte, 5)...), false, true},
		"authenticated":     {wsFrame(60_000, 60_000), true, true},
		"one header a time": {wsFrame(300, 300), false, true},
	} {
		for _, n := range []int{1, 3, 1 << 20} {
			refused := 0
			g := &guard{Conn: &bytesConn{r: bytes.NewReader(c.in), n: n}, refused: func() { refused++ }}
			g.proved.Store(c.proved)
			got, err := io.ReadAll(g)
			if c.ok && (err != nil || !bytes.Equal(got, c.in) || refused != 0) {
				t.Errorf("%s by %d: %d bytes of %d, %v, refused %d", name, n, len(got), len(c.in), err, refused)
			}
			if !c.ok && (!errors.Is(err, errFirstTooBig) || refused != 1) {
				t.Errorf("%s by %d: %v, refused %d", name, n, err, refused)
			}
		}
	}
}

func FuzzGuard(f *testing.F) {
	f.Add(wsFrame(10, 10), 1)
	f.Add(wsFrame(0, 1<<63), 7)
	f.Fuzz(func(t *testing.T, in []byte, n int) {
		g := &guard{Conn: &bytesConn{r: bytes.NewReader(in), n: max(n, 1)}, refused: func() {}}
		got, err := io.ReadAll(g)
		if len(got) > len(in) || err == nil && !bytes.Equal(got, in) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(in), err)
		}
		if g.total > signaling.MaxFirstMessage && err == nil {
			t.Fatalf("%d bytes announced", g.total)
		}
	})
}

func TestMailboxBound(t *testing.T) {
	f := newFixture()
	lost := 0
	fs := &feeds{nodes: f.node, lost: func() { lost++ }, calls: make(map[sfu.CallID]*feed)}
	box := newMailbox()
	leave, err := fs.join(call, box)
	if err != nil {
		t.Fatal(err)
	}
	for range mailEvents + 5 {
		f.node.Publish(edgeagent.CallEvent{Call: call, Joined: &edgeagent.Member{User: uid(5)}})
	}
	events, dropped := box.take()
	if len(events) != mailEvents || !dropped || lost != 5 {
		t.Errorf("%d events, dropped %t, %d lost", len(events), dropped, lost)
	}
	if events, dropped := box.take(); len(events) != 0 || dropped {
		t.Error("events are taken twice")
	}
	leave()
	if f.node.Watched(call) || len(fs.calls) != 0 {
		t.Error("still subscribed")
	}
}

// A batch of messages goes out in one write, and nothing of it is lost when the
// connection is closed in between.
func TestCork(t *testing.T) {
	w := &writes{}
	g := &guard{Conn: w}
	g.cork()
	for range 3 {
		_, _ = g.Write([]byte("abc"))
	}
	if len(w.got) != 0 {
		t.Errorf("written while corked: %q", w.got)
	}
	if err := g.uncork(); err != nil || len(w.got) != 1 || w.got[0] != "abcabcabc" {
		t.Errorf("%q, %v", w.got, err)
	}
	_, _ = g.Write([]byte("d"))
	g.cork()
	_, _ = g.Write(make([]byte, corkBytes))
	_, _ = g.Write([]byte("e"))
	_ = g.Close()
	if len(w.got) != 4 || w.got[1] != "d" || len(w.got[2]) != corkBytes || w.got[3] != "e" || !w.closed {
		t.Errorf("%d writes, closed %t", len(w.got), w.closed)
	}
}

type writes struct {
	net.Conn
	got    []string
	closed bool
}

func (w *writes) Write(p []byte) (int, error)     { w.got = append(w.got, string(p)); return len(p), nil }
func (w *writes) SetReadDeadline(time.Time) error { return nil }
func (w *writes) CloseWrite() error               { w.closed = true; return nil }
