package chatserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/balance"
)

// page reads the newest messages of a channel, newest first.
func (w *world) page(p person, channel string, limit int) (list []textchat.Message) {
	w.t.Helper()
	var r answer
	eventually(w.t, "a page is not too much asked", func() bool {
		r = w.try("GET", fmt.Sprintf("/channels/%s/messages?limit=%d", channel, limit), p.token, nil)
		return r.status != http.StatusTooManyRequests
	})
	if err := json.Unmarshal(r.raw, &list); err != nil {
		w.t.Fatalf("%v: %s", err, r.raw)
	}
	return list
}

// contents are what messages say.
func contents(list []textchat.Message) (said []string) {
	for _, m := range list {
		said = append(said, m.Content)
	}
	return said
}

// TestPagesRemembered: the newest messages of a channel are read once, and all that is
// done to them is seen by the next request, by each with its own reactions.
func TestPagesRemembered(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.pages.life = time.Hour })
	boss, ann := w.boss(), w.guest("Ann")
	general := w.channelID(ann, "general")
	path := "/channels/" + general + "/messages"
	post := func(body map[string]any) string {
		t.Helper()
		return w.do("POST", path, ann.token, body).body["id"].(string)
	}
	hits := func() float64 { return testutil.ToFloat64(w.srv.pages.hits) }
	see := func(what string, is func(list []textchat.Message) bool) {
		t.Helper()
		before := hits()
		for i, p := range []person{ann, boss, ann, ann} {
			if list := w.page(p, general, 50); !is(list) {
				t.Fatalf("%s: the %d. page is %+v", what, i+1, list)
			}
		}
		if got := hits() - before; got != 3 {
			t.Errorf("%s: of 4 pages %v were remembered, want 3", what, got)
		}
	}
	one := post(map[string]any{"content": "one"})
	see("a message", func(l []textchat.Message) bool { return l[0].Content == "one" })
	two := post(map[string]any{"content": "two", "message_reference": map[string]any{"message_id": one}})
	see("a reply", func(l []textchat.Message) bool { return l[0].Content == "two" && l[0].Referenced.Content == "one" })
	w.do("PATCH", path+"/"+one, ann.token, map[string]any{"content": "ONE"})
	see("an edit", func(l []textchat.Message) bool { return l[1].Content == "ONE" && l[0].Referenced.Content == "ONE" })
	w.do("PUT", path+"/"+two+"/reactions/👍/@me", ann.token, nil)
	for _, of := range []struct {
		p  person
		me bool
	}{{ann, true}, {boss, false}, {ann, true}} {
		if l := w.page(of.p, general, 50); len(l[0].Reactions) != 1 || l[0].Reactions[0].Me != of.me || l[0].Reactions[0].Count != 1 || len(l[1].Reactions) != 0 {
			t.Errorf("a reaction shows as %+v and %+v, want it once, and one's own: %v", l[0].Reactions, l[1].Reactions, of.me)
		}
	}
	w.do("PUT", path+"/"+one+"/reactions/👍/@me", boss.token, nil)
	see("a reaction", func(l []textchat.Message) bool { return len(l[0].Reactions) == 1 && len(l[1].Reactions) == 1 })
	w.do("DELETE", path+"/"+two+"/reactions", boss.token, nil)
	see("none", func(l []textchat.Message) bool { return len(l[0].Reactions) == 0 && len(l[1].Reactions) == 1 })
	w.do("PUT", "/channels/"+general+"/pins/"+one, boss.token, nil)
	see("a pin", func(l []textchat.Message) bool { return l[2].Pinned && l[0].Type == textchat.MessagePinned })
	w.do("DELETE", "/channels/"+general+"/pins/"+one, boss.token, nil)
	see("no pin", func(l []textchat.Message) bool { return !l[2].Pinned })
	w.do("POST", path+"/"+one+"/threads", boss.token, map[string]any{"name": "thread"})
	see("a thread", func(l []textchat.Message) bool { return l[2].Flags&textchat.FlagHasThread != 0 })
	w.do("DELETE", "/channels/"+one, boss.token, nil)
	see("no thread", func(l []textchat.Message) bool { return l[2].Flags&textchat.FlagHasThread == 0 })
	w.do("DELETE", path+"/"+one, ann.token, nil)
	see("a deletion", func(l []textchat.Message) bool { return len(l) == 2 && l[1].Content == "two" })

	// Fewer are a part of what is remembered; more are not, if there are any.
	for n := range 60 {
		post(map[string]any{"content": fmt.Sprint(n)})
	}
	w.page(ann, general, 7)
	before := hits()
	for _, limit := range []int{1, 50, 7} {
		list := w.page(boss, general, limit)
		if len(list) != limit || list[0].Content != "59" || list[limit-1].Content != fmt.Sprint(60-limit) {
			t.Errorf("of %d asked for there are %q", limit, contents(list))
		}
	}
	if got := hits() - before; got != 3 {
		t.Errorf("%v of 3 were remembered", got)
	}
	if list := w.page(boss, general, 100); len(list) != 62 || hits() != before+3 {
		t.Errorf("%d messages of 62, and %v hits", len(list), hits()-before-3)
	}
	if list := w.page(boss, general, 60); len(list) != 60 || list[59].Content != "0" || hits() != before+4 {
		t.Errorf("of 60 there are %q, and %v hits", contents(list), hits()-before-3)
	}
	// A reader who may not is not shown what is remembered, nor one who must not see it.
	w.do("PUT", "/channels/"+general+"/permissions/"+w.guildID(), boss.token, map[string]any{"type": 0, "deny": "65536"})
	if list := w.page(ann, general, 50); len(list) != 0 {
		t.Errorf("who may not read history is shown %d messages", len(list))
	}
	// What is unloaded is not listened to, and therefore not remembered.
	w.page(boss, general, 50)
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ask(t.Context(), func() error { o.unload(time.Now()); return nil }); err != nil || !o.asleep.Load() {
		t.Fatal("the guild is not unloaded", err)
	}
	before = hits()
	w.page(boss, general, 50)
	if hits() != before {
		t.Error("the page of a guild that was not loaded was remembered")
	}
	w.page(boss, general, 50)
	if hits() != before+1 {
		t.Error("the page of a guild that is loaded again is not remembered")
	}
}

