package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"voicefleet/cmd/internal/chromium"
)

// rebind has a NAT on the cable forget what it knew, for the n-th time: who is on this
// side comes from another port, and what is sent to the old one is lost. Each time has
// its own zone of connection tracking, in which nothing is known yet.
func (c *closedLAN) rebind(t *testing.T, n int) {
	t.Helper()
	media, from := fmt.Sprintf("%d-%d", c.media, c.media+3), 20000+1000*n
	script := fmt.Sprintf(`table ip rebind
delete table ip rebind
table ip rebind {
	chain prerouting { type filter hook prerouting priority raw; iifname eth0 udp dport %[1]s ct zone set %[2]d
	}
	chain output { type filter hook output priority raw; oifname eth0 udp sport %[1]s udp dport != %[3]d-%[4]d drop
		oifname eth0 udp sport %[1]s ct zone set %[2]d
	}
	chain input { type nat hook input priority 100; iifname eth0 udp dport %[1]s snat to 10.79.0.1:%[3]d-%[4]d
	}
}
`, media, n+1, from, from+999)
	cmd := exec.Command("ip", "netns", "exec", c.ns, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s\n%s", err, out, script)
	}
}

// TestNATRebindOfPages: the NAT in front of a browser forgets it, time after time. Who
// talks is found within 0.3 s, both ways, 99 times of 100, where VOICEFLEET_CLOSED says
// that the machine has time for it; who only listens, with a muted microphone or without
// any, within 3 s. VOICEFLEET_REBINDS sets how often, four times as often for who talks.
func TestNATRebindOfPages(t *testing.T) {
	c := newClosedLAN(t, false)
	const tone = 2 // brian's first, which is near that of the partner
	times, rounds := 0, 1
	if s := os.Getenv("VOICEFLEET_REBINDS"); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		must(t, err)
	}
	talking, often := time.Second, rounds
	if os.Getenv("VOICEFLEET_CLOSED") != "" {
		talking, often = 300*time.Millisecond, max(4*rounds, 20)
	}
	var f figures
	for name, one := range map[string]struct {
		bound  time.Duration
		rounds int
		before func(*testing.T, *chromium.Page) // it joins
		in     func(*testing.T, *chromium.Page)
	}{
		"talks": {bound: talking, rounds: often},
		"is muted": {bound: 3 * time.Second, in: func(t *testing.T, p *chromium.Page) {
			must(t, p.Click("button", "Mute", 30*time.Second))
		}},
		"has no microphone": {bound: 3 * time.Second, before: func(t *testing.T, p *chromium.Page) {
			must(t, p.Eval(`navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('none', 'NotFoundError'))`, nil))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c.rebind(t, times)
			humming := ada
			humming.hums = true
			p := visit(t, humming, c.base+"/invite/"+c.invite, c.ca)
			if one.before != nil {
				one.before(t, p)
			}
			must(t, p.Click("button", "Join voice channel Lobby", 30*time.Second))
			awaitTone(t, p, "page", tone)
			if one.in != nil {
				one.in(t, p)
			}
			listenFor(t, p, time.Second)
			var gaps []time.Duration
			for range max(one.rounds, rounds) {
				c.unheard(t)
				times++
				c.rebind(t, times)
				heard := longestGap(listenFor(t, p, 4*time.Second), tone)
				said := c.unheard(t)
				if name != "talks" {
					said = 0
				}
				t.Logf("heard nothing for %v, was not heard for %v", heard, said)
				gaps = append(gaps, max(heard, said))
			}
			f.add("page that "+name+", its NAT forgets it: gap", gaps, 0.99, one.bound)
		})
	}
	f.judge(t)
}
