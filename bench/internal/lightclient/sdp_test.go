package lightclient

import "testing"

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
