package crowd

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench"
	"voicefleet/bench/internal/epollclient"
)

// Arrivals is what came of sessions on their way in.
type Arrivals struct {
	Sessions int            `json:"sessions"`
	In       int            `json:"in"`
	Failed   map[string]int `json:"failed,omitempty"`
	Within   float64        `json:"within_s"`

	took *hdrhistogram.Histogram
}

func arrivals(entered []epollclient.Entered) Arrivals {
	a := Arrivals{took: epollclient.Histogram()}
	for _, e := range entered {
		a.In += e.In
		a.Sessions += e.In
		for why, n := range e.Failed {
			if a.Failed == nil {
				a.Failed = make(map[string]int)
			}
			a.Failed[why] += n
			a.Sessions += n
		}
		if e.Took != nil {
			a.took.Merge(hdrhistogram.Import(e.Took))
		}
	}
	return a
}

// ms is a quantile in milliseconds.
func ms(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e6 }

// quantiles are what a row shows of times.
func quantiles(h *hdrhistogram.Histogram) []string {
	if h.TotalCount() == 0 {
		return []string{"-", "-", "-", "-"}
	}
	return []string{fmt.Sprintf("%.2f", ms(h, 50)), fmt.Sprintf("%.2f", ms(h, 90)), fmt.Sprintf("%.2f", ms(h, 99)), fmt.Sprintf("%.2f", ms(h, 100))}
}

func (c *crowd) goal(name, unit string, value, bound float64) {
	c.report.Goals = append(c.report.Goals, bench.Goal{Name: name, Unit: unit, Value: value, Bound: bound})
}

// timeGoal is a goal for the p99 of times.
func (c *crowd) timeGoal(name string, h *hdrhistogram.Histogram, bound time.Duration) {
	g := bench.Goal{Name: name + ", p99", Unit: "ms", Bound: float64(bound) / 1e6}
	if h.TotalCount() == 0 {
		g.Void = "nothing was measured"
	} else {
		g.Value = ms(h, 99)
		c.metric(g.Name, "ms", g.Value)
		c.report.Distributions = append(c.report.Distributions, bench.DistributionOf(name, "ms", h, 1e6))
	}
	c.report.Goals = append(c.report.Goals, g)
}

func (c *crowd) metric(name, unit string, samples ...float64) {
	c.report.Metrics = append(c.report.Metrics, bench.Metric{Name: name, Unit: unit, Better: bench.Less, Samples: samples})
}

func (c *crowd) note(format string, args ...any) {
	c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
}

// table adds a row to the table of a title, which is made with its first.
func (c *crowd) table(title string, head []string, values any, row ...string) {
	i := slices.IndexFunc(c.report.Tables, func(t bench.Table) bool { return t.Title == title })
	if i < 0 {
		i = len(c.report.Tables)
		c.report.Tables = append(c.report.Tables, bench.Table{Title: title, Head: head})
	}
	t := &c.report.Tables[i]
	t.Rows = append(t.Rows, row)
	list, _ := t.Values.([]any)
	t.Values = append(list, values)
}

// lost notes which connections ended by themselves.
func (c *crowd) lost(name string, t tallies) {
	for _, why := range slices.Sorted(maps.Keys(t.Lost)) {
		c.note("%s: connections lost: %d × %s", name, t.Lost[why], why)
	}
}

// sound holds what must be right whatever is measured: nothing lost, nothing twice.
func (c *crowd) sound(name string, t tallies, expected int64) {
	c.lost(name, t)
	if late := 100 * float64(t.LateReads) / float64(max(t.Reads, 1)); late > 1 {
		c.note("%s: %.1f %% of what came was read 50 ms late or more: the sessions' processes had to wait for a core", name, late)
	}
	c.goal(name+": deliveries lost", "of "+fmt.Sprint(expected), float64(expected-t.Delivered), 0)
	c.goal(name+": events twice, or out of sequence", "of them", float64(t.Twice+t.Repeated+t.Garbled), 0)
}

func (c *crowd) arrived(name string, a Arrivals) {
	c.table("Arrivals; ms from the moment that was intended to READY", []string{"", "came", "in", "within s", "p50", "p90", "p99", "max"}, a,
		append([]string{name, fmt.Sprint(a.Sessions), fmt.Sprint(a.In), fmt.Sprintf("%.1f", a.Within)}, quantiles(a.took)...)...)
	for _, why := range slices.Sorted(maps.Keys(a.Failed)) {
		c.note("%s: did not get in: %d × %s", name, a.Failed[why], why)
	}
	c.goal(name+": did not get in", "of "+fmt.Sprint(a.Sessions), float64(a.Sessions-a.In), 0)
}

// housed tells which servers a part has.
func (c *crowd) housed(name string) {
	h := c.house
	what := "voicefleet up"
	if h.texts != nil {
		what = "voicefleet text, one bus"
	}
	c.table("The servers", []string{"", "servers", "each", "store", "members"}, nil, name, fmt.Sprint(len(h.halls)), what, h.store, fmt.Sprint(len(h.accounts)))
}

