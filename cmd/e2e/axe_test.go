package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"voicefleet/cmd/internal/chromium"
)

// axe is the accessibility checker, as npm installs it beside the page's sources.
const axe = "../../textchat/web/node_modules/axe-core/axe.min.js"

// axeSource is the checker's script; npm installs it when it is not there yet.
func axeSource(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(axe); err != nil {
		if _, err := exec.LookPath("npm"); err != nil {
			t.Skip("npm is not installed")
		}
		npm := exec.Command("npm", "ci", "--silent", "--no-audit", "--no-fund")
		npm.Dir = "../../textchat/web"
		if out, err := npm.CombinedOutput(); err != nil {
			t.Fatalf("npm ci in textchat/web: %v: %s", err, out)
		}
	}
	script, err := os.ReadFile(axe)
	must(t, err)
	return string(script)
}

// examine runs axe on what is shown now and reports every fault that it calls
// serious or worse.
func examine(t *testing.T, p *chromium.Page, source, what string) {
	t.Helper()
	for _, theme := range []string{"light", "dark"} {
		// Colours in motion have no contrast to speak of: they are given time to rest.
		must(t, p.Eval(fmt.Sprintf(`(async () => {
			document.documentElement.dataset.theme = %q;
			for (let still = 0; still < 3; still++) { // one motion may bring about the next
				await new Promise(requestAnimationFrame);
				const moving = document.getAnimations().filter((a) => a.playState === 'running' && a.effect.getTiming().iterations === 1);
				if (moving.length) still = -1;
				await Promise.all(moving.map((a) => a.finished.catch(() => {})));
			}
		})()`, theme), nil))
		var has bool
		must(t, p.Eval(`typeof axe === 'object'`, &has))
		if !has {
			must(t, p.Eval(source, nil))
		}
		var faults []struct{ ID, Impact, Help, Where string }
		must(t, p.Eval(`axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations
			.filter((v) => v.impact === 'serious' || v.impact === 'critical')
			.flatMap((v) => v.nodes.map((n) => ({ id: v.id, impact: v.impact, help: v.help, where: n.html.slice(0, 200) + ' ' + (n.any[0]?.message ?? n.all[0]?.message ?? n.none[0]?.message ?? '') }))))`, &faults))
		for _, f := range faults {
			t.Errorf("%s, %s: %s: %s (%s) at %s", what, theme, f.Impact, f.Help, f.ID, f.Where)
		}
	}
}

