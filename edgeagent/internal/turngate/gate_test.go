package turngate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"voicefleet/edgeagent"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

var (
	media  = netip.MustParseAddrPort("192.0.2.1:50000")
	client = Client{Addr: netip.MustParseAddrPort("198.51.100.7:40000")}
)

func testGate() *Gate {
	g := New(now, Config{
		Permits: func(a netip.AddrPort) bool {
			return a == media || a == netip.AddrPortFrom(media.Addr(), 0)
		},
		Allocations: 100,
	})
	g.Learn(sealed(with(reply(nil, &message{kind: typeAllocate}, classError), attrNonce, []byte("the server's own nonce")), nil))
	g.Live("s")
	return g
}

// ask builds a request.
type ask struct {
	kind  uint16
	attrs [][2]any // kind, value
	user  string
	key   []byte
	nonce string
	realm string
}

func (a ask) bytes() []byte {
	m := message{kind: a.kind}
	copy(m.id[:], "transaction!")
	d := reply(nil, &m, a.kind&classMask)
	for _, each := range a.attrs {
		d = with(d, uint16(each[0].(int)), each[1].([]byte))
	}
	if a.user != "" {
		d = with(d, attrUsername, []byte(a.user))
		realm := a.realm
		if realm == "" {
			realm = Realm
		}
		d = with(d, attrRealm, []byte(realm))
		d = with(d, attrNonce, []byte(a.nonce))
	}
	return sealed(d, a.key)
}

func peer(a netip.AddrPort) []byte {
	family, ip := byte(1), a.Addr().AsSlice()
	if a.Addr().Is6() {
		family = 2
	}
	mask := binary.BigEndian.AppendUint32(nil, magicCookie)
	mask = append(mask, "transaction!"...)
	for i := range ip {
		ip[i] ^= mask[i]
	}
	v := binary.BigEndian.AppendUint16([]byte{0, family}, a.Port()^magicCookie>>16)
	return append(v, ip...)
}

var udp = [2]any{attrRequestedTransport, []byte{transportUDP, 0, 0, 0}}

// signed is a request of session s with the nonce of its client.
func signed(g *Gate, kind uint16, attrs ...[2]any) ask {
	user, _ := g.Credentials(now, "s")
	return ask{kind: kind, attrs: attrs, user: user, key: g.Key(user), nonce: g.secrets.nonce(now, client.Addr.Addr())}
}

func code(t *testing.T, d []byte) int {
	t.Helper()
	for at := headerLen; at+8 <= len(d); at += 4 + (int(binary.BigEndian.Uint16(d[at+2:]))+3)&^3 {
		if binary.BigEndian.Uint16(d[at:]) == attrErrorCode {
			return int(d[at+6])*100 + int(d[at+7])
		}
	}
	t.Fatalf("no error code in %x", d)
	return 0
}

