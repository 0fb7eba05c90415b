package wsframe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// client makes a frame as a client sends it.
func client(head byte, payload string, key string) []byte {
	b := []byte{head}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, key...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// TestReader reads streams whole, byte by byte, and cut at every place.
func TestReader(t *testing.T) {
	const key = "\x37\xfa\x21\x3d" // of the example in RFC 6455 section 5.7
	long := strings.Repeat("0123456789abcdef", 20)
	for _, c := range []struct {
		name   string
		stream []byte
		want   string // opcode and payload of each message
		err    error
	}{
		{"the RFC's example", []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, `1 "Hello"`, nil},
		{"two, and one that is not whole", join(client(0x81, "a", key), client(0x82, long, key), []byte{0x81, 0x85, 1}), `1 "a" 2 "` + long + `"`, nil},
		{"empty, no mask to speak of", client(0x81, "", "\x00\x00\x00\x00"), `1 ""`, nil},
		{"in fragments, a ping between", join(client(0x01, "Hel", key), client(0x89, "?", key), client(0x00, "l", key), client(0x80, "o", key), client(0x81, "x", key)), `9 "?" 1 "Hello" 1 "x"`, nil},
		{"close", client(0x88, "\x03\xe8bye", key), `8 "\x03\xe8bye"`, nil},
		{"not masked", []byte{0x81, 0x01, 'a'}, "", ErrProtocol},
		{"an extension", client(0xc1, "a", key), "", ErrProtocol},
		{"opcode 3", client(0x83, "a", key), "", ErrProtocol},
		{"opcode 11", client(0x8b, "a", key), "", ErrProtocol},
		{"a ping in fragments", client(0x09, "a", key), "", ErrProtocol},
		{"a long ping", client(0x89, long, key), "", ErrProtocol},
		{"goes on with nothing", client(0x80, "a", key), "", ErrProtocol},
		{"in 64 fragments, most of them empty", join(client(0x01, "a", key), bytes.Repeat(client(0x00, "", key), 62), client(0x80, "b", key), client(0x81, "x", key)), `1 "ab" 1 "x"`, nil},
		{"in 65 fragments", join(client(0x01, "a", key), bytes.Repeat(client(0x00, "", key), 63), client(0x80, "b", key)), "", ErrProtocol},
		{"never ends", join(client(0x01, "", key), bytes.Repeat(client(0x00, "", key), 500)), "", ErrProtocol},
		{"UTF-8 cut by fragments", join(client(0x01, "\xe2\x98", key), client(0x80, "\x83", key)), `1 "☃"`, nil},
		{"text that is not UTF-8", client(0x81, "a\xff", key), "", ErrText},
		{"text that is not UTF-8, in fragments", join(client(0x01, "\xe2\x98", key), client(0x80, "a", key)), "", ErrText},
		{"a surrogate", client(0x81, "\xed\xa0\x80", key), "", ErrText},
		{"binary that is not UTF-8", client(0x82, "\xff", key), `2 "\xff"`, nil},
		{"a reason that is not UTF-8", client(0x88, "\x03\xe8\xff", key), "", ErrText},
		{"begins twice", join(client(0x01, "a", key), client(0x81, "b", key)), "", ErrProtocol},
		{"too long", client(0x81, strings.Repeat("x", 401), key), "", ErrTooLarge},
		{"much too long", binary.BigEndian.AppendUint64([]byte{0x81, 0xff}, 1<<63), "", ErrTooLarge},
		{"too long in fragments", join(client(0x01, long, key), client(0x80, long, key)), "", ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			for step := 1; step <= len(c.stream); step++ {
				r := Reader{Most: 400}
				var got []string
				var err error
				for b := bytes.Clone(c.stream); len(b) > 0 && err == nil; {
					n := min(step, len(b))
					part := bytes.Clone(b[:n])
					b = b[n:]
					err = r.Feed(part, func(m Message) bool {
						got = append(got, fmt.Sprintf("%d %q", m.Opcode, m.Payload))
						return true
					})
					clear(part) // it is the caller's again
				}
				if !errors.Is(err, c.err) || c.err == nil && strings.Join(got, " ") != c.want {
					t.Fatalf("in steps of %d: %q, %v", step, got, err)
				}
			}
		})
	}
}

