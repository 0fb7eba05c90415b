package e2e

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"voicefleet/cmd/internal/chromium"
	"voicefleet/cmd/internal/ears"
	"voicefleet/signaling/voiceclient"
)

// partnerEnv has the test binary be a client in another network: it is the base URL
// and the invite of a house, with a space between.
const partnerEnv = "VOICEFLEET_PARTNER"

// hum is 20 ms of a tone of 1,000 Hz as Opus.
const hum = "f8a8b6c96a118b8e1f2660180298d4faf5edcfa72fe375d12e45a1bf1cd0de54675796650580e32e7f2ddaf79bf2af6905d08c7492d87a73e255c3d8d1"

// What the partner is asked.
const (
	askSilence = '?' // for how long at most it has heard nothing since it was asked last
	askFirst   = '!' // when it hears somebody from now on
)

// TestClosedPartner is not a test but somebody who hums in the Lobby, next to the
// server, until its standard input ends. Each byte of that is a question.
func TestClosedPartner(t *testing.T) {
	base, invite, ok := strings.Cut(os.Getenv(partnerEnv), " ")
	if !ok {
		return
	}
	var g gauge
	var first atomic.Bool // who is heard next is waited for
	call := joinLobby(t, &house{invite: invite}, base, "", "Humming", func(p voiceclient.Packet) {
		g.heard(p)
		if first.CompareAndSwap(true, false) {
			fmt.Println("partner hears somebody at", p.Arrived.UnixNano())
		}
	})
	frame, err := hex.DecodeString(hum)
	must(t, err)
	fmt.Println("partner hums")
	asked := make(chan byte)
	go func() {
		defer close(asked)
		for {
			one := make([]byte, 1)
			if _, err := os.Stdin.Read(one); err != nil {
				return
			}
			asked <- one[0]
		}
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case what, more := <-asked:
			switch {
			case !more:
				return
			case what == askFirst:
				first.Store(true)
			default:
				fmt.Println("partner heard nothing for", g.take())
			}
		case <-tick.C:
			_ = call.WriteOpus(frame, 20*time.Millisecond, 20)
		}
	}
}

// gauge measures for how long nothing is heard.
type gauge struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
}

func (g *gauge) heard(p voiceclient.Packet) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.last.IsZero() {
		g.longest = max(g.longest, p.Arrived.Sub(g.last))
	}
	g.last = p.Arrived
}

// quiet is for how long nothing has come.
func (g *gauge) quiet() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Since(g.last)
}

// take is the longest such time since the last take.
func (g *gauge) take() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	longest := max(g.longest, time.Since(g.last))
	g.longest = 0
	return longest
}

// closedLAN is a server in a network namespace, with a partner who hums next to it.
// Who is on this side reaches them over a cable on which packets can be dropped.
type closedLAN struct {
	*house
	ns, base, ca string

	ask   io.Writer      // questions to the partner
	heard chan string    // for how long it heard nothing
	first chan time.Time // when it heard somebody
}

