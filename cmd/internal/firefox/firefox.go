// Package firefox drives a headless Firefox over WebDriver BiDi, by the roles
// and accessible names of a page's controls. It does what one short pass
// through the page needs; package chromium is the thorough one.
package firefox

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lxzan/gws"
)

// Page is the one tab of a browser process of its own.
type Page struct {
	// Immutable.
	cmd  *exec.Cmd
	conn *gws.Conn
	tab  string
	gone chan struct{} // closed when the connection has ended

	mu sync.Mutex
	// Guarded by mu.
	next    int
	waiting map[int]chan reply
}

type reply struct {
	ID      int             `json:"id"`
	Type    string          `json:"type"`
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
}

// prefs give the browser a microphone that hums one tone, a loudspeaker even on
// a machine without one (else it runs no audio graph), and no questions.
const prefs = `user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.navigator.audio.fake_frequency", %d);
user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("media.autoplay.block-webaudio", false);
user_pref("media.cubeb.force_mock_context", true);
user_pref("app.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("services.settings.server", "http://127.0.0.1:9/");
user_pref("extensions.systemAddon.update.enabled", false);
user_pref("remote.active-protocols", 1);
`

var listening = regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)

// Start launches a browser whose microphone hums hz hertz. dir is an empty
// folder for its profile; script runs before any script of a page.
func Start(ctx context.Context, dir string, hz int, script string) (*Page, error) {
	profile := filepath.Join(dir, "profile")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		return nil, fmt.Errorf("make profile: %w", err)
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), fmt.Appendf(nil, prefs, hz), 0o600); err != nil {
		return nil, fmt.Errorf("write preferences: %w", err)
	}
	cmd := exec.CommandContext(ctx, "firefox-esr", "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", profile)
	cmd.Env = append(os.Environ(), "HOME="+dir, "MOZ_HEADLESS_WIDTH=1280", "MOZ_HEADLESS_HEIGHT=800")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start firefox: %w", err)
	}
	p := &Page{cmd: cmd, gone: make(chan struct{}), waiting: map[int]chan reply{}}
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
			}
		}
	}()
	var url string
	select {
	case url = <-found:
	case <-time.After(60 * time.Second):
		p.kill()
		return nil, fmt.Errorf("start firefox: it named no address within 60 s")
	case <-ctx.Done():
		p.kill()
		return nil, ctx.Err()
	}
	p.conn, _, err = gws.NewClient(&handler{p: p}, &gws.ClientOption{Addr: url + "/session"})
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("connect to firefox: %w", err)
	}
	go p.conn.ReadLoop()
	if err := p.begin(script); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Page) begin(script string) error {
	if err := p.call("session.new", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}}, nil); err != nil {
		return err
	}
	var tree struct{ Contexts []struct{ Context string } }
	if err := p.call("browsingContext.getTree", map[string]any{}, &tree); err != nil {
		return err
	}
	if len(tree.Contexts) == 0 {
		return fmt.Errorf("firefox has no tab")
	}
	p.tab = tree.Contexts[0].Context
	return p.call("script.addPreloadScript", map[string]any{"functionDeclaration": "() => {" + script + "}"}, nil)
}

type handler struct {
	gws.BuiltinEventHandler
	p *Page
}

func (h *handler) OnClose(*gws.Conn, error) { close(h.p.gone) }

func (h *handler) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	var r reply
	if json.Unmarshal(m.Bytes(), &r) != nil || r.ID == 0 {
		return
	}
	h.p.mu.Lock()
	c := h.p.waiting[r.ID]
	delete(h.p.waiting, r.ID)
	h.p.mu.Unlock()
	if c != nil {
		c <- r
	}
}

func (p *Page) call(method string, params any, into any) error {
	c := make(chan reply, 1)
	p.mu.Lock()
	p.next++
	id := p.next
	p.waiting[id] = c
	p.mu.Unlock()
	b, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	if err != nil {
		return err
	}
	if err := p.conn.WriteMessage(gws.OpcodeText, b); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case r := <-c:
		if r.Type == "error" {
			return fmt.Errorf("%s: %s: %s", method, r.Error, r.Message)
		}
		if into == nil {
			return nil
		}
		return json.Unmarshal(r.Result, into)
	case <-p.gone:
		return fmt.Errorf("%s: firefox is gone", method)
	case <-time.After(60 * time.Second):
		return fmt.Errorf("%s: no answer within 60 s", method)
	}
}

func (p *Page) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	_ = p.cmd.Wait()
}

// Close ends the browser and waits for it.
func (p *Page) Close() {
	_ = p.conn.NetConn().Close()
	p.kill()
	<-p.gone
}

// Open goes to an address and waits until the page has loaded.
func (p *Page) Open(url string) error {
	return p.call("browsingContext.navigate", map[string]any{"context": p.tab, "url": url, "wait": "complete"}, nil)
}

// Wait waits until a control of this role and name is there and gives the
// browser's handle of it.
func (p *Page) Wait(role, name string, within time.Duration) (string, error) {
	deadline := time.Now().Add(within)
	for {
		var found struct {
			Nodes []struct {
				SharedID string `json:"sharedId"`
			} `json:"nodes"`
		}
		err := p.call("browsingContext.locateNodes", map[string]any{
			"context": p.tab, "locator": map[string]any{"type": "accessibility", "value": map[string]any{"role": role, "name": name}},
		}, &found)
		if err == nil && len(found.Nodes) > 0 {
			return found.Nodes[0].SharedID, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no %s %q within %v (%v)", role, name, within, err)
		}
		time.Sleep(50 * time.Millisecond) // between looks; the deadline decides
	}
}

// Click presses a control with the mouse, once it is there.
func (p *Page) Click(role, name string, within time.Duration) error {
	id, err := p.Wait(role, name, within)
	if err != nil {
		return err
	}
	return p.call("input.performActions", map[string]any{"context": p.tab, "actions": []any{map[string]any{
		"type": "pointer", "id": "mouse", "actions": []any{
			map[string]any{"type": "pointerMove", "x": 0, "y": 0, "origin": map[string]any{"type": "element", "element": map[string]any{"sharedId": id}}},
			map[string]any{"type": "pointerDown", "button": 0},
			map[string]any{"type": "pointerUp", "button": 0},
		},
	}}}, nil)
}

// Type clicks a text field and types into it.
func (p *Page) Type(role, name, text string, within time.Duration) error {
	if err := p.Click(role, name, within); err != nil {
		return err
	}
	var keys []any
	for _, r := range text {
		keys = append(keys, map[string]any{"type": "keyDown", "value": string(r)}, map[string]any{"type": "keyUp", "value": string(r)})
	}
	return p.call("input.performActions", map[string]any{"context": p.tab, "actions": []any{map[string]any{"type": "key", "id": "keys", "actions": keys}}}, nil)
}

// Eval runs an expression in the page and decodes its value as JSON into
// into, which may be nil.
func (p *Page) Eval(js string, into any) error {
	var out struct {
		Type   string `json:"type"`
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		ExceptionDetails struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	err := p.call("script.evaluate", map[string]any{
		"expression": "Promise.resolve(" + js + ").then(v => JSON.stringify(v ?? null))", "awaitPromise": true,
		"target": map[string]any{"context": p.tab},
	}, &out)
	if err != nil {
		return err
	}
	if out.Type == "exception" {
		return fmt.Errorf("script %.60s: %s", strings.TrimSpace(js), out.ExceptionDetails.Text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal([]byte(out.Result.Value), into)
}
