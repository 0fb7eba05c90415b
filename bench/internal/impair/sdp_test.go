package impair

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

const answerBefore = "v=0\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" +
	"c=IN IP4 0.0.0.0\r\n" +
	"a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n" +
	"a=candidate:2 1 UDP 1694498815 203.0.113.9 6000 typ srflx raddr 192.0.2.1 rport 5000 generation 0\r\n" +
	"a=candidate:3 1 tcp 1 192.0.2.1 443 typ host tcptype passive\r\n" +
	"a=candidate:4 1 udp 1 0f2b.local 5000 typ host\r\n" +
	"a=candidate:5 1 udp 1 2001:db8::1 5000 typ host\r\n" +
	"a=end-of-candidates\r\n"

const answerAfter = "v=0\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" +
	"c=IN IP4 0.0.0.0\r\n" +
	"a=candidate:1 1 udp 2130706431 127.0.0.1 1 typ host\r\n" +
	"a=candidate:2 1 UDP 1694498815 127.0.0.1 2 typ host generation 0\r\n" +
	"a=candidate:5 1 udp 1 127.0.0.1 3 typ host\r\n" +
	"a=end-of-candidates\r\n"

func TestRewrite(t *testing.T) {
	var asked []string
	got, err := rewrite(answerBefore, func(server netip.AddrPort) (netip.AddrPort, error) {
		asked = append(asked, server.String())
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(len(asked))), nil
	})
	if err != nil || got != answerAfter {
		t.Errorf("rewritten: %v\n%s", err, got)
	}
	if want := "192.0.2.1:5000 203.0.113.9:6000 [2001:db8::1]:5000"; strings.Join(asked, " ") != want {
		t.Errorf("asked for doors to %v, want %s", asked, want)
	}
}

func TestRewriteRefuses(t *testing.T) {
	none := func(netip.AddrPort) (netip.AddrPort, error) { return netip.AddrPort{}, errors.New("no more doors") }
	for _, c := range []struct{ answer, want string }{
		{"v=0\r\n", "no UDP candidate"},
		{"v=0\na=candidate:3 1 tcp 1 192.0.2.1 443 typ host\n", "no UDP candidate"},
		{"v=0\na=candidate:3 1 udp 1 192.0.2.1 99999 typ host\n", "no UDP candidate"},
		{"v=0\na=candidate:3 1 udp 1\n", "no UDP candidate"},
		{answerBefore, "no more doors"},
		{strings.Repeat("a", maxSDP+1), "at most"},
	} {
		if _, err := rewrite(c.answer, none); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.answer, err, c.want)
		}
	}
}

func TestHide(t *testing.T) {
	got := Hide("v=0\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\na=mid:0\r\n")
	if got != "v=0\r\na=mid:0\r\n" {
		t.Errorf("hidden: %q", got)
	}
}

// FuzzRewrite: whatever the answer, no candidate leads anywhere but to the proxy.
func FuzzRewrite(f *testing.F) {
	f.Add(answerBefore)
	f.Add("a=candidate:1 1 udp 1 127.0.0.1 9 typ host x\n\na=candidate:")
	f.Fuzz(func(t *testing.T, answer string) {
		door := netip.MustParseAddrPort("203.0.113.77:777")
		got, err := rewrite(answer, func(netip.AddrPort) (netip.AddrPort, error) { return door, nil })
		if err != nil {
			return
		}
		for line := range strings.Lines(got) {
			if rest, ok := strings.CutPrefix(line, candidatePrefix); ok {
				if to, ok := udpCandidate(strings.Fields(rest)); !ok || to != door {
					t.Errorf("a candidate to %v is left: %q", to, line)
				}
			}
		}
	})
}
