package lightclient

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pion/srtp/v3"
)

var (
	testKey  = []byte("0123456789abcdef")
	testSalt = []byte("salt-salt-sa")
)

func transformOf(t testing.TB) *transform {
	t.Helper()
	x, err := newTransform(testKey, testSalt)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestSealAgainstPion seals and opens across three turns of the sequence number,
// with and without an extension; pion/srtp does the other end.
func TestSealAgainstPion(t *testing.T) {
	own := transformOf(t)
	context := func() *srtp.Context {
		c, err := srtp.CreateContext(testKey, testSalt, srtp.ProtectionProfileAeadAes128Gcm)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	opens, seals := context(), context()
	var counter rollover
	seq, roc := uint16(65000), uint32(0)
	for i := range 35 {
		packet := make([]byte, 12, 200)
		packet[0], packet[1] = 0x80, 111
		binary.BigEndian.PutUint16(packet[2:], seq)
		binary.BigEndian.PutUint32(packet[8:], 0xcafe0001)
		if i%2 == 1 {
			packet[0] |= 0x10
			packet = append(packet, 0xbe, 0xde, 0, 1, 0x10, 0x94, 0, 0)
		}
		head := len(packet)
		packet = append(packet, bytes.Repeat([]byte{byte(i)}, 50)...)
		plain := bytes.Clone(packet)
		theirs, err := seals.EncryptRTP(nil, packet, nil)
		if err != nil {
			t.Fatal(err)
		}
		ours := own.seal(packet, head, roc)
		if !bytes.Equal(ours, theirs) {
			t.Fatalf("packet %d, counter %d: sealed % x, pion % x", i, roc, ours, theirs)
		}
		if got, err := opens.DecryptRTP(nil, ours, nil); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("packet %d: pion opened % x, %v", i, got, err)
		}
		n, ok := headerSize(theirs)
		if !ok || n != head {
			t.Fatalf("header of %d bytes, want %d", n, head)
		}
		guess := counter.guess(seq)
		got, ok := own.open(make([]byte, 0, 200), theirs, n, guess)
		if !ok || !bytes.Equal(got, plain[head:]) {
			t.Fatalf("packet %d: opened % x, %v", i, got, ok)
		}
		counter.took(seq, guess)
		theirs[len(theirs)-1] ^= 1
		if _, ok := own.open(make([]byte, 0, 200), theirs, n, guess); ok {
			t.Fatal("a forged tag was taken")
		}
		const step = 5003 // over 65,535 three times in all
		if seq+step < seq {
			roc++
		}
		seq += step
	}
	if counter.roc != 3 || roc != 3 {
		t.Errorf("counters %d and %d, want 3", counter.roc, roc)
	}
}

// TestRollover holds that stragglers from before the turn find their counter.
func TestRollover(t *testing.T) {
	var r rollover
	for _, c := range []struct {
		seq  uint16
		want uint32
	}{{65530, 0}, {65535, 0}, {2, 1}, {65534, 0}, {3, 1}, {30000, 1}, {60000, 1}, {10, 2}, {65000, 1}} {
		if got := r.guess(c.seq); got != c.want {
			t.Errorf("%d: counter %d, want %d", c.seq, got, c.want)
		}
		r.took(c.seq, c.want)
	}
	for _, short := range [][]byte{make([]byte, 12), {0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0}, append([]byte{0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0xff, 0xff}, make([]byte, 40)...)} {
		if n, ok := headerSize(short); ok {
			t.Errorf("% x: header of %d bytes", short, n)
		}
	}
}
