package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"voicefleet/cmd/internal/ears"
)

// TestAddressChange: the host of two pages and a bot gets another address in the
// middle of a call, as one that goes from one network to another. They go on by
// themselves, within 1 s, ten times where VOICEFLEET_CLOSED says that the machine has
// time for it.
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

	rounds, ofABot := 1, 3*time.Second
	if os.Getenv("VOICEFLEET_CLOSED") != "" {
		rounds, ofABot = 10, time.Second
	}
	dev := l.name + "h"
	var pages, bots []time.Duration
	for round := range rounds {
		was, is := fmt.Sprintf("10.77.0.%d/24", 1+8*(round%2)), fmt.Sprintf("10.77.0.%d/24", 9-8*(round%2))
		ofBrian, ofAda := gaps(t, a, b, 10*time.Second, func() {
			for _, args := range [][]string{{"addr", "del", was, "dev", dev}, {"addr", "add", is, "dev", dev}} {
				if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
					t.Errorf("ip %v: %v: %s", args, err, out)
				}
			}
		})
		since := g.quiet()
		ofBoth := g.take()
		t.Logf("another address: Ada did not hear Brian for %v, Brian not Ada for %v, the bot nobody for %v (moved %d times)", ofBrian, ofAda, ofBoth, bot.Stats().Moves)
		pages, bots = append(pages, ofBrian, ofAda), append(bots, ofBoth)
		if since > time.Second {
			t.Errorf("the bot heard somebody last %v ago", since)
		}
	}
	// 200 ms of it are the voices' own pauses, nearly all the rest of the bound is for a
	// busy machine.
	var f figures
	f.add("page, another address of its host: gap", pages, 0.99, time.Second)
	f.add("Go client, another address of its host: gap", bots, 0.99, ofABot)
	f.judge(t)
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
