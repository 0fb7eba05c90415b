// Package chromium drives a headless Chromium by what a person can see and
// hear: controls are found by role and accessible name through the browser's
// own accessibility tree, and what the page plays is measured beside it. It
// knows nothing of how a page is built.
package chromium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Options are how a browser is started.
type Options struct {
	// Dir is an empty folder for its profile and home. Required.
	Dir string
	// Microphone is a WAV file that plays, looped, in place of a microphone.
	Microphone string
	// Camera is a y4m file that is shown, looped, in place of a camera.
	Camera string
	// TrustCA is a PEM file of a certificate authority to trust, put where a
	// person's "trust this authority" would put it.
	TrustCA string
	// Script runs before any script of a page.
	Script string
}

// Page is one tab of one browser process of its own.
type Page struct {
	ctx    context.Context
	cancel []context.CancelFunc
}

// Start launches a browser with one blank tab. Close ends it.
func Start(ctx context.Context, o Options) (*Page, error) {
	home := filepath.Join(o.Dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make browser home: %w", err)
	}
	if o.TrustCA != "" {
		if err := trust(home, o.TrustCA); err != nil {
			return nil, err
		}
	}
	opts := []chromedp.ExecAllocatorOption{
		chromedp.Flag("headless", true), chromedp.Flag("no-sandbox", true), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("use-fake-ui-for-media-stream", true), chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		// Two browsers on a small machine: the one behind must not be throttled.
		chromedp.Flag("disable-background-timer-throttling", true), chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.UserDataDir(filepath.Join(o.Dir, "profile")),
		chromedp.WindowSize(1280, 800),
		chromedp.Env("HOME=" + home),
		chromedp.WSURLReadTimeout(60 * time.Second),
	}
	if o.Microphone != "" {
		opts = append(opts, chromedp.Flag("use-file-for-fake-audio-capture", o.Microphone))
	}
	if o.Camera != "" {
		opts = append(opts, chromedp.Flag("use-file-for-fake-video-capture", o.Camera))
	}
	actx, acancel := chromedp.NewExecAllocator(ctx, opts...)
	tctx, tcancel := chromedp.NewContext(actx)
	p := &Page{ctx: tctx, cancel: []context.CancelFunc{tcancel, acancel}}
	if err := p.setUp(o); err != nil {
		p.Close()
		return nil, fmt.Errorf("start chromium: %w", err)
	}
	return p, nil
}

func (p *Page) setUp(o Options) error {
	if err := chromedp.Do(p.ctx); err != nil { // begins the browser
		return err
	}
	if _, err := chromedp.Call(p.ctx, accessibility.Enable, cdp.Empty{}); err != nil {
		return err
	}
	_, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: o.Script})
	return err
}

