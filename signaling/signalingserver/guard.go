package signalingserver

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/signaling"
)

const (
	// linger is how long a closed connection is read on, so that the closing
	// frame is not lost to a reset that unread data would cause.
	linger = time.Second
	// lingerBytes bounds what is read then.
	lingerBytes = 256 << 10
)

var errFirstTooBig = errors.New("too much before authentication")

// guard is the connection under a WebSocket. Until the client is authenticated
// it reads the frame headers (RFC 6455 section 5.2) ahead of the WebSocket
// library, which would make room for whatever length they announce. Between cork
// and uncork it gathers what is written: a join of a big call makes many small
// messages for each member. Its Close only ends the sending half; finish closes.
//
// A connection that the client has broken off takes what is written as if it were
// sent: at an error the library would end it, and what the client said before it went,
// its closing frame above all, would not be read. The reader finds the end.
type guard struct {
	net.Conn
	proved  atomic.Bool // set when the client is authenticated
	refused func()      // called once, from Read, before errFirstTooBig

	closing sync.Once

	writing sync.Mutex
	// Guarded by writing.
	corked bool
	buf    []byte
	broken bool // nobody reads what is written

	// Owned by the reader.
	head  [14]byte
	have  int    // bytes of head
	skip  uint64 // payload bytes up to the next header
	total uint64 // announced by all headers
	err   error
}

// Read is called by the reader only.
func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.Conn.Read(p)
	if !g.proved.Load() && !g.watch(p[:n]) {
		g.err = errFirstTooBig
		g.refused()
		return 0, g.err
	}
	return n, err
}

// watch follows the frames in b and says whether they stay in bounds.
func (g *guard) watch(b []byte) bool {
	for len(b) > 0 {
		if g.skip > 0 {
			n := min(g.skip, uint64(len(b)))
			g.skip -= n
			b = b[n:]
			continue
		}
		g.head[g.have] = b[0]
		g.have++
		b = b[1:]
		if g.have < 2 {
			continue
		}
		size, length := 2, uint64(g.head[1]&0x7f)
		switch length {
		case 126:
			size = 4
		case 127:
			size = 10
		}
		if g.head[1]&0x80 != 0 {
			size += 4
		}
		if g.have < size {
			continue
		}
		switch length {
		case 126:
			length = uint64(binary.BigEndian.Uint16(g.head[2:]))
		case 127:
			length = binary.BigEndian.Uint64(g.head[2:])
		}
		g.have, g.skip = 0, length
		if length > signaling.MaxFirstMessage {
			return false
		}
		if g.total += length + uint64(size); g.total > signaling.MaxFirstMessage {
			return false
		}
	}
	return true
}

// corkBytes is how much is gathered before it is sent on.
const corkBytes = 16 << 10

// Write sends, or gathers while corked.
func (g *guard) Write(p []byte) (int, error) {
	g.writing.Lock()
	defer g.writing.Unlock()
	if !g.corked {
		return len(p), g.sendLocked(p)
	}
	g.buf = append(g.buf, p...)
	if len(g.buf) < corkBytes {
		return len(p), nil
	}
	return len(p), g.flushLocked()
}

func (g *guard) flushLocked() error {
	if len(g.buf) == 0 {
		return nil
	}
	err := g.sendLocked(g.buf)
	g.buf = nil // most connections are quiet most of the time
	return err
}

// sendLocked fails only when the client does not read.
func (g *guard) sendLocked(p []byte) error {
	if g.broken {
		return nil
	}
	_, err := g.Conn.Write(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		g.broken = true
		return nil
	}
	return err
}

func (g *guard) cork() {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.corked = true
}

// uncork sends what was gathered.
func (g *guard) uncork() error {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.corked = false
	return g.flushLocked()
}

// Close ends the sending half and gives the client linger to go.
func (g *guard) Close() error {
	var err error
	g.closing.Do(func() {
		_ = g.uncork()
		_ = g.Conn.SetReadDeadline(time.Now().Add(linger))
		if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
			err = half.CloseWrite()
		} else {
			err = g.Conn.Close()
		}
	})
	return err
}

// finish reads what is left, within bounds, and closes for good.
func (g *guard) finish() {
	_ = g.Close()
	buf := make([]byte, 4<<10)
	for left := lingerBytes; left > 0; {
		n, err := g.Conn.Read(buf)
		if err != nil {
			break
		}
		left -= n
	}
	_ = g.Conn.Close()
}
