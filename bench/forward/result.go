package forward

import (
	"fmt"
	"strings"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/procstat"
)

// Goals of the project, for the case 3x300: the node against the raw loop and
// against stock pion, and the time it spends in user space per packet.
const (
	goalRaw  = 1.35
	goalPion = 0.6
	goalUser = 0.8 // µs
)

// Window is what one window measured.
type Window struct {
	CPU      procstat.CPU `json:"cpu"`
	First    procstat.CPU `json:"cpu_first"` // of the first process: the node's agent
	Packets  uint64       `json:"packets"`   // counted while CPU was
	Expected uint64       `json:"expected"`  // of the window, by the rule
	Received uint64       `json:"received"`
	Other    uint64       `json:"other"`   // warm-up, tail, silence frames
	Unknown  uint64       `json:"unknown"` // of no announced source
	Gaps     uint64       `json:"gaps"`    // holes in sequence numbers
	Opened   uint64       `json:"opened"`  // by sampled clients
	Refused  uint64       `json:"refused"` // could not be opened, as all of the raw loop
	Datagram int          `json:"datagram_bytes"`

	// Generators is what the light clients took, of all processes; Overrun are
	// datagrams that their receive buffers had no room for.
	Generators procstat.CPU `json:"cpu_generators"`
	Overrun    uint64       `json:"generator_drops"`

	Late      time.Duration `json:"late_ns"`    // worst delay of a generator
	LateShare float64       `json:"late_share"` // of its packets, beyond an interval
	Latency50 time.Duration `json:"latency_p50_ns"`
	Latency99 time.Duration `json:"latency_p99_ns"`
}

// micros is CPU time per packet.
func (w Window) micros(d time.Duration) float64 {
	if w.Packets == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1000 / float64(w.Packets)
}

// loss is the part of the expected packets that did not come, in percent;
// negative when more came.
func (w Window) loss() float64 {
	return 100 * (float64(w.Expected) - float64(w.Received)) / float64(w.Expected)
}

// String is the line of a window.
func (w Window) String() string {
	return fmt.Sprintf("user %.2f  system %.2f  total %.2f µs/packet   loss %.4f %%   late %v   p50 %v p99 %v",
		w.micros(w.CPU.User), w.micros(w.CPU.System), w.micros(w.CPU.Total()), w.loss(),
		w.Late.Round(10*time.Microsecond), w.Latency50.Round(time.Microsecond), w.Latency99.Round(time.Microsecond))
}

// Arm is all windows of one of edge, raw, pion.
type Arm struct {
	Windows []Window `json:"windows"`
}

// spread is a figure over the windows.
func (a *Arm) spread(f func(Window) float64) bench.Spread {
	values := make([]float64, len(a.Windows))
	for i, w := range a.Windows {
		values[i] = f(w)
	}
	return bench.SpreadOf(values)
}

func (a *Arm) total() bench.Spread {
	return a.spread(func(w Window) float64 { return w.micros(w.CPU.Total()) })
}

// lost is the expected and missing packets of all windows; surplus counts as
// well as loss.
func (a *Arm) lost() (expected, lost uint64) {
	for _, w := range a.Windows {
		expected += w.Expected
		if w.Received > w.Expected {
			lost += w.Received - w.Expected
		} else {
			lost += w.Expected - w.Received
		}
	}
	return expected, lost
}

// CaseResult is one case.
type CaseResult struct {
	Case Case            `json:"case"`
	Arms map[string]*Arm `json:"arms"`
}

// ratio is the node's time against another arm's.
func (c CaseResult) ratio(other string) bench.Spread { return bench.SpreadOf(c.ratios(other)) }

// ratios are the same round by round: neighbours in time are compared, so that a slow
// minute of the machine hits both.
func (c CaseResult) ratios(other string) []float64 {
	var values []float64
	for i, w := range c.Arms[armEdge].Windows {
		if i >= len(c.Arms[other].Windows) {
			break
		}
		if o := c.Arms[other].Windows[i]; o.micros(o.CPU.Total()) > 0 {
			values = append(values, w.micros(w.CPU.Total())/o.micros(o.CPU.Total()))
		}
	}
	return values
}

