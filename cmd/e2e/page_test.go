package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"voicefleet/cmd/internal/chromium"
	"voicefleet/cmd/internal/ears"
)

// floor is what counts as silence, dB of full scale per tone.
const floor = -45

// visit opens the page in a browser of its own whose microphone is the voice,
// and joins by invite with a nickname.
func visit(t *testing.T, v voice, url, ca string) *chromium.Page {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("chromium is not installed")
	}
	p, err := chromium.Start(context.Background(), chromium.Options{Dir: t.TempDir(), Microphone: v.wav(t), Camera: v.film(t), TrustCA: ca, Script: ears.Script})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if png, err := p.Screenshot(); err == nil {
				path := filepath.Join(os.TempDir(), "voicefleet-"+v.name+".png")
				_ = os.WriteFile(path, png, 0o600)
				t.Logf("%s last saw %s; controls: %s", v.name, path, p.Names())
			}
		}
		p.Close()
	})
	must(t, p.Open(url))
	must(t, p.Type("textbox", "Nickname", v.name, 30*time.Second))
	must(t, p.Click("button", "Join", 30*time.Second))
	must(t, p.Wait("button", "Join voice channel Lobby", 30*time.Second))
	must(t, ears.Listen(p, ada.tones[0], ada.tones[1], brian.tones[0], brian.tones[1]))
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hears checks for 3 s that the page plays the partner's pair at least 20 dB
// above the pair of its own microphone.
func hears(t *testing.T, p ears.Page, listener string, partner voice) {
	t.Helper()
	want, own := 0, 2
	if partner == brian {
		want, own = 2, 0
	}
	awaitTone(t, p, listener, want)
	hs := listenFor(t, p, 3*time.Second)
	for k := range 2 {
		good, ok := ears.Mean(hs, want+k, floor)
		bad, _ := ears.Mean(hs, own+k, floor)
		if !ok || good < bad+20 {
			t.Errorf("%s hears %s's tone %d at %.1f dB and the own one at %.1f dB: want 20 dB between them", listener, partner.name, k, good, bad)
		}
	}
}

// awaitTone waits until tone i is heard.
func awaitTone(t *testing.T, p ears.Page, listener string, i int) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) {
		hs, err := ears.Take(p)
		must(t, err)
		for _, h := range hs {
			if h.Power[i] > floor+10 {
				return
			}
		}
	}
	t.Fatalf("%s hears nothing within 15 s", listener)
}

// listenFor collects what is heard from now on for a time, by the page's clock: that of
// a host may be set while a page keeps its own.
func listenFor(t *testing.T, p ears.Page, d time.Duration) []ears.Hearing {
	t.Helper()
	_, err := ears.Take(p)
	must(t, err)
	var all []ears.Hearing
	for began := time.Now(); ; {
		hs, err := ears.Take(p)
		must(t, err)
		all = append(all, hs...)
		if n := len(all); n > 0 && all[n-1].At.Sub(all[0].At) >= d {
			return all
		}
		if time.Since(began) > d+10*time.Second {
			var url string
			_ = p.Eval("location.href + ' since ' + new Date(performance.timeOrigin).toISOString()", &url)
			t.Fatalf("within %v the page measured %d times in %v: %s", time.Since(began), len(all), d, url)
		}
	}
}

// longestGap is the longest time in which tone i was not heard.
func longestGap(hs []ears.Hearing, i int) time.Duration {
	var longest time.Duration
	if len(hs) == 0 {
		return 0
	}
	last := hs[0].At
	for _, h := range hs {
		if h.Power[i] > floor {
			longest = max(longest, h.At.Sub(last))
			last = h.At
		}
	}
	return max(longest, hs[len(hs)-1].At.Sub(last))
}

// inOneOf wants do to succeed in one of n tries: a busy machine is late now and then,
// what is broken is late each time.
func inOneOf(t *testing.T, n int, do func() error) {
	t.Helper()
	for left := n - 1; ; left-- {
		err := do()
		switch {
		case err == nil:
			return
		case left == 0:
			t.Errorf("%d times, and at last: %v", n, err)
			return
		}
		t.Log(err)
	}
}

func TestTwoPagesTalkOverHTTP(t *testing.T) {
	h := startUp(t, "")
	talk(t, h, h.page(""), "")
}

// TestTwoPagesTalkOverTLS runs the server in a network namespace of its own; the
// browsers reach it at its LAN address and trust its authority as a person
// would.
func TestTwoPagesTalkOverTLS(t *testing.T) {
	lan := newLAN(t)
	h := startUp(t, lan.name)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, fetch(fmt.Sprintf("http://%s:%d/ca.pem", lan.server, h.port), ca))
	talk(t, h, fmt.Sprintf("https://%s:%d", lan.server, h.port), ca)
}