// trust puts an authority into the store that Chromium reads on Linux.
func trust(home, ca string) error {
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		return fmt.Errorf("make certificate store: %w", err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password", "-d", "sql:" + db},
		{"-A", "-d", "sql:" + db, "-n", "voicefleet", "-t", "C,,", "-i", ca},
	} {
		if out, err := exec.Command("certutil", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("certutil %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// Close ends the browser and waits for it.
func (p *Page) Close() {
	_ = chromedp.Cancel(p.ctx)
	for _, c := range p.cancel {
		c()
	}
}

// Open goes to an address and waits until the page has loaded. When an interface
// of the host came or went meanwhile, it loads it again, as a person would.
func (p *Page) Open(url string) error {
	for tries := 0; ; tries++ {
		err := chromedp.Do(p.ctx, chromedp.Navigate(url))
		if err == nil {
			return nil
		}
		if tries == 5 || !strings.Contains(err.Error(), "ERR_NETWORK_CHANGED") {
			return fmt.Errorf("open %s: %w", url, err)
		}
	}
}

// Has says whether a control of this role and accessible name is there now.
func (p *Page) Has(role, name string) (bool, error) {
	id, err := p.find(role, name)
	return id != 0, err
}

// Value is the number that a control of this role and name shows; false: there is none now.
func (p *Page) Value(role, name string) (value float64, there bool, err error) {
	n, err := p.node(role, name)
	if n == nil || n.Value == nil || err != nil {
		return 0, false, err
	}
	return value, true, json.Unmarshal(n.Value.Value, &value)
}

// SlowUploads has requests to URLs of a pattern (that of URLPattern, with its host) be sent
// at so many bytes a second, until it is called again; zero: as fast as can be.
func (p *Page) SlowUploads(pattern string, rate float64) error {
	var rules []*network.Conditions
	if rate > 0 {
		rules = []*network.Conditions{{URLPattern: pattern, DownloadThroughput: -1, UploadThroughput: rate}}
	}
	if _, err := chromedp.Call(p.ctx, network.Enable, network.EnableParams{}); err != nil {
		return fmt.Errorf("slow uploads: %w", err)
	}
	if _, err := chromedp.Call(p.ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: rules}); err != nil {
		return fmt.Errorf("slow uploads: %w", err)
	}
	return nil
}

func (p *Page) find(role, name string) (cdp.BackendNodeID, error) {
	n, err := p.node(role, name)
	if n == nil || err != nil {
		return 0, err
	}
	return n.BackendDOMNodeID, nil
}

// node is nil when there is none.
func (p *Page) node(role, name string) (*accessibility.Node, error) {
	doc, err := chromedp.Call(p.ctx, dom.GetDocument, dom.GetDocumentParams{})
	if err != nil {
		return nil, err
	}
	res, err := chromedp.Call(p.ctx, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{
		BackendNodeID: doc.Root.BackendNodeID, AccessibleName: name, Role: role,
	})
	if err != nil {
		return nil, err
	}
	for _, n := range res.Nodes {
		if !n.Ignored && n.BackendDOMNodeID != 0 {
			return n, nil
		}
	}
	return nil, nil
}

// ErrAbsent is what waiting for a control ends with when it does not come.
var ErrAbsent = errors.New("control did not appear")

// Wait waits until a control of this role and name is there.
func (p *Page) Wait(role, name string, within time.Duration) error {
	_, err := p.wait(role, name, within)
	return err
}

func (p *Page) wait(role, name string, within time.Duration) (cdp.BackendNodeID, error) {
	deadline := time.Now().Add(within)
	var last error
	for {
		id, err := p.find(role, name)
		if id != 0 {
			return id, nil
		}
		if err != nil {
			last = err // a page that is just being replaced has no tree for a moment
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%w: %s %q within %v (%v); there are: %s", ErrAbsent, role, name, within, last, p.Names())
		}
		select {
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Names lists the named controls of the page, for messages.
func (p *Page) Names() string {
	res, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	for _, n := range res.Nodes {
		if n.Ignored || n.Name == nil || n.Role == nil || len(n.Name.Value) <= 2 {
			continue
		}
		switch role := string(n.Role.Value); role {
		case `"InlineTextBox"`, `"StaticText"`, `"none"`:
		default:
			fmt.Fprintf(&out, "%s %s; ", role, n.Name.Value)
		}
		if out.Len() > 3000 {
			break
		}
	}
	return out.String()
}

// Click presses the control with the mouse, once it is there.
func (p *Page) Click(role, name string, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		id, err := p.wait(role, name, time.Until(deadline))
		if err != nil {
			return err
		}
		err = p.clickNode(id)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("click %s %q: %w", role, name, err)
		}
	}
}

// clickNode presses a control, and makes sure that it was hit: as a page is busy it may
// move after it stood still, and a person would press again.
func (p *Page) clickNode(id cdp.BackendNodeID) error {
	node, err := chromedp.Call(p.ctx, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: id})
	if err != nil {
		return err
	}
	target := node.Object.ObjectID
	if _, err := p.call(target, `function() { this.clicked = false; this.addEventListener('click', () => { this.clicked = true }, { once: true, capture: true }) }`); err != nil {
		return err
	}
	if _, err := chromedp.Call(p.ctx, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: id}); err != nil {
		return err
	}
	q, err := p.settled(id)
	if err != nil {
		return err
	}
	ev := input.DispatchMouseEventParams{
		X: (q[0] + q[2] + q[4] + q[6]) / 4, Y: (q[1] + q[3] + q[5] + q[7]) / 4,
		Button: input.MouseButtonLeft, ClickCount: 1,
	}
	for _, ev.Type = range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
		if _, err := chromedp.Call(p.ctx, input.DispatchMouseEvent, ev); err != nil {
			return err
		}
	}
	if hit, err := p.call(target, `function() { return this.clicked === true }`); err == nil && !hit {
		return errors.New("control has moved away, or takes no clicks")
	}
	return nil // or its document has gone, by the click
}

// call calls a function of an object, and says whether it returned true.
func (p *Page) call(object runtime.RemoteObjectID, function string) (bool, error) {
	yes := true
	res, err := chromedp.Call(p.ctx, runtime.CallFunctionOn, runtime.CallFunctionOnParams{ObjectID: object, FunctionDeclaration: function, ReturnByValue: &yes})
	return err == nil && string(res.Result.Value) == "true", err
}

// settled is where a control is once it stands still: one that is still moving
// into place would be missed.
func (p *Page) settled(id cdp.BackendNodeID) (dom.Quad, error) {
	var last dom.Quad
	for range 100 {
		res, err := chromedp.Call(p.ctx, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: id})
		if err != nil {
			return nil, err
		}
		if len(res.Quads) == 0 || len(res.Quads[0]) != 8 {
			return nil, errors.New("control has no area")
		}
		if slices.Equal(last, res.Quads[0]) {
			return last, nil
		}
		last = res.Quads[0]
		select {
		case <-p.ctx.Done():
			return nil, p.ctx.Err()
		case <-time.After(50 * time.Millisecond): // three frames
		}
	}
	return nil, errors.New("control does not stand still")
}

// Type clicks a text field and types into it.
func (p *Page) Type(role, name, text string, within time.Duration) error {
	if err := p.Click(role, name, within); err != nil {
		return err
	}
	_, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text})
	return err
}

// Screenshot is the visible part of the page as PNG.
func (p *Page) Screenshot() ([]byte, error) {
	return chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
}

// Eval runs an expression in the page and decodes its value as JSON into into,
// which may be nil.
func (p *Page) Eval(js string, into any) error {
	yes := true
	res, err := chromedp.Call(p.ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: js, ReturnByValue: &yes, AwaitPromise: &yes})
	if err != nil {
		return err
	}
	if res.ExceptionDetails != nil {
		return fmt.Errorf("script: %s", res.ExceptionDetails.Text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(res.Result.Value, into)
}