// void says why the comparison with an arm is worth nothing, or nothing.
func (c CaseResult) void(arm string) string {
	for _, w := range c.Arms[arm].Windows {
		if w.Overrun > 0 {
			return fmt.Sprintf("the generator had no room for %d datagrams in a window of %s", w.Overrun, arm)
		}
	}
	if expected, lost := c.Arms[arm].lost(); lost > 0 {
		return fmt.Sprintf("%s missed %d of %d packets", arm, lost, expected)
	}
	for _, w := range c.Arms[arm].Windows {
		if w.LateShare > lateAtMost {
			return fmt.Sprintf("the generator was late with %.1f %% of the packets in a window of %s", 100*w.LateShare, arm)
		}
	}
	if c.ratio(arm).N == 0 {
		return "too little CPU time to measure in so short a window"
	}
	return ""
}

// conclude fills the tables and goals.
func (r *run) conclude(results []CaseResult) {
	cost := bench.Table{
		Title: "CPU per forwarded packet in µs: median (min..max) of the windows",
		Head:  []string{"case", "arm", "user", "system", "total", "loss", "p50 ms", "p99 ms"},
	}
	against := bench.Table{
		Title: "The node against the yardsticks: median (min..max) of the rounds",
		Head:  []string{"case", "packets/s"},
	}
	for _, yardstick := range r.arms()[1:] {
		against.Head = append(against.Head, armEdge+"/"+yardstick)
	}
	for _, c := range results {
		for _, name := range r.arms() {
			arm := c.Arms[name]
			expected, lost := arm.lost()
			ms := func(f func(Window) time.Duration) string {
				if !forwards(name) {
					return "-"
				}
				return arm.spread(func(w Window) float64 { return float64(f(w)) / 1e6 }).String()
			}
			cost.Rows = append(cost.Rows, []string{
				c.Case.String(), name,
				arm.spread(func(w Window) float64 { return w.micros(w.CPU.User) }).String(),
				arm.spread(func(w Window) float64 { return w.micros(w.CPU.System) }).String(),
				arm.total().String(),
				fmt.Sprintf("%d of %d", lost, expected),
				ms(func(w Window) time.Duration { return w.Latency50 }),
				ms(func(w Window) time.Duration { return w.Latency99 }),
			})
		}
		row := []string{c.Case.String(), fmt.Sprint(50 * c.Case.Pairs())}
		for _, other := range r.arms()[1:] {
			if void := c.void(other); void != "" {
				row = append(row, "void")
				r.report.Notes = append(r.report.Notes, fmt.Sprintf("%v: no ratio to %s: %s", c.Case, other, void))
				continue
			}
			row = append(row, c.ratio(other).String())
		}
		against.Rows = append(against.Rows, row)
		agent := c.Arms[armEdge].spread(func(w Window) float64 { return w.micros(w.First.Total()) })
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("%v: of the node's time the agent took %s µs/packet", c.Case, agent))
		var takers []string
		for _, name := range r.arms() {
			own := c.Arms[name].spread(func(w Window) float64 { return w.micros(w.Generators.Total()) })
			takers = append(takers, fmt.Sprintf("%s %s", name, own))
		}
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("%v: the generators took µs per packet they got: %s", c.Case, strings.Join(takers, ", ")))
		r.goals(c)
		r.metrics(c)
	}
	cost.Values = results
	r.report.Tables = append(r.report.Tables, cost, against)
}

// sealedRatio names the metric of a case that runs are held against each other by.
func sealedRatio(c Case) string { return fmt.Sprintf("%v: CPU, %s/%s", c, armEdge, armSealed) }

// bound is what the ratio of a case to the raw loop that seals may be, by the earlier
// report; 0: that has no such case, or there is none.
func (r *run) bound(c Case) float64 {
	if r.config.Against == nil {
		return 0
	}
	for _, m := range r.config.Against.Metrics {
		if m.Name == sealedRatio(c) {
			return bench.SpreadOf(m.Samples).Median * (1 + r.config.Worse/100)
		}
	}
	return 0
}

// worse says whether the ratio of a case is above its bound so far.
func (r *run) worse(c CaseResult) bool {
	bound := r.bound(c.Case)
	return bound > 0 && c.ratio(armSealed).Median > bound
}

