package forward

import "testing"

func TestCase(t *testing.T) {
	for _, c := range []struct {
		text           string
		members, pairs int
	}{
		{"10x10", 10, 90},
		{"25x25", 25, 600},
		{"3x300", 303, 906},
		{"1x1000", 1001, 1000},
		{"33x1", 34, 33 * 33},
	} {
		got, err := ParseCase(c.text)
		if err != nil || got.Members() != c.members || got.Pairs() != c.pairs || got.String() != c.text {
			t.Errorf("%s: %+v, %v: %d members, %d pairs", c.text, got, err, got.Members(), got.Pairs())
		}
	}
	for _, bad := range []string{"", "x", "3", "3x", "x3", "0x5", "5x0", "34x300", "1x1", "3x9000", "-3x4", "3x4x5"} {
		if got, err := ParseCase(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}
