package crypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixedGCM is a gcm whose session keys are given and not derived, as the RFC's
// examples have them.
func fixedGCM(t *testing.T, key, salt string) *gcm {
	t.Helper()
	block, err := aes.NewCipher(unhex(t, key))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	g := &gcm{rtp: aead, rtcp: aead}
	copy(g.rtpSalt[:], unhex(t, salt))
	copy(g.rtcpSalt[:], unhex(t, salt))
	return g
}

// RFC 7714 sections 16.1.1 and 16.1.2.
func TestRFC7714RTP(t *testing.T) {
	g := fixedGCM(t, "000102030405060708090a0b0c0d0e0f", "517569642070726f2071756f")
	header := unhex(t, "8040f17b8041f8d35501a0b2")
	payload := unhex(t, "47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573")
	want := unhex(t, "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"+
		"899d7f27beb16a9152cf765ee4390cce")
	got := g.SealRTP(nil, header, payload, 0xf17b)
	if !bytes.Equal(got, want) {
		t.Fatalf("sealed\n%x, want\n%x", got, want)
	}
	plain, ok := g.OpenRTP(got, len(header), 0xf17b)
	if !ok || !bytes.Equal(plain, payload) {
		t.Fatalf("opened %x, %v", plain, ok)
	}
}

// RFC 7714 section 17.1.
func TestRFC7714RTCP(t *testing.T) {
	g := fixedGCM(t, "000102030405060708090a0b0c0d0e0f", "517569642070726f2071756f")
	compound := unhex(t, "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef")
	want := unhex(t, "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa45896cf4d2f"+
		"c5abf87245d9eade800005d4")
	got := g.SealRTCP(nil, compound, 0x5d4)
	if !bytes.Equal(got, want) {
		t.Fatalf("sealed\n%x, want\n%x", got, want)
	}
	plain, index, ok := g.OpenRTCP(got)
	if !ok || index != 0x5d4 || !bytes.Equal(plain, compound) {
		t.Fatalf("opened %x, %#x, %v", plain, index, ok)
	}
}

// RFC 3711 appendix B.3.
func TestRFC3711Derivation(t *testing.T) {
	master, err := aes.NewCipher(unhex(t, "e1f97a0d3e018be0d64fa32c06de4139"))
	if err != nil {
		t.Fatal(err)
	}
	salt := unhex(t, "0ec675ad498afeebb6960b3aabe6")
	for _, c := range []struct {
		label byte
		want  string
	}{
		{labelRTPKey, "c61e7a93744f39ee10734afe3ff7a087"},
		{labelRTPSalt, "30cbbc08863d8c85d49db34a9ae1"},
		{labelRTPAuth, "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175578ef72270986371c10c9a369ac2f94a8c5fbcdddc25" +
			"6d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2"},
	} {
		got := make([]byte, len(c.want)/2)
		derive(master, salt, c.label, got)
		if hex.EncodeToString(got) != c.want {
			t.Errorf("label %d: %x, want %s", c.label, got, c.want)
		}
	}
}

// RFC 3711 appendix B.2: the key stream is what zeros turn into.
func TestRFC3711KeyStream(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, "2b7e151628aed2a6abf7158809cf4f3c"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cm{}
	copy(c.rtpSalt[:], unhex(t, "f0f1f2f3f4f5f6f7f8f9fafbfcfd"))
	text := make([]byte, 48)
	c.xor(block, &c.rtpSalt, make([]byte, 4), 0, text)
	want := "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0"
	if hex.EncodeToString(text) != want {
		t.Errorf("%x, want %s", text, want)
	}
}

var profiles = []Profile{AEADAES128GCM, AES128CMHMACSHA1_80}

// pair is both ends of one direction: ours, and pion/srtp's with the same keys.
type pair struct {
	opener Opener
	sealer Sealer
	theirs func() *srtp.Context
}

