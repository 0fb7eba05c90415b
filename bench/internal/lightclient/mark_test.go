package lightclient

import (
	"bytes"
	"testing"
	"time"
)

func TestMark(t *testing.T) {
	m := Mark{Talker: 0x0102, Index: 0x03040506, Due: time.Unix(1, 2)}
	b := bytes.Repeat([]byte{0xee}, 22)
	m.put(b)
	want := "\x78vfbm\x01\x02\x03\x04\x05\x06\x00\x00\x00\x00\x3b\x9a\xca\x02\xee\xee\xee"
	if string(b) != want {
		t.Errorf("wrote % x, want % x", b, want)
	}
	if got, ok := readMark(b); !ok || got.Talker != m.Talker || got.Index != m.Index || !got.Due.Equal(m.Due) {
		t.Errorf("read %+v, %v", got, ok)
	}
	for _, bad := range [][]byte{nil, b[:MarkSize-1], append([]byte{0x79}, b[1:]...), append([]byte{0x78, 'x'}, b[2:]...)} {
		if _, ok := readMark(bad); ok {
			t.Errorf("% x was read", bad)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add("v=0\r\nm=audio 9 x 111\r\na=ice-ufrag:abcd\r\na=ssrc:1 cname:x\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n")
	f.Add("m=audio\nm=audio\na=ssrc:x\na=fingerprint:sha-256 zz\n")
	f.Fuzz(func(t *testing.T, sdp string) {
		a, err := readAnswer(sdp, 3)
		if err == nil && (len(a.slots) != 2 || !a.remote.IsValid() || a.pwd == "") {
			t.Errorf("%q: %+v", sdp, a)
		}
	})
}