func newClosedLAN(t *testing.T, v6 bool) *closedLAN {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	c := &closedLAN{ns: fmt.Sprintf("closednet-%d", os.Getpid())}
	host, peer := fmt.Sprintf("cn%dh", os.Getpid()), fmt.Sprintf("cn%dn", os.Getpid())
	here, server := "10.79.0.1/24", "10.79.0.2/24"
	if v6 {
		here, server = "fd79::1/64", "fd79::2/64"
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	sweepLANs(t)
	run("netns", "add", c.ns)
	t.Cleanup(func() {
		_ = exec.Command("ip", "link", "del", host).Run()
		_ = exec.Command("ip", "netns", "del", c.ns).Run()
	})
	run("link", "add", host, "type", "veth", "peer", "name", peer, "netns", c.ns)
	run("link", "set", host, "addrgenmode", "none")
	run("-n", c.ns, "link", "set", peer, "addrgenmode", "none")
	add := func(where []string, addr, dev string) {
		args := append(where, "addr", "add", addr, "dev", dev)
		if v6 {
			args = append(args, "nodad")
		}
		run(args...)
	}
	add(nil, here, host)
	run("link", "set", host, "up")
	run("-n", c.ns, "link", "set", peer, "name", "eth0")
	add([]string{"-n", c.ns}, server, "eth0")
	run("-n", c.ns, "link", "set", "eth0", "up")
	run("-n", c.ns, "link", "set", "lo", "up")

	c.house = startUp(t, c.ns)
	address, _, _ := strings.Cut(server, "/")
	if v6 {
		address = "[" + address + "]"
	}
	c.base = fmt.Sprintf("https://%s:%d", address, c.port)
	c.ca = filepath.Join(t.TempDir(), "ca.pem")
	must(t, fetch(fmt.Sprintf("http://%s:%d/ca.pem", address, c.port), c.ca))
	c.partner(t)
	return c
}

// partner starts the one who hums.
func (c *closedLAN) partner(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command("ip", "netns", "exec", c.ns, self, "-test.run", "^TestClosedPartner$")
	cmd.Env = append(os.Environ(), partnerEnv+"="+fmt.Sprintf("http://127.0.0.1:%d %s", c.port, c.invite))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for said := ""; said != "partner hums"; said = lines.Text() {
		if !lines.Scan() {
			t.Fatalf("partner ends: %v", lines.Err())
		}
	}
	c.ask, c.heard, c.first = in, make(chan string, 1), make(chan time.Time, 1)
	go func() { // until it ends
		for lines.Scan() {
			if gap, ok := strings.CutPrefix(lines.Text(), "partner heard nothing for "); ok {
				c.heard <- gap
			}
			if at, ok := strings.CutPrefix(lines.Text(), "partner hears somebody at "); ok {
				n, err := strconv.ParseInt(at, 10, 64)
				if err != nil {
					t.Error(err)
				}
				select {
				case <-c.first: // nobody waited for it
				default:
				}
				c.first <- time.Unix(0, n)
			}
		}
	}()
}

// unheard is for how long at most the partner has heard nothing since the last call.
func (c *closedLAN) unheard(t *testing.T) time.Duration {
	t.Helper()
	_, err := c.ask.Write([]byte{askSilence})
	must(t, err)
	select {
	case said := <-c.heard:
		gap, err := time.ParseDuration(said)
		must(t, err)
		return gap
	case <-time.After(5 * time.Second):
		t.Fatal("partner says nothing")
		return 0
	}
}

// shut drops what the rules say on the cable, both ways; none opens it again.
func (c *closedLAN) shut(t *testing.T, rules ...string) {
	t.Helper()
	script := "table inet closednet\ndelete table inet closednet\n"
	if len(rules) > 0 {
		script += "table inet closednet {\n"
		for hook, dev := range map[string]string{"input": "iifname", "output": "oifname"} {
			script += fmt.Sprintf("chain %s { type filter hook %s priority 0; policy accept;\n", hook, hook)
			for _, r := range rules {
				script += dev + " eth0 " + r + "\n"
			}
			script += "}\n"
		}
		script += "}\n"
	}
	cmd := exec.Command("ip", "netns", "exec", c.ns, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s\n%s", err, out, script)
	}
}

// figures are what was measured, and what is wanted.
type figures struct {
	mu   sync.Mutex
	list []string
	bad  int
}

func (f *figures) add(name string, took []time.Duration, quantile float64, want time.Duration) {
	slices.Sort(took)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(took) == 0 {
		f.bad++
		f.list = append(f.list, fmt.Sprintf("%-46s nothing was measured", name))
		return
	}
	at := took[min(len(took)-1, int(float64(len(took))*quantile))]
	verdict := "ok"
	if at > want {
		verdict = "MISSED"
		f.bad++
	}
	f.list = append(f.list, fmt.Sprintf("%-46s median %6d ms, p%.0f %6d ms, of %d; at most %d ms: %s",
		name, took[len(took)/2].Milliseconds(), quantile*100, at.Milliseconds(), len(took), want.Milliseconds(), verdict))
}

// judge tells all of them, and whether any was missed.
func (f *figures) judge(t *testing.T) {
	t.Helper()
	for _, line := range f.list {
		t.Log(line)
	}
	if f.bad > 0 {
		t.Errorf("%d figures missed", f.bad)
	}
}

const (
	wantTalk = 2 * time.Second
	wantGap  = 3 * time.Second
)

// TestClosedNetworks measures how clients get in and stay in where UDP does not, or
// not any more; VOICEFLEET_CLOSED sets how often. The figures are printed last.
func TestClosedNetworks(t *testing.T) {
	rounds := 2
	if s := os.Getenv("VOICEFLEET_CLOSED"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("VOICEFLEET_CLOSED is %q, want a number of rounds", s)
		}
		rounds = n
	}
	var f figures
	c := newClosedLAN(t, false)
	noUDP := []string{"meta l4proto udp drop"}
	// The page's port must be open; of all others one, by TCP.
	onePort := []string{
		fmt.Sprintf("tcp dport { %d, 3478 } accept", c.port), fmt.Sprintf("tcp sport { %d, 3478 } accept", c.port),
		"meta l4proto { tcp, udp, icmp } drop",
	}
	for name, rules := range map[string][]string{"open": nil, "no UDP": noUDP, "one TCP port": onePort} {
		t.Run("Go client, "+name, func(t *testing.T) {
			c.shut(t, rules...)
			f.add("Go client, "+name+": talks after", c.goJoins(t, rounds), 0.95, wantTalk)
		})
	}
	t.Run("Go client, UDP closes in a call", func(t *testing.T) {
		f.add("Go client, UDP closes in a call: gap", c.goGaps(t, rounds, noUDP), 0.99, wantGap)
	})
	c.shut(t)
	if _, err := exec.LookPath("chromium"); err == nil {
		p := visit(t, ada, c.base+"/invite/"+c.invite, c.ca)
		c.pageJoins(t, p, 1) // the first one opens the microphone
		for name, rules := range map[string][]string{"open": nil, "no UDP": noUDP, "one TCP port": onePort} {
			t.Run("page, "+name, func(t *testing.T) {
				c.shut(t, rules...)
				f.add("page in Chromium, "+name+": talks after", c.pageJoins(t, p, rounds), 0.95, wantTalk)
			})
		}
		t.Run("page, UDP closes in a call", func(t *testing.T) {
			f.add("page in Chromium, UDP closes in a call: gap", c.pageGaps(t, p, rounds, noUDP), 0.99, wantGap)
		})
		c.shut(t)
	}
	f.judge(t)
}