func newPair(t testing.TB, p Profile) pair {
	t.Helper()
	material := make([]byte, p.KeyingLen())
	for i := range material {
		material[i] = byte(i*7 + 3)
	}
	client, server, err := Split(p, material)
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]byte{client.Key, server.Key, client.Salt, server.Salt}; !bytes.Equal(bytes.Join(want, nil), material) {
		t.Fatalf("split into %x", want)
	}
	opener, err := NewOpener(p, client)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := NewSealer(p, client)
	if err != nil {
		t.Fatal(err)
	}
	return pair{opener: opener, sealer: sealer, theirs: func() *srtp.Context {
		c, err := srtp.CreateContext(client.Key, client.Salt, srtp.ProtectionProfile(p),
			srtp.SRTPReplayProtection(64), srtp.SRTCPReplayProtection(64))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}}
}

// header is 12 bytes, or with CSRCs and an extension more.
func header(t testing.TB, seq uint16, ssrc uint32, rich bool) []byte {
	t.Helper()
	h := rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: seq, Timestamp: uint32(seq) * 960, SSRC: ssrc, Marker: rich}
	if rich {
		h.CSRC = []uint32{0xcafe}
		if err := h.SetExtension(1, []byte{0x85}); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Ours and pion/srtp open what the other sealed, over two rollovers.
func TestOracleRTP(t *testing.T) {
	for _, p := range profiles {
		t.Run(p.String(), func(t *testing.T) {
			d := newPair(t, p)
			seals, opens := d.theirs(), d.theirs()
			var w Window
			for index := uint64(65000); index < 3<<16; index += 37 {
				seq := uint16(index)
				h := header(t, seq, 0x1234abcd, index%2 == 0)
				payload := bytes.Repeat([]byte{byte(index)}, int(index%1300))

				theirs, err := seals.EncryptRTP(nil, append(bytes.Clone(h), payload...), nil)
				if err != nil {
					t.Fatal(err)
				}
				ours := d.sealer.SealRTP(nil, h, payload, index)
				if !bytes.Equal(ours, theirs) {
					t.Fatalf("index %#x: sealed\n%x, pion\n%x", index, ours, theirs)
				}
				if len(ours) != len(h)+len(payload)+d.sealer.Overhead() {
					t.Fatalf("index %#x: %d bytes over", index, len(ours)-len(h)-len(payload))
				}
				back, err := opens.DecryptRTP(nil, ours, nil)
				if err != nil || !bytes.Equal(back[len(h):], payload) {
					t.Fatalf("index %#x: pion opened %x, %v", index, back, err)
				}
				guess, ok := w.Estimate(seq)
				if !ok || guess != index || !w.Fresh(guess) {
					t.Fatalf("index %#x: estimated %#x, %v", index, guess, ok)
				}
				got, ok := d.opener.OpenRTP(theirs, len(h), guess)
				if !ok || !bytes.Equal(got, payload) || !bytes.Equal(theirs[:len(h)], h) {
					t.Fatalf("index %#x: opened %x, %v", index, got, ok)
				}
				w.Accept(guess)
			}
		})
	}
}

func TestOracleRTCP(t *testing.T) {
	for _, p := range profiles {
		t.Run(p.String(), func(t *testing.T) {
			d := newPair(t, p)
			seals, opens := d.theirs(), d.theirs()
			for index := uint32(1); index < 50; index++ {
				// A receiver report of as many blocks as fit in its length.
				compound := make([]byte, 8+24*(index%4))
				compound[0], compound[1] = 0x80|byte(index%4), 201
				binary.BigEndian.PutUint16(compound[2:], uint16(len(compound)/4-1))
				binary.BigEndian.PutUint32(compound[4:], 0xfeedbeef)
				theirs, err := seals.EncryptRTCP(nil, compound, nil)
				if err != nil {
					t.Fatal(err)
				}
				ours := d.sealer.SealRTCP(nil, compound, index)
				if !bytes.Equal(ours, theirs) {
					t.Fatalf("index %d: sealed\n%x, pion\n%x", index, ours, theirs)
				}
				back, err := opens.DecryptRTCP(nil, ours, nil)
				if err != nil || !bytes.Equal(back, compound) {
					t.Fatalf("index %d: pion opened %x, %v", index, back, err)
				}
				if peeked, ok := d.opener.RTCPIndex(theirs); !ok || peeked != index {
					t.Fatalf("index %d: peeked %d, %v", index, peeked, ok)
				}
				got, n, ok := d.opener.OpenRTCP(theirs)
				if !ok || n != index || !bytes.Equal(got, compound) {
					t.Fatalf("index %d: opened %x, %d, %v", index, got, n, ok)
				}
			}
		})
	}
}

// Every bit of a packet is authenticated, and so is the rollover counter.
func TestForged(t *testing.T) {
	for _, p := range profiles {
		t.Run(p.String(), func(t *testing.T) {
			d := newPair(t, p)
			h := header(t, 77, 9, true)
			const index = 5<<16 | 77
			sealed := d.sealer.SealRTP(nil, h, []byte("voice"), index)
			for bit := range len(sealed) * 8 {
				forged := bytes.Clone(sealed)
				forged[bit/8] ^= 1 << (bit % 8)
				if _, ok := d.opener.OpenRTP(forged, len(h), index); ok {
					t.Fatalf("bit %d does not matter", bit)
				}
			}
			if _, ok := d.opener.OpenRTP(bytes.Clone(sealed), len(h), index+1<<16); ok {
				t.Fatal("opened under the next rollover counter")
			}
			for n := range sealed {
				if _, ok := d.opener.OpenRTP(bytes.Clone(sealed[:n]), len(h), index); ok {
					t.Fatalf("opened when cut to %d bytes", n)
				}
			}
			rtcp := d.sealer.SealRTCP(nil, []byte{0x80, 201, 0, 1, 0, 0, 0, 9}, 3)
			for bit := range len(rtcp) * 8 {
				forged := bytes.Clone(rtcp)
				forged[bit/8] ^= 1 << (bit % 8)
				if _, _, ok := d.opener.OpenRTCP(forged); ok {
					t.Fatalf("RTCP: bit %d does not matter", bit)
				}
			}
			for n := range rtcp {
				if _, _, ok := d.opener.OpenRTCP(bytes.Clone(rtcp[:n])); ok {
					t.Fatalf("RTCP: opened when cut to %d bytes", n)
				}
			}
		})
	}
}

func TestBadKeys(t *testing.T) {
	if _, _, err := Split(Profile(2), make([]byte, 60)); err == nil {
		t.Error("split for an unknown profile")
	}
	if n := Profile(2).KeyingLen(); n != 0 {
		t.Errorf("unknown profile needs %d bytes", n)
	}
	for _, p := range profiles {
		if _, _, err := Split(p, make([]byte, p.KeyingLen()-1)); err == nil {
			t.Errorf("%v: split too little", p)
		}
		if _, err := NewOpener(p, Keys{Key: make([]byte, 15), Salt: make([]byte, p.saltLen())}); err == nil {
			t.Errorf("%v: short key", p)
		}
		if _, err := NewSealer(p, Keys{Key: make([]byte, 16)}); err == nil {
			t.Errorf("%v: no salt", p)
		}
	}
	if _, err := NewOpener(Profile(8), Keys{}); err == nil {
		t.Error("opener of an unknown profile")
	}
}

// What is accepted, forged, replayed or cut short costs no allocation.
func TestAllocations(t *testing.T) {
	for _, p := range profiles {
		d := newPair(t, p)
		h := header(t, 1, 2, true)
		payload := make([]byte, 100)
		sealed := d.sealer.SealRTP(nil, h, payload, 1)
		rtcp := d.sealer.SealRTCP(nil, make([]byte, 28), 1)
		buf := make([]byte, 0, 1500)
		var w Window
		for name, f := range map[string]func(){
			"seal": func() { buf = d.sealer.SealRTP(buf[:0], h, payload, 1) },
			"accept": func() {
				buf = append(buf[:0], sealed...)
				index, _ := w.Estimate(1)
				if _, ok := d.opener.OpenRTP(buf, len(h), index); !ok || index != 1 {
					panic("not opened")
				}
				w.Accept(index)
			},
			"forged": func() {
				buf = append(buf[:0], sealed...)
				buf[len(buf)-1] ^= 1
				if _, ok := d.opener.OpenRTP(buf, len(h), 1); ok {
					panic("opened")
				}
			},
			"replayed": func() {
				w.Accept(1)
				if index, ok := w.Estimate(1); !ok || w.Fresh(index) {
					panic("fresh")
				}
			},
			"short":     func() { d.opener.OpenRTP(buf[:20], 12, 1) },
			"seal RTCP": func() { buf = d.sealer.SealRTCP(buf[:0], sealed[:28], 1) },
			"accept RTCP": func() {
				buf = append(buf[:0], rtcp...)
				if _, _, ok := d.opener.OpenRTCP(buf); !ok {
					panic("not opened")
				}
			},
			"forged RTCP": func() {
				buf = append(buf[:0], rtcp...)
				buf[9] ^= 1
				if _, _, ok := d.opener.OpenRTCP(buf); ok {
					panic("opened")
				}
			},
		} {
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%v: %s allocates %v times", p, name, n)
			}
		}
	}
}