// talk is the main job: two people open the link and talk.
func talk(t *testing.T, h *house, base, ca string) {
	url := base + "/invite/" + h.invite
	a, b := visit(t, ada, url, ca), visit(t, brian, url, ca)
	began := time.Now()
	must(t, a.Click("button", "Join voice channel Lobby", 30*time.Second))
	must(t, b.Click("button", "Join voice channel Lobby", 30*time.Second))
	hears(t, a, "Ada", brian)
	hears(t, b, "Brian", ada)
	if took := time.Since(began); took > 10*time.Second+6*time.Second { // hears itself listens for 6 s
		t.Errorf("it took %v until both heard each other", took)
	}

	// A bot joins and hears both, each as its own user.
	parrot := newBot(t, h, base, ca)
	parrot.hears(t)

	// The server knows that they do, by the feedback the browsers give.
	hearing := filepath.Join(t.TempDir(), "metrics")
	for deadline := time.Now().Add(10 * time.Second); base == h.page(""); time.Sleep(200 * time.Millisecond) {
		must(t, fetch(h.page("/metrics"), hearing))
		told, err := os.ReadFile(hearing)
		must(t, err)
		if strings.Contains(string(told), `voicefleet_sfu_hearing{by="feedback"} 2`) {
			break
		}
		if time.Now().After(deadline) {
			for line := range strings.Lines(string(told)) {
				if strings.HasPrefix(line, "voicefleet_sfu_hearing") {
					t.Log(strings.TrimSpace(line))
				}
			}
			t.Error("the browsers give no transport-wide feedback")
			break
		}
	}

	// The ring lights while the other one speaks.
	must(t, a.Wait("listitem", "Brian, speaking", 30*time.Second))
	must(t, b.Wait("listitem", "Ada, speaking", 30*time.Second))

	// Mute silences: what leaves the server within 100 ms, measured where no jitter
	// buffer stands between. What the other page plays ends when its jitter buffer
	// has run empty, 60 to 120 ms on a quiet machine; a busy one makes it longer.
	inOneOf(t, 5, func() error {
		awaitTone(t, b, "Brian", 0)
		must(t, a.Click("button", "Mute", 30*time.Second))
		at := time.Now()
		late := time.Duration(0)
		for _, hrd := range listenFor(t, b, 1500*time.Millisecond) {
			if hrd.Power[0] > floor || hrd.Power[1] > floor {
				late = max(late, hrd.At.Sub(at))
			}
		}
		sent := time.Duration(0)
		if parrot != nil {
			sent = parrot.lastOf(0).Sub(at)
		}
		must(t, a.Click("button", "Unmute", 30*time.Second))
		t.Logf("after Ada pressed mute, Brian's page played her for %v, the bot heard her for %v", late, sent)
		if late > 500*time.Millisecond || sent > 100*time.Millisecond {
			return fmt.Errorf("after Ada pressed mute, Brian's page played her for %v, want 500ms at most; the bot heard her for %v, want 100ms at most", late, sent)
		}
		return nil
	})
	awaitTone(t, b, "Brian", 0)

	// The page gets its voice socket back by itself, and nobody hears it.
	inOneOf(t, 5, func() error {
		gap := make(chan time.Duration, 1)
		go func() { gap <- longestGap(listenFor(t, b, 3*time.Second), 0) }()
		for deadline := time.Now().Add(20 * time.Second); ; {
			n, err := ears.Cut(a, "v=8")
			must(t, err)
			if n == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("Ada's page has %d voice sockets", n)
			}
		}
		if g := <-gap; g > 350*time.Millisecond { // 200 ms of it are the voice's own pauses
			return fmt.Errorf("Brian did not hear Ada for %v while her voice socket was away", g)
		}
		return nil
	})
	must(t, a.Click("button", "Leave call", 30*time.Second))
	must(t, b.Wait("button", "Leave call", 30*time.Second))
	deadline := time.Now().Add(5 * time.Second)
	for {
		there, err := b.Has("listitem", "Ada")
		must(t, err)
		if !there || time.Now().After(deadline) {
			if there {
				t.Error("Brian still sees Ada in the channel after she left")
			}
			break
		}
	}
}

// TestEchoChannel: whoever is alone can hear how they sound.
func TestEchoChannel(t *testing.T) {
	h := startUp(t, "")
	a := visit(t, ada, h.page("/invite/"+h.invite), "")
	must(t, a.Click("button", "Join voice channel Echo test", 30*time.Second))
	awaitTone(t, a, "Ada", 0)
}
