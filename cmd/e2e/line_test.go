package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/cmd/internal/chromium"
	"voicefleet/edgeagent"
	"voicefleet/signaling/voiceclient"
)

// alerts is what a page alerts its person to.
const alerts = `[...document.querySelectorAll('[role=alert]')].map((e) => e.innerText).join(' ')`

// alerted waits until the page tells its person something by an alert.
func alerted(t *testing.T, p *chromium.Page, what string) {
	t.Helper()
	pattern := regexp.MustCompile(what)
	for told, end := "", time.Now().Add(10*time.Second); !pattern.MatchString(told); {
		if time.Now().After(end) {
			t.Fatalf("the page does not tell %q, only %q", what, told)
		}
		must(t, p.Eval(alerts, &told))
	}
}

// TestWaitInLine: every seat of the call's node is taken. The page says where there is
// room for another call, and offers to wait; who does is in when somebody leaves.
func TestWaitInLine(t *testing.T) {
	f := startFleet(t)
	f.edge(t, "fra-1", "--max-sessions", "2")
	humming := brian
	humming.hums = true
	b := visit(t, humming, f.page("/invite/"+f.invite), "")
	must(t, b.Click("button", "Join voice channel Lobby", 30*time.Second))
	must(t, b.Wait("listitem", "Brian, speaking", 30*time.Second))
	bot := joinLobby(t, f.house, f.page(""), "", "Beepo", func(voiceclient.Packet) {})
	f.edge(t, "fra-2", "--max-sessions", "1") // has no room for all three
	for end := time.Now().Add(10 * time.Second); ; {
		nodes, err := f.calls.Nodes(t.Context())
		must(t, err)
		if slices.ContainsFunc(nodes, func(n allocator.NodeView) bool { return n.Node == "fra-2" && n.State == edgeagent.Ready }) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("fra-2 is not ready: %+v", nodes)
		}
	}

	a := visit(t, ada, f.page("/invite/"+f.invite), "")
	must(t, a.Click("button", "Join voice channel Lobby", 30*time.Second))
	alerted(t, a, `(?i)full here, room \d+ ms away on fra-2: .* you are number 1 in line`)
	must(t, a.Click("button", "Wait in line", 30*time.Second))
	alerted(t, a, `^You are number 1 in line`)
	if offered, err := a.Has("button", "Wait in line"); err != nil || offered {
		t.Errorf("who waits is offered to wait: %v, %v", offered, err)
	}
	// Somebody else would be the second, and goes away again.
	c := visit(t, voice{name: "Cleo", tones: ada.tones}, f.page("/invite/"+f.invite), "")
	must(t, c.Click("button", "Join voice channel Lobby", 30*time.Second))
	alerted(t, c, `others wait for a seat.* you are number 2 in line`)
	must(t, c.Click("button", "Leave call", 30*time.Second))
	must(t, c.Wait("button", "Join voice channel Lobby", 30*time.Second))

	left := time.Now()
	must(t, bot.Close())
	awaitTone(t, a, "Ada", 2)
	t.Logf("Ada hears Brian %v after a seat became free", time.Since(left))
	var told string
	must(t, a.Eval(alerts, &told))
	if strings.Contains(told, "in line") {
		t.Errorf("who is in is told %q", told)
	}
}