// notWorse adds the goal that the ratio to the raw loop that seals has not grown since an
// earlier report.
func (r *run) notWorse(c CaseResult, void string) {
	goal := bench.Goal{Name: sealedRatio(c.Case) + " against the earlier report", Unit: "times", Value: c.ratio(armSealed).Median, Void: void}
	if goal.Void == "" {
		goal.Void = c.void(armSealed)
	}
	goal.Bound = r.bound(c.Case)
	if goal.Bound == 0 && goal.Void == "" {
		goal.Void = "the earlier report does not have this case"
	}
	r.report.Goals = append(r.report.Goals, goal)
}

// metrics are the figures of a case that two runs are compared by: a sample for each
// window. Ratios to a yardstick that is void are left out.
func (r *run) metrics(c CaseResult) {
	add := func(unit string, samples []float64, format string, args ...any) {
		if len(samples) > 0 {
			r.report.Metrics = append(r.report.Metrics, bench.Metric{Name: fmt.Sprintf("%v: ", c.Case) + fmt.Sprintf(format, args...), Unit: unit, Better: bench.Less, Samples: samples})
		}
	}
	each := func(arm string, f func(Window) float64) []float64 {
		var samples []float64
		for _, w := range c.Arms[arm].Windows {
			samples = append(samples, f(w))
		}
		return samples
	}
	for _, other := range r.arms()[1:] {
		if c.void(other) == "" {
			add("times", c.ratios(other), "CPU, %s/%s", armEdge, other)
		}
	}
	for _, arm := range r.arms() {
		add("us", each(arm, func(w Window) float64 { return w.micros(w.CPU.Total()) }), "CPU per packet, %s", arm)
		add("us", each(arm, func(w Window) float64 { return w.micros(w.CPU.User) }), "CPU per packet, %s, user", arm)
		add("us", each(arm, func(w Window) float64 { return w.micros(w.CPU.System) }), "CPU per packet, %s, system", arm)
		if forwards(arm) {
			add("ms", each(arm, func(w Window) float64 { return float64(w.Latency50) / 1e6 }), "latency p50, %s", arm)
			add("ms", each(arm, func(w Window) float64 { return float64(w.Latency99) / 1e6 }), "latency p99, %s", arm)
		}
	}
	add("%", each(armEdge, Window.loss), "loss, %s", armEdge)
}

// goals adds those of a case: nothing may be lost anywhere, and the ratios hold
// for the large room.
func (r *run) goals(c CaseResult) {
	edge := c.Arms[armEdge]
	_, lost := edge.lost()
	var refused, gaps uint64
	for _, w := range edge.Windows {
		refused += w.Refused + w.Unknown
		gaps += w.Gaps
	}
	goal := func(name string, value, bound float64, unit, void string) {
		r.report.Goals = append(r.report.Goals, bench.Goal{Name: fmt.Sprintf("%v: %s", c.Case, name), Value: value, Bound: bound, Unit: unit, Void: void})
	}
	own := ""
	for _, w := range edge.Windows {
		if w.LateShare > lateAtMost {
			own = fmt.Sprintf("the generator was late with %.1f %% of the packets", 100*w.LateShare)
		}
		if w.Overrun > 0 {
			own = fmt.Sprintf("the generator had no room for %d datagrams", w.Overrun)
		}
		if w.Opened == 0 {
			own = "no sampled client opened a packet"
		}
	}
	goal("packets lost or surplus", float64(lost), 0, "packets", own)
	goal("packets not authentic or of unknown source", float64(refused), 0, "packets", own)
	goal("holes in sequence numbers", float64(gaps), 0, "packets", own)
	if r.config.Against != nil {
		r.notWorse(c, own)
		return
	}
	if (c.Case != Case{Talkers: 3, Listeners: 300}) {
		return
	}
	first := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	goal("CPU against the raw loop", c.ratio(armRaw).Median, goalRaw, "times", first(own, c.void(armRaw)))
	goal("CPU against stock pion", c.ratio(armPion).Median, goalPion, "times", first(own, c.void(armPion)))
	goal("user-space CPU", edge.spread(func(w Window) float64 { return w.micros(w.CPU.User) }).Median, goalUser, "µs/packet", own)
}
