package chatserver

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/textchat"
)

const (
	// writeTimeout is how long one write to a client may take.
	writeTimeout = 10 * time.Second
	// lingerTime and lingerBytes bound what is read and thrown away after our
	// close frame: to close a socket with unread data resets it, and the client
	// would never see the code.
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// wire is the connection under a WebSocket. It bounds every write in time,
// keeps the socket open for a moment after our close frame, and gives the close
// frames that the WebSocket library makes by itself the codes of the gateway: a
// frame beyond MaxFrame is CloseDecode, not 1009.
type wire struct {
	net.Conn
	closing atomic.Bool
}

const closeFrame = 0x88 // FIN and opcode 8 (RFC 6455 section 5.2)

func (w *wire) Write(p []byte) (int, error) {
	if len(p) >= 4 && p[0] == closeFrame && p[1] >= 2 && p[1] <= 125 && binary.BigEndian.Uint16(p[2:]) == 1009 {
		reason := textchat.CloseDecode.String()
		p = append([]byte{closeFrame, byte(2 + len(reason)), 0, 0}, reason...)
		binary.BigEndian.PutUint16(p[2:], uint16(textchat.CloseDecode))
		if _, err := w.write(p); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return w.write(p)
}

func (w *wire) write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// SetDeadline leaves writes alone: they have their own.
func (w *wire) SetDeadline(t time.Time) error { return w.Conn.SetReadDeadline(t) }

// Close ends our direction only. finish ends the rest.
func (w *wire) Close() error {
	if w.closing.Swap(true) {
		return nil
	}
	_ = w.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return w.Conn.Close()
}

// finish reads away what the client still sends and closes the socket.
func (w *wire) finish() {
	if w.closing.Load() {
		_, _ = io.CopyN(io.Discard, w.Conn, lingerBytes)
	}
	_ = w.Conn.Close()
}

// compression of what we send; what a client sends is never inflated.
type compression int

const (
	plain       compression = iota
	payloadZlib             // large frames are complete zlib streams (Identify asked for it)
	zlibStream              // one zlib stream per connection (the URL asked for it)
	zstdStream              // one zstd stream per connection (the URL asked for it)
)

// payloadThreshold is from what size on a frame is worth compressing by itself.
const payloadThreshold = 1 << 10

// framer makes the wire form of frames for one connection. The two stream modes
// keep no state but whether their header was sent: they write blocks that are
// stored, which every reader takes and which costs a session no memory, where a
// compressor costs it 0.4 to 1.8 MB; nothing is compressed before a client is
// authenticated, either.
type framer struct{ begun bool }

var zlibWriters = sync.Pool{New: func() any { w, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed); return w }}

// frame is the wire form of text, and whether it goes as a binary frame.
func (f *framer) frame(mode compression, text []byte) (b []byte, binary bool) {
	switch mode {
	case payloadZlib:
		if len(text) < payloadThreshold {
			return text, false
		}
		var buf bytes.Buffer
		w := zlibWriters.Get().(*zlib.Writer)
		w.Reset(&buf)
		_, _ = w.Write(text) // a bytes.Buffer does not fail
		_ = w.Close()
		zlibWriters.Put(w)
		return buf.Bytes(), true
	case zlibStream:
		return f.storeZlib(text), true
	case zstdStream:
		return f.storeZstd(text), true
	}
	return text, false
}

// storeZlib writes stored blocks (RFC 1951 section 3.2.4), the last of them
// empty: those are the four bytes 00 00 FF FF that end a message.
func (f *framer) storeZlib(text []byte) []byte {
	b := make([]byte, 0, len(text)+len(text)/0xffff*5+16)
	if !f.begun {
		f.begun = true
		b = append(b, 0x78, 0x01) // RFC 1950: deflate, 32 KiB window, fastest
	}
	for {
		n := min(len(text), 0xffff)
		b = append(b, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		b = append(b, text[:n]...)
		if text = text[n:]; n == 0 {
			return b
		}
	}
}

// storeZstd writes raw blocks (RFC 8878 section 3.1.1.2) of one endless frame
// with a window of 128 KiB, which is also the largest block.
func (f *framer) storeZstd(text []byte) []byte {
	const most = 128 << 10
	b := make([]byte, 0, len(text)+len(text)/most*3+16)
	if !f.begun {
		f.begun = true
		// Magic, then a descriptor of no flags, then the window: 2^(10+7).
		b = append(b, 0x28, 0xb5, 0x2f, 0xfd, 0, 7<<3)
	}
	for len(text) > 0 {
		n := min(len(text), most)
		h := uint32(n) << 3 // not the last block, type raw
		b = append(b, byte(h), byte(h>>8), byte(h>>16))
		b = append(b, text[:n]...)
		text = text[n:]
	}
	return b
}