func (c *crowd) guildReport(g *guildResult) {
	title := fmt.Sprintf("A guild of %d online, %v messages/s; ms from the moment a post was due", g.Members, c.config.Messages)
	head := []string{"until", "count", "p50", "p90", "p99", "max"}
	for _, row := range []struct {
		name string
		h    *hdrhistogram.Histogram
	}{{"the answer", g.post}, {"each member", g.sum.delay}, {"the last member", g.last}} {
		c.table(title, head, g, append([]string{row.name, fmt.Sprint(row.h.TotalCount())}, quantiles(row.h)...)...)
	}
	gateway, raw, user, reading := bench.SpreadOf(g.Gateway), bench.SpreadOf(g.Raw), bench.SpreadOf(g.User), bench.SpreadOf(g.Reading)
	c.table("CPU of a delivery, µs; medians of windows", []string{"", "user and system", "user"}, g, "the server", gateway.String(), user.String())
	c.table("CPU of a delivery, µs; medians of windows", nil, nil, "a loop that only writes", raw.String(), "")
	c.table("CPU of a delivery, µs; medians of windows", nil, nil, "the sessions, that read", reading.String(), "")
	c.sound("guild", g.sum, g.Expected)
	c.timeGoal("post to the last member", g.last, c.config.MaxLast)
	ratio := bench.Goal{Name: "CPU of a delivery, to that of a raw write loop", Unit: "×", Value: gateway.Median / raw.Median, Bound: c.config.MaxRatio}
	switch {
	case g.RawLost != 0:
		ratio.Void = fmt.Sprintf("the yardstick lost %d", g.RawLost)
	case raw.Median == 0:
		ratio.Void = "the yardstick used too little CPU time to be measured"
	}
	c.report.Goals = append(c.report.Goals, ratio)
	c.metric("CPU of a delivery", "µs", g.Gateway...)
	c.metric("CPU of a raw write", "µs", g.Raw...)
}

func (c *crowd) memoryReport(sessions int, kib float64) {
	c.table("Memory of the servers", []string{"sessions", "servers", "KiB each"}, nil, fmt.Sprint(sessions), fmt.Sprint(len(c.house.halls)), fmt.Sprintf("%.2f", kib))
	c.goal(fmt.Sprintf("memory of each of %d idle sessions", sessions), "KiB", kib, c.config.MaxMemory)
	c.metric("memory of an idle session", "KiB", kib)
}

// fanOutResult are the values of a row.
type fanOutResult struct {
	Sessions int     `json:"sessions"`
	Messages int     `json:"messages"`
	CPU      float64 `json:"server_us_per_delivery"`
	Bus      float64 `json:"bus_us_per_delivery"`
	Store    float64 `json:"store_us_per_delivery"`
}

func (c *crowd) fanOutReport(size Size, n int, t tallies, answer, last *hdrhistogram.Histogram, cpu spent) {
	r := fanOutResult{n, c.config.FanOuts, micros(cpu.servers.Total(), t.Delivered), micros(cpu.bus.Total(), t.Delivered), micros(cpu.store.Total(), t.Delivered)}
	c.table("One message to all, posted to one server; ms from the moment it was due to each", []string{"sessions", "messages", "p50", "p90", "p99", "max", "median of the last", "median of the answer", "CPU of a delivery, µs: servers", "bus", "store"}, r,
		append(append([]string{fmt.Sprint(n), fmt.Sprint(c.config.FanOuts)}, quantiles(t.delay)...), fmt.Sprintf("%.2f", ms(last, 50)), fmt.Sprintf("%.2f", ms(answer, 50)),
			fmt.Sprintf("%.2f", r.CPU), fmt.Sprintf("%.2f", r.Bus), fmt.Sprintf("%.2f", r.Store))...)
	name := fmt.Sprintf("one message to %d", size.Sessions)
	c.posted(name)
	c.sound(name, t, int64(n)*int64(c.config.FanOuts))
	c.timeGoal(name, t.delay, size.Within)
}

// posted notes what a busy server refused.
func (c *crowd) posted(name string) {
	if n := c.house.refused; n > 0 {
		c.note("%s: %d posts were refused by a busy server and posted again; their time counts", name, n)
	}
	c.house.refused = 0
}

func (c *crowd) stormReport(n, gone int, a Arrivals, t tallies) {
	again := 0
	for _, why := range slices.Sorted(maps.Keys(t.Retries)) {
		again += t.Retries[why]
		c.note("storm: tried again: %d × %s", t.Retries[why], why)
	}
	c.table("Resume storm; ms from the moment all were told to, to RESUMED", []string{"sessions", "cut", "resumed", "tried again", "p50", "p90", "p99", "max"}, a,
		append([]string{fmt.Sprint(n), fmt.Sprint(gone), fmt.Sprint(a.In), fmt.Sprint(again)}, quantiles(a.took)...)...)
	for _, why := range slices.Sorted(maps.Keys(a.Failed)) {
		c.note("storm: did not resume: %d × %s", a.Failed[why], why)
	}
	c.goal("storm: did not resume", "of "+fmt.Sprint(gone), float64(gone-a.In), 0)
	c.posted("storm")
	c.sound("storm", t, int64(n)*stormPosts)
	c.timeGoal("storm: RESUMED", a.took, c.config.MaxResumed)
}
