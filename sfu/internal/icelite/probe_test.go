package icelite

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"voicefleet/sfu"
)

var (
	probeKey  = sfu.ProbeKey(bytes.Repeat([]byte{7}, sfu.ProbeKeyLen))
	probeTime = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	home      = netip.MustParseAddrPort("192.0.2.9:5000")
)

// probeRequest is a probe as a program sends it.
func probeRequest(t testing.TB, p sfu.Probe, key sfu.ProbeKey, client string) []byte {
	ufrag, pwd := p.Credentials(key)
	return request(t, pwd, username(ufrag+":"+client))
}

// answer has a Prober answer as the engine does.
func answer(p *Prober, now time.Time, d []byte, from netip.AddrPort) ([]byte, sfu.DropReason, bool) {
	ufrag, ok := Peek(d)
	if !ok {
		return nil, sfu.DropSTUN, false
	}
	probe, ok := sfu.ReadProbe(ufrag)
	if !ok {
		return nil, sfu.DropUfrag, false
	}
	return p.AppendAnswer(nil, now, probe, ufrag, d, from)
}

func newProber() *Prober {
	p := NewProber(probeTime)
	p.SetKey(probeKey)
	return p
}

func TestProbeAnswered(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::9]:5000")
	for name, c := range map[string]struct {
		probe sfu.Probe
		from  netip.AddrPort
	}{
		"fleet":          {sfu.FleetProbe(probeTime), home},
		"fleet by IPv6":  {sfu.FleetProbe(probeTime), six},
		"client":         {sfu.ClientProbe(probeTime, home.Addr()), home},
		"client by IPv6": {sfu.ClientProbe(probeTime, six.Addr()), six},
	} {
		d := probeRequest(t, c.probe, probeKey, "abcd") // the shortest that RFC 8839 allows
		got, why, ok := answer(newProber(), probeTime, d, c.from)
		if !ok {
			t.Errorf("%s: refused: %v", name, why)
			continue
		}
		m := &stun.Message{Raw: got}
		if err := m.Decode(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, pwd := c.probe.Credentials(probeKey)
		if err := stun.NewShortTermIntegrity(pwd).Check(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(got) > len(d) {
			t.Errorf("%s: %d bytes in answer to %d", name, len(got), len(d))
		}
	}
}

func TestProbeRefused(t *testing.T) {
	client := sfu.ClientProbe(probeTime, home.Addr())
	good := probeRequest(t, client, probeKey, "abcd")
	forged := bytes.Clone(good)
	forged[len(forged)-12] ^= 1
	forged = forged[:len(forged)-8]
	forged[3] -= 8 // without FINGERPRINT, which would tell first
	for name, c := range map[string]struct {
		d    []byte
		now  time.Time
		from string
		want sfu.DropReason
	}{
		"over":                      {good, probeTime.Add(sfu.ClientProbeLife), "192.0.2.9:1", sfu.DropProbe},
		"from elsewhere":            {good, probeTime, "198.51.100.9:1", sfu.DropProbe},
		"from elsewhere, by IPv6":   {good, probeTime, "[2001:db8::9]:1", sfu.DropProbe},
		"forged":                    {forged, probeTime, "192.0.2.9:1", sfu.DropIntegrity},
		"of another node":           {probeRequest(t, client, sfu.NewProbeKey(), "abcd"), probeTime, "192.0.2.9:1", sfu.DropIntegrity},
		"empty":                     {nil, probeTime, "192.0.2.9:1", sfu.DropSTUN},
		"a session's, of no length": {request(t, testPwd, username("x:y")), probeTime, "192.0.2.9:1", sfu.DropUfrag},
	} {
		if got, why, ok := answer(newProber(), c.now, c.d, netip.MustParseAddrPort(c.from)); ok || why != c.want || len(got) != 0 {
			t.Errorf("%s: %d bytes, %v, want %v", name, len(got), why, c.want)
		}
	}
	if _, why, ok := answer(NewProber(probeTime), probeTime, good, home); ok || why != sfu.DropProbe {
		t.Errorf("without a key: %v, %v", why, ok)
	}
}

// TestProbeNeverAmplifies: the one that is shorter than its answer gets none.
func TestProbeNeverAmplifies(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::9]:5000")
	for n, want := range map[int]bool{1: false, 3: false, 4: true} { // USERNAME is padded to 4
		d := probeRequest(t, sfu.FleetProbe(probeTime), probeKey, "abcd"[:n])
		d = d[:len(d)-8]
		d[3] -= 8 // without FINGERPRINT
		if got, _, ok := answer(newProber(), probeTime, d, six); ok != want || len(got) > len(d) {
			t.Errorf("client fragment of %d: %d bytes in answer to %d, want an answer: %v", n, len(got), len(d), want)
		}
	}
}

