package demux

import (
	"net/netip"
	"syscall"
	"testing"

	"voicefleet/sfu"
)

func TestClassify(t *testing.T) {
	const long = 20
	for _, c := range []struct {
		name string
		b    []byte
		pad  int // to this length
		want Class
	}{
		{"nothing", nil, 0, Foreign},
		{"binding request", []byte{0, 1}, 20, STUN},
		{"last STUN byte", []byte{3}, 20, STUN},
		{"STUN cut short", []byte{0, 1}, 19, Short},
		{"behind STUN", []byte{4}, long, Foreign},
		{"ZRTP", []byte{16}, long, Foreign},
		{"first DTLS byte", []byte{20}, 13, DTLS},
		{"handshake", []byte{22, 0xfe, 0xfd}, 13, DTLS},
		{"last DTLS byte", []byte{63}, 13, DTLS},
		{"DTLS cut short", []byte{22}, 12, Short},
		{"TURN channel", []byte{64}, long, Foreign},
		{"behind TURN", []byte{80}, long, Foreign},
		{"before RTP", []byte{127}, long, Foreign},
		{"RTP", []byte{128, 111}, 12, RTP},
		{"RTP with marker", []byte{0x90, 0x80 | 111}, 12, RTP},
		{"RTP cut short", []byte{128, 111}, 11, Short},
		{"RTP of one byte", []byte{128}, 1, Short},
		{"last RTP byte", []byte{191, 0}, 12, RTP},
		{"behind RTP", []byte{192, 200}, long, Foreign},
		{"sender report", []byte{128, 200}, 8, RTCP},
		{"receiver report", []byte{129, 201}, 8, RTCP},
		{"first RTCP type", []byte{128, 192}, 8, RTCP},
		{"last RTCP type", []byte{128, 223}, 8, RTCP},
		{"RTP with marker above RTCP", []byte{128, 224}, 12, RTP},
		{"RTP with marker below RTCP", []byte{128, 191}, 12, RTP},
		{"RTCP cut short", []byte{128, 200}, 7, Short},
		{"as long as may be", []byte{128, 111}, sfu.MaxDatagram, RTP},
		{"longer", []byte{128, 111}, sfu.MaxDatagram + 1, Long},
		{"longer and foreign", []byte{255}, sfu.MaxDatagram + 1, Long},
	} {
		d := make([]byte, max(c.pad, len(c.b)))
		copy(d, c.b)
		if got := Classify(d[:c.pad]); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestDrop(t *testing.T) {
	for class, want := range map[Class]sfu.DropReason{
		Short: sfu.DropTooShort, Long: sfu.DropTooLong, Foreign: sfu.DropNotVoice,
	} {
		if got := class.Drop(); got != want {
			t.Errorf("%d: %v, want %v", class, got, want)
		}
	}
}

// FuzzDemux: no panic, one class per packet, and of a protocol's class only with
// its first byte and its whole header.
func FuzzDemux(f *testing.F) {
	for b := range 256 {
		f.Add(append([]byte{byte(b), 200}, make([]byte, 20)...))
		f.Add([]byte{byte(b)})
	}
	f.Add([]byte{})
	f.Add(make([]byte, sfu.MaxDatagram+1))
	f.Fuzz(func(t *testing.T, d []byte) {
		class := Classify(d)
		if class > RTCP {
			t.Fatalf("class %d", class)
		}
		if len(d) > sfu.MaxDatagram && class != Long {
			t.Fatalf("%d bytes are class %d", len(d), class)
		}
		least := map[Class]int{STUN: 20, DTLS: 13, RTP: 12, RTCP: 8}[class]
		if len(d) < least {
			t.Fatalf("%d bytes are class %d", len(d), class)
		}
		if again := Classify(d); again != class {
			t.Fatalf("class %d, then %d", class, again)
		}
	})
}

func TestSockaddr(t *testing.T) {
	for _, c := range []struct {
		name    string
		raw     []byte
		want    string
		inet4   bool // can be sent to from an AF_INET socket
		refused bool
	}{
		{name: "IPv4", raw: []byte{syscall.AF_INET, 0, 0xc3, 0x50, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}, want: "192.0.2.1:50000", inet4: true},
		{name: "mapped", raw: []byte{syscall.AF_INET6, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 9, 0, 0, 0, 0},
			want: "203.0.113.9:1", inet4: true},
		{name: "IPv6", raw: []byte{syscall.AF_INET6, 0, 0xff, 0xff, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
			want: "[2001:db8::1]:65535"},
		{name: "link-local keeps its scope", raw: []byte{syscall.AF_INET6, 0, 0, 9, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0},
			want: "[fe80::1]:9"},
		{name: "empty", refused: true},
		{name: "unix", raw: append([]byte{syscall.AF_UNIX}, make([]byte, 27)...), refused: true},
		{name: "IPv6 cut short", raw: append([]byte{syscall.AF_INET6}, make([]byte, 20)...), refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, ok := RemoteFromSockaddr(c.raw)
			if ok == c.refused || r.IsValid() == c.refused {
				t.Fatalf("%v, %v", r, ok)
			}
			if c.refused {
				return
			}
			if r.String() != c.want {
				t.Errorf("%v, want %s", r, c.want)
			}
			if again := RemoteFrom(netip.MustParseAddrPort(c.want)); r.scope == 0 && again != r {
				t.Errorf("%v from its text is another key", again)
			}
			var raw [SockaddrLen]byte
			n := r.PutSockaddr(&raw, false)
			if back, ok := RemoteFromSockaddr(raw[:n]); !ok || back != r {
				t.Errorf("AF_INET6 round trip: %v, %v", back, ok)
			}
			n = r.PutSockaddr(&raw, true)
			if n > 0 != c.inet4 {
				t.Fatalf("AF_INET takes %d bytes", n)
			}
			if back, ok := RemoteFromSockaddr(raw[:n]); ok != c.inet4 || ok && back != r {
				t.Errorf("AF_INET round trip: %v, %v", back, ok)
			}
		})
	}
}

func TestScopesDiffer(t *testing.T) {
	raw := []byte{syscall.AF_INET6, 0, 0, 9, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0}
	a, _ := RemoteFromSockaddr(raw)
	raw[24] = 4
	if b, _ := RemoteFromSockaddr(raw); a == b {
		t.Error("one address on two interfaces is one key")
	}
}

func TestAllocations(t *testing.T) {
	raw := []byte{syscall.AF_INET, 0, 0xc3, 0x50, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	r, _ := RemoteFromSockaddr(raw)
	table := map[Remote]int{r: 1}
	var out [SockaddrLen]byte
	if n := testing.AllocsPerRun(100, func() {
		r, _ := RemoteFromSockaddr(raw)
		if table[r] != 1 || !r.AddrPort().IsValid() {
			panic("not found")
		}
		r.PutSockaddr(&out, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
