package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"voicefleet/bench/internal/chart"
)

// Verdict says what became of a figure from A to B.
type Verdict string

// The verdicts. Changed is a change of a figure of which neither direction is
// better.
const (
	GotBetter    Verdict = "better"
	GotWorse     Verdict = "worse"
	Changed      Verdict = "changed"
	NoDifference Verdict = "no difference seen"
	TooFew       Verdict = "too few samples"
)

// Comparison is what became of the figures of report A in report B.
type Comparison struct {
	A        Side     `json:"a"`
	B        Side     `json:"b"`
	Warnings []string `json:"warnings,omitempty"`
	Changes  []Change `json:"changes"`
	OnlyA    []string `json:"only_a,omitempty"` // figures the other report lacks
	OnlyB    []string `json:"only_b,omitempty"`

	quantiles     Table
	distributions []Distribution
}

// Side is one of the two reports.
type Side struct {
	Kind    string  `json:"kind"`
	Command string  `json:"command"`
	Seed    uint64  `json:"seed"`
	Started string  `json:"started"`
	Machine Machine `json:"machine"`
}

// Change is one figure in both reports.
type Change struct {
	Name   string `json:"name"`
	Unit   string `json:"unit,omitempty"`
	Better Better `json:"better,omitempty"`
	// A and B are the means of the samples: geometric where all samples are
	// positive, else arithmetic.
	A  float64 `json:"a"`
	B  float64 `json:"b"`
	NA int     `json:"n_a"`
	NB int     `json:"n_b"`
	// Estimate is B/A, or B-A in Unit when Difference; Low and High bound it with
	// 95 % confidence. Without an interval (too few samples) the three are equal.
	Difference bool    `json:"difference,omitempty"`
	Estimate   float64 `json:"estimate"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	Verdict    Verdict `json:"verdict"`
}

// Compare sets each figure that both reports have against itself.
//
// Samples that are all positive are compared by the ratio of their geometric
// means, with Welch's interval on the logarithms; others, as a loss of 0, by the
// difference of their means. Samples without any spread, in both reports, have an
// interval of no width: then any difference is one.
func Compare(a, b *Report) (*Comparison, error) {
	if a == nil || b == nil {
		return nil, errors.New("compare: want two reports")
	}
	c := &Comparison{A: side(a), B: side(b), Warnings: differences(a, b)}
	other := make(map[string]Metric)
	for _, m := range b.Metrics {
		other[m.Name] = m
	}
	for _, m := range a.Metrics {
		its, ok := other[m.Name]
		if !ok {
			c.OnlyA = append(c.OnlyA, m.Name)
			continue
		}
		delete(other, m.Name)
		if m.Unit != its.Unit || m.Better != its.Better {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s is left out: it is in %q (better %q) in A, in %q (better %q) in B", m.Name, m.Unit, m.Better, its.Unit, its.Better))
			continue
		}
		c.Changes = append(c.Changes, change(m, its))
	}
	for _, m := range b.Metrics {
		if _, ok := other[m.Name]; ok {
			c.OnlyB = append(c.OnlyB, m.Name)
		}
	}
	if len(c.Changes) == 0 {
		return nil, fmt.Errorf("compare: no figure is in both reports (A is %s with %s, B is %s with %s); compare two runs of the same command",
			a.Kind, plural(len(a.Metrics), "figure"), b.Kind, plural(len(b.Metrics), "figure"))
	}
	c.distribute(a, b)
	return c, nil
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func side(r *Report) Side {
	s := Side{Kind: r.Kind, Command: r.Command, Seed: r.Seed, Machine: r.Machine}
	if !r.Started.IsZero() {
		s.Started = r.Started.UTC().Format("2006-01-02 15:04 UTC")
	}
	return s
}

// differences are what makes two reports hard to compare.
func differences(a, b *Report) []string {
	var list []string
	add := func(differ bool, format string, args ...any) {
		if differ {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	add(a.Kind != b.Kind, "the runs are of different kinds: %s and %s", a.Kind, b.Kind)
	var parts []string
	part := func(differ bool, name string, a, b any) {
		if differ {
			parts = append(parts, fmt.Sprintf("%s %v and %v", name, a, b))
		}
	}
	m, n := a.Machine, b.Machine
	part(m.CPU != n.CPU, "CPU", m.CPU, n.CPU)
	part(m.Cores != n.Cores, "cores", m.Cores, n.Cores)
	// A kernel keeps a little more or less for itself from boot to boot.
	part(math.Abs(float64(m.Memory-n.Memory)) > .02*float64(max(m.Memory, n.Memory)), "memory",
		fmt.Sprintf("%.1f GiB", float64(m.Memory)/(1<<30)), fmt.Sprintf("%.1f GiB", float64(n.Memory)/(1<<30)))
	part(m.Kernel != n.Kernel, "kernel", m.Kernel, n.Kernel)
	part(m.Go != n.Go, "Go", m.Go, n.Go)
	add(len(parts) > 0, "the machines differ: %s", strings.Join(parts, "; "))
	add(strings.TrimSpace(a.Scenario) != strings.TrimSpace(b.Scenario), "the scenarios differ, so a change may be the load's and not the server's")
	add(a.Window != b.Window, "the windows differ: %s and %s", windowText(a), windowText(b))
	if a.Kind == b.Kind && a.Scenario == b.Scenario {
		x, y := essence(a.Command), essence(b.Command)
		add(!slices.Equal(x, y), "the commands differ: %s and %s", strings.Join(x, " "), strings.Join(y, " "))
	}
	for _, r := range []struct {
		name string
		*Report
	}{{"A", a}, {"B", b}} {
		add(r.Partial != "", "%s is partial: %s", r.name, r.Partial)
	}
	return list
}

func windowText(r *Report) string {
	if r.Window == 0 {
		return "not told"
	}
	return chart.Value(float64(r.Window)/1e9, "s")
}

// essence is a command without the flags that do not change what is measured, in
// an order.
func essence(command string) []string {
	words := slices.DeleteFunc(strings.Fields(command), func(w string) bool {
		for _, f := range []string{"--json", "--html", "--seed", "--prices", "--logs", "--http-port", "--media-port"} {
			if w == f || strings.HasPrefix(w, f+"=") {
				return true
			}
		}
		return false
	})
	slices.Sort(words)
	return words
}

// change compares the samples of one figure.
func change(a, b Metric) Change {
	x, y := slices.DeleteFunc(slices.Clone(a.Samples), func(v float64) bool { return !number(v) }), slices.DeleteFunc(slices.Clone(b.Samples), func(v float64) bool { return !number(v) })
	c := Change{Name: a.Name, Unit: a.Unit, Better: a.Better, NA: len(x), NB: len(y), Verdict: TooFew}
	if len(x) == 0 || len(y) == 0 {
		c.Difference = true
		return c
	}
	positive := func(v float64) bool { return v > 0 }
	c.Difference = !all(x, positive) || !all(y, positive)
	if c.Difference {
		c.A, c.B = stat.Mean(x, nil), stat.Mean(y, nil)
		c.Estimate, c.Low, c.High = welch(x, y)
	} else {
		logs(x)
		logs(y)
		c.A, c.B = math.Exp(stat.Mean(x, nil)), math.Exp(stat.Mean(y, nil))
		mid, low, high := welch(x, y)
		c.Estimate, c.Low, c.High = math.Exp(mid), math.Exp(low), math.Exp(high)
	}
	// Figures so far apart that a float does not hold their distance.
	for _, v := range []*float64{&c.A, &c.B, &c.Estimate, &c.Low, &c.High} {
		*v = min(max(*v, -math.MaxFloat64), math.MaxFloat64)
	}
	if len(x) < 2 || len(y) < 2 {
		c.Low, c.High = c.Estimate, c.Estimate
		return c
	}
	neutral := c.neutral()
	// Two equal means differ by no more than rounding.
	slack := 1e-12 * max(math.Abs(c.A), math.Abs(c.B))
	if !c.Difference {
		slack = 1e-12
	}
	switch {
	case c.Low <= neutral+slack && c.High >= neutral-slack:
		c.Verdict = NoDifference
	case c.Better == "":
		c.Verdict = Changed
	case (c.Low > neutral) == (c.Better == More):
		c.Verdict = GotBetter
	default:
		c.Verdict = GotWorse
	}
	return c
}

func all(values []float64, is func(float64) bool) bool {
	return !slices.ContainsFunc(values, func(v float64) bool { return !is(v) })
}

func logs(values []float64) {
	for i, v := range values {
		values[i] = math.Log(v)
	}
}

// neutral is the estimate of no change.
func (c Change) neutral() float64 {
	if c.Difference {
		return 0
	}
	return 1
}

// welch is the difference of the means of y and x, and its 95 % interval: Student's
// t with the degrees of freedom of Welch and Satterthwaite.
func welch(x, y []float64) (mid, low, high float64) {
	mid = stat.Mean(y, nil) - stat.Mean(x, nil)
	if len(x) < 2 || len(y) < 2 {
		return mid, mid, mid
	}
	m, n := float64(len(x)), float64(len(y))
	u, v := stat.Variance(x, nil)/m, stat.Variance(y, nil)/n
	if !(u+v > 0) {
		return mid, mid, mid
	}
	// By shares, so that neither very small nor very large variances overflow.
	p, q := u/(u+v), v/(u+v)
	degrees := 1 / (p*p/(m-1) + q*q/(n-1))
	half := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: degrees}.Quantile(.975) * math.Sqrt(u+v)
	return mid, mid - half, mid + half
}

// Worsening is by how many percent of A the figure got worse; below 0 it got
// better, and it is 0 when neither direction is better. From 0 to anything worse it
// is infinite.
func (c Change) Worsening() float64 {
	grown := 100 * (c.Estimate - 1)
	if c.Difference {
		switch {
		case c.Estimate == 0:
			return 0
		case c.A == 0:
			grown = math.Copysign(math.Inf(1), c.Estimate)
		default:
			grown = 100 * c.Estimate / math.Abs(c.A)
		}
	}
	switch c.Better {
	case Less:
		return grown
	case More:
		return -grown
	}
	return 0
}

// Worse lists the figures that got worse, beyond what chance explains, by more
// than percent.
func (c *Comparison) Worse(percent float64) []Change {
	var list []Change
	for _, ch := range c.Changes {
		if ch.Verdict == GotWorse && ch.Worsening() > percent {
			list = append(list, ch)
		}
	}
	return list
}

// distribute puts the distributions of both reports side by side.
func (c *Comparison) distribute(a, b *Report) {
	c.quantiles.Head = []string{"", "report", "values", "50 %", "90 %", "99 %", "99.9 %", "greatest"}
	for _, d := range a.Distributions {
		i := slices.IndexFunc(b.Distributions, func(o Distribution) bool {
			return o.Name == d.Name && o.Plot == d.Plot && o.Unit == d.Unit
		})
		if i < 0 {
			continue
		}
		for j, o := range []Distribution{d, b.Distributions[i]} {
			o.Plot = join(": ", d.Plot, d.Name)
			o.Name = string(rune('A' + j))
			row := []string{o.Plot, o.Name, fmt.Sprint(o.Count)}
			for _, q := range asked {
				text := "-"
				if v, ok := o.at(q); ok {
					text = chart.Value(v, o.Unit)
				}
				row = append(row, text)
			}
			c.quantiles.Rows = append(c.quantiles.Rows, row)
			c.distributions = append(c.distributions, o)
		}
	}
}

// texts are a change in words: the figures, the change, its interval.
func (c Change) texts() (a, b, change, interval string) {
	a, b, change, interval = "-", "-", "-", "-"
	if c.NA > 0 {
		a = chart.Value(c.A, c.Unit)
	}
	if c.NB > 0 {
		b = chart.Value(c.B, c.Unit)
	}
	if c.NA == 0 || c.NB == 0 {
		return a, b, change, interval
	}
	change = c.amount(c.Estimate)
	if c.NA > 1 && c.NB > 1 {
		interval = c.amount(c.Low) + " to " + c.amount(c.High)
	}
	return a, b, change, interval
}

// amount is a ratio as percent with a sign, or a difference.
func (c Change) amount(v float64) string {
	unit := c.Unit
	if unit == "%" {
		unit = "points" // so that it is not taken for a change by so many percent
	}
	text := chart.Value(v, unit)
	if !c.Difference {
		if v >= 10 {
			return "× " + chart.Value(v, "")
		}
		v = 100 * (v - 1)
		text = strings.Replace(fmt.Sprintf("%.1f %%", v), "-", "−", 1)
	}
	if v > 0 {
		text = "+" + text
	}
	return text
}

// words are what a reader must know to read the intervals.
func (c *Comparison) words() []string {
	list := []string{
		"Change is from A to B: of geometric means where all samples are positive, else the difference of means. The interval holds the true change in 95 of 100 such comparisons (Welch).",
		"It knows how much the samples of each run spread, not how much two runs on two days do; for that, run both again.",
	}
	tested := 0
	for _, ch := range c.Changes {
		if ch.Verdict != TooFew {
			tested++
		}
	}
	if tested >= 5 {
		list = append(list, fmt.Sprintf("Of %d figures about %.2g would seem to differ by chance alone.", tested, float64(tested)/20))
	}
	if tested < len(c.Changes) {
		list = append(list, "Too few samples: a figure needs two or more in each report; run with more windows or rounds.")
	}
	for _, o := range []struct {
		name string
		list []string
	}{{"A", c.OnlyA}, {"B", c.OnlyB}} {
		if len(o.list) > 0 {
			list = append(list, fmt.Sprintf("Only in %s: %s.", o.name, strings.Join(o.list, ", ")))
		}
	}
	return list
}

// summary counts the verdicts.
func (c *Comparison) summary() string {
	var parts []string
	for _, v := range []Verdict{GotWorse, GotBetter, Changed, NoDifference, TooFew} {
		n := 0
		for _, ch := range c.Changes {
			if ch.Verdict == v {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	return strings.Join(parts, ", ")
}

// WriteText writes the comparison for people.
func (c *Comparison) WriteText(w io.Writer) error {
	b := &strings.Builder{}
	for _, s := range []struct {
		name string
		Side
	}{{"A", c.A}, {"B", c.B}} {
		fmt.Fprintf(b, "%s  %s, %s, %d cores, Linux %s: %s\n", s.name, s.Started, s.Machine.CPU, s.Machine.Cores, s.Machine.Kernel, s.Command)
	}
	for _, text := range c.Warnings {
		fmt.Fprintf(b, "warning: %s\n", text)
	}
	fmt.Fprintln(b)
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	longest := 0
	for _, ch := range c.Changes {
		longest = max(longest, utf8.RuneCountInString(ch.Name))
	}
	fmt.Fprintf(tab, "%-*s\tA\tB\tchange\t95 %% interval\tsamples\tverdict\t\n", longest, "figure")
	for _, ch := range c.Changes {
		x, y, by, interval := ch.texts()
		fmt.Fprintf(tab, "%-*s\t%s\t%s\t%s\t%s\t%d, %d\t%s\t\n", longest, ch.Name, x, y, by, interval, ch.NA, ch.NB, ch.Verdict)
	}
	_ = tab.Flush() // into memory
	fmt.Fprintf(b, "\n%s\n", c.summary())
	for _, text := range c.words() {
		fmt.Fprintf(b, "note: %s\n", text)
	}
	// Names come from files of others, and a terminal obeys control characters.
	if _, err := io.WriteString(w, cutText(b.String(), b.Len())); err != nil {
		return fmt.Errorf("write comparison: %w", err)
	}
	return nil
}

// WriteJSON writes the comparison for programs.
func (c *Comparison) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("write comparison: %w", err)
	}
	return nil
}

type changeLine struct {
	Name, Unit, A, B, Change, Interval, Verdict, Class string
	Bar                                                template.HTML
}

type comparePage struct {
	paper
	Sub           string
	Verdict       verdict
	Warnings      []string
	Changes       []changeLine
	Words         []string
	Quantiles     grid
	Distributions []pair
	Sides         grid
	Commands      []fact
}

// WriteHTML writes the comparison as one page, within the bounds of a report's.
func (c *Comparison) WriteHTML(w io.Writer) error {
	return writePage(w, "compare", func(d detail) any { return c.page(d) })
}

// classes are how a verdict looks.
var classes = map[Verdict]string{GotBetter: "ok", GotWorse: "bad"}

func (c *Comparison) page(d detail) comparePage {
	p := comparePage{paper: newPaper("voicebench " + join(" against ", d.cell(c.A.Kind), d.cell(onlyOther(c.B.Kind, c.A.Kind))) + ": A and B")}
	p.Sub = join(" and ", c.A.Started, c.B.Started)
	p.Verdict = verdict{Class: "plain", Text: c.summary()}
	if worse := c.Worse(math.Inf(-1)); len(worse) > 0 {
		p.Verdict.Class = "bad"
		for _, ch := range worse[:min(len(worse), 20, d.rows)] {
			_, _, by, interval := ch.texts()
			p.Verdict.List = append(p.Verdict.List, d.cell(fmt.Sprintf("%s: %s (%s)", ch.Name, by, interval)))
		}
	} else if strings.Contains(p.Verdict.Text, string(GotBetter)) {
		p.Verdict.Class = "ok"
	}
	for _, text := range c.Warnings[:min(len(c.Warnings), d.rows)] {
		p.Warnings = append(p.Warnings, d.cell(sentence("Careful: "+text)))
	}
	reach := c.reach()
	for _, ch := range c.Changes[:min(len(c.Changes), d.rows)] {
		l := changeLine{Name: d.cell(ch.Name), Unit: d.cell(ch.Unit), Verdict: string(ch.Verdict), Class: classes[ch.Verdict]}
		bare := ch // the unit stands beside the name
		bare.Unit = ""
		a, b, _, _ := bare.texts()
		if bare.Difference && ch.Unit == "%" {
			bare.Unit = ch.Unit
		}
		_, _, by, interval := bare.texts()
		l.A, l.B, l.Change, l.Interval = d.cell(a), d.cell(b), d.cell(by), d.cell(interval)
		if ch.NA > 0 && ch.NB > 0 && !ch.Difference {
			l.Bar = template.HTML(chart.Interval(math.Log(ch.Low), math.Log(ch.Estimate), math.Log(ch.High), 0, reach, l.Class))
		}
		p.Changes = append(p.Changes, l)
	}
	for _, text := range c.words() {
		p.Words = append(p.Words, d.cell(text))
	}
	p.Quantiles = c.quantiles.grid(d, d.rows)
	left := 0
	p.Distributions, left = drawDistributions(d, c.distributions)
	p.Sides = Table{Head: []string{"", "started", "CPU", "cores", "memory", "kernel", "Go", "seed"}, Rows: [][]string{c.A.row("A"), c.B.row("B")}}.grid(d, d.rows)
	p.Commands = []fact{{"A", d.cut(c.A.Command)}, {"B", d.cut(c.B.Command)}}
	var parts []string
	if left > 0 {
		parts = append(parts, fmt.Sprintf("%d plots", left))
	}
	if n := len(c.Changes) - d.rows; n > 0 {
		parts = append(parts, fmt.Sprintf("%d figures", n))
	}
	if len(parts) > 0 {
		p.Left = strings.Join(parts, " and ") + " are left out so that this page stays small."
	}
	return p
}

func onlyOther(b, a string) string {
	if b == a {
		return ""
	}
	return b
}

func (s Side) row(name string) []string {
	return []string{name, s.Started, s.Machine.CPU, fmt.Sprint(s.Machine.Cores), fmt.Sprintf("%.1f GiB", float64(s.Machine.Memory)/(1<<30)), s.Machine.Kernel, s.Machine.Go, fmt.Sprint(s.Seed)}
}

// reach is how far the bars go to either side: enough for nine of ten intervals, at
// least 5 %, as a logarithm.
func (c *Comparison) reach() float64 {
	var ends []float64
	for _, ch := range c.Changes {
		if !ch.Difference && ch.NA > 0 && ch.NB > 0 {
			ends = append(ends, max(math.Abs(math.Log(ch.Low)), math.Abs(math.Log(ch.High))))
		}
	}
	if len(ends) == 0 {
		return 1
	}
	slices.Sort(ends)
	return min(1.1*max(ends[(len(ends)*9+9)/10-1], math.Log(1.05)), math.Log(1000))
}
