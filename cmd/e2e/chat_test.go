package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"voicefleet/cmd/internal/chromium"
)

// again starts a house anew that was killed: the same ports, the same data.
func (h *house) again(t *testing.T) {
	t.Helper()
	<-h.done
	h.program = start(t, "", "up", "--port", fmt.Sprint(h.port), "--media-port", fmt.Sprint(h.media), "--data", h.data)
	h.await(`/invite/([A-Za-z0-9_-]+)`)
}

// write says something on the page.
func write(t *testing.T, p *chromium.Page, channel, text string) {
	t.Helper()
	must(t, p.Type("textbox", "Message "+channel, text, 30*time.Second))
	must(t, p.Click("button", "Send message", 30*time.Second))
}

// read waits until a message is shown.
func read(t *testing.T, p *chromium.Page, message string) {
	t.Helper()
	must(t, p.Wait("article", message, 30*time.Second))
}

// gone waits until a control is no longer there.
func gone(t *testing.T, p *chromium.Page, role, name string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		there, err := p.Has(role, name)
		if err == nil && !there {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %q is still there after 10 s (%v)", role, name, err)
		}
	}
}

// tool presses what can be done with a message.
func tool(t *testing.T, p *chromium.Page, message, button string) {
	t.Helper()
	must(t, p.Click("article", message, 30*time.Second))
	must(t, p.Click("button", button, 30*time.Second))
}

// progresses waits until a slow upload is shown on its way, and further on then.
func progresses(t *testing.T, p *chromium.Page) {
	t.Helper()
	must(t, p.Wait("button", "Stop the upload", 30*time.Second))
	var seen []float64
	for deadline := time.Now().Add(30 * time.Second); len(seen) < 3; {
		share, there, err := p.Value("progressbar", "Upload")
		must(t, err)
		switch {
		case !there || time.Now().After(deadline):
			t.Fatalf("the upload was shown to be at %v, and then no more (%v)", seen, there)
		case share > 0 && share < 1 && (len(seen) == 0 || share > seen[len(seen)-1]):
			seen = append(seen, share)
		case share < 0 || share > 1 || len(seen) > 0 && share < seen[len(seen)-1]:
			t.Fatalf("the upload was shown to be at %v, then at %v", seen, share)
		}
	}
}

