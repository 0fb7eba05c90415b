package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// TestLargeGuildOnThePage: of a large community the page is told what it looks at, and
// shows its members as they come and go.
func TestLargeGuildOnThePage(t *testing.T) {
	h := startUp(t, "", "--large-guild", "2")
	for _, name := range []string{"Cleo", "Dora"} {
		body, err := json.Marshal(map[string]any{"invite": h.invite, "nickname": name})
		must(t, err)
		answer, err := http.Post(h.page("/api/v10/auth/guest"), "application/json", bytes.NewReader(body))
		must(t, err)
		must(t, answer.Body.Close())
	}
	url := h.page("/invite/" + h.invite)
	a, b := visit(t, ada, url, ""), visit(t, brian, url, "")
	must(t, a.Wait("button", "Ada, you, online, in a voice channel", 30*time.Second))
	must(t, a.Wait("button", "Brian, online, in a voice channel", 30*time.Second))
	must(t, a.Wait("button", "Cleo, offline", 30*time.Second))
	must(t, b.Wait("button", "Ada, online, in a voice channel", 30*time.Second))

	write(t, a, "general", "Hello")
	read(t, b, "Ada: Hello")
	must(t, b.Open("about:blank"))
	must(t, a.Wait("button", "Brian, offline", 30*time.Second))
	must(t, b.Open(h.page("/")))
	must(t, a.Wait("button", "Brian, online", 30*time.Second))
	read(t, b, "Ada: Hello")
	write(t, b, "general", "I am back")
	read(t, a, "Brian: I am back")
}
