package ratelimit

import (
	"fmt"
	"testing"
	"time"
)

func TestTake(t *testing.T) {
	var tb Table
	now := time.Unix(1_800_000_000, 0)
	rule := Rule{Limit: 2, Window: time.Second}
	for i, want := range []bool{true, true, false, false} {
		a := tb.Take(now, "k", rule)
		if a.OK != want || a.Reset != now.Add(time.Second) || a.Remaining != max(0, 1-i) {
			t.Fatalf("take %d: %+v", i, a)
		}
	}
	tb.GiveBack("unknown")
	tb.GiveBack("k")
	if !tb.Take(now, "k", rule).OK || tb.Take(now, "k", rule).OK {
		t.Fatal("one that is given back is not one more")
	}
	if a := tb.TakeN(now, "k", rule, 0); !a.OK || a.Remaining != 0 {
		t.Fatalf("nothing taken: %+v", a)
	}
	if !tb.Take(now, "other", rule).OK {
		t.Fatal("keys are not apart")
	}
	if !tb.Take(now.Add(time.Second), "k", rule).OK {
		t.Fatal("the window does not end")
	}
}

func TestBounded(t *testing.T) {
	var tb Table
	now := time.Unix(1_800_000_000, 0)
	rule := Rule{Limit: 1, Window: time.Minute}
	for i := range 3 * generation {
		tb.Take(now, fmt.Sprint(i), rule)
	}
	if n := len(tb.young) + len(tb.old); n > 2*generation {
		t.Fatalf("%d keys", n)
	}
	// A count lives on while its map grows old.
	tb = Table{}
	tb.Take(now, "k", rule)
	tb.Take(now.Add(turnAfter), "x", Rule{Limit: 1, Window: time.Minute})
	long := Rule{Limit: 1, Window: 2 * turnAfter}
	tb = Table{}
	tb.Take(now, "k", long)
	tb.Take(now.Add(turnAfter), "x", long)
	if tb.Take(now.Add(turnAfter+time.Second), "k", long).OK {
		t.Fatal("a count was forgotten within its window")
	}
}
