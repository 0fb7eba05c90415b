package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run found. It carries what is needed to run it again.
type Report struct {
	Kind    string    `json:"kind"`    // forward, memory, call, join, gateway, crowd
	Command string    `json:"command"` // reproduces the run
	Seed    uint64    `json:"seed"`
	Started time.Time `json:"started"`
	Took    Seconds   `json:"took_s"`
	Machine Machine   `json:"machine"`

	// Scenario is the scenario that was run, as YAML, when one was.
	Scenario string `json:"scenario,omitempty"`
	// Window is the length of one measured window, when the run has windows.
	Window Seconds `json:"window_s,omitempty"`

	Tables []Table  `json:"tables"`
	Notes  []string `json:"notes,omitempty"`
	Goals  []Goal   `json:"goals"`
	// What can be compared with another report, and drawn.
	Metrics       []Metric       `json:"metrics,omitempty"`
	Distributions []Distribution `json:"distributions,omitempty"`
	Series        []Series       `json:"series,omitempty"`
	// Events are what was done on purpose while it ran, as the steps of a fault.
	Events []Event `json:"events,omitempty"`
	// Partial tells that the run was ended early: what stands here was measured,
	// what is missing was not.
	Partial string `json:"partial,omitempty"`
}

// Seconds is a duration, in JSON a number of seconds.
type Seconds time.Duration

// MarshalJSON writes seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Seconds())
}

// UnmarshalJSON reads seconds, to the nanosecond.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var v float64
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%s is no number of seconds", b)
	}
	const most = float64(math.MaxInt64 / int64(time.Second))
	if math.Abs(v) > most {
		return fmt.Errorf("%v seconds are more than a duration holds", v)
	}
	*s = Seconds(math.Round(v * float64(time.Second)))
	return nil
}

// Machine names the hardware and software a figure is true for.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Table is one table of the report. Cells are texts, so that a void figure can
// say why it is void; the figures themselves stand in Goals and Values.
type Table struct {
	Title  string     `json:"title"`
	Head   []string   `json:"head"`
	Rows   [][]string `json:"rows"`
	Values any        `json:"values,omitempty"` // the same as numbers
}

// Better says in which direction a metric is better.
type Better string

// The directions; empty is neither.
const (
	Less Better = "less"
	More Better = "more"
)

// Metric is a figure that was measured several times: one sample for each window,
// round or step, in their order.
type Metric struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit,omitempty"`
	Better  Better    `json:"better,omitempty"`
	Samples []float64 `json:"samples"`
}

// MarshalJSON leaves out samples that are no number: they were not measured.
func (m Metric) MarshalJSON() ([]byte, error) {
	type bare Metric
	m.Samples = slices.DeleteFunc(slices.Clone(m.Samples), func(v float64) bool { return !number(v) })
	if m.Samples == nil {
		m.Samples = []float64{}
	}
	return json.Marshal(bare(m))
}

func number(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Distribution is many values as their quantiles. Those of one Plot and unit are
// drawn together; one without Plot stands alone.
type Distribution struct {
	Plot   string     `json:"plot,omitempty"`
	Name   string     `json:"name"`
	Unit   string     `json:"unit,omitempty"`
	Count  int64      `json:"count"`
	Points []Quantile `json:"points"`
}

// MarshalJSON leaves out quantiles that are no number.
func (d Distribution) MarshalJSON() ([]byte, error) {
	type bare Distribution
	d.Points = slices.DeleteFunc(slices.Clone(d.Points), func(q Quantile) bool { return !number(q.Q) || !number(q.V) })
	return json.Marshal(bare(d))
}

// Quantile is the value that the share Q (0 to 1) of all values does not exceed.
type Quantile struct {
	Q float64 `json:"q"`
	V float64 `json:"v"`
}

// Series is a figure over time. Those of one Plot are drawn together.
type Series struct {
	Plot   string  `json:"plot"`
	Name   string  `json:"name"`
	Unit   string  `json:"unit,omitempty"`
	Points []Point `json:"points"`
}

// MarshalJSON leaves out points that are no number.
func (s Series) MarshalJSON() ([]byte, error) {
	type bare Series
	s.Points = slices.DeleteFunc(slices.Clone(s.Points), func(p Point) bool { return !number(p.At) || !number(p.V) })
	return json.Marshal(bare(s))
}

// Event is something done on purpose at so many seconds after the start.
type Event struct {
	At   float64 `json:"t"`
	Text string  `json:"text"`
}

// Point is a value at so many seconds after the start.
type Point struct {
	At float64 `json:"t"`
	V  float64 `json:"v"`
}

// DistributionOf takes the quantiles of a histogram that people look at; values
// are divided by scale, as 1e6 makes milliseconds of nanoseconds.
func DistributionOf(name, unit string, h *hdrhistogram.Histogram, scale float64) Distribution {
	d := Distribution{Name: name, Unit: unit, Count: h.TotalCount()}
	if d.Count == 0 {
		return d
	}
	for _, q := range []float64{0, .01, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, .95, .98, .99, .995, .998, .999, .9999, .99999, 1} {
		d.Points = append(d.Points, Quantile{Q: q, V: float64(h.ValueAtQuantile(100*q)) / scale})
	}
	return d
}

// Goal is a figure and the bound it must keep.
type Goal struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Bound float64 `json:"bound"` // the value must not exceed it
	// AtLeast turns the bound round: the value must reach it.
	AtLeast bool   `json:"at_least,omitempty"`
	Unit    string `json:"unit"`
	// Void says why there is no value; a void goal is missed.
	Void string `json:"void,omitempty"`
}

