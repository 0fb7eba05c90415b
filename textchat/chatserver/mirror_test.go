package chatserver

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
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
	m.fill(life, 3)
	want("learnt", 6, 5)
	m.add(life, list)
	want("learnt again", 6, 5)
	if m.follow(orderNote{Life: life, N: 5, List: []delivered{{P: 9}}}) {
		t.Error("a note before the fifth is missing, and it does not show")
	}
	m.add(life, []delivered{{P: 9}})
	want("with a hole", 7, 5)
	m.add(life, []delivered{{P: 5, Key: "8", Seq: 2}, {P: 7, Key: "8", Seq: 3}, {P: 9}})
	m.fill(life, 5)
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
