package bench

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"voicefleet/bench/internal/chart"
)

// MaxHTML bounds a page, so that it can be sent to somebody.
const MaxHTML = 1 << 20

//go:embed page.css
var pageStyle string

//go:embed page.tmpl
var pageText string

var pages = template.Must(template.New("pages").Parse(pageText))

// detail is how much of a report is put into a page.
type detail struct {
	points int // of a line
	rows   int // of all tables together, of goals, of figures
	plots  int
	long   int // bytes of a long text, as the scenario
	short  int // bytes of a name, a note, a cell
}

// details are tried in their order until a page is small enough.
var details = []detail{
	{300, 1000, 40, 64 << 10, 1000},
	{150, 300, 24, 32 << 10, 500},
	{80, 100, 12, 8 << 10, 300},
	{40, 30, 6, 2 << 10, 150},
	{20, 10, 3, 500, 80},
}

// WriteHTML writes the report as one page of at most MaxHTML bytes that needs
// nothing else: no script, no font, no picture from elsewhere. What of a very
// large report does not fit is left out, and the page says so; the JSON has all.
func (r *Report) WriteHTML(w io.Writer) error {
	return writePage(w, "report", func(d detail) any { return r.page(d) })
}

func writePage(w io.Writer, name string, page func(detail) any) error {
	for _, d := range details {
		var b sheet
		switch err := pages.ExecuteTemplate(&b, name, page(d)); {
		case errors.Is(err, errFull):
			continue
		case err != nil:
			return fmt.Errorf("write page: %w", err)
		}
		if _, err := w.Write(b.text.Bytes()); err != nil {
			return fmt.Errorf("write page: %w", err)
		}
		return nil
	}
	return errors.New("write page: the report does not fit into 1 MiB even in outline; use its JSON")
}

// sheet takes a page up to MaxHTML bytes.
type sheet struct{ text bytes.Buffer }

var errFull = errors.New("the page is full")

func (s *sheet) Write(b []byte) (int, error) {
	if s.text.Len()+len(b) > MaxHTML {
		return 0, errFull
	}
	return s.text.Write(b)
}

// The pieces of a page.
type (
	fact struct{ Name, Text string }
	cell struct {
		Text  string
		Right bool // to the right, as numbers stand
	}
	verdict struct {
		Class, Text string
		List        []string
	}
	grid struct {
		Title string
		Head  []cell
		Rows  [][]cell
		More  string
	}
	figure struct {
		Title, Sub string
		SVG        template.HTML
	}
	pair     struct{ Tail, Share figure }
	goalLine struct {
		Name, Value, Bound string
		Met, Void          bool
		Bar                template.HTML
	}
	metricLine struct {
		Name, Median, Min, Max string
		N                      int
		Strip                  template.HTML
	}
	eventLine struct{ When, Text string }
)

// paper is what every page has.
type paper struct {
	Title string
	Style template.CSS
	Left  string // what was left out
}

func newPaper(title string) paper {
	return paper{Title: title, Style: template.CSS(pageStyle + chart.Style)}
}

type reportPage struct {
	paper
	When, Partial          string
	Verdict                verdict
	Command, Scenario      string
	Seed                   uint64
	Facts                  []fact
	Goals                  []goalLine
	MoreGoals, MoreMetrics string
	MoreTables             string
	Tables                 []grid
	Notes                  []string
	Quantiles              grid
	Distributions          []pair
	Events                 []eventLine
	Series                 []figure
	Metrics                []metricLine
}