// TestTwoPeopleWrite: what one writes, answers, edits, attaches and deletes the
// other sees, and what one thinks of it;
// a killed server costs no message and doubles none; a reload leads back.
func TestTwoPeopleWrite(t *testing.T) {
	t.Parallel()
	h := startUp(t, "")
	url := h.page("/invite/" + h.invite)
	a, b := visit(t, ada, url, ""), visit(t, brian, url, "")

	must(t, a.Type("textbox", "Message general", "Hello", 30*time.Second))
	must(t, b.Wait("StaticText", "Ada is writing…", 30*time.Second))
	must(t, a.Click("button", "Send message", 30*time.Second))
	read(t, b, "Ada: Hello")

	tool(t, b, "Ada: Hello", "Reply to message: Hello")
	write(t, b, "general", "Hi **Ada**")
	read(t, a, "Brian: Hi Ada") // the marks are no words
	must(t, a.Wait("button", "In reply to Ada: Hello", 30*time.Second))

	tool(t, a, "Ada: Hello", "Edit message: Hello")
	must(t, a.Type("textbox", "Edit message", ", Brian", 30*time.Second))
	must(t, a.Click("button", "Save", 30*time.Second))
	read(t, b, "Ada: Hello, Brian")
	gone(t, b, "article", "Ada: Hello")

	tool(t, b, "Brian: Hi Ada", "Delete message: Hi Ada")
	must(t, b.Click("button", "Cancel", 30*time.Second))
	gone(t, b, "alertdialog", "Delete this message?")
	read(t, a, "Brian: Hi Ada")
	tool(t, b, "Brian: Hi Ada", "Delete message: Hi Ada")
	must(t, b.Click("button", "Delete message", 30*time.Second))
	gone(t, a, "article", "Brian: Hi Ada")

	// A reaction of the one is counted for the other, who adds to it and takes it back.
	tool(t, b, "Ada: Hello, Brian", "React to message: Hello, Brian")
	must(t, b.Type("searchbox", "Find an emoji", "party", 30*time.Second))
	must(t, b.Click("button", "🎉 party tada", 30*time.Second))
	must(t, a.Click("button", "🎉, 1", 30*time.Second))
	must(t, b.Wait("button", "🎉, 2", 30*time.Second))
	must(t, a.Click("button", "🎉, 2", 30*time.Second))
	must(t, b.Click("button", "🎉, 1", 30*time.Second))
	gone(t, a, "group", "Reactions")

	// Two files go with a message: how far they are is shown, and then no more; a picture is
	// shown, the other can be fetched. At this rate they would take 8 s.
	must(t, a.Eval(`new Promise((done) => document.createElement('canvas').toBlob((png) => {
		const chosen = new DataTransfer(), field = document.querySelector('input[type=file][aria-label="Attach files"]');
		chosen.items.add(new File([png], 'dawn.png', { type: 'image/png' }));
		chosen.items.add(new File(['ahoy\n'.repeat(100000)], 'log book.txt', { type: 'text/plain' }));
		field.files = chosen.files;
		field.dispatchEvent(new Event('change', { bubbles: true }));
		done(true);
	}))`, nil))
	must(t, a.Wait("button", "Remove log book.txt", 30*time.Second))
	must(t, a.SlowUploads(h.page("/api/v10/channels/*/messages"), 64<<10))
	write(t, a, "general", "The harbour")
	progresses(t, a)
	must(t, a.SlowUploads("", 0))
	read(t, b, "Ada: The harbour, dawn.png, log book.txt")
	read(t, a, "Ada: The harbour, dawn.png, log book.txt")
	gone(t, a, "progressbar", "Upload")
	gone(t, a, "button", "Stop the upload")
	must(t, b.Wait("link", "File log book.txt, 488 KiB", 30*time.Second))
	must(t, b.Wait("link", "Picture dawn.png, open it in full", 30*time.Second))
	var got struct {
		Bytes, Wide int
	}
	must(t, b.Eval(`(async () => {
		const picture = document.querySelector('article img');
		await picture.decode();
		const file = await (await fetch(document.querySelector('article a[download]').href)).text();
		return { bytes: file.length, wide: picture.naturalWidth };
	})()`, &got))
	if got.Bytes != 500_000 || got.Wide != 300 {
		t.Errorf("Brian fetched a file of %d bytes and saw a picture %d pixels wide, want 500000 and 300", got.Bytes, got.Wide)
	}

	// What looks like markup is words.
	write(t, a, "general", "<img src=x onerror=alert(1)> `<b>`")
	read(t, b, "Ada: <img src=x onerror=alert(1)> <b>")

	// The server dies. What is written meanwhile goes out when it is back, once.
	h.signal(syscall.SIGKILL)
	write(t, a, "general", "Written while nobody listened")
	write(t, a, "general", "And this after it")
	read(t, a, "Ada: And this after it")
	h.again(t)
	for _, m := range []string{"Ada: Hello, Brian", "Ada: Written while nobody listened", "Ada: And this after it"} {
		read(t, b, m)
	}
	write(t, b, "general", "Here again")
	read(t, a, "Brian: Here again")
	for _, p := range []*chromium.Page{a, b} {
		var order []string
		must(t, p.Eval(`[...document.querySelectorAll('article')].map((a) => a.getAttribute('aria-label'))`, &order))
		want := []string{"Ada: Hello, Brian", "Ada: The harbour, dawn.png, log book.txt", "Ada: <img src=x onerror=alert(1)> <b>", "Ada: Written while nobody listened", "Ada: And this after it", "Brian: Here again"}
		if fmt.Sprint(order) != fmt.Sprint(want) {
			t.Errorf("after the server was killed a page shows\n%q, want\n%q", order, want)
		}
	}

	// A reload leads back to the channel, and offers the call that was left by it.
	must(t, a.Wait("button", "Leave call", 30*time.Second))
	must(t, a.Open(h.page("/")))
	read(t, a, "Brian: Here again")
	must(t, a.Click("button", "Rejoin call", 30*time.Second))
	must(t, a.Wait("button", "Leave call", 30*time.Second))

	// Whoever only loads the page anew need not press anything.
	must(t, a.Eval("window.__before = true, setTimeout(() => location.reload()), 0", nil))
	deadline := time.Now().Add(15 * time.Second)
	for anew := false; !anew; {
		_ = a.Eval("!window.__before", &anew) // fails while there is no page
		if time.Now().After(deadline) {
			t.Fatal("the page was not loaded anew")
		}
	}
	must(t, a.Wait("button", "Leave call", 30*time.Second))
}