// TestStrangersGetLittle: no shape of an unauthentic request is answered with more
// than twice its length, by UDP or TCP, from either family.
func TestStrangersGetLittle(t *testing.T) {
	forged := ask{kind: typeAllocate, attrs: [][2]any{udp}, user: "1767269100:s", key: make([]byte, 16), nonce: "AAAAAAAAAAAAAAAA"}
	unknown := [2]any{0x7fff, []byte{1, 2, 3, 4}}
	shapes := map[string]struct {
		d       []byte
		answers bool
	}{
		"bare binding":                  {ask{kind: typeBinding}.bytes(), true},
		"binding with an attribute":     {ask{kind: typeBinding, attrs: [][2]any{{0x8022, []byte("software")}}}.bytes(), true},
		"binding, unknown attribute":    {ask{kind: typeBinding, attrs: [][2]any{unknown}}.bytes(), true},
		"bare allocate":                 {ask{kind: typeAllocate}.bytes(), false},
		"allocate":                      {ask{kind: typeAllocate, attrs: [][2]any{udp}}.bytes(), true},
		"allocate, unknown attribute":   {ask{kind: typeAllocate, attrs: [][2]any{unknown}}.bytes(), false},
		"bare refresh":                  {ask{kind: typeRefresh}.bytes(), false},
		"bare create permission":        {ask{kind: typeCreatePermission}.bytes(), false},
		"bare channel bind":             {ask{kind: typeChannelBind}.bytes(), false},
		"bare connect":                  {ask{kind: typeConnect}.bytes(), false},
		"bare connection bind":          {ask{kind: typeConnectionBind}.bytes(), false},
		"send":                          {ask{kind: typeSend, attrs: [][2]any{{attrXORPeerAddress, peer(media)}, {attrData, []byte("data")}}}.bytes(), false},
		"a method nobody knows":         {ask{kind: 0x0042}.bytes(), false},
		"a success response":            {ask{kind: typeAllocate | classSuccess}.bytes(), false},
		"an error response":             {ask{kind: typeAllocate | classError}.bytes(), false},
		"forged integrity, bogus nonce": {forged.bytes(), true},
		"classic STUN":                  {append([]byte{0, 1, 0, 0}, make([]byte, 16)...), false},
		"channel data":                  {[]byte{0x40, 0, 0, 4, 1, 2, 3, 4}, false},
		"channel data cut short":        {[]byte{0x40, 0, 0, 40, 1, 2, 3, 4}, false},
		"nothing":                       {nil, false},
		"one byte":                      {[]byte{0}, false},
		"cut short":                     {ask{kind: typeAllocate, attrs: [][2]any{udp}}.bytes()[:24], false},
		"too long":                      {make([]byte, MaxMessage+1), false},
		"a thousand attributes":         {ask{kind: typeAllocate, attrs: repeat(unknown, 190)}.bytes(), false},
		"RTP":                           {append([]byte{0x80, 111}, make([]byte, 60)...), false},
	}
	for name, shape := range shapes {
		for _, from := range []string{"198.51.100.7:40000", "[2001:db8::7]:40000"} {
			for _, stream := range []bool{false, true} {
				g := testGate()
				v := g.Take(now, Client{stream, netip.MustParseAddrPort(from)}, shape.d)
				if v.Pass != nil {
					t.Errorf("%s from %s passes", name, from)
				}
				if len(v.Reply) > 2*len(shape.d) {
					t.Errorf("%s from %s: %d bytes are answered with %d", name, from, len(shape.d), len(v.Reply))
				}
				small := name == "bare binding" && from[0] == '[' // 44 bytes would answer 20
				if (v.Reply != nil) != (shape.answers && !small) {
					t.Errorf("%s from %s: answered: %v, dropped as %v", name, from, v.Reply != nil, v.Drop)
				}
				if v.Reply == nil && v.Drop == DropNone {
					t.Errorf("%s from %s: dropped without a reason", name, from)
				}
			}
		}
	}
}

func repeat(a [2]any, n int) (list [][2]any) {
	for range n {
		list = append(list, a)
	}
	return list
}

// TestStrangersGetItSeldom: 5,000 requests a second from one prefix are answered at
// most ten times in any second; another prefix is served meanwhile.
func TestStrangersGetItSeldom(t *testing.T) {
	g := testGate()
	request := ask{kind: typeAllocate, attrs: [][2]any{udp}}.bytes()
	var answered []time.Duration
	for i := range 15_000 {
		at := time.Duration(i) * 200 * time.Microsecond
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(i))
		if g.Take(now.Add(at), Client{Addr: from}, request).Reply != nil {
			answered = append(answered, at)
		}
	}
	if len(answered) < 20 {
		t.Errorf("only %d answers in 3 s", len(answered))
	}
	for i := range answered {
		if i >= 10 && answered[i]-answered[i-10] < time.Second {
			t.Errorf("11 answers within %v", answered[i]-answered[i-10])
		}
	}
	if g.Take(now.Add(3*time.Second), Client{Addr: netip.MustParseAddrPort("203.0.113.1:1")}, request).Reply == nil {
		t.Error("another prefix is not served")
	}
	if g.Drops[DropRateLimited] == 0 || len(g.sessions) != 1 || len(g.allocations) != 0 {
		t.Errorf("drops %v; %d sessions, %d allocations", g.Drops, len(g.sessions), len(g.allocations))
	}
}