func (r *Report) page(d detail) reportPage {
	title := "voicebench"
	if r.Kind != "" {
		title += " " + d.cell(r.Kind)
	}
	p := reportPage{
		paper:   newPaper(title),
		Partial: d.cell(sentence(r.Partial)),
		Command: d.cut(r.Command), Scenario: d.cut(r.Scenario), Seed: r.Seed,
		Facts: r.Machine.facts(d),
	}
	if !r.Started.IsZero() {
		p.When = r.Started.UTC().Format("2 January 2006, 15:04 UTC")
	}
	if r.Took > 0 {
		p.When = join(", ", p.When, "took "+longTime(time.Duration(r.Took)))
	}
	p.Verdict = r.verdict(d)
	for _, g := range r.Goals[:min(len(r.Goals), d.rows)] {
		p.Goals = append(p.Goals, g.line(d))
	}
	p.MoreGoals = more(len(r.Goals), d.rows, "goals")
	left, rows := 0, d.rows
	for _, t := range r.Tables {
		if rows <= 0 {
			p.MoreTables = "Further tables stand in the JSON of the report."
			break
		}
		g := t.grid(d, rows)
		p.Tables = append(p.Tables, g)
		rows -= 1 + len(g.Rows)
	}
	for _, n := range r.Notes[:min(len(r.Notes), d.rows)] {
		p.Notes = append(p.Notes, d.cell(n))
	}
	p.Quantiles = quantiles(d, r.Distributions)
	p.Distributions, left = drawDistributions(d, r.Distributions)
	var undrawn int
	p.Series, undrawn = r.drawSeries(d)
	for _, e := range r.Events[:min(len(r.Events), d.rows)] {
		p.Events = append(p.Events, eventLine{When: chart.Value(e.At, "s"), Text: d.cell(e.Text)})
	}
	for _, m := range r.Metrics[:min(len(r.Metrics), d.rows)] {
		s := SpreadOf(slices.DeleteFunc(slices.Clone(m.Samples), func(v float64) bool { return !number(v) }))
		line := metricLine{Name: d.cell(m.Name), N: s.N, Median: "-", Min: "-", Max: "-"}
		if s.N > 0 {
			line.Median, line.Min, line.Max = d.cell(chart.Value(s.Median, m.Unit)), chart.Value(s.Min, ""), chart.Value(s.Max, "")
		}
		if s.N > 1 {
			line.Strip = template.HTML(chart.Strip(m.Samples))
		}
		p.Metrics = append(p.Metrics, line)
	}
	p.MoreMetrics = more(len(r.Metrics), d.rows, "figures")
	if left += undrawn; left > 0 {
		p.Left = fmt.Sprintf("%d plots are left out so that this page stays small; the JSON of the report has their figures.", left)
	}
	return p
}

func (r *Report) verdict(d detail) verdict {
	missed := r.Missed()
	switch {
	case len(r.Goals) == 0:
		return verdict{Class: "plain", Text: "No goals were set"}
	case len(missed) == 0 && len(r.Goals) == 1:
		return verdict{Class: "ok", Text: "The one goal is met"}
	case len(missed) == 0:
		return verdict{Class: "ok", Text: fmt.Sprintf("All %d goals met", len(r.Goals))}
	}
	v := verdict{Class: "bad", Text: fmt.Sprintf("%d of %d goals missed", len(missed), len(r.Goals))}
	for _, g := range missed[:min(len(missed), 20, d.rows)] {
		line := g.line(d)
		text := line.Name + ": " + line.Value
		if g.Void == "" {
			text += ", wanted " + line.Bound
		}
		v.List = append(v.List, text)
	}
	return v
}

func (g Goal) line(d detail) goalLine {
	l := goalLine{Name: d.cell(g.Name), Met: g.Met(), Bound: "at most "}
	if g.AtLeast {
		l.Bound = "at least "
	}
	l.Bound += chart.Value(g.Bound, "")
	if g.Void != "" {
		l.Value, l.Void = d.cell("void, "+g.Void), true
		return l
	}
	l.Value = d.cell(chart.Value(g.Value, g.Unit))
	l.Bar = template.HTML(chart.Bullet(g.Value, g.Bound, l.Met))
	return l
}

func (m Machine) facts(d detail) []fact {
	var facts []fact
	add := func(name, text string) {
		if text != "" {
			facts = append(facts, fact{name, d.cell(text)})
		}
	}
	cpu := m.CPU
	if m.Cores > 0 {
		cpu = join(", ", cpu, fmt.Sprintf("%d cores", m.Cores))
	}
	add("CPU", cpu)
	if m.Memory > 0 {
		add("Memory", fmt.Sprintf("%.1f GiB", float64(m.Memory)/(1<<30)))
	}
	if m.Kernel != "" {
		add("Kernel", "Linux "+m.Kernel)
	}
	add("Built with", m.Go)
	return facts
}

