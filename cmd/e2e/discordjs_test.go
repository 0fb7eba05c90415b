package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDiscordJS runs the unmodified discord.js: it trusts the authority of the
// house by NODE_EXTRA_CA_CERTS, logs in as a bot and sees who is in voice.
func TestDiscordJS(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("testdata/discordjs/node_modules/discord.js"); err != nil {
		t.Skip("discord.js is not installed: run npm ci in cmd/e2e/testdata/discordjs")
	}
	h := startUp(t, "")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, fetch(h.page("/ca.pem"), ca))
	token := h.ctl("bot", "create", "Parrot", "--json")
	var bot struct{ Token string }
	if err := json.Unmarshal([]byte(token), &bot); err != nil || bot.Token == "" {
		t.Fatalf("ctl bot create says %q (%v)", token, err)
	}

	node := exec.Command("node", "check.mjs", fmt.Sprintf("https://localhost:%d/api", h.port), bot.Token)
	node.Dir = "testdata/discordjs"
	node.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	out, err := node.StdoutPipe()
	must(t, err)
	var said strings.Builder
	node.Stderr = &said
	must(t, node.Start())
	defer func() { _ = node.Process.Kill(); _ = node.Wait() }()
	lines := bufio.NewScanner(out)
	next := func() (m struct {
		Ready, Guild, Joined, Channel, Who, Left, Error string
		Channels                                        []string
		Mute                                            bool
	}) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("discord.js ended early: %s", said.String())
		}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil || m.Error != "" {
			t.Fatalf("discord.js says %s (%v)", lines.Text(), err)
		}
		return m
	}
	if m := next(); m.Ready != "Parrot" || !slices.Contains(m.Channels, "Lobby") {
		t.Fatalf("ready with %+v", m)
	}
	p := visit(t, ada, h.page("/invite/"+h.invite), "")
	must(t, p.Click("button", "Join voice channel Lobby", 5*time.Second))
	if m := next(); m.Joined != "Ada" || m.Channel != "Lobby" {
		t.Fatalf("saw %+v, want Ada joining Lobby", m)
	}
	must(t, p.Click("button", "Mute", 5*time.Second))
	if m := next(); !m.Mute || m.Who != "Ada" {
		t.Fatalf("saw %+v, want Ada muting", m)
	}
	must(t, p.Click("button", "Leave call", 5*time.Second))
	if m := next(); m.Left != "Ada" || m.Channel != "Lobby" {
		t.Fatalf("saw %+v, want Ada leaving", m)
	}
	if err := node.Wait(); err != nil {
		t.Errorf("discord.js ended with %v: %s", err, said.String())
	}
}

// ctl runs an operator's command against the house and gives what it prints.
func (h *house) ctl(args ...string) string {
	h.t.Helper()
	cmd := exec.Command(voicefleet, append([]string{"ctl", "--data", h.data}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("ctl %v: %v: %s", args, err, out)
	}
	return string(out)
}
