package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"voicefleet/allocator"
)

// TestDiscordJS runs the unmodified discord.js: it trusts the authority of the
// house by NODE_EXTRA_CA_CERTS, logs in as a bot and sees who is in voice.
func TestDiscordJS(t *testing.T) {
	needDiscordJS(t)
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
	must(t, p.Click("button", "Join voice channel Lobby", 30*time.Second))
	if m := next(); m.Joined != "Ada" || m.Channel != "Lobby" {
		t.Fatalf("saw %+v, want Ada joining Lobby", m)
	}
	must(t, p.Click("button", "Mute", 30*time.Second))
	if m := next(); !m.Mute || m.Who != "Ada" {
		t.Fatalf("saw %+v, want Ada muting", m)
	}
	must(t, p.Click("button", "Leave call", 30*time.Second))
	if m := next(); m.Left != "Ada" || m.Channel != "Lobby" {
		t.Fatalf("saw %+v, want Ada leaving", m)
	}
	if err := node.Wait(); err != nil {
		t.Errorf("discord.js ended with %v: %s", err, said.String())
	}
}

func needDiscordJS(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("testdata/discordjs/node_modules/discord.js"); err != nil {
		t.Skip("discord.js is not installed: run npm ci in cmd/e2e/testdata/discordjs")
	}
}

// TestDiscordJSScript holds the unmodified discord.js to the common script.
func TestDiscordJSScript(t *testing.T) {
	t.Parallel()
	needDiscordJS(t)
	runScript(t, startDiscordJS)
}

func startDiscordJS(t *testing.T, base, token string, shards int) library {
	node := exec.Command("node", "script.mjs", base, token, fmt.Sprint(shards))
	node.Dir = "testdata/discordjs"
	node.Stderr = t.Output()
	in, err := node.StdinPipe()
	must(t, err)
	out, err := node.StdoutPipe()
	must(t, err)
	must(t, node.Start())
	l := &discordjsLib{node: node, in: in, events: make(chan string, eventsHeld), answers: make(chan discordjsAnswer, 1), ended: make(chan struct{})}
	go l.read(t, out)
	t.Cleanup(l.close)
	if _, err := l.answer(0); err != nil {
		t.Fatal(err)
	}
	return l
}

// discordjsLib is a discord.js in a process of its own, told by lines.
type discordjsLib struct {
	node    *exec.Cmd
	in      io.WriteCloser
	n       int
	events  chan string
	answers chan discordjsAnswer
	ended   chan struct{}
	once    sync.Once
}

type discordjsAnswer struct {
	ID                  int
	Value, Event, Error string
	Code                int
}

func (l *discordjsLib) read(t *testing.T, out io.Reader) {
	defer close(l.ended)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var a discordjsAnswer
		a.ID = -1
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Errorf("discord.js says %q: %v", lines.Text(), err)
			continue
		}
		switch {
		case a.Event != "":
			l.events <- a.Event
		case a.ID < 0:
			t.Errorf("discord.js: %s", a.Error)
		default:
			l.answers <- a
		}
	}
}

func (l *discordjsLib) answer(id int) (string, error) {
	select {
	case a := <-l.answers:
		switch {
		case a.ID != id:
			return "", fmt.Errorf("answer %d in place of %d", a.ID, id)
		case a.Code != 0:
			return "", apiError(a.Code)
		case a.Error != "":
			return "", errors.New(a.Error)
		}
		return a.Value, nil
	case <-l.ended:
		return "", errors.New("discord.js has ended")
	case <-time.After(30 * time.Second):
		return "", errors.New("discord.js does not answer")
	}
}

func (l *discordjsLib) do(verb string, args ...string) (string, error) {
	l.n++
	line, err := json.Marshal(map[string]any{"id": l.n, "verb": verb, "args": args})
	if err != nil {
		return "", err
	}
	if _, err := l.in.Write(append(line, '\n')); err != nil {
		return "", err
	}
	return l.answer(l.n)
}

func (l *discordjsLib) heard() <-chan string { return l.events }

func (l *discordjsLib) close() {
	l.once.Do(func() {
		l.in.Close()
		kill := time.AfterFunc(10*time.Second, func() { _ = l.node.Process.Kill() })
		defer kill.Stop()
		<-l.ended
		_ = l.node.Wait()
	})
}

// TestDiscordJSFollows: a stock bot in a call that moves is sent to another voice
// server, and stays in its channel.
func TestDiscordJSFollows(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("testdata/discordjs/node_modules/discord.js"); err != nil {
		t.Skip("discord.js is not installed: run npm ci in cmd/e2e/testdata/discordjs")
	}
	f := startFleet(t, "fra-1", "fra-2")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, fetch(f.page("/ca.pem"), ca))
	var bot struct{ Token string }
	must(t, json.Unmarshal([]byte(f.ctl("bot", "create", "Parrot", "--json")), &bot))
	node := exec.Command("node", "follow.mjs", fmt.Sprintf("https://localhost:%d/api", f.port), bot.Token, "Lobby")
	node.Dir = "testdata/discordjs"
	node.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	out, err := node.StdoutPipe()
	must(t, err)
	end, err := node.StdinPipe()
	must(t, err)
	var said strings.Builder
	node.Stderr = &said
	must(t, node.Start())
	defer func() { _ = node.Process.Kill(); _ = node.Wait() }()
	lines := bufio.NewScanner(out)
	type line struct {
		Asked, Endpoint, Token, State, Error string
		Move                                 *struct{ From, To, Cause string }
	}
	next := func() (l line) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("discord.js ended early: %s", said.String())
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil || l.Error != "" {
			t.Fatalf("discord.js says %s (%v)", lines.Text(), err)
		}
		return l
	}
	if l := next(); l.Asked != "Lobby" {
		t.Fatalf("began with %+v", l)
	}
	if l := next(); l.State != "in" {
		t.Fatalf("not let in: %+v", l)
	}
	first := next()
	if first.Endpoint == "" || first.Token == "" || first.Move != nil {
		t.Fatalf("sent to %+v", first)
	}
	call := f.call(t)
	moved, err := f.calls.Move(t.Context(), allocator.MoveRequest{Call: call.Call, Cause: allocator.CauseRebalance, By: "e2e"})
	must(t, err)
	l := next()
	if l.Token == "" || l.Token == first.Token || l.Endpoint == "" || l.Move == nil || l.Move.From != string(call.Node) || l.Move.To != string(moved.Node) || l.Move.Cause != "rebalance" {
		t.Fatalf("after the move to %s: %+v", moved.Node, l)
	}
	must(t, end.Close())
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