// TestCredentials: what is wrong with them is not told: user unknown, session over,
// expired, from the future, wrong password, wrong realm all look the same.
func TestCredentials(t *testing.T) {
	g := testGate()
	g.Live("old")
	good := signed(g, typeAllocate, udp)
	if v := g.Take(now, client, good.bytes()); v.Pass == nil {
		t.Fatalf("good credentials: %+v", v)
	}
	var refused []byte
	for name, change := range map[string]func(*ask){
		"unknown session": func(a *ask) { a.user, _ = g.Credentials(now, "other"); a.key = g.Key(a.user) },
		"no session":      func(a *ask) { a.user = "x"; a.key = g.Key(a.user) },
		"expired":         func(a *ask) { a.user = username("s", now.Add(-time.Second)); a.key = g.Key(a.user) },
		"future":          func(a *ask) { a.user = username("s", now.Add(time.Hour)); a.key = g.Key(a.user) },
		"wrong password":  func(a *ask) { a.key = bytes.Repeat([]byte{1}, 16) },
		"wrong realm":     func(a *ask) { a.realm = "example.org" },
	} {
		a := good
		change(&a)
		d := a.bytes()
		v := g.Take(now, client, d)
		if v.Reply == nil || code(t, v.Reply) != 401 || len(v.Reply) > 2*len(d) {
			t.Errorf("%s: %+v", name, v)
			continue
		}
		if refused != nil && !bytes.Equal(refused, v.Reply) {
			t.Errorf("%s is told apart: %x, not %x", name, v.Reply, refused)
		}
		refused = v.Reply
		g.unproven = newLimiter(unproven, now)
	}
}

// TestCredentialsInUse: an allocation lives on when its credentials have expired,
// for as long as its session, and only at its own address.
func TestCredentialsInUse(t *testing.T) {
	g := testGate()
	g.Allocated(client, "s")
	late := now.Add(time.Hour)
	refresh := signed(g, typeRefresh)
	refresh.nonce = g.secrets.nonce(late, client.Addr.Addr())
	if v := g.Take(late, client, refresh.bytes()); v.Pass == nil {
		t.Errorf("refresh after an hour: %+v", v)
	}
	elsewhere := Client{Addr: netip.AddrPortFrom(client.Addr.Addr(), 1)}
	if v := g.Take(late, elsewhere, refresh.bytes()); v.Reply == nil || code(t, v.Reply) != 401 {
		t.Errorf("from another port: %+v", v)
	}
	g.Ended("s")
	if v := g.Take(late, client, refresh.bytes()); v.Reply == nil || code(t, v.Reply) != 401 {
		t.Errorf("after the end of the session: %+v", v)
	}
}

// TestNonce is bound to its address and stands for five minutes.
func TestNonce(t *testing.T) {
	s := newSecrets()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	nonce := []byte(s.nonce(now, a))
	for _, c := range []struct {
		name  string
		after time.Duration
		from  netip.Addr
		nonce []byte
		fresh bool
	}{
		{"at once", 0, a, nonce, true},
		{"five minutes later", nonceLife, a, nonce, true},
		{"later", nonceLife + time.Second, a, nonce, false},
		{"before it was made", -time.Second, a, nonce, false},
		{"another address", 0, b, nonce, false},
		{"another process", 0, a, []byte(newSecrets().nonce(now, a)), false},
		{"no nonce", 0, a, nil, false},
		{"no base64", 0, a, []byte("????????????????"), false},
		{"too long", 0, a, append(nonce[:nonceLen:nonceLen], 'A'), false},
	} {
		if s.freshNonce(now.Add(c.after), c.from, c.nonce) != c.fresh {
			t.Errorf("%s: fresh: %v", c.name, !c.fresh)
		}
	}
	g := testGate()
	stale := signed(g, typeAllocate, udp)
	stale.nonce = g.secrets.nonce(now, b)
	if v := g.Take(now, client, stale.bytes()); v.Reply == nil || code(t, v.Reply) != 438 {
		t.Errorf("nonce of another address: %+v", v)
	}
}

// TestPassedOn: what the server gets has its own nonce and is signed for it, and is
// otherwise the same.
func TestPassedOn(t *testing.T) {
	g := testGate()
	a := signed(g, typeCreatePermission, [2]any{attrXORPeerAddress, peer(media)}, [2]any{0x8022, []byte("odd")})
	d := a.bytes()
	d = with(d, attrFingerprint, []byte{1, 2, 3, 4}) // the server would find it wrong: it is left out
	binary.BigEndian.PutUint16(d[2:], uint16(len(d)-headerLen))
	v := g.Take(now, client, d)
	if v.Pass == nil {
		t.Fatalf("%+v", v)
	}
	m, ok := parse(v.Pass)
	if !ok || string(m.nonce) != "the server's own nonce" || string(m.username) != a.user || m.peers[0] != media ||
		!m.authentic(v.Pass, a.key) || m.id != [12]byte([]byte("transaction!")) {
		t.Errorf("passed on: %+v, %v", m, ok)
	}
	if bytes.Contains(v.Pass, []byte{1, 2, 3, 4}) || !bytes.Contains(v.Pass, []byte("odd\x00")) {
		t.Errorf("%x", v.Pass)
	}
}