// FuzzOpen: nothing is accepted but what was sealed, and nothing panics.
func FuzzOpen(f *testing.F) {
	var pairs []pair
	for _, p := range profiles {
		d := newPair(f, p)
		pairs = append(pairs, d)
		h := header(f, 4, 5, true)
		f.Add(d.sealer.SealRTP(nil, h, []byte("voice"), 4), uint8(len(h)), uint64(4))
		f.Add(d.sealer.SealRTCP(nil, make([]byte, 28), 4), uint8(12), uint64(4))
	}
	// SRTCP shorter than its trailer, RTP of a bare header and less.
	for _, n := range []int{0, 1, 8, 11, 12, 13, 21, 22, 23, 27, 28} {
		f.Add(bytes.Repeat([]byte{0x80}, n), uint8(12), uint64(1)<<48-1)
	}
	f.Fuzz(func(t *testing.T, packet []byte, header uint8, index uint64) {
		for _, d := range pairs {
			p := bytes.Clone(packet)
			if payload, ok := d.opener.OpenRTP(p, int(header), index); ok {
				if again := d.sealer.SealRTP(nil, packet[:header], payload, index); !bytes.Equal(again, packet) {
					t.Fatalf("accepted %x, which seals as %x", packet, again)
				}
			}
			p = bytes.Clone(packet)
			if compound, n, ok := d.opener.OpenRTCP(p); ok {
				if again := d.sealer.SealRTCP(nil, compound, n); !bytes.Equal(again, packet) {
					t.Fatalf("accepted RTCP %x, which seals as %x", packet, again)
				}
			}
		}
	})
}

