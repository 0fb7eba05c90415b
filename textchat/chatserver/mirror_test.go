package chatserver

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"voicefleet/textchat"
)

func newMirrors() *mirrors {
	return &mirrors{of: make(map[string]*mirror), adopted: make(map[string]adoption), adopting: make(map[string]bool)}
}

// TestMirrorKnown: what is told again is not kept again, and only what may not be known is
// asked for.
func TestMirrorKnown(t *testing.T) {
	const life = "a" + lifeSep + "1"
	m := newMirrors()
	list := []delivered{{P: 1, Key: "7", Seq: 1, Part: 2}, {P: 2, Key: "7", Seq: 1}, {P: 4}, {P: 4, Seq: 1, T: 100}, {P: 4, Seq: 1, T: 200}, {P: 5, Key: "8", Seq: 2}}
	want := func(when string, n int, from uint64) {
		t.Helper()
		if got := m.of[life].list; len(got) != n || !slices.IsSortedFunc(got, func(a, b delivered) int { return int(a.P) - int(b.P) }) {
			t.Errorf("%s: %d entries, want %d by position: %v", when, len(got), n, got)
		}
		if got := m.missing(life); got != from {
			t.Errorf("%s: asks from %d on, want %d", when, got, from)
		}
	}
	m.add(life, list[2:4]) // as it comes while the first page is on its way
	want("before a note is known", 2, 0)
	m.add(life, list)
	m.fill(life, 3, false)
	want("learnt", 6, 5)
	m.add(life, list)
	want("learnt again", 6, 5)
	if m.follow(orderNote{Life: life, N: 5, List: []delivered{{P: 9}}}) {
		t.Error("a note before the fifth is missing, and it does not show")
	}
	m.add(life, []delivered{{P: 9}})
	want("with a hole", 7, 5)
	m.add(life, []delivered{{P: 5, Key: "8", Seq: 2}, {P: 7, Key: "8", Seq: 3}, {P: 9}})
	m.fill(life, 5, false)
	want("with the hole filled", 8, 9)

	m.follow(orderNote{Life: "a" + lifeSep + "z", N: 1})
	m.follow(orderNote{Life: "a" + lifeSep + "10", N: 1})
	m.follow(orderNote{Life: "ab" + lifeSep + "20", N: 1})
	if got := m.newest("a"); got != "a"+lifeSep+"10" {
		t.Errorf("the newest life is %q", got)
	}
}

// TestMirrorInVain: who did not know what is missing is not asked again at once; others
// are, and for more.
func TestMirrorInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = "a" + lifeSep + "1"
		m := newMirrors()
		others := []string{"b", "c"}
		want := func(when string, others []string, vain bool) {
			t.Helper()
			if m.inVain(life, others) != vain {
				t.Errorf("%s: in vain is %v", when, !vain)
			}
		}
		gaveUp := func() { m.gaveUp(life, vain{time.Now(), m.torn(life), others}) }
		m.follow(orderNote{Life: life, N: 1})
		m.follow(orderNote{Life: life, N: 3})
		want("before anybody was asked", others, false)
		gaveUp()
		want("asked", others, true)
		want("somebody came", []string{"b", "c", "d"}, false)
		m.follow(orderNote{Life: life, N: 6})
		want("more is missing", others, false)
		gaveUp()
		m.tear("")
		want("the bus was away", others, false)
		gaveUp()
		time.Sleep(holeTry)
		want("later", others, false)
	})
}

// TestMirrorTorn: of what was said while the bus was away nothing is taken to be missing when
// the next note says that none was between, or when its life had said all before and nobody
// knows more.
func TestMirrorTorn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirrors()
		want := func(when string, lives ...string) {
			t.Helper()
			got := m.holed()
			slices.Sort(got)
			if !slices.Equal(got, lives) {
				t.Errorf("%s: may be missing of %v, want %v", when, got, lives)
			}
		}
		for _, life := range []string{"dead", "ended", "here", "lost"} {
			m.follow(orderNote{Life: life, N: 1})
		}
		m.follow(orderNote{Life: "ended", N: 2, Last: true})
		time.Sleep(quietAfter)
		for _, life := range []string{"here", "lost"} {
			m.follow(orderNote{Life: life, N: 2})
		}
		m.fill("told", 5, true)
		m.hush(time.Now())
		m.tear("")
		want("the bus was away", "dead", "ended", "here", "lost", "told")
		if !m.follow(orderNote{Life: "here", N: 3}) {
			t.Error("a note is missing that is not")
		}
		m.follow(orderNote{Life: "lost", N: 4})
		want("two were heard again", "dead", "ended", "lost", "told")
		for life, all := range map[string]bool{"dead": true, "ended": true, "told": true, "lost": false} {
			if m.saidAll(life) != all {
				t.Errorf("%s had said all: %v", life, !all)
			}
		}
		want("nobody knows more", "lost")
		m.follow(orderNote{Life: "dead", N: 2})
		m.tear("")
		if m.saidAll("dead") {
			t.Error("one that is heard again has said all")
		}
	})
}