// Special addresses that a relay has led to somewhere: loopback, unspecified,
// link-local, private, metadata services, reserved, multicast, and IPv4 hidden in
// IPv6 in every form that was ever standardized.
var special = []string{
	"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.86.70.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
	"169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.17.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.0.170",
	"192.0.2.2", "192.88.99.1", "192.168.0.1", "192.168.1.1", "192.168.255.255", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
	"255.255.255.255", "8.8.8.8", "1.1.1.1",
	"::", "::1", "::2", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:192.0.2.1", "::ffff:0:127.0.0.1", "::127.0.0.1", "::10.0.0.1",
	"::192.0.2.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b::c000:201", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:a00:1::", "2002:c000:201::",
	"2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001::1", "2001:db8::1", "2001:20::1", "100::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd12:3456:789a::1", "fe80::1", "fe80::a9fe:a9fe",
	"fec0::1", "feff::1", "ff02::1", "ff05::1", "ff0e::1", "2606:4700:4700::1111", "5f00::1", "3fff::1",
}

// TestPeers: of all these, and of all other ports of the media address, none is a
// peer: 403 for the requests, and nothing passes for what has no answer.
func TestPeers(t *testing.T) {
	if len(special) < 60 {
		t.Fatalf("only %d special addresses", len(special))
	}
	var bad []netip.AddrPort
	for _, s := range special {
		bad = append(bad, netip.AddrPortFrom(netip.MustParseAddr(s), 50000), netip.AddrPortFrom(netip.MustParseAddr(s), 80))
	}
	for _, port := range []uint16{22, 53, 80, 443, 3478, 4222, 9042, 49999, 50001} {
		bad = append(bad, netip.AddrPortFrom(media.Addr(), port))
	}
	for _, stream := range []bool{false, true} {
		c := Client{stream, client.Addr}
		g := testGate()
		g.Allocated(c, "s")
		for _, to := range bad {
			at := [2]any{attrXORPeerAddress, peer(to)}
			for kind, attrs := range map[uint16][][2]any{
				typeCreatePermission: {at},
				typeChannelBind:      {{attrChannelNumber, []byte{0x40, 0, 0, 0}}, at},
				typeConnect:          {at},
			} {
				v := g.Take(now, c, signed(g, kind, attrs...).bytes())
				if v.Pass != nil || code(t, v.Reply) != 403 {
					t.Errorf("method %#x to %v: %+v", kind, to, v)
				}
			}
			if v := g.Take(now, c, ask{kind: typeSend, attrs: [][2]any{at, {attrData, []byte("data")}}}.bytes()); v.Drop != DropPeer {
				t.Errorf("send to %v: %+v", to, v)
			}
			both := signed(g, typeCreatePermission, [2]any{attrXORPeerAddress, peer(media)}, at)
			if v := g.Take(now, c, both.bytes()); v.Pass != nil {
				t.Errorf("%v passes behind a good peer", to)
			}
		}
		for kind, attrs := range map[uint16][][2]any{
			typeCreatePermission: {{attrXORPeerAddress, peer(media)}},
			typeChannelBind:      {{attrChannelNumber, []byte{0x40, 0, 0, 0}}, {attrXORPeerAddress, peer(media)}},
		} {
			if v := g.Take(now, c, signed(g, kind, attrs...).bytes()); v.Pass == nil {
				t.Errorf("method %#x to the media socket: %+v", kind, v)
			}
		}
		if v := g.Take(now, c, ask{kind: typeSend, attrs: [][2]any{{attrXORPeerAddress, peer(media)}, {attrData, []byte("data")}}}.bytes()); v.Pass == nil {
			t.Errorf("send to the media socket: %+v", v)
		}
	}
}

func TestRequestsRefused(t *testing.T) {
	g := testGate()
	for name, c := range map[string]struct {
		a    ask
		want int
	}{
		"no transport":          {signed(g, typeAllocate), 400},
		"TCP relay":             {signed(g, typeAllocate, [2]any{attrRequestedTransport, []byte{6, 0, 0, 0}}), 442},
		"even port":             {signed(g, typeAllocate, udp, [2]any{attrEvenPort, []byte{0x80}}), 508},
		"reservation":           {signed(g, typeAllocate, udp, [2]any{attrReservationToken, make([]byte, 8)}), 508},
		"permission for nobody": {signed(g, typeCreatePermission), 400},
		"nine peers":            {signed(g, typeCreatePermission, repeat([2]any{attrXORPeerAddress, peer(media)}, maxPeers+1)...), 400},
		"channel to a port 0":   {signed(g, typeChannelBind, [2]any{attrXORPeerAddress, peer(netip.AddrPortFrom(media.Addr(), 0))}), 400},
		"connection bind":       {signed(g, typeConnectionBind, [2]any{attrConnectionID, make([]byte, 4)}), 403},
	} {
		v := g.Take(now, client, c.a.bytes())
		if v.Pass != nil || code(t, v.Reply) != c.want {
			t.Errorf("%s: %+v, want %d", name, v, c.want)
			continue
		}
		if m, ok := parse(v.Reply); !ok || !m.authentic(v.Reply, c.a.key) {
			t.Errorf("%s: the answer is not signed", name)
		}
	}
}