// TestPagesOfInstances: whatever is written by one instance the others' next page has,
// also when another one leads the guild meanwhile; and pages are remembered on each.
func TestPagesOfInstances(t *testing.T) {
	all := newTweaked(t, 3, func(s *Server) { s.pages.life = time.Hour })
	boss := all.worlds[0].boss()
	general := all.worlds[0].channelID(boss, "general")
	path := "/channels/" + general + "/messages"
	for n := range 12 {
		by := all.worlds[n%3]
		id := by.do("POST", path, boss.token, map[string]any{"content": fmt.Sprint(n)}).body["id"].(string)
		for _, w := range all.worlds {
			if list := w.page(boss, general, 50); list[0].Content != fmt.Sprint(n) {
				t.Fatalf("%s shows %q after %d", w.srv.cfg.Instance, list[0].Content, n)
			}
		}
		if n%2 == 0 {
			continue
		}
		by = all.worlds[(n+1)%3]
		by.do("PATCH", path+"/"+id, boss.token, map[string]any{"content": fmt.Sprint(n, " edited")})
		for _, w := range all.worlds {
			if list := w.page(boss, general, 50); list[0].Content != fmt.Sprint(n, " edited") {
				t.Fatalf("%s shows %q, which is edited", w.srv.cfg.Instance, list[0].Content)
			}
		}
	}
	for _, w := range all.worlds {
		before := testutil.ToFloat64(w.srv.pages.hits)
		eventually(t, "a page is remembered by "+w.srv.cfg.Instance, func() bool {
			w.page(boss, general, 50)
			return testutil.ToFloat64(w.srv.pages.hits) > before
		})
	}
	// Who leads the guild makes no difference to what the others know.
	w := all.worlds[0]
	e, lead := w.srv.ensemble, (all.leader()+1)%3
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	version := o.pagesVersion.Load()
	if _, err := e.leads.bucket.Create(t.Context(), w.first.Guild.String(), balance.Lead{Instance: all.worlds[lead].srv.cfg.Instance, Epoch: 1, Work: 1000}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another one leads", func() bool {
		o, err := all.worlds[lead].srv.owner(w.first.Guild)
		return err == nil && o.leads.Load() && all.leader() == lead
	})
	before := testutil.ToFloat64(w.srv.pages.hits)
	eventually(t, "the page is remembered", func() bool {
		w.page(boss, general, 50)
		return testutil.ToFloat64(w.srv.pages.hits) > before
	})
	if o.pagesVersion.Load() != version {
		t.Error("all pages were forgotten because another one leads")
	}
}