// grid makes cells of a table: those that begin like a number stand to the right.
func (t Table) grid(d detail, limit int) grid {
	g := grid{Title: d.cell(t.Title), More: more(len(t.Rows), limit, "rows")}
	numbers := make([]bool, len(t.Head))
	for i := range t.Head {
		numbers[i] = i > 0 && len(t.Rows) > 0
		for _, row := range t.Rows {
			if i < len(row) && row[i] != "" && row[i] != "-" && !numeric(row[i]) {
				numbers[i] = false
			}
		}
	}
	line := func(texts []string) []cell {
		var cells []cell
		for i, text := range texts[:min(len(texts), 64)] {
			cells = append(cells, cell{d.cell(text), i < len(numbers) && numbers[i]})
		}
		return cells
	}
	g.Head = line(t.Head)
	for _, row := range t.Rows[:min(len(t.Rows), limit)] {
		g.Rows = append(g.Rows, line(row))
	}
	return g
}

func numeric(s string) bool {
	return s != "" && strings.ContainsRune("0123456789+-−<>≤≥", []rune(s)[0]) && strings.ContainsAny(s, "0123456789")
}

// asked are the quantiles people ask for.
var asked = []float64{.5, .9, .99, .999, 1}

func quantiles(d detail, all []Distribution) grid {
	t := Table{Head: []string{"", "values", "50 %", "90 %", "99 %", "99.9 %", "greatest"}}
	for _, dist := range all {
		row := []string{dist.Name, fmt.Sprint(dist.Count)}
		for _, q := range asked {
			text := "-"
			if v, ok := dist.at(q); ok {
				text = chart.Value(v, dist.Unit)
			}
			row = append(row, text)
		}
		t.Rows = append(t.Rows, row)
	}
	return t.grid(d, d.rows)
}

// at finds the value of a quantile that was taken.
func (d Distribution) at(q float64) (float64, bool) {
	for _, p := range d.Points {
		if math.Abs(p.Q-q) < 1e-9 {
			return p.V, true
		}
	}
	return 0, false
}

// groups puts together what has the same key, in the order of first appearance.
func groups[T any](all []T, key func(int, T) string) [][]T {
	var list [][]T
	where := make(map[string]int)
	for i, v := range all {
		k := key(i, v)
		at, ok := where[k]
		if !ok {
			at = len(list)
			where[k] = at
			list = append(list, nil)
		}
		list[at] = append(list[at], v)
	}
	return list
}

func drawDistributions(d detail, all []Distribution) (pairs []pair, left int) {
	drawn := slices.DeleteFunc(slices.Clone(all), func(d Distribution) bool { return len(d.Points) == 0 })
	list := groups(drawn, func(i int, d Distribution) string {
		if d.Plot == "" {
			return fmt.Sprintf("%d", i)
		}
		return "plot\x00" + d.Plot + "\x00" + d.Unit
	})
	for i, group := range list[:min(len(list), d.plots)] {
		title := cmp.Or(group[0].Plot, group[0].Name)
		tail := chart.Chart{
			ID: fmt.Sprintf("q%d", i), Title: title + " by percentile", Width: 430, Height: 280, Points: d.points,
			X: chart.Axis{Label: "percentile", Scale: chart.Tail},
			Y: chart.Axis{Label: cmp.Or(group[0].Unit, "value"), Unit: group[0].Unit, Zero: true},
		}
		share := chart.Chart{
			ID: fmt.Sprintf("f%d", i), Title: title + ", share of values", Width: 430, Height: 280, Points: d.points,
			X: chart.Axis{Label: cmp.Or(group[0].Unit, "value"), Unit: group[0].Unit, Zero: true},
			Y: chart.Axis{Label: "% of all values", Unit: "%", Zero: true},
		}
		if wide(group) {
			share.X.Scale = chart.Log
		}
		count := int64(0)
		for _, dist := range group {
			a, b := dist.lines()
			tail.Lines, share.Lines = append(tail.Lines, a), append(share.Lines, b)
			count += dist.Count
		}
		sub := ""
		if count > 0 {
			sub = chart.Value(float64(count), "values")
		}
		pairs = append(pairs, pair{
			draw(d, &tail, title, "by percentile"),
			draw(d, &share, "Share of values up to", sub),
		})
	}
	return pairs, 2 * (len(list) - len(pairs))
}