// BenchmarkSeal: 12 and 16 byte headers, 100 bytes of payload, beside pion/srtp.
func BenchmarkSeal(b *testing.B) {
	payload := make([]byte, 100)
	rand.Read(payload)
	for _, p := range profiles {
		d := newPair(b, p)
		for _, n := range []int{12, 16} {
			h := header(b, 1, 2, false)
			if n == 16 {
				h = append(h, 0, 0, 0xca, 0xfe)
				h[0] |= 1
			}
			buf := make([]byte, 0, 256)
			b.Run(fmt.Sprintf("%v/%d", p, n), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					binary.BigEndian.PutUint16(h[2:], uint16(i))
					buf = d.sealer.SealRTP(buf[:0], h, payload, uint64(i))
				}
			})
			b.Run(fmt.Sprintf("%v/%d/pion", p, n), func(b *testing.B) {
				b.ReportAllocs()
				theirs := d.theirs()
				var rh rtp.Header
				if _, err := rh.Unmarshal(h); err != nil {
					b.Fatal(err)
				}
				plain := append(bytes.Clone(h), payload...)
				for i := range b.N {
					rh.SequenceNumber = uint16(i)
					binary.BigEndian.PutUint16(plain[2:], uint16(i))
					var err error
					if buf, err = theirs.EncryptRTP(buf[:0], plain, &rh); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, p := range profiles {
		d := newPair(b, p)
		h := header(b, 1, 2, false)
		sealed := d.sealer.SealRTP(nil, h, make([]byte, 100), 1)
		buf := make([]byte, 0, 256)
		b.Run(p.String(), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				buf = append(buf[:0], sealed...)
				if _, ok := d.opener.OpenRTP(buf, len(h), 1); !ok {
					b.Fatal("not opened")
				}
			}
		})
		b.Run(p.String()+"/forged", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				buf = append(buf[:0], sealed...)
				if _, ok := d.opener.OpenRTP(buf, len(h), 2<<16); ok {
					b.Fatal("opened")
				}
			}
		})
	}
}
