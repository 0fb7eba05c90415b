package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

const (
	plainEvery   = 5 * time.Second       // a status where nothing can be repainted
	repaintEvery = 50 * time.Millisecond // at most, so that a fast run does not flicker
	statusLines  = 3
	heldBytes    = 4096 // of a line that is not ended yet
)

// progress shows how a run goes: on a terminal the status stands below what was
// said and is painted anew in its place; elsewhere it is a line every few seconds.
// It is a writer too, for what says its progress in lines.
type progress struct {
	// Immutable.
	out   io.Writer
	width func() int // columns of the terminal; 0: it is none
	now   func() time.Time

	mu sync.Mutex
	// Guarded by mu.
	status  string
	painted int       // lines of status on the terminal
	at      time.Time // when a status was shown
	partial []byte    // the begin of a line that was written
}

// newProgress shows progress on w; whoever makes it calls done at the end.
func newProgress(w io.Writer) *progress {
	p := &progress{out: w, width: func() int { return 0 }, now: time.Now}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.width = func() int {
			w, _, err := term.GetSize(int(f.Fd()))
			if err != nil || w <= 0 {
				return 80
			}
			return w
		}
	}
	return p
}

// Say shows a line that stays.
func (p *progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sayLocked(fmt.Sprintf(format, args...))
}

func (p *progress) sayLocked(text string) {
	var b strings.Builder
	p.wipeLocked(&b)
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		b.WriteString(printable(line) + "\n")
	}
	p.paintLocked(&b)
	p.put(&b)
}

// Status shows how it stands.
func (p *progress) Status(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	changed := line != p.status
	p.status = line
	var b strings.Builder
	if p.width() > 0 {
		if now.Sub(p.at) < repaintEvery {
			return
		}
		p.at = now
		p.wipeLocked(&b)
		p.paintLocked(&b)
	} else {
		if !changed || now.Sub(p.at) < plainEvery {
			return
		}
		p.at = now
		var parts []string
		for _, l := range p.linesLocked() {
			parts = append(parts, printable(l))
		}
		b.WriteString(strings.Join(parts, "  ") + "\n")
	}
	p.put(&b)
}

// Write says each line that is ended.
func (p *progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial = append(p.partial, text...)
	for {
		i := bytes.IndexByte(p.partial, '\n')
		if i < 0 {
			if len(p.partial) < heldBytes {
				return len(text), nil
			}
			i = len(p.partial) - 1
		}
		line := string(p.partial[:i+1])
		p.partial = p.partial[i+1:]
		p.sayLocked(line)
	}
}

// done takes the status away, and says what was written without an end.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = ""
	if len(p.partial) > 0 {
		line := string(p.partial)
		p.partial = nil
		p.sayLocked(line)
		return
	}
	var b strings.Builder
	p.wipeLocked(&b)
	p.put(&b)
}

// linesLocked are the lines of the status.
func (p *progress) linesLocked() []string {
	if p.status == "" {
		return nil
	}
	lines := strings.Split(p.status, "\n")
	return lines[:min(len(lines), statusLines)]
}

// wipeLocked goes back to where the status begins and clears what is there.
func (p *progress) wipeLocked(b *strings.Builder) {
	if p.painted > 0 {
		fmt.Fprintf(b, "\r\x1b[%dA\x1b[J", p.painted)
		p.painted = 0
	}
}

func (p *progress) paintLocked(b *strings.Builder) {
	columns := p.width()
	if columns == 0 {
		return
	}
	for _, l := range p.linesLocked() {
		b.WriteString(cut(printable(l), columns-1) + "\n")
		p.painted++
	}
}

// put shows what was made. Progress that cannot be shown is no reason to end a run.
func (p *progress) put(b *strings.Builder) {
	if b.Len() > 0 {
		_, _ = io.WriteString(p.out, b.String())
	}
}

// printable is a line without what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// cut keeps a line within so many columns, so that it takes one row.
func cut(s string, columns int) string {
	if utf8.RuneCountInString(s) <= columns {
		return s
	}
	if columns < 1 {
		return ""
	}
	return string([]rune(s)[:columns-1]) + "…"
}
