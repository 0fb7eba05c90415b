package chatserver

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestGather: connections that gather come in their turn when the time is over, and
// before the patient ones when somebody hurries them, once.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w writers
		w.init()
		defer w.end()
		a, b, c := new(conn), new(conn), new(conn)
		want := func(when string, first, queue []*conn) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if !slices.Equal(w.first, first) || !slices.Equal(w.queue, queue) {
				t.Errorf("%s: %d at once and %d in turn, want %d and %d", when, len(w.first), len(w.queue), len(first), len(queue))
			}
		}
		time.Sleep(gather) // past the first ripening, of nobody
		w.later(a, w.clock())
		w.later(b, w.clock())
		time.Sleep(gather / 2)
		w.later(c, w.clock())
		want("before the time is over", nil, nil)
		w.hurry(a)
		w.hurry(a)
		want("hurried", []*conn{a}, nil)
		w.first = nil
		w.later(a, w.clock()) // it was written to, and gathers anew
		time.Sleep(gather / 2)
		want("when the first has gathered", nil, []*conn{b})
		time.Sleep(gather / 2)
		want("when all have", nil, []*conn{b, c, a})
		w.hurry(b)
		w.hurry(b)
		want("when one that waits is hurried", []*conn{b}, []*conn{b, c, a})
		var hand [handMost]*conn
		took := func(when string, list ...*conn) {
			t.Helper()
			if n := w.take(hand[:], 1); !slices.Equal(hand[:n], list) {
				t.Errorf("%s: took %d, want %d", when, n, len(list))
			}
		}
		took("who was hurried", b)
		w.add(b, false)
		took("the patient, of whom one was there before", b, c, a)
		took("what is left of it")
		w.add(c, false)
		for range 2 * aheadMost {
			w.add(new(conn), true)
		}
		for n := 0; n < aheadMost; {
			n += w.take(hand[:], 1)
		}
		took("a patient one behind many that are not", c)
		if w.soon != nil {
			t.Errorf("%d gather still", len(w.soon))
		}
	})
}