// TestAccessible: no page, panel or dialog has a serious fault, by day and by
// night, in a wide window and on a phone.
func TestAccessible(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	h := startUp(t, "")
	owner := h.await(`/owner/([A-Za-z0-9_-]+)`)

	guest := visit(t, ada, h.page("/invite/"+h.invite), "")
	write(t, guest, "general", "Hello **all**, see https://example.org and `code`")
	write(t, guest, "general", "> quoted\n\n```go\nx := 1\n```\n- one\n- ||two||")

	p, err := chromium.Start(t.Context(), chromium.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(p.Close)
	for _, place := range []struct{ path, shows, what string }{
		{"/invite/" + h.invite, "Join", "an invitation"},
		{"/", "Log in", "the door"},
		{"/owner/" + owner, "Take it", "the owner's door"},
	} {
		must(t, p.Open(h.page(place.path)))
		must(t, p.Wait("button", place.shows, 30*time.Second))
		examine(t, p, source, place.what)
	}
	must(t, p.Type("textbox", "Username", "marina", 30*time.Second))
	must(t, p.Type("textbox", "Password", "very long secret", 30*time.Second))
	must(t, p.Click("button", "Take it", 30*time.Second))
	read(t, p, "Ada: Hello all, see https://example.org and code")
	tool(t, p, "Ada: Hello all, see https://example.org and code", "React to message: Hello all, see https://example.org and c")
	must(t, p.Wait("searchbox", "Find an emoji", 30*time.Second))
	examine(t, p, source, "the emoji")
	must(t, p.Click("button", "🎉 party tada", 30*time.Second))
	must(t, p.Wait("button", "🎉, 1", 30*time.Second))
	tool(t, p, "Ada: Hello all, see https://example.org and code", "Reply to message: Hello all, see https://example.org and c")
	write(t, p, "general", "Welcome @Ada ")
	read(t, p, "marina: Welcome @Ada")
	examine(t, p, source, "the chat")
	must(t, p.Type("textbox", "Message general", "and @a", 30*time.Second))
	must(t, p.Wait("listbox", "Names", 30*time.Second))
	examine(t, p, source, "names offered")
	tool(t, p, "marina: Welcome @Ada", "Edit message: Welcome @Ada")
	examine(t, p, source, "a message being edited")
	must(t, p.Click("button", "Cancel", 30*time.Second))
	tool(t, p, "marina: Welcome @Ada", "Delete message: Welcome @Ada")
	must(t, p.Wait("alertdialog", "Delete this message?", 30*time.Second))
	examine(t, p, source, "a question")
	must(t, p.Click("button", "Cancel", 30*time.Second))

	// A thread on a message: who began it writes there, the other finds it and answers.
	tool(t, p, "marina: Welcome @Ada", "Begin a thread on message: Welcome @Ada")
	must(t, p.Wait("dialog", "Threads of general", 30*time.Second))
	must(t, p.Type("textbox", "Name of the thread", "harbour", 30*time.Second))
	examine(t, p, source, "the threads")
	must(t, p.Click("button", "Begin thread", 30*time.Second))
	write(t, p, "harbour", "Only in the thread")
	must(t, guest.Click("button", "Open thread harbour", 30*time.Second))
	read(t, guest, "marina: Only in the thread")
	must(t, guest.Click("button", "Follow", 30*time.Second))
	must(t, guest.Wait("button", "Following", 30*time.Second))
	write(t, guest, "harbour", "An answer")
	read(t, p, "Ada: An answer")
	examine(t, p, source, "a thread")
	must(t, guest.Click("button", "Back to general", 30*time.Second))
	gone(t, guest, "article", "Ada: An answer")
	write(t, p, "harbour", "More of it")
	must(t, guest.Click("button", "Thread harbour, unread", 30*time.Second))
	read(t, guest, "marina: More of it")
	must(t, p.Click("button", "Close thread", 30*time.Second))
	gone(t, guest, "textbox", "Message harbour")
	must(t, p.Click("button", "Back to general", 30*time.Second))
	must(t, guest.Click("button", "Text channel general", 30*time.Second))
	must(t, guest.Click("button", "Threads", 30*time.Second))
	must(t, guest.Wait("list", "Closed threads", 30*time.Second))
	examine(t, guest, source, "a closed thread in the list")
	must(t, guest.Click("button", "Close Threads of general", 30*time.Second))

	must(t, p.Click("button", "Pinned messages", 30*time.Second))
	must(t, p.Wait("dialog", "Pinned messages", 30*time.Second))
	examine(t, p, source, "what is pinned")
	must(t, p.Click("button", "Close Pinned messages", 30*time.Second))
	must(t, p.Click("button", "Settings", 30*time.Second))
	must(t, p.Wait("dialog", "Settings", 30*time.Second))
	examine(t, p, source, "the settings")
	must(t, p.Click("button", "Close Settings", 30*time.Second))

	// What the owner changes in the community is there for all.
	must(t, p.Click("button", "Community settings", 30*time.Second))
	examine(t, p, source, "about the community")
	must(t, p.Click("tab", "Channels", 30*time.Second))
	must(t, p.Click("button", "New channel", 30*time.Second))
	must(t, p.Type("textbox", "Name of the channel", "plans", 30*time.Second))
	must(t, p.Click("button", "Make channel", 30*time.Second))
	must(t, guest.Wait("button", "Text channel plans", 30*time.Second))
	must(t, p.Click("button", "Edit channel plans", 30*time.Second))
	must(t, p.Click("switch", "Only some roles may write in it", 30*time.Second))
	examine(t, p, source, "a channel being edited")
	must(t, p.Click("button", "Save", 30*time.Second))
	must(t, p.Click("tab", "Roles", 30*time.Second))
	must(t, p.Click("button", "New role", 30*time.Second))
	must(t, p.Wait("textbox", "Name of the role", 30*time.Second))
	must(t, p.Click("switch", "Listed apart among the members", 30*time.Second))
	must(t, p.Click("switch", "Colour of names", 30*time.Second))
	examine(t, p, source, "a role being edited")
	must(t, p.Click("button", "Save", 30*time.Second))
	gone(t, p, "textbox", "Name of the role")
	must(t, p.Click("tab", "Invites", 30*time.Second))
	must(t, p.Click("button", "Make and copy", 30*time.Second))
	must(t, p.Wait("button", "Revoke invite "+h.invite, 30*time.Second))
	examine(t, p, source, "invites")
	must(t, p.Click("tab", "Bans", 30*time.Second))
	examine(t, p, source, "bans")
	must(t, p.Click("button", "Close Community settings", 30*time.Second))

	// What is written in a channel that one does not look at is unread until one does.
	must(t, p.Click("button", "Text channel plans", 30*time.Second))
	write(t, p, "plans", "Here are the plans")
	must(t, guest.Click("button", "Text channel plans, unread", 30*time.Second))
	read(t, guest, "marina: Here are the plans")
	must(t, guest.Wait("button", "Text channel plans", 30*time.Second))

	// A role makes whoever has it stand apart; without one Ada may not write here.
	gone(t, guest, "textbox", "Message plans")
	must(t, p.Click("button", "Ada, online, in a voice channel", 30*time.Second))
	must(t, p.Click("checkbox", "New role", 30*time.Second))
	examine(t, p, source, "a person")
	must(t, guest.Wait("list", "New role", 30*time.Second))
	must(t, p.Click("button", "Close Ada", 30*time.Second))

	// What is taken away is gone for all, after it was asked whether it is meant.
	must(t, p.Click("button", "Community settings", 30*time.Second))
	must(t, p.Click("tab", "About", 30*time.Second))
	must(t, p.Type("textbox", "Name of the community", " and friends", 30*time.Second))
	must(t, p.Click("button", "Save", 30*time.Second))
	must(t, guest.Wait("heading", "Voicefleet and friends", 30*time.Second))
	must(t, p.Click("tab", "Roles", 30*time.Second))
	must(t, p.Click("button", "Edit role New role", 30*time.Second))
	must(t, p.Click("button", "Delete role", 30*time.Second))
	must(t, p.Wait("alertdialog", "Delete the role New role?", 30*time.Second))
	examine(t, p, source, "a question")
	must(t, p.Click("button", "Delete role", 30*time.Second))
	gone(t, guest, "list", "New role")
	must(t, p.Click("tab", "Channels", 30*time.Second))
	must(t, p.Click("button", "Edit channel plans", 30*time.Second))
	must(t, p.Click("button", "Delete channel", 30*time.Second))
	must(t, p.Wait("alertdialog", "Delete plans?", 30*time.Second))
	must(t, p.Click("button", "Delete channel", 30*time.Second))
	gone(t, guest, "button", "Text channel plans")
	must(t, p.Click("tab", "Invites", 30*time.Second))
	must(t, p.Click("button", "Revoke invite "+h.invite, 30*time.Second))
	must(t, p.Wait("alertdialog", "Revoke this invite?", 30*time.Second))
	must(t, p.Click("button", "Revoke invite", 30*time.Second))
	gone(t, p, "button", "Revoke invite "+h.invite)
	must(t, p.Click("button", "Close Community settings", 30*time.Second))

	must(t, guest.Wait("button", "Leave call", 30*time.Second))
	examine(t, guest, source, "a call")
	must(t, guest.Click("button", "Turn on camera", 30*time.Second))
	sees(t, guest, ada, "Your camera")
	examine(t, guest, source, "a call with a camera")
	must(t, guest.Click("button", "Connection", 30*time.Second))
	must(t, guest.Wait("dialog", "Connection", 30*time.Second))
	examine(t, guest, source, "the connection")
	must(t, guest.Click("button", "Close Connection", 30*time.Second))
	must(t, guest.Resize(390, 844))
	for _, part := range []string{"Voice", "Chat", "People"} {
		must(t, guest.Click("button", part, 30*time.Second))
		examine(t, guest, source, part+" on a phone")
	}
}
