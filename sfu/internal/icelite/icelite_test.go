package icelite

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

const (
	testUfrag = "serverUfrag1"
	testPwd   = "serverPassword0123456789"
)

// request is what an ICE client sends, made by pion/stun.
func request(t testing.TB, pwd string, setters ...stun.Setter) []byte {
	t.Helper()
	all := append([]stun.Setter{stun.TransactionID, stun.BindingRequest}, setters...)
	if pwd != "" {
		all = append(all, stun.NewShortTermIntegrity(pwd))
	}
	m, err := stun.Build(append(all, stun.Fingerprint)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func username(u string) stun.Setter { return stun.NewUsername(u) }

func attribute(kind stun.AttrType, value ...byte) stun.Setter {
	return stun.RawAttribute{Type: kind, Value: value}
}

func check(t testing.TB) []byte {
	return request(t, testPwd, username(testUfrag+":client"),
		attribute(stun.AttrPriority, 0x6e, 0, 1, 0xff),
		attribute(stun.AttrICEControlling, 1, 2, 3, 4, 5, 6, 7, 8),
		attribute(stun.AttrUseCandidate),
		attribute(0xc057, 0, 0, 0, 1), // network cost: Chromium sends it, comprehension optional
	)
}

func TestCheck(t *testing.T) {
	d := check(t)
	ufrag, ok := Peek(d)
	if !ok || string(ufrag) != testUfrag {
		t.Fatalf("peeked %q, %v", ufrag, ok)
	}
	r, ok := NewKey(testPwd).Check(d)
	if !ok || string(r.Client) != "client" || !r.UseCandidate || !r.Controlling || !bytes.Equal(r.Transaction[:], d[8:20]) {
		t.Fatalf("%+v, %v", r, ok)
	}
	if _, ok := NewKey(testPwd + "x").Check(d); ok {
		t.Fatal("another password opens it")
	}
	controlled := request(t, testPwd, username(testUfrag+":client"), attribute(stun.AttrICEControlled, 1, 2, 3, 4, 5, 6, 7, 8))
	if r, ok := NewKey(testPwd).Check(controlled); !ok || r.Controlling || r.UseCandidate {
		t.Fatalf("controlled: %+v, %v", r, ok)
	}
}

// RFC 5769 section 2.1, a request with padded USERNAME.
func TestRFC5769(t *testing.T) {
	d, err := hex.DecodeString("000100582112a442b7e7a701bc34d686fa87dfae" +
		"802200105354554e207465737420636c69656e74" + "002400046e0001ff" + "80290008932ff9b151263b36" +
		"000600096576746a3a68367659202020" + "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2" + "80280004e57a3bcf")
	if err != nil {
		t.Fatal(err)
	}
	ufrag, ok := Peek(d)
	if !ok || string(ufrag) != "evtj" {
		t.Fatalf("peeked %q, %v", ufrag, ok)
	}
	r, ok := NewKey("VOkJxbRl1RmTxUk/WvJxBt").Check(d)
	if !ok || string(r.Client) != "h6vY" {
		t.Fatalf("%+v, %v", r, ok)
	}
}

// pion/stun reads the answer, and it is no longer than what it answers.
func TestAppendSuccess(t *testing.T) {
	d := check(t)
	key := NewKey(testPwd)
	r, _ := key.Check(d)
	for _, from := range []string{"192.0.2.1:50000", "[2001:db8::1]:1", "[::ffff:203.0.113.9]:65535"} {
		addr := netip.MustParseAddrPort(from)
		raw := key.AppendSuccess([]byte("kept"), r.Transaction, addr)
		if string(raw[:4]) != "kept" || len(raw)-4 > MaxSuccess || len(raw)-4 > len(d) {
			t.Fatalf("%d bytes in answer to %d", len(raw)-4, len(d))
		}
		m := &stun.Message{Raw: raw[4:]}
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		if m.Type != stun.BindingSuccess || m.TransactionID != r.Transaction {
			t.Fatalf("%v %x", m.Type, m.TransactionID)
		}
		if err := stun.NewShortTermIntegrity(testPwd).Check(m); err != nil {
			t.Fatal(err)
		}
		if err := stun.Fingerprint.Check(m); err != nil {
			t.Fatal(err)
		}
		var mapped stun.XORMappedAddress
		if err := mapped.GetFrom(m); err != nil {
			t.Fatal(err)
		}
		if ip, _ := netip.AddrFromSlice(mapped.IP); ip.Unmap() != addr.Addr().Unmap() || mapped.Port != int(addr.Port()) {
			t.Fatalf("mapped %v, want %v", mapped, addr)
		}
	}
}

// pion/stun reads our request, and who has its transaction and the password answers it.
func TestAppendRequest(t *testing.T) {
	key, transaction := NewKey(testPwd), [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	for _, client := range []string{"abcd", "abcde", "abcdef", strings.Repeat("a", 256)} {
		raw := key.AppendRequest([]byte("kept"), transaction, client, testUfrag)
		m := &stun.Message{Raw: raw[4:]}
		var user stun.Username
		if err := m.Decode(); err != nil || m.Type != stun.BindingRequest || m.TransactionID != transaction ||
			user.GetFrom(m) != nil || user.String() != client+":"+testUfrag || !m.Contains(stun.AttrICEControlled) || !m.Contains(stun.AttrPriority) {
			t.Fatalf("%v, %v", m, err)
		}
		if err := stun.NewShortTermIntegrity(testPwd).Check(m); err != nil {
			t.Fatal(err)
		}
		if err := stun.Fingerprint.Check(m); err != nil {
			t.Fatal(err)
		}
		// As long as a client's own check with the same names.
		own := request(t, testPwd, username(testUfrag+":"+client), attribute(stun.AttrPriority, 1, 2, 3, 4), attribute(stun.AttrICEControlling, 1, 2, 3, 4, 5, 6, 7, 8))
		if len(raw)-4 > len(own) {
			t.Errorf("%d bytes ask where a check has %d", len(raw)-4, len(own))
		}
	}
	good := key.AppendSuccess(nil, transaction, netip.MustParseAddrPort("192.0.2.1:1"))
	if !IsSuccess(good) || !key.Answers(good, transaction) {
		t.Error("an answer is refused")
	}
	for name, ok := range map[string]bool{
		"another transaction": key.Answers(good, [12]byte{1}), "another password": NewKey(testPwd+"x").Answers(good, transaction),
		"a request": key.Answers(key.AppendRequest(nil, transaction, "abcd", testUfrag), transaction),
		"unsigned":  key.Answers(good[:headerLen], transaction), "cut": key.Answers(good[:len(good)-8], transaction),
	} {
		if ok {
			t.Errorf("%s is taken for an answer", name)
		}
	}
}

// RFC 5769 section 2.2, a response by IPv4.
func TestRFC5769Response(t *testing.T) {
	d, err := hex.DecodeString("0101003c2112a442b7e7a701bc34d686fa87dfae" +
		"8022000b7465737420766563746f7220" + "002000080001a147e112a643" +
		"000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7" + "80280004c07d4c96")
	if err != nil {
		t.Fatal(err)
	}
	if !NewKey("VOkJxbRl1RmTxUk/WvJxBt").Answers(d, [12]byte(d[8:20])) {
		t.Error("it is refused")
	}
}

func TestShortestRequest(t *testing.T) {
	d := request(t, testPwd, username(testUfrag+":abcd"))
	d = d[:len(d)-8] // without FINGERPRINT
	binary.BigEndian.PutUint16(d[2:], uint16(len(d)-20))
	if _, ok := NewKey(testPwd).Check(d); !ok {
		t.Fatal("refused without FINGERPRINT")
	}
	if MaxSuccess*100 > len(d)*120 {
		t.Fatalf("an answer of %d bytes to %d", MaxSuccess, len(d))
	}
}

func TestRefused(t *testing.T) {
	good := check(t)
	edit := func(f func(d []byte) []byte) []byte { return f(bytes.Clone(good)) }
	set := func(at int, b byte) []byte { return edit(func(d []byte) []byte { d[at] = b; return d }) }
	for name, d := range map[string][]byte{
		"empty":             {},
		"cut":               good[:len(good)-4],
		"cut in the header": good[:19],
		"longer than said":  append(bytes.Clone(good), 0, 0, 0, 0),
		"no magic cookie":   set(4, 0x22),
		"indication":        set(1, 0x11),
		"response":          set(0, 1),
		"allocate":          set(1, 3),
		"wrong fingerprint": set(len(good)-1, good[len(good)-1]+1),
		"attribute overruns": edit(func(d []byte) []byte {
			binary.BigEndian.PutUint16(d[22:], 0xffff)
			return d
		}),
		"no integrity":         request(t, "", username(testUfrag+":client")),
		"no username":          request(t, testPwd),
		"no colon":             request(t, testPwd, username(testUfrag)),
		"no client":            request(t, testPwd, username(testUfrag+":")),
		"no server":            request(t, testPwd, username(":client")),
		"comprehension needed": request(t, testPwd, username(testUfrag+":client"), attribute(0x7fff, 1)),
		// The zero-length address on which pion/stun before 3.1.5 panicked.
		"address of no length": request(t, testPwd, username(testUfrag+":client"), attribute(stun.AttrXORMappedAddress)),
		"integrity too short": edit(func(d []byte) []byte {
			at := bytes.Index(d, []byte{0, 8, 0, 20})
			d[at+3] = 19
			return d
		}),
	} {
		if ufrag, ok := Peek(d); ok {
			t.Errorf("%s: peeked %q", name, ufrag)
		}
		if _, ok := NewKey(testPwd).Check(d); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, ok := Peek(request(t, "", username(strings.Repeat("x", 500)+":client"))); ok {
		t.Error("peeked without integrity")
	}
}

// Every bit before MESSAGE-INTEGRITY counts.
func TestForged(t *testing.T) {
	d := check(t)
	d = d[:len(d)-8]
	binary.BigEndian.PutUint16(d[2:], uint16(len(d)-20))
	key := NewKey(testPwd)
	if _, ok := key.Check(d); !ok {
		t.Fatal("refused as it is")
	}
	for bit := range len(d) * 8 {
		forged := bytes.Clone(d)
		forged[bit/8] ^= 1 << (bit % 8)
		if _, ok := key.Check(forged); ok {
			t.Fatalf("bit %d does not matter", bit)
		}
	}
}

func TestMint(t *testing.T) {
	const iceChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	seen := map[string]bool{}
	for range 100 {
		c := Mint()
		if len(c.Ufrag) != UfragLen || len(c.Pwd) != PwdLen || strings.Trim(c.Ufrag+c.Pwd, iceChars) != "" {
			t.Fatalf("%+v", c)
		}
		if seen[c.Ufrag] || seen[c.Pwd] {
			t.Fatalf("%+v twice", c)
		}
		seen[c.Ufrag], seen[c.Pwd] = true, true
	}
}

func TestAllocations(t *testing.T) {
	good := check(t)
	forged := request(t, testPwd+"x", username(testUfrag+":client"))
	key := NewKey(testPwd)
	from := netip.MustParseAddrPort("[2001:db8::1]:50000")
	buf := make([]byte, 0, 400)
	now := time.Now()
	limiter := NewLimiter(10, now)
	for name, f := range map[string]func(){
		"answered": func() {
			Peek(good)
			limiter.Allow(now, from.Addr())
			r, ok := key.Check(good)
			if !ok {
				panic("refused")
			}
			buf = key.AppendSuccess(buf[:0], r.Transaction, from)
		},
		"forged": func() {
			Peek(forged)
			if _, ok := key.Check(forged); ok {
				panic("accepted")
			}
		},
		"malformed": func() { Peek(good[:40]) },
		"asked": func() {
			buf = key.AppendRequest(buf[:0], [12]byte{1}, "client", testUfrag)
			if !key.Answers(key.AppendSuccess(buf, [12]byte{1}, from)[len(buf):], [12]byte{1}) {
				panic("refused")
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestLimiter(t *testing.T) {
	start := time.Unix(1e9, 0)
	l := NewLimiter(100, start)
	count := func(now time.Time, addr string, n int) (allowed int) {
		for range n {
			if l.Allow(now, netip.MustParseAddr(addr)) {
				allowed++
			}
		}
		return allowed
	}
	for _, step := range []struct {
		after time.Duration
		addr  string
		ask   int
		want  int
	}{
		{0, "192.0.2.1", 150, 100},
		{0, "192.0.2.254", 10, 0}, // the same /24
		{0, "::ffff:192.0.2.3", 10, 0},
		{0, "192.0.3.1", 10, 10},
		{0, "2001:db8::1", 150, 100},
		{0, "2001:db8::ffff:1:2:3", 10, 0}, // the same /64
		{0, "2001:db8:0:1::1", 10, 10},
		{100 * time.Millisecond, "192.0.2.9", 50, 10},
		{time.Hour, "192.0.2.9", 150, 100},
		{time.Hour - time.Second, "192.0.2.9", 1, 0}, // a clock that went back gives nothing
	} {
		if got := count(start.Add(step.after), step.addr, step.ask); got != step.want {
			t.Errorf("after %v, %d of %s: %d allowed, want %d", step.after, step.ask, step.addr, got, step.want)
		}
	}
}

// However many prefixes a flood spells, it gets no more than the whole table
// holds.
func TestLimiterEviction(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := NewLimiter(10, now)
	allowed := 0
	for i := range 1 << 17 {
		var a [16]byte
		binary.BigEndian.PutUint32(a[:], 0x20010db8)
		binary.BigEndian.PutUint32(a[4:], uint32(i))
		if l.Allow(now, netip.AddrFrom16(a)) {
			allowed++
		}
	}
	if most := limiterSets * limiterWays * 10; allowed > most {
		t.Errorf("%d allowed at once, the table holds %d", allowed, most)
	}
}

// FuzzCheck: the server's answer is at most twice what it answers, pion/stun
// agrees about what is authentic, and nothing panics.
func FuzzCheck(f *testing.F) {
	f.Add(check(f))
	f.Add(request(f, testPwd, username(testUfrag+":client")))
	f.Add(request(f, testPwd, username(testUfrag+":client"), attribute(stun.AttrXORMappedAddress)))
	f.Add(request(f, testPwd, username(":")))
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte{0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 6, 0xff, 0xff})
	f.Add(NewKey(testPwd).AppendSuccess(nil, [12]byte{1}, netip.MustParseAddrPort("192.0.2.1:1")))
	f.Fuzz(func(t *testing.T, d []byte) {
		key := NewKey(testPwd)
		if len(d) >= headerLen && key.Answers(d, [12]byte(d[8:])) {
			m := &stun.Message{Raw: bytes.Clone(d)}
			// What follows MESSAGE-INTEGRITY may be anything.
			if m.Decode() == nil && (m.Type != stun.BindingSuccess || stun.NewShortTermIntegrity(testPwd).Check(m) != nil) {
				t.Fatal("an answer, but not by pion/stun")
			}
		}
		ufrag, peeked := Peek(d)
		r, ok := key.Check(d)
		if !ok {
			return
		}
		if !peeked || len(ufrag) == 0 {
			t.Fatalf("accepted, but peeked %q, %v", ufrag, peeked)
		}
		m := &stun.Message{Raw: bytes.Clone(d)}
		if err := m.Decode(); err != nil {
			t.Fatalf("accepted, but pion/stun: %v", err)
		}
		answer := key.AppendSuccess(nil, r.Transaction, netip.MustParseAddrPort("[2001:db8::1]:1"))
		if len(answer) > 2*len(d) {
			t.Fatalf("%d bytes in answer to %d", len(answer), len(d))
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	d := check(b)
	key := NewKey(testPwd)
	from := netip.MustParseAddrPort("192.0.2.1:50000")
	buf := make([]byte, 0, 200)
	b.ReportAllocs()
	for range b.N {
		Peek(d)
		r, _ := key.Check(d)
		buf = key.AppendSuccess(buf[:0], r.Transaction, from)
	}
}

func BenchmarkPeek(b *testing.B) {
	d := check(b)
	for range b.N {
		Peek(d)
	}
}
