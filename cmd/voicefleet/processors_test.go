package main

import "testing"

func TestProcessorsFor(t *testing.T) {
	for _, c := range []struct {
		used       float64
		most, want int
	}{{0, 8, 1}, {0.49, 8, 1}, {0.5, 8, 2}, {0.99, 8, 2}, {1, 8, 3}, {3.9, 8, 8}, {8, 8, 8}, {1, 1, 1}} {
		if got := processorsFor(c.used, c.most); got != c.want {
			t.Errorf("%v used of %d: %d, want %d", c.used, c.most, got, c.want)
		}
	}
}
