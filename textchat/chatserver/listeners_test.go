package chatserver

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestListeners holds the listeners to a plain list of those that came, in order.
func TestListeners(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	var l listeners
	var model []*session
	subs := make(map[*session]*sub)
	come := func() {
		s, b := new(session), new(sub)
		l.put(s, b)
		if l.walking == 0 && len(l.row) > 2*len(model)+1 {
			t.Fatalf("a row of %d for %d and one more", len(l.row), len(model))
		}
		model, subs[s] = append(model, s), b
	}
	leave := func(i int) {
		l.drop(model[i])
		delete(subs, model[i])
		model = slices.Delete(model, i, i+1)
	}
	check := func() {
		t.Helper()
		var got []*session
		for s, b := range l.all() {
			if got = append(got, s); b != subs[s] || l.of(s) != b {
				t.Fatal("what is known of a session is another's")
			}
		}
		if !slices.Equal(got, model) || l.len() != len(model) {
			t.Fatalf("%d listen in another order than the %d that came, len %d", len(got), len(model), l.len())
		}
	}
	for range 3000 {
		switch n := draw.IntN(10); {
		case n < 5 || len(model) == 0:
			come()
		case n < 9:
			leave(draw.IntN(len(model)))
		default:
			// Some go while all are told, and others come.
			left := 0
			for s := range l.all() {
				if i := slices.Index(model, s); i < 0 {
					t.Fatal("told one that has gone")
				} else if draw.IntN(3) == 0 {
					leave(i)
					left++
				}
				if left < 5 && draw.IntN(8) == 0 && len(model) > 0 {
					leave(draw.IntN(len(model)))
				}
			}
			if draw.IntN(4) == 0 {
				for range l.all() {
					come()
					break
				}
			}
		}
		check()
	}
	for len(model) > 0 {
		leave(0)
	}
	if check(); l.row != nil || l.of(new(session)) != nil {
		t.Error("an empty guild keeps a row")
	}
}