// wide says whether values reach so far that a linear axis would hide most.
func wide(group []Distribution) bool {
	low, high := math.Inf(1), 0.0
	for _, d := range group {
		for _, p := range d.Points {
			if p.Q >= .05 && p.V > 0 {
				low = min(low, p.V)
			}
			high = max(high, p.V)
			if p.Q >= .5 && p.V <= 0 {
				return false // no place for most of them
			}
		}
	}
	return high > 20*low
}

// lines are the percentile plot and the share of values up to a value. The
// greatest of n values is drawn at 1-1/n.
func (d Distribution) lines() (tail, share chart.Line) {
	tail, share = chart.Line{Name: d.Name}, chart.Line{Name: d.Name}
	end := 1.0
	if d.Count > 0 {
		end = 1 - 1/float64(d.Count)
	}
	for _, p := range d.Points {
		share.Points = append(share.Points, chart.Point{X: p.V, Y: 100 * p.Q})
		if q := min(p.Q, end); p.Q < end || p.Q == 1 {
			tail.Points = append(tail.Points, chart.Point{X: q, Y: p.V})
		}
	}
	return tail, share
}

func (r *Report) drawSeries(d detail) (figures []figure, left int) {
	list := groups(r.Series, func(_ int, s Series) string { return s.Plot + "\x00" + s.Unit })
	var marks []chart.Mark
	for i, e := range r.Events[:min(len(r.Events), d.rows, 99)] {
		marks = append(marks, chart.Mark{X: e.At, Name: fmt.Sprint(i + 1), Text: fmt.Sprintf("%d: %s at %s", i+1, e.Text, chart.Value(e.At, "s"))})
	}
	for i, group := range list[:min(len(list), d.plots)] {
		c := chart.Chart{
			ID: fmt.Sprintf("s%d", i), Title: cmp.Or(group[0].Plot, group[0].Name), Points: d.points, Marks: marks,
			X: chart.Axis{Label: "time since the start", Scale: chart.Time},
			Y: chart.Axis{Label: group[0].Unit, Unit: group[0].Unit, Zero: true},
		}
		for _, s := range group {
			l := chart.Line{Name: s.Name}
			for _, p := range s.Points {
				l.Points = append(l.Points, chart.Point{X: p.At, Y: p.V})
			}
			c.Lines = append(c.Lines, l)
		}
		figures = append(figures, draw(d, &c, c.Title, ""))
	}
	return figures, len(list) - len(figures)
}

func draw(d detail, c *chart.Chart, title, sub string) figure {
	c.Title = d.cell(c.Title)
	return figure{Title: d.cell(title), Sub: sub, SVG: template.HTML(c.SVG())}
}

func more(n, limit int, what string) string {
	if n <= limit {
		return ""
	}
	return fmt.Sprintf("%d more %s stand in the JSON of the report.", n-limit, what)
}

func (d detail) cell(s string) string { return cutText(s, d.short) }

func (d detail) cut(s string) string { return cutText(s, d.long) }

// cutText keeps a text whole or says that it was cut, and takes out what could
// confuse a reader: control characters other than line breaks.
func cutText(s string, n int) string {
	cut := ""
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s, cut = s[:n], " … (cut)"
	}
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = chart.Clean(l)
	}
	return strings.Join(lines, "\n") + cut
}

func join(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}

// sentence ends a text with a full stop.
func sentence(s string) string {
	if s = strings.TrimSpace(s); s != "" && !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// longTime is a length for people: "45 s", "12 min 3 s", "2 h 5 min".
func longTime(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}
