package sfuserver

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"voicefleet/sfu"
)

// probing is a bench whose engine has a probe key.
func probing(t testing.TB) (*bench, sfu.ProbeKey) {
	b, key := newBench(t), sfu.NewProbeKey()
	b.srv.setProbeKey(key)
	b.w.orders(b.now)
	return b, key
}

func probeOf(p sfu.Probe, key sfu.ProbeKey) []byte {
	ufrag, pwd := p.Credentials(key)
	return stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":probe"),
		stun.NewShortTermIntegrity(pwd), stun.Fingerprint).Raw
}

// TestProbes holds what is answered, by the engine's clock, and that a flood of
// probes takes nothing from a call.
func TestProbes(t *testing.T) {
	b, key := probing(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	stranger := netip.MustParseAddrPort("203.0.113.9:9")
	wall := b.srv.start.Add(b.now)
	client := sfu.ClientProbe(wall, stranger.Addr())
	for _, c := range []struct {
		name  string
		d     []byte
		from  netip.AddrPort
		after time.Duration
		drops string
	}{
		{"the fleet's", probeOf(sfu.FleetProbe(wall), key), stranger, 0, ""},
		{"the fleet's from a member's address", probeOf(sfu.FleetProbe(wall), key), p.at, 0, ""},
		{"a client's", probeOf(client, key), stranger, 0, ""},
		{"a client's from elsewhere", probeOf(client, key), p.at, 0, "probe"},
		{"a client's too late", probeOf(client, key), stranger, sfu.ClientProbeLife, "probe"},
		{"the fleet's too late", probeOf(sfu.FleetProbe(wall), key), stranger, sfu.FleetProbeLife, "probe"},
		{"under another key", probeOf(sfu.FleetProbe(wall), sfu.NewProbeKey()), stranger, 0, "integrity"},
	} {
		now := b.now
		b.now += c.after
		sent, drops := b.receive(c.d, c.from)
		b.now = now
		if drops != c.drops || len(sent) > 1 || (len(sent) == 1) != (c.drops == "") {
			t.Errorf("%s: %d sent, dropped %q, want %q", c.name, len(sent), drops, c.drops)
		}
		if len(sent) == 1 && (sent[0].to != c.from || len(sent[0].bytes) > len(c.d)) {
			t.Errorf("%s: %d bytes to %v, in answer to %d", c.name, len(sent[0].bytes), sent[0].to, len(c.d))
		}
	}
	if n := len(b.w.byRemote); n != 2 {
		t.Errorf("%d addresses are mapped after the probes", n)
	}

	// A second of flood: a client over its rate, forged ones, and between them the
	// voice of a call.
	b.now += time.Hour // the rates are full again
	wall = b.srv.start.Add(b.now)
	client = sfu.ClientProbe(wall, stranger.Addr())
	answered, refused, heard := 0, map[string]int{}, 0
	greedy, forged := probeOf(client, key), probeOf(client, sfu.NewProbeKey())
	const rounds = 50 // 20 ms each
	for range rounds {
		for i := range 600 {
			d := greedy
			if i%2 == 0 {
				d = forged
			}
			sent, drops := b.receive(d, stranger)
			answered += len(sent)
			refused[drops]++
		}
		if sent, drops := b.receive(p.voice(), p.at); len(sent) != 1 || sent[0].to != q.at {
			t.Fatalf("voice: %d sent, dropped %q", len(sent), drops)
		}
		heard++
		b.now += 20 * time.Millisecond
	}
	if answered < sfu.ProbesPerPrefix || answered > 2*sfu.ProbesPerPrefix || heard != rounds {
		t.Errorf("%d probes answered, %d packets heard", answered, heard)
	}
	if refused["probe"] == 0 || refused["integrity"] == 0 || refused[""] != answered {
		t.Errorf("refused: %v", refused)
	}
	b.w.publish(0)
	if l := b.srv.load(); l.Probes != uint64(answered)+3 || l.Drops["probe"] == 0 {
		t.Errorf("the load tells %d probes, drops %v", l.Probes, l.Drops)
	}
}

func TestProbesWithoutAKey(t *testing.T) {
	b := newBench(t)
	if sent, drops := b.receive(probeOf(sfu.FleetProbe(time.Now()), nil), netip.MustParseAddrPort("203.0.113.9:9")); len(sent) != 0 || drops != "probe" {
		t.Errorf("%d sent, dropped %q", len(sent), drops)
	}
	b.srv.workers = nil // as before its Start
	short := sfu.Start{Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, ProbeKey: make(sfu.ProbeKey, sfu.ProbeKeyLen-1)}
	if ev := b.command(sfu.Command{Start: &short}); ev.Err == nil || ev.Err.Code != sfu.CodeBadCommand {
		t.Errorf("a key too short: %+v", ev)
	}
}