// TestReadBack: who reads back sees the whole history, while the page holds a
// bounded part of it and what is looked at keeps its place.
func TestReadBack(t *testing.T) {
	t.Parallel()
	const writers, each = 30, 10 // what the rate of messages lets each say at once
	h := startUp(t, "")
	channel := ""
	var say sync.WaitGroup
	for i := range writers {
		var bot struct{ Token string }
		must(t, json.Unmarshal([]byte(h.ctl("bot", "create", fmt.Sprintf("Bot %d", i), "--json")), &bot))
		if channel == "" {
			channel = generalOf(t, h, bot.Token)
		}
		say.Go(func() {
			for k := range each {
				if _, err := h.rest("POST", "/channels/"+channel+"/messages", bot.Token, map[string]any{"content": fmt.Sprintf("line %d of %d\n%s", k, i, "more\n")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	say.Wait()
	p := visit(t, ada, h.page("/invite/"+h.invite), "")
	must(t, p.Wait("log", "Messages in general", 30*time.Second))
	// Up in steps. Around each fetch the end of the line at the top of the screen stays
	// where it was; its head may go, when another of the same person comes before it.
	var seen struct {
		Ids, Most int
		Moved     float64
		Top       bool
		PutBack   float64
	}
	must(t, p.Eval(`(async () => {
		const box = document.querySelector('[role=log]'), ids = new Set();
		const lines = () => [...box.querySelectorAll('article')];
		const frame = () => new Promise(requestAnimationFrame);
		let most = 0, moved = 0, still = 0;
		while (lines().length === 0) await frame();
		// Who has just gone up stays there, though the list changes its size before it is told.
		await frame();
		box.scrollTop -= 300;
		const up = box.scrollTop;
		box.style.maxHeight = box.clientHeight - 20 + 'px';
		await frame(); await frame();
		const putBack = Math.abs(box.scrollTop - up);
		box.style.maxHeight = '';
		await frame(); await frame();
		for (const until = performance.now() + 30000; performance.now() < until && still < 60;) {
			for (const a of lines()) ids.add(a.dataset.id);
			most = Math.max(most, lines().length);
			const end = (a) => a.getBoundingClientRect().bottom - box.getBoundingClientRect().top;
			const first = lines().find((a) => end(a) > 0);
			const at = end(first), by = Math.min(box.scrollTop, 300);
			box.scrollTop -= by;
			await frame(); await frame();
			if (first.isConnected && box.scrollTop > 0) moved = Math.max(moved, Math.abs(end(first) - at - by));
			still = by === 0 ? still + 1 : 0;
		}
		return { ids: ids.size, most, moved, putBack, top: !!box.querySelector('.begin strong') };
	})()`, &seen))
	if seen.Ids != writers*each || seen.Most > 200 || seen.Moved > 2 || !seen.Top {
		t.Errorf("reading back showed %d messages of %d, held %d at most (want 200), moved a line by %.1f px (want 2); the beginning was reached: %v",
			seen.Ids, writers*each, seen.Most, seen.Moved, seen.Top)
	}
	if seen.PutBack > 2 {
		t.Errorf("who went up was put back by %.1f px", seen.PutBack)
	}
	// Back to the present in one press.
	must(t, p.Click("button", "Newer messages", 30*time.Second))
	write(t, p, "general", "I have read it all")
	read(t, p, "Ada: I have read it all")
}

// rest calls the API.
func (h *house) rest(method, path, token string, body any) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, h.page("/api/v10"+path), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bot "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, res.Status, out)
	}
	return out, err
}

// generalOf is the id of the first text channel.
func generalOf(t *testing.T, h *house, token string) string {
	t.Helper()
	out, err := h.rest("GET", "/users/@me/guilds", token, nil)
	must(t, err)
	var guilds []struct{ ID string }
	must(t, json.Unmarshal(out, &guilds))
	out, err = h.rest("GET", "/guilds/"+guilds[0].ID+"/channels", token, nil)
	must(t, err)
	var channels []struct {
		ID   string
		Type int
	}
	must(t, json.Unmarshal(out, &channels))
	for _, c := range channels {
		if c.Type == 0 {
			return c.ID
		}
	}
	t.Fatal("there is no text channel")
	return ""
}