func TestProbeRates(t *testing.T) {
	p := newProber()
	count := func(now time.Time, d []byte, from string, n int) (answered int) {
		for range n {
			if _, _, ok := answer(p, now, d, netip.MustParseAddrPort(from)); ok {
				answered++
			}
		}
		return answered
	}
	fleet := probeRequest(t, sfu.FleetProbe(probeTime), probeKey, "abcd")
	at := func(addr string) []byte {
		return probeRequest(t, sfu.ClientProbe(probeTime, netip.MustParseAddr(addr)), probeKey, "abcd")
	}
	stolen := probeRequest(t, sfu.ClientProbe(probeTime, netip.MustParseAddr("192.0.2.1")), sfu.NewProbeKey(), "abcd")
	for _, c := range []struct {
		name  string
		after time.Duration
		d     []byte
		from  string
		n     int
		want  int
	}{
		{"forged ones in a prefix's name", 0, stolen, "192.0.2.1:1", 100, 0},
		{"its own", 0, at("192.0.2.1"), "192.0.2.1:1", 15, sfu.ProbesPerPrefix},
		{"its neighbour's", 0, at("192.0.2.1"), "192.0.2.200:9", 5, 0},
		{"of another prefix", 0, at("192.0.3.1"), "192.0.3.1:1", 15, sfu.ProbesPerPrefix},
		{"its own, half a second later", 500 * time.Millisecond, at("192.0.2.1"), "192.0.2.1:1", 15, 5},
		{"the fleet's", 500 * time.Millisecond, fleet, "203.0.113.1:1", 1500, sfu.FleetProbesPerSecond},
		{"a client's beside it", 500 * time.Millisecond, at("192.0.4.1"), "192.0.4.1:1", 1, 1},
		{"forged ones without end", time.Second, stolen, "192.0.2.1:1", 2 * sfu.ProbesVerified, 0},
		{"all are refused then", time.Second, fleet, "203.0.113.1:1", 1, 0},
		{"the fleet's, a tenth of a second later", 1100 * time.Millisecond, fleet, "203.0.113.1:1", 1500, 600},
	} {
		if got := count(probeTime.Add(c.after), c.d, c.from, c.n); got != c.want {
			t.Errorf("%s: %d answered, want %d", c.name, got, c.want)
		}
	}
}

func TestProbesDoNotAllocate(t *testing.T) {
	p := newProber()
	buf := make([]byte, 0, 200)
	now := probeTime
	for name, d := range map[string][]byte{
		"answered": probeRequest(t, sfu.ClientProbe(probeTime, home.Addr()), probeKey, "abcd"),
		"forged":   probeRequest(t, sfu.ClientProbe(probeTime, home.Addr()), sfu.NewProbeKey(), "abcd"),
	} {
		if n := testing.AllocsPerRun(100, func() {
			now = now.Add(time.Second)
			ufrag, _ := Peek(d)
			probe, _ := sfu.ReadProbe(ufrag)
			buf, _, _ = p.AppendAnswer(buf[:0], now, probe, ufrag, d, home)
		}); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// TestRekeyed compares with crypto/hmac.
func TestRekeyed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	m := &rekeyed{hash: sha1.New()}
	for range 200 {
		key, msg := make([]byte, random.IntN(sha1.BlockSize+1)), make([]byte, random.IntN(300))
		for i := range key {
			key[i] = byte(random.Uint32())
		}
		for i := range msg {
			msg[i] = byte(random.Uint32())
		}
		want := hmac.New(sha1.New, key)
		want.Write(msg)
		m.setKey(key)
		m.Reset()
		m.Write(msg)
		if got := m.Sum(nil); !bytes.Equal(got, want.Sum(nil)) {
			t.Fatalf("key of %d, message of %d bytes: %x", len(key), len(msg), got)
		}
	}
}

// FuzzProbe: what is answered carries the right password's integrity, and the
// answer is no longer than what it answers.
func FuzzProbe(f *testing.F) {
	f.Add(probeRequest(f, sfu.FleetProbe(probeTime), probeKey, "abcd"))
	f.Add(probeRequest(f, sfu.FleetProbe(probeTime), probeKey, "a"))
	f.Add(probeRequest(f, sfu.ClientProbe(probeTime, home.Addr()), probeKey, "abcd"))
	f.Add(probeRequest(f, sfu.ClientProbe(probeTime, home.Addr()), sfu.NewProbeKey(), "abcd"))
	f.Add(check(f))
	f.Fuzz(func(t *testing.T, d []byte) {
		got, _, ok := answer(newProber(), probeTime, d, home)
		if !ok {
			return
		}
		ufrag, _ := Peek(d)
		probe, _ := sfu.ReadProbe(ufrag)
		_, pwd := probe.Credentials(probeKey)
		if _, authentic := NewKey(pwd).Check(d); !authentic || len(got) > len(d) {
			t.Fatalf("%d bytes in answer to %d, authentic: %v", len(got), len(d), authentic)
		}
	})
}

func BenchmarkProbe(b *testing.B) {
	for name, key := range map[string]sfu.ProbeKey{"answered": probeKey, "forged": sfu.NewProbeKey()} {
		d := probeRequest(b, sfu.FleetProbe(probeTime), key, "abcd")
		b.Run(name, func(b *testing.B) {
			p := newProber()
			p.fleet.rate, p.work.rate = 1e12, 1e12
			buf := make([]byte, 0, 200)
			b.ReportAllocs()
			for now := probeTime; b.Loop(); now = now.Add(time.Microsecond) {
				ufrag, _ := Peek(d)
				probe, _ := sfu.ReadProbe(ufrag)
				buf, _, _ = p.AppendAnswer(buf[:0], now, probe, ufrag, d, home)
			}
		})
	}
}
