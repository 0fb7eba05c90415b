package load

import (
	"context"
	"errors"
	"testing"
)

func TestSearch(t *testing.T) {
	for _, c := range []struct{ start, most, limit, low int }{
		{10, 1000, 437, 415}, {10, 1000, 1000, 1000}, {10, 1000, 5, 5}, {1, 10, 0, 0},
		{500, 1000, 499, 474}, {7, 7, 9, 7}, {64, 5000, 64, 61}, {1, 3, 2, 2},
	} {
		asked := make(map[int]int)
		best, steps, err := search(t.Context(), c.start, c.most, 0.05, func(_ context.Context, size int) (bool, error) {
			if size < 1 || size > c.most {
				t.Fatalf("asked for %d of 1 to %d", size, c.most)
			}
			asked[size]++
			return size <= c.limit, nil
		})
		if err != nil || best > c.limit || best < c.low {
			t.Errorf("%+v: best %d, %v", c, best, err)
		}
		for size, n := range asked {
			if n > 2 || size <= c.limit && n > 1 {
				t.Errorf("%+v: %d was asked %d times", c, size, n)
			}
		}
		if len(steps) > 40 {
			t.Errorf("%+v: %d steps", c, len(steps))
		}
	}
}

// TestSearchForgives holds that one bad window does not end the search.
func TestSearchForgives(t *testing.T) {
	calls := 0
	best, _, err := search(t.Context(), 10, 20, 0.05, func(context.Context, int) (bool, error) {
		calls++
		return calls != 1, nil
	})
	if err != nil || best != 20 {
		t.Errorf("best %d, %v", best, err)
	}
	if _, _, err := search(t.Context(), 10, 20, 0.05, func(context.Context, int) (bool, error) { return false, context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
