package sfu_test

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"voicefleet/sfu"
)

var probeNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestProbeCredentials(t *testing.T) {
	key := bytes.Repeat([]byte{7}, sfu.ProbeKeyLen)
	home := netip.MustParseAddr("192.0.2.9")
	for _, c := range []struct {
		name       string
		probe      sfu.Probe
		ufrag, pwd string
	}{
		{"fleet", sfu.FleetProbe(probeNow), "prbAaVZv0AAAAAAAAAAA", "4TkNItu9GmPY8ez1wHKKGgx06AYVcBp8"},
		{"client by IPv4", sfu.ClientProbe(probeNow, home), "prbBaVZi7P/////AAAIA", "/SyMcNlrnFbcpqim5mO1RAzFnRTeGFx7"},
		{"client by IPv6", sfu.ClientProbe(probeNow, netip.MustParseAddr("2001:db8:1:2:3::4")), "prbBaVZi7CABDbgAAQAC", "PABODEmuHs4mNqQpYruGf94nH92UzskL"},
	} {
		ufrag, pwd := c.probe.Credentials(key)
		if ufrag != c.ufrag || pwd != c.pwd {
			t.Errorf("%s: %q, %q", c.name, ufrag, pwd)
		}
		if len(ufrag) != sfu.ProbeUfragLen || len(pwd) != sfu.ProbePwdLen {
			t.Errorf("%s: lengths %d and %d", c.name, len(ufrag), len(pwd))
		}
		got, ok := sfu.ReadProbe([]byte(ufrag))
		if !ok || got.Prefix != c.probe.Prefix || !got.Expires.Equal(c.probe.Expires) {
			t.Errorf("%s: read %+v, %v", c.name, got, ok)
		}
		if _, other := c.probe.Credentials(bytes.Repeat([]byte{8}, sfu.ProbeKeyLen)); other == pwd {
			t.Errorf("%s: the key does not matter", c.name)
		}
	}
}

func TestReadProbeRefuses(t *testing.T) {
	fleet, _ := sfu.FleetProbe(probeNow).Credentials(sfu.NewProbeKey())
	client, _ := sfu.ClientProbe(probeNow, netip.MustParseAddr("192.0.2.9")).Credentials(sfu.NewProbeKey())
	for name, ufrag := range map[string]string{
		"empty":                    "",
		"a session's":              "abcdEFGH1234",
		"cut":                      fleet[:19],
		"longer":                   fleet + "A",
		"another mark":             "prbC" + fleet[4:],
		"a client's without home":  "prbB" + fleet[4:],
		"the fleet's with home":    "prbA" + client[4:],
		"not of the alphabet":      fleet[:19] + "-",
		"a newline base64 skips":   fleet[:18] + "\n" + fleet[18:19],
		"padding":                  fleet[:19] + "=",
		"as long, of other things": strings.Repeat("x", sfu.ProbeUfragLen),
	} {
		if p, ok := sfu.ReadProbe([]byte(ufrag)); ok {
			t.Errorf("%s: read %+v", name, p)
		}
	}
}

func TestProbeMay(t *testing.T) {
	fleet := sfu.FleetProbe(probeNow)
	client := sfu.ClientProbe(probeNow, netip.MustParseAddr("192.0.2.9"))
	six := sfu.ClientProbe(probeNow, netip.MustParseAddr("2001:db8::1"))
	for _, c := range []struct {
		name  string
		probe sfu.Probe
		after time.Duration
		from  string
		want  bool
	}{
		{"fleet", fleet, 0, "203.0.113.1", true},
		{"fleet, at the end", fleet, sfu.FleetProbeLife - time.Second, "203.0.113.1", true},
		{"fleet, over", fleet, sfu.FleetProbeLife, "203.0.113.1", false},
		{"fleet, of a clock an hour ahead", fleet, -time.Hour, "203.0.113.1", true},
		{"client at home", client, 0, "192.0.2.77", true},
		{"client at home, mapped", client, 0, "::ffff:192.0.2.77", true},
		{"client next door", client, 0, "192.0.3.9", false},
		{"client by the other family", client, 0, "2001:db8::1", false},
		{"client, over", client, sfu.ClientProbeLife, "192.0.2.9", false},
		{"client by IPv6", six, 0, "2001:db8::ffff:1:2:3", true},
		{"client by IPv6 next door", six, 0, "2001:db8:0:1::1", false},
	} {
		if got := c.probe.May(probeNow.Add(c.after), netip.MustParseAddr(c.from)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// FuzzReadProbe: what is read is what its credentials spell, and nothing panics.
func FuzzReadProbe(f *testing.F) {
	key := sfu.NewProbeKey()
	fleet, _ := sfu.FleetProbe(probeNow).Credentials(key)
	client, _ := sfu.ClientProbe(probeNow, netip.MustParseAddr("192.0.2.9")).Credentials(key)
	for _, seed := range []string{fleet, client, "", "abcdEFGH1234", fleet[:19] + "\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, ufrag []byte) {
		p, ok := sfu.ReadProbe(ufrag)
		if !ok {
			return
		}
		if again, _ := p.Credentials(key); again != string(ufrag) {
			t.Fatalf("%q is read as %+v, which is %q", ufrag, p, again)
		}
	})
}