// TestIPv6Only: a network without IPv4 is one like others.
func TestIPv6Only(t *testing.T) {
	c := newClosedLAN(t, true)
	for _, rules := range [][]string{nil, {"meta l4proto udp drop"}} {
		c.shut(t, rules...)
		for _, took := range c.goJoins(t, 1) {
			t.Logf("Go client talks after %v, without %v", took, rules)
		}
	}
	c.shut(t)
	if _, err := exec.LookPath("chromium"); err != nil {
		return
	}
	p := visit(t, ada, c.base+"/invite/"+c.invite, c.ca)
	c.pageJoins(t, p, 1)
	for _, rules := range [][]string{nil, {"meta l4proto udp drop"}} {
		c.shut(t, rules...)
		t.Logf("page talks after %v, without %v", c.pageJoins(t, p, 1), rules)
	}
}

// relaysOnly has a page believe that neither UDP nor TCP lead to the node, but relays.
const relaysOnly = `(() => {
	window.__took = [];
	for (const w of [window, ...Array.from(document.querySelectorAll('iframe'), (f) => f.contentWindow)]) w.RTCPeerConnection = class extends w.RTCPeerConnection {
		constructor(c) {
			super({ ...c, iceTransportPolicy: 'relay' });
			this.addEventListener('connectionstatechange', async () => {
				if (this.connectionState !== 'connected') return;
				const all = [...(await this.getStats()).values()];
				const pair = all.find((s) => s.id === all.find((s) => s.type === 'transport')?.selectedCandidatePairId);
				const mine = all.find((s) => s.id === pair?.localCandidateId);
				window.__took.push(String(mine?.relayProtocol));
			});
		}
	};
	return true;
})()`

// TestPageByRelay: Chromium talks by the node's TURN server where nothing else leads
// there; once it knows, it asks for it at once.
func TestPageByRelay(t *testing.T) {
	c := newClosedLAN(t, false)
	p := visit(t, ada, c.base+"/invite/"+c.invite, c.ca)
	c.pageJoins(t, p, 1)
	var done bool
	must(t, p.Eval(relaysOnly, &done))
	c.pageJoins(t, p, 1) // by the connection that was made ready before
	for _, rules := range [][]string{nil, nil, {"meta l4proto udp drop"}} {
		c.shut(t, rules...)
		t.Logf("talks after %v, without %v", c.pageJoins(t, p, 1), rules)
	}
	var took []string
	must(t, p.Eval("window.__took", &took))
	t.Log(took)
	if len(took) < 3 || slices.ContainsFunc(took, func(s string) bool { return s == "undefined" }) || took[len(took)-1] == "udp" {
		t.Errorf("media goes by relays over %q", took)
	}
}

