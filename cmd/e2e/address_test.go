package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"voicefleet/cmd/internal/ears"
)

// TestAddressChange: the host of two pages and a bot gets another address in the
// middle of a call, as one that goes from one network to another. They go on by
// themselves.
func TestAddressChange(t *testing.T) {
	l := newLAN(t)
	h := startUp(t, l.name)
	base := fmt.Sprintf("https://%s:%d", l.server, h.port)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, fetch(fmt.Sprintf("http://%s:%d/ca.pem", l.server, h.port), ca))
	a, b := visit(t, ada, base+"/invite/"+h.invite, ca), visit(t, brian, base+"/invite/"+h.invite, ca)
	must(t, a.Click("button", "Join voice channel Lobby", 30*time.Second))
	must(t, b.Click("button", "Join voice channel Lobby", 30*time.Second))
	var g gauge
	bot := joinLobby(t, h, base, ca, "Beepo", g.heard)
	hears(t, a, "Ada", brian)
	hears(t, b, "Brian", ada)
	g.take()

	dev := l.name + "h"
	ofBrian, ofAda := gaps(t, a, b, 10*time.Second, func() {
		for _, args := range [][]string{{"addr", "del", "10.77.0.1/24", "dev", dev}, {"addr", "add", "10.77.0.9/24", "dev", dev}} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %v: %v: %s", args, err, out)
			}
		}
	})
	since := g.quiet()
	ofBoth := g.take()
	t.Logf("another address: Ada did not hear Brian for %v, Brian not Ada for %v, the bot nobody for %v (moved %d times)", ofBrian, ofAda, ofBoth, bot.Stats().Moves)
	// 200 ms of it are the voices' own pauses, nearly all the rest of the bound is for a
	// busy machine.
	if g := max(ofBrian, ofAda); g > time.Second {
		t.Errorf("the pages did not hear each other for %v", g)
	}
	if ofBoth > 3*time.Second || since > time.Second {
		t.Errorf("the bot heard nobody for %v, and last %v ago", ofBoth, since)
	}
	for _, p := range []ears.Page{a, b} { // those who speak pause, which is told
		if alive, err := ears.Alive(p, "v=8", 2*time.Second); err != nil || !alive {
			t.Errorf("a live voice socket: %v, %v", alive, err)
		}
	}
	hears(t, a, "Ada", brian)
	hears(t, b, "Brian", ada)
	must(t, b.Click("button", "Mute", 30*time.Second)) // the gateway knows them at their new address
	must(t, a.Wait("listitem", "Brian, muted", 30*time.Second))
}
