package mark

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	m := Mark{Talker: 0x01020304, Index: 0x05060708, Onset: 0x05060700, Voiced: true, Due: time.Unix(1, 2)}
	b, err := Append(nil, []byte{0x78, 0xaa, 0xbb}, m, 0)
	if err != nil {
		t.Fatal(err)
	}
	const want = "\x7b\x41\x19\xaa\xbbvfbm\x01\x02\x03\x04\x05\x06\x07\x08\x05\x06\x07\x00\x01\x00\x00\x00\x00\x3b\x9a\xca\x02"
	if string(b) != want {
		t.Errorf("wrote % x\nwant  % x", b, want)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, frame := range [][]byte{{0x78}, {0xf8, 0xff, 0xfe}, bytes.Repeat([]byte{0x78}, 100), bytes.Repeat([]byte{0x78}, 600)} {
		for _, size := range []int{0, 127, 128, 200, 281, 282, 283, 284, 285, 536, 537, 538, 800, MaxPacket} {
			m := Mark{Talker: 7, Index: 9, Onset: 8, Due: time.Unix(5, 6)}
			b, err := Append([]byte("x"), frame, m, size)
			if size != 0 && size < len(frame)+Overhead {
				if !errors.Is(err, ErrTooLong) {
					t.Errorf("%d in %d: %v", len(frame), size, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%d in %d: %v", len(frame), size, err)
			}
			b = b[1:]
			if size != 0 && len(b) != size {
				t.Errorf("%d in %d: %d bytes", len(frame), size, len(b))
			}
			if got, ok := Read(b); !ok || got.Talker != 7 || got.Index != 9 || got.Onset != 8 || got.Voiced || !got.Due.Equal(m.Due) {
				t.Errorf("%d in %d: read %+v %v", len(frame), size, got, ok)
			}
			if inner, err := unpad(b); err != nil || !bytes.Equal(inner, frame) {
				t.Errorf("%d in %d: a decoder sees % x, %v", len(frame), size, inner, err)
			}
		}
	}
	if _, err := Append(nil, []byte{0x79, 1, 2}, Mark{}, 0); err == nil {
		t.Error("a packet of two frames was marked")
	}
	for _, bad := range [][]byte{nil, {0x7b}, make([]byte, 100)} {
		if _, ok := Read(bad); ok {
			t.Errorf("% x was read", bad)
		}
	}
}

// unpad reads a packet of code 3 as RFC 6716 section 3.2.5 says, independent of
// how it was written, back into one of code 0.
func unpad(b []byte) ([]byte, error) {
	if b[0]&3 != 3 || b[1] != 0x41 {
		return nil, fmt.Errorf("head % x", b[:2])
	}
	pad, i := 0, 2
	for {
		n := int(b[i])
		i++
		if n < 255 {
			pad += n
			break
		}
		pad += 254
	}
	if len(b)-i < pad {
		return nil, fmt.Errorf("%d bytes of padding in %d", pad, len(b)-i)
	}
	return append([]byte{b[0] &^ 3}, b[i:len(b)-pad]...), nil
}

func FuzzRead(f *testing.F) {
	b, _ := Append(nil, []byte{0x78, 1}, Mark{Index: 1}, 60)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := Read(b); ok && m.Due.IsZero() && len(b) < Size {
			t.Error("a mark in less than a mark")
		}
	})
}
