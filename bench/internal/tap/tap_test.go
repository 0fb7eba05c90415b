package tap

import (
	"net"
	"testing"
	"time"
)

// check makes a STUN message of a type with a transaction id.
func check(kind uint16, id byte) []byte {
	b := make([]byte, 20)
	b[0], b[1] = byte(kind>>8), byte(kind)
	copy(b[4:], []byte{0x21, 0x12, 0xa4, 0x42, id})
	return b
}

func dtls(kind byte) []byte {
	b := make([]byte, 13)
	b[0] = kind
	return b
}

func TestTimes(t *testing.T) {
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t0 := time.Unix(1000, 0)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	n.sent(check(1, 1), at(0))
	n.sent(check(1, 2), at(0)) // never answered
	n.received(check(0x101, 1), at(3))
	n.received(check(0x101, 1), at(9)) // repeated: known already
	n.received(check(0x101, 7), at(9)) // nobody asked
	n.sent(dtls(22), at(10))
	n.sent(dtls(22), at(12)) // the flight's last
	n.received(dtls(22), at(15))
	n.received(dtls(22), at(19)) // the same flight of the server
	n.sent(dtls(20), at(30))
	n.received(dtls(20), at(35))
	n.received([]byte{0x80, 111, 0, 0}, at(40)) // voice
	if got, want := n.Times(), (Times{STUN: 3 * time.Millisecond, Flights: 8 * time.Millisecond, Answers: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestSockets sees what passes real sockets.
func TestSockets(t *testing.T) {
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := a.WriteTo(check(1, 1), b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if _, _, err := b.ReadFrom(buf); err != nil {
		t.Fatal(err)
	}
	if _, err := b.WriteTo(check(0x101, 1), a.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.ReadFrom(buf); err != nil {
		t.Fatal(err)
	}
	if got := n.Times(); got.Answers != 1 || got.STUN <= 0 || got.STUN > time.Minute {
		t.Errorf("got %+v", got)
	}
}