// goJoins has a Go client join so often, and tells after what time it was talking: the
// partner heard it, and it heard the partner.
func (c *closedLAN) goJoins(t *testing.T, n int) (took []time.Duration) {
	t.Helper()
	frame, err := hex.DecodeString(hum)
	must(t, err)
	for range n {
		heard := make(chan struct{}, 1)
		cfg := guest(t, c.house, c.base, c.ca, "Closed", func(voiceclient.Packet) {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		start := time.Now()
		call, err := voiceclient.Join(ctx, cfg)
		cancel()
		if err != nil {
			t.Errorf("join: %v", err)
			continue
		}
		// Nothing was said before: what the partner has yet to hear of the round before is
		// behind it by now.
		select {
		case <-c.first: // of a round that went wrong
		default:
		}
		_, err = c.ask.Write([]byte{askFirst})
		must(t, err)
		hears, isHeard := time.Duration(0), time.Duration(0)
		tick, late := time.NewTicker(20*time.Millisecond), time.After(10*time.Second)
		for lost := false; !lost && (hears == 0 || isHeard == 0); {
			select {
			case <-heard:
				if hears == 0 {
					hears = time.Since(start)
				}
			case at := <-c.first:
				isHeard = at.Round(0).Sub(start.Round(0)) // another process knows the time of day only
			case <-tick.C:
				_ = call.WriteOpus(frame, 20*time.Millisecond, 20)
			case <-late:
				lost = true
				t.Errorf("hears after %v, is heard after %v (0: never)", hears, isHeard)
			}
		}
		tick.Stop()
		if hears > 0 && isHeard > 0 {
			took = append(took, max(hears, isHeard))
		}
		t.Logf("by %s: hears after %v, is heard after %v", call.Stats().Voice.Way, hears, isHeard)
		_ = call.Close()
	}
	return took
}

// goGaps has it join, shuts the network, and tells for how long it heard nothing.
func (c *closedLAN) goGaps(t *testing.T, n int, rules []string) (gaps []time.Duration) {
	t.Helper()
	for range n {
		c.shut(t)
		var g gauge
		call, err := voiceclient.Join(context.Background(), guest(t, c.house, c.base, c.ca, "Closed", g.heard))
		must(t, err)
		for end := time.Now().Add(10 * time.Second); g.quiet() > 200*time.Millisecond; {
			if time.Now().After(end) {
				t.Fatal("nothing is heard")
			}
			time.Sleep(20 * time.Millisecond)
		}
		if way := call.Stats().Voice.Way; way != "udp" {
			t.Errorf("open, media goes by %s", way)
		}
		g.take()
		c.shut(t, rules...)
		time.Sleep(wantGap + 2*time.Second) // is what is measured
		gap := g.take()
		t.Logf("gap %v, then by %s; %d moves", gap, call.Stats().Voice.Way, call.Stats().Moves)
		gaps = append(gaps, gap)
		_ = call.Close()
	}
	return gaps
}

// pageJoins is goJoins of the page.
func (c *closedLAN) pageJoins(t *testing.T, p *chromium.Page, n int) (took []time.Duration) {
	t.Helper()
	for range n {
		all, err := ears.Joins(p)
		must(t, err)
		before := len(all)
		must(t, p.Click("button", "Join voice channel Lobby", 30*time.Second))
		for end := time.Now().Add(15 * time.Second); len(all) == before; {
			if time.Now().After(end) {
				t.Error("nothing is heard")
				break
			}
			time.Sleep(10 * time.Millisecond)
			all, err = ears.Joins(p)
			must(t, err)
		}
		took = append(took, all[before:]...)
		must(t, p.Click("button", "Leave call", 30*time.Second))
	}
	return took
}

// pageGaps is goGaps of the page.
func (c *closedLAN) pageGaps(t *testing.T, p *chromium.Page, n int, rules []string) (gaps []time.Duration) {
	t.Helper()
	const tone = 2 // brian's first, which is near that of the partner
	for range n {
		c.shut(t)
		listenFor(t, p, 500*time.Millisecond) // what was heard before has died away
		must(t, p.Click("button", "Join voice channel Lobby", 30*time.Second))
		awaitTone(t, p, "page", tone)
		listenFor(t, p, time.Second)
		c.shut(t, rules...)
		gap := longestGap(listenFor(t, p, wantGap+2*time.Second), tone)
		t.Logf("gap %v", gap)
		gaps = append(gaps, gap)
		must(t, p.Click("button", "Leave call", 30*time.Second))
	}
	return gaps
}
