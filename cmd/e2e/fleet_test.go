package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"voicefleet/cmd/internal/chromium"
)

// TestConsole: an operator comes in by the token, sees the node and its call, asks
// why it is there, empties the node and lets it take calls again.
func TestConsole(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	h := startUp(t, "", "--node", "fra-1")
	guest := visit(t, ada, h.page("/invite/"+h.invite), "")
	must(t, guest.Wait("button", "Leave call", 30*time.Second))

	var calls []struct{ Call string }
	for deadline := time.Now().Add(10 * time.Second); len(calls) != 1; { // the page shows the call before it is placed
		must(t, json.Unmarshal([]byte(h.ctl("calls", "--json")), &calls))
		if time.Now().After(deadline) {
			t.Fatalf("calls: %v", calls)
		}
	}
	call := calls[0].Call

	p, err := chromium.Start(t.Context(), chromium.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(p.Close)
	must(t, p.Open(h.page("/fleet")))
	must(t, p.Type("textbox", "Admin token", "not the one", 30*time.Second))
	must(t, p.Click("button", "Look", 30*time.Second))
	must(t, p.Wait("StaticText", "This token is not the one of this house.", 30*time.Second))
	examine(t, p, source, "the console's door")
	token, err := os.ReadFile(filepath.Join(h.data, "admin.token"))
	must(t, err)
	must(t, p.Type("textbox", "Admin token", strings.TrimSpace(string(token)), 30*time.Second))
	must(t, p.Click("button", "Look", 30*time.Second))

	must(t, p.Wait("button", "Drain fra-1", 30*time.Second))
	must(t, p.Wait("meter", "How full fra-1 is", 30*time.Second))
	must(t, p.Click("button", "Why call "+call+" is there", 30*time.Second))
	must(t, p.Wait("group", "Nodes that were weighed", 30*time.Second))
	examine(t, p, source, "the console")

	must(t, p.Click("button", "Drain fra-1", 30*time.Second))
	must(t, p.Wait("alertdialog", "Drain fra-1?", 30*time.Second))
	examine(t, p, source, "a question of the console")
	must(t, p.Click("button", "Drain", 30*time.Second))
	must(t, p.Click("button", "Undrain fra-1", 30*time.Second))
	must(t, p.Click("button", "Take calls", 30*time.Second))
	must(t, p.Wait("button", "Drain fra-1", 30*time.Second))
	must(t, p.Resize(390, 844))
	examine(t, p, source, "the console on a phone")
	must(t, p.Click("button", "Leave", 30*time.Second))
	must(t, p.Wait("textbox", "Admin token", 30*time.Second))
}