// TestNoMore: what follows the message after which nobody listens is not read.
func TestNoMore(t *testing.T) {
	r := Reader{Most: 10}
	n := 0
	err := r.Feed(join(client(0x81, "a", "abcd"), client(0x83, "b", "abcd")), func(Message) bool { n++; return false })
	if n != 1 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		n    int
		head string
	}{{0, "\x81\x00"}, {125, "\x81\x7d"}, {126, "\x81\x7e\x00\x7e"}, {0xffff, "\x81\x7e\xff\xff"}, {0x10000, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"}} {
		payload := bytes.Repeat([]byte{'x'}, c.n)
		want := "before" + c.head + string(payload)
		if got := Append([]byte("before"), Text, payload); string(got) != want {
			t.Errorf("append of %d: %.20q", c.n, got)
		}
		b := []byte("before")
		if got := End(append(Begin(b), payload...), len(b), Text); string(got) != want {
			t.Errorf("end of %d: %.20q", c.n, got)
		}
	}
	if got := AppendClose(nil, 4002, "no"); string(got) != "\x88\x04\x0f\xa2no" {
		t.Errorf("%q", got)
	}
	if got := AppendClose(nil, 0, "no"); string(got) != "\x88\x00" {
		t.Errorf("%q", got)
	}
	if got := AppendClose(nil, 1000, strings.Repeat("x", 200)); len(got) != 2+maxControl {
		t.Errorf("%d bytes", len(got))
	}
}

func TestCloseCode(t *testing.T) {
	for payload, want := range map[string]struct {
		code uint16
		ok   bool
	}{"": {0, true}, "\x03": {0, false}, "\x03\xe8": {1000, true}, "\x03\xe9bye": {1001, true}, "\x10\x01": {4097, true}, "\x0b\xb8": {3000, true},
		"\x03\xe7": {999, false}, "\x03\xed": {1005, false}, "\x03\xee": {1006, false}, "\x03\xf7": {1015, false}, "\x03\xf8": {1016, false}, "\x13\x88": {5000, false}} {
		if code, ok := CloseCode([]byte(payload)); code != want.code || ok != want.ok {
			t.Errorf("%q: %d, %v", payload, code, ok)
		}
	}
}

func TestUpgrade(t *testing.T) {
	r, _ := http.NewRequest(http.MethodGet, "http://x/", nil)
	for name, value := range map[string]string{"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	if !Wanted(r) {
		t.Error("not wanted")
	}
	if got := string(Accept(r)); !strings.Contains(got, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") {
		t.Errorf("%q", got)
	}
	for name, value := range map[string]string{"Connection": "close", "Upgrade": "h2c", "Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": ""} {
		other := r.Clone(t.Context())
		other.Header.Set(name, value)
		if Wanted(other) {
			t.Errorf("%s: %q is wanted", name, value)
		}
	}
	r.Method = http.MethodPost
	if Wanted(r) {
		t.Error("POST is wanted")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(client(0x81, "Hello", "abcd"), 3)
	f.Add(join(client(0x01, "a", "abcd"), client(0x80, "b", "abcd")), 1)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		// Whatever is sent, it comes out the same however it is cut.
		read := func(step int) (got []string, err error) {
			r := Reader{Most: 64}
			for b := stream; len(b) > 0 && err == nil; {
				n := min(step, len(b))
				err = r.Feed(bytes.Clone(b[:n]), func(m Message) bool {
					got = append(got, fmt.Sprintf("%d %q", m.Opcode, m.Payload))
					return true
				})
				b = b[n:]
				if len(r.rest) > 64+14 || len(r.parts) > 64 {
					t.Fatalf("keeps %d and %d bytes", len(r.rest), len(r.parts))
				}
			}
			return got, err
		}
		whole, err := read(max(len(stream), 1))
		cut, cutErr := read(1 + max(step, -step)%7&7)
		if strings.Join(whole, "\n") != strings.Join(cut, "\n") || err != cutErr {
			t.Errorf("whole %q %v, cut %q %v", whole, err, cut, cutErr)
		}
	})
}
