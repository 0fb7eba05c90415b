package sfuserver

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestShedder: each line is the load of some seconds, and when video stops or goes on.
func TestShedder(t *testing.T) {
	for _, c := range []struct {
		name string
		load string // load x seconds
		want string
	}{
		{"one busy second", "0.5x5 0.99x1 0.5x5", ""},
		{"two", "0.5x5 0.99x2 0.5x20", "7:off 17:on"},
		{"at the limit", "0.85x60", ""},
		{"no room afterwards", "0.99x2 0.7x20 0.5x1", "2:off 23:on"},
		{"again and again", "0.99x2 0.1x10 0.99x2 0.1x20 0.99x2 0.1x40 0.99x2 0.1x80 0.99x2 0.1x240 0.99x2 0.1x160",
			"2:off 12:on 14:off 34:on 36:off 76:on 78:off 158:on 160:off 320:on 402:off 412:on"},
	} {
		s := shedder{limit: 0.85}
		var got []string
		now := 0
		for _, part := range strings.Fields(c.load) {
			var busy float64
			var n int
			if _, err := fmt.Sscanf(part, "%fx%d", &busy, &n); err != nil {
				t.Fatal(err)
			}
			for range n {
				now++
				if s.second(time.Duration(now)*time.Second, busy) {
					got = append(got, fmt.Sprintf("%d:%s", now, map[bool]string{true: "off", false: "on"}[s.on]))
				}
			}
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s: %s; want %s", c.name, g, c.want)
		}
	}
	s := shedder{limit: 1}
	for i := range 100 {
		if s.second(time.Duration(i)*time.Second, 1) {
			t.Error("video is shed though it never may be")
		}
	}
}
