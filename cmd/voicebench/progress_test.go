package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"voicefleet/bench"
)

var _ bench.Progress = (*progress)(nil)

// screen is what a terminal of so many columns shows: it obeys what progress uses.
type screen struct {
	rows [][]rune
	x, y int
}

func (s *screen) feed(t *testing.T, text string, columns int) {
	t.Helper()
	for len(text) > 0 {
		var n int
		switch {
		case strings.HasPrefix(text, "\x1b[J"):
			s.rows = s.rows[:min(len(s.rows), s.y)]
			text = text[3:]
		case strings.HasPrefix(text, "\x1b["):
			if _, err := fmt.Sscanf(text, "\x1b[%dA", &n); err != nil || n > s.y {
				t.Fatalf("up %d rows from row %d: %v", n, s.y, err)
			}
			s.y -= n
			text = text[strings.IndexByte(text, 'A')+1:]
		case text[0] == '\r':
			s.x, text = 0, text[1:]
		case text[0] == '\n':
			s.x, s.y, text = 0, s.y+1, text[1:]
		default:
			r := []rune(text)[0]
			if s.x == columns {
				s.x, s.y = 0, s.y+1
			}
			for len(s.rows) <= s.y {
				s.rows = append(s.rows, nil)
			}
			s.rows[s.y] = append(s.rows[s.y][:s.x], r)
			s.x++
			text = text[len(string(r)):]
		}
	}
}

func (s *screen) String() string {
	var lines []string
	for _, r := range s.rows {
		lines = append(lines, string(r))
	}
	return strings.Join(lines, "\n")
}

// told is a progress on a terminal of so many columns, 0 none, with a clock of its own.
func told(columns int) (*progress, *bytes.Buffer, *time.Time) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	return &progress{out: &out, width: func() int { return columns }, now: func() time.Time { return now }}, &out, &now
}

func TestProgressRepaints(t *testing.T) {
	p, out, now := told(20)
	s := &screen{}
	show := func(want string) {
		t.Helper()
		s.feed(t, out.String(), 20)
		out.Reset()
		if got := s.String(); got != want {
			t.Errorf("the terminal shows\n%s\nwant\n%s", got, want)
		}
	}
	p.Say("starting %d", 1)
	show("starting 1")
	p.Status("one\ntwo\nthree\nfour")
	show("starting 1\none\ntwo\nthree")
	p.Status("too soon")
	show("starting 1\none\ntwo\nthree")
	*now = now.Add(time.Second)
	p.Status("a status wider than the terminal")
	show("starting 1\na status wider tha…")
	p.Say("a word between\nand another")
	show("starting 1\na word between\nand another\na status wider tha…")
	if _, err := p.Write([]byte("written \x1b[2Jby a")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write([]byte("nother\nhalf")); err != nil {
		t.Fatal(err)
	}
	show("starting 1\na word between\nand another\nwritten [2Jby anothe\nr\na status wider tha…")
	*now = now.Add(time.Second)
	p.Status("")
	show("starting 1\na word between\nand another\nwritten [2Jby anothe\nr")
	p.done()
	show("starting 1\na word between\nand another\nwritten [2Jby anothe\nr\nhalf")
}

func TestProgressPlain(t *testing.T) {
	p, out, now := told(0)
	for i := range 13 {
		p.Status(fmt.Sprintf("second %d\nand \x1b[31mmore", i))
		*now = now.Add(time.Second)
	}
	p.Say("done\x07 here")
	p.done()
	if got, want := out.String(), "second 0  and [31mmore\nsecond 5  and [31mmore\nsecond 10  and [31mmore\ndone here\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestProgressOfNoTerminal holds that what is no terminal gets no control character.
func TestProgressOfNoTerminal(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			p.Status(fmt.Sprint(i))
			p.Say("said %d", i)
			fmt.Fprintf(p, "written %d\n", i)
		})
	}
	all.Wait()
	p.done()
	if got := out.String(); strings.ContainsAny(got, "\x1b\r") || strings.Count(got, "said") != 8 || strings.Count(got, "written") != 8 {
		t.Errorf("%q", got)
	}
	long := newProgress(&out)
	out.Reset()
	if _, err := long.Write(bytes.Repeat([]byte("x"), 3*heldBytes)); err != nil || out.Len() < 2*heldBytes {
		t.Errorf("%d bytes of a line without end are shown, %v", out.Len(), err)
	}
}
