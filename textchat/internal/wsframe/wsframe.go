// Package wsframe is the frames of WebSockets (RFC 6455) as a server reads and
// writes them: a Reader that is given bytes as they come and holds nothing but a
// message that is not whole, and the making of frames in a buffer of the caller's.
// It knows no socket, so that a connection that is silent costs neither a goroutine
// nor a buffer.
package wsframe

import (
	"crypto/sha1" // RFC 6455 section 4.2.2 asks for it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Opcode says what a frame is (section 5.2).
type Opcode byte

// The opcodes.
const (
	Continuation Opcode = 0
	Text         Opcode = 1
	Binary       Opcode = 2
	Close        Opcode = 8
	Ping         Opcode = 9
	Pong         Opcode = 10
)

func (o Opcode) control() bool { return o >= Close }

// What ends a connection.
var (
	ErrProtocol = errors.New("websocket: protocol error")
	ErrTooLarge = errors.New("websocket: message too large")
	ErrText     = errors.New("websocket: text is not UTF-8")
)

// MaxParts is how many fragments a message may come in. Empty ones count: they would
// be a way to keep a server busy with a message that never ends.
const MaxParts = 64

// maxControl bounds the payload of control frames (section 5.5).
const maxControl = 125

// Message is one message or control frame.
type Message struct {
	Opcode  Opcode
	Payload []byte // lent until the next call
}

// Reader puts messages together. Set Most first; the zero Reader takes none.
type Reader struct {
	// Most is the longest message, in bytes.
	Most int

	// Owned by the caller.
	rest   []byte // of a frame that is not whole
	parts  []byte // of a message in fragments
	opcode Opcode // of that
	count  int    // of its fragments so far; zero: none began
}

// Feed takes bytes as they came, and calls handle with each message that is whole,
// unmasked in place. handle says whether to go on. What is left is kept: b is the
// caller's again.
func (r *Reader) Feed(b []byte, handle func(Message) bool) error {
	if len(r.rest) > 0 {
		b = append(r.rest, b...)
		r.rest = nil
	}
	for len(b) > 0 {
		frame, n, err := parse(b, r.Most)
		if err != nil {
			return err
		}
		if n == 0 {
			r.rest = append([]byte(nil), b...) // at most a head and Most
			return nil
		}
		b = b[n:]
		m, whole, err := r.join(frame)
		if err != nil {
			return err
		}
		if whole && !handle(m) {
			return nil
		}
	}
	return nil
}

// frame is one frame.
type frame struct {
	Message
	final bool
}

// parse reads the frame that b begins with, and says how long it is; 0 when it is
// not whole. Frames of clients are masked, and no extension is spoken here.
func parse(b []byte, most int) (f frame, n int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f.final, f.Opcode = b[0]&0x80 != 0, Opcode(b[0]&0x0f)
	size, head := uint64(b[1]&0x7f), 2
	switch {
	case b[0]&0x70 != 0, b[1]&0x80 == 0,
		f.Opcode > Binary && f.Opcode < Close, f.Opcode > Pong,
		f.Opcode.control() && (!f.final || size > maxControl):
		return f, 0, ErrProtocol
	case size == 126:
		head = 4
		if len(b) < head {
			return f, 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case size == 127:
		head = 10
		if len(b) < head {
			return f, 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	if size > uint64(most) {
		return f, 0, ErrTooLarge
	}
	end := head + 4 + int(size)
	if len(b) < end {
		return f, 0, nil
	}
	key := binary.LittleEndian.Uint32(b[head:])
	f.Payload = b[head+4 : end]
	unmask(f.Payload, key)
	return f, end, nil
}

// unmask undoes section 5.3.
func unmask(b []byte, key uint32) {
	if key == 0 {
		return
	}
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * (i % 4)))
	}
}

// join puts fragments together (section 5.4).
func (r *Reader) join(f frame) (m Message, whole bool, err error) {
	switch {
	case f.Opcode.control():
		return f.Message, true, f.check()
	case (f.Opcode == Continuation) != (r.count > 0), r.count == MaxParts:
		return m, false, ErrProtocol
	case f.final && r.count == 0:
		return f.Message, true, f.check()
	}
	if len(r.parts)+len(f.Payload) > r.Most {
		return m, false, ErrTooLarge
	}
	if r.count == 0 {
		r.opcode = f.Opcode
	}
	r.parts = append(r.parts, f.Payload...)
	r.count++
	if !f.final {
		return m, false, nil
	}
	m = Message{r.opcode, r.parts}
	r.parts, r.count = nil, 0
	return m, true, m.check()
}

// check holds that text is UTF-8, the reason of a close frame too (sections 8.1, 5.5.1).
func (m Message) check() error {
	switch text := m.Payload; {
	case m.Opcode == Text && !utf8.Valid(text), m.Opcode == Close && len(text) > 2 && !utf8.Valid(text[2:]):
		return ErrText
	}
	return nil
}

// maxHead is the longest head of a server's frame.
const maxHead = 10

// Begin makes room for the head of a frame; what is appended to b then is its
// payload, until End.
func Begin(b []byte) []byte {
	return append(b, make([]byte, maxHead)...)
}

// End writes the head of the frame that Begin began when b was from bytes long.
func End(b []byte, from int, op Opcode) []byte {
	n := len(b) - from - maxHead
	head := AppendHead(b[:from], n, op)
	return head[:len(head)+copy(b[len(head):], b[from+maxHead:])]
}

// AppendHead writes the head of a frame whose payload is n bytes.
func AppendHead(b []byte, n int, op Opcode) []byte {
	b = append(b, 0x80|byte(op))
	switch {
	case n < 126:
		return append(b, byte(n))
	case n <= 0xffff:
		return append(b, 126, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}

// Append writes a whole frame.
func Append(b []byte, op Opcode, payload []byte) []byte {
	return append(AppendHead(b, len(payload), op), payload...)
}

// AppendClose writes a close frame; code 0 has none in it.
func AppendClose(b []byte, code uint16, reason string) []byte {
	if code == 0 {
		return AppendHead(b, 0, Close)
	}
	reason = reason[:min(len(reason), maxControl-2)]
	b = AppendHead(b, 2+len(reason), Close)
	return append(binary.BigEndian.AppendUint16(b, code), reason...)
}

// CloseCode reads the payload of a close frame: 0 when there is no code; ok is false
// when no client may send it (section 7.4).
func CloseCode(payload []byte) (code uint16, ok bool) {
	switch len(payload) {
	case 0:
		return 0, true
	case 1:
		return 0, false
	}
	code = binary.BigEndian.Uint16(payload)
	switch {
	case code < 1000, code >= 5000, code >= 1016 && code < 3000, code == 1004, code == 1005, code == 1006, code == 1015:
		return code, false
	}
	return code, true
}

// Wanted says whether a request asks for a WebSocket of version 13 (section 4.2.1).
func Wanted(r *http.Request) bool {
	return r.Method == http.MethodGet && has(r.Header, "Connection", "upgrade") && has(r.Header, "Upgrade", "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == "13" && r.Header.Get("Sec-WebSocket-Key") != ""
}

// has says whether a word is in the list of a header.
func has(h http.Header, name, word string) bool {
	for _, line := range h.Values(name) {
		for w := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(w), word) {
				return true
			}
		}
	}
	return false
}

// Accept is the answer to such a request.
func Accept(r *http.Request) []byte {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
}
