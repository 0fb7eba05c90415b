package stunprobe

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

const ufrag, pwd = "prbAaVZv0AAAAAAAAAAA", "4TkNItu9GmPY8ez1wHKKGgx06AYVcBp8"

// node is a media port that does with each request what reply says, with the
// number of those before it.
func node(t *testing.T, reply func(n int, request *stun.Message, send func(*stun.Message))) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		buf := make([]byte, 1500)
		for n := 0; ; n++ {
			size, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			m := &stun.Message{Raw: append([]byte(nil), buf[:size]...)}
			if err := m.Decode(); err != nil {
				t.Errorf("request %d: %v", n, err)
				return
			}
			reply(n, m, func(m *stun.Message) { _, _ = conn.WriteToUDPAddrPort(m.Raw, from) })
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func success(r *stun.Message, pwd string) *stun.Message {
	return stun.MustBuild(stun.NewTransactionIDSetter(r.TransactionID), stun.BindingSuccess, stun.NewShortTermIntegrity(pwd), stun.Fingerprint)
}

func TestProbe(t *testing.T) {
	silent := node(t, func(int, *stun.Message, func(*stun.Message)) {})
	for name, reply := range map[string]func(n int, r *stun.Message, send func(*stun.Message)){
		"the first is answered": func(_ int, r *stun.Message, send func(*stun.Message)) { send(success(r, pwd)) },
		"two are lost": func(n int, r *stun.Message, send func(*stun.Message)) {
			if n == 2 {
				send(success(r, pwd))
			}
		},
		"false answers before the right one": func(n int, r *stun.Message, send func(*stun.Message)) {
			other := *r
			other.TransactionID[0] ^= 1
			send(success(&other, pwd))
			send(success(r, "another password"))
			send(&stun.Message{Raw: []byte("nonsense")})
			send(r)
			send(success(r, pwd))
		},
		"it is checked": func(_ int, r *stun.Message, send func(*stun.Message)) {
			var user stun.Username
			if user.GetFrom(r) == nil && user.String() == ufrag+":probe" && stun.NewShortTermIntegrity(pwd).Check(r) == nil {
				send(success(r, pwd))
			}
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		began := time.Now()
		a, err := Probe(ctx, Insistent, []netip.AddrPort{silent, node(t, reply)}, ufrag, pwd)
		cancel()
		lost := 0
		if name == "two are lost" {
			lost = 2
		}
		if err != nil || a.RTT <= 0 || a.RTT > time.Since(began) || a.Lost != lost {
			t.Errorf("%s: %+v, %v: want one with %d lost", name, a, err, lost)
		}
	}
}

// TestProbeOfADeadNode: it is asked as often as said, and answers nothing or the
// wrong thing.
func TestProbeOfADeadNode(t *testing.T) {
	for name, c := range map[string]struct {
		pace  Pace
		reply func(r *stun.Message, send func(*stun.Message))
	}{
		"silent":        {Insistent, func(*stun.Message, func(*stun.Message)) {}},
		"a client asks": {Sparing, func(*stun.Message, func(*stun.Message)) {}},
		"another key's": {Insistent, func(r *stun.Message, send func(*stun.Message)) { send(success(r, "another password")) }},
		"without a sign": {Insistent, func(r *stun.Message, send func(*stun.Message)) {
			send(stun.MustBuild(stun.NewTransactionIDSetter(r.TransactionID), stun.BindingSuccess))
		}},
	} {
		asked := make(chan int, 16)
		at := node(t, func(n int, r *stun.Message, send func(*stun.Message)) {
			asked <- n
			c.reply(r, send)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		a, err := Probe(ctx, c.pace, []netip.AddrPort{at}, ufrag, pwd)
		cancel()
		if err == nil {
			t.Errorf("%s: it answers after %v", name, a.RTT)
		}
		for want := range c.pace.Requests {
			if n := <-asked; n != want {
				t.Errorf("%s: request %d is number %d", name, want, n)
			}
		}
		if len(asked) > 0 {
			t.Errorf("%s: it is asked more than %d times", name, c.pace.Requests)
		}
	}
}

func TestProbeOfNobody(t *testing.T) {
	if _, err := Probe(t.Context(), Insistent, nil, ufrag, pwd); err == nil {
		t.Error("nobody answers")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	at := node(t, func(int, *stun.Message, func(*stun.Message)) {})
	if _, err := Probe(ctx, Insistent, []netip.AddrPort{at}, ufrag, pwd); err == nil {
		t.Error("an answer, though the time was up")
	}
}
