package chart

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of one chart.
const (
	MaxLines  = 12  // further lines are not drawn, and the legend says how many
	MaxPoints = 300 // of a line; of more, the extremes of each stretch are kept
	columns   = 60  // places to hover over
)

// Chart is lines over a common axis.
type Chart struct {
	ID            string // unique in the page: ASCII letters, digits, dashes; all else is left out
	Title         string
	Width, Height float64 // default 880 by 260
	X, Y          Axis
	Lines         []Line
	Marks         []Mark
	// Points bounds the points of a line further than MaxPoints does, when not 0.
	Points int
}

// Line is one curve. A point that is no number parts it.
type Line struct {
	Name   string
	Points []Point
}

// Point is one place of a line.
type Point struct{ X, Y float64 }

// Mark is a moment on the x axis at which something happened.
type Mark struct {
	X    float64
	Name string // short, as "1"
	Text string
}

// plot is a chart on its way to pixels.
type plot struct {
	strings.Builder
	*Chart
	lines                    []Line
	left, right, top, bottom float64 // of the area the lines stand in
	x0, x1, y0, y1           float64 // places at its edges
}

// SVG draws the chart.
func (c *Chart) SVG() string {
	p := &plot{Chart: c}
	w, h := c.Width, c.Height
	if w <= 0 {
		w = 880
	}
	if h <= 0 {
		h = 260
	}
	limit := MaxPoints
	if c.Points > 0 {
		limit = min(limit, c.Points)
	}
	for _, l := range c.Lines[:min(len(c.Lines), MaxLines)] {
		p.lines = append(p.lines, Line{Name: Clean(l.Name), Points: thin(l.Points, limit)})
	}
	legend, rows := p.legend(w)
	p.left, p.right, p.top, p.bottom = 52, w-14, 26+18*float64(rows), h-38
	if len(c.Marks) > 0 {
		p.top += 14
	}
	xticks, yticks := p.bounds()
	p.left = max(p.left, 14+width(longest(yticks)))

	id := strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, c.ID)
	fmt.Fprintf(p, `<svg class="chart" viewBox="0 0 %s %s" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		px(w), px(h), id, id, id, Escape(c.Title), id, Escape(p.describe()))
	p.WriteString(legend)
	p.frame(xticks, yticks)
	for i, l := range p.lines {
		p.line(i, l)
	}
	p.marks()
	p.hover()
	p.WriteString(`</svg>`)
	return p.String()
}

// bounds finds the places at the edges, and what is named on the axes.
func (p *plot) bounds() (xticks, yticks []Tick) {
	xs, ys := newSpan(), newSpan()
	for _, l := range p.lines {
		for _, q := range l.Points {
			if finite(q) {
				xs.add(q.X, p.X)
				ys.add(q.Y, p.Y)
			}
		}
	}
	for _, m := range p.Marks {
		xs.add(m.X, p.X)
	}
	xs.settle(p.X)
	ys.settle(p.Y)
	wide := (p.right - p.left) / 88
	xticks, p.x0, p.x1 = p.X.ticks(xs.lo, xs.hi, max(2, int(wide)), false)
	yticks, p.y0, p.y1 = p.Y.ticks(ys.lo, ys.hi, max(2, int((p.bottom-p.top)/40)), true)
	return xticks, yticks
}

// span is from the least to the greatest place of values on an axis.
type span struct{ lo, hi float64 }

func newSpan() span { return span{math.Inf(1), math.Inf(-1)} }

func (s *span) add(v float64, a Axis) {
	if a.Scale == Log && v <= 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return // at the lower end, wherever that is
	}
	at := a.Scale.place(v)
	s.lo, s.hi = min(s.lo, at), max(s.hi, at)
}

// settle gives a span without width one.
func (s *span) settle(a Axis) {
	switch {
	case s.lo > s.hi:
		s.lo, s.hi = 0, 1
	case a.Scale == Tail:
		s.lo, s.hi = 0, max(s.hi, 1)
	case a.Zero && s.lo >= 0:
		s.lo = 0
	}
	// So close that ticks would not tell them apart.
	if size := max(math.Abs(s.lo), math.Abs(s.hi)); s.hi-s.lo <= size*1e-9 || s.hi-s.lo < 1e-290 {
		if s.lo == 0 {
			s.hi = 1
			return
		}
		s.lo, s.hi = s.lo-size/2, s.hi+size/2
	}
}

func (p *plot) px(x float64) float64 {
	at := (p.X.Scale.place(x) - p.x0) / (p.x1 - p.x0)
	return p.left + min(max(at, 0), 1)*(p.right-p.left)
}

func (p *plot) py(y float64) float64 {
	at := (p.Y.Scale.place(y) - p.y0) / (p.y1 - p.y0)
	return p.bottom - min(max(at, 0), 1)*(p.bottom-p.top)
}

// legend lays the names of the lines out in rows beside the label of the y axis.
func (p *plot) legend(w float64) (string, int) {
	var b strings.Builder
	label := short(p.Y.Label, 40)
	fmt.Fprintf(&b, `<text class="l" x="0" y="13">%s</text>`, html.EscapeString(label))
	if len(p.lines) < 2 && len(p.Lines) <= MaxLines && (len(p.lines) == 0 || strings.HasPrefix(Clean(p.Title), p.lines[0].Name)) {
		return b.String(), 0
	}
	type entry struct {
		name string
		at   float64
	}
	var rows [][]entry
	from := width(label) + 24
	x := from
	row := []entry{}
	names := make([]string, 0, len(p.lines)+1)
	for _, l := range p.lines {
		names = append(names, short(l.Name, 36))
	}
	if more := len(p.Lines) - len(p.lines); more > 0 {
		names = append(names, fmt.Sprintf("and %d more, not drawn", more))
	}
	for _, name := range names {
		need := 24 + width(name) + 16
		if len(row) > 0 && x+need > w {
			rows, row, x = append(rows, row), nil, from
		}
		row = append(row, entry{name, x})
		x += need
	}
	rows = append(rows, row)
	i := 0
	for r, row := range rows {
		y := 13 + 18*float64(r)
		for _, e := range row {
			if i < len(p.lines) {
				fmt.Fprintf(&b, `<path class="s c%d" d="M%s %sh18"/>`, i%palette, px(e.at), px(y-4))
			}
			fmt.Fprintf(&b, `<text class="n" x="%s" y="%s">%s</text>`, px(e.at+24), px(y), html.EscapeString(e.name))
			i++
		}
	}
	return b.String(), len(rows) - 1
}

// frame draws the grid and names its lines.
func (p *plot) frame(xticks, yticks []Tick) {
	var grid strings.Builder
	for _, t := range yticks {
		fmt.Fprintf(&grid, "M%s %sH%s", px(p.left), px(p.py(t.V)), px(p.right))
	}
	fmt.Fprintf(p, `<path class="g" d="%s"/>`, grid.String())
	for _, t := range yticks {
		fmt.Fprintf(p, `<text class="t e" x="%s" y="%s">%s</text>`, px(p.left-8), px(p.py(t.V)+4), t.Text)
	}
	var axis strings.Builder
	fmt.Fprintf(&axis, "M%s %sH%s", px(p.left), px(p.bottom), px(p.right))
	for _, t := range xticks {
		fmt.Fprintf(&axis, "M%s %sv4", px(p.px(t.V)), px(p.bottom))
	}
	fmt.Fprintf(p, `<path class="a" d="%s"/>`, axis.String())
	end := math.Inf(-1) // of the last text, so that two do not touch
	for _, t := range xticks {
		x, half := p.px(t.V), width(t.Text)/2
		class := "t m"
		switch {
		case x+half > p.right+12:
			class, x = "t e", p.right+12
			half *= 2
		}
		if x-half < end+6 {
			continue
		}
		end = x + half
		fmt.Fprintf(p, `<text class="%s" x="%s" y="%s">%s</text>`, class, px(x), px(p.bottom+18), t.Text)
	}
	if p.X.Label != "" {
		fmt.Fprintf(p, `<text class="l e" x="%s" y="%s">%s</text>`, px(p.right), px(p.bottom+34), html.EscapeString(short(p.X.Label, 60)))
	}
}

func (p *plot) line(i int, l Line) {
	var d strings.Builder
	pen, single := false, 0
	var alone []Point
	for j, q := range l.Points {
		if !finite(q) {
			pen = false
			continue
		}
		if pen {
			fmt.Fprintf(&d, "L%s %s", px(p.px(q.X)), px(p.py(q.Y)))
			continue
		}
		pen, single = true, j+1
		fmt.Fprintf(&d, "M%s %s", px(p.px(q.X)), px(p.py(q.Y)))
		if single == len(l.Points) || !finite(l.Points[single]) {
			alone = append(alone, q)
		}
	}
	if d.Len() > 0 {
		fmt.Fprintf(p, `<path class="s c%d" d="%s"/>`, i%palette, d.String())
	}
	for _, q := range alone {
		fmt.Fprintf(p, `<circle class="d c%d" cx="%s" cy="%s" r="3"/>`, i%palette, px(p.px(q.X)), px(p.py(q.Y)))
	}
}

func (p *plot) marks() {
	for _, m := range p.Marks {
		if math.IsNaN(m.X) || math.IsInf(m.X, 0) {
			continue
		}
		x := p.px(m.X)
		fmt.Fprintf(p, `<g class="k"><title>%s</title><path d="M%s %sV%s"/><circle cx="%s" cy="%s" r="8"/><text x="%s" y="%s">%s</text></g>`,
			Escape(m.Text), px(x), px(p.top), px(p.bottom), px(x), px(p.top-8), px(x), px(p.top-4.2), html.EscapeString(short(m.Name, 3)))
	}
}

// hover lays columns over the lines that tell the values below them.
func (p *plot) hover() {
	type column struct {
		from, to   float64 // X
		ys         []span
		any        bool
		seen       []bool
		begin, end float64 // pixels
	}
	var xs []float64
	for _, l := range p.lines {
		for _, q := range l.Points {
			if finite(q) {
				xs = append(xs, q.X)
			}
		}
	}
	if len(xs) == 0 {
		return
	}
	slices.Sort(xs)
	xs = slices.CompactFunc(xs, func(a, b float64) bool { return px(p.px(a)) == px(p.px(b)) })
	n := min(len(xs), columns)
	at := func(x float64) int { // the column of a value
		i, _ := slices.BinarySearch(xs, x)
		if i == len(xs) || i > 0 && x != xs[i] && x-xs[i-1] < xs[i]-x {
			i--
		}
		return i * n / len(xs)
	}
	list := make([]column, n)
	for i := range list {
		first, last := (i*len(xs)+n-1)/n, ((i+1)*len(xs)+n-1)/n-1
		c := &list[i]
		c.from, c.to = xs[first], xs[last]
		c.ys, c.seen = make([]span, len(p.lines)), make([]bool, len(p.lines))
		c.begin, c.end = p.left, p.right
		if first > 0 {
			c.begin = (p.px(xs[first-1]) + p.px(xs[first])) / 2
		}
		if last+1 < len(xs) {
			c.end = (p.px(xs[last]) + p.px(xs[last+1])) / 2
		}
	}
	for i, l := range p.lines {
		for _, q := range l.Points {
			if !finite(q) {
				continue
			}
			c := &list[at(q.X)]
			if !c.seen[i] {
				c.seen[i], c.any, c.ys[i] = true, true, span{q.Y, q.Y}
			}
			c.ys[i] = span{min(c.ys[i].lo, q.Y), max(c.ys[i].hi, q.Y)}
		}
	}
	p.WriteString(`<g class="h">`)
	for _, c := range list {
		if !c.any {
			continue
		}
		text := p.xText(c.from)
		if last := p.xText(c.to); last != text {
			text += " to " + last
		}
		for i, l := range p.lines {
			if !c.seen[i] {
				continue
			}
			value := Value(c.ys[i].lo, p.Y.Unit)
			if c.ys[i].hi > c.ys[i].lo {
				value = Value(c.ys[i].lo, "") + " to " + Value(c.ys[i].hi, p.Y.Unit)
			}
			text += "\n" + short(l.Name, 36) + ": " + value
		}
		fmt.Fprintf(p, `<rect x="%s" y="%s" width="%s" height="%s"><title>%s</title></rect>`,
			px(c.begin), px(p.top), px(max(c.end-c.begin, .1)), px(p.bottom-p.top), Escape(text))
	}
	p.WriteString(`</g>`)
}

func (p *plot) xText(v float64) string {
	switch p.X.Scale {
	case Tail:
		return Percentile(math.Round(v*1e7) / 1e7)
	case Time:
		return clock(math.Round(v*10)/10, .1, v)
	}
	return Value(v, p.X.Unit)
}

// describe tells in words what the lines do.
func (p *plot) describe() string {
	if len(p.lines) == 0 {
		return "No values."
	}
	var b strings.Builder
	for _, l := range p.lines {
		ys, last, first := newSpan(), math.NaN(), math.NaN()
		for _, q := range l.Points {
			if finite(q) {
				if ys.lo > ys.hi {
					first = q.Y
				}
				ys = span{min(ys.lo, q.Y), max(ys.hi, q.Y)}
				last = q.Y
			}
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if math.IsNaN(last) {
			fmt.Fprintf(&b, "%s: no values.", l.Name)
			continue
		}
		fmt.Fprintf(&b, "%s: first %s, last %s, least %s, greatest %s.", l.Name,
			Value(first, p.Y.Unit), Value(last, p.Y.Unit), Value(ys.lo, p.Y.Unit), Value(ys.hi, p.Y.Unit))
	}
	return b.String()
}

// thin sorts points by X and keeps at most limit of them: of each stretch the
// least and the greatest, so that no peak is lost.
func thin(points []Point, limit int) []Point {
	sorted := slices.DeleteFunc(slices.Clone(points), func(q Point) bool { return math.IsNaN(q.X) || math.IsInf(q.X, 0) })
	slices.SortStableFunc(sorted, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
	if len(sorted) <= limit {
		return sorted
	}
	n := max(limit/2, 1)
	kept := make([]Point, 0, 2*n)
	for i := range n {
		stretch := sorted[i*len(sorted)/n : (i+1)*len(sorted)/n]
		least, most := -1, -1
		for j, q := range stretch {
			if !finite(q) {
				continue
			}
			if least < 0 || q.Y < stretch[least].Y {
				least = j
			}
			if most < 0 || q.Y > stretch[most].Y {
				most = j
			}
		}
		switch {
		case least < 0:
			kept = append(kept, stretch[0])
		case least == most:
			kept = append(kept, stretch[least])
		default:
			kept = append(kept, stretch[min(least, most)], stretch[max(least, most)])
		}
	}
	return kept
}

func finite(q Point) bool { return !math.IsNaN(q.Y) && !math.IsInf(q.Y, 0) }

// Clean is a text without what cannot stand in a page (control characters, broken
// UTF-8) and what would turn the text around it (bidirectional controls).
func Clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r >= 0xFFFE && r&0xFFFE == 0xFFFE:
			return -1
		}
		return r
	}, s)
}

// Escape makes text that may stand in an element of a page; it keeps its lines.
func Escape(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = html.EscapeString(Clean(l))
	}
	return strings.Join(lines, "\n")
}

func short(s string, n int) string {
	s = Clean(s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// width is about how wide a text of 12 px is.
func width(s string) float64 { return 6.9 * float64(utf8.RuneCountInString(s)) }

func longest(ticks []Tick) string {
	text := ""
	for _, t := range ticks {
		if utf8.RuneCountInString(t.Text) > utf8.RuneCountInString(text) {
			text = t.Text
		}
	}
	return text
}

// px is a length with one decimal at most.
func px(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10+0, 'f', -1, 64)
}
