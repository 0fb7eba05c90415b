package rtpwire

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/pion/rtp"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		ext          uint8
		ok           bool
		length       int
		level        uint8
	}{
		{"plain", "806f0001 00000002 00000003 f8fffe", 1, true, 12, NoLevel},
		{"short", "806f0001 00000002 000000", 1, false, 0, 0},
		{"version 1", "406f0001 00000002 00000003", 1, false, 0, 0},
		{"15 CSRCs missing", "8f6f0001 00000002 00000003 00000000", 1, false, 0, 0},
		{"1 CSRC", "816f0001 00000002 00000003 00000009 f8", 1, true, 16, NoLevel},
		{"one-byte level", "906f0001 00000002 00000003 bede0001 10890000 f8", 1, true, 20, 0x89},
		{"one-byte level behind padding and another", "906f0001 00000002 00000003 bede0002 0021aabb 10090000 f8", 1, true, 24, 9},
		{"one-byte level not negotiated", "906f0001 00000002 00000003 bede0001 10890000 f8", 0, true, 20, NoLevel},
		{"one-byte id 15 ends the walk", "906f0001 00000002 00000003 bede0001 f0001089 f8", 1, true, 20, NoLevel},
		{"one-byte length beyond the end", "906f0001 00000002 00000003 bede0001 25001089 f8", 1, true, 20, NoLevel},
		{"two-byte level", "906f0001 00000002 00000003 10000001 00010183 f8", 1, true, 20, 0x83},
		{"two-byte level of no length", "906f0001 00000002 00000003 10050001 01000000 f8", 1, true, 20, NoLevel},
		{"two-byte length beyond the end", "906f0001 00000002 00000003 10000001 02090183 f8", 1, true, 20, NoLevel},
		{"extension beyond the end", "906f0001 00000002 00000003 bede0003 10890000 f8", 1, false, 0, 0},
		{"no room for the extension's own header", "906f0001 00000002 00000003 bede", 1, false, 0, 0},
		{"digital silence with V", "906f0001 00000002 00000003 bede0001 10ff0000 f8", 1, true, 20, Digital},
		{"unknown profile", "906f0001 00000002 00000003 abcd0001 10890000 f8", 1, true, 20, NoLevel},
	} {
		h, ok := Parse(unhex(t, c.packet), c.ext)
		if ok != c.ok {
			t.Errorf("%s: ok is %v", c.name, ok)
			continue
		}
		if ok && (h.Length != c.length || h.Level != c.level || h.Sequence != 1 || h.Timestamp != 2 || h.SSRC != 3 || h.PayloadType != 111) {
			t.Errorf("%s: %+v", c.name, h)
		}
	}
}

func TestPadding(t *testing.T) {
	for n := range 21 {
		payload := bytes.Repeat([]byte{7}, n)
		for pad := range 256 {
			if n > 0 {
				payload[n-1] = byte(pad)
			}
			h := Header{Padding: true}
			got, ok := h.Payload(payload)
			if want := n > 0 && pad > 0 && pad <= n; ok != want || ok && len(got) != n-pad {
				t.Fatalf("%d bytes, padding %d: %d bytes, %v", n, pad, len(got), ok)
			}
		}
	}
}

func TestForwarded(t *testing.T) {
	var f Forwarded
	f.PutShared(0x01020304)
	if got, want := f.Put(111, true, 7, 8, 9, 3, 0x85), unhex(t, "91ef0007 00000008 00000009 01020304 bede0001 30850000"); !bytes.Equal(got, want) {
		t.Errorf("with level: %x", got)
	}
	if got, want := f.Put(96, false, 7, 8, 9, 0, 0x85), unhex(t, "81600007 00000008 00000009 01020304"); !bytes.Equal(got, want) {
		t.Errorf("plain: %x", got)
	}
	if got, want := f.PutStamped(111, true, 7, 8, 9, 3, 0x85, 5, 0xabcd), unhex(t, "91ef0007 00000008 00000009 01020304 bede0002 308551ab cd000000"); !bytes.Equal(got, want) {
		t.Errorf("level and stamp: %x", got)
	}
	f.Unstamp()
	if got, want := f.PutStamped(111, false, 7, 8, 9, 3, NoLevel, 5, 0xabcd), unhex(t, "916f0007 00000008 00000009 01020304 bede0001 51abcd00"); !bytes.Equal(got, want) {
		t.Errorf("stamp alone: %x", got)
	}
	f.Unstamp()
	if got, want := f.Put(111, true, 7, 8, 9, 3, 0x85), unhex(t, "91ef0007 00000008 00000009 01020304 bede0001 30850000"); !bytes.Equal(got, want) {
		t.Errorf("after a stamp: %x", got)
	}
}

// TestStampIsReadByPion: both extensions are where a receiver looks for them.
func TestStampIsReadByPion(t *testing.T) {
	var f Forwarded
	f.PutShared(1)
	var p rtp.Packet
	if err := p.Unmarshal(append(f.PutStamped(111, true, 7, 8, 9, 3, 0x85, 5, 0xabcd), 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	if level, stamp := p.GetExtension(3), p.GetExtension(5); !bytes.Equal(level, []byte{0x85}) || !bytes.Equal(stamp, []byte{0xab, 0xcd}) || len(p.Payload) != 3 {
		t.Errorf("level %x, stamp %x, payload %x", level, stamp, p.Payload)
	}
}

// FuzzParse holds the parser against pion/rtp: what we take, it takes, and it
// sees the payload begin at the same place.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"806f00010000000200000003f8fffe", "906f00010000000200000003bede000110890000f8",
		"906f0001000000020000000310000001000101 83f8", "8f6f0001000000020000000300000000", "b06f00010000000200000003bede0000f801",
	} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		h, ok := Parse(packet, 1)
		if !ok {
			return
		}
		if h.Length > len(packet) {
			t.Fatalf("header of %d bytes in a packet of %d", h.Length, len(packet))
		}
		h.Payload(packet[h.Length:])
		var theirs rtp.Header
		if n, err := theirs.Unmarshal(packet); err == nil && (n != h.Length || theirs.SSRC != h.SSRC || theirs.SequenceNumber != h.Sequence) {
			t.Fatalf("%x: %+v, pion says %d bytes", packet, h, n)
		}
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