// Met says whether the goal is kept.
func (g Goal) Met() bool {
	if g.AtLeast {
		return g.Void == "" && g.Value >= g.Bound
	}
	return g.Void == "" && g.Value <= g.Bound
}

// String is the goal without the verdict.
func (g Goal) String() string {
	limit := "at most"
	if g.AtLeast {
		limit = "at least"
	}
	if g.Void != "" {
		return fmt.Sprintf("%s: void, %s", g.Name, g.Void)
	}
	return fmt.Sprintf("%s: %.4g %s, %s %.4g", g.Name, g.Value, g.Unit, limit, g.Bound)
}

// MarshalJSON adds whether the goal is met. A value that is no number is void.
func (g Goal) MarshalJSON() ([]byte, error) {
	if g.Void == "" && (math.IsNaN(g.Value) || math.IsInf(g.Value, 0)) {
		g.Void = "not a number"
	}
	if g.Void != "" {
		g.Value = 0
	}
	type bare Goal
	return json.Marshal(struct {
		bare
		Met bool `json:"met"`
	}{bare(g), g.Met()})
}

// Missed lists the goals that are not met.
func (r *Report) Missed() []Goal {
	var missed []Goal
	for _, g := range r.Goals {
		if !g.Met() {
			missed = append(missed, g)
		}
	}
	return missed
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "\n%s, %d cores, %.1f GiB, Linux %s, %s\n", r.Machine.CPU, r.Machine.Cores, float64(r.Machine.Memory)/(1<<30), r.Machine.Kernel, r.Machine.Go)
	fmt.Fprintf(b, "seed %d; again with: %s\n", r.Seed, r.Command)
	for _, t := range r.Tables {
		fmt.Fprintf(b, "\n%s\n", t.Title)
		tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, row := range append([][]string{t.Head}, t.Rows...) {
			fmt.Fprintf(tab, "%s\t\n", strings.Join(row, "\t"))
		}
		_ = tab.Flush() // into memory
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(b)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(b, "note: %s\n", n)
	}
	if r.Partial != "" {
		fmt.Fprintf(b, "\nPARTIAL: %s\n", r.Partial)
	}
	if len(r.Goals) > 0 {
		fmt.Fprintln(b)
	}
	for _, g := range r.Goals {
		verdict := "met   "
		if !g.Met() {
			verdict = "MISSED"
		}
		fmt.Fprintf(b, "%s  %v\n", verdict, g)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// Spread is a figure measured several times.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// SpreadOf takes the median and the extremes. Without values all is zero.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Spread{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1], N: n}
}

// String is "median (min..max)" with the given verb, or "-" without values.
func (s Spread) String() string { return s.Format("%.2f") }

// Format is String with a verb for each of the three.
func (s Spread) Format(verb string) string {
	if s.N == 0 {
		return "-"
	}
	if s.N == 1 {
		return fmt.Sprintf(verb, s.Median)
	}
	return fmt.Sprintf(verb+" ("+verb+".."+verb+")", s.Median, s.Min, s.Max)
}
