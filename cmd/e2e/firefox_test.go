package e2e

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"voicefleet/cmd/internal/ears"
	"voicefleet/cmd/internal/firefox"
)

// TestFirefox is one short pass: Firefox and Chromium hear and see each other.
func TestFirefox(t *testing.T) {
	if _, err := exec.LookPath("firefox-esr"); err != nil {
		t.Skip("firefox-esr is not installed")
	}
	const hum = 1010 // the tone of its microphone, Brian's first one
	h := startUp(t, "")
	f, err := firefox.Start(context.Background(), t.TempDir(), hum, ears.Script)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	must(t, f.Open(h.page("/invite/"+h.invite)))
	must(t, f.Type("textbox", "Nickname", "Fenja", 30*time.Second))
	must(t, f.Click("button", "Join", 30*time.Second))
	must(t, f.Click("button", "Join voice channel Lobby", 30*time.Second))
	must(t, ears.Listen(f, ada.tones[0], ada.tones[1], brian.tones[0], brian.tones[1]))

	a := visit(t, ada, h.page("/invite/"+h.invite), "")
	must(t, a.Click("button", "Join voice channel Lobby", 30*time.Second))
	awaitTone(t, a, "Ada", 2)
	hears(t, f, "Fenja", ada)
	must(t, a.Wait("listitem", "Fenja, speaking", 30*time.Second))

	must(t, a.Click("button", "Turn on camera", 30*time.Second))
	sees(t, f, ada, "Camera of Ada")
	must(t, f.Click("button", "Turn on camera", 30*time.Second))
	moves(t, a, "Camera of Fenja")
}