// TestPagesFill: what is told while a page is read keeps it from being remembered, and
// what was told before does not.
func TestPagesFill(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	p, o := &w.srv.pages, &owner{srv: w.srv}
	const channel, other, base = textchat.ID(1 << 30), textchat.ID(2 << 30), 5
	for _, c := range []struct {
		name    string
		version uint64
		meanly  func()
		kept    bool
	}{
		{"nothing", 7, func() {}, true},
		{"in another channel", 7, func() { p.told(other, 12) }, true},
		{"what it has", 7, func() { p.told(channel, 10) }, true},
		{"something", 7, func() { p.told(channel, 11) }, false},
		{"something without a log", 7, func() { p.told(channel, 0) }, false},
		{"all is new", 7, func() { o.pagesVersion.Store(8) }, false},
		{"not loaded", 0, func() {}, false},
		{"of something, then something it has", 7, func() { p.told(channel, 11); p.told(channel, 9) }, false},
	} {
		p.told(channel, 0)
		o.pagesVersion.Store(c.version)
		o.pagesSeq.Store(10)
		if _, err := p.fill(o, channel, base, func() (page, error) { c.meanly(); return pack(nil, 50), nil }); err != nil {
			t.Fatal(err)
		}
		if _, kept := p.find(o, channel, base, 50); kept != c.kept {
			t.Errorf("%s: remembered: %v", c.name, kept)
		}
		if !c.kept {
			continue
		}
		if _, ok := p.find(o, channel, base+1, 50); ok {
			t.Errorf("%s: it is shown to who came by another address", c.name)
		}
		if p.told(channel, 10); !has1(p.find(o, channel, base, 50)) {
			t.Errorf("%s: it is forgotten for what it has", c.name)
		}
		if p.told(channel, 11); has1(p.find(o, channel, base, 50)) {
			t.Errorf("%s: it is remembered in spite of news", c.name)
		}
	}
	failed := errors.New("no")
	if _, err := p.fill(o, channel, base, func() (page, error) { return page{}, failed }); err != failed || has1(p.find(o, channel, base, 50)) {
		t.Errorf("what could not be read: %v", err)
	}
	for i := range p.shards {
		if n := len(p.shards[i].filling); n > 0 {
			t.Errorf("%d are being read for ever", n)
		}
	}
}

func has1(_ page, ok bool) bool { return ok }

// TestPagesBound: pages take no more memory than they may.
func TestPagesBound(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	p, o := &w.srv.pages, &owner{srv: w.srv}
	o.pagesVersion.Store(7)
	body := make([]byte, 20<<10)
	const many = 3 * pagesMost / (20 << 10)
	keep := func(n int, size int) {
		_, _ = p.fill(o, textchat.ID(n)<<22, 5, func() (page, error) { return page{body: body[:size:size], limit: 50}, nil })
	}
	for n := range many {
		keep(n, len(body)-n%1000)
	}
	total, known := 0, 0
	for i := range p.shards {
		for _, k := range p.shards[i].known {
			total += len(k.body) + pageCost
			known++
		}
	}
	if total > pagesMost || total < pagesMost*9/10 || float64(total) != testutil.ToFloat64(p.size) {
		t.Errorf("%d pages of %d bytes are remembered, %v as the metric has it, of at most %d", known, total, testutil.ToFloat64(p.size), pagesMost)
	}
	if got := testutil.ToFloat64(p.evicted); got != float64(many-known) {
		t.Errorf("%v were forgotten of %d less %d", got, many, known)
	}
	body = make([]byte, pageLargest)
	if keep(many, pageLargest); has1(p.find(o, many<<22, 5, 50)) {
		t.Error("a page larger than the largest is remembered")
	}
}

// TestJoints: work that is under way is not shared with who came later; what waits is.
func TestJoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		var js joints[string, int32]
		var begun atomic.Int32
		hold := make(chan struct{})
		work := func() (int32, error) {
			n := begun.Add(1)
			<-hold
			return n, nil
		}
		var mu sync.Mutex
		var got []int32
		var all sync.WaitGroup
		ask := func() {
			all.Go(func() {
				n, err := js.do(t.Context(), s, "x", work)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, n)
			})
		}
		ask()
		synctest.Wait()
		for range 5 {
			ask()
		}
		synctest.Wait()
		if n := begun.Load(); n != 1 {
			t.Errorf("%d are under way", n)
		}
		close(hold)
		all.Wait()
		slices.Sort(got)
		if !slices.Equal(got, []int32{1, 2, 2, 2, 2, 2}) {
			t.Errorf("they share %v, want the first one alone and the others together", got)
		}
		synctest.Wait()
		if len(js.under) > 0 {
			t.Error("what is done is kept")
		}
	})
}