func TestQuota(t *testing.T) {
	g := testGate()
	g.Live("t")
	at := func(port uint16) Client { return Client{Addr: netip.AddrPortFrom(client.Addr.Addr(), port)} }
	for i := range uint16(PerSession) {
		if !g.MayAllocate("s") {
			t.Fatalf("refused after %d", i)
		}
		g.Allocated(at(i), "s")
	}
	if g.MayAllocate("s") || !g.MayAllocate("t") || g.MayAllocate("nobody") {
		t.Error("quota is not one of each session")
	}
	g.Released(at(0))
	g.Released(at(0))
	if !g.MayAllocate("s") {
		t.Error("what was released is not free")
	}
	for i := range g.cfg.Allocations {
		id := edgeagent.Grant{ID: "x"}.ID
		g.Allocated(at(uint16(1000+i)), id)
	}
	if g.MayAllocate("t") {
		t.Error("there is room without end")
	}
}

func TestUfrag(t *testing.T) {
	check := ask{kind: typeBinding, user: "server:client", key: make([]byte, 16), nonce: "n"}
	if u, ok := Ufrag(check.bytes()); !ok || u != "server" {
		t.Errorf("%q, %v", u, ok)
	}
	for name, d := range map[string][]byte{
		"no integrity": ask{kind: typeBinding}.bytes(), "another method": ask{kind: typeAllocate, user: "a:b", key: make([]byte, 16), nonce: "n"}.bytes(),
		"no half": ask{kind: typeBinding, user: "ab", key: make([]byte, 16), nonce: "n"}.bytes(), "nothing": nil,
	} {
		if u, ok := Ufrag(d); ok {
			t.Errorf("%s: %q", name, u)
		}
	}
}

// FuzzTake: whatever comes, no panic; strangers get at most twice what they sent,
// and nothing of theirs passes; padding is zero.
func FuzzTake(f *testing.F) {
	g := testGate()
	for _, kind := range []uint16{typeBinding, typeAllocate, typeRefresh, typeSend, typeCreatePermission, typeChannelBind, typeConnect} {
		f.Add(ask{kind: kind}.bytes(), false)
		f.Add(ask{kind: kind, attrs: [][2]any{udp, {attrXORPeerAddress, peer(media)}}, user: "1:s", key: make([]byte, 16), nonce: "n"}.bytes(), true)
	}
	f.Add([]byte{0x40, 0, 0, 4, 1, 2, 3, 4}, false)
	f.Fuzz(func(t *testing.T, d []byte, stream bool) {
		g.unproven, g.proven, g.all = newLimiter(unproven, now), newLimiter(proven, now), newLimiter(unprovenAll, now)
		v := g.Take(now, Client{stream, client.Addr}, d)
		if v.Pass != nil || len(v.Reply) > 2*len(d) {
			t.Fatalf("%x: %+v", d, v)
		}
		if v.Reply != nil {
			if _, ok := parse(v.Reply); !ok {
				t.Fatalf("answer %x is no message", v.Reply)
			}
		}
		Ufrag(d)
		Stale(d)
	})
}

// TestNothingPerPacket: data of a client with an allocation costs the gate no
// allocation of memory.
func TestNothingPerPacket(t *testing.T) {
	g := testGate()
	g.Allocated(client, "s")
	data := append([]byte{0x40, 0, 0, 100}, make([]byte, 100)...)
	send := ask{kind: typeSend, attrs: [][2]any{{attrXORPeerAddress, peer(media)}, {attrData, make([]byte, 100)}}}.bytes()
	for name, d := range map[string][]byte{"channel data": data, "send": send} {
		if n := testing.AllocsPerRun(100, func() {
			if g.Take(now, client, d).Pass == nil {
				panic(fmt.Sprintf("%s does not pass", name))
			}
		}); n > 1 { // an address of XOR-PEER-ADDRESS with IPv4 needs none, its mask one
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