// TestAdoptedPages: the sessions that went on elsewhere are listed page by page, each once,
// while more come; at one life, when it is asked for.
func TestAdoptedPages(t *testing.T) {
	m := newMirrors()
	come := func(from, to int, life string) {
		list := make(map[string]adoption)
		for i := from; i < to; i++ {
			list[fmt.Sprintf("%05d", i*7919%50000)] = adoption{whence: whence{Life: life}}
		}
		m.adopt(list)
	}
	list := func(life string, between func()) (pages int, all map[string]adoption) {
		all = make(map[string]adoption)
		for last, more := "", true; more; pages++ {
			var page map[string]adoption
			page, more = m.adoptedAfter(last, life)
			for id, a := range page {
				if _, twice := all[id]; twice || id <= last {
					t.Fatalf("%s comes after %s", id, last)
				}
				all[id] = a
			}
			last = slices.Max(append(slices.Collect(maps.Keys(page)), last))
			between()
		}
		return pages, all
	}
	come(0, 2500, "a")
	come(2500, 3000, "b")
	if pages, all := list("", func() { come(0, 3000, "a") }); pages != 3 || len(all) != 3000 {
		t.Errorf("%d sessions on %d pages", len(all), pages)
	}
	if pages, all := list("b", func() {}); pages != 1 || len(all) != 500 {
		t.Errorf("%d sessions at one life on %d pages", len(all), pages)
	}
	more := 3000
	_, all := list("", func() {
		if more < 4000 {
			come(more, more+100, "a")
			more += 100
		}
	})
	for i := range 3000 {
		if _, ok := all[fmt.Sprintf("%05d", i*7919%50000)]; !ok {
			t.Fatalf("session %d is not listed", i)
		}
	}
}

// TestAdoptedSweep: where a session went is known while it is there, for an hour after it
// ended, and no longer than the life that has it lists it.
func TestAdoptedSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirrors()
		m.mirror("here")
		m.mirror("there")
		began := time.Now()
		tell := func(id, life string, ended time.Time) {
			m.adopt(map[string]adoption{id: {whence: whence{Life: life}, At: began, Ended: ended}})
		}
		want := func(when string, quiet []string, known ...string) {
			t.Helper()
			if got := slices.Sorted(maps.Keys(m.sweep("here", time.Now()))); !slices.Equal(got, quiet) {
				t.Errorf("%s: quiet are %v, want %v", when, got, quiet)
			}
			if page, _ := m.adoptedAfter("", ""); !slices.Equal(slices.Sorted(maps.Keys(page)), known) {
				t.Errorf("%s: known are %v, want %v", when, page, known)
			}
		}
		for _, id := range []string{"a", "b", "c", "d"} {
			tell(id, map[bool]string{true: "here", false: "there"}[id < "c"], time.Time{})
		}
		tell("e", "nowhere", time.Time{})
		want("at first", nil, "a", "b", "c", "d", "e")
		time.Sleep(time.Minute)
		tell("b", "here", time.Now())
		tell("b", "here", time.Time{}) // an older note, late
		want("one has ended", nil, "a", "b", "c", "d", "e")
		time.Sleep(textchat.ResumeWindow + time.Minute)
		want("when a client can be back no more", []string{"a"}, "a", "b", "c", "d")
		asked := time.Now()
		time.Sleep(time.Second)
		tell("f", "there", time.Time{})
		m.prune("there", map[string]bool{"d": true}, asked)
		want("the other was asked", []string{"a"}, "a", "b", "d", "f")
		time.Sleep(endedKept)
		want("long after", []string{"a"}, "a", "d", "f")
	})
}
